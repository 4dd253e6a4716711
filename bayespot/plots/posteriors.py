"""Draws of the parameters: densities, pairs, ranks of chains, contraction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, gaussian_kde, rankdata

from bayespot.plots.style import GREY, PALETTE, axes_of, axis_label, math_text


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
    ax = axes_of(ax, (2.6, 1.9))
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
    ax.set_xlabel(axis_label(name, unit), fontsize=9)
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
                ax.set_xlabel(axis_label(names[j], units[j], "\n"), fontsize=8)
                ax.tick_params(axis="x", labelrotation=30)
            if j == 0 and i > 0:
                ax.set_ylabel(axis_label(names[i], units[i], "\n"), fontsize=8)
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
    ax = axes_of(ax, (2.6, 1.9))
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
    ax.set_title(math_text(name), fontsize=9)
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
    ax = axes_of(ax, (5.0, 0.9 + 0.27 * len(names)))
    values = np.asarray(values, dtype=float)
    place = np.arange(len(names))[::-1]
    colors = [PALETTE[0] if v >= informed else PALETTE[1] for v in values]
    ax.barh(place, np.clip(values, 0, 1), color=colors, height=0.7)
    for y, v in zip(place, values, strict=True):
        if v < informed:
            ax.text(max(v, 0) + 0.015, y, "not informed by data", va="center", fontsize=8)
    ax.set_yticks(place, [math_text(name) for name in names], fontsize=9)
    ax.set(xlim=(0, 1), xlabel="prior-to-posterior contraction, 1 − sd/sd(prior)")
    return ax
