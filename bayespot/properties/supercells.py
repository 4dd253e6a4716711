"""Supercells and cells along planes of the crystals of all surfaces, with atoms in one order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import make_supercell

from bayespot.errors import PropertyError
from bayespot.properties.frames import Frames
from bayespot.properties.surfaces import Relaxed, Surfaces
from bayespot.properties.symmetry import symmetry_of

Size = int | Sequence[int]

MULTIPLE = 12
"""Axes of a conventional cell in those of a primitive one are fractions with a divisor of this."""

FARTHEST = 6
"""Lattice vectors are sought up to this many axes."""


def conventional_matrix(crystal: Atoms, size: Size) -> np.ndarray:
    """Integer rows of the supercell of ``size`` conventional cells, in axes of the crystal.

    Raises
    ------
    PropertyError
        If the size is not one or three positive integers, or the cell that was given is larger
        than the conventional one.
    """
    times = np.broadcast_to(np.asarray(size), (3,)) if np.ndim(size) < 2 else np.zeros(3)
    if not (np.asarray(times) >= 1).all() or not np.equal(times, np.rint(times)).all():
        raise PropertyError(f"size = {size!r}: give one or three positive integers")
    axes = symmetry_of(crystal).to_conventional
    whole = np.rint(axes)
    if not np.allclose(axes, whole, atol=1e-6):
        raise PropertyError(
            f"the cell of {crystal.get_chemical_formula()} is larger than its conventional cell: "
            "give the primitive or the conventional cell"
        )
    return (np.asarray(times)[:, None] * whole).astype(int)


def supercells(frames: Frames, matrix: np.ndarray) -> Frames:
    """The supercell of every frame, atoms in one order."""
    made = [make_supercell(frames.atoms(k), matrix, wrap=False) for k in range(len(frames))]
    return Frames.of(made, frames.surface)


def plane_matrix(crystal: Atoms, miller: Sequence[int]) -> np.ndarray:
    """Integer rows: two shortest axes in a plane, and one that goes to the next plane.

    Parameters
    ----------
    crystal : ase.Atoms
        A primitive cell.
    miller : sequence of int
        Indices in axes of the conventional cell.

    Returns
    -------
    ndarray [3, 3]
        In axes of ``crystal``; the first two at 60 to 90 degrees.

    Raises
    ------
    PropertyError
        If the indices are not three integers, all zero, or very large.
    """
    if len(miller) != 3 or not any(miller) or any(int(h) != h for h in miller):
        raise PropertyError(f"miller = {miller!r}: give three integers, not all zero")
    # Indices are components along reciprocal axes: they transform as the axes do.
    axes = np.linalg.inv(symmetry_of(crystal).to_conventional)
    indices = np.rint(axes @ np.asarray(miller, dtype=float) * MULTIPLE).astype(int)
    indices //= np.gcd.reduce(indices)
    span = np.arange(-FARTHEST, FARTHEST + 1)
    steps = np.stack(np.meshgrid(span, span, span, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = steps @ crystal.cell.array
    # By length, then by a fixed rule, so that equal lengths always come in one order.
    order = np.lexsort((*steps.T, np.linalg.norm(vectors, axis=1).round(6)))
    steps, vectors = steps[order], vectors[order]
    height = steps @ indices
    flat = np.flatnonzero((height == 0) & steps.any(axis=1))
    across = np.flatnonzero(height == 1)
    if not flat.size or not across.size:
        raise PropertyError(f"miller = {tuple(miller)}: the indices are too large")
    first = flat[0]
    second = next(
        k for k in flat if np.linalg.norm(np.cross(vectors[first], vectors[k])) > 1e-3
    )
    sign = 1 if vectors[first] @ vectors[second] > -1e-9 else -1
    matrix = np.array([steps[first], sign * steps[second], steps[across[0]]])
    if np.linalg.det(matrix @ crystal.cell.array) < 0:
        matrix[[0, 1]] = matrix[[1, 0]]
    return matrix


def cut_at(frames: Frames, border: float) -> Frames:
    """Move atoms by whole third axes so that the cell begins at ``border``, in fractions of it."""
    z = np.linalg.solve(frames.cells[0].T, frames.positions[0].T)[2]
    # A little less than the border, so that rounding does not tear a plane of atoms apart.
    turns = -np.floor(z - border + 1e-4)
    return frames.moved(frames.positions + turns[None, :, None] * frames.cells[:, 2][:, None])


def lowest(surfaces: Surfaces, frames: Frames, displacements: np.ndarray) -> Relaxed:
    """The lowest minimum that relaxations from several displacements find, by frame.

    Its energy is what counts: `Surfaces.relax_for_energy`.

    Parameters
    ----------
    surfaces : Surfaces
    frames : Frames
    displacements : ndarray [starts, N, 3]
        Å; the same for all frames.
    """
    found = [
        surfaces.relax_for_energy(frames.moved(frames.positions + moved))
        for moved in displacements
    ]
    best = found[0]
    for other in found[1:]:
        best = best.or_lower(other)
    return best
