"""Pictures: every function takes ``ax=None``, draws what it is given and returns the Axes.

Without ``ax`` a function makes a figure of its own (``ax.figure``); `save` writes it.

Arrays come in bayespot's units (energies in eV/atom, eV/Å, eV/Å³) and are shown in those that
people quote (meV/atom, eV/Å, GPa). Statistics belong to `bayespot.scoring`. Figures are plain
`matplotlib.figure.Figure` objects without pyplot: no global state, no display needed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, gaussian_kde, rankdata

from bayespot.errors import LabelError
from bayespot.units import GPA

# Okabe and Ito: told apart with any color vision; markers repeat the distinction
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#8C8C8C"
MAX_BARS = 400  # error bars beyond this number only blacken the picture


@dataclass(frozen=True)
class Display:
    """How a quantity is shown: word, unit, and the factor from bayespot's unit to it."""

    word: str
    unit: str
    factor: float


DISPLAY = {
    "energy": Display("energy", "meV/atom", 1e3),
    "forces": Display("force component", "eV/Å", 1.0),
    "stress": Display("stress component", "GPa", GPA),
}


@dataclass(frozen=True)
class Curve:
    """One labelled curve of a picture: x, y and, if known, the band [low, high]."""

    x: ArrayLike
    y: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None


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
    shown = _display(quantity)
    ax = _axes(ax, (4.8, 4.6))
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
    shown = _display(quantity)
    values = np.asarray(residuals, dtype=float).ravel() * shown.factor
    names = np.asarray(families)
    present = sorted(set(names.tolist()))[::-1]
    ax = _axes(ax, (5.2, 1.2 + 0.45 * len(present)))
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


def coverage(curves: Mapping[str, Curve], *, ax: Axes | None = None) -> Axes:
    """Observed over nominal coverage; below the diagonal the error bars are too short.

    Parameters
    ----------
    curves : mapping of label to Curve
        x is the nominal level, y the observed coverage, low and high its interval, all 0 to 1.
    """
    ax = _axes(ax, (4.6, 4.4))
    ax.plot([0, 100], [0, 100], color="black", linewidth=0.8, linestyle="--", label="calibrated")
    if all(np.size(curve.x) <= 5 for curve in curves.values()):
        _draw_points(ax, curves, factor=100.0)
    else:
        _draw_curves(ax, curves, factor=100.0, x_factor=100.0)
    ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    ax.set_xlabel("nominal coverage (%)")
    ax.set_ylabel("observed coverage (%)")
    ax.text(97, 4, "error bars too short", ha="right", color=GREY, fontsize=8)
    ax.text(3, 94, "error bars too long", ha="left", color=GREY, fontsize=8)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.92), framealpha=0.8)
    return ax


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
    shown = _display(quantity)
    ax = _axes(ax, (5.4, 3.8))
    if reference is not None:
        ax.axhline(
            reference * shown.factor, color="black", linestyle=":", linewidth=1, label="full pool"
        )
    _draw_curves(ax, curves, factor=shown.factor, marker=True)
    ax.set_yscale("log")
    _few_log_ticks(ax)
    ax.set_xlabel("number of DFT labels")
    ax.set_ylabel(f"RMSE of {shown.word} ({shown.unit})")
    counts = np.unique(np.concatenate([np.asarray(curve.x) for curve in curves.values()]))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if counts.size <= 10:
        ax.set_xticks(counts)
    ax.grid(visible=True, which="both", alpha=0.25, linewidth=0.5)
    ax.legend(fontsize=8)
    return ax


def marginal(
    draws: ArrayLike,
    *,
    name: str,
    unit: str = "",
    prior: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Posterior density of one parameter over its prior, in the range of the posterior.

    Parameters
    ----------
    draws : array_like [n]
        Posterior draws.
    name, unit : str
        For the axis.
    prior : array_like [m], optional
        Prior draws.
    """
    ax = _axes(ax, (2.6, 1.9))
    values = np.asarray(draws, dtype=float).ravel()
    low, high = np.quantile(values, [0.001, 0.999])
    margin = 0.6 * (high - low) or 0.1 * abs(low) or 1.0
    left, right = low - margin, high + margin
    if prior is not None:  # no density where the prior has none
        left, right = max(left, float(np.min(prior))), min(right, float(np.max(prior)))
        left, right = min(left, low), max(right, high)
    grid = np.linspace(left, right, 200)
    if np.ptp(values) > 0:
        ax.fill_between(
            grid, gaussian_kde(values)(grid), color=PALETTE[0], alpha=0.55, lw=0, label="posterior"
        )
    else:
        ax.axvline(values[0], color=PALETTE[0])
    if prior is not None:
        density = gaussian_kde(np.asarray(prior, dtype=float).ravel())(grid)
        ax.plot(grid, density, color=PALETTE[1], linestyle="--", linewidth=1.2, label="prior")
    ax.set_xlabel(_axis_label(name, unit), fontsize=9)
    ax.set(yticks=[], xlim=(grid[0], grid[-1]))
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.tick_params(labelsize=8)
    return ax


def pairs(
    draws: ArrayLike,
    names: Sequence[str],
    units: Sequence[str] | None = None,
    *,
    max_points: int = 400,
) -> NDArray[np.object_]:
    """Scatter plots of all pairs of parameters, marginal densities on the diagonal.

    Parameters
    ----------
    draws : array_like [n, p]
        Posterior draws.
    names, units : sequence of str [p]
        For the axes.
    max_points : int
        Evenly spaced draws that are shown in a panel.

    Returns
    -------
    ndarray of Axes [p, p]
        The upper triangle is empty. ``axes[0, 0].figure`` is the figure.
    """
    draws = np.asarray(draws, dtype=float)
    p = draws.shape[1]
    units = [""] * p if units is None else units
    figure = Figure(figsize=(1.15 * p + 0.6, 1.15 * p + 0.6), layout="constrained")
    axes = figure.subplots(p, p, squeeze=False, sharex="col")
    shown = draws[:: max(1, len(draws) // max_points)]
    for i in range(p):
        for j in range(p):
            ax = axes[i, j]
            if j > i:
                ax.set_visible(False)
                continue
            if i == j:
                ax.hist(draws[:, i], bins=24, color=PALETTE[0], alpha=0.7)
            else:
                ax.plot(shown[:, j], shown[:, i], ".", markersize=2, alpha=0.4, color=PALETTE[0])
            # a number at each tick would cover the neighbors: two per axis, outside only
            ax.xaxis.set_major_locator(MaxNLocator(2, prune="both"))
            ax.yaxis.set_major_locator(MaxNLocator(2, prune="both"))
            ax.tick_params(labelsize=7, labelbottom=i == p - 1, labelleft=j == 0 and i > 0)
            if i == p - 1:
                ax.set_xlabel(_axis_label(names[j], units[j], "\n"), fontsize=8)
                ax.tick_params(axis="x", labelrotation=30)
            if j == 0 and i > 0:
                ax.set_ylabel(_axis_label(names[i], units[i], "\n"), fontsize=8)
            if i == j:
                ax.set_yticks([])
    return axes


def ranks(values: ArrayLike, *, name: str, bins: int = 16, ax: Axes | None = None) -> Axes:
    """Histogram of each chain's ranks among the draws of all chains; flat where chains agree.

    The grey band holds 99 % of the counts of independent draws of one distribution.

    Parameters
    ----------
    values : array_like [n_chains, n_draws]
        Draws of one parameter.
    name : str
        For the title.
    bins : int
        Number of bins.
    """
    ax = _axes(ax, (2.6, 1.9))
    values = np.asarray(values, dtype=float)
    n_chains, n_draws = values.shape
    bins = max(2, min(bins, n_draws // 8))
    rank = (rankdata(values, axis=None).reshape(values.shape) - 0.5) / values.size
    low, high = binom.ppf([0.005, 0.995], n_draws, 1 / bins)
    ax.axhspan(low, high, color=GREY, alpha=0.25, linewidth=0)
    edges = np.linspace(0, 1, bins + 1)
    for chain in range(n_chains):
        counts, _ = np.histogram(rank[chain], edges)
        ax.stairs(
            counts, edges, color=PALETTE[chain % 8], baseline=None, label=f"chain {chain + 1}"
        )
    ax.set(xlim=(0, 1), xticks=[0, 1])
    ax.set_ylim(0, max(1.9 * n_draws / bins, ax.get_ylim()[1]))
    ax.set_title(_math(name), fontsize=9)
    ax.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    ax.tick_params(labelsize=8)
    return ax


def contraction(
    names: Sequence[str], values: ArrayLike, *, informed: float = 0.2, ax: Axes | None = None
) -> Axes:
    """Share of the prior's standard deviation that the data took away, one bar per parameter.

    Parameters
    ----------
    names : sequence of str [p]
        Parameters.
    values : array_like [p]
        1 − (posterior sd) / (prior sd): 1 is fully determined, 0 not informed.
    informed : float
        Bars below this are marked as not informed by the data.
    """
    ax = _axes(ax, (5.0, 0.9 + 0.27 * len(names)))
    values = np.asarray(values, dtype=float)
    place = np.arange(len(names))[::-1]
    colors = [PALETTE[0] if v >= informed else PALETTE[1] for v in values]
    ax.barh(place, np.clip(values, 0, 1), color=colors, height=0.7)
    for y, v in zip(place, values, strict=True):
        if v < informed:
            ax.text(max(v, 0) + 0.015, y, "not informed by data", va="center", fontsize=8)
    ax.set_yticks(place, [_math(name) for name in names], fontsize=9)
    ax.set(xlim=(0, 1), xlabel="prior-to-posterior contraction, 1 − sd/sd(prior)")
    return ax


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


# ------------------------------------------------------------------------------ inside


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return Figure(figsize=size, layout="constrained").subplots() if ax is None else ax


def _display(quantity: str) -> Display:
    if quantity not in DISPLAY:
        raise LabelError(f"quantity {quantity!r} is unknown; it is one of {', '.join(DISPLAY)}")
    return DISPLAY[quantity]


def _draw_curves(
    ax: Axes,
    curves: Mapping[str, Curve],
    *,
    factor: float,
    x_factor: float = 1.0,
    marker: bool = False,
) -> None:
    for i, (label, curve) in enumerate(curves.items()):
        color = PALETTE[i % 8]
        x, y = np.asarray(curve.x) * x_factor, np.asarray(curve.y) * factor
        look = {"marker": MARKERS[i % 8], "markersize": 4.5} if marker else {}
        ax.plot(x, y, color=color, label=label, linewidth=1.6, **look)
        if curve.low is not None and curve.high is not None:
            low, high = (np.asarray(a) * factor for a in (curve.low, curve.high))
            ax.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)


def _draw_points(ax: Axes, curves: Mapping[str, Curve], *, factor: float) -> None:
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


def _few_log_ticks(ax: Axes) -> None:
    """Write more numbers than one a decade: an error curve rarely spans a whole decade."""
    low, high = ax.get_ylim()
    subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high / low < 10 else (1.0, 2.0, 5.0)
    ax.yaxis.set_major_locator(LogLocator(subs=subs))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_formatter(lambda value, _: "")


def _math(name: str) -> str:
    return f"${name}$" if "\\" in name and "$" not in name else name


def _axis_label(name: str, unit: str, between: str = " ") -> str:
    return f"{_math(name)}{between}({unit})" if unit not in ("", "1") else _math(name)
