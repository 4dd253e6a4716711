"""From a prediction of labelled structures to the cases that calibration judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayespot.calibration import HeldOut
from bayespot.data.dataset import Dataset, has_vacuum
from bayespot.errors import LabelError
from bayespot.likelihood import NoiseFloor
from bayespot.prediction import Prediction
from bayespot.scoring import FORCE_ZERO, symmetry_zeros
from bayespot.units import GPA, QUANTITIES

STRESS_ZERO = 1e-3 / GPA
"""eV/Å^3: a stress component below this may be zero by symmetry."""


def held_out_cases(
    prediction: Prediction,
    truth: Dataset,
    *,
    floor: NoiseFloor | None = None,
    numbers: ArrayLike | None = None,
    fixed: Mapping[str, NDArray[np.bool_]] | None = None,
    guard: bool = True,
    method: str = "",
    data: str = "",
) -> list[HeldOut]:
    """Predictions beside labels, one `HeldOut` for each kind of label that is there.

    Stresses of cells with vacuum are left out, as in a fit.

    Parameters
    ----------
    prediction : Prediction
        Of the structures of ``truth``, in their order.
    truth : Dataset
        Labels may be missing.
    floor : NoiseFloor, optional
        Take this in the place of the inferred noise: bars of the parameters alone. By default bars
        hold the spread over draws, the inferred noise and the floor of the fit.
    numbers : array_like of int [n_structures], optional
        Numbers of the structures in the whole data set; by default those in ``truth``.
    fixed : mapping, optional
        Quantity to a mask of components that symmetry fixes, where another method of the same cases
        has told already; by default components that are zero and that no draw moves.
    guard : bool
        Whether the extrapolation grade of the prediction says what is outside.
    method, data : str
        Names for the tables.

    Raises
    ------
    LabelError
        If prediction and labels have different structures, or nothing is labelled.
    """
    sizes = np.array([len(atoms) for atoms in truth.structures])
    if not np.array_equal(sizes, prediction.atom_counts):
        raise LabelError(
            f"prediction of {len(prediction.atom_counts)} structures beside labels of "
            f"{len(sizes)}: they must be the same structures in the same order"
        )
    numbers = np.arange(len(sizes)) if numbers is None else np.asarray(numbers)
    outside = prediction.extrapolation > 1 if guard else np.zeros(len(sizes), bool)
    families, found = np.array(truth.families, dtype=np.str_), []
    for quantity in QUANTITIES:
        labelled = _labelled(truth, quantity)
        if not labelled.any():
            continue
        rows = labelled if quantity != "forces" else np.repeat(labelled, sizes)
        width = {"energy": 1, "forces": 3 * sizes[labelled], "stress": 6}[quantity]
        owner = np.repeat(np.flatnonzero(labelled), width)
        y = np.concatenate([
            np.ravel(getattr(truth.labels[k], quantity)) for k in np.flatnonzero(labelled)
        ])
        per = sizes[labelled] if quantity == "energy" else 1.0
        y = y / per
        mean, epistemic, white = (
            np.ravel(getattr(prediction, f"{quantity}{suffix}")[rows] / per)
            for suffix in ("", "_parameter_std", "_noise_std")
        )
        if floor is not None:
            k = QUANTITIES.index(quantity)
            white = np.array([floor.of(name)[k] for name in truth.families])[owner]
        zeros = fixed[quantity] if fixed is not None else _zeros(quantity, y, epistemic)
        found.append(HeldOut(
            quantity, mean, np.hypot(epistemic, white), epistemic, y, families[owner],
            numbers[owner], zeros, outside[owner], method, data,
        ))
    if not found:
        raise LabelError(f"none of the {len(truth)} structures of {truth.source} has a label")
    return found


def _labelled(truth: Dataset, quantity: str) -> NDArray[np.bool_]:
    """Which structures have a label that means something."""
    there = [getattr(label, quantity) is not None for label in truth.labels]
    if quantity == "stress":
        there = [
            label and not has_vacuum(atoms)
            for label, atoms in zip(there, truth.structures, strict=True)
        ]
    return np.array(there)


def _zeros(quantity: str, y: NDArray, epistemic: NDArray) -> NDArray[np.bool_]:
    if quantity == "energy":
        return np.zeros(y.shape, bool)
    return symmetry_zeros(y, epistemic, zero=FORCE_ZERO if quantity == "forces" else STRESS_ZERO)


def together(folds: Sequence[Sequence[HeldOut]]) -> list[HeldOut]:
    """The cases of all folds of one data set and method under each other, by quantity.

    Structures must have their numbers in the whole data set.
    """
    columns = [f.name for f in fields(HeldOut) if f.name not in ("quantity", "method", "data")]
    parts: dict[str, list[HeldOut]] = {}
    for cases in folds:
        for case in cases:
            parts.setdefault(case.quantity, []).append(case)
    return [
        replace(parts[quantity][0], **{
            name: np.concatenate([getattr(one, name) for one in parts[quantity]])
            for name in columns
        })
        for quantity in QUANTITIES if quantity in parts
    ]
