"""One calculation, in whatever process this is: energy, forces, stress and what they came from."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from bayespot.data.dataset import has_vacuum
from bayespot.oracles.codes import Code, merged
from bayespot.oracles.run_settings import RunSettings

__all__ = ["atoms_of", "calculate", "plain_atoms"]


def calculate(
    code: Code,
    keywords: Mapping[str, Any],
    run: RunSettings,
    structure: Atoms,
    folder: Path | None,
    guess: Mapping[str, Any],
) -> dict[str, Any]:
    """Calculate one structure of n atoms.

    The energy is the free energy: with smearing, forces and stress are its derivatives, and ASE's
    default (the extrapolation to zero smearing) disagrees with them by some per cent.

    Parameters
    ----------
    code : Code
    keywords : mapping
        Of the calculator.
    run : RunSettings
    structure : Atoms
    folder : Path, optional
        Where the code writes, for those that do.
    guess : mapping
        Keywords of a calculation made first, whose density the real one starts from; empty for
        none.

    Returns
    -------
    dict
        ``energy`` (eV), ``forces`` [n, 3] (eV/Å), ``stress`` [6] (eV/Å³) or None, ``metadata``.

    Raises
    ------
    OracleError
        With the kind of failure.
    """
    atoms = structure.copy()
    atoms.set_constraint()  # constraints would set forces to zero
    start, cpu = time.perf_counter(), _cpu_seconds()
    # Codes fail in any way they like; each way is this structure's failure, not the end.
    try:
        if guess:
            rough = merged(keywords, guess)
            atoms.calc = code.calculator(rough, run, folder, atoms, saves=True)
            _energy(atoms)
            code.check(atoms.calc, folder)
        atoms.calc = code.calculator(
            merged(keywords, {}), run, folder, atoms, starts=bool(guess)
        )
        energy, kind = _energy(atoms)
        # At once: asked for forces or a stress that its output lacks, ASE would run the code again.
        code.check(atoms.calc, folder)
        forces = np.array(atoms.get_forces(), dtype=float)
        stress = _stress(atoms)
        found = code.provenance(atoms.calc, folder)
    except Exception as error:
        raise code.failure(error, folder) from error
    metadata = {
        **found,
        "energy_kind": kind,
        "wall_time_s": time.perf_counter() - start,
        "cpu_time_s": _cpu_seconds() - cpu,
    }
    return {"energy": energy, "forces": forces, "stress": stress, "metadata": metadata}


def plain_atoms(structure: Atoms) -> dict[str, Any]:
    """Structure as plain JSON, every digit kept."""
    plain = {
        "numbers": structure.numbers.tolist(),
        "positions": structure.positions.tolist(),
        "cell": structure.cell.array.tolist(),
        "pbc": structure.pbc.tolist(),
    }
    if structure.has("initial_magmoms"):
        plain["magmoms"] = structure.get_initial_magnetic_moments().tolist()
    return plain


def atoms_of(plain: dict[str, Any]) -> Atoms:
    """Structure from `plain_atoms`."""
    return Atoms(
        numbers=plain["numbers"], positions=np.reshape(plain["positions"], (-1, 3)),
        cell=plain["cell"], pbc=plain["pbc"], magmoms=plain.get("magmoms"),
    )  # fmt: skip


def _energy(atoms: Atoms) -> tuple[float, str]:
    """Free energy (eV), or the plain energy of a calculator that has no other, and which."""
    try:
        return float(atoms.get_potential_energy(force_consistent=True)), "free_energy"
    except PropertyNotImplementedError:
        return float(atoms.get_potential_energy()), "energy"


def _stress(atoms: Atoms) -> np.ndarray | None:
    """Stress (6,) in eV/Å³, or None where it means nothing or cannot be had."""
    if not np.all(atoms.pbc) or has_vacuum(atoms):
        return None
    try:
        return np.array(atoms.get_stress(), dtype=float)
    except (PropertyNotImplementedError, NotImplementedError):
        return None


def _cpu_seconds() -> float:
    """CPU time of this process and of those it has waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)
