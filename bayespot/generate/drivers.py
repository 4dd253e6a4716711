"""What drives molecular dynamics: a posterior, any oracle, or a cheap model of the element."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from bayespot.errors import ConfigError
from bayespot.generate.crystals import coordination
from bayespot.generate.frames import minimum_distance
from bayespot.oracles.ase_calculator import OracleCalculator

__all__ = ["PotentialCalculator", "cheap_model", "driver_of", "has_cheap_model"]

MELTING_K = 1000.0
"""K; the cheap models take their unit of energy from this: their temperatures are nominal."""

#: Melting temperatures of the models in units of their well depth.
#: Stillinger-Weber: 1691 K at 2.1683 eV, Broughton and Li, Phys. Rev. B 35, 9120 (1987).
#: Morse with rho0 = 6, whose curvature is that of Lennard-Jones (r0^2 phi'' = 72 eps):
#: kT/eps = 0.69, Mastny and de Pablo, J. Chem. Phys. 127, 104504 (2007).
REDUCED_MELTING = {"StillingerWeber": 8.617333e-5 * 1691.0 / 2.1683, "Morse": 0.69}


class PotentialCalculator(Calculator):
    """A potential of bayespot with fixed parameters as an ASE calculator."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, potential: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.potential = potential

    def calculate(self, atoms: Atoms | None = None, properties: list[str] | None = None,
                  system_changes: list[str] = all_changes) -> None:
        """Evaluate the structure."""
        from bayespot.evaluate import evaluate
        from bayespot.graph import build_graph

        super().calculate(atoms, properties, system_changes)
        reach = float(self.potential.reach)
        out = evaluate(self.potential, build_graph([self.atoms], self.potential.species, reach),
                       cutoff=reach)
        self.results = {"energy": float(out.energy[0]), "free_energy": float(out.energy[0]),
                        "forces": np.array(out.forces)}
        if self.atoms.pbc.all():
            self.results["stress"] = np.array(out.stress[0])


def has_cheap_model(parent: Atoms) -> bool:
    """Say whether there is a `cheap_model` for these species."""
    species = set(parent.symbols)
    return len(species) == 1 or species <= _effective_medium_metals()


def _effective_medium_metals() -> set[str]:
    from ase.calculators.emt import parameters

    return set(parameters) - {"H", "C", "N", "O"}


def cheap_model(parent: Atoms) -> tuple[Calculator, str]:
    """A potential for the parent's one element that needs nothing but the parent.

    Effective-medium theory for the metals it was made for (Jacobsen, Stoltze and Nørskov, Surf.
    Sci. 366, 394 (1996), as in ASE). Otherwise a model scaled to the bond length of the parent:
    silicon's Stillinger-Weber form where atoms have four neighbors, a Morse potential elsewhere.
    Its unit of energy is such that it melts near 1000 K. It makes plausible snapshots, and its
    temperatures are nominal.

    Returns
    -------
    calculator, what it is

    Raises
    ------
    ConfigError
        If the parent has several species and not all are metals of effective-medium theory.
    """
    from ase.calculators.emt import EMT

    species = sorted(set(parent.symbols))
    if set(species) <= _effective_medium_metals():
        return EMT(), "effective-medium theory"
    if len(species) > 1:
        raise ConfigError(f"there is no cheap model for {', '.join(species)} together; name a "
                          "driver: a posterior.nc, or an oracle such as 'gpaw'")
    length = minimum_distance(parent, 12.0)
    if coordination(parent) == 4:
        return _scaled_silicon(species[0], length), "Stillinger-Weber scaled to the bond length"
    from ase.calculators.morse import MorsePotential

    depth = 8.617333e-5 * MELTING_K / REDUCED_MELTING["Morse"]
    return (MorsePotential(epsilon=depth, r0=length, rho0=6.0),
            "a Morse potential scaled to the nearest distance")


def _scaled_silicon(symbol: str, length: float) -> PotentialCalculator:
    from bayespot.potentials.stillinger_weber import SILICON_1985, StillingerWeber

    depth = 8.617333e-5 * MELTING_K / REDUCED_MELTING["StillingerWeber"]
    # the pair term's minimum of silicon's set is at 2^(1/6) sigma
    numbers = {**SILICON_1985, "epsilon": depth, "sigma": length / 2 ** (1 / 6)}
    return PotentialCalculator(StillingerWeber.from_reduced(species=(symbol,), **numbers))


def driver_of(name: str, settings: Mapping[str, Any] | None, parent: Atoms
              ) -> tuple[Calculator, str]:
    """Calculator from its name in a configuration.

    Parameters
    ----------
    name : str
        ``"auto"`` (the cheap model), the path of a posterior (``.nc``), or the name of an oracle:
        ``"gpaw"``, ``"emt"`` or any other ASE calculator.
    settings : mapping
        Keywords of the oracle.
    parent : Atoms
        The crystal that the cheap model is made for.

    Returns
    -------
    calculator, what it is

    Raises
    ------
    ConfigError
        Unknown name, missing file, unusable keywords, or no cheap model.
    """
    if name == "auto":
        if settings:
            raise ConfigError("driver_settings belong to a named driver; name one, or leave them "
                              "out")
        return cheap_model(parent)
    if name.endswith(".nc"):
        if not Path(name).is_file():
            raise ConfigError(f"driver = '{name}': there is no such file; fit one first "
                              "(bayespot fit), or leave the driver out")
        from bayespot.calculator import PosteriorCalculator
        from bayespot.posterior import Posterior

        return PosteriorCalculator(Posterior.load(name)), f"posterior {name}"
    from bayespot.oracles import make_oracle

    return OracleCalculator(make_oracle(name, settings)), f"oracle {name}"
