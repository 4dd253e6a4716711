"""Coverage of families that were left out, by method.

    python paper/figures/calibration.py [--out FOLDER]

Reads paper/results/calibration_tables.json (by paper/benchmarks/calibration.py), writes
calibration.png and calibration.md.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from bayespot.units import GPA

RESULTS = Path(__file__).resolve().parents[1] / "results"
METHODS = ("none", "none + noise", "frederiksen", "discrepancy")
QUANTITIES = ("energy", "forces", "stress")
FLAGGED = 0.5


def coverage(row: dict) -> float:
    """Of nominal 90 %, in per cent."""
    return 100 * next(c["value"] for c in row["coverage"] if abs(c["level"] - 0.9) < 1e-9)


def table(rows: list[dict]) -> str:
    """Mean over families by data set and method: coverage of nominal 90 %, least family, CRPS."""
    lines = [
        "# Families left out", "",
        "Of nominal 90 % bars so many per cent hold the truth, mean over families (least family); "
        "CRPS. \"Si of tersoff\": the structures of Si labelled by that potential. "
        "Written by `paper/figures/calibration.py`; do not edit.", "",
        "| set | form | draws | method | energy | CRPS, meV/atom | forces | CRPS, eV/Å | stress "
        "| CRPS, GPa |", "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((r["data"], r["form"], r["fit"], r["method"]) for r in rows):
        cells = []
        for quantity, scale in (("energy", 1e3), ("forces", 1.0), ("stress", GPA)):
            mine = [r for r in rows if r["quantity"] == quantity
                    and (r["data"], r["form"], r["fit"], r["method"]) == key]
            values = np.array([coverage(r) for r in mine])
            crps = scale * np.mean([r["crps"] for r in mine])
            cells += [f"{values.mean():.0f} ({values.min():.0f}) of {len(mine)}", f"{crps:.3g}"]
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "![coverage by family](calibration.png)", ""])


def main() -> None:
    """One panel a quantity, one point a family of a data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    folder = parser.parse_args().out
    rows = json.loads((RESULTS / "calibration_tables.json").read_text(encoding="utf-8"))["rows"]
    rows = [r for r in rows if not r["pooled"] and r["n"]]
    text = table(rows)
    rows = [r for r in rows if r["fit"] == "map" and " of " not in r["data"]
            and " by " not in r["data"]]
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
    figure.legend(fontsize=9, loc="outside lower center", ncols=2)
    figure.savefig(folder / "calibration.png", dpi=120)
    (folder / "calibration.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
