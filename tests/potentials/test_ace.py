"""Linear ACE: invariances, linear independence, the design matrix, priors, core."""

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from numpy.polynomial.legendre import leggauss, legval

from bayespot.errors import CutoffError, PriorError
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.potentials.ace import ACE
from bayespot.potentials.ace_basis import make_basis
from bayespot.potentials.ace_functions import (
    coupling,
    couplings,
    distance_map,
    harmonics,
    independent,
    radial,
)
from bayespot.potentials.linear import blocks

SPECIES = {"one": ("Si",), "two": ("Si", "Ge")}


def cluster(rng, n, species):
    """Atoms in a box without boundaries, none closer than 1.6 Å."""
    points = [np.zeros(3)]
    while len(points) < n:
        new = rng.uniform(-3, 3, 3)
        if min(np.linalg.norm(new - p) for p in points) > 1.6:
            points.append(new)
    return Atoms([species[k % len(species)] for k in range(n)], positions=points)


def random_ace(species, seed=0, **settings):
    empty = ACE(species=species, **settings)
    rng = np.random.default_rng(seed)
    return empty.replace(c=rng.standard_normal(len(empty.c)), e0=1.0 + np.arange(len(species)))


def run(potential, *structures):
    graph = build_graph(structures, potential.species, potential.reach)
    return evaluate(potential, graph, cutoff=potential.reach)


# --- parts of the basis ---------------------------------------------------------------------


def test_radial_functions_are_orthonormal_and_end_smoothly():
    x, weight = leggauss(40)
    values, slopes = (np.stack(f) for f in radial(x, np.ones_like(x), 8))
    np.testing.assert_allclose((values * weight) @ values.T, np.eye(9), atol=1e-12)
    h = 1e-6
    ahead, behind = (np.stack(radial(x + s * h, np.ones_like(x), 8)[0]) for s in (1, -1))
    np.testing.assert_allclose(slopes, (ahead - behind) / (2 * h), atol=1e-7)
    beyond = np.stack(radial(np.array([1.0, 1.2]), np.ones(2), 8)[0])
    assert not beyond.any()


def test_map_of_distances():
    r = np.linspace(0.3, 5.0, 200)
    x, dx = distance_map(r, 2.4, 5.0, 2.0, 4.0)
    h = 1e-6
    slope = (distance_map(r + h, 2.4, 5.0, 2.0, 4.0)[0]
             - distance_map(r - h, 2.4, 5.0, 2.0, 4.0)[0]) / (2 * h)
    np.testing.assert_allclose(dx, slope, atol=1e-8)
    assert (dx > 0).all()
    assert x[-1] == pytest.approx(1.0)
    assert abs(r[dx.argmax()] - 2.4) < 0.6


def test_harmonics_obey_the_addition_theorem():
    rng = np.random.default_rng(0)
    u = rng.standard_normal((6, 3))
    u /= np.linalg.norm(u, axis=1)[:, None]
    values, gradients = harmonics(u, 6)
    h = 1e-6
    for degree in range(7):
        y = np.stack(values[degree])
        coefficients = np.eye(7)[degree]
        np.testing.assert_allclose(y.T @ y, legval(u @ u.T, coefficients), atol=1e-12)
        for m in range(2 * degree + 1):
            for axis in range(3):
                moved = [u + s * h * np.eye(3)[axis] for s in (1, -1)]
                slope = [harmonics(v, 6)[0][degree][m] for v in moved]
                np.testing.assert_allclose(
                    gradients[degree][m][axis], (slope[0] - slope[1]) / (2 * h), atol=1e-7
                )


def harmonics_of(vectors, ls):
    values = harmonics(vectors, max(ls))[0]
    return [np.array([f[k] for f in values[degree]]) for k, degree in enumerate(ls)]


@pytest.mark.parametrize("ls", [(0, 0, 0), (0, 2, 2), (1, 1, 2), (2, 2, 2), (1, 2, 3), (2, 3, 3),
                                (1, 1, 1), (1, 2, 2), (2, 3, 4), (3, 3, 3)])
def test_couplings_are_invariant(ls):
    """The coupled product of three harmonics does not change when all directions are turned."""
    rng = np.random.default_rng(1)
    u = rng.standard_normal((3, 3))
    u /= np.linalg.norm(u, axis=1)[:, None]
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    found = [
        np.einsum("abc,a,b,c->", coupling(*ls), *harmonics_of(v, ls))
        for v in (u, u @ turn.T, u @ -turn.T)
    ]
    assert abs(found[0]) > 1e-3
    parity = (-1) ** sum(ls)
    np.testing.assert_allclose(found, found[0] * np.array([1, 1, parity]), atol=1e-13)
    assert np.linalg.norm(coupling(*ls)) == pytest.approx(1.0)


def invariants_by_characters(ls, equal):
    """How many there are: the mean over all rotations of the trace in the space of products.

    A run of k equal factors is the symmetric power, whose trace is the complete homogeneous
    polynomial of the characters.
    """
    angle = (np.arange(4096) + 0.5) * np.pi / 4096
    weight = (1 - np.cos(angle)) / 4096  # Weyl's measure of the classes

    def character(ell, times):
        return 1 + 2 * sum(np.cos(m * times * angle) for m in range(1, ell + 1))

    total, k = np.ones_like(angle), 0
    while k < len(ls):
        run = 1
        while k + run < len(ls) and equal[k + run]:
            run += 1
        powers = [character(ls[k], t) for t in range(1, run + 1)]
        h = [np.ones_like(angle)]
        for n in range(1, run + 1):  # Newton's identity
            h.append(sum(powers[t - 1] * h[n - t] for t in range(1, n + 1)) / n)
        total, k = total * h[run], k + run
    return float(total @ weight)


@pytest.mark.parametrize("ls", [(0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1), (0, 1, 1, 2),
                                (1, 1, 2, 2), (2, 2, 2, 2), (1, 2, 2, 3), (1, 1, 3, 3),
                                (3, 3, 3, 3)])
def test_four_factors_have_all_their_invariants(ls):
    rng = np.random.default_rng(5)
    patterns = [(False, *rest) for rest in np.ndindex(2, 2, 2)]
    for pattern in patterns:
        equal = tuple(bool(e) and ls[k] == ls[k - 1] for k, e in enumerate(pattern))
        kept = independent(ls, equal)
        assert len(kept) == round(invariants_by_characters(ls, equal)), equal
    found = couplings(ls)
    gram = [[np.vdot(a, b) for b in found.values()] for a in found.values()]
    np.testing.assert_allclose(gram, np.eye(len(found)), atol=1e-12)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    u = rng.standard_normal((4, 3))
    u /= np.linalg.norm(u, axis=1)[:, None]
    for tensor in found.values():
        before, after = (np.einsum("abcd,a,b,c,d->", tensor, *harmonics_of(v, ls))
                         for v in (u, u @ turn.T))
        assert after == pytest.approx(before, abs=1e-13)


@pytest.mark.parametrize(
    ("degrees", "weight"), [((5, 3, 2), 1.0), ((9, 6, 5), 1.5), ((4, -1, 3), 2.0)]
)
def test_every_function_within_the_degree_is_there_once(degrees, weight):
    basis = make_basis(2, degrees, weight)
    seen = set()
    for b in range(basis.size):
        factors = basis.factors(b)
        nu = basis.order[b]
        assert len(factors) == nu
        assert sum(n + weight * ell for _, n, ell in factors) <= degrees[nu - 1]
        assert sum(ell for *_, ell in factors) % 2 == 0
        seen.add(tuple(sorted(factors)))
    assert len(seen) == basis.size
    with pytest.raises(IndexError):
        basis.factors(basis.size)


# --- the potential --------------------------------------------------------------------------


@pytest.mark.parametrize("species", SPECIES.values(), ids=SPECIES)
def test_reflections_rotations_and_permutations_change_nothing(species):
    rng = np.random.default_rng(2)
    potential = random_ace(species, degree_2=6, degree_3=6, degree_4=4)
    atoms = cluster(rng, 12, species)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    out = run(potential, atoms)
    for operation in (turn, -turn, np.diag([1.0, 1.0, -1.0])):
        order = rng.permutation(len(atoms))
        other = atoms[order]
        other.positions = other.positions @ operation.T
        found = run(potential, other)
        np.testing.assert_allclose(found.energy, out.energy, rtol=1e-12)
        np.testing.assert_allclose(
            found.forces, (out.forces @ operation.T)[order], atol=1e-10 * np.abs(out.forces).max()
        )


@pytest.mark.parametrize("species", SPECIES.values(), ids=SPECIES)
def test_design_matrix_is_the_potential(species):
    """Blocks of several structures, periodic images of one atom, vacuum, atoms alone."""
    potential = random_ace(species, degree_2=5, degree_3=5, degree_4=4, core=0.0)
    structures = [cluster(np.random.default_rng(3), 9, species), Atoms("Si", positions=[[0, 0, 0]])]
    for k in range(4):
        atoms = bulk("Si", "diamond", a=5.43, cubic=k % 2 == 0)
        atoms.set_chemical_symbols([species[(i + k) % len(species)] for i in range(len(atoms))])
        atoms.rattle(0.1, seed=k)
        structures.append(atoms)
    structures.append(bulk("Si", "diamond", a=5.43, cubic=True).repeat((3, 3, 1)))
    graph = build_graph(structures, species, potential.reach)
    assert len(list(blocks(graph))) == 2
    out = evaluate(potential, graph, cutoff=potential.reach)
    many = jax.tree.map(lambda leaf: np.stack([leaf] * 2), potential)
    for found, expected in zip(many.evaluate_by_design(graph), out, strict=True):
        for draw in found:
            np.testing.assert_allclose(draw, expected, atol=1e-11 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("species", SPECIES.values(), ids=SPECIES)
def test_functions_are_linearly_independent(species):
    two = len(species) > 1
    potential = ACE(species=species, degree_1=5, degree_2=4, degree_3=3 if two else 5,
                    degree_4=2 if two else 4, angular_weight=0.5 if two else 1.0)
    rng = np.random.default_rng(4)
    size = len(potential.c)
    structures = [cluster(rng, 12 + k % 8, species) for k in range(2 * size)]
    graph = build_graph(structures, species, potential.reach)
    columns = np.concatenate([d.energy[:size] for d in potential.design(graph)], axis=1)
    columns /= np.linalg.norm(columns, axis=1)[:, None]
    singular = np.linalg.svd(columns, compute_uv=False)
    assert singular[-1] > 1e-9 * singular[0], singular[-5:]
    assert np.linalg.matrix_rank(columns) == size


def test_core_is_the_universal_repulsion():
    """At 0.5 Å against the formula of Ziegler, Biersack and Littmark, by hand."""
    atoms = Atoms("SiGe", positions=[[0, 0, 0], [0.5, 0, 0]])
    potential = ACE(species=("Ge", "Si"))
    x = 0.5 / (0.88534 * 0.529177210903 / (14**0.23 + 32**0.23))
    screen = sum(a * np.exp(-b * x) for a, b in zip(
        (0.18175, 0.50986, 0.28022, 0.02817), (3.1998, 0.94229, 0.4029, 0.20162), strict=True
    ))
    out = run(potential.replace(c=np.zeros(len(potential.c)), e0=np.zeros(2)), atoms)
    assert out.energy[0] == pytest.approx(14.399645 * 14 * 32 / 0.5 * screen, rel=1e-6)
    # Half way out the switch has begun; beyond the range there is nothing left.
    far = Atoms("SiGe", positions=[[0, 0, 0], [0.81 * 2.5, 0, 0]])
    assert run(potential.held(), far).energy[0] == 0.0
    assert run(potential.held(), atoms).energy[0] == pytest.approx(out.energy[0])


def test_prior_falls_with_the_degrees():
    potential = ACE(species=("Si",), log_a_2=0.3, p_2=1.5, q_2=0.7)
    names, slopes = potential.prior_slopes()
    item = next(p for p in potential.parameters() if p.name == "c")
    where = potential.coordinates("function").index("Si:Si(0,1)Si(1,1)")
    assert potential.prior_of(item, where).sd == pytest.approx(np.exp(0.3) * 2**-1.5 * 3**-0.7)
    log_sd = np.log([potential.prior_of(item, k).sd for k in range(len(potential.c))])
    for k, name in enumerate(names):
        moved = potential.replace(**{name: getattr(potential, name) + 0.25})
        new = np.log([moved.prior_of(item, k).sd for k in range(len(moved.c))])
        np.testing.assert_allclose(new - log_sd, 0.25 * slopes[:, k], atol=1e-12)


def test_unlike_pairs_are_counted_once():
    names = ACE(species=("Si", "Ge")).coordinates("function")
    assert "Ge:Si(0,0)" in names
    assert "Si:Ge(0,0)" not in names
    assert len(set(names)) == len(names)


def test_a_map_beyond_the_cutoff_is_refused():
    with pytest.raises(CutoffError, match="larger than r0"):
        ACE(species=("Si",), cutoff=2.0, r0=2.4)


@pytest.mark.parametrize("powers", [(1.0, 1.0), (3.0, 2.0), (0.0, 2.0)])
def test_a_map_of_distances_that_is_none(powers):
    with pytest.raises(PriorError, match=r"needs 0 < p <= q and 2 p q > p \+ q"):
        ACE(species=("Si",), map_p=powers[0], map_q=powers[1])
