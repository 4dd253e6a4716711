"""A calculation in processes of its own, with limits on time and memory.

What a calculation does to its process (segmentation fault, endless loop, all of the memory) it
does not do to the one that asked. Whichever of the two dies, nothing stays: see
`bayespot.oracles.supervisor`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ase import Atoms

from bayespot.errors import OracleError
from bayespot.oracles import supervisor
from bayespot.oracles.base import LabelledResult
from bayespot.oracles.calculation import plain_atoms
from bayespot.oracles.codes import Code
from bayespot.oracles.failures import ended_by_signal, failure_of, kind_of_text, tail_of
from bayespot.oracles.run_settings import RunSettings

__all__ = ["isolated"]


def isolated(
    code: Code,
    keywords: Mapping[str, Any],
    run: RunSettings,
    structure: Atoms,
    guess: Mapping[str, Any],
    time_factor: float,
    accept: Callable[[dict[str, Any]], LabelledResult],
    note: dict[str, Any],
) -> LabelledResult:
    """Do `calculate` in a process of its own.

    Parameters
    ----------
    code, keywords, run, structure, guess
        As for `calculate`.
    time_factor : float
        Times the time limit.
    accept : callable
        Makes the label of what `calculate` found, or refuses it with an `OracleError`.
    note : dict
        Gets what should be known of a failed attempt: ``tail`` and, if it was kept, ``folder``.

    Raises
    ------
    OracleError
        With the kind of failure.
    """
    content = {
        "name": code.name, "keywords": dict(keywords), "run": run.plain(), "guess": dict(guess),
        "structure": plain_atoms(structure),
    }  # fmt: skip
    limit = None if run.time_limit is None else run.time_limit * time_factor
    request = {
        "command": [sys.executable, "-m", "bayespot.oracles.child"],
        # What this process can import, that one can.
        "environment": {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **run.environment},
        "input": content,
        "scratch": str(Path(run.scratch or tempfile.gettempdir()).resolve()),
        "time_limit": limit,
        "memory_limit": run.memory_limit,
    }
    with _supervised(request) as talk:
        try:
            return accept(talk.label(limit))
        except OracleError as error:
            failure = error
        if talk.folder is not None:
            failure = code.failure(failure, talk.folder)
            note["tail"] = code.tail(talk.folder)
            if run.keep_failed:
                note["folder"] = str(talk.folder)
                talk.keep()
        raise failure


class _Talk:
    """What a supervisor and the calculation under it have said."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.folder: Path | None = None
        self.session: int | None = None
        self.answer: dict[str, Any] | None = None
        self.ended: dict[str, Any] | None = None
        self._rest: list[str] = []

    def listen(self) -> None:
        """Read until the calculation has ended, or the supervisor has."""
        while self.ended is None and (line := self._process.stdout.readline()):
            text = line.decode("utf-8", errors="replace").strip()
            try:
                said = json.loads(text)
            except json.JSONDecodeError:
                self._rest.append(text[:300])  # cut off by a kill, or not for us
                continue
            if "folder" in said:
                self.folder, self.session = Path(said["folder"]), said["session"]
            elif "ended" in said:
                self.ended = said
            else:
                self.answer = said["answer"]

    def label(self, limit: float | None) -> dict[str, Any]:
        """Return what the calculation answered, or raise how it failed."""
        self.listen()
        answer, ended = self.answer, self.ended
        if ended is None:
            said = " ".join(part for part in self._rest if part)[-300:]
            raise OracleError(f"the supervising process was ended {said}".strip(), "killed")
        if ended["ended"] == "scratch":
            raise failure_of(OSError(ended["errno"], ended["message"]))
        if ended["ended"] == "time_limit":
            raise OracleError(f"not finished after {limit:g} s", "time_limit")
        if ended["ended"] == "memory_limit":
            raise OracleError(f"held {ended['held']:.0f} MB of memory, more than it may",
                              "out_of_memory")  # fmt: skip
        if answer is not None and "label" in answer:
            return {"stress": None, **answer["label"], "metadata": answer["metadata"]}
        if answer is not None:
            raise OracleError(answer["failure"]["message"], answer["failure"]["kind"])
        code = int(ended["code"])
        said = tail_of(self.folder / "log") if self.folder is not None else ""
        kind = kind_of_text(said)
        signalled = ended_by_signal(code)
        if signalled is not None and kind in (None, "crash"):
            raise signalled
        raise OracleError(f"exit code {code} without an answer: {said[-200:]}", kind or "exit_code")

    def keep(self) -> None:
        """Ask for the folder to stay."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"keep\n")
            self._process.stdin.flush()


@contextlib.contextmanager
def _supervised(request: Mapping[str, Any]) -> Iterator[_Talk]:
    """Start a supervisor and end it, whatever happens in between."""
    process = subprocess.Popen(
        [sys.executable, "-I", supervisor.__file__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    talk = _Talk(process)
    try:
        with contextlib.suppress(BrokenPipeError):  # why it is broken is read from what it said
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        yield talk
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # the supervisor's sign to clean up
        process.wait()
        process.stdout.close()
        if talk.ended is None and process.returncode and talk.session is not None:
            _clean_up_after(talk)


def _clean_up_after(talk: _Talk) -> None:
    """End the calculation and remove its folder where the supervisor could not."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(talk.session, signal.SIGKILL)
    if talk.folder is not None:
        shutil.rmtree(talk.folder, ignore_errors=True)
