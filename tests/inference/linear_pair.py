"""A potential that is linear in its parameters, so that its posterior is known in closed form.

The design matrix is written with NumPy and ASE's neighbour list: nothing of the package is used for
the exact posterior but its documented formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from bayespot.data.dataset import Dataset, Labels
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.posterior import Posterior
from bayespot.potentials.base import param
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.priors import Normal, Reference

CUTOFF, WIDTH = 5.0, 1.5
CENTERS = np.array([2.2, 2.9, 3.6, 0.7])
"""Å, of the Gaussians; no pair is near the last one: the data cannot see it."""
SPREADS = np.array([0.5, 0.6, 0.7, 0.1])
COEFFICIENT, OFFSET = (0.1, 2.0), (-3.0, 5.0)
"""Mean and sd of the priors, eV."""
SIGMA = np.array([0.01, 0.05, 2e-3])
FLOOR = NoiseFloor(2e-3, 1e-2, 5e-4)
NU_FORCES = 6.0
UNSEEN = "c4"


def coefficient(number: int) -> Any:
    return param(
        unit="eV", symbol=f"c_{number}", doc="height of a Gaussian", prior=Normal(*COEFFICIENT)
    )


class LinearPair(PairPotential):
    """Sum of Gaussians with free heights."""

    c1: Any = coefficient(1)
    c2: Any = coefficient(2)
    c3: Any = coefficient(3)
    c4: Any = coefficient(4)

    abstract: ClassVar[bool] = True  # out of the registry

    def phi(self, r: Any) -> Any:
        heights = (self.c1, self.c2, self.c3, self.c4)
        return sum(
            h * jnp.exp(-0.5 * ((r - c) / w) ** 2)
            for h, c, w in zip(heights, CENTERS, SPREADS, strict=True)
        )


def gaussians(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Basis functions with the switch, and their slopes, [basis, n]."""
    z = (r - CENTERS[:, None]) / SPREADS[:, None]
    value = np.exp(-0.5 * z**2)
    x = np.clip((r - (CUTOFF - WIDTH)) / WIDTH, 0.0, 1.0)
    switch = 1 - x**3 * (10 - 15 * x + 6 * x**2)
    slope = -30 * x**2 * (1 - x) ** 2 / WIDTH
    return value * switch, value * (slope - switch * z / SPREADS[:, None])


def design(atoms: Atoms) -> dict[str, np.ndarray]:
    """Derivatives of energy per atom, forces and stress in (coefficients, e0)."""
    i, d, vector = neighbor_list("idD", atoms, CUTOFF)
    value, slope = gaussians(d)
    n, p = len(atoms), len(CENTERS) + 1
    energy, forces, stress = np.ones((1, p)), np.zeros((n, 3, p)), np.zeros((6, p))
    energy[0, :-1] = 0.5 * value.sum(axis=1) / n
    unit = vector / d[:, None]
    for k in range(p - 1):
        np.add.at(forces[:, :, k], i, slope[k][:, None] * unit)
        tensor = 0.5 * np.einsum("e,ea,eb->ab", slope[k], unit, vector) / atoms.get_volume()
        stress[:, k] = tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return {"energy": energy, "forces": forces.reshape(3 * n, p), "stress": stress}


def weights(atoms: Atoms) -> dict[str, float]:
    """The documented w = kappa / (sigma^2 + s^2)."""
    kappa = {"energy": 1.0, "forces": min(1.0, NU_FORCES / (3 * len(atoms))), "stress": 1 / 6}
    floor = {"energy": FLOOR.energy, "forces": FLOOR.forces, "stress": FLOOR.stress}
    return {
        q: kappa[q] / (SIGMA[k] ** 2 + floor[q] ** 2)
        for k, q in enumerate(("energy", "forces", "stress"))
    }


@dataclass(frozen=True)
class Exact:
    """Posterior of the standard-normal coordinates: N(mean, covariance)."""

    mean: np.ndarray
    covariance: np.ndarray

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(np.diag(self.covariance))

    @property
    def condition(self) -> float:
        """Condition number of the correlations of what the data can see."""
        seen = np.arange(len(self.mean)) != CENTERS.argmin()
        return float(np.linalg.cond((self.covariance / np.outer(self.sd, self.sd))[seen][:, seen]))


def exact(dataset: Dataset) -> Exact:
    mean = np.array([COEFFICIENT[0]] * len(CENTERS) + [OFFSET[0]])
    sd = np.array([COEFFICIENT[1]] * len(CENTERS) + [OFFSET[1]])
    precision, right = np.eye(len(mean)), np.zeros(len(mean))
    for atoms, labels in zip(dataset.structures, dataset.labels, strict=True):
        truth = {"energy": labels.energy / len(atoms), "forces": labels.forces,
                 "stress": labels.stress}
        weight = weights(atoms)
        for q, rows in design(atoms).items():
            scaled = rows * sd
            precision += weight[q] * scaled.T @ scaled
            right += weight[q] * scaled.T @ (np.ravel(truth[q]) - rows @ mean)
    return Exact(np.linalg.solve(precision, right), np.linalg.inv(precision))


def make_problem(*, collinear: bool = False, seed: int = 5) -> FitProblem:
    """Eight rattled cells; nearly one distance only if ``collinear``, so that heights trade."""
    rng = np.random.default_rng(seed)
    low, high, shake = (3.98, 4.02, 0.01) if collinear else (3.5, 4.6, 0.25)
    structures, labels = [], []
    theta = np.array([1.0, -0.7, 0.2, 0.0, -3.5])
    for a in np.linspace(low, high, 8):
        atoms = bulk("Ar", "fcc", a=a) * (1, 1, 2)
        atoms.positions += shake * rng.standard_normal((2, 3))
        rows = design(atoms)
        values = {q: rows[q] @ theta for q in rows}
        noisy = {q: v + SIGMA[m] * rng.standard_normal(v.shape)
                 for m, (q, v) in enumerate(values.items())}
        structures.append(atoms)
        labels.append(Labels(
            float(noisy["energy"][0]) * len(atoms), noisy["forces"].reshape(-1, 3), noisy["stress"]
        ))
    return FitProblem(
        LinearPair(species=("Ar",), cutoff=CUTOFF, switch_width=WIDTH),
        Dataset.from_atoms(structures, labels),
        priors={"e0": Normal(*OFFSET)},
        fixed={f"sigma_{q}": s for q, s in zip(("energy", "forces", "stress"), SIGMA, strict=True)},
        reference=Reference(offset=(0.0,)),
        floor=FLOOR,
        nu_forces=NU_FORCES,
        misfit="none",
    )


def distance_to_exact(posterior: Posterior, truth: Exact) -> tuple[np.ndarray, np.ndarray]:
    """|mean - exact| in Monte Carlo standard errors, and sd over the exact sd, per parameter."""
    ess = posterior.diagnostics()["ess_bulk"].values
    error = np.abs(posterior.u.mean(axis=0) - truth.mean) / (truth.sd / np.sqrt(ess))
    return error, posterior.u.std(axis=0) / truth.sd
