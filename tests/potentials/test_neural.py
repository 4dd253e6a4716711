"""The symmetry functions against the sums they stand for, and the network's exact statements."""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from bayespot.errors import PriorError
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.potentials.neural import SIGNS, ZETAS, NeuralNetwork


def crystal(species=("Si", "Ge")):
    atoms = bulk("Si", "diamond", a=5.4, cubic=True)
    atoms.set_chemical_symbols([species[k % len(species)] for k in range(8)])
    atoms.rattle(0.1, seed=4)
    return atoms


def functions_of(potential, atoms):
    graph = build_graph([atoms], potential.species, potential.reach)
    chunk = jax.tree.map(lambda a: a[0], graph.chunks)
    vector = chunk.direction * chunk.distance[chunk.pair][:, None]
    return np.asarray(potential.symmetry_functions(vector, chunk))[graph.atom_slot]


def test_symmetry_functions_are_their_sums():
    potential = NeuralNetwork(species=("Si", "Ge"), cutoff=4.2)
    atoms = crystal()
    found = functions_of(potential, atoms)
    i, j, d, vectors = neighbor_list("ijdD", atoms, 4.2)
    symbols = np.array(atoms.get_chemical_symbols())

    def radial(r, n):
        step = (4.2 - 0.7 * 2.5) / n
        x = np.clip((r - 2.1) / 2.1, 0, 1)
        shape = np.exp(-0.5 * ((r - 0.7 * 2.5 - step * np.arange(n)) / (0.75 * step)) ** 2)
        return shape * (1 - 10 * x**3 + 15 * x**4 - 6 * x**5)

    for atom in (0, 5):
        mine = np.flatnonzero(i == atom)
        expected = dict.fromkeys(potential.features(), 0.0)
        for e in mine:
            for m, value in enumerate(radial(d[e], potential.n_radial)):
                expected[f"r{m}({symbols[j[e]]})"] += value
        for a, e in enumerate(mine):
            for f in mine[a + 1 :]:
                cos = vectors[e] @ vectors[f] / d[e] / d[f]
                both = "-".join(sorted((symbols[j[e]], symbols[j[f]])))
                n = potential.n_angular
                for q, value in enumerate(radial(d[e], n) * radial(d[f], n)):
                    for sign in SIGNS:
                        for zeta in ZETAS:
                            name = f"a{q}{'+' if sign > 0 else '-'}{zeta}({both})"
                            expected[name] += 2.0 ** (1 - zeta) * (1 + sign * cos) ** zeta * value
        np.testing.assert_allclose(found[atom], list(expected.values()), rtol=1e-10, atol=1e-12)


def test_functions_are_scaled_by_an_ideal_gas():
    """Mean zero and spread one over the atoms that see a gas of one atom per bond length cubed."""
    potential = NeuralNetwork(species=("Si", "Ge"), cutoff=5.0)
    shift, scale = (np.asarray(v) for v in potential._ideal_gas())
    rng = np.random.default_rng(0)
    first = 0.7 * 2.5
    values = []
    for _ in range(600):
        n = rng.poisson((10.0 / 2.5) ** 3)
        points = rng.uniform(-5, 5, (n, 3))
        points = points[np.linalg.norm(points, axis=1) > first]
        names = ["Si", *rng.choice(["Si", "Ge"], len(points))]
        # only the first atom is looked at: the others may be as close as chance has them
        keep = [0]
        for k, point in enumerate(points, 1):
            if all(np.linalg.norm(point - points[m - 1]) > 0.31 for m in keep[1:]):
                keep.append(k)
        positions = np.concatenate([np.zeros((1, 3)), points])[keep]
        atoms = Atoms([names[k] for k in keep], positions=positions)
        values.append((functions_of(potential, atoms)[0] - shift) / scale)
    values = np.array(values)
    assert np.abs(values.mean(axis=0)).max() < 0.25
    np.testing.assert_allclose(values.std(axis=0), 1.0, atol=0.3)


def test_reflection_changes_nothing_and_the_last_layer_is_linear():
    rng = np.random.default_rng(1)
    potential = NeuralNetwork(species=("Si", "Ge"))
    potential = potential.replace(
        a=0.3 * rng.standard_normal(potential.a.shape), c=rng.standard_normal(potential.c.shape)
    )
    atoms = crystal()
    mirrored = atoms.copy()
    mirrored.set_cell(atoms.cell.array * [-1, 1, 1])
    mirrored.positions = atoms.positions * [-1, 1, 1]
    graph = build_graph([atoms, mirrored], potential.species, potential.reach)
    out = evaluate(potential, graph, cutoff=potential.reach)
    assert abs(out.energy[0]) > 1e-3
    np.testing.assert_allclose(out.energy[1], out.energy[0], rtol=1e-12)
    np.testing.assert_allclose(out.forces[8:] * [-1, 1, 1], out.forces[:8], atol=1e-12)
    half = evaluate(potential.replace(c=0.5 * potential.c), graph, cutoff=potential.reach)
    np.testing.assert_allclose(half.forces, 0.5 * out.forces, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("settings", "message"), [
    ({"hidden": 0}, "hidden, n_radial and n_angular must be 1 or more"),
    ({"species": ("Si", "Ge"), "cutoff": [5.0, 4.0]}, "NeuralNetwork has one cutoff"),
])  # fmt: skip
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(PriorError, match=message):
        NeuralNetwork(**settings)
