"""What every oracle gives, and how a calculation is addressed by its content.

An oracle is anything with a ``name``, the ``settings`` that decide its labels (plain JSON, so
that they can be hashed and written down) and ``label(structure)``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from bayespot.errors import OracleError
from bayespot.records import canonical_json

MAX_FORCE = 100.0
"""Forces above this (eV/Å) are taken for a broken calculation, not for a label."""

GRID = 1e-6
"""Å; positions and cells that agree to this are the same structure to hashes."""


@dataclass(frozen=True)
class LabelledResult:
    """What one calculation gave.

    Attributes
    ----------
    energy : float
        Free energy of the cell (eV), consistent with the forces.
    forces : ndarray, shape (n_atoms, 3)
        eV/Å.
    stress : ndarray, shape (6,), or None
        eV/Å³, ASE sign, Voigt order; None where the cell has vacuum or the code gives none.
    metadata : mapping
        Code, version, settings, wall time (s), iterations: whatever JSON can hold.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Oracle(Protocol):
    """Something that labels structures."""

    name: str
    settings: Mapping[str, Any]

    def label(self, structure: Atoms) -> LabelledResult:
        """Calculate energy, forces and stress; raise `OracleError` where that failed."""
        ...


def label_provenances(oracle: Oracle) -> list[Mapping[str, Any]]:
    """Kinds of labels that an oracle may give, to compare with those of a data set.

    Parameters
    ----------
    oracle : Oracle
        Its ``provenances`` if it has any, or its settings.

    Returns
    -------
    list of mapping
        See `bayespot.data.provenance`; empty where nothing is known.
    """
    if hasattr(oracle, "provenances"):
        return list(oracle.provenances)
    return [] if oracle.settings.get("oracle") == "archive" else [{"settings": oracle.settings}]


def structure_hash(structure: Atoms) -> str:
    """Content hash of a structure: species, positions, cell, periodicity, initial moments.

    Lengths are rounded to 1e-6 Å, so that writing to a text file and back changes nothing.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    digest.update(np.asarray(structure.numbers, dtype="<i8").tobytes())
    digest.update(np.asarray(structure.pbc, dtype="<i8").tobytes())
    for lengths in (structure.cell.array, structure.positions):
        digest.update(np.rint(np.asarray(lengths) / GRID).astype("<i8").tobytes())
    if structure.has("initial_magmoms"):
        moments = structure.get_initial_magnetic_moments()
        if np.any(moments):
            digest.update(np.rint(moments / GRID).astype("<i8").tobytes())
    return digest.hexdigest()


def calculation_key(structure: Atoms, settings: Mapping[str, Any]) -> str:
    """Content address of a calculation: the structure and everything that decides its label."""
    text = structure_hash(structure) + canonical_json(dict(settings))
    return hashlib.sha256(text.encode()).hexdigest()


def check_label(structure: Atoms, result: LabelledResult, max_force: float = MAX_FORCE) -> None:
    """Refuse what cannot be the label of this structure.

    Raises
    ------
    OracleError
        Wrong number of atoms, wrong shape, a number that is not finite, or a huge force. The
        message is the reason that the ledger keeps.
    """
    n_atoms = len(structure)
    # Finite first: a comparison with NaN is False, so a NaN would pass the limit on forces.
    if not np.isfinite(result.energy):
        raise OracleError(f"the energy is not finite ({result.energy})", "not_finite")
    forces = np.asarray(result.forces)
    if forces.ndim != 2 or forces.shape[1] != 3:
        expected = f"expected ({n_atoms}, 3)"
        raise OracleError(f"the forces have shape {forces.shape}, {expected}", "wrong_atoms")
    if len(forces) != n_atoms:
        raise OracleError(
            f"wrong number of atoms: forces on {len(forces)}, asked for {n_atoms}", "wrong_atoms"
        )
    if not np.all(np.isfinite(forces)):
        bad = int(np.sum(~np.isfinite(forces)))
        raise OracleError(f"{bad} force components are not finite", "not_finite")
    largest = float(np.max(np.linalg.norm(forces, axis=1), initial=0.0))
    if largest > max_force:
        raise OracleError(
            f"a force of {largest:.3g} eV/Å is beyond the limit of {max_force:g}", "huge_forces"
        )
    if result.stress is not None:
        stress = np.asarray(result.stress)
        if stress.shape != (6,):
            raise OracleError(f"the stress has shape {stress.shape}, expected (6,)", "wrong_atoms")
        if not np.all(np.isfinite(stress)):
            raise OracleError("the stress is not finite", "not_finite")
