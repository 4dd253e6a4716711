"""One driver a campaign folder, by a lock that dies with its process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bayespot.errors import LedgerError

__all__ = ["FolderLock"]


class FolderLock:
    """One driver a folder: an exclusive lock that the kernel drops when the process dies."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "lock"
        self._handle: int | None = None

    def acquire(self, *, patience: float = 1.0) -> set[str]:
        """Take the lock; `sign` it then.

        Parameters
        ----------
        patience : float
            Seconds to try for: `holder` of another process may have it for an instant.

        Returns
        -------
        set of str
            Names in the ledger of the processes that had the lock before. They no longer hold it,
            so they are dead or done.

        Raises
        ------
        LedgerError
            If another live process drives this folder; the message names it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                os.close(handle)
                owner = self._owner()
                raise LedgerError(
                    f"{self.path.parent} is driven by process {owner.get('pid', 'unknown')} on "
                    f"{owner.get('host', 'this machine')} since {owner.get('since', '?')}; wait "
                    "for it, stop it, or use another folder"
                ) from None
        self._handle = handle
        owner = self._owner()
        return {str(token) for token in (owner.get("token"), *owner.get("dead", ())) if token}

    def sign(self, token: str, dead: Iterable[str] = ()) -> None:
        """Write into the lock who holds it.

        Parameters
        ----------
        token : str
            Name of this process in the ledger, see `leases.Lease`.
        dead : iterable of str
            Names of owners before that may still stand in the ledger.
        """
        if self._handle is None:
            return
        since = time.strftime("%Y-%m-%dT%H:%M:%S")
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        owner |= {"token": token, "dead": sorted(dead)}
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, json.dumps(owner).encode(), 0)

    def release(self) -> None:
        """Give the lock back; the file stays, empty of meaning."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _owner(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def holder(self) -> dict[str, Any] | None:
        """Process that drives the folder now (``pid``, ``host``, ``since``), or None."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._owner()
        finally:
            os.close(handle)
        return None
