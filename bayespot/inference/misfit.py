"""What is done about a potential that cannot be right, before and after sampling."""

from __future__ import annotations

import jax
import numpy as np

from bayespot.errors import PriorError
from bayespot.inference.discrepancy import add_discrepancy
from bayespot.inference.temperature import folds_of
from bayespot.inference.tempered import Target, temper
from bayespot.likelihood import MISFITS, FitProblem
from bayespot.posterior import Posterior
from bayespot.potentials.base import Potential
from bayespot.potentials.linear import LinearPotential

METHODS = {"tempered": ("nuts", "laplace"), "pro": ("laplace",)}
"""Treatments that are spreads of the parameters, and what gives them one."""


def require_method(problem: FitProblem, method: str) -> None:
    """Say that a method cannot treat misfit as the problem wants it, before it has cost anything.

    Raises
    ------
    PriorError
        See `check_method`.
    LabelError
        If families are to be left out and there is one structure only.
    """
    check_method(problem.initial, method, misfit=problem.misfit, tails=problem.space.tails)
    by_rule = problem.misfit == "tempered" and problem.temperature in (None, "families")
    if problem.misfit == "discrepancy" or by_rule:
        folds_of(problem.dataset.families)


def check_method(
    potential: Potential, method: str, *, misfit: str = MISFITS[0], tails: float | str = "normal"
) -> None:
    """What `require_method` can say without data, for those who have yet to pay for them.

    Raises
    ------
    PriorError
        If the discrepancy or the temperature of a linear potential is asked for, or a spread of
        the parameters of a method that does not make it, or any of them with noise that is not
        normal; if the closed form of linear potentials is asked for of another.
    """
    linear = isinstance(potential, LinearPotential)
    if method == "linear_gaussian" and not linear:
        raise PriorError(
            f"{type(potential).__name__} is not linear in its parameters, and linear_gaussian is "
            "the closed form of those that are: use nuts"
        )
    if misfit != "none" and tails != "normal":
        raise PriorError(
            f"misfit={misfit!r} with tails={tails!r}: its closed forms are those of normal "
            "noise; use tails='normal', or misfit='none' to find the labels that are wrong"
        )
    if misfit in ("discrepancy", "tempered") and linear and method != "linear_gaussian":
        own = "a linear potential is its own discrepancy, and " if misfit == "discrepancy" else ""
        raise PriorError(
            f"misfit={misfit!r} of {type(potential).__name__}: {own}linear_gaussian has it "
            "in closed form; or use misfit='none'"
        )
    known = METHODS.get(misfit, (method,))
    if method not in known and (misfit, method) != ("tempered", "linear_gaussian"):
        reason = {
            "tempered": "it is a spread of the parameters, and the mode has none",
            "pro": "it is a Gaussian that is fitted at the mode",
        }[misfit]
        raise PriorError(f"misfit={misfit!r} with {method}: {reason}; use {' or '.join(known)}")


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
