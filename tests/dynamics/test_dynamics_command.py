"""`bayespot dynamics` from a file to a folder, and the picture of the spread."""

import json
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk
from typer.testing import CliRunner

from bayespot.cli import app
from bayespot.dynamics import Settings, Trajectory, run_dynamics
from bayespot.errors import PropertyError
from bayespot.plots import spread_along
from bayespot.potentials.stillinger_weber import StillingerWeber

MODEL = Path(__file__).resolve().parents[2] / "models/silicon-stillinger_weber-gpaw_pbe-2026"


def test_from_a_file_to_a_folder(tmp_path):
    start, out = tmp_path / "start.xyz", tmp_path / "run"
    ase.io.write(start, bulk("Si", cubic=True))
    words = ["dynamics", str(MODEL / "posterior.nc"), str(start), "--repeat", "2", "--temperature",
             "900", "--draws", "4", "--every", "5", "--out", str(out)]  # fmt: skip
    run = CliRunner().invoke(app, [*words, "--steps", "10"])
    assert run.exit_code == 0, run.output
    assert "64 atoms, 10 fs" in run.output
    assert {p.name for p in out.iterdir()} == {
        "settings.json", "state.json", "record.jsonl", "trajectory.xyz", "spread.png"
    }  # fmt: skip
    first = Trajectory.load(out).records
    run = CliRunner().invoke(app, [*words, "--steps", "60", "--limit", "0.01"])
    assert run.exit_code == 1, run.output
    assert "stopped at step" in run.output
    assert Trajectory.load(out).records[:2] == first[:2]
    assert json.loads((out / "state.json").read_text())["stopped"].startswith("step ")
    run = CliRunner().invoke(app, [*words, "--steps", "60", "--limit", "0.01", "--flag"])
    assert run.exit_code == 0, run.output
    assert "steps are beyond a limit" in run.output
    assert Trajectory.load(out).records[-1]["step"] == 60


def test_the_picture_has_the_spread_and_the_limit(tmp_path):
    atoms = bulk("Si", cubic=True).repeat(2)
    settings = Settings(steps=10, temperature=600.0, spread_every=5)
    run = run_dynamics(StillingerWeber.silicon_1985(), atoms, tmp_path / "run", settings)
    ax = spread_along(run, limit=0.3)
    curve, level = ax.get_lines()
    assert curve.get_xdata().tolist() == [0.0, 0.005, 0.01]
    assert curve.get_ydata().tolist() == [0.0, 0.0, 0.0]  # one potential has no spread
    assert level.get_ydata()[0] == 0.3
    without = run_dynamics(StillingerWeber.silicon_1985(), atoms, tmp_path / "without",
                           Settings(steps=10, temperature=600.0, spread_every=0))
    with pytest.raises(PropertyError, match="run it with spread_every"):
        spread_along(without)
