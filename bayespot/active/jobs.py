"""One calculation where it runs: it notes that it began, and keeps its result until it is recorded.

Workers do not write into the ledger: they may not reach its database. They leave files in the
folder of the campaign instead, where they see it:

    calculations/KEY.starts     a line for every start; locked while it is calculated
    calculations/KEY.json       what came of it

So a result survives the process that waited for it, a calculation that outlives its driver is not
calculated again by the next one, and starts are counted also where a process died without a word.
Workers without that folder (no shared file system) calculate all the same and answer directly.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.errors import OracleError
from bayespot.oracles import MAX_FORCE, LabelledResult, Oracle, check_label
from bayespot.records import canonical_json, read_json, write_json

__all__ = [
    "Failure",
    "Job",
    "calculate",
    "clear",
    "failure_of",
    "left_behind",
    "noted_starts",
    "run_job",
]

FOLDER = "calculations"

@dataclass(frozen=True)
class Job:
    """One calculation, with everything that a worker needs.

    Attributes
    ----------
    key : str
        Content address.
    structure : Atoms
    oracle : Oracle
        Can be pickled.
    folder : str
        Folder of the campaign, as an absolute path.
    """

    key: str
    structure: Atoms
    oracle: Oracle
    folder: str


@dataclass(frozen=True)
class Failure:
    """Why there is no label.

    Attributes
    ----------
    reason : str
        For people.
    kind : str
        What tables count by, see `bayespot.errors.OracleError`.
    tried : tuple of dict
        What the oracle tried, in order.
    """

    reason: str
    kind: str = "failed"
    tried: tuple[dict[str, Any], ...] = field(default_factory=tuple)


def calculate(oracle: Oracle, structure: Atoms) -> LabelledResult | Failure:
    """Label one structure; whatever goes wrong is this structure's failure.

    Parameters
    ----------
    oracle : Oracle
    structure : Atoms
    """
    try:
        result = oracle.label(structure)
        check_label(structure, result, getattr(oracle, "max_force", MAX_FORCE))
    # A code may fail in any way; the campaign goes on without this structure.
    except Exception as error:
        return failure_of(error)
    return result


def failure_of(error: Exception) -> Failure:
    """Describe an exception of an oracle."""
    if isinstance(error, OracleError):
        return Failure(str(error), error.kind, error.attempts)
    return Failure(f"{type(error).__name__}: {error}", type(error).__name__)


def run_job(job: Job) -> LabelledResult | Failure:
    """Calculate on a worker, unless the same calculation has ended or runs there already.

    One that still runs, for a driver that died, is waited for: its lock is the kernel's and ends
    with its process.
    """
    with _alone(job) as seen:
        if seen and (outcome := left_behind(job.folder, job.key)) is not None:
            return outcome
        if seen:
            _note_start(job)
        outcome = calculate(job.oracle, job.structure)
        if seen:
            # A full disk is no reason to lose the result: it goes back directly as well.
            with suppress(OSError):
                write_json(_place(job.folder, job.key, "json"), _written(outcome))
    return outcome


def left_behind(folder: str | Path, key: str) -> LabelledResult | Failure | None:
    """Read what a calculation left that nobody has recorded; None if there is nothing."""
    path = _place(folder, key, "json")
    if not path.exists():
        return None
    saved = read_json(path)
    if "reason" in saved:
        return Failure(saved["reason"], saved["kind"], tuple(saved["tried"]))
    stress = saved["stress"]
    return LabelledResult(
        energy=saved["energy"],
        forces=np.array(saved["forces"], dtype=float).reshape(-1, 3),
        stress=None if stress is None else np.array(stress, dtype=float),
        metadata=saved["metadata"],
    )


def noted_starts(folder: str | Path, key: str) -> int | None:
    """How often a calculation began; None where workers do not see the folder and cannot note it.

    Parameters
    ----------
    folder : path
        Of the campaign.
    key : str
        Content address.
    """
    path = _place(folder, key, "starts")
    if path.exists():
        return path.read_text(encoding="utf-8").count("\n")
    return 0 if path.parent.is_dir() else None


def clear(folder: str | Path) -> None:
    """Remove what calculations left, once the ledger has all that were asked for.

    Not earlier: a worker that is given one again, because another died with its answer, finds it.
    """
    shutil.rmtree(Path(folder) / FOLDER, ignore_errors=True)


# -- inside ----------------------------------------------------------------------------------


def _place(folder: str | Path, key: str, kind: str) -> Path:
    return Path(folder) / FOLDER / f"{key}.{kind}"


@contextmanager
def _alone(job: Job) -> Iterator[bool]:
    """Hold the lock of a calculation; False where the campaign's folder cannot be seen."""
    path = _place(job.folder, job.key, "starts")
    try:
        if not path.parent.parent.is_dir():
            raise FileNotFoundError(path.parent.parent)
        path.parent.mkdir(exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        yield False
        return
    try:
        # A file system without locks refuses here; then a start may be doubled, nothing worse.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield True
    finally:
        os.close(handle)


def _note_start(job: Job) -> None:
    host, now = socket.gethostname(), time.strftime("%Y-%m-%dT%H:%M:%S")
    line = json.dumps({"host": host, "pid": os.getpid(), "time": now})
    with open(_place(job.folder, job.key, "starts"), "a", encoding="utf-8") as handle:
        handle.write(f"{line}\n")
        handle.flush()
        os.fsync(handle.fileno())


def _written(outcome: LabelledResult | Failure) -> dict[str, Any]:
    if isinstance(outcome, Failure):
        tried = json.loads(canonical_json(list(outcome.tried)))
        return {"reason": outcome.reason, "kind": outcome.kind, "tried": tried}
    return {
        "energy": float(outcome.energy),
        "forces": np.asarray(outcome.forces, dtype=float),
        "stress": None if outcome.stress is None else np.asarray(outcome.stress, dtype=float),
        "metadata": json.loads(canonical_json(dict(outcome.metadata))),
    }
