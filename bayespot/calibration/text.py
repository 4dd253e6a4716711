"""The calibration table as people read it: Markdown with aligned columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bayespot.calibration.rows import ALL, GuardCount, Row
from bayespot.units import DISPLAY

NOTE = (
    "In brackets: 95 % interval by bootstrap, over structures in a family and over families in "
    "their mean. Intervals know nothing of kinds of structures that are not here."
)


def table_text(rows: Sequence[Row], of: str, guards: Mapping[str, GuardCount], level: float) -> str:
    """Two tables a quantity, coverage and scores, with the counts in both.

    Parameters
    ----------
    rows : sequence of Row
    of : str
        Method and data set, for the headings.
    guards : mapping of quantity to GuardCount
        What the guard found at `level`.
    level : float
        The nominal level that matters most.

    Returns
    -------
    str
        Markdown that ends with a newline.
    """
    lines: list[str] = []
    for quantity, guard in guards.items():
        shown = DISPLAY[quantity]
        here = [row for row in rows if row.quantity == quantity]
        lines += [f"## {quantity}, {shown.unit}{': ' if of else ''}{of}", ""]
        lines += [*_coverage_lines(here, level), "", *_score_lines(here, shown.factor), ""]
        if guard.n_poor or guard.n_flagged:
            lines += [_guard_line(guard, level), ""]
    return "\n".join([*lines, NOTE]) + "\n"


def _coverage_lines(rows: Sequence[Row], level: float) -> list[str]:
    columns: dict[str, Callable[[Row], str]] = {
        f"in {100 * p:.3g} % bars": lambda row, p=p: row.coverage[p].percent() if row.n else "–"
        for p in rows[0].coverage_with_fixed
    }
    if any(row.n_fixed for row in rows):
        columns[f"in {100 * level:.3g} %, zeros by symmetry counted"] = lambda row: (
            f"{row.coverage_with_fixed[level].percent()} of {row.n + row.n_fixed}"
        )
    columns["outside"] = lambda row: _percent(row.outside)
    return _aligned(rows, columns)


def _score_lines(rows: Sequence[Row], factor: float) -> list[str]:
    columns: dict[str, Callable[[Row], str]] = {
        "RMSE": lambda row: _number(row.rmse, factor),
        "MAE": lambda row: _number(row.mae, factor),
        "spread": lambda row: _number(row.sharpness, factor),
        "without noise": lambda row: _number(row.epistemic, factor),
        "rms z": lambda row: _number(row.rms_z),
        "CRPS": lambda row: _number(row.crps, factor),
        # density per shown unit
        "log score": lambda row: _number(
            None if row.log_score is None else row.log_score + np.log(factor)
        ),
        "area": lambda row: _number(row.miscalibration),
        "ENCE": lambda row: _number(row.ence),
        "rank": lambda row: _number(row.rank),
        "expected": lambda row: _number(row.rank_expected),
    }
    return _aligned(rows, columns)


def _guard_line(count: GuardCount, level: float) -> str:
    return (
        f"Families outside the calibrated range: {count.n_flagged} of {count.n_families}. Families "
        f"covered below 70 % at {100 * level:.3g} %: {count.n_poor}, outside among them: "
        f"{count.n_poor_flagged}."
    )


def _aligned(rows: Sequence[Row], columns: dict[str, Callable[[Row], str]]) -> list[str]:
    head = ["family", "cases", "structures", *columns]
    body = [
        [_name(row), str(row.n), str(row.n_structures), *(show(row) for show in columns.values())]
        for row in rows
    ]
    width = [max(len(line[k]) for line in [head, *body]) for k in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(width[0])]
        padded += [cell.rjust(w) for cell, w in zip(cells[1:], width[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = f"|{'-' * (width[0] + 2)}|{'|'.join('-' * (w + 1) + ':' for w in width[1:])}|"
    return [line(head), rule, *map(line, body)]


def _name(row: Row) -> str:
    if not row.pooled:
        return row.family
    families = "family" if row.n_families == 1 else "families"
    within = "" if row.family == ALL else f", {row.family}"
    return f"mean of {row.n_families} {families}{within}"


def _number(value: float | None, factor: float = 1.0) -> str:
    return "–" if value is None else f"{value * factor:.3g}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
