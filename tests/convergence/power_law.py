"""An oracle whose labels converge by known powers of its settings, and a study with it.

    python power_law.py FOLDER LOG [CALCULATIONS]

runs the study in FOLDER, writes a line to LOG for every calculation that is made, and kills itself
with SIGKILL in the middle of calculation number CALCULATIONS.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk

from bayespot.convergence import Calculations, make_scan, run_study
from bayespot.data.dataset import Dataset
from bayespot.errors import OracleError
from bayespot.oracles import LabelledResult

BASE = {"basis": {"cutoff": 100.0}, "tolerance": 1e-6}
CUTOFFS = (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
TARGET = {"energy_difference": 1e-3, "forces": 1e-2, "stress": 1e-3}


class PowerLaw:
    """Energies err by h² and t², forces and stresses by h and t; h = 1/cutoff, t = tolerance."""

    name = "power_law"

    def __init__(self, settings, *, fails=lambda settings, atoms: False, made=None):
        self.keywords = settings
        self.settings = {"oracle": self.name, "keywords": settings}
        self.fails, self.made = fails, made

    def label(self, structure: Atoms) -> LabelledResult:
        if self.made is not None:
            self.made(structure)
        if self.fails(self.keywords, structure):
            raise OracleError("not converged: made to fail")
        h, t = 1.0 / self.keywords["basis"]["cutoff"], self.keywords["tolerance"]
        x = structure.positions
        own = np.sin(37.0 * x.sum())  # differs between structures, between -1 and 1
        energy = np.sum(np.cos(x)) + len(x) * ((30 + 10 * own) * h**2 + (1 + 0.5 * own) * t**2)
        forces = np.sin(x) + (1.0 * h + 0.5 * t) * np.cos(5.0 * x)
        stress = 0.01 * np.arange(6.0) + 0.02 * h + 0.02 * t
        cost = {"version": "power_law 1", "cpu_time_s": 1e-3 / h - np.log10(t)}
        return LabelledResult(energy, forces, stress, cost)


def crystals(n: int = 3) -> Dataset:
    """Rattled copper cells in two families."""
    found = []
    for k in range(n):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=k)
        found.append(atoms)
    return Dataset.from_atoms(found, families=["strained" if k % 2 else "thermal"
                                               for k in range(n)])


def scans():
    return [
        make_scan("power_law", "cutoff", CUTOFFS, key="basis.cutoff"),
        make_scan("power_law", "scf", TOLERANCES, key="tolerance"),
    ]


def study(folder, *, dataset=None, target=TARGET, retry_failed=False, some=None, **options):
    settings = {k: options.pop(k) for k in ("fails", "made") if k in options}
    calculations = Calculations(
        folder, "power_law", lambda _, keywords: PowerLaw(keywords, **settings),
        retry_failed=retry_failed,
    )
    return run_study(calculations, BASE, scans() if some is None else some,
                     crystals() if dataset is None else dataset, target, **options)


def main(folder: str, log: str, calculations: str = "0") -> None:
    count = 0

    def made(structure):
        nonlocal count
        count += 1
        if count == int(calculations):
            os.kill(os.getpid(), signal.SIGKILL)
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{structure.positions.sum():.12f}\n")

    found = study(Path(folder), made=made)
    print(found.recommended.settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
