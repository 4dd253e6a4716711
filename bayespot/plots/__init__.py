"""Pictures: every function takes ``ax=None``, draws what it is given and returns the Axes.

Without ``ax`` a function makes a figure of its own (``ax.figure``); `save` writes it.

Arrays come in bayespot's units (energies in eV/atom, eV/Å, eV/Å³) and are shown in those that
people quote (meV/atom, eV/Å, GPa). Statistics belong to `bayespot.scoring` and
`bayespot.calibration`. Figures are plain `matplotlib.figure.Figure` objects without pyplot: no
global state, no display needed.
"""

from bayespot.plots.calibration import (
    calibration_page,
    coverage,
    coverage_by_family,
    error_against_spread,
    z_histogram,
)
from bayespot.plots.campaigns import learning_curve
from bayespot.plots.convergence import convergence, convergence_cost, convergence_page
from bayespot.plots.dynamics import spread_along
from bayespot.plots.fits import MAX_BARS, parity, residuals_by_family
from bayespot.plots.generation import population
from bayespot.plots.identifiability import MAX_ROWS, directions, spectrum
from bayespot.plots.posteriors import contraction, marginal, pairs, ranks
from bayespot.plots.properties import PropertyBar, property_bars
from bayespot.plots.style import (
    DISPLAY,
    GREY,
    MARKERS,
    PALETTE,
    Curve,
    Display,
    grid_of,
    legend_of,
    save,
)

__all__ = [
    "DISPLAY",
    "GREY",
    "MARKERS",
    "MAX_BARS",
    "MAX_ROWS",
    "PALETTE",
    "Curve",
    "Display",
    "PropertyBar",
    "calibration_page",
    "contraction",
    "convergence",
    "convergence_cost",
    "convergence_page",
    "coverage",
    "coverage_by_family",
    "directions",
    "error_against_spread",
    "grid_of",
    "learning_curve",
    "legend_of",
    "marginal",
    "pairs",
    "parity",
    "population",
    "property_bars",
    "ranks",
    "residuals_by_family",
    "save",
    "spectrum",
    "spread_along",
    "z_histogram",
]
