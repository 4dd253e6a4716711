"""An ASE calculator for molecular dynamics: one surface drives, the draws go beside it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from bayespot.dynamics.ensemble import N_DRAWS, Ensemble, Spread, driver_of
from bayespot.errors import CutoffError, StructureError
from bayespot.evaluate import Labels3
from bayespot.posterior import Posterior
from bayespot.potentials.base import Potential

FORCE_LIMIT = 1e3
"""eV/Å; forces beyond are those of a trajectory that has exploded."""


class DynamicsCalculator(Calculator):
    """Energies, forces and stresses of one surface, for the integrators of ASE.

    Faster than `bayespot.PosteriorCalculator`, which evaluates all draws on a new list in every
    step: the neighbour list is kept, and the draws are asked for when `spread` is called.

    Parameters
    ----------
    source : Posterior or Potential
        See `Ensemble`.
    drive : "mean", "center" or int
        The mean of the forces of all draws (then their spread costs nothing more), the potential
        at the mean of the parameters, or one draw.
    n_draws, skin, allow_unconverged
        See `Ensemble`.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(
        self, source: Posterior | Potential | Ensemble, *, drive: int | str = "mean",
        n_draws: int = N_DRAWS, skin: float | None = None, allow_unconverged: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ensemble = source if isinstance(source, Ensemble) else Ensemble(
            source, n_draws=n_draws, skin=skin, allow_unconverged=allow_unconverged
        )  # fmt: skip
        self.drive = driver_of(drive, self.ensemble.n)
        self._draws: Labels3 | None = None  # of the structure in self.atoms

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate the surface that drives.

        Raises
        ------
        StructureError
            If energy or forces are not finite, or larger than any that a trajectory survives.
        CutoffError
            If the stress of a structure without a volume is asked for.
        """
        super().calculate(atoms, properties, system_changes)
        self._draws = None
        if self.drive == "mean":
            self._draws = self.ensemble.draws(self.atoms)
            energy, forces, stress = (np.mean(values, axis=0) for values in self._draws)
        else:
            energy, forces, stress = self.ensemble.one(self.atoms, self.drive)
        largest = np.abs(forces).max()
        if not (np.isfinite(energy) and largest < FORCE_LIMIT):
            raise StructureError(
                f"energy {energy:.4g} eV, largest force {largest:.4g} eV/Å: the trajectory has "
                "exploded (a time step too long, or atoms where the potential was never fitted)"
            )
        self.results = {"energy": float(energy), "free_energy": float(energy), "forces": forces}
        if self.atoms.pbc.all():
            self.results["stress"] = stress
        elif "stress" in (properties or []):
            raise CutoffError(
                "stress was asked for a structure that is not periodic in three directions: it has "
                "no volume; set atoms.pbc and a cell, or do not ask for stress"
            )

    def spread(self, atoms: Atoms) -> Spread:
        """Spreads over all draws; free where their mean drives and the forces are at hand."""
        known = self._draws if not self.check_state(atoms) else None
        return self.ensemble.spread(atoms, known)
