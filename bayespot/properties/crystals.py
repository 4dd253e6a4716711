"""Lattice parameters and cohesive energy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import cell_to_cellpar

from bayespot.properties.draws import surfaces_of
from bayespot.properties.results import Account, Result
from bayespot.properties.surfaces import Relaxed, Surfaces
from bayespot.properties.symmetry import symmetry_of

FREE = {
    "cubic": (0,), "tetragonal": (0, 2), "hexagonal": (0, 2), "trigonal": (0, 2),
    "orthorhombic": (0, 1, 2), "monoclinic": (0, 1, 2, 4), "triclinic": (0, 1, 2, 3, 4, 5),
}  # fmt: skip
"""Which of a, b, c, alpha, beta, gamma of the conventional cell a crystal system leaves free."""

LETTERS = ("a", "b", "c", "alpha", "beta", "gamma")

BOX = 20.0
"""Å, the box of a lone atom."""


def relaxed_crystal(surfaces: Surfaces, crystal: Atoms, account: Account) -> Relaxed:
    """The crystal at its minimum on every surface; what failed or changed goes to ``account``.

    A surface that failed gets the crystal as it was given: its numbers are not used, but the
    neighbour lists of what is made of a collapsed crystal would cost more than all others.
    """
    found = surfaces.crystal(crystal)
    account.fail("relaxation of the crystal", ~found.converged)
    grown = found.frames.volumes / abs(np.linalg.det(crystal.cell.array))
    collapsed = (grown > 3.0) | (grown < 0.33)
    account.fail("the crystal flew apart or collapsed", collapsed)
    wrong, given = (~found.converged | collapsed)[:, None, None], surfaces.everywhere(crystal)
    return replace(found, frames=found.frames.moved(
        np.where(wrong, given.positions, found.frames.positions),
        np.where(wrong, given.cells, found.frames.cells),
    ))


def lattice(
    source: Any, crystal: Atoms, *, atom_energies: Mapping[str, float] | None = None
) -> Result:
    """Lattice parameters of the conventional cell, volume and cohesive energy.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    crystal : ase.Atoms
        Any cell of it, near its minimum.
    atom_energies : mapping, optional
        Energies of free atoms, eV. Without them a lone atom is evaluated, which is right for
        potentials and for few DFT set-ups (spin).

    Returns
    -------
    Result
        "a" (and "b", "c", "alpha", ... where they are free; Å and degrees), "volume" (Å^3/atom),
        "cohesive energy" (eV/atom, positive if bound). The numerical error of lengths follows from
        the stress that is left, that of the energy from the forces.

    Raises
    ------
    PropertyError
        If ``crystal`` is no crystal.
    """
    surfaces = surfaces_of(source)
    account = Account(surfaces.n)
    found = relaxed_crystal(surfaces, crystal, account)
    symmetry = symmetry_of(crystal)
    n = len(crystal)
    parameters = np.array(
        [cell_to_cellpar(symmetry.to_conventional @ cell) for cell in found.frames.cells]
    )
    free = FREE[symmetry.system]
    account.instability("the crystal leaves its symmetry", _broken(parameters, symmetry.system))
    strain = np.abs(found.stress).max(axis=1) / (3.0 * _stiffness(surfaces, found))
    quantities = {}
    for k in free:
        unit = "Å" if k < 3 else "degree"
        error = strain * parameters[:, k] if k < 3 else np.degrees(strain)
        quantities[LETTERS[k]] = (parameters[:, k], error, unit)
    volume = found.frames.volumes / n
    quantities["volume"] = (volume, 3.0 * strain * volume, "Å^3/atom")
    lone = np.zeros(surfaces.n)
    for symbol in crystal.get_chemical_symbols():
        lone += _atom_energy(surfaces, symbol, atom_energies)
    quantities["cohesive energy"] = (
        (lone - found.energy) / n, found.energy_error / n, "eV/atom"
    )
    return account.result("lattice", quantities)


def _atom_energy(surfaces: Surfaces, symbol: str, given: Mapping[str, float] | None) -> np.ndarray:
    if given is not None and symbol in given:
        return np.full(surfaces.n, given[symbol])
    box = np.diag([BOX, BOX + 0.1, BOX + 0.2])
    return surfaces.evaluate(surfaces.everywhere(Atoms(symbol, cell=box, pbc=True))).energy


def _stiffness(surfaces: Surfaces, found: Relaxed, h: float = 1e-3) -> np.ndarray:
    """Bulk modulus from the pressures at two volumes, ions not relaxed, eV/Å^3, [n]."""
    stretched = found.frames.deformed(np.array([np.eye(3) * (1 + s * h) for s in (-1, 1)]))
    mean = surfaces.evaluate(stretched).stress[:, :3].mean(axis=1).reshape(-1, 2)
    return np.maximum(np.abs(mean[:, 1] - mean[:, 0]) / (6.0 * h), 1e-3)


def _broken(parameters: np.ndarray, system: str, tolerance: float = 2e-3) -> np.ndarray:
    """Whether lengths or angles that symmetry makes equal differ, [n]."""
    a, b, c, *angles = parameters.T
    angle = np.array(angles).T
    right = {"hexagonal": (90.0, 90.0, 120.0), "trigonal": (90.0, 90.0, 120.0)}.get(
        system, (90.0, 90.0, 90.0)
    )
    wrong = np.zeros(len(parameters), dtype=bool)
    if system in ("cubic", "tetragonal", "hexagonal", "trigonal"):
        wrong |= np.abs(b / a - 1.0) > tolerance
    if system == "cubic":
        wrong |= np.abs(c / a - 1.0) > tolerance
    if system not in ("monoclinic", "triclinic"):
        wrong |= (np.abs(angle - right) > np.degrees(tolerance)).any(axis=1)
    return wrong
