"""One row of the calibration table, and what is counted over its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from bayespot.scoring import Coverage

ALL = "all"
WITHIN = "within the guard"
UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å^3"}


@dataclass(frozen=True)
class Row:
    """Scores of one quantity on one family, or the mean over families.

    Every score but `coverage_with_fixed` leaves out the components that symmetry fixes at zero. A
    score is None where it does not exist: no case is left, the spreads are all equal (ranks), or a
    spread is 0 (z, ENCE, log score).

    Attributes
    ----------
    quantity, family : str
        ``"all"`` and ``"within the guard"`` where `pooled`.
    pooled : bool
        Whether this is a mean over families.
    n, n_fixed : int
        Numbers of cases that are scored and of those that symmetry fixes.
    n_structures, n_families : int
        Of the cases that are scored.
    outside : float or None
        Share of the structures that lie beyond the extrapolation guard.
    coverage, coverage_with_fixed : mapping of level to Coverage
        Interval of 95 % with the structure as the unit, and with the family where `pooled`.
    rmse, mae, crps, sharpness, epistemic : float or None
        eV/atom, eV/Å or eV/Å^3; `epistemic` is the rms of the spread without noise.
    log_score : float or None
        nats, of a density per unit of the quantity.
    rms_z, miscalibration, ence : float or None
    rank, rank_expected : float or None
        Rank correlation of error and spread, and what spreads that are exactly right would show.
    """

    quantity: str
    family: str
    pooled: bool
    n: int
    n_fixed: int
    n_structures: int
    n_families: int
    coverage: Mapping[float, Coverage]
    coverage_with_fixed: Mapping[float, Coverage]
    outside: float | None = None
    rmse: float | None = None
    mae: float | None = None
    crps: float | None = None
    log_score: float | None = None
    sharpness: float | None = None
    epistemic: float | None = None
    rms_z: float | None = None
    miscalibration: float | None = None
    ence: float | None = None
    rank: float | None = None
    rank_expected: float | None = None

    @property
    def flagged(self) -> bool:
        """Whether more than half of the structures lie beyond the guard."""
        return self.outside is not None and self.outside > 0.5

    def as_record(self) -> dict[str, Any]:
        """Plain JSON types; numbers in the unit that the record names."""
        record: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("coverage", "coverage_with_fixed"):
            record[name] = [
                {"level": level, **value._asdict()} for level, value in record[name].items()
            ]
        return {**record, "unit": UNITS[self.quantity]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Row:
        """Read what `as_record` wrote; keys of other things are passed over."""
        known = {f.name: record[f.name] for f in fields(cls)}
        for name in ("coverage", "coverage_with_fixed"):
            known[name] = {
                c["level"]: Coverage(c["value"], c["low"], c["high"]) for c in known[name]
            }
        return cls(**known)


class GuardCount(NamedTuple):
    """How the extrapolation guard and the coverage of families go together."""

    n_families: int
    n_flagged: int
    n_poor: int
    n_poor_flagged: int
