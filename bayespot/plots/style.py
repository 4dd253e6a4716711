"""What all pictures share: colors, units, curves with bands, axes, files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import ArrayLike

from bayespot.errors import LabelError
from bayespot.units import DISPLAY, Display

# Okabe and Ito: told apart with any color vision; markers repeat the distinction
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#8C8C8C"


@dataclass(frozen=True)
class Curve:
    """One labelled curve of a picture: x, y and, if known, the band [low, high]."""

    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


def grid_of(n: int, panel: tuple[float, float] = (2.4, 1.8)) -> list[Axes]:
    """Make a figure with n panels, four in a row; the rest is hidden.

    Returns
    -------
    list of Axes [n]
        ``axes[0].figure`` is the figure.
    """
    columns = min(4, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(panel[0] * columns, panel[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[n:]:
        ax.set_visible(False)
    return list(axes[:n])


def legend_of(axes: Sequence[Axes]) -> None:
    """Put one legend for all panels of `grid_of` above them."""
    handles, labels = axes[0].get_legend_handles_labels()
    axes[0].figure.legend(
        handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9, frameon=False
    )


def save(ax: Axes | Figure, path: str | Path, dpi: int = 150) -> Path:
    """Write the figure of these axes as PNG, complete or not at all.

    Returns
    -------
    Path
    """
    path = Path(path)
    figure = ax if isinstance(ax, Figure) else ax.figure
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    figure.savefig(part, dpi=dpi)
    os.replace(part, path)
    return path


def axes_of(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the axes given, or those of a new figure of this size in inches."""
    return Figure(figsize=size, layout="constrained").subplots() if ax is None else ax


def display_of(quantity: str) -> Display:
    """Word, unit and factor of a quantity.

    Raises
    ------
    LabelError
        If there is no such quantity.
    """
    if quantity not in DISPLAY:
        raise LabelError(f"quantity {quantity!r} is unknown; it is one of {', '.join(DISPLAY)}")
    return DISPLAY[quantity]


def draw_curves(
    ax: Axes,
    curves: Mapping[str, Curve],
    *,
    factor: float,
    x_factor: float = 1.0,
    marker: bool = False,
) -> None:
    """Draw curves and, where they are known, their bands."""
    for i, (label, curve) in enumerate(curves.items()):
        color = PALETTE[i % 8]
        x, y = np.asarray(curve.x) * x_factor, np.asarray(curve.y) * factor
        look = {"marker": MARKERS[i % 8], "markersize": 4.5} if marker else {}
        ax.plot(x, y, color=color, label=label, linewidth=1.6, **look)
        if curve.low is not None and curve.high is not None:
            low, high = (np.asarray(a) * factor for a in (curve.low, curve.high))
            ax.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


def draw_points(ax: Axes, curves: Mapping[str, Curve], *, factor: float) -> None:
    """Draw a few points with their intervals, beside each other where they share x."""
    for i, (label, curve) in enumerate(curves.items()):
        x, y = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float)
        look = {"color": PALETTE[i % 8], "marker": MARKERS[i % 8], "capsize": 3}
        bars = None
        if curve.low is not None and curve.high is not None:
            ends = np.array([y - np.asarray(curve.low), np.asarray(curve.high) - y])
            bars = factor * np.clip(ends, 0, None)
        shift = 1.4 * (i - 0.5 * (len(curves) - 1))
        ax.errorbar(factor * x + shift, factor * y, bars, label=label, ls="none", ms=5, **look)


def few_log_ticks(axis: Axis) -> None:
    """Write more numbers than one a decade: an error curve rarely spans a whole decade."""
    low, high = axis.get_view_interval()
    subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high / low < 10 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: "")


def math_text(name: str) -> str:
    """Set a name with LaTeX commands as mathematics."""
    return f"${name}$" if "\\" in name and "$" not in name else name


def axis_label(name: str, unit: str, between: str = " ") -> str:
    """Name and unit; a unit of 1 is not written."""
    return f"{math_text(name)}{between}({unit})" if unit not in ("", "1") else math_text(name)
