"""Simulation-based calibration of five forms: ranks of the truth among posterior draws.

    python paper/benchmarks/simulation_based_calibration.py --keep ranks.jsonl \
        --out paper/results/calibration.json
    python paper/benchmarks/simulation_based_calibration.py morse --replicates 20 --keep ranks.jsonl

Cases and the test of uniformity are those of tests/inference/calibration.py. Every replicate is
added to the file of ``--keep`` when it is done; a run that starts again goes on from there, and
``--replicates 0`` only counts what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "inference"))

import calibration
from claims import add_claims, claim, show

from bayespot.scoring import wilson_interval

COMMAND = (
    "python paper/benchmarks/simulation_based_calibration.py {} --replicates {} --keep ranks.jsonl"
)


def kept(path: Path, name: str) -> dict[int, calibration.Replicate]:
    """Replicates of a case in the file, by seed."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        row = json.loads(line)
        case, seed = row.pop("case"), row.pop("seed")
        if case == name:
            found[seed] = calibration.Replicate(**row)
    return found


def sample(path: Path, name: str, replicates: int, minutes: float) -> None:
    """Add replicates to the file until there are enough, or the time is over."""
    done, began = kept(path, name), time.perf_counter()
    for seed in range(replicates):
        if time.perf_counter() - began > 60 * minutes:
            break
        if seed in done:
            continue
        one = calibration.replicate(name, seed)
        row = {"case": name, "seed": seed, **asdict(one)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if (seed + 1) % 20 == 0:
            seconds = time.perf_counter() - began
            print(f"{name}: {seed + 1} of {replicates}, {seconds:.0f} s", flush=True)


def rows_of(name: str, found: dict[int, calibration.Replicate]) -> list[dict[str, Any]]:
    """The claims of one case; p values by quantity are printed."""
    results = [found[seed] for seed in sorted(found)]
    n, command = len(results), COMMAND.format(name, len(results))
    p = calibration.p_values(results)
    print(f"{name}: " + ", ".join(f"{q} {value:.3f}" for q, value in p.items()))
    shares = {
        "replicates with divergences": [one.diverged for one in results],
        "replicates with too few effective draws": [one.short for one in results],
    }
    rows = [claim(f"sbc {name}: family-wise p", calibration.family_wise(p), ">= 0.05", n=n,
                  unit="1", command=command)]  # fmt: skip
    if calibration.case_of(name).linear:
        return rows  # exact draws neither diverge nor depend on each other
    for what, which in shares.items():
        low, high = wilson_interval(sum(which), n)
        rows.append(claim(f"sbc {name}: share of {what}", sum(which) / n, "<= 0.05", n=n, unit="1",
                          command=command, low=low, high=high))  # fmt: skip
    return rows


def main() -> None:
    """Sample, count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(calibration.CASES)}; all")
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="most for each case")
    parser.add_argument("--keep", type=Path, required=True, help="file of ranks, JSON lines")
    parser.add_argument("--out", type=Path, default=None, help="results file to merge rows into")
    arguments = parser.parse_args()
    import bayespot

    bayespot.configure()
    rows = []
    for name in arguments.cases or calibration.CASES:
        sample(arguments.keep, name, arguments.replicates, arguments.minutes)
        if found := kept(arguments.keep, name):
            rows += rows_of(name, found)
    show(rows)
    if arguments.out is not None:
        add_claims(arguments.out, "calibration", rows)


if __name__ == "__main__":
    main()
