"""A campaign of 200 labels through everything that goes wrong on a cluster, against a quiet one.

    python paper/benchmarks/chaos_campaign.py --out paper/results/dft_side.json

Real processes: a Dask scheduler, workers, a PostgreSQL server with the ledger, a driver. While the
campaign runs, workers are killed at random moments, the scheduler is killed and started again, the
driver is killed (SIGKILL), second drivers are started by mistake (in the same folder, and in
another one with the same name), and the server is stopped as by a power cut and started again. The
oracle (Lennard-Jones with a pause) notes the start and the end of every call in a file that is only
appended to, so that calls are counted independently of the ledger. The quiet campaign calculates in
one process and keeps its ledger in a file.

A calculation that was begun again is explained if the process that had it before died while it
calculated, or before it had put its result on the disk (within a second of the end of the call).
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from claims import add_claims, claim, show

TESTS = Path(__file__).resolve().parents[2] / "tests" / "active"
sys.path.insert(0, str(TESTS))

COMMAND = "python paper/benchmarks/chaos_campaign.py"
NAME = "chaos"


def drive(arguments: argparse.Namespace) -> None:
    """Be a driver (this is the process that gets killed)."""
    from linear_learner import linear_learner, make_pool
    from slow_oracle import SlowOracle

    from bayespot.active import CampaignSettings, run_campaign
    from bayespot.active.executors import WorkerSettings

    oracle = SlowOracle(arguments.calls, delay=arguments.delay)
    batch = arguments.labels // 10
    settings = CampaignSettings(
        seed=5, initial=batch, batch=batch, rounds=9, test_fraction=0.0, max_attempts=50
    )
    workers = WorkerSettings()
    if arguments.scheduler:
        workers = WorkerSettings(kind="dask", address=arguments.scheduler)
    oracle.note("ready")
    run_campaign(
        settings, pool=make_pool(int(1.15 * arguments.labels)), oracle=oracle,
        learner=linear_learner(), folder=arguments.drive, workers=workers,
        server=arguments.server, name=NAME,
    )  # fmt: skip
    oracle.note("finished")


class Stage:
    """The processes of one campaign, and what was done to them."""

    def __init__(self, home: Path, server: Any, n_workers: int, labels: int, delay: float) -> None:
        self.home, self.server, self.labels, self.delay = home, server, labels, delay
        self.folder, self.calls, self.log = home / "campaign", home / "calls", home / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.driver: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes] | None] = [None] * n_workers
        self.killed: dict[str, int] = defaultdict(int)
        # When workers died that we killed, or that went with their scheduler.
        self.died: dict[int, float] = {}
        self.gave_up: list[int] = []
        self.events: list[str] = []

    def tell(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def spawn(self, *words: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(TESTS), str(TESTS.parents[1])])
        environment = os.environ | {"PYTHONPATH": path, "DASK_LOGGING__DISTRIBUTED": "error"}
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [sys.executable, *words], stdout=log, stderr=log, env=environment, cwd=self.home
            )

    def start_scheduler(self) -> None:
        self.scheduler = self.spawn(
            "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
            "--port", str(self.port), "--no-dashboard", "--no-show",
        )  # fmt: skip

    def driver_words(self, folder: Path) -> list[str]:
        return [
            __file__, "--drive", str(folder), "--calls", str(self.calls), "--server",
            self.server.address, "--scheduler", self.address, "--delay", str(self.delay),
            "--labels", str(self.labels),
        ]  # fmt: skip

    def tend(self) -> None:
        """Start what is not running: what a batch system, or a person, does."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.start_scheduler()
        for i, worker in enumerate(self.workers):
            if worker is None or worker.poll() is not None:
                if worker is not None:
                    self.died.setdefault(worker.pid, time.time())
                self.workers[i] = self.spawn(
                    "-m", "distributed.cli.dask_worker", self.address, "--nthreads", "1",
                    "--no-nanny", "--no-dashboard", "--death-timeout", "60",
                )  # fmt: skip
        if self.driver is None or self.driver.poll() is not None:
            if self.driver is not None and self.driver.returncode not in (0, -signal.SIGKILL):
                self.gave_up.append(self.driver.returncode)
                said = [line for line in self.log.read_text().splitlines() if "Error:" in line]
                self.tell(f"the driver gave up: {said[-1:]}")
            if self.driver is None or self.driver.returncode != 0:
                self.driver = self.spawn(*self.driver_words(self.folder))

    def lines(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def ended(self) -> int:
        return len({line.split()[1] for line in self.lines() if line.startswith("end")})

    def driver_is_at_work(self) -> bool:
        """Whether the driver that runs now holds the campaign: past its imports and its opening."""
        from bayespot.active.lock import FolderLock

        holder = FolderLock(self.folder).holder() if self.folder.exists() else None
        running = self.driver is not None and self.driver.poll() is None
        return running and holder is not None and holder.get("pid") == self.driver.pid

    def finished(self) -> bool:
        return self.driver is not None and self.driver.poll() == 0

    # -- what goes wrong ---------------------------------------------------------------------

    def kill_worker(self, rng: np.random.Generator) -> None:
        alive = [w for w in self.workers if w is not None and w.poll() is None]
        if alive:
            victim = alive[int(rng.integers(len(alive)))]
            victim.kill()
            victim.wait()
            self.died[victim.pid] = time.time()
            self.killed["worker"] += 1

    def kill_scheduler(self) -> None:
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()
        self.killed["scheduler"] += 1
        self.tell(f"scheduler killed at {self.ended()} labels")

    def kill_driver(self) -> None:
        assert self.driver is not None
        if self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()
            self.killed["driver"] += 1
            self.tell(f"driver killed at {self.ended()} labels")

    def restart_database(self) -> None:
        self.server.stop("immediate")
        time.sleep(1.0)
        self.server.start()
        self.killed["database"] += 1
        self.tell(f"database restarted at {self.ended()} labels")

    def second_driver(self, folder: Path) -> None:
        """Start one by mistake; it must be refused while the first lives."""
        second = self.spawn(*self.driver_words(folder))
        code = second.wait(timeout=120)
        said = self.log.read_text()
        refused = code != 0 and "is driven by process" in said.splitlines()[-1]
        self.killed["second driver refused" if refused else "second driver NOT refused"] += 1
        self.tell(f"second driver in {folder.name}: exit {code}, refused: {refused}")

    def close(self) -> None:
        for process in (self.driver, *self.workers, self.scheduler):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


def torment(stage: Stage, rng: np.random.Generator, driver_kills: int, seconds: float) -> None:
    """Run the campaign to its end, with all that in between."""
    # Spread over the labels, so that everything happens while there is work, at any speed.
    marks = np.linspace(0.04, 0.92, driver_kills) * stage.labels
    plan = [(mark, stage.kill_driver) for mark in marks]
    plan += [(part * stage.labels, stage.kill_scheduler) for part in (0.21, 0.63)]
    plan += [(part * stage.labels, stage.restart_database) for part in (0.3, 0.77)]
    plan += [(0.12 * stage.labels, lambda: stage.second_driver(stage.folder))]
    plan += [(0.5 * stage.labels, lambda: stage.second_driver(stage.home / "elsewhere"))]
    plan.sort(key=lambda item: item[0])
    next_worker = 2
    deadline = time.monotonic() + seconds
    while not stage.finished():
        if time.monotonic() > deadline:
            raise SystemExit(f"not over after {seconds} s:\n{stage.log.read_text()[-3000:]}")
        stage.tend()
        time.sleep(0.1)
        if stage.ended() >= next_worker:
            time.sleep(rng.uniform(0.0, 2.0 * stage.delay))
            stage.kill_worker(rng)
            next_worker += int(rng.integers(3, 9))
        if plan and stage.driver_is_at_work() and stage.ended() >= plan[0][0]:
            plan.pop(0)[1]()
    if plan:
        raise SystemExit(f"the campaign was over before {len(plan)} of the kills")


def audit(stage: Stage) -> dict[str, int]:
    """Count calls by their own notes: starts, repetitions, and those that no kill explains."""
    starts: dict[str, list[tuple[int, float]]] = defaultdict(list)
    ends: dict[tuple[str, int], float] = {}
    for words in map(str.split, stage.lines()):
        if words[0] == "start":
            starts[words[1]].append((int(words[2]), float(words[3])))
        elif words[0] == "end":
            ends[words[1], int(words[2])] = float(words[3])
    again = after_end = unexplained = 0
    for key, calls in starts.items():
        for process, begun in calls[:-1]:
            again += 1
            died, end = stage.died.get(process), ends.get((key, process))
            after_end += end is not None
            latest = begun + 60.0 if end is None else end + 1.0
            unexplained += died is None or not begun <= died <= latest
    return {
        "starts": sum(map(len, starts.values())), "labels": len(starts), "again": again,
        "after_end": after_end, "unexplained": unexplained,
    }  # fmt: skip


def quiet(home: Path, labels: int) -> Path:
    """Run the undisturbed campaign; its folder."""
    folder = home / "quiet"
    words = ["--drive", str(folder), "--calls", str(home / "quiet_calls"), "--delay", "0.0"]
    subprocess.run(
        [sys.executable, __file__, *words, "--labels", str(labels)], check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parents[1])])},
    )  # fmt: skip
    return folder


def measure(arguments: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    """Run both campaigns and compare them."""
    from postgres import PostgresServer

    from bayespot.active import Ledger
    from bayespot.data.read import read

    reference = quiet(home, arguments.labels)
    server = PostgresServer()
    stage = Stage(home, server, arguments.workers, arguments.labels, arguments.delay)
    begin = time.monotonic()
    try:
        rng = np.random.default_rng(arguments.seed)
        torment(stage, rng, arguments.driver_kills, arguments.limit)
        seconds = time.monotonic() - begin
        mine, other = Ledger.read(stage.folder), Ledger.read(reference)
        differing = sum(a != b for a, b in zip(mine.content(), other.content(), strict=True))
        prints = set()
        for ledger in (mine, other):  # geometry, labels, families and their order
            ledger.export(home / "labels.xyz")
            prints.add(read(home / "labels.xyz").fingerprint())
        lost = arguments.labels - mine.counts()["done"]
        known = {entry.key for entry in mine.entries()}
    finally:
        stage.close()
        server.close()
    calls = audit(stage)
    print(f"{seconds:.0f} s, {dict(stage.killed)}, {calls}", flush=True)
    n, killed = arguments.labels, stage.killed

    def row(name: str, value: float, target: str, count: int = n) -> dict[str, Any]:
        return claim(f"chaos_{name}", value, target, n=count, unit="1", command=COMMAND)

    return [
        row("labels_asked", len(known), f">= {n}"),
        row("driver_kills", killed["driver"], f">= {arguments.driver_kills}"),
        row("worker_kills", killed["worker"], ">= 20"),
        row("scheduler_restarts", killed["scheduler"], ">= 1"),
        row("database_restarts", killed["database"], ">= 1"),
        row("second_drivers_not_refused", killed["second driver NOT refused"], "<= 0", 2),
        row("drivers_that_gave_up", len(stage.gave_up), "<= 0", killed["driver"] + 1),
        row("labels_lost", lost, "<= 0"),
        row("calculated_again", calls["again"], f"<= {len(stage.died)}"),
        row("calculated_again_without_a_kill", calls["unexplained"], "<= 0", calls["starts"]),
        row("ledger_rows_that_differ", differing, "<= 0"),
        row("exported_data_sets_that_differ", len(prints) - 1, "<= 0", 1),
    ]


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--driver-kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--delay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds")
    parser.add_argument("--out", type=Path, default=None)
    for hidden in ("--drive", "--calls", "--server", "--scheduler"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(arguments)
        return
    with tempfile.TemporaryDirectory() as home:
        claims = measure(arguments, Path(home))
    show(claims)
    if arguments.out is not None:
        add_claims(arguments.out, "dft_side", claims)


if __name__ == "__main__":
    main()
