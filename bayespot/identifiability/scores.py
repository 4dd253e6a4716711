r"""The design effect: labels of one structure against the independent ones they are counted as.

In a likelihood that is right the scores of the structures, :math:`g_c = d \ln L_c / du`, have the
information H as their covariance V. Labels of one structure that depend on each other make V
larger. With the structure as the unit (White 1982; MacKinnon and White 1985 for the factor)

.. math:: \mathrm{tr}(H^{-1} V) / k, \quad
          V = \frac{C}{C - k} \sum_c (g_c - \bar g)(g_c - \bar g)^T

over the k directions that the data determine more than the prior. The forces' weight
:math:`\kappa_F` enters V squared and H once, so the number of forces that a structure should count
as is that it counts as, over the design effect of the forces alone.

References
----------
H. White, Econometrica 50, 1 (1982), doi:10.2307/1912526.
J. G. MacKinnon, H. White, J. Econometrics 29, 305 (1985), doi:10.1016/0304-4076(85)90158-7.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from bayespot.evaluate import Labels3
from bayespot.identifiability.findings import DesignEffect
from bayespot.likelihood import FitProblem, gauss_newton

STEP = 1e-3
"""Posterior standard deviations of the differences behind the scores."""


def scores(problem: FitProblem, u: np.ndarray, values: np.ndarray, vectors: np.ndarray
           ) -> np.ndarray:
    """Derivatives of the log likelihood by structure and kind of label, [n_structures, 3, p].

    With respect to the parameters of the potential, at fixed noise, by central differences along
    the eigenvectors of the information (``values`` [p], ``vectors`` [p, p]).
    """
    n = len(values)
    variance, tails = problem.variance(u), problem.space.layout.student
    slopes = []
    for value, vector in zip(values, vectors.T, strict=True):
        step = np.zeros(len(u))
        step[:n] = STEP / np.sqrt(1 + value) * vector
        if tails:
            change = (problem.log_likelihood_by_kind(u + step)
                      - problem.log_likelihood_by_kind(u - step))
        else:
            change = -0.5 / variance * (problem.misfit_by_structure(u + step).squares
                                        - problem.misfit_by_structure(u - step).squares)
        slopes.append(change / (2 * STEP / np.sqrt(1 + value)))
    return np.stack(slopes, axis=-1) @ vectors.T


def effect_of(by_structure: np.ndarray, information: np.ndarray) -> tuple[float, float, int]:
    """Design effect, its standard error over structures, and how many directions it is of.

    NaN where the data determine no direction, or as many as there are structures.
    """
    values, vectors = np.linalg.eigh(information)
    kept = values > 1
    n, k = len(by_structure), int(kept.sum())
    if not 0 < k < n:
        return np.nan, np.nan, k
    scaled = (by_structure - by_structure.mean(axis=0)) @ (vectors[:, kept] / np.sqrt(values[kept]))
    each = (scaled**2).sum(axis=1) / k * n / (n - k)
    return float(each.sum()), float(np.sqrt(n) * each.std(ddof=1)), k


def design_effect(problem: FitProblem, u: np.ndarray, information: np.ndarray) -> DesignEffect:
    """Of all labels and of the forces alone, at ``u``; ``information`` is H, [p, p]."""
    values, vectors = np.linalg.eigh(information)
    by_kind = scores(problem, u, np.clip(values, 0, None), vectors)
    value, error, k = effect_of(by_kind.sum(axis=1), information)
    counts = problem.misfit_by_structure(u).counts[:, 1]
    here = counts > 0
    forces, forces_error, counted, suggested = np.nan, np.nan, np.nan, np.nan
    if here.any():
        data, space = problem.data, problem.space
        kappa = Labels3(np.zeros_like(data.kappa.energy), data.kappa.forces,
                        np.zeros_like(data.kappa.stress))
        alone = gauss_newton(
            space.layout, space.constants, replace(data, kappa=kappa), jnp.asarray(u)
        )
        its = problem.graph.by_structure(alone.fisher).sum(axis=0)
        forces, forces_error, _ = effect_of(by_kind[here, 1], its)
        components = float((np.asarray(data.kappa.forces) > 0).sum() / here.sum())
        counted = float(counts[here].mean())
        suggested = float(min(counted / forces, components)) if forces > 0 else np.nan
    return DesignEffect(
        value, error, forces, forces_error, counted, suggested, len(by_kind), k
    )
