"""Sums of forms as one form."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ase.build import bulk

import bayespot
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import CutoffError, PriorError, SpeciesError
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.inference.laplace import laplace
from bayespot.likelihood import FitProblem
from bayespot.parameters import ParameterSpace
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.potentials.base import form_named, registry
from bayespot.potentials.born_mayer import BornMayer
from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.linear import LinearPotential
from bayespot.potentials.morse import Morse
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.priors import LogNormal, Reference
from bayespot.potentials.spline_pair import SplinePair
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.sums import SumPotential, sum_form
from bayespot.potentials.zbl import ZBL
from bayespot.testing import check_potential

PAIR = ("Si", "Ge")


def labels(potential, *structures, cutoff=None):
    cutoff = cutoff or potential.reach
    graph = build_graph(structures, potential.species, cutoff, triplets=potential.needs_triplets)
    return evaluate(potential, graph, cutoff=cutoff)


def crystal(seed=0, species=PAIR):
    rng = np.random.default_rng(seed)
    atoms = bulk("Si", "diamond", a=5.3, cubic=True)
    atoms.set_chemical_symbols([str(s) for s in rng.choice(species, 8)])
    atoms.positions += 0.15 * rng.standard_normal((8, 3))
    return atoms


def three():
    sw = StillingerWeber(species=PAIR, e0=[-1.0, -2.0])
    spline = SplinePair(species=PAIR, n_knots=5, cutoff=5.0, e0=[0.5, 0.25])
    return sw, spline, ZBL(species=PAIR, cutoff=3.2)


def test_energies_forces_stresses_and_offsets_add():
    parts = three()
    whole = parts[0] + parts[1] + parts[2]
    assert whole.reach == 5.0
    atoms = crystal()
    together = labels(whole, atoms)
    alone = [labels(part, atoms) for part in parts]
    for name in ("energy", "forces", "stress"):
        np.testing.assert_allclose(
            getattr(together, name), sum(getattr(one, name) for one in alone), atol=1e-11
        )
    assert np.abs(alone[2].forces).max() > 0.1
    np.testing.assert_allclose(whole.e0, [-0.5, -1.75])


@pytest.mark.parametrize("name", registry())
def test_every_form_can_have_a_core(name):
    """ZBL added to any form of the folder, with knots, angles, bases and networks."""
    form = registry()[name](species=("Si",))
    core = ZBL(species=("Si",), cutoff=3.2)
    atoms, cutoff = crystal(species=("Si",)), max(form.reach, 3.2)
    together = labels(form + core, atoms)
    for field in ("energy", "forces"):
        alone = [getattr(labels(part, atoms, cutoff=cutoff), field) for part in (form, core)]
        np.testing.assert_allclose(getattr(together, field), sum(alone), rtol=1e-10, atol=1e-10)


def test_names_say_the_component():
    whole = three()[0] + three()[1] + three()[2]
    assert type(whole).__name__ == "StillingerWeber+SplinePair+ZBL"
    names = [item.name for item in whole.parameters()]
    assert {"stillinger_weber_D", "spline_pair_curvature", "zbl_cutoff"} <= set(names)
    assert names[-1] == "e0"
    assert set(whole.hypers()) == {
        "spline_pair_n_knots", "spline_pair_bond", "spline_pair_cutoff"
    }  # fmt: skip
    space = ParameterSpace(whole, Reference(offset=(0.0, 0.0)))
    assert "spline_pair_curvature[Si-Ge:5]" in space.names
    assert "stillinger_weber_lam[Ge-Si-Ge]" in space.names
    assert not [n for n in space.names if n.startswith("zbl")]
    # declared priors are those of the components, the spline's entry by entry
    alone = three()[1]
    item = next(p for p in whole.parameters() if p.name == "spline_pair_curvature")
    own = next(p for p in alone.parameters() if p.name == "curvature")
    assert [whole.prior_of(item, k) for k in range(15)] == [
        alone.prior_of(own, k) for k in range(15)
    ]


def test_two_of_a_kind():
    species = ("Si",)
    whole = Morse(species=species) + Morse(species=species, D=0.1, r0=4.0)
    np.testing.assert_allclose(whole.morse2_r0, [4.0])
    assert type(whole).__name__ == "Morse+Morse"


def test_the_class_is_made_once_and_sums_of_sums_are_flat():
    a, b, c = (form(species=PAIR) for form in (Morse, BornMayer, ZBL))
    assert type(a + b + c) is type(a + (b + c)) is sum_form(Morse, BornMayer, ZBL)
    assert [type(p) for p in (a + b + c).parts] == [Morse, BornMayer, ZBL]
    leaves, tree = jax.tree.flatten(a + b)
    again = jax.tree.unflatten(tree, leaves)
    assert type(again) is type(a + b)


def test_what_cannot_be_added():
    with pytest.raises(SpeciesError, match="same order"):
        Morse(species=PAIR) + ZBL(species=("Ge", "Si"))
    with pytest.raises(TypeError):
        Morse(species=PAIR) + 1.0
    with pytest.raises(PriorError, match="two or more"):
        sum_form(Morse)
    with pytest.raises(CutoffError, match="switch_width"):
        sum_form(Morse, ZBL)(species=PAIR, zbl_switch_width=5.0)


def test_a_form_is_found_by_its_name():
    assert form_named("Morse") is Morse
    assert form_named("Morse+ZBL") is form_named("Morse + ZBL") is sum_form(Morse, ZBL)
    assert not any(issubclass(form, SumPotential) for form in registry().values())

    class Flat(PairPotential):
        """A user's own."""

        def phi(self, r):
            return 0.0 * r

    assert form_named("Flat") is Flat
    assert form_named("Flat+ZBL").components == (Flat, ZBL)
    with pytest.raises(PriorError, match="Did you mean 'Morse'"):
        form_named("Morze+ZBL")


def test_cutoffs_can_be_sampled_in_a_sum():
    whole = sum_form(Morse, ZBL)(species=("Si",))
    space = ParameterSpace(
        whole, Reference(offset=(0.0,)), priors={"morse_cutoff": LogNormal(6.0, 0.1, high=7.5)}
    )
    assert space.reach == 7.5
    assert ParameterSpace(whole, Reference(offset=(0.0,))).reach == pytest.approx(6.0)


@pytest.mark.parametrize("species", [("Si",), PAIR], ids="-".join)
def test_contract(species):
    assert len(check_potential(form_named("Morse+ZBL"), species=species)) == 10


def test_contract_of_knots_and_angles():
    check_potential(form_named("StillingerWeber+SplinePair"), species=PAIR)


@pytest.fixture(scope="module")
def fitted():
    """Morse + ZBL fitted to labels that it made, with 1 meV/atom and 0.02 eV/Å of noise."""
    truth = Morse(species=("Si",), D=0.8, alpha=1.5, r0=2.5, cutoff=5.0) + ZBL(
        species=("Si",), cutoff=2.3, e0=-3.0
    )
    rng = np.random.default_rng(1)
    structures = [crystal(seed, ("Si",)) for seed in range(8)]
    for k, atoms in enumerate(structures):
        atoms.set_cell(atoms.cell.array * (0.94 + 0.015 * k), scale_atoms=True)
    exact = labels(truth, *structures)
    made = [
        Labels(
            exact.energy[k] + 8e-3 * rng.standard_normal(),
            exact.forces[8 * k : 8 * k + 8] + 0.02 * rng.standard_normal((8, 3)),
            exact.stress[k],
        )
        for k in range(8)
    ]
    problem = FitProblem(truth, Dataset.from_atoms(structures, made), misfit="none")
    return truth, laplace(problem, key=jax.random.key(0)), structures


def test_a_sum_is_fitted(fitted):
    truth, posterior, _ = fitted
    posterior.check()
    assert posterior.record["form"] == "Morse+ZBL"
    for name in ("morse_D", "morse_alpha", "morse_r0"):
        column = posterior.draws[:, posterior.parameter_names.index(name)]
        assert abs(column.mean() - getattr(truth, name)[0]) < 4 * column.std()
        assert column.std() < 0.1 * column.mean()


def test_a_fitted_sum_is_saved_and_loaded(fitted, tmp_path):
    truth, posterior, structures = fitted
    path = tmp_path / "posterior.nc"
    posterior.save(path)
    again = Posterior.load(path)
    assert type(again.potential) is type(truth)
    np.testing.assert_array_equal(again.draws, posterior.draws)
    ours, theirs = (labels(p.potential, *structures) for p in (posterior, again))
    np.testing.assert_array_equal(ours.forces, theirs.forces)
    np.testing.assert_array_equal(again.potential.zbl_cutoff, [2.3])


def test_a_saved_sum_is_read_where_it_was_never_added(fitted, tmp_path):
    """Another process knows no sum yet; the name alone must be enough."""
    path = tmp_path / "posterior.nc"
    fitted[1].save(path)
    script = (
        "import sys, bayespot; bayespot.configure()\n"
        "print(type(bayespot.Posterior.load(sys.argv[1]).potential).__name__)"
    )
    root = Path(bayespot.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, check=False,
                         capture_output=True, text=True, timeout=120)  # fmt: skip
    assert run.stdout.strip() == "Morse+ZBL", run.stderr


def test_mixed_pairs_in_a_sum():
    whole = LennardJones.mixed(PAIR, epsilon=[0.4, 0.1], sigma=[2.0, 2.4]) + ZBL(species=PAIR)
    np.testing.assert_allclose(whole.lennard_jones_sigma, [2.0, 2.2, 2.4])


def expansions(species=PAIR):
    """Two linear ACE with a core in the first alone, and coefficients."""
    rng = np.random.default_rng(4)
    near = ACE(species=species, cutoff=3.8, r0=2.4, degree_1=5, degree_2=4, degree_3=2)
    far = ACE(species=species, cutoff=6.0, r0=2.4, degree_1=6, degree_2=2, degree_3=-1, core=0.0)
    return [part.replace(c=rng.standard_normal(len(part.c)), e0=[-1.0, 0.5][: len(species)])
            for part in (near, far)]


def test_a_sum_of_linear_potentials_is_linear():
    near, far = expansions()
    both = near + far
    assert isinstance(both, LinearPotential)
    assert not isinstance(near + ZBL(species=PAIR, cutoff=3.2), LinearPotential)
    np.testing.assert_array_equal(both.c, np.concatenate([near.c, far.c]))
    functions = both.coordinates("function")
    assert functions[len(near.c) - 1].split(":")[1] == "ace"
    assert functions[len(near.c)].split(":")[1] == "ace2"
    assert len(set(functions)) == len(both.c)
    for part, own in zip(both.parts, (near, far), strict=True):
        np.testing.assert_array_equal(part.c, own.c)
        assert part.reach == own.reach
    item = next(p for p in both.parameters() if p.name == "c")
    own = next(p for p in far.parameters() if p.name == "c")
    assert both.prior_of(item, len(near.c)) == far.prior_of(own, 0)
    assert both.prior_of(item, len(both.c) - 1) == far.prior_of(own, len(far.c) - 1)
    names, slopes = both.prior_slopes()
    assert names[0] == "ace_log_a_1"
    assert names[-1] == "ace2_q_2"
    assert not slopes[: len(near.c), len(near.prior_slopes()[0]) :].any()
    # The design matrix is that of the parts, whose atoms see no farther than they would alone.
    atoms = crystal()
    design = next(iter(both.design(build_graph([atoms], PAIR, both.reach))))
    found = labels(both, atoms)
    core = labels(both.held(), atoms, cutoff=both.reach)
    weights = np.concatenate([both.c, both.e0])
    np.testing.assert_allclose(weights @ design.energy[:, 0], found.energy[0] - core.energy[0],
                               rtol=1e-10)
    np.testing.assert_allclose(np.tensordot(weights, design.forces, axes=1),
                               found.forces - core.forces, atol=1e-9)
    np.testing.assert_allclose(weights @ design.stress[:, 0], found.stress[0] - core.stress[0],
                               atol=1e-10)
    check_potential(expansions(("Si",))[0] + expansions(("Si",))[1])


def test_a_saved_sum_of_linear_potentials_is_found_by_its_name():
    near, far = expansions()
    form = form_named("ACE+ACE")
    assert form is type(near + far)
    assert form(species=PAIR, ace_degree_1=5, ace2_degree_3=-1, ace2_cutoff=6.0).reach == 6.0
