"""The Laplace approximation: a Gaussian at the mode, in the coordinates of `curved`."""

from __future__ import annotations

import jax
import numpy as np

from bayespot.inference.assemble import build_posterior
from bayespot.inference.curved import curved, forward_all
from bayespot.inference.map import climb, find_modes
from bayespot.inference.misfit import require_method, target_of, treat_misfit
from bayespot.inference.pro import pro
from bayespot.likelihood import FitProblem
from bayespot.posterior import Posterior


def laplace(
    problem: FitProblem, *, key: jax.Array, draws: int = 1000, starts: int = 16
) -> Posterior:
    """Draws of a Gaussian around the mode, bent as `bayespot.inference.curved` says.

    Cheap: the search for the mode and some hundred gradients. Per-atom energies of such draws were
    measured to spread 0.9 to 1.4 times as far as those of `nuts` (Sutton-Chen and Mie on 14 and 9
    structures of copper, Finnis-Sinclair on 9 of lithium); without the bend it was 3 to 23
    times, because sloppy directions are curved. A third derivative at one point stays a guess of
    what is far from it. Use it to look, `nuts` to publish.

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
    LabelError
        If there is one structure only and families are to be left out.
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
    coordinates, shape = curved(density, best.u)
    u, _ = forward_all(coordinates, z)
    problems = [] if best.converged else ["the optimiser stopped before its gradient vanished"]
    posterior = build_posterior(
        target.final, np.asarray(u)[None], method="laplace", problems=problems, marks=target.marks,
        details={"log_posterior": best.log_posterior, "starts": starts, "coordinates": shape,
                 **target.details},
    )
    return treat_misfit(problem, posterior, jax.random.fold_in(key, 1))
