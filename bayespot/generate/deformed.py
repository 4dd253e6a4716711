"""Family ``strained``: the parent under strain. Shared parameters: `bayespot.generate.frames`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from bayespot.generate.frames import Range, collect, deform, random_strain, rattled, swell

__all__ = ["STRAINS", "strained"]

STRAINS = ("isotropic", "uniaxial", "shear", "random")


def strained(parent: Atoms, n: int, seed: int, *, volume: Range = (-0.12, 0.12),
             shear: float = 0.08, rattle: Range = (0.0, 0.06), kinds: Sequence[str] = STRAINS,
             min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Strain and slightly rattle the parent (m atoms): family ``strained``.

    `volume` is the range of the relative volume change (isotropic) or of the stretch along a
    random axis (uniaxial), `shear` the largest engineering shear and the bound of the components
    of a random strain. For the rest see the module; raises ConfigError also for a bad `volume`.
    """
    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        atoms, strain = parent.copy(), swell(change if kind == "isotropic" else 0.0)
        if kind == "uniaxial":
            axis = rng.normal(size=3)
            strain = change * np.outer(axis, axis) / (axis @ axis)
        elif kind == "shear":
            i, j = rng.choice(3, 2, replace=False)
            strain[i, j] = strain[j, i] = rng.uniform(-shear, shear) / 2.0
        elif kind == "random":
            strain = random_strain(rng, shear)
        deform(atoms, strain)
        return rattled(atoms, rng, rattle)

    return collect(make, parent, n, seed, "strained", kinds, label, min_distance, volume, STRAINS)
