r"""The design matrix of a linear ACE: energy, force and stress of every basis function.

A basis function is a polynomial of the atomic moments :math:`A_{qlm}(i)`, so its force rows are

.. math::
   \frac{\partial B_b}{\partial x} = \sum_{qlm} \sum_i
   \frac{\partial B_b}{\partial A_{qlm}(i)}\, \frac{\partial A_{qlm}(i)}{\partial x}

For each channel (q, l) the sum over atoms and m is one dense product of two matrices, with the rows
of those functions only that contain the channel. That costs as many multiplications as there are
nonzero terms and runs at the speed of the BLAS; reverse-mode differentiation would need one pass
for each function.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bayespot.potentials.ace_basis import Basis, contracted
from bayespot.potentials.ace_functions import distance_map, harmonics, radial
from bayespot.potentials.linear import Block
from bayespot.units import VOIGT


@dataclass(frozen=True)
class Rows:
    """Derivatives of basis functions with respect to the moments of one angular degree."""

    q: np.ndarray  # [R] channel
    function: np.ndarray  # [R]
    value: np.ndarray  # [2 l + 1, R, N]


def polynomials(basis: Basis, moments: list[np.ndarray]) -> tuple[np.ndarray, list[Rows]]:
    """Basis functions [B, N] and their derivatives by angular degree.

    ``moments[l]`` is [2 l + 1, Q, N].
    """
    n = moments[0].shape[2]
    functions = np.empty((basis.size, n))
    found: list[list[tuple]] = [[] for _ in range(basis.l_max + 1)]
    for group in basis.groups:
        values = [contracted(plan, moments) for plan in group.plans]
        own = moments[group.ls[0]][:, group.q[:, 0]]
        functions[group.functions] = np.einsum("mtn,mtn->tn", own, values[0])
        for position, ell in reversed(list(enumerate(group.ls))):
            # Equal factors stand side by side: the row of the first is the sum over all.
            again = group.again[:, position]
            if again.any():
                values[position - 1][:, again] += values[position][:, again]
            found[ell].append((group.q[~again, position], group.functions[~again],
                               values[position][:, ~again]))
    rows = [
        Rows(*(np.concatenate([part[k] for part in parts], axis=axis)
               for k, axis in ((0, 0), (1, 0), (2, 1))))
        for parts in found
    ]
    return functions, rows


@dataclass(frozen=True)
class _Shell:
    """Edges from the centres of one species to the neighbours of one species."""

    edges: np.ndarray  # [E]
    row: np.ndarray  # [E] number of the centre among those of its species
    slot: np.ndarray  # [E] number of the edge within its centre
    width: int  # most edges of a centre
    runs: np.ndarray  # [U] first edge of each couple of atoms (several images make one run)
    target: np.ndarray  # [U] row * N + neighbour

    def pad(self, values: np.ndarray, n_rows: int) -> np.ndarray:
        """Values of edges [E, ...] as [n_rows, width, ...]."""
        out = np.zeros((n_rows, self.width, *values.shape[1:]))
        out[self.row, self.slot] = values
        return out


def _shells(block: Block, centers: np.ndarray, n_species: int) -> list[_Shell]:
    n = len(block.species)
    row_of = np.full(n, -1)
    row_of[centers] = np.arange(len(centers))
    shells = []
    for kind in range(n_species):
        edges = np.flatnonzero(
            (row_of[block.center] >= 0) & (block.species[block.neighbor] == kind)
        )
        row = row_of[block.center[edges]]
        counts = np.bincount(row, minlength=len(centers))
        slot = np.arange(len(edges)) - (np.cumsum(counts) - counts)[row]
        target = row * n + block.neighbor[edges]
        runs = np.flatnonzero(np.diff(target, prepend=-1))
        shells.append(_Shell(edges, row, slot, int(counts.max(initial=0)), runs, target[runs]))
    return shells


@dataclass(frozen=True)
class _Geometry:
    """Radial and angular functions of the edges of a block."""

    radial: np.ndarray  # [E, n]
    slope: np.ndarray  # [E, n]
    over_r: np.ndarray  # [E, n]
    angular: list[np.ndarray]  # by l: [E, 2 l + 1]
    along: list[np.ndarray]  # by l: [E, 2 l + 1, 3], Y times the direction
    across: list[np.ndarray]  # by l: [E, 2 l + 1, 3], tangential gradient times r


def _geometry(basis: Basis, block: Block, r0: np.ndarray, cutoff: np.ndarray,
              powers: tuple[float, float]) -> _Geometry:
    r, u = block.distance, block.direction
    x, dx = distance_map(r, r0[block.pair_species], cutoff[block.pair_species], *powers)
    value, slope = (np.stack(f, axis=1) for f in radial(x, dx, basis.n_radial - 1))
    angular, along, across = [], [], []
    for y, g in zip(*harmonics(u, basis.l_max), strict=True):
        y = np.stack(y, axis=1)
        g = np.stack([np.stack(part, axis=-1) for part in g], axis=1)
        angular.append(y)
        along.append(y[:, :, None] * u[:, None])
        across.append(g - (g * u[:, None]).sum(axis=2, keepdims=True) * u[:, None])
    return _Geometry(value, slope, value / r[:, None], angular, along, across)


def design_block(basis: Basis, block: Block, r0: np.ndarray, cutoff: np.ndarray,
                 powers: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy [K B, S], forces [K B, N, 3] and stress [K B, S, 6] for K species of the centre."""
    n, s = len(block.species), len(block.structures)
    size, kinds = basis.size, basis.n_species
    energy = np.zeros((kinds * size, s))
    forces, stress = np.zeros((kinds * size, 3 * n)), np.zeros((kinds * size, 6 * s))
    geometry = _geometry(basis, block, r0, cutoff, powers)
    for kind in range(kinds):
        centers = np.flatnonzero(block.species == kind)
        if not len(centers):
            continue
        shells = _shells(block, centers, kinds)
        moments = _moments(basis, geometry, shells, len(centers))
        functions, rows = polynomials(basis, moments)
        part = slice(kind * size, (kind + 1) * size)
        membership = block.structure[centers][:, None] == np.arange(s)
        energy[part] = functions @ membership
        for ell, row in enumerate(rows):
            order = np.argsort(row.q, kind="stable")
            starts = np.searchsorted(row.q[order], np.arange(kinds * basis.n_radial + 1))
            used = starts[1:] > starts[:-1]
            for q, moved, strain in _slabs(basis, block, geometry, shells, centers, ell, used):
                pick = order[starts[q] : starts[q + 1]]
                left = row.value[:, pick].transpose(1, 0, 2).reshape(len(pick), -1)
                forces[part][row.function[pick]] += left @ moved
                stress[part][row.function[pick]] += left @ strain
    return energy, forces.reshape(-1, n, 3), stress.reshape(-1, s, 6)


def _moments(basis: Basis, geometry: _Geometry, shells: list[_Shell], n: int) -> list[np.ndarray]:
    """Moments by angular degree, [2 l + 1, Q, n]."""
    moments = [np.zeros((2 * ell + 1, basis.n_species, basis.n_radial, n))
               for ell in range(basis.l_max + 1)]
    for kind, shell in enumerate(shells):
        value = shell.pad(geometry.radial[shell.edges], n).transpose(0, 2, 1)
        for ell, out in enumerate(moments):
            y = shell.pad(geometry.angular[ell][shell.edges], n)
            out[:, kind] = (value @ y).transpose(2, 1, 0)
    return [m.reshape(m.shape[0], -1, n) for m in moments]


def _slabs(basis: Basis, block: Block, geometry: _Geometry, shells: list[_Shell],
           centers: np.ndarray, ell: int, used: np.ndarray
           ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For every channel in use minus dA(i)/dx and dA(i)/d(strain)/V: [(m, i), 3 N], [(m, i), 6 S].

    The arrays are overwritten when the next channel is asked for.
    """
    n, s, n_rows, m = len(block.species), len(block.structures), len(centers), 2 * ell + 1
    own = np.arange(n_rows) * n + centers
    at_structure = np.arange(n_rows) * s + block.structure[centers]
    volume = block.volume[block.structure[centers]][:, None]
    strain = np.zeros((m, n_rows * s, 6))
    for kind, shell in enumerate(shells):
        channels = np.flatnonzero(used[kind * basis.n_radial : (kind + 1) * basis.n_radial])
        if not len(channels) or not len(shell.edges):
            continue
        edges = shell.edges
        slope, over_r = geometry.slope[edges].T, geometry.over_r[edges].T
        along, across = geometry.along[ell][edges], geometry.across[ell][edges]
        sums = _sums(shell, n_rows, (slope, along), (over_r, across),
                     block.direction[edges] * block.distance[edges, None])
        along, across = (np.negative(v.transpose(1, 0, 2), order="C") for v in (along, across))
        moved = np.zeros((m, n_rows * n, 3))
        # Fresh arrays of this size cost more than the arithmetic: the same two serve all channels.
        gradient, other = np.empty_like(along), np.empty_like(along)
        total = None if len(shell.runs) == len(edges) else np.empty((m, len(shell.runs), 3))
        for k in channels:
            np.multiply(along, slope[k][:, None], out=gradient)
            np.multiply(across, over_r[k][:, None], out=other)
            gradient += other
            if total is not None:
                np.add.reduceat(gradient, shell.runs, axis=1, out=total)
            moved[:, own] = 0.0
            moved[:, shell.target] = gradient if total is None else total
            moved[:, own] += sums[:, :, k, :3]
            strain[:, at_structure] = sums[:, :, k, 3:] / volume
            yield (kind * basis.n_radial + int(k), moved.reshape(m * n_rows, -1),
                   strain.reshape(m * n_rows, -1))


def _sums(shell: _Shell, n_rows: int, radial_part: tuple, tangential_part: tuple,
          vector: np.ndarray) -> np.ndarray:
    """Gradient of the moments summed over the edges of a centre, and its virial.

    [2 l + 1, rows, n, 9]: three components of the sum, six of the virial.
    """
    total = 0.0
    for scalars, kernel in (radial_part, tangential_part):
        left = shell.pad(scalars.T, n_rows).transpose(0, 2, 1)
        right = np.zeros((n_rows, shell.width, 9, kernel.shape[1]))
        parts = kernel.transpose(0, 2, 1)
        right[shell.row, shell.slot, :3] = parts
        for k, (a, b) in enumerate(VOIGT):
            right[shell.row, shell.slot, 3 + k] = vector[:, a, None] * parts[:, b]
        total = total + left @ right.reshape(n_rows, shell.width, -1)
    return total.reshape(*total.shape[:2], 9, -1).transpose(3, 0, 1, 2)
