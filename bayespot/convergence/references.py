"""How far the tightest setting may itself be from converged.

With h0 < h1 < h2 the steps of the three tightest settings, d1 the difference between the tightest
and the second, d2 that between the second and the third, both as root mean squares over structures,
an error A h^p gives (Richardson)

    (h2^p - h1^p) / (h1^p - h0^p) = d2 / d1,        u = d1 / ((h1/h0)^p - 1),

of which the first is solved for p. Then

    u <= d1:  u = max(u, d1/3, d2/30)   what is left of the series
    else:     u = max(d1, d2)           no convergence to be seen: the scatter of two steps

Settings that agree may do so by chance, hence the 1/3 and the 1/30: that is all the credit that the
last differences get. Two settings alone have no order: u = d1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize

__all__ = ["CREDIT", "reference_uncertainty"]

CREDIT = (1.0 / 3.0, 1.0 / 30.0)
"""Smallest parts of the last difference, and of the one before, that are left as uncertainty."""

STEEPEST = 200.0
"""Largest order that is looked for; above it nothing is left of the series."""


def reference_uncertainty(
    last: float | None, before: float | None = None, steps: Sequence[float] = (4.0, 2.0, 1.0)
) -> float | None:
    """Uncertainty of a reference from the last two differences of a scan.

    Parameters
    ----------
    last : float or None
        Difference of the two tightest settings; None where nothing was measured.
    before : float, optional
        Difference of the second and the third tightest.
    steps : sequence of float, length 3
        What goes to zero as the setting gets tighter, at the third tightest, the second and the
        tightest.

    Returns
    -------
    float or None
        In the unit of the differences.
    """
    if last is None or not math.isfinite(last):
        return None
    if before is None or not math.isfinite(before):
        return last
    least = max(CREDIT[0] * last, CREDIT[1] * before)
    if last == 0.0:
        return least
    left = _left(before / last, np.log(np.asarray(steps, dtype=float) / steps[2]))
    return max(last * left, least) if left <= 1.0 else max(last, before)


def _left(ratio: float, logs: np.ndarray) -> float:
    """u/d1 for the ratio d2/d1; infinite where the differences do not fall."""

    def excess(p: float) -> float:
        return (np.exp(p * (logs[0] - logs[1])) - 1.0) / -np.expm1(-p * logs[1]) - ratio

    if ratio <= (logs[0] - logs[1]) / logs[1]:  # the limit of no order at all
        return math.inf
    highest = STEEPEST / logs[0]
    if excess(highest) < 0.0:
        return 0.0
    order = optimize.brentq(excess, 1e-9, highest)
    return 1.0 / math.expm1(order * logs[1])
