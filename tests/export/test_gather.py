"""What LAMMPS left for every draw, read back: against bayespot's own draws, and broken files."""

import csv
import json
from pathlib import Path

import lammps_reference as reference
import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

import bayespot
from bayespot.cli import app
from bayespot.correlation import mean_error
from bayespot.errors import ConfigError
from bayespot.export.gather import gather
from bayespot.export.lammps import INPUT, export_lammps

MODEL = Path(__file__).resolve().parents[2] / "models/silicon-stillinger_weber-gpaw_pbe-2026"
N = 4

pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(reference.missing() is not None, reason=str(reference.missing())),
]


@pytest.fixture(scope="module")
def posterior():
    return bayespot.Posterior.load(MODEL / "posterior.nc")


@pytest.fixture(scope="module")
def structure():
    atoms = bulk("Si", cubic=True, a=5.43).repeat(2)
    atoms.rattle(0.08, seed=3)
    return atoms


def run_all(folder):
    """The input of the folder for every draw, run in it."""
    import lammps

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for draw in range(N):
            program = lammps.lammps(cmdargs=[
                "-screen", "none", "-nocite", "-var", "draw", str(draw),
            ])  # fmt: skip
            program.file(INPUT)
            program.close()


@pytest.fixture(scope="module")
def single_points(posterior, structure, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gather") / "points"
    export_lammps(posterior, folder, draws=N, structure=structure)
    run_all(folder)
    return folder


@pytest.fixture
def copied(single_points, tmp_path):
    """The folder again, to break."""
    import shutil

    return Path(shutil.copytree(single_points, tmp_path / "copy"))


@pytest.fixture(scope="module")
def moved(posterior, structure, tmp_path_factory):
    """The input continued by 200 steps of dynamics, a row every ten."""
    folder = tmp_path_factory.mktemp("gather") / "moved"
    export_lammps(posterior, folder, draws=N, structure=structure)
    with open(folder / INPUT, "a", encoding="utf-8") as file:
        file.write("\n".join([
            "velocity all create 600 1234 mom yes", "fix move all nve", "timestep 0.001",
            "thermo 10", "thermo_style custom step temp pe etotal press", "run 200", "",
        ]))
    run_all(folder)
    return folder


def test_single_points_are_those_of_predict(posterior, structure, single_points):
    found = gather(single_points, rows="last")
    p = bayespot.predict(posterior, structure, n_draws=N)
    assert not found.failed
    np.testing.assert_allclose(found.values["PotEng"], p.energy_draws[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found.forces, p.forces_draws, atol=1e-7)
    np.testing.assert_allclose(found.forces_std, p.forces_parameter_std, atol=1e-7)
    row = found.summary()["PotEng"]
    assert row.mean == pytest.approx(p.energy[0], rel=1e-9)
    spread = p.energy_draws[:, 0].std(ddof=1)
    assert row.parameter_std == pytest.approx(spread, rel=1e-5)
    assert (row.n, row.statistical_error) == (N, 0.0)
    assert found.frames[0].get_chemical_formula() == "Si64"


def test_means_of_dynamics_have_errors(moved):
    found = gather(moved, skip=5)
    assert not found.failed
    assert set(found.values) == {"Step", "Temp", "PotEng", "TotEng", "Press"}
    table = found.series[2]
    assert len(table["Temp"]) == 16
    assert table["Step"][0] == 50
    mean, error = mean_error(table["Temp"])
    assert found.values["Temp"][2] == mean
    assert found.errors["Temp"][2] == error > 0.0
    assert found.summary()["Temp"].statistical_error > 0.0
    first = gather(moved, run=0, rows="last")
    assert set(first.values) == {"Step", "PotEng", "Pxx", "Pyy", "Pzz", "Pyz", "Pxz", "Pxy"}
    gap = found.series[1]["TotEng"] - found.series[1]["PotEng"]
    kinetic = 1.5 * 63 * 8.617333e-5 * found.series[1]["Temp"]
    np.testing.assert_allclose(gap, kinetic, rtol=1e-5)  # offsets are in both of them


def test_failed_draws_are_named(copied):
    (copied / "draw_0.log").unlink()
    text = (copied / "draw_2.log").read_text()
    (copied / "draw_2.log").write_text(text[: text.index("Loop time")])
    found = gather(copied, rows="last")
    assert sorted(found.failed) == [0, 2]
    assert "is not there" in found.failed[0]
    assert "ends in the middle" in found.failed[2]
    assert np.isnan(found.values["PotEng"][[0, 2]]).all()
    assert np.isnan(found.forces[0]).all()
    assert np.isfinite(found.forces_std).all()
    row = found.summary()["PotEng"]
    assert (row.n, row.without) == (2, (0, 2))
    (copied / "draw_3.log").write_text(text + "\nERROR: Lost atoms: original 64 current 60\n")
    with pytest.raises(ConfigError, match=r"1 of 4 draws .*needs two .*Lost atoms"):
        gather(copied)


def test_dumps_that_are_cut_short_fail_their_draw(copied):
    lines = (copied / "draw_1.forces").read_text().splitlines(keepends=True)
    (copied / "draw_1.forces").write_text("".join(lines[:-3]))
    (copied / "draw_2.forces").unlink()
    found = gather(copied, rows="last")
    assert sorted(found.failed) == [1, 2]
    assert "61 atoms, others 64" in found.failed[1]
    assert gather(copied, rows="last", dump=None).forces is None
    assert not gather(copied, rows="last", dump=None).failed
    with pytest.raises(ConfigError, match="no dumps"):
        _ = gather(copied, rows="last", dump=None).forces_std


def test_offsets_without_a_dump_come_from_the_structure(posterior, structure, copied):
    p = bayespot.predict(posterior, structure, n_draws=N)
    found = gather(copied, rows="last", dump=None)
    np.testing.assert_allclose(found.values["PotEng"], p.energy_draws[:, 0], rtol=1e-9)
    (copied / "structure.data").unlink()
    found = gather(copied, rows="last", dump=None)
    assert "lack the energies of isolated atoms" in found.notes[0]
    assert np.abs(found.values["PotEng"] - p.energy_draws[:, 0]).min() > 1e-3


def test_files_and_command(copied, tmp_path):
    (copied / "draw_1.log").write_text("nothing\n")
    run = CliRunner().invoke(app, ["gather", str(copied), "--last"])
    assert run.exit_code == 1, run.output
    assert "3 of 4 draws" in run.output
    assert "draw 1 failed: draw_1.log has no table" in run.output
    with open(copied / "gathered.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    why = [row["failed"] for row in rows]
    assert why == ["", "draw_1.log has no table of thermodynamic output", "", ""]
    found = gather(copied, rows="last")
    assert float(rows[2]["PotEng"]) == found.values["PotEng"][2]
    record = json.loads((copied / "gathered.json").read_text())
    assert record["columns"]["PotEng"]["draws"] == 3
    assert record["columns"]["PotEng"]["mean"] == pytest.approx(found.summary()["PotEng"].mean)


def test_what_cannot_be(single_points, tmp_path):
    with pytest.raises(ConfigError, match="not the manifest"):
        gather(tmp_path)
    with pytest.raises(ConfigError, match="rows='first'"):
        gather(single_points, rows="first")
    with pytest.raises(ConfigError, match=r"run=3: draw_0.log has 1 runs"):
        gather(single_points, run=3)
    with pytest.raises(ConfigError, match="1 rows, and 5 are skipped"):
        gather(single_points, skip=5)
