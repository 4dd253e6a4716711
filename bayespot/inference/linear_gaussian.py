r"""The exact posterior of a linear potential, with priors and noise chosen by the evidence.

For the labels of kind k in family g, with design matrix Z, residuals r (labels minus what is held
fixed), weights :math:`\kappa` and variance :math:`v_{gk} = \sigma_k^2 + s_{gk}^2`, and with
:math:`w = \mu + s \circ z`, :math:`z \sim N(0, I)`,

.. math::
   H = I + \sum_{gk} \frac{s G_{gk} s}{v_{gk}}, \quad G_{gk} = Z^T K Z, \quad
   m = H^{-1} \sum_{gk} \frac{s\, Z^T K r}{v_{gk}}, \quad z \mid y \sim N(m, H^{-1})

.. math::
   \ln p(y) = -\tfrac12 \sum_{gk} \Big[ \frac{r^T K r}{v_{gk}} + n_{gk} \ln 2\pi v_{gk} \Big]
     + \tfrac12 m^T H m - \tfrac12 \ln |H|

Once the Gram matrices G are there, no cost depends on the size of the data. `linear_gaussian`
maximises ln p(y) and the prior of the noise scales over the noise and over the settings that scale
the priors of the coefficients.

References
----------
D. J. C. MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import jax
import numpy as np
from scipy import linalg

from bayespot.errors import PriorError
from bayespot.inference.assemble import build_posterior
from bayespot.inference.evidence import Evidence, Gaussian
from bayespot.inference.grams import Grams, collect_grams, require_normal
from bayespot.inference.streamed import StreamedProblem
from bayespot.inference.temperature import (
    NO_NOISE,
    choose_temperature,
    folds_of,
    leave_out,
    spread_marks,
)
from bayespot.inference.tempered import SOURCES
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.parameters import ParameterSpace
from bayespot.posterior import Posterior
from bayespot.potentials.priors import Normal
from bayespot.units import QUANTITIES


def linear_gaussian(
    problem: FitProblem | StreamedProblem,
    *,
    key: jax.Array,
    draws: int = 1000,
    maximize: bool = True,
    by_family: bool = False,
    grams: Grams | None = None,
) -> Posterior:
    """The exact posterior of a linear potential: independent draws, no sampler.

    Noise scales and the settings of the priors are set to the maximum of the evidence and held
    there; the record's ``details`` have the evidence, the settings and the number of parameters
    that the data determine. If the problem treats misfit by a discrepancy, the potential is its
    own: the covariance is multiplied by the temperature of `bayespot.inference.temperature`, and
    what is left over is the noise. A tempered posterior is the same, with the problem's rule for
    the temperature (`bayespot.inference.tempered`).

    Parameters
    ----------
    problem : FitProblem or StreamedProblem
        With a `LinearPotential` whose other parameters are held.
    key : jax.Array
        Random key of the draws.
    draws : int
    maximize : bool
        False keeps the settings of the potential and the centres of the noise priors.
    by_family : bool
        Let each family of structures have noise scales of its own. They are kept as the floor of
        the posterior, by family; new structures get those common to all. A problem with
        ``scales="family"`` means this; here the spread over families is not learned but given
        (`bayespot.inference.evidence.FAMILY_WIDTH`).
    grams : Grams, optional
        From `collect_grams` of the same problem, so that the data are passed over once.

    Raises
    ------
    PriorError
        If the posterior is not Gaussian: another form, other parameters sampled, bounded priors.
    """
    if problem.misfit == "pro":
        raise PriorError("misfit='pro' is no posterior that linear_gaussian has: use laplace")
    require_normal(problem, "linear_gaussian")
    by_family = by_family or bool(problem.space.families)
    tempered = problem.misfit != "none"
    if tempered and (by_family or grams is not None):
        raise PriorError(f"misfit={problem.misfit!r} chooses the noise from families left out: it "
                         "goes with neither noise by family (by_family, scales) nor grams; take "
                         "misfit='none' for those")
    by_rule = problem.temperature in (None, "families")
    folds = folds_of(problem.dataset.families) if tempered and by_rule else None
    grams = grams or collect_grams(problem, folds)
    evidence = Evidence(problem, grams, by_family=by_family)
    eta, evaluations = evidence.maximize() if maximize else (evidence.start, 0)
    at = evidence.posterior(eta)
    details, marks, noise = {}, None, None
    if folds is not None:
        left_out = leave_out(problem, grams, evidence, eta, folds)
        temperature = choose_temperature(left_out)
        marks, noise = spread_marks(left_out, temperature), temperature.noise
        details = {"temperature": temperature.value, "folds": sorted(set(folds)),
                   "temperature_from": SOURCES["families"]}
    elif tempered:
        rule, noise = problem.temperature, np.full(3, NO_NOISE)
        value = _frederiksen(evidence, eta, at) if rule == "frederiksen" else float(rule)
        details = {"temperature": value, "temperature_from": SOURCES.get(rule, "given")}
    spread_by = np.sqrt(details.get("temperature", 1.0))
    final = at_maximum(problem, evidence, eta, at, noise)
    xi = np.asarray(jax.random.normal(key, (len(at.mean), draws)))
    u = at.mean + spread_by * linalg.solve_triangular(at.factor, xi, lower=True, trans="T").T
    spread = linalg.solve_triangular(at.factor, np.eye(len(at.mean)), lower=True)
    details |= {
        "log_evidence": at.evidence,
        "evaluations": evaluations,
        "settings": {name: getattr(final.initial, name) for name in evidence.settings},
        "determined_parameters": float(len(at.mean) - (spread**2).sum()),
    }
    return build_posterior(final, u[None], method="linear_gaussian", details=details, marks=marks)


def _frederiksen(evidence: Evidence, eta: np.ndarray, at: Gaussian) -> float:
    """Frederiksen's T0 = 2 C0 / Np, see `bayespot.inference.tempered`."""
    sigma, sd = evidence.scales(eta)
    grams, w = evidence.grams, sd * at.mean
    squares = evidence.squares - 2 * evidence.cross @ w + grams.gram @ w @ w
    inverse = np.where(grams.counts > 0, 1.0 / (sigma**2 + grams.floor), 0.0)
    return float((inverse * squares).sum() / len(w))


def at_maximum(problem: FitProblem, evidence: Evidence, eta: np.ndarray, at: Gaussian,
                noise: np.ndarray | None) -> FitProblem:
    """The problem with the priors and the noise that the evidence chose, or with other noise."""
    space, n = problem.space, len(evidence.noise_center)
    sampled, families = evidence.noise_names
    sigma = np.array(space.constants.sigma)
    sigma[sampled] = np.exp(eta[: len(sampled)]) if noise is None else noise[sampled]
    sd = evidence.scales(eta)[1]
    names = space.names[: len(sd)]
    final = copy.copy(problem)
    if isinstance(problem, FitProblem):
        final.data, final.scales = replace(problem.data, family=None), "common"
    if families:
        final.floor, sigma = _noise_as_floor(problem, evidence, eta, sigma)
        if isinstance(problem, FitProblem):
            rows = np.square([final.floor.of(f) for f in problem.dataset.families])
            floor = np.ones_like(problem.data.floor)
            floor.reshape(-1, 3)[problem.graph.structure_slot] = rows
            final.data = replace(final.data, floor=floor)
    final.initial = space.potential(np.zeros(space.size)).replace(
        **dict(zip(evidence.settings, map(float, eta[n:]), strict=True))
    )
    final.space = ParameterSpace(
        final.initial,
        problem.reference,
        priors={
            name: Normal(float(center), float(width))
            for name, center, width in zip(names, evidence.center, sd, strict=True)
        },
        fixed=space.fixed | {f"sigma_{QUANTITIES[k]}": float(sigma[k]) for k in sampled},
        quantities=[q for q in QUANTITIES if f"sigma_{q}" in (*space.names, *space.fixed)],
    )
    final.initial = final.space.potential(at.mean)
    return final


def _noise_as_floor(problem: FitProblem, evidence: Evidence, eta: np.ndarray, sigma: np.ndarray
                    ) -> tuple[NoiseFloor, np.ndarray]:
    """All noise by family in the place of the floor, and nothing left to the common scales."""
    by_group, families = evidence.scales(eta)[0], evidence.grams.families
    rows = {
        name: tuple(np.hypot(by_group[families.index(name)], problem.floor.of(name)).tolist())
        for name in evidence.noise_names[1]
    }
    common = np.hypot(sigma, (problem.floor.energy, problem.floor.forces, problem.floor.stress))
    rest = np.where(np.isin(np.arange(3), evidence.noise_names[0]), 1e-12, sigma)
    return NoiseFloor(*common.tolist(), families=rows), rest
