"""Ranks of the truth among posterior draws are uniform."""

import calibration
import numpy as np
import pytest

pytestmark = pytest.mark.statistical


def check(name: str, n: int, first: int, quantities: int) -> None:
    results = list(calibration.collect(name, n, first))
    p = calibration.p_values(results)
    assert len(p) == quantities
    assert sum(one.diverged for one in results) <= 0.05 * n
    assert sum(one.short for one in results) <= 0.05 * n
    assert calibration.family_wise(p) > 0.05, p


MORSE = 3 + 1 + 2 + 1  # parameters, an offset, two noise scales, the log likelihood
ACE = 16 + 1 + 1  # coefficients, an offset, the log likelihood


def test_calibration():
    check("morse", 24, 0, MORSE)


def test_calibration_of_the_closed_form():
    check("linear_ace", 40, 0, ACE)


@pytest.mark.slow
def test_calibration_at_length():
    check("morse", 200, 100, MORSE)


@pytest.mark.parametrize("wrong", [(2.0, 2.0), (0.5, 0.5), (1.0, 1.6)],
                         ids=["too wide", "too narrow", "shifted"])  # fmt: skip
def test_the_p_value_finds_ranks_that_are_not_uniform(wrong):
    rng = np.random.default_rng(3)
    ranks = np.floor(rng.beta(*wrong, size=200) * calibration.RANKS).astype(int)
    assert calibration.ecdf_p_value(ranks) < 1e-3


def test_the_p_value_is_uniform_under_uniform_ranks():
    rng = np.random.default_rng(4)
    p = [
        calibration.ecdf_p_value(rng.integers(0, calibration.RANKS, 50), simulations=500)
        for _ in range(60)
    ]
    assert 0.35 < np.mean(p) < 0.65
    assert np.mean(np.array(p) < 0.1) < 0.25
