"""Reweighting against Einstein crystals, whose canonical averages are known exactly.

Atoms on springs of constant s at temperature T have E = s/2 sum u^2 with u ~ N(0, kT/s), and under
another spring s' the mean of u^2 is kT/s'.
"""

import numpy as np
import pytest
from ase import units

from bayespot.dynamics import effective_size, mean_error, reweight
from bayespot.errors import PropertyError

T = 300.0
SPRING = 5.0  # eV/Å^2


def share(ratio: float, freedom: int) -> float:
    r"""Kish's share for a spring ``ratio`` times as hard.

    With :math:`w = e^{-(\rho - 1) x}`, :math:`x = \frac12 s u^2 / kT` and
    :math:`\langle e^{-a x} \rangle = (1 + a)^{-f/2}`, it is
    :math:`\langle w \rangle^2 / \langle w^2 \rangle = [(2 \rho - 1) / \rho^2]^{f/2}`.
    """
    return ((2.0 * ratio - 1.0) / ratio**2) ** (freedom / 2)


def oscillators(n_frames, n_atoms, seed=0):
    """Independent canonical frames: displacements [n_frames, n_atoms, 3]."""
    rng = np.random.default_rng(seed)
    return np.sqrt(units.kB * T / SPRING) * rng.standard_normal((n_frames, n_atoms, 3))


def energies(u, ratios):
    base = 0.5 * SPRING * (u**2).sum(axis=(1, 2))
    return base, base[:, None] * np.asarray(ratios)


def test_means_errors_and_sizes_are_the_exact_ones():
    ratios, atoms, n = np.array([0.8, 0.95, 1.0, 1.1, 1.3]), 4, 40_000
    u = oscillators(n, atoms)
    base, draws = energies(u, ratios)
    found = reweight(draws + 7.0, base, T)  # a constant changes nothing
    square = (u**2).mean(axis=(1, 2))
    averages = found.average(square)
    exact = units.kB * T / (SPRING * ratios)
    z = (averages.value - exact) / averages.error
    assert np.abs(z).max() < 4.0
    np.testing.assert_allclose(found.weights.sum(axis=1), 1.0, rtol=n * 1e-15)
    np.testing.assert_allclose(found.ess / n, share(ratios, 3 * atoms), rtol=0.05)
    assert found.ess[2] == pytest.approx(n)
    own = found.average(draws.T, of_draws=True)
    z = (own.value - 1.5 * atoms * units.kB * T) / own.error
    assert np.abs(z).max() < 4.0


@pytest.mark.statistical
def test_error_bars_cover():
    """Of 400 correlated trajectories, 68 and 95 % lie within one and two errors."""
    rng, n, correlation = np.random.default_rng(5), 600, 0.9
    sigma = np.sqrt(units.kB * T / SPRING)
    distances = []
    for _ in range(400):
        noise = rng.standard_normal((n, 3, 3))
        u = np.empty_like(noise)
        u[0] = noise[0]
        for t in range(1, n):  # an Ornstein-Uhlenbeck process: Langevin without inertia
            u[t] = correlation * u[t - 1] + np.sqrt(1.0 - correlation**2) * noise[t]
        u *= sigma
        base, draws = energies(u, [1.1])
        found = reweight(draws, base, T, enough=1.0).average((u**2).mean(axis=(1, 2)))
        distances.append((found.value[0] - sigma**2 / 1.1) / found.error[0])
    distances = np.abs(distances)
    assert 0.60 < np.mean(distances < 1.0) < 0.76
    assert 0.90 < np.mean(distances < 2.0) < 0.98


def test_draws_that_the_trajectory_says_nothing_about_are_named():
    u = oscillators(500, 30)
    base, draws = energies(u, [1.01, 2.5])
    found = reweight(draws, base, T)
    assert found.usable.tolist() == [True, False]
    (problem,) = found.problems
    assert "1 of 2 draws have fewer than 20 independent frames" in problem
    assert "draw 1: " in problem
    averages = found.average(np.stack([base, base**2], axis=1))
    assert averages.value.shape == (2, 2)
    assert np.isfinite(averages.value[0]).all()
    assert np.isnan(averages.value[1]).all()
    assert not reweight(draws, base, T, enough=0.0).problems


def test_correlated_frames_count_less():
    """Frames written k times each are no more than they were."""
    u = oscillators(400, 5)
    base, draws = energies(u, [1.05])
    once = reweight(draws, base, T)
    often = reweight(np.repeat(draws, 8, axis=0), np.repeat(base, 8), T)
    assert often.ess[0] == pytest.approx(8 * once.ess[0])
    assert often.independent[0] == pytest.approx(once.independent[0], rel=0.3)


def test_size_of_a_correlated_series():
    rng, n, rho = np.random.default_rng(2), 200_000, 0.8
    x = np.empty(n)
    x[0] = rng.standard_normal()
    for t, noise in enumerate(rng.standard_normal(n - 1), start=1):
        x[t] = rho * x[t - 1] + np.sqrt(1 - rho**2) * noise
    exact = n * (1 - rho) / (1 + rho)
    assert effective_size(x) == pytest.approx(exact, rel=0.1)
    assert mean_error(x)[1] == pytest.approx(1 / np.sqrt(exact), rel=0.1)
    assert effective_size(np.ones(50)) == 50
    assert np.isnan(effective_size(np.ones(2)))


def test_what_makes_no_sense_is_refused():
    base, draws = energies(oscillators(50, 2), [1.1, 0.9])
    with pytest.raises(PropertyError, match="shapes"):
        reweight(draws.T, base, T)
    with pytest.raises(PropertyError, match="temperature_K=0"):
        reweight(draws, base, 0.0)
    draws[3, 1] = np.nan
    with pytest.raises(PropertyError, match=r"draws \[1\]"):
        reweight(draws, base, T)
    found = reweight(draws[:, :1], base, T)
    with pytest.raises(PropertyError, match=r"shape \(49,\)"):
        found.average(base[1:])
