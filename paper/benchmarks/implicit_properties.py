"""Expansion around the mean against relaxing every draw: silicon of the published posterior.

Usage: python paper/benchmarks/implicit_properties.py [--draws N] [--only NAME ...]

The published model holds 400 draws; here they are N of the Gaussian with their mean and covariance
(in the coordinates of the sampler). Each property of the same draws is found by
`bayespot.properties.propagation` as it chooses, its own check and relaxed draws included, to first
order, and exactly, in turns on fresh surfaces, after runs that compile; the time is CPU time.
Errors are of all draws, over the standard deviation of the exact values; those of first order stand
beside those of what was chosen. Beta-tin is a case that is refused: in some of its volumes the
mean's crystal is held by symmetry alone.

Claims go to paper/results/properties.json, the table to implicit_properties.json.
"""

# ruff: noqa: E402  (threads and the cache are configured before anything is compiled)
import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]

import numpy as np
from ase import Atoms
from ase.build import bulk
from claims import add_claims, claim, show

import bayespot

bayespot.configure()

from bayespot.properties import (
    DrawSurfaces,
    Result,
    elastic,
    equation_of_state,
    interstitial,
    lattice,
    stacking_fault,
    surface_energy,
    transition_pressure,
    vacancy,
)
from bayespot.properties.propagation import Propagation

COMMAND = "python paper/benchmarks/implicit_properties.py"
RESULTS = ROOT / "paper" / "results"
MODEL = ROOT / "models" / "silicon-stillinger_weber-gpaw_pbe-2026" / "posterior.nc"
DIAMOND = bulk("Si", "diamond", a=5.45)
BETA_TIN = Atoms("Si4", cell=[4.83, 4.83, 2.66], pbc=True, scaled_positions=[
    [0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.25], [0.5, 0, 0.75]])  # fmt: skip

Call = Callable[[Propagation], Result]
WORK: dict[str, Call] = {
    "lattice": lambda p: p.result(lattice, DIAMOND),
    "elastic": lambda p: p.result(elastic, DIAMOND),
    "equation of state": lambda p: p.result(equation_of_state, DIAMOND),
    "vacancy": lambda p: p.result(vacancy, DIAMOND, starts=1, sizes=(2,)),
    "interstitial": lambda p: p.result(
        interstitial, DIAMOND, position=(0.5, 0.5, 0.5), sizes=(2,)
    ),
    "surface (111)": lambda p: p.result(surface_energy, DIAMOND, miller=(1, 1, 1), cut=0.5),
    "surface (100) 2x1": lambda p: p.result(
        surface_energy, DIAMOND, miller=(1, 0, 0), repeat=(2, 1), pairing=0.7
    ),
    "shuffle fault": lambda p: p.result(
        stacking_fault, DIAMOND, layers=(9, 12), spacing="wide"
    ),
    "diamond to beta-tin": lambda p: p.result(transition_pressure, DIAMOND, BETA_TIN),
}


def row(name: str, value: float, target: str, n: int, unit: str = "1") -> dict:
    return claim(name, value, target, n=n, unit=unit, command=COMMAND)


def measured(call: Call, make: Callable[[str], Propagation], draws: int) -> dict:
    """Results and CPU times of what is chosen and of relaxing, in turns."""
    results = {"auto": call(make("auto"))}
    choice = results["auto"].choice
    if choice.how == "exact":  # every draw is relaxed
        return {"chosen": False, "draws": draws, "why": choice.why, "checked": dict(choice.errors),
                "quantities": {}}  # fmt: skip
    results |= {way: call(make(way)) for way in ("linear", "exact")}
    times: dict[str, list[float]] = {"auto": [], "exact": []}
    for way in ("auto", "exact", "auto"):
        propagation = make(way)
        start = time.process_time()
        call(propagation)
        times[way].append(time.process_time() - start)
    seconds = {way: float(np.mean(of)) for way, of in times.items()}
    exact, table = results["exact"], {}
    for name, quantity in exact.quantities.items():
        good = np.isfinite(quantity.values)
        spread = quantity.values[good].std(ddof=1)
        table[name] = {"spread": float(spread), "draws": int(good.sum())}
        for way in ("auto", "linear"):
            made = results[way][name].values
            off = np.abs(made - quantity.values)[good] / spread
            table[name][way] = {
                "ratio of spreads": float(made.std(ddof=1) / spread),
                "rms": float(np.sqrt(np.mean(off**2))), "95 %": float(np.quantile(off, 0.95)),
                "largest": float(off.max()), "checked": results[way].choice.errors[name],
            }  # fmt: skip
    return {
        "chosen": True, "how": choice.how, "draws": draws, "problems": exact.problems,
        "why": choice.why, "seconds": seconds, "faster": seconds["exact"] / seconds["auto"],
        "quantities": table,
    }  # fmt: skip


def claims_of(tables: dict[str, dict]) -> list[dict]:
    """What holds of all properties that the check would choose, and of each its gain in time."""
    chosen = {name: t for name, t in tables.items() if t["chosen"]}
    rows = [row("silicon, share of properties for which an expansion is chosen",
                len(chosen) / len(tables), ">= 0.5", len(tables))]  # fmt: skip
    quantities = [q["auto"] for t in chosen.values() for q in t["quantities"].values()]
    for key, name in (("rms", "rms over draws"), ("95 %", "95th percentile of draws"),
                      ("largest", "worst draw")):  # fmt: skip
        rows.append(row(f"silicon, expansion where chosen: {name} off the exact one, over the "
                        "spread, worst quantity", max(q[key] for q in quantities), "<= 0.2",
                        len(quantities)))  # fmt: skip
    for of, limit in ((min, ">= 0.9"), (max, "<= 1.1")):
        rows.append(row(f"silicon, expansion where chosen: {of.__name__} ratio of spreads",
                        of(q["ratio of spreads"] for q in quantities), limit,
                        len(quantities)))  # fmt: skip
    rows.append(row("silicon, expansion where chosen: least gain in CPU time, check included",
                    min(t["faster"] for t in chosen.values()), ">= 10",
                    min(t["draws"] for t in chosen.values())))  # fmt: skip
    return rows + [
        row(f"silicon, {name}: CPU time of relaxed draws over expansion with its check",
            table["faster"], ">= 10", table["draws"])
        for name, table in tables.items() if "faster" in table
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--only", nargs="+", choices=list(WORK), default=list(WORK))
    given = parser.parse_args()
    posterior = bayespot.Posterior.load(MODEL)
    u = posterior.u
    normal = np.random.default_rng(0).multivariate_normal(
        u.mean(axis=0), np.cov(u, rowvar=False), given.draws
    )
    potentials = posterior.space.potential(normal)
    path = RESULTS / "implicit_properties.json"
    tables = json.loads(path.read_text(encoding="utf-8"))["tables"] if path.exists() else {}
    for name in given.only:
        tables[name] = measured(
            WORK[name], lambda way: Propagation(DrawSurfaces(potentials), way), given.draws
        )
        content = json.dumps({"tables": tables}, indent=1, ensure_ascii=False)
        path.write_text(content + "\n", encoding="utf-8")
        print(name, json.dumps(tables[name], ensure_ascii=False), flush=True)
    rows = claims_of({name: tables[name] for name in WORK if name in tables})
    show(rows)
    add_claims(RESULTS / "properties.json", "properties", rows)


if __name__ == "__main__":
    main()
