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
from typing import NamedTuple

import jax
import numpy as np
from scipy import linalg, optimize

from bayespot.inference.assemble import build_posterior
from bayespot.inference.grams import Grams, collect_grams, require_linear
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.parameters import ParameterSpace
from bayespot.posterior import Posterior
from bayespot.potentials.priors import Normal
from bayespot.units import QUANTITIES

BOUND = 12.0
"""How far a setting of the priors (a logarithm or a power) may move from where it starts."""

ROUNDING = 1e-12
"""Added to the diagonal of a Gram matrix, relative: what its sums have lost to rounding. It keeps
the matrix definite where priors are so wide that columns are dependent to working precision."""

FAMILY_WIDTH = 1.0
"""Prior sd of ln sigma of a family around that of all families."""


def _cholesky(precision: np.ndarray) -> np.ndarray:
    """Lower factor of I + ``precision``; see `ROUNDING`."""
    diagonal, rounding = np.diag_indices_from(precision), ROUNDING
    clean = precision[diagonal].copy()
    while True:
        precision[diagonal] = clean * (1.0 + rounding) + 1.0
        try:
            return linalg.cholesky(precision, lower=True, check_finite=False)
        except linalg.LinAlgError:
            rounding *= 100.0


class Gaussian(NamedTuple):
    """The posterior of the free parameters at given noise and priors."""

    mean: np.ndarray  # [p] of the standard-normal coordinates
    factor: np.ndarray  # [p, p] lower Cholesky factor of the precision H
    evidence: float
    """ln p(y) with the log prior of the noise scales."""


class Evidence:
    r"""ln p(y) as a function of noise scales and prior settings.

    Parameters
    ----------
    problem : FitProblem
    grams : Grams
    by_family : bool
        Let each family have noise scales of its own, with :math:`\ln \sigma_{gk} \sim
        N(\ln \sigma_k, 1)`.
    """

    def __init__(self, problem: FitProblem, grams: Grams, *, by_family: bool = False) -> None:
        potential = require_linear(problem)
        space, self.grams = problem.space, grams
        n = space.layout.n_theta
        self.center = np.array([prior.center for prior in space.priors[:n]])
        self.cross = grams.cross - grams.gram @ self.center
        self.squares = grams.squares - (grams.cross + self.cross) @ self.center
        self._map_noise(problem, by_family)
        self.settings, slopes = potential.prior_slopes()
        self.slopes = np.zeros((n, len(self.settings)))
        declared = {item.name: item for item in potential.parameters()}["c"]
        for row, position in enumerate(space.layout.free):
            # Coefficients come first among the entries. A prior that the user gave stays as it is.
            if position < len(slopes) and space.priors[row] == potential.prior_of(
                declared, position
            ):
                self.slopes[row] = slopes[position]
        start = np.array([getattr(potential, name) for name in self.settings], dtype=float)
        self.offset = np.log([prior.sd for prior in space.priors[:n]]) - self.slopes @ start
        self.start = np.concatenate([self.noise_center, start])
        """Where the search starts: logarithms of the noise, then the settings."""

    def _map_noise(self, problem: FitProblem, by_family: bool) -> None:
        """Ln sigma of every group and kind as a linear map of the unknowns, and their prior."""
        space, families = problem.space, np.array(self.grams.families)
        names = sorted(set(problem.dataset.families)) if by_family else []
        sampled = list(space.layout.noise)
        columns = [np.tile(np.arange(3) == k, (len(families), 1)) for k in sampled]
        columns += [
            np.outer(families == name, np.arange(3) == k) for name in names for k in sampled
        ]
        self.noise_names = sampled, names
        self.noise_map = np.stack(columns, axis=-1).astype(float) if columns else np.zeros(
            (len(families), 3, 0)
        )
        fixed = np.where(np.isin(np.arange(3), sampled), 0.0, np.log(space.constants.sigma))
        self.noise_offset = np.tile(fixed, (len(families), 1))
        priors = space.priors[space.layout.n_theta :]
        n_more = len(names) * len(sampled)
        self.noise_center = np.array([np.log(p.center) for p in priors] + [0.0] * n_more)
        self.noise_width = np.array([p.sd for p in priors] + [FAMILY_WIDTH] * n_more)

    def scales(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Noise scales [g, 3] and prior standard deviations [p]."""
        n = len(self.noise_center)
        sigma = np.exp(self.noise_offset + self.noise_map @ eta[:n])
        return sigma, np.exp(self.offset + self.slopes @ eta[n:])

    def posterior(self, eta: np.ndarray) -> Gaussian:
        """The posterior of the parameters at ``eta``."""
        sigma, sd = self.scales(eta)
        variance, counts = sigma**2 + self.grams.floor, self.grams.counts
        inverse = np.where(counts > 0, 1.0 / variance, 0.0)
        precision = np.tensordot(inverse, self.grams.gram, axes=2) * sd[:, None] * sd
        factor = _cholesky(precision)
        right = sd * np.tensordot(inverse, self.cross, axes=2)
        mean = linalg.cho_solve((factor, True), right, check_finite=False)
        noise = (eta[: len(self.noise_center)] - self.noise_center) / self.noise_width
        value = (
            0.5 * mean @ right - np.log(np.diag(factor)).sum()
            - 0.5 * (inverse * self.squares + counts * np.log(2 * np.pi * variance)).sum()
            - 0.5 * noise @ noise
        )
        return Gaussian(mean, factor, float(value))

    def value_and_gradient(self, eta: np.ndarray) -> tuple[float, np.ndarray]:
        """The evidence and its derivatives."""
        at = self.posterior(eta)
        sigma, sd = self.scales(eta)
        inverse, _ = linalg.lapack.dpotri(at.factor, lower=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        w, gram = sd * at.mean, self.grams.gram
        second = np.outer(w, w) + inverse * sd[:, None] * sd
        # Expected weighted squares of the residuals.
        expected = self.squares - 2 * self.cross @ w + np.tensordot(gram, second, axes=2)
        variance, counts = sigma**2 + self.grams.floor, self.grams.counts
        by_sigma = np.where(counts > 0, expected / variance**2 - counts / variance, 0) * sigma**2
        n = len(self.noise_center)
        noise = np.tensordot(by_sigma, self.noise_map, axes=2)
        noise -= (eta[:n] - self.noise_center) / self.noise_width**2
        by_sd = at.mean**2 + np.diag(inverse) - 1.0
        return at.evidence, np.concatenate([noise, by_sd @ self.slopes])

    def maximize(self) -> tuple[np.ndarray, int]:
        """The best ``eta`` and the number of evaluations."""
        bounds = [(e - BOUND, e + BOUND) for e in self.start]

        def loss(eta: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = self.value_and_gradient(eta)
            return -value, -gradient

        found = optimize.minimize(
            loss, self.start, jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 200, "ftol": 1e-9},
        )
        return found.x, int(found.nfev)


def linear_gaussian(
    problem: FitProblem,
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
    that the data determine.

    Parameters
    ----------
    problem : FitProblem
        With a `LinearPotential` whose other parameters are held.
    key : jax.Array
        Random key of the draws.
    draws : int
    maximize : bool
        False keeps the settings of the potential and the centres of the noise priors.
    by_family : bool
        Let each family of structures have noise scales of its own. They are kept as the floor of
        the posterior, by family; new structures get those common to all.
    grams : Grams, optional
        From `collect_grams` of the same problem, so that the data are passed over once.

    Raises
    ------
    PriorError
        If the posterior is not Gaussian: another form, other parameters sampled, bounded priors.
    """
    grams = grams or collect_grams(problem)
    evidence = Evidence(problem, grams, by_family=by_family)
    eta, evaluations = evidence.maximize() if maximize else (evidence.start, 0)
    at = evidence.posterior(eta)
    final = _at_maximum(problem, evidence, eta, at)
    xi = np.asarray(jax.random.normal(key, (len(at.mean), draws)))
    u = at.mean + linalg.solve_triangular(at.factor, xi, lower=True, trans="T").T
    spread = linalg.solve_triangular(at.factor, np.eye(len(at.mean)), lower=True)
    details = {
        "log_evidence": at.evidence,
        "evaluations": evaluations,
        "settings": {name: getattr(final.initial, name) for name in evidence.settings},
        "determined_parameters": float(len(at.mean) - (spread**2).sum()),
    }
    return build_posterior(final, u[None], method="linear_gaussian", details=details)


def _at_maximum(problem: FitProblem, evidence: Evidence, eta: np.ndarray, at: Gaussian
                ) -> FitProblem:
    """The problem with the priors and the noise that the evidence chose."""
    space, n = problem.space, len(evidence.noise_center)
    sampled, families = evidence.noise_names
    sigma = np.array(space.constants.sigma)
    sigma[sampled] = np.exp(eta[: len(sampled)])
    sd = evidence.scales(eta)[1]
    names = space.names[: len(sd)]
    final = copy.copy(problem)
    if families:
        final.floor, sigma = _noise_as_floor(problem, evidence, eta, sigma)
        rows = np.square([final.floor.of(f) for f in problem.dataset.families])
        floor = np.ones_like(problem.data.floor)
        floor.reshape(-1, 3)[problem.graph.structure_slot] = rows
        final.data = replace(problem.data, floor=floor)
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
