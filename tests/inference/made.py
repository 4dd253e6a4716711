"""Small data sets with known noise, for tests of noise by family and of noise with tails."""

from __future__ import annotations

import numpy as np
from ase.build import bulk

from bayespot.data.dataset import Dataset, Labels
from bayespot.evaluate import evaluate
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.potentials.morse import Morse
from bayespot.potentials.priors import LogNormal, Reference

FLOOR = NoiseFloor(1e-4, 1e-3, 1e-4)
CUTOFF = 4.6
PRIORS = {"alpha": LogNormal(1.8, 0.25), "sigma_energy": LogNormal(0.01, 0.7),
          "sigma_forces": LogNormal(0.05, 0.7)}  # fmt: skip


def problem_of(labels: list[Labels] | None, families: list[str], **options) -> FitProblem:
    """Two-atom copper cells with a Morse potential, every force counted in full."""
    structures = []
    for k in range(len(families)):
        atoms = bulk("Cu", "fcc", a=3.3 + 0.8 * (k % 7) / 7) * (2, 1, 1)
        atoms.rattle(0.12, seed=k)
        structures.append(atoms)
    labels = labels or [Labels(0.0, np.zeros((2, 3))) for _ in structures]
    return FitProblem(
        Morse(species=("Cu",), cutoff=CUTOFF),
        Dataset(tuple(structures), tuple(labels), tuple(families), "made"),
        priors=PRIORS, reference=Reference(length=2.6, energy=2.0, offset=(-2.0,)), floor=FLOOR,
        nu_forces=1e9, **{"misfit": "none", **options},
    )


def labels_of(blank: FitProblem, u: np.ndarray, rng: np.random.Generator) -> list[Labels]:
    """Labels with the noise that ``u`` says."""
    space = blank.space
    out = evaluate(space.potential(u), blank.graph, cutoff=blank.cutoff)
    scale, nu = np.sqrt(blank.variance(u)), space.tail(u)
    labels, first = [], 0
    for c, atoms in enumerate(blank.dataset.structures):
        n = len(atoms)
        energy, forces = rng.standard_normal(), rng.standard_normal((n, 3))
        if nu is not None:  # one scale for an energy, one for the force on an atom
            energy /= np.sqrt(rng.chisquare(nu[0]) / nu[0])
            forces /= np.sqrt(rng.chisquare(nu[1], n) / nu[1])[:, None]
        labels.append(Labels(out.energy[c] + n * scale[c, 0] * energy,
                             out.forces[first : first + n] + scale[c, 1] * forces))
        first += n
    return labels


def simulated(u: np.ndarray, families: list[str], seed: int, **options) -> FitProblem:
    """The problem with labels drawn at ``u``."""
    blank = problem_of(None, families, **options)
    return problem_of(labels_of(blank, u, np.random.default_rng(seed)), families, **options)
