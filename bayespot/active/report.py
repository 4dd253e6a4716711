"""What a campaign has shown so far: learning curve, coverage, failures, for files and people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bayespot.active.ledger import Ledger
from bayespot.active.lock import FolderLock
from bayespot.active.prequential import LEVELS, add_counts, coverage_table
from bayespot.errors import LedgerError
from bayespot.records import read_json, write_json, write_text
from bayespot.units import GPA, QUANTITIES

__all__ = [
    "collect_curve",
    "collect_notes",
    "compare_campaigns",
    "cumulative_coverage",
    "labels_needed",
    "status",
    "write_reports",
]

OUTSIDE = "outside the calibrated range"
"""How a prediction's warning begins where its bar was not tested."""

_FILES = (  # in the order in which a round writes them, with what is going on until then
    ("posterior.nc", "fitting"),
    ("evaluation.json", "testing"),
    ("chosen.json", "choosing"),
    ("predicted.json", "predicting the chosen structures"),
    ("coverage.json", "labelling"),
)


def _rooms(folder: Path) -> list[Path]:
    return sorted(room for room in folder.glob("round_*") if room.is_dir())


def collect_curve(folder: str | Path) -> list[dict[str, Any]]:
    """Rows of the learning curve, one per fitted round.

    Returns
    -------
    list of dict
        ``round``, ``n_labels``, ``n_failed``, ``converged``, ``problems``, ``fit_seconds``,
        ``wall_seconds`` (since the first fit was tested), ``test`` (errors in eV/atom, eV/Å,
        eV/Å³; None without a test set) and ``coverage`` (of all predictions made before
        labelling up to this round).
    """
    rows: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    begin: float | None = None
    for room in _rooms(Path(folder)):
        path = room / "evaluation.json"
        if not path.exists():
            break
        row = read_json(path)
        begin = row["time"] if begin is None else begin
        row["wall_seconds"] = row["time"] - begin
        row["coverage"] = coverage_table(add_counts(counts))
        rows.append(row)
        if (room / "coverage.json").exists():
            counts.append(read_json(room / "coverage.json")["counts"])
    return rows


def cumulative_coverage(folder: str | Path) -> dict[str, Any]:
    """Coverage of every prediction that was made before its label, all rounds together."""
    files = [room / "coverage.json" for room in _rooms(Path(folder))]
    counts = [read_json(path)["counts"] for path in files if path.exists()]
    return coverage_table(add_counts(counts))


def collect_notes(folder: str | Path) -> list[str]:
    """Collect what a person should know, in the order in which it was noted."""
    folder = Path(folder)
    notes = list(read_json(folder / "plan.json")["notes"]) if _has(folder, "plan.json") else []
    for room in _rooms(folder):
        if _has(room, "chosen.json"):
            notes += read_json(room / "chosen.json")["notes"]
        if _has(room, "predicted.json"):
            notes += _far_notes(room)
        if _has(room, "evaluation.json"):
            row = read_json(room / "evaluation.json")
            if not row["converged"]:
                what = "; ".join(row["problems"]) or "no reason given"
                notes.append(f"round {row['round']}: the posterior has NOT converged ({what})")
    fits = read_json(folder / "campaign.json")["fits"] if _has(folder, "campaign.json") else []
    if len(fits) > 1:
        notes.append(f"the fit settings were changed {len(fits) - 1} time(s) on the way")
    return notes


def _far_notes(room: Path) -> list[str]:
    """What of the chosen structures lies outside of the calibrated range, and what it lacks."""
    rows = read_json(room / "predicted.json")["rows"]
    far = [[w for w in row.get("warnings", []) if w.startswith(OUTSIDE)] for row in rows]
    far = [warnings[0] for warnings in far if warnings]
    if not far:
        return []
    number = int(room.name.removeprefix("round_"))
    example = far[0].removeprefix(f"{OUTSIDE}: ")
    return [f"round {number}: {len(far)} of {len(rows)} chosen structures lay {OUTSIDE}, for "
            f"example: {example}"]


def _has(folder: Path, name: str) -> bool:
    return (folder / name).exists()


def write_reports(ledger: Ledger, rounds: int) -> None:
    """Write ``learning_curve.json`` and ``summary.md`` from what is in the folder."""
    folder = ledger.folder
    curve = collect_curve(folder)
    units = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}
    write_json(
        folder / "learning_curve.json",
        {"units": units, "rows": curve, "coverage": cumulative_coverage(folder)},
    )
    write_text(folder / "summary.md", _summary(ledger, curve, rounds))


def _summary(ledger: Ledger, curve: list[dict[str, Any]], rounds: int) -> str:
    folder = ledger.folder
    counts = ledger.counts()
    ready = len(curve) - 1
    lines = [
        f"# Campaign {folder.name}",
        "",
        f"{counts['done']} labels, {counts['failed']} failed calculations, "
        f"round {max(ready, 0)} of {rounds}.",
        "",
        "## Learning curve (test set, never used for fitting or choosing)",
        "",
        *_curve_lines(curve),
        "",
        "## Coverage of predictions made before the label was known",
        "",
        *_coverage_lines(cumulative_coverage(folder)),
        "",
        *_verdict(cumulative_coverage(folder), curve),
    ]
    if notes := collect_notes(folder):
        lines += ["", "## Notes", "", *(f"* {note}" for note in notes)]
    if failed := ledger.failures():
        lines += ["", "## Failed calculations, set aside and never used in a fit", ""]
        kinds = Counter(str(entry.data.get("kind", "failed")) for entry in failed)
        lines += ["By kind: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()), ""]
        lines += [
            f"* {entry.structure.get_chemical_formula()} (pool {entry.data['index']}, "
            f"{entry.data['family']}, {entry.attempts} attempt(s)): {entry.data.get('reason')}"
            for entry in failed
        ]
    return "\n".join(lines) + "\n"


def _number(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{value * factor:.{digits}f}"


def _curve_lines(curve: list[dict[str, Any]]) -> list[str]:
    if not curve:
        return ["No fit yet."]
    lines = [
        "| round | labels | energy RMSE meV/atom | forces RMSE eV/Å | stress RMSE GPa "
        "| forces std (parameters) eV/Å | fit s | converged |",
        "|---|---|---|---|---|---|---|---|",
    ]
    empty = {"rmse": dict.fromkeys(QUANTITIES), "parameter_std": dict.fromkeys(QUANTITIES)}
    for row in curve:
        test = row["test"] or empty
        cells = [
            str(row["round"]),
            str(row["n_labels"]),
            _number(test["rmse"]["energy"], 1e3, 1),
            _number(test["rmse"]["forces"], 1.0, 4),
            _number(test["rmse"]["stress"], GPA, 3),
            _number(test["parameter_std"]["forces"], 1.0, 4),
            _number(row["fit_seconds"], 1.0, 1),
            "yes" if row["converged"] else "**no**",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _coverage_lines(table: Mapping[str, Any]) -> list[str]:
    if not any(table[quantity]["n"] for quantity in QUANTITIES):
        return ["No prediction has been compared with a label yet."]
    heads = [f"{100 * level:.0f} %" for level in LEVELS]
    lines = [
        "| | numbers | structures | " + " | ".join(heads) + " | 90 %, draws alone |",
        "|---|---|---|" + "---|" * (len(LEVELS) + 1),
    ]
    for quantity in QUANTITIES:
        row = table[quantity]
        cells = [quantity, str(row["n"]), str(row["n_structures"])]
        cells += [_fraction(row["total"][str(level)]) for level in LEVELS]
        cells.append(_fraction(row["parameter"]["0.9"]))
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", "In brackets: 95 % Wilson interval with the structure as the unit."]


def _fraction(cell: Mapping[str, float | None]) -> str:
    if cell["fraction"] is None or cell["low"] is None or cell["high"] is None:
        return "-"
    low, high = 100 * cell["low"], 100 * cell["high"]
    return f"{100 * cell['fraction']:.0f} % [{low:.0f}, {high:.0f}]"


def _verdict(table: Mapping[str, Any], curve: list[dict[str, Any]]) -> list[str]:
    """Say in plain words what the coverage means."""
    lines = []
    for quantity in QUANTITIES:
        cell = table[quantity]["total"]["0.9"]
        if cell["fraction"] is None:
            continue
        seen = f"{100 * cell['fraction']:.0f} % of the {quantity} labels were inside 90 % intervals"
        if cell["high"] < 0.9:
            lines.append(f"* TOO NARROW: {seen}. Do not trust these error bars.")
        elif cell["low"] > 0.9:
            lines.append(f"* Too wide: {seen}.")
        else:
            lines.append(f"* {seen}, which is compatible with 90 %.")
    if lines and any(row["misfit"] == "none" for row in curve):
        alone = table["forces"]["parameter"]["0.9"]["fraction"]
        share = f" (here {100 * (alone or 0):.0f} % of the forces at nominal 90 %)"
        lines += [
            "",
            "misfit = none: the posterior says how well the parameters are known *if the "
            "functional form were right*. It is not, so the spread of the parameters alone is "
            f"overconfident{share}; the noise term covers the misfit of energies, forces and "
            "stresses on average, not structure by structure, and does not reach derived "
            "properties.",
        ]
    return lines


def status(folder: str | Path) -> dict[str, Any]:
    """State of a campaign, also while it runs.

    Returns
    -------
    dict
        ``folder``, ``driver`` (pid, host, since; None where nobody drives), ``phase``, ``round``,
        ``rounds``, ``counts``, ``last`` (row of the learning curve or None), ``failures``
        (formula, reason), ``notes``, ``finished``.

    Raises
    ------
    LedgerError
        If there is no campaign in the folder.
    """
    folder = Path(folder)
    if not _has(folder, "campaign.json"):
        raise LedgerError(f"{folder} holds no campaign (no campaign.json); check the path")
    ledger = Ledger.read(folder)
    rounds = int(read_json(folder / "campaign.json")["rounds"])
    curve = collect_curve(folder)
    number, phase = _phase(folder, rounds)
    return {
        "folder": str(folder),
        "driver": FolderLock(folder).holder(),
        "phase": phase,
        "round": number,
        "rounds": rounds,
        "counts": ledger.counts(),
        "last": curve[-1] if curve else None,
        "failures": [
            (entry.structure.get_chemical_formula(), str(entry.data.get("reason")))
            for entry in ledger.failures()
        ],
        "notes": collect_notes(folder),
        "finished": phase == "finished",
    }


def _phase(folder: Path, rounds: int) -> tuple[int, str]:
    """Round and first step that is not done."""
    for k in range(rounds + 1):
        room = folder / f"round_{k:03d}"
        if not room.exists():
            return k, "labelling the initial set" if k == 0 else "fitting"
        for name, doing in _FILES:
            if not _has(room, name):
                return k, doing
            if name == "evaluation.json" and k == rounds:
                return k, "finished"
            if name == "chosen.json" and not read_json(room / name)["indices"]:
                return k, "finished"
    return rounds, "finished"


def compare_campaigns(folders: Mapping[str, str | Path]) -> dict[str, dict[str, list[Any]]]:
    """Learning curves of several campaigns side by side, for tables and plots.

    Parameters
    ----------
    folders : mapping of str to path
        For instance ``{"information_gain": a, "random": b}``.

    Returns
    -------
    dict
        By name: ``n_labels`` and ``energy``, ``forces``, ``stress`` (RMSE in eV/atom, eV/Å,
        eV/Å³; None without a test set).
    """
    curves: dict[str, dict[str, list[Any]]] = {}
    for name, folder in folders.items():
        rows = collect_curve(folder)
        curves[name] = {"n_labels": [row["n_labels"] for row in rows]}
        for quantity in QUANTITIES:
            curves[name][quantity] = [
                None if row["test"] is None else row["test"]["rmse"][quantity] for row in rows
            ]
    return curves


def labels_needed(curve: Mapping[str, list[Any]], quantity: str, target: float) -> int | None:
    """Fewest labels from which on the error stays at or below a target; None if it never does.

    Parameters
    ----------
    curve : mapping
        One entry of `compare_campaigns`.
    quantity : str
        ``energy``, ``forces`` or ``stress``.
    target : float
        RMSE in the units of the curve.
    """
    reached = None
    for n_labels, value in zip(curve["n_labels"], curve[quantity], strict=True):
        if value is None or value > target:
            reached = None
        elif reached is None:
            reached = int(n_labels)
    return reached
