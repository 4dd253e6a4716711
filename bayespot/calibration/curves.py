"""What the pictures of calibration show, computed: bands, bins and z."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayespot import scoring
from bayespot.calibration.cases import HeldOut

CURVE_LEVELS = (0.05, *np.round(np.arange(0.1, 0.91, 0.1), 1).tolist(), 0.95, 0.99)
PER_BIN = 25


class Band(NamedTuple):
    """A curve and the 95 % interval of each of its points, [k] each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class CalibrationCurves(NamedTuple):
    """Curves of one quantity without the components that symmetry fixes."""

    quantity: str
    coverage: Band
    errors: Band
    z: NDArray[np.float64]


def calibration_curves(cases: HeldOut | Iterable[HeldOut]) -> list[CalibrationCurves]:
    """Everything that `bayespot.plots.calibration_page` draws besides the table.

    Parameters
    ----------
    cases : HeldOut or iterable of them
        One for each quantity.

    Returns
    -------
    list of CalibrationCurves
        Of the quantities that have a component left that symmetry does not fix.
    """
    parts = [cases] if isinstance(cases, HeldOut) else list(cases)
    kept = [part.where(~part.fixed) for part in parts if not part.fixed.all()]
    return [
        CalibrationCurves(part.quantity, coverage_band(part), error_bins(part), part.z)
        for part in kept
    ]


def coverage_band(cases: HeldOut, levels: Sequence[float] = CURVE_LEVELS) -> Band:
    """Observed coverage at each nominal level: the mean over families, families as the unit.

    With one family the structure is the unit.
    """
    rows = []
    for level in levels:
        inside = scoring.covered(cases.mean, cases.std, cases.truth, level)
        if len(cases.families) == 1:
            rows.append(scoring.cluster_bootstrap_coverage(inside, cases.structure))
        else:
            rows.append(
                scoring.coverage_over_groups(
                    [inside[cases.family == name].mean() for name in cases.families]
                )
            )
    value, low, high = np.array(rows).T
    return Band(np.array(levels), value, low, high)


def error_bins(cases: HeldOut, n_bins: int | None = None) -> Band:
    """Root mean square error over root mean square spread in bins of equal count.

    Parameters
    ----------
    cases : HeldOut
    n_bins : int, optional
        By default as many as have 25 cases each, at least 1 and at most 10.

    Returns
    -------
    Band
        Unit of the quantity; intervals by bootstrap over structures.
    """
    if n_bins is None:
        n_bins = min(10, max(1, len(cases) // PER_BIN))
    points = []
    for rows in np.array_split(np.argsort(cases.std, kind="stable"), n_bins):
        squared = (cases.truth[rows] - cases.mean[rows]) ** 2
        square = scoring.cluster_bootstrap_mean(squared, cases.structure[rows])
        points.append([scoring.sharpness(cases.std[rows]), *np.sqrt(np.maximum(square, 0.0))])
    return Band(*np.array(points).T)
