"""What every score asks of its arguments: equal shapes, something to score, finite numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayespot.errors import LabelError


def checked(**arrays: ArrayLike) -> list[NDArray[np.float64]]:
    """Return the arrays as float64 after checking that they can be compared.

    Raises
    ------
    LabelError
        If shapes differ, nothing is there, a number is not finite, or ``std`` or ``weights`` has a
        negative value.
    """
    ready = {name: np.atleast_1d(np.asarray(a, dtype=float)) for name, a in arrays.items()}
    shapes = {name: a.shape for name, a in ready.items()}
    if len(set(shapes.values())) > 1:
        raise LabelError(f"shapes differ: {shapes}; give one prediction per label")
    for name, a in ready.items():
        if a.size == 0:
            raise LabelError(f"{name} is empty: there is nothing to score")
        if bad := int(np.sum(~np.isfinite(a))):
            raise LabelError(
                f"{name} has {bad} of {a.size} values that are not finite; "
                "leave out the cases without a label first"
            )
    for name, what in (("std", "spreads are"), ("weights", "weights are")):
        if name in ready and np.any(ready[name] < 0):
            raise LabelError(f"{name} has a negative value, {ready[name].min():g}; {what} >= 0")
    return list(ready.values())


def checked_level(level: float) -> float:
    """Return the level after checking that it is a probability.

    Raises
    ------
    LabelError
        If it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise LabelError(f"level {level!r} is not a probability between 0 and 1; 0.9 means 90 %")
    return float(level)


def with_spread(std: NDArray[np.float64], what: str) -> None:
    """Refuse cases without spread where the score would be infinite.

    Raises
    ------
    LabelError
        If a spread is 0.
    """
    if n := int(np.sum(std == 0)):
        raise LabelError(
            f"std is 0 for {n} of {std.size} cases: {what} is infinite. "
            "Use total_std, which contains the noise, or crps_gaussian"
        )
