"""LAMMPS' energies, forces and stresses as an ASE calculator."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import lammps_reference
from ase.calculators.calculator import Calculator, all_changes


class LammpsCalculator(Calculator):
    """One potential in LAMMPS; a new run for each structure."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, potential, folder: Path, commands=None) -> None:
        super().__init__()
        assert not lammps_reference.missing()  # which loads its MPI library
        self.lammps, self.species = lammps_reference.Lammps(), potential.species
        self.pair = commands or lammps_reference.commands(potential, folder)

    def calculate(self, atoms=None, properties=None, system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        energy, forces, stress = self.lammps.run(self.atoms, self.species, self.pair)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces,
                        "stress": stress}  # fmt: skip
