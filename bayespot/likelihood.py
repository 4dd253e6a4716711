r"""From labels to a posterior density: noise, weights, and the problem that inference solves.

For structure :math:`c` and kind of label :math:`k` (energy per atom, forces, stress)

.. math::
   \ln L(\theta, \sigma) = -\tfrac12 \sum_c \sum_k \kappa_{ck} \sum_{i \in (c,k)} \left[
     \frac{(y_i - f_i(\theta))^2}{\sigma_k^2 + s_{ck}^2}
     + \ln 2\pi(\sigma_k^2 + s_{ck}^2) \right]

:math:`\sigma_k` is inferred, :math:`s` is the measured convergence floor of the DFT, and
:math:`\kappa` the effective-sample-size weight: the force errors of one cell are not independent,
so a structure counts as one energy, :math:`\nu_F` forces and one stress. The loss weights of a
least-squares fit follow, :math:`w = \kappa / (\sigma^2 + s^2)`; nobody types them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms

from bayespot.data.dataset import Dataset, has_vacuum
from bayespot.errors import LabelError, PriorError
from bayespot.evaluate import (
    Labels3,
    chunk_sum,
    evaluate_chunk,
    evaluate_draws,
    jacobian_columns,
)
from bayespot.graph import Chunk, build_graph
from bayespot.parameters import Constants, Layout, ParameterSpace, unpack
from bayespot.potentials.base import Potential
from bayespot.potentials.priors import Prior, Reference
from bayespot.runtime import require_x64
from bayespot.units import GPA, QUANTITIES

MISFITS = ("discrepancy", "tempered", "pro", "none")
"""Ways to treat a potential that cannot be right."""

TEMPERATURES = ("families", "frederiksen")
"""Rules for the temperature of ``misfit="tempered"``."""


@dataclass(frozen=True)
class NoiseFloor:
    """Convergence error of the DFT labels, added in quadrature to the inferred noise.

    Attributes
    ----------
    energy, forces, stress : float
        eV/atom, eV/Å, eV/Å^3. The defaults are guesses for a well-converged plane-wave code;
        measure them.
    families : mapping
        Family to its own (energy, forces, stress) where they were measured by family.
    """

    energy: float = 1e-3
    forces: float = 1e-2
    stress: float = 0.05 / GPA
    families: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, path: str | Path) -> NoiseFloor:
        """Read a measured floor (the ``floor.json`` beside a data set)."""
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        overall = [record["overall"][f"s_{q}"] for q in QUANTITIES]
        families = {
            name: tuple(
                overall[k] if row.get(f"s_{q}") is None else float(row[f"s_{q}"])
                for k, q in enumerate(QUANTITIES)
            )
            for name, row in record.get("families", {}).items()
        }
        return cls(*overall, families=families)

    def of(self, family: str) -> tuple[float, float, float]:
        """Floor of a family."""
        return self.families.get(family, (self.energy, self.forces, self.stress))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FitData:
    """Labels and weights in the shape of the graph's chunks; weights are zero on padding."""

    chunks: Chunk
    n_chunks: Any  # [] chunks in use
    labels: Labels3  # energy per atom [C, S], forces [C, A, 3], stress [C, S, 6]
    kappa: Labels3  # the same shapes
    floor: Any  # [C, S, 3] variances of the DFT floor
    atoms: Any  # [C, S] atoms per structure


class Misfit(NamedTuple):
    """Per structure slot: weighted squares and weights by kind of label, [..., S, 3]."""

    squares: Any
    counts: Any


def _chunk_terms(layout: Layout, constants: Constants, data: FitData, u: Any, k: Any) -> tuple:
    """Weighted squared residuals and counts by kind of label and structure of chunk ``k``."""
    chunk, labels, kappa, atoms = jax.tree.map(
        lambda a: a[k], (data.chunks, data.labels, data.kappa, data.atoms)
    )
    potential, sigma = unpack(layout, constants, u)
    out = evaluate_chunk(potential, chunk)
    n = atoms.shape[0]
    residual = Labels3(
        labels.energy - out.energy / atoms, labels.forces - out.forces, labels.stress - out.stress
    )

    def by_structure(values: Labels3) -> Any:
        forces = jax.ops.segment_sum(
            values.forces.sum(axis=1), chunk.structure, n, indices_are_sorted=True
        )
        return jnp.stack([values.energy, forces, values.stress.sum(axis=1)], axis=1)

    squares = by_structure(jax.tree.map(lambda r, w: w * r * r, residual, kappa))
    return Misfit(squares, by_structure(kappa)), sigma


def _chunk_log_likelihood(layout: Layout, constants: Constants, data: FitData, u: Any, k: Any
                          ) -> Any:
    """Log likelihood of every structure of chunk ``k``, [S]."""
    misfit, sigma = _chunk_terms(layout, constants, data, u, k)
    variance = sigma**2 + data.floor[k]
    return -0.5 * (
        misfit.squares / variance + misfit.counts * jnp.log(2 * jnp.pi * variance)
    ).sum(axis=1)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def log_likelihood(layout: Layout, constants: Constants, data: FitData, u: Any) -> Any:
    """Log likelihood; value and gradient are accumulated chunk by chunk."""
    return chunk_sum(
        lambda k: _chunk_log_likelihood(layout, constants, data, u, k).sum(), data.n_chunks
    )


def _forward(layout: Layout, constants: Constants, data: FitData, u: Any) -> tuple:
    def one(k: Any) -> tuple:
        return jax.value_and_grad(
            lambda v: _chunk_log_likelihood(layout, constants, data, v, k).sum()
        )(u)

    value, gradient = chunk_sum(one, data.n_chunks)
    return value, gradient


def _backward(layout: Layout, gradient: Any, cotangent: Any) -> tuple:
    return None, None, cotangent * gradient


log_likelihood.defvjp(_forward, _backward)


@partial(jax.jit, static_argnums=0)
def log_posterior(layout: Layout, constants: Constants, data: FitData, u: Any) -> Any:
    """Log posterior density in ``u`` up to a constant."""
    return log_likelihood(layout, constants, data, u) - 0.5 * u @ u


@partial(jax.jit, static_argnums=0)
def log_likelihood_by_structure(layout: Layout, constants: Constants, data: FitData, u: Any) -> Any:
    """Log likelihood of every structure, as chunks [n_chunks, S]."""
    return jax.lax.map(
        lambda k: _chunk_log_likelihood(layout, constants, data, u, k),
        jnp.arange(data.atoms.shape[0]),
    )


class GaussNewton(NamedTuple):
    """Everything one step of least squares needs; by structure, or as chunks [n_chunks, S, ...]."""

    fisher: Any  # [n_structures, p_theta, p_theta]
    gradient: Any  # [p_theta], d ln L / du
    misfit: Misfit  # [n_structures, 3]


@partial(jax.jit, static_argnums=0)
def gauss_newton(layout: Layout, constants: Constants, data: FitData, u: Any) -> GaussNewton:
    r"""Fisher matrix of every structure and gradient, at fixed noise.

    :math:`G_c = \sum_{i \in c} \kappa_i J_i J_i^T / (\sigma^2 + s^2)` with the Jacobian with
    respect to the potential's entries of ``u``.
    """
    n_theta = layout.n_theta

    def one(k: Any) -> tuple:
        chunk, labels, kappa, atoms, floor = jax.tree.map(
            lambda a: a[k], (data.chunks, data.labels, data.kappa, data.atoms, data.floor)
        )
        n = atoms.shape[0]
        _, sigma = unpack(layout, constants, u)
        variance = sigma**2 + floor

        def predict(head: Any) -> Labels3:
            potential, _ = unpack(layout, constants, u.at[:n_theta].set(head))
            out = evaluate_chunk(potential, chunk)
            return Labels3(out.energy / atoms, out.forces, out.stress)

        value, columns = jacobian_columns(predict, u[:n_theta])
        weight = Labels3(
            kappa.energy / variance[:, 0],
            kappa.forces / variance[chunk.structure, 1, None],
            kappa.stress / variance[:, 2, None],
        )
        residual = jax.tree.map(jnp.subtract, labels, value)
        forces = jnp.einsum("pac,qac,ac->apq", columns.forces, columns.forces, weight.forces)
        fisher = (
            jnp.einsum("ps,qs,s->spq", columns.energy, columns.energy, weight.energy)
            + jax.ops.segment_sum(forces, chunk.structure, n, indices_are_sorted=True)
            + jnp.einsum("psv,qsv,sv->spq", columns.stress, columns.stress, weight.stress)
        )
        gradient = sum(
            (c * (w * r)[None]).sum(axis=tuple(range(1, c.ndim)))
            for c, w, r in zip(columns, weight, residual, strict=True)
        )
        misfit, _ = _chunk_terms(layout, constants, data, u, k)
        return fisher, gradient, misfit

    fisher, gradient, misfit = jax.lax.map(one, jnp.arange(data.atoms.shape[0]))
    return GaussNewton(fisher, gradient.sum(axis=0), misfit)


@partial(jax.jit, static_argnums=0)
def misfit_by_structure(layout: Layout, constants: Constants, data: FitData, u: Any) -> Misfit:
    """Weighted squares and counts as chunks [n_chunks, S, 3], without derivatives."""
    return jax.lax.map(
        lambda k: _chunk_terms(layout, constants, data, u, k)[0], jnp.arange(data.atoms.shape[0])
    )


class FitProblem:
    """A potential, data, priors and noise: what every inference function takes.

    Parameters
    ----------
    potential : Potential
        Functional form, species, settings; its values are one of the starting points.
    dataset : Dataset
        Labelled structures. Labels may be missing per structure and quantity.
    priors, fixed : mapping, optional
        See `ParameterSpace`.
    reference : Reference, optional
        Scales for relative priors; by default the bond length of the lowest-energy structure, a
        cohesive energy of 4 eV/atom and the mean energy of the data.
    floor : NoiseFloor, optional
        Measured convergence error of the DFT.
    nu_forces : float
        How many independent forces a structure counts as.
    misfit : {"discrepancy", "tempered", "pro", "none"}
        Treatment of a form that cannot be right: a function for what it misses
        (`bayespot.inference.discrepancy`); a spread of its parameters, by a temperature
        (`bayespot.inference.tempered`) or chosen to predict (`bayespot.inference.pro`), which the
        form itself bounds; or nothing, which is overconfident and says so.
    temperature : {"families", "frederiksen"} or float, optional
        Of ``misfit="tempered"`` alone: from families left out (the default), Frederiksen's rule,
        or a number.
    """

    def __init__(
        self,
        potential: Potential,
        dataset: Dataset,
        *,
        priors: Mapping[str, Prior] | None = None,
        fixed: Mapping[str, float] | None = None,
        reference: Reference | None = None,
        floor: NoiseFloor | None = None,
        nu_forces: float = 6.0,
        misfit: str = "none",
        temperature: float | str | None = None,
    ) -> None:
        require_x64()
        if misfit not in MISFITS:
            raise PriorError(f"misfit={misfit!r} is unknown: use one of {', '.join(MISFITS)}")
        if temperature is not None:
            _check_temperature(misfit, temperature)
        if not nu_forces > 0:
            raise PriorError(f"nu_forces={nu_forces} must be positive (6 is the default)")
        self.dataset = dataset
        self.floor = floor or NoiseFloor()
        self.nu_forces = float(nu_forces)
        self.misfit, self.temperature = misfit, temperature
        self.initial = potential
        labelled = {
            "energy": any(label.energy is not None for label in dataset.labels),
            "forces": any(label.forces is not None for label in dataset.labels),
            "stress": any(label.stress is not None for label in dataset.labels),
        }
        if not any(labelled.values()):
            raise LabelError(
                f"none of the {len(dataset)} structures of {dataset.source} has a label: "
                "name the keys of energies, forces or stresses when reading"
            )
        self.reference = reference or reference_from_data(dataset, potential.species)
        self.space = ParameterSpace(
            potential,
            self.reference,
            priors=priors,
            fixed=fixed,
            quantities=[q for q in QUANTITIES if labelled[q]],
        )
        self.cutoff = self.space.reach
        self.graph = build_graph(
            dataset.structures, potential.species, self.cutoff, triplets=potential.needs_triplets
        )
        self.data, self.dropped = self._tabulate()

    def _tabulate(self) -> tuple[FitData, dict[str, int]]:
        """Labels and weights as chunks; what is left out of the likelihood is counted."""
        graph, dataset = self.graph, self.dataset
        shape_s, shape_a = graph.chunks.volume.shape, graph.chunks.species.shape
        labels = Labels3(np.zeros(shape_s), np.zeros((*shape_a, 3)), np.zeros((*shape_s, 6)))
        kappa = Labels3(*(np.zeros_like(a) for a in labels))
        flat, weight = (
            Labels3(t.energy.reshape(-1), t.forces.reshape(-1, 3), t.stress.reshape(-1, 6))
            for t in (labels, kappa)
        )
        atoms, floor = np.ones(np.prod(shape_s)), np.ones((np.prod(shape_s), 3))
        force_moves, stress_moves = self._symmetry_allows()
        dropped = {"stress of cells with vacuum": 0, "symmetry-fixed components": 0}
        first = 0
        for c, (structure, label) in enumerate(
            zip(dataset.structures, dataset.labels, strict=True)
        ):
            slot, n = graph.structure_slot[c], len(structure)
            where = graph.atom_slot[first : first + n]
            first += n
            atoms[slot] = n
            s = self.floor.of(dataset.families[c])
            floor[slot] = np.square(s)
            if label.energy is not None:
                flat.energy[slot] = label.energy / n
                weight.energy[slot] = 1.0
            if label.forces is not None:
                flat.forces[where] = label.forces
                keep = force_moves[where] | (np.abs(label.forces) > s[1])
                dropped["symmetry-fixed components"] += int((~keep).sum())
                weight.forces[where] = keep * min(1.0, self.nu_forces / max(keep.sum(), 1))
            if label.stress is not None and has_vacuum(structure):
                dropped["stress of cells with vacuum"] += 1
            elif label.stress is not None:
                flat.stress[slot] = label.stress
                keep = stress_moves[slot] | (np.abs(label.stress) > s[2])
                dropped["symmetry-fixed components"] += int((~keep).sum())
                weight.stress[slot] = keep / max(keep.sum(), 1)
        floor, atoms = floor.reshape(*shape_s, 3), atoms.reshape(shape_s)
        return FitData(graph.chunks, graph.n_chunks, labels, kappa, floor, atoms), dropped

    def _symmetry_allows(self) -> tuple[np.ndarray, np.ndarray]:
        """Which force and stress components can differ from zero, by atom and structure slot.

        What symmetry fixes is zero for every parameter value: three prior draws decide.
        """
        space, graph = self.space, self.graph
        u = 0.5 * np.random.default_rng(0).standard_normal((3, space.size))
        # The design matrix of a linear form is wanted next, and is kept.
        out = evaluate_draws(space.potential(u), graph, few=1)
        forces = np.zeros((graph.chunks.species.size, 3), bool)
        stress = np.zeros((graph.chunks.volume.size, 6), bool)
        forces[graph.atom_slot] = np.abs(out.forces).max(axis=0) > 1e-8
        stress[graph.structure_slot] = np.abs(out.stress).max(axis=0) > 1e-8 / GPA
        return forces, stress

    def log_posterior(self, u: np.ndarray) -> float:
        """Log posterior density in ``u`` up to a constant."""
        return float(log_posterior(self.space.layout, self.space.constants, self.data,
                                   jnp.asarray(u)))

    def log_likelihood_by_structure(self, u: np.ndarray) -> np.ndarray:
        """Log likelihood of every structure at one ``u``, [n_structures]."""
        return self.graph.by_structure(log_likelihood_by_structure(
            self.space.layout, self.space.constants, self.data, jnp.asarray(u)
        ))

    def gauss_newton(self, u: np.ndarray) -> GaussNewton:
        """See the function of that name."""
        out = gauss_newton(self.space.layout, self.space.constants, self.data, jnp.asarray(u))
        return GaussNewton(
            self.graph.by_structure(out.fisher),
            np.asarray(out.gradient),
            self._in_order(out.misfit),
        )

    def _in_order(self, misfit: Misfit) -> Misfit:
        return Misfit(*(self.graph.by_structure(m) for m in misfit))

    def misfit_by_structure(self, u: np.ndarray) -> Misfit:
        """Weighted squares and counts of every structure, [n_structures, 3] each."""
        out = misfit_by_structure(self.space.layout, self.space.constants, self.data,
                                  jnp.asarray(u))
        return self._in_order(out)

    def unpadded(self, values: Labels3) -> Labels3:
        """Labels or weights of the chunks in the order of the structures and of their atoms."""
        graph = self.graph
        return Labels3(
            graph.by_structure(values.energy), graph.by_atom(values.forces),
            graph.by_structure(values.stress),
        )

    def floor_by_structure(self) -> np.ndarray:
        """Variances of the DFT floor, [n_structures, 3]."""
        return self.graph.by_structure(self.data.floor)

    def precision(self, u: np.ndarray) -> np.ndarray:
        r"""Gauss-Newton Hessian of the negative log posterior, noise entries included, [p, p].

        For a noise scale the expected second derivative of
        :math:`\tfrac12 n \ln(\sigma^2 + s^2)` is used, :math:`\tfrac12 n (d\ln v / du)^2`.
        """
        step = self.gauss_newton(u)
        n_theta, size = self.space.layout.n_theta, self.space.size
        hessian = np.eye(size)
        hessian[:n_theta, :n_theta] += step.fisher.sum(axis=0)
        sigma, floor = self.space.sigma(u), self.floor_by_structure()
        for row, k in enumerate(self.space.layout.noise):
            sd = self.space.priors[n_theta + row].sd
            slope = 2.0 * sd * sigma[k] ** 2 / (sigma[k] ** 2 + floor[:, k])
            hessian[n_theta + row, n_theta + row] += 0.5 * (
                step.misfit.counts[:, k] * slope**2
            ).sum()
        return hessian


def _check_temperature(misfit: str, temperature: float | str) -> None:
    if misfit != "tempered":
        raise PriorError(
            f"temperature={temperature!r} with misfit={misfit!r}: only misfit='tempered' takes one"
        )
    if isinstance(temperature, str):
        if temperature not in TEMPERATURES:
            raise PriorError(f"temperature={temperature!r} is unknown: use "
                             f"{' or '.join(map(repr, TEMPERATURES))}, or a positive number")
    elif not (np.isfinite(temperature) and temperature > 0):
        raise PriorError(f"temperature={temperature} must be positive and finite (1 is the "
                         "posterior as it is)")


def reference_from_data(dataset: Dataset, species: Sequence[str]) -> Reference:
    """Scales of a material from its data: bond length, and the zero of energy per species.

    The cohesive energy cannot be read off (the zero of energy is arbitrary) unless isolated atoms
    are among the structures; 4 eV/atom is assumed then, and the priors are wide.
    """
    energies = np.array([
        np.nan if label.energy is None else label.energy / len(atoms)
        for atoms, label in zip(dataset.structures, dataset.labels, strict=True)
    ])
    order = np.argsort(energies) if np.isfinite(energies).any() else np.arange(len(dataset))
    length = next(
        (d for d in (_bond_length(dataset.structures[k]) for k in order) if d is not None), 2.5
    )
    known = np.isfinite(energies)
    if not known.any():
        return Reference(length=length, offset=(0.0,) * len(species))
    counts = np.array([
        [atoms.get_chemical_symbols().count(s) for s in species] for atoms in dataset.structures
    ], dtype=float)
    sizes = counts.sum(axis=1)
    fractions = counts / np.maximum(sizes, 1)[:, None]
    bulk = known & (sizes > 1) if (known & (sizes > 1)).any() else known
    mean = np.linalg.lstsq(fractions[bulk], energies[bulk], rcond=None)[0]
    cohesive = Reference().energy
    offset = tuple(float(m) + cohesive for m in mean)
    return Reference(length=length, energy=cohesive, offset=offset)


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
