"""Errors and error bars: what is missed, how wide the bars are, and whether they know where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from bayespot.errors import LabelError
from bayespot.scoring.arguments import checked, checked_level, with_spread
from bayespot.scoring.intervals import Coverage, cluster_bootstrap_coverage

FORCE_ZERO = 1e-3
"""eV/Å: a force component below this may be zero by symmetry."""


@dataclass(frozen=True)
class Score:
    """Scores of one quantity on one set of structures, in the unit of the arguments."""

    n: int
    n_groups: int
    rmse: float
    mae: float
    coverage: Coverage
    level: float
    crps: float
    miscalibration: float


# ------------------------------------------------------------------------------ errors


def rmse(mean: ArrayLike, truth: ArrayLike) -> float:
    """Root of the mean squared error.

    Raises
    ------
    LabelError
        If shapes differ, nothing is there or a number is not finite (as in every function here).
    """
    mean, truth = checked(mean=mean, truth=truth)
    return float(np.sqrt(np.mean((mean - truth) ** 2)))


def mae(mean: ArrayLike, truth: ArrayLike) -> float:
    """Mean absolute error."""
    mean, truth = checked(mean=mean, truth=truth)
    return float(np.mean(np.abs(mean - truth)))


# ------------------------------------------------------------------------------ error bars


def covered(
    mean: ArrayLike, std: ArrayLike, truth: ArrayLike, level: float = 0.9
) -> NDArray[np.bool_]:
    """Say for each case whether the central interval of the level contains the truth.

    Parameters
    ----------
    mean, std, truth : array_like, same shape
        Predicted mean and standard deviation, and what turned out to be true.
    level : float
        Nominal probability of the interval, between 0 and 1.

    Returns
    -------
    ndarray of bool, same shape
    """
    level = checked_level(level)
    mean, std, truth = checked(mean=mean, std=std, truth=truth)
    return np.abs(truth - mean) <= ndtri(0.5 + 0.5 * level) * std


def coverage(mean: ArrayLike, std: ArrayLike, truth: ArrayLike, level: float = 0.9) -> float:
    """Fraction of cases whose central interval contains the truth; a good one equals `level`."""
    return float(np.mean(covered(mean, std, truth, level)))


def coverage_curve(
    mean: ArrayLike, std: ArrayLike, truth: ArrayLike, levels: ArrayLike
) -> NDArray[np.float64]:
    """Observed coverage at each nominal level.

    Returns
    -------
    ndarray [n_levels]
    """
    levels = np.atleast_1d(np.asarray(levels, dtype=float))
    return np.array([coverage(mean, std, truth, level) for level in levels])


def crps_gaussian(mean: ArrayLike, std: ArrayLike, truth: ArrayLike) -> float:
    r"""Mean continuous ranked probability score of Gaussian predictions, in the unit of the truth.

    .. math::
       \mathrm{CRPS} = \sigma [ z (2\Phi(z) - 1) + 2\varphi(z) - 1/\sqrt{\pi} ],
       \quad z = (y - \mu) / \sigma

    A prediction without spread scores its absolute error.
    """
    mean, std, truth = checked(mean=mean, std=std, truth=truth)
    error = truth - mean
    z = np.divide(error, std, out=np.zeros_like(error), where=std > 0)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score = std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return float(np.mean(np.where(std > 0, score, np.abs(error))))


def log_score(mean: ArrayLike, std: ArrayLike, truth: ArrayLike) -> float:
    """Mean negative logarithm of the Gaussian predictive density, in nats.

    Its zero depends on the unit of the truth; only differences mean something.
    """
    mean, std, truth = checked(mean=mean, std=std, truth=truth)
    with_spread(std, "the log score")
    z = (truth - mean) / std
    return float(np.mean(0.5 * z**2 + np.log(std) + 0.5 * np.log(2 * np.pi)))


def miscalibration_area(
    mean: ArrayLike, std: ArrayLike, truth: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Area between the curve of observed over nominal coverage and the diagonal, 0 to 1/2.

    Exact: the observed curve is a staircase that rises where a case enters its interval.

    Parameters
    ----------
    mean, std, truth : array_like, same shape
        Prediction and truth.
    weights : array_like, same shape, optional
        How much each case counts, for instance such that families count equally.
    """
    if weights is None:
        weights = np.ones(np.shape(np.atleast_1d(std)))
    mean, std, truth, weights = checked(mean=mean, std=std, truth=truth, weights=weights)
    error = np.abs(truth - mean).ravel()
    flat = std.ravel()
    z = np.divide(error, flat, out=np.where(error > 0, np.inf, 0.0), where=flat > 0)
    order = np.argsort(z)
    # level at which each case enters
    enters = np.concatenate([[0.0], 2 * ndtr(z[order]) - 1, [1.0]])
    height = np.concatenate([[0.0], np.cumsum(weights.ravel()[order])]) / weights.sum()

    def integral(level: NDArray[np.float64]) -> NDArray[np.float64]:  # of |height - level|
        return 0.5 * (level - height) * np.abs(level - height)

    return float(np.sum(integral(enters[1:]) - integral(enters[:-1])))


def rms_z(mean: ArrayLike, std: ArrayLike, truth: ArrayLike) -> float:
    r"""Root of the mean of z squared, z = (truth - mean) / std.

    1 where the spreads have the right size on average, 2 where they are half of what they should
    be. Few outliers decide it when the errors have heavy tails.
    """
    mean, std, truth = checked(mean=mean, std=std, truth=truth)
    with_spread(std, "z")
    return float(np.sqrt(np.mean(((truth - mean) / std) ** 2)))


def sharpness(std: ArrayLike) -> float:
    """Root of the mean of std squared, in the unit of std: what `rmse` is if spreads are right.

    Less is better among predictions that are calibrated, and says nothing among others.
    """
    (std,) = checked(std=std)
    return float(np.sqrt(np.mean(std**2)))


def ence(
    mean: ArrayLike,
    std: ArrayLike,
    truth: ArrayLike,
    *,
    n_bins: int | None = None,
    weights: ArrayLike | None = None,
) -> float:
    r"""Expected normalised calibration error: whether errors grow as the spreads say.

    The cases are sorted by std and cut into B bins of equal count; in each the root mean square
    of the errors is compared with that of the spreads:

    .. math::
       \mathrm{ENCE} = \frac{1}{B} \sum_b
           \frac{| \mathrm{RMV}_b - \mathrm{RMSE}_b |}{\mathrm{RMV}_b}, \quad
       \mathrm{RMV}_b^2 = \langle \mathrm{std}^2 \rangle_b, \quad
       \mathrm{RMSE}_b^2 = \langle (y - \mu)^2 \rangle_b

    A perfectly calibrated set of n independent Gaussian cases does not reach 0 but about
    sqrt(B / (pi n)), so values with different B or n cannot be compared. Where errors or spreads
    have heavy tails RMV and RMSE depend on few cases and the value is unreliable (Pernot): then
    coverage with its interval is the better witness.

    Parameters
    ----------
    mean, std, truth : array_like, same shape
        Prediction and truth.
    n_bins : int, optional
        B. By default as many as have 25 cases each, at least 1 and at most 20.
    weights : array_like, same shape, optional
        How much each case counts inside of its bin.

    References
    ----------
    Levi, Gispan, Giladi, Fetaya, Sensors 22, 5540 (2022).
    Pernot, arXiv:2305.11905 (dependence on B), arXiv:2402.10043 (heavy tails).
    """
    if weights is None:
        weights = np.ones(np.shape(np.atleast_1d(std)))
    mean, std, truth, weights = checked(mean=mean, std=std, truth=truth, weights=weights)
    with_spread(std, "the error over the spread")
    if n_bins is None:
        n_bins = min(20, max(1, std.size // 25))
    if not 1 <= n_bins <= std.size:
        raise LabelError(f"n_bins={n_bins} for {std.size} cases: every bin needs at least one case")
    variance, squared = (std**2).ravel(), ((truth - mean) ** 2).ravel()
    weights = weights.ravel()
    off = []
    for rows in np.array_split(np.argsort(variance, kind="stable"), n_bins):
        rmv, rmse_bin = (
            np.sqrt(np.sum(weights[rows] * v[rows]) / np.sum(weights[rows]))
            for v in (variance, squared)
        )
        off.append(abs(rmv - rmse_bin) / rmv)
    return float(np.mean(off))


def rank_correlation(mean: ArrayLike, std: ArrayLike, truth: ArrayLike) -> float:
    """Spearman correlation of abs(truth - mean) and std: whether large errors have large bars.

    Compare with `expected_rank_correlation`: even a perfect spread stays far from 1, because it
    says how large an error may be and not how large it is. ``nan`` where all spreads or all errors
    are equal, so that there is nothing to rank.
    """
    mean, std, truth = checked(mean=mean, std=std, truth=truth)
    return float(_spearman(np.abs(truth - mean).ravel()[None], std.ravel())[0])


def expected_rank_correlation(std: ArrayLike, *, n_draws: int = 200_000, seed: int = 0) -> float:
    """Rank correlation that these spreads would show if they were exactly right.

    The mean over simulated sets with errors abs(z) std, z standard normal and independent. It is
    small where the spreads hardly differ, and ``nan`` where they do not differ at all. Normal
    errors are part of the definition: heavier tails give other values (Pernot, arXiv:2403.00423).

    Parameters
    ----------
    std : array_like
        Predicted spreads.
    n_draws : int
        Simulated errors in all, shared out among as many sets as they are enough for, at least
        two; the standard error of the result is about ``1 / sqrt(n_draws)``.
    seed : int
        Seed of the generator.
    """
    (std,) = checked(std=std)
    std = std.ravel()
    n_sets = max(2, n_draws // std.size)
    z = np.random.default_rng(seed).standard_normal((n_sets, std.size))
    return float(np.mean(_spearman(np.abs(z) * std, std)))


def _spearman(errors: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank correlation of each row of ``errors [m, n]`` with ``std [n]``; nan where one is flat."""
    a, b = rankdata(errors, axis=1), rankdata(std)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean()
    norm = np.sqrt(np.sum(a**2, axis=1) * np.sum(b**2))
    return np.divide(a @ b, norm, out=np.full(len(a), np.nan), where=norm > 0)


# ------------------------------------------------------------------------------ together


def symmetry_zeros(
    truth: ArrayLike, parameter_std: ArrayLike, *, zero: float = FORCE_ZERO
) -> NDArray[np.bool_]:
    """Mark components that symmetry fixes at zero; no parameter moves them, any interval has them.

    They would raise the coverage of forces without being predicted (8 % became 28 % on silicon).

    Parameters
    ----------
    truth, parameter_std : array_like, same shape
        The label and the spread that the parameters give it.
    zero : float
        Largest magnitude of a label that counts as zero, in its unit.

    Returns
    -------
    ndarray of bool, same shape
    """
    truth, parameter_std = checked(truth=truth, std=parameter_std)
    return (np.abs(truth) < zero) & (parameter_std < 1e-3 * zero)


def score(
    mean: ArrayLike,
    std: ArrayLike,
    truth: ArrayLike,
    groups: Sequence | NDArray,
    *,
    level: float = 0.9,
) -> Score:
    """All scores of one quantity; the interval of the coverage takes `groups` as the unit.

    Parameters
    ----------
    mean, std, truth : array_like [n]
        Prediction and truth.
    groups : sequence [n]
        Configuration (or family) of each case.
    level : float
        Nominal level of the intervals.

    Returns
    -------
    Score
    """
    inside = covered(mean, std, truth, level)
    return Score(
        n=inside.size,
        n_groups=np.unique(np.asarray(groups)).size,
        rmse=rmse(mean, truth),
        mae=mae(mean, truth),
        coverage=cluster_bootstrap_coverage(inside, groups),
        level=level,
        crps=crps_gaussian(mean, std, truth),
        miscalibration=miscalibration_area(mean, std, truth),
    )
