"""Errors of one setting against a more exact one, over structures.

Four quantities: the energy per atom; the energy differences between structures, which are what a
potential learns; force components; stress components. For the differences the offset per species
that a potential fits anyway is taken out: with d_c the error of the energy of structure c per atom
and x_c its composition (fraction of each species),

    r = d - X b,  b by least squares,   error = sqrt(sum_c r_c^2 / (C - rank X)),

which for one species is the standard deviation of d, 1/sqrt(2) of the error of a difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from bayespot.convergence.calculations import Outcome
from bayespot.data.dataset import has_vacuum

__all__ = ["FORCE_ZERO", "MEASURES", "Errors", "Pair", "errors_of", "pairs_of"]

MEASURES = ("energy", "energy_difference", "forces", "stress")
"""The four errors, in the order of tables."""

FORCE_ZERO = 1e-4
"""eV/Å; structures whose forces are all below this have none by symmetry, and no error of one."""

_VOIGT_COUNT = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])


@dataclass(frozen=True)
class Pair:
    """Errors of one structure.

    Attributes
    ----------
    energy : float
        eV/atom.
    composition : ndarray, shape (n_species,)
        Fractions.
    forces : ndarray, shape (n_atoms, 3), or None
        eV/Å; None where symmetry leaves no forces.
    stress : ndarray, shape (6,), or None
        eV/Å³.
    """

    energy: float
    composition: np.ndarray
    forces: np.ndarray | None
    stress: np.ndarray | None


@dataclass(frozen=True)
class Errors:
    """Errors of one setting.

    Attributes
    ----------
    rms : mapping of str to float or None
        Root mean square by measure (eV/atom, eV/atom, eV/Å, eV/Å³); None where there is nothing to
        measure. Of stresses over the nine components of the tensor.
    largest : mapping of str to float or None
        The largest of the same.
    n : int
        Number of structures.
    """

    rms: Mapping[str, float | None] = field(default_factory=dict)
    largest: Mapping[str, float | None] = field(default_factory=dict)
    n: int = 0


def pairs_of(
    structures: Sequence[Atoms], coarse: Sequence[Outcome], fine: Sequence[Outcome]
) -> dict[int, Pair]:
    """Differences coarse - fine of all structures for which neither calculation failed.

    Returns
    -------
    dict of int to Pair
        By index of the structure.
    """
    species = sorted({symbol for atoms in structures for symbol in atoms.symbols})
    found = {}
    for i, (atoms, low, high) in enumerate(zip(structures, coarse, fine, strict=True)):
        if low.failed or high.failed:
            continue
        n = len(atoms)
        symmetric = np.max(np.abs(high.forces), initial=0.0) < FORCE_ZERO and (
            np.max(np.abs(low.forces), initial=0.0) < FORCE_ZERO
        )
        no_stress = low.stress is None or high.stress is None or has_vacuum(atoms)
        found[i] = Pair(
            energy=(low.energy - high.energy) / n,
            composition=np.array([list(atoms.symbols).count(s) / n for s in species]),
            forces=None if symmetric else low.forces - high.forces,
            stress=None if no_stress else low.stress - high.stress,
        )
    return found


def energy_residuals(pairs: Sequence[Pair]) -> tuple[np.ndarray, int]:
    """Errors of energies per atom without the offset per species, and how many are free.

    Returns
    -------
    ndarray, shape (n_structures,)
        eV/atom.
    int
        Number of structures less the number of offsets taken out.
    """
    d = np.array([pair.energy for pair in pairs])
    composition = np.array([pair.composition for pair in pairs])
    offsets, _, rank, _ = np.linalg.lstsq(composition, d, rcond=None)
    return d - composition @ offsets, len(d) - int(rank)


def errors_of(pairs: Sequence[Pair]) -> Errors:
    """Errors over structures."""
    if not pairs:
        nothing = dict.fromkeys(MEASURES)
        return Errors(dict(nothing), dict(nothing), 0)
    d = np.array([pair.energy for pair in pairs])
    rest, free = energy_residuals(pairs)
    forces = [pair.forces.ravel() for pair in pairs if pair.forces is not None]
    stress = [pair.stress for pair in pairs if pair.stress is not None]
    rms: dict[str, float | None] = {
        "energy": _rms(d),
        "energy_difference": float(np.sqrt(np.sum(rest**2) / free)) if free > 0 else None,
        "forces": _rms(np.concatenate(forces)) if forces else None,
        "stress": stress_rms(stress),
    }
    largest: dict[str, float | None] = {
        "energy": float(np.max(np.abs(d))),
        "energy_difference": float(np.max(np.abs(rest))) if free > 0 else None,
        "forces": float(np.max(np.abs(np.concatenate(forces)))) if forces else None,
        "stress": float(np.max(np.abs(stress))) if stress else None,
    }
    return Errors(rms, largest, len(pairs))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def stress_rms(values: Sequence[np.ndarray]) -> float | None:
    """Root mean square over the nine components of tensors in Voigt order [n, 6]."""
    if not values:
        return None
    return float(np.sqrt(np.mean(np.square(values) @ _VOIGT_COUNT) / 9.0))
