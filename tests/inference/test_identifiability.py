"""What the data determine: against brute-force matrices and problems with known answers."""

import json

import jax
import numpy as np
import pytest
from ase.build import bulk
from linear_pair import (
    CENTERS,
    COEFFICIENT,
    FLOOR,
    OFFSET,
    SIGMA,
    UNSEEN,
    LinearPair,
    design,
    exact,
    make_problem,
    weights,
)
from scipy.special import ndtri

from bayespot import plots
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import LabelError, NotConverged, PriorError
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.identifiability import identifiability, problem_behind
from bayespot.inference.assemble import build_posterior
from bayespot.inference.discrepancy import add_discrepancy
from bayespot.inference.laplace import laplace
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.inference.map import map_estimate
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.potentials.morse import Morse
from bayespot.potentials.priors import LogNormal, Normal, Reference
from bayespot.potentials.sums import add
from bayespot.report import identifiability as reported

PRIOR_SD = np.array([COEFFICIENT[1]] * len(CENTERS) + [OFFSET[1]])


def gaussian_posterior(problem, draws=2000, seed=1):
    """Exact draws of the linear problem."""
    truth = exact(problem.dataset)
    u = np.random.default_rng(seed).multivariate_normal(truth.mean, truth.covariance, draws)
    return build_posterior(problem, u[None], method="laplace")


def brute_information(dataset):
    total = 0
    for atoms in dataset.structures:
        weight = weights(atoms)
        for q, rows in design(atoms).items():
            scaled = rows.reshape(-1, len(PRIOR_SD)) * PRIOR_SD
            total = total + weight[q] * scaled.T @ scaled
    return total


@pytest.fixture(scope="module")
def collinear():
    problem = make_problem(collinear=True)
    return problem, identifiability(problem, gaussian_posterior(problem))


def test_spectrum_is_that_of_the_brute_force_jacobian(collinear):
    problem, found = collinear
    expected = np.linalg.eigvalsh(brute_information(problem.dataset))[::-1]
    np.testing.assert_allclose(found.eigenvalues, expected, rtol=1e-8, atol=1e-8 * expected[0])
    for value, direction in zip(found.eigenvalues, found.directions, strict=True):
        vector = np.array([direction.components[name] for name in found.names])
        assert vector @ brute_information(problem.dataset) @ vector == pytest.approx(
            value, rel=1e-8, abs=1e-8 * expected[0]
        )


def test_what_no_pair_sees_is_the_sloppiest_direction(collinear):
    _, found = collinear
    flat = found.directions[-1]
    assert abs(flat.components[UNSEEN]) == pytest.approx(1.0, abs=1e-6)
    assert flat.eigenvalue < 1e-9
    assert found.condition == float("inf")
    assert found.determined < len(found.names)
    assert "not determined by the data" in flat.words()
    assert UNSEEN in found.not_informed
    assert f"{UNSEEN} " in found.text()


def test_a_linear_form_spreads_as_the_linear_gaussian(collinear):
    _, found = collinear
    assert set(found.push_forward) == {"energy", "forces", "stress"}
    # 400 draws: 3.5 % of each standard deviation
    np.testing.assert_allclose(list(found.push_forward.values()), 1.0, atol=0.1)
    assert found.linear_bands
    assert "linear bands may be used" in found.text()


def argon(n, seed=0, shake=0.15):
    rng = np.random.default_rng(seed)
    found = []
    for a in np.linspace(3.8, 4.4, n):
        atoms = bulk("Ar", "fcc", a=a) * (1, 1, 2)
        atoms.positions += shake * rng.standard_normal((2, 3))
        found.append(atoms)
    return found


def morse(**values):
    return Morse(species=("Ar",), D=0.1, alpha=1.6, r0=2.9, cutoff=5.0, **values)


def labelled(potential, structures, noise=0.0):
    rng = np.random.default_rng(3)
    graph = build_graph(structures, potential.species, 5.0)
    out = evaluate(potential, graph, cutoff=5.0)
    labels, first = [], 0
    for k, atoms in enumerate(structures):
        rows = slice(first, first + len(atoms))
        first += len(atoms)
        energy = out.energy[k] + noise * rng.standard_normal()
        forces = out.forces[rows] + noise * rng.standard_normal((len(atoms), 3))
        labels.append(Labels(energy, forces, None))
    return Dataset.from_atoms(structures, labels)


HELD = {"sigma_energy": 2e-3, "sigma_forces": 2e-2}


def test_two_wells_that_do_the_same_cannot_be_told_apart():
    potential = add(morse(), morse())
    data = labelled(potential, argon(8))
    same = LogNormal(0.1, 0.5)
    held = {f"{part}_{name}": value for part in ("morse", "morse2")
            for name, value in (("alpha", 1.6), ("r0", 2.9))}
    problem = FitProblem(
        potential, data, priors={"morse_D": same, "morse2_D": same, "e0": Normal(0.0, 1.0)},
        fixed={**held, **HELD}, misfit="none",
    )
    found = identifiability(problem, map_estimate(problem, key=jax.random.key(0), starts=2))
    flat = found.directions[-1]
    assert abs(flat.components["morse_D"] + flat.components["morse2_D"]) < 1e-4
    assert flat.eigenvalue < 1e-8 * found.eigenvalues[0]
    assert found.determined == 2
    # one posterior sd is one prior sd: 0.5 / sqrt 2 in the logarithm of each
    assert set(flat.moves) == {f"morse{a}_D {c}" for a, c in (("", "+42 %"), ("2", "-30 %"))} or (
        set(flat.moves) == {f"morse{a}_D {c}" for a, c in (("2", "+42 %"), ("", "-30 %"))}
    )
    assert "not told apart by the data" in flat.words()
    # one draw: what needs draws is left out, and said
    assert found.contraction == {}
    assert found.push_forward == {}
    assert found.linear_bands is None
    assert any("one draw" in note for note in found.notes)


@pytest.fixture(scope="module")
def untold():
    """A well of unknown depth and labels that say nothing: the posterior is the prior."""
    data = labelled(morse(), argon(3))
    problem = FitProblem(
        morse(), data, priors={"D": LogNormal(0.1, 1.0)},
        fixed={"alpha": 1.6, "r0": 2.9, "e0": 0.0, "sigma_energy": 1e6, "sigma_forces": 1e6},
        misfit="none",
    )
    return problem


def drawn(problem, u):
    return build_posterior(problem, np.asarray(u)[None, :, None], method="laplace")


QUANTILES = ndtri((np.arange(400) + 0.5) / 400)


def test_a_curved_form_spreads_farther(untold):
    found = identifiability(untold, drawn(untold, QUANTILES))
    # energies and forces are D times a shape, D = 0.1 exp(u), linear sd 0.1 at u = 0
    expected = np.exp(QUANTILES).std(ddof=1)
    assert expected > 1.9
    np.testing.assert_allclose(list(found.push_forward.values()), expected, rtol=1e-4)
    assert not found.linear_bands
    assert "linear bands are not to be used" in found.text()


def test_draws_of_the_prior_are_not_informed_and_do_not_run_into_it(untold):
    found = identifiability(untold, drawn(untold, QUANTILES))
    assert found.not_informed == ["D"]
    assert found.edges["D"].tail == pytest.approx(0.05)
    assert not found.edges["D"].runs_into_prior


@pytest.mark.parametrize(
    ("center", "width", "runs", "odds"),
    [(2.5, 0.4, True, False), (2.5, 0.02, False, True), (0.5, 0.4, False, False)],
)
def test_evaporation(untold, center, width, runs, odds):
    found = identifiability(untold, drawn(untold, center + width * QUANTILES))
    assert (found.edges["D"].runs_into_prior, found.edges["D"].at_odds) == (runs, odds)
    assert found.edges["D"].pull == pytest.approx(center * width, rel=0.02)
    assert ("runs into its prior: the answer depends on it" in found.text()) == runs


def test_a_bound_is_an_edge_though_the_normal_coordinate_is_not_far_out():
    data = labelled(morse(), argon(3))
    problem = FitProblem(
        morse(), data, priors={"r0": Normal(2.9, 5.0, low=2.8, high=3.0)},
        fixed={"D": 0.1, "alpha": 1.6, "e0": 0.0, **HELD}, misfit="none",
    )
    # the prior is flat between its bounds: u = 1.75 is 0.96 of the way
    edge = identifiability(problem, drawn(problem, 1.75 + 0.05 * QUANTILES)).edges["r0"]
    assert edge.tail == 0.0
    assert edge.bound > 0.95
    assert edge.runs_into_prior


def independent(n, nu_forces, seed=0, copies=1):
    """Linear labels with the noise that the likelihood says; forces may repeat each other's."""
    rng = np.random.default_rng(seed)
    theta = np.array([1.0, -0.7, 0.2, 0.0, -3.5])
    sd = np.hypot(SIGMA, [FLOOR.energy, FLOOR.forces, FLOOR.stress])
    structures, labels = argon(n, shake=0.25), []
    for atoms in structures:
        rows = design(atoms)
        noise = sd[1] * rng.standard_normal(6 // copies).repeat(copies)
        labels.append(Labels(
            len(atoms) * float(rows["energy"][0] @ theta + sd[0] * rng.standard_normal()),
            (rows["forces"] @ theta + noise).reshape(-1, 3), None,
        ))
    return FitProblem(
        LinearPair(species=("Ar",), cutoff=5.0, switch_width=1.5),
        Dataset.from_atoms(structures, labels),
        priors={"e0": Normal(*OFFSET)}, fixed={"sigma_energy": SIGMA[0], "sigma_forces": SIGMA[1]},
        reference=Reference(offset=(0.0,)), floor=FLOOR, nu_forces=nu_forces, misfit="none",
    )


def effect(problem):
    return identifiability(
        problem, map_estimate(problem, key=jax.random.key(0), starts=1)
    ).design_effect


def test_design_effect_of_independent_labels_is_one():
    found = effect(independent(200, nu_forces=1e6))
    assert found.structures == 200
    assert found.error < 0.2
    assert abs(found.value - 1) < 3 * found.error
    assert abs(found.forces - 1) < 3 * found.forces_error
    assert abs(found.suggested - 6) < 3 * 6 * found.forces_error


def test_forces_that_count_too_little_are_given_their_number():
    found = effect(independent(200, nu_forces=2.0))
    assert found.counted == pytest.approx(2.0)
    assert abs(found.forces - 1 / 3) < 3 * found.forces_error
    assert found.suggested == pytest.approx(min(2.0 / found.forces, 6.0))


def test_a_posterior_without_structures_to_spare_has_no_design_effect():
    problem = independent(3, nu_forces=6.0)
    found = identifiability(problem, map_estimate(problem, key=jax.random.key(0), starts=1))
    assert found.design_effect is None
    assert any("too few for a design effect" in note for note in found.notes)


@pytest.fixture(scope="module")
def wrong():
    """Morse fitted to the labels of two wells, with everything sampled."""
    data = labelled(add(morse(), Morse(species=("Ar",), D=0.05, alpha=1.2, r0=4.1, cutoff=5.0)),
                    argon(16), noise=2e-3)
    return FitProblem(morse(), data, floor=NoiseFloor(1e-3, 1e-2, 5e-4), misfit="none")


def test_of_a_potential_with_a_discrepancy_the_parameters_are_looked_at(wrong):
    plain = laplace(wrong, key=jax.random.key(0), draws=200, starts=2)
    both = add_discrepancy(wrong, plain, key=jax.random.key(1), temperature=1.0)
    alone = identifiability(wrong, plain)
    found = identifiability(wrong, both, allow_unconverged=True)
    assert found.names == alone.names == ("D", "alpha", "r0", "e0")
    np.testing.assert_allclose(found.eigenvalues, alone.eigenvalues, rtol=1e-4)
    assert set(found.contraction) == {"D", "alpha", "r0"}
    assert set(found.push_forward) == {"forces"}
    assert any("e0, sigma_energy, sigma_forces" in note for note in found.notes)
    again = identifiability(problem_behind(both, wrong.dataset), both, allow_unconverged=True)
    np.testing.assert_allclose(again.eigenvalues, found.eigenvalues, rtol=1e-4)
    assert again.contraction == found.contraction


def test_one_draw_with_many_of_its_discrepancy_is_one_draw(wrong):
    both = add_discrepancy(
        wrong, map_estimate(wrong, key=jax.random.key(0), starts=2), key=jax.random.key(1),
        n_draws=20, temperature=1.0,
    )
    found = identifiability(wrong, both)
    assert len(both.u) > 1
    assert found.contraction == {}
    assert found.linear_bands is None


def test_a_temperature_divides_the_information(wrong):
    problem = FitProblem(
        wrong.initial, wrong.dataset, floor=wrong.floor, misfit="tempered", temperature=20.0
    )
    found = identifiability(
        problem, laplace(problem, key=jax.random.key(0), draws=400, starts=2)
    )
    plain = identifiability(wrong, map_estimate(wrong, key=jax.random.key(0), starts=2))
    assert found.temperature == 20.0
    # the prior moves the mode of the tempered density a little
    np.testing.assert_allclose(20.0 * found.eigenvalues, plain.eigenvalues, rtol=0.05)
    assert found.linear_bands
    assert set(found.contraction) == {"D", "alpha", "r0", "e0"}


def test_draws_that_were_chosen_to_predict_are_not_compared_with_a_density(wrong):
    problem = FitProblem(wrong.initial, wrong.dataset, floor=wrong.floor, misfit="pro")
    found = identifiability(
        problem, laplace(problem, key=jax.random.key(0), draws=200, starts=2)
    )
    assert found.push_forward == {}
    assert set(found.edges) == {"D", "alpha", "r0", "e0"}
    assert any("not compared with linear ones" in note for note in found.notes)


def test_a_linear_potential_with_what_evidence_chose():
    structures = argon(12)
    data = labelled(morse(), structures, noise=2e-3)
    form = ACE(species=("Ar",), cutoff=5.0, r0=2.9, degree_1=5, degree_2=3, degree_3=-1)
    problem = FitProblem(form, data, floor=NoiseFloor(1e-3, 1e-2, 5e-4), misfit="none")
    posterior = linear_gaussian(problem, key=jax.random.key(0), draws=400)
    found = identifiability(problem, posterior)
    p = posterior.space.layout.n_theta
    # covariance of exact draws against (1 + information)^-1 in the priors that evidence chose
    vectors = np.array([[d.components[n] for n in found.names] for d in found.directions])
    expected = (vectors.T / (1 + found.eigenvalues)) @ vectors
    ratio = posterior.u[:, :p].var(axis=0) / np.diag(expected)
    np.testing.assert_allclose(ratio, 1.0, atol=5 * np.sqrt(2 / 400))
    assert found.linear_bands


def test_the_problem_behind_a_posterior_is_that_of_the_fit(wrong, tmp_path):
    posterior = laplace(wrong, key=jax.random.key(0), draws=50, starts=2)
    posterior.save(tmp_path / "posterior.nc")
    loaded = Posterior.load(tmp_path / "posterior.nc")
    rebuilt = problem_behind(loaded, wrong.dataset)
    u = posterior.u[0]
    assert rebuilt.log_posterior(u) == pytest.approx(wrong.log_posterior(u), rel=1e-12)


def test_files_of_a_fit(wrong, tmp_path, monkeypatch):
    posterior = laplace(wrong, key=jax.random.key(0), draws=200, starts=2)
    files = reported.write_identifiability(posterior, wrong.dataset, tmp_path)
    assert [f.name for f in files] == [f"identifiability.{s}" for s in ("txt", "json", "png")]
    assert all(f.stat().st_size > 100 for f in files)
    record = json.loads((tmp_path / "identifiability.json").read_text())
    assert record["parameters"] == ["D", "alpha", "r0", "e0"]
    assert record["determined"] == sum(v > 1 for v in record["eigenvalues"])
    monkeypatch.setattr(reported, "MAX_PARAMETERS", 3)
    files = reported.write_identifiability(posterior, wrong.dataset, tmp_path)
    assert [f.name for f in files] == ["identifiability.txt"]
    assert "4 parameters" in files[0].read_text()


def test_records_have_no_number_that_json_lacks(collinear):
    record = json.loads(json.dumps(collinear[1].as_record(), allow_nan=False))
    assert record["condition"] is None


def test_mistakes_are_named(wrong, untold):
    posterior = drawn(untold, QUANTILES)
    with pytest.raises(LabelError, match="fitted to other data"):
        identifiability(wrong, posterior)
    other = FitProblem(morse(), untold.dataset, fixed={"D": 0.1})
    with pytest.raises(PriorError, match=r"the posterior of Morse \(D\) is not one of this"):
        identifiability(other, posterior)
    bad = build_posterior(untold, QUANTILES[None, :, None], method="laplace", problems=["stuck"])
    with pytest.raises(NotConverged, match="stuck"):
        identifiability(untold, bad)


def test_pictures_of_directions():
    ax = plots.spectrum([1e3, 2.0, 0.5, 0.0])
    line, *rest = ax.lines
    np.testing.assert_allclose(line.get_ydata(), 1.0)
    assert [len(r.get_xdata()) for r in rest] == [2, 1, 1]
    assert ax.get_yscale() == "log"
    vectors = np.eye(20)[:, :2]
    ax = plots.directions(vectors, [0.1, 3.0], [f"c{k}" for k in range(20)])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["c0", "c1"]
    assert ax.get_title() == "2 of 20 parameters"
    assert [t.get_text() for t in ax.texts] == ["+1.00", "+1.00"]
