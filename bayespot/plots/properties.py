"""Predicted properties with their bars against references: one picture per material."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes

from bayespot.errors import PropertyError
from bayespot.plots.style import GREY, MARKERS, PALETTE, axes_of

WIDEST = (-0.5, 3.0)
"""Ratios beyond these are drawn as arrows at the border."""


@dataclass(frozen=True)
class PropertyBar:
    """One row of the picture, in any unit."""

    name: str
    unit: str
    median: float
    inner: tuple[float, float]
    outer: tuple[float, float]
    references: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def property_bars(
    rows: Sequence[PropertyBar], *, levels: tuple[str, str] = ("50 %", "90 %"),
    title: str = "", ax: Axes | None = None,
) -> Axes:
    """Draw every property over its first reference, with two bars; the numbers stand beside it.

    A property without a reference is drawn, in grey, over its own median.

    Parameters
    ----------
    rows : sequence of PropertyBar
        From top to bottom; those without a median have their note alone.
    levels : tuple of str
        Names of the inner and the outer bar.
    title : str
        Material and potential.
    ax : Axes, optional

    Raises
    ------
    PropertyError
        If there are no rows.
    """
    if not rows:
        raise PropertyError("there are no properties to draw")
    ax = axes_of(ax, (9.2, 1.3 + 0.27 * len(rows)))
    labels = list(dict.fromkeys(label for row in rows for label in row.references))
    low, high = _limits(rows)
    for k, row in enumerate(rows):
        scale = _scale(row)
        color = PALETTE[0] if row.references else GREY
        if np.isfinite(row.median) and scale:
            ends = [sorted(np.asarray(pair) / scale) for pair in (row.outer, row.inner)]
            for (start, end), width, alpha in zip(ends, (2.0, 6.0), (1.0, 0.55), strict=True):
                ax.plot(np.clip([start, end], low, high), [k, k], color=color, lw=width,
                        alpha=alpha, solid_capstyle="butt")  # fmt: skip
            _point(ax, row.median / scale, k, (low, high), color=color, marker="|", ms=11, mew=1.8)
            for label, value in row.references.items():
                j = labels.index(label) + 1
                _point(ax, value / scale, k, (low, high), color=PALETTE[j % 8],
                       marker=MARKERS[j % 8], ms=5.5, mfc="none", mew=1.3)  # fmt: skip
        ax.text(1.015, k, _numbers(row), transform=ax.get_yaxis_transform(), va="center",
                fontsize=8, color=color if row.references else "0.35")  # fmt: skip
    ax.axvline(1.0, color="black", lw=0.8, ls=":")
    ax.set_xlim(low, high)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    ax.set_xlabel("over the first reference (grey: no reference, over the median)")
    ax.grid(visible=True, axis="x", alpha=0.25, linewidth=0.5)
    if title:
        ax.set_title(title, loc="left", fontsize=10, pad=22)
    _legend(ax, levels, labels)
    return ax


def _scale(row: PropertyBar) -> float:
    return next(iter(row.references.values()), row.median)


def _limits(rows: Sequence[PropertyBar]) -> tuple[float, float]:
    """Round limits around all ratios, within `WIDEST`."""
    ratios = [1.0]
    for row in rows:
        scale = _scale(row)
        if np.isfinite(row.median) and scale:
            ratios += [v / scale for v in (*row.outer, row.median, *row.references.values())
                       if np.isfinite(v)]  # fmt: skip
    low, high = min(ratios), max(ratios)
    margin = 0.06 * max(high - low, 0.1)
    return max(low - margin, WIDEST[0]), min(high + margin, WIDEST[1])


def _point(ax: Axes, x: float, y: float, limits: tuple[float, float], **look: object) -> None:
    """A point, or an arrow at the border that it lies beyond."""
    if x < limits[0]:
        look |= {"marker": "<", "ms": 6}
    elif x > limits[1]:
        look |= {"marker": ">", "ms": 6}
    ax.plot([np.clip(x, *limits)], [y], ls="none", clip_on=False, **look)


def _numbers(row: PropertyBar) -> str:
    if not np.isfinite(row.median):
        return row.note or "no value"
    unit = "" if row.unit == "1" else f" {row.unit}"
    text = f"{row.median:.4g} [{row.outer[0]:.4g}, {row.outer[1]:.4g}]{unit}"
    return f"{text}  {row.note}" if row.note else text


def _legend(ax: Axes, levels: tuple[str, str], labels: Sequence[str]) -> None:
    ax.plot([], [], color=PALETTE[0], lw=6.0, alpha=0.55, label=levels[0])
    ax.plot([], [], color=PALETTE[0], lw=2.0, label=levels[1])
    for j, label in enumerate(labels, start=1):
        ax.plot([], [], ls="none", color=PALETTE[j % 8], marker=MARKERS[j % 8], mfc="none",
                mew=1.3, label=label)  # fmt: skip
    ax.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2 + len(labels),
              frameon=False, borderaxespad=0.2)  # fmt: skip
