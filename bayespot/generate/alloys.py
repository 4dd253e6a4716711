"""Family ``alloy``: several species on one lattice. Shared: `bayespot.generate.frames`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from bayespot.errors import StructureError
from bayespot.generate.crystals import repeated, space_group, sublattices, supercell
from bayespot.generate.duplicates import Fingerprint, drop_duplicates
from bayespot.generate.frames import Range, collect, deform, minimum_distance, rattled, swell

__all__ = ["ALLOYS", "alloys", "decorations", "mixed_volume"]

ALLOYS = ("random", "ordered")


def mixed_volume(atoms: Atoms, volumes: Mapping[str, float]) -> float:
    """Volume of a cell (Å^3): the sum of the volumes per atom (Å^3) of its species."""
    return float(sum(volumes[str(symbol)] for symbol in atoms.symbols))


def decorations(site: Atoms, species: Sequence[str], most: int) -> list[Atoms]:
    """Every ordered arrangement of species on a lattice in cells of up to `most` atoms.

    All supercells (Hermite normal forms) with all assignments; those with the environments of an
    earlier, never larger one are left out, so each ordering is there once, in its smallest cell.
    The elements are among them.

    Parameters
    ----------
    site : Atoms
        Primitive cell of the lattice; its species do not matter.
    species : sequence of str
    most : int
        2 to 4 atoms are quick: the number grows as ``len(species) ** most``.

    Returns
    -------
    list of Atoms
        On the lattice of `site`, volumes unchanged, small cells first.
    """
    found: list[Atoms] = []
    for index in range(1, most // len(site) + 1):
        for matrix in sublattices(index):
            cell = repeated(site, matrix)
            for symbols in itertools.product(species, repeat=len(cell)):
                atoms = cell.copy()
                atoms.symbols[:] = list(symbols)
                found.append(atoms)
    fingerprint = Fingerprint(3.0 * minimum_distance(site, 12.0), species, width=0.35)
    kept, _ = drop_duplicates(found, fingerprint, 1e-3)
    return sorted(kept, key=lambda a: (len(a), -space_group(a), a.get_chemical_formula()))


def alloys(site: Atoms, n: int, seed: int, *, volumes: Mapping[str, float], most: int = 12,
           kinds: Sequence[str] = ALLOYS, volume: Range = (-0.08, 0.08),
           rattle: Range = (0.0, 0.10), min_distance: float | None = None,
           label: str | None = None) -> list[Atoms]:
    """Put species on the lattice of `site`: family ``alloy``.

    ``random``: the roundest supercell of at most `most` atoms, a random composition with at least
    two species, random places. ``ordered``: the orderings of cells of up to 4 atoms in turn,
    `decorations`. `volumes` are the species' volumes per atom (angstrom^3), whose mean is the
    cell's, up to a relative change within `volume`. For the rest see the module; raises
    StructureError also for fewer than two species.
    """
    species = sorted(volumes)
    if len(species) < 2:
        raise StructureError(f"an alloy needs two species, got {', '.join(species)}")
    cell, turn = supercell(site, most), itertools.count()
    if len(cell) < 2 and "random" in kinds:
        raise StructureError(f"a random alloy needs a cell of 2 atoms, max_atoms = {most} leaves "
                             f"{len(cell)}; raise it")
    small = max(2 * len(site), 4 // len(site) * len(site))
    ordered = [a for a in decorations(site, species, small) if len(set(a.symbols)) > 1] \
        if "ordered" in kinds else []

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        if kind == "ordered":
            atoms = ordered[next(turn) % len(ordered)].copy()
        else:
            atoms = cell.copy()
            while len(set(atoms.symbols)) < 2:
                shares = rng.dirichlet(np.ones(len(species)))
                atoms.symbols[:] = [species[i] for i in
                                    rng.choice(len(species), len(atoms), p=shares)]
        size = mixed_volume(atoms, volumes) * (1.0 + change)
        deform(atoms, swell(size / atoms.cell.volume - 1.0))
        return rattled(atoms, rng, rattle)

    nearest = minimum_distance(site, 12.0)
    smallest = min(volumes.values()) / (site.cell.volume / len(site))
    closest = 0.76 * nearest * smallest ** (1 / 3) if min_distance is None else min_distance
    return collect(make, site, n, seed, "alloy", kinds, label, closest, volume, ALLOYS)
