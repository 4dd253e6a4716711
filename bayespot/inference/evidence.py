"""The evidence of a linear potential: noise scales and prior settings as numbers to maximise.

See `bayespot.inference.linear_gaussian` for the formulas.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import linalg, optimize

from bayespot.inference.grams import Grams, require_linear
from bayespot.likelihood import FitProblem

BOUND = 12.0
"""How far a setting of the priors (a logarithm or a power) may move from where it starts."""

ROUNDING = 1e-12
"""Added to the diagonal of a Gram matrix, relative: what its sums have lost to rounding. It keeps
the matrix definite where priors are so wide that columns are dependent to working precision."""

ROUNDED = 1e-6
"""Of the evidence, relative: what rounding of its sums may take from it in a step upwards."""

NOISE, LEAST_NOISE = 6e-11, 1e-9
"""Of the evidence, relative, per function and at least: what rounding leaves of it. A search by
values that goes on below tries steps in vain."""

CURVATURES, DIFFERENCE, LONGEST_STEP, SHORTENED = 4, 1e-4, 0.3, 0.5
"""Of `Evidence.maximize` at its end: how often the curvature is taken, lengths in the logarithms
that it moves, and the share to which each Newton step has to shorten."""

SETTLED, STALLED = 1e-10, 1e-6
"""Length of the step after which nothing is left, and below which only rounding stands in the
way."""

LEAST_SLOPE = 1e-2
"""Mean square by which a combination of settings moves ln s at least, for the length of a step."""

LEAST_CURVATURE = 1e-3
"""Nats; along directions in which the evidence hardly changes a step follows the gradient."""

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
        space, self.grams, self.by_family = problem.space, grams, by_family
        n = space.layout.n_theta
        self.center = np.array([prior.center for prior in space.priors[:n]])
        self.cross = grams.cross - grams.gram @ self.center
        self.squares = grams.squares - (grams.cross + self.cross) @ self.center
        self._map_noise(problem, by_family)
        self._pool()
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
        priors = space.priors[space.layout.n_theta :][: len(sampled)]
        n_more = len(names) * len(sampled)
        self.noise_center = np.array([np.log(p.center) for p in priors] + [0.0] * n_more)
        self.noise_width = np.array([p.sd for p in priors] + [FAMILY_WIDTH] * n_more)

    def _pool(self) -> None:
        """Add up the groups that have the same noise at any scale: fewer matrices to pass over."""
        grams, n = self.grams, len(self.grams.families)
        alike = np.concatenate([self.noise_map.reshape(n, -1), self.noise_offset, grams.floor], 1)
        _, self._first, pool = np.unique(alike, axis=0, return_index=True, return_inverse=True)
        self._pooled = tuple(
            np.stack([values[pool.reshape(-1) == k].sum(axis=0) for k in range(len(self._first))])
            for values in (grams.gram, self.cross, self.squares, grams.counts)
        )

    def _noise(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Squared scales, variances with the floor, and their inverse where there are labels."""
        square = self.scales(eta)[0][self._first] ** 2
        variance = square + self.grams.floor[self._first]
        return square, variance, np.where(self._pooled[3] > 0, 1.0 / variance, 0.0)

    def scales(self, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Noise scales [g, 3] and prior standard deviations [p]."""
        n = len(self.noise_center)
        sigma = np.exp(self.noise_offset + self.noise_map @ eta[:n])
        return sigma, np.exp(self.offset + self.slopes @ eta[n:])

    def posterior(self, eta: np.ndarray) -> Gaussian:
        """The posterior of the parameters at ``eta``."""
        sd, (gram, cross, squares, counts) = self.scales(eta)[1], self._pooled
        _, variance, inverse = self._noise(eta)
        precision = np.tensordot(inverse, gram, axes=2)
        precision *= sd[:, None]
        precision *= sd
        factor = _cholesky(precision)
        right = sd * np.tensordot(inverse, cross, axes=2)
        mean = linalg.cho_solve((factor, True), right, check_finite=False)
        noise = (eta[: len(self.noise_center)] - self.noise_center) / self.noise_width
        value = (
            0.5 * mean @ right - np.log(np.diag(factor)).sum()
            - 0.5 * (inverse * squares + counts * np.log(2 * np.pi * variance)).sum()
            - 0.5 * noise @ noise
        )
        return Gaussian(mean, factor, float(value))

    def value_and_gradient(self, eta: np.ndarray) -> tuple[float, np.ndarray]:
        """The evidence and its derivatives."""
        at = self.posterior(eta)
        sd, (gram, cross, squares, counts) = self.scales(eta)[1], self._pooled
        square, variance, _ = self._noise(eta)
        inverse, _ = linalg.lapack.dpotri(at.factor, lower=1)
        by_sd = at.mean**2 + np.diag(inverse) - 1.0
        w = sd * at.mean
        # Expected weighted squares of the residuals. The factor's upper triangle is zero, so that
        # of its inverse's is too: twice the lower one is the sum over both.
        second = inverse + np.tril(inverse, -1)
        second *= sd[:, None]
        second *= sd
        expected = squares - 2 * cross @ w + (gram @ w) @ w + np.tensordot(gram, second, axes=2)
        by_sigma = np.where(counts > 0, expected / variance**2 - counts / variance, 0) * square
        n = len(self.noise_center)
        noise = np.tensordot(by_sigma, self.noise_map[self._first], axes=2)
        noise -= (eta[:n] - self.noise_center) / self.noise_width**2
        return at.evidence, np.concatenate([noise, by_sd @ self.slopes])

    def maximize(self) -> tuple[np.ndarray, int]:
        """The best ``eta`` and the number of evaluations.

        Amplitude and powers of a prior pull at the same coefficients. The search runs in
        combinations of settings that move the logarithms of the prior scales by one, in the root
        mean square, and independently of each other.
        """
        n = len(self.noise_center)
        values, vectors = np.linalg.eigh(self.slopes.T @ self.slopes / max(1, len(self.slopes)))
        steps = np.eye(len(self.start))
        steps[n:, n:] = vectors / np.sqrt(values + LEAST_SLOPE)

        def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
            eta = self.start + steps @ z
            inside = np.clip(eta, self.start - BOUND, self.start + BOUND)
            beyond = eta - inside  # a first step may go so far that scales overflow: call it back
            value, gradient = self.value_and_gradient(inside)
            gradient = np.where(beyond == 0.0, gradient, -beyond)
            return 0.5 * beyond @ beyond - value, -steps.T @ gradient

        found = optimize.minimize(
            loss, np.zeros(len(self.start)), jac=True, method="L-BFGS-B",
            options={"maxiter": 200, "ftol": max(LEAST_NOISE, NOISE * len(self.center)),
                     "maxcor": 20},
        )
        end = np.clip(self.start + steps @ found.x, self.start - BOUND, self.start + BOUND)
        eta, more = self._settle(end)
        return eta, int(found.nfev) + more

    def _settle(self, eta: np.ndarray) -> tuple[np.ndarray, int]:
        """Newton's method from near the maximum.

        A search by values stops where rounding decides, somewhere on a flat top. With gradients
        alone the end does not depend on the order or the unit of the data. The curvature stays
        for as long as steps become shorter fast, and is taken anew where they do not.
        """
        eta, (best, slope), evaluations = eta.copy(), self.value_and_gradient(eta), 1
        free = np.flatnonzero(np.abs(eta - self.start) < BOUND * (1 - 1e-6))
        for _ in range(CURVATURES):
            inverse, shortest = self._inverse_curvature(eta, slope, free), np.inf
            evaluations += len(free)
            while shortest > SETTLED:
                step = inverse @ slope[free]
                length = np.abs(step).max(initial=0.0)
                if length > SHORTENED * shortest:
                    break
                trial = eta.copy()
                trial[free] += step * min(1.0, LONGEST_STEP / max(length, LONGEST_STEP))
                value, there = self.value_and_gradient(trial)
                evaluations += 1
                if value < best - ROUNDED * max(1.0, abs(best)):
                    break
                eta, slope, best, shortest = trial, there, max(best, value), length
            if shortest < STALLED:
                break
        return eta, evaluations

    def _inverse_curvature(
        self, eta: np.ndarray, slope: np.ndarray, free: np.ndarray
    ) -> np.ndarray:
        """What turns ``slope`` into a step uphill, by differences of gradients; see `_settle`."""
        rows = [self.value_and_gradient(eta + e)[1] - slope
                for e in DIFFERENCE * np.eye(len(eta))[free]]
        curvature = np.reshape(rows, (len(free), len(eta)))[:, free] / DIFFERENCE
        values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
        return vectors / np.maximum(np.abs(values), LEAST_CURVATURE) @ vectors.T
