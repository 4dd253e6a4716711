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
from itertools import pairwise

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
    """Edges from the centres of one species to the neighbours of one species.

    The first edge of every couple of atoms, then the second one of those with several images, and
    so on: within a layer no couple comes twice.
    """

    edges: np.ndarray  # [E]
    row: np.ndarray  # [E] number of the centre among those of its species
    slot: np.ndarray  # [E] number of the edge within its centre
    width: int  # most edges of a centre
    layers: list[tuple[slice, np.ndarray]]  # edges, and the couple of each: row * N + neighbour

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
        couple = row * n + block.neighbor[edges]
        starts = np.flatnonzero(np.diff(couple, prepend=-1))
        lengths = np.diff(starts, append=len(edges))
        layer = np.arange(len(edges)) - np.repeat(starts, lengths)
        counts = np.bincount(row, minlength=len(centers))
        slot = np.arange(len(edges)) - (np.cumsum(counts) - counts)[row]
        order = np.argsort(layer, kind="stable")
        ends = np.cumsum([0, *np.bincount(layer)])
        layers = [(slice(*part), couple[order[slice(*part)]]) for part in pairwise(ends)]
        shells.append(_Shell(edges[order], row[order], slot[order], int(counts.max(initial=0)),
                             layers))
    return shells


@dataclass(frozen=True)
class _Geometry:
    """Radial and angular functions of the edges of a block, edges last.

    What is done for every channel runs over the last axis, which is why it is a long one.
    """

    radial: np.ndarray  # [n, E]
    slope: np.ndarray  # [n, E]
    over_r: np.ndarray  # [n, E]
    angular: list[np.ndarray]  # by l: [2 l + 1, E]
    along: list[np.ndarray]  # by l: [3, 2 l + 1, E], Y times the direction
    across: list[np.ndarray]  # by l: [3, 2 l + 1, E], tangential gradient times r


def _geometry(basis: Basis, block: Block, r0: np.ndarray, cutoff: np.ndarray,
              powers: tuple[float, float]) -> _Geometry:
    r, u = block.distance, np.ascontiguousarray(block.direction.T)
    x, dx = distance_map(r, r0[block.pair_species], cutoff[block.pair_species], *powers)
    value, slope = (np.stack(f) for f in radial(x, dx, basis.n_radial - 1))
    angular, along, across = [], [], []
    for y, g in zip(*harmonics(block.direction, basis.l_max), strict=True):
        y, g = np.stack(y), np.stack([np.stack(part) for part in g], axis=1)
        angular.append(y)
        along.append(y * u[:, None])
        across.append(g - (g * u[:, None]).sum(axis=0) * u[:, None])
    return _Geometry(value, slope, value / r, angular, along, across)


def design_block(basis: Basis, block: Block, r0: np.ndarray, cutoff: np.ndarray,
                 powers: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy [K B, S], forces [K B, N, 3] and stress [K B, S, 6] for K species of the centre."""
    n, s = len(block.species), len(block.structures)
    size, kinds = basis.size, basis.n_species
    energy = np.zeros((kinds * size, s))
    forces, stress = np.zeros((3, kinds * size, n)), np.zeros((kinds * size, 6 * s))
    geometry = _geometry(basis, block, r0, cutoff, powers)
    for kind in range(kinds):
        centers = np.flatnonzero(block.species == kind)
        if not len(centers):
            continue
        shells = _shells(block, centers, kinds)
        moments = _moments(basis, geometry, shells, len(centers))
        left = _lefts(geometry, shells, block, len(centers))
        functions, rows = polynomials(basis, moments)
        part = slice(kind * size, (kind + 1) * size)
        membership = block.structure[centers][:, None] == np.arange(s)
        energy[part] = functions @ membership
        for ell, row in enumerate(rows):
            order = np.argsort(row.q, kind="stable")
            starts = np.searchsorted(row.q[order], np.arange(kinds * basis.n_radial + 1))
            used = starts[1:] > starts[:-1]
            slabs = _slabs(basis, block, geometry, shells, left, centers, ell, used)
            for q, moved, strain in slabs:
                pick = order[starts[q] : starts[q + 1]]
                weight = row.value[:, pick].transpose(1, 0, 2).reshape(len(pick), -1)
                for out, component in zip(forces[:, part], moved, strict=True):
                    out[row.function[pick]] += weight @ component
                stress[part][row.function[pick]] += weight @ strain
    return energy, np.ascontiguousarray(forces.transpose(1, 2, 0)), stress.reshape(-1, s, 6)


def _moments(basis: Basis, geometry: _Geometry, shells: list[_Shell], n: int) -> list[np.ndarray]:
    """Moments by angular degree, [2 l + 1, Q, n]."""
    moments = [np.zeros((2 * ell + 1, basis.n_species, basis.n_radial, n))
               for ell in range(basis.l_max + 1)]
    for kind, shell in enumerate(shells):
        value = shell.pad(geometry.radial.T[shell.edges], n).transpose(0, 2, 1)
        for ell, out in enumerate(moments):
            y = shell.pad(geometry.angular[ell].T[shell.edges], n)
            out[:, kind] = (value @ y).transpose(2, 1, 0)
    return [m.reshape(m.shape[0], -1, n) for m in moments]


def _slabs(basis: Basis, block: Block, geometry: _Geometry, shells: list[_Shell],
           left: list[np.ndarray], centers: np.ndarray, ell: int, used: np.ndarray
           ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For every channel in use minus dA(i)/dx and dA(i)/d(strain)/V.

    [3, (m, i), N] and [(m, i), 6 S]; overwritten when the next channel is asked for.
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
        kernels = tuple(v[ell][:, :, shell.edges] for v in (geometry.along, geometry.across))
        sums = _sums(shell, n_rows, left[kind][:, : channels[-1] + 1], kernels)
        kernels = tuple(-v.reshape(3 * m, -1) for v in kernels)
        scalars = geometry.slope[:, shell.edges], geometry.over_r[:, shell.edges]
        # The first layer as dense as the product that it goes into: no scattering.
        edges, couples = shell.layers[0]
        dense = [np.zeros((len(v), n_rows * n)) for v in (*kernels, *scalars)]
        for full, v in zip(dense, (*kernels, *scalars), strict=True):
            full[:, couples] = v[:, edges]
        moved, other = np.empty((3 * m, n_rows * n)), np.empty(n_rows * n)
        for k in channels:
            slope, over_r = dense[2][k], dense[3][k]
            for out, along, across in zip(moved, *dense[:2], strict=True):
                np.multiply(along, slope, out=out)
                np.multiply(across, over_r, out=other)
                out += other
            for edges, couples in shell.layers[1:]:
                moved[:, couples] += (kernels[0][:, edges] * scalars[0][k, edges]
                                      + kernels[1][:, edges] * scalars[1][k, edges])
            moved[:, own] += sums[:, k, 0].reshape(n_rows, -1).T
            strain[:, at_structure] = np.stack(
                [sums[:, k, 1 + a, b] for a, b in VOIGT], axis=-1
            ).transpose(1, 0, 2) / volume
            yield (kind * basis.n_radial + int(k), moved.reshape(3, m * n_rows, n),
                   strain.reshape(m * n_rows, -1))


def _lefts(geometry: _Geometry, shells: list[_Shell], block: Block, n: int) -> list[np.ndarray]:
    """Radial factors of the sums over the edges of a centre, by shell: [n, n_radial, 4, 2 width].

    Slopes, then values over r; each alone and times the components of the vector to the neighbour.
    """
    found = []
    for shell in shells:
        vector = block.direction[shell.edges] * block.distance[shell.edges, None]
        factors = np.concatenate([np.ones((len(shell.edges), 1)), vector], axis=1)
        halves = [
            shell.pad(values.T[shell.edges, :, None] * factors[:, None], n)
            for values in (geometry.slope, geometry.over_r)
        ]
        found.append(np.ascontiguousarray(np.concatenate(halves, axis=1).transpose(0, 2, 3, 1)))
    return found


def _sums(shell: _Shell, n_rows: int, left: np.ndarray, kernels: tuple[np.ndarray, np.ndarray]
          ) -> np.ndarray:
    """Gradient of the moments summed over the edges of a centre, and its virial.

    [rows, n, 4, 3, 2 l + 1]: the sum alone and times the components of the vector to the neighbour.
    """
    right = np.concatenate([
        shell.pad(kernel.transpose(2, 0, 1), n_rows).reshape(n_rows, shell.width, -1)
        for kernel in kernels
    ], axis=1)
    total = left.reshape(n_rows, -1, left.shape[3]) @ right
    return total.reshape(*left.shape[:3], 3, -1)
