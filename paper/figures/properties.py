"""Silicon properties with their bars, without and with a discrepancy, beside references.

Usage: python paper/figures/properties.py [--out FOLDER]

Reads paper/results/properties_silicon.json; writes properties.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bayespot import plots

HERE = Path(__file__).resolve().parent


def pair(ends: list[float | None]) -> tuple[float, float]:
    low, high = (np.nan if end is None else end for end in ends)
    return low, high


def bar(row: dict) -> plots.PropertyBar:
    notes = [f"{row[key]:.0%} {key}" for key in ("failed", "unstable") if row[key] > 0]
    median = np.nan if row["median"] is None else row["median"]
    return plots.PropertyBar(
        row["name"], row["unit"], median, pair(row["intervals"]["0.5"]),
        pair(row["intervals"]["0.9"]), row["references"], ", ".join(notes),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    folder = parser.parse_args().out
    found = json.loads((HERE.parent / "results" / "properties_silicon.json").read_text("utf-8"))
    tallest = max(len(part["rows"]) for part in found.values())
    figure = Figure(figsize=(9.4, (1.4 + 0.24 * tallest) * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 1, squeeze=False)[:, 0]
    for ax, (label, part) in zip(axes, found.items(), strict=True):
        plots.property_bars(
            [bar(row) for row in part["rows"]], ax=ax,
            title=f"silicon, Stillinger-Weber fitted to PBE, {label}, 32 draws",
        )
    plots.save(figure, folder / "properties.png")


if __name__ == "__main__":
    main()
