"""Calculations on workers: sent, recorded, sent again if lost, counted once."""

import fcntl
import os
import pickle
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from linear_learner import linear_learner, make_pool
from slow_oracle import SlowOracle

from bayespot.active import CampaignSettings, Ledger, labelling, run_campaign
from bayespot.active import workers as workers_module
from bayespot.active.executors import WorkerSettings, job_script
from bayespot.active.jobs import Failure, Job, clear, left_behind, noted_starts, run_job
from bayespot.active.labelling import Labelling
from bayespot.active.workers import Workers, is_loss
from bayespot.errors import ConfigError, OracleError
from bayespot.oracles import LabelledResult, calculation_key

HERE = Path(__file__).parent
POOL = make_pool(12)
KEYS = [calculation_key(s, SlowOracle("").settings) for s in POOL.structures]


@pytest.fixture
def calls(tmp_path):
    return tmp_path / "calls"


def counted(calls, word="start"):
    """How often each calculation was begun, by position in the pool."""
    lines = calls.read_text().splitlines() if calls.exists() else []
    found = Counter(line.split()[1] for line in lines if line.startswith(word))
    return [found[key] for key in KEYS]


def label_all(folder, workers, oracle, *, max_attempts=20, known=None, told=None):
    """All of the pool; counts by state and the failures."""
    told = told if told is not None else []
    with Ledger.open(folder, max_attempts=max_attempts) as ledger, workers:
        ledger.ask(
            POOL.structures, oracle.settings, round=-1, role="initial",
            indices=range(len(POOL)), families=POOL.families,
        )
        asked = [key for key, state in ledger.states().items() if state == "asked"]
        where = dict(zip(KEYS, POOL.structures, strict=True))
        jobs = {key: Job(key, where[key], oracle, str(folder)) for key in asked}
        Labelling(ledger, workers, lambda *what: told.append(what)).run(jobs, known)
        return ledger.counts(), ledger.failures(), [e.attempts for e in ledger.entries()]


def check_worker_losses(folder, calls, workers):
    """One structure fails, one kills its worker each time, one the first time."""
    oracle = SlowOracle(calls, fails=[KEYS[3]], kills=[KEYS[5]], once=[KEYS[7]])
    counts, failures, attempts = label_all(folder, workers, oracle, max_attempts=3)
    assert counts == {"asked": 0, "running": 0, "done": 10, "failed": 2}
    kinds = {e.key: (e.data["kind"], e.attempts) for e in failures}
    assert kinds == {KEYS[3]: ("not_converged", 1), KEYS[5]: ("worker_lost", 3)}
    assert failures[0].data["tried"] == [{"mixing": 0.1}]
    assert "lost each of the 3 times" in failures[1].data["reason"]
    expected = [1] * 12
    expected[5], expected[7] = 3, 2
    assert attempts == expected
    assert counted(calls) == expected
    assert not (folder / "calculations").exists()


# -- executors


@pytest.fixture
def importable(monkeypatch):
    """What the tests define can be imported by workers."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *(p for p in sys.path if p)]))


def test_any_executor(tmp_path, calls):
    with ThreadPoolExecutor(3) as threads:
        oracle = SlowOracle(calls, delay=0.0, fails=[KEYS[3]])
        counts, failures, _ = label_all(tmp_path, Workers.around(threads), oracle)
    assert counts == {"asked": 0, "running": 0, "done": 11, "failed": 1}
    assert failures[0].key == KEYS[3]
    assert counted(calls) == [1] * 12


def test_processes_that_die(tmp_path, calls, importable):
    check_worker_losses(
        tmp_path, calls, Workers.described(WorkerSettings(kind="processes", n=2), tmp_path)
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets of workers that were killed
def test_dask_workers_that_die(tmp_path, calls, importable):
    pytest.importorskip("distributed")
    settings = WorkerSettings(kind="dask", n=2, options={"silence_logs": "CRITICAL"})
    check_worker_losses(tmp_path, calls, Workers.described(settings, tmp_path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_parsl_workers_that_die(tmp_path, calls, importable):
    pytest.importorskip("parsl")
    settings = WorkerSettings(
        kind="parsl", provider_options={"init_blocks": 1, "max_blocks": 1},
        options={"max_workers_per_node": 2, "address": "127.0.0.1", "heartbeat_period": 2,
                 "heartbeat_threshold": 10},
    )  # fmt: skip
    check_worker_losses(tmp_path, calls, Workers.described(settings, tmp_path))
    assert not (Path.cwd() / "runinfo").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_jobs_of_a_batch_system(tmp_path, calls, importable, monkeypatch):
    """dask-jobqueue with its stand-in for a batch system, which starts each job as a process."""
    pytest.importorskip("dask_jobqueue")
    from dask_jobqueue.local import LocalCluster

    monkeypatch.setattr("dask_jobqueue.SLURMCluster", LocalCluster)
    settings = WorkerSettings(
        kind="dask", cluster="slurm", n=2,
        options={"cores": 1, "memory": "1GB", "interface": "lo", "silence_logs": "CRITICAL"},
    )  # fmt: skip
    oracle = SlowOracle(calls, fails=[KEYS[3]])
    counts, _, attempts = label_all(tmp_path, Workers.described(settings, tmp_path), oracle)
    assert counts == {"asked": 0, "running": 0, "done": 11, "failed": 1}
    assert (attempts, counted(calls)) == ([1] * 12, [1] * 12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_scheduler_that_is_killed_and_started_again(tmp_path, calls, importable):
    """Its workers go with it; what they calculated is calculated again, the rest once."""
    pytest.importorskip("distributed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    log = open(tmp_path / "log", "ab")  # noqa: SIM115  (of processes that come and go)

    def start():
        words = [["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]]
        words += [["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * 2
        return [
            subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{kind}", *more],
                             stdout=log, stderr=log)
            for kind, *more in words
        ]

    processes = start()
    oracle = SlowOracle(calls, delay=0.3)
    workers = Workers.described(WorkerSettings(kind="dask", address=address), tmp_path)
    try:
        with ThreadPoolExecutor(1) as thread:
            labelled = thread.submit(label_all, tmp_path, workers, oracle)
            while sum(counted(calls, "end")) < 3:
                assert not labelled.done()
                time.sleep(0.05)
            for process in processes:
                process.kill()
                process.wait()
            processes = start()
            counts, _, attempts = labelled.result(timeout=300)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        log.close()
    assert counts["done"] == 12
    assert attempts == counted(calls)
    assert sum(attempts) <= 12 + 2  # what the two workers had


class Stub(Executor):
    """Runs calls at once, or says what the script wants."""

    def __init__(self, script=()):
        self.script, self.closed = list(script), False

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        wanted = self.script.pop(0) if self.script else None
        if isinstance(wanted, str):
            raise RuntimeError(wanted)
        if wanted == ...:
            return future  # never comes back
        if wanted is not None:
            future.set_exception(wanted)
        else:
            future.set_result(fn(*args, **kwargs))
        return future


class WorkerLost(Exception):  # noqa: N818  (as Parsl and Dask name theirs)
    """What a package raises whose workers died."""


WorkerLost.__module__ = "parsl.errors"


def test_what_is_lost_goes_out_again(tmp_path, calls):
    told = []
    made = []

    def make(stack):
        scripts = [[None, WorkerLost("node 7"), ..., BrokenProcessPool("gone")], ["closed"], []]
        made.append(Stub(scripts[len(made)]))
        return made[-1]

    oracle = SlowOracle(calls, delay=0.0)
    counts, _, _ = label_all(tmp_path, Workers(make), oracle, told=told)
    assert counts["done"] == 12
    assert counted(calls) == [1] * 12
    assert len(made) == 3  # anew after the pool broke, and after one that was closed
    assert {key for key, outcome in told if outcome is None} >= set(KEYS[1:4])


def test_workers_that_cannot_calculate(tmp_path, calls):
    missing = ModuleNotFoundError("No module named 'bayespot'")
    with pytest.raises(OracleError, match="workers need the same bayespot"):
        label_all(tmp_path, Workers(lambda stack: Stub([missing])), SlowOracle(calls, delay=0.0))
    counts, _, _ = label_all(tmp_path, Workers(lambda stack: Stub()), SlowOracle(calls, delay=0.0))
    assert counts["done"] == 12  # nothing is lost by that


def test_workers_that_die_before_they_begin(tmp_path, calls, monkeypatch):
    monkeypatch.setattr(labelling, "_HOPELESS", 20)
    (tmp_path / "calculations").mkdir()  # workers see the folder
    workers = Workers(lambda stack: Stub([WorkerLost("died")] * 100))
    with pytest.raises(OracleError, match="20 times without having begun a single calculation"):
        label_all(tmp_path, workers, SlowOracle(calls))


def test_without_a_shared_folder_losses_are_counted(tmp_path, calls):
    workers = Workers(lambda stack: Stub([WorkerLost("died")] * 24))
    oracle = SlowOracle(calls, delay=0.0)
    counts, failures, attempts = label_all(tmp_path, workers, oracle, max_attempts=2)
    assert counts["failed"] == 12
    assert attempts == [2] * 12
    assert failures[0].data["kind"] == "worker_lost"


def test_a_scheduler_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(workers_module, "FIRST_PATIENCE", 0.3)
    tries = []

    def make(stack):
        tries.append(time.monotonic())
        raise OSError("Timed out trying to connect to tcp://10.0.0.1:8786")

    with pytest.raises(OracleError, match="start the scheduler and run the same command"):
        Workers(make, name="tcp://10.0.0.1:8786").submit(print)
    assert len(tries) >= 2


def test_a_scheduler_that_comes_back():
    tries = []

    def make(stack):
        tries.append(True)
        if len(tries) < 3:
            raise OSError("no route to host")
        return Stub()

    assert Workers(make).submit(abs, -3).result() == 3


def test_what_counts_as_a_loss():
    assert is_loss(CancelledError())
    assert is_loss(BrokenProcessPool())
    assert is_loss(ConnectionResetError())
    assert is_loss(WorkerLost())
    assert not is_loss(FileNotFoundError("process_worker_pool.py"))
    assert not is_loss(TypeError("cannot pickle"))
    assert not is_loss(OracleError("not converged"))
    assert not is_loss(type("SerializationError", (WorkerLost,), {"__module__": "parsl.x"})())


# -- a calculation where it runs


def job(tmp_path, oracle, i=0):
    return Job(KEYS[i], POOL.structures[i], oracle, str(tmp_path))


def test_a_result_survives_its_driver(tmp_path, calls):
    oracle = SlowOracle(calls, delay=0.0, fails=[KEYS[3]])
    truth = run_job(job(tmp_path, oracle))
    found = left_behind(tmp_path, KEYS[0])
    assert found.energy == truth.energy
    np.testing.assert_array_equal(found.forces, truth.forces)
    np.testing.assert_array_equal(found.stress, truth.stress)
    assert found.metadata["code"] == truth.metadata["code"] == "lj"
    failure = run_job(job(tmp_path, oracle, 3))
    assert left_behind(tmp_path, KEYS[3]) == failure
    assert failure == Failure("not converged", "not_converged", ({"mixing": 0.1},))
    with Ledger.open(tmp_path) as ledger:  # a driver that goes through what is done already
        Labelling(ledger, Workers.around(Stub()), print).run({})
    # the next driver takes both over, and calculates the others
    counts, _, attempts = label_all(tmp_path, Workers.around(Stub()), oracle)
    assert counts == {"asked": 0, "running": 0, "done": 11, "failed": 1}
    assert (counted(calls), attempts) == ([1] * 12, [1] * 12)


def test_a_calculation_that_runs_already_is_waited_for(tmp_path, calls):
    oracle = SlowOracle(calls, delay=0.5)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(run_job, job(tmp_path, oracle))
        while not counted(calls)[0]:
            time.sleep(0.01)
        second = threads.submit(run_job, job(tmp_path, oracle))
        assert second.result().energy == first.result().energy
    assert counted(calls)[0] == 1
    assert noted_starts(tmp_path, KEYS[0]) == 1


def test_a_lock_ends_with_its_process(tmp_path, calls):
    """Killed while it calculated: the lock is free, and the start was noted."""
    code = (
        "import sys; from slow_oracle import SlowOracle; from linear_learner import make_pool\n"
        "from bayespot.active.jobs import Job, run_job\n"
        "oracle = SlowOracle(sys.argv[2], kills=[sys.argv[3]])\n"
        "run_job(Job(sys.argv[3], make_pool(1).structures[0], oracle, sys.argv[1]))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    killed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(calls), KEYS[0]], env=environment,
        check=False,
    )
    assert killed.returncode == -9
    assert (noted_starts(tmp_path, KEYS[0]), left_behind(tmp_path, KEYS[0])) == (1, None)
    assert run_job(job(tmp_path, SlowOracle(calls, delay=0.0))).energy < 0
    assert noted_starts(tmp_path, KEYS[0]) == 2


def test_workers_without_the_folder(tmp_path, calls):
    elsewhere = tmp_path / "not here"
    assert isinstance(run_job(job(elsewhere, SlowOracle(calls, delay=0.0))), LabelledResult)
    assert not elsewhere.exists()
    assert noted_starts(elsewhere, KEYS[0]) is None


def test_a_file_system_without_locks_or_space(tmp_path, calls, monkeypatch):
    def refuse(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr("bayespot.active.jobs.write_json", refuse)
    assert isinstance(run_job(job(tmp_path, SlowOracle(calls, delay=0.0))), LabelledResult)


def test_what_an_oracle_raises_comes_back_as_a_value(tmp_path):
    class Odd(SlowOracle):
        def label(self, structure):
            raise ZeroDivisionError("by zero")

    failure = run_job(job(tmp_path, Odd("")))
    assert failure == Failure("ZeroDivisionError: by zero", "ZeroDivisionError")
    assert pickle.loads(pickle.dumps(failure)) == failure
    clear(tmp_path)
    assert left_behind(tmp_path, KEYS[0]) is None


# -- whole campaigns


class Disorderly(Executor):
    """Ends what it was given in another order than it got it."""

    def __init__(self, seed):
        self.random, self.threads = random.Random(seed), ThreadPoolExecutor(4)

    def submit(self, fn, /, *args, **kwargs):
        delay = self.random.uniform(0.0, 0.1)

        def late():
            time.sleep(delay)
            return fn(*args, **kwargs)

        return self.threads.submit(late)


def campaign(folder, calls, **more):
    settings = CampaignSettings(seed=7, initial=4, batch=3, rounds=2, test_fraction=0.0)
    return run_campaign(
        settings, pool=make_pool(14), oracle=SlowOracle(calls, delay=0.0),
        learner=linear_learner(), folder=folder, **more,
    )


def test_the_order_in_which_calculations_end_changes_nothing(tmp_path, calls):
    told = []
    campaign(tmp_path / "quiet", calls)
    for seed in range(2):
        folder = tmp_path / f"disorderly_{seed}"
        campaign(folder, calls, workers=Disorderly(seed), progress=told.append)
        quiet, other = Ledger.read(tmp_path / "quiet"), Ledger.read(folder)
        assert other.digest() == quiet.digest()
        assert other.dataset().fingerprint() == quiet.dataset().fingerprint()
    labels = [event for event in told if event.phase == "label"]
    assert [e.done for e in labels if e.round == 0] == [1, 2, 3] * 2
    order = [e["time"] for entry in other.entries() for e in entry.data["events"][-1:]]
    assert order != sorted(order)


def test_a_campaign_with_its_ledger_on_a_server(tmp_path, calls, postgres):
    campaign(tmp_path / "quiet", calls)
    server = {"server": postgres.address, "name": tmp_path.name}
    campaign(tmp_path / "here", calls, **server)
    digest = Ledger.read(tmp_path / "quiet").digest()
    assert Ledger.read(tmp_path / "here").digest() == digest
    before = sum(counted_lines(calls))
    # from another folder, say after the first was lost: the labels are all on the server
    campaign(tmp_path / "there", calls, **server)
    assert sum(counted_lines(calls)) == before
    assert Ledger.read(tmp_path / "there").digest() == digest


def counted_lines(calls):
    return [line.startswith("start") for line in calls.read_text().splitlines()]


@pytest.mark.slow
def test_processes_outlive_their_driver_by_one_calculation(tmp_path, importable):
    """The driver is killed; what its processes calculate is finished and taken over."""
    code = (
        "import sys; from test_labelling import *\n"
        "if __name__ == '__main__':\n"
        "    folder = Path(sys.argv[1])\n"
        "    workers = Workers.described(WorkerSettings(kind='processes', n=2), folder)\n"
        "    label_all(folder, workers, SlowOracle(sys.argv[2], delay=1.0))\n"
    )
    script = tmp_path / "driver.py"
    script.write_text(code)
    calls = tmp_path / "calls"
    driver = subprocess.Popen([sys.executable, str(script), str(tmp_path), str(calls)])
    while sum(counted(calls)) < 2:
        assert driver.poll() is None
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    begun = {int(line.split()[2]) for line in calls.read_text().splitlines()}
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in begun) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in begun)
    assert counted(calls, "end") == counted(calls)
    counts, _, _ = label_all(tmp_path, Workers.around(Stub()), SlowOracle(calls, delay=0.0))
    assert counts["done"] == 12
    assert counted(calls) == [1] * 12


# -- the job script


def test_the_job_script_is_generated_without_a_batch_system():
    pytest.importorskip("dask_jobqueue")
    threads = threading.active_count()
    settings = WorkerSettings(
        kind="dask", cluster="slurm", n=8,
        options={"cores": 32, "processes": 1, "memory": "64GB", "queue": "standard",
                 "walltime": "12:00:00", "job_script_prologue": ["module load espresso"],
                 "interface": "lo"},
    )  # fmt: skip
    script = job_script(settings)
    for line in ("#SBATCH -p standard", "#SBATCH --cpus-per-task=32", "#SBATCH -t 12:00:00",
                 "module load espresso", "distributed.cli.dask_worker tcp://"):
        assert line in script
    assert script.rindex("--nthreads 1") > script.index("--nthreads 32")  # the last one counts
    assert threading.active_count() <= threads + 5


@pytest.mark.parametrize(
    "settings",
    [WorkerSettings(), WorkerSettings(kind="dask", n=4), WorkerSettings(kind="parsl"),
     WorkerSettings(kind="dask", cluster="slurm", address="tcp://10.0.0.1:8786")],
)
def test_there_is_no_job_script(settings):
    with pytest.raises(ConfigError, match="there is no job script"):
        job_script(settings)


# A cluster that could not be made complains once more when it is thrown away.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (WorkerSettings(kind="dask", cluster="slurm", options={"coers": 2}), "SLURMCluster does"),
        (WorkerSettings(kind="parsl", executor="HighThruput"), "is none of Parsl's; known: "),
        (WorkerSettings(kind="parsl", provider="Slurm"), "is none of Parsl's; known: .*Slurm"),
        (WorkerSettings(kind="parsl", options={"max_workerz": 2}), "does not take"),
    ],
)
def test_keywords_that_a_library_refuses(settings, match, tmp_path):
    pytest.importorskip("dask_jobqueue")
    pytest.importorskip("parsl")
    with pytest.raises(ConfigError, match=match):
        Workers.described(settings, tmp_path).submit(print)
