"""Orders of convergence: how an error falls as a power of the step behind it.

Theory for the self-consistency cycle: with the density wrong by delta, the energy is wrong by
delta², because the self-consistent density makes it stationary, and the forces by delta
(R. M. Martin, Electronic Structure, 2nd ed., section 7.3-7.4). For basis, k-points and smearing the
order is what is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["ABOVE", "LEAST", "OUTLIER", "Order", "fit_order"]

ABOVE = 3.0
"""Points count from this many times the uncertainty of the reference upward."""

LEAST = 4
"""How many of the tightest points the fit starts with."""

OUTLIER = 0.01
"""Two-sided probability below which a looser point is taken for not yet asymptotic."""


@dataclass(frozen=True)
class Order:
    """A line through log(error) over log(step).

    Attributes
    ----------
    slope : float
        The order.
    standard_error : float
        Of the slope, from the scatter about the line; NaN for two points.
    low, high : float
        95 % interval of the slope (Student), as if the points had not been chosen by their own
        scatter; with the choice it holds the true slope in about 92 % of cases.
    intercept : float
        log(error) at log(step) = 0.
    used : tuple of int
        Points that were fitted.
    """

    slope: float
    standard_error: float
    low: float
    high: float
    intercept: float
    used: tuple[int, ...]


def fit_order(step: ArrayLike, error: ArrayLike, *, floor: float = 0.0) -> Order | None:
    """Fit error = exp(a) step^p where it is resolved and asymptotic.

    Which points count is a rule, not a choice: (1) those with error > `ABOVE` times the floor;
    (2) of these the `LEAST` tightest, and looser ones in their order until one deviates from the
    line through those before it by more than their scatter explains, at the level `OUTLIER`
    (prediction interval of Student's t).

    Parameters
    ----------
    step, error : array_like, shape (n,)
        Positive steps; errors that are not finite or not positive are left out.
    floor : float
        Below which errors are not resolved, in the unit of the errors: the uncertainty of the
        reference.

    Returns
    -------
    Order or None
        None where fewer than three points are left.
    """
    h, e = np.asarray(step, dtype=float), np.asarray(error, dtype=float)
    good = np.isfinite(h) & np.isfinite(e) & (h > 0) & (e > 0)
    good &= ~(e <= ABOVE * floor)
    sorted_points = np.flatnonzero(good)
    sorted_points = sorted_points[np.argsort(h[sorted_points])]
    used = sorted_points[:LEAST]
    for k in range(LEAST, sorted_points.size):
        if _deviates(np.log(h[sorted_points[: k + 1]]), np.log(e[sorted_points[: k + 1]])):
            break
        used = sorted_points[: k + 1]
    if used.size < 3 or np.ptp(h[used]) == 0.0:
        return None
    fit = stats.linregress(np.log(h[used]), np.log(e[used]))
    wide = stats.t.ppf(0.975, used.size - 2) * fit.stderr
    return Order(
        slope=float(fit.slope),
        standard_error=float(fit.stderr),
        low=float(fit.slope - wide),
        high=float(fit.slope + wide),
        intercept=float(fit.intercept),
        used=tuple(int(i) for i in np.sort(used)),
    )


def _deviates(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether the last point is off the line through the others, see `fit_order`."""
    fit = stats.linregress(x[:-1], y[:-1])
    rest = y[:-1] - fit.intercept - fit.slope * x[:-1]
    free = x.size - 3
    spread = np.sum((x[:-1] - x[:-1].mean()) ** 2)
    variance = np.sum(rest**2) / free
    leverage = 1.0 + 1.0 / (x.size - 1) + (x[-1] - x[:-1].mean()) ** 2 / spread
    off = y[-1] - fit.intercept - fit.slope * x[-1]
    limit = stats.t.ppf(1.0 - OUTLIER / 2.0, free) * np.sqrt(variance * leverage)
    # exact data deviate by their rounding only, and have no scatter to compare it with
    return bool(abs(off) > max(limit, 1e-9))
