"""How the force error falls with the number of DFT labels: chosen order against random order.

    python paper/figures/learning_curve.py [--out FOLDER]

Reads paper/results/demo_curves.json (written by paper/benchmarks/demo_curves.py) and nothing else.
Lines are medians over seeds, bands run from the lowest to the highest seed.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from bayespot import plots

RESULTS = Path(__file__).resolve().parents[1] / "results"
NAMES = {
    "information_matching": "information matching", "random": "random",
    "information_gain": "information gain", "max_std": "largest spread",
}


def curve(rows_by_seed: list[list[dict]]) -> plots.Curve:
    """Median and range over seeds at each number of labels."""
    errors = np.array([[row["forces_rmse"] for row in rows] for rows in rows_by_seed])
    labels = [row["n_labels"] for row in rows_by_seed[0]]
    return plots.Curve(labels, np.median(errors, axis=0), errors.min(axis=0), errors.max(axis=0))


def main() -> None:
    """Draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    folder = parser.parse_args().out
    record = json.loads((RESULTS / "demo_curves.json").read_text(encoding="utf-8"))
    seeds = record["seeds"]
    curves = {}
    for rule, shown in NAMES.items():
        runs = [seed["curves"][rule] for seed in seeds if rule in seed["curves"]]
        curves[f"{shown} ({len(runs)} seeds)"] = curve(runs)
    ax = plots.learning_curve(
        curves, quantity="forces", reference=float(np.median([seed["mark"] for seed in seeds]))
    )
    ax.set_ylim(0.18, 0.6)
    ax.set_title("silicon, Stillinger-Weber: median and range of the seeds", fontsize=9)
    plots.save(ax, folder / "learning_curve.png", dpi=200)


if __name__ == "__main__":
    main()
