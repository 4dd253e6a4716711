"""`bayespot converge` from its file to the floor that a fit uses, with ASE's Lennard-Jones."""

import json
import re
import shutil
import sys
import tomllib

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones

from bayespot.cli import main
from bayespot.config import fit_problem, floor_of, floor_words, parse_config
from bayespot.config.convergence import load_convergence, scans_of, target_of
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import ConfigError
from bayespot.units import GPA

CONFIG = """
name = "argon"
oracle = "lj"

[structures]
source = "argon.extxyz"

[settings]
sigma = 3.4
epsilon = 0.0104

[scan.cutoff]
key = "rc"
unit = "Å"
values = [6.0, 7.0, 8.5, 10.0, 12.0, 15.0, 18.0]

[target]
energy_difference = 1e-4
forces = 1e-3
stress_GPa = 0.01
"""


@pytest.fixture
def folder(tmp_path):
    frames = []
    for k in range(3):
        atoms = bulk("Ar", "fcc", a=5.25, cubic=True)
        atoms.rattle(0.08, seed=k)
        frames.append(atoms)
    data = Dataset.from_atoms(frames, families=["cold", "hot", "hot"])
    data.write(tmp_path / "argon.extxyz")
    (tmp_path / "argon.toml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["bayespot", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def potential_energy(atoms, rc):
    atoms = atoms.copy()
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=rc)
    return atoms.get_potential_energy() / len(atoms), atoms.get_forces()


def test_from_the_file_to_the_floor(folder, monkeypatch, capsys):
    out = folder / "out"
    assert command(monkeypatch, "converge", folder / "argon.toml", "--out", out) == 0
    said = capsys.readouterr().out
    assert "   0 of 21  cutoff = 18\n   3 of 21  cutoff = 15\n" in said  # the tightest first
    assert "Recommended: cutoff" in said
    assert {p.name for p in out.iterdir()} == {
        "calculations", "convergence.md", "convergence.json", "convergence.png", "floor.json",
        "recommended.toml"}
    settings = tomllib.loads((out / "recommended.toml").read_text(encoding="utf-8"))
    chosen = settings["rc"]
    record = json.loads((out / "convergence.json").read_text(encoding="utf-8"))
    assert chosen < 18.0
    assert record["recommended"] == settings == {"sigma": 3.4, "epsilon": 0.0104, "rc": chosen}
    frames = ase.io.read(folder / "argon.extxyz", ":")
    labels = {rc: [potential_energy(a, rc) for a in frames] for rc in (chosen, 18.0)}
    pairs = list(zip(labels[chosen], labels[18.0], strict=True))
    errors = np.array([low[0] - high[0] for low, high in pairs])
    floor = json.loads((out / "floor.json").read_text(encoding="utf-8"))
    off = record["uncertainty"]
    expected = np.hypot(np.std(errors, ddof=1), off["energy_difference"])
    assert floor["overall"]["s_energy"] == pytest.approx(expected, rel=1e-9)
    force = np.sqrt(np.mean([(low[1] - high[1]) ** 2 for low, high in pairs]))
    assert floor["overall"]["s_forces"] == pytest.approx(np.hypot(force, off["forces"]), rel=1e-9)
    # the same command calculates nothing again
    files = {p: p.stat().st_mtime_ns for p in (out / "calculations").iterdir()}
    assert command(monkeypatch, "converge", folder / "argon.toml", "--out", out) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "calculations").iterdir()} == files


def test_exit_code_says_that_nothing_meets_the_target(folder, monkeypatch, capsys):
    text = CONFIG.replace("8.5, 10.0, 12.0, 15.0, 18.0", "8.0").replace("1e-3", "1e-6")
    (folder / "argon.toml").write_text(text, encoding="utf-8")
    out = folder / "out"
    assert command(monkeypatch, "converge", folder / "argon.toml", "-o", out) == 1
    said = capsys.readouterr().out
    assert "No setting of these scans meets the target" in said
    assert "note: scan cutoff: the reference itself (8 Å) is not converged" in said
    assert not (out / "recommended.toml").exists()


def labelled(folder, name="labels.extxyz"):
    frames = ase.io.read(folder / "argon.extxyz", ":")
    labels = []
    for atoms in frames:
        energy, forces = potential_energy(atoms, 10.0)
        labels.append(Labels(energy * len(atoms), forces))
    Dataset.from_atoms(frames, labels, families=["cold", "hot", "hot"]).write(folder / name)


def fit_of(folder, **data):
    return parse_config({
        "data": {"source": "labels.extxyz", **data},
        "potential": {"form": "LennardJones", "species": ["Ar"], "fixed": {"cutoff": 6.0}},
    }, folder=folder)  # fmt: skip


def test_a_fit_uses_the_floor_beside_its_labels(folder, monkeypatch):
    """Measured floors are used without being asked for; a word or a table takes their place."""
    out = folder / "out"
    command(monkeypatch, "converge", folder / "argon.toml", "-o", out)
    measured = json.loads((out / "floor.json").read_text(encoding="utf-8"))
    labelled(folder)
    assert fit_of(folder).data.floor == "default"
    assert "is assumed: none was measured" in floor_words(fit_of(folder))

    shutil.copy(out / "floor.json", folder / "floor.json")
    config = fit_of(folder)
    assert config.data.floor == str(folder / "floor.json")
    assert f"was measured: {folder / 'floor.json'}" in floor_words(config)
    problem = fit_problem(config)
    for name in ("cold", "hot"):
        row = measured["families"][name]
        assert problem.floor.of(name) == pytest.approx(
            [row[f"s_{q}"] for q in ("energy", "forces", "stress")])
    # a pattern has the floor of its folder
    assert fit_of(folder, source="lab*.extxyz").data.floor == str(folder / "floor.json")

    own = {**measured, "overall": {**measured["overall"], "s_energy": 0.5}}
    (folder / "labels.floor.json").write_text(json.dumps(own), encoding="utf-8")
    assert floor_of(fit_of(folder)).energy == 0.5
    assert fit_of(folder, floor="default").data.floor == "default"
    table = {"energy": 1e-3, "forces": 1e-2, "stress_GPa": 0.1}
    assert "the one that the configuration gives" in floor_words(fit_of(folder, floor=table))
    assert floor_of(fit_of(folder, floor=table)).stress == pytest.approx(0.1 / GPA)


def test_a_floor_of_other_species_is_not_used(folder):
    labelled(folder)
    record = {"species": ["Kr"], "overall": dict.fromkeys(("s_energy", "s_forces", "s_stress"), 1)}
    (folder / "floor.json").write_text(json.dumps(record), encoding="utf-8")
    assert fit_of(folder).data.floor == "default"
    (folder / "floor.json").write_text("not JSON", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"floor\.json, the floor beside the labels, is no JSON"):
        fit_of(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('oracle = "lj"', "", "oracle is missing"),
        ("[scan.cutoff]", "[scna.cutoff]", "unknown key scna; did you mean 'scan'"),
        ('key = "rc"', 'keys = "rc"', "unknown key scan.cutoff.keys; did you mean 'key'"),
        ('key = "rc"', "", "the keyword of 'lj' for it is not known"),
        ("values = [6.0,", "values = [-6.0,", "-6.0 is not a positive number"),
        ('source = "argon', 'source = "argno', "structures.source = .*no such file"),
        ("stress_GPa", "stress", "unknown key target.stress; did you mean 'stress_GPa'"),
        ("forces = 1e-3", "forces = -1e-3", "target.forces = -0.001 "),
        ('oracle = "lj"', 'oracle = "archive"', "has labels at one setting; name a calculator"),
        ('key = "rc"', 'key = "sigma.rc"', "sigma = 3.4 of the settings is no table"),
    ],
)
def test_mistakes_of_the_file(folder, monkeypatch, capsys, old, new, message):
    (folder / "argon.toml").write_text(CONFIG.replace(old, new), encoding="utf-8")
    assert command(monkeypatch, "converge", folder / "argon.toml", "-o", folder / "out") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("ConfigError"), said
    assert re.search(message, said), said


def test_what_the_file_leaves_out(folder):
    text = CONFIG.split("[target]")[0]
    (folder / "argon.toml").write_text(text, encoding="utf-8")
    config = load_convergence(folder / "argon.toml")
    assert target_of(config) == {
        "energy_difference": 1e-3, "forces": 1e-2, "stress": pytest.approx(0.05 / GPA)}
    (scan,) = scans_of(config)
    assert (scan.name, scan.keys, scan.refine, scan.tighter) == ("cutoff", {"rc": 1.0}, True,
                                                                  "larger")
