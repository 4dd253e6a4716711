"""Labels from any ASE calculator, by its name and keywords.

No code from a configuration file is evaluated: names are looked up, keywords are handed to the
calculator.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import (
    PropertyNotImplementedError,
    get_calculator_class,
)
from ase.calculators.calculator import names as ase_names

from bayespot.data.dataset import has_vacuum
from bayespot.errors import ConfigError, OracleError
from bayespot.oracles.base import MAX_FORCE, LabelledResult, check_label
from bayespot.records import canonical_json


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
