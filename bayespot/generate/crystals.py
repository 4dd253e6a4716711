"""Crystals: cells, planes, distinct sites, voids. spglib finds the symmetry."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import spglib
from ase import Atoms
from ase.geometry import minkowski_reduce
from ase.neighborlist import neighbor_list
from scipy.spatial import Voronoi

from bayespot.errors import StructureError
from bayespot.generate.frames import minimum_distance

__all__ = ["SYMPREC", "conventional", "coordination", "distinct_planes", "distinct_sites",
           "in_basis", "primitive", "space_group", "sublattices", "supercell", "voids"]

SYMPREC = 0.01
"""Å; symmetry of a prototype is found to this, so that a relaxed cell counts as symmetric."""


def _spglib_cell(atoms: Atoms) -> tuple:
    return atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers


def _symmetry(atoms: Atoms) -> Any:
    with warnings.catch_warnings():  # spglib announces another way to report errors
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.get_symmetry_dataset(_spglib_cell(atoms), symprec=SYMPREC)
    if found is None:
        raise StructureError(f"{atoms.get_chemical_formula()}: spglib finds no symmetry; the cell "
                             "may be flat, or two atoms may be at one place")
    return found


def space_group(atoms: Atoms) -> int:
    """Number of the space group, 1 to 230."""
    return int(_symmetry(atoms).number)


def distinct_sites(atoms: Atoms) -> list[int]:
    """One atom of each class of atoms that symmetry makes equal, in order."""
    return sorted({int(i) for i in _symmetry(atoms).equivalent_atoms})


def _standard(atoms: Atoms, to_primitive: bool) -> Atoms:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.standardize_cell(_spglib_cell(atoms), to_primitive=to_primitive,
                                        symprec=SYMPREC)
    if found is None:
        raise StructureError(f"{atoms.get_chemical_formula()}: spglib finds no standard cell; "
                             "check that no two atoms are at one place")
    cell, positions, numbers = found
    return Atoms(numbers, cell=cell, scaled_positions=positions, pbc=True)


def primitive(atoms: Atoms) -> Atoms:
    """Smallest cell of the crystal, in the setting of the International Tables."""
    return _standard(atoms, to_primitive=True)


def conventional(atoms: Atoms) -> Atoms:
    """Conventional cell of the crystal, in the setting of the International Tables."""
    return _standard(atoms, to_primitive=False)


def coordination(atoms: Atoms, shell: float = 1.12) -> int:
    """Mean number of neighbors within `shell` nearest distances, rounded; bcc has 8."""
    reach = shell * minimum_distance(atoms, 12.0)
    return round(len(neighbor_list("i", atoms, reach)) / len(atoms))


def sublattices(index: int) -> Iterator[np.ndarray]:
    r"""Every sublattice of a given index as a Hermite normal form.

    Parameters
    ----------
    index : int
        :math:`\det H`: how many cells one supercell has.

    Yields
    ------
    ndarray, shape (3, 3), integers
        Rows are supercell vectors in the basis of the cell, each sublattice once; Hart and Forcade,
        Phys. Rev. B 77, 224115 (2008), whose vectors are columns.
    """
    for a in (d for d in range(1, index + 1) if index % d == 0):
        rest = index // a
        for c in (d for d in range(1, rest + 1) if rest % d == 0):
            f = rest // c
            for b, d, e in itertools.product(range(c), range(f), range(f)):
                yield np.array([[a, b, d], [0, c, e], [0, 0, f]])


def repeated(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    """Supercell of integer vectors, shape (3, 3), with the shortest vectors of its lattice."""
    lattice = matrix @ atoms.cell.array
    low = np.minimum(matrix, 0).sum(axis=0) - 1
    high = np.maximum(matrix, 0).sum(axis=0) + 1
    shifts = np.array(list(itertools.product(*(range(int(a), int(b) + 1)
                                               for a, b in zip(low, high, strict=True)))))
    inside = shifts @ np.linalg.inv(matrix)
    kept = shifts[np.all((inside > -1e-6) & (inside < 1 - 1e-6), axis=1)]
    positions = (kept[:, None, :] @ atoms.cell.array) + atoms.positions
    cell = minkowski_reduce(lattice)[0]
    made = Atoms(np.tile(atoms.numbers, len(kept)), positions=positions.reshape(-1, 3), cell=cell,
                 pbc=True)
    if made.cell.volume and np.linalg.det(made.cell.array) < 0:
        made.set_cell(-made.cell.array)
    made.wrap()
    return made


def supercell(atoms: Atoms, most: int, *, fill: bool = False) -> Atoms:
    """The roundest supercell of at most `most` atoms: the one with the longest shortest vector.

    With `fill` only cells of as many atoms as are allowed are looked at.

    Raises
    ------
    StructureError
        If one cell has more atoms already.
    """
    if len(atoms) > most:
        raise StructureError(f"{atoms.get_chemical_formula()} has {len(atoms)} atoms, and at most "
                             f"{most} are wanted; raise max_atoms to {len(atoms)} or more")
    best: tuple[tuple, np.ndarray] | None = None
    largest = most // len(atoms)
    for index in range(largest if fill else 1, largest + 1):
        for matrix in sublattices(index):
            lengths = np.sort(np.linalg.norm(
                minkowski_reduce(matrix @ atoms.cell.array)[0], axis=1))
            merit = (round(float(lengths[0]), 6), -round(float(lengths.sum()), 6))
            if best is None or merit > best[0]:
                best = merit, matrix
    return repeated(atoms, best[1])


def in_basis(cell: Atoms, miller: Sequence[int], basis: Atoms) -> tuple[int, int, int]:
    """Miller indices of a plane of `cell` in the basis of another cell of the same lattice."""
    vectors = basis.cell.array @ np.linalg.inv(cell.cell.array)
    raw = np.rint(12 * vectors @ np.asarray(miller)).astype(int)  # 12: any centring's fractions
    h, k, ell = (int(x) // max(1, math.gcd(*map(int, raw))) for x in raw)
    return h, k, ell


def distinct_planes(cell: Atoms, most: int = 3) -> list[tuple[int, int, int]]:
    """Low-index planes that symmetry does not make equal, the widest spacing first.

    Parameters
    ----------
    cell : Atoms
        Conventional cell; indices up to 1 in its basis are looked at.
    most : int
        How many planes at most.
    """
    rotations = np.unique(_symmetry(cell).rotations, axis=0)
    small = primitive(cell)
    planes = [hkl for hkl in itertools.product((1, 0, -1), repeat=3) if any(hkl)]
    found: dict[tuple, tuple[float, tuple[int, int, int]]] = {}
    for hkl in planes:
        images = {tuple(int(x) for x in np.asarray(hkl) @ r) for r in rotations}
        images |= {tuple(-x for x in image) for image in images}
        # the spacing of lattice planes is that of the primitive lattice's coprime indices
        normal = np.asarray(in_basis(cell, hkl, small)) @ np.linalg.inv(small.cell.array).T
        spacing = 1.0 / float(np.linalg.norm(normal))
        key = max(images)
        if key not in found:
            found[key] = spacing, min(images, key=lambda m: (sum(x < 0 for x in m), m[::-1]))
    order = sorted(found.values(), key=lambda one: (-round(one[0], 6), one[1]))
    return [miller for _, miller in order[:most]]


def voids(atoms: Atoms) -> list[tuple[np.ndarray, float, int]]:
    """Places with room for one more atom that symmetry does not make equal.

    They are the vertices of the Voronoi cells, where four or more atoms are equally far.

    Returns
    -------
    list of (ndarray (3,), float, int)
        Position in the cell (angstrom), distance to the nearest atoms (angstrom), and how many
        those are; the widest first.
    """
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    points = (shifts[:, None, :] @ atoms.cell.array + atoms.positions).reshape(-1, 3)
    fractional = Voronoi(points).vertices @ np.linalg.inv(atoms.cell.array)
    fractional = fractional[np.all((fractional > -1e-6) & (fractional < 1 - 1e-6), axis=1)]
    symmetry, found, seen = _symmetry(atoms), [], []
    for place in fractional:
        copies = np.einsum("kij,j->ki", symmetry.rotations, place) + symmetry.translations
        if any(_same_place(copies, other, atoms) for other in seen):
            continue
        seen.append(place)
        where = place @ atoms.cell.array
        distances = np.linalg.norm(points - where, axis=1)
        radius = float(distances.min())
        found.append((where, radius, int(np.sum(distances < 1.05 * radius))))
    return sorted(found, key=lambda one: (-round(one[1], 4), one[2]))


def _same_place(copies: np.ndarray, other: np.ndarray, atoms: Atoms) -> bool:
    gap = copies - other
    return bool(np.any(np.linalg.norm((gap - np.rint(gap)) @ atoms.cell.array, axis=1) < 0.05))
