"""Coverage of families that were left out, by method.

    python paper/figures/calibration.py [--out FOLDER]

Reads paper/results/calibration_tables.json (by paper/benchmarks/calibration.py), writes
calibration.png.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

RESULTS = Path(__file__).resolve().parents[1] / "results"
METHODS = ("none", "none + noise", "frederiksen", "discrepancy")
QUANTITIES = ("energy", "forces", "stress")
FLAGGED = 0.5


def coverage(row: dict) -> float:
    """Of nominal 90 %, in per cent."""
    return 100 * next(c["value"] for c in row["coverage"] if abs(c["level"] - 0.9) < 1e-9)


def main() -> None:
    """One panel a quantity, one point a family of a data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    folder = parser.parse_args().out
    rows = json.loads((RESULTS / "calibration_tables.json").read_text(encoding="utf-8"))["rows"]
    rows = [r for r in rows if not r["pooled"] and r["n"]]
    rng = np.random.default_rng(0)
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained", sharey=True)
    for ax, quantity in zip(axes, QUANTITIES, strict=True):
        ax.axhspan(85, 95, color="0.9", zorder=0)
        ax.axhline(90, color="0.4", lw=1, zorder=1)
        for k, method in enumerate(METHODS):
            mine = [r for r in rows if r["method"] == method and r["quantity"] == quantity]
            values = np.array([coverage(r) for r in mine])
            outside = np.array([r["outside"] >= FLAGGED for r in mine], bool)
            x = k + 0.3 * (rng.random(len(mine)) - 0.5)
            ax.plot(x[~outside], values[~outside], "o", ms=5, alpha=0.7, color=f"C{k}")
            ax.plot(x[outside], values[outside], "o", ms=6, mfc="none", color=f"C{k}")
            if len(values):
                ax.plot([k - 0.3, k + 0.3], [values.mean()] * 2, color="k", lw=2)
        ax.set_xticks(range(len(METHODS)), [m.replace(" + ", "\n+ ") for m in METHODS], fontsize=9)
        families = {(r["data"], r["form"], r["family"]) for r in rows if r["quantity"] == quantity}
        ax.set_title(f"{quantity}: {len(families)} families left out", fontsize=10)
    axes[0].set_ylabel("of nominal 90 % bars hold the truth, %")
    axes[0].plot([], [], "o", mfc="none", color="0.3", label="beyond the guard")
    axes[0].plot([], [], color="k", lw=2, label="mean over families")
    axes[0].legend(fontsize=8, loc="center left")
    figure.savefig(folder / "calibration.png", dpi=120)


if __name__ == "__main__":
    main()
