"""Labelled structures that stay in their files and are read block by block when they are needed.

For data sets that are larger than memory. A block is a `Dataset`; it obeys the checks of
`bayespot.read` as a set of its own, so that two structures in different blocks are not compared.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bayespot.data.checks import run_checks
from bayespot.data.dataset import Dataset
from bayespot.data.frames import Frame, file_frames, files_of
from bayespot.data.labels import Conventions
from bayespot.data.read import Reading, known_checks
from bayespot.errors import LabelError

BLOCK_ATOMS = 4096
"""A block ends when it has so many atoms."""

MOST_FINDINGS = 20
"""Findings that are kept; every block may have some."""


@dataclass(frozen=True)
class _Facts:
    """What one pass has found; of the structures only the family is kept."""

    families: tuple[str, ...]
    n_atoms: int
    largest: int
    species: tuple[str, ...]
    fingerprint: str
    findings: tuple[str, ...]
    label_keys: tuple[str, ...]


class Stream:
    """A data set on disk, with the counts of a `Dataset` and its structures in blocks.

    Parameters
    ----------
    source : str, Path or sequence of them
        Files, globs or names of built-in archives, of every kind that `bayespot.read` reads.
        Extended XYZ (also compressed) and ASE databases (.db) are read row by row; other formats
        as ASE reads them.
    block_atoms : int
        See `BLOCK_ATOMS`.
    check : bool
        Whether the labels of every block are checked, in the first pass.
    skip : collection of str
        Names of checks to leave out.
    **keys
        Where labels are and in which units: ``energy_key``, ``family_key``, ``stress_unit`` ...,
        see `bayespot.read`.

    Raises
    ------
    LabelError
        If there is no such file. Reading raises what `bayespot.read` raises, with file and frame.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        block_atoms: int = BLOCK_ATOMS,
        check: bool = True,
        skip: Collection[str] = (),
        family_key: str = "config_type",
        **keys: Any,
    ) -> None:
        if block_atoms < 1:
            raise LabelError(f"block_atoms={block_atoms} must be 1 or more")
        sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
        found = [files_of(one) for one in sources]
        self.source = " + ".join(name for name, _ in found)
        self.files: tuple[Path, ...] = tuple(file for _, files in found for file in files)
        if not self.files:
            raise LabelError("no files given: name one, or a glob over several")
        self.block_atoms = block_atoms
        self._check, self._skip = check, known_checks(skip)
        self._conventions, self._family_key = Conventions(**keys), family_key
        self._facts: _Facts | None = None
        self._states: list[tuple[int, int]] = []

    def blocks(self, together: int = 0) -> Iterator[Dataset]:
        """Blocks without checks, after the first pass.

        Parameters
        ----------
        together : int
            Consecutive structures that are fewer atoms than this together are not divided: the
            chunks of a graph of all structures are then those of the graphs of the blocks.

        Raises
        ------
        LabelError
            If a file has changed since the first pass.
        """
        if self._facts is None:
            for _ in self.scan():
                pass
        for file, before, now in zip(self.files, self._states, self._sizes(), strict=True):
            if before != now:
                raise LabelError(f"{file} has changed since it was first read: begin again with a "
                                 "new Stream, and let nothing write to it meanwhile")
        reading = Reading(self._conventions, self._family_key)
        for block, _ in self._blocks(reading, together):
            yield block

    def scan(self) -> Iterator[Dataset]:
        """Blocks with all checks; counts and fingerprint are known when the last one was taken."""
        self._states = self._sizes()
        reading = Reading(self._conventions, self._family_key)
        digest, names, species, n_atoms, largest = hashlib.sha256(), {}, set(), 0, 0
        families: list[str] = []
        findings: dict[str, None] = {}
        for block, places in self._blocks(reading):
            if self._check:
                block = run_checks(block, places, self._skip)
            block.feed(digest)
            families += [names.setdefault(f, f) for f in block.families]
            species |= set(block.species)
            n_atoms += block.n_atoms
            largest = max(largest, *block.atom_counts)
            findings |= dict.fromkeys(f"{places[0]} to the end of its block: {finding}"
                                      for finding in block.findings)
            yield block
        reading.check_found(self.source, len(families), require=True)
        told = reading.described(replace(block, findings=()))
        shown = list(findings)[:MOST_FINDINGS]
        if len(findings) > MOST_FINDINGS:
            shown.append(f"{len(findings) - MOST_FINDINGS} more findings of this kind")
        self._facts = _Facts(tuple(families), n_atoms, int(largest), tuple(sorted(species)),
                             digest.hexdigest(), (*told.findings, *shown), told.label_keys)

    def _sizes(self) -> list[tuple[int, int]]:
        return [(s.st_size, s.st_mtime_ns) for s in (file.stat() for file in self.files)]

    def _blocks(self, reading: Reading, together: int = 0
                ) -> Iterator[tuple[Dataset, list[str]]]:
        held: list[Frame] = []
        atoms = near = 0
        for file in self.files:
            for where, load in file_frames(file):
                structure = load()
                if near + len(structure) > together:
                    near = 0
                    if atoms >= self.block_atoms:
                        yield reading.gather(self.source, held)
                        held, atoms = [], 0
                held.append(Frame(where, lambda structure=structure: structure))
                near, atoms = near + len(structure), atoms + len(structure)
        if held:
            yield reading.gather(self.source, held)

    @property
    def facts(self) -> _Facts:
        """What the first pass found; makes it if nobody has."""
        if self._facts is None:
            for _ in self.scan():
                pass
        return self._facts

    def __len__(self) -> int:
        return len(self.facts.families)

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return len(self)

    @property
    def n_atoms(self) -> int:
        """Atoms of all structures together."""
        return self.facts.n_atoms

    @property
    def largest(self) -> int:
        """Most atoms of a structure."""
        return self.facts.largest

    @property
    def families(self) -> tuple[str, ...]:
        """Family of every structure."""
        return self.facts.families

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols that occur, in alphabetical order."""
        return self.facts.species

    @property
    def findings(self) -> tuple[str, ...]:
        """What the reader noticed and a person should know."""
        return self.facts.findings

    @property
    def label_keys(self) -> tuple[str, ...]:
        """Which keys of the files the labels were taken from."""
        return self.facts.label_keys

    def fingerprint(self) -> str:
        """That of a `Dataset` of the same structures."""
        return self.facts.fingerprint

    def summary(self) -> str:
        """What is in the files, for people."""
        size = sum(size for size, _ in self._sizes()) / 2**20
        lines = [f"Stream {self.source}: {len(self.files)} files, {size:.3g} MiB",
                 f"  structures {len(self):>9}   atoms {self.n_atoms}"
                 f"   species {' '.join(self.species) or '-'}",
                 "  taken from " + "; ".join(self.label_keys)]
        lines += [f"  {name} {count}" for name, count in Counter(self.families).items()]
        return "\n".join(lines + [f"  NOTE: {finding}" for finding in self.findings])
