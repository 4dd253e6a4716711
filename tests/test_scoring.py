import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from bayespot import scoring
from bayespot.errors import LabelError

# the exact quantiles of a standard normal: a sample without sampling noise
NORMAL = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)


def test_rmse_and_mae_by_hand():
    assert scoring.rmse([1.0, 2.0], [4.0, 6.0]) == pytest.approx(np.sqrt(12.5))
    assert scoring.mae([1.0, 2.0], [4.0, 6.0]) == pytest.approx(3.5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_coverage_of_exact_normals(level):
    assert scoring.coverage(0 * NORMAL, 0 * NORMAL + 1, NORMAL, level) == pytest.approx(
        level, abs=1e-3
    )
    # bars half as wide cover less: 2 Phi(z/2) - 1
    narrow = scoring.coverage(0 * NORMAL, 0 * NORMAL + 0.5, NORMAL, level)
    assert narrow == pytest.approx(
        2 * stats.norm.cdf(0.5 * stats.norm.ppf(0.5 + level / 2)) - 1, abs=1e-3
    )


def test_coverage_curve_is_the_coverage_at_each_level():
    levels = [0.1, 0.5, 0.9]
    curve = scoring.coverage_curve(0 * NORMAL, 0 * NORMAL + 1, NORMAL, levels)
    np.testing.assert_allclose(curve, levels, atol=1e-3)


def test_covered_without_spread_is_only_the_exact_value():
    assert scoring.covered([1.0, 1.0], [0.0, 0.0], [1.0, 1.1]).tolist() == [True, False]


def test_crps_of_a_standard_normal_at_zero():
    assert scoring.crps_gaussian(0.0, 1.0, 0.0) == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi))


@pytest.mark.parametrize(("mean", "std", "truth"), [(0.3, 0.7, 1.1), (-2.0, 3.0, 0.5)])
def test_crps_equals_its_integral(mean, std, truth):
    below = quad(lambda x: stats.norm.cdf(x, mean, std) ** 2, -40, truth)[0]
    above = quad(lambda x: stats.norm.sf(x, mean, std) ** 2, truth, 40)[0]
    assert scoring.crps_gaussian(mean, std, truth) == pytest.approx(below + above, rel=1e-7)


def test_crps_without_spread_is_the_absolute_error():
    assert scoring.crps_gaussian([1.0], [0.0], [3.5]) == pytest.approx(2.5)
    assert scoring.crps_gaussian([1.0], [1e-9], [3.5]) == pytest.approx(2.5)


def test_log_score_equals_scipy():
    mean, std, truth = np.array([0.0, 1.0]), np.array([1.0, 0.2]), np.array([0.4, 0.7])
    assert scoring.log_score(mean, std, truth) == pytest.approx(
        -np.mean(stats.norm.logpdf(truth, mean, std))
    )
    with pytest.raises(LabelError, match=r"std is 0 for 1 of 2 cases.*infinite"):
        scoring.log_score(mean, [1.0, 0.0], truth)


@pytest.mark.parametrize("width", [0.25, 1.0, 3.0])
def test_miscalibration_area_against_its_integral(width):
    def gap(p):
        return abs(2 * stats.norm.cdf(width * stats.norm.ppf(0.5 + p / 2)) - 1 - p)

    area = scoring.miscalibration_area(0 * NORMAL, 0 * NORMAL + width, NORMAL)
    assert area == pytest.approx(quad(gap, 0, 1, limit=200)[0], abs=1e-3)


def test_miscalibration_area_at_its_ends():
    assert scoring.miscalibration_area([0.0], [0.0], [1.0]) == pytest.approx(0.5)
    assert scoring.miscalibration_area([0.0, 0.0], [1e9, 1e9], [1.0, 2.0]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17, 857 (1998), table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_the_textbook(k, n, low, high):
    assert scoring.wilson_interval(k, n, 0.95) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_refuses_what_is_no_fraction():
    with pytest.raises(LabelError, match="7 of 5 cases is not a fraction"):
        scoring.wilson_interval(7, 5)
    with pytest.raises(LabelError, match="level 90 is not a probability"):
        scoring.wilson_interval(1, 5, 90)


def test_cluster_bootstrap_of_single_cases_has_the_binomial_spread():
    hits = np.arange(400) < 300
    result = scoring.cluster_bootstrap_coverage(hits, np.arange(400))
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert result.value == 0.75
    assert result.low == pytest.approx(0.75 - half, abs=0.01)
    assert result.high == pytest.approx(0.75 + half, abs=0.01)


def test_cluster_bootstrap_is_wider_when_clusters_stick_together():
    hits = np.repeat(np.arange(20) < 15, 20)
    apart = scoring.cluster_bootstrap_coverage(hits, np.arange(400))
    together = scoring.cluster_bootstrap_coverage(hits, np.repeat(np.arange(20), 20))
    assert together.value == apart.value == 0.75
    # 20 cases in each cluster that agree: sqrt(20) times the width
    ratio = (together.high - together.low) / (apart.high - apart.low)
    assert ratio == pytest.approx(np.sqrt(20), rel=0.15)
    again = scoring.cluster_bootstrap_coverage(hits, np.repeat(np.arange(20), 20))
    assert again == together


def test_cluster_bootstrap_where_it_would_collapse():
    assert scoring.cluster_bootstrap_coverage([True] * 6, ["a"] * 6) == (1.0, 0.0, 1.0)
    full = scoring.cluster_bootstrap_coverage([True] * 6, list("aabbcc"))
    assert full == (1.0, *scoring.wilson_interval(3, 3))
    none = scoring.cluster_bootstrap_coverage([False] * 6, list("aabbcc"))
    assert none == (0.0, *scoring.wilson_interval(0, 3))
    with pytest.raises(LabelError, match="2 covered cases and 3 groups"):
        scoring.cluster_bootstrap_coverage([True, False], list("abc"))


def test_symmetry_zeros_need_both_a_small_label_and_no_spread():
    marked = scoring.symmetry_zeros([0.0, 0.0, 0.5, 1e-4], [0.0, 0.1, 0.0, 1e-9])
    assert marked.tolist() == [True, False, False, True]


def test_score_collects_the_parts():
    result = scoring.score(0 * NORMAL, 0 * NORMAL + 1, NORMAL, np.arange(2000) % 10)
    assert (result.n, result.n_groups, result.level) == (2000, 10, 0.9)
    assert result.rmse == pytest.approx(1.0, abs=2e-3)
    assert result.mae == pytest.approx(np.sqrt(2 / np.pi), abs=2e-3)
    assert result.crps == pytest.approx(1 / np.sqrt(np.pi), abs=2e-3)
    assert result.coverage.low <= result.coverage.value <= result.coverage.high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0], [1.0, 2.0]), r"shapes differ.*'std': \(1,\)"),
        (([1.0], [-0.1], [1.0]), "std has a negative value, -0.1"),
        (([1.0], [1.0], [np.nan]), "truth has 1 of 1 values that are not finite"),
        (([], [], []), "mean is empty"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(LabelError, match=message):
        scoring.coverage(*arguments)
