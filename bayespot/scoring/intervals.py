"""How sure a coverage is: intervals with the configuration or the family as the unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from bayespot.errors import LabelError
from bayespot.scoring.arguments import checked, checked_level


class Coverage(NamedTuple):
    """A fraction of covered cases with its interval."""

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """Write it as "62 % [48, 75]"."""
        value, low, high = (100 * v for v in self)
        return f"{value:.0f} % [{low:.0f}, {high:.0f}]"


def wilson_interval(k: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a fraction: k of n independent cases.

    Parameters
    ----------
    k : float
        Number of covered cases; a mean of fractions times n need not be whole.
    n : int
        Number of all cases.
    level : float
        Confidence of the interval.

    Returns
    -------
    low, high : float
    """
    level = checked_level(level)
    if n < 1 or not 0 <= k <= n:
        raise LabelError(f"{k} of {n} cases is not a fraction: 0 <= k <= n and n >= 1 is needed")
    return _score_interval(k / n, n, float(ndtri(0.5 + 0.5 * level)))


def cluster_bootstrap_coverage(
    covered: ArrayLike,
    groups: Sequence | NDArray,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Coverage:
    """Coverage with an interval that takes whole clusters as the unit.

    Clusters (configurations or families) are drawn with replacement, and the variance of the
    resampled coverage, times K/(K-1) for K clusters, says how many independent cases n would be as
    sure: p (1 - p) / n. The interval is Wilson's with that n and with the quantile of Student's t
    of K - 1 degrees of freedom. Coverages are skewed and clusters few: the percentiles of the
    resampled coverages cover too rarely there (three families drawn from Beta(18, 2): 75 % instead
    of 95 %; this interval: 99 %). Where families are covered nearly all or nothing six of them are
    still too few (Beta(0.9, 0.1): 89 %).

    One cluster alone says nothing about others, so its interval is [0, 1]. If all clusters agree
    exactly the bootstrap collapses to a point; then Wilson's interval with the number of clusters
    stands in. Clusters of a kind that is not there are in no interval.

    Parameters
    ----------
    covered : array_like of bool [n]
        Whether each case is covered, see `covered`.
    groups : sequence [n]
        The cluster each case belongs to.
    level : float
        Confidence of the interval.
    n_resamples, seed : int
        Number of bootstrap samples and the seed of the generator.

    Returns
    -------
    Coverage
        (value, low, high)

    References
    ----------
    Franco, Little, Louis, Slud, J. Survey Stat. Methodol. 7, 334 (2019): intervals of clustered
    fractions compared; Wilson's with the effective number of cases is recommended.
    """
    level = checked_level(level)
    hits, index, sizes = _clustered(np.asarray(covered, dtype=bool), groups)
    hits_of = np.bincount(index, weights=hits)
    value = float(hits.mean())
    if (simple := _without_bootstrap(value, hits_of / sizes, level)) is not None:
        return simple
    draws = _resampled(sizes.size, n_resamples, seed)
    return _from_resampled(value, (draws @ hits_of) / (draws @ sizes), sizes.size, level)


def cluster_bootstrap_mean(
    values: ArrayLike,
    groups: Sequence | NDArray,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean over all cases with an interval that takes whole clusters as the unit.

    Parameters
    ----------
    values : array_like [n]
        One number a case.
    groups : sequence [n]
        The cluster each case belongs to.
    level, n_resamples, seed
        As in `mean_over_groups`, which also says what happens with few clusters.

    Returns
    -------
    value, low, high : float
        The interval of one cluster is all numbers.
    """
    level = checked_level(level)
    (values,) = checked(values=values)
    values, index, sizes = _clustered(values, groups)
    value = float(values.mean())
    if sizes.size == 1:
        return value, -np.inf, np.inf
    draws = _resampled(sizes.size, n_resamples, seed)
    resampled = (draws @ np.bincount(index, weights=values)) / (draws @ sizes)
    return (value, *_stretched(value, resampled, sizes.size, level))


def coverage_over_groups(
    fractions: ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Coverage:
    """Mean of the coverages of groups, each counting once, with the group as the unit.

    Parameters
    ----------
    fractions : array_like [n_groups]
        Coverage of each group, 0 to 1.
    level, n_resamples, seed
        As in `cluster_bootstrap_coverage`, and so are the special cases.

    Returns
    -------
    Coverage
    """
    level = checked_level(level)
    (fractions,) = checked(fractions=fractions)
    if fractions.min() < 0 or fractions.max() > 1:
        raise LabelError(
            f"a coverage lies outside of 0 to 1: {fractions.min():g} to {fractions.max():g}"
        )
    value = float(fractions.mean())
    if (simple := _without_bootstrap(value, fractions, level)) is not None:
        return simple
    resampled = _resampled(fractions.size, n_resamples, seed) @ fractions / fractions.size
    return _from_resampled(value, resampled, fractions.size, level)


def mean_over_groups(
    values: ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    r"""Mean of one number a group with its bootstrap interval; groups are the unit.

    The percentiles of the resampled means are too close to the mean when groups are few (for two
    groups they cover half of the time instead of 95 %). Their distances are therefore stretched by
    :math:`\sqrt{K/(K-1)}\, t_{K-1} / z`, with the quantiles of Student's t and of the normal that
    belong to the level: this turns the percentile interval of Gaussian values into the t interval.
    Groups of a kind that is not among the K are in no interval.

    Parameters
    ----------
    values : array_like [K]
        One value a group.
    level : float
        Confidence of the interval.
    n_resamples, seed : int
        Number of bootstrap samples and the seed of the generator.

    Returns
    -------
    value, low, high : float
        The interval of one group is all numbers.

    References
    ----------
    Hesterberg, The American Statistician 69, 371 (2015), on the narrowness of bootstrap intervals.
    """
    level = checked_level(level)
    (values,) = checked(values=values)
    value = float(values.mean())
    if values.size == 1:
        return value, -np.inf, np.inf
    resampled = _resampled(values.size, n_resamples, seed) @ values / values.size
    return (value, *_stretched(value, resampled, values.size, level))


def _clustered(
    values: NDArray, groups: Sequence | NDArray
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Flat values, the number of the cluster of each, and the size of each cluster."""
    flat, labels = values.ravel(), np.asarray(groups).ravel()
    if flat.size == 0 or flat.size != labels.size:
        raise LabelError(
            f"{flat.size} cases and {labels.size} groups: give one group per case, "
            "and at least one case"
        )
    _, index = np.unique(labels, return_inverse=True)
    return flat.astype(float), index, np.bincount(index).astype(float)


def _without_bootstrap(
    value: float, fractions: NDArray[np.float64], level: float
) -> Coverage | None:
    """Interval where resampling the groups says nothing: one group, or all alike."""
    if fractions.size == 1:
        return Coverage(value, 0.0, 1.0)
    if np.ptp(fractions) == 0:
        return Coverage(value, *wilson_interval(value * fractions.size, fractions.size, level))
    return None


def _from_resampled(
    value: float, resampled: NDArray[np.float64], n_groups: int, level: float
) -> Coverage:
    """Wilson's interval with as many independent cases as would vary as much."""
    variance = float(np.var(resampled)) * n_groups / (n_groups - 1)
    n = value * (1 - value) / variance
    return Coverage(value, *_score_interval(value, n, stdtrit(n_groups - 1, 0.5 + 0.5 * level)))


def _score_interval(fraction: float, n: float, z: float) -> tuple[float, float]:
    """All p that the fraction differs from by at most z sqrt(p (1 - p) / n)."""
    z2 = z * z / n
    center = (fraction + 0.5 * z2) / (1 + z2)
    half = np.sqrt(z2) / (1 + z2) * np.sqrt(fraction * (1 - fraction) + 0.25 * z2)
    return max(0.0, float(center - half)), min(1.0, float(center + half))


def _resampled(n_groups: int, n_resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each group is drawn, [n_resamples, n_groups]."""
    return np.random.default_rng(seed).multinomial(
        n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples
    )


def _stretched(
    value: float, resampled: NDArray[np.float64], n_groups: int, level: float
) -> tuple[float, float]:
    """Percentiles of the resampled values, moved away from the value for small n_groups."""
    upper = 0.5 + 0.5 * level
    stretch = np.sqrt(n_groups / (n_groups - 1)) * stdtrit(n_groups - 1, upper) / ndtri(upper)
    low, high = value + stretch * (np.quantile(resampled, [1 - upper, upper]) - value)
    return float(low), float(high)
