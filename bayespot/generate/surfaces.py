"""Family ``surface``: slabs with vacuum, and atoms on them.

Shared parameters: `bayespot.generate.frames`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.build import surface
from ase.geometry import minkowski_reduce

from bayespot.errors import ConfigError
from bayespot.generate.frames import (
    CLOSEST,
    Range,
    collect,
    deform,
    random_strain,
    rattled,
)

__all__ = ["adatoms", "surfaces"]

Millers = Sequence[tuple[int, int, int]]
LOW_INDEX: Millers = ((1, 0, 0), (1, 1, 0), (1, 1, 1))


def _checked(millers: Millers, names: Sequence[str] | None, layers: tuple[int, int],
             vacuum: float) -> dict[str, tuple]:
    """Planes by their names, after the arguments have been looked at."""
    if not 1 <= layers[0] <= layers[1] or vacuum <= 0:
        raise ConfigError(f"layers = {layers}, vacuum = {vacuum}: give 1 <= layers[0] <= "
                          "layers[1] and vacuum > 0")
    names = ["".join(map(str, miller)) for miller in millers] if names is None else names
    return {name: tuple(miller) for name, miller in zip(names, millers, strict=True)}


def _slab(parent: Atoms, miller: tuple, layers: tuple[int, int], vacuum: float, strain: float,
          rng: np.random.Generator) -> Atoms:
    """Cut a slab at a random height, strain it in the plane and along z."""
    start, in_plane = parent.copy(), (True, True, False)
    start.positions += rng.uniform(size=3) @ start.cell.array  # any termination
    slab = surface(start, miller, int(rng.integers(layers[0], layers[1] + 1)), vacuum)
    slab.set_cell(minkowski_reduce(slab.cell, pbc=in_plane)[0])
    slab.wrap(pbc=in_plane)
    deformation = random_strain(rng, strain)
    deformation[2, :2] = deformation[:2, 2] = 0.0
    deform(slab, deformation)
    return slab


def surfaces(parent: Atoms, n: int, seed: int, *, millers: Millers = LOW_INDEX,
             layers: tuple[int, int] = (2, 4), vacuum: float = 10.0, strain: float = 0.03,
             rattle: Range = (0.0, 0.15), names: Sequence[str] | None = None,
             min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Cut slabs periodic in x and y only, randomly terminated, rattled: family ``surface``.

    `millers` are planes in the basis of the parent's own cell, in turn (a primitive parent gives
    the smallest slabs), `layers` the fewest and most layers of that cell (m atoms each), `vacuum`
    the whole gap to the next image (angstrom), `strain` the bound of a random strain in the plane
    and along z, `names` what planes are called in ``variant`` (by default their indices). For the
    rest see the module; raises ConfigError also if these cannot be.
    """
    known = _checked(millers, names, layers, vacuum)
    planes = {f"hkl{name}": miller for name, miller in known.items()}

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        slab = _slab(parent, planes[kind], layers, vacuum, strain, rng)
        rattled(slab, rng, rattle)
        slab.center(vacuum=vacuum / 2.0, axis=2)
        return slab

    return collect(make, parent, n, seed, "surface", list(planes), label, min_distance)


def adatoms(parent: Atoms, n: int, seed: int, *, millers: Millers = LOW_INDEX,
            layers: tuple[int, int] = (2, 4), vacuum: float = 10.0, strain: float = 0.03,
            bond: Range = (0.85, 1.15), rattle: Range = (0.0, 0.12),
            names: Sequence[str] | None = None, min_distance: float | None = None,
            label: str | None = None) -> list[Atoms]:
    """Put one atom on a slab (one more atom than `surfaces`): family ``surface``.

    The atom, of a species of the slab, comes down over a random point of the plane until its
    nearest neighbor is at a distance drawn from `bond`, in the parent's nearest distances. For
    the rest see `surfaces` and the module.
    """
    known = _checked(millers, names, layers, vacuum)
    planes = {f"adatom{name}": miller for name, miller in known.items()}

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        slab = _slab(parent, planes[kind], layers, vacuum, strain, rng)
        rattled(slab, rng, rattle)
        lateral = rng.uniform(size=2) @ slab.cell.array[:2]
        reach = rng.uniform(*bond) * closest / CLOSEST
        species = str(slab.symbols[int(rng.integers(len(slab)))])
        slab += Atoms([species], positions=[_landed(slab, lateral, reach)])
        slab.center(vacuum=vacuum / 2.0, axis=2)
        return slab

    return collect(make, parent, n, seed, "surface", list(planes), label, min_distance)


def _landed(slab: Atoms, lateral: np.ndarray, reach: float) -> np.ndarray:
    """Lowest point above `lateral` from which no atom below is nearer than `reach`."""
    a, b, _ = slab.cell.array
    top = slab.positions[:, 2].max()
    height = top  # over a hole wider than the bond the atom stays level with the surface
    for i, j in itertools.product((-2, -1, 0, 1, 2), repeat=2):
        flat = slab.positions[:, :2] + (i * a + j * b)[:2] - lateral[:2]
        under = reach**2 - np.sum(flat**2, axis=1)
        touching = under > 0
        if touching.any():
            highest = slab.positions[touching, 2] + np.sqrt(under[touching])
            height = max(height, float(highest.max()))
    return np.array([lateral[0], lateral[1], height])
