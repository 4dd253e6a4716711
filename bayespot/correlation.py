"""Means of correlated series, how well they are known, and their spread over draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from arviz_stats.base import array_stats

from bayespot.errors import PropertyError

FEWEST = 4
"""Values of a series that an autocorrelation needs."""


def effective_size(series: np.ndarray) -> float:
    """Independent values that a series [n] is worth: Geyer's initial monotone sequence (ArviZ).

    A constant series is worth its length; one too short for an autocorrelation, nothing that could
    be said: NaN.
    """
    series = np.asarray(series, dtype=float)
    if len(series) < FEWEST or not np.isfinite(series).all():
        return float("nan")
    if np.ptp(series) <= 1e-14 * np.abs(series).max():
        return float(len(series))
    size = array_stats.ess(series[None], chain_axis=0, draw_axis=1, method="mean")
    # Anticorrelated series would be worth more than they are long; nothing here relies on that.
    return float(min(size, len(series)))


def mean_error(series: np.ndarray) -> tuple[float, float]:
    """Mean of a series [n] and its standard error with the autocorrelation."""
    series = np.asarray(series, dtype=float)
    return float(series.mean()), float(series.std() / np.sqrt(effective_size(series)))


@dataclass(frozen=True)
class DrawsSummary:
    """A quantity over draws, its spread apart from the statistical error of each draw's run.

    Attributes
    ----------
    mean : ndarray [...]
    parameter_std : ndarray [...]
        What the values vary more than their statistical errors explain; zero where they do not.
    statistical_error : ndarray [...]
        Of the mean.
    n : int
        Draws that had a value.
    without : tuple of int
        Draws that had none.
    """

    mean: np.ndarray
    parameter_std: np.ndarray
    statistical_error: np.ndarray
    n: int
    without: tuple[int, ...]


def over_draws(values: np.ndarray, errors: np.ndarray) -> DrawsSummary:
    r"""Summary over draws, with :math:`s^2 = \mathrm{Var}_k(x_k) - \overline{\sigma_k^2}`.

    Parameters
    ----------
    values, errors : ndarray [n_draws, ...]
        NaN in the rows of draws that have no value.

    Raises
    ------
    PropertyError
        If shapes differ, or fewer than two draws have a value.
    """
    values, errors = np.asarray(values, dtype=float), np.asarray(errors, dtype=float)
    if values.shape != errors.shape or not values.ndim:
        raise PropertyError(f"values {values.shape} and errors {errors.shape} differ in shape")
    present = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if present.sum() < 2:
        raise PropertyError(
            f"{int(present.sum())} of {len(values)} draws have a value: a spread needs two"
        )
    x, e = values[present], errors[present]
    excess = x.var(axis=0, ddof=1) - (e**2).mean(axis=0)
    return DrawsSummary(
        x.mean(axis=0), np.sqrt(np.maximum(excess, 0.0)), np.sqrt((e**2).sum(axis=0)) / len(x),
        int(present.sum()), tuple(np.flatnonzero(~present).tolist()),
    )  # fmt: skip
