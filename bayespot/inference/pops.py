r"""Pointwise optimal parameter sets of a linear potential: a hypercube that reaches every label.

In the standard-normal coordinates, with the weighted rows :math:`g_i = \sqrt{\kappa_i / v_i}\, z_i`
and residuals :math:`\rho_i = \sqrt{\kappa_i / v_i}\, r_i` at the posterior mean, and the posterior
covariance C, the smallest change of the parameters that hits label i is

.. math:: \delta_i = \frac{C g_i \rho_i}{\ell_i}, \qquad \ell_i = g_i^T C g_i

Of the labels whose leverage :math:`\ell_i` is at least the median, the axes V are the eigenvectors
of :math:`\sum_i \delta_i \delta_i^T` with eigenvalues above 1e-8 of the largest, and draws are
uniform between the least and the largest of :math:`V^T \delta_i`. There is no white noise. Same as
the package popsregression 0.4.0 with its defaults.

References
----------
T. D. Swinburne, D. Perez, Mach. Learn.: Sci. Technol. 6, 015008 (2025),
doi:10.1088/2632-2153/ad9fce, arXiv:2402.01810.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from scipy import linalg

from bayespot.errors import PriorError
from bayespot.inference.assemble import build_posterior
from bayespot.inference.evidence import Evidence, Gaussian
from bayespot.inference.grams import (
    collect_grams,
    columns_of,
    flat_rows,
    require_normal,
    residual_labels,
)
from bayespot.inference.linear_gaussian import at_maximum
from bayespot.inference.temperature import NO_NOISE
from bayespot.likelihood import FitProblem
from bayespot.posterior import Posterior

SMALLEST = 1e-8
"""Eigenvalues below this times the largest are no axes of the hypercube."""

Block = tuple[np.ndarray, np.ndarray]  # rows [n, p], residuals [n]


class Hypercube(NamedTuple):
    """Changes of the parameters: axes [p, m] and the bounds along them [m]."""

    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray


def hypercube(blocks: Callable[[], Iterable[Block]], covariance: np.ndarray) -> Hypercube:
    """The hypercube of the module; ``blocks`` passes over the weighted rows and residuals.

    Three passes, none of which holds more than a block: leverages, axes, bounds.
    """
    leverages = np.concatenate([_leverage(rows, covariance) for rows, _ in blocks()])
    least = float(np.percentile(leverages, 50.0))

    def corrections() -> Iterator[np.ndarray]:
        for rows, residual in blocks():
            leverage = _leverage(rows, covariance)
            pick = (leverage >= least) & (leverage > 0)
            yield rows[pick] @ covariance * (residual[pick] / leverage[pick])[:, None]

    values, vectors = linalg.eigh(sum(d.T @ d for d in corrections()))
    axes = vectors[:, values > SMALLEST * values.max()]
    along = [d @ axes for d in corrections() if len(d)]
    return Hypercube(axes, np.min([a.min(axis=0) for a in along], axis=0),
                     np.max([a.max(axis=0) for a in along], axis=0))


def _leverage(rows: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    return ((rows @ covariance) * rows).sum(axis=1)


def pops(problem: FitProblem, *, key: jax.Array, draws: int = 1000) -> Posterior:
    """Draws from the POPS hypercube of a linear potential, as a posterior.

    Noise scales and the settings of the priors maximise the evidence, as in `linear_gaussian`; the
    record's treatment of misfit is "pops", whatever the problem's.

    Parameters
    ----------
    problem : FitProblem
        With a `LinearPotential` whose other parameters are held.
    key : jax.Array
        Random key of the draws.
    draws : int

    Raises
    ------
    PriorError
        If the posterior is not Gaussian: another form, other parameters sampled, bounded priors.
    """
    require_normal(problem, "pops")
    if problem.space.families:
        raise PriorError("pops with noise by family: its corrections are weighted by one noise of "
                         "each kind; use scales='common'")
    evidence = Evidence(problem, collect_grams(problem))
    eta, _ = evidence.maximize()
    at = evidence.posterior(eta)
    found = hypercube(
        lambda: weighted_rows(problem, evidence, eta, at),
        linalg.cho_solve((at.factor, True), np.eye(len(at.mean))),
    )
    uniform = np.asarray(jax.random.uniform(key, (draws, len(found.low))))
    u = at.mean + (found.low + uniform * (found.high - found.low)) @ found.axes.T
    final = at_maximum(problem, evidence, eta, at, np.full(3, NO_NOISE))
    final.misfit = "pops"
    return build_posterior(
        final, u[None], method="pops",
        details={"log_evidence": at.evidence, "axes": len(found.low)},
    )


def weighted_rows(problem: FitProblem, evidence: Evidence, eta: np.ndarray, at: Gaussian
                  ) -> Iterator[Block]:
    """The rows and residuals of the module, block by block of the design matrix."""
    sigma, sd = evidence.scales(eta)
    variance = sigma[0] ** 2 + problem.floor_by_structure()
    residual, kappa = residual_labels(problem), problem.unpadded(problem.data.kappa)
    atoms, columns = problem.graph.by_structure(problem.data.atoms), columns_of(problem)
    mean = evidence.center + sd * at.mean
    for design in problem.initial.design(problem.graph):
        for rows, r, weight, which, kind in flat_rows(design, residual, kappa, atoms, columns):
            pick = weight > 0
            root = np.sqrt(weight[pick] / variance[which[pick], kind])
            z = rows[:, pick]
            yield (sd[:, None] * z * root).T, (r[pick] - mean @ z) * root
