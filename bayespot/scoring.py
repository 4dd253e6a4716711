r"""How good a prediction and its error bars are: every score is a function of (prediction, truth).

The arguments are plain arrays of one quantity in one unit; a score has that unit or none.
Error bars are those of a Gaussian, ``mean +- z std``. Scores of which less is better: `rmse`,
`mae`, `crps_gaussian`, `log_score`, `miscalibration_area`.

A coverage is a fraction, so it comes with an interval: `wilson_interval` where the cases are
independent, `cluster_bootstrap_coverage` where they come in clusters. Force components of one
configuration are strongly dependent; the configuration, or the family, is the unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from bayespot.errors import LabelError

FORCE_ZERO = 1e-3
"""eV/Å: a force component below this may be zero by symmetry."""


class Coverage(NamedTuple):
    """A fraction of covered cases with its interval."""

    value: float
    low: float
    high: float


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
    mean, truth = _checked(mean=mean, truth=truth)
    return float(np.sqrt(np.mean((mean - truth) ** 2)))


def mae(mean: ArrayLike, truth: ArrayLike) -> float:
    """Mean absolute error."""
    mean, truth = _checked(mean=mean, truth=truth)
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
    level = _checked_level(level)
    mean, std, truth = _checked(mean=mean, std=std, truth=truth)
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
    mean, std, truth = _checked(mean=mean, std=std, truth=truth)
    error = truth - mean
    z = np.divide(error, std, out=np.zeros_like(error), where=std > 0)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score = std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return float(np.mean(np.where(std > 0, score, np.abs(error))))


def log_score(mean: ArrayLike, std: ArrayLike, truth: ArrayLike) -> float:
    """Mean negative logarithm of the Gaussian predictive density, in nats.

    Its zero depends on the unit of the truth; only differences mean something.
    """
    mean, std, truth = _checked(mean=mean, std=std, truth=truth)
    if np.any(std == 0):
        raise LabelError(
            f"std is 0 for {int(np.sum(std == 0))} of {std.size} cases: the log score is infinite. "
            "Use total_std, which contains the noise, or crps_gaussian"
        )
    z = (truth - mean) / std
    return float(np.mean(0.5 * z**2 + np.log(std) + 0.5 * np.log(2 * np.pi)))


def miscalibration_area(mean: ArrayLike, std: ArrayLike, truth: ArrayLike) -> float:
    """Area between the curve of observed over nominal coverage and the diagonal, 0 to 1/2.

    Exact: the observed curve is a staircase that rises where a case enters its interval.
    """
    mean, std, truth = _checked(mean=mean, std=std, truth=truth)
    error = np.abs(truth - mean).ravel()
    flat = std.ravel()
    z = np.divide(error, flat, out=np.where(error > 0, np.inf, 0.0), where=flat > 0)
    # level at which each case enters
    enters = np.concatenate([[0.0], np.sort(2 * ndtr(z) - 1), [1.0]])
    height = np.arange(z.size + 1) / z.size

    def integral(level: NDArray[np.float64]) -> NDArray[np.float64]:  # of |height - level|
        return 0.5 * (level - height) * np.abs(level - height)

    return float(np.sum(integral(enters[1:]) - integral(enters[:-1])))


# ------------------------------------------------------------------------------ intervals


def wilson_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a fraction: k of n independent cases.

    Parameters
    ----------
    k, n : int
        Number of covered cases and of all cases.
    level : float
        Confidence of the interval.

    Returns
    -------
    low, high : float
    """
    level = _checked_level(level)
    if n < 1 or not 0 <= k <= n:
        raise LabelError(f"{k} of {n} cases is not a fraction: 0 <= k <= n and n >= 1 is needed")
    z2 = float(ndtri(0.5 + 0.5 * level)) ** 2
    center = (k + 0.5 * z2) / (n + z2)
    half = np.sqrt(z2) / (n + z2) * np.sqrt(k * (n - k) / n + 0.25 * z2)
    return max(0.0, float(center - half)), min(1.0, float(center + half))


def cluster_bootstrap_coverage(
    covered: ArrayLike,
    groups: Sequence | NDArray,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Coverage:
    """Coverage with an interval that takes whole clusters as the unit.

    Clusters (configurations or families) are drawn with replacement. One cluster alone says
    nothing about others, so its interval is [0, 1]. If all clusters agree exactly the bootstrap
    would collapse to a point; then Wilson's interval with the number of clusters stands in.

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
    """
    level = _checked_level(level)
    hits = np.asarray(covered, dtype=bool).ravel()
    labels = np.asarray(groups).ravel()
    if hits.size == 0 or hits.size != labels.size:
        raise LabelError(
            f"{hits.size} covered cases and {labels.size} groups: give one group per case, "
            "and at least one case"
        )
    _, index = np.unique(labels, return_inverse=True)
    sizes = np.bincount(index).astype(float)
    hits_of = np.bincount(index, weights=hits)
    value = float(hits.mean())
    n_groups = sizes.size
    if n_groups == 1:
        return Coverage(value, 0.0, 1.0)
    if np.all(hits_of == sizes) or np.all(hits_of == 0):
        return Coverage(value, *wilson_interval(int(value) * n_groups, n_groups, level))
    draws = np.random.default_rng(seed).multinomial(
        n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples
    )
    resampled = (draws @ hits_of) / (draws @ sizes)
    low, high = np.quantile(resampled, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    return Coverage(value, float(low), float(high))


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
    truth, parameter_std = _checked(truth=truth, std=parameter_std)
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


# ------------------------------------------------------------------------------ checks


def _checked(**arrays: ArrayLike) -> list[NDArray[np.float64]]:
    """Return the arrays as float64 after checking that they can be compared."""
    ready = {name: np.atleast_1d(np.asarray(a, dtype=float)) for name, a in arrays.items()}
    shapes = {name: a.shape for name, a in ready.items()}
    if len(set(shapes.values())) > 1:
        raise LabelError(f"shapes differ: {shapes}; give one prediction per label")
    for name, a in ready.items():
        if a.size == 0:
            raise LabelError(f"{name} is empty: there is nothing to score")
        if bad := int(np.sum(~np.isfinite(a))):
            raise LabelError(
                f"{name} has {bad} of {a.size} values that are not finite; "
                "leave out the cases without a label first"
            )
    if "std" in ready and np.any(ready["std"] < 0):
        raise LabelError(f"std has a negative value, {ready['std'].min():g}; spreads are >= 0")
    return list(ready.values())


def _checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise LabelError(f"level {level!r} is not a probability between 0 and 1; 0.9 means 90 %")
    return float(level)
