"""Family ``defect``: points and planes where the crystal is not one.

Shared parameters: `bayespot.generate.frames`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from bayespot.errors import ConfigError, StructureError
from bayespot.generate.crystals import distinct_sites, voids
from bayespot.generate.frames import (
    CLOSEST,
    Range,
    collect,
    deform,
    minimum_distance,
    push_apart,
    rattled,
    swell,
)

__all__ = ["ANTISITES", "FAULTS", "INTERSTITIALS", "antisites", "fault_cell", "interstitials",
           "stacking_faults", "vacancies"]

INTERSTITIALS = ("interstitial_void", "interstitial_split", "interstitial_site")
FAULTS = ("stacking_fault", "gamma_surface")
ANTISITES = ("antisite", "exchange")


def vacancies(parent: Atoms, n: int, seed: int, *, rattle: Range = (0.0, 0.15),
              volume: Range = (-0.04, 0.04), distinct: bool = False,
              min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Remove one random atom (m - 1 remain), rescale and rattle: family ``defect``.

    `volume` is the range of the relative volume change. With `distinct`, the atoms that symmetry
    does not make equal are removed in turn. For the rest see the module; raises StructureError
    also for a parent of fewer than two atoms.
    """
    if len(parent) < 2:
        raise StructureError(f"a vacancy needs a cell of 2 atoms or more, the parent has "
                             f"{len(parent)}; use parent.repeat, or a larger max_atoms")
    sites = {"vacancy": -1}
    if distinct:
        sites = {f"vacancy_{parent.symbols[i]}{k}": i
                 for k, i in enumerate(distinct_sites(parent), 1)}
        sites = {name[:-1] if len(sites) == 1 else name: i for name, i in sites.items()}

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        atoms = parent.copy()
        del atoms[sites[kind] if distinct else int(rng.integers(len(atoms)))]
        deform(atoms, swell(rng.uniform(*volume)))
        return rattled(atoms, rng, rattle)

    return collect(make, parent, n, seed, "defect", tuple(sites), label, min_distance)


def interstitials(parent: Atoms, n: int, seed: int, *, rattle: Range = (0.0, 0.12),
                  volume: Range = (-0.02, 0.08), kinds: Sequence[str] = INTERSTITIALS[:2],
                  spread: bool = False, min_distance: float | None = None,
                  label: str | None = None) -> list[Atoms]:
    """Add one atom (m + 1 in all), rescale and rattle: family ``defect``.

    ``interstitial_void`` adds it at a random point, ``interstitial_split`` makes a random atom a
    randomly oriented pair, ``interstitial_site`` takes the voids that symmetry does not make
    equal, the wider the more often; close neighbours are pushed back by up to 0.35 angstrom. With
    `spread` all atoms make room, which dense crystals need: pairs nearer than 1.15 times the
    allowed distance are pushed apart. `volume` is the range of the relative volume change. For the
    rest see the module.
    """
    holes = voids(parent) if "interstitial_site" in kinds else []
    room = np.array([radius for _, radius, _ in holes]) ** 3

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        atoms = parent.copy()
        deform(atoms, swell(rng.uniform(*volume)))
        host = int(rng.integers(len(atoms)))
        if kind == "interstitial_void":
            where = rng.uniform(size=3) @ atoms.cell.array
        elif kind == "interstitial_site":
            place = holes[int(rng.choice(len(holes), p=room / room.sum()))][0]
            where = parent.cell.scaled_positions(place[None])[0] @ atoms.cell.array
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
        if spread:
            push_apart(atoms, 1.15 * closest)
        return rattled(atoms, rng, rattle)

    return collect(make, parent, n, seed, "defect", kinds, label, min_distance, None, INTERSTITIALS)


def fault_cell(parent: Atoms, miller: tuple[int, int, int], layers: int, cut: int = 0) -> Atoms:
    """Cell of the perfect crystal whose first two vectors span a plane.

    Parameters
    ----------
    parent : Atoms
        Primitive cell of m atoms.
    miller : (int, int, int)
        The plane, in the basis of the parent's own cell.
    layers : int
        How many cells along the third vector.
    cut : int
        Which gap between planes of atoms lies at the border of the cell, from 0.

    Returns
    -------
    Atoms
        ``layers * m`` atoms, periodic in three directions; the plane is that of x and y.
    """
    vectors = _plane_basis(parent, miller)
    small = Atoms(parent.numbers, positions=parent.positions, cell=vectors @ parent.cell.array,
                  pbc=True)
    upright, _ = small.cell.standard_form()  # the first vector along x, the second in the plane
    small.set_cell(upright, scale_atoms=True)
    cell = small.repeat((1, 1, layers))
    borders = _gaps(cell)
    cell.positions[:, 2] -= borders[cut % len(borders)]
    cell.wrap(eps=1e-9)
    return cell


def _plane_basis(parent: Atoms, miller: tuple[int, int, int]) -> np.ndarray:
    """Integer basis of the lattice, shape (3, 3): two short vectors in the plane, one up."""
    grid = np.array(list(itertools.product(range(-4, 5), repeat=3)))
    lengths = np.linalg.norm(grid @ parent.cell.array, axis=1)
    grid = grid[np.argsort(np.round(lengths, 6), kind="stable")]
    steps = grid @ np.asarray(miller)
    up, flat = grid[steps == 1], grid[(steps == 0) & np.any(grid, axis=1)]
    for a, b in itertools.combinations(flat[:24], 2):
        basis = np.array([a, b, up[0]])
        volume = round(float(np.linalg.det(basis)))
        if abs(volume) == 1:
            return basis if volume == 1 else np.array([b, a, up[0]])
    raise StructureError(f"miller = {miller}: no cell of the plane has short vectors; give a plane "
                         "of low indices")


def _gaps(cell: Atoms) -> np.ndarray:
    """Heights (angstrom) in the middle of the gaps between planes of atoms along z."""
    tall = cell.cell.array[2, 2]
    heights = np.sort(cell.positions[:, 2] % tall)
    heights = np.append(heights, heights[0] + tall)
    wide = np.diff(heights) > 0.1
    return (heights[:-1] + 0.5 * np.diff(heights))[wide]


def _tilted(cell: Atoms, shift: np.ndarray) -> Atoms:
    """Shift the next image along the third vector, which leaves one fault in each cell."""
    atoms, vectors = cell.copy(), cell.cell.array.copy()
    vectors[2] += shift
    atoms.set_cell(vectors)
    return atoms


def _best_fault(parent: Atoms, miller: tuple[int, int, int], layers: int) -> Atoms:
    """Fault by a third of the plane's diagonals that keeps distances, then neighbors, best."""
    nearest, best = minimum_distance(parent, 12.0), None
    for cut in range(len(_gaps(fault_cell(parent, miller, 1)))):
        cell = fault_cell(parent, miller, layers, cut)
        a, b, _ = cell.cell.array
        for shift in ((a + b) / 3, -(a + b) / 3, (a - b) / 3, (b - a) / 3):
            atoms = _tilted(cell, shift)
            merit = (round(minimum_distance(atoms, 12.0), 3),
                     len(neighbor_list("i", atoms, 1.1 * nearest)))
            if best is None or merit > best[0]:
                best = merit, atoms
    return best[1]


def stacking_faults(parent: Atoms, n: int, seed: int, *, miller: tuple[int, int, int] = (1, 1, 1),
                    layers: tuple[int, int] = (4, 6), kinds: Sequence[str] = FAULTS,
                    opening: Range = (-0.02, 0.06), rattle: Range = (0.0, 0.08),
                    min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Shift the crystal above a plane against the crystal below: family ``defect``.

    The third cell vector is tilted by the shift, which leaves one fault in each cell and moves no
    atom (``layers * m`` atoms). ``stacking_fault`` shifts by a third of the sum or the difference
    of the in-plane vectors: of these shifts at every gap between planes, the one that leaves the
    atoms farthest apart and with most neighbors (from C to B in close-packed planes, the intrinsic
    fault of fcc; the glide set of diamond). ``gamma_surface`` shifts by a random vector at a
    random gap. `miller` is in the basis of the parent's own cell, `layers` the fewest and most of
    its cells, `opening` the range by which the fault is opened, in the parent's nearest distances.
    For the rest see the module.
    """
    if not 2 <= layers[0] <= layers[1]:
        raise ConfigError(f"layers = {layers}: a stacking fault needs 2 <= fewest <= most")
    nearest = minimum_distance(parent, 12.0)
    gaps = len(_gaps(fault_cell(parent, miller, 1)))

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        many = int(rng.integers(layers[0], layers[1] + 1))
        opened = np.array([0.0, 0.0, rng.uniform(*opening) * nearest])
        if kind == "stacking_fault":
            return rattled(_tilted(_best_fault(parent, miller, many), opened), rng, rattle)
        cell = fault_cell(parent, miller, many, int(rng.integers(gaps)))
        a, b, _ = cell.cell.array
        atoms = _tilted(cell, rng.uniform() * a + rng.uniform() * b + opened)
        # atoms on top of each other are pushed apart across the plane
        lacking = closest / CLOSEST - minimum_distance(atoms)
        return rattled(_tilted(atoms, np.array([0.0, 0.0, max(0.0, 0.6 * lacking)])), rng, rattle)

    return collect(make, parent, n, seed, "defect", kinds, label, min_distance, None, FAULTS)


def antisites(parent: Atoms, n: int, seed: int, *, kinds: Sequence[str] = ANTISITES,
              rattle: Range = (0.0, 0.12), volume: Range = (-0.04, 0.04),
              min_distance: float | None = None, label: str | None = None) -> list[Atoms]:
    """Put atoms where another species belongs (m atoms): family ``defect``.

    ``antisite`` gives a random atom another species of the parent, ``exchange`` swaps two atoms of
    different species. For the rest see the module; raises StructureError also for one species.
    """
    if len(set(parent.symbols)) < 2:
        raise StructureError(f"{parent.get_chemical_formula()} has one species: there is no "
                             "antisite; leave that kind out")

    def make(rng: np.random.Generator, kind: str, change: float, closest: float) -> Atoms:
        atoms = parent.copy()
        first = int(rng.integers(len(atoms)))
        others = [i for i, s in enumerate(parent.symbols) if s != parent.symbols[first]]
        second = others[int(rng.integers(len(others)))]
        atoms.symbols[first] = parent.symbols[second]
        if kind == "exchange":
            atoms.symbols[second] = parent.symbols[first]
        deform(atoms, swell(rng.uniform(*volume)))
        return rattled(atoms, rng, rattle)

    return collect(make, parent, n, seed, "defect", kinds, label, min_distance, None, ANTISITES)
