"""Folds, refits that go on after a kill, leaving one out, comparison: against known answers."""

import json

import jax
import numpy as np
import pytest
from ase.build import bulk
from scipy import special

from bayespot import scoring
from bayespot.calibration import HeldOut
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import BayespotError, LabelError
from bayespot.evaluate import evaluate, evaluate_draws
from bayespot.graph import build_graph
from bayespot.inference.assemble import log_likelihood_of_predictions
from bayespot.inference.laplace import laplace
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.potentials.ace import ACE
from bayespot.potentials.morse import Morse
from bayespot.potentials.priors import Reference
from bayespot.prediction import predict
from bayespot.validation import (
    Validation,
    compare,
    cross_validate,
    folds,
    held_out_cases,
    loo,
    together,
)

TRUTH = Morse(species=("Si",), cutoff=4.5, D=0.5, alpha=1.4, r0=2.6)
NOISE = np.array([1e-3, 1e-2, 5e-4])
FLOOR = NoiseFloor(*NOISE)


def data_of(families, seed=0, noise=NOISE, potential=TRUTH):
    """Strained and shaken silicon cells with the labels of a potential, and noise."""
    rng = np.random.default_rng(seed)
    structures = []
    for _ in families:
        atoms = bulk("Si", "diamond", a=5.43)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.05 * rng.standard_normal((3, 3))),
                       scale_atoms=True)
        atoms.positions += 0.1 * rng.standard_normal((len(atoms), 3))
        structures.append(atoms)
    graph = build_graph(structures, potential.species, potential.reach)
    out = evaluate(potential, graph, cutoff=potential.reach)
    labels = [
        Labels(out.energy[k] + 2 * noise[0] * rng.standard_normal(),
               out.forces[2 * k : 2 * k + 2] + noise[1] * rng.standard_normal((2, 3)),
               out.stress[k] + noise[2] * rng.standard_normal(6))
        for k in range(len(structures))
    ]
    return Dataset.from_atoms(structures, labels, families=families)


def fit(dataset):
    problem = FitProblem(Morse(species=("Si",), cutoff=4.5), dataset, floor=FLOOR, misfit="none")
    return laplace(problem, key=jax.random.key(0), draws=400, starts=2)


# --- folds --------------------------------------------------------------------------------------


def test_a_fold_is_a_family():
    data = data_of(["a", "b", "a", "IsolatedAtom"])
    assert folds(data) == ["a", "b", "a", None]
    with pytest.raises(LabelError, match="one family"):
        folds(data_of(["a", "a", "IsolatedAtom"]))
    with pytest.raises(LabelError, match="it is 'family'"):
        folds(data, "families")


def test_parts_of_a_trajectory_stay_together():
    data = data_of(["md"] * 7 + ["strained"] * 2 + ["IsolatedAtom"])
    found = folds(data, 3)
    assert found == ["fold 1"] * 3 + ["fold 2"] * 2 + ["fold 3"] * 2 + ["fold 1", "fold 2", None]
    assert set(folds(data_of(["a", "b", "c"]), 3)) == {"fold 1", "fold 2", "fold 3"}
    for wrong in (1, 10):
        with pytest.raises(LabelError, match=f"{wrong} folds of 9 structures"):
            folds(data, wrong)


def test_names_of_ones_own():
    data = data_of(["a"] * 3)
    assert folds(data, ["x", None, "y"]) == ["x", None, "y"]
    with pytest.raises(LabelError, match="2 names of folds for 3"):
        folds(data, ["x", "y"])
    with pytest.raises(LabelError, match="two at least"):
        folds(data, ["x", "x", None])


# --- cases --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def posterior():
    return fit(data_of(["a", "b", "c"] * 4))


def test_cases_have_the_bars_of_the_fit(posterior):
    truth = data_of(["x", "y"], seed=5)
    unlabelled = [truth.labels[0], Labels(energy=truth.labels[1].energy)]
    truth = Dataset.from_atoms(truth.structures, unlabelled, families=truth.families)
    out = predict(posterior, truth, n_draws=400)
    energy, forces, stress = held_out_cases(out, truth, numbers=[7, 9], method="m", data="d")
    assert (len(energy), len(forces), len(stress)) == (2, 6, 6)
    assert energy.structure.tolist() == [7, 9]
    assert energy.family.tolist() == ["x", "y"]
    assert set(forces.structure.tolist()) == {7}
    np.testing.assert_allclose(energy.std, out.energy_total_std / 2)
    np.testing.assert_allclose(forces.std, out.forces_total_std[:2].ravel())
    np.testing.assert_allclose(stress.mean, out.stress[0])
    np.testing.assert_allclose(energy.truth, [label.energy / 2 for label in unlabelled])
    alone = held_out_cases(out, truth, floor=NoiseFloor(1.0, 2.0, 3.0, families={"y": (4, 5, 6)}))
    np.testing.assert_allclose(alone[0].std, np.hypot(energy.epistemic_std, [1.0, 4.0]))
    np.testing.assert_allclose(alone[1].std, np.hypot(forces.epistemic_std, 2.0))
    with pytest.raises(LabelError, match="the same structures"):
        held_out_cases(out, truth[[0]])


def test_folds_under_each_other(posterior):
    data = data_of(["x", "y"], seed=5)
    parts = [
        held_out_cases(predict(posterior, data[[k]]), data[[k]], numbers=[k]) for k in (1, 0)
    ]
    energy, forces, _ = together(parts)
    assert energy.structure.tolist() == [1, 0]
    assert energy.family.tolist() == ["y", "x"]
    np.testing.assert_array_equal(forces.truth[6:], data.labels[0].forces.ravel())


# --- refits -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    data, told = data_of(["a", "b", "c"] * 4), []
    found = cross_validate(data, fit, folder=folder, settings={"draws": 400}, progress=told.append,
                           method="Morse", data="cells")
    return data, folder, found, told


def test_every_structure_is_predicted_by_a_fit_without_its_family(validated):
    data, _, found, told = validated
    assert found.folds == ["a", "b", "c"]
    assert told[1] == "2 of 3: without b (4 structures)"
    rest = np.array(data.families) != "b"
    posterior = fit(data[np.flatnonzero(rest)])
    test = data[np.flatnonzero(~rest)]
    energy = held_out_cases(predict(posterior, test, n_draws=200), test)[0]
    mine = found.cases[0].where(found.cases[0].family == "b")
    np.testing.assert_allclose(mine.mean, energy.mean, rtol=1e-9)
    np.testing.assert_allclose(mine.std, energy.std, rtol=1e-9)
    assert mine.structure.tolist() == [1, 4, 7, 10]


def test_a_form_that_can_be_right_has_bars_that_hold(validated):
    _, _, found, _ = validated
    assert found.table.pooled("forces").coverage[0.9].value == pytest.approx(0.9, abs=0.1)
    assert "force bars " in found.verdict()
    assert "too short" not in found.verdict()
    assert found.text().startswith(found.verdict())
    assert "NOT CONVERGED" not in found.text()
    assert "Morse on cells" in found.text()


def test_a_killed_validation_goes_on(validated):
    data, folder, found, _ = validated
    (folder / "fold_001.nc").unlink()
    fitted = []

    def counted(dataset):
        fitted.append(set(dataset.families))
        return fit(dataset)

    again = cross_validate(data, counted, folder=folder, settings={"draws": 400})
    assert fitted == [{"a", "c"}]
    for got, expected in zip(again.cases, found.cases, strict=True):
        np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-9)
    with pytest.raises(BayespotError, match="other settings"):
        cross_validate(data, counted, folder=folder, settings={"draws": 401})
    with pytest.raises(BayespotError, match="other data, folds"):
        cross_validate(data[list(range(11))], counted, folder=folder, settings={"draws": 400})
    with pytest.raises(BayespotError, match="other folds"):
        cross_validate(data, counted, folder=folder, folds=folds(data, 2),
                       settings={"draws": 400})
    assert len(fitted) == 1


def test_what_has_not_converged_is_kept_and_said():
    def poor(dataset):
        posterior = fit(dataset)
        if "b" not in dataset.families:
            posterior.record["problems"] = ["R-hat above 1.01: D 1.3"]
        return posterior

    told = []
    data = data_of(["a", "b"] * 4)
    found = cross_validate(data, poor, progress=told.append)
    assert found.unconverged == {"b": ["R-hat above 1.01: D 1.3"]}
    assert found.cases[0].families == ["a", "b"]
    assert "**NOT CONVERGED without b**: R-hat" in found.text()
    assert told[-1].startswith("NOT CONVERGED without b")


def test_an_error_says_in_which_fold():
    def broken(dataset):
        raise LabelError("no")

    with pytest.raises(LabelError) as caught:
        cross_validate(data_of(["a", "b"]), broken)
    assert caught.value.__notes__ == ["in the fit without a"]


# --- one left out -------------------------------------------------------------------------------


def linear_problem(data):
    form = ACE(species=("Si",), degree_1=3, degree_2=2, degree_3=-1, cutoff=4.5, r0=2.4)
    fixed = {f"sigma_{q}": s for q, s in zip(("energy", "forces", "stress"),
                                            (2e-2, 2e-1, 5e-3), strict=True)}
    return FitProblem(form, data, floor=FLOOR, fixed=fixed, misfit="none",
                      reference=Reference(2.35, 4.0, (-1.0,)))


def test_loo_is_the_refit_without_a_structure():
    """Against fits without each structure in closed form, noise and priors held."""
    data = data_of(["a"] * 10)
    draws = 4000
    posterior = linear_gaussian(linear_problem(data), key=jax.random.key(0), draws=draws,
                                maximize=False)
    found = loo(posterior)
    assert found.n_draws == draws
    assert found.threshold == pytest.approx(min(1 - 1 / np.log10(draws), 0.7))
    exact = []
    for k in range(10):
        rest = [j for j in range(10) if j != k]
        without = linear_gaussian(linear_problem(data[rest]), key=jax.random.key(k), draws=draws,
                                  maximize=False)
        problem = linear_problem(data[[k]])
        values = log_likelihood_of_predictions(
            problem, without.u, evaluate_draws(problem.space.potential(without.u), problem.graph)
        )
        exact.append(special.logsumexp(values) - np.log(draws))
    good = found.k_hat < found.threshold
    assert good.sum() >= 8
    assert found.refit == np.flatnonzero(~good).tolist()
    np.testing.assert_allclose(found.elpd_i[good], np.array(exact)[good], atol=0.1)
    assert found.elpd == pytest.approx(found.elpd_i.sum())
    assert f"elpd {found.elpd:.1f}" in found.text()
    assert all(f"{k} (a, k" in found.text() for k in found.refit)


def test_loo_refuses_draws_that_are_not_of_the_posterior(posterior):
    with pytest.raises(BayespotError, match="loo of a laplace posterior"):
        loo(posterior)


# --- comparison ---------------------------------------------------------------------------------


def validation_of(mean, truth, family, std=1.0, quantity="energy"):
    n = len(truth)
    cases = HeldOut(quantity, np.broadcast_to(mean, n), np.full(n, std), np.full(n, std), truth,
                    family, np.arange(n), np.zeros(n, bool), np.zeros(n, bool))
    return Validation([cases], sorted(set(family)), {})


def test_weights_of_a_known_mixture():
    """Truth is of one model with probability 0.7 and of another else; a third is never right."""
    rng = np.random.default_rng(0)
    n = 6000
    family = rng.choice(["a", "b", "c"], n, p=[0.8, 0.1, 0.1])
    truth = np.where(rng.random(n) < 0.7, 0.0, 4.0) + rng.standard_normal(n)
    found = compare({name: validation_of(mean, truth, family)
                     for name, mean in (("first", 0.0), ("second", 4.0), ("third", 40.0))})
    # Families count equally: 600 cases each in the smallest, so 0.7 to 0.02.
    assert found.weights["first"] == pytest.approx(0.7, abs=0.04)
    assert found.weights["third"] == 0.0
    assert sum(found.weights.values()) == pytest.approx(1.0)


def test_differences_are_paired():
    """Family errors that all potentials share are not in the error of the difference."""
    rng = np.random.default_rng(1)
    family = np.repeat(np.array(list("abcdef")), 200)
    noise = rng.standard_normal(1200)
    truth = np.repeat(rng.uniform(0.0, 5.0, 6), 200) * noise
    good, bad = validation_of(0.0, truth, family, 2.0), validation_of(0.3, truth, family, 2.0)
    found = compare({"bad": bad, "good": good})
    best, behind = found.log_score["energy"]["good"], found.log_score["energy"]["bad"]
    assert (best.behind, best.behind_se) == (0.0, 0.0)
    by_family = [
        scoring.log_score(0.3 + 0 * t, 2.0 + 0 * t, t) - scoring.log_score(0 * t, 2.0 + 0 * t, t)
        for t in truth.reshape(6, 200)
    ]
    assert behind.behind == pytest.approx(np.mean(by_family))
    assert behind.behind_se == pytest.approx(np.std(by_family, ddof=1) / np.sqrt(6))
    assert behind.behind_se < 0.1 * behind.se
    assert found.crps["energy"]["bad"].behind > 0
    assert "| good |" in found.text()
    assert "mean of 6 families" in found.text()
    assert json.loads(json.dumps(found.as_record()))["weights"] == found.weights


def test_only_the_same_cases_are_compared():
    truth, family = np.arange(4.0), np.array(["a", "a", "b", "b"])
    one = validation_of(0.0, truth, family)
    with pytest.raises(LabelError, match="differ in truth"):
        compare({"one": one, "other": validation_of(0.0, truth + 1, family)})
    with pytest.raises(LabelError, match="not validated on the same labels"):
        compare({"one": one, "other": validation_of(0.0, truth, family, quantity="forces")})
    with pytest.raises(LabelError, match="at least two"):
        compare({"one": one})


@pytest.mark.parametrize(("std", "words"), [(0.5, "are too short"), (1.0, "hold"),
                                            (3.0, "are too long")])
def test_the_verdict(std, words):
    rng = np.random.default_rng(2)
    family = np.repeat([f"family {k}" for k in range(40)], 20)  # 40 of 40: above 91 %
    found = validation_of(0.0, rng.standard_normal(800), family, std)
    assert f"energy bars {words} (" in found.verdict()


def test_few_families_cannot_tell():
    truth = np.concatenate([np.full(10, 0.1), np.full(10, 1.7)])
    verdict = validation_of(0.0, truth, ["a"] * 10 + ["b"] * 10).verdict()
    assert "energy bars cannot be judged by 2 families (50 %" in verdict
    assert "0 % in the worst, b)" in verdict
