"""What the data tell of a material before a fit: the scales that priors are relative to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from ase import Atoms

from bayespot.data.dataset import Dataset
from bayespot.graph import build_graph
from bayespot.potentials.priors import Reference


def reference_from_data(dataset: Dataset, species: Sequence[str]) -> Reference:
    """Scales of a material from its data: bond length, and the zero of energy per species.

    The cohesive energy cannot be read off (the zero of energy is arbitrary) unless isolated atoms
    are among the structures; 4 eV/atom is assumed then, and the priors are wide.
    """
    energies, counts = energies_and_counts(dataset, species)
    order = np.argsort(energies) if np.isfinite(energies).any() else np.arange(len(dataset))
    return reference_of(lowest_bond(dataset.structures, order)[1], energies, counts)


def energies_and_counts(dataset: Dataset, species: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Energy per atom, NaN where it is missing, [n], and atoms of each species, [n, n_species]."""
    energies = np.array([
        np.nan if label.energy is None else label.energy / len(atoms)
        for atoms, label in zip(dataset.structures, dataset.labels, strict=True)
    ])
    return energies, np.array([
        [atoms.get_chemical_symbols().count(s) for s in species] for atoms in dataset.structures
    ], dtype=float)


def reference_of(length: float | None, energies: np.ndarray, counts: np.ndarray) -> Reference:
    """Scales from a bond length, Å, and what `energies_and_counts` gives."""
    length = length or 2.5
    known = np.isfinite(energies)
    if not known.any():
        return Reference(length=length, offset=(0.0,) * counts.shape[1])
    sizes = counts.sum(axis=1)
    fractions = counts / np.maximum(sizes, 1)[:, None]
    bulk = known & (sizes > 1) if (known & (sizes > 1)).any() else known
    mean = np.linalg.lstsq(fractions[bulk], energies[bulk], rcond=None)[0]
    cohesive = Reference().energy
    offset = tuple(float(m) + cohesive for m in mean)
    return Reference(length=length, energy=cohesive, offset=offset)


def lowest_bond(structures: Sequence[Atoms], order: Iterable[int]) -> tuple[int, float | None]:
    """First structure in ``order`` whose atoms have neighbours, and its shortest distance, Å."""
    for k in order:
        if (length := _bond_length(structures[k])) is not None:
            return int(k), length
    return -1, None


def _bond_length(atoms: Atoms) -> float | None:
    """Nearest-neighbour distance, Å; None for an isolated atom."""
    for cutoff in (4.0, 8.0):
        distance = build_graph([atoms], tuple(sorted(set(atoms.get_chemical_symbols()))), cutoff)
        r = distance.chunks.distance[0]
        real = r[np.unique(distance.chunks.pair[0][
            distance.chunks.center[0] < distance.chunks.species.shape[1] - 1
        ])]
        if real.size:
            return float(real.min())
    return None
