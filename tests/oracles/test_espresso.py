"""Quantum ESPRESSO itself, on cells and cutoffs of a second each; what its settings may not be."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from bayespot.errors import ConfigError, OracleError
from bayespot.oracles import calculation_key, make_oracle
from bayespot.oracles.espresso import mesh, nested_input

PSEUDO = Path(os.environ.get("ESPRESSO_PSEUDO", "/usr/share/espresso/pseudo"))
NAME = "Si.pz-vbc.UPF"
INPUT = {"ecutwfc": 12, "occupations": "smearing", "smearing": "fermi-dirac", "degauss": 0.00735,
         "conv_thr": 1e-8}  # fmt: skip
SETTINGS = {"input_data": INPUT, "pseudopotentials": {"Si": NAME},
            "kpts": {"density": 1.0, "gamma": True}}  # fmt: skip

needs_espresso = pytest.mark.skipif(
    shutil.which("pw.x") is None or not (PSEUDO / NAME).is_file(),
    reason=f"needs pw.x (apt install quantum-espresso) and {PSEUDO / NAME}",
)


@pytest.fixture
def silicon():
    atoms = bulk("Si")
    atoms.rattle(0.05, seed=1)
    return atoms


def espresso(change=None, **run):
    settings = SETTINGS | {"input_data": INPUT | (change or {})}
    return make_oracle("espresso", settings, run={"pseudo_dir": str(PSEUDO)} | run)


@needs_espresso
@pytest.mark.dft
def test_a_label_and_where_it_comes_from(silicon, tmp_path):
    result = espresso(scratch=str(tmp_path), environment={"OMP_NUM_THREADS": "1"}).label(silicon)
    told = result.metadata
    assert told["version"].startswith("pw.x ")
    assert told["energy_kind"] == "free_energy"
    assert told["iterations"] > 3
    assert "convergence has been achieved" in told["converged"]
    assert told["mesh"] == [3, 3, 3, 0, 0, 0]
    assert told["pseudopotentials"]["Si"]["file"] == NAME
    assert len(told["pseudopotentials"]["Si"]["sha256"]) == 64
    assert told["cpu_time_s"] > 0.02  # pw.x is a child of the process that counts
    assert os.uname().nodename not in str(told)
    assert not list(tmp_path.iterdir())
    assert np.abs(result.forces.sum(axis=0)).max() < 1e-3
    assert result.stress.shape == (6,)


@needs_espresso
@pytest.mark.dft
def test_forces_and_stress_are_derivatives_of_the_energy(silicon):
    """Finite differences: of the free energy, in ASE's units and signs."""
    oracle = espresso({"conv_thr": 1e-11}, isolate=False)
    result = oracle.label(silicon)
    step = 0.01
    energies = []
    for sign in (1, -1):
        moved = silicon.copy()
        moved.positions[0, 0] += sign * step
        energies.append(oracle.label(moved).energy)
    assert result.forces[0, 0] == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=5e-3)


@needs_espresso
@pytest.mark.dft
def test_not_converged_is_retried_and_converges(silicon):
    plain = espresso().label(silicon)
    result = espresso({"electron_maxstep": 2}).label(silicon)
    assert [a["kind"] for a in result.metadata["attempts"]] == ["not_converged"]
    said = result.metadata["attempts"][0]["message"]
    assert "convergence NOT achieved after 2 iterations" in said
    assert result.energy == pytest.approx(plain.energy, abs=1e-6)
    assert result.metadata["settings"] == plain.metadata["settings"]


@needs_espresso
@pytest.mark.dft
def test_not_converged_is_set_aside(silicon, tmp_path):
    ladder = [{"on": ["not_converged"],
               "change": {"input_data": {"electrons": {"mixing_beta": 0.3}}}}]  # fmt: skip
    oracle = espresso({"electron_maxstep": 2}, ladder=ladder, scratch=str(tmp_path))
    with pytest.raises(OracleError, match="convergence NOT achieved after 2") as raised:
        oracle.label(silicon)
    error = raised.value
    assert error.kind == "not_converged"
    assert [a["kind"] for a in error.attempts] == ["not_converged"] * 2
    assert "JOB DONE" in error.attempts[0]["tail"]  # what an exit code would not have said
    assert not list(tmp_path.iterdir())


@needs_espresso
@pytest.mark.dft
def test_a_start_from_the_density_of_a_wider_smearing(silicon):
    """The guess changes how many iterations it takes, and not the label."""
    plain = espresso().label(silicon)
    guess = {"input_data": {"system": {"degauss": 0.03, "smearing": "gaussian"}}}
    ladder = [{"on": ["not_converged"], "guess": guess,
               "change": {"input_data": {"electrons": {"electron_maxstep": 50}}}}]  # fmt: skip
    result = espresso({"electron_maxstep": 2}, ladder=ladder, isolate=False).label(silicon)
    assert result.energy == pytest.approx(plain.energy, abs=1e-6)
    assert result.forces == pytest.approx(plain.forces, abs=1e-4)
    assert result.metadata["retried_with"]["guess"] == guess
    assert result.metadata["iterations"] < plain.metadata["iterations"]


@needs_espresso
@pytest.mark.dft
def test_pw_x_stops_by_itself(silicon):
    with pytest.raises(OracleError) as raised:
        espresso({"ecutrho": 1.0}, isolate=False, ladder=[]).label(silicon)
    assert raised.value.kind == "exit_code"
    assert "pw.x stopped in" in str(raised.value)


@needs_espresso
def test_an_element_without_a_pseudopotential():
    with pytest.raises(OracleError, match="no pseudopotential for Ge"):
        espresso(isolate=False, ladder=[]).label(bulk("Ge"))


# -- what does not need pw.x


@pytest.fixture
def folder(tmp_path):
    for name in ("Si.pbe.UPF", "Si_other.UPF"):
        (tmp_path / name).write_text(name)
    return tmp_path


def made(folder, change=None, run=None, **settings):
    given = {"input_data": INPUT | (change or {}), "pseudopotentials": {"Si": "Si.pbe.UPF"},
             "kpts": [2, 2, 2]} | settings  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    run = {"pseudo_dir": str(folder), "check_command": False} | (run or {})
    return make_oracle("espresso", given, run=run)


@pytest.mark.parametrize(
    ("change", "settings", "run", "match"),
    [
        ({"occupations": "fixed"}, {}, {}, "allow_fixed_occupations = true"),
        ({"scf_must_converge": False}, {}, {}, "hands out unconverged labels"),
        ({"ecutwf": 30}, {}, {}, "no key ecutwf; did you mean 'ecutwfc'"),
        ({"outdir": "/x"}, {}, {}, "input_data.control.outdir is set for each calculation"),
        ({"pseudo_dir": "/x"}, {}, {}, r"use \[learn.oracle_run\] pseudo_dir"),
        ({"calculation": "relax"}, {}, {}, "calculation is set for each calculation"),
        ({}, {"kpts": None}, {}, "without one pw.x takes Gamma alone"),
        ({}, {"kspacing": 0.2}, {}, "needs one of kpts"),
        ({}, {"kpts": {"densty": 2.0}}, {}, "needs density or size"),
        ({}, {"ecutwfc": 30}, {}, "takes no ecutwfc.* Keys of pw.x go into input_data"),
        ({}, {"pseudopotentials": None}, {}, "needs pseudopotentials"),
        ({}, {"pseudopotentials": {"Si": "Si.UPF"}}, {}, "there are Si.pbe.UPF, Si_other.UPF"),
        ({}, {}, {"pseudo_dir": "/nowhere"}, "'/nowhere' is no folder"),
        ({}, {}, {"check_command": True, "command": ["no-such-pw"]}, "no program 'no-such-pw'"),
    ],
)
def test_settings_that_cannot_be(change, settings, run, match, folder):
    with pytest.raises(ConfigError, match=match):
        made(folder, change, run, **settings)


def test_no_folder_of_pseudopotentials(folder, monkeypatch):
    monkeypatch.delenv("ESPRESSO_PSEUDO", raising=False)
    with pytest.raises(ConfigError, match=r"needs .* pseudo_dir"):
        made(folder, run={"pseudo_dir": None})


def test_what_decides_a_label_is_in_its_address(folder, silicon):
    plain = made(folder)
    assert made(folder, {"mixing_beta": 0.2, "electron_maxstep": 9}).settings == plain.settings
    assert made(folder, run={"time_limit": 9.0}).settings == plain.settings
    nested = {"system": {k: v for k, v in INPUT.items() if k != "conv_thr"},
              "electrons": {"conv_thr": 1e-8}}  # fmt: skip
    flat = calculation_key(silicon, plain.settings)
    assert calculation_key(silicon, made(folder, input_data=nested).settings) == flat
    (folder / "Si.pbe.UPF").write_text("another content")
    assert calculation_key(silicon, made(folder).settings) != flat


def test_other_pseudopotentials_on_a_worker(folder):
    import pickle

    sent = pickle.dumps(made(folder))
    assert pickle.loads(sent).settings == made(folder).settings
    (folder / "Si.pbe.UPF").write_text("another content")
    with pytest.raises(ConfigError, match="its pseudopotentials differ"):
        pickle.loads(sent)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"kpts": [4, 4, 3]}, ([4, 4, 3], [0, 0, 0])),
        ({"kpts": [4, 4, 3], "koffset": 1}, ([4, 4, 3], [1, 1, 1])),
        ({"kpts": [4, 4, 3], "koffset": [1, 1, 0]}, ([4, 4, 3], [1, 1, 0])),
        # 8-atom cell of 5.43 Å: the reciprocal vector is 1.157 1/Å long
        ({"kpts": {"density": 3.0}}, ([4, 4, 4], [0, 0, 0])),
        ({"kpts": {"density": 3.0, "gamma": True}}, ([4, 4, 4], [0, 0, 0])),
        ({"kpts": {"density": 3.0, "gamma": False}}, ([4, 4, 4], [1, 1, 1])),
        ({"kpts": {"density": 4.0, "gamma": False}}, ([5, 5, 5], [1, 1, 1])),
        ({"kpts": {"density": 4.0, "even": True}}, ([6, 6, 6], [0, 0, 0])),
        ({"kpts": {"density": 4.0, "gamma": True}}, ([5, 5, 5], [0, 0, 0])),
        ({"kspacing": 0.05}, ([4, 4, 4], [0, 0, 0])),
    ],
)
def test_meshes(keywords, expected):
    assert mesh(keywords, bulk("Si", cubic=True)) == expected


def test_keys_find_their_namelists():
    found = nested_input({"ECUTWFC": 30, "electrons": {"mixing_beta": 0.2},
                          "starting_magnetization(1)": 0.5})  # fmt: skip
    assert found == {"system": {"ecutwfc": 30, "starting_magnetization(1)": 0.5},
                     "electrons": {"mixing_beta": 0.2}}  # fmt: skip


@needs_espresso
@pytest.mark.dft
@pytest.mark.parametrize(("gamma", "has"), [(True, True), (False, False)])
def test_gamma_is_in_the_mesh_where_it_was_asked_for(gamma, has, tmp_path):
    """By the list of points that pw.x prints, for an even mesh."""
    settings = SETTINGS | {"kpts": {"density": 0.6, "gamma": gamma}}
    run = {"pseudo_dir": str(PSEUDO), "keep_failed": True, "scratch": str(tmp_path), "ladder": [],
           "max_force": 1e-9}  # fmt: skip
    atoms = bulk("Si")
    atoms.rattle(0.05, seed=1)
    with pytest.raises(OracleError) as raised:
        make_oracle("espresso", settings, run=run).label(atoms)
    text = (Path(raised.value.attempts[0]["folder"]) / "espresso.pwo").read_text()
    points = [line for line in text.splitlines() if line.strip().startswith("k(") and "wk" in line]
    assert len(points) > 1
    assert has == any("(   0.0000000   0.0000000   0.0000000)" in line for line in points)
