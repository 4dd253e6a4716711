"""Runs one command alone and leaves nothing behind: no process, no file.

A program of its own (``python -I supervisor.py``) that needs the standard library only, so that it
starts in some milliseconds and cannot be broken by what the calculation breaks. It talks in lines
of JSON:

* standard input: one request (``command``, ``environment``, ``input``, ``scratch``,
  ``time_limit`` in s, ``memory_limit`` in MB); then ``keep`` to keep the folder, or the end of the
  input, which also comes when the asking process dies, at any moment and of anything;
* standard output: ``{"folder": ...}``, what the command writes to its descriptor 3, and
  ``{"ended": ...}``.

The command runs in a fresh folder and in a session of its own. Everything that it started is
killed when it has ended, ran too long or is no longer wanted: on Linux the supervisor adopts
orphans (PR_SET_CHILD_SUBREAPER), so that processes which left the group, as those of MPI launchers
do, are found too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

ANSWER = 3
"""Descriptor on which the command answers."""

LOOK = 0.25
"""s between two looks at the memory that is held."""

LINUX = sys.platform.startswith("linux")
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # sys/prctl.h


def tell(**content: Any) -> None:
    """Write one line; on a line of its own, whatever the command left before it."""
    with contextlib.suppress(BrokenPipeError):  # nobody asks any more: the input ends then too
        os.write(1, f"\n{json.dumps(content)}\n".encode())


def prctl(option: int, value: int) -> None:
    """Set a property of this process, on Linux."""
    if LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Input:
    """Lines of standard input, read without a buffer that `select` would not see."""

    def __init__(self) -> None:
        self._text = b""
        self.closed = False

    def fill(self) -> None:
        """Take what is there."""
        more = os.read(0, 1 << 16)
        self.closed = not more
        self._text += more

    def line(self) -> bytes | None:
        """Return one whole line, or None where the input ended before it."""
        while b"\n" not in self._text and not self.closed:
            self.fill()
        head, mark, self._text = self._text.partition(b"\n")
        return head if mark else None


def launch(request: dict[str, Any], folder: str) -> int:
    """Start the command; return its process number."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        prctl(_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if request["memory_limit"] is not None:
            # Data, not address space: libraries and shared memory map far more than they use. Twice
            # the limit: some libraries wait for ever where they get no memory, so that the limit
            # itself is kept by `watch`, and this one is for what grows faster than it looks.
            kind = resource.RLIMIT_DATA if LINUX else resource.RLIMIT_AS
            limit = int((2.0 if LINUX else 1.0) * request["memory_limit"] * 1e6)
            resource.setrlimit(kind, (limit, limit))
        os.dup2(1, ANSWER)
        log = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(folder)
        command = request["command"]
        os.execvpe(  # noqa: S606  (a list of words; a shell is what is avoided here)
            command[0], command, {**os.environ, **request["environment"]}
        )
    except BaseException as error:
        os.write(2, f"cannot start {request['command'][0]}: {error}\n".encode())
        os._exit(127)


def descendants() -> list[int]:
    """Every living process below this one, by /proc."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] != b"Z" or int(fields[1]) == os.getpid():
                parents[int(name)] = int(fields[1])
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def end_all(child: int) -> None:
    """Kill the command and all that it started, and wait until they are gone."""
    for _ in range(1000):
        alive = descendants() if LINUX else []
        for pid in alive:
            _kill(os.kill, pid)
        if not LINUX:
            _kill(os.killpg, child)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            if not LINUX or not descendants():
                return
        time.sleep(0.005)


def _kill(how: Any, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(pid, signal.SIGKILL)


def resident() -> float:
    """MB that all processes below this one hold together."""
    pages = 0
    for pid in descendants() if LINUX else []:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", "rb") as file:
            pages += int(file.read().split()[1])
    return pages * resource.getpagesize() / 1e6


def watch(
    child: int, request: dict[str, Any], lines: Input, wake: int
) -> dict[str, Any] | None:
    """Wait for the command; None where nobody wants its answer any more."""
    time_limit, memory_limit = request["time_limit"], request["memory_limit"]
    begin = time.monotonic()
    while True:
        pid, status = -1, 0
        while pid not in (0, child):
            pid, status = os.waitpid(-1, os.WNOHANG)
        seconds = time.monotonic() - begin
        if pid == child:
            return {"ended": "exit", "code": os.waitstatus_to_exitcode(status)}
        if time_limit is not None and seconds >= time_limit:
            return {"ended": "time_limit", "code": None}
        if memory_limit is not None and (held := resident()) > memory_limit:
            return {"ended": "memory_limit", "code": None, "held": held}
        waits = [w for w in (time_limit and time_limit - seconds, memory_limit and LOOK) if w]
        left = min(waits, default=None)
        ready, _, _ = select.select([0, wake], [], [], left)
        if wake in ready:
            os.read(wake, 4096)
        if 0 in ready:
            lines.fill()
            if lines.closed:
                return None


class Ended(BaseException):
    """A signal asked the supervisor itself to end."""


def _end(number: int, frame: Any) -> None:
    raise Ended


def main() -> None:
    """Do what the request says."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _end)
    wake, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
    prctl(_SET_CHILD_SUBREAPER, 1)
    lines = Input()
    first = lines.line()
    if first is None:
        return
    request = json.loads(first)
    folder, child, keep = None, None, False
    try:
        try:
            folder = tempfile.mkdtemp(prefix="bayespot-", dir=request["scratch"])
            with open(os.path.join(folder, "request.json"), "w", encoding="utf-8") as file:
                json.dump(request["input"], file)
        except OSError as error:
            tell(ended="scratch", errno=error.errno, message=str(error))
            return
        child = launch(request, folder)
        tell(folder=folder, session=child)
        ended = watch(child, request, lines, wake)
        end_all(child)
        if ended is not None:
            tell(**ended)
            keep = lines.line() == b"keep"
    except Ended:
        pass
    finally:
        if child is not None:
            end_all(child)
        if folder is not None and not keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
