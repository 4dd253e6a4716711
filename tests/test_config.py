import copy
import tomllib

import numpy as np
import pytest
from ase.build import bulk

from bayespot.active import potential_learner
from bayespot.config import (
    campaign_settings,
    dataset_of,
    fit_problem,
    floor_of,
    learner_of,
    load_config,
    oracle_of,
    parse_config,
    pool_of,
    potential_of,
    priors_of,
    resolved_toml,
    run_fit,
    start_of,
    write_resolved,
)
from bayespot.data.archives import archive_names
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import ConfigError, LabelError, PriorError
from bayespot.potentials.priors import LogNormal, Normal
from bayespot.units import GPA

GOOD = {
    "name": "argon",
    "seed": 3,
    "data": {"source": "argon.extxyz", "floor": "default"},
    "potential": {
        "form": "LennardJones",
        "species": ["Ar"],
        "fixed": {"e0": 0.0, "cutoff": 5.0},
    },
    "priors": {
        "sigma": {"kind": "lognormal", "median": 3.4, "sd": 0.1},
        "epsilon": {"kind": "normal", "mean": 0.01, "sd": 0.005, "low": 0.0},
    },
    "noise": {"nu_forces": 3},
    "fit": {"method": "laplace", "draws": 100},
    "learn": {"pool": "pool.extxyz", "initial": 2, "batch": 1, "oracle": "lj",
              "oracle_settings": {"sigma": 3.4, "epsilon": 0.01}},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    structures = [bulk("Ar", "fcc", a=a) for a in (5.2, 5.3, 5.4)]
    labels = [Labels(energy=0.1 * k, forces=np.zeros((1, 3))) for k in range(3)]
    families = ("cold", "cold", "hot")
    for name in ("argon.extxyz", "pool.extxyz"):
        Dataset.from_atoms(structures, labels, families=families).write(tmp_path / name)
    return tmp_path


def changed(path, value):
    """GOOD with one key changed, given as a dotted path; None takes it away."""
    content = copy.deepcopy(GOOD)
    *tables, key = path.split(".")
    table = content
    for name in tables:
        table = table.setdefault(name, {})
    if value is None:
        del table[key]
    else:
        table[key] = value
    return content


def test_defaults_and_types(folder):
    config = parse_config(GOOD, folder=folder)
    assert (config.seed, config.fit.chains, config.fit.warmup) == (3, 4, 300)
    assert config.noise.nu_forces == 3.0
    assert config.data.source == str(folder / "argon.extxyz")
    assert config.learn.acquisition == "information_gain"
    assert config.noise.misfit == "discrepancy"
    assert fit_problem(config).misfit == "discrepancy"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("nmae", "x", r"unknown key nmae; did you mean 'name'\?"),
        ("fit.chain", 4, r"unknown key fit.chain; did you mean 'chains'\?"),
        ("data.read.stres_key", "s", r"unknown key data.read.stres_key; did you mean 'stress_key'"),
        ("priors.sigma.media", 3.0, r"unknown key priors.sigma.media; did you mean 'median'\?"),
        ("data.floor", {"energy": 1e-3, "forces": 1e-2, "stress": 0.1},
         "unknown key data.floor.stress; did you mean 'stress_GPa'"),
        ("quux", 1, "unknown key quux; known: data, fit, learn, name"),
        ("potential.form", None, "potential.form is missing"),
        ("fit.chains", "4", "fit.chains = '4' should be a valid integer"),
        ("fit.chains", 0, "fit.chains = 0 should be greater than or equal to 1"),
        ("seed", True, "seed = True should be a valid integer"),
        ("learn.test_fraction", 1.5, "learn.test_fraction = 1.5 should be less than 1"),
        ("noise.nu_forces", -1, "noise.nu_forces = -1 should be greater than 0"),
        ("noise.temperature", "hot", "noise.temperature = 'hot' is not one of 'families' or"),
        ("noise.temperature", -1.0, "noise.temperature = -1.0 should be greater than 0"),
        ("fit.method", "nut", r"fit.method = 'nut' is not one of .*; did you mean 'nuts'\?"),
        ("learn.acquisition", "max-std", "did you mean 'max_std'"),
        ("priors.sigma.kind", "log", "priors.sigma: a prior needs kind = 'normal' or 'lognormal'"),
        ("priors.sigma.sd", float("inf"), "priors.sigma.sd = inf should be a finite number"),
        ("priors.sigma.low", 4.0, r"priors.sigma: the center 3.4 is outside of its bounds \(4"),
        ("priors.sigm", {"kind": "normal", "mean": 1.0, "sd": 1.0},
         r"priors.sigm is no parameter of LennardJones; did you mean 'sigma'\?"),
        ("potential.fixed.epsilonn", 1.0, r"potential.fixed.epsilonn .* did you mean 'epsilon'\?"),
        ("potential.fixed.sigma", 3.4, "sigma is in potential.fixed and in priors"),
        ("potential.form", "LenardJones", "potential.form = 'LenardJones'.*'LennardJones'"),
        ("potential.form", "Xyz", "'Xyz' is unknown; known: .*LennardJones, Mie, Morse"),
        ("potential.form", "Morse+ZBl", r"'Morse\+ZBl' is unknown; did you mean 'ZBL'"),
        ("potential.species", ["Aa"], r"potential.species\[0\] = 'Aa' is no chemical symbol"),
        ("potential.species", [], "potential.species = .* at least 1"),
        ("potential.hyper.cutoff", 5.0, "potential.hyper.cutoff is no setting .* it has: none"),
        ("data.source", "argo.xyz", "data.source = .*argo.xyz': no such file"),
        ("learn.pool", "silicon_gpaw_pb", "learn.pool = .* did you mean 'silicon_gpaw_pbe'"),
        ("data.floor", "archiv", r"data.floor = 'archiv' is no file; did you mean 'archive'\?"),
        ("data.floor", "archive", "data.floor = 'archive' needs a built-in archive"),
        ("learn.oracle", "archive", "learn.oracle_settings belong to a calculator"),
        ("fit.method", "map", "fit.method = 'map' is a single point"),
        ("noise.tails", "student", "misfit='discrepancy' with tails='student'.* or misfit='none'"),
        ("fit.method", "linear_gaussian", "LennardJones is not linear .*: use nuts"),
        ("potential.species", ["Ar", "Ar"], "potential: species=.* give each species once"),
        ("name", "../x", "name = '../x' should match"),
    ],
)  # fmt: skip
def test_every_mistake_is_named(folder, path, value, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(changed(path, value), folder=folder)


def test_all_mistakes_come_at_once(folder):
    content = changed("fit.chain", 4) | {"seed": -1}
    with pytest.raises(ConfigError, match=r"(?s)run.toml has 2 mistakes:.*seed = -1.*fit.chain"
                                          r"|has 2 mistakes:.*fit.chain.*seed"):  # fmt: skip
        parse_config(content, folder=folder, source="run.toml")


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "run.toml").write_text("a = [", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run.toml is not valid TOML"):
        load_config(tmp_path / "run.toml")
    with pytest.raises(ConfigError, match=r"there is no file .*rum.toml; did you mean 'run.toml'"):
        load_config(tmp_path / "rum.toml")


def test_resolved_file_reproduces_the_run(folder, tmp_path_factory):
    config = parse_config(GOOD, folder=folder)
    path = tmp_path_factory.mktemp("elsewhere") / "new" / "config.resolved.toml"
    write_resolved(config, path)
    assert load_config(path) == config
    assert resolved_toml(load_config(path)) == path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    written = tomllib.loads(path.read_text(encoding="utf-8"))
    assert written["fit"]["chains"] == 4  # defaults are written out


def test_changes_take_the_place_of_keys(folder):
    write_resolved(parse_config(GOOD, folder=folder), folder / "run.toml")
    config = load_config(folder / "run.toml", changes={"learn": {"rounds": 9}, "seed": 5})
    assert (config.learn.rounds, config.seed, config.learn.batch) == (9, 5, 1)
    with pytest.raises(ConfigError, match=r"unknown key learn.round; did you mean 'rounds'"):
        load_config(folder / "run.toml", changes={"learn": {"round": 9}})


def test_the_problem_is_the_one_described(folder):
    config = parse_config(GOOD, folder=folder)
    assert fit_problem(config).cutoff == pytest.approx(5.0, rel=1e-9)
    assert priors_of(config) == {
        "sigma": LogNormal(3.4, 0.1), "epsilon": Normal(0.01, 0.005, low=0.0)
    }  # fmt: skip
    problem = fit_problem(config)
    assert problem.space.names == ["epsilon", "sigma", "sigma_energy", "sigma_forces"]
    assert problem.space.fixed == {"e0": 0.0, "cutoff": 5.0, "switch_width": 1.0}
    assert problem.space.priors[1] == LogNormal(3.4, 0.1)
    assert problem.nu_forces == 3.0
    assert len(problem.dataset) == 3


def test_floor_in_four_ways(folder):
    table = {"energy": 2e-3, "forces": 3e-2, "stress_GPa": 0.1}
    floor = floor_of(parse_config(changed("data.floor", table), folder=folder))
    assert (floor.energy, floor.forces) == (2e-3, 3e-2)
    assert floor.stress == pytest.approx(0.1 / GPA)
    assert floor_of(parse_config(GOOD, folder=folder)).energy == 1e-3
    assert parse_config(changed("data.floor", None), folder=folder).data.floor == "default"
    text = '{"overall": {"s_energy": 5e-3, "s_forces": 0.02, "s_stress": 1e-4}}'
    (folder / "floor.json").write_text(text, encoding="utf-8")
    config = parse_config(changed("data.floor", "floor.json"), folder=folder)
    assert floor_of(config).energy == 5e-3


def test_data_are_filtered_and_checked(folder):
    config = parse_config(changed("data.families", ["hot"]), folder=folder)
    assert dataset_of(config).families == ("hot",)
    with pytest.raises(LabelError, match="no structure has family 'hott'; did you mean 'hot'"):
        dataset_of(parse_config(changed("data.families", ["hott"]), folder=folder))
    with pytest.raises(ConfigError, match=r"data.source = .* contains Ar, but potential.species"):
        dataset_of(parse_config(changed("potential.species", ["Ne"]), folder=folder))
    with pytest.raises(ConfigError, match=r"data.source is missing"):
        dataset_of(parse_config(changed("data.source", None), folder=folder))


def test_campaign_from_configuration(folder):
    config = parse_config(GOOD, folder=folder)
    settings = campaign_settings(config)
    assert (settings.seed, settings.initial, settings.batch, settings.rounds) == (3, 2, 1, 6)
    oracle = oracle_of(config, pool_of(config))
    assert oracle.settings["keywords"] == {"sigma": 3.4, "epsilon": 0.01}
    assert len(start_of(config)) == 3
    assert start_of(parse_config(changed("data.source", "pool.extxyz"), folder=folder)) is None
    learner = learner_of(config)
    assert learner.settings["potential"]["fixed"] == {"e0": 0.0, "cutoff": 5.0}
    assert learner.settings["method"] == "laplace"
    with pytest.raises(ConfigError, match=r"the table \[learn\] is missing"):
        pool_of(parse_config({k: v for k, v in GOOD.items() if k != "learn"}, folder=folder))


@pytest.mark.skipif("silicon_gpaw_pbe" not in archive_names(), reason="the archive is not built")
def test_gpaw_takes_the_settings_of_the_archive():
    from bayespot.demo import demo_config

    config = demo_config(oracle="gpaw", seed=4)
    assert config.learn.oracle_settings["xc"] == "PBE"
    assert config.learn.oracle_settings["occupations"]["name"] == "fermi-dirac"
    assert (config.seed, config.data.floor) == (4, "archive")
    assert parse_config(tomllib.loads(resolved_toml(config))) == config
    assert demo_config(short=True).learn.rounds < demo_config().learn.rounds
    assert len(pool_of(demo_config())) > 100


def test_cautions(folder):
    assert "Laplace" not in str(parse_config(GOOD, folder=folder).cautions())
    assert "publish with nuts" in parse_config(GOOD, folder=folder).cautions()[0]
    short = changed("fit", {"method": "nuts", "chains": 1, "draws": 50})
    first, second = parse_config(short, folder=folder).cautions()
    assert "fit.chains x fit.draws = 50" in first
    assert "R-hat compares chains" in second
    plain = parse_config(changed("noise.misfit", "none"), folder=folder).cautions()[0]
    assert plain.startswith('noise.misfit = "none": bars of a form that cannot be right')


def test_a_linear_form_is_its_own_discrepancy(folder):
    """By default its closed form is asked for; with that the whole run goes."""
    content = copy.deepcopy(GOOD)
    content["potential"] = {"form": "ACE", "species": ["Ar"],
                            "hyper": {"degree_1": 4, "degree_2": -1, "degree_3": -1}}
    del content["priors"]
    with pytest.raises(ConfigError, match="own discrepancy, and linear_gaussian has it"):
        parse_config(content, folder=folder)
    content["fit"] = {"method": "linear_gaussian", "draws": 100}
    config = parse_config(content, folder=folder)
    posterior = run_fit(config, fit_problem(config))
    assert (posterior.method, posterior.misfit) == ("linear_gaussian", "discrepancy")
    assert posterior.record["details"]["temperature"] >= 1.0
    learner = learner_of(config)
    with pytest.raises(PriorError, match="own discrepancy"):
        potential_learner(potential_of(config), method="nuts")
    again = learner.fit(dataset_of(config), seed=0, warmup_factor=1, checkpoint=folder)
    assert again.misfit == "discrepancy"
