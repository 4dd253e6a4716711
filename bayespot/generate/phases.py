"""Family ``phase``: the same atoms in other crystals. Shared: `bayespot.generate.frames`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.spacegroup import crystal
from scipy.optimize import minimize_scalar

from bayespot.errors import ConfigError, StructureError
from bayespot.generate.crystals import coordination
from bayespot.generate.frames import (
    Range,
    collect,
    deform,
    minimum_distance,
    random_strain,
    rattled,
    swell,
)
from bayespot.generate.thermal import packing

__all__ = ["BINARY", "BOND_EXPONENT", "COORDINATION", "LATTICES", "PHASE_VOLUME_RATIOS", "lattice",
           "other_phases", "relaxed_ratios", "scaled_ratios"]

#: Volume per atom of each phase relative to diamond's, for silicon (else pass your own).
PHASE_VOLUME_RATIOS: dict[str, float] = {
    "fcc": 0.71, "bcc": 0.72, "sc": 0.79, "hcp": 0.70, "betatin": 0.75, "simplehex": 0.74,
    "hexdiamond": 1.0, "bc8": 0.90, "random": 0.90}
LATTICES: dict[str, tuple[list, list]] = {  # cell and fractional positions
    "fcc": ([1, 1, 1], [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]),
    "bcc": ([1, 1, 1], [(0, 0, 0), (0.5, 0.5, 0.5)]), "sc": ([1, 1, 2], [(0, 0, 0), (0, 0, 0.5)]),
    "hcp": ([1, 1, 1.633, 90, 90, 120], [(0, 0, 0), (1/3, 2/3, 0.5)]),
    "simplehex": ([1, 1, 1.9, 90, 90, 120], [(0, 0, 0), (0, 0, 0.5)]),
    "hexdiamond": ([1, 1, 6.34 / 3.84, 90, 90, 120], [
        (1/3, 2/3, 0.0629), (2/3, 1/3, 0.5629), (2/3, 1/3, 0.9371), (1/3, 2/3, 0.4371)]),
    "betatin": ([[-1, 1, 0.55], [1, -1, 0.55], [1, 1, -0.55]], [(0, 0, 0), (0.75, 0.25, 0.5)]),
    "diamond": ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [(0, 0, 0), (0.25, 0.25, 0.25)])}
COORDINATION = {"fcc": 12, "hcp": 12, "bcc": 8, "simplehex": 8, "sc": 6, "betatin": 6,
                "diamond": 4, "hexdiamond": 4, "bc8": 4, "random": 10}
"""Nearest neighbors of the phases."""
BINARY: dict[str, tuple[list, list, list, int]] = {  # cell, first and second species, neighbors
    "rocksalt": ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [(0, 0, 0)], [(0.5, 0.5, 0.5)], 6),
    "cesiumchloride": ([1, 1, 1], [(0, 0, 0)], [(0.5, 0.5, 0.5)], 8),
    "zincblende": ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [(0, 0, 0)], [(0.25, 0.25, 0.25)], 4)}
"""Crystals of two species, one atom of each."""

BOND_EXPONENT = {"open": 0.15, "dense": 0.07}
r"""Exponent :math:`p` of :math:`d \propto Z^p`, see `scaled_ratios`; open: four neighbors or fewer
in the parent. From DFT volumes: silicon's phases in `PHASE_VOLUME_RATIOS`; aluminium's in the
archive aluminium_gpaw_pbe."""


def lattice(phase: str, symbols: Sequence[str]) -> Atoms:
    """Cell of a phase with a nearest distance of 1 Å.

    Raises
    ------
    ConfigError
        If there is no such phase for this number of species.
    """
    if phase in BINARY and len(symbols) == 2:
        cell, first, second, _ = BINARY[phase]
        atoms = Atoms([symbols[0]] * len(first) + [symbols[1]] * len(second), cell=cell,
                      scaled_positions=first + second, pbc=True)
    elif phase in LATTICES and len(symbols) == 1:
        cell, basis = LATTICES[phase]
        atoms = Atoms([symbols[0]] * len(basis), cell=cell, scaled_positions=basis, pbc=True)
    elif phase == "bc8" and len(symbols) == 1:
        atoms = crystal([symbols[0]], [(0.1025, 0.1025, 0.1025)], spacegroup=206,
                        cellpar=[6.64, 6.64, 6.64, 90, 90, 90], primitive_cell=True)
    else:
        known = (*LATTICES, "bc8") if len(symbols) == 1 else tuple(BINARY)
        raise ConfigError(f"phase {phase!r} of {', '.join(symbols)} is unknown; there are: "
                          f"{', '.join(known)}")
    atoms.set_cell(atoms.cell.array / minimum_distance(atoms, 12.0), scale_atoms=True)
    return atoms


def scaled_ratios(parent: Atoms, names: Sequence[str]) -> dict[str, float]:
    r"""Volume per atom of phases relative to the parent's, by a rule for bond lengths.

    The nearest distance goes with the number of nearest neighbors as :math:`d \propto Z^p`, with
    :math:`p = 0.15` for parents of four neighbors or fewer and 0.07 for others (`BOND_EXPONENT`);
    the geometry of the lattice does the rest. Bonds get longer as neighbors get more: Pauling, J.
    Am. Chem. Soc. 69, 542 (1947).

    Returns
    -------
    dict of phase to ratio
        A ``random`` packing gets the mean of the other phases that are asked for.
    """
    symbols = sorted(set(parent.symbols))
    own, nearest = coordination(parent), minimum_distance(parent, 12.0)
    exponent = BOND_EXPONENT["open" if own <= 4 else "dense"]
    here, ratios = parent.cell.volume / len(parent), {}
    for name in (name for name in names if name != "random"):
        unit = lattice(name, symbols)
        many = BINARY[name][3] if name in BINARY else COORDINATION[name]
        bond = nearest * (many / own) ** exponent
        ratios[name] = float(unit.cell.volume / len(unit) * bond**3 / here)
    if "random" in names:
        ratios["random"] = float(np.mean(list(ratios.values()))) if ratios else 1.0
    return ratios


def relaxed_ratios(parent: Atoms, names: Sequence[str], calculator: Calculator
                   ) -> dict[str, float]:
    """Volume per atom of phases relative to the parent's, each at its own lowest energy.

    The shape of the cells is kept; the parent is relaxed by the same calculator, whose own lattice
    parameter cancels. The search goes from 0.6 to 1.5 times the volume of `scaled_ratios`.

    Raises
    ------
    StructureError
        If a phase has no minimum there.
    """
    symbols, guess = sorted(set(parent.symbols)), scaled_ratios(parent, names)
    here = parent.cell.volume / len(parent)

    def best(atoms: Atoms, name: str) -> float:
        def energy(factor: float) -> float:
            trial = atoms.copy()
            deform(trial, swell(factor - 1.0))
            trial.calc = calculator
            return trial.get_potential_energy()

        found = minimize_scalar(energy, bounds=(0.6, 1.5), method="bounded",
                                options={"xatol": 1e-4})
        if not 0.61 < found.x < 1.49:
            raise StructureError(f"{name}: the driver finds no volume of lowest energy between "
                                 "0.6 and 1.5 times the expected one; set volumes = 'scaled'")
        return float(found.x)

    own, ratios = best(parent, "the parent"), {}
    for name in (name for name in names if name != "random"):
        atoms = lattice(name, symbols)
        deform(atoms, swell(here * guess[name] * len(atoms) / atoms.cell.volume - 1.0))
        ratios[name] = guess[name] * best(atoms, name) / own
    if "random" in names:
        ratios["random"] = float(np.mean(list(ratios.values()))) if ratios else 1.0
    return ratios


def other_phases(parent: Atoms, n: int, seed: int, *,
                 ratios: Mapping[str, float] = PHASE_VOLUME_RATIOS, volume: Range = (-0.15, 0.20),
                 strain: float = 0.03, rattle: Range = (0.0, 0.12),
                 min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Build other structures (2-8 atoms) of the parent's species: family ``phase``.

    `ratios` maps the phases, taken in turn, to their volume per atom relative to the parent's,
    `volume` is the range of the relative change about it, `strain` bounds a random strain.
    """
    symbols = sorted(set(parent.symbols))
    known = (*LATTICES, "bc8", "random") if len(symbols) == 1 else tuple(BINARY)

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        size = parent.cell.volume / len(parent) * ratios[kind]
        if kind == "random":  # if it does not come out, it is drawn again
            number = int(rng.integers(4, 9))
            atoms = packing([symbols[0]] * number, number * size * (1.0 + change), closest, rng)
        else:
            atoms = lattice(kind, symbols)
        deform(atoms, swell(size * (1.0 + change) * len(atoms) / atoms.cell.volume - 1.0))
        deform(atoms, random_strain(rng, strain))
        return rattled(atoms, rng, rattle)

    return collect(make, parent, n, seed, "phase", list(ratios), label, min_distance, volume, known)
