"""Labels from a calculation: any ASE calculator by name, or an archive of earlier ones.

An oracle is anything with a ``name``, the ``settings`` that decide its labels (plain JSON, so
that they can be hashed and written down) and ``label(structure)``. No code from a configuration
file is evaluated: names are looked up, keywords are handed to the calculator.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import importlib.util
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    PropertyNotImplementedError,
    get_calculator_class,
)
from ase.calculators.calculator import names as ase_names

from bayespot.active.records import canonical_json
from bayespot.data.dataset import Dataset, has_vacuum
from bayespot.errors import ConfigError, OracleError

__all__ = [
    "MAX_FORCE",
    "ArchiveOracle",
    "CalculatorOracle",
    "LabelledResult",
    "Oracle",
    "calculation_key",
    "check_label",
    "make_oracle",
    "structure_hash",
]

MAX_FORCE = 100.0
"""Forces above this (eV/Å) are taken for a broken calculation, not for a label."""

_GRID = 1e-6
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
        digest.update(np.rint(np.asarray(lengths) / _GRID).astype("<i8").tobytes())
    if structure.has("initial_magmoms"):
        moments = structure.get_initial_magnetic_moments()
        if np.any(moments):
            digest.update(np.rint(moments / _GRID).astype("<i8").tobytes())
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
        raise OracleError(f"the energy is not finite ({result.energy})")
    forces = np.asarray(result.forces)
    if forces.ndim != 2 or forces.shape[1] != 3:
        raise OracleError(f"the forces have shape {forces.shape}, expected ({n_atoms}, 3)")
    if len(forces) != n_atoms:
        raise OracleError(f"wrong number of atoms: forces on {len(forces)}, asked for {n_atoms}")
    if not np.all(np.isfinite(forces)):
        raise OracleError(f"{int(np.sum(~np.isfinite(forces)))} force components are not finite")
    largest = float(np.max(np.linalg.norm(forces, axis=1), initial=0.0))
    if largest > max_force:
        raise OracleError(f"a force of {largest:.3g} eV/Å is beyond the limit of {max_force:g}")
    if result.stress is not None:
        stress = np.asarray(result.stress)
        if stress.shape != (6,):
            raise OracleError(f"the stress has shape {stress.shape}, expected (6,)")
        if not np.all(np.isfinite(stress)):
            raise OracleError("the stress is not finite")


def _plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn settings into plain JSON, or say why they are not."""
    try:
        return json.loads(canonical_json(dict(settings)))
    except TypeError as error:
        raise ConfigError(
            f"oracle settings must be numbers, strings, booleans, lists and tables: {error}"
        ) from None


def _build_gpaw(settings: dict[str, Any]) -> Any:
    if importlib.util.find_spec("gpaw") is None:
        raise ConfigError("the oracle 'gpaw' needs GPAW: pip install gpaw (or the archive oracle)")
    if "maximum iterations" in settings.get("convergence", {}):
        raise ConfigError(
            "convergence = {'maximum iterations': ...} makes GPAW stop early and hand out "
            "unconverged labels without a word; use maxiter, which raises instead"
        )
    from gpaw import GPAW

    return GPAW(**{"txt": None, **settings})


#: Calculators whose construction needs more than a name and keywords.
_BUILDERS: dict[str, Callable[[dict[str, Any]], Any]] = {"gpaw": _build_gpaw}


def _build_calculator(name: str, settings: dict[str, Any]) -> Any:
    """Make a fresh calculator from a name and keywords."""
    if name in _BUILDERS:
        return _BUILDERS[name](settings)
    return get_calculator_class(name)(**settings)


class CalculatorOracle:
    """Labels from any ASE calculator, built afresh for every structure.

    Parameters
    ----------
    name : str
        ``"gpaw"``, ``"emt"``, ``"lj"`` or any name that ASE knows.
    settings : mapping
        Keywords of the calculator, plain JSON (as they come from TOML).
    max_force : float
        Limit on a force (eV/Å) above which the calculation counts as failed.

    Raises
    ------
    ConfigError
        Unknown name, missing package, or keywords that the calculator refuses. They are tried
        here, once, so that a typing error does not fail every structure of a campaign.
    """

    def __init__(
        self, name: str, settings: Mapping[str, Any] | None = None, *, max_force: float = MAX_FORCE
    ) -> None:
        known = sorted({*ase_names, *_BUILDERS})
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "see ase.calculators for the names"
            raise ConfigError(f"unknown oracle '{name}'; {hint}")
        self.name = name
        self.max_force = float(max_force)
        self._keywords = _plain_settings(settings or {})
        self.settings: dict[str, Any] = {"oracle": name, "keywords": self._keywords}
        try:
            _build_calculator(name, self._fresh_keywords())
        except (ImportError, TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f"the calculator '{name}' cannot be made with {self._keywords}: {error}; "
                "correct [learn.oracle_settings]"
            ) from error

    def _fresh_keywords(self) -> dict[str, Any]:
        """Make a copy that a calculator may change without changing the next one's."""
        return json.loads(json.dumps(self._keywords))

    def label(self, structure: Atoms) -> LabelledResult:
        """Calculate one structure.

        The energy is the free energy: with smearing, forces and stress are its derivatives, and
        ASE's default (the extrapolation to zero smearing) disagrees with them by some per cent.
        """
        atoms = structure.copy()
        atoms.set_constraint()  # constraints would set forces to zero
        start, cpu = time.perf_counter(), time.process_time()
        # Codes fail in any way they like; each way is this structure's failure, not the end.
        try:
            atoms.calc = _build_calculator(self.name, self._fresh_keywords())
            energy, kind = _energy(atoms)
            forces = np.array(atoms.get_forces(), dtype=float)
            stress = _stress(atoms)
            if getattr(atoms.calc, "converged", None) is False:
                raise OracleError("not converged: the calculator says so")
        except OracleError:
            raise
        except Exception as error:
            raise OracleError(_reason(error)) from error
        result = LabelledResult(
            energy=energy,
            forces=forces,
            stress=stress,
            metadata={
                "code": self.name,
                "version": _version(self.name),
                "energy_kind": kind,
                "settings": self._fresh_keywords(),
                "wall_time_s": time.perf_counter() - start,
                "cpu_time_s": time.process_time() - cpu,
                "iterations": _iterations(atoms.calc),
            },
        )
        check_label(structure, result, self.max_force)
        return result


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


def _reason(error: Exception) -> str:
    """One line that says what went wrong, also for exceptions without a message."""
    kind = type(error).__name__
    text = " ".join(str(error).split())[:500]
    if "convergence" in kind.lower() or "notconverged" in kind.lower():
        return f"not converged: {kind}{': ' + text if text else ''}"
    return f"{kind}: {text}" if text else kind


def _iterations(calculator: Any) -> int | None:
    """Self-consistency iterations where the calculator tells."""
    try:
        return int(calculator.get_number_of_iterations())
    except Exception:  # every code has its own way of not knowing; a label does not need it
        return None


def _version(name: str) -> str:
    """Version of the package behind a calculator; ASE's own for those that live in ASE."""
    for package in (name, "ase"):
        try:
            return f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


class ArchiveOracle:
    """Labels looked up in a data set that was calculated before.

    Parameters
    ----------
    dataset : Dataset
        Structures with labels; every structure that is asked for must be among them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.name = "archive"
        self.settings: dict[str, Any] = {"oracle": "archive", "dataset": dataset.fingerprint()}
        self._dataset = dataset
        self._rows = {structure_hash(s): i for i, s in enumerate(dataset.structures)}

    def label(self, structure: Atoms) -> LabelledResult:
        """Look one structure up.

        Raises
        ------
        OracleError
            If the archive lacks the structure, its energy or its forces.
        """
        row = self._find(structure)
        if row is None:
            raise OracleError(
                f"{structure.get_chemical_formula()} ({len(structure)} atoms) is not in the "
                f"archive {self._dataset.source}; take the pool from the archive itself, or "
                "calculate with oracle = 'gpaw' or another calculator"
            )
        labels = self._dataset.labels[row]
        missing = [n for n in ("energy", "forces") if getattr(labels, n) is None]
        if missing:
            what = " and no ".join(missing)
            raise OracleError(f"entry {row} of {self._dataset.source} has no {what}")
        stress = None if labels.stress is None or has_vacuum(structure) else labels.stress
        result = LabelledResult(
            energy=float(labels.energy),
            forces=np.array(labels.forces, dtype=float),
            stress=None if stress is None else np.array(stress, dtype=float),
            metadata={"code": "archive", "source": str(self._dataset.source), "entry": row},
        )
        check_label(structure, result)
        return result

    def _find(self, structure: Atoms) -> int | None:
        """Row of a structure; by hash, or within the rounding of text files where that fails."""
        row = self._rows.get(structure_hash(structure))
        if row is not None:
            return row
        for i, known in enumerate(self._dataset.structures):
            if (
                len(known) == len(structure)
                and np.array_equal(known.numbers, structure.numbers)
                and np.allclose(known.cell.array, structure.cell.array, rtol=0, atol=10 * _GRID)
                and np.allclose(known.positions, structure.positions, rtol=0, atol=10 * _GRID)
            ):
                return i
        return None


def make_oracle(
    name: str, settings: Mapping[str, Any] | None = None, *, archive: Dataset | None = None
) -> Oracle:
    """Oracle from its name in a configuration file.

    Parameters
    ----------
    name : str
        ``"archive"``, ``"gpaw"`` or any ASE calculator.
    settings : mapping, optional
        Keywords of the calculator.
    archive : Dataset, optional
        Where the archive oracle looks.

    Raises
    ------
    ConfigError
        Unknown name, unusable keywords, or an archive oracle without an archive.
    """
    if name != "archive":
        return CalculatorOracle(name, settings)
    if archive is None:
        raise ConfigError("oracle = 'archive' needs a labelled pool; set [learn] pool to one")
    if settings:
        raise ConfigError(
            f"oracle = 'archive' takes no settings, got {sorted(settings)}; remove "
            "[learn.oracle_settings] or name a calculator"
        )
    return ArchiveOracle(archive)
