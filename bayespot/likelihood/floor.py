"""The measured convergence error of the DFT labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bayespot.units import GPA, QUANTITIES


@dataclass(frozen=True)
class NoiseFloor:
    """Convergence error of the DFT labels, added in quadrature to the inferred noise.

    Attributes
    ----------
    energy, forces, stress : float
        eV/atom, eV/Å, eV/Å^3. The defaults are guesses for a well-converged plane-wave code;
        measure them.
    families : mapping
        Family to its own (energy, forces, stress) where they were measured by family.
    """

    energy: float = 1e-3
    forces: float = 1e-2
    stress: float = 0.05 / GPA
    families: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, path: str | Path) -> NoiseFloor:
        """Read a measured floor (the ``floor.json`` beside a data set)."""
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        overall = [record["overall"][f"s_{q}"] for q in QUANTITIES]
        families = {
            name: tuple(
                overall[k] if row.get(f"s_{q}") is None else float(row[f"s_{q}"])
                for k, q in enumerate(QUANTITIES)
            )
            for name, row in record.get("families", {}).items()
        }
        return cls(*overall, families=families)

    def of(self, family: str) -> tuple[float, float, float]:
        """Floor of a family."""
        return self.families.get(family, (self.energy, self.forces, self.stress))
