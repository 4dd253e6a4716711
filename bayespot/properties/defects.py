"""Formation energies of vacancies and interstitials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.errors import PropertyError
from bayespot.properties.crystals import relaxed_crystal
from bayespot.properties.draws import surfaces_of
from bayespot.properties.frames import Frames
from bayespot.properties.results import Account, Result
from bayespot.properties.supercells import conventional_matrix, lowest, supercells
from bayespot.properties.surfaces import Surfaces
from bayespot.properties.symmetry import symmetry_of

SIZES = (2, 3)
SMALL, LARGE, INWARD = 0.02, 0.25, 0.5
"""Å, displacements of starts: at random of all atoms and of a defect's neighbours, and of these
towards the defect. Small ones leave a symmetric saddle; the others let neighbours of a vacancy form
bonds that begin beyond the cutoff of a short-ranged potential."""

EXPLODED = 2.5
"""Å; an atom that goes farther says that the defect has become another one."""


def vacancy(
    source: Any, crystal: Atoms, *, sizes: Sequence[int] = SIZES, site: int = 0,
    starts: int = 4, chemical_potentials: Mapping[str, float] | None = None,
) -> Result:
    r"""Formation energy of a vacancy at the crystal's volume.

    .. math:: E_f = E_d - E_c + \sum_s \mu_s (n_s^c - n_s^d)

    with the supercell's energy with (d) and without (c) the defect; :math:`\mu` is the energy of an
    atom in the crystal where there is one species.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    crystal : ase.Atoms
        Primitive or conventional cell.
    sizes : sequence of int
        Repeats of the conventional cell. With two or more the last is the result and its difference
        from the one before is part of the numerical error.
    site : int
        The atom of ``crystal`` that is taken out.
    starts : int
        Relaxations from different displacements; the lowest energy counts. The first start has
        small ones only.
    chemical_potentials : mapping, optional
        eV by species; needed where there is more than one.

    Returns
    -------
    Result
        "formation energy" and "formation energy, unrelaxed" (eV).

    Raises
    ------
    PropertyError
        If the cell is no cell of a crystal, or chemical potentials are missing.
    """
    if not 0 <= site < len(crystal):
        raise PropertyError(f"site = {site}: the crystal has atoms 0 to {len(crystal) - 1}")

    def cut(perfect: Frames, cells: np.ndarray) -> tuple[Frames, np.ndarray]:
        keep = np.arange(perfect.n_atoms) != site
        broken = _with(perfect, keep, np.zeros((len(perfect), 0, 3)), ())
        return broken, perfect.positions[0, site]

    return _defect("vacancy", source, crystal, sizes, cut, starts, chemical_potentials)


def interstitial(
    source: Any, crystal: Atoms, *, position: Sequence[float] | None = None,
    dumbbell: Sequence[float] | None = None, site: int = 0, species: str | None = None,
    separation: float | None = None, sizes: Sequence[int] = SIZES, starts: int = 1,
    chemical_potentials: Mapping[str, float] | None = None,
) -> Result:
    """Formation energy of an interstitial, see `vacancy`.

    Parameters
    ----------
    source, crystal, sizes, starts, chemical_potentials
        See `vacancy`. With one start the atom stays near its site if that is a minimum.
    position : sequence of float, optional
        Where the atom is put, in fractions of the conventional axes from the cell's origin.
    dumbbell : sequence of float, optional
        In its place: the direction, along conventional axes, in which atom ``site`` and the added
        one stand apart.
    site : int
        Atom of ``crystal`` in a dumbbell.
    species : str, optional
        Of the added atom; that of ``site`` if left out.
    separation : float, optional
        Å between the atoms of a dumbbell at first; 0.9 nearest-neighbour distances if left out.

    Returns
    -------
    Result
        "formation energy" and "formation energy, unrelaxed" (eV).

    Raises
    ------
    PropertyError
        If not exactly one of ``position`` and ``dumbbell`` is given.
    """
    if (position is None) == (dumbbell is None):
        raise PropertyError("an interstitial needs a position or a dumbbell, one of them")
    added = species or crystal.get_chemical_symbols()[site]
    axes = symmetry_of(crystal).to_conventional
    apart = separation or 0.9 * _nearest(crystal)

    def put(perfect: Frames, cells: np.ndarray) -> tuple[Frames, np.ndarray]:
        conventional = axes @ cells
        keep = np.ones(perfect.n_atoms, dtype=bool)
        if position is not None:
            where = np.asarray(position) @ conventional
            return _with(perfect, keep, where[:, None], (added,)), where[0]
        along = np.asarray(dumbbell, dtype=float) @ conventional
        along *= 0.5 * apart / np.linalg.norm(along, axis=1, keepdims=True)
        keep[site] = False
        center = perfect.positions[:, site]
        pair = np.stack([center - along, center + along], axis=1)
        return _with(perfect, keep, pair, (perfect.symbols[site], added)), center[0]

    return _defect("interstitial", source, crystal, sizes, put, starts, chemical_potentials)


def _with(perfect: Frames, keep: np.ndarray, more: np.ndarray, symbols: tuple[str, ...]) -> Frames:
    """Some atoms of all frames, and others [K, m, 3] added at the end."""
    kept = tuple(s for s, k in zip(perfect.symbols, keep, strict=True) if k)
    positions = np.concatenate([perfect.positions[:, keep], more], axis=1)
    return Frames((*kept, *symbols), perfect.pbc, positions, perfect.cells, perfect.surface)


def _nearest(crystal: Atoms) -> float:
    """Nearest-neighbour distance, Å."""
    bulk = crystal.repeat(3)
    middle = 13 * len(crystal)
    distances = bulk.get_distances(middle, range(len(bulk)), mic=True)
    return float(distances[distances > 0.1].min())


def _defect(
    kind: str, source: Any, crystal: Atoms, sizes: Sequence[int], change: Any, starts: int,
    chemical_potentials: Mapping[str, float] | None,
) -> Result:
    if not sizes:
        raise PropertyError(f"sizes = {sizes!r}: give at least one size of the supercell")
    surfaces = surfaces_of(source)
    account = Account(surfaces.n)
    rows = [
        _one_size(surfaces, crystal, size, change, starts, chemical_potentials, account)
        for size in sizes
    ]
    quantities = {}
    for k, name in enumerate(("formation energy", "formation energy, unrelaxed")):
        value, error = rows[-1][k], rows[-1][2] if k == 0 else np.zeros(surfaces.n)
        if len(rows) > 1:
            error = error + np.abs(value - rows[-2][k])
        quantities[name] = (value, error, "eV")
    return account.result(kind, quantities)


def _one_size(
    surfaces: Surfaces, crystal: Atoms, size: int, change: Any, starts: int,
    chemical_potentials: Mapping[str, float] | None, account: Account,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Formation energy relaxed and not, and what relaxing on would gain, eV, [n] each."""
    found = relaxed_crystal(surfaces, crystal, account)
    perfect = supercells(found.frames, conventional_matrix(crystal, size))
    broken, center = change(perfect, found.frames.cells)
    whole = perfect.n_atoms / len(crystal) * found.energy
    exchanged = _reservoir(perfect, broken, found.energy / len(crystal), chemical_potentials)
    before = surfaces.evaluate(broken).energy
    relaxed = lowest(surfaces, broken, _displacements(broken, center, crystal, starts))
    account.fail(f"relaxation of the defect, size {size}", ~relaxed.converged)
    gone = np.linalg.norm(relaxed.frames.positions - broken.positions, axis=2).max(axis=1)
    account.instability(f"an atom left its place by more than {EXPLODED} Å", gone > EXPLODED)
    return (
        relaxed.energy - whole + exchanged, before - whole + exchanged, relaxed.energy_error
    )


def _displacements(broken: Frames, center: np.ndarray, crystal: Atoms, starts: int) -> np.ndarray:
    """Where relaxations start, Å, [starts, N, 3].

    Neighbours of the defect are displaced in an order of their own, so that supercells of all sizes
    start alike.
    """
    if starts < 1:
        raise PropertyError(f"starts = {starts}: one relaxation is the least")
    small = np.random.default_rng(0).normal(scale=SMALL, size=broken.positions.shape[1:])
    apart = np.linalg.solve(broken.cells[0].T, (broken.positions[0] - center).T).T
    apart = (apart - np.rint(apart)) @ broken.cells[0]
    near = np.flatnonzero(np.linalg.norm(apart, axis=1) < 1.25 * _nearest(crystal))
    near = near[np.lexsort(apart[near].round(3).T)]
    made = np.tile(small, (starts, 1, 1))
    for k in range(1, starts):
        length = np.maximum(np.linalg.norm(apart[near], axis=1, keepdims=True), 1e-6)
        made[k, near] = np.random.default_rng(k).normal(scale=LARGE, size=(len(near), 3))
        made[k, near] -= INWARD * apart[near] / length
    return made


def _reservoir(
    perfect: Frames, broken: Frames, atom: np.ndarray, given: Mapping[str, float] | None
) -> np.ndarray:
    """Energy of the atoms that were taken out, minus those put in, [n]."""
    species = sorted({*perfect.symbols, *broken.symbols})
    energy = np.zeros_like(atom)
    for s in species:
        change = perfect.symbols.count(s) - broken.symbols.count(s)
        if given is not None and s in given:
            energy += change * given[s]
        elif len(species) == 1:
            energy += change * atom
        elif change:
            raise PropertyError(
                f"chemical_potentials has no {s}: with more than one species the energy of an atom "
                "in its reservoir is needed"
            )
    return energy
