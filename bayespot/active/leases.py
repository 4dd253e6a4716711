"""Who writes into a ledger, and until when: leases that the living renew.

A lease is a line in the metadata of the ledger's database. Its owner renews it while it lives; one
that is not renewed in time has died, and what it had under way is taken again. Reading and writing
of leases happens under the database's write lock, so two processes cannot both find a place free.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from ase.db.core import Database

from bayespot.errors import LedgerError

__all__ = ["Heartbeat", "Lease", "acquire", "confirm", "living", "release"]


@dataclass(frozen=True)
class Lease:
    """The right to write.

    Attributes
    ----------
    token : str
        Names the owner: host, process and a random part.
    host, pid, since : str, int, str
        For messages.
    exclusive : bool
        Nobody else may write.
    seconds : float
        How long it holds after it was renewed.
    """

    token: str
    host: str
    pid: int
    since: str
    exclusive: bool
    seconds: float

    @classmethod
    def of_this_process(cls, *, exclusive: bool, seconds: float) -> Lease:
        """Lease that is not held yet."""
        host, pid = socket.gethostname(), os.getpid()
        token = f"{host}:{pid}:{uuid.uuid4().hex[:12]}"
        since = time.strftime("%Y-%m-%dT%H:%M:%S")
        return cls(token, host, pid, since, exclusive, float(seconds))


def living(db: Database, now: float) -> dict[str, dict[str, Any]]:
    """Leases that have not run out, by token."""
    leases = db.metadata.get("leases", {})
    return {token: lease for token, lease in leases.items() if lease["expires"] > now}


def acquire(
    db: Database, lease: Lease, now: float, *, name: str, dead: Collection[str] = ()
) -> None:
    """Take a lease.

    Parameters
    ----------
    db : Database
        With the write lock.
    lease : Lease
    now : float
        Time by the database's clock (s).
    name : str
        Of the ledger, for messages.
    dead : collection of str
        Tokens of owners that are known to have died.

    Raises
    ------
    LedgerError
        If another process has the ledger for itself, or this one wants it so and others write.
    """
    others = {token: held for token, held in living(db, now).items() if token not in dead}
    others.pop(lease.token, None)  # taken in a try whose answer was lost
    for other in others.values():
        if lease.exclusive or other["exclusive"]:
            rest = other["expires"] - now
            raise LedgerError(
                f"{name} is driven by process {other['pid']} on {other['host']} since "
                f"{other['since']}; wait for it, stop it, or use another folder and name. If it "
                f"died, its lease runs out in {rest:.0f} s: try again then"
            )
    _store(db, {**others, lease.token: {**asdict(lease), "expires": now + lease.seconds}})


def confirm(db: Database, lease: Lease, now: float, *, name: str) -> None:
    """Raise unless the lease is still ours.

    One that ran out and that nobody else took is renewed: a server that was away, or a process
    that was stopped for a while, is no reason to give up.
    """
    leases = db.metadata.get("leases", {})
    mine = leases.get(lease.token)
    if mine is None:
        taker = next(iter(living(db, now).values()), None)
        by = f" by process {taker['pid']} on {taker['host']}" if taker else ""
        raise LedgerError(
            f"{name} was taken over{by}, because this process did not renew its lease for more "
            f"than {lease.seconds:.0f} s; what it had under way is calculated there"
        )
    if mine["expires"] < now + 0.5 * lease.seconds:
        _store(db, {**leases, lease.token: {**mine, "expires": now + lease.seconds}})


def release(db: Database, lease: Lease) -> None:
    """Give a lease back."""
    leases = db.metadata.get("leases", {})
    if lease.token in leases:
        _store(db, {token: held for token, held in leases.items() if token != lease.token})


def _store(db: Database, leases: dict[str, dict[str, Any]]) -> None:
    db.metadata = {**db.metadata, "leases": leases}


class Heartbeat:
    """Renews a lease from a thread while its owner calculates.

    Parameters
    ----------
    renew : callable
        Confirms the lease.
    seconds : float
        Between two calls.
    """

    def __init__(self, renew: Callable[[], None], seconds: float) -> None:
        self.error: LedgerError | None = None
        self._renew, self._seconds = renew, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="ledger lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; a call that waits for its server is not waited for."""
        self._over.set()
        self._thread.join(timeout=5.0)

    def _beat(self) -> None:
        while not self._over.wait(self._seconds):
            try:
                self._renew()
            except LedgerError as error:
                self.error = error
                return
