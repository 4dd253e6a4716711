import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk
from linear_learner import lj_oracle, make_pool

from bayespot.active.ledger import Ledger
from bayespot.data.read import read
from bayespot.errors import LedgerError
from bayespot.oracles import LabelledResult

ORACLE = lj_oracle()


def ask(ledger, pool, indices, round=-1, role="initial"):
    return ledger.ask(
        [pool.structures[i] for i in indices], ORACLE.settings, round=round, role=role,
        indices=indices, families=[pool.families[i] for i in indices],
    )


def finish(ledger, key):
    ledger.start(key)
    entry = ledger.entries([key])[0]
    ledger.finish(key, ORACLE.label(entry.structure))


@pytest.fixture
def pool():
    return make_pool(6)


def test_where_the_ledger_is(tmp_path, opened):
    with opened() as ledger:
        assert ("(bayespot_" in ledger.name) == (tmp_path / "ledger.json").exists()
        assert (tmp_path / "ledger.db").exists() != (tmp_path / "ledger.json").exists()


def test_a_calculation_goes_through_its_states(opened, tmp_path, pool):
    with opened() as ledger:
        keys = ask(ledger, pool, [4, 2, 1])
        assert list(ledger.states()) == keys
        assert set(ledger.states().values()) == {"asked"}
        ledger.start(keys[0])
        assert ledger.counts() == {"asked": 2, "running": 1, "done": 0, "failed": 0}
        result = ORACLE.label(pool.structures[4])
        ledger.finish(keys[0], result)
        ledger.start(keys[1])
        tried = [{"mixing": 0.1, "said": "\0\udc80"}]
        # a reason that looks like a number is still a text
        ledger.fail(keys[1], "1e5", kind="not_converged", tried=tried)
        done, failed, asked = ledger.entries()
        assert done.result.energy == result.energy
        np.testing.assert_array_equal(done.result.forces, result.forces)
        np.testing.assert_array_equal(done.result.stress, result.stress)
        assert done.result.metadata["code"] == "lj"
        np.testing.assert_array_equal(done.structure.positions, pool.structures[4].positions)
        assert [e["state"] for e in done.data["events"]] == ["asked", "running", "done"]
        assert {e["pid"] for e in done.data["events"]} == {os.getpid()}
        assert (failed.data["reason"], failed.attempts, failed.result) == ("1e5", 1, None)
        assert failed.data["kind"] == "not_converged"
        assert failed.data["tried"] == [{"mixing": 0.1, "said": "?"}]
        assert (asked.data["family"], asked.data["index"]) == ("primitive", 1)


def test_asking_again_changes_nothing(opened, tmp_path, pool):
    with opened() as ledger:
        keys = ask(ledger, pool, [0, 1])
        finish(ledger, keys[0])
        before = ledger.digest()
        assert ask(ledger, pool, [1, 0, 0], round=3) == [keys[1], keys[0], keys[0]]
        assert ledger.digest() == before


@pytest.mark.parametrize("method", ["start", "finish", "fail"])
def test_done_stays_done(opened, tmp_path, pool, method):
    with opened() as ledger:
        (key,) = ask(ledger, pool, [0])
        finish(ledger, key)
        result = LabelledResult(0.0, np.zeros((4, 3)))
        arguments = {"start": (), "finish": (result,), "fail": ("no",)}[method]
        with pytest.raises(LedgerError, match="is done, not"):
            getattr(ledger, method)(key, *arguments)


def test_what_ran_when_the_process_died_is_asked_again(opened, tmp_path, pool):
    with opened() as ledger:
        keys = ask(ledger, pool, [0, 1])
        ledger.start(keys[0])
    with opened() as ledger:
        assert set(ledger.states().values()) == {"asked"}
        assert ledger.entries()[0].attempts == 1
        ledger.start(keys[0])
    with opened(max_attempts=2) as ledger:
        assert ledger.states()[keys[0]] == "failed"
        assert "died each of the 2 times" in ledger.failures()[0].data["reason"]


def test_one_driver_a_folder(opened, tmp_path, pool):
    with opened() as ledger:
        ask(ledger, pool, [0])
        code = (
            "import sys; from bayespot.active.ledger import Ledger\n"
            "try: Ledger.open(sys.argv[1])\n"
            "except Exception as error: print(type(error).__name__, error)"
        )
        second = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert f"LedgerError {tmp_path} is driven by process {os.getpid()}" in second.stdout
        assert Ledger.read(tmp_path).counts()["asked"] == 1  # looking is always allowed
    opened().close()


def test_looking_cannot_change(opened, tmp_path, pool):
    with pytest.raises(LedgerError, match=r"has no ledger\.db"):
        Ledger.read(tmp_path / "elsewhere")
    opened().close()
    with pytest.raises(LedgerError, match="opened to look"):
        ask(Ledger.read(tmp_path), pool, [0])


def test_unknown_and_damaged(tmp_path):
    with Ledger.open(tmp_path) as ledger, pytest.raises(LedgerError, match="never asked"):
        ledger.start("0" * 64)
    (tmp_path / "ledger.db").write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="cannot be read or written"):
        Ledger.open(tmp_path)
    with pytest.raises(LedgerError, match="cannot be read or written"):  # the lock was given back
        Ledger.open(tmp_path)


def test_an_interrupted_transaction_is_rolled_back(tmp_path, pool):
    with Ledger.open(tmp_path) as ledger:
        (key,) = ask(ledger, pool, [0])
        before = ledger.digest()

        class Broken(LabelledResult):
            @property
            def metadata(self):
                raise KeyboardInterrupt

        ledger.start(key)
        with pytest.raises(KeyboardInterrupt):
            ledger._change(key, "running", "done", result=object.__new__(Broken))
        assert ledger.states()[key] == "running"
    with Ledger.open(tmp_path) as ledger:
        assert ledger.digest() == before
    integrity = sqlite3.connect(tmp_path / "ledger.db")
    assert integrity.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    integrity.close()


def test_creation_interrupted_half_way(tmp_path):
    half = sqlite3.connect(tmp_path / ".ledger.db.part")
    half.execute("CREATE TABLE systems (id INTEGER)")
    half.close()
    (tmp_path / ".ledger.db.part-journal").write_bytes(b"left over")
    with Ledger.open(tmp_path) as ledger:
        assert ledger.counts()["asked"] == 0


def test_export_and_ase_read_it(opened, tmp_path, pool):
    with opened() as ledger:
        keys = ask(ledger, pool, [3, 0, 5])
        finish(ledger, keys[0])
        ledger.start(keys[1])
        ledger.fail(keys[1], "not converged")
        finish(ledger, keys[2])
        ledger.export(tmp_path / "labels.extxyz")
        again = read(tmp_path / "labels.extxyz")
        assert len(again) == 2
        assert again.families == ("primitive", "primitive")
        for entry, labels in zip(ledger.entries([keys[0], keys[2]]), again.labels, strict=True):
            assert labels.energy == pytest.approx(entry.result.energy, rel=1e-14)
            np.testing.assert_allclose(labels.forces, entry.result.forces, atol=1e-14)
    if (tmp_path / "ledger.db").exists():
        assert len(read(tmp_path / "ledger.db", check=False)) >= 2


def test_only_earlier_rounds(opened, tmp_path, pool):
    with opened() as ledger:
        for key in ask(ledger, pool, [0, 1]) + ask(ledger, pool, [2], 0, "batch"):
            finish(ledger, key)
        assert len(ledger.dataset()) == 3
        assert len(ledger.dataset(before_round=0)) == 2
        assert ledger.dataset().families == pool[[0, 1, 2]].families


def test_magnetic_moments_survive(opened, tmp_path):
    iron = bulk("Fe")
    iron.set_initial_magnetic_moments([2.2])
    with opened() as ledger:
        ledger.ask([iron], {}, round=0, role="batch", indices=[0], families=["1"])
        assert ledger.entries()[0].structure.get_initial_magnetic_moments() == [2.2]
