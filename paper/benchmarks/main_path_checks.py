"""Energies against LAMMPS, samplers against closed forms.

    python paper/benchmarks/main_path_checks.py --out paper/results/main_path.json
    python paper/benchmarks/main_path_checks.py --only exact

What is compared with what is written once, in the modules beside the tests. Calibration by
simulation has a program of its own, simulation_based_calibration.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

TESTS = Path(__file__).resolve().parents[2] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "inference")]

from claims import add_claims, claim, show  # noqa: E402

COMMAND = "python paper/benchmarks/main_path_checks.py --only {}"
CHECKS = ("lammps", "exact")


def lammps() -> list[dict[str, Any]]:
    """Largest differences over all structures, by functional form (one and two species)."""
    import lammps_reference as reference

    if reference.missing():
        raise SystemExit(reference.missing())
    program = reference.Lammps()
    limits = (("de", "<= 1e-8", "eV/atom"), ("df", "<= 1e-7", "eV/Å"), ("ds", "<= 1e-9", "eV/Å^3"))
    rows = []
    for form, potential in reference.potentials().items():
        found = reference.compare(program, potential)
        name = form.lower().replace(" ", "_")
        for k, (what, target, unit) in enumerate(limits):
            rows.append(claim(
                f"lammps_{name}_max_{what}", max(d[k] for d in found.values()), target,
                n=len(found), unit=unit, command=COMMAND.format("lammps"),
            ))  # fmt: skip
    program.close()
    return rows


def exact() -> list[dict[str, Any]]:
    """NUTS on potentials that are linear in their parameters."""
    import jax
    import numpy as np
    from linear_pair import distance_to_exact, make_problem
    from linear_pair import exact as closed_form

    from bayespot.inference.map import map_estimate
    from bayespot.inference.nuts import nuts

    rows = []
    for name, collinear in (("linear", False), ("correlated", True)):
        problem = make_problem(collinear=collinear)
        truth = closed_form(problem.dataset)
        mode = map_estimate(problem, key=jax.random.key(0), starts=4)
        posterior = nuts(problem, key=jax.random.key(1), chains=4, warmup=300, draws=2000,
                         starts=2, progress=False)  # fmt: skip
        error, ratio = distance_to_exact(posterior, truth)
        worst = float(ratio[np.abs(ratio - 1).argmax()])
        r_hat = float(posterior.diagnostics()["r_hat"].values.max())

        def row(what: str, value: float, target: str, unit: str = "1", name: str = name,
                n: int = len(error)) -> dict[str, Any]:
            return claim(f"exact_{name}_{what}", value, target, n=n, unit=unit,
                         command=COMMAND.format("exact"))  # fmt: skip

        rows += [
            row("max_map_error", np.abs(mode.u[0] - truth.mean).max(), "<= 1e-6", "prior sd"),
            row("max_mean_error", error.max(), "< 3", "MCSE"),
            row("max_sd_error", abs(worst - 1), "<= 0.05"),
            row("max_rhat", r_hat, "<= 1.01"),
        ]
        if collinear:
            rows.append(row("condition", truth.condition, ">= 1e6"))
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=CHECKS)
    parser.add_argument("--out", type=Path, default=None, help="results file to merge rows into")
    arguments = parser.parse_args()
    import bayespot

    bayespot.configure()
    for name in arguments.only:
        rows = {"lammps": lammps, "exact": exact}[name]()
        show(rows)
        if arguments.out is not None:
            add_claims(arguments.out, "main_path", rows)


if __name__ == "__main__":
    main()
