"""Spreads of the parameters by temperature, by prediction and by POPS, against known answers."""

import jax
import linear_pair
import numpy as np
import pytest
from scipy.optimize import approx_fprime
from test_discrepancy import morse_problem, silicon
from test_linear_gaussian import SIGMA, brute, make_problem

import bayespot
from bayespot.data.dataset import Dataset
from bayespot.errors import LabelError, PriorError
from bayespot.inference.evidence import Evidence
from bayespot.inference.grams import collect_grams
from bayespot.inference.laplace import laplace
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.inference.linearized import leave_out_linearized, linearize
from bayespot.inference.map import climb, map_estimate
from bayespot.inference.nuts import nuts
from bayespot.inference.pops import hypercube, pops, weighted_rows
from bayespot.inference.pro import Objective, predictive_gaussian, pro
from bayespot.inference.temperature import folds_of, leave_out
from bayespot.inference.tempered import frederiksen, temper
from bayespot.likelihood import FitProblem
from bayespot.posterior import Posterior
from bayespot.potentials.morse import Morse
from bayespot.potentials.stillinger_weber import StillingerWeber

MORSE = Morse(species=("Si",), cutoff=4.5, D=0.5, alpha=1.4, r0=2.6)


def pair_problem(seed=5, **options):
    """That of `linear_pair`, a form of the package's own kind whose posterior is known."""
    known = linear_pair.make_problem(seed=seed)
    fixed = {**known.space.fixed, **options.pop("fixed", {})}
    return FitProblem(
        known.initial, known.dataset, priors={"e0": known.space.priors[-1]}, fixed=fixed,
        reference=known.reference, floor=known.floor, nu_forces=known.nu_forces,
        **{"misfit": "none", **options},
    )


@pytest.fixture(scope="module")
def pair():
    problem = pair_problem()
    return problem, linear_pair.exact(problem.dataset)


# --- the linear model ---------------------------------------------------------------------------


def test_rows_are_derivatives_of_the_predictions(pair):
    problem, exact = pair
    linear = linearize(problem, exact.mean)
    expected = {kind: [] for kind in linear_pair.design(problem.dataset.structures[0])}
    sd = np.array([2.0, 2.0, 2.0, 2.0, 5.0])
    for atoms in problem.dataset.structures:
        for quantity, rows in linear_pair.design(atoms).items():
            expected[quantity].append(rows * sd)
    for k, quantity in enumerate(("energy", "forces", "stress")):
        np.testing.assert_allclose(
            linear.rows[linear.kind == k], np.concatenate(expected[quantity]), atol=1e-10
        )


def test_left_out_agrees_with_the_path_of_linear_potentials():
    """The same numbers from a Jacobian, at any point, as from the Gram matrices."""
    problem = make_problem()
    folds = folds_of(problem.dataset.families)
    grams = collect_grams(problem, folds)
    evidence = Evidence(problem, grams)
    known = leave_out(problem, grams, evidence, evidence.start, folds)
    point = np.random.default_rng(0).standard_normal(problem.space.size)
    sigma = evidence.scales(evidence.start)[0][0]
    found = leave_out_linearized(linearize(problem, point), sigma, folds)
    for fold in ("a", "b"):
        for name in ("miss", "leverage", "kappa", "floor"):
            np.testing.assert_allclose(
                np.sort(getattr(found, name)[found.fold == fold]),
                np.sort(getattr(known, name)[known.fold == fold]), rtol=1e-5, atol=1e-7,
            )


# --- temperature --------------------------------------------------------------------------------


def test_t0_by_hand(pair):
    problem, exact = pair
    theta = exact.mean * [2.0, 2.0, 2.0, 2.0, 5.0] + [0.1, 0.1, 0.1, 0.1, -3.0]
    cost = 0.0
    for atoms, label in zip(problem.dataset.structures, problem.dataset.labels, strict=True):
        weight, rows = linear_pair.weights(atoms), linear_pair.design(atoms)
        values = {"energy": label.energy / len(atoms), "forces": label.forces.ravel(),
                  "stress": label.stress}
        cost += sum(0.5 * weight[q] * ((values[q] - rows[q] @ theta) ** 2).sum() for q in rows)
    assert frederiksen(problem, exact.mean) == pytest.approx(2 * cost / 5, rel=1e-9)


def test_the_density_is_the_power_of_the_likelihood(pair):
    """Prior as it is, likelihood to the power 1/T: its precision is known in closed form."""
    _, exact = pair
    problem = pair_problem(misfit="tempered", temperature=7.0)
    target = temper(problem, exact.mean)
    fisher = np.linalg.inv(exact.covariance) - np.eye(5)
    np.testing.assert_allclose(
        target.density.precision(exact.mean), np.eye(5) + fisher / 7.0, rtol=1e-7, atol=1e-7
    )
    assert climb(target.density, exact.mean).converged
    assert target.marks is None
    assert target.details == {"temperature": 7.0, "temperature_from": "given"}


@pytest.mark.parametrize("rule", ["families", "frederiksen", 5.0])
def test_the_covariance_of_a_linear_potential_is_t_times(rule):
    problem = make_problem(misfit="tempered", temperature=rule)
    found = linear_gaussian(problem, key=jax.random.key(0), draws=500, maximize=False)
    plain = linear_gaussian(make_problem(), key=jax.random.key(0), draws=500, maximize=False)
    temperature = found.record["details"]["temperature"]
    np.testing.assert_allclose(np.cov(found.u.T), temperature * np.cov(plain.u.T), rtol=1e-9,
                               atol=1e-12 * np.trace(np.cov(found.u.T)))
    assert (found.sigma < 1e-11).all() == (rule != "families")
    if rule == "frederiksen":
        rows, residual, kappa, floor, kind = brute(problem)
        weight = kappa / (plain.sigma[kind] ** 2 + floor)
        priors = problem.space.priors[: rows.shape[1]]
        sd, center = (np.array([getattr(p, a) for p in priors]) for a in ("sd", "center"))
        theta = center + np.linalg.solve(
            (rows.T * weight) @ rows + np.diag(sd**-2.0),
            (rows.T * weight) @ (residual - rows @ center),
        )
        expected = (weight * (residual - rows @ theta) ** 2).sum() / len(theta)
        assert temperature == pytest.approx(expected, rel=1e-6)
    elif rule == "families":
        other = linear_gaussian(make_problem(misfit="discrepancy"), key=jax.random.key(0),
                                draws=500, maximize=False)
        np.testing.assert_array_equal(found.u, other.u)


def test_nuts_spreads_by_the_root_of_t():
    """Where the potential is right and the data many, the posterior is nearly linear."""
    spread = {}
    for temperature in (1.0, 4.0):
        problem = morse_problem(MORSE, n=3, misfit="tempered", temperature=temperature)
        found = nuts(problem, key=jax.random.key(0), chains=1, warmup=100, draws=300, starts=1,
                     progress=False)
        ess = found.diagnostics()["ess_bulk"].values
        spread[temperature] = found.u.std(axis=0), ess
        assert found.misfit == "tempered"
        assert found.record["method"] == "nuts"
        assert set(found.space.names) == {"D", "alpha", "r0", "e0"}
    (one, ess), (four, ess_four) = spread[1.0], spread[4.0]
    error = np.abs(np.log(four / one) - np.log(2.0)) / np.sqrt(0.5 / ess + 0.5 / ess_four)
    assert error.max() < 4.0


def test_a_form_that_is_wrong_gets_a_temperature_from_families(tmp_path):
    problem = morse_problem(StillingerWeber.silicon_1985(), misfit="tempered")
    posterior = morse_problem(StillingerWeber.silicon_1985(), misfit="tempered", temperature=1.0)
    wide, narrow = (laplace(p, key=jax.random.key(0), starts=1, draws=100)
                    for p in (problem, posterior))
    details = wide.record["details"]
    assert details["temperature"] > 10.0
    assert details["temperature_from"] == "families left out"
    assert details["folds"] == ["shaken", "strained", "vacancy"]
    marks = wide.record["data"]["training_spread"]
    assert marks["forces"] > narrow.record["data"]["training_spread"]["forces"]
    assert (wide.u.std(axis=0) > 2.0 * narrow.u.std(axis=0)).all()
    wide.save(tmp_path / "posterior.nc")
    assert "misfit = tempered: temperature" in Posterior.load(tmp_path / "posterior.nc").summary()
    atoms, _ = silicon(2, seed=4)
    assert (bayespot.predict(wide, atoms, n_draws=20).forces_parameter_std >= 0).all()


def test_a_form_that_is_right_keeps_its_posterior():
    found = laplace(morse_problem(MORSE, misfit="tempered"), key=jax.random.key(0), starts=1,
                    draws=20)
    assert found.record["details"]["temperature"] < 3.0
    assert found.sigma[1] < 0.02


# --- predictively oriented ----------------------------------------------------------------------


def test_the_gradient_is_that_of_the_score_and_noise_is_found():
    problem = make_problem()
    u = climb(problem, np.zeros(problem.space.size)).u
    linear = linearize(problem, u)
    objective = Objective(problem, linear, u, noise=True)
    x = objective.start()
    x = x + 0.1 * np.random.default_rng(0).standard_normal(len(x))
    gradient = objective(x)[1]
    numeric = approx_fprime(x, lambda x: objective(x)[0], 1e-6)
    np.testing.assert_allclose(numeric, gradient, rtol=1e-3, atol=1e-3 * np.abs(gradient).max())
    found = predictive_gaussian(problem, u, linear, noise=True)
    assert found.converged
    np.testing.assert_allclose(found.sigma, SIGMA, rtol=0.4)  # the form is right: noise is noise


def test_pro_of_a_form_that_is_right_is_near_bayes(pair):
    problem, exact = pair
    linear = linearize(problem, exact.mean)
    found = predictive_gaussian(problem, exact.mean, linear)
    assert found.converged
    np.testing.assert_array_equal(found.sigma, linear_pair.SIGMA)  # the user holds it
    sd = np.sqrt(np.diag(found.root @ found.root.T))
    assert (np.abs(found.mean - exact.mean) < exact.sd).all()
    assert (sd < 3.0 * exact.sd).all()
    assert sd[3] == pytest.approx(1.0, abs=1e-5)  # what the data cannot see keeps its prior
    spread = np.linalg.norm(linear.rows @ found.root, axis=1)
    assert np.median(spread[linear.kind == 1]) < 0.2 * linear_pair.SIGMA[1]


def test_pro_covers_where_the_form_is_wrong():
    """Two of three Gaussians of the truth are missing, and labels are predicted all the same."""
    train, test = (pair_problem(seed, fixed={"c1": 0.0, "c3": 0.0}) for seed in (5, 6))
    linear, new = (linearize(p, np.zeros(3)) for p in (train, test))
    found = predictive_gaussian(train, np.zeros(3), linear)
    weight = linear.kappa / (linear_pair.SIGMA[linear.kind] ** 2 + linear.floor)
    bayes = np.linalg.inv(np.eye(3) + (linear.rows.T * weight) @ linear.rows)
    mean = bayes @ (linear.rows.T * weight) @ linear.residual
    noise = linear_pair.SIGMA[new.kind] ** 2 + new.floor
    covered = {}
    for name, center, covariance in (("bayes", mean, bayes),
                                     ("pro", found.mean, found.root @ found.root.T)):
        spread = np.einsum("ij,jk,ik->i", new.rows, covariance, new.rows) + noise
        inside = np.abs(new.residual - new.rows @ center) < 1.645 * np.sqrt(spread)
        covered[name] = inside[new.kind == 1].mean()
    assert covered["bayes"] < 0.5
    assert covered["pro"] > 0.8
    posterior = pro(train, np.zeros(3), key=jax.random.key(0), draws=200)
    assert posterior.converged, posterior.problems
    assert posterior.record["details"]["push_forward"]["forces"] == pytest.approx(1.0)


def test_pro_says_where_a_gaussian_is_too_wide():
    problem = morse_problem(StillingerWeber.silicon_1985(), misfit="pro")
    found = laplace(problem, key=jax.random.key(0), starts=1, draws=100)
    assert found.misfit == "pro"
    assert not found.converged
    assert "as far as the linear model says" in found.problems[0]
    assert not 0.8 < found.record["details"]["push_forward"]["energies"] < 1.25


# --- POPS ---------------------------------------------------------------------------------------

REFERENCE = {
    "coefficients": [0.11907413108961268, -1.315760650854278, -0.10727886509078209],
    "ratio": 1.5810470318011787 / 2.2211120601809564,
    "axes": [[0.3015042421087264, 0.8758153703237378, -0.37688543232013694],
             [-0.1096323986972193, -0.36081354676595956, -0.9261718639788526],
             [0.947140923593916, -0.3205635998906654, 0.01276907509574743]],
    "low": [-0.41315663042724254, -0.702067564124014, -1.014147003068632],
    "high": [0.339828477021502, 0.3245780570028985, 0.6953416178685394],
}
"""Of POPSRegression().fit (popsregression 0.4.0) on the data of the test below: coefficients, prior
precision over noise precision, axes and bounds of its hypercube."""


def test_the_hypercube_is_that_of_popsregression():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((40, 3)) * [1.0, 0.3, 2.0]
    y = np.sin(x @ [1.0, -2.0, 0.5]) + 0.1 * x[:, 2] ** 2
    covariance = np.linalg.inv(x.T @ x + REFERENCE["ratio"] * np.eye(3))
    residual = y - x @ REFERENCE["coefficients"]
    found = hypercube(lambda: [(x[:9], residual[:9]), (x[9:], residual[9:])], covariance)
    sign = np.sign((found.axes * REFERENCE["axes"]).sum(axis=0))
    np.testing.assert_allclose(found.axes * sign, REFERENCE["axes"], atol=1e-10)
    low, high = np.sort([found.low * sign, found.high * sign], axis=0)
    np.testing.assert_allclose(low, REFERENCE["low"], atol=1e-10)
    np.testing.assert_allclose(high, REFERENCE["high"], atol=1e-10)


def test_pops_of_a_potential():
    """Draws fill the box of the corrections, which are written out again here."""
    problem = make_problem()
    evidence = Evidence(problem, collect_grams(problem))
    eta, _ = evidence.maximize()
    at = evidence.posterior(eta)
    sigma, sd = evidence.scales(eta)
    rows, residual, kappa, floor, kind = brute(problem)
    use = kappa > 0
    root = np.sqrt(kappa / (sigma[0][kind] ** 2 + floor))[use]
    g = rows[use] * root[:, None] * sd
    rho = (residual[use] - rows[use] @ (evidence.center + sd * at.mean)) * root
    covariance = np.linalg.inv(at.factor @ at.factor.T)
    own = np.concatenate([b for b, _ in weighted_rows(problem, evidence, eta, at)])
    np.testing.assert_allclose(own.T @ own, g.T @ g, rtol=1e-8, atol=1e-8 * np.abs(g.T @ g).max())
    leverage = np.einsum("ij,jk,ik->i", g, covariance, g)
    delta = ((g @ covariance) * (rho / leverage)[:, None])[leverage >= np.median(leverage)]
    found = pops(problem, key=jax.random.key(0), draws=4000)
    assert found.misfit == "pops"
    assert (found.sigma < 1e-11).all()
    values, vectors = np.linalg.eigh(delta.T @ delta)
    vectors = vectors[:, values > 1e-8 * values.max()]
    assert found.record["details"]["axes"] == vectors.shape[1]
    box, draws = delta @ vectors, (found.u - at.mean) @ vectors
    width = np.ptp(box, axis=0)
    assert (draws.min(axis=0) >= box.min(axis=0) - 1e-6 * width).all()
    assert (draws.max(axis=0) <= box.max(axis=0) + 1e-6 * width).all()
    np.testing.assert_allclose(draws.std(axis=0), width / np.sqrt(12), rtol=0.05)


# --- words --------------------------------------------------------------------------------------


def test_what_cannot_be():
    data = morse_problem(MORSE, n=3).dataset
    form = Morse(species=("Si",), cutoff=4.5)
    for options, words in (
        ({"misfit": "tempered", "temperature": "hot"}, "'families' or 'frederiksen'"),
        ({"misfit": "tempered", "temperature": -1.0}, "positive and finite"),
        ({"misfit": "none", "temperature": 2.0}, "only misfit='tempered'"),
    ):
        with pytest.raises(PriorError, match=words):
            FitProblem(form, data, **options)
    with pytest.raises(PriorError, match="the mode has none; use nuts or laplace"):
        map_estimate(FitProblem(form, data, misfit="tempered"), key=jax.random.key(0))
    with pytest.raises(PriorError, match="fitted at the mode; use laplace"):
        nuts(FitProblem(form, data, misfit="pro"), key=jax.random.key(0))
    with pytest.raises(PriorError, match="linear_gaussian has it in closed form"):
        laplace(make_problem(misfit="tempered"), key=jax.random.key(0))
    with pytest.raises(PriorError, match="use laplace"):
        linear_gaussian(make_problem(misfit="pro"), key=jax.random.key(0))
    with pytest.raises(PriorError, match="linear"):
        pops(FitProblem(form, data, misfit="none"), key=jax.random.key(0))


def test_families_are_needed_for_their_rule():
    whole = morse_problem(MORSE, n=6)
    point = np.zeros(whole.space.size)
    data, form = whole.dataset, Morse(species=("Si",), cutoff=4.5)

    def problem(n):
        return FitProblem(form, Dataset.from_atoms(data.structures[:n], data.labels[:n],
                                                   families=["bulk"] * n), misfit="tempered")

    with pytest.raises(LabelError, match="cannot be left out"):
        temper(problem(1), point)
    assert temper(problem(4), point).details["folds"] == [f"part {k}" for k in (1, 2, 3, 4)]
