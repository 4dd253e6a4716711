"""Phonon bands and density of states, by finite displacements (phonopy)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.properties.crystals import relaxed_crystal
from bayespot.properties.draws import surfaces_of
from bayespot.properties.frames import Frames
from bayespot.properties.results import Account, Curve, Result
from bayespot.properties.supercells import conventional_matrix
from bayespot.properties.surfaces import Surfaces
from bayespot.properties.symmetry import primitive_cell, quiet_spglib

STEP = 0.01
"""Å, displacement; twice of it gives the error."""

IMAGINARY = 0.05
"""THz; frequencies below minus this are instabilities, above it rounding near the zone's centre."""

SIZE = 2
MESH = 12

PLANCK = 4.135667696e-3
"""eV/THz: h of the 2019 SI, 6.62607015e-34 J s, over the elementary charge, times 1e12."""


class ForceConstants:
    """Force constants of one crystal on many frames, by phonopy with one search for symmetry.

    The frames are one crystal under deformations that keep its symmetry: displacements, rotations
    and lattice vectors of the supercell are those of the first frame.

    Parameters
    ----------
    surfaces : Surfaces
    frames : Frames
        Relaxed primitive cells.
    matrix : ndarray [3, 3]
        Integer rows of the supercell.
    step : float
        Å.
    """

    def __init__(self, surfaces: Surfaces, frames: Frames, matrix: np.ndarray, step: float) -> None:
        from phonopy import Phonopy
        from phonopy.structure.atoms import PhonopyAtoms

        cell = PhonopyAtoms(symbols=list(frames.symbols), cell=frames.cells[0],
                            positions=frames.positions[0])  # fmt: skip
        with quiet_spglib():
            self.phonopy = Phonopy(cell, np.asarray(matrix).T, primitive_matrix=np.eye(3),
                                   log_level=0)  # fmt: skip
            self.phonopy.generate_displacements(distance=step)
        displaced = self._displaced(frames)
        self.count = len(self.phonopy.displacements)
        forces = surfaces.evaluate(displaced).forces
        self.forces = forces.reshape(len(frames), self.count, displaced.n_atoms, 3)

    def _displaced(self, frames: Frames) -> Frames:
        """Supercells of all frames with each displacement, in phonopy's order of atoms."""
        big, small = self.phonopy.supercell, self.phonopy.primitive
        basis = np.array([small.p2p_map[i] for i in small.s2p_map])
        vectors = np.rint(
            (big.positions - frames.positions[0][basis]) @ np.linalg.inv(frames.cells[0])
        )
        perfect = frames.positions[:, basis] + vectors @ frames.cells
        moves = np.zeros((len(self.phonopy.displacements), len(big), 3))
        for k, (atom, *move) in enumerate(self.phonopy.displacements):
            moves[k, int(atom)] = move
        cells = np.rint(np.asarray(big.cell) @ np.linalg.inv(frames.cells[0])) @ frames.cells
        m = len(moves)
        return Frames(
            tuple(np.array(frames.symbols)[basis].tolist()), frames.pbc,
            (perfect[:, None] + moves).reshape(-1, len(big), 3), np.repeat(cells, m, axis=0),
            np.repeat(frames.surface, m),
        )  # fmt: skip

    def of(self, k: int) -> Any:
        """The phonopy object with the force constants of frame ``k``; valid until the next call."""
        self.phonopy.forces = self.forces[k]
        with quiet_spglib():
            self.phonopy.produce_force_constants(
                show_drift=False, calculate_full_force_constants=False
            )
        return self.phonopy


def phonons(
    source: Any, crystal: Atoms, *, size: int | Sequence[int] = SIZE, mesh: int = MESH,
    step: float = STEP, points: int = 60,
) -> Result:
    """Frequencies along the special directions of the zone, and their density.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    crystal : ase.Atoms
    size : int or sequence of int
        Repeats of the conventional cell in which atoms are displaced.
    mesh : int
        Points along each reciprocal axis for the density of states.
    step : float
        Å.
    points : int
        Along the path.

    Returns
    -------
    Result
        "lowest frequency at X", "highest frequency at X", ... of all special points (THz; imaginary
        ones are negative), "zero-point energy" (eV/atom). The numerical error is a third of the
        difference to twice the displacement. Curves "bands" (THz along the path) and "density of
        states". A mode below -0.05 THz is an instability.

    Raises
    ------
    PropertyError
        If the crystal is given in a cell larger than its conventional one.
    """
    surfaces = surfaces_of(source)
    account, crystal = Account(surfaces.n), primitive_cell(crystal)
    found = relaxed_crystal(surfaces, crystal, account)
    matrix = conventional_matrix(crystal, size)
    special = crystal.cell.bandpath(npoints=0).special_points
    points_of = list(special.values())
    path = crystal.cell.bandpath(npoints=points)
    rows = [
        _rows(ForceConstants(surfaces, found.frames, matrix, h), points_of, path.kpts, mesh)
        for h in (step, 2 * step)
    ]
    at_points = np.array([[row[0] for row in of_step] for of_step in rows])
    bands = np.array([row[1] for row in rows[0]])
    zero, lowest, grid, density = zip(*(row[2:] for row in rows[0]), strict=True)
    zero_two = np.array([row[2] for row in rows[1]])
    x, ticks, labels = path.get_linear_kpoint_axis()
    error = np.abs(at_points[0] - at_points[1]) / 3.0
    quantities: dict[str, tuple] = {}
    for j, name in enumerate(special):
        ends = ("highest",) if name == "G" else ("lowest", "highest")
        for end, branch in zip(ends[::-1], (-1, 0), strict=False):
            shown = "Γ" if name == "G" else name
            quantities[f"{end} frequency at {shown}"] = (
                at_points[0][:, j, branch], error[:, j, branch], "THz"
            )
    n = len(crystal)
    quantities["zero-point energy"] = (
        np.array(zero) / n, (np.array(zero) - zero_two) / (3.0 * n), "eV/atom"
    )
    softest = np.minimum(np.array(lowest), bands.min(axis=(1, 2)))
    account.instability("imaginary phonons", softest < -IMAGINARY)
    frequency = np.linspace(min(0.0, min(g.min() for g in grid)), max(g.max() for g in grid), 200)
    dos = np.array([np.interp(frequency, g, d) for g, d in zip(grid, density, strict=True)])
    marks = dict(zip([f"{k}:{label}" for k, label in enumerate(labels)], ticks, strict=True))
    return account.result("phonons", quantities, {
        "bands": Curve(x, bands, "wave vector", "1/Å", "THz", marks),
        "density of states": Curve(frequency, dos, "frequency", "THz", "1/THz"),
    })  # fmt: skip


def _rows(fits: ForceConstants, points: Any, path: np.ndarray, mesh: int) -> list[tuple]:
    """Frequencies at points and along a path, and what `_on_mesh` gives, of every frame."""
    return [
        (_frequencies(phonon, points), _frequencies(phonon, path), *_on_mesh(phonon, mesh))
        for phonon in (fits.of(k) for k in range(len(fits.forces)))
    ]


def _frequencies(phonon: Any, points: Any) -> np.ndarray:
    """Frequencies at q points in axes of the reciprocal cell, THz, [q, branches], ascending."""
    phonon.run_qpoints(np.asarray(points))
    return np.sort(phonon.qpoints.frequencies, axis=1)


def _on_mesh(phonon: Any, mesh: int) -> tuple[float, float, np.ndarray, np.ndarray]:
    """Zero-point energy (eV per cell), lowest frequency, and the density of states on a mesh."""
    with quiet_spglib():
        phonon.run_mesh([mesh] * 3, is_gamma_center=True)
    frequencies, weights = phonon.mesh.frequencies, phonon.mesh.weights
    zero = 0.5 * PLANCK * (weights[:, None] * np.clip(frequencies, 0, None)).sum() / weights.sum()
    phonon.run_total_dos()
    dos = phonon.total_dos
    return float(zero), float(frequencies.min()), dos.frequency_points, dos.dos
