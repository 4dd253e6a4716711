"""Whether error bars cover the truth on structures that were not fitted.

    cases = HeldOut("forces", mean, std, epistemic_std, truth, family, structure, fixed, outside)
    table = calibration_table(cases)
    print(table.text())

`HeldOut` holds predictions beside labels, `calibration_table` scores them by family,
`calibration_curves` computes what `bayespot.plots.calibration_page` draws, `crps_ratio` compares
two methods.
"""

from bayespot.calibration.cases import HeldOut
from bayespot.calibration.curves import (
    Band,
    CalibrationCurves,
    calibration_curves,
    coverage_band,
    error_bins,
)
from bayespot.calibration.ratio import Ratio, crps_ratio
from bayespot.calibration.rows import GuardCount, Row
from bayespot.calibration.table import CalibrationTable, calibration_table

__all__ = [
    "Band",
    "CalibrationCurves",
    "CalibrationTable",
    "GuardCount",
    "HeldOut",
    "Ratio",
    "Row",
    "calibration_curves",
    "calibration_table",
    "coverage_band",
    "crps_ratio",
    "error_bins",
]
