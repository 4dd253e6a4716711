"""Family ``thermal``, and liquids: snapshots of molecular dynamics.

Shared parameters: `bayespot.generate.frames`.
"""

from __future__ import annotations

import warnings

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from bayespot.errors import ConfigError
from bayespot.generate.frames import (
    ATTEMPTS,
    collect,
    deform,
    minimum_distance,
    swell,
)

__all__ = ["liquids", "packing", "thermal"]


def _dynamics(atoms: Atoms, calculator: Calculator, temperature_K: float, timestep_fs: float,
              friction_per_fs: float, rng: np.random.Generator) -> Langevin:
    """Langevin dynamics from random velocities; `atoms` moves with it."""
    atoms.calc = calculator
    with warnings.catch_warnings():
        # a function that newer ASE calls otherwise, and a drift correction that does no harm here
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_K, rng=rng)
        return Langevin(atoms, timestep_fs * units.fs, temperature_K=temperature_K,
                        friction=friction_per_fs / units.fs, rng=rng)


def thermal(parent: Atoms, calculator: Calculator, n: int, seed: int, *, temperature_K: float,
            volume: float = 0.0, timestep_fs: float = 1.0, friction_per_fs: float = 0.02,
            equilibrate: int = 150, interval: int = 40, min_distance: float | None = None,
            label: str | None = None) -> list[Atoms]:
    """Take snapshots (m atoms) of Langevin dynamics with a cheap potential: family ``thermal``.

    `temperature_K` is the thermostat's, `volume` a relative volume change before the run,
    `equilibrate` and `interval` the steps of `timestep_fs` before the first snapshot and between
    two. For the rest see the module; raises ConfigError also for a bad temperature or volume.
    """
    if temperature_K <= 0 or volume <= -1:
        raise ConfigError(f"thermal: {temperature_K=}, {volume=}; give a temperature above 0 and "
                          "a volume above -1")
    rng, atoms = np.random.default_rng(seed), parent.copy()
    deform(atoms, swell(volume))
    atoms.positions += rng.normal(0.0, 1.0, atoms.positions.shape) * 0.02
    md = _dynamics(atoms, calculator, temperature_K, timestep_fs, friction_per_fs, rng)
    md.run(equilibrate)

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        md.run(interval)
        return atoms

    return collect(make, parent, n, seed, "thermal", (f"{temperature_K:g}K",), label,
                   min_distance, rng=rng)


def packing(symbols: list[str], volume: float, closest: float, rng: np.random.Generator) -> Atoms:
    """Throw atoms into a slightly deformed cube of a given volume (Å^3), one by one.

    Atoms are kept `closest` (Å) apart where a place is found in 200 attempts; the caller looks.
    """
    atoms = Atoms(cell=np.eye(3) * volume ** (1 / 3), pbc=True)
    deform(atoms, np.diag(rng.uniform(-0.12, 0.12, 3)))
    for symbol in symbols:
        for _ in range(ATTEMPTS):
            trial = atoms + Atoms([symbol], positions=[rng.uniform(size=3) @ atoms.cell])
            if minimum_distance(trial) >= closest:
                break
        atoms = trial
    return atoms


def liquids(parent: Atoms, calculator: Calculator, n: int, seed: int, *, temperature_K: float,
            ratio: float = 1.0, volume: tuple[float, float] = (-0.08, 0.12),
            timestep_fs: float = 2.0, friction_per_fs: float = 0.02, equilibrate: int = 300,
            min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Melt random packings of the parent's atoms (m): family ``phase``, variant ``liquid``.

    Every frame has a packing and a run of its own, so frames are independent. `ratio` is the
    liquid's volume over the parent's, `volume` the range of the relative change about it,
    `equilibrate` the number of steps of `timestep_fs` at `temperature_K`. For the rest see the
    module; raises ConfigError also for a bad temperature.
    """
    if temperature_K <= 0 or ratio <= 0:
        raise ConfigError(f"liquid: {temperature_K=}, {ratio=}; give numbers above 0")
    symbols = [str(s) for s in parent.symbols]

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        size = parent.cell.volume * ratio * (1.0 + change)
        for _ in range(ATTEMPTS):
            atoms = packing(symbols, size, closest, rng)
            if minimum_distance(atoms) >= closest:
                break
        deform(atoms, swell(size / atoms.cell.volume - 1.0))
        md = _dynamics(atoms, calculator, temperature_K, timestep_fs, friction_per_fs, rng)
        md.run(equilibrate)
        return atoms

    return collect(make, parent, n, seed, "phase", ("liquid",), label, min_distance, volume)


