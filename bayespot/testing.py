"""The contract that every potential keeps.

``check_potential(MyPotential)`` runs all checks on random parameter draws and structures and raises
`ContractBroken` with the name of the check, what was found and what was expected. The project's own
tests run it on every registered form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell

from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import ContractBroken
from bayespot.evaluate import Labels3, evaluate, evaluate_chunk
from bayespot.graph import build_graph
from bayespot.likelihood import FitProblem, log_posterior
from bayespot.parameters import ParameterSpace
from bayespot.potentials.base import Potential
from bayespot.potentials.priors import Reference
from bayespot.units import VOIGT

STEP = 1e-4
"""Å (or strain) of the central differences; their error is O(STEP^2) times third derivatives."""

MOST_DERIVATIVES = 40
"""Entries, drawn at random, whose derivative of the log posterior is checked: a network has
hundreds."""


@dataclass(frozen=True)
class Tolerances:
    """How exactly each kind of statement must hold, relative to the size of the numbers."""

    exact: float = 1e-10
    """Symmetries: rounding only."""
    derivative: float = 1e-5
    """Against central differences."""
    cutoff: float = 1e-6
    """At the cutoff, relative to the value at the nearest-neighbour distance."""


def check_potential(
    form: type[Potential] | Potential,
    *,
    species: Sequence[str] = ("Si",),
    draws: int = 2,
    seed: int = 0,
    tolerances: Tolerances | None = None,
    smooth_cutoff: bool = True,
) -> list[str]:
    """Run the contract; returns the names of the checks that were made.

    Parameters
    ----------
    form : Potential class or instance
        An instance is checked with its settings; parameters are drawn from its priors.
    species : sequence of str
        Species to make a class with.
    draws : int
        Prior draws on which the checks run.
    seed : int
        Of structures and draws.
    tolerances : Tolerances, optional
    smooth_cutoff : bool
        Demand that energy, force and force derivative vanish at the cutoff. Only a form kept for
        parity with published, rougher ones may leave this out.

    Raises
    ------
    ContractBroken
        With the first check that fails.
    """
    template = form if isinstance(form, Potential) else form(species=tuple(species))
    tol = tolerances or Tolerances()
    rng = np.random.default_rng(seed)
    space = ParameterSpace(
        template, Reference(length=2.35, energy=4.0, offset=(0.0,) * len(template.species)),
        quantities=("energy",),
    )
    checks: dict[str, Callable[[_Case], None]] = {
        "forces are -dE/dR": _forces,
        "stress is dE/d(strain)/V": _stress,
        "translation, rotation, permutation and lattice vectors change nothing": _invariance,
        "forces sum to zero": _net_force,
        "a doubled cell has twice the energy; small cells see all images": _supercell,
        "a padded batch equals single structures": _batch,
        "entries by species are in the stated order": _species_order,
    }
    if smooth_cutoff:
        checks["energy, force and its derivative vanish at the cutoff"] = _cutoff
    for index in range(draws):
        u = 0.5 * rng.standard_normal(space.size)
        case = _Case(space.potential(u), space.reach, np.random.default_rng(seed + index), tol)
        for check in checks.values():
            check(case)
    _prior_draws(space, rng)
    _parameter_gradient(template, rng, tol)
    return [*checks, "prior draws are finite", "the posterior's gradient is its derivative"]


@dataclass(frozen=True)
class _Case:
    potential: Potential
    cutoff: float
    rng: np.random.Generator
    tol: Tolerances

    def run(self, *structures: Atoms) -> Labels3:
        p = self.potential
        graph = build_graph(structures, p.species, self.cutoff, triplets=p.needs_triplets)
        return evaluate(p, graph, cutoff=self.cutoff)

    def energy(self, atoms: Atoms) -> float:
        return float(self.run(atoms).energy[0])

    def rattled(self, amplitude: float = 0.08) -> Atoms:
        """Two-atom diamond cell: smaller than the cutoff, so images of images count."""
        atoms = bulk("Si", "diamond", a=5.43)
        names = [self.potential.species[k % len(self.potential.species)] for k in range(2)]
        atoms.set_chemical_symbols(names)
        strain = np.eye(3) + 0.03 * self.rng.standard_normal((3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += amplitude * self.rng.standard_normal((2, 3))
        return atoms

    def cube(self) -> Atoms:
        """Eight atoms, all species, rattled."""
        atoms = bulk("Si", "diamond", a=5.43, cubic=True)
        n = len(self.potential.species)
        atoms.set_chemical_symbols([self.potential.species[k % n] for k in range(8)])
        atoms.positions += 0.1 * self.rng.standard_normal((8, 3))
        return atoms


def _same(name: str, found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    error = float(np.abs(found - expected).max(initial=0.0))
    if not error <= tolerance * scale:
        raise ContractBroken(
            f"{name}: off by {error:.3g}, allowed {tolerance * scale:.1g} "
            f"(found {found.ravel()[:4]}, expected {expected.ravel()[:4]})"
        )


def _forces(case: _Case) -> None:
    atoms = case.cube()
    forces = case.run(atoms).forces
    for a, k in ((0, 0), (3, 1), (6, 2)):
        plus, minus = atoms.copy(), atoms.copy()
        plus.positions[a, k] += STEP
        minus.positions[a, k] -= STEP
        slope = (case.energy(plus) - case.energy(minus)) / (2 * STEP)
        _same("forces are -dE/dR", forces[a, k], -slope, case.tol.derivative)


def _stress(case: _Case) -> None:
    atoms = case.rattled()
    stress = case.run(atoms).stress[0]
    for component, (a, b) in enumerate(VOIGT):
        energies = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[a, b] = strain[b, a] = sign * STEP * (1.0 if a == b else 0.5)
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            energies.append(case.energy(strained))
        slope = (energies[0] - energies[1]) / (2 * STEP) / atoms.get_volume()
        _same("stress is dE/d(strain)/V", stress[component], slope, case.tol.derivative)


def _invariance(case: _Case) -> None:
    atoms = case.cube()
    reference = case.run(atoms)
    name = "translation, rotation, permutation and lattice vectors change nothing"
    moved = atoms.copy()
    moved.positions += case.rng.standard_normal(3)
    moved.positions[2] += atoms.cell.array[1]
    out = case.run(moved)
    _same(name, out.energy, reference.energy, case.tol.exact)
    _same(name, out.forces, reference.forces, case.tol.exact)
    rotation, _ = np.linalg.qr(case.rng.standard_normal((3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ rotation.T)
    turned.positions = atoms.positions @ rotation.T
    out = case.run(turned)
    _same(name, out.energy, reference.energy, case.tol.exact)
    _same(name, out.forces, reference.forces @ rotation.T, case.tol.exact)
    order = case.rng.permutation(len(atoms))
    out = case.run(atoms[order])
    _same(name, out.energy, reference.energy, case.tol.exact)
    _same(name, out.forces, reference.forces[order], case.tol.exact)


def _net_force(case: _Case) -> None:
    forces = case.run(case.cube()).forces
    _same("forces sum to zero", forces.sum(axis=0) / max(1.0, np.abs(forces).max()), np.zeros(3),
          case.tol.exact)


def _supercell(case: _Case) -> None:
    atoms = case.rattled()
    big = make_supercell(atoms, [[2, 0, 0], [0, 1, 0], [1, 0, 3]])
    one, six = case.run(atoms), case.run(big)
    name = "a doubled cell has twice the energy; small cells see all images"
    _same(name, six.energy[0] / 6, one.energy[0], case.tol.exact)
    _same(name, six.stress, one.stress, case.tol.exact)


def _batch(case: _Case) -> None:
    structures = [case.cube(), case.rattled(), case.cube()]
    together = case.run(*structures)
    alone = [case.run(s) for s in structures]
    name = "a padded batch equals single structures"
    _same(name, together.energy, np.concatenate([a.energy for a in alone]), case.tol.exact)
    _same(name, together.forces, np.concatenate([a.forces for a in alone]), case.tol.exact)
    _same(name, together.stress, np.concatenate([a.stress for a in alone]), case.tol.exact)


def _species_order(case: _Case) -> None:
    """Reversing the species and their entries must change nothing."""
    p = case.potential
    if len(p.species) == 1:
        return
    reversed_names = tuple(reversed(p.species))
    values = {}
    hypers = {name: getattr(p, name) for name in p.hypers()}
    empty = type(p)(species=reversed_names, **hypers)
    for item in p.parameters():
        old = p.coordinates(item.per)
        index = {_canonical(name): k for k, name in enumerate(old)}
        order = [index[_canonical(name)] for name in empty.coordinates(item.per)]
        values[item.name] = np.asarray(getattr(p, item.name))[order]
    other = _Case(type(p)(species=reversed_names, **values, **hypers), case.cutoff, case.rng,
                  case.tol)
    atoms = case.cube()
    name = "entries by species are in the stated order"
    _same(name, other.run(atoms).energy, case.run(atoms).energy, case.tol.exact)
    _same(name, other.run(atoms).forces, case.run(atoms).forces, case.tol.exact)


def _canonical(name: str) -> tuple[str, ...]:
    """A species combination without regard to the order in which it is named."""
    combination, *rest = name.split(":")
    parts = combination.split("-")
    if len(parts) == 3:
        return (parts[1], *sorted((parts[0], parts[2])), *rest)
    return (*sorted(parts), *rest)


def _cutoff(case: _Case) -> None:
    """A pair across the cutoff, beside a third atom so that angles count."""
    p = case.potential
    h = 1e-3
    end = p.reach

    def trio(r: float) -> float:
        names = [p.species[0], p.species[-1], p.species[0]]
        atoms = Atoms(names, positions=[[0, 0, 0], [r, 0, 0], [0, 0.45 * end, 0]], pbc=False)
        return case.energy(atoms)

    far = trio(end + 10.0)
    scale = max(abs(trio(0.45 * end) - far), 1e-3)
    below = np.array([trio(end - k * h) - far for k in range(4)])
    name = "energy, force and its derivative vanish at the cutoff"
    slope = (below[0] - below[1]) / h
    curvature = (2 * below[0] - 5 * below[1] + 4 * below[2] - below[3]) / h**2
    for value, power in ((below[0], 0), (slope, 1), (curvature, 2)):
        # One-sided differences of a C2 function see at most its third derivative times h.
        allowed = case.tol.cutoff * 10.0 ** (2 * power) * scale
        if not abs(value) <= allowed:
            raise ContractBroken(
                f"{name}: derivative {power} at {end:.3f} Å is {value:.3g} eV/Å^{power}, "
                f"allowed {allowed:.1g}"
            )


def _prior_draws(space: ParameterSpace, rng: np.random.Generator, n: int = 32) -> None:
    u = rng.standard_normal((n, space.size))
    many = space.potential(u)
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    names = space.species
    atoms.set_chemical_symbols([names[k % len(names)] for k in range(8)])
    atoms.positions += 0.05 * rng.standard_normal((8, 3))
    graph = build_graph([atoms], names, space.reach, triplets=space.form.needs_triplets)
    chunk = jax.tree.map(lambda a: jnp.asarray(a[0]), graph.chunks)
    run = jax.jit(evaluate_chunk)
    for k in range(n):
        one = jax.tree.map(lambda a, k=k: a[k], many)
        out = run(one, chunk)
        if not all(np.isfinite(np.asarray(x)).all() for x in out):
            values = dict(zip(space.names, space.physical(u[k]), strict=True))
            raise ContractBroken(
                f"prior draws are finite: {values} gives an energy, force or stress that is not"
            )


def _parameter_gradient(template: Potential, rng: np.random.Generator, tol: Tolerances) -> None:
    """Gradient of the log posterior against central differences."""
    case = _Case(template, 1.0, rng, tol)
    structures = [case.cube(), case.rattled()]
    labels = [
        Labels(-4.0 * len(s), rng.standard_normal((len(s), 3)), 0.05 * rng.standard_normal(6))
        for s in structures
    ]
    problem = FitProblem(template, Dataset.from_atoms(structures, labels))
    u = 0.3 * rng.standard_normal(problem.space.size)
    space = problem.space
    gradient = np.asarray(jax.grad(
        lambda v: log_posterior(space.layout, space.constants, problem.data, v)
    )(jnp.asarray(u)))
    some = rng.permutation(space.size)[:MOST_DERIVATIVES]
    for k in some:
        step = np.zeros(space.size)
        step[k] = STEP
        slope = (problem.log_posterior(u + step) - problem.log_posterior(u - step)) / (2 * STEP)
        _same(f"d log posterior / d {space.names[k]}", gradient[k], slope, tol.derivative)
