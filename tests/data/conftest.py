"""Labelled copper, made with ASE's EMT: a teacher whose energies, forces and stresses agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the public data sets beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the public data sets (../shared/data) are not beside this checkout")
    return SHARED


def _label(atoms: Atoms) -> Atoms:
    """Atoms with REF_ keys from EMT."""
    work = atoms.copy()
    work.calc = EMT()
    out = atoms.copy()
    out.info["REF_energy"] = work.get_potential_energy()
    out.arrays["REF_forces"] = work.get_forces()
    out.info["REF_stress"] = work.get_stress(voigt=False)
    return out


def _with_calculator(atoms: Atoms, **extra: object) -> Atoms:
    """The same with a calculator's results in place of the REF_ keys."""
    out = atoms.copy()
    results = {"energy": out.info.pop("REF_energy"), "forces": out.arrays.pop("REF_forces"),
               "stress": out.info.pop("REF_stress")[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]}
    out.calc = SinglePointCalculator(out, **{**results, **extra})
    return out


@pytest.fixture(scope="session")
def label() -> Callable[[Atoms], Atoms]:
    """Return the function that puts EMT's labels under the REF_ keys of a copy."""
    return _label


@pytest.fixture(scope="session")
def with_calculator() -> Callable[..., Atoms]:
    """Return the function that moves REF_ labels into a calculator of a copy."""
    return _with_calculator


@pytest.fixture(scope="session")
def _copper() -> list[Atoms]:
    rng = np.random.default_rng(5)
    frames = []
    cell = bulk("Cu", "fcc", a=3.6, cubic=True)
    modes = ((0, 0, 1), (1, 1, 1), (1, 2, 2), (0, 2, 2), (0, 1, 2))
    for i, j, kind in modes:  # uniaxial, then three shears
        for size in (-0.06, -0.04, -0.02, 0.02, 0.04, 0.06):
            strain = np.eye(3)
            if kind == 1:
                strain[i, j] += size
            else:
                strain[i, j] += size
                strain[2, 2] += 0.3 * size
            atoms = cell.copy()
            atoms.set_cell(cell.cell @ strain, scale_atoms=True)
            atoms.info["config_type"] = "strained"
            frames.append(atoms)
    for _ in range(8):
        atoms = cell.copy()
        atoms.positions += rng.normal(scale=0.06, size=(4, 3))
        atoms.info["config_type"] = "rattled"
        frames.append(atoms)
    for _ in range(3):
        atoms = cell.repeat((2, 2, 1))
        atoms.positions += rng.normal(scale=0.05, size=(16, 3))
        atoms.info["config_type"] = "large"
        frames.append(atoms)
    for k, atoms in enumerate(frames):
        atoms.info["split"] = "test" if k % 5 == 0 else "train"
    return [_label(atoms) for atoms in frames]


@pytest.fixture
def copper(_copper: list[Atoms]) -> list[Atoms]:
    """41 fresh copies: 30 strained and 8 rattled cells of 4 atoms, 3 rattled cells of 16."""
    return [atoms.copy() for atoms in _copper]
