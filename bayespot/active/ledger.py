"""The record of every calculation: asked for, running, done or failed.

One row a calculation in an ASE database (the file ``ledger.db``, or a schema on a PostgreSQL
server), found by its content address (structure and oracle settings) which the database itself
keeps unique. Every change of state is one transaction under the database's write lock, so a killed
process leaves the state before or after, never between, and of several that want a calculation one
gets it. Who writes holds a lease that it renews; what a dead owner had under way is taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ase import Atoms
from ase.db.core import Database

from bayespot.active import leases
from bayespot.active.database import LedgerDatabase
from bayespot.active.jobs import Failure, noted_starts
from bayespot.active.lock import FolderLock
from bayespot.active.rows import DATABASE, advance, event, row_of, storable
from bayespot.active.view import LedgerView, find, located, note_place, rows_of
from bayespot.errors import ConfigError, LedgerError
from bayespot.oracles import LabelledResult, calculation_key

__all__ = ["Ledger"]

T = TypeVar("T")

LEASE = 120.0
"""Seconds after which an owner that was not heard of is taken for dead."""

_STEP = 500  # rows a transaction: ASE commits by itself after 5000 changes


class Ledger(LedgerView):
    """The calculations of one campaign.

    Use `Ledger.open` to drive (the folder's lock and an exclusive lease), or to write beside
    others with ``shared=True``, and `Ledger.read` to look.
    """

    def __init__(
        self,
        folder: Path,
        database: LedgerDatabase,
        lease: leases.Lease | None = None,
        lock: FolderLock | None = None,
        max_attempts: int = 20,
    ) -> None:
        super().__init__(folder, database)
        self._lease, self._lock = lease, lock
        self.max_attempts = max_attempts
        self._heartbeat: leases.Heartbeat | None = None

    # -- opening ---------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        server: str | None = None,
        name: str | None = None,
        max_attempts: int = 20,
        shared: bool = False,
        lease: float = LEASE,
    ) -> Ledger:
        """Open for writing; made if it does not exist.

        Whatever is ``running`` for an owner that died goes back to ``asked``, or to ``failed``
        after `max_attempts` starts, so that a structure that kills its process each time does not
        do so for ever.

        Parameters
        ----------
        folder : path
            Of the campaign.
        server : str, optional
            Address of a PostgreSQL database in place of a file in the folder. A folder remembers
            it.
        name : str, optional
            Of the campaign on the server; the folder's name if left out.
        max_attempts : int
        shared : bool
            Others may write too, and who has a calculation is decided row by row.
        lease : float
            Seconds after which others may take this process for dead.

        Raises
        ------
        LedgerError
            If another process drives the campaign, or the database cannot be used.
        ConfigError
            If the folder has its ledger elsewhere.
        """
        folder = Path(folder)
        held = leases.Lease.of_this_process(exclusive=not shared, seconds=lease)
        lock = None if shared else FolderLock(folder)
        dead = lock.acquire() if lock is not None else set()
        ledger = None
        try:
            ledger = cls(folder, located(folder, server, name), held, lock, max_attempts)
            ledger._begin(held, dead)
        except BaseException:
            if ledger is not None:
                ledger.close()
            elif lock is not None:
                lock.release()
            raise
        return ledger

    def _begin(self, lease: leases.Lease, dead: set[str]) -> None:
        database, lock = self._database, self._lock
        database.create()
        note_place(self.folder, database)
        if lock is not None:
            lock.sign(lease.token, dead)
        name = database.name if database.on_server else str(self.folder)

        def begin(db: Database) -> None:
            leases.acquire(db, lease, database.clock(db), name=name, dead=dead)

        database.run(begin, write=True)
        if lock is not None:
            lock.sign(lease.token)
        self._heartbeat = leases.Heartbeat(lambda: self._write(_nothing), lease.seconds / 5.0)
        self.recover()

    @classmethod
    def read(cls, folder: str | Path) -> Ledger:
        """Open for looking, also while a campaign runs.

        Raises
        ------
        LedgerError
            If the folder has no ledger.
        """
        folder = Path(folder)
        database = located(folder)
        if not database.exists():
            raise LedgerError(
                f"{folder} has no {DATABASE}: no campaign was started there; check the path"
            )
        return cls(folder, database)

    def close(self) -> None:
        """Give lease and folder back."""
        if self._heartbeat is not None:
            self._heartbeat.stop()
            self._heartbeat = None
        lease, self._lease = self._lease, None
        try:
            if lease is not None:
                self._database.run(lambda db: leases.release(db, lease), write=True, patience=5.0)
        except LedgerError:
            pass  # it runs out by itself
        finally:
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

    def belongs_to(self, identity: str) -> None:
        """Raise ConfigError if the ledger is another campaign's; the first to come decides.

        Parameters
        ----------
        identity : str
            Hash of what may not change while a campaign is continued.
        """

        def sign(db: Database) -> str:
            metadata = db.metadata
            if "campaign" not in metadata:
                db.metadata = {**metadata, "campaign": identity}
            return metadata.get("campaign", identity)

        if self._write(sign) != identity:
            raise ConfigError(
                f"the ledger {self.name} holds another campaign, with other settings or another "
                "pool; give this run another name, or use the old settings to continue"
            )

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
        """Record that calculations are wanted; known ones stay as they are.

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
        wanted = list(zip(keys, structures, indices, families, strict=True))
        plain = storable(dict(settings))

        def put(db: Database) -> None:
            for key, structure, index, family in part:
                if rows_of(db, key):
                    continue
                data = {"role": role, "index": int(index), "family": str(family)}
                data |= {"settings": plain, "events": [event("asked")]}
                pairs = {"state": "asked", "round": int(round), "attempts": 0}
                db.write(row_of(structure, key), key_value_pairs=pairs, data=data)

        for first in range(0, len(wanted), _STEP):
            part = wanted[first : first + _STEP]
            self._write(put)
        return keys

    def start(self, key: str, *, attempts: int = 1) -> None:
        """Go from ``asked`` to ``running``: this process has it now.

        Parameters
        ----------
        key : str
            LedgerError if it is not asked for, or another process has it.
        attempts : int
            1 where it begins now; 0 where a worker takes it up later, and says when it does.
        """
        self._change(key, "asked", "running", more=attempts)

    def claim(self, keys: Sequence[str], *, attempts: int = 1) -> list[str]:
        """Start what is asked for of these, and return it; the rest others have, or it is settled.

        `attempts` as for `start`.
        """

        def take(db: Database) -> list[str]:
            mine = []
            for key in keys:
                row = find(db, key, self.name)
                if row.state == "asked":
                    advance(db, row, "running", stamp, owner=self._token(), more=attempts)
                if row.get("owner") == self._token() or row.state == "asked":
                    mine.append(key)
            return mine

        stamp = event("running")
        return self._write(take)

    def finish(self, key: str, result: LabelledResult, *, attempts: int = 0) -> None:
        """Go from ``running`` to ``done``, with the label; `attempts` as for `fail`."""
        self._change(key, "running", "done", least=attempts, result=result)

    def fail(
        self,
        key: str,
        reason: str,
        *,
        kind: str = "failed",
        tried: Sequence[Mapping[str, Any]] = (),
        attempts: int = 0,
    ) -> None:
        """Go from ``running`` to ``failed``, with the reason; the calculation is set aside.

        Parameters
        ----------
        key : str
        reason : str
            For people.
        kind : str
            What failures are counted by.
        tried : sequence of mapping
            What the oracle tried, in order: plain JSON.
        attempts : int
            How often it was started, if that is known to be more than the ledger knows.
        """
        failure = Failure(reason, kind, tuple(dict(one) for one in tried))
        self._change(key, "running", "failed", least=attempts, failure=failure)

    def lose(self, key: str, reason: str, *, attempts: int | None = None) -> str:
        """Take back what a lost worker had: ``asked`` again, or ``failed`` after too many starts.

        Parameters
        ----------
        key : str
        reason : str
            How it was lost.
        attempts : int, optional
            How often it was started by now; one more than before if nobody knows.

        Returns
        -------
        str
            The new state.
        """
        before = self.entries([key])[0].attempts
        attempts = before + 1 if attempts is None else max(attempts, before)
        if attempts < self.max_attempts:
            self._change(key, "running", "asked", least=attempts)
            return "asked"
        text = f"its worker was lost each of the {attempts} times this was started: {reason}"
        self.fail(key, text, kind="worker_lost", attempts=attempts)
        return "failed"

    def recover(self) -> None:
        """Take back what runs for owners that are dead."""

        def sort_out(db: Database) -> None:
            alive = leases.living(db, self._database.clock(db))
            for row in list(db.select(state="running")):
                if row.get("owner") in alive:
                    continue
                starts = max(int(row.attempts), noted_starts(self.folder, row.unique_id) or 0)
                if starts < self.max_attempts:
                    advance(db, row, "asked", event("asked"), least=starts)
                    continue
                reason = f"the process died each of the {starts} times this was started"
                failure = Failure(reason, "process_died")
                advance(db, row, "failed", event("failed"), least=starts, failure=failure)

        self._write(sort_out)

    def _change(self, key: str, before: str, after: str, **what: Any) -> None:
        """One step of one calculation, as one transaction."""
        stamp = event(after)

        def step(db: Database) -> None:
            row = find(db, key, self.name)
            if row.data["events"][-1] == stamp:
                return  # it was committed, and only the answer was lost
            owner = row.get("owner")
            if row.state != before or owner not in (None, self._token()):
                has = f", for {owner}" if owner not in (None, self._token()) else ""
                raise LedgerError(
                    f"calculation {key[:12]} is {row.state}{has}, not {before}, and cannot become "
                    f"{after}; another driver or a hand has changed {self.name}"
                )
            advance(db, row, after, stamp, owner=self._token(), **what)

        self._write(step)

    # -- inside ------------------------------------------------------------------------------

    def _write(self, work: Callable[[Database], T]) -> T:
        """Run a change, if the lease is still ours."""
        if self._lease is None:
            raise LedgerError(f"{self.name} was opened to look; use Ledger.open to change it")
        self.check()
        lease = self._lease

        def leased(db: Database) -> T:
            leases.confirm(db, lease, self._database.clock(db), name=self.name)
            return work(db)

        return self._database.run(leased, write=True)

    def check(self) -> None:
        """Raise what the renewal of the lease met in the background.

        Raises
        ------
        LedgerError
            If another process has taken over, or the database is gone for good.
        """
        if self._heartbeat is not None and self._heartbeat.error is not None:
            raise self._heartbeat.error

    def _token(self) -> str | None:
        return None if self._lease is None else self._lease.token


def _nothing(db: Database) -> None:
    """Change nothing: what is left is the renewal of the lease."""
