"""How fast the error falls: chosen orders against random order, several seeds.

Usage: python paper/benchmarks/demo_curves.py [--first 5] [--seeds 10] [--rules ...] [--work FOLDER]

For every seed one campaign by each rule, on the committed GPAW silicon archive: the same test set,
the same first structures, Stillinger-Weber by NUTS after every batch. The mark is the force error
on the test set of a fit to the whole pool of that seed. A run has reached the mark when its error
is within `MARGIN` of it and stays there; the count of labels is the claim.

The rule of the demo, information matching, was chosen by seeds 0 to 4 with all four rules (of which
acquisition_rules.py on public sets would have taken max_std). The claims are about the seeds that
came after, from `HELD_OUT` on, with other test sets and other first structures of the same archive.
Curves of all seeds go to paper/results/demo_curves.json, claims to paper/results/main_path.json.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
from claims import add_claims, claim

import bayespot
from bayespot.active.campaign import CampaignSettings, run_campaign
from bayespot.active.learner import potential_learner
from bayespot.data.archives import archive_path
from bayespot.oracles import ArchiveOracle

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "paper" / "results"
ARCHIVE = "silicon_gpaw_pbe"
CHOSEN = "information_matching"
RULES = (CHOSEN, "random", "information_gain", "max_std")
HELD_OUT = 5
"""Seeds from here on took no part in the choice of the rule."""
MARGIN = 1.05
"""Reached means a force RMSE at most this many times that of the fit to the whole pool. Fixed
before the first run."""


def labels_to_mark(curve: list[dict], mark: float) -> float:
    """Labels after which the force error stays within MARGIN of ``mark``; inf if never."""
    reached = np.inf
    for row in reversed(curve):
        if row["forces_rmse"] > MARGIN * mark:
            break
        reached = row["n_labels"]
    return reached


def one_seed(seed: int, options: argparse.Namespace, work: Path) -> dict:
    """Both campaigns and the fit to the whole pool."""
    pool = bayespot.read(ARCHIVE)
    floor = bayespot.NoiseFloor.from_json(archive_path(ARCHIVE) / "floor.json")
    potential = bayespot.StillingerWeber.silicon_1985()
    fit = {"chains": options.chains, "warmup": options.warmup, "draws": options.draws, "starts": 4}
    # As in the demo, without the discrepancy that the demo has.
    problem = {"floor": floor, "fixed": {"r_c": 3.77118, "q": 0.0}, "misfit": "none"}
    learner = potential_learner(potential, method="nuts", problem=problem, **fit)
    record: dict = {"seed": seed, "curves": {}, "labels": {}}
    for rule in options.rules:
        folder = work / f"{rule}_{seed}"
        settings = CampaignSettings(
            seed=seed, initial=options.initial, batch=options.batch, rounds=options.rounds,
            acquisition=rule, allow_unconverged=True,
        )
        run_campaign(settings, pool=pool, oracle=ArchiveOracle(pool), learner=learner,
                     folder=folder, progress=None)
        plan = json.loads((folder / "plan.json").read_text())
        rows = [
            json.loads(path.read_text()) for path in sorted(folder.glob("round_*/evaluation.json"))
        ]
        record["curves"][rule] = [
            {"n_labels": row["n_labels"], "converged": row["converged"], **_errors(row["test"])}
            for row in rows
        ]
        print(seed, rule, [(r["n_labels"], round(r["forces_rmse"], 4))
                           for r in record["curves"][rule]], flush=True)
    whole = bayespot.FitProblem(potential, pool[np.array(plan["candidates"])], **problem)
    posterior = bayespot.nuts(whole, key=jax.random.key(seed), progress=False, **fit)
    test = pool[np.array(plan["test"])]
    prediction = bayespot.predict(posterior, test, allow_unconverged=True)
    truth = np.concatenate([label.forces for label in test.labels])
    record["mark"] = float(np.sqrt(np.mean((prediction.forces - truth) ** 2)))
    record["pool"] = len(plan["candidates"])
    for rule, curve in record["curves"].items():
        record["labels"][rule] = labels_to_mark(curve, record["mark"])
    print(seed, "mark", record["mark"], "of", record["pool"], record["labels"], flush=True)
    return record


def _errors(test: dict) -> dict:
    return {f"{q}_rmse": test["rmse"][q] for q in ("energy", "forces", "stress")}


def main() -> None:
    """Run all seeds, write curves and claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=HELD_OUT)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rules", nargs="+", choices=RULES, default=[CHOSEN, "random"])
    parser.add_argument("--initial", type=int, default=6)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--work", default="demo_curves_work")
    options = parser.parse_args()
    bayespot.configure()
    began, work = time.perf_counter(), Path(options.work)
    last = options.first + options.seeds
    records = [one_seed(seed, options, work) for seed in range(options.first, last)]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "demo_curves.json"
    earlier = json.loads(path.read_text())["seeds"] if path.exists() else []
    new = [{**r, "labels": {k: None if np.isinf(v) else v for k, v in r["labels"].items()}}
           for r in records]
    kept = [r for r in earlier if not options.first <= r["seed"] < last]
    path.write_text(json.dumps({
        "margin": MARGIN, "longest": options.initial + options.batch * options.rounds,
        "held_out_from": HELD_OUT, "seconds": time.perf_counter() - began,
        "seeds": sorted(kept + new, key=lambda r: r["seed"]),
    }, indent=1))
    write_claims(
        f"python paper/benchmarks/demo_curves.py --first {options.first} --seeds {options.seeds} "
        f"--initial {options.initial} --batch {options.batch} --rounds {options.rounds} "
        f"--warmup {options.warmup} --draws {options.draws} --chains {options.chains}"
    )


def write_claims(command: str) -> None:
    """Claims from the curves. A run that never arrives counts as one label more than it bought."""
    content = json.loads((RESULTS / "demo_curves.json").read_text())
    never = content["longest"] + 1
    held = [r for r in content["seeds"] if r["seed"] >= HELD_OUT]
    labels = {
        rule: np.array([r["labels"][rule] or never for r in held], float)
        for rule in RULES if all(rule in r["labels"] for r in held)
    }
    medians = {rule: float(np.median(v)) for rule, v in labels.items()}
    ratio = medians[CHOSEN] / medians["random"]
    rows = [
        claim("labels_chosen_over_random", ratio, "<= 0.5", n=len(held), unit="1",
              command=command, low=ratio if medians[CHOSEN] == never else None),
    ]
    for rule, counts in labels.items():
        rows.append({
            "name": f"labels_to_mark_{rule}", "value": medians[rule], "low": float(counts.min()),
            "high": None if counts.max() == never else float(counts.max()), "n": len(held),
            "target": None, "passed": None, "unit": "labels", "command": command,
        })
    add_claims(RESULTS / "main_path.json", "main_path", rows)
    print({rule: v.tolist() for rule, v in labels.items()}, "ratio of medians", ratio)


if __name__ == "__main__":
    main()
