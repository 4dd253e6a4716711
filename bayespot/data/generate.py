"""Training structures made from one parent structure, deterministic from a seed.

Every function draws from its own numpy ``Generator`` and returns new ``Atoms`` (the parent is not
changed) with four ``info`` keys: ``config_type`` (the family: ``strained``, ``defect``,
``surface``, ``thermal``, ``phase``), ``parent``, ``variant`` (what was done, e.g. ``shear``) and
``seed``. Units: angstrom, cubic angstrom, kelvin, femtosecond. Parameters that all share:

parent : Atoms
    Of m atoms in a cell of non-zero volume.
n, seed : int
    How many structures, and the seed of the generator.
rattle : (float, float)
    Range of a frame's standard deviation of the random displacements (angstrom).
min_distance : float, optional
    Closest distance allowed, images included; by default 0.76 times the parent's own.
label : str, optional
    Goes to ``info['parent']``; by default the parent's formula.

All raise ValueError for a negative `n`, an empty or flat parent, an unknown kind, and when 200
attempts give no structure that respects `min_distance`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ase import Atoms, units
from ase.build import surface
from ase.calculators.calculator import Calculator
from ase.geometry import minkowski_reduce
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal

__all__ = ["PHASE_VOLUME_RATIOS", "interstitials", "minimum_distance", "other_phases",
           "strained", "surfaces", "thermal", "vacancies"]

ATTEMPTS, CLOSEST = 200, 0.76
STRAINS = ("isotropic", "uniaxial", "shear", "random")
INTERSTITIALS = ("interstitial_void", "interstitial_split")
Range = tuple[float, float]
Make = Callable[[np.random.Generator, str, float, float], Atoms]

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
    "betatin": ([[-1, 1, 0.55], [1, -1, 0.55], [1, 1, -0.55]], [(0, 0, 0), (0.75, 0.25, 0.5)])}


def minimum_distance(atoms: Atoms, cutoff: float = 6.0) -> float:
    """Shortest distance (angstrom, images included); ``inf`` if no pair is within `cutoff`."""
    distances = neighbor_list("d", atoms, cutoff)
    return float(distances.min()) if len(distances) else float("inf")


def _rattle(atoms: Atoms, rng: np.random.Generator, between: Range) -> Atoms:
    """Displace in place, with a standard deviation drawn from the range."""
    sigma = rng.uniform(*between)
    atoms.positions += rng.normal(0.0, 1.0, atoms.positions.shape) * sigma
    return atoms


def _deform(atoms: Atoms, strain: np.ndarray) -> None:
    """Apply the symmetric strain, shape (3, 3), to cell and atoms."""
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)


def _swell(change: float) -> np.ndarray:
    """Return the isotropic strain, shape (3, 3), of a relative volume change."""
    return np.eye(3) * ((1.0 + change) ** (1.0 / 3.0) - 1.0)


def _random_strain(rng: np.random.Generator, bound: float) -> np.ndarray:
    raw = rng.uniform(-bound, bound, (3, 3))
    return (raw + raw.T) / 2.0


def _frames(make: Make, parent: Atoms, n: int, seed: int, family: str, kinds: Sequence[str],
            label: str | None, min_distance: float | None, volume: Range | None = None,
            allowed: Sequence[str] = (), rng: np.random.Generator | None = None) -> list[Atoms]:
    """Collect n frames of ``make(rng, kind, change, closest)``, the kinds in turn.

    With `volume`, each kind's relative volume ``change`` covers that range evenly (with a jitter
    of one step); without it ``change`` is 0.
    """
    if not kinds or (allowed and not set(kinds) <= set(allowed)):
        raise ValueError(f"{family}: {kinds=}; give at least one of {allowed or 'yours'}")
    if n < 0 or len(parent) == 0 or abs(parent.cell.volume) < 1e-6:
        raise ValueError(f"{n=}, parent of {len(parent)} atoms in {parent.cell.volume:g} A^3; "
                         "give n >= 0 and a parent with an atom and three cell vectors")
    if volume is not None and not -1.0 < volume[0] <= volume[1]:
        raise ValueError(f"{volume=}: give (low, high) with -1 < low <= high")
    nearest = 0.0 if min_distance is not None else minimum_distance(parent, 12.0)
    nearest = nearest if np.isfinite(nearest) else 0.0
    closest = CLOSEST * nearest if min_distance is None else min_distance
    rng = np.random.default_rng(seed) if rng is None else rng
    rounds, frames = max(1, -(-n // len(kinds))), []
    for i in range(n):
        kind, change, best = kinds[i % len(kinds)], 0.0, 0.0
        if volume is not None:
            part = (i // len(kinds) + rng.uniform()) / rounds
            change = float(volume[0] + (volume[1] - volume[0]) * part)
        for _ in range(ATTEMPTS):
            atoms = make(rng, kind, change, closest)
            best = max(best, shortest := minimum_distance(atoms))
            if shortest >= closest:
                break
        else:
            raise ValueError(f"{family} ({kind}): {ATTEMPTS} attempts gave no structure without "
                             f"distances below min_distance={closest:.3f} A (best {best:.3f} A); "
                             "lower min_distance, the rattle, the strain or the temperature")
        clean = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        clean.info.update(config_type=family, parent=label or parent.get_chemical_formula(),
                          variant=kind, seed=int(seed))
        frames.append(clean)
    return frames


def strained(parent: Atoms, n: int, seed: int, *, volume: Range = (-0.12, 0.12),
             shear: float = 0.08, rattle: Range = (0.0, 0.06), kinds: Sequence[str] = STRAINS,
             min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Strain and slightly rattle the parent (m atoms): family ``strained``.

    `volume` is the range of the relative volume change (isotropic) or of the stretch along a
    random axis (uniaxial), `shear` the largest engineering shear and the bound of the components
    of a random strain. For the rest see the module; raises ValueError also for a bad `volume`.
    """
    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        atoms, strain = parent.copy(), _swell(change if kind == "isotropic" else 0.0)
        if kind == "uniaxial":
            axis = rng.normal(size=3)
            strain = change * np.outer(axis, axis) / (axis @ axis)
        elif kind == "shear":
            i, j = rng.choice(3, 2, replace=False)
            strain[i, j] = strain[j, i] = rng.uniform(-shear, shear) / 2.0
        elif kind == "random":
            strain = _random_strain(rng, shear)
        _deform(atoms, strain)
        return _rattle(atoms, rng, rattle)

    return _frames(make, parent, n, seed, "strained", kinds, label, min_distance, volume, STRAINS)


def vacancies(parent: Atoms, n: int, seed: int, *, rattle: Range = (0.0, 0.15),
              volume: Range = (-0.04, 0.04), min_distance: float | None = None,
              label: str | None = None) -> list[Atoms]:
    """Remove one random atom (m - 1 remain), rescale and rattle: family ``defect``.

    `volume` is the range of the relative volume change. For the rest see the module; raises
    ValueError also for a parent of fewer than two atoms.
    """
    if len(parent) < 2:
        raise ValueError(f"parent: {len(parent)} atom(s), a vacancy needs 2; use parent.repeat")

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        atoms = parent.copy()
        del atoms[int(rng.integers(len(atoms)))]
        _deform(atoms, _swell(rng.uniform(*volume)))
        return _rattle(atoms, rng, rattle)

    return _frames(make, parent, n, seed, "defect", ("vacancy",), label, min_distance)


def interstitials(parent: Atoms, n: int, seed: int, *, rattle: Range = (0.0, 0.12),
                  volume: Range = (-0.02, 0.08), kinds: Sequence[str] = INTERSTITIALS,
                  min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Add one atom (m + 1 in all), rescale and rattle: family ``defect``.

    ``interstitial_void`` adds it at a random point, ``interstitial_split`` makes a random atom a
    randomly oriented pair; close neighbours are pushed back by up to 0.35 angstrom. `volume` is
    the range of the relative volume change. For the rest see the module.
    """
    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        atoms = parent.copy()
        _deform(atoms, _swell(rng.uniform(*volume)))
        host = int(rng.integers(len(atoms)))
        if kind == "interstitial_void":
            where = rng.uniform(size=3) @ atoms.cell.array
        else:
            axis = rng.normal(size=3)
            axis *= 0.55 * closest / CLOSEST / np.linalg.norm(axis)
            where = atoms.positions[host] + axis
            atoms.positions[host] -= axis
        atoms += Atoms([atoms.symbols[host]], positions=[where])
        shift = atoms.get_distances(-1, range(len(atoms) - 1), mic=True, vector=True)
        length = np.linalg.norm(shift, axis=1)
        push = np.clip(closest / CLOSEST - length, 0.0, 0.35) / np.maximum(length, 1e-9)
        atoms.positions[:-1] += shift * push[:, None]
        return _rattle(atoms, rng, rattle)

    return _frames(make, parent, n, seed, "defect", kinds, label, min_distance, None, INTERSTITIALS)


def surfaces(parent: Atoms, n: int, seed: int, *,
             millers: Sequence[tuple[int, int, int]] = ((1, 0, 0), (1, 1, 0), (1, 1, 1)),
             layers: tuple[int, int] = (2, 4), vacuum: float = 10.0, strain: float = 0.03,
             rattle: Range = (0.0, 0.15), min_distance: float | None = None,
             label: str | None = None) -> list[Atoms]:
    """Cut slabs periodic in x and y only, randomly terminated, rattled: family ``surface``.

    `millers` are planes in the basis of the parent's own cell, in turn (a primitive parent gives
    the smallest slabs), `layers` the fewest and most layers of that cell (m atoms each), `vacuum`
    the whole gap to the next image (angstrom), `strain` the bound of a random strain in the plane
    and along z. For the rest see the module; raises ValueError also if these cannot be.
    """
    if not 1 <= layers[0] <= layers[1] or vacuum <= 0:
        raise ValueError(f"{layers=}, {vacuum=}: give 1 <= layers[0] <= layers[1], vacuum > 0")
    planes = {"hkl" + "".join(map(str, miller)): tuple(miller) for miller in millers}

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        start, in_plane = parent.copy(), (True, True, False)
        start.positions += rng.uniform(size=3) @ start.cell.array  # any termination
        slab = surface(start, planes[kind], int(rng.integers(layers[0], layers[1] + 1)), vacuum)
        slab.set_cell(minkowski_reduce(slab.cell, pbc=in_plane)[0])
        slab.wrap(pbc=in_plane)
        deformation = _random_strain(rng, strain)
        deformation[2, :2] = deformation[:2, 2] = 0.0
        _deform(slab, deformation)
        _rattle(slab, rng, rattle)
        slab.center(vacuum=vacuum / 2.0, axis=2)
        return slab

    return _frames(make, parent, n, seed, "surface", list(planes), label, min_distance)


def thermal(parent: Atoms, calculator: Calculator, n: int, seed: int, *, temperature_K: float,
            volume: float = 0.0, timestep_fs: float = 1.0, friction_per_fs: float = 0.02,
            equilibrate: int = 150, interval: int = 40, min_distance: float | None = None,
            label: str | None = None) -> list[Atoms]:
    """Take snapshots (m atoms) of Langevin dynamics with a cheap potential: family ``thermal``.

    `temperature_K` is the thermostat's, `volume` a relative volume change before the run,
    `equilibrate` and `interval` the steps of `timestep_fs` before the first snapshot and between
    two. For the rest see the module; raises ValueError also for a bad temperature or volume.
    """
    if temperature_K <= 0 or volume <= -1:
        raise ValueError(f"{temperature_K=}, {volume=}: give temperature_K > 0, volume > -1")
    rng, atoms = np.random.default_rng(seed), parent.copy()
    _deform(atoms, _swell(volume))
    atoms.positions += rng.normal(0.0, 1.0, atoms.positions.shape) * 0.02
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature_K, rng=rng)
    with warnings.catch_warnings():  # the drift correction ASE warns about is harmless here
        warnings.simplefilter("ignore", FutureWarning)
        md = Langevin(atoms, timestep_fs * units.fs, temperature_K=temperature_K,
                      friction=friction_per_fs / units.fs, rng=rng)
    md.run(equilibrate)

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        md.run(interval)
        return atoms

    return _frames(make, parent, n, seed, "thermal", (f"{temperature_K:g}K",), label,
                   min_distance, rng=rng)


def other_phases(parent: Atoms, n: int, seed: int, *,
                 ratios: Mapping[str, float] = PHASE_VOLUME_RATIOS, volume: Range = (-0.15, 0.20),
                 strain: float = 0.03, rattle: Range = (0.0, 0.12),
                 min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Build other structures (2-8 atoms) of the parent's first species: family ``phase``.

    `ratios` maps the phases, taken in turn, to their volume per atom relative to the parent's,
    `volume` is the range of the relative change about it, `strain` bounds a random strain.
    """
    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        size, species = parent.cell.volume / len(parent) * ratios[kind], str(parent.symbols[0])
        if kind in LATTICES:
            cell, basis = LATTICES[kind]
            atoms = Atoms([species] * len(basis), cell=cell, scaled_positions=basis, pbc=True)
        elif kind == "bc8":
            atoms = crystal([species], [(0.1025, 0.1025, 0.1025)], spacegroup=206,
                            cellpar=[6.64, 6.64, 6.64, 90, 90, 90], primitive_cell=True)
        else:  # a random packing; if it does not come out, it is drawn again
            number = int(rng.integers(4, 9))
            atoms = Atoms(cell=np.eye(3) * (number * size * (1.0 + change)) ** (1 / 3), pbc=True)
            _deform(atoms, np.diag(rng.uniform(-0.12, 0.12, 3)))
            for _ in range(number):
                for _ in range(ATTEMPTS):
                    trial = atoms + Atoms([species], positions=[rng.uniform(size=3) @ atoms.cell])
                    if minimum_distance(trial) >= closest:
                        break
                atoms = trial
        _deform(atoms, _swell(size * (1.0 + change) * len(atoms) / atoms.cell.volume - 1.0))
        _deform(atoms, _random_strain(rng, strain))
        return _rattle(atoms, rng, rattle)

    return _frames(make, parent, n, seed, "phase", list(ratios), label, min_distance, volume,
                   tuple(PHASE_VOLUME_RATIOS))
