"""Errors of calculated labels against the settings of the code, with targets and cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from bayespot.convergence import MEASURES, ScanResult, Study
from bayespot.convergence.text import SHOWN, value_text
from bayespot.plots.style import GREY, MARKERS, PALETTE, axes_of

PANELS = (("energy", "energy_difference"), ("forces",), ("stress",))
"""Measures that share a panel, from top to bottom."""


def convergence(
    result: ScanResult,
    measures: tuple[str, ...],
    target: Mapping[str, float],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Errors over the values of one scan, tighter to the right, both axes logarithmic.

    Full points are root mean squares, the hollow ones above them the largest error; the dashed line
    is the target, the band what the reference itself may be off by, the dotted line the value that
    was chosen.

    Parameters
    ----------
    result : ScanResult
    measures : tuple of str
        Measures of one unit, see `bayespot.convergence.MEASURES`.
    target : mapping of measure to float
        eV/atom, eV/Å, eV/Å³.
    """
    ax = axes_of(ax, (4.2, 3.0))
    sizes = result.scan.sizes
    for measure in measures:
        look = MEASURES.index(measure)
        color, marker, factor = PALETTE[look], MARKERS[look], SHOWN[measure][2]
        rms = np.array([_number(level.errors.rms[measure]) for level in result.levels]) * factor
        most = np.array([_number(lv.errors.largest[measure]) for lv in result.levels]) * factor
        rms[result.reference:] = most[result.reference:] = np.nan
        label = SHOWN[measure][0]
        order = result.orders[measure]
        if order is not None:
            label += f", order {order.slope:.1f} ± {order.standard_error:.1f}"
        positive = np.where(rms > 0, rms, np.nan)
        ax.plot(sizes, positive, color=color, marker=marker, markersize=4.5, label=label, lw=1.4)
        ax.plot(sizes, np.where(most > 0, most, np.nan), color=color, marker=marker, ls="none",
                markersize=4.5, markerfacecolor="white")
        if measure in target:
            ax.axhline(target[measure] * factor, color=color, linestyle="--", linewidth=1)
        spread = result.uncertainty.get(measure)
        if spread:
            # without autoscaling: an uncertainty of nearly nothing would flatten all the rest
            low, high = ax.get_ylim()
            ax.axhspan(1e-300, spread * factor, color=color, alpha=0.1, linewidth=0)
            ax.set_ylim(low, high)
    ax.set(xscale="log", yscale="log")
    _fit_limits(ax)
    if result.chosen is not None:
        ax.axvline(sizes[result.chosen], color="black", linestyle=":", linewidth=1)
    _value_axis(ax, result)
    units = SHOWN[measures[0]][1]
    ax.set_ylabel(f"error ({units})")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=7.5, framealpha=0.8)
    return ax


def convergence_cost(result: ScanResult, *, ax: Axes | None = None) -> Axes:
    """CPU seconds a structure over the values of one scan."""
    ax = axes_of(ax, (4.2, 2.0))
    ax.plot(result.scan.sizes, [level.cost for level in result.levels], color="black", marker="o",
            markersize=4, linewidth=1.2)
    ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    if result.chosen is not None:
        ax.axvline(result.scan.sizes[result.chosen], color="black", linestyle=":", linewidth=1)
    _value_axis(ax, result)
    ax.set_ylabel("CPU s a structure")
    return ax


def convergence_page(study: Study) -> Figure:
    """One column a scan; errors of energy, forces and stress, and the cost under them."""
    n = len(study.scans)
    figure = Figure(figsize=(3.7 * n, 9.4), layout="constrained")
    axes = figure.subplots(len(PANELS) + 1, n, squeeze=False, height_ratios=(1, 1, 1, 0.7))
    for column, result in zip(axes.T, study.scans, strict=True):
        for ax, measures in zip(column, PANELS, strict=False):
            convergence(result, measures, study.target, ax=ax)
        convergence_cost(result, ax=column[-1])
        unit = f" ({result.scan.unit})" if result.scan.unit else ""
        column[-1].set_xlabel(f"{result.scan.name}{unit}, tighter to the right")
        column[0].set_title(result.scan.name, fontsize=10)
        for ax in column[:-1]:
            ax.set_xlabel("")
    between = "\n" if n == 1 else "; "
    figure.suptitle(
        f"filled: root mean square, hollow: largest{between}dashed: target, band: uncertainty of "
        "the reference, dotted: chosen", fontsize=8, color=GREY,
    )  # fmt: skip
    return figure


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _fit_limits(ax: Axes) -> None:
    """Limits around points and targets; zeros and bands are outside."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    values = values[np.isfinite(values) & (values > 0)]
    if values.size:
        ax.set_ylim(values.min() / 2.0, values.max() * 2.0)


def _value_axis(ax: Axes, result: ScanResult) -> None:
    """Ticks at the values that were calculated, tighter to the right."""
    sizes = result.scan.sizes
    close = np.diff(np.log(sizes)) if sizes.size > 1 else np.array([1.0])
    wide = np.abs(np.log(sizes[-1] / sizes[0]))
    shown, last = [], None
    for k in range(sizes.size - 1, -1, -1):  # the tightest is always written
        if last is None or abs(np.log(sizes[k] / sizes[last])) > 0.14 * wide:
            shown.append(k)
            last = k
    labels = [value_text(result.scan.values[k]) for k in shown]
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(sizes[shown], labels, fontsize=7.5)
    margin = 0.04 * wide if close.size else 0.1
    low, high = np.exp(np.log([sizes.min(), sizes.max()]) + np.array([-margin, margin]))
    ax.set_xlim((low, high) if result.scan.tighter == "larger" else (high, low))
    ax.grid(visible=True, which="major", alpha=0.25, linewidth=0.5)
