r"""Sums over the data of a linear potential: all that its posterior needs.

For each group of structures and kind of label, :math:`Z^T K Z`, :math:`Z^T K r` and
:math:`r^T K r` with the design matrix Z, the residuals r of what is held fixed and the weights
:math:`\kappa`. They are added up block by block; the design matrix is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import linalg

from bayespot.errors import PriorError
from bayespot.evaluate import Labels3, evaluate
from bayespot.likelihood import FitProblem
from bayespot.potentials.linear import Design, LinearPotential

SLICE = 512
"""Rows of the design matrix that are added to a Gram matrix at a time."""


@dataclass(frozen=True)
class Grams:
    """Sums over the data, by group of structures and kind of label; all that the posterior needs.

    p free parameters, g groups (families unless asked otherwise), kinds energy, forces, stress.
    """

    groups: tuple[str, ...]
    families: tuple[str, ...]  # [g] family of each group
    gram: np.ndarray  # [g, 3, p, p]
    cross: np.ndarray  # [g, 3, p]
    squares: np.ndarray  # [g, 3]
    counts: np.ndarray  # [g, 3] sum of the weights kappa
    floor: np.ndarray  # [g, 3] variance of the DFT floor

    def select(self, groups: Sequence[str]) -> Grams:
        """The sums over some of the groups: for leaving others out."""
        keep = [k for k, name in enumerate(self.groups) if name in set(groups)]
        return Grams(
            tuple(self.groups[k] for k in keep), tuple(self.families[k] for k in keep),
            self.gram[keep], self.cross[keep],
            self.squares[keep], self.counts[keep], self.floor[keep],
        )


def require_linear(problem: FitProblem) -> LinearPotential:
    """The problem's potential, if its posterior is Gaussian at fixed noise.

    Raises
    ------
    PriorError
        If the potential is not linear, or a parameter that is not linear is sampled, or a prior is
        not normal and unbounded.
    """
    potential, space = problem.initial, problem.space
    if not isinstance(potential, LinearPotential):
        raise PriorError(
            f"{type(potential).__name__} is not linear in its parameters: use nuts or laplace; "
            "linear_gaussian serves forms that derive from LinearPotential"
        )
    for name, prior in list(zip(space.names, space.priors, strict=True))[: space.layout.n_theta]:
        if name.split("[")[0] not in ("c", "e0"):
            raise PriorError(f"{name} is sampled but the energy is not linear in it: fix it")
        if prior.kind != "normal" or prior.bounded:
            raise PriorError(
                f"the prior of {name} is {prior.describe()}: the closed form needs a normal prior "
                "without bounds; use nuts for others"
            )
    return potential


def require_normal(problem: FitProblem, method: str) -> None:
    """Raise `PriorError` if the noise has tails, which no Gram matrix can hold."""
    if (tails := problem.space.tails) != "normal":
        raise PriorError(
            f"{method} with tails={tails!r}: the closed form is that of normal noise; use "
            "nuts, or tails='normal'"
        )


def columns_of(problem: FitProblem) -> np.ndarray:
    """Which rows of a `Design` belong to the free parameters, in their order."""
    start, rows = 0, {}
    for name, size in problem.space.layout.sizes:
        rows[name] = np.arange(start, start + size)
        start += size
    position = np.full(start, -1)
    position[rows["c"]] = np.arange(len(rows["c"]))
    position[rows["e0"]] = len(rows["c"]) + np.arange(len(rows["e0"]))
    return position[list(problem.space.layout.free)]


def _held(problem: FitProblem) -> Labels3:
    """Predictions with the free parameters at zero: the core, and what the user has fixed."""
    space, values = problem.space, np.array(problem.space.constants.values)
    values[list(space.layout.free)] = 0.0
    start, leaves = 0, {}
    for name, size in space.layout.sizes:
        leaves[name] = values[start : start + size]
        start += size
    rest = problem.initial.replace(**leaves)
    if not (rest.c.any() or rest.e0.any()) and (rest := rest.held()) is None:
        graph = problem.graph
        return Labels3(np.zeros(graph.n_structures), np.zeros((graph.n_atoms, 3)),
                       np.zeros((graph.n_structures, 6)))
    return evaluate(rest, problem.graph, cutoff=problem.cutoff)


def residual_labels(problem: FitProblem) -> Labels3:
    """Labels (energies per atom) minus what is held fixed, in the order of the structures."""
    labels, held = problem.unpadded(problem.data.labels), _held(problem)
    atoms = problem.graph.by_structure(problem.data.atoms)
    return Labels3(labels.energy - held.energy / atoms, labels.forces - held.forces,
                   labels.stress - held.stress)


def collect_grams(problem: FitProblem, groups: Sequence[str] | None = None) -> Grams:
    """Pass over the data once and add up the Gram matrices.

    Parameters
    ----------
    problem : FitProblem or StreamedProblem
        With a `LinearPotential`.
    groups : sequence of str, optional
        A name for every structure, in addition to its family: the folds of a cross-validation.
        Structures of one family have one DFT floor, so groups are within families.
    """
    require_linear(problem)
    columns, sums, pending, first = columns_of(problem), {}, _Pending(), 0
    for part in problem.parts():
        families = part.dataset.families
        own = ("",) * len(families) if groups is None else groups[first : first + len(families)]
        first += len(families)
        _add(part, list(zip(own, families, strict=True)), columns, sums, pending)
        del part  # before the next one is made
    pending.flush()
    groups, families = zip(*sums, strict=True)
    gram, cross, squares, counts, floor, low, high, sizes = (
        np.stack(arrays) for arrays in zip(*sums.values(), strict=True)
    )
    # The mean of equal numbers is that number, whatever the order of the sum.
    floor = np.where(low == high, low, floor / sizes[:, None])
    for matrix in gram.reshape(-1, len(columns), len(columns)):
        matrix += np.triu(matrix, 1).T
    return Grams(groups, families, gram, cross, squares, counts, floor)


class _Sums(NamedTuple):
    """The sums of one group, added to in place."""

    gram: np.ndarray  # [3, p, p] upper triangle
    cross: np.ndarray  # [3, p]
    squares: np.ndarray  # [3]
    counts: np.ndarray  # [3]
    floor: np.ndarray  # [3] sum over structures
    low: np.ndarray  # [3] the smallest floor
    high: np.ndarray  # [3] the largest
    size: np.ndarray  # [] structures


def _add(problem: FitProblem, names: list[tuple[str, str]], columns: np.ndarray,
         sums: dict[tuple[str, str], _Sums], pending: _Pending) -> None:
    """Add the structures of a problem to the sums of their groups (and families)."""
    p, graph = len(columns), problem.graph
    order = list(dict.fromkeys(names))
    group = np.array([order.index(name) for name in names])
    floor = problem.floor_by_structure()
    for g, name in enumerate(order):
        if name not in sums:
            sums[name] = _Sums(np.zeros((3, p, p)), np.zeros((3, p)), *np.zeros((3, 3)),
                               np.full(3, np.inf), np.zeros(3), np.zeros(()))
        own, rows = sums[name], floor[group == g]
        own.floor[:] += rows.sum(axis=0)
        own.low[:] = np.minimum(own.low, rows.min(axis=0))
        own.high[:] = np.maximum(own.high, rows.max(axis=0))
        own.size[...] += len(rows)
    residual, kappa = residual_labels(problem), problem.unpadded(problem.data.kappa)
    atoms = graph.by_structure(problem.data.atoms)
    for design in problem.initial.design(graph):
        for rows, r, weight, which, k in flat_rows(design, residual, kappa, atoms, columns):
            for g in np.unique(group[which]):
                pick = (group[which] == g) & (weight > 0)
                if pick.any():
                    own, root = sums[order[g]], np.sqrt(weight[pick])
                    z, y = rows[:, pick] * root, r[pick] * root
                    own.cross[k] += z @ y
                    own.squares[k] += y @ y
                    own.counts[k] += weight[pick].sum()
                    pending.add(own.gram[k], z)


class _Pending:
    """Rows that wait until they are many: a pass over a Gram matrix costs more than a few rows.

    They are added in slices of `SLICE`, whatever the blocks in which they come, so that data in
    memory and in a stream have the same sums to the last digit.
    """

    def __init__(self) -> None:
        self.waiting: dict[int, tuple[np.ndarray, list[np.ndarray]]] = {}

    def add(self, gram: np.ndarray, z: np.ndarray) -> None:
        """Add Z Z^T to the upper triangle of ``gram`` [p, p], now or later."""
        # A matrix is known by where its numbers are: each view of it is an object of its own.
        _, rows = self.waiting.setdefault(gram.ctypes.data, (gram, []))
        rows.append(z)
        if sum(part.shape[1] for part in rows) >= SLICE:
            z = np.concatenate(rows, axis=1)
            full = z.shape[1] // SLICE * SLICE
            for start in range(0, full, SLICE):
                _add_product(gram, z[:, start : start + SLICE])
            rows[:] = [z[:, full:].copy()]

    def flush(self) -> None:
        """Add all that waits."""
        for gram, rows in self.waiting.values():
            _add_product(gram, np.concatenate(rows, axis=1))
        self.waiting.clear()


def _add_product(gram: np.ndarray, z: np.ndarray) -> None:
    """Add Z Z^T to the upper triangle, without the functions that are zero: of absent species."""
    used = np.flatnonzero(z.any(axis=1))
    if not len(used):
        return
    if len(used) == len(gram):
        linalg.blas.dsyrk(1.0, np.asfortranarray(z), beta=1.0, c=gram.T, lower=1, overwrite_c=1)
    else:
        gram[np.ix_(used, used)] += linalg.blas.dsyrk(1.0, np.asfortranarray(z[used]))


def crosses(problem: FitProblem, residuals: Labels3, grams: Grams, groups: Sequence[str]
            ) -> np.ndarray:
    r""":math:`Z^T K r` for many residuals of the same data, [g, 3, p, n].

    ``residuals`` have a leading axis [n], energies per atom; ``grams`` and ``groups`` are those of
    `collect_grams`.
    """
    order = list(zip(grams.groups, grams.families, strict=True))
    names = zip(groups, problem.dataset.families, strict=True)
    group = np.array([order.index(name) for name in names])
    columns, atoms = columns_of(problem), problem.graph.by_structure(problem.data.atoms)
    kappa, n = problem.unpadded(problem.data.kappa), len(residuals.energy)
    found = np.zeros((len(order), 3, len(columns), n))
    for design in problem.initial.design(problem.graph):
        a, s = design.block.atoms, design.block.structures
        values = (residuals.energy[:, s], residuals.forces[:, a].reshape(n, -1),
                  residuals.stress[:, s].reshape(n, -1))
        for rows, _, weight, which, k in flat_rows(design, kappa, kappa, atoms, columns):
            for g in np.unique(group[which]):
                pick = (group[which] == g) & (weight > 0)
                found[g, k] += (rows[:, pick] * weight[pick]) @ values[k][:, pick].T
    return found


def flat_rows(design: Design, residual: Labels3, kappa: Labels3, atoms: np.ndarray,
              columns: np.ndarray) -> list[tuple]:
    """(rows [p, n], residuals, weights, structure of each, kind) of a block, by kind of label."""
    block = design.block
    s, a = block.structures, block.atoms
    p = len(columns)
    return [
        (design.energy[columns] / atoms[s], residual.energy[s], kappa.energy[s], s, 0),
        (design.forces[columns].reshape(p, -1), residual.forces[a].ravel(),
         kappa.forces[a].ravel(), np.repeat(s[block.structure], 3), 1),
        (design.stress[columns].reshape(p, -1), residual.stress[s].ravel(),
         kappa.stress[s].ravel(), np.repeat(s, 6), 2),
    ]
