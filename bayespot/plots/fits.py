"""Predictions against labels: parity and residuals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from bayespot.plots.style import GREY, MARKERS, PALETTE, axes_of, display_of

MAX_BARS = 400  # error bars beyond this number only blacken the picture


def parity(
    truth: ArrayLike,
    mean: ArrayLike,
    std: ArrayLike | None = None,
    *,
    quantity: str,
    families: Sequence[str] | None = None,
    order: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Prediction over label, with error bars of one standard deviation.

    Parameters
    ----------
    truth, mean, std : array_like [n]
        Labels, predictions and spreads: eV/atom, eV/Å or eV/Å³.
    quantity : {"energy", "forces", "stress"}
        Which of the three; energies are shown above the lowest label.
    families : sequence of str [n], optional
        Color by family.
    order : sequence of str, optional
        All families, so that panels side by side give each the same color.
    """
    shown = display_of(quantity)
    ax = axes_of(ax, (4.8, 4.6))
    truth, mean = (np.asarray(a, dtype=float).ravel() for a in (truth, mean))
    zero = truth.min() if quantity == "energy" else 0.0
    x, y = (truth - zero) * shown.factor, (mean - zero) * shown.factor
    names = np.full(x.size, "") if families is None else np.asarray(families)
    bars = None if std is None else np.asarray(std, dtype=float).ravel() * shown.factor
    some = np.unique(np.linspace(0, x.size - 1, MAX_BARS).astype(int))
    with_bar = np.isin(np.arange(x.size), some)
    for i, name in enumerate(sorted(set(names.tolist())) if order is None else order):
        here = names == name
        if not here.any():
            continue
        look = {"color": PALETTE[i % 8], "marker": MARKERS[i % 8], "linestyle": "none"}
        size = 4 if x.size < 500 else 2.5
        ax.plot(x[here], y[here], label=name or None, markersize=size, alpha=0.6, mew=0, **look)
        if bars is not None:
            ax.errorbar(
                x[here & with_bar],
                y[here & with_bar],
                bars[here & with_bar],
                fmt="none",
                ecolor=PALETTE[i % 8],
                elinewidth=0.8,
                alpha=0.45,
            )
    ends = np.array([min(x.min(), y.min()), max(x.max(), y.max())])
    ends += np.array([-0.04, 0.04]) * max(np.ptp(ends), 1e-12)
    ax.plot(ends, ends, color="black", linewidth=0.8, zorder=0)
    word = "energy above lowest label" if quantity == "energy" else shown.word
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    ax.set_xlabel(f"DFT {word} ({shown.unit})")
    ax.set_ylabel(f"predicted {word} ({shown.unit})")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    if families is not None:
        ax.legend(fontsize=8, markerscale=1.5)
    return ax


def residuals_by_family(
    residuals: ArrayLike, families: Sequence[str], *, quantity: str, ax: Axes | None = None
) -> Axes:
    """Prediction minus label, one box per family (quartiles, whiskers at 5 and 95 %).

    Parameters
    ----------
    residuals : array_like [n]
        eV/atom, eV/Å or eV/Å³.
    families : sequence of str [n]
        The family of each residual.
    quantity : {"energy", "forces", "stress"}
        Which of the three.
    """
    shown = display_of(quantity)
    values = np.asarray(residuals, dtype=float).ravel() * shown.factor
    names = np.asarray(families)
    present = sorted(set(names.tolist()))[::-1]
    ax = axes_of(ax, (5.2, 1.2 + 0.45 * len(present)))
    ax.axvline(0, color="black", linewidth=0.8, zorder=0)
    boxes = ax.boxplot(
        [values[names == name] for name in present],
        orientation="horizontal",
        whis=(5, 95),
        widths=0.6,
        patch_artist=True,
        flierprops={"marker": ".", "markersize": 3, "alpha": 0.4, "markeredgecolor": GREY},
        medianprops={"color": "black"},
    )
    for box in boxes["boxes"]:
        box.set(facecolor=PALETTE[5], alpha=0.7, linewidth=0.8)
    ax.set_yticks(
        range(1, len(present) + 1),
        [f"{name or 'all'} ({int(np.sum(names == name))})" for name in present],
    )
    ax.set_xlabel(f"predicted − DFT {shown.word} ({shown.unit})")
    ax.xaxis.set_major_locator(MaxNLocator(6))
    return ax
