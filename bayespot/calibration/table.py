"""The calibration table: scores by quantity and family, and the mean over families."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayespot import scoring
from bayespot.calibration.cases import HeldOut
from bayespot.calibration.rows import ALL, WITHIN, GuardCount, Row
from bayespot.calibration.text import table_text
from bayespot.errors import LabelError
from bayespot.scoring import Coverage

LEVELS = (0.5, 0.9, 0.95)

_MEANS = ("mae", "crps", "log_score", "outside")
_ROOTS = ("rmse", "sharpness", "epistemic", "rms_z")


@dataclass(frozen=True)
class CalibrationTable:
    """Rows by quantity and family, from `calibration_table`."""

    method: str
    data: str
    rows: tuple[Row, ...]

    @property
    def quantities(self) -> list[str]:
        """Quantities in the order of the rows."""
        return list(dict.fromkeys(row.quantity for row in self.rows))

    @property
    def levels(self) -> list[float]:
        """Nominal levels of the coverages."""
        return list(self.rows[0].coverage_with_fixed)

    def pooled(self, quantity: str, family: str = ALL) -> Row:
        """Mean over families of a quantity.

        Raises
        ------
        LabelError
            If there is no such row.
        """
        return self._one(quantity, family, pooled=True)

    def row(self, quantity: str, family: str) -> Row:
        """Scores of one family.

        Raises
        ------
        LabelError
            If there is no such row.
        """
        return self._one(quantity, family, pooled=False)

    def by_family(self, quantity: str | None = None) -> list[Row]:
        """Rows of single families that have a case to score."""
        return [
            row
            for row in self.rows
            if not row.pooled and row.n and quantity in (None, row.quantity)
        ]

    def guard(self, quantity: str, *, level: float = 0.9, poor: float = 0.7) -> GuardCount:
        """Count the families that are covered below `poor`, and those that the guard flagged.

        Raises
        ------
        LabelError
            If the table has no such level.
        """
        if level not in self.levels:
            raise LabelError(f"the table has no level {level}; it has {self.levels}")
        rows = self.by_family(quantity)
        bad = [row for row in rows if row.coverage[level].value < poor]
        return GuardCount(
            len(rows), sum(r.flagged for r in rows), len(bad), sum(r.flagged for r in bad)
        )

    def as_records(self) -> list[dict[str, Any]]:
        """Rows as plain JSON types, with the names of method and data set."""
        return [{"method": self.method, "data": self.data, **r.as_record()} for r in self.rows]

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]]) -> CalibrationTable:
        """Read what `as_records` wrote.

        Raises
        ------
        LabelError
            If there are none, or they are of several methods or data sets.
        """
        names = {(record["method"], record["data"]) for record in records}
        if len(names) != 1:
            raise LabelError(
                f"records of {sorted(names)}: a table is of one method on one data set"
            )
        return cls(*names.pop(), tuple(Row.from_record(record) for record in records))

    def text(self) -> str:
        """Tables in Markdown for people; every coverage has its interval and its counts."""
        of = " on ".join(name for name in (self.method, self.data) if name)
        level = min(self.levels, key=lambda p: abs(p - 0.9))
        guards = {quantity: self.guard(quantity, level=level) for quantity in self.quantities}
        return table_text(self.rows, of, guards, level)

    def _one(self, quantity: str, family: str, *, pooled: bool) -> Row:
        for row in self.rows:
            if (row.quantity, row.family, row.pooled) == (quantity, family, pooled):
                return row
        there = [f"{r.quantity}: {r.family}" for r in self.rows if r.pooled == pooled]
        raise LabelError(f"no row for {quantity}: {family}; there are {', '.join(there)}")


def calibration_table(
    cases: HeldOut | Iterable[HeldOut], levels: Sequence[float] = LEVELS, *, seed: int = 0
) -> CalibrationTable:
    """Score predictions by quantity and family, and in the mean over families.

    In a family the structure is the unit of the intervals. Pooled rows count families equally and
    take them as the unit: coverage, MAE, CRPS and log score are means over families; RMSE,
    sharpness and rms z are roots of the mean square over families; miscalibration and ENCE weigh
    the cases such that families count equally; rank correlations are of all cases together, so
    they also see whether families are told apart. A pooled row ``"within the guard"`` is added
    where the guard flags some structures and not all.

    Parameters
    ----------
    cases : HeldOut or iterable of them
        One for each quantity, of one method on one data set.
    levels : sequence of float
        Nominal levels.
    seed : int
        Seed of the bootstrap and of the expected rank correlation.

    Returns
    -------
    CalibrationTable

    Raises
    ------
    LabelError
        If a quantity comes twice, or methods or data sets differ.
    """
    parts = [cases] if isinstance(cases, HeldOut) else list(cases)
    names = {(part.method, part.data) for part in parts}
    quantities = [part.quantity for part in parts]
    if len(names) != 1 or len(set(quantities)) < len(quantities):
        raise LabelError(
            f"a table is of one method on one data set, each quantity once; these are "
            f"{quantities} of {sorted(names)}"
        )
    rows: list[Row] = []
    for part in parts:
        rows += _rows(part, ALL, levels, seed)
        inside = part.where(~part.outside) if not part.outside.all() else None
        if inside is not None and len(inside) < len(part):
            rows.append(_rows(inside, WITHIN, levels, seed)[0])
    return CalibrationTable(*names.pop(), tuple(rows))


def _rows(cases: HeldOut, name: str, levels: Sequence[float], seed: int) -> list[Row]:
    """The mean over families, and every family."""
    single = [
        _family_row(cases.where(cases.family == family), family, levels, seed)
        for family in cases.families
    ]
    return [_pooled_row(cases, name, single, levels, seed), *single]


def _family_row(cases: HeldOut, family: str, levels: Sequence[float], seed: int) -> Row:
    scored = ~cases.fixed
    counts = {
        "n": int(scored.sum()),
        "n_fixed": int(cases.fixed.sum()),
        "n_structures": np.unique(cases.structure[scored]).size,
        "n_families": int(scored.any()),
    }
    whole = _coverage(cases, levels, seed)
    if not scored.any():
        return Row(cases.quantity, family, False, **counts, coverage={}, coverage_with_fixed=whole)
    kept = cases.where(scored)
    m, s, t = kept.mean, kept.std, kept.truth
    return Row(
        cases.quantity,
        family,
        pooled=False,
        **counts,
        coverage=_coverage(kept, levels, seed),
        coverage_with_fixed=whole,
        outside=float(
            np.mean([kept.outside[kept.structure == i].any() for i in np.unique(kept.structure)])
        ),
        rmse=scoring.rmse(m, t),
        mae=scoring.mae(m, t),
        crps=scoring.crps_gaussian(m, s, t),
        sharpness=scoring.sharpness(s),
        epistemic=scoring.sharpness(kept.epistemic_std),
        miscalibration=scoring.miscalibration_area(m, s, t),
        **_ranks(kept, seed),
        **(
            {}
            if np.any(s == 0)
            else {
                "log_score": scoring.log_score(m, s, t),
                "rms_z": scoring.rms_z(m, s, t),
                "ence": scoring.ence(m, s, t),
            }
        ),
    )


def _pooled_row(
    cases: HeldOut, name: str, single: Sequence[Row], levels: Sequence[float], seed: int
) -> Row:
    with_cases = [row for row in single if row.n]
    total = {
        field: sum(getattr(row, field) for row in single)
        for field in ("n", "n_fixed", "n_structures", "n_families")
    }
    whole = _mean_coverage([row.coverage_with_fixed for row in single], levels, seed)
    if not with_cases:
        return Row(cases.quantity, name, True, **total, coverage={}, coverage_with_fixed=whole)
    kept = cases.where(~cases.fixed)
    weight = np.array([1 / row.n for row in with_cases])
    weight = weight[np.searchsorted([row.family for row in with_cases], kept.family)]
    m, s, t = kept.mean, kept.std, kept.truth
    return Row(
        cases.quantity,
        name,
        pooled=True,
        **total,
        coverage=_mean_coverage([row.coverage for row in with_cases], levels, seed),
        coverage_with_fixed=whole,
        **{field: _mean(with_cases, field) for field in _MEANS},
        **{field: _mean(with_cases, field, power=2) for field in _ROOTS},
        miscalibration=scoring.miscalibration_area(m, s, t, weight),
        ence=None if np.any(s == 0) else scoring.ence(m, s, t, weights=weight),
        **_ranks(kept, seed),
    )


def _coverage(cases: HeldOut, levels: Sequence[float], seed: int) -> dict[float, Coverage]:
    return {
        float(level): scoring.cluster_bootstrap_coverage(
            scoring.covered(cases.mean, cases.std, cases.truth, level), cases.structure, seed=seed
        )
        for level in levels
    }


def _mean_coverage(
    found: Sequence[Mapping[float, Coverage]], levels: Sequence[float], seed: int
) -> dict[float, Coverage]:
    return {
        float(level): scoring.coverage_over_groups([c[level].value for c in found], seed=seed)
        for level in levels
    }


def _mean(rows: Sequence[Row], field: str, power: int = 1) -> float | None:
    """Power mean over families; None where a family has no value."""
    values = [getattr(row, field) for row in rows]
    if None in values:
        return None
    return float(np.mean(np.power(values, power)) ** (1 / power))


def _ranks(cases: HeldOut, seed: int) -> dict[str, float | None]:
    pair = {
        "rank": scoring.rank_correlation(cases.mean, cases.std, cases.truth),
        "rank_expected": scoring.expected_rank_correlation(cases.std, seed=seed),
    }
    return {name: value if np.isfinite(value) else None for name, value in pair.items()}
