"""What a set of structures covers: volumes and nearest distances by family."""

from __future__ import annotations

from collections.abc import Sequence

from ase import Atoms
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from bayespot.generate.frames import minimum_distance
from bayespot.plots.style import MARKERS, PALETTE, axes_of


def population(structures: Sequence[Atoms], *, ax: Axes | None = None) -> Axes:
    """Nearest distance over the volume per atom, one point per structure, by family.

    The volume is that of the whole cell: slabs lie to the right, with their vacuum.

    Parameters
    ----------
    structures : sequence of Atoms
        With ``info['config_type']``.
    """
    ax = axes_of(ax, (5.6, 4.0))
    families = list(dict.fromkeys(str(a.info.get("config_type", "?")) for a in structures))
    for k, family in enumerate(families):
        some = [a for a in structures if str(a.info.get("config_type", "?")) == family]
        ax.plot([a.cell.volume / len(a) for a in some], [minimum_distance(a, 12.0) for a in some],
                ls="none", marker=MARKERS[k % 8], markersize=5, color=PALETTE[k % 8], alpha=0.75,
                markeredgewidth=0, label=f"{family} ({len(some)})")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("volume of the cell (Å³/atom)")
    ax.set_ylabel("nearest distance (Å)")
    ax.grid(visible=True, which="major", alpha=0.25, linewidth=0.5)
    ax.legend(fontsize=8)
    return ax
