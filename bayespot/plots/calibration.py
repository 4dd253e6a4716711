"""Whether error bars cover the truth: statistics come from `bayespot.calibration`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from bayespot.calibration import CalibrationCurves, CalibrationTable, Row
from bayespot.plots.style import (
    GREY,
    MARKERS,
    PALETTE,
    Curve,
    axes_of,
    display_of,
    draw_curves,
    draw_points,
    few_log_ticks,
)


def coverage(curves: Mapping[str, Curve], *, ax: Axes | None = None) -> Axes:
    """Observed over nominal coverage; below the diagonal the error bars are too short.

    Parameters
    ----------
    curves : mapping of label to Curve
        x is the nominal level, y the observed coverage, low and high its interval, all 0 to 1.
    """
    ax = axes_of(ax, (4.6, 4.4))
    ax.plot([0, 100], [0, 100], color="black", linewidth=0.8, linestyle="--", label="calibrated")
    if all(np.size(curve.x) <= 5 for curve in curves.values()):
        draw_points(ax, curves, factor=100.0)
    else:
        draw_curves(ax, curves, factor=100.0, x_factor=100.0)
    ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    ax.set_xlabel("nominal coverage (%)")
    ax.set_ylabel("observed coverage (%)")
    ax.text(97, 4, "error bars too short", ha="right", color=GREY, fontsize=8)
    ax.text(3, 94, "error bars too long", ha="left", color=GREY, fontsize=8)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.92), framealpha=0.8)
    return ax


def coverage_by_family(rows: Sequence[Row], *, level: float = 0.9, ax: Axes | None = None) -> Axes:
    """Coverage of every family with its interval; hollow where the guard flagged the family.

    Parameters
    ----------
    rows : sequence of Row
        Of single families and one or more quantities, as `CalibrationTable.by_family` gives them.
    level : float
        Nominal level, one of those of the rows.
    """
    families = sorted({row.family for row in rows})[::-1]
    quantities = list(dict.fromkeys(row.quantity for row in rows))
    ax = axes_of(ax, (5.4, family_panel_height(len(families))))
    ax.axvline(100 * level, color="black", linewidth=0.8, linestyle="--", zorder=0)
    for place in range(0, len(families), 2):
        ax.axhspan(place - 0.5, place + 0.5, color=GREY, alpha=0.1, linewidth=0, zorder=0)
    for i, quantity in enumerate(quantities):
        # quantities of a family stand under each other, the first on top
        shift = 0.22 * (0.5 * (len(quantities) - 1) - i)
        ax.plot(
            [], [], marker=MARKERS[i], color=PALETTE[i], ls="none", label=display_of(quantity).word
        )
        for row in rows:
            if row.quantity != quantity:
                continue
            value, low, high = (100 * v for v in row.coverage[level])
            ax.errorbar(
                value,
                families.index(row.family) + shift,
                xerr=[[max(0.0, value - low)], [max(0.0, high - value)]],
                fmt=MARKERS[i],
                color=PALETTE[i],
                markerfacecolor="white" if row.flagged else PALETTE[i],
                markersize=5,
                elinewidth=1,
                capsize=2,
            )
    if any(row.flagged for row in rows):
        ax.plot(
            [],
            [],
            marker="o",
            color=GREY,
            markerfacecolor="white",
            ls="none",
            label="outside the calibrated range",
        )
    counts = {name: max(r.n_structures for r in rows if r.family == name) for name in families}
    ax.set_yticks(range(len(families)), [f"{name} ({counts[name]})" for name in families])
    ax.set(xlim=(-2, 102), ylim=(-0.5, len(families) - 0.5))
    ax.set_xlabel(f"coverage of {100 * level:.3g} % bars (%)")
    ax.grid(visible=True, axis="x", alpha=0.25, linewidth=0.5)
    _legend_above(ax)
    return ax


def error_against_spread(curve: Curve, *, quantity: str, ax: Axes | None = None) -> Axes:
    """Root mean square error over predicted spread in bins; on the line if bars are right.

    Parameters
    ----------
    curve : Curve
        x is the root mean square spread of a bin, y its root mean square error, low and high its
        interval: eV/atom, eV/Å or eV/Å³.
    quantity : {"energy", "forces", "stress"}
        Which of the three.
    """
    shown = display_of(quantity)
    ax = axes_of(ax, (4.2, 4.0))
    x, y = (np.asarray(a, dtype=float) * shown.factor for a in (curve.x, curve.y))
    bars, reach = None, []
    if curve.low is not None and curve.high is not None:
        low, high = (np.asarray(a, dtype=float) * shown.factor for a in (curve.low, curve.high))
        bars = np.clip([y - low, high - y], 0, None)
        reach = [low, high]
    # an interval may begin at 0 or have no end: the points decide how far the axes go
    points = np.concatenate([x, y])
    points = points[points > 0] if np.any(points > 0) else np.ones(1)
    sizes = np.concatenate([points, *reach])
    near = (sizes > points.min() / 3) & (sizes < points.max() * 3)
    ends = np.array([sizes[near].min() / 1.3, sizes[near].max() * 1.3])
    if ends[1] < 10 * ends[0]:
        ends = np.sqrt(ends.prod() * np.array([0.1, 10.0]))
    ax.plot(ends, ends, color="black", linewidth=0.8, linestyle="--", zorder=0, label="calibrated")
    if bars is not None:
        bars[1] = np.minimum(bars[1], 100 * ends[1])
    ax.errorbar(x, y, bars, fmt="o", color=PALETTE[0], markersize=5, elinewidth=1, capsize=2)
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    ax.set_xlabel(f"predicted spread ({shown.unit})")
    ax.set_ylabel(f"RMS error ({shown.unit})")
    for axis in (ax.xaxis, ax.yaxis):
        few_log_ticks(axis)
    ax.set_title(shown.word, fontsize=10)
    return ax


def z_histogram(z: Mapping[str, ArrayLike], *, ax: Axes | None = None) -> Axes:
    """Errors over their bars against the unit normal; what lies beyond 4 is in the outer bins.

    Parameters
    ----------
    z : mapping of label to array_like [n]
        (truth - mean) / std.
    """
    ax = axes_of(ax, (4.6, 3.6))
    grid = np.linspace(-4.5, 4.5, 181)
    normal = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    ax.plot(grid, normal, color="black", linewidth=0.8, linestyle="--", label="unit normal")
    edges = np.linspace(-4.5, 4.5, 19)
    for i, (label, values) in enumerate(z.items()):
        values = np.asarray(values, dtype=float).ravel()
        counts, _ = np.histogram(np.clip(values, -4.4, 4.4), edges)
        ax.stairs(
            counts / (values.size * np.diff(edges)),
            edges,
            color=PALETTE[i % 8],
            linewidth=1.5,
            label=f"{label} ({values.size})",
        )
    ax.set_xlim(-4.5, 4.5)
    ax.set_ylim(bottom=0)
    ax.set_xticks([-4.25, -2, 0, 2, 4.25], ["< −4", "−2", "0", "2", "> 4"])
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlabel("z = (DFT − predicted) / spread")
    ax.set_ylabel("density")
    _legend_above(ax)
    return ax


def calibration_page(
    table: CalibrationTable, curves: Sequence[CalibrationCurves], *, level: float = 0.9
) -> Figure:
    """One page: coverage over nominal level and by family, z, and error over spread.

    Parameters
    ----------
    table : CalibrationTable
    curves : sequence of CalibrationCurves
        Of the same cases, from `bayespot.calibration.calibration_curves`.
    level : float
        Nominal level of the panel with the families.

    Returns
    -------
    Figure
    """
    rows = table.by_family()
    panels = 7.6  # inches; below them the column of families goes on
    height = max(panels, family_panel_height(len({row.family for row in rows})))
    figure = Figure(figsize=(14.5, height), layout="constrained")
    heights = [panels / 2, panels / 2, *([height - panels] if height > panels else [])]
    grid = figure.add_gridspec(len(heights), 10, height_ratios=heights)
    words = {c.quantity: display_of(c.quantity).word for c in curves}
    reliability = figure.add_subplot(grid[0, 0:3])
    coverage({words[c.quantity]: Curve(*c.coverage) for c in curves}, ax=reliability)
    z_histogram({words[c.quantity]: c.z for c in curves}, ax=figure.add_subplot(grid[0, 3:6]))
    for k, c in enumerate(curves):
        panel = figure.add_subplot(grid[1, 2 * k : 2 * k + 2])
        error_against_spread(Curve(*c.errors), quantity=c.quantity, ax=panel)
    coverage_by_family(rows, level=level, ax=figure.add_subplot(grid[:, 6:]))
    of = " on ".join(name for name in (table.method, table.data) if name)
    n = max(table.pooled(quantity).n_families for quantity in table.quantities)
    families = "family" if n == 1 else "families"
    figure.suptitle(f"Calibration{': ' if of else ''}{of}, {n} held-out {families}", fontsize=12)
    return figure


def family_panel_height(n_families: int) -> float:
    """Height in inches of a panel with one line a family."""
    return 1.5 + 0.36 * n_families


def _legend_above(ax: Axes) -> None:
    ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
