import json
from dataclasses import replace

import numpy as np
import pytest
from linear_learner import LinearPosterior, fit, linear_learner, lj_oracle, make_pool

from bayespot.active import (
    CampaignSettings,
    Ledger,
    compare_campaigns,
    labels_needed,
    run_baseline,
    run_campaign,
    status,
)
from bayespot.active.plan import folded_seed, make_plan
from bayespot.data.dataset import Dataset
from bayespot.data.read import read
from bayespot.errors import ConfigError, LabelError, LedgerError, NotConverged, OracleError
from bayespot.oracles import ArchiveOracle, CalculatorOracle, LabelledResult, structure_hash
from bayespot.records import read_json, write_json

SETTINGS = CampaignSettings(seed=1, initial=3, batch=2, rounds=3, test_fraction=0.25)


@pytest.fixture(scope="module")
def pool():
    return make_pool(20, labels=True)


@pytest.fixture(scope="module")
def finished(pool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "campaign"
    events = []
    result = run_campaign(
        SETTINGS, pool=pool, oracle=ArchiveOracle(pool), learner=linear_learner(), folder=folder,
        progress=events.append,
    )
    return folder, result, events


class Counting:
    """An oracle that counts its calls and fails as told."""

    def __init__(self, inner, failures=None):
        self.inner, self.failures, self.calls = inner, failures or {}, []
        self.name, self.settings = inner.name, inner.settings

    def label(self, structure):
        self.calls.append(structure_hash(structure))
        failure = self.failures.get(len(self.calls))
        if isinstance(failure, BaseException):
            raise failure
        result = self.inner.label(structure)
        return failure(result) if callable(failure) else result


def go(folder, pool, settings=SETTINGS, oracle=None, learner=None, **more):
    return run_campaign(
        settings, pool=pool, oracle=oracle or ArchiveOracle(pool),
        learner=learner or linear_learner(), folder=folder, **more,
    )


# -- a campaign that nothing happens to


def test_what_is_in_the_folder(finished):
    folder, result, events = finished
    assert [row["n_labels"] for row in result.curve] == [3, 5, 7, 9]
    assert result.counts == {"asked": 0, "running": 0, "done": 9, "failed": 0}
    assert result.curve[-1]["test"]["rmse"]["energy"] < result.curve[0]["test"]["rmse"]["energy"]
    assert result.coverage["energy"]["n"] == 6
    curve = json.loads((folder / "learning_curve.json").read_text())
    assert len(curve["rows"]) == 4
    assert curve["units"]["stress"] == "eV/Å³"
    assert {e.phase for e in events} == {"label", "fit", "test", "choose", "predict", "coverage"}
    assert not list(folder.rglob("*.part"))
    assert not list(folder.rglob("checkpoint"))


def test_the_summary_is_plain(finished):
    text = (finished[0] / "summary.md").read_text()
    assert "misfit = none" in text
    assert "overconfident" in text
    assert "| 3 | 9 |" in text
    assert "TOO NARROW" in text or "compatible with 90 %" in text


def test_predictions_come_before_labels(finished):
    folder = finished[0]
    for k in range(SETTINGS.rounds):
        written = (folder / f"round_{k:03d}" / "predicted.json").stat().st_mtime
        asked = [e for e in Ledger.read(folder).entries() if e.round == k]
        assert len(asked) == 2
        assert all(e.data["events"][1]["time"] >= written - 0.05 for e in asked)


def test_the_test_set_is_never_calculated_or_chosen(finished, pool):
    folder = finished[0]
    plan = read_json(folder / "plan.json")
    chosen = [e.data["index"] for e in Ledger.read(folder).entries()]
    assert not set(chosen) & set(plan["test"])
    families = [pool.families[i] for i in plan["test"]]
    assert len(plan["test"]) == 5
    assert {families.count(f) for f in set(families)} == {2, 3}


def test_status_while_nothing_runs(finished, tmp_path):
    state = status(finished[0])
    assert state["finished"]
    assert state["driver"] is None
    assert state["counts"]["done"] == 9
    assert state["last"]["round"] == 3
    with pytest.raises(LedgerError, match="holds no campaign"):
        status(tmp_path)


def test_running_again_does_nothing(finished, pool):
    folder, result, _ = finished
    oracle = Counting(ArchiveOracle(pool))
    digest = Ledger.read(folder).digest()
    before = (folder / "round_001" / "posterior.nc").stat().st_mtime_ns
    again = go(folder, pool, oracle=oracle)
    assert oracle.calls == []
    assert again.curve == result.curve
    assert Ledger.read(folder).digest() == digest
    assert (folder / "round_001" / "posterior.nc").stat().st_mtime_ns == before


def test_more_rounds_go_on(finished, pool, tmp_path):
    short, long = tmp_path / "short", tmp_path / "long"
    go(short, pool, replace(SETTINGS, rounds=1))
    go(short, pool)
    go(long, pool)
    assert Ledger.read(short).digest() == Ledger.read(long).digest()
    assert Ledger.read(short).digest() == Ledger.read(finished[0]).digest()


# -- interrupted


class Stop(BaseException):
    """Not an Exception: nothing may catch it, like a signal."""


@pytest.mark.parametrize("phase", ["label", "fit", "test", "choose", "predict", "coverage"])
def test_stopped_after_any_step(phase, finished, pool, tmp_path):
    oracle = Counting(ArchiveOracle(pool))
    seen = []

    def stop(event):
        if event.phase == phase and event.round == 1 and not seen:
            seen.append(event)
            raise Stop

    with pytest.raises(Stop):
        go(tmp_path, pool, oracle=oracle, progress=stop)
    state = status(tmp_path)
    assert (state["driver"], state["finished"]) == (None, False)
    go(tmp_path, pool, oracle=oracle)
    assert len(oracle.calls) == len(set(oracle.calls)) == 9
    assert Ledger.read(tmp_path).digest() == Ledger.read(finished[0]).digest()


def test_any_file_may_be_missing(finished, pool, tmp_path):
    """Every prefix of the written files is a state that a kill can leave."""
    go(tmp_path, pool)
    files = sorted(tmp_path.glob("round_*/*"), key=lambda p: p.stat().st_mtime_ns)
    for path in reversed(files[-9:]):
        path.unlink()
        (tmp_path / "learning_curve.json").unlink(missing_ok=True)
        result = go(tmp_path, pool)
        assert [row["n_labels"] for row in result.curve] == [3, 5, 7, 9]
    assert Ledger.read(tmp_path).digest() == Ledger.read(finished[0]).digest()


def test_stopped_while_calculating(finished, pool, tmp_path):
    oracle = Counting(ArchiveOracle(pool), {5: Stop()})
    with pytest.raises(Stop):
        go(tmp_path, pool, oracle=oracle)
    assert Ledger.read(tmp_path).counts()["running"] == 1
    go(tmp_path, pool, oracle=oracle)
    assert len(oracle.calls) == 10  # the one that was interrupted is calculated again
    assert Ledger.read(tmp_path).digest() == Ledger.read(finished[0]).digest()
    assert [e.attempts for e in Ledger.read(tmp_path).entries()] == [1, 1, 1, 1, 2, 1, 1, 1, 1]


# -- calculations that fail


def nan_forces(result):
    return replace(result, forces=np.full_like(result.forces, np.nan))


def test_failures_are_set_aside(pool, tmp_path):
    failures = {
        2: OracleError("not converged: KohnShamConvergenceError"),
        4: MemoryError("out of memory"),
        5: nan_forces,
        7: lambda r: replace(r, forces=r.forces[:-1]),
        8: lambda r: replace(r, forces=np.full_like(r.forces, 1e4)),
        9: lambda r: LabelledResult(energy=float("nan"), forces=r.forces),
    }
    fitted = []

    def watching(dataset, **more):
        fitted.append(len(dataset))
        assert all(np.all(np.abs(x.forces) < 100) for x in dataset.labels)
        return fit(dataset, **more)

    oracle = Counting(ArchiveOracle(pool), failures)
    result = go(tmp_path, pool, oracle=oracle, learner=linear_learner(fit=watching))
    assert fitted == [2, 2, 3, 3]
    assert result.counts == {"asked": 0, "running": 0, "done": 3, "failed": 6}
    reasons = [reason for _, reason in result.failures]
    for reason, text in zip(
        reasons,
        ["not converged", "MemoryError: out of memory", "not finite", "wrong number of atoms",
         "beyond the limit", "energy is not finite"],
        strict=True,
    ):
        assert text in reason
    assert len(set(oracle.calls)) == len(oracle.calls) == 9  # none is tried again or chosen again
    text = (tmp_path / "summary.md").read_text()
    assert "Failed calculations, set aside" in text
    assert "By kind: 2 not_finite" in text
    assert "MemoryError" in text
    assert result.curve[-1]["n_failed"] == 6


def test_nothing_works(pool, tmp_path):
    oracle = Counting(ArchiveOracle(pool), {i: OracleError("pw.x: not found") for i in range(9)})
    with pytest.raises(OracleError, match=r"not one of 3 calculations .* pw\.x: not found"):
        go(tmp_path, pool, oracle=oracle)


# -- posteriors that do not converge


def stubborn(good_from: int):
    """Fit that converges from a warmup factor on."""
    calls = []

    def fit_badly(dataset, *, seed, warmup_factor, checkpoint):
        calls.append((len(dataset), warmup_factor, seed))
        posterior = fit(dataset, seed=seed, warmup_factor=warmup_factor, checkpoint=checkpoint)
        converged = warmup_factor >= good_from
        problems = () if converged else ("R-hat of epsilon 1.3",)
        return LinearPosterior(posterior.mean, posterior.covariance, converged, problems)

    return fit_badly, calls


def test_twice_the_warmup_helps(pool, tmp_path):
    fit_badly, calls = stubborn(2)
    result = go(tmp_path, pool, learner=linear_learner(fit=fit_badly))
    assert [(n, f) for n, f, _ in calls] == [(n, f) for n in (3, 5, 7, 9) for f in (1, 2)]
    assert len({seed for *_, seed in calls}) == 8
    assert all(row["converged"] for row in result.curve)


def test_twice_the_warmup_does_not_help(pool, tmp_path):
    fit_badly, calls = stubborn(99)
    learner = linear_learner(fit=fit_badly)
    for _ in range(2):  # the second time without fitting again
        with pytest.raises(NotConverged, match=r"round 0 did not converge.*R-hat of epsilon 1\.3"):
            go(tmp_path, pool, learner=learner)
    assert len(calls) == 2
    changed = linear_learner(settings={"model": "linear", "warmup": 2000})
    result = go(tmp_path, pool, learner=changed)
    assert result.curve[0]["converged"]
    assert any("fit settings were changed 1" in note for note in result.notes)


def test_unconverged_and_allowed(pool, tmp_path):
    fit_badly, calls = stubborn(99)
    learner = linear_learner(fit=fit_badly)
    with pytest.raises(NotConverged, match="allow_unconverged = true"):
        go(tmp_path, pool, learner=learner)
    result = go(tmp_path, pool, replace(SETTINGS, allow_unconverged=True), learner=learner)
    assert len(calls) == 5  # round 0 was taken over, later rounds are fitted once
    assert not any(row["converged"] for row in result.curve)
    assert "has NOT converged (R-hat of epsilon 1.3)" in (tmp_path / "summary.md").read_text()


# -- pools, start sets, test sets


def test_the_pool_runs_dry(pool, tmp_path):
    small = pool[:8]
    settings = CampaignSettings(initial=2, batch=3, rounds=9, test_fraction=0.25)
    result = go(tmp_path, small, settings)
    assert [row["n_labels"] for row in result.curve] == [2, 5, 6]
    assert "round 1: 1 of a batch of 3 were left" in result.notes
    assert "round 2: the pool is empty" in result.notes
    assert status(tmp_path)["finished"]
    assert go(tmp_path, small, settings).curve == result.curve


def test_live_pool_without_labels(tmp_path):
    bare = make_pool(8)
    oracle = Counting(lj_oracle())
    result = go(tmp_path, bare, oracle=oracle)
    assert len(oracle.calls) == 8  # all of them: 3 + 2 + 2 + what is left of the batch
    assert result.curve[0]["test"] is None
    assert result.coverage["energy"]["n"] == 5
    assert any("no test set" in note for note in result.notes)
    assert "| 0 | 3 | - | - | - |" in (tmp_path / "summary.md").read_text()


def test_start_and_test_sets_of_their_own(pool, tmp_path):
    bare = make_pool(20)
    settings = replace(SETTINGS, initial=0, rounds=2)
    result = go(
        tmp_path, bare, settings, oracle=lj_oracle(), start=pool[:4], test=pool[4:8]
    )
    assert [row["n_labels"] for row in result.curve] == [4, 6, 8]
    assert result.curve[0]["test"]["n_structures"] == 4
    chosen = {e.data["index"] for e in Ledger.read(tmp_path).entries()}
    assert not chosen & set(range(8))


def test_duplicates_in_the_pool(pool, tmp_path):
    doubled = pool + pool
    plan = make_plan(SETTINGS, doubled)
    assert max(plan.candidates + plan.test) < len(pool)
    assert plan.notes == ("20 pool structures are duplicates and left out",)
    result = go(tmp_path, doubled)
    assert result.counts["done"] == 9


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"initial": 16}, "initial = 16 structures, but the pool argon has 15 after 5"),
        ({"batch": 0}, "batch = 0 must be 1 or more"),
        ({"test_fraction": 1.0}, "test_fraction = 1.0 must lie"),
        ({"acquisition": "best"}, "unknown acquisition 'best'"),
    ],
)
def test_settings_that_cannot_be(change, match, pool):
    with pytest.raises(ConfigError, match=match):
        make_plan(replace(SETTINGS, **change), pool)


def test_an_empty_pool():
    with pytest.raises(ConfigError, match="has no structure to choose from"):
        make_plan(SETTINGS, Dataset((), (), ()))


def test_another_campaign_in_the_folder(finished, pool):
    folder = finished[0]
    with pytest.raises(ConfigError, match="seed was 1, is 2"):
        go(folder, pool, replace(SETTINGS, seed=2))
    with pytest.raises(ConfigError, match="the pool is another one"):
        go(folder, pool[:19], oracle=ArchiveOracle(pool))
    with pytest.raises(ConfigError, match="the oracle is another one"):
        go(folder, pool, oracle=lj_oracle())


def test_a_damaged_file_is_named(pool, tmp_path):
    go(tmp_path, pool, replace(SETTINGS, rounds=1))
    path = tmp_path / "round_000" / "chosen.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(LedgerError, match=r"chosen\.json is not valid JSON"):
        go(tmp_path, pool, replace(SETTINGS, rounds=1))


# -- beside random choice


def test_the_baseline_shares_everything_but_the_choice(finished, pool, tmp_path):
    folder, result, _ = finished
    oracle = Counting(ArchiveOracle(pool))
    baseline = run_baseline(
        SETTINGS, folder=tmp_path, pool=pool, oracle=oracle, learner=linear_learner(),
        reuse=[folder],
    )
    assert read_json(tmp_path / "plan.json") == read_json(folder / "plan.json")
    assert baseline.curve[0]["test"] == result.curve[0]["test"]
    shared = {e.key for e in Ledger.read(folder).entries()}
    mine = {e.key for e in Ledger.read(tmp_path).entries()}
    assert len(oracle.calls) == len(mine - shared) < 9
    curves = compare_campaigns({"information_gain": folder, "random": tmp_path})
    assert curves["random"]["n_labels"] == [3, 5, 7, 9]
    assert curves["random"]["forces"][0] == curves["information_gain"]["forces"][0]


def test_labels_needed():
    curve = {"n_labels": [5, 10, 15, 20], "forces": [0.5, 0.2, 0.3, 0.1]}
    assert labels_needed(curve, "forces", 0.3) == 10
    assert labels_needed(curve, "forces", 0.25) == 20
    assert labels_needed(curve, "forces", 0.01) is None


def test_seeds_differ_by_round_and_purpose():
    seeds = {folded_seed(s, k, p) for s in (0, 1) for k in range(5) for p in ("fit 1", "choose")}
    assert len(seeds) == 20


def test_json_holds_what_json_can(tmp_path):
    write_json(tmp_path / "x.json", {"a": np.float64(0.1), "b": np.array([np.nan, 1]), "c": (1,)})
    assert read_json(tmp_path / "x.json") == {"a": 0.1, "b": [None, 1.0], "c": [1]}


# -- labels of one kind


def test_labels_say_where_they_come_from_and_are_not_mixed(tmp_path):
    """From the ledger into a file, and from there beside an oracle with other settings."""
    bare = make_pool(8)
    go(tmp_path / "a", bare, replace(SETTINGS, rounds=0), oracle=lj_oracle())
    Ledger.read(tmp_path / "a").export(tmp_path / "a.extxyz")
    labels = read(tmp_path / "a.extxyz")
    told = labels.provenances()
    assert [kind["settings"] for kind in told] == [lj_oracle().settings]
    assert {"version", "iterations", "wall_time_s", "cpu_time_s", "attempts"} <= set(told[0])
    other = CalculatorOracle("lj", {"epsilon": 0.0104, "sigma": 3.5, "rc": 6.0})
    match = r"start set a.extxyz: .*sigma = 3.5 and sigma = 3.4"
    with pytest.raises(LabelError, match=match):
        go(tmp_path / "b", bare, oracle=other, start=labels)
    with pytest.raises(ConfigError, match=r"cannot be reused.*sigma = 3.4 and sigma = 3.5"):
        go(tmp_path / "c", bare, oracle=other, reuse=[tmp_path / "a"])
    with pytest.raises(ConfigError, match=r"the oracle is another one .*sigma = 3.4 and sigma = 3"):
        go(tmp_path / "a", bare, replace(SETTINGS, rounds=0), oracle=other)
    known_better = read(tmp_path / "a.extxyz", skip=["provenance"])
    result = go(tmp_path / "d", bare, replace(SETTINGS, rounds=0), oracle=other, start=known_better)
    assert result.curve[0]["n_labels"] == 6
