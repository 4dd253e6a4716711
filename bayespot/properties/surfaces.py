"""One energy surface or many, seen alike: property functions are written once for both.

An ASE calculator is one surface; the draws of a posterior, `bayespot.properties.draws`, are many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from bayespot.errors import PropertyError
from bayespot.evaluate import Labels3
from bayespot.properties.frames import Frames

CELLS = ("fixed", "volume", "shape", "all")
"""What of a cell is relaxed: nothing, its volume alone, its shape at this volume, everything."""


@dataclass(frozen=True)
class Tolerance:
    """When a structure counts as relaxed."""

    forces: float = 1e-5  # eV/Å, largest component
    stress: float = 2e-7  # eV/Å^3, largest component (3e-5 GPa)
    steps: int = 500


@dataclass(frozen=True)
class Relaxed:
    """Frames at their minima, where the search ended well."""

    frames: Frames
    energy: np.ndarray  # [K] eV
    forces: np.ndarray  # [K, N, 3] eV/Å
    stress: np.ndarray  # [K, 6] eV/Å^3
    converged: np.ndarray  # [K]

    @property
    def energy_error(self) -> np.ndarray:
        r"""Bound of what relaxing on would gain, eV, [K].

        :math:`\sum_i |F_i|^2 / 2k` with a soft spring of :math:`k = 1` eV/Å².
        """
        return 0.5 * (self.forces**2).sum(axis=(1, 2))

    def or_lower(self, other: Relaxed) -> Relaxed:
        """Of each frame the one of two results that is converged, and then the lower one."""
        take = other.converged & (~self.converged | (other.energy < self.energy - 1e-6))

        def pick(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
            return np.where(take.reshape(-1, *[1] * (mine.ndim - 1)), theirs, mine)

        frames = self.frames.moved(
            pick(self.frames.positions, other.frames.positions),
            pick(self.frames.cells, other.frames.cells),
        )
        return Relaxed(
            frames, pick(self.energy, other.energy), pick(self.forces, other.forces),
            pick(self.stress, other.stress), self.converged | other.converged,
        )  # fmt: skip


class Surfaces(ABC):
    """Energy surfaces that frames can be evaluated and relaxed on."""

    def __init__(self, n: int, tolerance: Tolerance) -> None:
        self.n, self.tolerance = n, tolerance
        self._crystals: dict[tuple, Relaxed] = {}

    @abstractmethod
    def evaluate(self, frames: Frames) -> Labels3:
        """Energies [K] (eV), forces [K, N, 3] (eV/Å) and stresses [K, 6] (eV/Å^3)."""

    @abstractmethod
    def relax(self, frames: Frames, cell: str = "fixed") -> Relaxed:
        """Relax positions, and of the cell what ``cell`` names (one of `CELLS`)."""

    def relax_for_energy(self, frames: Frames) -> Relaxed:
        """As `relax` in a fixed cell, for those who use nothing of the minimum but its energy.

        At a minimum the energy does not depend on positions to first order, and surfaces that
        stand for derivatives need not find out how positions respond.
        """
        return self.relax(frames)

    @abstractmethod
    def calculator(self, k: int) -> Calculator:
        """Surface ``k`` as an ASE calculator, for algorithms of ASE."""

    def everywhere(self, atoms: Atoms) -> Frames:
        """A structure on every surface."""
        return Frames.everywhere(atoms, self.n)

    def crystal(self, atoms: Atoms) -> Relaxed:
        """A crystal with cell and positions relaxed on every surface; remembered."""
        if not atoms.pbc.all():
            raise PropertyError(
                f"{atoms.get_chemical_formula()} is not periodic in three directions: give the "
                "cell of a crystal, with pbc=True"
            )
        key = (atoms.positions.tobytes(), atoms.cell.array.tobytes(), atoms.numbers.tobytes())
        if key not in self._crystals:
            self._crystals[key] = self.relax(self.everywhere(atoms), "all")
        return self._crystals[key]


class CalculatorSurface(Surfaces):
    """The surface of one ASE calculator; relaxations are ASE's.

    Parameters
    ----------
    calculator : ase.calculators.calculator.Calculator
    tolerance : Tolerance, optional
        What the calculator can reach; DFT needs larger ones than the defaults.
    """

    def __init__(self, calculator: Calculator, tolerance: Tolerance | None = None) -> None:
        super().__init__(1, tolerance or Tolerance())
        self._calculator = calculator

    def calculator(self, k: int) -> Calculator:
        """See `Surfaces.calculator`."""
        return self._calculator

    def evaluate(self, frames: Frames) -> Labels3:
        """See `Surfaces.evaluate`."""
        rows = [self._one(frames.atoms(k)) for k in range(len(frames))]
        return Labels3(*(np.array(values) for values in zip(*rows, strict=True)))

    def _one(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        atoms.calc = self._calculator
        stress = np.zeros(6)
        if atoms.pbc.all():
            try:
                stress = atoms.get_stress()
            except PropertyNotImplementedError:  # of this cell, such as one with vacuum
                stress = np.full(6, np.nan)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        # Forces derive from the free energy where there is smearing.
        return self._calculator.results.get("free_energy", energy), forces, stress

    def relax(self, frames: Frames, cell: str = "fixed") -> Relaxed:
        """See `Surfaces.relax`."""
        positions, cells = frames.positions.copy(), frames.cells.copy()
        for k in range(len(frames)):
            atoms = frames.atoms(k)
            atoms.calc = self._calculator
            volume = atoms.get_volume()
            target: Any = atoms
            if cell != "fixed":
                target = FrechetCellFilter(
                    atoms, hydrostatic_strain=cell == "volume", constant_volume=cell == "shape"
                )
            fmax = self.tolerance.forces
            if cell != "fixed":  # the filter's forces are virials: volume times stress per factor
                fmax = min(fmax, self.tolerance.stress * volume / target.exp_cell_factor)
            try:
                BFGS(target, logfile=None, maxstep=0.1).run(fmax, self.tolerance.steps)
            except PropertyNotImplementedError:
                raise PropertyError(
                    f"{type(self._calculator).__name__} gives no stress: cells cannot be relaxed "
                    "and elastic constants not be found with it"
                ) from None
            positions[k], cells[k] = atoms.positions, atoms.cell.array
        moved = frames.moved(positions, cells)
        out = self.evaluate(moved)
        return Relaxed(moved, *out, arrived(self.tolerance, out, cell, slack=1.01))


def arrived(tolerance: Tolerance, out: Labels3, cell: str, slack: float = 1.0) -> np.ndarray:
    """Whether forces, and the stress that the cell could follow, are within tolerance, [K]."""
    stress = resisting(out.stress, cell)
    return (
        (np.abs(out.forces).max(axis=(1, 2)) <= slack * tolerance.forces)
        & (np.abs(stress).max(axis=1) <= slack * tolerance.stress)
        & np.isfinite(out.energy)
    )


def resisting(stress: np.ndarray, cell: str) -> np.ndarray:
    """The part of a stress, Voigt [K, 6], that a relaxation of this kind takes to zero."""
    mean = np.zeros_like(stress)
    mean[:, :3] = stress[:, :3].mean(axis=1, keepdims=True)
    none = np.zeros_like(stress)  # also where there is no stress, in cells with vacuum
    return {"fixed": none, "volume": mean, "shape": stress - mean, "all": stress}[cell]
