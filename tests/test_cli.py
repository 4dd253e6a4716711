"""The command line end to end: a Lennard-Jones crystal, labelled by ASE, fitted by Laplace."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones

import bayespot
from bayespot.cli import main
from bayespot.config import load_config
from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import ConfigError
from bayespot.posterior import Posterior

CONFIG = """
name = "argon"

[data]
source = "argon.extxyz"
floor = { energy = 1e-4, forces = 1e-3, stress_GPa = 0.01 }

[potential]
form = "LennardJones"
species = ["Ar"]
fixed = { e0 = 0.0, cutoff = 6.0 }

[noise]
misfit = "none"

[fit]
method = "laplace"
chains = 2
draws = 60
starts = 4

[learn]
pool = "argon.extxyz"
initial = 3
batch = 2
rounds = 1
test_fraction = 0.25
n_draws = 20
"""


def labelled(n):
    """Rattled argon crystals with labels of ASE's Lennard-Jones (free of our own code)."""
    calculator = LennardJones(sigma=3.4, epsilon=0.0104, rc=6.0, ro=5.0, smooth=True)
    structures, labels = [], []
    for k in range(n):
        atoms = bulk("Ar", "fcc", a=5.2 + 0.02 * k, cubic=True)
        atoms.rattle(0.05, seed=k)
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        labels.append(Labels(energy, forces, atoms.get_stress()))
        structures.append(atoms)
    return Dataset.from_atoms(structures, labels, families=["cold", "hot"] * (n // 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("cli")
    labelled(12).write(place / "argon.extxyz")
    (place / "run.toml").write_text(CONFIG, encoding="utf-8")
    return place


@pytest.fixture
def command(monkeypatch, capsys, folder):
    """Run a command in the folder of the run; gives exit code, output and errors."""

    def run(*arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["bayespot", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), " ".join(captured.err.split())

    return run


@pytest.fixture(scope="module")
def fitted(folder):
    """The folder of a fit, made once by the command itself."""
    environment = {**os.environ, "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}
    root = str(Path(bayespot.__file__).resolve().parents[1])
    run = subprocess.run(
        [sys.executable, "-m", "bayespot", "fit", "run.toml"],
        cwd=folder, env=environment | {"PYTHONPATH": root}, text=True, capture_output=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "argon.extxyz" in run.stdout
    assert "loss weights that follow" in run.stdout
    return folder / "argon"


def test_help_is_fast_and_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['bayespot', '--help']\n"
        "from bayespot.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'numpy', 'ase', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    begin = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    assert run.returncode == 0, run.stderr
    for name in ("fit", "validate", "predict", "learn", "status", "diagnose", "potentials", "demo"):
        assert name in run.stdout
    assert seconds < 5.0  # one second on an idle machine; this one may be busy


def test_version(command):
    assert command("--version")[1] == f"bayespot {bayespot.__version__}"


def test_fit_writes_everything(fitted):
    expected = {
        "posterior.nc", "config.resolved.toml", "summary.md", "parity.png", "coverage.png",
        "residuals_by_family.png", "posterior.png", "pairs.png", "contraction.png",
        "identifiability.txt", "identifiability.json", "identifiability.png",
    }  # fmt: skip
    assert {p.name for p in fitted.iterdir()} == expected
    text = (fitted / "summary.md").read_text(encoding="utf-8")
    assert "The DFT floor is the one that the configuration gives." in text
    for part in (
        "# argon: LennardJones for Ar by laplace",
        "| sigma | Å |",
        "misfit = none",
        "8 % of the forces",
        "Nobody typed a weight",
        "## Diagnostics",
        "![parity](parity.png)",
    ):
        assert part.lower() in text.lower()
    assert load_config(fitted / "config.resolved.toml").data.source.endswith("argon.extxyz")


def test_the_truth_is_found(fitted):
    posterior = Posterior.load(fitted / "posterior.nc")
    found = dict(zip(posterior.parameter_names, posterior.draws.mean(axis=0), strict=True))
    assert found["sigma"] == pytest.approx(3.4, rel=0.02)
    assert found["epsilon"] == pytest.approx(0.0104, rel=0.1)


def test_the_same_fit_is_not_computed_again(command, fitted):
    before = (fitted / "posterior.nc").stat().st_mtime_ns
    assert command("fit", "run.toml")[0] == 0
    assert (fitted / "posterior.nc").stat().st_mtime_ns == before


def test_another_configuration_does_not_mix_in(command, fitted, folder):
    (folder / "other.toml").write_text(CONFIG.replace("draws = 60", "draws = 61"), encoding="utf-8")
    code, _, error = command("fit", "other.toml")
    assert code == 2
    assert error.startswith("ConfigError: argon holds the run of another configuration")
    assert "Traceback" not in error


def test_predict_writes_and_compares(command, fitted, folder):
    code, out, _ = command("predict", fitted / "posterior.nc", "argon.extxyz", "-o", "new/out.xyz")
    assert code == 0
    assert "Against the labels in the file" in out
    assert "misfit = none" in out
    frames = ase.io.read(folder / "new" / "out.xyz", index=":")
    assert len(frames) == 12
    assert frames[0].info["bayespot_energy_std"] > 0
    assert frames[0].arrays["bayespot_forces"].shape == (4, 3)


def test_validate_writes_and_compares(command, folder):
    short = CONFIG.replace('"argon"', '"short"').replace("cutoff = 6.0", "cutoff = 5.0")
    (folder / "short.toml").write_text(short, encoding="utf-8")
    code, out, error = command("validate", "run.toml", "short.toml", "--out", "both")
    assert code == 0, error
    assert "1 of 2: without cold (6 structures)" in out
    assert out.count("Of 90 % bars on structures not fitted: energy bars") == 2
    assert "Weights of the best mixture: argon" in out
    both = folder / "both"
    assert {p.name for p in both.iterdir()} == {
        "argon", "short", "comparison.md", "comparison.json",
    }  # fmt: skip
    assert {p.name for p in (both / "short").iterdir()} == {
        "calibration.md", "calibration.json", "calibration.png", "config.resolved.toml",
        "fold_000.nc", "fold_001.nc", "validation.json",
    }  # fmt: skip
    record = json.loads((both / "argon" / "calibration.json").read_text(encoding="utf-8"))
    assert record["left_out"] == ["cold", "hot"]
    assert {row["family"] for row in record["rows"] if not row["pooled"]} == {"cold", "hot"}
    text = (both / "argon" / "calibration.md").read_text(encoding="utf-8")
    assert text.startswith(f"# Validation of argon\n\n{record['verdict']}")
    before = (both / "short" / "fold_001.nc").stat().st_mtime_ns
    assert command("validate", "short.toml", "--out", "both/short")[0] == 0  # without a fit
    assert (both / "short" / "fold_001.nc").stat().st_mtime_ns == before
    code, _, error = command("validate", "run.toml", "--out", "both/short")
    assert (code, "other settings" in error) == (2, True)
    code, _, error = command("validate", "run.toml", "--folds", "some")
    assert (code, error) == (2, "ConfigError: --folds some: it is families, or a number")
    code, _, error = command("validate", "run.toml", "run.toml")
    assert (code, error[:12]) == (2, "ConfigError:")


def test_diagnose_says_by_its_exit_code(command, fitted, tmp_path):
    assert command("diagnose", fitted / "posterior.nc")[0] == 0
    posterior = Posterior.load(fitted / "posterior.nc")
    posterior.record["problems"] = ["R-hat above 1.01: sigma 1.3"]
    posterior.tree.attrs["bayespot"] = json.dumps(posterior.record)
    posterior.save(tmp_path / "bad.nc")
    code, out, _ = command("diagnose", tmp_path / "bad.nc")
    assert code == 1
    assert "NOT CONVERGED: R-hat above 1.01: sigma 1.3" in out
    code, _, error = command("predict", tmp_path / "bad.nc", "argon.extxyz", "-o", "x.xyz")
    assert code == 2
    assert error.startswith("NotConverged: the laplace posterior")
    assert error.endswith("On the command line: --allow-unconverged")


def test_potentials_are_listed(command):
    code, out, _ = command("potentials")
    assert code == 0
    for name in bayespot.registry():
        assert name in out
    code, out, _ = command("potentials", "Morse+ZBL", "Tersoff")
    assert code == 0
    assert "E_coh" in out
    assert "zbl_cutoff" in out
    assert "lambda3" in out
    code, _, error = command("potentials", "Mors")
    assert code == 2
    assert error.endswith("Did you mean 'Morse'?")
    assert "PairPotential" not in error


def test_mistakes_are_one_message(command, folder):
    (folder / "bad.toml").write_text(CONFIG.replace("chains", "chain"), encoding="utf-8")
    code, _, error = command("fit", "bad.toml")
    assert (code, error) == (
        2,
        "ConfigError: bad.toml: unknown key fit.chain; did you mean 'chains'? known: chains, "
        "devices, draws, method, starts, warmup",
    )
    assert command("diagnose", "nothing.nc")[0] == 2
    code, _, error = command("status", ".")
    assert (code, error[:12]) == (2, "LedgerError:")


def test_debug_shows_where_it_came_from(monkeypatch, folder):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["bayespot", "fit", "nothing.toml", "--debug"])
    with pytest.raises(ConfigError, match=r"there is no file nothing.toml"):
        main()


@pytest.mark.slow
def test_learn_beside_random_choice_and_status(command, folder):
    code, out, error = command("learn", "run.toml", "--out", "campaign")
    assert code == 0, error
    assert "information_gain round 0 3 labels: forces" in out
    assert "90 % intervals predicted before labelling hold" in out
    place = folder / "campaign"
    assert {p.name for p in place.iterdir()} == {
        "information_gain", "random", "config.resolved.toml", "learning_curve.png",
        "coverage.png", "summary.md",
    }  # fmt: skip
    text = (place / "summary.md").read_text(encoding="utf-8")
    assert "| labels | information_gain: forces RMSE, eV/Å | random: forces RMSE, eV/Å |" in text
    first = [(place / n / "round_000" / "evaluation.json") for n in ("information_gain", "random")]
    curves = [bayespot.Posterior.load(p.parent / "posterior.nc").draws for p in first]
    np.testing.assert_array_equal(curves[0], curves[1])
    code, out, _ = command("status", "campaign")
    assert code == 0
    assert out.count("finished, round 1 of 1") == 2
    code, again, _ = command("learn", "run.toml", "--out", "campaign")
    assert code == 0
    assert "fitting" not in again
