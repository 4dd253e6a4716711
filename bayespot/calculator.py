"""An ASE calculator whose results carry error bars."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from bayespot.errors import CutoffError
from bayespot.posterior import Posterior
from bayespot.prediction import Prediction, check_product, predict


class PosteriorCalculator(Calculator):
    """Means and spreads over posterior draws, for anything that takes an ASE calculator.

    Results: energy, free_energy, forces, stress (means over draws, which are derivatives of the
    mean energy), energy_std, forces_std, stress_std (total: parameter spread and noise),
    energy_parameter_std, forces_parameter_std, stress_parameter_std and extrapolation. The whole
    `Prediction`, draws and warnings included, is in ``prediction``. The first structure outside of
    the calibrated range gives a Python warning.

    Parameters
    ----------
    posterior : Posterior
    n_draws : int
        Draws behind every evaluation.
    product : {"corrected", "classical"}
        See `bayespot.predict`.
    allow_unconverged : bool
        Go on although the posterior has not converged.

    Raises
    ------
    NotConverged
        If the posterior has not converged and ``allow_unconverged`` is not set.
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy", "free_energy", "forces", "stress", "energy_std", "forces_std", "stress_std",
        "energy_parameter_std", "forces_parameter_std", "stress_parameter_std", "extrapolation",
    ]

    def __init__(
        self, posterior: Posterior, n_draws: int = 32, *, product: str = "corrected",
        allow_unconverged: bool = False, **kwargs: Any,
    ) -> None:
        posterior.check(allow_unconverged=allow_unconverged)
        check_product(posterior, product)
        super().__init__(**kwargs)
        self.posterior = posterior
        self.n_draws = n_draws
        self.product = product
        self.prediction: Prediction | None = None
        self._warned = False

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Predict the structure with all draws."""
        super().calculate(atoms, properties, system_changes)
        p = predict(self.posterior, self.atoms, n_draws=self.n_draws, product=self.product,
                    allow_unconverged=True)
        self.prediction = p
        if self.posterior.calibrated and p.extrapolation[0] > 1 and not self._warned:
            self._warned = True
            warnings.warn("; ".join(p.warnings[0]), stacklevel=2)
        self.results = {
            "energy": float(p.energy[0]),
            "free_energy": float(p.energy[0]),
            "forces": p.forces,
            "energy_std": float(p.energy_total_std[0]),
            "forces_std": p.forces_total_std,
            "energy_parameter_std": float(p.energy_parameter_std[0]),
            "forces_parameter_std": p.forces_parameter_std,
            "extrapolation": float(p.extrapolation[0]),
        }
        if np.isfinite(p.stress[0]).all():
            self.results["stress"] = p.stress[0]
            self.results["stress_std"] = p.stress_total_std[0]
            self.results["stress_parameter_std"] = p.stress_parameter_std[0]
        elif "stress" in (properties or []):
            raise CutoffError(
                "stress was asked for a structure that is not periodic in three directions: "
                "it has no volume; set atoms.pbc and a cell, or do not ask for stress"
            )
