"""What is done about a potential that cannot be right, before and after sampling."""

from __future__ import annotations

import jax
import numpy as np

from bayespot.errors import PriorError
from bayespot.inference.discrepancy import add_discrepancy
from bayespot.inference.tempered import Target, temper
from bayespot.likelihood import FitProblem
from bayespot.posterior import Posterior
from bayespot.potentials.linear import LinearPotential

METHODS = {"tempered": ("nuts", "laplace"), "pro": ("laplace",)}
"""Treatments that are spreads of the parameters, and what gives them one."""


def require_method(problem: FitProblem, method: str) -> None:
    """Say that a method cannot treat misfit as the problem wants it, before it has cost anything.

    Raises
    ------
    PriorError
        If the discrepancy or the temperature of a linear potential is asked for, or a spread of
        the parameters of a method that does not make it.
    """
    misfit = problem.misfit
    if misfit != "none" and problem.tails != "normal":
        raise PriorError(
            f"misfit={misfit!r} with tails={problem.tails!r}: its closed forms are those of normal "
            "noise; use tails='normal', or misfit='none' to find the labels that are wrong"
        )
    if misfit in ("discrepancy", "tempered") and isinstance(problem.initial, LinearPotential):
        own = "a linear potential is its own discrepancy, and " if misfit == "discrepancy" else ""
        raise PriorError(
            f"misfit={misfit!r} of {type(problem.initial).__name__}: {own}linear_gaussian has it "
            "in closed form; or use misfit='none'"
        )
    if method not in METHODS.get(misfit, (method,)):
        reason = {
            "tempered": "it is a spread of the parameters, and the mode has none",
            "pro": "it is a Gaussian that is fitted at the mode",
        }[misfit]
        raise PriorError(
            f"misfit={misfit!r} with {method}: {reason}; use {' or '.join(METHODS[misfit])}"
        )


def target_of(problem: FitProblem, u: np.ndarray) -> Target:
    """What to sample, given the mode ``u`` of the problem; the problem itself unless tempered."""
    if problem.misfit == "tempered":
        return temper(problem, u)
    return Target(problem, problem)


def treat_misfit(problem: FitProblem, posterior: Posterior, key: jax.Array) -> Posterior:
    """The posterior as ``problem.misfit`` wants it, once its parameters were sampled."""
    if problem.misfit == "discrepancy":
        return add_discrepancy(problem, posterior, key=key)
    return posterior
