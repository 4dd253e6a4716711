"""The record of every calculation: asked for, running, done or failed.

One row a calculation in an ASE database (``ledger.db``, SQLite), found by its content address
(structure and oracle settings) which the database itself keeps unique. Every change of state is
one transaction, so a killed process leaves the state before or after, never between. SQLite
rolls an interrupted transaction back by itself; there is no lock file to go stale, because the
lock on the folder is held by the kernel and dies with its process.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import ase.db
from ase import Atoms
from ase.db.row import AtomsRow

from bayespot.active.lock import FolderLock
from bayespot.active.rows import DATABASE, STATES, Entry, create_database, entry_of, event, row_of
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import LedgerError
from bayespot.oracles import LabelledResult, calculation_key
from bayespot.records import canonical_json

__all__ = ["Ledger"]


class Ledger:
    """The calculations of one campaign folder.

    Use `Ledger.open` to drive (takes the folder's lock) and `Ledger.read` to look.
    """

    def __init__(self, folder: Path, lock: FolderLock | None) -> None:
        self.folder = folder
        self.path = folder / DATABASE
        self._lock = lock
        self._db = ase.db.connect(self.path, type="db", use_lock_file=False, serial=True)

    # -- opening ---------------------------------------------------------------------------

    @classmethod
    def open(cls, folder: str | Path, *, max_attempts: int = 20) -> Ledger:
        """Open for driving; made if it does not exist.

        Whatever is ``running`` was left by a process that died, since the lock is now ours: it
        goes back to ``asked``, or to ``failed`` after `max_attempts` starts, so that a structure
        that kills its process each time does not do so for ever.

        Raises
        ------
        LedgerError
            If another process drives the folder, or the database cannot be read.
        """
        folder = Path(folder)
        lock = FolderLock(folder)
        lock.acquire()
        try:
            if not (folder / DATABASE).exists():
                create_database(folder)
            ledger = cls(folder, lock)
            ledger._recover(max_attempts)
        except BaseException:
            lock.release()
            raise
        return ledger

    @classmethod
    def read(cls, folder: str | Path) -> Ledger:
        """Open for looking, also while a campaign runs.

        Raises
        ------
        LedgerError
            If the folder has no ledger.
        """
        folder = Path(folder)
        if not (folder / DATABASE).exists():
            raise LedgerError(
                f"{folder} has no {DATABASE}: no campaign was started there; check the path"
            )
        return cls(folder, None)

    def close(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- changes of state --------------------------------------------------------------------

    def ask(
        self,
        structures: Sequence[Atoms],
        settings: Mapping[str, Any],
        *,
        round: int,
        role: str,
        indices: Sequence[int],
        families: Sequence[str],
    ) -> list[str]:
        """Record that calculations are wanted, all in one transaction; known ones stay as they are.

        Parameters
        ----------
        structures : sequence of Atoms
            What to label, in the order of choice.
        settings : mapping
            The oracle's settings.
        round, role : int, str
            Which round asks, and for what (``initial`` or ``batch``).
        indices, families : sequences
            Position in the pool and family of each structure.

        Returns
        -------
        list of str
            Content addresses, in the order of the structures.
        """
        keys = [calculation_key(structure, settings) for structure in structures]
        with self._transaction():
            known = {row.unique_id for row in self._rows(columns=["id", "unique_id"])}
            for key, structure, index, family in zip(
                keys, structures, indices, families, strict=True
            ):
                if key in known:
                    continue
                known.add(key)
                data = {
                    "role": role,
                    "index": int(index),
                    "family": str(family),
                    "settings": json.loads(canonical_json(dict(settings))),
                    "events": [event("asked")],
                }
                row = row_of(structure, key)
                self._put(row, {"state": "asked", "round": int(round), "attempts": 0}, data)
        return keys

    def start(self, key: str) -> None:
        """Go from ``asked`` to ``running``."""
        self._change(key, ("asked",), "running", attempts=1)

    def finish(self, key: str, result: LabelledResult) -> None:
        """Go from ``running`` to ``done``, with the label."""
        self._change(key, ("running",), "done", result=result)

    def fail(self, key: str, reason: str) -> None:
        """Go from ``running`` to ``failed``, with the reason; the calculation is set aside."""
        self._change(key, ("running",), "failed", reason=reason)

    def _recover(self, max_attempts: int) -> None:
        with self._guarded():
            stale = [e for e in self.entries() if e.state == "running"]
        for entry in stale:
            if entry.attempts >= max_attempts:
                reason = f"the process died each of the {entry.attempts} times this was started"
                self.fail(entry.key, reason)
            else:
                self._change(entry.key, ("running",), "asked")

    def _change(
        self,
        key: str,
        before: tuple[str, ...],
        after: str,
        *,
        attempts: int = 0,
        reason: str | None = None,
        result: LabelledResult | None = None,
    ) -> None:
        """One step of one calculation, as one transaction."""
        with self._transaction():
            old = self._find(key)
            if old.state not in before:
                raise LedgerError(
                    f"calculation {key[:12]} is {old.state}, not {before[0]}, and cannot become "
                    f"{after}; another driver or a hand has changed {self.path}"
                )
            pairs = dict(old.key_value_pairs)
            pairs["state"] = after
            pairs["attempts"] = int(old.attempts) + attempts
            data = dict(old.data)
            data["events"] = [*data["events"], event(after)]
            if reason is not None:
                data["reason"] = reason
            row = row_of(old.toatoms(), key, old, result)
            if result is not None:
                data["metadata"] = json.loads(canonical_json(dict(result.metadata)))
            self._put(row, pairs, data, old.id)

    # -- looking -----------------------------------------------------------------------------

    def states(self) -> dict[str, str]:
        """State of every calculation, in the order of asking."""
        with self._guarded(), self._db:
            rows = list(self._rows(columns=["id", "unique_id", "key_value_pairs"]))
        return {row.unique_id: row.state for row in rows}

    def counts(self) -> dict[str, int]:
        """Count the calculations in each state."""
        states = list(self.states().values())
        return {state: states.count(state) for state in STATES}

    def entries(self, keys: Sequence[str] | None = None) -> list[Entry]:
        """Return calculations in the order of asking, or those named, in the order named."""
        with self._guarded(), self._db:
            found = {row.unique_id: entry_of(row) for row in self._db.select(sort="id")}
        if keys is None:
            return list(found.values())
        missing = [key[:12] for key in keys if key not in found]
        if missing:
            raise LedgerError(f"{self.path} has no calculation {missing[0]}; it was never asked")
        return [found[key] for key in keys]

    def failures(self) -> list[Entry]:
        """Return the calculations that failed."""
        return [entry for entry in self.entries() if entry.state == "failed"]

    def dataset(self, before_round: int | None = None) -> Dataset:
        """Every finished label as a `Dataset`, in the order of asking.

        Parameters
        ----------
        before_round : int, optional
            Take only what earlier rounds asked for (the initial set belongs to round -1).
        """
        done = [
            entry
            for entry in self.entries()
            if entry.result is not None and (before_round is None or entry.round < before_round)
        ]
        labels = tuple(
            Labels(energy=e.result.energy, forces=e.result.forces, stress=e.result.stress)
            for e in done
            if e.result is not None
        )
        return Dataset(
            structures=tuple(entry.structure for entry in done),
            labels=labels,
            families=tuple(str(entry.data["family"]) for entry in done),
            source=str(self.path),
        )

    def export(self, path: str | Path) -> None:
        """Write every finished label to extxyz, at any time, also while a campaign runs."""
        self.dataset().write(path)

    def content(self) -> list[dict[str, Any]]:
        """List what was asked in which order, and what came of it, without times and hosts.

        Two campaigns that did the same have the same content, whatever happened on the way.
        """
        rows = []
        for entry in self.entries():
            result = entry.result
            rows.append(
                {
                    "key": entry.key,
                    "state": entry.state,
                    "round": entry.round,
                    "role": entry.data["role"],
                    "index": entry.data["index"],
                    "reason": entry.data.get("reason"),
                    "energy": None if result is None else result.energy,
                    "forces": None if result is None else result.forces.tolist(),
                    "stress": None
                    if result is None or result.stress is None
                    else result.stress.tolist(),
                }
            )
        return rows

    def digest(self) -> str:
        """Hash of `content`: equal for equal campaigns."""
        return hashlib.sha256(canonical_json(self.content()).encode()).hexdigest()

    # -- the database ------------------------------------------------------------------------

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise LedgerError(
                f"{self.path} cannot be read or written ({error}); free disk space and check "
                f"permissions. If it is damaged, `sqlite3 {self.path.name} .recover` saves the rows"
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._lock is None:
            raise LedgerError(f"{self.path} was opened to look; use Ledger.open to change it")
        with self._guarded(), self._db:
            # Takes the write lock before the first read, so that nothing changes between them.
            self._db.connection.execute("BEGIN IMMEDIATE")
            yield

    def _rows(self, columns: list[str]) -> Iterator[AtomsRow]:
        return self._db.select(columns=columns, include_data=False, sort="id")

    def _find(self, key: str) -> AtomsRow:
        for row in self._db.select(unique_id=key):
            return row
        raise LedgerError(f"{self.path} has no calculation {key[:12]}; it was never asked")

    def _put(
        self,
        row: AtomsRow,
        pairs: dict[str, Any],
        data: dict[str, Any],
        row_id: int | None = None,
    ) -> None:
        self._db.write(row, key_value_pairs=pairs, data=data, id=row_id)
