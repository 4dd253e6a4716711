"""The folder of a trajectory: frames and record grow line by line, a state says how far they count.

``settings.json``, ``trajectory.xyz`` (extended XYZ, unwrapped positions and momenta),
``record.jsonl`` (one line a record) and ``state.json``, from which a killed run continues: it has
all digits, the state of the random numbers, and how long both files were then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.extxyz import read_xyz, write_xyz

from bayespot.errors import ConfigError
from bayespot.records import canonical_json, read_json, write_json

SETTINGS, FRAMES, RECORD, STATE = (
    "settings.json", "trajectory.xyz", "record.jsonl", "state.json"
)  # fmt: skip


class Writer:
    """Appends frames and records to a folder, and keeps the state to continue from.

    What a killed run had written after its last state is cut off: it is computed again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state: dict[str, Any] | None = None
        if (folder / STATE).is_file():
            self.state = read_json(folder / STATE)
        self._open = {}
        for name in (FRAMES, RECORD):
            size = self.state["bytes"][name] if self.state else 0
            path = folder / name
            path.touch()
            if path.stat().st_size < size:
                raise ConfigError(
                    f"{path} is shorter than {folder / STATE} says: it was edited or damaged; "
                    "remove the folder to start again"
                )
            os.truncate(path, size)
            self._open[name] = open(path, "a", encoding="utf-8")  # noqa: SIM115  (closed in close)

    def frame(self, atoms: Atoms, step: int, time_fs: float) -> None:
        """Append a frame."""
        frame = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=atoms.pbc,
                      momenta=atoms.get_momenta())  # fmt: skip
        frame.info.update(step=step, time_fs=time_fs)
        write_xyz(self._open[FRAMES], [frame], columns=["symbols", "positions", "momenta"])
        self._open[FRAMES].flush()

    def record(self, content: dict[str, Any]) -> None:
        """Append a record."""
        self._open[RECORD].write(canonical_json(content) + "\n")
        self._open[RECORD].flush()

    def keep(self, atoms: Atoms, step: int, rng: np.random.Generator, stopped: str | None) -> None:
        """Write the state to continue from."""
        sizes = {}
        for name, handle in self._open.items():
            handle.flush()
            os.fsync(handle.fileno())
            sizes[name] = os.fstat(handle.fileno()).st_size
        self.state = {
            "step": step, "stopped": stopped, "bytes": sizes, "rng": rng.bit_generator.state,
            "positions": atoms.positions.tolist(), "momenta": atoms.get_momenta().tolist(),
            "cell": atoms.cell.array.tolist(),
        }  # fmt: skip
        write_json(self.folder / STATE, self.state)

    def close(self) -> None:
        """Close both files."""
        for handle in self._open.values():
            handle.close()


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of the record; a line that a kill cut short is left out."""
    text = (folder / RECORD).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def read_frames(folder: Path) -> Iterator[Atoms]:
    """All whole frames, one by one; one that a kill cut short is left out."""
    with open(folder / FRAMES, encoding="utf-8") as handle:
        while (head := handle.readline()).endswith("\n"):
            lines = [head, *(handle.readline() for _ in range(int(head) + 1))]
            if not lines[-1].endswith("\n"):
                return
            yield next(read_xyz(StringIO("".join(lines)), index=0))
