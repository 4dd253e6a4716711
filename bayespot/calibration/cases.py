"""Predictions of structures that were not fitted, beside their labels: what calibration judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayespot.errors import LabelError
from bayespot.units import QUANTITIES

_NUMBERS = ("mean", "std", "epistemic_std", "truth")
_COLUMNS = (*_NUMBERS, "family", "structure", "fixed", "outside")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions and labels of one quantity, one row a number, from one method.

    Energies in eV/atom, force components in eV/Å, stress components in eV/Å^3. The arrays are
    read-only.

    Attributes
    ----------
    quantity : {"energy", "forces", "stress"}
    mean, std, truth : ndarray [n]
        Prediction, its whole standard deviation (noise and misfit included), and the label.
    epistemic_std : ndarray [n]
        The part of `std` that is not noise: what moves if the truth were computed again.
    family : ndarray of str [n]
        The family that was left out, or that the structure belongs to.
    structure : ndarray of int [n]
        Number of the structure; the rows of one structure are not independent.
    fixed : ndarray of bool [n]
        Component that symmetry fixes at zero, see `bayespot.scoring.symmetry_zeros`.
    outside : ndarray of bool [n]
        Whether the structure lies beyond the extrapolation guard.
    method, data : str
        Names of what predicted and of the data set.

    Raises
    ------
    LabelError
        If lengths differ, a number is not finite, a spread is negative, a structure has two
        families, or the quantity is unknown.
    """

    quantity: str
    mean: ArrayLike
    std: ArrayLike
    epistemic_std: ArrayLike
    truth: ArrayLike
    family: ArrayLike
    structure: ArrayLike
    fixed: ArrayLike
    outside: ArrayLike
    method: str = ""
    data: str = ""

    def __post_init__(self) -> None:
        if self.quantity not in QUANTITIES:
            raise LabelError(
                f"quantity {self.quantity!r} is unknown; it is one of {', '.join(QUANTITIES)}"
            )
        types = {"family": np.str_, "structure": np.int64, "fixed": bool, "outside": bool}
        for name in _COLUMNS:
            column = np.array(getattr(self, name), dtype=types.get(name, float))
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        self._check()

    def _check(self) -> None:
        shapes = {name: getattr(self, name).shape for name in _COLUMNS}
        if len(set(shapes.values())) > 1 or len(self.truth.shape) != 1:
            raise LabelError(
                f"{self.quantity}: columns must be flat and of one length, not {shapes}"
            )
        if not self.truth.size:
            raise LabelError(f"{self.quantity}: there is no case")
        for name in _NUMBERS:
            column = getattr(self, name)
            if bad := int(np.sum(~np.isfinite(column))):
                raise LabelError(
                    f"{self.quantity}: {name} has {bad} of {column.size} values that are not "
                    "finite; leave out the cases without a label first"
                )
            if name.endswith("std") and column.min() < 0:
                raise LabelError(
                    f"{self.quantity}: {name} has a negative value, {column.min():g}; "
                    "spreads are >= 0"
                )
        numbers, first = np.unique(self.structure, return_index=True)
        home = self.family[first][np.searchsorted(numbers, self.structure)]
        if wrong := self.structure[home != self.family].tolist():
            raise LabelError(
                f"{self.quantity}: structure {wrong[0]} has two families; number the structures of "
                "different data sets apart, as HeldOut.join does"
            )

    def __len__(self) -> int:
        return self.truth.size

    @property
    def families(self) -> list[str]:
        """Names of the families, sorted."""
        return sorted(set(self.family.tolist()))

    @property
    def z(self) -> NDArray[np.float64]:
        """(truth - mean) / std; infinite where an error has no spread, 0 where nothing is wrong."""
        error = self.truth - self.mean
        with np.errstate(divide="ignore"):
            return np.divide(error, self.std, out=np.zeros_like(error), where=error != 0)

    def where(self, keep: ArrayLike) -> HeldOut:
        """Rows of the mask; there must be at least one."""
        keep = np.asarray(keep, dtype=bool)
        return replace(self, **{name: getattr(self, name)[keep] for name in _COLUMNS})

    @classmethod
    def join(cls, parts: Sequence[HeldOut]) -> HeldOut:
        """Put data sets under each other: families become "data/family", structures are renumbered.

        Parameters
        ----------
        parts : sequence of HeldOut
            Of one quantity and one method, with data-set names that differ.

        Raises
        ------
        LabelError
            If quantity or method differ, or two parts have one name.
        """
        for name in ("quantity", "method"):
            if len(found := {getattr(part, name) for part in parts}) != 1:
                raise LabelError(f"cannot join several of {name}: {sorted(found)}")
        names = [part.data for part in parts]
        if len(set(names)) < len(names):
            raise LabelError(f"data sets to be joined need names that differ, not {names}")
        columns = {name: [getattr(part, name) for part in parts] for name in _COLUMNS}
        columns["family"] = [np.char.add(f"{part.data}/", part.family) for part in parts]
        shift, shifted = 0, []
        for part in parts:
            _, number = np.unique(part.structure, return_inverse=True)
            shifted.append(number + shift)
            shift += number.max() + 1
        columns["structure"] = shifted
        return cls(
            quantity=parts[0].quantity,
            method=parts[0].method,
            data=" + ".join(names),
            **{name: np.concatenate(column) for name, column in columns.items()},
        )

    def __repr__(self) -> str:
        kept = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self)[-2:])
        return (
            f"HeldOut({self.quantity!r}, {len(self)} cases, {len(self.families)} families, {kept})"
        )
