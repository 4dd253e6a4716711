"""A campaign whose code fails in 12 ways on 30 % of the structures, and what became of each one.

    python paper/benchmarks/fault_campaign.py --out paper/results/dft_side.json

The code is a stand-in for pw.x (tests/oracles/stand_in.py) with Lennard-Jones labels: it reads
pw.x's input, writes pw.x's output, and on part of the structures, drawn by a hash with a seed, it
fails for real: signals, endless sleep, memory that grows, full devices, outputs that break off,
JOB DONE without convergence, numbers that are none. Half of those structures fail once, the other
half always. It notes every call, one file a structure, which is what the ledger is compared with.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.espresso import Espresso, EspressoProfile
from claims import add_claims, claim, show

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "active"), str(ROOT / "tests" / "oracles")]

from linear_learner import fit, linear_learner, make_pool  # noqa: E402
from stand_in import KINDS, RECORDED, lennard_jones, output, read_input  # noqa: E402

from bayespot.active import CampaignSettings, Ledger, run_campaign  # noqa: E402
from bayespot.data.dataset import Dataset  # noqa: E402
from bayespot.oracles import Oracle, make_oracle  # noqa: E402

COMMAND = "python paper/benchmarks/fault_campaign.py"
SETTINGS = {
    "input_data": {"ecutwfc": 20, "occupations": "smearing", "degauss": 0.01},
    "pseudopotentials": {"Ar": "Ar.upf"},
    "kpts": {"density": 2.0, "gamma": True},
}


def oracle_of(home: Path, *words: str, **run: Any) -> Oracle:
    """An espresso oracle around the stand-in."""
    (home / "pseudo").mkdir(exist_ok=True)
    (home / "pseudo" / "Ar.upf").write_text("not read by the stand-in\n")
    (home / "scratch").mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "tests" / "oracles" / "stand_in.py"), *words]
    run = {"command": command, "pseudo_dir": str(home / "pseudo"),
           "scratch": str(home / "scratch"), **run}  # fmt: skip
    return make_oracle("espresso", SETTINGS, run=run)


class Clean:
    """Labels without failures, oracle and ladder: ASE writes and reads, the stand-in is called."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "clean"
        self._folder.mkdir()
        self._pseudo = home / "pseudo"

    def __call__(self, structure: Atoms) -> tuple[float, np.ndarray]:
        data = {"control": {"tprnfor": True, "tstress": True}, **SETTINGS["input_data"]}
        calculator = Espresso(
            profile=EspressoProfile(command="pw.x", pseudo_dir=self._pseudo),
            directory=self._folder, input_data=data, kpts=(1, 1, 1),
            pseudopotentials=SETTINGS["pseudopotentials"],
        )  # fmt: skip
        calculator.write_inputfiles(structure, ["energy"])
        cell, symbols, positions = read_input((self._folder / "espresso.pwi").read_text())
        text = output(cell, symbols, positions, *lennard_jones(cell, positions))
        (self._folder / "espresso.pwo").write_text(text)
        results = calculator.template.read_results(self._folder)
        return results["free_energy"], results["forces"]


class Watched:
    """Fits as the learner does, and keeps what it was given."""

    def __init__(self) -> None:
        self.seen: dict[bytes, tuple[float, np.ndarray]] = {}

    def __call__(self, dataset: Dataset, **more: Any) -> Any:
        for structure, labels in zip(dataset.structures, dataset.labels, strict=True):
            self.seen[structure.positions.tobytes()] = (labels.energy, labels.forces)
        return fit(dataset, **more)


def campaign(arguments: argparse.Namespace, home: Path) -> tuple[Ledger, Watched, str]:
    """Run it to its end."""
    logs = home / "logs"
    logs.mkdir()
    oracle = oracle_of(
        home, "--rate", str(arguments.rate), "--seed", str(arguments.seed), "--log", str(logs),
        time_limit=arguments.time_limit, memory_limit=700.0,
    )  # fmt: skip
    rounds = 5
    batch = arguments.labels // (rounds + 1)
    settings = CampaignSettings(
        seed=0, initial=arguments.labels - rounds * batch, batch=batch, rounds=rounds,
        test_fraction=0.0, acquisition="random",
    )  # fmt: skip
    watched = Watched()
    run_campaign(
        settings, pool=make_pool(arguments.labels), oracle=oracle,
        learner=linear_learner(fit=watched), folder=home / "campaign",
        progress=lambda event: print(event.message[:160], f"{event.done}/{event.total}", flush=True)
        if event.phase == "label"
        else None,
    )  # fmt: skip
    return Ledger.read(home / "campaign"), watched, (home / "campaign" / "summary.md").read_text()


def measure(arguments: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    """Compare the ledger with the notes of the stand-in, and the labels with clean ones."""
    ledger, watched, summary = campaign(arguments, home)
    entries = ledger.entries()
    notes = [
        [RECORDED[kind] for kind in path.read_text().split() if kind != "None"]
        for path in (home / "logs").iterdir()
    ]
    injected_ways = Counter(
        kind for path in (home / "logs").iterdir() for kind in set(path.read_text().split())
    )
    injected_ways.pop("None", None)
    recorded = [
        [one["kind"] for one in e.data["tried"]] if e.result is None
        else [one["kind"] for one in e.result.metadata["attempts"]]
        for e in entries
    ]  # fmt: skip
    injected, found = (Counter(k for row in rows for k in row) for rows in (notes, recorded))
    apart = sum(abs(injected[kind] - found[kind]) for kind in injected | found)
    sequences = Counter(map(tuple, notes))
    sequences.subtract(Counter(map(tuple, recorded)))
    clean = Clean(home)
    gap, in_fit, bad = 0.0, 0, 0
    done = [e for e in entries if e.result is not None]
    for e in done:
        energy, forces = clean(e.structure)
        gap = max(gap, abs(energy - e.result.energy), np.abs(forces - e.result.forces).max())
        fitted = watched.seen.pop(e.structure.positions.tobytes(), None)
        if fitted is not None:
            in_fit += 1
            bad += fitted[0] != energy or bool((fitted[1] != forces).any())
    bad += len(watched.seen)  # what was fitted and is no label of the ledger
    failed = [e for e in entries if e.state == "failed"]
    unsaid = sum(str(e.data["reason"]).splitlines()[0] not in summary for e in failed)
    faulty = sum(bool(row) for row in notes)
    cured = sum(bool(e.result.metadata["attempts"]) for e in done)
    left = len(list((home / "scratch").iterdir()))
    n, attempts = len(entries), sum(injected.values())
    print("injected", dict(injected), "recorded", dict(found), "ways", dict(injected_ways))
    print(f"{n} asked, {len(done)} done ({cured} of them after failures), {len(failed)} failed")

    def row(name: str, value: float, target: str, n: int, unit: str = "1") -> dict[str, Any]:
        return claim(f"fault_{name}", value, target, n=n, unit=unit, command=COMMAND)

    return [
        row("ways_to_fail", len(injected_ways), f"== {len(KINDS)}", faulty),
        row("structures_that_fail", faulty / n, ">= 0.2", n),
        row("cured_by_the_ladder", cured, ">= 1", faulty),
        row("set_aside", len(failed), ">= 1", faulty),
        row("unfinished", n - len(done) - len(failed), "== 0", n),
        row("attempts_not_accounted_for", apart, "== 0", attempts),
        row("histories_that_differ", sum(abs(v) for v in sequences.values()), "== 0", n),
        row("labels_from_the_clean_ones", gap, "<= 1e-12", len(done), "eV, eV/A"),
        row("bad_labels_in_the_fit", bad, "== 0", in_fit),
        row("reasons_missing_in_the_summary", unsaid, "== 0", len(failed)),
        row("scratch_left", left, "== 0", attempts + n),
    ]


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-limit", type=float, default=30.0)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        rows = measure(arguments, Path(home))
    show(rows)
    if arguments.out is not None:
        add_claims(arguments.out, "dft_side", rows)


if __name__ == "__main__":
    main()
