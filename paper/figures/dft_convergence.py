"""Orders of convergence of the self-consistency cycle, and what settings of two codes are worth.

    python paper/figures/dft_convergence.py [--out FOLDER]

Reads paper/results/dft_convergence.json (by paper/benchmarks/dft_convergence.py); writes
dft_convergence.md and dft_convergence.png.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

RESULTS = Path(__file__).resolve().parents[1] / "results"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = "os^Dv*"
GPA = 160.2176634
DRAWN = ("PPCG, default criteria", "PPCG, eigenstates off", "Davidson, 8 steps",
         "Davidson, 8 steps, linear mixing")
"""The others are the same curves: PPCG with that criterion off makes the one step of Davidson's."""
SMOOTH = "Davidson, 8 steps, linear mixing"
SHOWN = ("energy_difference", 1e3), ("forces", 1e3), ("stress", GPA)


def fit_text(fit: dict | None) -> str:
    return "–" if fit is None else f"{fit['order']:.2f} ± {fit['standard_error']:.2f} ({fit['n']})"


def order_lines(data: dict) -> list[str]:
    """Orders along lines and along cycles, with standard errors and numbers of points."""
    lines = ["## Orders: theory 2 for energies, 1 for forces", "",
             "± is the standard error, in brackets the number of points.", ""]
    names = list(data["measured"])
    for element, found in data["cycles"].items():
        if found["rays"]:
            lines += [f"### {element}, GPAW, away from self-consistency along a line", "",
                      "| what is moved | energy | forces |", "|---|---|---|"]
            for name, one in found["rays"].items():
                energy, forces = (fit_text(one["orders"][q]) for q in ("energy", "forces"))
                lines.append(f"| {name} | {energy} | {forces} |")
            lines.append("")
        if found["orders"]:
            words = [data["measured"][n] for n in names]
            for quantity in ("energy", "forces"):
                lines += [f"### {element}, {quantity} along the cycle, against", "",
                          f"| | {' | '.join(words)} |", "|---" * (len(names) + 1) + "|"]
                lines += [
                    f"| {cycle} | {' | '.join(fit_text(o[n][quantity]) for n in names)} |"
                    for cycle, o in found["orders"].items()
                ]
                lines.append("")
    lines += ["For pw.x what is reported is the root of its estimated accuracy (Ry). Its usual "
              "mixing (Broyden) ends in some ten steps, each of which leaves an error of another "
              "direction; linear mixing in small steps leaves one, and the energy is nearly "
              "quadratic in it.", ""]
    return [*lines, *direction_lines(data), ""]


def direction_lines(data: dict) -> list[str]:
    """How the energy per squared density error changes along smooth cycles."""
    parts = []
    for element, found in data["cycles"].items():
        for rows in found["cycles"].get(SMOOTH, []):
            some = [r for r in rows if r["energy"] > 3e-9][2:]  # the first two are the start
            first, last = (r["energy"] / r["density_in"] ** 2 for r in (some[0], some[-1]))
            parts.append(f"{element} {first:.2g} to {last:.2g}")
    if not parts:
        return []
    return [
        "The density error of a cycle turns: along a line the energy is quadratic, but with linear "
        "mixing and wave functions converged in every step the energy over the squared density "
        f"error still rises, from step 3 to the last (eV/atom): {'; '.join(parts)}. What is left "
        "late is the slow part of the error, which costs most energy; so the exponent along the "
        "cycle is below 2."
    ]


def study_lines(data: dict) -> list[str]:
    """The settings of each study and its floor."""
    lines = ["## Settings and floors", "",
             "| study | setting | ΔE, meV/atom | F, meV/Å | S, GPa | reference: ΔE, F, S "
             "| meets the target | calculations | CPU min |", "|---" * 9 + "|"]
    for name, study in data["studies"].items():
        last = study["tried"]
        values = ", ".join(f"{k} {v:.3g}" for k, v in last["values"].items())
        errors = [f"{last['rms'][m] * f:.3g}" for m, f in SHOWN]
        spread = ", ".join(f"{study['uncertainty'][m] * f:.2g}" for m, f in SHOWN)
        lines.append(
            f"| {name} | {values} | {' | '.join(errors)} | {spread} "
            f"| {'yes' if last['good'] else 'no'} | {study['calculations']} "
            f"({study['failed']} failed) | {study['cpu_s'] / 60:.1f} |"
        )
    lines += ["", "| floor | s_E, meV/atom | s_F, eV/Å | s_S, GPa |", "|---|---|---|---|"]
    for name, study in data["studies"].items():
        rows = {**study["floor"]["families"], "all": study["floor"]["overall"]}
        for family, row in rows.items():
            lines.append(
                f"| {name}, {family} ({row['n']}) | {row['s_energy'] * 1e3:.3g} "
                f"| {row['s_forces']:.3g} | {row['s_stress'] * GPA:.3g} |"
            )
    return [*lines, ""]


def guide(ax, order: int, at: tuple[float, float]) -> None:
    """A line of the slope that theory says, through a point."""
    low, high = ax.get_xlim()
    x = np.geomspace(low, high, 2)
    limits = ax.get_ylim()
    ax.plot(x, at[1] * (x / at[0]) ** order, color="0.6", lw=0.9, ls="--", zorder=0)
    ax.set(xlim=(low, high), ylim=limits)


def draw_rays(ax, rays: dict) -> None:
    for k, (name, ray) in enumerate(rays.items()):
        rows = ray["rows"]
        for quantity, face in (("energy", COLORS[k]), ("forces", "white")):
            fit = ray["orders"][quantity]
            order = "" if fit is None else f": {fit['order']:.2f} ± {fit['standard_error']:.2f}"
            ax.plot([r["error"] for r in rows], [r[quantity] for r in rows], MARKS[k],
                    color=COLORS[k], markerfacecolor=face, ms=4, label=f"{name}, {quantity}{order}")
    ax.set(xscale="log", yscale="log", xlabel="error of the density (electrons per electron)",
           ylabel="error (eV/atom, eV/Å)", title="Si, GPAW, along a line")
    rows = rays["density"]["rows"]
    middle = rows[len(rows) // 2 + 1]
    guide(ax, 2, (middle["error"], middle["energy"]))
    guide(ax, 1, (middle["error"], middle["forces"]))


def draw_cycles(ax, cycles: dict, orders: dict, against: str, words: str, noise: float) -> None:
    for k, (name, runs) in enumerate(cycles.items()):
        fit = orders[name][against]["energy"]
        order = "" if fit is None else f": {fit['order']:.2f} ± {fit['standard_error']:.2f}"
        for j, rows in enumerate(runs):
            some = [r for r in rows if r.get(against) and r["energy"] > noise]
            ax.plot([r[against] for r in some], [r["energy"] for r in some], marker=MARKS[k],
                    ms=3.5, lw=0.8, color=COLORS[k], label=f"{name}{order}" if j == 0 else None)
    ax.set(xscale="log", yscale="log", xlabel=words, ylabel="error of the energy (eV/atom)")
    ax.margins(0.08)
    points = [(r[against], r["energy"]) for runs in cycles.values() for rows in runs for r in rows
              if r.get(against) and r["energy"] > noise]
    if points:
        x, y = np.exp(np.median(np.log(points), axis=0))
        guide(ax, 2, (x, y))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    data = json.loads((RESULTS / "dft_convergence.json").read_text(encoding="utf-8"))
    lines = ["# Convergence of GPAW and Quantum ESPRESSO", "", *order_lines(data),
             *study_lines(data)]
    (out / "dft_convergence.md").write_text("\n".join(lines), encoding="utf-8")

    silicon = data["cycles"]["Si"]
    gpaw = {n: runs for n, runs in silicon["cycles"].items() if n in DRAWN}
    both = {f"{e}, {n}": runs for e, found in data["cycles"].items()
            for n, runs in found["cycles"].items() if n.startswith("pw.x")}
    orders = {f"{e}, {n}": o for e, found in data["cycles"].items()
              for n, o in found["orders"].items() if n.startswith("pw.x")}
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.6), layout="constrained")
    draw_rays(axes[0, 0], silicon["rays"])
    draw_cycles(axes[0, 1], gpaw, silicon["orders"], "reported",
                "density residual that GPAW reports (electrons per electron)", 3e-9)
    axes[0, 1].set_title("Si, GPAW, along the cycle")
    draw_cycles(axes[1, 0], gpaw, silicon["orders"], "orbitals",
                "root of the residual of the wave functions (eV per electron$^{1/2}$)", 3e-9)
    axes[1, 0].set_title("the same cycles, against their wave functions")
    for line in axes[1, 0].lines:  # named in the panel above; the orders are its own
        if not line.get_label().startswith("_"):
            line.set_label(line.get_label().rpartition(": ")[2])
    draw_cycles(axes[1, 1], both, orders, "reported",
                "root of the accuracy that pw.x reports (Ry$^{1/2}$)", 3e-8)
    axes[1, 1].set_title("Quantum ESPRESSO, over its threshold")
    for ax in axes.ravel():
        ax.grid(visible=True, which="major", alpha=0.25, lw=0.5)
        ax.legend(fontsize=7, loc="lower right" if ax is axes[1, 0] else "upper left")
        ax.title.set_fontsize(10)
    figure.savefig(out / "dft_convergence.png", dpi=150)


if __name__ == "__main__":
    main()
