r"""The shape of a potential that is linear in its parameters.

.. math:: E = \sum_i \Big[ e_0(z_i) + \sum_b c_b\, B_b(i) \Big] + E_\mathrm{fixed}

with basis functions :math:`B_b` of the neighbourhood of an atom. Energies, forces and stresses are
then a design matrix times the parameters, and their posterior under Gaussian noise is known in
closed form (`bayespot.inference.linear_gaussian`).
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from bayespot.graph import NeighborGraph
from bayespot.potentials.base import Potential, param
from bayespot.potentials.priors import Normal

KEPT_SHARE = 0.2
"""Of the machine's memory: the largest design matrix that is kept, so that the passes of one fit
share it."""

BLOCK_ATOMS = 64
"""Small structures are taken together up to this number of atoms: less overhead for each."""


@dataclass(frozen=True)
class Block:
    """Some structures of a graph, without padding; atoms are numbered within the block."""

    structures: np.ndarray  # [S] in the order in which the graph was built
    atoms: np.ndarray  # [N] likewise
    species: np.ndarray  # [N]
    structure: np.ndarray  # [N] 0 .. S - 1, sorted
    center: np.ndarray  # [E] sorted
    neighbor: np.ndarray  # [E] sorted by species within a centre, images of one atom together
    direction: np.ndarray  # [E, 3]
    distance: np.ndarray  # [E] Å
    pair_species: np.ndarray  # [E]
    volume: np.ndarray  # [S] Å^3
    composition: np.ndarray  # [S, n_species]

    def within(self, reach: float) -> Block:
        """The same with the edges that are shorter than ``reach`` alone."""
        near = self.distance < reach
        if near.all():
            return self
        return replace(self, **{
            name: getattr(self, name)[near]
            for name in ("center", "neighbor", "direction", "distance", "pair_species")
        })


@dataclass(frozen=True)
class Design:
    """Rows of the design matrix of one block, transposed: parameters first.

    Parameters are the entries of ``c`` and then those of ``e0``.
    """

    block: Block
    energy: np.ndarray  # [p, S] of the whole cell
    forces: np.ndarray  # [p, N, 3]
    stress: np.ndarray  # [p, S, 6] 1/Å^3 times eV; zero where there is no volume


class _Kept(NamedTuple):
    """The design matrix that was made last; it is let go with its graph."""

    graph: weakref.ref
    key: tuple
    rows: tuple[Design, ...]


_LAST: list[_Kept] = []


class LinearPotential(Potential):
    """A potential that is linear in its coefficients ``c`` and its offsets ``e0``.

    A subclass names its functions in ``coordinates("function")``, writes
    ``energy_and_edge_gradient`` like every shape, and gives `design`, the same numbers for every
    basis function at once. `prior_slopes` lets the evidence choose the scales of the priors.
    """

    c: Any = param(
        unit="eV", symbol="c", doc="coefficients of the basis functions", prior=Normal(0.0, 1.0),
        per="function",
    )

    abstract: ClassVar[bool] = True

    def design_block(self, block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energy [B, S], forces [B, N, 3] and stress [B, S, 6] of every basis function."""
        raise TypeError(f"{type(self).__name__} must define design_block(self, block)")

    def prior_slopes(self) -> tuple[tuple[str, ...], np.ndarray]:
        r"""How the standard deviations of the coefficients depend on the settings.

        Returns
        -------
        names : tuple of str
            Settings (`hyper`) that the evidence may choose.
        slopes : ndarray [B, len(names)]
            :math:`d \ln s_b / d h`, constant in the settings h.
        """
        return (), np.zeros((len(self.coordinates("function")), 0))

    def held(self) -> Potential | None:
        """A potential of what is not fitted, ``c`` and ``e0`` zero; None if that is zero."""
        return self.replace(c=np.zeros_like(self.c), e0=np.zeros_like(self.e0))

    def evaluate_by_design(self, graph: NeighborGraph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies, forces and stresses of draws (leaves with a leading axis), without `held`.

        One pass over the design matrix serves all draws, which is faster than evaluating them one
        by one from some ten draws on. The draws must agree in all other parameters.
        """
        first = jax.tree.map(lambda leaf: np.asarray(leaf)[0], self)
        weights = np.concatenate([self.c, self.e0], axis=1)
        n = len(weights)
        energy, stress = np.empty((n, graph.n_structures)), np.empty((n, graph.n_structures, 6))
        forces = np.empty((n, graph.n_atoms, 3))
        for d in first.design(graph):
            p = len(d.energy)
            energy[:, d.block.structures] = weights @ d.energy
            forces[:, d.block.atoms] = (weights @ d.forces.reshape(p, -1)).reshape(n, -1, 3)
            stress[:, d.block.structures] = (weights @ d.stress.reshape(p, -1)).reshape(n, -1, 6)
        return energy, forces, stress

    def design(self, graph: NeighborGraph) -> Iterator[Design]:
        """The design matrix block by block; NumPy, not compiled.

        Some blocks are made ahead by threads: NumPy leaves the interpreter free meanwhile. The last
        matrix of less than `KEPT_SHARE` stays in memory for the next pass; a larger one is made
        again, in bounded memory. Blocks are not to be written to.
        """
        key = self._design_key()
        for last in _LAST:
            if last.graph() is graph and last.key == key:
                yield from last.rows
                return
        size = 8 * (len(self.c) + len(self.e0)) * (3 * graph.n_atoms + 7 * graph.n_structures)
        if size > KEPT_SHARE * _memory():
            yield from self._make_design(graph)
            return
        _LAST.clear()
        rows = tuple(self._make_design(graph))
        _LAST[:] = [_Kept(weakref.ref(graph, lambda _: _LAST.clear()), key, rows)]
        yield from rows

    def _design_key(self) -> tuple:
        """All that the design matrix depends on besides the graph."""
        scales = self.prior_slopes()[0]
        settings = tuple(getattr(self, name) for name in self.hypers() if name not in scales)
        others = tuple(
            np.asarray(getattr(self, item.name)).tobytes()
            for item in self.parameters() if item.name not in ("c", "e0")
        )
        return type(self), self.species, settings, others

    def _make_design(self, graph: NeighborGraph) -> Iterator[Design]:
        def rows(block: Block) -> Design:
            energy, forces, stress = self.design_block(block)
            n, s, k = len(block.atoms), len(block.structures), len(self.species)
            return Design(
                block,
                np.concatenate([energy, block.composition.T]),
                np.concatenate([forces, np.zeros((k, n, 3))]),
                np.concatenate([stress, np.zeros((k, s, 6))]),
            )

        workers = min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            ahead: deque[Future] = deque()
            for block in blocks(graph):
                ahead.append(pool.submit(rows, block))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


@cache
def _memory() -> int:
    """Bytes of memory of this machine; 8 GiB where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def blocks(graph: NeighborGraph) -> Iterator[Block]:
    """Structures of a graph, one by one or several small ones together."""
    chunks = jax.tree.map(np.asarray, graph.chunks)
    n_slots, n_atom_slots = chunks.volume.shape[1], chunks.species.shape[1]
    number = np.full(chunks.volume.size, -1)
    number[graph.structure_slot] = np.arange(graph.n_structures)
    atom_number = np.full(chunks.species.size, -1)
    atom_number[graph.atom_slot] = np.arange(graph.n_atoms)
    for c in range(len(chunks.species)):
        structure, center = chunks.structure[c], chunks.center[c]
        used = np.flatnonzero(number[c * n_slots : (c + 1) * n_slots] >= 0)
        for group in _together(used, np.bincount(structure, minlength=n_slots)):
            first, end = np.searchsorted(structure, [group[0], group[-1] + 1])
            edges = slice(*np.searchsorted(center, [first, end]))
            pair = chunks.pair[c][edges]
            yield Block(
                structures=number[c * n_slots + group],
                atoms=atom_number[c * n_atom_slots + np.arange(first, end)],
                species=chunks.species[c][first:end],
                structure=structure[first:end] - group[0],
                center=center[edges] - first,
                neighbor=chunks.neighbor[c][edges] - first,
                direction=chunks.direction[c][edges],
                distance=chunks.distance[c][pair],
                pair_species=chunks.pair_species[c][pair],
                volume=chunks.volume[c][group],
                composition=chunks.composition[c][group],
            )


def _together(structures: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    """Consecutive structures with at most `BLOCK_ATOMS` atoms, larger ones alone."""
    groups: list[list[int]] = []
    filled = BLOCK_ATOMS + 1
    for s in structures:
        if filled + sizes[s] > BLOCK_ATOMS:
            groups.append([])
            filled = 0
        groups[-1].append(int(s))
        filled += sizes[s]
    return [np.array(group) for group in groups]
