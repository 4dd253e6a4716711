"""What is done about a potential that cannot be right, after its parameters were sampled."""

from __future__ import annotations

import jax

from bayespot.errors import PriorError
from bayespot.inference.discrepancy import add_discrepancy
from bayespot.likelihood import FitProblem
from bayespot.posterior import Posterior
from bayespot.potentials.linear import LinearPotential


def treat_misfit(problem: FitProblem, posterior: Posterior, key: jax.Array) -> Posterior:
    """The posterior as ``problem.misfit`` wants it.

    Raises
    ------
    PriorError
        If the discrepancy of a linear potential is asked for.
    """
    if problem.misfit == "none":
        return posterior
    if isinstance(problem.initial, LinearPotential):
        raise PriorError(
            f"misfit='discrepancy' of {type(problem.initial).__name__}: a linear potential is its "
            "own discrepancy, and linear_gaussian has it in closed form; or use misfit='none'"
        )
    return add_discrepancy(problem, posterior, key=key)
