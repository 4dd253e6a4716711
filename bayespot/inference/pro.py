r"""A predictively oriented posterior: the Gaussian of parameters whose predictions score best.

Instead of the parameters that are right, which no parameters are, it looks for the spread of
parameters that predicts. With :math:`Q = N(\mu, \Lambda)` over the standard-normal coordinates and
the linear model of the potential at the mode (`bayespot.inference.linearized`),

.. math::
   Q = \arg\max_{\mu, \Lambda} \sum_i \kappa_i
       \ln N\big(y_i;\, f_i(\mu),\, J_i \Lambda J_i^T + s_i^2 + \sigma_k^2\big)
       - KL\big(Q \,\|\, N(0, I)\big)

with the DFT floor s. The noise :math:`\sigma_k` is zero, so that all misfit goes into the
parameters, or inferred along with Q. It is maximised by L-BFGS over :math:`m` and the lower
triangular A (logarithms of its diagonal), where :math:`\mu = u^* + L m`,
:math:`\Lambda = L A A^T L^T` and :math:`L L^T` is the posterior covariance of the linear model.

A Gaussian this wide is only as good as the linear model: `pro` pushes draws through the potential
and compares their spread with the linear one, and a posterior that fails has not converged.

References
----------
Y. McLatchie, B.-E. Chérief-Abdellatif, D. T. Frazier, J. Knoblauch, arXiv:2510.01915 (2025).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from scipy import linalg, optimize

from bayespot.evaluate import Labels3, evaluate_draws
from bayespot.inference.assemble import build_posterior
from bayespot.inference.linearized import Linearized, flat_values, linearize
from bayespot.inference.temperature import NO_NOISE
from bayespot.inference.tempered import hold_noise
from bayespot.likelihood import FitProblem
from bayespot.posterior import Posterior

STARTS = np.logspace(-2.0, 4.0, 61)
"""Multiples of the linear posterior's covariance; the best one is where the search starts."""

PUSHED = 64
"""Draws whose spread is compared with that of the linear model."""

RATIOS = (0.8, 1.25)
"""Accepted median over the structures of nonlinear over linear standard deviation."""


@dataclass(frozen=True)
class Predictive:
    """The maximum.

    Attributes
    ----------
    mean : ndarray [p]
    root : ndarray [p, p]
        Its square is the covariance, root root^T.
    sigma : ndarray [3]
        Noise scales.
    score : float
        What is maximised, up to a constant, nats.
    converged : bool
    """

    mean: np.ndarray
    root: np.ndarray
    sigma: np.ndarray
    score: float
    converged: bool


class Objective:
    """Minus the score of the module and its gradient, in the coordinates (m, A, noise entries).

    Parameters
    ----------
    problem : FitProblem
    linear : Linearized
        At the mode.
    u : ndarray
        The mode with its noise entries.
    noise : bool
        Infer the noise scales that the problem samples; otherwise they are zero.
    """

    def __init__(self, problem: FitProblem, linear: Linearized, u: np.ndarray, noise: bool) -> None:
        space, self.linear = problem.space, linear
        self.p = p = len(linear.u)
        at_mode = problem.variance(u)[linear.structure, linear.kind]
        fisher = (linear.rows.T * (linear.kappa / at_mode)) @ linear.rows
        lower = linalg.cholesky(np.eye(p) + fisher, lower=True)
        self.whiten = linalg.solve_triangular(lower, np.eye(p), lower=True).T
        self.rows = linear.rows @ self.whiten
        self.metric = self.whiten.T @ self.whiten
        self.triangle, self.diagonal = np.tril_indices(p), np.diag_indices(p)
        sampled = list(space.layout.noise)
        self.sampled = sampled if noise else []
        self.priors = [space.priors[space.layout.n_theta + row] for row in range(len(self.sampled))]
        self.noise_start = np.asarray(u, float)[p:][: len(self.sampled)]
        self.held = np.where(np.isin(np.arange(3), sampled), 0.0, space.constants.sigma)

    def unpack(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vector m [p], matrix A [p, p] and the noise scales [3]."""
        p, n = self.p, len(self.triangle[0])
        root = np.zeros((p, p))
        root[self.triangle] = x[p : p + n]
        root[self.diagonal] = np.exp(root[self.diagonal])
        sigma = self.held.copy()
        for k, prior, s in zip(self.sampled, self.priors, x[p + n :], strict=True):
            sigma[k] = float(prior.forward(s))
        return x[:p], root, sigma

    def start(self) -> np.ndarray:
        """The best multiple of the linear posterior's covariance."""
        points = []
        for t in STARTS:
            root = np.diag(np.full(self.p, 0.5 * np.log(t)))
            points.append(np.concatenate([
                np.zeros(self.p), root[self.triangle], self.noise_start
            ]))
        return min(points, key=lambda x: self(x)[0])

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient."""
        linear = self.linear
        m, root, sigma = self.unpack(x)
        spread = self.rows @ root
        variance = (spread**2).sum(axis=1) + linear.floor + sigma[linear.kind] ** 2
        error, center = linear.residual - self.rows @ m, linear.u + self.whiten @ m
        noise = x[self.p + len(self.triangle[0]) :]
        widened = self.metric @ root
        value = (
            0.5 * linear.kappa @ (error**2 / variance + np.log(variance))
            + 0.5 * ((root * widened).sum() + center @ center + noise @ noise)
            - np.log(np.diag(root)).sum()
        )
        by_variance = 0.5 * linear.kappa * (1.0 / variance - (error / variance) ** 2)
        by_root = 2.0 * self.rows.T @ (by_variance[:, None] * spread) + widened
        by_root[self.diagonal] = by_root[self.diagonal] * np.diag(root) - 1.0
        by_m = self.whiten.T @ center - self.rows.T @ (linear.kappa * error / variance)
        by_kind = np.bincount(linear.kind, by_variance, minlength=3)
        by_noise = [
            # d sigma^2 / ds of a lognormal scale.
            by_kind[k] * 2.0 * prior.sd * sigma[k] ** 2 + s
            for k, prior, s in zip(self.sampled, self.priors, noise, strict=True)
        ]
        return float(value), np.concatenate([by_m, by_root[self.triangle], by_noise])


def predictive_gaussian(problem: FitProblem, u: np.ndarray, linear: Linearized, *,
                        noise: bool = False) -> Predictive:
    """The Q of the module, from the linear model at the mode ``u`` (with its noise entries)."""
    objective = Objective(problem, linear, u, noise)
    found = optimize.minimize(objective, objective.start(), jac=True, method="L-BFGS-B",
                              options={"maxiter": 3000, "maxfun": 6000, "ftol": 1e-12})
    m, root, sigma = objective.unpack(found.x)
    return Predictive(linear.u + objective.whiten @ m, objective.whiten @ root, sigma,
                      -float(found.fun), bool(found.success))


def pro(problem: FitProblem, u: np.ndarray, *, key: jax.Array, draws: int = 1000,
        noise: bool = False) -> Posterior:
    """Draws from the predictively oriented Gaussian at the mode ``u``; see the module.

    Parameters
    ----------
    problem : FitProblem
    u : ndarray [p]
        The most probable point, noise entries included.
    key : jax.Array
        Random key of the draws.
    draws : int
    noise : bool
        Infer noise scales along with the spread of the parameters; they are zero otherwise.
    """
    linear = linearize(problem, u)
    found = predictive_gaussian(problem, u, linear, noise=noise)
    xi = np.asarray(jax.random.normal(key, (draws, len(found.mean))))
    many = found.mean + xi @ found.root.T
    final = hold_noise(problem, np.maximum(found.sigma, NO_NOISE))
    ratios = push_forward(final, many[:PUSHED], linear)
    problems = [
        f"the {name} of the draws spread {ratio:.2f} times as far as the linear model says (median "
        f"over structures; {RATIOS[0]} to {RATIOS[1]} is accepted): the potential is too curved "
        "for a Gaussian this wide; use misfit='discrepancy'"
        for name, ratio in ratios.items() if not RATIOS[0] <= ratio <= RATIOS[1]
    ]
    if not found.converged:
        problems.append("the optimiser stopped before its gradient vanished")
    return build_posterior(
        final, many[None], method="laplace", problems=problems,
        details={"score": found.score, "push_forward": ratios},
    )


def push_forward(problem: FitProblem, u: np.ndarray, linear: Linearized) -> dict[str, float]:
    """Spread of draws ``u`` [n, p] over that of the same draws in the linear model.

    Energies per atom and forces (root mean square over a structure's components); the median over
    the structures.
    """
    out = evaluate_draws(problem.space.potential(u), problem.graph)
    atoms = problem.graph.by_structure(problem.data.atoms)
    true = np.stack([
        flat_values(Labels3(e / atoms, f, s))[linear.use]
        for e, f, s in zip(*out, strict=True)
    ]).var(axis=0)
    straight = ((u - linear.u) @ linear.rows.T).var(axis=0)
    ratios = {}
    for kind, name in ((0, "energies"), (1, "forces")):
        mine = linear.kind == kind
        sums = [np.bincount(linear.structure[mine], v[mine]) for v in (true, straight)]
        seen = sums[1] > 0
        if seen.any():
            ratios[name] = float(np.median(np.sqrt(sums[0][seen] / sums[1][seen])))
    return ratios
