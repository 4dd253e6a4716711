from itertools import pairwise

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
    with pytest.raises(LabelError, match="2 cases and 3 groups"):
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


# ------------------------------------------------------------------ size and order of the spreads


def draws(n=20_000, seed=0, spread=0.5):
    """Mean 0, spreads that differ, and truths drawn from exactly these normals."""
    rng = np.random.default_rng(seed)
    std = np.exp(spread * rng.standard_normal(n))
    return np.zeros(n), std, std * rng.standard_normal(n)


def test_calibrated_draws_have_every_score_of_a_calibrated_set():
    mean, std, truth = draws()
    n = truth.size
    for level in (0.5, 0.9, 0.95):
        error = np.sqrt(level * (1 - level) / n)
        assert abs(scoring.coverage(mean, std, truth, level) - level) < 4 * error
    # the mean of z^2 has the variance 2/n
    assert abs(scoring.rms_z(mean, std, truth) ** 2 - 1) < 4 * np.sqrt(2 / n)
    achieved = scoring.rank_correlation(mean, std, truth)
    expected = scoring.expected_rank_correlation(std)
    assert abs(achieved - expected) < 4 * np.sqrt(1 / n + 1 / 200_000)
    assert expected > 0.2
    # |RMSE/RMV - 1| is a folded normal of variance 1/(2m) in a bin of m equal spreads
    equal = scoring.ence(mean, mean + 1, truth / std, n_bins=20)
    assert equal == pytest.approx(np.sqrt(20 / (np.pi * n)), rel=0.5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_overconfidence_by_two_covers_what_the_normal_says(level):
    mean, std, truth = draws()
    exact = 2 * stats.norm.cdf(stats.norm.ppf(0.5 + level / 2) / 2) - 1
    error = np.sqrt(exact * (1 - exact) / truth.size)
    assert abs(scoring.coverage(mean, std / 2, truth, level) - exact) < 4 * error
    assert scoring.rms_z(mean, std / 2, truth) == pytest.approx(2.0, rel=0.03)
    assert scoring.ence(mean, std / 2, truth) == pytest.approx(1.0, rel=0.06)


def test_sharpness_and_rms_z_by_hand():
    assert scoring.sharpness([3.0, 4.0]) == pytest.approx(np.sqrt(12.5))
    assert scoring.rms_z([0.0, 0.0], [1.0, 2.0], [2.0, 2.0]) == pytest.approx(np.sqrt(2.5))


def test_ence_of_a_set_that_was_built_for_it():
    # bins of spread 1 and 2 with errors of rms 1.5 and 1: |1 - 1.5|/1 and |2 - 1|/2
    std = [1.0] * 4 + [2.0] * 4
    error = [1.5, -1.5, 1.5, -1.5, 1.0, -1.0, 1.0, 1.0]
    assert scoring.ence(np.zeros(8), std, error, n_bins=2) == pytest.approx(0.5)
    # all in one bin: sqrt(2.5) against sqrt((2.25 + 1)/2)
    one = scoring.ence(np.zeros(8), std, error)
    assert one == pytest.approx(1 - np.sqrt(1.625 / 2.5))
    # a weight of 0 leaves a case out; the first bin then has errors 1.5 and 0
    error[0] = 0.0
    weights = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    weighted = scoring.ence(np.zeros(8), std, error, n_bins=2, weights=weights)
    assert weighted == pytest.approx(0.5 * (abs(1 - np.sqrt(1.125)) + 0.5))
    with pytest.raises(LabelError, match="n_bins=9 for 8 cases"):
        scoring.ence(np.zeros(8), std, error, n_bins=9)


def test_ence_equals_a_loop_over_the_definition():
    mean, std, truth = draws(1003, seed=4)
    rows = sorted(zip(std, (truth - mean) ** 2, strict=True))
    edges = np.cumsum([0] + [101] * 3 + [100] * 7)  # 1003 cases in ten bins
    terms = []
    for a, b in pairwise(edges):
        rmv = np.sqrt(sum(s**2 for s, _ in rows[a:b]) / (b - a))
        terms.append(abs(rmv - np.sqrt(sum(e for _, e in rows[a:b]) / (b - a))) / rmv)
    assert scoring.ence(mean, std, truth, n_bins=10) == pytest.approx(np.mean(terms))


def test_area_with_weights_is_the_area_of_repeated_cases():
    mean, std, truth = draws(50, seed=1)
    times = np.random.default_rng(2).integers(1, 5, 50)
    repeated = scoring.miscalibration_area(*(np.repeat(a, times) for a in (mean, std, truth)))
    assert scoring.miscalibration_area(mean, std, truth, times) == pytest.approx(repeated)


def test_rank_correlation_equals_scipy():
    mean, std, truth = draws(300, seed=3)
    std = np.round(std, 1)  # with ties
    expected = stats.spearmanr(np.abs(truth - mean), std).statistic
    assert scoring.rank_correlation(mean, std, truth) == pytest.approx(expected, abs=1e-12)


def test_expected_rank_correlation_is_the_mean_over_simulated_sets():
    std = np.exp(0.5 * np.random.default_rng(5).standard_normal(40))
    z = np.abs(np.random.default_rng(6).standard_normal((2000, 40)))
    sets = [stats.spearmanr(row * std, std).statistic for row in z]
    error = np.std(sets) * np.sqrt(1 / 2000 + 1 / 5000)
    assert abs(scoring.expected_rank_correlation(std) - np.mean(sets)) < 4 * error
    # the less spreads differ, the less there is to rank
    assert scoring.expected_rank_correlation(std**0.1) < 0.2 * np.mean(sets) + 4 * error


def test_ranks_of_equal_spreads_do_not_exist():
    assert np.isnan(scoring.rank_correlation([0.0, 0.0], [1.0, 1.0], [1.0, 2.0]))
    assert np.isnan(scoring.expected_rank_correlation([1.0, 1.0]))
    assert np.isnan(scoring.expected_rank_correlation([1.0]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scoring.rms_z([0.0], [0.0], [1.0]), "std is 0 for 1 of 1 cases: z is infinite"),
        (lambda: scoring.ence([0.0], [0.0], [1.0]), "std is 0 for 1 of 1 cases"),
        (lambda: scoring.sharpness([np.inf]), "std has 1 of 1 values that are not finite"),
        (lambda: scoring.rank_correlation([0.0], [1.0, 2.0], [1.0]), "shapes differ"),
        (lambda: scoring.rank_correlation([0.0], [1.0], [np.nan]), "truth has 1 of 1"),
        (lambda: scoring.expected_rank_correlation([]), "std is empty"),
        (
            lambda: scoring.miscalibration_area([0.0], [1.0], [1.0], [-1.0]),
            "weights has a negative value, -1",
        ),
        (lambda: scoring.coverage_over_groups([0.5, 1.2]), "outside of 0 to 1: 0.5 to 1.2"),
    ],
)
def test_bad_arguments_of_the_new_scores_are_named(call, message):
    with pytest.raises(LabelError, match=message):
        call()


# ------------------------------------------------------------------ families as the unit


def test_mean_over_groups_has_the_t_interval_of_many_equal_normals():
    values = stats.norm.ppf((np.arange(12) + 0.5) / 12)
    value, low, high = scoring.mean_over_groups(values, n_resamples=200_000)
    half = stats.t.ppf(0.975, 11) * values.std(ddof=1) / np.sqrt(12)
    assert value == pytest.approx(0.0, abs=1e-12)
    assert (low, high) == (pytest.approx(-half, rel=0.02), pytest.approx(half, rel=0.02))


def test_one_group_says_nothing_and_equal_groups_get_wilson():
    assert scoring.mean_over_groups([0.3]) == (0.3, -np.inf, np.inf)
    assert scoring.coverage_over_groups([0.3]) == (0.3, 0.0, 1.0)
    assert scoring.coverage_over_groups([1.0, 1.0]) == (1.0, *scoring.wilson_interval(2, 2))
    half = scoring.coverage_over_groups([0.5] * 4)
    assert half == (0.5, *scoring.wilson_interval(2, 4))
    # clusters that agree on a fraction would collapse as well
    same = scoring.cluster_bootstrap_coverage([True, False] * 4, list("aabbccdd"))
    assert same == half
    assert scoring.cluster_bootstrap_mean([1.0, 2.0], [0, 0]) == (1.5, -np.inf, np.inf)


def test_clusters_of_one_size_are_groups_and_the_interval_is_wilsons_with_fewer_cases():
    rng = np.random.default_rng(7)
    hits = rng.random((15, 20)) < rng.beta(18, 2, 15)[:, None]
    fractions, groups = hits.mean(axis=1), np.repeat(np.arange(15), 20)
    over = scoring.coverage_over_groups(fractions, n_resamples=100_000)
    clustered = scoring.cluster_bootstrap_coverage(hits, groups, n_resamples=100_000)
    assert tuple(clustered) == pytest.approx(tuple(over), abs=1e-12)
    # both ends solve (p - fraction)^2 = t^2 p (1 - p) / n
    p = fractions.mean()
    n = p * (1 - p) / (fractions.var(ddof=1) / 15)
    t = stats.t.ppf(0.975, 14)
    ends = np.roots([1 + t**2 / n, -2 * p - t**2 / n, p**2])
    assert (over.low, over.high) == pytest.approx((ends.min(), ends.max()), abs=2e-3)
    assert n < 15 * 20
    assert over.percent() == f"{100 * p:.0f} % [{100 * over.low:.0f}, {100 * over.high:.0f}]"


def test_cluster_mean_of_single_cases_is_the_mean_over_groups():
    values = np.random.default_rng(8).standard_normal(30)
    single = scoring.cluster_bootstrap_mean(values, np.arange(30))
    assert single == pytest.approx(scoring.mean_over_groups(values))


def repeated(beta, n_groups, n_repeats=1000, seed=11):
    """How often the interval contains the true mean of groups whose coverage is Beta distributed.

    25 cases are seen of each group.
    """
    rng = np.random.default_rng(seed)
    truth, inside = beta[0] / sum(beta), 0
    for repeat in range(n_repeats):
        hits = rng.random((n_groups, 25)) < rng.beta(*beta, n_groups)[:, None]
        groups = np.repeat(np.arange(n_groups), 25)
        c = scoring.cluster_bootstrap_coverage(hits, groups, n_resamples=300, seed=repeat)
        inside += c.low <= truth <= c.high
    return inside / n_repeats


@pytest.mark.statistical
@pytest.mark.parametrize("beta", [(18, 2), (9, 1), (5, 5)])
@pytest.mark.parametrize("n_groups", [2, 3, 6, 25])
def test_the_interval_of_clusters_covers(beta, n_groups):
    error = np.sqrt(0.95 * 0.05 / 1000)
    share = repeated(beta, n_groups)
    assert share > 0.95 - 3 * error
    if n_groups > 20:  # with few groups it is on the safe side
        assert share < 0.95 + 3 * error


@pytest.mark.statistical
def test_families_that_fail_whole_need_many_families():
    # nearly all or nothing: no interval from six families knows of the failure it has not seen
    assert repeated((0.9, 0.1), 6) < 0.92 < repeated((0.9, 0.1), 60)
