"""Two methods on the same cases: by what factor one has the better score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayespot.calibration.cases import HeldOut
from bayespot.errors import LabelError
from bayespot.scoring import crps_gaussian, mean_over_groups


@dataclass(frozen=True)
class Ratio:
    """A ratio of scores with its 95 % interval; below 1 the first method is the better one.

    One family says nothing of others: its interval goes from 0 to infinity.
    """

    quantity: str
    methods: tuple[str, str]
    value: float
    low: float
    high: float
    by_family: Mapping[str, float]

    @property
    def n_families(self) -> int:
        """Number of families that the interval rests on."""
        return len(self.by_family)

    def as_record(self) -> dict[str, Any]:
        """Plain JSON types; ``high`` is None where it is infinite."""
        return {
            "quantity": self.quantity,
            "methods": list(self.methods),
            "value": self.value,
            "low": self.low,
            "high": self.high if np.isfinite(self.high) else None,
            "n_families": self.n_families,
            "by_family": dict(self.by_family),
        }

    def text(self) -> str:
        """Write it as "0.89 [0.84, 0.94], 36 families"."""
        word = "family" if self.n_families == 1 else "families"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}], {self.n_families} {word}"


def crps_ratio(a: HeldOut, b: HeldOut, *, level: float = 0.95, seed: int = 0) -> Ratio:
    """CRPS of one method over that of another on the same cases, geometric mean over families.

    The family is the unit of the bootstrap and both methods see the same resampled families.
    Components that symmetry fixes at zero for either method are left out.

    Parameters
    ----------
    a, b : HeldOut
        Predictions of the same cases in the same order.
    level : float
        Confidence of the interval.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Ratio
        CRPS(a) / CRPS(b).

    Raises
    ------
    LabelError
        If the cases differ, or a method makes no error at all in a family.
    """
    for name in ("quantity", "truth", "family", "structure"):
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            raise LabelError(
                f"{a.method!r} and {b.method!r} differ in {name}: a ratio needs predictions of the "
                "same cases in the same order"
            )
    keep = ~(a.fixed | b.fixed)
    if not keep.any():
        raise LabelError(f"{a.quantity}: symmetry fixes every component, nothing can be compared")
    a, b = a.where(keep), b.where(keep)
    ratios = {}
    for family in a.families:
        rows = a.family == family
        one, other = (crps_gaussian(m.mean[rows], m.std[rows], m.truth[rows]) for m in (a, b))
        if one == 0 or other == 0:
            raise LabelError(f"{a.quantity}, family {family!r}: a CRPS is 0, there is no ratio")
        ratios[family] = one / other
    value, low, high = np.exp(
        mean_over_groups(np.log(list(ratios.values())), level=level, seed=seed)
    ).tolist()
    return Ratio(a.quantity, (a.method, b.method), value, low, high, ratios)
