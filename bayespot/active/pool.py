"""Pools that are larger than memory: they stay in their files, and every structure gets a score.

Structures are scored block by block and the scores written down; a scoring that was killed goes on
where it was. What cannot be used (atoms that overlap, an unknown species, a damaged frame) is set
aside with its reason. `bayespot.active.pool_choice` takes a batch by the scores.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.active.pool_scores import BLOCK_ATOMS, Scorer
from bayespot.data.dataset import family_of
from bayespot.data.frames import Frame, file_frames, files_of
from bayespot.data.labels import check_geometry
from bayespot.errors import BayespotError, ConfigError
from bayespot.records import canonical_json, read_json, write_json

__all__ = ["Pool", "PoolScores", "example", "score_pool"]

COLUMNS = ("frame", "place", "atoms", "family", "score", "grade", "set_aside")

Progress = Callable[[int, int, str], None]


class Pool:
    """Structures to choose from, in one or more files.

    Parameters
    ----------
    source : str, Path or sequence of them
        Files of every kind that `bayespot.read` reads, globs, built-in archives.
    """

    def __init__(self, source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> None:
        sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
        found = [files_of(one) for one in sources]
        self.name = " + ".join(name for name, _ in found)
        self.files: tuple[Path, ...] = tuple(file for _, files in found for file in files)
        self._length: int | None = None

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self.frames())
        return self._length

    def frames(self) -> Iterator[Frame]:
        """All frames; what is left of a file that cannot be read further is one that raises."""
        for file in self.files:
            try:
                yield from file_frames(file)
            except BayespotError as error:
                yield Frame(f"{file.name}, the rest", _raising(error))

    def fingerprint(self) -> str:
        """sha256 (hex) of the files."""
        digest = hashlib.sha256()
        for file in self.files:
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()

    def load(self, wanted: Sequence[int]) -> dict[int, tuple[str, Atoms | str]]:
        """Place and structure of some frames, or what is wrong with them."""
        keep, found = set(wanted), {}
        for index, frame in enumerate(self.frames()):
            if index in keep:
                found[index] = frame.where, _loaded(frame)
                if len(found) == len(keep):
                    break
        return found


def _raising(error: Exception) -> Callable[[], Atoms]:
    def load() -> Atoms:
        raise error

    return load


def _loaded(frame: Frame) -> Atoms | str:
    """The structure, or why there is none."""
    try:
        atoms = frame.load()
        check_geometry(atoms, frame.where)
    # Whatever a damaged frame does to a parser: it is set aside, with the reason.
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return atoms


@dataclass(frozen=True)
class PoolScores:
    """What the first stage found, in the order of the pool.

    Attributes
    ----------
    scores : ndarray [n]
        NaN where a structure was set aside.
    grades : ndarray [n]
        Extrapolation, see `bayespot.prediction.Prediction`; NaN where the rule needs no draws.
    aside : dict of str to int
        How many structures were set aside, by kind of error.
    examples : dict of str to str
        One reason of each kind, with its place.
    fresh : int
        How many were scored now and not before.
    """

    scores: np.ndarray
    grades: np.ndarray
    aside: dict[str, int]
    examples: dict[str, str]
    fresh: int = 0

    @classmethod
    def read(cls, path: Path, fresh: int = 0) -> PoolScores:
        """From the file that `score_pool` writes."""
        scores, grades, aside, examples = [], [], Counter(), {}
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                scores.append(float(row["score"] or "nan"))
                grades.append(float(row["grade"] or "nan"))
                if row["set_aside"]:
                    kind, told = example(row["place"], row["set_aside"])
                    aside[kind] += 1
                    examples.setdefault(kind, told)
        return cls(np.array(scores), np.array(grades), dict(aside), examples, fresh)


def example(place: str, reason: str) -> tuple[str, str]:
    """Kind of error, and a sentence about it with the place."""
    kind, _, text = reason.partition(": ")
    return kind, text if text.startswith(place) else f"{place}: {text or kind}"


def score_pool(
    give: Scorer, pool: Pool, folder: str | Path, *, progress: Progress | None = None
) -> PoolScores:
    """Score every structure of a pool, in memory that does not depend on its size.

    Parameters
    ----------
    give : Scorer
        See `bayespot.active.pool_scores.scorer`.
    pool : Pool
    folder : path
        Gets ``scores.csv``, a line for every structure, and ``scores.json``, what it belongs to.
        The same call continues what was killed, and reads what is complete.
    progress : callable, optional
        Gets structures done, their number, and a word.

    Raises
    ------
    ConfigError
        If the folder belongs to another scoring.
    """
    folder, n = Path(folder), len(pool)
    path = folder / "scores.csv"
    posterior = {"posterior": _fingerprint(give.posterior)}
    _begin(path, {**posterior, "pool": pool.fingerprint(), **give.settings})
    before = done = _continue(path, give)
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for block in _blocks(pool, done):
            writer.writerows(_rows(block, give))
            file.flush()
            os.fsync(file.fileno())
            done += len(block)
            if give.state is not None:
                _keep_state(path, give.state, done)
            if progress is not None:
                progress(done, n, "structures scored")
    return PoolScores.read(path, done - before)


def _fingerprint(posterior: Any) -> str:
    """What the scores depend on in a posterior."""
    names = ("form", "species", "hypers", "fixed", "priors")
    record = {name: posterior.record[name] for name in names}
    digest = hashlib.sha256(canonical_json(record).encode())
    digest.update(np.ascontiguousarray(posterior.u).tobytes())
    return digest.hexdigest()


def _begin(path: Path, settings: dict[str, Any]) -> None:
    """Start a file of scores, or make sure that the one there is of the same work."""
    stamp = path.with_name("scores.json")
    if path.exists() and stamp.exists():
        before = read_json(stamp)
        changed = [name for name in settings if before.get(name) != settings[name]]
        if changed:
            raise ConfigError(
                f"{path.parent} holds the scores of another {' and '.join(changed)}: use another "
                "folder, or remove this one"
            )
        return
    path.with_name("sums.npz").unlink(missing_ok=True)
    write_json(stamp, settings)
    path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")


def _continue(path: Path, give: Scorer) -> int:
    """Number of structures that are done; what a kill left half done is cut off."""
    known = None
    if give.state is not None:
        saved, known = path.with_name("sums.npz"), 0
        if saved.exists():
            with np.load(saved) as content:
                give.state, known = content["state"], int(content["done"])
    lines = end = 0
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n") or lines - 1 == known:
                break
            lines, end = lines + 1, end + len(line)
    os.truncate(path, end)
    return lines - 1


def _keep_state(path: Path, state: np.ndarray, done: int) -> None:
    """Write the sums over the first structures; the file appears whole."""
    part = path.with_name(".sums.part.npz")
    np.savez(part, state=state, done=done)
    os.replace(part, path.with_name("sums.npz"))


_Entry = tuple[int, str, Atoms | str]


def _blocks(pool: Pool, skip: int) -> Iterator[list[_Entry]]:
    """(number, place, structure or reason) of the frames after the first ``skip``."""
    block: list[_Entry] = []
    atoms = 0
    for index, frame in enumerate(pool.frames()):
        if index < skip:
            continue
        loaded = _loaded(frame)
        size = 1 if isinstance(loaded, str) else len(loaded)
        if block and atoms + size > BLOCK_ATOMS:
            yield block
            block, atoms = [], 0
        block.append((index, frame.where, loaded))
        atoms += size
    if block:
        yield block


def _rows(block: list[_Entry], give: Scorer) -> Iterator[tuple]:
    """Lines of the file of scores."""
    good = [atoms for _, _, atoms in block if not isinstance(atoms, str)]
    try:
        results = iter(give(good) if good else [])
    except BayespotError:  # one is bad: find out which
        results = iter(_one_by_one(good, give))
    for index, place, atoms in block:
        if isinstance(atoms, str):
            yield index, place, "", "", "", "", _line(atoms)
            continue
        score, grade, reason = next(results)
        yield (index, place, len(atoms), _line(family_of(atoms)),
               *("" if np.isnan(v) else f"{v:.10g}" for v in (score, grade)), _line(reason))


def _line(text: str) -> str:
    return " ".join(text.split())


def _one_by_one(structures: list[Atoms], give: Scorer) -> list[tuple[float, float, str]]:
    """Scores of a block in which some structures cannot be used."""
    reasons = [give.complaint(atoms) for atoms in structures]
    good = [atoms for atoms, reason in zip(structures, reasons, strict=True) if not reason]
    results = iter(give(good) if good else [])
    return [(np.nan, np.nan, reason) if reason else next(results) for reason in reasons]
