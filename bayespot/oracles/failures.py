"""How calculations fail: the kinds, and how each is recognised.

Codes fail in any way they like. What a table of failures counts by is the kind, one word; what a
person reads is the message.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from pathlib import Path

from bayespot.errors import OracleError

KINDS = {
    "not_converged": "self-consistency was not reached",
    "crash": "the code died of a signal: segmentation fault, abort",
    "exit_code": "the code stopped with an error of its own",
    "time_limit": "it ran longer than it may",
    "out_of_memory": "it wanted more memory than it may have or than there is",
    "killed": "something outside ended it: a scheduler, a person, the kernel short of memory",
    "disk_full": "there was no room to write to",
    "truncated": "the output breaks off, or cannot be read",
    "not_finite": "the energy, a force or the stress is not a number",
    "huge_forces": "a force is beyond the limit",
    "wrong_atoms": "the forces are not those of the structure that was asked for",
    "missing": "the archive does not have it",
    "failed": "anything else",
}
"""Kinds of failure and what they mean."""

TAIL = 2000
"""Characters of a code's output that are kept of a failed calculation."""

ROOM = 1 << 20
"""Bytes; less free space than this beside a broken output is taken for its cause."""

_SIGNS = (
    ("disk_full", ("no space left on device", "disk quota exceeded", "file too large")),
    ("out_of_memory", ("out of memory", "cannot allocate memory", "bad_alloc", "oom-kill",
                       "allocation would exceed memory", "insufficient virtual memory",
                       "memoryerror", "unable to allocate")),
    ("crash", ("segmentation fault", "sigsegv", "sigabrt", "sigbus", "bus error",
               "floating point exception", "illegal instruction")),
)  # fmt: skip
_ERRNOS = {
    errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EFBIG: "disk_full",
    errno.ENOMEM: "out_of_memory",
}  # fmt: skip
_SIGNALS = {
    signal.SIGKILL: "killed", signal.SIGTERM: "killed", signal.SIGINT: "killed",
    signal.SIGHUP: "killed", signal.SIGXCPU: "time_limit", signal.SIGXFSZ: "disk_full",
}  # fmt: skip


def kind_of_text(text: str) -> str | None:
    """Kind of failure that a message or the end of an output speaks of, or None."""
    lowered = text.lower()
    for kind, signs in _SIGNS:
        if any(sign in lowered for sign in signs):
            return kind
    return None


def ended_by_signal(code: int) -> OracleError | None:
    """Failure behind an exit code that means a signal, or None.

    Parameters
    ----------
    code : int
        Negative as Python gives it, or 128 + signal as shells and MPI launchers do.
    """
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number)
    except ValueError:
        return None
    kind = _SIGNALS.get(name, "crash")
    hint = "; the kernel does that when memory runs out" if name == signal.SIGKILL else ""
    return OracleError(f"ended by {name.name}{hint}", kind)


def failure_of(error: BaseException, output: str = "") -> OracleError:
    """Failure that an exception stands for.

    Parameters
    ----------
    error : exception
        Whatever the calculator raised.
    output : str
        What the code wrote, or the end of it.
    """
    if isinstance(error, OracleError):
        return error
    message = reason(error)
    if isinstance(error, MemoryError):
        return OracleError(message, "out_of_memory")
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return OracleError(message, _ERRNOS[error.errno])
    if message.startswith("not converged"):
        return OracleError(message, "not_converged")
    kind = kind_of_text(f"{message}\n{output}")
    if isinstance(error, subprocess.CalledProcessError):
        signalled = ended_by_signal(error.returncode)
        if signalled is not None and kind in (None, "crash"):
            return signalled
        return OracleError(f"exit code {error.returncode}: {_last_line(output)}",
                           kind or "exit_code")  # fmt: skip
    return OracleError(message, kind or "failed")


def reason(error: BaseException) -> str:
    """One line that says what went wrong, also for exceptions without a message."""
    name = type(error).__name__
    text = " ".join(str(error).split())[:500]
    if "convergence" in name.lower() or "notconverged" in name.lower():
        return f"not converged: {name}{': ' + text if text else ''}"
    return f"{name}: {text}" if text else name


def without_room(failure: OracleError, folder: Path) -> OracleError:
    """Take a broken output for a full disk where the disk is full."""
    if failure.kind not in ("truncated", "exit_code", "crash", "failed") or not folder.is_dir():
        return failure
    free = disk_room(folder)
    if free >= ROOM:
        return failure
    return OracleError(f"no room to write to ({free} bytes are free): {failure}", "disk_full")


def disk_room(folder: Path) -> int:
    """Bytes that may still be written in a folder."""
    status = os.statvfs(folder)
    return int(status.f_bavail * status.f_frsize)


def tail_of(path: Path, length: int = TAIL) -> str:
    """End of a text file, without the name of this machine; empty where there is no file."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - length, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return text.replace(socket.gethostname(), "HOST")


def _last_line(output: str) -> str:
    lines = [line.strip(" %\t") for line in output.splitlines()]
    lines = [line for line in lines if line]
    return " ".join(lines[-1].split())[:300] if lines else "no output"
