"""The Laplace approximation: a Gaussian at the mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.inference.assemble import build_posterior
from bayespot.inference.map import climb, find_modes, value_and_gradient
from bayespot.inference.misfit import require_method, target_of, treat_misfit
from bayespot.inference.pro import pro
from bayespot.likelihood import FitProblem
from bayespot.posterior import Posterior

STEP = 1e-2
"""Posterior standard deviations of the differences behind the Hessian."""

CURVATURES = (0.05, 50.0)
"""Bounds of the Hessian's eigenvalues relative to Gauss-Newton's: a direction in which the
posterior is flat or concave at its mode keeps a finite width."""


def whitening(problem: FitProblem, u: np.ndarray) -> np.ndarray:
    r"""A matrix L with :math:`L L^T` the inverse Hessian of the negative log posterior, [p, p].

    Gauss-Newton sets the scales; the Hessian in its coordinates then comes from differences of
    gradients. It adds what Gauss-Newton leaves out: under misfit the energies alone would like
    other parameters than energies, forces and stresses together, so parameters and noise scales
    are correlated.
    """
    # Along its eigenvectors, so that the differences do not depend on the order of the entries.
    precision, space = problem.precision(u), problem.space
    information, vectors = np.linalg.eigh(0.5 * (precision + precision.T))
    scale = vectors / np.sqrt(information)

    def slope(z: np.ndarray) -> np.ndarray:
        at = jnp.asarray(u + scale @ z)
        _, gradient = value_and_gradient(space.layout, space.constants, problem.placed(), at)
        return -scale.T @ np.asarray(gradient)

    steps = STEP * np.eye(len(u))
    hessian = np.stack([(slope(z) - slope(-z)) / (2 * STEP) for z in steps])
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    return scale @ (vectors / np.sqrt(np.clip(values, *CURVATURES)))


def laplace(
    problem: FitProblem, *, key: jax.Array, draws: int = 1000, starts: int = 16
) -> Posterior:
    """Gaussian draws around the mode with the inverse Hessian as covariance.

    Cheap, and often wrong for nonlinear forms: sloppy directions are curved, and energies of
    Laplace draws were measured to spread 3 to 14 times too far. Use it to look, `nuts` to publish.

    Parameters
    ----------
    problem : FitProblem
    key : jax.Array
        Random key.
    draws : int
        Number of draws.
    starts : int
        Starting points of the search for the mode.

    Raises
    ------
    PriorError
        If the misfit of a linear potential is to be treated, which `linear_gaussian` does.
    """
    require_method(problem, "laplace")
    key_map, key_draws = jax.random.split(key)
    best = find_modes(problem, key_map, starts=starts)[0]
    if problem.misfit == "pro":
        return pro(problem, best.u, key=key_draws, draws=draws)
    target = target_of(problem, best.u)
    if target.density is not problem:
        best = climb(target.density, best.u[: problem.space.layout.n_theta])
    density = target.density
    z = np.asarray(jax.random.normal(key_draws, (draws, density.space.size)))
    u = best.u + z @ whitening(density, best.u).T
    problems = [] if best.converged else ["the optimiser stopped before its gradient vanished"]
    posterior = build_posterior(
        target.final, u[None], method="laplace", problems=problems, marks=target.marks,
        details={"log_posterior": best.log_posterior, "starts": starts, **target.details},
    )
    return treat_misfit(problem, posterior, jax.random.fold_in(key, 1))
