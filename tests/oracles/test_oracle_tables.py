"""Oracles as a user writes them: from TOML, with the ladder."""

import tomllib

import pytest
from ase.build import bulk
from ase.io import write

from bayespot.config import campaign_settings, oracle_of, parse_config, pool_of, resolved_toml
from bayespot.errors import ConfigError

TEXT = """
[potential]
form = "LennardJones"
species = ["Ar"]

[learn]
pool = "pool.extxyz"
oracle = "espresso"

[learn.oracle_settings]
kpts = {density = 3.0, gamma = true}
pseudopotentials = {Ar = "Ar.upf"}
input_data.system = {ecutwfc = 40, occupations = "smearing", degauss = 0.00735}
input_data.electrons = {conv_thr = 1e-9}

[learn.oracle_run]
command = ["mpirun", "-np", "4", "pw.x"]
check_command = false
pseudo_dir = "pseudo"
scratch = "scratch"
time_limit = 3600.0
memory_limit = 8000.0
environment = {OMP_NUM_THREADS = "1"}

[[learn.oracle_run.ladder]]
on = ["not_converged"]
change = {input_data.electrons = {mixing_beta = 0.2, electron_maxstep = 300}}

[[learn.oracle_run.ladder]]
on = ["not_converged"]
guess = {input_data.system = {degauss = 0.03}}

[[learn.oracle_run.ladder]]
on = ["crash", "killed", "time_limit"]
time_factor = 2.0
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pseudo").mkdir()
    (tmp_path / "pseudo" / "Ar.upf").write_text("anything")
    write(tmp_path / "pool.extxyz", [bulk("Ar", a=5.3), bulk("Ar", a=5.4)])
    return tmp_path


def test_an_oracle_with_its_ladder(folder):
    config = parse_config(tomllib.loads(TEXT), folder=folder)
    oracle = oracle_of(config, pool_of(config))
    assert oracle.run.command == ("mpirun", "-np", "4", "pw.x")
    assert oracle.run.pseudo_dir == str(folder / "pseudo")
    assert oracle.run.scratch == str(folder / "scratch")
    assert (oracle.run.time_limit, oracle.run.memory_limit) == (3600.0, 8000.0)
    assert [rung.on[0] for rung in oracle.run.ladder] == ["not_converged"] * 2 + ["crash"]
    assert oracle.run.ladder[1].guess == {"input_data": {"system": {"degauss": 0.03}}}
    assert oracle.run.ladder[2].time_factor == 2.0
    assert oracle.settings["keywords"]["input_data"]["system"]["ecutwfc"] == 40
    assert campaign_settings(config).initial == 5
    again = parse_config(tomllib.loads(resolved_toml(config)))
    assert oracle_of(again, pool_of(again)).settings == oracle.settings
    assert oracle_of(again, pool_of(again)).run == oracle.run


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("time_limit", "time_limt", "unknown key learn.oracle_run.time_limt; did you mean 'time_l"),
        ("guess =", "gess =", r"unknown key learn.oracle_run.ladder\[1\].gess; did you mean 'gu"),
        ('command = ["mpirun", "-np", "4", "pw.x"]', 'command = "pw.x"', "command = 'pw.x'"),
        ("time_limit = 3600.0", "time_limit = -1.0", "should be greater than 0"),
        ('oracle = "espresso"', 'oracle = "archive"', "learn.oracle_run has nothing to run"),
    ],
)
def test_mistakes_in_the_tables(old, new, match, folder):
    with pytest.raises(ConfigError, match=match):
        parse_config(tomllib.loads(TEXT.replace(old, new)), folder=folder)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"crash", "killed"', '"crashed"', "no kind of failure; did you mean 'crash'"),
        ("mixing_beta", "mixing_bta", "changes input_data.electrons.mixing_bta"),
        ("ecutwfc", "ecutwf", "did you mean 'ecutwfc'"),
        ("espresso", "expresso", "unknown oracle 'expresso'; did you mean 'espresso'"),
    ],
)
def test_mistakes_that_the_oracle_finds(old, new, match, folder):
    config = parse_config(tomllib.loads(TEXT.replace(old, new)), folder=folder)
    with pytest.raises(ConfigError, match=match):
        oracle_of(config, pool_of(config))
