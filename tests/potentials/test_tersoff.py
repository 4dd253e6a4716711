"""Tersoff's form in physical coordinates: what its numbers mean, and where it could break."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from bayespot.errors import CutoffError, PriorError
from bayespot.evaluate import evaluate, evaluate_chunk, evaluate_draws
from bayespot.graph import build_graph
from bayespot.parameters import ParameterSpace
from bayespot.potentials.priors import LogNormal, Reference
from bayespot.potentials.tersoff import Tersoff
from bayespot.potentials.tersoff_sets import ELEMENTS_1989, combine
from bayespot.testing import check_potential
from bayespot.units import QUANTITIES

PUBLISHED = {
    "1988": Tersoff.silicon_1988(),
    "1988 elastic": Tersoff.silicon_1988_elastic(),
    "C 1989": Tersoff.elements_1989(("C",)),
    "SiC 1989": Tersoff.elements_1989(("Si", "C")),
    "GeSi 1989": Tersoff.elements_1989(("Ge", "Si")),
    "SiC 1990": Tersoff.silicon_carbide_1990(),
}


def run(potential, *structures, cutoff=None):
    cutoff = cutoff or potential.reach
    return evaluate(
        potential, build_graph(structures, potential.species, cutoff, triplets=True), cutoff=cutoff
    )


def crystal(length, names):
    name = "".join(names) if len(set(names)) > 1 else names[0]
    kind = "zincblende" if len(set(names)) > 1 else "diamond"
    return bulk(name, kind, a=4 * length / np.sqrt(3))


def changed(potential, amount=0.1, seed=0):
    """Every entry off by about ``amount``."""
    rng = np.random.default_rng(seed)
    names = [p.name for p in potential.parameters() if p.sampled and p.name != "e0"]
    return potential.replace(**{
        name: np.asarray(getattr(potential, name))
        * (1 + amount * rng.uniform(-1, 1, len(getattr(potential, name))))
        for name in names
    })


# --- what the numbers mean -------------------------------------------------------------------


@pytest.mark.parametrize("switch", ["smooth", "cosine"])
@pytest.mark.parametrize("pair", [("Si", "Si"), ("Si", "C"), ("C", "C")])
def test_depth_length_and_stiffness_are_those_of_the_four_fold_crystal(pair, switch):
    """2 D is its cohesive energy, r0 its bond, 2 k D / 9 its bulk modulus times atomic volume."""
    potential = changed(Tersoff.elements_1989(("Si", "C")).replace(switch=switch, e0=[1.5, -2.5]))
    k = potential.pair_number(*(potential.species.index(s) for s in pair))
    length, depth, stiffness = (float(getattr(potential, n)[k]) for n in ("r0", "D", "k"))
    atoms = crystal(length, pair)
    h = 1e-4
    bigger, smaller = (crystal(length * (1 + sign * h), pair) for sign in (1, -1))
    out = run(potential, atoms, bigger, smaller)
    offsets = sum(float(potential.e0[potential.species.index(s)]) for s in pair)
    assert out.energy[0] - offsets == pytest.approx(-4 * depth, rel=1e-12)
    assert np.abs(out.stress[0]).max() < 1e-12
    assert np.abs(out.forces).max() < 1e-11
    modulus = (out.stress[1] - out.stress[2])[:3].mean() / (6 * h)
    volume = atoms.get_volume() / 2
    assert modulus * volume == pytest.approx(2 * stiffness * depth / 9, rel=1e-4)


def test_silicon_of_1988_is_at_its_published_minimum():
    """Diamond with a = 5.432 Å and -4.63 eV/atom: Phys. Rev. B 37, 6991, Table I."""
    for name in ("1988", "1988 elastic"):
        potential = PUBLISHED[name]
        assert 4 * potential.r0[0] / np.sqrt(3) == pytest.approx(5.432, abs=1e-3)
        assert -2 * potential.D[0] == pytest.approx(-4.63, abs=2e-3)


def test_the_dimer_is_that_of_the_docstring():
    potential = changed(PUBLISHED["1988 elastic"])
    entry = potential.to_entries()["Si", "Si", "Si"]
    b = float(potential._crystal_orders()[0])
    slope = entry["lambda1"] - entry["lambda2"]
    depth = potential.D[0] * b ** (-potential.S[0] / (potential.S[0] - 1))
    length = potential.r0[0] + np.log(b) / slope
    dimer = Atoms("Si2", positions=[[0, 0, 0], [0, 0, length]])
    out = run(potential, dimer)
    assert out.energy[0] == pytest.approx(-depth, rel=1e-12)
    assert np.abs(out.forces).max() < 1e-12


def test_the_weakening_is_that_of_three_others_at_any_angle():
    """The mean of b's argument over random directions, not one direction, makes b = exp(-w)."""
    one = Tersoff(species=("Si",), d=1e8).at("angle", np.zeros(1, int)).at("bond", np.zeros(1, int))
    cos = np.linspace(-1, 1, 2001)
    mean = np.trapezoid(one.angle(cos), cos) / 2
    assert float(one.order(3 * mean)) == pytest.approx(np.exp(-float(one.w)), rel=1e-6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_of_lammps_survive_the_change_of_coordinates(name):
    potential = PUBLISHED[name]
    again = Tersoff.from_entries(potential.species, potential.to_entries())
    for item in potential.parameters():
        np.testing.assert_allclose(getattr(again, item.name), getattr(potential, item.name),
                                   rtol=1e-11, err_msg=item.name)
    original = combine({"Si": ELEMENTS_1989["Si"]})["Si", "Si", "Si"]
    found = Tersoff.elements_1989(("Si",)).to_entries()["Si", "Si", "Si"]
    assert found == pytest.approx(original, rel=1e-12)


def test_the_smooth_switch_is_kumagais_and_has_three_derivatives():
    view = Tersoff(species=("Si",), cutoff=3.3, switch_width=0.6).at("pair", np.zeros(1, int))
    r = np.linspace(2.7 + 1e-9, 3.3 - 1e-9, 101)
    theta = 0.5 * np.pi * (r - 3.0) / 0.3
    expected = 0.5 - 9 / 16 * np.sin(theta) - 1 / 16 * np.sin(3 * theta)
    np.testing.assert_allclose(view.weight(r), expected, atol=1e-15)
    derivative = view.weight
    for _ in range(3):
        derivative = jax.grad(derivative)
        for end in (2.7, 3.3):
            assert abs(float(derivative(end - 1e-7)) - float(derivative(end + 1e-7))) < 1e-2


# --- the contract, beyond the default ----------------------------------------------------------


def test_contract_of_the_other_settings():
    form = Tersoff(species=("Si",), m=1, switch="cosine")
    check_potential(form, draws=1, smooth_cutoff=False)  # the published switch is not that smooth


def test_a_sampled_cutoff_is_reached_and_differentiated():
    prior = LogNormal(3.0, 0.05, low=2.8, high=3.4)
    space = ParameterSpace(Tersoff(species=("Si",)), Reference(), priors={"cutoff": prior},
                           quantities=("energy",))
    assert space.reach == 3.4
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.positions += 0.25 * np.random.default_rng(3).standard_normal((8, 3))
    chunk = jax.tree.map(
        lambda a: jnp.asarray(a[0]), build_graph([atoms], ("Si",), 3.4, triplets=True).chunks
    )
    base = Tersoff(species=("Si",), cutoff=3.0, switch_width=0.5)

    @jax.jit
    def energy_of(cutoff):
        tree = jax.tree.map(jnp.asarray, base)
        object.__setattr__(tree, "cutoff", jnp.reshape(cutoff, (1,)))
        return evaluate_chunk(tree, chunk).energy[0]

    slope = jax.jit(jax.grad(energy_of))(3.0)
    h = 1e-5
    assert abs(slope) > 1e-3
    assert slope == pytest.approx(
        float(energy_of(3.0 + h) - energy_of(3.0 - h)) / (2 * h), rel=1e-5
    )


def test_no_direction_of_two_species_is_flat():
    """beta and gamma of LAMMPS are known as a product only; nothing like it is left here."""
    rng = np.random.default_rng(0)
    structures = []
    for k in range(12):
        atoms = bulk("Si", "diamond", a=5.2 + 0.05 * k, cubic=True)
        atoms.set_chemical_symbols([str(s) for s in rng.choice(["Si", "Ge"], 8)])
        atoms.positions += 0.2 * rng.standard_normal((8, 3))
        structures.append(atoms)
    space = ParameterSpace(
        Tersoff(species=("Si", "Ge"), cutoff=3.6), Reference(2.4, 4.0, (0.0, 0.0)),
        fixed={f"sigma_{q}": 1.0 for q in QUANTITIES},
    )  # fmt: skip
    assert {n.split("[")[0] for n in space.names} >= {"omega", "w", "n", "floor", "d", "cos0"}
    graph = build_graph(structures, ("Si", "Ge"), 3.6, triplets=True)
    h = 1e-4
    steps = h * np.concatenate([np.eye(space.size), -np.eye(space.size)])
    out = evaluate_draws(space.potential(steps), graph)
    values = np.concatenate([out.energy, out.forces.reshape(len(steps), -1)], axis=1)
    plus, minus = np.split(values, 2)
    jacobian = (plus - minus) / (2 * h)
    assert np.linalg.norm(jacobian, axis=1).min() > 1e-3
    scaled = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
    assert np.linalg.svd(scaled, compute_uv=False).min() > 1e-5


@pytest.mark.parametrize("potential", [
    Tersoff(species=("Si",)), PUBLISHED["1988"].replace(switch="smooth"), PUBLISHED["SiC 1989"],
], ids=["default", "n = 23", "SiC"])  # fmt: skip
def test_finite_where_there_is_no_neighbour_and_at_the_cutoff(potential):
    """Atoms alone, a dimer, and a third atom exactly at and just below the cutoff."""
    end = potential.reach
    name = potential.species[0]
    structures = [
        Atoms(name, positions=[[0, 0, 0]]),
        Atoms(f"{name}2", positions=[[0, 0, 0], [2.0, 0, 0]]),
        *(Atoms(f"{name}3", positions=[[0, 0, 0], [2.0, 0, 0], [0, end - gap, 0]])
          for gap in (0.0, 1e-12, 1e-6, 1e-2)),
    ]
    graph = build_graph(structures, potential.species, end + 0.1, triplets=True)
    chunk = jax.tree.map(lambda a: jnp.asarray(a[0]), graph.chunks)

    def total(one):
        out = evaluate_chunk(one, chunk)
        return (out.energy**2).sum() + (out.forces**2).sum()

    tree = jax.tree.map(jnp.asarray, potential)
    value, gradient = jax.jit(jax.value_and_grad(total))(tree)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


# --- mistakes --------------------------------------------------------------------------------


def test_mistakes_are_named():
    with pytest.raises(PriorError, match="m = 2"):
        Tersoff(species=("Si",), m=2)
    with pytest.raises(PriorError, match="'smooth' or 'cosine'"):
        Tersoff(species=("Si",), switch="sharp")
    with pytest.raises(CutoffError, match="between 0 and the cutoff"):
        Tersoff(species=("Si",), switch_width=5.0)
    with pytest.raises(PriorError, match="no numbers for C with Ge"):
        Tersoff.elements_1989(("C", "Ge"))
    with pytest.raises(PriorError, match="not \\['O'\\]"):
        Tersoff.elements_1989(("Si", "O"))


def test_contradicting_entries_are_named():
    entries = PUBLISHED["SiC 1989"].to_entries()
    key = ("C", "Si", "Si")
    with pytest.raises(PriorError, match="in C Si Si, which belong to one pair"):
        Tersoff.from_entries(("Si", "C"), {**entries, key: {**entries[key], "A": 1600.0}})
    close = {**entries, key: {**entries[key], "A": entries[key]["A"] * (1 + 1e-6)}}
    Tersoff.from_entries(("Si", "C"), close, tolerance=1e-5)
    with pytest.raises(PriorError, match="beta of the Tersoff entry C Si Si must be positive"):
        Tersoff.from_entries(("Si", "C"), {**entries, key: {**entries[key], "beta": 0.0}})
    with pytest.raises(PriorError, match="entries for C Si Si"):
        Tersoff.from_entries(("Si", "C"), {k: v for k, v in entries.items() if k != key})
    with pytest.raises(PriorError, match="m = 1 and m = 3"):
        Tersoff.from_entries(("Si", "C"), {**entries, key: {**entries[key], "m": 1.0}})
