"""Stillinger-Weber on the public mlearn silicon set: convergence, cost, wall time.

Usage: python paper/benchmarks/mlearn_silicon.py [--warmup 300] [--draws 400] [--out FILE]

The set (Zuo et al., J. Phys. Chem. A 124, 731 (2020), BSD-3) is read from ../shared/data. The
cutoff is fixed at the published 3.77118 Å; nine parameters of the potential and three noise scales
are sampled.
"""

# ruff: noqa: E402  (the clock starts before the imports, which a user waits for too)
import argparse
import time
from pathlib import Path

BEGAN = time.perf_counter()

import jax
import numpy as np
from claims import add_claims

import bayespot

bayespot.configure(cache="")  # compilation is part of what a user waits for

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "mlearn" / "mlearn_Si.extxyz.xz"


def main() -> None:
    """Fit, report, write the claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--out", default=str(ROOT / "paper" / "results" / "main_path.json"))
    parser.add_argument("--save", help="write the posterior here")
    options = parser.parse_args()

    dataset = bayespot.read(DATA).select(split="train")
    problem = bayespot.FitProblem(
        bayespot.StillingerWeber.silicon_1985(), dataset, fixed={"r_c": 3.77118}, misfit="none"
    )
    posterior = bayespot.nuts(
        problem, key=jax.random.key(0), warmup=options.warmup, draws=options.draws, starts=8
    )
    wall = time.perf_counter() - BEGAN
    print(dataset.summary())
    print(posterior.summary())
    if options.save:
        posterior.save(options.save)
    table, details = posterior.diagnostics(), posterior.record["details"]
    stats = posterior.tree["sample_stats"].to_dataset()
    energy = stats["energy"].values
    bfmi = (np.diff(energy, axis=1) ** 2).mean(axis=1) / energy.var(axis=1)
    n_theta = problem.space.layout.n_theta
    n_draws = details["chains"] * details["draws"]
    gradients = details["gradients_warmup"] + details["gradients_draws"]
    ess = min(float(table["ess_bulk"].min()), float(table["ess_tail"].min()))
    command = f"python paper/benchmarks/mlearn_silicon.py --warmup {options.warmup}"
    command += f" --draws {options.draws}"

    def row(name: str, value: float, target: str | None, passed: bool | None, unit: str = "1",
            n: int = problem.space.size) -> dict:
        return {"name": f"sw_si_{name}", "value": value, "low": None, "high": None, "n": n,
                "target": target, "passed": passed, "unit": unit, "command": command}

    r_hat, divergent = float(table["r_hat"].max()), int(stats["diverging"].sum())
    rows = [
        row("max_rhat", r_hat, "<= 1.01", r_hat <= 1.01),
        row("min_bulk_ess", float(table["ess_bulk"].min()), ">= 400",
            bool(table["ess_bulk"].min() >= 400)),
        row("min_tail_ess", float(table["ess_tail"].min()), ">= 400",
            bool(table["ess_tail"].min() >= 400)),
        row("divergences", divergent, "= 0", divergent == 0, n=n_draws),
        row("sampled_parameters", n_theta, ">= 8", n_theta >= 8),
        row("min_bfmi", float(bfmi.min()), None, None, n=details["chains"]),
        row("wall_time_with_compilation", wall, "< 600", wall < 600, "s", 1),
        row("gradients_per_draw", details["gradients_draws"] / n_draws, None, None, n=n_draws),
        row("min_ess_per_1000_gradients_of_draws", 1e3 * ess / details["gradients_draws"], None,
            None, n=n_draws),
        row("min_ess_per_1000_gradients_with_warmup", 1e3 * ess / gradients, None, None,
            n=n_draws),
    ]
    for item in rows:
        print(f"{item['name']:<50}{item['value']:>12.4g}  {item['target'] or ''}")
    add_claims(options.out, "main_path", rows)


if __name__ == "__main__":
    main()
