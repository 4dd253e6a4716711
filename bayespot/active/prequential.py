"""Predictions made before the label was known, and how they came out.

Counts are kept per round and added up, so that the coverage of a campaign needs no earlier
prediction to be read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayespot.data.dataset import Labels
from bayespot.scoring import covered, rmse, symmetry_zeros, wilson_interval
from bayespot.units import QUANTITIES

__all__ = ["LEVELS", "SPREADS", "add_counts", "coverage_counts", "coverage_table", "errors",
           "predicted_rows"]

LEVELS = (0.5, 0.9, 0.95)
"""Nominal levels of the intervals that are reported."""

SPREADS = ("total", "parameter")
"""`total`: parameters and noise; `parameter`: what the parameters alone allow."""

_ZERO = {"energy": 0.0, "forces": 1e-3, "stress": 1e-5}  # eV, eV/Å, eV/Å³


def predicted_rows(prediction: Any, n_structures: int) -> list[dict[str, Any]]:
    """Prediction of each structure as plain JSON: means and spreads.

    Parameters
    ----------
    prediction : Prediction
        Of `n_structures` structures.
    n_structures : int
        How many.

    Returns
    -------
    list of dict
        ``energy`` (eV of the cell), ``forces`` (eV/Å), ``stress`` (eV/Å³), each with
        ``_parameter_std`` and ``_total_std``, ``n_atoms``, and ``warnings`` where there are any.
    """
    names = [f"{q}{part}" for q in QUANTITIES for part in ("", "_parameter_std", "_total_std")]
    arrays = {name: np.asarray(getattr(prediction, name)) for name in names}
    rows = []
    for i in range(n_structures):
        atoms = slice(int(prediction.offsets[i]), int(prediction.offsets[i + 1]))
        row: dict[str, Any] = {"n_atoms": atoms.stop - atoms.start}
        for name, array in arrays.items():
            row[name] = array[atoms if name.startswith("forces") else i].tolist()
        if any(warnings := getattr(prediction, "warnings", None) or []) and warnings[i]:
            row["warnings"] = list(warnings[i])
        rows.append(row)
    return rows


def _pairs(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[Labels], quantity: str
) -> dict[str, np.ndarray]:
    """Flat mean, spreads, truth, structure number and cell size where both sides exist."""
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("mean", "parameter", "total", "truth", "structure", "n_atoms")
    }
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        truth = getattr(label, quantity)
        if truth is None:
            continue
        values = {
            "mean": row[quantity],
            "parameter": row[f"{quantity}_parameter_std"],
            "total": row[f"{quantity}_total_std"],
            "truth": truth,
        }
        flat = {k: np.atleast_1d(np.asarray(v, dtype=float)).ravel() for k, v in values.items()}
        good = np.all([np.isfinite(v) for v in flat.values()], axis=0)
        for name, value in flat.items():
            columns[name].append(value[good])
        columns["structure"].append(np.full(int(good.sum()), i))
        columns["n_atoms"].append(np.full(int(good.sum()), row["n_atoms"]))
    return {k: np.concatenate(v) if v else np.zeros(0) for k, v in columns.items()}


def coverage_counts(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[Labels]
) -> dict[str, dict[str, Any]]:
    """How many labels fell into the predicted intervals.

    Components that symmetry fixes at zero are left out and counted apart: every interval
    contains them.

    Returns
    -------
    dict
        By quantity: ``n``, ``n_structures``, ``n_zeros``, ``sum_z2`` (of the total spread) and
        ``inside[spread][level]``.
    """
    counts = {}
    for quantity in QUANTITIES:
        pairs = _pairs(rows, labels, quantity)
        n_all = pairs["truth"].size
        if quantity != "energy" and n_all:
            keep = ~symmetry_zeros(pairs["truth"], pairs["parameter"], zero=_ZERO[quantity])
            pairs = {name: value[keep] for name, value in pairs.items()}
        n = pairs["truth"].size
        inside = {
            spread: {
                str(level): int(
                    np.sum(covered(pairs["mean"], pairs[spread], pairs["truth"], level))
                )
                if n
                else 0
                for level in LEVELS
            }
            for spread in SPREADS
        }
        error = pairs["truth"] - pairs["mean"]
        z = np.divide(error, pairs["total"], out=np.zeros(n), where=pairs["total"] > 0)
        counts[quantity] = {
            "n": n,
            "n_structures": int(np.unique(pairs["structure"]).size),
            "n_zeros": n_all - n,
            "sum_z2": float(np.sum(z**2)),
            "inside": inside,
        }
    return counts


def add_counts(many: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Sum of the counts of several rounds."""
    total = coverage_counts([], [])
    for counts in many:
        for quantity in QUANTITIES:
            into, part = total[quantity], counts[quantity]
            for name in ("n", "n_structures", "n_zeros", "sum_z2"):
                into[name] += part[name]
            for spread in SPREADS:
                for level in map(str, LEVELS):
                    into["inside"][spread][level] += part["inside"][spread][level]
    return total


def coverage_table(counts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Coverage with 95 % Wilson intervals whose unit is the structure, not the component.

    The components of one structure are not independent, so the interval is that of the same
    fraction among as many cases as there are structures.

    Returns
    -------
    dict
        By quantity: ``n``, ``n_structures``, ``n_zeros``, ``mean_z2`` and, by spread and level,
        ``fraction``, ``low``, ``high`` (None where nothing was counted).
    """
    table = {}
    for quantity in QUANTITIES:
        part = counts[quantity]
        n, m = part["n"], part["n_structures"]
        row: dict[str, Any] = {k: part[k] for k in ("n", "n_structures", "n_zeros")}
        row["mean_z2"] = part["sum_z2"] / n if n else None
        for spread in SPREADS:
            row[spread] = {}
            for level in map(str, LEVELS):
                if not n:
                    row[spread][level] = {"fraction": None, "low": None, "high": None}
                    continue
                fraction = part["inside"][spread][level] / n
                low, high = wilson_interval(fraction * m, m)
                row[spread][level] = {"fraction": fraction, "low": low, "high": high}
        table[quantity] = row
    return table


def errors(rows: Sequence[Mapping[str, Any]], labels: Sequence[Labels]) -> dict[str, Any]:
    """Errors and predicted spreads on a test set.

    Returns
    -------
    dict
        ``rmse``, ``parameter_std`` and ``total_std`` (means over the set) by quantity, energies
        per atom (eV/atom), forces eV/Å, stress eV/Å³; ``coverage`` as `coverage_table`;
        ``n_structures``.
    """
    result: dict[str, Any] = {"rmse": {}, "parameter_std": {}, "total_std": {}}
    for quantity in QUANTITIES:
        pairs = _pairs(rows, labels, quantity)
        per = pairs["n_atoms"] if quantity == "energy" else np.ones(pairs["truth"].size)
        some = pairs["truth"].size > 0
        result["rmse"][quantity] = (
            rmse(pairs["mean"] / per, pairs["truth"] / per) if some else None
        )
        for spread in SPREADS:
            mean = float(np.mean(pairs[spread] / per)) if some else None
            result[f"{spread}_std"][quantity] = mean
    result["coverage"] = coverage_table(coverage_counts(rows, labels))
    result["n_structures"] = len(rows)
    return result
