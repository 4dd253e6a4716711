"""Which setting to take: the cheapest that is exact enough, and stays so when tightened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bayespot.convergence.differences import MEASURES

__all__ = ["SAME_COST", "cheapest", "meets"]

SAME_COST = 1.1
"""Times within this factor are the same: they are measured, and other work disturbs them."""


def meets(
    errors: Mapping[str, float | None],
    uncertainty: Mapping[str, float | None],
    target: Mapping[str, float],
) -> bool:
    """Whether every error that has a target keeps it, the reference's own error included.

    The error is against a reference that may be wrong by `uncertainty`, so that their sum is what
    can be said; a measure that could not be taken (None) does not decide.

    Parameters
    ----------
    errors, uncertainty : mapping of measure to float or None
    target : mapping of measure to float
    """
    for measure in MEASURES:
        limit, error = target.get(measure), errors.get(measure)
        if limit is None or error is None:
            continue
        if error + (uncertainty.get(measure) or 0.0) > limit:
            return False
    return True


def cheapest(good: Sequence[bool], whole: Sequence[bool], cost: Sequence[float]) -> int | None:
    """Level to take: the cheapest that is good with all tighter ones good as well.

    Of those that cost the same, the loosest.

    Parameters
    ----------
    good : sequence of bool
        Whether a level meets the target, loosest first.
    whole : sequence of bool
        Whether no calculation failed there; a level with failures is not taken, and does not speak
        against looser ones.
    cost : sequence of float
        CPU seconds.

    Returns
    -------
    int or None
        Index of the level; None where not even the tightest is good.
    """
    allowed = []
    for level in range(len(good) - 1, -1, -1):
        if not good[level]:
            break
        if whole[level]:
            allowed.append(level)
    if not allowed:
        return None
    least = min(cost[level] for level in allowed)
    return min(level for level in allowed if cost[level] <= SAME_COST * least)
