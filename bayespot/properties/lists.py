"""Neighbour lists that many frames of one structure share, and their evaluation on many draws.

A list is made once, with a margin, for atoms that move by less than the margin allows. Distances
are computed inside of the compiled program, which loops over the frames in use: how many there are
is an argument, so one program serves a relaxation to its end.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayespot.evaluate import Labels3, evaluate_chunk
from bayespot.graph import Chunk, build_graph
from bayespot.potentials.base import Potential
from bayespot.properties.frames import Frames

MARGIN = 0.4
"""Å beyond what the frames at hand need, so that a list lives for some steps."""

CAPACITY = 64
"""Frames of one call of the compiled program, at most; how many are in use costs nothing else."""

LEAST_EDGES, ATOM_SHARE = 128, 8
"""The smallest list, and edges per atom that there is room for: lists with a margin have more."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SharedList:
    """Edges of one structure without geometry; padding points to a dummy atom."""

    chunk: Chunk  # of the structure that the list was made for
    shift: np.ndarray  # [E, 3] lattice vectors from centre to neighbour
    real: np.ndarray  # [E] False for padding
    first: np.ndarray  # [P] one of the two edges of a pair
    periodic: np.ndarray  # [] whether there is a volume


@dataclasses.dataclass(frozen=True)
class Reference:
    """The structure that a list was made for, and how far it reaches there."""

    positions: np.ndarray  # [N, 3]
    cell: np.ndarray  # [3, 3]
    reach: float  # Å
    list: SharedList


def needed_reach(frames: Frames, positions: np.ndarray, cell: np.ndarray, cutoff: float
                 ) -> np.ndarray:
    r"""How far a list made at a reference must reach to hold all neighbours of each frame, [K].

    With :math:`c_k = c D_k` and :math:`r_k = (r + u_k) D_k`, two atoms at distance :math:`L` in
    the reference are in frame k no closer than :math:`s_{min}(D_k) (L - 2 \max|u_k|)`.
    """
    deformation = np.linalg.solve(cell, frames.cells)
    back = np.linalg.inv(deformation)
    u = np.einsum("kna,kab->knb", frames.positions, back) - positions
    u -= u.mean(axis=1, keepdims=True)
    stretch = np.linalg.svd(deformation, compute_uv=False)[:, -1]
    return cutoff / stretch + 2.0 * np.sqrt((u**2).sum(axis=2)).max(axis=1)


def make_reference(frames: Frames, species: tuple[str, ...], cutoff: float, triplets: bool
                   ) -> Reference:
    """A list for all frames, made at their mean."""
    positions, cell = frames.positions.mean(axis=0), frames.cells.mean(axis=0)
    reach = float(needed_reach(frames, positions, cell, cutoff).max()) + MARGIN
    atoms = frames.moved(positions[None], cell[None]).atoms(0)
    graph = build_graph([atoms], species, reach, triplets=triplets, chunk_atoms=1)
    chunk = jax.tree.map(lambda leaf: np.asarray(leaf)[0], graph.chunks)
    return Reference(positions, cell, reach, _tight(chunk, positions, cell, all(frames.pbc)))


def _tight(chunk: Chunk, positions: np.ndarray, cell: np.ndarray, periodic: bool) -> SharedList:
    """Cut the padding of a chunk of one structure to powers of two, and find lattice shifts."""
    n = len(positions)
    dummy = len(chunk.species) - 1
    edges = int((chunk.center < dummy).sum())
    pairs, triplets = edges // 2, int(chunk.triplet_mask.sum())
    a, e = _sizes(n, edges)
    p, t = e // 2 + 1, _sizes(0, triplets)[1] if len(chunk.triplet_mask) else 0

    def cut(values: np.ndarray, size: int, used: int, fill: Any) -> np.ndarray:
        kept = np.full((size, *values.shape[1:]), fill, dtype=values.dtype)
        kept[:used] = values[:used]
        return kept

    center, neighbor = (cut(v, e, edges, a - 1) for v in (chunk.center, chunk.neighbor))
    vector = (chunk.direction * chunk.distance[chunk.pair][:, None])[:edges]
    apart = positions[neighbor[:edges]] - positions[center[:edges]]
    shift = np.zeros((e, 3))
    shift[:edges] = np.rint((vector - apart) @ np.linalg.inv(cell))
    reverse = np.arange(e, dtype=np.int32)
    reverse[:edges] = chunk.reverse[:edges]
    pair = cut(chunk.pair, e, edges, p - 1)
    first = np.full(p, e - 1, dtype=np.int32)
    first[pair[:edges][::-1]] = np.arange(edges, dtype=np.int32)[::-1]
    direction = np.tile(np.array([1.0, 0.0, 0.0]), (e, 1))
    tight = Chunk(
        species=cut(chunk.species, a, n, 0), structure=np.where(np.arange(a) < n, 0, 1).astype(int),
        center=center, neighbor=neighbor, reverse=reverse, pair=pair, direction=direction,
        distance=np.full(p, chunk.distance[-1]),
        pair_species=cut(chunk.pair_species, p, pairs, 0), volume=np.full(2, np.inf),
        composition=np.stack([chunk.composition[0], np.zeros_like(chunk.composition[0])]),
        triplet_edges=cut(chunk.triplet_edges, t, triplets, e - 1),
        triplet_mask=cut(chunk.triplet_mask, t, triplets, 0.0),
    )  # fmt: skip
    return SharedList(tight, shift, np.arange(e) < edges, first, np.asarray(periodic))


def _sizes(n_atoms: int, n_edges: int) -> tuple[int, int]:
    """Slots of atoms and edges: one row of sizes, so that few programs serve all structures."""
    edges = LEAST_EDGES
    while edges < n_edges + 1 or edges // ATOM_SHARE < n_atoms + 1:
        edges *= 2
    return edges // ATOM_SHARE, edges


def evaluate_frames(potentials: Potential, frames: Frames, shared: SharedList) -> Labels3:
    """Energies, forces and stresses of frames, each with the draw that it belongs to.

    Parameters
    ----------
    potentials : Potential
        With a leading axis of draws.
    frames : Frames
    shared : SharedList
        That reaches far enough for all of them.
    """
    blocks = []
    n_atoms = len(shared.chunk.species)
    for start in range(0, len(frames), CAPACITY):
        part = slice(start, min(start + CAPACITY, len(frames)))
        count = part.stop - part.start
        positions = np.zeros((CAPACITY, n_atoms, 3))
        positions[:count, : frames.n_atoms] = frames.positions[part]
        cells = np.tile(np.eye(3), (CAPACITY, 1, 1))
        cells[:count] = frames.cells[part]
        surface = np.zeros(CAPACITY, dtype=np.int32)
        surface[:count] = frames.surface[part]
        out = _evaluate_frames(potentials, shared, positions, cells, surface, count)
        energy, forces, stress = (np.asarray(values)[:count] for values in out)
        blocks.append((energy, forces[:, : frames.n_atoms], stress))
    return Labels3(*(np.concatenate(values) for values in zip(*blocks, strict=True)))


@jax.jit
def _evaluate_frames(
    potentials: Potential, shared: SharedList, positions: Any, cells: Any, surface: Any, count: Any
) -> Labels3:
    """Loop over the ``count`` frames in use; the rest stays zero."""
    size, n_atoms = positions.shape[:2]

    def step(k: Any, out: Labels3) -> Labels3:
        potential = jax.tree.map(lambda leaf: jnp.asarray(leaf)[surface[k]], potentials)
        one = evaluate_chunk(potential, _placed(shared, positions[k], cells[k]))
        return Labels3(
            out.energy.at[k].set(one.energy[0]), out.forces.at[k].set(one.forces),
            out.stress.at[k].set(one.stress[0]),
        )  # fmt: skip

    empty = Labels3(jnp.zeros(size), jnp.zeros((size, n_atoms, 3)), jnp.zeros((size, 6)))
    return lax.fori_loop(0, count, step, empty)


def _placed(shared: SharedList, positions: Any, cell: Any) -> Chunk:
    """The chunk with the geometry of one frame."""
    chunk = shared.chunk
    vector = positions[chunk.neighbor] - positions[chunk.center] + shared.shift @ cell
    padding = jnp.array([1.0, 0.0, 0.0]) * chunk.distance[-1]
    vector = jnp.where(shared.real[:, None], vector, padding)
    length = jnp.sqrt((vector**2).sum(axis=1))
    volume = jnp.where(shared.periodic, jnp.abs(jnp.linalg.det(cell)), jnp.inf)
    return dataclasses.replace(
        chunk, direction=vector / length[:, None], distance=length[shared.first],
        volume=jnp.stack([volume, jnp.inf]),
    )  # fmt: skip
