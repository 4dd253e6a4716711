"""A study in words and tables: Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bayespot.convergence.differences import MEASURES
from bayespot.convergence.results import Combination, ScanResult, Study
from bayespot.units import GPA

__all__ = ["SHOWN", "amount", "brief_lines", "study_lines", "value_text"]

SHOWN = {
    "energy": ("E", "meV/atom", 1e3),
    "energy_difference": ("ΔE", "meV/atom", 1e3),
    "forces": ("F", "meV/Å", 1e3),
    "stress": ("S", "GPa", GPA),
}
"""Letter, unit and factor of each measure, as tables and pictures show them."""

THEORY = {"scf": {"energy": 2, "energy_difference": 2, "forces": 1, "stress": 1}}
"""Orders in the error of the density; of other settings none is promised."""


def value_text(value: Any) -> str:
    """A value of a scan: a number, or a mesh as 4x4x4."""
    if isinstance(value, (list, tuple)):
        return "x".join(value_text(v) for v in value)
    plain = f"{value:.4g}"
    return re.sub(r"e([+-])0*", r"e\1", plain).replace("e+", "e")


def amount(measure: str, value: float | None) -> str:
    """An error in the unit of its column, a dash for what was not measured."""
    return "–" if value is None else f"{value * SHOWN[measure][2]:.3g}"


def study_lines(study: Study) -> list[str]:
    """Summary of a study.

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    lines = [f"# Convergence of {study.code}", "", *_verdict_lines(study), ""]
    lines += [f"* {note}" for note in study.notes] + ([""] if study.notes else [])
    for result in study.scans:
        lines += [*_scan_lines(result, study.target), ""]
    lines += [*_combination_lines(study), ""]
    lines += _floor_lines(study)
    if study.failures:
        lines += ["## Calculations without labels", ""]
        lines += [
            f"* {f.where}, structure {f.structure} ({f.formula}): {f.reason}"
            for f in study.failures
        ]
        lines += [""]
    families = ", ".join(f"{n} {name}" for name, n in study.families.items())
    return [
        *lines,
        f"{study.n_structures} structures ({families}); {', '.join(study.versions) or study.code}. "
        "Errors are root mean squares against the tightest value of each scan, everything else at "
        "its base value; ΔE is the error of the energy per atom that is left when the offset of "
        "each species is taken out. Times are CPU seconds a structure.",
    ]


def brief_lines(study: Study) -> list[str]:
    """What a terminal shows: verdict, notes, one line a scan, the floor; plain text."""
    lines = [line.replace("**", "") for line in _verdict_lines(study)]
    lines += [f"note: {note}" for note in study.notes]
    for result in study.scans:
        scan, chosen = result.scan, result.chosen
        first, last = value_text(scan.values[0]), value_text(scan.values[result.reference])
        taken = "none of them alone meets the target" if chosen is None else (
            f"{value_text(scan.values[chosen])} alone meets the target")
        lines += [f"{scan.name} {first} to {last} {scan.unit}".rstrip() + f": {taken}",
                  f"  {_order_line(result)}"]
    if study.floor is not None:
        row = study.floor["overall"]
        lines.append(
            f"noise floor: energy {row['s_energy'] * 1e3:.3g} meV/atom, force component "
            f"{row['s_forces']:.3g} eV/Å, stress component {row['s_stress'] * GPA:.3g} GPa"
        )
    if study.failures:
        lines.append(f"{len(study.failures)} calculations without labels, see convergence.md")
    return lines


def _verdict_lines(study: Study) -> list[str]:
    wanted = ", ".join(
        f"{SHOWN[m][0]} {amount(m, study.target[m])} {SHOWN[m][1]}"
        for m in MEASURES if m in study.target
    )  # fmt: skip
    found = study.recommended
    if found is None:
        return [f"**No setting of these scans meets the target** ({wanted})."]
    values = ", ".join(f"{name} {value_text(value)}" for name, value in found.values.items())
    return [f"**Recommended: {values}**, {found.cost:.3g} s a structure; target {wanted}."]


def _header(columns: list[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]


def _scan_lines(result: ScanResult, target: Mapping[str, float]) -> list[str]:
    scan = result.scan
    name = f"{scan.name}{f' ({scan.unit})' if scan.unit else ''}"
    lines = [f"## {name}", ""]
    lines += _header([scan.name, *(f"{SHOWN[m][0]}, {SHOWN[m][1]}" for m in MEASURES), "CPU s",
                      "failed", "meets the target"])
    for k, level in enumerate(result.levels):
        errors = ["0" if k == result.reference and level.errors.rms[m] is not None
                  else amount(m, level.errors.rms[m]) for m in MEASURES]
        word = "yes" if level.good else "no"
        if k == result.chosen:
            word = "**cheapest**"
        if k == result.reference:
            word += " (reference)"
        lines.append(
            f"| {value_text(level.value)} | {' | '.join(errors)} | {level.cost:.3g} "
            f"| {level.failed or ''} | {word} |"
        )
    spread = [f"{SHOWN[m][0]} {amount(m, result.uncertainty[m])} {SHOWN[m][1]}"
              for m in MEASURES if result.uncertainty[m] is not None]
    lines += ["", f"The reference may itself be off by: {', '.join(spread) or 'not known'}."]
    if not scan.refine:
        lines.append("Part of the model: the best reference keeps the base value.")
    return [*lines, "", _order_line(result)]


def _order_line(result: ScanResult) -> str:
    theory = THEORY.get(result.scan.name, {})
    parts = []
    for measure in MEASURES:
        order = result.orders[measure]
        if order is not None:
            promised = f", theory {theory[measure]}" if measure in theory else ""
            parts.append(
                f"{SHOWN[measure][0]} {order.slope:.2f} ± {order.standard_error:.2f} "
                f"({len(order.used)} values{promised})"
            )
    if not parts:
        return "Orders: too few values are resolved."
    step = "the density error" if theory else (
        f"1/{result.scan.name}" if result.scan.tighter == "larger" else result.scan.name)
    return f"Orders, as powers of {step}, ± standard error: {'; '.join(parts)}."


def _combination_lines(study: Study) -> list[str]:
    lines = ["## All settings at once", "", "Against the best reference, every setting of which is "
             "at its tightest.", ""]
    names = [result.scan.name for result in study.scans if result.scan.refine]
    lines += _header([*names, *(f"{SHOWN[m][0]}, {SHOWN[m][1]}" for m in MEASURES), "CPU s",
                      "meets the target"])
    rows = [*study.tried, *([study.production] if study.production not in study.tried else [])]
    lines += [_combination_row(c, names) for c in rows]
    spread = [f"{SHOWN[m][0]} {amount(m, study.uncertainty[m])} {SHOWN[m][1]}"
              for m in MEASURES if study.uncertainty[m] is not None]
    return [*lines, "", f"Uncertainty of the best reference: {', '.join(spread) or 'not known'}."]


def _combination_row(c: Combination, names: list[str]) -> str:
    values = [value_text(c.values[n]) if n in c.values else "base" for n in names]
    errors = [amount(m, c.errors.rms[m]) for m in MEASURES]
    return f"| {' | '.join([*values, *errors])} | {c.cost:.3g} | {'yes' if c.good else 'no'} |"


def _floor_lines(study: Study) -> list[str]:
    if study.floor is None:
        return []
    lines = ["## Noise floor of labels at this setting", "",
             *_header(["family", "n", "s_E, meV/atom", "s_F, eV/Å", "s_S, GPa"])]
    rows = {**study.floor["families"], "all": study.floor["overall"]}
    for family, row in rows.items():
        cells = [("s_energy", 1e3), ("s_forces", 1.0), ("s_stress", GPA)]
        text = ["–" if row[k] is None else f"{row[k] * f:.3g}" for k, f in cells]
        lines.append(f"| {family} | {row['n']} | {' | '.join(text)} |")
    return [*lines, ""]
