"""The tables of workers and ledger, and the commands around them."""

import copy
import tomllib

import numpy as np
import pytest
from ase.build import bulk

from bayespot.cli import app
from bayespot.config import (
    campaign_settings,
    load_config,
    parse_config,
    resolved_toml,
    workers_of,
)
from bayespot.data.dataset import Dataset
from bayespot.errors import ConfigError

GOOD = {
    "name": "copper",
    "potential": {"form": "SuttonChen", "species": ["Cu"]},
    "fit": {"method": "laplace"},
    "learn": {"pool": "pool.extxyz", "oracle": "emt", "initial": 4, "test_fraction": 0.0},
}
SLURM = {"kind": "dask", "cluster": "slurm", "n": 8,
         "options": {"cores": 4, "memory": "8GB", "walltime": "01:00:00", "interface": "lo"}}


@pytest.fixture
def folder(tmp_path):
    cells = []
    for k in range(8):
        atoms = bulk("Cu", "fcc", a=3.5 + 0.03 * k, cubic=True)
        atoms.rattle(0.05, seed=k)
        cells.append(atoms)
    Dataset.from_atoms(cells, families=["strained"] * 8).write(tmp_path / "pool.extxyz")
    return tmp_path


def config(folder, **learn):
    content = copy.deepcopy(GOOD)
    content["learn"] |= learn
    return parse_config(content, folder=folder)


def test_defaults_calculate_here(folder):
    run = config(folder)
    settings = workers_of(run)
    assert (settings.kind, settings.n, settings.address) == ("none", 1, None)
    assert run.learn.ledger is None
    assert campaign_settings(run).max_attempts == 20


def test_a_cluster_comes_back_from_the_resolved_file(folder):
    run = config(folder, workers=SLURM, ledger="postgresql://group@db/labels", max_attempts=5)
    again = parse_config(tomllib.loads(resolved_toml(run)), folder="/")
    assert workers_of(again) == workers_of(run)
    assert workers_of(again).options["cores"] == 4
    assert again.learn.ledger == "postgresql://group@db/labels"
    assert campaign_settings(again).max_attempts == 5


def test_where_it_runs_does_not_change_what_it_is(folder):
    quiet = campaign_settings(config(folder)).identity()
    assert campaign_settings(config(folder, workers=SLURM)).identity() == quiet


@pytest.mark.parametrize(
    ("learn", "match"),
    [
        ({"workers": {"kind": "slurm"}}, r"learn\.workers\.kind = 'slurm' is not one of 'none'"),
        ({"workers": {"kind": "dask", "n": 0}}, r"learn\.workers\.n = 0 should be greater than or"),
        ({"workers": {"kind": "dask", "worker": 2}}, r"unknown key learn\.workers\.worker"),
        ({"workers": {"n": 4}}, r"n belongs to kind = 'processes' or 'dask', and the kind is"),
        ({"workers": {"kind": "parsl", "n": 4}}, r"n belongs to kind = 'processes' or 'dask'"),
        ({"workers": {"kind": "processes", "address": "tcp://x:1"}}, r"address belongs to .*dask"),
        ({"workers": {"kind": "dask", "provider": "SlurmProvider"}}, r"belongs to kind = 'parsl'"),
        ({"workers": {"kind": "dask", "address": "tcp://x:1", "n": 4}}, r"leave n out"),
        ({"workers": {"kind": "dask", "address": "login1"}}, r"nor its scheduler file"),
        ({"workers": {"kind": "dask", "cluster": "slurm"}}, r"options are missing: cluster ="),
        ({"workers": {"kind": "dask", "cluster": "slrum"}}, r"did you mean 'slurm'"),
        ({"workers": {"kind": "dask"}, "oracle": "archive"}, r"looks labels up"),
        ({"ledger": "labels.db"}, r"learn\.ledger = 'labels\.db' is no address of a PostgreSQL"),
        ({"ledger": "postgresql://a:secret@db/labels"}, r"learn\.ledger contains a password"),
        ({"max_attempts": 0}, r"learn\.max_attempts = 0"),
    ],
)
def test_mistakes(folder, learn, match):
    with pytest.raises(ConfigError, match=match) as caught:
        config(folder, **learn)
    assert "secret" not in str(caught.value)


def write(folder, learn):
    text = (
        'name = "copper"\n[potential]\nform = "LennardJones"\nspecies = ["Cu"]\n'
        '[fit]\nmethod = "laplace"\ndraws = 50\nstarts = 2\n'
        '[learn]\npool = "pool.extxyz"\noracle = "emt"\ninitial = 4\nbatch = 1\nrounds = 0\n'
        f"test_fraction = 0.0\n{learn}"
    )
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


def run_command(*words):
    from typer.testing import CliRunner

    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_job_script_is_printed(folder):
    pytest.importorskip("dask_jobqueue")
    path = write(folder, '[learn.workers]\nkind = "dask"\ncluster = "slurm"\n'
                         '[learn.workers.options]\ncores = 4\nmemory = "8GB"\ninterface = "lo"\n'
                         'account = "chem"\n')
    done = run_command("workers", "script", path)
    assert done.exit_code == 0, done.output
    assert done.output.startswith("#!/usr/bin/env bash")
    assert "#SBATCH -A chem" in done.output
    done = run_command("workers", "script", write(folder, ""))
    assert isinstance(done.exception, ConfigError)
    assert "there is no job script" in str(done.exception)


@pytest.mark.slow
def test_labels_are_exported_from_a_run_with_processes(folder, monkeypatch):
    """The whole way: a file, two processes, a campaign of the command line, its labels."""
    from bayespot.data.read import read

    monkeypatch.chdir(folder)
    path = write(folder, '[learn.workers]\nkind = "processes"\nn = 2\n')
    assert load_config(path).learn.workers.n == 2
    done = run_command("learn", path, "--no-baseline")
    assert done.exit_code == 0, (done.output, done.exception)
    campaign = folder / "copper-campaign" / "information_gain"
    done = run_command("labels", campaign, "labels.xyz")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "4 labels written" in done.output
    labels = read(folder / "labels.xyz")
    assert len(labels) == 4
    assert all(np.isfinite(label.energy) for label in labels.labels)
