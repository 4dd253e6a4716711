"""What labels of a structure would tell about linear parameters, as rows instead of matrices.

A form with a thousand coefficients has a Fisher matrix of a million numbers for every structure; of
a structure of n atoms it has rank 3n + 7 at most. The rows are those of the design matrix.
"""

from __future__ import annotations

import numpy as np

from bayespot.inference.grams import columns_of, flat_rows, require_linear
from bayespot.inference.sum_rows import has_linear_part, rows_of_sum
from bayespot.likelihood import FitProblem

__all__ = ["label_rows"]


def label_rows(problem: FitProblem, u: np.ndarray) -> list[np.ndarray]:
    r"""Rows :math:`A_c` of every structure, [r, p], with the Fisher matrix :math:`A_c^T A_c`.

    In the standard-normal coordinates of the parameters: a row is
    :math:`\sqrt{\kappa_i / (\sigma_k^2 + s_i^2)}\, s \circ z_i` for every label that has a weight,
    with the prior's standard deviations s.

    Parameters
    ----------
    problem : FitProblem
        Of a linear potential, or a sum with one, and the structures, labels of the kinds to come
        in their place.
    u : ndarray, shape (p + noise entries,)
        Where the noise is taken from.

    Raises
    ------
    PriorError
        If the problem is neither.
    """
    if has_linear_part(problem.space):
        return rows_of_sum(problem, u)
    require_linear(problem)
    columns, space = columns_of(problem), problem.space
    sd = np.array([prior.sd for prior in space.priors[: len(columns)]])
    sigma, floor = space.sigma(u), problem.floor_by_structure()
    kappa = problem.unpadded(problem.data.kappa)
    atoms = problem.graph.by_structure(problem.data.atoms)
    found: list[list[np.ndarray]] = [[] for _ in range(problem.graph.n_structures)]
    for design in problem.initial.design(problem.graph):
        for rows, _, weight, which, k in flat_rows(design, kappa, kappa, atoms, columns):
            scale = np.sqrt(weight / (sigma[k] ** 2 + floor[which, k]))
            for c in np.unique(which):
                mine = (which == c) & (weight > 0)
                found[c].append((rows[:, mine] * scale[mine]).T * sd)
    return [np.concatenate(parts) for parts in found]
