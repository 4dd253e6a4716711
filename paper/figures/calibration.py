"""Coverage of families that were left out, by method, and of properties derived in them.

    python paper/figures/calibration.py [--out FOLDER]

Reads paper/results/calibration_tables.json and calibration_properties.json (by
paper/benchmarks/calibration.py), writes calibration.png and calibration.md.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from bayespot.units import GPA

RESULTS = Path(__file__).resolve().parents[1] / "results"
METHODS = ("none", "none + noise", "frederiksen", "discrepancy", "classical")
FITS = {"map": "parameters at the mode", "nuts": "NUTS draws"}
QUANTITIES = ("energy", "forces", "stress")
FLAGGED = 0.5
RHAT = 1.05


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
            if not mine:
                cells += ["-", "-"]
                continue
            values = np.array([coverage(r) for r in mine])
            crps = scale * np.mean([r["crps"] for r in mine])
            cells += [f"{values.mean():.0f} ({values.min():.0f}) of {len(mine)}", f"{crps:.3g}"]
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "![coverage by family](calibration.png)", ""])


def property_table(rows: list[dict]) -> str:
    """Coverage of derived properties by data set and method, and rms z by kind."""
    kinds = sorted({r["kind"] for r in rows})
    lines = [
        "## Derived properties", "",
        "Linear functionals of energies, forces and stresses of the family that was left out, "
        "at the DFT structures: how many, how many per cent the bars of 50, 90 and 95 % hold, "
        "root of the mean z², and that of every kind.", "",
        f"| set | form | draws | method | number | 50 % | 90 % | 95 % | rms z | "
        f"{' | '.join(kinds)} |", "|---" * (9 + len(kinds)) + "|",
    ]
    for key in dict.fromkeys((r["data"], r["form"], r["fit"], r["method"]) for r in rows):
        mine = [r for r in rows if (r["data"], r["form"], r["fit"], r["method"]) == key]
        z = np.array([r["z"] for r in mine])
        cells = [f"{len(mine)}", *(f"{held(z, level):.0f}" for level in (0.5, 0.9, 0.95)),
                 f"{root(z):.2f}"]
        for kind in kinds:
            own = np.array([r["z"] for r in mine if r["kind"] == kind])
            cells.append(f"{root(own):.2f} of {len(own)}" if len(own) else "-")
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def convergence(rows: list[dict]) -> str:
    """R-hat and effective draws of the fits by NUTS, one a family left out."""
    rows = [r for r in rows if r["method"] == "none" and r["quantity"] == "energy"
            and "max_rhat" in r]
    if not rows:
        return ""
    lines = ["## Convergence of the draws", "",
             "Largest R-hat and least bulk effective sample size of any parameter, four chains; "
             f"families whose fit is above {RHAT}.", "",
             "| set | form | fits | R-hat, median | largest | effective draws, least | not mixed |",
             "|---|---|---|---|---|---|---|"]
    for key in dict.fromkeys((r["data"], r["form"]) for r in rows):
        mine = [r for r in rows if (r["data"], r["form"]) == key]
        rhat = [r["max_rhat"] for r in mine]
        poor = ", ".join(r["family"] for r in mine if r["max_rhat"] > RHAT)
        lines.append(f"| {' | '.join(key)} | {len(mine)} | {np.median(rhat):.3f} | "
                     f"{max(rhat):.3f} | {min(r['min_ess'] for r in mine):.0f} | {poor or '-'} |")
    return "\n".join([*lines, ""])


def held(z: np.ndarray, level: float) -> float:
    """Per cent of the cases inside the bar of a level."""
    return 100 * float(np.mean(np.abs(z) <= norm.ppf(0.5 + 0.5 * level)))


def root(z: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(z**2)))


def families_panel(ax: plt.Axes, rows: list[dict], quantity: str) -> None:
    """One point a family of a data set, by method."""
    rng = np.random.default_rng(0)
    for k, method in enumerate(METHODS):
        mine = [r for r in rows if r["method"] == method and r["quantity"] == quantity]
        values = np.array([coverage(r) for r in mine])
        outside = np.array([r["outside"] >= FLAGGED for r in mine], bool)
        x = k + 0.3 * (rng.random(len(mine)) - 0.5)
        ax.plot(x[~outside], values[~outside], "o", ms=5, alpha=0.7, color=f"C{k}")
        ax.plot(x[outside], values[outside], "o", ms=6, mfc="none", color=f"C{k}")
        if len(values):
            ax.plot([k - 0.3, k + 0.3], [values.mean()] * 2, color="k", lw=2)
    families = {(r["data"], r["form"], r["family"]) for r in rows if r["quantity"] == quantity}
    ax.set_title(f"{quantity}: {len(families)} families left out", fontsize=10)


def properties_panel(ax: plt.Axes, rows: list[dict]) -> None:
    """One point a data set and form, by method."""
    rng = np.random.default_rng(0)
    for k, method in enumerate(METHODS):
        mine = [r for r in rows if r["method"] == method]
        values = [held(np.array([r["z"] for r in mine if (r["data"], r["form"]) == key]), 0.9)
                  for key in dict.fromkeys((r["data"], r["form"]) for r in mine)]
        x = k + 0.3 * (rng.random(len(values)) - 0.5)
        ax.plot(x, values, "s", ms=5, alpha=0.7, color=f"C{k}")
        if values:
            ax.plot([k - 0.3, k + 0.3], [np.mean(values)] * 2, color="k", lw=2)
    number = sum(r["method"] == "discrepancy" for r in rows)
    ax.set_title(f"derived properties: {number}, a point a fit", fontsize=10)


def main() -> None:
    """A row of panels for each way of fitting: three quantities and the properties."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    folder = parser.parse_args().out
    rows, derived = (
        json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
        for path in (RESULTS / name
                     for name in ("calibration_tables.json", "calibration_properties.json"))
    )
    rows = [r for r in rows if not r["pooled"] and r["n"]]
    parts = [table(rows), property_table(derived) if derived else "", convergence(rows)]
    text = "\n".join(part for part in parts if part)
    rows = [r for r in rows if " of " not in r["data"] and " by " not in r["data"]]
    fits = [fit for fit in FITS if any(r["fit"] == fit for r in rows)]
    figure, axes = plt.subplots(len(fits), 4, figsize=(15, 0.5 + 3.4 * len(fits)),
                                layout="constrained", sharey=True, squeeze=False)
    for row, fit in zip(axes, fits, strict=True):
        for ax, quantity in zip(row, QUANTITIES, strict=False):
            families_panel(ax, [r for r in rows if r["fit"] == fit], quantity)
        properties_panel(row[-1], [r for r in derived if r["fit"] == fit])
        row[0].set_ylabel(f"{FITS[fit]}\nof nominal 90 % bars hold the truth, %")
        for ax in row:
            ax.axhspan(85, 95, color="0.9", zorder=0)
            ax.axhline(90, color="0.4", lw=1, zorder=1)
            ax.set_xticks(range(len(METHODS)), [m.replace(" + ", "\n+ ") for m in METHODS],
                          fontsize=7)
            ax.set_xlim(-0.6, len(METHODS) - 0.4)
    axes[0, 0].plot([], [], "o", mfc="none", color="0.3", label="beyond the guard")
    axes[0, 0].plot([], [], color="k", lw=2, label="mean")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), fontsize=9, loc="outside lower center",
                  ncols=2)
    figure.savefig(folder / "calibration.png", dpi=120)
    (folder / "calibration.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
