"""The closed form against brute force, its evidence, and NUTS on the same problem."""

import jax
import numpy as np
import pytest
from ase.build import bulk
from scipy import stats

import bayespot
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import PriorError
from bayespot.evaluate import evaluate, evaluate_draws
from bayespot.graph import build_graph
from bayespot.inference.assemble import log_likelihood_of_predictions
from bayespot.inference.evidence import Evidence
from bayespot.inference.grams import collect_grams
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.inference.nuts import nuts
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.potentials.linear import LinearPotential
from bayespot.potentials.morse import Morse
from bayespot.potentials.priors import LogNormal, Normal, Reference

SIGMA = np.array([2e-3, 0.03, 1e-3])
SETTINGS = {"degree_1": 3, "degree_2": 2, "degree_3": 1, "cutoff": 4.5, "r0": 2.4}
SIZE = 11  # coefficients of this basis
TRUTH = {"log_a_1": 1.0, "p_1": 2.0, "log_a_2": -1.0, "p_2": 1.0, "q_2": 1.0}


def structures(n, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for k in range(n):
        atoms = bulk("Si", "diamond", a=5.43, cubic=k % 2 == 0)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.06 * rng.standard_normal((3, 3))),
                       scale_atoms=True)
        atoms.positions += 0.2 * rng.standard_normal((len(atoms), 3))
        found.append(atoms)
    return found


def labelled(potential, atoms, seed=1, stress=True, noise=SIGMA):
    rng = np.random.default_rng(seed)
    graph = build_graph(atoms, potential.species, potential.reach)
    out = evaluate(potential, graph, cutoff=potential.reach)
    ends = np.cumsum([len(a) for a in atoms])
    labels = [
        Labels(
            out.energy[k] + len(a) * noise[0] * rng.standard_normal(),
            out.forces[ends[k] - len(a) : ends[k]] + noise[1] * rng.standard_normal((len(a), 3)),
            out.stress[k] + noise[2] * rng.standard_normal(6) if stress else None,
        )
        for k, a in enumerate(atoms)
    ]
    return Dataset.from_atoms(atoms, labels, families=["ab"[k % 2] for k in range(len(atoms))])


def truth(seed=2):
    potential = ACE(species=("Si",), **SETTINGS, **TRUTH)
    rng = np.random.default_rng(seed)
    item = potential.parameters()[0]
    sd = [potential.prior_of(item, k).sd for k in range(len(potential.c))]
    return potential.replace(c=sd * rng.standard_normal(len(sd)), e0=[-100.0])


def make_problem(n=8, **options):
    stress = options.pop("stress", True)
    potential = truth()
    fitted = options.pop("potential", potential.replace(c=np.zeros(SIZE)))
    options.setdefault("floor", NoiseFloor(1e-3, 1e-2, 5e-4, families={"b": (2e-3, 1e-2, 1e-3)}))
    return FitProblem(
        fitted, labelled(potential, structures(n), stress=stress),
        reference=Reference(2.4, 4.0, (-99.0,)), **{"misfit": "none", **options},
    )


@pytest.fixture(scope="module")
def problem():
    return make_problem()


@pytest.fixture(scope="module")
def evidence(problem):
    return Evidence(problem, collect_grams(problem), by_family=True)


def brute(problem):
    """Rows, residuals, weights and floor variance of all labels, one basis function at a time."""
    potential, graph = problem.initial, problem.graph
    n = len(potential.c)
    atoms = graph.by_structure(problem.data.atoms)

    def flat(t):
        return np.concatenate([graph.by_structure(t.energy), graph.by_atom(t.forces).ravel(),
                               graph.by_structure(t.stress).ravel()])

    def predict(c, e0):
        out = evaluate(potential.replace(c=c, e0=e0), graph, cutoff=problem.cutoff)
        return np.concatenate([out.energy / atoms, out.forces.ravel(), out.stress.ravel()])

    held = predict(np.zeros(n), [0.0])
    rows = np.stack([predict(np.eye(n)[k], [0.0]) - held for k in range(n)]
                    + [predict(np.zeros(n), [1.0]) - held], axis=1)
    s, a = graph.n_structures, graph.n_atoms
    floor = problem.floor_by_structure()
    owner = np.repeat(np.arange(s), [len(x) for x in problem.dataset.structures])
    kind = np.repeat([0, 1, 2], [s, 3 * a, 6 * s])
    variance = np.concatenate([floor[:, 0], np.repeat(floor[owner, 1], 3),
                               np.repeat(floor[:, 2], 6)])
    return rows, flat(problem.data.labels) - held, flat(problem.data.kappa), variance, kind


def test_closed_form_is_the_regression(problem):
    """At fixed settings: weighted least squares with the prior as further rows."""
    check_regression(problem)


def test_a_sum_of_linear_potentials_has_the_closed_form():
    """A short-ranged expansion with a core, and a long-ranged one of other powers."""
    near = truth()
    far = ACE(species=("Si",), degree_1=4, degree_2=2, degree_3=-1, cutoff=6.5, r0=2.4, core=0.0,
              log_a_1=-1.0, p_1=1.0)
    both = near + far
    assert isinstance(both, LinearPotential)
    problem = make_problem(potential=both.replace(c=np.zeros(len(both.c))))
    assert problem.cutoff == pytest.approx(6.5)
    check_regression(problem)
    posterior = linear_gaussian(problem, key=jax.random.key(0), draws=20)
    settings = posterior.record["details"]["settings"]
    assert {"ace_log_a_1", "ace2_log_a_1", "ace2_q_2"} <= set(settings)
    assert settings["ace_log_a_1"] != settings["ace2_log_a_1"]
    # Draws by the design matrix are the potentials that they stand for.
    graph = problem.graph
    many = evaluate_draws(posterior.potentials(20), graph)
    one, first = (
        evaluate(potential, graph, cutoff=problem.cutoff) for potential in
        (posterior.potential, jax.tree.map(lambda leaf: leaf[0], posterior.potentials(20)))
    )
    for name in ("energy", "forces", "stress"):
        np.testing.assert_allclose(getattr(many, name)[0], getattr(first, name), atol=1e-10)
    assert np.abs(one.forces - first.forces).max() > 1e-6


def check_regression(problem):
    """Mean and variances of the closed form against weighted least squares."""
    evidence = Evidence(problem, collect_grams(problem))
    at = evidence.posterior(evidence.start)
    rows, y, kappa, floor, kind = brute(problem)
    sigma, sd = evidence.scales(evidence.start)
    weight = np.sqrt(kappa / (sigma[0][kind] ** 2 + floor))
    augmented = np.concatenate([weight[:, None] * rows, np.diag(1 / sd)])
    right = np.concatenate([weight * y, evidence.center / sd])
    mean = np.linalg.lstsq(augmented, right, rcond=None)[0]
    covariance = np.linalg.inv(augmented.T @ augmented)
    np.testing.assert_allclose(evidence.center + sd * at.mean, mean, rtol=1e-6, atol=1e-7)
    inverse = np.linalg.inv(at.factor @ at.factor.T) * sd[:, None] * sd
    np.testing.assert_allclose(np.diag(inverse), np.diag(covariance), rtol=1e-6)


def test_evidence_is_the_density_of_the_labels():
    """With all weights one, against the multivariate normal density of the labels."""
    problem = make_problem(n=3, stress=False, nu_forces=1e9)
    evidence = Evidence(problem, collect_grams(problem))
    rows, y, kappa, floor, kind = brute(problem)
    sigma, sd = evidence.scales(evidence.start)
    use = kappa > 0
    assert set(kappa[use]) == {1.0}
    covariance = np.diag(sigma[0][kind] ** 2 + floor) + (rows * sd**2) @ rows.T
    expected = stats.multivariate_normal(
        (rows @ evidence.center)[use], covariance[np.ix_(use, use)]
    ).logpdf(y[use])
    # The prior of the noise is at its own maximum at the start.
    assert evidence.posterior(evidence.start).evidence == pytest.approx(expected, abs=1e-5)


def test_evidence_gradient(evidence):
    rng = np.random.default_rng(5)
    eta = evidence.start + 0.3 * rng.standard_normal(len(evidence.start))
    _, gradient = evidence.value_and_gradient(eta)
    h = 1e-5
    slopes = [
        evidence.posterior(eta + step).evidence - evidence.posterior(eta - step).evidence
        for step in h * np.eye(len(eta))
    ]
    slopes = np.array(slopes) / (2 * h)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-4)


def test_groups_are_subsets(problem):
    """Sums over folds are those over the families; leaving a fold out is a subset of the data."""
    names = ["left" if k < 3 else "kept" for k in range(len(problem.dataset))]
    grams, whole = collect_grams(problem, names), collect_grams(problem)
    for what in ("gram", "cross", "squares", "counts"):
        np.testing.assert_allclose(
            getattr(grams, what).sum(axis=0), getattr(whole, what).sum(axis=0), rtol=1e-9
        )
    kept = grams.select(["kept"])
    assert set(kept.groups) == {"kept"}
    rows, _, kappa, *_ = brute(problem)
    energies = rows[3 : len(names)] * np.sqrt(kappa[3 : len(names)])[:, None]
    np.testing.assert_allclose(kept.gram[:, 0].sum(axis=0), energies.T @ energies, rtol=1e-8,
                               atol=1e-8)


def test_noise_and_amplitudes_are_recovered():
    """Noise within 25 %, the amplitude of many coefficients within their sampling error."""
    settings = {**SETTINGS, "degree_1": 5, "degree_2": 5, "degree_3": 4}
    potential = ACE(species=("Si",), **settings, log_a_1=1.0, log_a_2=0.5, log_a_3=0.0,
                    p_2=1.0, q_2=1.0, p_3=1.0, q_3=1.0)
    rng = np.random.default_rng(8)
    item = potential.parameters()[0]
    sd = np.array([potential.prior_of(item, k).sd for k in range(len(potential.c))])
    c = sd * rng.standard_normal(len(sd))
    data = labelled(potential.replace(c=c, e0=[-3.0]), structures(60, seed=9), seed=10)
    problem = FitProblem(
        ACE(species=("Si",), **settings), data, floor=NoiseFloor(1e-5, 1e-4, 1e-6), nu_forces=1e9,
        reference=Reference(2.4, 4.0, (-3.0,)), misfit="none",
    )
    posterior = linear_gaussian(problem, key=jax.random.key(0), draws=50)
    found = posterior.record["details"]["settings"]
    np.testing.assert_allclose(posterior.sigma, SIGMA, rtol=0.25)
    basis = potential.basis
    for nu in (2, 3):
        mine = basis.order == nu
        log_n, log_l = np.log1p(basis.n_sum[mine]), np.log1p(basis.l_sum[mine])
        log_sd = found[f"log_a_{nu}"] - found[f"p_{nu}"] * log_n - found[f"q_{nu}"] * log_l
        # The scale that the evidence gives to these coefficients, against their actual size.
        ratio = np.sqrt(np.mean((c[mine] / np.exp(log_sd)) ** 2))
        assert 0.6 < ratio < 1.6
    draws = posterior.draws[:, : len(c)]
    z = (draws.mean(axis=0) - c) / draws.std(axis=0)
    assert np.sqrt(np.mean(z**2)) < 1.5


@pytest.mark.parametrize("by_family", [False, True])
def test_posterior_object(problem, tmp_path, by_family):
    posterior = linear_gaussian(problem, key=jax.random.key(1), draws=200, by_family=by_family)
    assert posterior.method == "linear_gaussian"
    assert posterior.converged
    details = posterior.record["details"]
    assert 0 < details["determined_parameters"] <= SIZE + 1
    assert details["settings"]["log_a_1"] != problem.initial.log_a_1
    prediction = bayespot.predict(posterior, problem.dataset)
    atoms = prediction.atom_counts
    energy = np.array([label.energy for label in problem.dataset.labels])
    assert np.sqrt(np.mean(((prediction.energy - energy) / atoms) ** 2)) < 5 * SIGMA[0]
    assert (prediction.energy_total_std > 0).all()
    posterior.save(tmp_path / "posterior.nc")
    again = Posterior.load(tmp_path / "posterior.nc")
    np.testing.assert_array_equal(again.u, posterior.u)
    np.testing.assert_allclose(again.draws, posterior.draws)
    assert "log evidence" not in posterior.summary()
    stored = posterior.tree["log_likelihood"]["structure"].values[0, 0]
    assert stored.shape == (len(problem.dataset),)
    assert np.isfinite(stored).all()


def test_the_likelihood_of_predictions_is_the_likelihood():
    """Linear forms take a road of their own for many draws; it must lead to the same number."""
    problem = make_problem()
    u = 0.3 * np.random.default_rng(3).standard_normal((10, problem.space.size))
    expected = np.stack([problem.log_likelihood_by_structure(one) for one in u])
    found = log_likelihood_of_predictions(
        problem, u, evaluate_draws(problem.space.potential(u), problem.graph)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_priors_of_the_user_stay():
    given = {"c[Si:Si(0,0)]": Normal(0.5, 0.1), "sigma_energy": LogNormal(1e-3, 0.5)}
    problem = make_problem(priors=given, fixed={"c[Si:Si(1,0)]": 0.7})
    evidence = Evidence(problem, collect_grams(problem))
    assert not evidence.slopes[0].any()
    assert evidence.center[0] == 0.5
    posterior = linear_gaussian(problem, key=jax.random.key(1), draws=20)
    assert posterior.space.priors[0].sd == pytest.approx(0.1)
    assert posterior.space.fixed["c[Si:Si(1,0)]"] == 0.7


def test_what_is_not_gaussian_is_refused(problem):
    with pytest.raises(PriorError, match="not linear in its parameters"):
        linear_gaussian(FitProblem(Morse(species=("Si",)), problem.dataset), key=jax.random.key(0))
    with pytest.raises(PriorError, match="needs a normal prior"):
        linear_gaussian(make_problem(priors={"e0": Normal(-100.0, 1.0, low=-101.0)}),
                        key=jax.random.key(0))
    with pytest.raises(PriorError, match="not linear in it"):
        linear_gaussian(make_problem(priors={"r0": LogNormal(2.4, 0.1)}), key=jax.random.key(0))


@pytest.mark.statistical
def test_nuts_finds_the_same_posterior():
    """At the same noise and priors: means within Monte Carlo error, widths within 15 %."""
    first = make_problem(n=6)
    exact = linear_gaussian(first, key=jax.random.key(0), draws=4000)
    space = exact.space
    problem = FitProblem(
        exact.potential, first.dataset, floor=first.floor, reference=first.reference,
        misfit="none",
        priors=dict(zip(space.names, space.priors, strict=True)),
        fixed={k: v for k, v in space.fixed.items() if k.startswith("sigma")},
    )
    sampled = nuts(problem, key=jax.random.key(1), chains=2, warmup=300, draws=600, starts=1,
                   progress=False)
    assert sampled.parameter_names == exact.parameter_names
    z = (sampled.u.mean(axis=0) - exact.u.mean(axis=0)) / exact.u.std(axis=0)
    ess = sampled.diagnostics()["ess_bulk"].values
    error = np.sqrt(1 / ess + 1 / len(exact.u))
    assert (np.abs(z) < 4 * error).all(), z / error
    ratio = sampled.u.std(axis=0) / exact.u.std(axis=0)
    assert (np.abs(ratio - 1) < 0.15).all(), ratio
