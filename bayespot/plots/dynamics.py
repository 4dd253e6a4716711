"""The spread of draws along a trajectory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from bayespot.errors import PropertyError
from bayespot.plots.style import GREY, PALETTE, axes_of

if TYPE_CHECKING:
    from bayespot.dynamics import Trajectory


def spread_along(
    trajectory: Trajectory, *, limit: float | None = None, ax: Axes | None = None
) -> Axes:
    """Largest spread of a force over time, what is beyond its limit marked.

    Parameters
    ----------
    trajectory : Trajectory
    limit : float, optional
        Level at which the run stops or is flagged, eV/Å.
    ax : Axes, optional

    Raises
    ------
    PropertyError
        If the draws were never evaluated along it.
    """
    spread = trajectory.column("force_std")
    if not spread.size:
        raise PropertyError(f"{trajectory.folder} has no spreads: run it with spread_every")
    ax = axes_of(ax, (6.0, 3.4))
    time = trajectory.spread_steps * trajectory.settings["timestep_fs"] * 1e-3
    ax.plot(time, spread, color=PALETTE[0], linewidth=1.2)
    beyond = np.array([bool(row["beyond"]) for row in trajectory.records if "beyond" in row])
    if beyond.any():
        ax.plot(time[beyond], spread[beyond], "o", color=PALETTE[1], markersize=4,
                label="beyond the limits")  # fmt: skip
    if limit is not None:
        ax.axhline(limit, color=GREY, linestyle="--", linewidth=1, label=f"limit {limit:g} eV/Å")
    if trajectory.stopped:
        ax.axvline(time[-1], color=PALETTE[1], linewidth=1, label="stopped")
    ax.set_xlabel("time (ps)")
    ax.set_ylabel("largest spread of a\nforce component (eV/Å)")
    ax.set_ylim(bottom=0.0)
    ax.grid(visible=True, alpha=0.25, linewidth=0.5)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=8)
    return ax
