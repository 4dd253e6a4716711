"""Neighbours of many structures as flat, sorted, equally padded lists with fixed geometry.

Training structures never move, so distances and directions are computed once. A graph is cut into
chunks of a few hundred atoms: the temporaries of one chunk stay in the processor's cache, which
was measured to be faster than one long list, and every chunk has the same shape, so one compiled
program serves them all and also serves a set that has grown a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from ase import Atoms
from vesin import NeighborList

from bayespot.errors import CutoffError, SpeciesError, StructureError

MIN_DISTANCE = 0.3
"""Å; atoms closer than this are taken for one atom written twice."""

CHUNK_ATOMS = 256
"""Atoms per chunk on a CPU. One chunk holds everything on an accelerator."""

MIN_STRUCTURES, MIN_EDGES = 64, 1024
"""A set of one chunk is padded to these and to powers of two: compiling takes longer than a small
fit, and a set that grows by a few structures should not need a new program."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chunk:
    """Padded lists of one chunk, or of all chunks with a leading axis.

    A atoms, S structures, E directed edges sorted by centre (then by the neighbour's species),
    P unordered pairs, T triplets (two edges that share their centre, each unordered couple once).
    The last atom and the last structure of a chunk are dummies that all padding points to.
    """

    species: np.ndarray  # [A] index into NeighborGraph.species
    structure: np.ndarray  # [A] structure slot of each atom, sorted
    center: np.ndarray  # [E] atom slot, sorted
    neighbor: np.ndarray  # [E] atom slot
    reverse: np.ndarray  # [E] the same edge seen from the other end
    pair: np.ndarray  # [E] index of the unordered pair
    direction: np.ndarray  # [E, 3] unit vector from centre to neighbour
    distance: np.ndarray  # [P] Å
    pair_species: np.ndarray  # [P] index of the species pair, order A-A, A-B, ..., B-B, ...
    volume: np.ndarray  # [S] Å^3; infinite where a structure is not periodic in three directions
    composition: np.ndarray  # [S, n_species] atoms of each species
    triplet_edges: np.ndarray  # [T, 2] edge indices; T = 0 unless asked for
    triplet_mask: np.ndarray  # [T] 1 for a triplet, 0 for padding


@dataclass(frozen=True)
class NeighborGraph:
    """All neighbours within ``cutoff`` of a list of structures.

    ``chunks`` and ``n_chunks`` go into compiled programs. ``atom_slot`` and ``structure_slot`` say
    where the atoms and structures, in the order in which they were given, lie in the flattened
    chunks; they stay outside, because their lengths change with every structure that is added and
    each new length would be a new compilation.
    """

    chunks: Chunk
    n_chunks: np.ndarray  # [] chunks in use, or [parts] in each part; the rest is padding
    atom_slot: np.ndarray  # [n_atoms]
    structure_slot: np.ndarray  # [n_structures]

    def by_structure(self, values: np.ndarray, axis: int = 0) -> np.ndarray:
        """Rows of the structures, in their order, from axes [n_chunks, S] at ``axis``."""
        return _gather(values, self.structure_slot, axis)

    def by_atom(self, values: np.ndarray, axis: int = 0) -> np.ndarray:
        """Rows of the atoms, in their order, from axes [n_chunks, A] at ``axis``."""
        return _gather(values, self.atom_slot, axis)

    @property
    def n_atoms(self) -> int:
        """Atoms of all structures together."""
        return self.atom_slot.shape[0]

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return self.structure_slot.shape[0]


def _gather(values: np.ndarray, slots: np.ndarray, axis: int) -> np.ndarray:
    values = np.asarray(values)
    shape = values.shape
    flat = values.reshape(*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    return np.take(flat, slots, axis=axis)


def pair_index(a: np.ndarray, b: np.ndarray, n_species: int) -> np.ndarray:
    """Index of the unordered species pair in the order A-A, A-B, ..., B-B, ..."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    return low * n_species - low * (low - 1) // 2 + high - low


def species_index(atoms: Atoms, species: Sequence[str]) -> np.ndarray:
    """Index into ``species`` of every atom.

    Raises
    ------
    SpeciesError
        If the structure has a species that is not in ``species``.
    """
    symbols = np.array(atoms.get_chemical_symbols())
    unknown = sorted(set(symbols) - set(species))
    if unknown:
        raise SpeciesError(
            f"{atoms.get_chemical_formula()} contains {', '.join(unknown)}, the potential knows "
            f"{', '.join(species)}: give the potential all species, in one fixed order"
        )
    return np.array([list(species).index(symbol) for symbol in symbols], dtype=np.int64)


@dataclass
class _Local:
    """Neighbour lists of one structure, before packing."""

    species: np.ndarray
    center: np.ndarray
    neighbor: np.ndarray
    reverse: np.ndarray
    pair: np.ndarray
    direction: np.ndarray
    distance: np.ndarray
    pair_species: np.ndarray
    volume: float
    triplets: np.ndarray


def _neighbors(atoms: Atoms, species: Sequence[str], cutoff: float, triplets: bool) -> _Local:
    kinds = species_index(atoms, species)
    cell = atoms.cell.complete().array
    i, j, shift, d, vector = NeighborList(cutoff=cutoff, full_list=True).compute(
        points=atoms.positions, box=cell, periodic=[bool(p) for p in atoms.pbc], quantities="ijSdD"
    )
    i, j = i.astype(np.int64), j.astype(np.int64)
    if d.size and d.min() < MIN_DISTANCE:
        worst = int(d.argmin())
        raise StructureError(
            f"atoms {i[worst]} and {j[worst]} of {atoms.get_chemical_formula()} are "
            f"{d[worst]:.3f} Å apart: the structure is broken or an atom was written twice"
        )
    order = np.lexsort((*shift.T, j, kinds[j], i))
    i, j, shift, d, vector = i[order], j[order], shift[order], d[order], vector[order]
    forward = np.lexsort((*shift.T, j, i))
    backward = np.lexsort((*(-shift).T, i, j))
    reverse = np.empty(len(i), dtype=np.int64)
    reverse[backward] = forward
    # Rounding at the cutoff could list an edge from one end only; that would be a broken list.
    if not (np.array_equal(i[reverse], j) and np.array_equal(shift[reverse], -shift)):
        raise StructureError(
            f"the neighbour list of {atoms.get_chemical_formula()} is not symmetric at cutoff "
            f"{cutoff} Å: change the cutoff by a little"
        )
    edges = np.arange(len(i))
    first = edges < reverse
    pair = np.empty(len(i), dtype=np.int64)
    pair[first] = np.arange(first.sum())
    pair[~first] = pair[reverse[~first]]
    return _Local(
        species=kinds,
        center=i,
        neighbor=j,
        reverse=reverse,
        pair=pair,
        direction=vector / d[:, None] if len(d) else np.zeros((0, 3)),
        distance=d[first],
        pair_species=pair_index(kinds[i[first]], kinds[j[first]], len(species)),
        volume=float(atoms.get_volume()) if atoms.pbc.all() else np.inf,
        triplets=_triplets(i) if triplets else np.zeros((0, 2), dtype=np.int64),
    )


def _triplets(center: np.ndarray) -> np.ndarray:
    """Every unordered couple of edges with the same centre, [T, 2]."""
    blocks = []
    start = 0
    for degree in np.unique(center, return_counts=True)[1]:
        a, b = np.triu_indices(degree, k=1)
        blocks.append(np.stack([a, b], axis=1) + start)
        start += degree
    return np.concatenate(blocks) if blocks else np.zeros((0, 2), dtype=np.int64)


def _round_up(value: int, step: int) -> int:
    return max(step, -(-value // step) * step)


def _power_of_two(value: int) -> int:
    return 1 << max(0, int(value - 1).bit_length())


def _pack(local: list[_Local], atom_budget: int) -> list[list[int]]:
    """Consecutive structures that fill at most ``atom_budget`` atoms, in the given order."""
    groups: list[list[int]] = []
    filled = atom_budget + 1
    for index, part in enumerate(local):
        if filled + len(part.species) > atom_budget:
            groups.append([])
            filled = 0
        groups[-1].append(index)
        filled += len(part.species)
    return groups


def build_graph(
    structures: Sequence[Atoms],
    species: Sequence[str],
    cutoff: float,
    *,
    triplets: bool = False,
    chunk_atoms: int | None = None,
    like: NeighborGraph | None = None,
    parts: int | None = None,
) -> NeighborGraph:
    """Neighbours within ``cutoff`` of every structure, all periodic images included.

    Parameters
    ----------
    structures : sequence of ase.Atoms
    species : sequence of str
        The potential's species, in its order.
    cutoff : float
        Å.
    triplets : bool
        List couples of edges too, for potentials that are not separable.
    chunk_atoms : int, optional
        Atoms per chunk; default `CHUNK_ATOMS` on a CPU, everything in one chunk on a GPU.
    like : NeighborGraph, optional
        Pad at least to the shapes of this graph: one compiled program then serves both.
    parts : int, optional
        Deal the chunks in turn to so many equal parts of the leading axis, one for each device.

    Raises
    ------
    StructureError
        If two atoms coincide, or there is no structure.
    SpeciesError
        If a structure has a species that is not in ``species``.
    CutoffError
        If the cutoff is not a positive number.
    """
    if not (np.isfinite(cutoff) and cutoff > 0):
        raise CutoffError(f"the cutoff of a graph is {cutoff!r} Å: give a positive number")
    if len(structures) == 0:
        raise StructureError("no structures given: a graph needs at least one")
    if chunk_atoms is None:
        on_cpu = jax.default_backend() == "cpu"
        chunk_atoms = CHUNK_ATOMS if on_cpu else sum(len(s) for s in structures)
    local = [_neighbors(atoms, species, float(cutoff), triplets) for atoms in structures]
    largest = max(len(part.species) for part in local)
    total = sum(len(part.species) for part in local)
    least = _sizes_of(like)
    if parts is not None:  # no device without a chunk
        chunk_atoms = min(chunk_atoms, -(-total // parts))
    budget = max(chunk_atoms, largest, least.get("A", 1) - 1)
    groups = _pack(local, budget)

    def most(count) -> int:
        return max(sum(count(local[k]) for k in group) for group in groups)

    def padded(need: int, least: int) -> int:
        return _round_up(need, least) if len(groups) > 1 else max(least, _power_of_two(need))

    sizes = {
        "A": budget + 1,
        "S": max(MIN_STRUCTURES, _power_of_two(max(len(g) for g in groups))) + 1,
        "E": padded(most(lambda p: len(p.center)) + 1, MIN_EDGES),
        "P": padded(most(lambda p: len(p.distance)) + 1, MIN_EDGES // 2),
        "T": padded(most(lambda p: len(p.triplets)), MIN_EDGES) if triplets else 0,
    }
    sizes = {name: max(size, least.get(name, 0)) for name, size in sizes.items()}
    dealt = parts or 1
    each = max(_power_of_two(-(-len(groups) // dealt)), least.get("chunks", 0) // dealt)
    arrays = _empty_chunks(dealt * each, sizes, len(species), cutoff)
    atom_slot = np.empty(total, dtype=np.int64)
    structure_slot = np.empty(len(local), dtype=np.int64)
    atom = 0
    for number, group in enumerate(groups):
        c = number % dealt * each + number // dealt
        _fill_chunk(arrays, c, [local[k] for k in group])
        n = sum(len(local[k].species) for k in group)
        atom_slot[atom : atom + n] = c * sizes["A"] + np.arange(n)
        structure_slot[group] = c * sizes["S"] + np.arange(len(group))
        atom += n
    used = np.asarray(len(groups)) if parts is None else np.array([
        len(range(part, len(groups), parts)) for part in range(parts)
    ])
    return NeighborGraph(Chunk(**arrays), used, atom_slot, structure_slot)


def _sizes_of(graph: NeighborGraph | None) -> dict[str, int]:
    """Padded sizes of a graph; none of no graph."""
    if graph is None:
        return {}
    c = graph.chunks
    sizes = {name: array.shape[1] for name, array in zip(
        "ASEPT", (c.species, c.volume, c.center, c.distance, c.triplet_mask), strict=True
    )}
    return {**sizes, "chunks": c.species.shape[0]}


def _empty_chunks(n: int, sizes: dict[str, int], n_species: int, cutoff: float) -> dict:
    a, s, e, p, t = (sizes[k] for k in "ASEPT")
    return {
        "species": np.zeros((n, a), np.int32),
        "structure": np.full((n, a), s - 1, np.int32),
        "center": np.full((n, e), a - 1, np.int32),
        "neighbor": np.full((n, e), a - 1, np.int32),
        "reverse": np.tile(np.arange(e, dtype=np.int32), (n, 1)),
        "pair": np.full((n, e), p - 1, np.int32),
        "direction": np.tile(np.array([1.0, 0.0, 0.0]), (n, e, 1)),
        "distance": np.full((n, p), 0.9 * cutoff),
        "pair_species": np.zeros((n, p), np.int32),
        "volume": np.full((n, s), np.inf),
        "composition": np.zeros((n, s, n_species)),
        "triplet_edges": np.full((n, t, 2), e - 1, np.int32),
        "triplet_mask": np.zeros((n, t)),
    }


def _fill_chunk(arrays: dict, c: int, parts: list[_Local]) -> None:
    atom = edge = pair = triplet = 0
    n_species = arrays["composition"].shape[2]
    for s, part in enumerate(parts):
        atoms = slice(atom, atom + len(part.species))
        edges = slice(edge, edge + len(part.center))
        pairs = slice(pair, pair + len(part.distance))
        triplets = slice(triplet, triplet + len(part.triplets))
        arrays["species"][c, atoms] = part.species
        arrays["structure"][c, atoms] = s
        arrays["center"][c, edges] = part.center + atom
        arrays["neighbor"][c, edges] = part.neighbor + atom
        arrays["reverse"][c, edges] = part.reverse + edge
        arrays["pair"][c, edges] = part.pair + pair
        arrays["direction"][c, edges] = part.direction
        arrays["distance"][c, pairs] = part.distance
        arrays["pair_species"][c, pairs] = part.pair_species
        arrays["volume"][c, s] = part.volume
        arrays["composition"][c, s] = np.bincount(part.species, minlength=n_species)
        arrays["triplet_edges"][c, triplets] = part.triplets + edge
        arrays["triplet_mask"][c, triplets] = 1.0
        atom, edge, pair = atoms.stop, edges.stop, pairs.stop
        triplet = triplets.stop
