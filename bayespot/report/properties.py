"""Table, picture and files of a run of properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bayespot import plots
from bayespot.properties import PropertyDraws, Summary
from bayespot.records import write_json, write_text

__all__ = ["property_lines", "write_property_report"]

LEVELS = (0.5, 0.9)


def write_property_report(
    draws: PropertyDraws, folder: str | Path, *, title: str, shown: Sequence[str] | None = None
) -> list[Path]:
    """Write ``properties.nc``, ``properties.json``, ``properties.md`` and ``properties.png``.

    Parameters
    ----------
    draws : PropertyDraws
    folder : path
        Made if it does not exist.
    title : str
        Material and potential.
    shown : sequence of str, optional
        Properties in table and picture, from top to bottom; all are in the files.

    Returns
    -------
    list of Path
        The files.
    """
    folder = Path(folder)
    files = [folder / f"properties.{kind}" for kind in ("nc", "json", "md", "png")]
    draws.save(files[0])
    rows = draws.summary(LEVELS)
    covariance, n = draws.covariance(_with_values(rows))
    write_json(files[1], {
        "title": title, "draws": draws.n_draws, "record": draws.record, "problems": draws.problems,
        "propagation": {name: asdict(choice) for name, choice in draws.choices.items()},
        "properties": [_record(row) for row in rows],
        "covariance": {"properties": _with_values(rows), "matrix": covariance, "draws": n},
    })  # fmt: skip
    by_name = {row.name: row for row in rows}
    picked = rows if shown is None else [by_name[name] for name in shown]
    write_text(files[2], "\n".join([f"# {title}", "", *property_lines(picked), "",
                                    *(f"* {text}" for text in draws.problems),
                                    *(f"* {text}" for text in _ways(draws)), "",
                                    f"![properties]({files[3].name})", ""]))  # fmt: skip
    plots.save(plots.property_bars([_bar(row) for row in picked], title=title), files[3])
    return files


def _ways(draws: PropertyDraws) -> list[str]:
    """How the draws were propagated, one line for all results that have the same to say."""
    names: dict[str, list[str]] = {}
    for name, choice in draws.choices.items():
        names.setdefault(choice.sentence, []).append(name)
    return [f"{', '.join(of)}: {sentence}" for sentence, of in names.items()]


def _with_values(rows: list[Summary]) -> list[str]:
    """Properties that every draw has, or, if there are none, those of most draws."""
    most = max(row.n for row in rows)
    return [row.name for row in rows if row.n == most]


def _record(row: Summary) -> dict:
    return {
        "name": row.name, "unit": row.unit, "n": row.n, "mean": row.mean, "median": row.median,
        "parameter_std": row.parameter_std, "numerical_error": row.numerical_error,
        "intervals": {f"{level:g}": list(ends) for level, ends in row.intervals.items()},
        "probability_failed": row.failed, "probability_unstable": row.unstable,
        "references": dict(row.references),
    }  # fmt: skip


def property_lines(rows: list[Summary]) -> list[str]:
    """The table in Markdown."""
    lines = [
        "| property | unit | median | 50 % | 90 % | parameter sd | numerical | failed | unstable "
        "| references |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        half, wide = (_interval(row.intervals[level]) for level in LEVELS)
        references = ", ".join(f"{label} {value:.4g}" for label, value in row.references.items())
        lines.append(
            f"| {row.name} | {row.unit} | {row.median:.5g} | {half} | {wide} "
            f"| {row.parameter_std:.2g} | {row.numerical_error:.1g} | {row.failed:.0%} "
            f"| {'-' if np.isnan(row.unstable) else f'{row.unstable:.0%}'} | {references or '-'} |"
        )
    return lines


def _interval(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.5g} to {ends[1]:.5g}" if np.isfinite(ends[0]) else "-"


def _bar(row: Summary) -> plots.PropertyBar:
    notes = [f"{share:.0%} {word}" for share, word in
             ((row.failed, "failed"), (row.unstable, "unstable")) if share > 0]  # fmt: skip
    inner, outer = (row.intervals[level] for level in LEVELS)
    return plots.PropertyBar(
        row.name, row.unit, row.median, inner, outer, row.references, ", ".join(notes)
    )
