"""kill -9 at random moments: nothing is lost, nothing is calculated twice, the end is the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bayespot.active import Ledger, status

DRIVER = Path(__file__).with_name("kill_driver.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


class Drive:
    """The driver as a process, and the file in which its oracle notes every call."""

    def __init__(self, home: Path) -> None:
        self.folder, self.calls = home / "campaign", home / "calls"
        self.process: subprocess.Popen | None = None

    def lines(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def start(self, **environment: str) -> None:
        """Start, and wait until the imports are over: kills are to hit the campaign."""
        known = self.lines().count("ready")
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), str(self.folder), str(self.calls)],
            env=ENVIRONMENT | environment,
        )
        deadline = time.monotonic() + 60
        while self.lines().count("ready") == known and time.monotonic() < deadline:
            time.sleep(0.01)

    def wait(self) -> None:
        assert self.process is not None
        assert self.process.wait(timeout=120) == 0

    def kill(self, after: float) -> bool:
        """SIGKILL after some seconds; False if it had finished by then."""
        assert self.process is not None
        time.sleep(after)
        alive = self.process.poll() is None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return alive

    def done(self) -> set[str]:
        if not (self.folder / "ledger.db").exists():
            return set()
        states = Ledger.read(self.folder).states()
        return {key for key, state in states.items() if state in ("done", "failed")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    drive = Drive(tmp_path_factory.mktemp("undisturbed"))
    drive.start()
    begin = time.monotonic()
    drive.wait()
    return drive, time.monotonic() - begin


def kill_and_continue(home: Path, moments: list[float]) -> tuple[Drive, int]:
    drive, kills = Drive(home), 0
    settled: set[str] = set()
    for moment in moments:
        before = len(drive.lines())
        drive.start()
        kills += drive.kill(moment)
        started = [line.split()[1] for line in drive.lines()[before:] if line.startswith("start")]
        assert not settled & set(started), "a finished calculation was started again"
        assert settled <= drive.done(), "a label was lost"
        settled = drive.done()
        if drive.folder.joinpath("campaign.json").exists():
            assert status(drive.folder)["driver"] is None
    before = len(drive.lines())
    drive.start()
    drive.wait()
    started = [line.split()[1] for line in drive.lines()[before:] if line.startswith("start")]
    assert not settled & set(started), "a finished calculation was started again"
    return drive, kills


def compare(drive: Drive, reference: Drive, kills: int) -> None:
    ledger, other = Ledger.read(drive.folder), Ledger.read(reference.folder)
    assert ledger.content() == other.content()
    assert ledger.digest() == other.digest()
    assert ledger.counts() == {"asked": 0, "running": 0, "done": 10, "failed": 1}
    ends = [line for line in drive.lines() if line.startswith("end")]
    # A kill between the end of a calculation and its record costs that one calculation.
    assert len(ends) - len(set(ends)) <= kills
    for name in ("chosen.json", "predicted.json", "coverage.json"):
        for path in sorted(reference.folder.glob(f"round_*/{name}")):
            twin = drive.folder / path.relative_to(reference.folder)
            assert twin.read_text() == path.read_text()


def test_killed_four_times(undisturbed, tmp_path):
    reference, seconds = undisturbed
    rng = np.random.default_rng(20)
    moments = sorted(rng.uniform(0.05, 0.35, 4) * seconds, reverse=True)
    drive, kills = kill_and_continue(tmp_path, moments)
    assert kills >= 3
    compare(drive, reference, kills)


@pytest.mark.slow
def test_killed_thirty_times(undisturbed, tmp_path):
    reference, seconds = undisturbed
    rng = np.random.default_rng(21)
    drive, kills = kill_and_continue(tmp_path, (rng.uniform(0.0, 0.15, 30) * seconds).tolist())
    assert kills >= 15
    compare(drive, reference, kills)


def test_two_drivers_by_mistake(tmp_path):
    drive, second = Drive(tmp_path), Drive(tmp_path)
    drive.start(KILL_DRIVER_DELAY="2.0")
    deadline = time.monotonic() + 60
    while not (drive.folder / "campaign.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert drive.process is not None
    state = status(drive.folder)
    assert state["driver"]["pid"] == drive.process.pid
    other = subprocess.run(
        [sys.executable, str(DRIVER), str(second.folder), str(tmp_path / "other")],
        env=ENVIRONMENT,
        capture_output=True, text=True, check=False,
    )
    alive = drive.kill(0.0)
    assert alive
    assert other.returncode != 0
    assert f"is driven by process {drive.process.pid}" in other.stderr
    assert status(drive.folder)["driver"] is None
