"""Neighbour lists against the sum over all images, written out."""

import itertools

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from bayespot.errors import CutoffError, SpeciesError, StructureError
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph, pair_index
from bayespot.potentials.stillinger_weber import StillingerWeber


def brute_force(atoms, cutoff):
    """(i, j, vector) of every neighbour within the cutoff, by trying all images."""
    cell = atoms.cell.complete().array
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    scaled = atoms.positions @ np.linalg.inv(cell)
    spread = np.ceil(np.ptp(scaled, axis=0))
    reach = [int(np.ceil(cutoff / h) + s) if p else 0
             for h, s, p in zip(heights, spread, atoms.pbc, strict=True)]
    found = []
    for shift in itertools.product(*(range(-n, n + 1) for n in reach)):
        for i, j in itertools.product(range(len(atoms)), repeat=2):
            if i == j and shift == (0, 0, 0):
                continue
            vector = atoms.positions[j] - atoms.positions[i] + np.array(shift) @ cell
            if np.linalg.norm(vector) < cutoff:
                found.append((i, j, *vector))
    return np.array(found).reshape(-1, 5)


def edges_of(graph, number, atoms):
    """The same from the graph, and the edge numbers in their chunk."""
    slot = graph.atom_slot[number : number + len(atoms)]
    per_chunk = graph.chunks.species.shape[1]
    c = int(slot[0]) // per_chunk
    first = int(slot[0]) % per_chunk
    chunk = graph.chunks
    mine = (chunk.center[c] >= first) & (chunk.center[c] < first + len(atoms))
    index = np.flatnonzero(mine)
    vector = chunk.direction[c][index] * chunk.distance[c][chunk.pair[c][index]][:, None]
    ends = np.stack([chunk.center[c][index], chunk.neighbor[c][index]], axis=1) - first
    return np.concatenate([ends, vector], axis=1), index, c


def ordered(rows):
    return rows[np.lexsort(np.round(rows, 6).T)]


def skewed(seed, n, size, tilt):
    rng = np.random.default_rng(seed)
    cell = size * np.eye(3) + tilt * rng.uniform(-1, 1, (3, 3))
    atoms = Atoms(["Si"] * n, cell=cell, pbc=True)
    for _ in range(200):
        atoms.set_scaled_positions(rng.random((n, 3)))
        if n == 1 or brute_force(atoms, 1.0).size == 0:
            return atoms
    raise AssertionError("no room for the atoms")


def cases():
    sheared = bulk("Si", "diamond", a=5.43)
    sheared.set_cell(sheared.cell.array @ [[1, 3.2, 0], [0, 1, 0], [0.4, -2.1, 1]],
                     scale_atoms=True)
    left_handed = bulk("Si", "diamond", a=5.43)
    left_handed.set_cell(left_handed.cell.array[[1, 0, 2]])
    outside = bulk("Si", "diamond", a=5.43)
    outside.positions[1] += outside.cell.array.T @ [3, -2, 1]
    wire = Atoms("Si3", [[0, 0, 0], [1.5, 1.5, 0.9], [0, 0.4, 2.6]], cell=[9, 9, 4], pbc=False)
    wire.pbc[2] = True
    sheet = Atoms("Si2", [[0, 0, 0], [1.2, 1.3, 1.5]], cell=[2.6, 3.1, 0], pbc=(True, True, False))
    corner = skewed(3, 4, 5.0, 1.5)
    corner.pbc = (True, False, True)
    return {
        "tiny": bulk("Si", "sc", a=2.0),
        "needle": Atoms("Si", cell=[1.9, 14.0, 11.0], pbc=True),
        "skewed": skewed(1, 5, 5.0, 2.2),
        "very skewed": sheared,
        "left-handed": left_handed,
        "atoms outside of the cell": outside,
        "cluster": Atoms("Si4", [[0, 0, 0], [2, 0, 0], [0, 2.2, 0], [9, 9, 9]]),
        "single atom": Atoms("Si"),
        "wire": wire,
        "sheet without third vector": sheet,
        "mixed": corner,
    }


@pytest.mark.parametrize("cutoff", [3.1, 6.3])
@pytest.mark.parametrize("name", cases())
def test_all_images_are_found(name, cutoff):
    atoms = cases()[name]
    graph = build_graph([atoms], ("Si",), cutoff)
    found, _, _ = edges_of(graph, 0, atoms)
    expected = brute_force(atoms, cutoff)
    assert found.shape == expected.shape
    np.testing.assert_allclose(ordered(found), ordered(expected), atol=1e-10)


def test_many_structures_are_packed_without_touching_each_other():
    structures = list(cases().values())
    graph = build_graph(structures, ("Si",), 5.0, triplets=True, chunk_atoms=6)
    assert graph.n_chunks > 1
    assert graph.n_structures == len(structures)
    assert graph.n_atoms == sum(len(s) for s in structures)
    first, triplets = 0, 0
    for k, atoms in enumerate(structures):
        found, index, c = edges_of(graph, first, atoms)
        expected = brute_force(atoms, 5.0)
        np.testing.assert_allclose(ordered(found), ordered(expected), atol=1e-10)
        slot = graph.structure_slot[k] - c * graph.chunks.volume.shape[1]
        assert set(graph.chunks.structure[c][graph.chunks.center[c][index]]) <= {slot}
        assert graph.chunks.composition[c, slot, 0] == len(atoms)
        volume = graph.chunks.volume[c, slot]
        assert volume == (pytest.approx(atoms.get_volume()) if atoms.pbc.all() else np.inf)
        degree = np.bincount(expected[:, 0].astype(int), minlength=len(atoms))
        triplets += int((degree * (degree - 1) // 2).sum())
        first += len(atoms)
    assert graph.chunks.triplet_mask.sum() == triplets


@pytest.fixture(scope="module")
def chunk():
    """Two species in irregular order, one chunk, with triplets."""
    rng = np.random.default_rng(2)
    structures = []
    for k in range(3):
        atoms = bulk("Si", "diamond", a=5.4, cubic=True)
        atoms.set_chemical_symbols([str(s) for s in rng.choice(["Si", "Ge"], 8)])
        atoms.rattle(0.1, seed=k)
        structures.append(atoms)
    graph = build_graph(structures, ("Si", "Ge"), 3.8, triplets=True)
    assert graph.chunks.species.shape[0] == 1
    fields = {name: value[0] for name, value in vars(graph.chunks).items()}
    return type(graph.chunks)(**fields)


def real_edges(chunk):
    return np.flatnonzero(chunk.center < len(chunk.species) - 1)


def test_edges_are_sorted_by_centre_then_species(chunk):
    assert (np.diff(chunk.center) >= 0).all()
    assert (np.diff(chunk.structure) >= 0).all()
    key = chunk.center * 2 + chunk.species[chunk.neighbor]
    assert (np.diff(key[real_edges(chunk)]) >= 0).all()


def test_the_reverse_of_an_edge_is_the_edge_from_the_other_end(chunk):
    edges = real_edges(chunk)
    back = chunk.reverse[edges]
    assert np.array_equal(chunk.reverse[back], edges)
    assert np.array_equal(chunk.center[back], chunk.neighbor[edges])
    assert np.array_equal(chunk.pair[back], chunk.pair[edges])
    np.testing.assert_allclose(chunk.direction[back], -chunk.direction[edges], atol=1e-13)
    assert not (back == edges).any()


def test_pairs_know_their_species(chunk):
    edges = real_edges(chunk)
    a, b = chunk.species[chunk.center[edges]], chunk.species[chunk.neighbor[edges]]
    assert np.array_equal(chunk.pair_species[chunk.pair[edges]], pair_index(a, b, 2))
    assert set(pair_index(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)) == {0, 1, 2}
    counts = np.bincount(chunk.pair[edges])
    assert (counts[counts > 0] == 2).all(), "every pair is two edges"


def test_triplets_share_their_centre_and_come_once(chunk):
    pairs = chunk.triplet_edges[chunk.triplet_mask > 0]
    assert np.array_equal(chunk.center[pairs[:, 0]], chunk.center[pairs[:, 1]])
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    degree = np.bincount(chunk.center[real_edges(chunk)])
    assert len(pairs) == (degree * (degree - 1) // 2).sum()


def test_padding_points_to_the_dummies(chunk):
    n_atoms, n_edges = len(chunk.species), len(chunk.center)
    padding = np.setdiff1d(np.arange(n_edges), real_edges(chunk))
    assert padding.size > 0, "a chunk always ends with an unused edge"
    assert (chunk.center[padding] == n_atoms - 1).all()
    assert (chunk.neighbor[padding] == n_atoms - 1).all()
    assert np.array_equal(chunk.reverse[padding], padding)
    assert (chunk.pair[padding] == len(chunk.distance) - 1).all()
    assert (chunk.triplet_edges[chunk.triplet_mask == 0] == n_edges - 1).all()
    assert chunk.volume[-1] == np.inf
    assert chunk.composition[-1].sum() == 0
    assert np.isfinite(chunk.distance).all()
    assert (chunk.distance > 0).all()


def test_a_set_that_grew_a_little_keeps_its_shapes():
    structures = [bulk("Si", "diamond", a=5.3 + 0.02 * k) for k in range(6)]
    shapes = [
        [v.shape for v in vars(build_graph(structures[:n], ("Si",), 4.0).chunks).values()]
        for n in (5, 6)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("cutoff", [0.0, -1.0, np.inf, np.nan])
def test_a_cutoff_must_be_a_positive_number(cutoff):
    with pytest.raises(CutoffError, match=r"the cutoff of a graph is .* Å: give a positive number"):
        build_graph([bulk("Si")], ("Si",), cutoff)


def test_no_structures():
    with pytest.raises(StructureError, match=r"no structures given: a graph needs at least one"):
        build_graph([], ("Si",), 4.0)


def test_an_unknown_species_is_named():
    with pytest.raises(SpeciesError, match=r"contains Ge, the potential knows Si, C: give the pot"):
        build_graph([bulk("Ge")], ("Si", "C"), 4.0)


def test_atoms_written_twice_are_named():
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.positions[5] = atoms.positions[2] + [0.1, 0.0, 0.0] + atoms.cell.array[1]
    with pytest.raises(StructureError, match=r"atoms [25] and [25] of Si8 are 0.100 Å apart"):
        build_graph([bulk("Si"), atoms], ("Si",), 4.0)


def test_a_graph_padded_like_another_has_its_shapes_and_its_numbers():
    """So that blocks of a stream are served by one compiled program."""
    small = [bulk("Si", "diamond", a=5.43), bulk("Si", "diamond", a=5.3, cubic=True)]
    large = [bulk("Si", "diamond", a=5.0, cubic=True) * (3, 3, 2) for _ in range(5)]
    pattern = build_graph(large, ("Si",), 5.0)
    plain, padded = (build_graph(small, ("Si",), 5.0, like=g) for g in (None, pattern))
    shapes = [jax.tree.map(lambda a: a.shape, g.chunks) for g in (pattern, padded)]
    assert shapes[0] == shapes[1]
    potential = StillingerWeber.silicon_1985()
    first, second = (evaluate(potential, g, cutoff=5.0) for g in (plain, padded))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)
