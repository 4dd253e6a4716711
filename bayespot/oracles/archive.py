"""Labels looked up in a data set that was calculated before."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from bayespot.data.dataset import Dataset, has_vacuum
from bayespot.data.provenance import KEY
from bayespot.errors import OracleError
from bayespot.oracles.base import GRID, LabelledResult, check_label, structure_hash


class ArchiveOracle:
    """Labels looked up in a data set that was calculated before.

    Parameters
    ----------
    dataset : Dataset
        Structures with labels; every structure that is asked for must be among them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.name = "archive"
        self.settings: dict[str, Any] = {"oracle": "archive", "dataset": dataset.fingerprint()}
        self.provenances = dataset.provenances()
        self._dataset = dataset
        self._rows = {structure_hash(s): i for i, s in enumerate(dataset.structures)}

    def label(self, structure: Atoms) -> LabelledResult:
        """Look one structure up.

        Raises
        ------
        OracleError
            If the archive lacks the structure, its energy or its forces.
        """
        row = self._find(structure)
        if row is None:
            raise OracleError(
                f"{structure.get_chemical_formula()} ({len(structure)} atoms) is not in the "
                f"archive {self._dataset.source}; take the pool from the archive itself, or "
                "calculate with oracle = 'gpaw' or another calculator",
                "missing",
            )
        labels = self._dataset.labels[row]
        missing = [n for n in ("energy", "forces") if getattr(labels, n) is None]
        if missing:
            what = " and no ".join(missing)
            raise OracleError(f"entry {row} of {self._dataset.source} has no {what}", "missing")
        stress = None if labels.stress is None or has_vacuum(structure) else labels.stress
        result = LabelledResult(
            energy=float(labels.energy),
            forces=np.array(labels.forces, dtype=float),
            stress=None if stress is None else np.array(stress, dtype=float),
            metadata={
                "code": "archive",
                **self._dataset.structures[row].info.get(KEY, {}),
                "source": str(self._dataset.source),
                "entry": row,
            },
        )
        check_label(structure, result)
        return result

    def _find(self, structure: Atoms) -> int | None:
        """Row of a structure; by hash, or within the rounding of text files where that fails."""
        row = self._rows.get(structure_hash(structure))
        if row is not None:
            return row
        for i, known in enumerate(self._dataset.structures):
            if (
                len(known) == len(structure)
                and np.array_equal(known.numbers, structure.numbers)
                and np.allclose(known.cell.array, structure.cell.array, rtol=0, atol=10 * GRID)
                and np.allclose(known.positions, structure.positions, rtol=0, atol=10 * GRID)
            ):
                return i
        return None
