"""Energies of surfaces and of stacking faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.errors import PropertyError
from bayespot.properties.crystals import relaxed_crystal
from bayespot.properties.draws import surfaces_of
from bayespot.properties.frames import Frames
from bayespot.properties.results import Account, Result
from bayespot.properties.supercells import cut_at, lowest, plane_matrix, supercells
from bayespot.properties.surfaces import Relaxed, Surfaces
from bayespot.properties.symmetry import primitive_cell

J_PER_M2 = 16.02176634
"""One eV/Å² in J/m²: the elementary charge of the 2019 SI times 1e20."""

VACUUM = 8.0
RATTLE = 0.02
"""Å; atoms are displaced at random by this before slabs are relaxed."""
OUTERMOST = 0.3
"""Å; atoms that are this close to the end of a slab are its outermost ones."""


def surface_energy(
    source: Any, crystal: Atoms, *, miller: Sequence[int], layers: Sequence[int] = (6, 8),
    repeat: Sequence[int] = (1, 1), cut: float = 0.0, pairing: float = 0.0,
) -> Result:
    r"""Energy of the two surfaces of a slab over their area, :math:`(E - n e)/2A`.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    crystal : ase.Atoms
    miller : sequence of int
        In conventional axes.
    layers : sequence of int
        Thicknesses in primitive cells along the normal; the last is the result, its difference
        from the one before part of the numerical error.
    repeat : sequence of int
        Cells in the plane: (2, 1) lets silicon (100) form dimers.
    cut : float
        Where the crystal is cut, in fractions of the repeat along the normal: which termination.
    pairing : float
        Å; a second relaxation starts with the outermost atoms moved by this towards each other
        along the first axis that is repeated, and the lower energy counts: dimers.

    Returns
    -------
    Result
        "surface energy" and "surface energy, unrelaxed" (J/m²).

    Raises
    ------
    PropertyError
        If indices or thicknesses make no slab.
    """
    _check_layers(layers)
    surfaces = surfaces_of(source)
    account, crystal = Account(surfaces.n), primitive_cell(crystal)
    found = relaxed_crystal(surfaces, crystal, account)
    rows = []
    for n in layers:
        frames = _slabs(found, crystal, miller, n, repeat, cut)
        area = np.linalg.norm(np.cross(frames.cells[:, 0], frames.cells[:, 1]), axis=1)
        bulk = frames.n_atoms / len(crystal) * found.energy
        before = surfaces.evaluate(frames).energy
        relaxed = lowest(surfaces, frames, _displacements(frames, repeat, pairing))
        account.fail("relaxation of the slab", ~relaxed.converged)
        scale = J_PER_M2 / (2.0 * area)
        rows.append([(relaxed.energy - bulk) * scale, (before - bulk) * scale,
                     relaxed.energy_error * scale])  # fmt: skip
    quantities = {}
    for k, name in enumerate(("surface energy", "surface energy, unrelaxed")):
        error = rows[-1][2] * (k == 0)
        if len(rows) > 1:
            error = error + np.abs(rows[-1][k] - rows[-2][k])
        quantities[name] = (rows[-1][k], error, "J/m²")
    return account.result("surface", quantities)


def _check_layers(layers: Sequence[int]) -> None:
    if not layers or min(layers) < 1:
        raise PropertyError(f"layers = {layers!r}: give one or more positive thicknesses")


def _displacements(frames: Frames, repeat: Sequence[int], pairing: float) -> np.ndarray:
    """Where relaxations start, Å, [starts, N, 3]."""
    small = np.random.default_rng(0).normal(scale=RATTLE, size=frames.positions.shape[1:])
    if pairing == 0.0:
        return small[None]
    axis = 0 if repeat[0] > 1 else 1
    cell, positions = frames.cells[0], frames.positions[0]
    height = positions @ cell[2] / np.linalg.norm(cell[2])
    outer = (height > height.max() - OUTERMOST) | (height < height.min() + OUTERMOST)
    image = np.floor(np.linalg.solve(cell.T, positions.T)[axis] * repeat[axis] + 1e-6)
    towards = np.where(image % 2 == 0, 1.0, -1.0)[:, None] * cell[axis]
    paired = small + pairing * outer[:, None] * towards / np.linalg.norm(cell[axis])
    return np.stack([small, paired])


def _slabs(
    found: Relaxed, crystal: Atoms, miller: Sequence[int], layers: int, repeat: Sequence[int],
    cut: float,
) -> Frames:
    """Slabs of the crystals of all surfaces."""
    matrix = plane_matrix(crystal, miller) * np.array([[repeat[0]], [repeat[1]], [layers]])
    return cut_at(supercells(found.frames, matrix), cut / layers).opened(VACUUM)


def stacking_fault(
    source: Any, crystal: Atoms, *, miller: Sequence[int] = (1, 1, 1),
    layers: Sequence[int] = (6, 9), shift: Sequence[float] | None = None, spacing: str = "narrow",
) -> Result:
    """Energy of a stacking fault: one half of the crystal moved along the other.

    The third axis of a periodic cell is tilted by the shift, so that there is one fault in a cell
    and no surface; atoms are relaxed.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    crystal : ase.Atoms
    miller : sequence of int
        The plane, in conventional axes.
    layers : sequence of int
        As for `surface_energy`.
    shift : sequence of float, optional
        In fractions of the two vectors in the plane. Left out it is the intrinsic fault of a close
        packed plane: a third of both vectors at 60°, in the direction that costs less.
    spacing : "narrow" or "wide"
        Between which planes: glide or shuffle set of diamond; the same in fcc.

    Returns
    -------
    Result
        "stacking-fault energy" (mJ/m²).

    Raises
    ------
    PropertyError
        If indices or thicknesses make no cell.
    """
    _check_layers(layers)
    if spacing not in ("narrow", "wide"):
        raise PropertyError(f"spacing = {spacing!r}: it is 'narrow' or 'wide'")
    surfaces = surfaces_of(source)
    account, crystal = Account(surfaces.n), primitive_cell(crystal)
    found = relaxed_crystal(surfaces, crystal, account)
    ways = np.array([shift] if shift is not None else [[1 / 3, 1 / 3], [2 / 3, 2 / 3]])
    rows = [
        min((_fault(surfaces, found, crystal, miller, n, way, spacing) for way in ways),
            key=lambda row: float(np.nanmean(row[0])))
        for n in layers
    ]  # fmt: skip
    for _, _, good in rows:
        account.fail("relaxation of the stacking fault", ~good)
    error = rows[-1][1] + (np.abs(rows[-1][0] - rows[-2][0]) if len(rows) > 1 else 0.0)
    account.instability("the fault costs less than nothing", rows[-1][0] < -np.abs(error) - 0.1)
    return account.result(
        "stacking fault", {"stacking-fault energy": (rows[-1][0], error, "mJ/m²")}
    )


def _fault(
    surfaces: Surfaces, found: Relaxed, crystal: Atoms, miller: Sequence[int], layers: int,
    way: np.ndarray, spacing: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy and its error (mJ/m²) of one shift, and where the relaxation ended well."""
    matrix = plane_matrix(crystal, miller) * np.array([[1], [1], [layers]])
    frames = supercells(found.frames, matrix)
    frames = cut_at(frames, _gap(frames, spacing))
    cells = frames.cells.copy()
    cells[:, 2] += np.einsum("c,kca->ka", way, cells[:, :2])
    relaxed = surfaces.relax_for_energy(frames.moved(frames.positions, cells))
    area = np.linalg.norm(np.cross(cells[:, 0], cells[:, 1]), axis=1)
    bulk = frames.n_atoms / len(crystal) * found.energy
    scale = 1e3 * J_PER_M2 / area
    return (relaxed.energy - bulk) * scale, relaxed.energy_error * scale, relaxed.converged


def _gap(frames: Frames, spacing: str) -> float:
    """Where along the third axis, in fractions, the middle of the first gap of this kind lies."""
    scaled = np.linalg.solve(frames.cells[0].T, frames.positions[0].T)[2]
    z = np.unique((scaled % 1.0).round(6) % 1.0)
    gaps = np.append(z[1:], z[0] + 1.0) - z
    wanted = gaps.min() if spacing == "narrow" else gaps.max()
    k = int(np.flatnonzero(np.abs(gaps - wanted) < 1e-4)[0])
    return float((z[k] + 0.5 * gaps[k]) % 1.0)
