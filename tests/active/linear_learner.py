"""A learner with a closed form: pair energies linear in their coefficients, Gaussian noise.

Cheap enough for tests of the loop (no compilation), and exact: the truth of the tests, a
Lennard-Jones calculator, is nearly inside the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from bayespot.active.learner import Learner
from bayespot.data.dataset import Dataset
from bayespot.errors import NotConverged
from bayespot.records import write_json

CUTOFF = 6.0
NOISE = {"energy": 1e-3, "forces": 1e-2, "stress": 1e-4}
POWERS = (12, 9, 6)
LENGTH = 3.4


def make_pool(n: int = 16, seed: int = 3, labels: bool = False) -> Dataset:
    """Strained and rattled argon cells of one to four atoms, in two families."""
    rng = np.random.default_rng(seed)
    structures, families = [], []
    for i in range(n):
        atoms = bulk("Ar", "fcc", a=5.3 * rng.uniform(0.92, 1.08), cubic=i % 2 == 0)
        atoms.rattle(0.02 + 0.1 * rng.random(), seed=i)
        structures.append(atoms)
        families.append("cubic" if i % 2 == 0 else "primitive")
    bare = Dataset.from_atoms(structures, families=families, source="argon")
    if not labels:
        return bare
    from bayespot.data.dataset import Labels
    from bayespot.oracles import CalculatorOracle

    oracle = lj_oracle()
    assert isinstance(oracle, CalculatorOracle)
    made = [oracle.label(s) for s in bare.structures]
    known = [Labels(r.energy, r.forces, r.stress) for r in made]
    return Dataset.from_atoms(structures, known, families=families, source="argon")


def lj_oracle():
    from bayespot.oracles import CalculatorOracle

    return CalculatorOracle("lj", {"epsilon": 0.0104, "sigma": LENGTH, "rc": CUTOFF})


def design(structure: Atoms) -> dict[str, np.ndarray]:
    """Derivatives of energy [p], forces [3n, p] and stress [6, p] in the coefficients."""
    i, _, d, r = neighbor_list("ijdD", structure, CUTOFF)
    n, p = len(structure), len(POWERS) + 1
    energy, forces, stress = np.zeros(p), np.zeros((n, 3, p)), np.zeros((6, p))
    energy[-1] = n
    for k, power in enumerate(POWERS):
        shape = (LENGTH / d) ** power
        slope = -power * shape / d
        energy[k] = 0.5 * np.sum(shape)
        np.add.at(forces[:, :, k], i, (slope / d)[:, None] * r)
        tensor = 0.5 * np.einsum("e,ea,eb->ab", slope / d, r, r) / structure.get_volume()
        stress[:, k] = tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return {"energy": energy[None], "forces": forces.reshape(3 * n, p), "stress": stress}


def weights(structure: Atoms) -> dict[str, float]:
    n = len(structure)
    kappa = {"energy": 1.0, "forces": 6 / (3 * n), "stress": 1 / 6}
    scale = {"energy": NOISE["energy"] * n, "forces": NOISE["forces"], "stress": NOISE["stress"]}
    return {q: kappa[q] / scale[q] ** 2 for q in NOISE}


@dataclass
class LinearPosterior:
    mean: np.ndarray
    covariance: np.ndarray
    converged: bool = True
    problems: tuple[str, ...] = ()
    method: str = "linear"
    misfit: str = "none"

    def check(self, *, allow_unconverged: bool = False) -> None:
        if not self.converged and not allow_unconverged:
            raise NotConverged("the linear posterior has not converged")

    def save(self, path: Path) -> None:
        write_json(
            Path(path),
            {"mean": self.mean, "covariance": self.covariance, "converged": self.converged,
             "problems": list(self.problems)},
        )

    @classmethod
    def load(cls, path: Path) -> LinearPosterior:
        saved = json.loads(Path(path).read_text())
        return cls(np.array(saved["mean"]), np.array(saved["covariance"]), saved["converged"],
                   tuple(saved["problems"]))


def fisher_of(structure: Atoms) -> np.ndarray:
    parts, weight = design(structure), weights(structure)
    return sum(weight[q] * parts[q].T @ parts[q] for q in parts)


def fit(dataset: Dataset, *, seed: int, warmup_factor: int, checkpoint: Path) -> LinearPosterior:
    p = len(POWERS) + 1
    precision, right = np.eye(p), np.zeros(p)
    for structure, labels in zip(dataset.structures, dataset.labels, strict=True):
        parts, weight = design(structure), weights(structure)
        for q in parts:
            truth = getattr(labels, q)
            if truth is not None:
                precision += weight[q] * parts[q].T @ parts[q]
                right += weight[q] * parts[q].T @ np.ravel(truth)
    return LinearPosterior(np.linalg.solve(precision, right), np.linalg.inv(precision))


@dataclass
class LinearPrediction:
    energy: np.ndarray
    energy_parameter_std: np.ndarray
    energy_total_std: np.ndarray
    forces: np.ndarray
    forces_parameter_std: np.ndarray
    forces_total_std: np.ndarray
    stress: np.ndarray
    stress_parameter_std: np.ndarray
    stress_total_std: np.ndarray
    offsets: np.ndarray


def predict(posterior, structures, *, n_draws=100, allow_unconverged=False) -> LinearPrediction:
    posterior.check(allow_unconverged=allow_unconverged)
    columns: dict[str, list[np.ndarray]] = {}
    for structure in structures:
        for q, rows in design(structure).items():
            shape = {"energy": (1,), "forces": (-1, 3), "stress": (1, 6)}[q]
            variance = np.einsum("ra,ab,rb->r", rows, posterior.covariance, rows)
            noise = NOISE[q] * (len(structure) if q == "energy" else 1.0)
            for name, value in (
                (q, rows @ posterior.mean),
                (f"{q}_parameter_std", np.sqrt(variance)),
                (f"{q}_total_std", np.sqrt(variance + noise**2)),
            ):
                columns.setdefault(name, []).append(value.reshape(shape))
    counts = [len(structure) for structure in structures]
    return LinearPrediction(
        **{name: np.concatenate(parts) for name, parts in columns.items()},
        offsets=np.concatenate([[0], np.cumsum(counts)]),
    )


def information(posterior, structures, *, allow_unconverged=False):
    posterior.check(allow_unconverged=allow_unconverged)
    return posterior.covariance, np.array([fisher_of(s) for s in structures])


def linear_learner(**changes) -> Learner:
    parts = {"fit": fit, "settings": {"model": "linear"}, "load": LinearPosterior.load,
             "predict": predict, "information": information}
    return Learner(**(parts | changes))
