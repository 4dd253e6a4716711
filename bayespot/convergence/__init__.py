"""How exact calculated labels are: scans of settings, orders, a recommended setting, its floor."""

from bayespot.convergence.calculations import Calculations, Outcome
from bayespot.convergence.differences import MEASURES, Errors
from bayespot.convergence.orders import Order, fit_order
from bayespot.convergence.results import Combination, Failure, Level, ScanResult, Study
from bayespot.convergence.scans import KNOWN, Scan, make_scan
from bayespot.convergence.study import run_study
from bayespot.convergence.text import brief_lines, study_lines

__all__ = [
    "KNOWN",
    "MEASURES",
    "Calculations",
    "Combination",
    "Errors",
    "Failure",
    "Level",
    "Order",
    "Outcome",
    "Scan",
    "ScanResult",
    "Study",
    "brief_lines",
    "fit_order",
    "make_scan",
    "run_study",
    "study_lines",
]
