r"""Tables of the basis functions of a linear ACE, and how their couplings are contracted.

Everything about the basis that does not depend on a structure; the functions themselves are in
`bayespot.potentials.ace_functions`.

References
----------
R. Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import combinations_with_replacement
from math import inf
from typing import Any, NamedTuple

import numpy as np

from bayespot.potentials.ace_functions import couplings, independent


class Plan(NamedTuple):
    """How to contract a coupling with all factors but one."""

    ls: tuple[int, ...]  # angular degrees of the others
    q: tuple[np.ndarray, ...]  # the others: one by one, the last two as couples that differ
    where: np.ndarray  # [T] number of the couple
    tensor: np.ndarray  # the coupling, this factor first


@dataclass(frozen=True, eq=False)
class Group:
    """Basis functions of one centre that share their angular degrees and their coupling.

    A factor ``q`` numbers neighbour species and radial degree, q = species * n_radial + n.
    """

    ls: tuple[int, ...]  # angular degrees, ascending
    q: np.ndarray  # [T, order] factors
    functions: np.ndarray  # [T] numbers of the basis functions
    tensor: np.ndarray  # [2 l1 + 1, 2 l2 + 1, ...] coupling of the factors
    through: int  # degree L to which four factors are coupled in pairs

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """How to contract the factors besides each one."""
        found = []
        for position in range(len(self.ls)):
            rest = [k for k in range(len(self.ls)) if k != position]
            rows, where = self.q[:, rest], np.arange(len(self.q))
            couples = rows
            if len(rest) > 1:
                couples, where = np.unique(rows[:, -2:], axis=0, return_inverse=True)
            found.append(Plan(
                tuple(self.ls[k] for k in rest), (*rows[:, :-2].T, *couples.T),
                where.reshape(-1), np.ascontiguousarray(np.moveaxis(self.tensor, position, 0)),
            ))
        return tuple(found)

    @cached_property
    def again(self) -> np.ndarray:
        """Whether a factor is the one before it, [T, order]; the first never is."""
        return _again(self.ls, self.q)


def _again(ls: tuple[int, ...], q: np.ndarray) -> np.ndarray:
    found = np.zeros(q.shape, bool)
    found[:, 1:] = (q[:, 1:] == q[:, :-1]) & (np.diff(ls) == 0)
    return found


@dataclass(frozen=True, eq=False)
class Basis:
    """All basis functions of a centre; the same for every species of the centre."""

    n_species: int
    n_radial: int
    l_max: int
    groups: tuple[Group, ...]
    order: np.ndarray  # [B] correlation order
    n_sum: np.ndarray  # [B] sum of radial degrees
    l_sum: np.ndarray  # [B] sum of angular degrees

    @property
    def size(self) -> int:
        """Basis functions of one centre."""
        return len(self.order)

    def factors(self, function: int) -> list[tuple[int, int, int]]:
        """(species, n, l) of every factor of a basis function."""
        for group in self.groups:
            row = np.flatnonzero(group.functions == function)
            if row.size:
                return [
                    (int(q) // self.n_radial, int(q) % self.n_radial, ell)
                    for q, ell in zip(group.q[row[0]], group.ls, strict=True)
                ]
        raise IndexError(f"there is no basis function {function}")


def _angular_sets(order: int, degree: float, weight: float, largest: float
                  ) -> list[tuple[int, ...]]:
    """Ascending degrees that couple to an invariant of even parity within the total degree."""
    most = int(min(degree / weight + 1e-9, largest))
    sets = combinations_with_replacement(range(most + 1), order)
    within = [ls for ls in sets if weight * sum(ls) <= degree + 1e-9]
    if order == 1:
        return [ls for ls in within if ls == (0,)]
    if order == 2:
        return [ls for ls in within if ls[0] == ls[1]]
    return [ls for ls in within if sum(ls) % 2 == 0 and ls[-1] <= sum(ls[:-1])]


def _radial_sets(ls: tuple[int, ...], n_species: int, n_radial: int, most: int) -> np.ndarray:
    """Factors q of every function with these angular degrees; equal degrees are sorted."""
    n_factors = n_species * n_radial
    cost = np.arange(n_factors) % n_radial
    rows = [(q,) for q in range(n_factors) if cost[q] <= most]
    for k in range(1, len(ls)):
        same = ls[k] == ls[k - 1]
        rows = [
            (*row, q) for row in rows for q in range(row[-1] if same else 0, n_factors)
            if sum(cost[t] for t in row) + cost[q] <= most
        ]
    return np.array(rows, dtype=np.int64).reshape(-1, len(ls))


def _by_coupling(ls: tuple[int, ...], q: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of factors by the L of `couplings` that they have."""
    if len(ls) < 4:
        return {0: q}
    have = [independent(ls, tuple(row)) for row in _again(ls, q).tolist()]
    return {
        ell: rows for ell in couplings(ls)
        if len(rows := q[[ell in those for those in have]])
    }


@cache
def make_basis(n_species: int, degrees: Sequence[float], weight: float, largest: float = inf
               ) -> Basis:
    r"""Basis functions of one centre within a total degree for each correlation order.

    A function of order :math:`\nu` is kept if :math:`\sum_t (n_t + w\, l_t) \le D_\nu`, with radial
    degrees from zero.

    Parameters
    ----------
    n_species : int
    degrees : tuple of float
        :math:`D_1, D_2, \ldots`, at most four; a negative one leaves the order out.
    weight : float
        Cost w of an angular degree in radial degrees.
    largest : float
        The largest angular degree of a factor.
    """
    n_radial = int(max(degrees)) + 1
    groups, order, n_sum, l_sum = [], [], [], []
    for nu, degree in enumerate(degrees, start=1):
        if degree < 0:
            continue
        for ls in _angular_sets(nu, degree, weight, largest):
            q = _radial_sets(ls, n_species, n_radial, int(degree - weight * sum(ls) + 1e-9))
            for through, rows in _by_coupling(ls, q).items():
                functions = len(order) + np.arange(len(rows))
                groups.append(Group(ls, rows, functions, couplings(ls)[through], through))
                order += [nu] * len(rows)
                n_sum += list((rows % n_radial).sum(axis=1))
                l_sum += [sum(ls)] * len(rows)
    l_max = max((max(g.ls) for g in groups), default=0)
    return Basis(
        n_species, n_radial, l_max, tuple(groups), np.array(order), np.array(n_sum),
        np.array(l_sum),
    )


def contracted(plan: Plan, moments: list[Any]) -> Any:
    """Sums of a coupling with all factors but one, [2 l + 1, T, N].

    ``moments[l]`` is [2 l + 1, Q, N], of NumPy or of JAX.
    """
    tensor, n = plan.tensor, moments[0].shape[2]
    if tensor.ndim == 1:
        return np.ones((1, len(plan.where), n))
    last = moments[plan.ls[-1]][:, plan.q[-1]]
    if tensor.ndim == 2:
        return last
    before = moments[plan.ls[-2]][:, plan.q[-2]]
    products = (before[:, None] * last[None]).reshape(-1, last.shape[1] * n)
    value = tensor.reshape(-1, len(products)) @ products
    value = value.reshape(-1, last.shape[1], n)[:, plan.where]
    if tensor.ndim == 4:
        first = moments[plan.ls[0]][:, plan.q[0]]
        value = (value.reshape(len(tensor), -1, *value.shape[1:]) * first).sum(axis=1)
    return value
