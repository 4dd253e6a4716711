"""Ranks of the truth among posterior draws are uniform."""

import calibration
import numpy as np
import pytest

pytestmark = pytest.mark.statistical


def check(n: int, first: int) -> None:
    results = list(calibration.collect(n, first))
    p = calibration.p_values(results)
    assert len(p) == 7, "three parameters, an offset, two noise scales, the log likelihood"
    assert sum(diverged for _, diverged in results) <= 0.05 * n
    assert calibration.family_wise(p) > 0.05, p


def test_calibration():
    check(24, first=0)


@pytest.mark.slow
def test_calibration_at_length():
    check(200, first=100)


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
