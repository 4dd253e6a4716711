"""What the data determine: the spectrum of their information, and its sloppy directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import ArrayLike

from bayespot.plots.style import GREY, PALETTE, axes_of, math_text

DEPTH = 1e-4
"""Eigenvalues below this are drawn there, as arrows: zero has no place on a logarithmic axis."""

MAX_ROWS = 16
"""Parameters that the composition of directions shows at most; those that move most."""

MOVES = 0.1
"""Smallest component that is written, and that a parameter needs to be shown where not all fit."""


def spectrum(eigenvalues: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Information of the data by direction, beside that of the prior.

    Parameters
    ----------
    eigenvalues : array_like [p]
        In units of the prior's precision.
    """
    ax = axes_of(ax, (4.2, 3.4))
    values = np.sort(np.asarray(eigenvalues, dtype=float))[::-1]
    place = np.arange(1, len(values) + 1)
    ax.axhline(1.0, color="black", linewidth=0.9, linestyle="--", label="prior")
    kinds = (
        ("data say more", values > 1, PALETTE[0], "o"),
        ("data say less", (values <= 1) & (values >= DEPTH), PALETTE[1], "s"),
        (f"below {DEPTH:g}", values < DEPTH, PALETTE[1], "v"),
    )
    for label, here, color, marker in kinds:
        if here.any():
            ax.plot(place[here], np.maximum(values[here], DEPTH), color=color, marker=marker,
                    linestyle="none", label=label)
    ax.set_yscale("log")
    low, high = min(values.min(), 1.0), max(values.max(), 1.0)
    ax.set_ylim(max(low, DEPTH) / 3, high * 3)
    ax.set_xlim(0.3, len(values) + 0.7)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("direction, stiffest first")
    ax.set_ylabel("information of the data / of the prior")
    ax.legend(fontsize=8)
    return ax


def directions(
    components: ArrayLike,
    eigenvalues: ArrayLike,
    names: Sequence[str],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Composition of some directions, one column each; squares of a column add up to 1.

    Parameters
    ----------
    components : array_like [p, k]
        Eigenvectors in prior standard deviations.
    eigenvalues : array_like [k]
        Their information in units of the prior's.
    names : sequence of str [p]
        Parameters. Of more than `MAX_ROWS` only those that move are shown.
    """
    values = np.asarray(components, dtype=float)
    most = np.argsort(-np.abs(values).max(axis=1), kind="stable")
    if len(names) > MAX_ROWS:
        most = most[np.abs(values[most]).max(axis=1) >= MOVES]
    rows = np.sort(most[:MAX_ROWS])
    ax = axes_of(ax, (1.6 + 0.9 * values.shape[1], 1.2 + 0.3 * len(rows)))
    shades = LinearSegmentedColormap.from_list("signed", [PALETTE[1], "white", PALETTE[0]])
    ax.imshow(values[rows], cmap=shades, vmin=-1, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values[rows]):
        if abs(value) >= MOVES:
            color = "white" if abs(value) > 0.75 else "black"
            ax.text(j, i, f"{value:+.2f}", ha="center", va="center", fontsize=8, color=color)
    ax.set_yticks(range(len(rows)), [math_text(names[k]) for k in rows], fontsize=9)
    weights = [f"{v:.2g}" if v < 100 else f"{v:.0e}" for v in np.asarray(eigenvalues)]
    ax.set_xticks(range(values.shape[1]), weights, fontsize=9)
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_color(GREY)
    ax.set_xlabel("sloppiest directions: data/prior information")
    if len(rows) < len(names):
        ax.set_title(f"{len(rows)} of {len(names)} parameters", fontsize=9)
    return ax
