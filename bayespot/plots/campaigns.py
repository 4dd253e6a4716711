"""How the error falls with the number of labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bayespot.plots.style import Curve, axes_of, display_of, draw_curves, few_log_ticks


def learning_curve(
    curves: Mapping[str, Curve],
    *,
    quantity: str = "forces",
    reference: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Error over the number of labels, logarithmic, one curve per way of choosing.

    Parameters
    ----------
    curves : mapping of label to Curve
        x is the number of labels, y the error (eV/atom, eV/Å or eV/Å³), low and high its band.
    quantity : {"energy", "forces", "stress"}
        Which of the three.
    reference : float, optional
        Error of a fit to the full pool, drawn as a line.
    """
    shown = display_of(quantity)
    ax = axes_of(ax, (5.4, 3.8))
    if reference is not None:
        ax.axhline(
            reference * shown.factor, color="black", linestyle=":", linewidth=1, label="full pool"
        )
    draw_curves(ax, curves, factor=shown.factor, marker=True)
    ax.set_yscale("log")
    few_log_ticks(ax.yaxis)
    ax.set_xlabel("number of DFT labels")
    ax.set_ylabel(f"RMSE of {shown.word} ({shown.unit})")
    counts = np.unique(np.concatenate([np.asarray(curve.x) for curve in curves.values()]))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if counts.size <= 10:
        ax.set_xticks(counts)
    ax.grid(visible=True, which="both", alpha=0.25, linewidth=0.5)
    ax.legend(fontsize=8)
    return ax
