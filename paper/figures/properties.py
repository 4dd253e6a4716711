"""Properties of silicon and of aluminium over those of DFT, form by form, with their bars.

Usage: python paper/figures/properties.py [--out FOLDER]

Reads paper/results/properties_silicon.json and properties_aluminium.json; writes a picture of each
material, properties_silicon.png and properties_aluminium.png. Values are over that of GPAW with the
settings of the training data; percentages beside a bar are draws without a value.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayespot import plots

HERE = Path(__file__).resolve().parent
LABEL = "GPAW/PBE"
SHOWN = (-0.2, 2.2)
"""What a bar leaves of this range is cut."""


def panel(ax: Axes, label: str, rows: list[dict]) -> None:
    """Bars of one form."""
    inside = 0
    for y, row in enumerate(rows):
        reference = row["references"][LABEL]
        if row["median"] is None:
            ax.text(1.0, y, "no draw has a value", ha="center", va="center", fontsize=6)
            continue
        ends = {level: np.sort(np.array(row["intervals"][level], float) / reference)
                for level in ("0.5", "0.9")}
        held = bool(ends["0.9"][0] <= 1.0 <= ends["0.9"][1])
        inside += held
        color = "tab:blue" if held else "tab:red"
        for level, width in (("0.9", 1.4), ("0.5", 4.5)):
            ax.plot(ends[level], [y, y], color=color, lw=width, solid_capstyle="butt",
                    alpha=0.55 if level == "0.5" else 1.0)
        ax.plot(np.clip(row["median"] / reference, *SHOWN), y, "|", color=color, ms=7)
        if "experiment" in row["references"]:
            ax.plot(row["references"]["experiment"] / reference, y, "s", mfc="none",
                    mec="tab:orange", ms=4)
        if row["failed"] > 0:
            ax.text(SHOWN[1] - 0.02, y, f"{row['failed']:.0%}", ha="right", va="center", fontsize=6)
    ax.axvline(1.0, color="black", lw=0.6, ls=":")
    ax.set_xlim(SHOWN)
    ax.set_xlabel("over DFT", fontsize=8)
    ax.set_title(f"{label}\n{inside} of {len(rows)} in 90 % bars", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.grid(axis="y", lw=0.3)


def draw(material: str, found: dict) -> Figure:
    """One panel a form, all with the same properties."""
    known = {
        label: {row["name"]: row for row in part["rows"] if LABEL in row["references"]}
        for label, part in found.items()
    }
    names = list(next(iter(known.values())))
    figure = Figure(figsize=(2.6 + 1.75 * len(known), 1.2 + 0.17 * len(names)),
                    layout="constrained")
    axes = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for ax, (label, rows) in zip(axes, known.items(), strict=True):
        panel(ax, label, [rows[name] for name in names])
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.suptitle(f"{material}: 50 and 90 % bars of 32 draws; squares: experiment", fontsize=9)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    folder = parser.parse_args().out
    for name in ("properties_silicon.json", "properties_aluminium.json"):
        path = HERE.parent / "results" / name
        found = json.loads(path.read_text(encoding="utf-8"))
        figure = draw(path.stem.removeprefix("properties_"), found)
        plots.save(figure, folder / f"{path.stem}.png")


if __name__ == "__main__":
    main()
