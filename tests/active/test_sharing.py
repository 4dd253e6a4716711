"""Several writers and several drivers of one ledger, in a file and on a server."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import ase.db
import numpy as np
import pytest
from linear_learner import lj_oracle, make_pool
from writer import N, asked

from bayespot.active import database
from bayespot.active.database import LedgerDatabase, check_url, schema_name
from bayespot.active.ledger import Ledger
from bayespot.errors import ConfigError, LedgerError

WRITER = Path(__file__).with_name("writer.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
ORACLE = lj_oracle()


def writer(*words):
    return subprocess.Popen(
        [sys.executable, str(WRITER), *map(str, words)], env=ENVIRONMENT,
        stdout=subprocess.PIPE, text=True,
    )


def wait_for(process, word):
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == word:
            return
    raise AssertionError(f"the writer ended without saying {word}")


def ended(processes):
    codes = [process.wait(timeout=120) for process in processes]
    for process in processes:
        process.stdout.close()
    return codes


# -- several writers


def test_three_writers_claim_each_calculation_once(opened, tmp_path):
    with opened(shared=True) as ledger:
        keys = asked(ledger, list(range(N)), ORACLE)
        processes = [writer("work", tmp_path, tmp_path / f"mine_{i}") for i in range(3)]
        assert ended(processes) == [0, 0, 0]
        claims = [(tmp_path / f"mine_{i}").read_text().split() for i in range(3)]
        assert sorted(key for some in claims for key in some) == sorted(keys)
        assert ledger.counts() == {"asked": 0, "running": 0, "done": N, "failed": 0}
        assert [entry.attempts for entry in ledger.entries()] == [1] * N
        truth = ORACLE.label(make_pool(N).structures[7])
        assert ledger.entries([keys[7]])[0].result.energy == pytest.approx(truth.energy, rel=1e-14)


def test_three_writers_ask_for_the_same(opened, tmp_path):
    with opened(shared=True) as ledger:
        processes = [writer("ask", tmp_path, seed) for seed in range(3)]
        assert ended(processes) == [0, 0, 0]
        entries = ledger.entries()
        assert len(entries) == len({entry.key for entry in entries}) == N
        assert sorted(entry.data["index"] for entry in entries) == list(range(N))

        def selected(db):
            return [len(list(db.select(state="asked"))), len(list(db.select("Ar"))),
                    len(list(db.select(sort="round")))]

        # ASE's side tables belong to the right rows, also where inserts came from all sides
        assert ledger._database.run(selected) == [N, N, N]


def test_what_a_dead_writer_had_is_taken_again(opened, tmp_path):
    with opened(shared=True) as ledger:
        (key, *_) = asked(ledger, [0, 1], ORACLE)
        other = writer("hang", tmp_path)
        wait_for(other, "claimed")
        assert ledger.claim([key]) == []
        ledger.recover()
        assert ledger.states()[key] == "running"  # it lives, and its lease is renewed
        time.sleep(1.5)
        ledger.recover()
        assert ledger.states()[key] == "running"
        other.kill()
        ended([other])
        deadline = time.monotonic() + 30
        while ledger.states()[key] == "running" and time.monotonic() < deadline:
            time.sleep(0.2)
            ledger.recover()
        assert ledger.claim([key]) == [key]
        entry = ledger.entries([key])[0]
        assert [e["state"] for e in entry.data["events"]] == ["asked", "running"] * 2
        assert len({e["pid"] for e in entry.data["events"][1::2]}) == 2


def test_nobody_finishes_what_another_has(opened):
    with opened(shared=True) as one, opened(shared=True) as two:
        (key,) = asked(one, [0], ORACLE)
        one.start(key)
        with pytest.raises(LedgerError, match=r"is running, for .*, not running"):
            two.finish(key, ORACLE.label(make_pool(N).structures[0]))
        with pytest.raises(LedgerError, match=r"is running, for .*, not asked"):
            two.start(key)


def test_no_writer_beside_a_driver(opened):
    with opened(), pytest.raises(LedgerError, match="is driven by process"):
        opened(shared=True)
    with opened(shared=True), pytest.raises(LedgerError, match="is driven by process"):
        opened()
    opened().close()


# -- several drivers of a ledger on a server


@pytest.fixture
def on_server(postgres, tmp_path):
    def opened(folder, **more):
        return Ledger.open(tmp_path / folder, server=postgres.address, name=tmp_path.name, **more)

    return opened


def test_a_second_driver_in_another_folder_is_refused(on_server):
    with on_server("here"), pytest.raises(LedgerError, match="its lease runs out in"):
        on_server("there")
    on_server("there").close()


def test_a_driver_that_was_cut_off_is_replaced_and_then_stopped(on_server):
    first = on_server("here", lease=0.5)
    (key,) = asked(first, [0], ORACLE)
    first.start(key)
    first._heartbeat.stop()  # as if its machine had been frozen
    time.sleep(0.7)
    with on_server("there") as second:
        assert second.states()[key] == "asked"
        with pytest.raises(LedgerError, match="was taken over by process"):
            first.finish(key, ORACLE.label(make_pool(N).structures[0]))
        second.start(key)
    first.close()


def test_a_driver_that_was_cut_off_for_a_while_goes_on(on_server):
    with on_server("here", lease=0.5) as ledger:
        ledger._heartbeat.stop()
        time.sleep(0.7)
        assert len(asked(ledger, [0], ORACLE)) == 1


def test_the_renewal_says_what_happened(on_server):
    first = on_server("here", lease=0.5)
    first._database.run(lambda db: setattr(db, "metadata", {}), write=True)
    deadline = time.monotonic() + 20
    while first._heartbeat.error is None and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(LedgerError, match="was taken over"):
        first.check()
    first.close()


def test_other_settings_under_the_same_name(on_server):
    with on_server("here") as ledger:
        ledger.belongs_to("a")
        ledger.belongs_to("a")
    with on_server("there") as ledger, pytest.raises(ConfigError, match="holds another campaign"):
        ledger.belongs_to("b")


def test_a_folder_keeps_its_ledger(on_server, postgres, tmp_path):
    on_server("here").close()
    with Ledger.open(tmp_path / "here") as ledger:
        assert ledger._database.on_server
    with pytest.raises(ConfigError, match="leave it there, or use a new folder"):
        Ledger.open(tmp_path / "here", server=postgres.address.replace("group@", "other@"))
    Ledger.open(tmp_path / "file").close()
    with pytest.raises(ConfigError, match=r"is the file ledger\.db"):
        on_server("file")


# -- a server that goes away


def test_the_server_restarts(on_server, postgres):
    with on_server("here") as ledger:
        keys = asked(ledger, [0, 1], ORACLE)
        ledger.start(keys[0])
        postgres.stop()
        try:
            with pytest.raises(LedgerError, match="cannot be reached or written"):
                ledger._database.run(lambda db: db.count(), patience=0.2)
        finally:
            postgres.start()
        ledger.finish(keys[0], ORACLE.label(make_pool(N).structures[0]))
        assert list(ledger.states().values()) == ["done", "asked"]


def test_the_server_restarts_while_a_change_waits_for_it(on_server, postgres):
    from concurrent.futures import ThreadPoolExecutor

    with on_server("here") as ledger, ThreadPoolExecutor(1) as threads:
        (key,) = asked(ledger, [0], ORACLE)
        postgres.stop()
        try:
            change = threads.submit(ledger.start, key)
            time.sleep(0.3)
            assert not change.done()
        finally:
            postgres.start()
        change.result(timeout=60)
        assert ledger.entries([key])[0].attempts == 1


def test_a_commit_whose_answer_was_lost_is_not_done_twice(opened, monkeypatch):
    with opened() as ledger:
        (key,) = asked(ledger, [0], ORACLE)
        once, failed = LedgerDatabase._once, []

        def answer_lost(self, work, write):
            result = once(self, work, write)
            if not failed:
                failed.append(True)
                error = self._broken[0]("the answer was lost; locked")
                raise type("OperationalError", (self._broken[0],), {})(*error.args)
            return result

        monkeypatch.setattr(LedgerDatabase, "_once", answer_lost)
        ledger.start(key)
        assert failed
        assert ledger.entries([key])[0].attempts == 1


def test_a_server_that_is_not_there(tmp_path, postgres, monkeypatch):
    monkeypatch.setattr(database, "OPENING_PATIENCE", 0.2)
    nowhere = f"postgresql://group@/postgres?host={tmp_path}"
    with pytest.raises(LedgerError, match=r"cannot be reached or written .* check the server"):
        Ledger.open(tmp_path / "a", server=nowhere)
    with Ledger.open(tmp_path / "a", server=postgres.address):  # a wrong address is not kept
        pass


def test_a_user_who_may_not(tmp_path, postgres):
    import psycopg2

    connection = psycopg2.connect(postgres.address)
    connection.autocommit = True
    connection.cursor().execute("CREATE ROLE guest LOGIN")
    connection.close()
    guest = postgres.address.replace("group@", "guest@")
    with pytest.raises(LedgerError, match="GRANT CREATE ON DATABASE"):
        Ledger.open(tmp_path, server=guest, name="forbidden")


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("mysql://host/labels", "no address of a PostgreSQL server"),
        ("labels.db", "no address of a PostgreSQL server"),
        ("postgresql://ada:secret@host/labels", "contains a password"),
        ("postgresql://ada@host/labels?password=secret", "contains a password"),
        ("postgresql://ada@host/labels?options=-csearch_path%3Dx", "which bayespot needs"),
        ("postgresql://ada@host/", "names no database"),
    ],
)
def test_addresses_that_cannot_be(url, match):
    with pytest.raises(ConfigError, match=match) as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


def test_names_of_schemas():
    assert schema_name("Si-1 run.2_random") == "bayespot_si_1_run_2_random"
    assert schema_name("---") == "bayespot_campaign"
    assert len(schema_name("x" * 200)) <= 63


# -- what the database does


def test_a_full_disk(tmp_path):
    """The file may not grow: what was there stays, and the message says what to do."""
    with Ledger.open(tmp_path) as ledger:
        keys = asked(ledger, [0], ORACLE)
    size = (tmp_path / "ledger.db").stat().st_size
    code = (
        "import resource, signal, sys\n"
        "from linear_learner import lj_oracle\n"
        "from writer import asked, N\n"
        "from bayespot.active.ledger import Ledger\n"
        "with Ledger.open(sys.argv[1]) as ledger:\n"
        "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))\n"
        "    try: asked(ledger, list(range(N)), lj_oracle())\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(size)], env=ENVIRONMENT,
        capture_output=True, text=True, check=True,
    )
    assert "LedgerError" in done.stdout
    assert "free disk space" in done.stdout
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == -1
    with Ledger.open(tmp_path) as ledger:
        assert list(ledger.states()) == keys
        assert len(asked(ledger, list(range(N)), ORACLE)) == N


def test_a_change_reads_no_whole_table(opened, place):
    """ASE deletes and writes side rows by row number; without an index that reads every row."""
    with opened() as ledger:
        def indices(db):
            cursor = db.connection.cursor()
            if place:
                cursor.execute("SELECT indexname FROM pg_indexes WHERE schemaname=current_schema()")
            else:
                cursor.execute("SELECT name FROM sqlite_master WHERE type='index'")
            return {row[0] for row in cursor.fetchall()}

        tables = ("species", "keys", "text_key_values", "number_key_values")
        assert {f"{table}_by_row" for table in tables} <= ledger._database.run(indices)
        if not place:
            def plans(db):
                cursor = db.connection.cursor()
                found = []
                for table in tables:
                    cursor.execute(f"EXPLAIN QUERY PLAN DELETE FROM {table} WHERE id in (1)")
                    found += [row[-1] for row in cursor.fetchall()]
                return found

            assert all(f"{table}_by_row" in plan
                       for table, plan in zip(tables, ledger._database.run(plans), strict=True))


def test_both_databases_have_the_same_content(tmp_path, postgres):
    digests, exports = set(), set()
    result = ORACLE.label(make_pool(N).structures[3])
    for server in (None, postgres.address):
        folder = tmp_path / str(server is None)
        with Ledger.open(folder, server=server, name=f"{tmp_path.name} same") as ledger:
            keys = asked(ledger, [3, 1, 2], ORACLE)
            for key in keys[:2]:
                ledger.start(key)
            ledger.finish(keys[0], result)
            ledger.fail(keys[1], "no", kind="crash")
            digests.add(ledger.digest())
            ledger.export(tmp_path / "labels.xyz")
            exports.add((tmp_path / "labels.xyz").read_bytes())
    assert (len(digests), len(exports)) == (1, 1)


def test_ase_reads_a_ledger_on_a_server(on_server):
    with on_server("here") as ledger:
        (key,) = asked(ledger, [2], ORACLE)
        ledger.start(key)
        ledger.finish(key, ORACLE.label(make_pool(N).structures[2]))
        row = ase.db.connect(ledger._database._target).get(unique_id=key)
        np.testing.assert_allclose(row.forces, ledger.entries()[0].result.forces, rtol=0, atol=0)
        assert row.calculator == "lj"
