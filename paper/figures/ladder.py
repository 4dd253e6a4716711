"""The forms of the ladder on public DFT data, beside published potentials.

    python paper/figures/ladder.py [--out FOLDER]

Reads paper/results/ladder_fits.json (NUTS, by paper/benchmarks/ladder_fits.py) and the linear ACE
rows of paper/results/ladder.json (closed form, by ladder_ace.py), writes ladder.md.
"""

import argparse
import json
from pathlib import Path

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
    return (
        f"| **{fit['form']}** | NUTS, {fit['n_structures']} structures "
        f"| {test['energy']['mae']:.2f} | {test['forces']['mae']:.4f} | {stress} "
        f"| {fit['max_rhat']:.3f} | {fit['divergences']} |"
    )


def main() -> None:
    """Write the table."""
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
    (folder / "ladder.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
