r"""Maximum a posteriori by multi-start Levenberg-Marquardt.

With the noise scales held, the problem is least squares in the potential's entries of ``u`` with
the prior as unit residuals. The noise scales are updated between steps, each by its own
one-dimensional maximum. Turn by turn is robust far away and slow near the mode, where a form that
cannot be right couples parameters and noise: there a quasi-Newton search over all entries at once,
in coordinates whitened by the Gauss-Newton precision, takes over.

Least squares with inferred noise has several optima (a bad energy fit raises its noise, which
lowers its weight), so the search starts from engineering values of the noise and from many points
of the prior, first on a subset of the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from scipy.optimize import OptimizeResult, minimize, minimize_scalar
from scipy.special import ndtri
from scipy.stats import qmc

from bayespot.errors import PriorError
from bayespot.inference.assemble import build_posterior
from bayespot.inference.misfit import require_method, treat_misfit
from bayespot.likelihood import FitProblem, log_posterior
from bayespot.posterior import Posterior

value_and_gradient = jax.jit(jax.value_and_grad(log_posterior, argnums=3), static_argnums=0)

NEAR = 1.0
"""Nats; a step that gains less is near the mode, and the search over all entries takes over."""

SUBSET_ATOMS = 600
"""Atoms of the subset that the many starts are tried on."""


@dataclass(frozen=True)
class Mode:
    """A local maximum of the posterior."""

    u: np.ndarray
    log_posterior: float
    converged: bool
    steps: int


def noise_update(problem: FitProblem, u: np.ndarray) -> np.ndarray:
    """The best noise entries of ``u`` at its parameters of the potential.

    For normal noise of common scales; other noise takes some steps towards them.
    """
    if problem.space.families or problem.space.layout.student:
        return _search(problem, u, noise_alone=True, steps=8)[0]
    n_theta, floor = problem.space.layout.n_theta, problem.floor_by_structure()
    misfit, u = problem.misfit_by_structure(u), u.copy()
    for row, k in enumerate(problem.space.layout.noise):
        prior = problem.space.priors[n_theta + row]
        squares, counts = misfit.squares[:, k], misfit.counts[:, k]

        def cost(x: float, prior=prior, squares=squares, counts=counts, k=k) -> float:
            variance = float(prior.forward(x)) ** 2 + floor[:, k]
            return 0.5 * float((squares / variance + counts * np.log(variance)).sum() + x * x)

        u[n_theta + row] = minimize_scalar(cost, bounds=(-8.0, 8.0), method="bounded",
                                           options={"xatol": 1e-10}).x
    return u


def climb(problem: FitProblem, u: np.ndarray, *, steps: int = 200, tolerance: float = 1e-6,
          hold_noise: int = 3) -> Mode:
    """Levenberg-Marquardt from ``u``; the noise is held for the first ``hold_noise`` steps.

    Once a step gains less than `NEAR`, the search over all entries is tried (`_finish`); where it
    does not arrive the steps go on. They have converged when the gain expected from a Gauss-Newton
    step is below ``tolerance`` nats and the noise has settled too.
    """
    n_theta = problem.space.layout.n_theta
    u, value, damping = np.asarray(u, float), problem.log_posterior(u), 1e-2
    if not np.isfinite(value):
        return Mode(u, -np.inf, False, 0)
    tried = False
    for step in range(steps):
        local = problem.gauss_newton(u)
        hessian = local.fisher.sum(axis=0) + np.eye(n_theta)
        gradient = local.gradient - u[:n_theta]
        if not (np.isfinite(hessian).all() and np.isfinite(gradient).all()):
            return Mode(u, value, False, step)
        expected = 0.5 * gradient @ np.linalg.solve(hessian, gradient)
        accepted = False
        for _ in range(12):
            trial = u.copy()
            trial[:n_theta] += np.linalg.solve(
                hessian + damping * np.diag(np.diag(hessian)), gradient
            )
            trial[:n_theta] = np.clip(trial[:n_theta], -7.5, 7.5)
            trial_value = problem.log_posterior(trial)
            if np.isfinite(trial_value) and trial_value >= value:
                damping, accepted = max(damping / 5.0, 1e-12), True
                break
            damping *= 4.0
        before = value
        if accepted:
            u, value = trial, trial_value
        if step >= hold_noise:
            u = noise_update(problem, u)
            value = problem.log_posterior(u)
        if not tried and step > hold_noise and abs(value - before) < NEAR:
            tried = True
            mode = _finish(problem, u, value, step + 1)
            if mode.converged:
                return mode
        settled = abs(value - before) < tolerance and step > hold_noise
        if settled and (expected < tolerance * 100 or not accepted):
            return Mode(u, value, bool(expected < 1e-3), step + 1)
    return Mode(u, value, False, steps)


def _finish(problem: FitProblem, u: np.ndarray, value: float, steps: int) -> Mode:
    """Quasi-Newton over all entries, from near a mode; not converged where it did not get there."""
    try:
        best, found = _search(problem, u)
    except np.linalg.LinAlgError:
        return Mode(u, value, False, steps)
    expected = 0.5 * float(found.jac @ found.jac)
    if not (-found.fun >= value and expected < 1e-6):
        return Mode(u, value, False, steps)
    return Mode(best, -float(found.fun), True, steps + int(found.nit))


def _search(problem: FitProblem, u: np.ndarray, *, noise_alone: bool = False, steps: int = 200
            ) -> tuple[np.ndarray, OptimizeResult]:
    """Quasi-Newton in whitened coordinates, over all entries of ``u`` or those of the noise."""
    space = problem.space
    first = space.layout.n_theta if noise_alone else 0
    precision = problem.noise_precision(u) if noise_alone else problem.precision(u)
    root = np.zeros((space.size, space.size - first))
    root[first:] = np.linalg.inv(np.linalg.cholesky(precision)).T

    def cost(z: np.ndarray) -> tuple[float, np.ndarray]:
        height, slope = value_and_gradient(space.layout, space.constants, problem.placed(),
                                           u + root @ z)
        if not (np.isfinite(height) and np.isfinite(slope).all()):
            return np.inf, np.zeros_like(z)
        return -float(height), -(root.T @ np.asarray(slope))

    with np.errstate(invalid="ignore", over="ignore"):
        found = minimize(cost, np.zeros(root.shape[1]), jac=True, method="BFGS",
                         options={"gtol": 1e-5, "maxiter": steps})
    return u + root @ found.x, found


def starting_points(problem: FitProblem, key: jax.Array, starts: int) -> np.ndarray:
    """The given potential, the prior median and Sobol points of the prior, [starts, p]."""
    size, n_theta = problem.space.size, problem.space.layout.n_theta
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    count = 1 << max(0, int(starts - 1).bit_length())
    sobol = qmc.Sobol(max(size, 1), scramble=True, rng=np.random.default_rng(seed)).random(count)
    points = np.clip(ndtri(np.clip(sobol, 1e-6, 1 - 1e-6)), -2.0, 2.0)[:starts]
    points[:, n_theta:] = 0.0
    points[0] = 0.0
    try:
        given = problem.space.inverse(problem.initial)
    except PriorError:
        return points  # the values given lie outside the priors: start from the priors alone
    return np.concatenate([given[None], points])[:starts]


def subset(problem: FitProblem, key: jax.Array, atoms: int = SUBSET_ATOMS) -> FitProblem:
    """The same problem on about ``atoms`` atoms, families in turn."""
    dataset = problem.dataset
    rng = np.random.default_rng(int(jax.random.randint(key, (), 0, 2**31 - 1)))
    queues = {
        family: list(rng.permutation(np.flatnonzero(np.array(dataset.families) == family)))
        for family in sorted(set(dataset.families))
    }
    chosen: list[int] = []
    total = 0
    while total < atoms and any(queues.values()):
        for queue in queues.values():
            if queue and total < atoms:
                chosen.append(int(queue.pop()))
                total += len(dataset.structures[chosen[-1]])
    return FitProblem(
        problem.initial,
        dataset[np.array(sorted(chosen))],
        priors=dict(zip(problem.space.names, problem.space.priors, strict=True)),
        fixed=problem.space.fixed,
        reference=problem.reference,
        floor=problem.floor,
        nu_forces=problem.nu_forces,
        misfit=problem.misfit,
        temperature=problem.temperature,
        scales=problem.space.families or problem.scales,
        tails=problem.tails,
    )


def find_modes(problem: FitProblem, key: jax.Array, *, starts: int = 16) -> list[Mode]:
    """Distinct local maxima, best first.

    Many starts climb on a subset; the best distinct ones climb on all data.
    """
    key_points, key_subset = jax.random.split(key)
    points = starting_points(problem, key_points, max(1, starts))
    if problem.graph.n_atoms > 2 * SUBSET_ATOMS:
        rough = [climb(small, u, steps=40, tolerance=1e-3)
                 for small in [subset(problem, key_subset)] for u in points]
        candidates = _distinct(rough, window=np.inf)[:3]
        # The given potential may be a better start than anything a subset can tell.
        points = np.concatenate([np.stack([m.u for m in candidates]), points[:1]])
    modes = _distinct([climb(problem, u) for u in points], window=np.inf)
    if not modes or not np.isfinite(modes[0].log_posterior):
        raise PriorError(
            "no starting point has a finite posterior density: the priors do not cover the data; "
            "look at the prior medians against bond lengths and energies of the structures"
        )
    return modes


def _distinct(modes: list[Mode], window: float, distance: float = 0.05) -> list[Mode]:
    """Best first, without repetitions (closer than ``distance`` prior sds in every entry)."""
    kept: list[Mode] = []
    for mode in sorted(modes, key=lambda m: -m.log_posterior):
        if not np.isfinite(mode.log_posterior):
            continue
        if kept and kept[0].log_posterior - mode.log_posterior > window:
            continue
        if all(np.abs(mode.u - other.u).max() > distance for other in kept):
            kept.append(mode)
    return kept


def map_estimate(problem: FitProblem, *, key: jax.Array, starts: int = 16) -> Posterior:
    """The most probable ``u`` as a posterior of one draw, or of one with draws of its discrepancy.

    The mode is that of the density in the standard-normal coordinates of the priors.

    Parameters
    ----------
    problem : FitProblem
    key : jax.Array
        Random key for the starting points.
    starts : int
        Number of starting points.

    Raises
    ------
    PriorError
        If misfit is to be treated in a way that a mode does not have: a spread of the parameters,
        or the closed form of a linear potential.
    LabelError
        If there is one structure only and families are to be left out.
    """
    require_method(problem, "map_estimate")
    modes = find_modes(problem, key, starts=starts)
    best = modes[0]
    problems = [] if best.converged else ["the optimiser stopped before its gradient vanished"]
    posterior = build_posterior(
        problem, best.u[None, None], method="map", problems=problems,
        details={
            "log_posterior": best.log_posterior, "starts": starts, "steps": best.steps,
            "other_modes": [m.log_posterior - best.log_posterior for m in modes[1:]],
        },
    )
    return treat_misfit(problem, posterior, jax.random.fold_in(key, 1))
