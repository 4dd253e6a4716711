"""Migration barriers by the climbing-image nudged elastic band (ASE)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.mep import NEB
from ase.optimize import FIRE

from bayespot.errors import PropertyError
from bayespot.properties.crystals import relaxed_crystal
from bayespot.properties.draws import surfaces_of
from bayespot.properties.frames import Frames
from bayespot.properties.results import Account, Curve, Result
from bayespot.properties.supercells import conventional_matrix, supercells
from bayespot.properties.surfaces import Surfaces

IMAGES = 5
FORCE = 0.01
"""eV/Å, where a band counts as converged; the error of a saddle is of second order in it."""

BELOW = 5e-3
"""eV by which a state of the path is below its ends."""


def vacancy_migration(
    source: Any, crystal: Atoms, *, size: int = 2, images: int = IMAGES, force: float = FORCE,
    steps: int = 300,
) -> Result:
    """Barrier of a nearest neighbour that jumps into a vacancy.

    The band of Henkelman, Uberuaga and Jónsson, J. Chem. Phys. 113, 9901 (2000), between relaxed
    ends; the band of one draw starts from that of an earlier one.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    crystal : ase.Atoms
        Primitive or conventional cell.
    size : int
        Repeats of the conventional cell.
    images : int
        Between the ends.
    force : float
        eV/Å.
    steps : int
        At most.

    Returns
    -------
    Result
        "migration barrier" (eV): the highest image above the first end; curve "path" (energies of
        the images). A band that does not converge is a failure. No barrier is an instability, and
        so is a state on the way that lies below both ends (such as the split vacancy): the barrier
        is then not that of the vacancy's stable state.

    Raises
    ------
    PropertyError
        If there is no image.
    """
    if images < 1:
        raise PropertyError(f"images = {images}: a band needs one image at least")
    surfaces = surfaces_of(source)
    account = Account(surfaces.n)
    found = relaxed_crystal(surfaces, crystal, account)
    perfect = supercells(found.frames, conventional_matrix(crystal, size))
    first, last = _ends(perfect)
    ends = [surfaces.relax(one) for one in (first, last)]
    for end in ends:
        account.fail("relaxation of an end of the path", ~end.converged)
    path = np.full((surfaces.n, images + 2), np.nan)
    left = np.full(surfaces.n, np.nan)
    guess: np.ndarray | None = None
    for k in np.flatnonzero(account.good):
        path[k], left[k], bent = _band(
            surfaces, k, [end.frames.atoms(k) for end in ends], guess, (images, force, steps)
        )
        if left[k] <= force:  # another surface's lost band would lead this one astray
            guess = bent
    account.fail("the band did not converge", account.good & (left > force))
    barrier = path.max(axis=1) - path[:, 0]
    account.instability("the path has no barrier", barrier <= 1e-6)
    lower = path[:, 1:-1].min(axis=1) < np.minimum(path[:, 0], path[:, -1]) - BELOW
    account.instability("the path goes through a state below both of its ends", lower)
    curve = Curve(np.linspace(0.0, 1.0, images + 2), path - path[:, :1], "path", "1", "eV")
    # Second order in the force that is left, with a soft spring of 1 eV/Å².
    return account.result(
        "vacancy migration", {"migration barrier": (barrier, 0.5 * left**2, "eV")},
        {"path": curve},
    )


def _ends(perfect: Frames) -> tuple[Frames, Frames]:
    """Vacancies at atom 0 and at its nearest neighbour, with one order of atoms."""
    scaled = np.linalg.solve(perfect.cells[0].T, (perfect.positions[0] - perfect.positions[0, 0]).T)
    apart = np.linalg.norm((scaled - np.rint(scaled)).T @ perfect.cells[0], axis=1)
    apart[0] = np.inf
    neighbor = int(np.argmin(apart.round(6)))
    turn = -np.rint(scaled[:, neighbor])
    keep = np.arange(perfect.n_atoms) != 0
    symbols = tuple(np.array(perfect.symbols)[keep].tolist())
    before = perfect.positions.copy()
    after = before.copy()
    before[:, neighbor] += np.einsum("c,kca->ka", turn, perfect.cells)
    after[:, neighbor] = after[:, 0]
    return tuple(
        Frames(symbols, perfect.pbc, p[:, keep], perfect.cells, perfect.surface)
        for p in (before, after)
    )


def _band(
    surfaces: Surfaces, k: int, ends: list[Atoms], guess: np.ndarray | None,
    numbers: tuple[int, float, int],
) -> tuple[np.ndarray, float, np.ndarray]:
    """Energies of the images, the force that is left, and positions to start the next band from."""
    images, force, steps = numbers
    band = [ends[0].copy() for _ in range(images + 1)] + [ends[1].copy()]
    calculator = surfaces.calculator(k)
    for one in band:
        one.calc = calculator
    neb = NEB(band, climb=True, allow_shared_calculator=True, method="improvedtangent")
    if guess is None:
        neb.interpolate(method="idpp", mic=False)
    else:
        straight = np.linspace(ends[0].positions, ends[1].positions, images + 2)
        for one, x in zip(band[1:-1], straight[1:-1] + guess, strict=True):
            one.positions = x
    FIRE(neb, logfile=None).run(fmax=force, steps=steps)
    left = float(np.sqrt((neb.get_forces() ** 2).sum(axis=1)).max())
    energies = np.array([one.get_potential_energy() for one in band])
    straight = np.linspace(ends[0].positions, ends[1].positions, images + 2)
    bent = np.array([one.positions for one in band[1:-1]]) - straight[1:-1]
    return energies, left, bent
