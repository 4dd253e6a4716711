"""What the symmetry of a crystal says: conventional axes, rotations, primitive cells (spglib)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from bayespot.errors import PropertyError

SYMPREC = 1e-3
"""Å; crystals that are given should be exact to better than this."""

SYSTEMS = (
    (2, "triclinic"), (15, "monoclinic"), (74, "orthorhombic"), (142, "tetragonal"),
    (167, "trigonal"), (194, "hexagonal"), (230, "cubic"),
)  # fmt: skip
"""Last space group of each crystal system."""


@dataclass(frozen=True)
class Symmetry:
    """Symmetry of a crystal."""

    number: int
    system: str
    to_conventional: np.ndarray  # [3, 3] rows: conventional axes = this @ rows of the cell
    to_primitive: np.ndarray  # [3, 3] rows: primitive axes = this @ rows of the cell
    rotations: np.ndarray  # [m, 3, 3] of the point group, acting on columns, Cartesian


@contextmanager
def quiet_spglib() -> Iterator[None]:
    """Without spglib's note, given at every call, that its errors will become exceptions."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Set OLD_ERROR_HANDLING", DeprecationWarning)
        yield


def symmetry_of(atoms: Atoms) -> Symmetry:
    """Find the symmetry of a crystal.

    Raises
    ------
    PropertyError
        If spglib finds none: atoms coincide, or the cell is flat.
    """
    import spglib

    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with quiet_spglib():
        found = spglib.get_symmetry_dataset(cell, symprec=SYMPREC)
    if found is None:
        raise PropertyError(
            f"no symmetry found for {atoms.get_chemical_formula()}: are atoms on top of each other?"
        )
    system = next(name for last, name in SYSTEMS if found.number <= last)
    # spglib: columns of the cell = columns of the standard cell @ transformation_matrix
    conventional = np.linalg.inv(found.transformation_matrix).T
    primitive = found.mapping_to_primitive.max() + 1
    columns = atoms.cell.array.T
    rotations = np.array([columns @ r @ np.linalg.inv(columns) for r in found.rotations])
    return Symmetry(found.number, system, conventional, _primitive(atoms, found, primitive),
                    np.unique(rotations.round(9), axis=0))  # fmt: skip


def _primitive(atoms: Atoms, found: object, n_primitive: int) -> np.ndarray:
    """Axes of a primitive cell in terms of the cell that was given."""
    if n_primitive == len(atoms):
        return np.eye(3)
    primitive = found.primitive_lattice  # rows, in the orientation that was given
    return primitive @ np.linalg.inv(atoms.cell.array)


def primitive_cell(atoms: Atoms) -> Atoms:
    """The crystal with as few atoms as possible, not rotated.

    Raises
    ------
    PropertyError
        If there is none, see `symmetry_of`.
    """
    axes = symmetry_of(atoms).to_primitive
    if np.allclose(axes, np.eye(3)):
        return atoms.copy()
    cell = axes @ atoms.cell.array
    scaled = np.linalg.solve(cell.T, atoms.positions.T).T % 1.0
    kept: list[int] = []
    for i in range(len(atoms)):
        apart = scaled[i] - scaled[kept]
        apart = (apart - np.rint(apart)) @ cell
        same = np.linalg.norm(apart, axis=1) < 10 * SYMPREC
        if not same.any():
            kept.append(i)
    if len(kept) * round(1.0 / abs(np.linalg.det(axes))) != len(atoms):
        raise PropertyError(
            f"no primitive cell found for {atoms.get_chemical_formula()}: give one yourself"
        )
    return Atoms(atoms.numbers[kept], scaled_positions=scaled[kept], cell=cell, pbc=True)
