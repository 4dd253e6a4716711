"""What a convergence study found: plain values for text, pictures and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bayespot.convergence.differences import MEASURES, Errors
from bayespot.convergence.orders import Order
from bayespot.convergence.scans import Scan

__all__ = ["TOO_UNCERTAIN", "Combination", "Failure", "Level", "ScanResult", "Study"]

TOO_UNCERTAIN = 1.0 / 3.0
"""A reference whose uncertainty is beyond this part of the target is called not converged."""


@dataclass(frozen=True)
class Failure:
    """A calculation that gave no labels."""

    where: str
    structure: int
    formula: str
    reason: str


@dataclass(frozen=True)
class Level:
    """One value of a scan.

    Attributes
    ----------
    value : number or list
    errors : Errors
        Against the reference level of the scan.
    cost : float
        CPU seconds a structure, over the structures that all levels have.
    failed : int
        Structures without labels here.
    good : bool
        Whether the target is met.
    """

    value: Any
    errors: Errors
    cost: float
    failed: int
    good: bool


@dataclass(frozen=True)
class ScanResult:
    """One setting, everything else at its base value.

    Attributes
    ----------
    scan : Scan
    levels : tuple of Level
        Loosest first; as long as the scan's values.
    reference : int
        Level that the errors are against: the tightest whose calculations did not mostly fail.
    uncertainty : mapping of measure to float or None
        How far the reference itself may be from converged.
    orders : mapping of measure to Order or None
    chosen : int or None
        The cheapest level that meets the target, with all tighter ones.
    """

    scan: Scan
    levels: tuple[Level, ...]
    reference: int
    uncertainty: Mapping[str, float | None]
    orders: Mapping[str, Order | None]
    chosen: int | None

    def unconverged(self, target: Mapping[str, float]) -> list[str]:
        """Measures for which the reference itself is too uncertain for their targets."""
        return [
            m for m in MEASURES
            if m in target and (self.uncertainty.get(m) or 0.0) > TOO_UNCERTAIN * target[m]
        ]  # fmt: skip


@dataclass(frozen=True)
class Combination:
    """All settings at once, against the best reference.

    Attributes
    ----------
    values : mapping of scan to value
    settings : mapping
        Keywords of the calculator.
    errors : Errors
    cost : float
        CPU seconds a structure.
    failed : int
    good : bool
    """

    values: Mapping[str, Any]
    settings: Mapping[str, Any]
    errors: Errors
    cost: float
    failed: int
    good: bool


@dataclass(frozen=True)
class Study:
    """A convergence study.

    Attributes
    ----------
    code, versions : str, tuple of str
    base, reference : mapping
        Keywords of the base setting, and of the best reference: every refined scan at its
        reference level.
    target : mapping of measure to float
        eV/atom, eV/Å, eV/Å³.
    n_structures : int
    families : mapping of str to int
    scans : tuple of ScanResult
    uncertainty : mapping of measure to float or None
        Of the best reference: those of the refined scans in quadrature.
    tried : tuple of Combination
        Combinations in the order they were tried; the last is the one that is recommended, if it
        is good.
    production : Combination
        The setting whose floor was measured.
    floor : mapping or None
        The record of ``floor.json``.
    failures : tuple of Failure
    notes : tuple of str
        What a reader must know.
    """

    code: str
    versions: tuple[str, ...]
    base: Mapping[str, Any]
    reference: Mapping[str, Any]
    target: Mapping[str, float]
    n_structures: int
    families: Mapping[str, int]
    scans: tuple[ScanResult, ...]
    uncertainty: Mapping[str, float | None]
    tried: tuple[Combination, ...]
    production: Combination
    floor: Mapping[str, Any] | None
    failures: tuple[Failure, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def recommended(self) -> Combination | None:
        """The setting that meets the target, None if none was found."""
        return self.tried[-1] if self.tried and self.tried[-1].good else None

    def as_record(self) -> dict[str, Any]:
        """Return everything as plain values, in the units of the attributes."""
        return {
            "code": self.code,
            "versions": list(self.versions),
            "base": dict(self.base),
            "reference": dict(self.reference),
            "target": dict(self.target),
            "n_structures": self.n_structures,
            "families": dict(self.families),
            "scans": [_scan_record(result) for result in self.scans],
            "uncertainty": dict(self.uncertainty),
            "tried": [_combination_record(c) for c in self.tried],
            "production": _combination_record(self.production),
            "recommended": None if self.recommended is None else dict(self.recommended.settings),
            "failures": [vars(f) for f in self.failures],
            "notes": list(self.notes),
        }


def _errors_record(errors: Errors) -> dict[str, Any]:
    return {"rms": dict(errors.rms), "largest": dict(errors.largest), "n": errors.n}


def _combination_record(c: Combination) -> dict[str, Any]:
    return {
        "values": dict(c.values), "settings": dict(c.settings), **_errors_record(c.errors),
        "cpu_s": c.cost, "failed": c.failed, "good": c.good,
    }  # fmt: skip


def _scan_record(result: ScanResult) -> dict[str, Any]:
    scan = result.scan
    return {
        "name": scan.name, "keys": dict(scan.keys), "unit": scan.unit, "tighter": scan.tighter,
        "power": scan.power, "refine": scan.refine, "reference": scan.values[result.reference],
        "levels": [
            {"value": level.value, "step": float(step), **_errors_record(level.errors),
             "cpu_s": level.cost, "failed": level.failed, "good": level.good}
            for level, step in zip(result.levels, scan.steps, strict=True)
        ],
        "uncertainty": dict(result.uncertainty),
        "orders": {
            measure: None if order is None else {**vars(order), "used": list(order.used)}
            for measure, order in result.orders.items()
        },
        "chosen": None if result.chosen is None else scan.values[result.chosen],
    }  # fmt: skip
