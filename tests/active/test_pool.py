"""Pools in files: the scores of the rules, a shortlist that loses little, and nothing lost."""

import csv
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ase.build import bulk
from ase.db import connect
from ase.io import write

import bayespot
from bayespot.active import pool as pool_module
from bayespot.active import pool_scores
from bayespot.active.acquisition import choose
from bayespot.active.designs import (
    expected_information,
    greedy_information,
    greedy_matching,
    greedy_rows,
    root_of,
)
from bayespot.active.linear_information import label_rows
from bayespot.active.pool import Pool, PoolScores, score_pool
from bayespot.active.pool_choice import choose_from_pool
from bayespot.active.pool_scores import scorer
from bayespot.cli import main
from bayespot.errors import ConfigError, PriorError
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.inference.map import map_estimate
from bayespot.likelihood import FitProblem
from bayespot.pending import pending_problem
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.potentials.morse import Morse
from bayespot.prediction import information, predict

MODELS = Path(__file__).resolve().parents[2] / "models"


def cells(n, seed):
    rng = np.random.default_rng(seed)
    found = []
    for k in range(n):
        atoms = bulk("Si", "diamond", a=5.43, cubic=k % 3 == 0)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(0, 0.06)
                                           * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += rng.uniform(0, 0.2) * rng.standard_normal((len(atoms), 3))
        atoms.info["config_type"] = "ab"[k % 2]
        found.append(atoms)
    return found


@pytest.fixture(scope="module")
def silicon():
    return Posterior.load(next(MODELS.glob("silicon-stillinger_weber-*")) / "posterior.nc")


@pytest.fixture(scope="module")
def ace():
    form = ACE(species=("Si",), cutoff=4.5, r0=2.37, degree_1=4, degree_2=3, degree_3=-1)
    problem = FitProblem(form, bayespot.read("silicon_gpaw_pbe")[::4], misfit="none")
    return linear_gaussian(problem, key=jax.random.key(0), draws=400)


@pytest.fixture(scope="module")
def many():
    return cells(240, seed=3)


@pytest.fixture(scope="module")
def path(many, tmp_path_factory):
    file = tmp_path_factory.mktemp("pool") / "pool.xyz"
    bayespot.data.dataset.Dataset.from_atoms(many).write(file)
    return file


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(pool_scores, "BLOCK_ATOMS", 200)
    monkeypatch.setattr(pool_module, "BLOCK_ATOMS", 200)


# ------------------------------------------------------------------------------- the designs


def test_greedy_by_rows_is_greedy_by_matrices():
    rng = np.random.default_rng(0)
    p, rows = 9, [rng.standard_normal((rng.integers(1, 20), 9)) for _ in range(30)]
    half = rng.standard_normal((p, p))
    covariance = half @ half.T
    root = root_of(covariance)
    np.testing.assert_allclose(root @ root.T, covariance, rtol=1e-10)
    fisher = np.stack([a.T @ a for a in rows])
    expected = greedy_information(covariance, fisher, 12)
    found = greedy_rows([a @ root for a in rows], 12)
    assert found[0] == expected[0]
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-8)


def test_matching_a_region_that_is_given():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((40, 5, 4))
    fisher = np.swapaxes(rows, 1, 2) @ rows
    region = (np.eye(4) + fisher.sum(axis=0)) / 40
    assert greedy_matching(fisher, [], range(40), 6)[0] == greedy_matching(
        fisher, [], range(40), 6, region)[0]
    other = greedy_matching(fisher, [], range(40), 6, np.diag([9.0, 1.0, 1.0, 1.0]))[0]
    assert other != greedy_matching(fisher, [], range(40), 6)[0]


def test_rows_of_a_linear_form(ace, many):
    """Against the Fisher matrices of automatic differentiation, by structure."""
    _, fisher = information(ace, many[:12])
    rows = label_rows(pending_problem(ace, many[:12]), ace.u.mean(axis=0))
    np.testing.assert_allclose(np.stack([a.T @ a for a in rows]), fisher,
                               rtol=1e-8, atol=1e-8 * np.abs(fisher).max())
    assert max(len(a) for a in rows) <= 3 * 8 + 7
    morse = FitProblem(Morse(species=("Si",)), bayespot.read("silicon_gpaw_pbe")[:2])
    with pytest.raises(PriorError, match="not linear"):
        label_rows(morse, np.zeros(9))


# -------------------------------------------------------------------------------- the scores


def test_scores_are_those_of_the_rules(ace, many, path, tmp_path, small_blocks):
    """Block by block, as `choose` gives them for the whole pool in memory."""
    pool = Pool(path)
    assert len(pool) == 240
    for rule in ("max_std", "information_gain"):
        options = {"quantile": 0.9, "n_draws": 30, "allow_unconverged": False}
        found = score_pool(scorer(rule, ace, **options), pool, tmp_path / rule)
        expected = choose(rule, ace, many, 5, quantile=0.9, n_draws=30).scores
        np.testing.assert_allclose(found.scores, expected, rtol=1e-6)
        assert found.fresh == 240
        assert not found.aside
        if rule == "max_std":
            grades = predict(ace, many, n_draws=30).extrapolation
            np.testing.assert_allclose(found.grades, grades, rtol=1e-6)
    with open(tmp_path / "max_std" / "scores.csv", newline="") as file:
        row = list(csv.DictReader(file))[7]
    assert row["place"] == "pool.xyz, frame 7"
    assert (row["frame"], row["family"], row["atoms"]) == ("7", "b", "2")


def test_the_default_rule_with_a_form_that_is_not_linear(silicon, many, path, tmp_path):
    """The published silicon posterior: gains and batch of the whole pool in memory."""
    choice = choose_from_pool(silicon, path, 5, tmp_path, shortlist=240)
    expected = choose("information_gain", silicon, many, 5)
    assert choice.frames == expected.indices
    np.testing.assert_allclose(choice.gains, expected.gains, rtol=1e-6)
    np.testing.assert_allclose(choice.scores, expected.scores[list(choice.frames)], rtol=1e-6)
    assert choice.certain == 5


def test_spread_of_a_calibrated_posterior(many, path, tmp_path):
    """Beyond the calibrated range the spread is widened, as in `predict`."""
    form = ACE(species=("Si",), cutoff=4.5, r0=2.37, degree_1=4, degree_2=-1, degree_3=-1)
    data = bayespot.read("silicon_gpaw_pbe")[::4]
    posterior = linear_gaussian(FitProblem(form, data, misfit="tempered"),
                                key=jax.random.key(0), draws=100)
    assert posterior.calibrated
    choice = choose_from_pool(posterior, path, 3, tmp_path, rule="max_std", n_draws=50)
    expected = choose("max_std", posterior, many, 3, n_draws=50)
    assert choice.frames == expected.indices
    np.testing.assert_allclose(choice.scores, expected.gains, rtol=1e-6)
    assert choice.grades[0] > 1


# ------------------------------------------------------------------------------ the shortlist


def test_shortlist_loses_little(ace, many, path, tmp_path):
    """A sixth of the pool: the gain of the batch within 3 % of the rule on the whole pool."""
    covariance, fisher = information(ace, many)
    whole = greedy_information(covariance, fisher, 8)
    part = choose_from_pool(ace, path, 8, tmp_path, shortlist=40)
    assert part.n_shortlist == 40
    gains = [expected_information(covariance, fisher, c) for c in (whole[0], part.frames)]
    assert gains[1] >= 0.97 * gains[0]
    assert part.frames[: part.certain] == tuple(whole[0][: part.certain])
    np.testing.assert_allclose(part.gains.sum(), gains[1], rtol=1e-6)


def test_certain_picks_are_certain(ace, many, path, tmp_path):
    """Whatever the shortlist: what is called certain is what the whole pool gives."""
    covariance, fisher = information(ace, many)
    whole = greedy_information(covariance, fisher, 6)[0]
    counts = []
    for size in (6, 12, 60, 240):
        part = choose_from_pool(ace, path, 6, tmp_path, shortlist=size)
        assert part.frames[: part.certain] == tuple(whole[: part.certain])
        counts.append(part.certain)
    assert counts[-1] == 6
    assert sorted(counts) == counts


def distance(fisher, batch):
    size, p = fisher.shape[:2]
    values, vectors = np.linalg.eigh((np.eye(p) + fisher.sum(axis=0)) / size)
    root = vectors / np.sqrt(values)
    mean = root.T @ fisher[list(batch)].mean(axis=0) @ root
    return float(((mean - np.eye(p)) ** 2).sum())


def test_matching_with_a_shortlist(ace, many, path, tmp_path):
    """Half of the pool: in the mean within a tenth of the way to choice at random.

    The rule is greedy and its objective not submodular: single shortlists come out better or worse.
    """
    _, fisher = information(ace, many)
    whole = greedy_matching(fisher, [], range(240), 10)[0]
    rng = np.random.default_rng(0)
    chance = np.median([distance(fisher, rng.permutation(240)[:10]) for _ in range(200)])
    best, excess = distance(fisher, whole), []
    for seed in range(6):
        part = choose_from_pool(ace, path, 10, tmp_path, rule="information_matching",
                                shortlist=120, seed=seed)
        assert part.unit == "1"
        excess.append((distance(fisher, part.frames) - best) / (chance - best))
    assert np.mean(excess) < 0.1
    assert max(excess) < 0.5
    everything = choose_from_pool(ace, path, 10, tmp_path, rule="information_matching",
                                  shortlist=240)
    assert everything.frames == tuple(whole)


def test_random_and_a_pool_that_is_small(ace, path, tmp_path):
    choice = choose_from_pool(ace, path, 4, tmp_path, rule="random", seed=1)
    again = choose_from_pool(ace, path, 4, tmp_path, rule="random", seed=1)
    other = choose_from_pool(ace, path, 4, tmp_path, rule="random", seed=2)
    assert choice.frames == again.frames != other.frames
    assert not (tmp_path / "scores.csv").exists()
    whole = choose_from_pool(ace, path, 1000, tmp_path, rule="random")
    assert sorted(whole.frames) == list(range(240))


def test_the_batch_is_written(ace, many, path, tmp_path):
    choice = choose_from_pool(ace, path, 3, tmp_path, rule="max_std", n_draws=20)
    back = bayespot.read(tmp_path / "chosen.xyz", require_labels=False)
    for frame, atoms, family in zip(choice.frames, back.structures, back.families, strict=True):
        assert atoms.info["bayespot_pool_frame"] == frame
        np.testing.assert_allclose(atoms.positions, many[frame].positions, rtol=1e-12)
        assert family == many[frame].info["config_type"]


# ------------------------------------------------------------------- what can go wrong


def spoilt(many, folder):
    """Overlapping atoms, an unknown species, a damaged line, and a file that was cut off."""
    frames = [atoms.copy() for atoms in many[:40]]
    frames[5].positions[1] = frames[5].positions[0]
    frames[9].symbols[0] = "Ge"
    file = folder / "spoilt.xyz"
    bayespot.data.dataset.Dataset.from_atoms(frames).write(file)
    lines = file.read_text().splitlines(keepends=True)
    starts = [k for k, line in enumerate(lines) if line.strip().isdigit()]
    lines[starts[20] + 2] = "Si 1.0 two 3.0\n"
    file.write_text("".join(lines[:-1]))
    return file


def test_bad_frames_are_set_aside(ace, many, tmp_path, small_blocks):
    file = spoilt(many, tmp_path)
    for rule in ("max_std", "information_gain", "information_matching", "random"):
        choice = choose_from_pool(ace, file, 30, tmp_path / rule, rule=rule, n_draws=20)
        assert choice.aside == {"StructureError": 3, "SpeciesError": 1}, rule
        assert len(choice.frames) == 30
        assert not {5, 9, 20, 39} & set(choice.frames)
        assert choice.examples["SpeciesError"].startswith("spoilt.xyz, frame 9: GeSi")
        assert "frame 5" in choice.examples["StructureError"]
        told = "\n".join(choice.lines())
        assert "set aside 4 structures that cannot be used" in told
    scores = PoolScores.read(tmp_path / "max_std" / "scores.csv")
    assert np.flatnonzero(np.isnan(scores.scores)).tolist() == [5, 9, 20, 39]
    text = (tmp_path / "max_std" / "scores.csv").read_text()
    assert '"spoilt.xyz, the rest"' in text
    assert "the file is cut off" in text


def test_nothing_that_can_be_used(ace, many, tmp_path):
    atoms = many[0].copy()
    atoms.symbols[:] = "Ge"
    write(tmp_path / "ge.xyz", [atoms] * 3, format="extxyz")
    with pytest.raises(ConfigError, match=r"no structure of ge\.xyz can be used: .*contains Ge"):
        choose_from_pool(ace, tmp_path / "ge.xyz", 2, tmp_path / "out")


def stop_at(limit):
    def progress(done, total, message):
        assert total == 240
        if done > limit:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("rule", ["information_gain", "information_matching"])
def test_killed_and_continued(ace, path, tmp_path, small_blocks, rule):
    """Stopped between blocks and in the middle of a line: the same file, and no score twice."""
    options = {"rule": rule, "shortlist": 60}
    whole = choose_from_pool(ace, path, 5, tmp_path / "whole", **options)
    assert whole.n_scored == 240
    folder, seen = tmp_path / "killed", []
    for limit in (50, 120):
        with pytest.raises(KeyboardInterrupt):
            choose_from_pool(ace, path, 5, folder, progress=stop_at(limit), **options)
        with open(folder / "scores.csv", "a") as file:
            file.write("77,pool.xyz, fra")
    again = choose_from_pool(ace, path, 5, folder, progress=lambda *a: seen.append(a[0]),
                             **options)
    assert 0 < again.n_scored < 120
    assert again.frames == whole.frames
    first, second = (PoolScores.read(tmp_path / name / "scores.csv").scores
                     for name in ("whole", "killed"))
    np.testing.assert_allclose(second, first, rtol=1e-8)
    assert len(second) == seen[-1] == 240
    assert choose_from_pool(ace, path, 5, folder, **options).n_scored == 0


def test_sums_behind_the_scores_are_made_again(ace, path, tmp_path, small_blocks):
    """Rows that were written before their sum was are not trusted."""
    options = {"rule": "information_matching", "shortlist": 60}
    whole = choose_from_pool(ace, path, 5, tmp_path, **options)
    (tmp_path / "sums.npz").unlink()
    again = choose_from_pool(ace, path, 5, tmp_path, **options)
    assert again.n_scored == 240
    assert again.frames == whole.frames


def test_a_folder_of_other_work_is_refused(ace, silicon, many, path, tmp_path):
    folder = tmp_path / "scores"
    choose_from_pool(ace, path, 3, folder, rule="max_std", n_draws=20)
    for change, what in (({"n_draws": 30}, "n_draws"), ({"quantile": 0.5}, "quantile"),
                         ({"rule": "information_gain"}, "rule")):
        with pytest.raises(ConfigError, match=f"scores of another .*{what}"):
            choose_from_pool(ace, path, 3, folder,
                             **{"rule": "max_std", "n_draws": 20, **change})
    with pytest.raises(ConfigError, match="scores of another posterior"):
        choose_from_pool(silicon, path, 3, folder, rule="max_std", n_draws=20)
    other = tmp_path / "other.xyz"
    write(other, many[:10], format="extxyz")
    with pytest.raises(ConfigError, match="scores of another pool"):
        choose_from_pool(ace, other, 3, folder, rule="max_std", n_draws=20)


def test_several_files_and_databases(ace, many, path, tmp_path):
    rows = tmp_path / "rows.db"
    with connect(rows) as database:
        for atoms in many[:20]:
            database.write(atoms)
    assert len(Pool([path, rows])) == 260
    choice = choose_from_pool(ace, [rows, path], 4, tmp_path / "out", rule="max_std", n_draws=20)
    assert choice.n_pool == 260
    assert sum("row" in place for place in choice.places) <= 2  # the copies score the same


def test_what_cannot_be_asked(ace, path, tmp_path):
    with pytest.raises(ConfigError, match="unknown rule 'max'"):
        choose_from_pool(ace, path, 3, tmp_path, rule="max")
    with pytest.raises(ConfigError, match="batch = 0"):
        choose_from_pool(ace, path, 0, tmp_path)
    with pytest.raises(ConfigError, match="shortlist of 2 structures is less than a batch of 3"):
        choose_from_pool(ace, path, 3, tmp_path, shortlist=2)
    with pytest.raises(ConfigError, match="quantile = 2"):
        choose_from_pool(ace, path, 3, tmp_path, rule="max_std", quantile=2.0)
    with pytest.raises(ConfigError, match="gives no score"):
        scorer("random", ace, 0.95, 10, False)
    point = map_estimate(FitProblem(Morse(species=("Si",), cutoff=4.5),
                                    bayespot.read("silicon_gpaw_pbe")[:6], misfit="none"),
                         key=jax.random.key(0), starts=2)
    with pytest.raises(ConfigError, match="a map posterior is a single point"):
        choose_from_pool(point, path, 3, tmp_path, allow_unconverged=True)


def test_too_many_matrices(ace, path, tmp_path, monkeypatch):
    monkeypatch.setattr(pool_scores, "MATRIX_BYTES", 10_000)
    with pytest.raises(ConfigError, match=r"a shortlist of \d+ is the largest"):
        choose_from_pool(ace, path, 3, tmp_path, rule="information_matching", shortlist=60)


def test_command(ace, many, tmp_path, monkeypatch, capsys):
    ace.save(tmp_path / "posterior.nc")
    spoilt(many, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bayespot", "score", "posterior.nc", "spoilt.xyz",
                                      "--batch", "4", "--out", "next"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "to calculate next" in printed
    assert "4 of 40 structures" in printed
    assert "set aside 4 structures" in printed
    assert len(bayespot.read(tmp_path / "next" / "chosen.xyz", require_labels=False)) == 4
