"""What all families share: the rules of one call, and the geometry that they are made with.

Every function of a family draws from its own numpy ``Generator`` and returns new ``Atoms`` (the
parent is not changed) with four ``info`` keys: ``config_type`` (the family: ``strained``,
``defect``, ``surface``, ``thermal``, ``phase``, ``alloy``), ``parent``, ``variant`` (what was done,
e.g. ``shear``) and ``seed``. Units: angstrom, cubic angstrom, kelvin, femtosecond. Parameters that
all share:

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

All raise `ConfigError` for a negative `n` or an unknown kind, and `StructureError` for an empty or
flat parent and when 200 attempts give no structure that respects `min_distance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from vesin import NeighborList

from bayespot.errors import ConfigError, StructureError

__all__ = ["ATTEMPTS", "CLOSEST", "Make", "Range", "collect", "deform", "minimum_distance",
           "neighbors", "push_apart", "random_strain", "rattled", "swell"]

ATTEMPTS, CLOSEST = 200, 0.76
Range = tuple[float, float]
Make = Callable[[np.random.Generator, str, float, float], Atoms]


def neighbors(atoms: Atoms, cutoff: float
              ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Neighbors within a cutoff (angstrom), images included, sorted by the first atom.

    Returns
    -------
    tuple of ndarray
        First atom [E], second atom [E], distance [E], vector from first to second [E, 3].
    """
    i, j, distance, vector = NeighborList(cutoff=cutoff, full_list=True).compute(
        points=atoms.positions, box=atoms.cell.complete().array,
        periodic=[bool(p) for p in atoms.pbc], quantities="ijdD")
    order = np.argsort(i, kind="stable")
    return i[order].astype(int), j[order].astype(int), distance[order], vector[order]


def minimum_distance(atoms: Atoms, cutoff: float = 6.0) -> float:
    """Shortest distance (angstrom, images included); ``inf`` if no pair is within `cutoff`."""
    distances = neighbors(atoms, cutoff)[2]
    return float(distances.min()) if len(distances) else float("inf")


def rattled(atoms: Atoms, rng: np.random.Generator, between: Range) -> Atoms:
    """Displace in place, with a standard deviation (angstrom) drawn from the range."""
    sigma = rng.uniform(*between)
    atoms.positions += rng.normal(0.0, 1.0, atoms.positions.shape) * sigma
    return atoms


def deform(atoms: Atoms, strain: np.ndarray) -> None:
    """Apply the symmetric strain, shape (3, 3), to cell and atoms."""
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)


def swell(change: float) -> np.ndarray:
    """Return the isotropic strain, shape (3, 3), of a relative volume change."""
    return np.eye(3) * ((1.0 + change) ** (1.0 / 3.0) - 1.0)


def random_strain(rng: np.random.Generator, bound: float) -> np.ndarray:
    """Draw a symmetric strain, shape (3, 3), with components within the bound."""
    raw = rng.uniform(-bound, bound, (3, 3))
    return (raw + raw.T) / 2.0


def push_apart(atoms: Atoms, distance: float, steps: int = 40) -> None:
    """Move atoms in place until none are nearer than `distance` (angstrom), or for `steps` steps.

    Each step moves both atoms of a close pair apart by half of what they lack, images included.
    """
    for _ in range(steps):
        i, _, r, vector = neighbors(atoms, distance)
        if not len(i):
            return
        # j is moved along -vector by its own entry of the list
        step = -0.5 * ((distance - r) / np.maximum(r, 1e-3))[:, None] * vector
        np.add.at(atoms.positions, i, step)


def collect(make: Make, parent: Atoms, n: int, seed: int, family: str, kinds: Sequence[str],
            label: str | None, min_distance: float | None, volume: Range | None = None,
            allowed: Sequence[str] = (), rng: np.random.Generator | None = None) -> list[Atoms]:
    """Collect n frames of ``make(rng, kind, change, closest)``, the kinds in turn.

    With `volume`, each kind's relative volume ``change`` covers that range evenly (with a jitter
    of one step); without it ``change`` is 0.

    Raises
    ------
    ConfigError, StructureError
        See the module.
    """
    if not kinds or (allowed and not set(kinds) <= set(allowed)):
        wrong = [kind for kind in kinds if kind not in allowed]
        raise ConfigError(f"{family}: kinds = {wrong or list(kinds)} cannot be made; there are: "
                          f"{', '.join(allowed) or 'those that you define'}")
    if n < 0:
        raise ConfigError(f"{family}: n = {n} structures were asked for; give 0 or more")
    if len(parent) == 0 or abs(parent.cell.volume) < 1e-6:
        raise StructureError(f"{family}: the parent has {len(parent)} atoms in "
                             f"{parent.cell.volume:g} Å^3; give an atom and three cell vectors")
    if volume is not None and not -1.0 < volume[0] <= volume[1]:
        raise ConfigError(f"{family}: volume = {volume}; give (low, high), -1 < low <= high")
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
            raise StructureError(
                f"{family} ({kind}): {ATTEMPTS} attempts gave no structure without distances "
                f"below {closest:.3f} Å (best {best:.3f} Å); lower min_distance, the rattle, the "
                "strain or the temperature")
        clean = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        clean.info.update(config_type=family, parent=label or parent.get_chemical_formula(),
                          variant=kind, seed=int(seed))
        frames.append(clean)
    return frames
