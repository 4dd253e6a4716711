"""Labels, weights and floor of a data set in the shape of the chunks of its graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayespot.data.dataset import Dataset, has_vacuum
from bayespot.errors import PriorError
from bayespot.evaluate import Labels3, evaluate_draws
from bayespot.graph import NeighborGraph
from bayespot.likelihood.density import FitData
from bayespot.likelihood.floor import NoiseFloor
from bayespot.parameters import ParameterSpace
from bayespot.units import GPA


def tabulate(dataset: Dataset, graph: NeighborGraph, space: ParameterSpace, floor: NoiseFloor,
             nu_forces: float) -> tuple[FitData, dict[str, int]]:
    """Labels and weights as chunks; what is left out of the likelihood is counted."""
    shape_s, shape_a = graph.chunks.volume.shape, graph.chunks.species.shape
    labels = Labels3(np.zeros(shape_s), np.zeros((*shape_a, 3)), np.zeros((*shape_s, 6)))
    kappa = Labels3(*(np.zeros_like(a) for a in labels))
    flat, weight = (
        Labels3(t.energy.reshape(-1), t.forces.reshape(-1, 3), t.stress.reshape(-1, 6))
        for t in (labels, kappa)
    )
    atoms, variance = np.ones(np.prod(shape_s)), np.ones((np.prod(shape_s), 3))
    force_moves, stress_moves = _symmetry_allows(space, graph)
    dropped = {"stress of cells with vacuum": 0, "symmetry-fixed components": 0}
    first = 0
    for c, (structure, label) in enumerate(
        zip(dataset.structures, dataset.labels, strict=True)
    ):
        slot, n = graph.structure_slot[c], len(structure)
        where = graph.atom_slot[first : first + n]
        first += n
        atoms[slot] = n
        s = floor.of(dataset.families[c])
        variance[slot] = np.square(s)
        if label.energy is not None:
            flat.energy[slot] = label.energy / n
            weight.energy[slot] = 1.0
        if label.forces is not None:
            flat.forces[where] = label.forces
            keep = force_moves[where] | (np.abs(label.forces) > s[1])
            dropped["symmetry-fixed components"] += int((~keep).sum())
            weight.forces[where] = keep * min(1.0, nu_forces / max(keep.sum(), 1))
        if label.stress is not None and has_vacuum(structure):
            dropped["stress of cells with vacuum"] += 1
        elif label.stress is not None:
            flat.stress[slot] = label.stress
            keep = stress_moves[slot] | (np.abs(label.stress) > s[2])
            dropped["symmetry-fixed components"] += int((~keep).sum())
            weight.stress[slot] = keep / max(keep.sum(), 1)
    variance, atoms = variance.reshape(*shape_s, 3), atoms.reshape(shape_s)
    family = _family_slots(dataset.families, graph, space.families) if space.families else None
    return FitData(graph.chunks, graph.n_chunks, labels, kappa, variance, atoms, family), dropped


def family_numbers(names: Sequence[str], families: Sequence[str]) -> np.ndarray:
    """Places of the structures' families among those with noise scales of their own.

    Raises
    ------
    PriorError
        If a family has none.
    """
    missing = sorted(set(names) - set(families))
    if missing:
        raise PriorError(
            f"families {', '.join(map(repr, missing))} of the data have no noise scales: the "
            f"problem was told of {', '.join(map(repr, families))}"
        )
    return np.array([list(families).index(name) for name in names])


def _family_slots(names: Sequence[str], graph: NeighborGraph, families: Sequence[str]
                  ) -> np.ndarray:
    slots = np.zeros(graph.chunks.volume.size, np.int32)
    slots[graph.structure_slot] = family_numbers(names, families)
    return slots.reshape(graph.chunks.volume.shape)


def _symmetry_allows(space: ParameterSpace, graph: NeighborGraph
                     ) -> tuple[np.ndarray, np.ndarray]:
    """Which force and stress components can differ from zero, by atom and structure slot.

    What symmetry fixes is zero for every parameter value: three prior draws decide.
    """
    u = 0.5 * np.random.default_rng(0).standard_normal((3, space.size))
    # The design matrix of a linear form is wanted next, and is kept.
    out = evaluate_draws(space.potential(u), graph, few=1)
    forces = np.zeros((graph.chunks.species.size, 3), bool)
    stress = np.zeros((graph.chunks.volume.size, 6), bool)
    forces[graph.atom_slot] = np.abs(out.forces).max(axis=0) > 1e-8
    stress[graph.structure_slot] = np.abs(out.stress).max(axis=0) > 1e-8 / GPA
    return forces, stress
