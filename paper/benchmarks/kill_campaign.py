"""kill -9 a campaign at random moments, continue it, and compare it with an undisturbed one.

    python paper/benchmarks/kill_campaign.py --oracle archive --out paper/results/kill.json
    python paper/benchmarks/kill_campaign.py --oracle gpaw --out paper/results/kill.json

The campaign is a real one: Stillinger-Weber silicon, a fit each round, the greedy choice by
information. Its oracle notes every call in a file that is only appended to, so that calls can be
counted independently of the ledger. A run that ends before it could be killed is compared and a
new one is begun, until the asked number of kills has hit a living campaign.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

GPAW = {
    "mode": {"name": "pw", "ecut": 200},
    "xc": "PBE",
    "kpts": {"density": 1.5, "gamma": True},
    "occupations": {"name": "fermi-dirac", "width": 0.1},
}


class NotedOracle:
    """Passes calls on and writes them down, one line before and one after."""

    def __init__(self, inner: Any, calls: str) -> None:
        self._inner, self.name, self.settings = inner, inner.name, inner.settings
        self._handle = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, text: str) -> None:
        os.write(self._handle, f"{text}\n".encode())

    def label(self, structure: Any) -> Any:
        from bayespot.oracles import calculation_key

        key = calculation_key(structure, self.settings)
        self.note(f"start {key}")
        if self.name == "archive":
            time.sleep(0.2)  # so that kills also hit calculations
        result = self._inner.label(structure)
        self.note(f"end {key}")
        return result


def live_pool(n: int = 30) -> Any:
    """Strained and rattled two-atom silicon cells: a second or two of GPAW each."""
    from ase.build import bulk

    from bayespot.data.dataset import Dataset

    rng = np.random.default_rng(0)
    structures = []
    for i in range(n):
        atoms = bulk("Si", "diamond", a=5.47)
        strain = np.eye(3) + rng.uniform(-0.06, 0.06, (3, 3))
        atoms.set_cell(atoms.cell.array @ (0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.rattle(0.05, seed=i)
        structures.append(atoms)
    return Dataset.from_atoms(structures, families=["strained"] * n, source="kill_campaign")


def drive(arguments: argparse.Namespace) -> None:
    """Be the campaign (this is the process that gets killed)."""
    import bayespot
    from bayespot.active import CampaignSettings, potential_learner, run_campaign
    from bayespot.oracles import make_oracle

    bayespot.configure()
    if arguments.oracle == "gpaw":
        pool = live_pool()
        inner = make_oracle("gpaw", GPAW)
    else:
        pool = bayespot.read("silicon_gpaw_pbe")
        pool = pool[pool.atom_counts <= 16]
        inner = make_oracle("archive", archive=pool)
    oracle = NotedOracle(inner, arguments.calls)
    settings = CampaignSettings(
        seed=arguments.seed,
        initial=5,
        batch=arguments.batch,
        rounds=arguments.rounds,
        allow_unconverged=True,  # the chains are short: this is about kills
    )
    learner = potential_learner(
        bayespot.StillingerWeber(species=("Si",)),
        method=arguments.method, warmup=200, draws=200, starts=4, problem={"misfit": "none"},
    )  # fmt: skip
    oracle.note("ready")
    run_campaign(settings, pool=pool, oracle=oracle, learner=learner, folder=arguments.child)
    oracle.note("finished")


class Run:
    """One campaign, driven by processes that may be killed."""

    def __init__(self, home: Path, arguments: argparse.Namespace) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.folder, self.calls, self.log = home / "campaign", home / "calls", home / "log"
        self.arguments = arguments
        self.settled: set[str] = set()
        self.lost = self.twice = 0
        self.process: subprocess.Popen[bytes] | None = None

    def lines(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def start(self) -> None:
        """Start the driver and wait until its imports are over."""
        known = self.lines()
        self.before = len(known)
        command = [sys.executable, __file__, "--child", str(self.folder), "--calls"]
        command += [str(self.calls), "--oracle", self.arguments.oracle]
        command += ["--method", self.arguments.method, "--seed", str(self.arguments.seed)]
        command += ["--batch", str(self.arguments.batch), "--rounds", str(self.arguments.rounds)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while self.lines().count("ready") == known.count("ready"):
            if self.process.poll() is not None:
                raise SystemExit(f"the driver failed:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.02)

    def stop(self, after: float | None) -> bool:
        """SIGKILL after some seconds (None: wait for the end); True if it was killed alive."""
        assert self.process is not None
        try:
            code = self.process.wait(after)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            code = None
        if code:
            raise SystemExit(f"the driver failed:\n{self.log.read_text()[-3000:]}")
        self._audit()
        return code is None

    def phase(self) -> str:
        """Say what the campaign was doing, by the files it left."""
        from bayespot.active import status

        if not (self.folder / "campaign.json").exists():
            return "starting"
        state = status(self.folder)
        running = ", one running" if state["counts"]["running"] else ""
        return f"{state['phase']}{running}"

    def _audit(self) -> None:
        """Count labels that disappeared and finished calculations that were started again."""
        from bayespot.active import Ledger

        started = [x.split()[1] for x in self.lines()[self.before :] if x.startswith("start")]
        self.twice += sum(key in self.settled for key in started)
        now: set[str] = set()
        if (self.folder / "ledger.db").exists():
            states = Ledger.read(self.folder).states()
            now = {key for key, state in states.items() if state in ("done", "failed")}
        self.lost += len(self.settled - now)
        self.settled = now


def compare(run: Run, reference: Run) -> tuple[bool, float]:
    """Whether the ledgers are equal, and the largest difference of an energy (eV)."""
    from bayespot.active import Ledger

    mine, other = (Ledger.read(r.folder).content() for r in (run, reference))
    names = ("key", "state", "round", "role", "index")
    same = [[row[n] for n in names] for row in mine] == [[row[n] for n in names] for row in other]
    gaps = [
        abs(a["energy"] - b["energy"])
        for a, b in zip(mine, other, strict=False)
        if a["energy"] is not None and b["energy"] is not None
    ]
    return same, max(gaps, default=0.0)


def measure(arguments: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    """Undisturbed campaign, killed campaigns, claims."""
    reference = Run(home / "undisturbed", arguments)
    reference.start()
    begin = time.monotonic()
    reference.stop(None)
    seconds = time.monotonic() - begin
    print(f"undisturbed: {seconds:.0f} s, {len(reference.settled)} labels", flush=True)
    rng = np.random.default_rng(arguments.seed)
    runs: list[Run] = []
    verdicts: list[tuple[bool, float]] = []
    kills, finished = 0, True
    while kills < arguments.kills or not finished:
        if finished:
            runs.append(Run(home / f"killed_{len(runs)}", arguments))
        runs[-1].start()
        moment = rng.uniform(0, seconds / 4) if kills < arguments.kills else None
        finished = not runs[-1].stop(moment)
        if finished:
            verdicts.append(compare(runs[-1], reference))
            print(f"continued to the end: ledger equal {verdicts[-1][0]}", flush=True)
        else:
            kills += 1
            print(
                f"kill {kills} after {moment:.1f} s while {runs[-1].phase()}: "
                f"{len(runs[-1].settled)} labels kept",
                flush=True,
            )
    prefix = f"kill_{arguments.oracle}"
    command = f"python paper/benchmarks/kill_campaign.py --oracle {arguments.oracle}"
    unequal = sum(not same for same, _ in verdicts)
    gap = max(gap for _, gap in verdicts)

    def claim(name: str, value: float, target: str, passed: bool, n: int, unit: str = "1") -> dict:
        return {
            "name": f"{prefix}_{name}", "value": value, "low": None, "high": None, "n": n,
            "target": target, "passed": passed, "unit": unit, "command": command,
        }  # fmt: skip

    lost, twice = sum(r.lost for r in runs), sum(r.twice for r in runs)
    return [
        claim("kills", kills, f">= {arguments.kills}", kills >= arguments.kills, kills),
        claim("labels_lost", lost, "0", lost == 0, kills),
        claim("calculated_twice", twice, "0", twice == 0, kills),
        claim("ledgers_that_differ", unequal, "0", unequal == 0, len(verdicts)),
        claim("energy_difference", gap, "<= 1e-6", gap <= 1e-6, len(reference.settled), "eV"),
    ]


def write(path: Path, claims: list[dict[str, Any]]) -> None:
    """Write the claims; rows of the same name that are in the file already are replaced."""
    names = {claim["name"] for claim in claims}
    if path.exists():
        old = json.loads(path.read_text())["claims"]
        claims = [claim for claim in old if claim["name"] not in names] + claims
    packages = ("bayespot", "jax", "numpyro", "numpy", "ase", "gpaw")
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    content = {
        "topic": "main_path", "versions": versions, "cores": os.cpu_count(), "commit": commit,
        "claims": claims,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--oracle", choices=("archive", "gpaw"), default="archive")
    parser.add_argument("--method", choices=("laplace", "nuts"), default="laplace")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--calls", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        drive(arguments)
        return
    with tempfile.TemporaryDirectory() as home:
        claims = measure(arguments, Path(home))
    for claim in claims:
        mark = "ok  " if claim["passed"] else "MISS"
        print(f"{mark} {claim['name']} = {claim['value']} (target {claim['target']})")
    if arguments.out is not None:
        write(arguments.out, claims)


if __name__ == "__main__":
    main()
