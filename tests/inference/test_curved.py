"""Coordinates of curved posteriors, against a banana whose moments are known by quadrature."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_pair import (
    CENTERS,
    COEFFICIENT,
    FLOOR,
    OFFSET,
    SPREADS,
    LinearPair,
    design,
    make_problem,
    weights,
)
from scipy.special import logsumexp
from test_exact import StoppedError, stop_at

from bayespot.inference import curved as module
from bayespot.inference.curved import Curved, curved, forward_all, whitening
from bayespot.inference.laplace import laplace
from bayespot.inference.map import climb
from bayespot.inference.nuts import nuts
from bayespot.likelihood import FitProblem
from bayespot.potentials.priors import Normal

pytestmark = pytest.mark.statistical

KNEE = 0.05
"""eV; the first height is c1 - KNEE x^2, with x the coordinate of the one that no pair sees."""

WARMUP = 300
ALONE = ((0.0, 0.0),)  # amounts: nothing but the whitening


class Banana(LinearPair):
    """The first height moves along a parabola of the one that the data cannot see."""

    abstract: ClassVar[bool] = True  # out of the registry

    def shift(self, x):
        return x**2

    def phi(self, r):
        x = (self.c4 - COEFFICIENT[0]) / COEFFICIENT[1]
        heights = (self.c1 - KNEE * self.shift(x), self.c2, self.c3)
        return sum(
            h * jnp.exp(-0.5 * ((r - c) / w) ** 2)
            for h, c, w in zip(heights, CENTERS, SPREADS, strict=False)
        )


class Ripple(Banana):
    """A parabola in the middle, and nothing like one further out."""

    abstract: ClassVar[bool] = True

    def shift(self, x):
        return 1.0 - jnp.cos(6.0 * x)


def problem_of(form):
    linear = make_problem()
    hypers = {"species": ("Ar",), "cutoff": linear.cutoff,
              "switch_width": linear.initial.switch_width}  # fmt: skip
    return FitProblem(
        form(**hypers), linear.dataset, priors={"e0": Normal(*OFFSET)},
        fixed=linear.space.fixed, reference=linear.reference, floor=FLOOR,
        nu_forces=linear.nu_forces, misfit="none",
    )


@pytest.fixture(scope="module")
def problem():
    return problem_of(Banana)


@pytest.fixture(scope="module")
def moments(problem):
    """Mean and sd of ``u`` [5]: at every x the rest is normal in closed form, x on a grid."""
    mean = np.array([COEFFICIENT[0]] * 4 + [OFFSET[0]])
    sd = np.array([COEFFICIENT[1]] * 4 + [OFFSET[1]])
    rest, matrix, right = [0, 1, 2, 4], np.zeros((4, 4)), np.zeros(4)
    for atoms, labels in zip(problem.dataset.structures, problem.dataset.labels, strict=True):
        weight, rows = weights(atoms), design(atoms)
        truth = {"energy": labels.energy / len(atoms), "forces": labels.forces,
                 "stress": labels.stress}  # fmt: skip
        for q in rows:
            scaled = (rows[q] * sd)[:, rest]
            matrix += weight[q] * scaled.T @ scaled
            right += weight[q] * scaled.T @ (np.ravel(truth[q]) - rows[q][:, rest] @ mean[rest])
    grid = np.linspace(-8, 8, 4001)
    # Heights h = u - shift(x) e_1 with a normal likelihood, u with a standard normal prior.
    shift = KNEE / COEFFICIENT[1] * grid[:, None] ** 2 * np.eye(4)[0]
    covariance = np.linalg.inv(matrix + np.eye(4))
    pull = right - shift
    means = pull @ covariance + shift
    log_weight = (-0.5 * grid**2 + 0.5 * np.einsum("xi,ij,xj->x", pull, covariance, pull)
                  - 0.5 * np.sum(shift**2, axis=1))  # fmt: skip
    weight = np.exp(log_weight - logsumexp(log_weight))
    first = np.insert(weight @ means, 3, weight @ grid)
    second = np.insert(weight @ (means**2 + np.diag(covariance)), 3, weight @ grid**2)
    return first, np.sqrt(second - first**2)


def random_map(p=6, m=4, seed=0):
    rng = np.random.default_rng(seed)
    stiffer = np.arange(p)[:, None] > np.arange(p)
    bend = rng.standard_normal((p, m, m)) * stiffer[:, :m, None] * stiffer[:, None, :m]
    return Curved(rng.standard_normal(p), rng.standard_normal((p, p)),
                  bend + np.swapaxes(bend, 1, 2), 0.3 * rng.standard_normal((p, p)) * stiffer)


def test_the_volume_is_that_of_the_derivative():
    """With the bend alone it does not change at all."""
    one = random_map()
    for z in 2.0 * np.random.default_rng(1).standard_normal((5, 6)):
        for case in (one, one._replace(stretch=0.0 * one.stretch)):
            jacobian = jax.jacfwd(lambda x, case=case: case.forward(x)[0])(jnp.asarray(z))
            constant = np.linalg.slogdet(one.factor)[1]
            volume = float(case.forward(jnp.asarray(z))[1])
            assert np.linalg.slogdet(jacobian)[1] - constant == pytest.approx(volume, abs=1e-9)
        assert volume == 0.0


def test_the_inverse_is_the_inverse():
    one = random_map()
    z = 2.0 * np.random.default_rng(1).standard_normal((5, 6))
    u, _ = forward_all(one, jnp.asarray(z))
    np.testing.assert_allclose([one.inverse(row) for row in np.asarray(u)], z, atol=1e-9)


def test_a_posterior_that_is_normal_stays_as_it_is():
    for collinear in (False, True):
        problem = make_problem(collinear=collinear)
        mode = np.zeros(problem.space.size)
        found, shape = curved(problem, mode)
        assert np.abs(found.bend).max() < 1e-4
        assert np.abs(found.stretch).max() < 1e-4
        assert shape["largest_bend"] < 1e-4
        undone = np.linalg.solve(found.factor, whitening(problem, mode))
        np.testing.assert_allclose(undone @ undone.T, np.eye(len(mode)), atol=1e-8)


def test_the_bend_is_that_of_the_banana(problem, moments):
    """In the coordinates of the map the banana is normal, up to the little that the prior adds."""
    mode = mode_from(problem, moments[0])
    found, shape = curved(problem, mode)
    assert shape["bent"] == 1.0
    assert shape["largest_bend"] > 10.0
    z = jnp.asarray(np.random.default_rng(2).standard_normal((200, len(mode))))
    spreads = []
    for one in (found, found._replace(bend=0.0 * found.bend, stretch=0.0 * found.stretch)):
        u, log_volume = forward_all(one, z)
        values = [problem.log_posterior(row) for row in np.asarray(u)]
        ratio = np.asarray(values) + np.asarray(log_volume) + 0.5 * np.sum(z**2, axis=1)
        spreads.append(np.std(ratio))
    assert spreads[0] < 0.2
    assert spreads[1] > 50.0


def test_a_bend_that_holds_only_at_the_mode_is_left_out(moments):
    problem = problem_of(Ripple)
    found, shape = curved(problem, mode_from(problem, moments[0]))
    assert shape == {"bent": 0.0, "stretched": 0.0, "largest_bend": 0.0}
    z = np.array([1.0, -2.0, 0.5, 0.0, 1.0])
    u, log_volume = found.forward(jnp.asarray(z))
    np.testing.assert_allclose(u, found.center + found.factor @ z, atol=1e-12)
    assert log_volume == 0.0


def mode_from(problem, u):
    mode = climb(problem, u)
    assert mode.converged
    return mode.u


def run(problem, **options):
    return nuts(problem, **{"key": jax.random.key(1), "chains": 4, "warmup": WARMUP, "draws": 500,
                            "starts": 2, "progress": False, **options})


def cost(posterior):
    """Gradients for an effective draw, and divergences."""
    table = posterior.diagnostics()
    return (posterior.record["details"]["gradients_draws"] / float(table["ess_bulk"].min()),
            int(posterior.tree["sample_stats"]["diverging"].values.sum()))


def test_the_banana_is_sampled_as_it_is(problem, moments, monkeypatch):
    posterior = run(problem)
    assert posterior.converged, posterior.problems
    mean, sd = moments
    table = posterior.diagnostics()
    error = np.abs(posterior.u.mean(axis=0) - mean) / (sd / np.sqrt(table["ess_bulk"].values))
    assert error.max() < 3.5
    np.testing.assert_allclose(posterior.u.std(axis=0) / sd, 1.0, atol=0.1)
    lp = posterior.tree["sample_stats"]["lp"].values.ravel()
    for k in (0, 777, -1):
        assert lp[k] == pytest.approx(problem.log_posterior(posterior.u[k]), rel=1e-9)
    mine, none = cost(posterior)
    monkeypatch.setattr(module, "AMOUNTS", ALONE)
    other, _ = cost(run(problem))  # with divergences or without: that is the step size's luck
    assert none == 0
    assert other > 10 * mine, (mine, other)


def test_laplace_draws_follow_the_banana(problem, moments, monkeypatch):
    mean, sd = moments

    def distance():
        u = laplace(problem, key=jax.random.key(2), draws=4000, starts=2).u
        return np.abs((u.mean(axis=0) - mean) / sd).max(), np.abs(u.std(axis=0) / sd - 1.0).max()

    bias, ratio = distance()
    assert bias < 0.06
    assert ratio < 0.1
    monkeypatch.setattr(module, "AMOUNTS", ALONE)
    bias, ratio = distance()
    assert bias > 0.5
    assert ratio > 0.5


def test_an_interrupted_run_keeps_its_coordinates(problem, tmp_path):
    options = {"chains": 2, "draws": 60, "starts": 1}
    undisturbed = run(problem, **options)
    with pytest.raises(StoppedError):
        run(problem, **options, progress=stop_at(400), checkpoint=tmp_path)
    assert (tmp_path / "coordinates.npz").exists()
    continued = run(problem, **options, checkpoint=tmp_path)
    assert np.array_equal(continued.u, undisturbed.u)
    shapes = [one.record["details"]["coordinates"] for one in (continued, undisturbed)]
    assert shapes[0] == shapes[1]
