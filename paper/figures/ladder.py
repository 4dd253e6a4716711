"""The forms of the ladder on public DFT data, beside published potentials.

    python paper/figures/ladder.py [--out FOLDER]

Reads paper/results/ladder_fits.json (NUTS, by paper/benchmarks/ladder_fits.py), the linear ACE rows
of paper/results/ladder.json (closed form, by ladder_ace.py) and ladder_physics.json (by
ladder_physics.py); writes ladder.md and ladder.png.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

RESULTS = Path(__file__).resolve().parents[1] / "results"
PUBLISHED = {
    "Si": {"SNAP": (6.44, 0.133), "MTP": (2.31, 0.056), "linear ACE, large": (2.31, None)},
    "Li": {"SNAP": (1.03, 0.028), "MTP": (0.49, 0.010), "linear ACE, large": (0.17, 0.005)},
    "Cu": {"SNAP": (0.53, 0.037), "MTP": (0.41, 0.007), "linear ACE, large": (0.22, 0.005)},
    "Ni": {"SNAP": (0.78, 0.038), "MTP": (0.48, 0.014), "linear ACE, large": (0.33, 0.015)},
}
"""MAE on the published test split, meV/atom and eV/Å: SNAP and MTP of Zuo et al., J. Phys. Chem. A
124, 731 (2020), run on these files; linear ACE of ACEpotentials.jl 0.8."""


def ace_rows(element: str) -> list[str]:
    """Our linear ACE, from its claims."""
    path = RESULTS / "ladder.json"
    claims = json.loads(path.read_text(encoding="utf-8"))["claims"] if path.exists() else []
    found = {c["name"]: c["value"] for c in claims}
    energy = found.get(f"ace_{element}_energy_mae")
    if energy is None:
        return []
    forces, stress = (found.get(f"ace_{element}_{q}_mae") for q in ("forces", "stress"))
    stress = "-" if stress is None else f"{stress:.3f}"
    return [f"| **linear ACE** | closed form | {energy:.2f} | {forces:.4f} | {stress} | | |"]


def fit_row(fit: dict) -> str:
    """A fit by NUTS."""
    test = fit["test"]
    stress = f"{test['stress']['mae']:.3f}" if "stress" in test else "-"
    held = f", {' and '.join(fit['held'])} at their mode" if fit.get("held") else ""
    return (
        f"| **{fit['form']}** | NUTS, {fit['n_structures']} structures{held} "
        f"| {test['energy']['mae']:.2f} | {test['forces']['mae']:.4f} | {stress} "
        f"| {fit['max_rhat']:.3f} | {fit['divergences']} |"
    )


def alloy_lines() -> list[str]:
    """The linear ACE of the alloys beside the published SNAP, from the claims."""
    path = RESULTS / "ladder.json"
    claims = json.loads(path.read_text(encoding="utf-8"))["claims"] if path.exists() else []
    found = {c["name"]: c for c in claims if c["name"].startswith("ace_nbtaw_")}
    families = [n.removeprefix("ace_nbtaw_").removesuffix("_energy_mae") for n in found
                if n.endswith("_energy_mae")]
    if not families:
        return []
    lines = [
        "## Nb, Ta, W and their alloys", "",
        "Linear ACE, closed form; in brackets the published SNAP.", "",
        "| test family | structures | energy, meV/atom | force, eV/Å |", "|---|---|---|---|",
    ]
    for family in families:
        energy, force = (found[f"ace_nbtaw_{family}_{q}_mae"] for q in ("energy", "forces"))
        lines.append(
            f"| {family} | {energy['n']} | {energy['value']:.2f} ({energy['target'][2:]}) "
            f"| {force['value']:.4f} ({force['target'][2:]}) |"
        )
    return [*lines, ""]


SHORT = {
    "SuttonChen": "Sutton-\nChen", "FinnisSinclair": "Finnis-\nSinclair",
    "ZhouJohnson": "Zhou-\nJohnson", "StillingerWeber": "Stillinger-\nWeber",
    "SplineEAM": "spline\nEAM",
}


def _strip(ax: plt.Axes, values: dict[str, list[float]]) -> None:
    """Every draw of every form as a point."""
    rng = np.random.default_rng(0)
    for k, found in enumerate(values.values()):
        shown = np.maximum(np.abs(found), 1e-16)
        ax.semilogy(k + 0.25 * (rng.random(len(shown)) - 0.5), shown, ".", ms=5, alpha=0.6)
    ax.set_xticks(range(len(values)), [SHORT.get(form, form) for form in values], fontsize=8)
    ax.set_xlim(-0.6, len(values) - 0.4)


def picture(record: dict) -> plt.Figure:
    """Elasticity, angles, and error beside spread."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    _strip(left, record["cauchy"])
    left.set_ylabel(r"$|C_{12} - C_{44}|\,/\,C_{44}$, fcc at zero pressure")
    left.set_title("pairs keep the Cauchy relation", fontsize=10)
    _strip(middle, record["angles"])
    middle.set_ylabel("flat against puckered sheet,\nrelative difference of energy")
    middle.set_title("only bond order and beyond see angles", fontsize=10)
    rungs = record["rungs"]
    names = [SHORT.get(row["form"], row["form"]) for row in rungs]
    right.plot(names, [row["test"]["forces"]["rmse"] for row in rungs], "o-", label="error (RMSE)")
    right.plot(names, [row["spread"] for row in rungs], "s--", label="what the fit says")
    right.plot(names, [row["corrected_rmse"] for row in rungs], "^:",
               label="error with discrepancy")
    right.set_ylim(0, None)
    right.tick_params(axis="x", labelsize=8)
    right.set_ylabel("force on the silicon test split, eV/Å")
    right.set_title("each rung's error falls as its spread says", fontsize=10)
    right.legend(fontsize=8)
    return figure


def main() -> None:
    """Write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    folder = parser.parse_args().out
    path = RESULTS / "ladder_fits.json"
    fits = json.loads(path.read_text(encoding="utf-8"))["fits"] if path.exists() else []
    lines = [
        "# The ladder on the mlearn sets", "",
        "MAE on the published test split. Written by `paper/figures/ladder.py`; do not edit.", "",
    ]
    for element, published in PUBLISHED.items():
        rows = [fit_row(fit) for fit in fits if fit["set"] == element] + ace_rows(element)
        rows += [
            f"| {name} | published | {energy:.2f} | {'-' if force is None else f'{force:.3f}'} "
            "| - | | |" for name, (energy, force) in published.items()
        ]
        lines += [
            f"## {element}", "",
            "| potential | fit | energy, meV/atom | force, eV/Å | stress, GPa | R-hat "
            "| divergences |", "|---|---|---|---|---|---|---|", *rows, "",
        ]
    lines += alloy_lines()
    path = RESULTS / "ladder_physics.json"
    if path.exists():
        figure = picture(json.loads(path.read_text(encoding="utf-8")))
        figure.savefig(folder / "ladder.png", dpi=120)
        lines += ["## What each rung can see", "", "![ladder](ladder.png)", "",
                  "Points are prior draws; on the right, silicon with parameters at their most "
                  "probable values, from 27 structures of the training split."]
    (folder / "ladder.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
