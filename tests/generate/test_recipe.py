"""Whole sets: families, determinism, settings, drivers, the command line."""

import sys
from collections import Counter
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from bayespot.calculator import PosteriorCalculator
from bayespot.cli import main
from bayespot.config.generation import generation_of, generation_toml
from bayespot.errors import ConfigError, SpeciesError
from bayespot.generate.drivers import cheap_model, driver_of
from bayespot.generate.frames import minimum_distance
from bayespot.generate.recipe import generate
from bayespot.generate.settings import GenerationSettings
from bayespot.oracles import make_oracle
from bayespot.oracles.ase_calculator import OracleCalculator
from bayespot.report.generated import family_table

POSTERIOR = (Path(__file__).resolve().parents[2] / "models"
             / "silicon-stillinger_weber-gpaw_pbe-2026" / "posterior.nc")
SMALL = {
    "max_atoms": 9, "deformed": {"n": 7}, "defects": {"n": 5}, "surfaces": {"n": 3},
    "thermal": {"n": 2, "temperatures_K": [300.0], "volumes": [0.0], "equilibrate": 5,
                "interval": 3},
    "phases": {"n": 6, "liquid": 0},
}  # fmt: skip


def settings(**changes):
    return GenerationSettings.model_validate({**SMALL, **changes})


@pytest.fixture(scope="module")
def aluminium():
    return generate(settings(element="Al", seed=4))


def test_five_families(aluminium):
    counts = Counter(a.info["config_type"] for a in aluminium.structures)
    dropped = Counter(d.structure.info["config_type"] for d in aluminium.dropped)
    assert counts + dropped == {"strained": 7, "defect": 5, "surface": 3, "thermal": 2, "phase": 6}
    assert set(counts) == {"strained", "defect", "surface", "thermal", "phase"}
    kinds = {a.info["variant"] for a in aluminium.structures}
    assert {"perfect", "vacancy_Al", "hkl111", "hkl100"} <= kinds
    assert kinds & {"interstitial_site", "interstitial_split", "interstitial_void"}
    assert kinds & {"stacking_fault", "gamma_surface"}
    assert any(kind.startswith("adatom") for kind in kinds)
    for atoms in aluminium.structures:
        assert len(atoms) <= 9
        assert minimum_distance(atoms) >= 0.76 * 4.05 / np.sqrt(2) - 1e-9
        assert atoms.info["parent"] == "Al"
    assert aluminium.notes == ("Al: dynamics by effective-medium theory",)


def test_the_seed_decides(aluminium):
    again = generate(settings(element="Al", seed=4))
    other = generate(settings(element="Al", seed=5))

    def content(made):
        return b"".join(a.positions.tobytes() + a.cell.array.tobytes() for a in made.structures)

    assert content(again) == content(aluminium)
    assert content(other) != content(aluminium)
    seeds = [a.info["seed"] for a in aluminium.structures]
    assert len(set(seeds)) > 5, "each call has a seed of its own"


def test_progress_and_table(aluminium):
    told = []
    generate(settings(element="Al", thermal={"n": 0}, defects={"n": 0}, surfaces={"n": 0}),
             progress=lambda *what: told.append(what))
    assert told[0] == (0, 13, "Al: strained")
    assert told[-1] == (13, 13, "comparing environments")
    lines = family_table(aluminium)
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "strained", "defect", "surface", "thermal", "phase"]


def test_a_compound_has_antisites_and_its_own_phases(tmp_path):
    bulk("NaCl", "rocksalt", a=5.6, cubic=True).write(tmp_path / "salt.cif")
    made = generate(settings(structure=str(tmp_path / "salt.cif"), thermal={"n": 0}))
    kinds = Counter(a.info["variant"] for a in made.structures)
    assert {"antisite", "cesiumchloride", "zincblende"} <= set(kinds)
    assert {kind[:10] for kind in kinds if kind.startswith("vacancy")} == {
        "vacancy_Na", "vacancy_Cl"}
    assert "rocksalt" not in kinds
    assert {tuple(sorted(set(a.symbols))) for a in made.structures} == {("Cl", "Na")}
    alone = generate(settings(structure=str(tmp_path / "salt.cif")))
    assert "no thermal snapshots: there is no cheap model for Cl, Na" in alone.notes[0]
    with pytest.raises(ConfigError, match="no cheap model for Cl, Na"):
        cheap_model(bulk("NaCl", "rocksalt", a=5.6))


def test_an_alloy_shares_the_numbers_among_its_parents():
    made = generate(settings(species=["Al", "Cu"], prototype="fcc", alloys={"n": 6},
                             defects={"n": 4, "kinds": ["vacancy", "antisite"]}))
    counts = Counter(a.info["config_type"] for a in (*made.structures,
                                                      *(d.structure for d in made.dropped)))
    assert counts["alloy"] == 6
    assert counts["strained"] == 7
    assert {a.info["parent"] for a in made.structures} == {"Al", "Cu", "AlCu", "Al+Cu"}


def test_cheap_models():
    for symbol, words in (("Cu", "effective-medium"), ("Si", "Stillinger-Weber"),
                          ("Ti", "Morse")):
        cell = bulk(symbol).repeat(2)
        calculator, what = cheap_model(bulk(symbol))
        assert words in what
        cell.rattle(0.05, seed=0)
        cell.calc = calculator
        # the reference crystal is stable: rattling costs energy, and forces pull back
        perfect = bulk(symbol).repeat(2)
        perfect.calc = calculator
        assert cell.get_potential_energy() > perfect.get_potential_energy()
        back = np.sum(cell.get_forces() * (perfect.positions - cell.positions))
        assert back > 0
    silicon, _ = cheap_model(bulk("Si"))
    stretched = bulk("Si")
    stretched.calc = silicon
    assert np.abs(stretched.get_stress()).max() < 2e-4, "silicon's form is at its own bond length"


def test_drivers_by_name():
    cell = bulk("Si")
    assert isinstance(driver_of("auto", {}, cell)[0], type(cheap_model(cell)[0]))
    calculator, what = driver_of("emt", {}, bulk("Cu"))
    assert isinstance(calculator, OracleCalculator)
    assert what == "oracle emt"
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=1)
    label = make_oracle("emt").label(atoms)
    atoms.calc = calculator
    np.testing.assert_allclose(atoms.get_forces(), label.forces)
    np.testing.assert_allclose(atoms.get_stress(), label.stress)
    assert atoms.get_potential_energy() == label.energy
    with pytest.raises(ConfigError, match="no such file"):
        driver_of("lost.nc", {}, cell)
    with pytest.raises(ConfigError, match="named driver"):
        driver_of("auto", {"a": 1}, cell)
    with pytest.raises(ConfigError, match="did you mean"):
        driver_of("gpww", {}, cell)


@pytest.mark.skipif(not POSTERIOR.is_file(), reason="the published posterior is not here")
def test_the_current_posterior_drives():
    calculator, what = driver_of(str(POSTERIOR), {}, bulk("Si"))
    assert isinstance(calculator, PosteriorCalculator)
    assert "posterior" in what
    made = generate(settings(element="Si", driver=str(POSTERIOR), deformed={"n": 0},
                             defects={"n": 0}, surfaces={"n": 0}, phases={"n": 0}))
    assert [a.info["config_type"] for a in made.structures] == ["thermal"] * 2
    auto = generate(settings(element="Si", deformed={"n": 0}, defects={"n": 0},
                             surfaces={"n": 0}, phases={"n": 0}))
    assert not np.allclose(made.structures[0].positions, auto.structures[0].positions, atol=1e-4)


@pytest.mark.parametrize(("change", "words"), [
    ({"max_atoms": 2}, "max_atoms = 2: a vacancy or an interstitial needs a cell of 4 atoms"),
    ({"deformed": {"n": 0}, "defects": {"n": 0}, "surfaces": {"n": 0}, "thermal": {"n": 0},
      "phases": {"n": 0}}, "every n is 0"),
    ({"phases": {"n": 3, "liquid": 0, "names": ["fccc"]}}, "phase 'fccc' of Al is unknown"),
])
def test_settings_that_cannot_be_met(change, words):
    with pytest.raises(ConfigError, match=words):
        generate(settings(element="Al", **change))


def test_elements_without_symbols_get_a_hint():
    with pytest.raises(SpeciesError, match="did you mean 'Al'"):
        generate(settings(element="AL"))


@pytest.mark.parametrize(("text", "words"), [
    ('element = "Al"\n[deformed]\nm = 3', "unknown key deformed.m"),
    ('element = "Al"\n[deformd]\nn = 3', "did you mean 'deformed'"),
    ('element = "Al"\n[defects]\nn = -3', "defects.n = -3 should be greater than or equal to 0"),
    ('element = "Al"\n[surfaces]\nkinds = ["slabs"]', "did you mean 'slab'"),
    ('element = "Al"\n[deformed]\nvolume = [-2.0, 0.1]', "deformed.volume"),
    ('element = "Al"\nseed = "x"', "seed = 'x'"),
])
def test_mistakes_of_a_file(tmp_path, text, words):
    (tmp_path / "set.toml").write_text(text)
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        generation_of(str(tmp_path / "set.toml"))


def test_where_settings_come_from(tmp_path):
    assert generation_of("Si").element == "Si"
    assert generation_of("Al, Cu", changes={"prototype": "fcc"}).species == ["Al", "Cu"]
    bulk("Si").write(tmp_path / "a.cif")
    assert generation_of(str(tmp_path / "a.cif")).structure == str(tmp_path / "a.cif")
    (tmp_path / "set.toml").write_text('structure = "a.cif"\ndriver = "p.nc"\nseed = 3')
    found = generation_of(str(tmp_path / "set.toml"), changes={"seed": 8})
    assert found.structure == str(tmp_path / "a.cif")
    assert found.driver == str(tmp_path / "p.nc")
    assert found.seed == 8
    (tmp_path / "again.toml").write_text(generation_toml(found))
    assert generation_of(str(tmp_path / "again.toml")) == found
    with pytest.raises(ConfigError, match="there is no file"):
        generation_of(str(tmp_path / "lost.toml"))


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["bayespot", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_the_command(command, tmp_path):
    (tmp_path / "set.toml").write_text(
        'element = "Ni"\nmax_atoms = 8\n[deformed]\nn = 4\n[defects]\nn = 3\n[surfaces]\nn = 2\n'
        "[thermal]\nn = 0\n[phases]\nn = 3\nliquid = 0\n")
    code, out, _ = command("generate", "set.toml", "--out", "pool.xyz", "--seed", 7)
    assert code == 0
    assert "structures" in out
    frames = ase.io.read(tmp_path / "pool.xyz", ":")
    first = (tmp_path / "pool.xyz").read_bytes()
    assert {a.info["config_type"] for a in frames} == {"strained", "defect", "surface", "phase"}
    assert f"{len(frames)} structures" in out
    assert (tmp_path / "pool.png").stat().st_size > 10_000
    assert "| strained |" in (tmp_path / "pool.md").read_text()
    code, _, _ = command("generate", "pool.toml", "--out", "again.xyz")
    assert code == 0
    assert (tmp_path / "again.xyz").read_bytes() == first, "the settings beside it make it again"


@pytest.mark.parametrize(("source", "words"), [
    ("Xq", "no chemical symbol"), ("lost.cif", "no such file"), ("Al,Cu", "need a prototype")])
def test_the_command_says_what_is_wrong(command, source, words):
    code, _, said = command("generate", source, "--out", "pool.xyz")
    assert code == 2
    assert words in said
