"""Predictions and labels side by side, and the table that people read of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bayespot import plots
from bayespot.data.dataset import Dataset, has_vacuum
from bayespot.errors import LabelError
from bayespot.prediction import Prediction
from bayespot.scoring import (
    Coverage,
    Score,
    cluster_bootstrap_coverage,
    covered,
    score,
    symmetry_zeros,
)
from bayespot.units import QUANTITIES

__all__ = ["Comparison", "compare", "percent", "score_lines", "write_text"]

ZERO = {"forces": 1e-3, "stress": 1e-5}  # eV/Å and eV/Å^3: below, symmetry may have fixed it


@dataclass(frozen=True)
class Comparison:
    """Predictions and labels of one quantity side by side, one row a number, [n] each.

    Energies in eV/atom, forces in eV/Å, stresses in eV/Å^3.
    """

    truth: NDArray[np.float64]
    mean: NDArray[np.float64]
    parameter_std: NDArray[np.float64]
    total_std: NDArray[np.float64]
    structure: NDArray[np.int64]
    family: NDArray[np.str_]

    def of_family(self, name: str) -> Comparison:
        """Rows of one family."""
        keep = self.family == name
        return Comparison(*(getattr(self, field)[keep] for field in self.__dataclass_fields__))

    def score(self) -> Score:
        """Scores with the total spread; the structure is the unit of the interval."""
        return score(self.mean, self.total_std, self.truth, self.structure)


def compare(prediction: Prediction, dataset: Dataset) -> dict[str, Comparison]:
    """Put predictions beside the labels that exist.

    Stresses of cells with vacuum and components that symmetry fixes at zero are left out: the
    first mean nothing, the second every interval contains.

    Parameters
    ----------
    prediction : Prediction
        Of the structures of `dataset`.
    dataset : Dataset
        Labels may be missing.

    Returns
    -------
    dict
        Quantity to `Comparison`, for those with at least one label.
    """
    if len(prediction.atom_counts) != len(dataset):
        raise LabelError(
            f"{len(prediction.atom_counts)} predictions for {len(dataset)} structures: predict the "
            "data set that they are compared with"
        )
    found = {}
    for quantity in QUANTITIES:
        rows = [
            row
            for i in range(len(dataset))
            if (row := _rows(prediction, dataset, quantity, i)) is not None
        ]
        if rows:
            found[quantity] = Comparison(
                *(np.concatenate(column) for column in zip(*rows, strict=True))
            )
    return {quantity: table for quantity, table in found.items() if table.truth.size}


def _rows(prediction: Prediction, dataset: Dataset, quantity: str, i: int) -> tuple | None:
    """Columns of one structure, or None where there is nothing to compare."""
    truth = getattr(dataset.labels[i], quantity)
    if truth is None or (quantity == "stress" and has_vacuum(dataset.structures[i])):
        return None
    where = slice(*prediction.offsets[i : i + 2]) if quantity == "forces" else i
    per = prediction.atom_counts[i] if quantity == "energy" else 1.0
    columns = [truth] + [
        getattr(prediction, f"{quantity}{part}")[where]
        for part in ("", "_parameter_std", "_total_std")
    ]
    columns = [np.atleast_1d(np.asarray(c, dtype=float)).ravel() / per for c in columns]
    if quantity in ZERO:
        keep = ~symmetry_zeros(columns[0], columns[2], zero=ZERO[quantity])
        columns = [c[keep] for c in columns]
    n = columns[0].size
    return (*columns, np.full(n, i), np.full(n, dataset.families[i]))


def score_lines(tables: Mapping[str, Comparison], *, by_family: bool = True) -> list[str]:
    """Table of errors and coverage, all families together and one by one.

    Parameters
    ----------
    tables : mapping
        Of `compare`.
    by_family : bool
        Whether families have rows of their own.

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    lines = [
        "| | family | structures | RMSE | MAE | CRPS | mean bar | in 90 % bars | params alone |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for quantity, table in tables.items():
        shown = plots.DISPLAY[quantity]
        names = sorted(set(table.family.tolist()))
        for name in ["all", *(names if by_family and len(names) > 1 else [])]:
            part = table if name == "all" else table.of_family(name)
            s, f = part.score(), shown.factor
            alone = cluster_bootstrap_coverage(
                covered(part.mean, part.parameter_std, part.truth), part.structure
            )
            lines.append(
                f"| {f'{quantity}, {shown.unit}' if name == 'all' else ''} | {name} "
                f"| {s.n_groups} | {s.rmse * f:.3g} | {s.mae * f:.3g} | {s.crps * f:.3g} "
                f"| {part.total_std.mean() * f:.3g} | {percent(s.coverage)} | {percent(alone)} |"
            )
    return [
        *lines,
        "",
        "In brackets: 95 % interval by bootstrap over structures. Components that symmetry fixes "
        "at zero are left out.",
    ]


def percent(fraction: Sequence[float]) -> str:
    """Write a coverage and its interval, "62 % [48, 75]"."""
    return Coverage(*fraction).percent()


def write_text(path: Path, text: str) -> None:
    """Write a text file; it appears whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
