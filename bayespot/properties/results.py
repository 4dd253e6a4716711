"""What a property function returns: values with units, numerical errors, and what went wrong.

Every array has a leading axis of energy surfaces: one for an ASE calculator, one per draw for a
posterior.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bayespot.errors import PropertyError

Masks = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Quantity:
    """One number on every surface.

    ``error`` is the numerical error that is left (steps, tolerances, sizes where they were varied);
    it is NaN where nothing was varied, and a value is NaN where it could not be found.
    """

    values: np.ndarray  # [n]
    error: np.ndarray  # [n]
    unit: str

    def __post_init__(self) -> None:
        values = np.atleast_1d(np.asarray(self.values, dtype=float))
        error = np.broadcast_to(np.asarray(self.error, dtype=float), values.shape)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "error", np.where(np.isfinite(values), np.abs(error), np.nan))

    @property
    def value(self) -> float:
        """The number, if there is one surface.

        Raises
        ------
        PropertyError
            If there are several.
        """
        if len(self.values) != 1:
            raise PropertyError(
                f"there are {len(self.values)} values, one per draw: use .values, not .value"
            )
        return float(self.values[0])


@dataclass(frozen=True)
class Curve:
    """A function of ``x`` on every surface."""

    x: np.ndarray  # [m]
    values: np.ndarray  # [n, m] or [n, m, branches]
    x_label: str
    x_unit: str
    unit: str
    marks: Mapping[str, float] = field(default_factory=dict)  # name of a special point to its x


@dataclass(frozen=True)
class Choice:
    """How the spread of the parameters came into a result; `bayespot.properties.propagation`."""

    how: str  # "exact", "linear" or "quadratic"
    why: str
    checked: int = 0  # draws on which an expansion was compared with relaxing
    errors: Mapping[str, float] = field(default_factory=dict)  # at worst, in units of the spread

    @property
    def sentence(self) -> str:
        """What a person wants to know of it."""
        how = {"exact": "every draw relaxed", "linear": "first order",
               "quadratic": "second order"}[self.how]  # fmt: skip
        return f"{how}: {self.why}"


@dataclass(frozen=True)
class Result:
    """What one property function found."""

    kind: str
    quantities: Mapping[str, Quantity]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    failed: Masks = field(default_factory=dict)  # reason to [n]: there is no value
    unstable: Masks = field(default_factory=dict)  # instability to [n]: there may be values
    choice: Choice | None = None  # None if nobody had to choose: one surface, or relaxed draws

    def __getitem__(self, name: str) -> Quantity:
        """The quantity of a name.

        Raises
        ------
        PropertyError
            If there is none.
        """
        if name not in self.quantities:
            known = ", ".join(self.quantities)
            raise PropertyError(f"{self.kind} has no quantity {name!r}; it has: {known}")
        return self.quantities[name]

    @property
    def problems(self) -> list[str]:
        """Failures and instabilities in sentences, with the share of surfaces."""
        return [
            f"{self.kind}: {reason} ({int(mask.sum())} of {len(mask)})"
            for masks in (self.failed, self.unstable)
            for reason, mask in masks.items()
        ]


class Account:
    """Counts failures and instabilities of a calculation, surface by surface."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.failed: dict[str, np.ndarray] = {}
        self.unstable: dict[str, np.ndarray] = {}

    def fail(self, reason: str, mask: np.ndarray) -> None:
        """Note surfaces on which there is no value."""
        _note(self.failed, reason, mask)

    def instability(self, what: str, mask: np.ndarray) -> None:
        """Note surfaces on which the structure is not stable."""
        _note(self.unstable, what, mask)

    def take(self, other: Result | Account) -> None:
        """Take over what went wrong in a step before."""
        for reason, mask in other.failed.items():
            self.fail(reason, mask)
        for what, mask in other.unstable.items():
            self.instability(what, mask)

    @property
    def good(self) -> np.ndarray:
        """Surfaces on which nothing failed so far, [n]."""
        bad = list(self.failed.values())
        return ~np.any(bad, axis=0) if bad else np.ones(self.n, dtype=bool)

    def result(
        self, kind: str, quantities: Mapping[str, tuple], curves: Mapping[str, Curve] | None = None
    ) -> Result:
        """Put together a result; values of failed surfaces become NaN.

        ``quantities`` maps names to (values, error, unit).
        """
        good = self.good
        return Result(
            kind,
            {name: Quantity(np.where(good, values, np.nan), error, unit)
             for name, (values, error, unit) in quantities.items()},
            dict(curves or {}), dict(self.failed), dict(self.unstable),
        )  # fmt: skip


def _note(masks: dict[str, np.ndarray], text: str, mask: np.ndarray) -> None:
    mask = np.asarray(mask, dtype=bool)
    if mask.any():
        masks[text] = masks.get(text, np.zeros(len(mask), dtype=bool)) | mask
