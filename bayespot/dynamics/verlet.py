"""The neighbours of one structure that moves: listed with a skin, cut to the cutoff at every step.

The list is made again when an atom may have come into reach from outside of it. It is cut once a
step inside of the compiled program; what is evaluated then, once for each draw, has no edge or
triplet that gives nothing. Sizes are padded to a row that grows, so that a run has few programs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from jax import lax

from bayespot.errors import CutoffError, StructureError
from bayespot.evaluate import Labels3, evaluate_chunk
from bayespot.graph import MIN_DISTANCE, Chunk, NeighborGraph, build_graph
from bayespot.potentials.base import Potential
from bayespot.properties.frames import Frames
from bayespot.properties.lists import needed_reach

SKIN, SKIN_TRIPLETS = 1.0, 0.5
"""Å beyond the cutoff; less where couples of edges are listed, whose number grows with the square.

Steps of 512 silicon atoms took 1.33, 1.28, 1.21 and 1.15 ms at 1200 K with 0.5, 0.8, 1.1 and 1.5 Å
(making lists included), and 1.02, 0.97, 0.85 and 0.86 ms at 300 K; long cutoffs favour less."""

STEP, ROOM = 128, 1.08
"""Sizes of padded lists: multiples of the first, with so much room when they have to grow."""


class Sizes(NamedTuple):
    """Slots of edges, pairs and triplets, padding included."""

    edges: int
    pairs: int
    triplets: int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Listed:
    """A list with its skin; a pair has the direction of the first of its edges.

    The last slot of edges, pairs and triplets is always padding.
    """

    chunk: Chunk
    ends: np.ndarray  # [P, 2] atoms of a pair
    shift: np.ndarray  # [P, 3] lattice vectors between them
    real: np.ndarray  # [P] False for padding
    ahead: np.ndarray  # [E] 1 for first edges of pairs, -1 for the reverse ones


class VerletList:
    """Neighbours of a structure within ``reach`` while it moves.

    Parameters
    ----------
    species : sequence of str
        The potential's species in its order.
    reach : float
        Å.
    triplets : bool
        List couples of edges too.
    skin : float, optional
        Å; a wider one is made more rarely and costs more in every step. `SKIN` or `SKIN_TRIPLETS`
        without.

    Raises
    ------
    CutoffError
        If reach or skin are not positive numbers.
    """

    def __init__(
        self, species: Sequence[str], reach: float, *, triplets: bool = False,
        skin: float | None = None,
    ) -> None:
        if skin is None:
            skin = SKIN_TRIPLETS if triplets else SKIN
        for name, value in (("reach", reach), ("skin", skin)):
            if not (np.isfinite(value) and value > 0):
                raise CutoffError(f"{name}={value!r} Å of a list: give a positive number")
        self.species, self.reach, self.skin = tuple(species), float(reach), float(skin)
        self.triplets = triplets
        self.made = 0  # lists until now
        self._listed: _Listed | None = None
        # What the list was made for.
        self._positions = self._cell = self._numbers = self._pbc = np.empty(0)
        self._whole = self._cut = Sizes(0, 0, 0)

    def graph(self, atoms: Atoms) -> NeighborGraph:
        """All neighbours within the reach.

        Raises
        ------
        StructureError
            If a position is not finite, or two atoms coincide.
        """
        chunk = self._through(_cut, atoms)
        one = jax.tree.map(lambda leaf: np.asarray(leaf)[None], chunk)
        return NeighborGraph(one, np.asarray(1), np.arange(len(atoms)), np.array([0]))

    def evaluate(self, potentials: Potential, atoms: Atoms) -> Labels3:
        """Energies [n], forces [n, N, 3] and stresses [n, 6] of n draws (a leading axis).

        Raises
        ------
        StructureError
            If a position is not finite, or two atoms coincide.
        """
        out = self._through(partial(_evaluate_cut, potentials), atoms)
        energy, forces, stress = (np.asarray(values) for values in out)
        return Labels3(energy[:, 0], forces[:, : len(atoms)], stress[:, 0])

    def _through(self, program: Callable, atoms: Atoms) -> Any:
        """What a program makes of the list at these positions; larger sizes if they are needed."""
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            lost = int((~np.isfinite(atoms.positions)).any(axis=1).sum())
            raise StructureError(
                f"{lost} of {len(atoms)} atoms have positions that are no numbers, or the cell "
                "has: the trajectory has exploded (a time step too long, or forces far from what "
                "the potential was fitted to)"
            )
        cell = atoms.cell.complete().array
        if self._listed is None or self._left(atoms, cell):
            self._make(atoms, cell)
        x = np.zeros((len(atoms) + 1, 3))
        x[:-1] = atoms.positions
        while True:
            out, counts = program(self._listed, x, cell, self.reach, sizes=self._cut)
            *used, closest, pair = np.asarray(counts).tolist()
            if closest < MIN_DISTANCE:
                i, j = np.asarray(self._listed.ends)[int(pair)]
                raise StructureError(
                    f"atoms {i} and {j} of {atoms.get_chemical_formula()} are {closest:.3f} Å "
                    "apart: the trajectory has exploded (a time step too long, or forces far from "
                    "what the potential was fitted to)"
                )
            larger = _grown(self._cut, *map(int, used))
            if larger == self._cut:
                return out
            self._cut = larger

    def _left(self, atoms: Atoms, cell: np.ndarray) -> bool:
        """Whether an atom that is not listed may be within reach."""
        if not (np.array_equal(atoms.numbers, self._numbers)
                and np.array_equal(atoms.pbc, self._pbc)):  # fmt: skip
            return True
        if np.array_equal(cell, self._cell):
            u = atoms.positions - self._positions
            u -= u.mean(axis=0)
            return bool(2.0 * np.sqrt((u * u).sum(axis=1).max()) > self.skin)
        frame = Frames.of([atoms], [0])
        needed = needed_reach(frame, self._positions, self._cell, self.reach)[0]
        return bool(needed > self.reach + self.skin)

    def _make(self, atoms: Atoms, cell: np.ndarray) -> None:
        try:
            graph = build_graph([atoms], self.species, self.reach + self.skin,
                                triplets=self.triplets, chunk_atoms=1)  # fmt: skip
        except StructureError as error:
            if self._listed is None:
                raise
            raise StructureError(f"the trajectory has exploded: {error}") from error
        chunk = jax.tree.map(lambda leaf: np.asarray(leaf)[0], graph.chunks)
        n = len(atoms)
        edges, couples = int((chunk.center < n).sum()), int(chunk.triplet_mask.sum())
        self._whole = _grown(self._whole, edges, edges // 2, couples)
        near = int((chunk.distance[: edges // 2] < self.reach).sum())
        share = 2 * near / max(edges, 1)
        self._cut = _grown(self._cut, 2 * near, near, int(share**2 * couples))
        self._listed = jax.device_put(_listed(chunk, atoms, cell, edges, couples, self._whole))
        self._numbers, self._pbc = atoms.numbers.copy(), atoms.pbc.copy()
        self._positions, self._cell = atoms.positions.copy(), cell.copy()
        self.made += 1


def _grown(sizes: Sizes, edges: int, pairs: int, triplets: int) -> Sizes:
    """Sizes with a slot of padding beside so many; as they are where that fits."""
    def size(have: int, need: int) -> int:
        return have if need < have else -(-int(ROOM * need + 1) // STEP) * STEP

    return Sizes(
        size(sizes.edges, edges), size(sizes.pairs, pairs),
        size(sizes.triplets, triplets) if triplets else sizes.triplets,
    )  # fmt: skip


def _listed(
    chunk: Chunk, atoms: Atoms, cell: np.ndarray, edges: int, couples: int, sizes: Sizes
) -> _Listed:
    """The chunk of one structure in these sizes, with the lattice vectors of its pairs."""
    n, pairs = len(atoms), edges // 2
    first = np.full(pairs, -1)
    first[chunk.pair[:edges][::-1]] = np.arange(edges)[::-1]
    ends = np.stack([chunk.center[first], chunk.neighbor[first]], axis=1)
    vector = chunk.direction[first] * chunk.distance[:pairs, None]
    apart = atoms.positions[ends[:, 1]] - atoms.positions[ends[:, 0]]
    ahead = np.where(first[chunk.pair[:edges]] == np.arange(edges), 1.0, -1.0)
    volume = atoms.get_volume() if atoms.pbc.all() else np.inf
    e, p, t = sizes
    whole = Chunk(
        species=_padded(chunk.species[:n], n + 1, 0),
        structure=_padded(np.zeros(n, np.int32), n + 1, 1),
        center=_padded(chunk.center[:edges], e, n), neighbor=_padded(chunk.neighbor[:edges], e, n),
        reverse=_padded(chunk.reverse[:edges], e, np.arange(edges, e)),
        pair=_padded(chunk.pair[:edges], e, p - 1), direction=np.zeros((0, 3)),
        distance=np.zeros(0), pair_species=_padded(chunk.pair_species[:pairs], p, 0),
        volume=np.array([volume, np.inf]), composition=_padded(chunk.composition[:1], 2, 0.0),
        triplet_edges=_padded(chunk.triplet_edges[:couples], t, e - 1),
        triplet_mask=_padded(np.ones(couples), t, 0.0),
    )  # fmt: skip
    return _Listed(
        whole, _padded(ends, p, n), _padded(np.rint((vector - apart) @ np.linalg.inv(cell)), p, 0),
        np.arange(p) < pairs, _padded(ahead, e, 1.0),
    )  # fmt: skip


def _padded(values: np.ndarray, size: int, fill: Any) -> np.ndarray:
    out = np.empty((size, *values.shape[1:]), dtype=values.dtype)
    out[: len(values)] = values
    out[len(values):] = fill
    return out


@partial(jax.jit, static_argnames="sizes")
def _cut(listed: _Listed, x: Any, cell: Any, reach: Any, *, sizes: Sizes) -> tuple[Chunk, Any]:
    """The chunk within reach at positions ``x``, [N + 1, 3], in these sizes.

    Beside it how many edges, pairs and triplets there are, the closest distance (Å), and the
    number of its pair: as many as fit are in the chunk.
    """
    whole, (e, p, t) = listed.chunk, sizes
    vector = x[listed.ends[:, 1]] - x[listed.ends[:, 0]] + listed.shift @ cell
    square = jnp.where(listed.real, (vector**2).sum(axis=1), jnp.inf)
    near = square < reach**2
    kept = near[whole.pair]
    pairs, pair_now = _numbered(near, p)
    edges, edge_now = _numbered(kept, e)
    length = jnp.where(near[pairs], jnp.sqrt(square[pairs]), 0.9 * reach)
    axis = jnp.array([1.0, 0.0, 0.0])
    unit = jnp.where(near[pairs, None], vector[pairs] / length[:, None], axis)
    pair = jnp.where(kept[edges], pair_now[whole.pair[edges]], p - 1)
    slots = jnp.arange(e)
    changed: dict[str, Any] = {
        "center": whole.center[edges], "neighbor": whole.neighbor[edges],
        "reverse": jnp.where(kept[edges], edge_now[whole.reverse[edges]], slots), "pair": pair,
        "direction": listed.ahead[edges, None] * unit[pair], "distance": length,
        "pair_species": whole.pair_species[pairs],
        "volume": whole.volume.at[0].set(
            jnp.where(jnp.isfinite(whole.volume[0]), _volume(cell), jnp.inf)
        ),
    }  # fmt: skip
    n_triplets = 0
    if len(whole.triplet_mask):
        both = kept[whole.triplet_edges].all(axis=1) & (whole.triplet_mask > 0)
        triplets, _ = _numbered(both, t)
        n_triplets = both.sum()
        changed["triplet_edges"] = jnp.where(
            both[triplets, None], edge_now[whole.triplet_edges[triplets]], e - 1
        )
        changed["triplet_mask"] = jnp.where(both[triplets], 1.0, 0.0)
    changed = {
        name: value.astype(getattr(whole, name).dtype) for name, value in changed.items()
    }
    closest = square.argmin()
    # One array is one transfer, five numbers would be five.
    counts = jnp.array(
        [kept.sum(), near.sum(), n_triplets, jnp.sqrt(square[closest]), closest], dtype=float
    )
    return dataclasses.replace(whole, **changed), counts


def _numbered(kept: Any, size: int) -> tuple[Any, Any]:
    """Indices of what is kept, [size], and the new number of everything that is.

    Slots that are left over point to the last entry of the list, which is padding.
    """
    number = jnp.cumsum(kept.astype(jnp.int32)) - 1
    index = jnp.full(size, len(kept) - 1, dtype=jnp.int32)
    slot = jnp.where(kept, number, size)
    return index.at[slot].set(jnp.arange(len(kept), dtype=jnp.int32), mode="drop"), number


def _volume(cell: Any) -> Any:
    return jnp.abs(jnp.dot(cell[0], jnp.cross(cell[1], cell[2])))


@partial(jax.jit, static_argnames="sizes")
def _evaluate_cut(
    potentials: Potential, listed: _Listed, x: Any, cell: Any, reach: Any, *, sizes: Sizes
) -> tuple[Labels3, Any]:
    """All draws on what is within reach, one after the other."""
    chunk, counts = _cut(listed, x, cell, reach, sizes=sizes)
    return lax.map(lambda one: evaluate_chunk(one, chunk), potentials), counts
