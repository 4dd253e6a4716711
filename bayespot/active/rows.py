"""Rows of the ledger's database: one calculation as ASE keeps it, and as bayespot reads it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.db
import numpy as np
from ase import Atoms
from ase.db.core import now
from ase.db.row import AtomsRow

from bayespot.oracles import LabelledResult

__all__ = ["DATABASE", "STATES", "Entry", "create_database", "entry_of", "event", "row_of"]

STATES = ("asked", "running", "done", "failed")
"""The states of a calculation, in the order in which it goes through them."""

DATABASE = "ledger.db"
"""Name of the database in a campaign folder."""


@dataclass(frozen=True)
class Entry:
    """One calculation.

    Attributes
    ----------
    key : str
        Content address: 64 hexadecimal digits.
    state : str
        One of `STATES`.
    round : int
        Round of the campaign that asked for it.
    attempts : int
        How often it was started.
    structure : Atoms
        Geometry only.
    result : LabelledResult or None
        The label, once done.
    data : mapping
        ``role``, ``index`` (in the pool), ``family``, ``reason`` (of a failure), ``settings``,
        ``events`` (state, time, host, process of every change), ``metadata``.
    """

    key: str
    state: str
    round: int
    attempts: int
    structure: Atoms
    result: LabelledResult | None
    data: Mapping[str, Any] = field(default_factory=dict)


def create_database(folder: Path) -> None:
    """Make an empty database beside and move it into place.

    ASE makes its tables one statement at a time; a kill in between would leave a database that
    cannot be opened again.
    """
    temporary = folder / f".{DATABASE}.part"
    # The journal too: SQLite would roll it back into the new file.
    for left in (temporary, temporary.with_name(f"{temporary.name}-journal")):
        left.unlink(missing_ok=True)
    database = ase.db.connect(temporary, type="db", use_lock_file=False, serial=True)
    with database:
        database.count()
    os.replace(temporary, folder / DATABASE)


def event(state: str) -> dict[str, Any]:
    """Stamp a change of state with time, host and process."""
    host = socket.gethostname()
    return {"state": state, "time": time.time(), "host": host, "pid": os.getpid()}


def row_of(
    structure: Atoms,
    key: str,
    old: AtomsRow | None = None,
    result: LabelledResult | None = None,
) -> AtomsRow:
    """Database row with the content address as its unique name."""
    content: dict[str, Any] = {
        "unique_id": key,
        "numbers": structure.numbers.astype(np.int32),
        "positions": structure.positions,
        "cell": structure.cell.array,
        "pbc": structure.pbc,
        "ctime": old.ctime if old is not None else now(),
        "user": os.getenv("USER"),
    }
    if structure.has("initial_magmoms"):
        content["initial_magmoms"] = structure.get_initial_magnetic_moments()
    if result is not None:
        code = str(result.metadata.get("code", "unknown"))
        content |= {"calculator": code, "calculator_parameters": {}}
        # Both columns: readers of ASE databases take `energy`, the meaning is the free energy.
        content |= {"energy": result.energy, "free_energy": result.energy}
        content["forces"] = np.asarray(result.forces, dtype=float)
        if result.stress is not None:
            content["stress"] = np.asarray(result.stress, dtype=float)
    return AtomsRow(content)


def entry_of(row: AtomsRow) -> Entry:
    """Read a database row."""
    data = dict(row.data)
    structure = row.toatoms()
    structure.calc = None
    result = None
    if row.state == "done":
        stress = row.get("stress")
        result = LabelledResult(
            energy=float(row.free_energy),
            forces=np.array(row.forces),
            stress=None if stress is None else np.array(stress),
            metadata=data.get("metadata", {}),
        )
    return Entry(
        key=row.unique_id,
        state=row.state,
        round=int(row.round),
        attempts=int(row.attempts),
        structure=structure,
        result=result,
        data=data,
    )
