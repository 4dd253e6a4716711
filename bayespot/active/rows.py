"""Rows of the ledger's database: one calculation as ASE keeps it, and as bayespot reads it."""

from __future__ import annotations

import json
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
from ase.db.core import Database, now
from ase.db.row import AtomsRow

from bayespot.active.jobs import Failure
from bayespot.oracles import LabelledResult
from bayespot.records import canonical_json

__all__ = [
    "DATABASE",
    "STATES",
    "Entry",
    "advance",
    "create_database",
    "entry_of",
    "event",
    "row_of",
    "storable",
]

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
        ``role``, ``index`` (in the pool), ``family``, ``settings``, ``events`` (state, time, host,
        process of every change), ``metadata`` of a label; of a failure ``reason``, ``kind`` (the
        word to count by) and ``tried`` (what the oracle did about it, in order).
    owner : str or None
        Who has it under way, see `leases.Lease`.
    """

    key: str
    state: str
    round: int
    attempts: int
    structure: Atoms
    result: LabelledResult | None
    data: Mapping[str, Any] = field(default_factory=dict)
    owner: str | None = None


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


def storable(value: Any) -> Any:
    """Turn a value into JSON that every database takes.

    PostgreSQL refuses zero characters and halves of surrogate pairs, which crashed codes print.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return json.loads(canonical_json(value))


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


def advance(
    db: Database,
    old: AtomsRow,
    after: str,
    stamp: Mapping[str, Any],
    *,
    owner: str | None = None,
    more: int = 0,
    least: int = 0,
    failure: Failure | None = None,
    result: LabelledResult | None = None,
) -> None:
    """Write a row's next state.

    Parameters
    ----------
    db : Database
        With the write lock.
    old : AtomsRow
        The row as it is.
    after : str
        New state.
    stamp : mapping
        Of `event`.
    owner : str, optional
        Who has it from now on; kept while it is running only.
    more, least : int
        Starts to add, and how many there were at least.
    failure, result : optional
        What came of it.
    """
    pairs = {"round": old.round, "state": after, "attempts": max(int(old.attempts) + more, least)}
    if after == "running":
        pairs["owner"] = owner
    data = {**old.data, "events": [*old.data["events"], stamp]}
    if failure is not None:
        data |= storable({"reason": failure.reason, "kind": failure.kind})
        data["tried"] = storable(list(failure.tried))
    if result is None:
        db.update(old.id, delete_keys=["owner"], data=data, **pairs)
        return
    data["metadata"] = storable(dict(result.metadata))
    row = row_of(old.toatoms(), old.unique_id, old, result)
    db.write(row, key_value_pairs=pairs, data=data, id=old.id)


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
            # PostgreSQL sorts the keys of what it stores by their length.
            metadata=json.loads(canonical_json(data.get("metadata", {}))),
        )
    return Entry(
        key=row.unique_id,
        state=row.state,
        round=int(row.round),
        attempts=int(row.attempts),
        structure=structure,
        result=result,
        data=data,
        owner=row.get("owner"),
    )
