"""Oracles for algorithms of ASE."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from bayespot.oracles.base import Oracle

__all__ = ["OracleCalculator"]


class OracleCalculator(Calculator):
    """An oracle as an ASE calculator, for dynamics and relaxations: every step is one label.

    Parameters
    ----------
    oracle : Oracle
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, oracle: Oracle, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.oracle = oracle

    def calculate(self, atoms: Atoms | None = None, properties: list[str] | None = None,
                  system_changes: list[str] = all_changes) -> None:
        """Label the structure; an `OracleError` ends the run."""
        super().calculate(atoms, properties, system_changes)
        label = self.oracle.label(self.atoms)
        self.results = {"energy": label.energy, "free_energy": label.energy,
                        "forces": np.array(label.forces)}
        if label.stress is not None:
            self.results["stress"] = np.array(label.stress)
        elif "stress" in (properties or []):
            raise PropertyNotImplementedError("the oracle gave no stress for this structure")
