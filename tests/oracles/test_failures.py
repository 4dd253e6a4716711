"""Real failures of a program behind an oracle: each is recognised, retried, and cleaned up."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from stand_in import KINDS, RECORDED

from bayespot.errors import ConfigError, OracleError
from bayespot.oracles import CalculatorOracle, Rung
from bayespot.oracles.failures import ended_by_signal, failure_of

MESSAGES = {
    "not_converged": "pw.x says 'convergence NOT achieved after 100 iterations'",
    "crash": "ended by SIGSEGV",
    "exit_code": "pw.x stopped in electrons (1): charge is wrong",
    "time_limit": "not finished after 4 s",
    "out_of_memory": "MB of memory, more than it may",
    "killed": "ended by SIGKILL; the kernel does that when memory runs out",
    "disk_full": "No space left on device",
    "truncated": "the output breaks off",
    "not_finite": "1 force components are not finite",
    "huge_forces": "is beyond the limit of 100",
    "wrong_atoms": "wrong number of atoms: forces on 1, asked for 2",
    "overflow": "a number was too large for the output",
}
LIMITS = {"time_limit": {"time_limit": 4.0}, "out_of_memory": {"memory_limit": 600.0}}


def test_a_calculation_that_nothing_happens_to(stand_in, argon):
    result = stand_in().label(argon)
    alone = stand_in(isolate=False).label(argon)
    assert result.energy == alone.energy
    assert (result.forces == alone.forces).all()
    reference = CalculatorOracle("lj", {"epsilon": 0.0104, "sigma": 3.4, "rc": 6.0}).label(argon)
    assert result.energy == pytest.approx(reference.energy, abs=1e-9)
    assert result.forces == pytest.approx(reference.forces, abs=1e-8)
    assert result.stress == pytest.approx(reference.stress, abs=1e-10)
    assert result.metadata["attempts"] == []
    assert result.metadata["iterations"] == 6
    assert result.metadata["version"] == "pw.x stand-in"
    assert result.metadata["mesh"] == [3, 5, 5, 0, 0, 0]
    assert not list(stand_in.scratch.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_recognised(kind, stand_in, argon):
    # A process of its own where a limit needs it; the others are quicker without.
    run = LIMITS.get(kind, {"isolate": False})
    with pytest.raises(OracleError) as raised:
        stand_in("--fail", kind, ladder=(), **run).label(argon)
    error = raised.value
    assert error.kind == RECORDED[kind]
    assert MESSAGES[kind] in str(error)
    assert [attempt["kind"] for attempt in error.attempts] == [RECORDED[kind]]
    assert not list(stand_in.scratch.iterdir())


def test_an_output_without_any_atom(stand_in, argon):
    """ASE cannot read it; what pw.x says of the number of atoms is the reason."""
    said = "wrong number of atoms: pw[.]x says 0, asked for 1"
    with pytest.raises(OracleError, match=said) as one:
        stand_in("--fail", "wrong_atoms", ladder=(), isolate=False).label(argon[:1])
    assert one.value.kind == "wrong_atoms"


@pytest.mark.parametrize("kind", ["crash", "truncated"])
def test_the_same_from_a_process_of_its_own(kind, stand_in, argon):
    with pytest.raises(OracleError) as raised:
        stand_in("--fail", kind, ladder=()).label(argon)
    assert raised.value.kind == kind
    assert MESSAGES[kind] in str(raised.value)
    if kind == "truncated":
        assert "Forces acting on atoms" in raised.value.attempts[0]["tail"]
    assert not list(stand_in.scratch.iterdir())


def test_the_ladder_cures_what_passes(stand_in, argon, tmp_path):
    clean = stand_in(isolate=False).label(argon)
    logs = tmp_path / "logs"
    logs.mkdir()
    words = ("--fail", "not_converged", "--times", 2, "--log", logs)
    result = stand_in(*words, isolate=False).label(argon)
    assert result.energy == clean.energy
    assert [a["kind"] for a in result.metadata["attempts"]] == ["not_converged"] * 2
    rung = result.metadata["retried_with"]["change"]["input_data"]["electrons"]
    assert rung["mixing_beta"] == 0.1
    assert result.metadata["settings"] == clean.metadata["settings"]  # the label is the same one
    assert [p.read_text() for p in logs.iterdir()] == ["not_converged\nnot_converged\nNone\n"]


def test_an_output_that_breaks_off_once_is_an_attempt(stand_in, argon, tmp_path):
    """Nothing runs a code again but the ladder, not even where only the stress is missing."""
    logs = tmp_path / "logs"
    logs.mkdir()
    words = ("--fail", "truncated", "--times", 1, "--log", logs)
    result = stand_in(*words, isolate=False).label(argon)
    assert [a["kind"] for a in result.metadata["attempts"]] == ["truncated"]
    assert [p.read_text() for p in logs.iterdir()] == ["truncated\nNone\n"]


def test_the_ladder_ends(stand_in, argon):
    with pytest.raises(OracleError) as raised:
        stand_in("--fail", "not_converged", isolate=False).label(argon)
    error = raised.value
    assert error.kind == "not_converged"
    assert len(error.attempts) == 4
    assert "attempt 4; failures: not_converged, not_converged" in str(error)
    assert error.attempts[3]["guess"]["input_data"]["system"]["degauss"] == 0.03


def test_rungs_are_for_their_kinds(stand_in, argon):
    ladder = [{"on": ["not_converged"]}, {"on": ["crash"]}, {"on": ["crash"]}]
    with pytest.raises(OracleError) as raised:
        stand_in("--fail", "crash", isolate=False, ladder=ladder).label(argon)
    assert len(raised.value.attempts) == 3


@pytest.mark.parametrize(
    ("rung", "match"),
    [
        ({"on": ["crashed"]}, r"no kind of failure; did you mean 'crash'"),
        ({"on": []}, "needs on = "),
        ({"change": {}}, "needs on = "),
        ({"on": ["crash"], "chnage": {}}, "unknown key chnage .* did you mean 'change'"),
        ({"on": ["crash"], "time_factor": 0.0}, "must be positive"),
        ({"on": ["not_converged"], "change": {"input_data": {"system": {"degauss": 0.02}}}},
         "changes input_data.system.degauss, which could change what the labels mean"),
        ({"on": ["not_converged"], "change": {"kpts": [1, 1, 1]}}, "changes kpts"),
    ],
)  # fmt: skip
def test_ladders_that_cannot_be(rung, match, stand_in):
    with pytest.raises(ConfigError, match=match):
        stand_in(ladder=[rung])


def test_codes_that_cannot_start_from_a_density():
    rung = Rung(on=("not_converged",), guess={"sigma": 3.0})
    with pytest.raises(ConfigError, match="'lj' cannot start from the density"):
        CalculatorOracle("lj", run={"ladder": [rung]})


@pytest.mark.parametrize(
    ("run", "match"),
    [
        ({"comand": ["pw.x"]}, "unknown key comand .* did you mean 'command'"),
        ({"command": "mpirun -np 2 pw.x"}, r"list of words, such as \['mpirun', '-np', '2'"),
        ({"time_limit": -1.0}, "time_limit = -1.0 must be positive"),
        ({"memory_limit": 10.0}, "less than the 256 MB that Python itself needs"),
        ({"isolate": False, "time_limit": 9.0}, "need a process for each calculation"),
    ],
)
def test_run_settings_that_cannot_be(run, match):
    with pytest.raises(ConfigError, match=match):
        CalculatorOracle("lj", run=run)


def test_failed_folders_may_stay(stand_in, argon):
    oracle = stand_in("--fail", "truncated", ladder=(), keep_failed=True)
    with pytest.raises(OracleError) as raised:
        oracle.label(argon)
    folder = Path(raised.value.attempts[0]["folder"])
    assert folder.parent == stand_in.scratch
    assert (folder / "espresso.pwo").read_text().count("force =") == 2
    assert (folder / "espresso.pwi").exists()


def test_no_room_in_scratch(stand_in, argon, tmp_path):
    """A real full disk: a file system of some kilobytes in memory."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(small)],
                             capture_output=True, check=False)  # fmt: skip
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(OracleError) as raised:
            stand_in(scratch=str(small), ladder=()).label(argon * (8, 8, 8))
        assert raised.value.kind == "disk_full"
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_there_is_no_scratch(stand_in, argon, tmp_path):
    with pytest.raises(OracleError, match="No such file or directory"):
        stand_in(scratch=str(tmp_path / "nowhere"), ladder=()).label(argon)


def processes_of(text):
    """Other processes with a text in their command; the title of this one may be its test."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("how", "mark"), [("SIGKILL", "424242421"), ("SIGINT", "424242422")])
def test_nothing_is_left_of_a_killed_parent(how, mark, stand_in, argon, tmp_path):
    """Kill -9 (or Ctrl-C) of the process that asked: no process and no folder stays."""
    oracle = stand_in("--fail", "time_limit", "--seed", mark)
    # A launcher as those of MPI are: it starts the program in a process group of its own.
    launcher = tmp_path / "launcher.py"
    launcher.write_text(
        "import os, subprocess, sys\n"
        "sys.exit(subprocess.run(sys.argv[1:], process_group=0).returncode)\n"
    )
    driver = tmp_path / "driver.py"
    run = oracle.run.plain() | {
        "command": [sys.executable, str(launcher), *oracle.run.command], "ladder": []
    }
    # What runs the tests may ignore Ctrl-C (xdist does), and processes inherit that.
    driver.write_text(textwrap.dedent(f"""
        import signal
        from ase import Atoms
        from bayespot.oracles import CalculatorOracle
        signal.signal(signal.SIGINT, signal.default_int_handler)
        oracle = CalculatorOracle("espresso", {oracle._keywords!r}, run={run!r})
        oracle.label(Atoms("Ar", cell=[4, 4, 4], pbc=True))
    """))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen([sys.executable, str(driver)], env=environment,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    assert wait_for(lambda: len(processes_of(mark)) > 1, 60)  # the launcher and the program
    assert list(stand_in.scratch.iterdir())
    process.send_signal(signal.Signals[how])
    process.wait(60)
    assert wait_for(lambda: not processes_of(mark))
    assert wait_for(lambda: not list(stand_in.scratch.iterdir()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_nothing_is_left_of_a_killed_supervisor(stand_in, argon):
    mark = "424242423"
    oracle = stand_in("--fail", "time_limit", "--seed", mark, ladder=())
    with ThreadPoolExecutor(1) as pool:
        label = pool.submit(oracle.label, argon)
        assert wait_for(lambda: processes_of(mark), 60)
        (supervisor,) = (
            pid for pid in processes_of("oracles/supervisor.py")
            if int(Path(f"/proc/{pid}/stat").read_text().split()[3]) == os.getpid()
        )  # fmt: skip
        os.kill(supervisor, signal.SIGKILL)
        with pytest.raises(OracleError, match="the supervising process was ended") as raised:
            label.result(30)
    assert raised.value.kind == "killed"
    assert wait_for(lambda: not processes_of(mark))
    assert not list(stand_in.scratch.iterdir())


def test_what_exit_codes_mean():
    assert ended_by_signal(-11).kind == "crash"
    assert ended_by_signal(139).kind == "crash"
    assert ended_by_signal(137).kind == "killed"
    assert ended_by_signal(-signal.SIGXFSZ).kind == "disk_full"
    assert ended_by_signal(1) is None
    assert ended_by_signal(255) is None


@pytest.mark.parametrize(
    ("error", "output", "kind"),
    [
        (MemoryError(), "", "out_of_memory"),
        (OSError(28, "No space left on device"), "", "disk_full"),
        (OSError(27, "File too large"), "", "disk_full"),
        (OSError(12, "Cannot allocate memory"), "", "out_of_memory"),
        (ValueError("x"), "", "failed"),
        (RuntimeError("calculation failed"), "forrtl: severe: Segmentation fault", "crash"),
        (subprocess.CalledProcessError(1, ["x"]), "slurmstepd: error: oom-kill", "out_of_memory"),
        (subprocess.CalledProcessError(1, ["x"]), "something", "exit_code"),
        (subprocess.CalledProcessError(134, ["x"]), "", "crash"),
    ],
)
def test_what_exceptions_mean(error, output, kind):
    assert failure_of(error, output).kind == kind
