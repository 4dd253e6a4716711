"""Inference against posteriors that are known in closed form, and what it says about itself."""

import jax
import numpy as np
import pytest
from linear_pair import (
    UNSEEN,
    LinearPair,
    coefficient,
    design,
    distance_to_exact,
    exact,
    make_problem,
    weights,
)

import bayespot
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import BayespotError, NotConverged
from bayespot.inference.assemble import build_posterior
from bayespot.inference.curved import whitening
from bayespot.inference.laplace import laplace
from bayespot.inference.map import map_estimate
from bayespot.inference.nuts import nuts
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.posterior import Posterior
from bayespot.potentials.priors import LogNormal, Normal, Reference

pytestmark = pytest.mark.statistical

WARMUP = 300  # one warmup for all, so that all share one compiled sampler


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "correlated"])
def case(request):
    problem = make_problem(collinear=request.param)
    return problem, exact(problem.dataset), request.param


@pytest.fixture(scope="module")
def problem():
    return make_problem()


@pytest.fixture(scope="module")
def short(problem):
    """Too short on purpose."""
    return nuts(problem, key=jax.random.key(3), chains=2, warmup=WARMUP, draws=30, starts=1,
                progress=False)  # fmt: skip


# --- closed form ----------------------------------------------------------------------------


def test_the_potential_is_the_design_matrix(problem):
    theta = np.array([0.3, -0.2, 0.7, 1.0, -3.1])
    potential = problem.initial.replace(
        **dict(zip(("c1", "c2", "c3", "c4", "e0"), theta[:, None], strict=True))
    )
    out = bayespot.evaluate.evaluate(potential, problem.graph, cutoff=problem.cutoff)
    rows = [design(atoms) for atoms in problem.dataset.structures]
    sizes = problem.dataset.atom_counts
    np.testing.assert_allclose(
        out.energy / sizes, [r["energy"][0] @ theta for r in rows], atol=1e-12
    )
    np.testing.assert_allclose(
        out.forces.ravel(), np.concatenate([r["forces"] @ theta for r in rows]), atol=1e-12
    )
    np.testing.assert_allclose(out.stress, [r["stress"] @ theta for r in rows], atol=1e-12)


def test_the_correlated_case_is_one():
    assert exact(make_problem(collinear=True).dataset).condition > 1e6


def test_map_is_the_exact_mean(case):
    problem, truth, _ = case
    found = map_estimate(problem, key=jax.random.key(0), starts=4)
    assert found.converged
    np.testing.assert_allclose(found.u[0], truth.mean, atol=1e-6)
    assert np.abs((found.u[0] - truth.mean) / truth.sd).max() < 1e-6


def test_laplace_has_the_exact_covariance(case):
    problem, truth, _ = case
    factor = whitening(problem, truth.mean)
    scale = np.outer(truth.sd, truth.sd)
    np.testing.assert_allclose(factor @ factor.T / scale, truth.covariance / scale, atol=1e-6)
    posterior = laplace(problem, key=jax.random.key(2), draws=4000, starts=2)
    z = np.linalg.solve(factor, (posterior.u - truth.mean).T)
    np.testing.assert_allclose(z @ z.T / z.shape[1], np.eye(len(z)), atol=0.1)


def test_nuts_finds_the_exact_posterior(case):
    problem, truth, _ = case
    posterior = nuts(problem, key=jax.random.key(1), chains=4, warmup=WARMUP, draws=1500, starts=2,
                     progress=False)  # fmt: skip
    assert posterior.converged, posterior.problems
    error, ratio = distance_to_exact(posterior, truth)
    assert error.max() < 3.0
    np.testing.assert_allclose(ratio, 1.0, atol=0.05)
    z = np.linalg.solve(np.linalg.cholesky(truth.covariance), (posterior.u - truth.mean).T)
    np.testing.assert_allclose(z @ z.T / z.shape[1], np.eye(len(z)), atol=0.1)
    assert posterior.not_informed == [UNSEEN]
    assert f"{UNSEEN} " in posterior.summary()
    assert "not informed by data" in posterior.summary()


def test_loss_weights_are_the_documented_ones(problem):
    posterior = map_estimate(problem, key=jax.random.key(0), starts=1)
    expected = weights(problem.dataset.structures[0])
    for quantity, found in posterior.loss_weights().items():
        assert found["mean"] == pytest.approx(expected[quantity], rel=1e-12)
        assert found["sd"] == pytest.approx(0.0, abs=1e-9 * found["mean"])


# --- interruption ---------------------------------------------------------------------------


class StoppedError(Exception):
    """Stands for a killed process."""


def stop_at(iterations):
    def progress(done, total, message):
        if done >= iterations:
            raise StoppedError

    return progress


def test_an_interrupted_run_continues_to_the_same_draws(problem, tmp_path):
    def run(progress=False, folder=None):
        return nuts(problem, key=jax.random.key(5), chains=2, warmup=WARMUP, draws=130, starts=1,
                    progress=progress, checkpoint=folder)  # fmt: skip

    undisturbed = run()
    for moment in (150, 650):  # in the warmup of both chains, then among the draws
        with pytest.raises(StoppedError):
            run(stop_at(moment), tmp_path)
    assert not list(tmp_path.glob(".*")), "a temporary file was left behind"
    continued = run(folder=tmp_path)
    assert np.array_equal(continued.u, undisturbed.u)
    for name, values in undisturbed.tree["sample_stats"].data_vars.items():
        assert np.array_equal(values, continued.tree["sample_stats"][name]), name
    assert np.array_equal(run(folder=tmp_path).u, undisturbed.u), "a finished run is read back"
    (tmp_path / "chain_1.npz").unlink()
    assert np.array_equal(run(folder=tmp_path).u, undisturbed.u), "a lost chain is drawn again"


def test_a_checkpoint_of_other_settings_is_refused(problem, tmp_path):
    settings = {"chains": 1, "warmup": WARMUP, "draws": 20, "starts": 1, "progress": False,
                "checkpoint": tmp_path}  # fmt: skip
    nuts(problem, key=jax.random.key(5), **settings)
    with pytest.raises(BayespotError, match=r"made with other draws: use another folder"):
        nuts(problem, key=jax.random.key(5), **{**settings, "draws": 40})
    with pytest.raises(BayespotError, match=r"made with other key"):
        nuts(problem, key=jax.random.key(6), **settings)
    with pytest.raises(BayespotError, match=r"made with other data"):
        nuts(make_problem(seed=6), key=jax.random.key(5), **settings)
    dataset = problem.dataset
    for name, value in (("nu_forces", 3.0), ("floor", NoiseFloor(1e-2, 1e-2, 1e-2))):
        other = with_structures(problem, dataset.structures, dataset.labels, **{name: value})
        with pytest.raises(BayespotError, match=f"made with other {name}"):
            nuts(other, key=jax.random.key(5), **settings)


# --- diagnostics ----------------------------------------------------------------------------


def test_a_short_run_is_marked_and_refused(problem, short):
    assert not short.converged
    assert any("bulk ESS below 400: c1 " in text for text in short.problems)
    assert "NOT CONVERGED" in short.summary()
    structures = problem.dataset.structures[:2]
    with pytest.raises(NotConverged, match=r"has not converged: .*ESS below 400.*allow_unconver"):
        bayespot.predict(short, structures)
    out = bayespot.predict(short, structures, n_draws=4, allow_unconverged=True)
    assert out.energy_draws.shape == (4, 2)


def stats_of(u):
    rng = np.random.default_rng(0)
    shape = u.shape[:2]
    return {
        "energy": rng.standard_normal(shape), "diverging": np.zeros(shape, bool),
        "reached_max_treedepth": np.zeros(shape, bool),
    }  # fmt: skip


def test_chains_that_disagree_are_named(problem):
    u = np.random.default_rng(1).standard_normal((2, 1000, 5))
    u[0, :, 1] += 3.0
    posterior = build_posterior(problem, u, method="nuts", sample_stats=stats_of(u))
    (r_hat,) = (text for text in posterior.problems if text.startswith("R-hat"))
    assert "c2 " in r_hat
    assert "c1 " not in r_hat
    assert "e0 " not in r_hat


def test_chains_that_do_not_move_are_named(problem):
    u = np.random.default_rng(1).standard_normal((2, 500, 5))
    u[:, :, 2] = [[0.5], [0.7]]
    stats = stats_of(u)
    stats["energy"] = np.ones((2, 500))
    posterior = build_posterior(problem, u, method="nuts", sample_stats=stats)
    assert any(text.startswith("R-hat") and "c3 " in text for text in posterior.problems)
    assert any(text.startswith("E-BFMI") for text in posterior.problems)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("diverging", True, r"2000 divergent transitions of 2000"),
    ("reached_max_treedepth", True, r"100.0 % of the trajectories hit the largest tree"),
])  # fmt: skip
def test_what_the_sampler_reports_is_judged(problem, name, value, message):
    u = np.random.default_rng(1).standard_normal((2, 1000, 5))
    stats = stats_of(u)
    assert build_posterior(problem, u, method="nuts", sample_stats=stats).converged
    stats[name] = np.full((2, 1000), value)
    (problem_found,) = build_posterior(problem, u, method="nuts", sample_stats=stats).problems
    assert problem_found == message


def test_energies_that_wander_are_reported(problem):
    u = np.random.default_rng(1).standard_normal((2, 1000, 5))
    stats = stats_of(u)
    stats["energy"] = np.cumsum(stats["energy"], axis=1)
    (found,) = build_posterior(problem, u, method="nuts", sample_stats=stats).problems
    assert found.startswith("E-BFMI 0.0")


# --- file -----------------------------------------------------------------------------------


def test_a_saved_posterior_is_the_same(problem, short, tmp_path):
    path = tmp_path / "posterior.nc"
    short.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]
    again = Posterior.load(path)
    assert again.parameter_names == short.parameter_names
    assert np.array_equal(again.draws, short.draws)
    assert again.problems == short.problems
    assert again.diagnostics().identical(short.diagnostics())
    assert again.summary() == short.summary()
    assert again.loss_weights() == short.loss_weights()
    one, other = (
        bayespot.predict(p, problem.dataset, n_draws=8, allow_unconverged=True)
        for p in (short, again)
    )
    for name in ("energy_draws", "forces_draws", "stress_draws", "extrapolation", "sigma"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_files_that_are_no_posteriors(short, tmp_path):
    path = tmp_path / "posterior.nc"
    with pytest.raises(BayespotError, match=r"no posterior at .*posterior.nc: run a fit first"):
        Posterior.load(path)
    path.write_bytes(b"not netCDF at all")
    with pytest.raises(BayespotError, match=r"posterior.nc is not a posterior that can be read"):
        Posterior.load(path)
    short.save(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(BayespotError, match=r"it is corrupt or of another kind; fit again"):
        Posterior.load(path)


# --- invariance -----------------------------------------------------------------------------


def with_structures(problem, structures, labels, **changes):
    settings = {
        "priors": {"e0": Normal(-3.0, 5.0)}, "fixed": problem.space.fixed,
        "reference": problem.reference, "floor": problem.floor, "nu_forces": problem.nu_forces,
        "misfit": problem.misfit,
    }  # fmt: skip
    return FitProblem(
        problem.initial, Dataset.from_atoms(structures, labels), **(settings | changes)
    )


def test_order_and_labels_of_atoms_change_nothing(problem):
    rng = np.random.default_rng(7)
    u = 0.3 * rng.standard_normal(problem.space.size)
    structures = []
    for k in rng.permutation(len(problem.dataset)):
        atoms, label = problem.dataset.structures[k] * (2, 1, 1), problem.dataset.labels[k]
        structures.append((atoms, label, rng.permutation(len(atoms))))
    plain, mixed = (
        with_structures(
            problem,
            [atoms[order if shuffle else slice(None)] for atoms, _, order in chosen],
            [
                Labels(
                    2 * label.energy,
                    np.tile(label.forces, (2, 1))[order if shuffle else slice(None)],
                    label.stress,
                )
                for _, label, order in chosen
            ],
        )
        for shuffle, chosen in ((False, structures), (True, structures[::-1]))
    )
    assert mixed.log_posterior(u) == pytest.approx(plain.log_posterior(u), rel=1e-10)
    # A doubled cell says what the cell says: one energy per atom, nu_forces forces, one stress.
    assert plain.log_posterior(u) == pytest.approx(problem.log_posterior(u), rel=1e-10)


def morse_problem(energy=1.0, length=1.0):
    """The same problem with energies in units of ``energy`` and lengths in units of ``length``."""
    rng = np.random.default_rng(0)
    structures, labels = [], []
    for atoms in make_problem().dataset.structures:
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell.array * length, scale_atoms=True)
        structures.append(scaled)
        labels.append(Labels(
            -3.0 * len(atoms) * energy,
            rng.standard_normal((len(atoms), 3)) * energy / length,
            0.05 * rng.standard_normal(6) * energy / length**3,
        ))
    units = energy * np.array([1.0, 1 / length, 1 / length**3])
    sigma = units * [0.01, 0.1, 0.005]
    floor = units * [1e-3, 1e-2, 1e-4]
    return FitProblem(
        bayespot.Morse(species=("Ar",), cutoff=5.0 * length, switch_width=1.0 * length),
        Dataset.from_atoms(structures, labels),
        priors={
            "alpha": LogNormal(1.8 / length, 0.4), "e0": Normal(-3.0 * energy, 5.0 * energy),
            **{f"sigma_{q}": LogNormal(s, 1.0)
               for q, s in zip(("energy", "forces", "stress"), sigma, strict=True)},
        },
        reference=Reference(2.6 * length, 2.0 * energy, (0.0,)), floor=NoiseFloor(*floor),
    )  # fmt: skip


@pytest.mark.parametrize(("energy", "length"), [(1.7, 1.0), (0.4, 0.9)])
def test_units_only_shift_the_log_posterior(energy, length):
    base, other = morse_problem(), morse_problem(energy, length)
    units = energy * np.array([1.0, 1 / length, 1 / length**3])
    counts = base.misfit_by_structure(np.zeros(base.space.size)).counts.sum(axis=0)
    rng = np.random.default_rng(1)
    for u in 0.5 * rng.standard_normal((3, base.space.size)):
        expected = base.log_posterior(u) - counts @ np.log(units)
        assert other.log_posterior(u) == pytest.approx(expected, rel=1e-10)


def test_the_potential_of_these_tests_is_not_registered():
    assert LinearPair.__name__ not in bayespot.registry()
    assert coefficient(1).metadata["param"][4] == "pair"
