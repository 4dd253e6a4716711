r"""How far apart the environments of atoms are, and structures that are there twice.

An atom's environment is its power spectrum (Bartók, Kondor and Csányi, Phys. Rev. B 87, 184115
(2013)):

.. math::
   p^{ab}_{nml} = \sum_{j \in a,\, k \in b} g_n(r_j)\, g_m(r_k)\, P_l(\cos\theta_{jk}), \qquad
   g_n(r) = e^{-(r - r_n)^2 / 2\sigma^2}\, \tfrac12 \left[1 + \cos(\pi r / r_c)\right]

over the neighbors j, k of species a, b within :math:`r_c`. The environment is
:math:`q = p / |p|^{1/2}`, linear in the density of neighbors. It does not change with rotation,
reflection, translation, order of the atoms, or choice of the cell. The distance of two structures
is the largest distance from an environment of either to the nearest of the other with the same
central species (Hausdorff), so a cell and its supercell are at zero. Two different structures can
in principle have equal power spectra (Pozdnyakov et al., Phys. Rev. Lett. 125, 166001 (2020)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.spatial.distance import cdist

from bayespot.generate.frames import minimum_distance, neighbors
from bayespot.potentials.ace_functions import harmonics

__all__ = ["Dropped", "Fingerprint", "distance", "drop_duplicates", "fingerprint_for"]

L_MAX = 4


class Fingerprint:
    r"""Environments as vectors.

    Parameters
    ----------
    cutoff : float
        :math:`r_c`, Å.
    species : sequence of str
    width : float
        :math:`\sigma`, Å; the centres :math:`r_n` are 1.5 widths apart, the last at the cutoff.
    scale : float
        Length of the vector per Å of displacement; distances are divided by it.
    """

    def __init__(self, cutoff: float, species: Sequence[str], width: float, scale: float = 1.0
                 ) -> None:
        self.cutoff, self.species = float(cutoff), tuple(sorted(set(species)))
        self.width, self.scale = float(width), float(scale)
        self.centers = np.arange(self.cutoff, 0.5, -1.5 * self.width)

    def environments(self, atoms: Atoms) -> np.ndarray:
        """Vectors of all atoms, shape (n_atoms, n_features), in Å once `scale` is set."""
        i, j, r, vector = neighbors(atoms, self.cutoff)
        symbols = np.asarray(atoms.get_chemical_symbols())
        radial = np.exp(-0.5 * ((r[:, None] - self.centers) / self.width) ** 2)
        radial *= 0.5 * (1.0 + np.cos(np.pi * r / self.cutoff))[:, None]
        channel = np.stack([symbols[j] == s for s in self.species], axis=1)
        n_features = len(self.species) * len(self.centers)
        weights = (channel[:, :, None] * radial[:, None, :]).reshape(len(i), n_features)
        angular = [np.stack(row, axis=1) for row in harmonics(vector / r[:, None], L_MAX)[0]]
        bounds = np.searchsorted(i, np.arange(len(atoms) + 1))
        upper = np.triu_indices(weights.shape[1])
        rows = []
        for a in range(len(atoms)):
            part = slice(bounds[a], bounds[a + 1])
            # the addition theorem: a sum over m of two moments is one over pairs of neighbors
            moments = [weights[part].T @ row[part] for row in angular]
            spectrum = np.concatenate([(m @ m.T)[upper] for m in moments])
            rows.append(spectrum / max(np.linalg.norm(spectrum), 1e-30) ** 0.5)
        return np.array(rows) / self.scale


def fingerprint_for(parents: Sequence[Atoms], species: Sequence[str]) -> Fingerprint:
    """Fingerprint whose distances are lengths.

    The cutoff is 2.2 nearest distances of the first parent (at least two shells), the width an
    eighth of that distance. The scale is such that random displacements of 0.02 Å of the rattled
    parent change the environments by 0.02 Å in the median: a distance of structures is the random
    displacement that changes environments as much.
    """
    nearest = minimum_distance(parents[0], 12.0)
    raw = Fingerprint(2.2 * nearest, species, nearest / 8.0)
    rng, step = np.random.default_rng(0), 0.02
    first = parents[0].repeat(3 if len(parents[0]) == 1 else 2)
    first.positions += rng.normal(0.0, 0.04 * nearest, first.positions.shape)
    second = first.copy()
    second.positions += rng.normal(0.0, step, second.positions.shape)
    change = np.linalg.norm(raw.environments(first) - raw.environments(second), axis=1)
    return Fingerprint(raw.cutoff, species, raw.width, float(np.median(change)) / step)


def distance(first: Atoms, second: Atoms, fingerprint: Fingerprint) -> float:
    """Distance of two structures (Å), see the module; ``inf`` where a species is missing."""
    a, b = (fingerprint.environments(x) for x in (first, second))
    return _hausdorff(a, first.numbers, b, second.numbers)


def _hausdorff(a: np.ndarray, kinds_a: np.ndarray, b: np.ndarray, kinds_b: np.ndarray) -> float:
    table = cdist(a, b)
    table[kinds_a[:, None] != kinds_b[None, :]] = np.inf
    return float(max(table.min(axis=1).max(), table.min(axis=0).max()))


@dataclass(frozen=True)
class Dropped:
    """A structure that was left out, the position of its twin among the kept, and how far."""

    structure: Atoms
    twin: int
    distance: float


def drop_duplicates(frames: Sequence[Atoms], fingerprint: Fingerprint, tolerance: float,
                    progress: Callable[[int, int], None] | None = None
                    ) -> tuple[list[Atoms], list[Dropped]]:
    """Keep what is farther than `tolerance` (Å) from everything kept before, in order.

    Parameters
    ----------
    frames : sequence of Atoms
    fingerprint : Fingerprint
    tolerance : float
        Å.
    progress : callable, optional
        Called with the number of structures looked at and their total.
    """
    kept, dropped = [], []
    known: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for done, atoms in enumerate(frames, 1):
        rows = fingerprint.environments(atoms)
        mean = np.linalg.norm(rows, axis=1)
        twin = None
        for k, (others, kinds, norms) in enumerate(known):
            # lengths of vectors bound their distance: most pairs need no table
            low, high = norms.min() - tolerance, norms.max() + tolerance
            if mean.min() < low or mean.max() > high or set(kinds) != set(atoms.numbers):
                continue
            if norms.min() < mean.min() - tolerance or norms.max() > mean.max() + tolerance:
                continue
            gap = _hausdorff(rows, atoms.numbers, others, kinds)
            if gap <= tolerance:
                twin = Dropped(atoms, k, gap)
                break
        if twin is None:
            kept.append(atoms)
            known.append((rows, atoms.numbers, mean))
        else:
            dropped.append(twin)
        if progress is not None:
            progress(done, len(frames))
    return kept, dropped
