"""Calculations of a study, each made once: one small file a calculation, addressed by content.

The file of a calculation is named after its structure and its settings and is written whole or not
at all, so a study that was killed goes on where it was, and a value that is added to a scan costs
only its own calculations.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.errors import OracleError
from bayespot.oracles import Oracle, calculation_key, make_oracle
from bayespot.records import read_json, write_json

__all__ = ["Calculations", "Outcome"]

MakeOracle = Callable[[str, Mapping[str, Any]], Oracle]


@dataclass(frozen=True)
class Outcome:
    """What a calculation gave: labels, or the reason why not.

    Attributes
    ----------
    energy : float
        eV, of the cell.
    forces : ndarray, shape (n_atoms, 3)
        eV/Å.
    stress : ndarray, shape (6,), or None
        eV/Å³.
    cpu : float
        CPU seconds, as the oracle says or else of this process and its children.
    failed : str
        Reason of a failure, empty if there was none.
    version : str
        Of the code.
    """

    energy: float = float("nan")
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    cpu: float = 0.0
    failed: str = ""
    version: str = ""


class Calculations:
    """Calculations with one code, kept in a folder.

    Parameters
    ----------
    folder : path
        Where the files are; made when the first is written.
    code : str
        Name of the oracle.
    make : callable
        (name, settings) to `Oracle`, such as `bayespot.oracles.make_oracle`.
    retry_failed : bool
        Make failed calculations again, each once.
    """

    def __init__(
        self,
        folder: str | Path,
        code: str,
        make: MakeOracle = make_oracle,
        *,
        retry_failed: bool = False,
    ) -> None:
        self.folder, self.code = Path(folder), code
        self._retry, self._make = retry_failed, make
        self._known: dict[str, Outcome] = {}

    def oracle(self, settings: Mapping[str, Any]) -> Oracle:
        """Oracle for these keywords; a mistake in them is found here, before the first structure.

        Raises
        ------
        ConfigError
            If the calculator refuses the keywords.
        """
        return self._make(self.code, settings)

    def get(self, oracle: Oracle, settings: Mapping[str, Any], structure: Atoms) -> Outcome:
        """Labels of a structure, from the folder or calculated now.

        Parameters
        ----------
        oracle : Oracle
            Of `oracle`, for these settings.
        settings : mapping
            Keywords. The address of the calculation holds them whole: an oracle may leave out of
            its identity what decides how a label is reached only, and that is scanned here too.
        structure : Atoms
        """
        identity = {"oracle": dict(oracle.settings), "keywords": dict(settings)}
        key = calculation_key(structure, identity)
        if key in self._known:
            return self._known[key]
        path = self.folder / f"{key}.json"
        outcome = _outcome_of(read_json(path)) if path.is_file() else None
        if outcome is None or (outcome.failed and self._retry):
            outcome = _calculate(oracle, structure)
            write_json(path, _record_of(outcome, identity))
        self._known[key] = outcome
        return outcome


def _calculate(oracle: Oracle, structure: Atoms) -> Outcome:
    start = _cpu()
    try:
        result = oracle.label(structure)
    except OracleError as error:
        return Outcome(cpu=_cpu() - start, failed=str(error))
    cost = result.metadata.get("cpu_time_s")
    return Outcome(
        energy=float(result.energy),
        forces=np.asarray(result.forces, dtype=float),
        stress=None if result.stress is None else np.asarray(result.stress, dtype=float),
        cpu=_cpu() - start if cost is None else float(cost),
        version=str(result.metadata.get("version", "")),
    )


def _cpu() -> float:
    """CPU seconds (user and system) of this process and of children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def _record_of(outcome: Outcome, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **identity,
        "energy": outcome.energy,
        "forces": outcome.forces,
        "stress": outcome.stress,
        "cpu_time_s": outcome.cpu,
        "failed": outcome.failed,
        "version": outcome.version,
    }


def _outcome_of(record: Mapping[str, Any]) -> Outcome:
    if record["failed"]:
        return Outcome(cpu=record["cpu_time_s"], failed=record["failed"])
    stress = record["stress"]
    return Outcome(
        energy=record["energy"],
        forces=np.array(record["forces"], dtype=float),
        stress=None if stress is None else np.array(stress, dtype=float),
        cpu=record["cpu_time_s"],
        version=record["version"],
    )
