"""Trajectories: against LAMMPS and Newton, their spread, their limits, and kills."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import lammps_reference as reference
import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

import bayespot
from bayespot.dynamics import (
    DynamicsCalculator,
    Ensemble,
    Settings,
    mean_error,
    run_draws,
    run_dynamics,
)
from bayespot.dynamics.files import FRAMES, RECORD, STATE
from bayespot.dynamics.trajectory import Trajectory
from bayespot.errors import (
    BayespotError,
    ConfigError,
    PropertyError,
    SpeciesError,
    StructureError,
)
from bayespot.potentials.stillinger_weber import StillingerWeber

MODEL = Path(__file__).resolve().parents[2] / "models/silicon-stillinger_weber-gpaw_pbe-2026"
SHORT = Settings(steps=20, temperature=600.0, n_draws=6, spread_every=5, write_every=5)


@pytest.fixture(scope="module")
def posterior():
    return bayespot.Posterior.load(MODEL / "posterior.nc")


@pytest.fixture(scope="module")
def ensemble(posterior):
    return Ensemble(posterior, n_draws=6)


@pytest.fixture(scope="module")
def calibrated():
    """The same draws, said to be calibrated on a spread that hot atoms go beyond."""
    made = bayespot.Posterior.load(MODEL / "posterior.nc")
    made.record["data"] |= {
        "spread_of": "families left out", "training_spread": {"energy": 1.0, "forces": 0.008},
    }  # fmt: skip
    assert made.calibrated
    return made


def silicon(repeat=2, temperature=600.0, seed=0):
    atoms = bulk("Si", cubic=True, a=5.43).repeat(repeat)
    rng = np.random.default_rng(seed)
    width = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(width * rng.standard_normal((len(atoms), 3)))
    atoms.set_momenta(atoms.get_momenta() - atoms.get_momenta().mean(axis=0))
    return atoms


# --- the driver -----------------------------------------------------------------------------


def test_energy_is_conserved_to_second_order():
    """Its fluctuation falls with the square of the time step."""
    errors = []
    for dt in (4.0, 2.0, 1.0):
        atoms = silicon()
        atoms.calc = DynamicsCalculator(StillingerWeber.silicon_1985())
        md, total = VelocityVerlet(atoms, dt * units.fs), []
        for _ in range(round(120 / dt)):
            md.run(1)
            total.append(atoms.get_total_energy())
        errors.append(np.std(total))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 2.0, atol=0.25)
    assert errors[-1] < 1e-3 * len(atoms) * units.kB * 600.0


@pytest.mark.reference
@pytest.mark.skipif(reference.missing() is not None, reason=str(reference.missing()))
def test_the_trajectory_is_that_of_lammps(tmp_path):
    """Newton's equations from the same velocities: 200 steps, lists made again on the way."""
    potential, atoms, dt, steps = StillingerWeber.silicon_1985(), silicon(2, 3000.0), 1.0, 200
    lammps = reference.Lammps()
    lammps.run(atoms, ("Si",), reference.commands(potential, tmp_path))
    lmp = lammps.lmp
    # LAMMPS rounds its constant of F / m; masses that undo it leave the equations the same.
    mass = atoms.get_masses()[0] * lmp.extract_global("ftm2v") / (1e3 * units.fs) ** 2
    lmp.command(f"mass 1 {mass:.17g}")
    velocities = 1e3 * units.fs * atoms.get_velocities()  # Å/ps
    lmp.scatter_atoms("v", 1, 3, np.ctypeslib.as_ctypes(velocities.ravel().copy()))
    lmp.commands_list([f"timestep {1e-3 * dt}", "fix newton all nve", f"run {steps}"])
    theirs = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
    lammps.close()
    atoms.calc = DynamicsCalculator(potential, skin=0.3)
    VelocityVerlet(atoms, dt * units.fs).run(steps)
    apart = atoms.positions - theirs
    apart -= np.rint(apart @ np.linalg.inv(atoms.cell.array)) @ atoms.cell.array
    assert atoms.calc.ensemble.list.made > 3
    assert np.abs(atoms.positions - silicon(2).positions).max() > 0.3
    assert np.abs(apart).max() < 1e-8


def test_spreads_are_those_of_predict(posterior, calibrated, tmp_path):
    for name, source in (("plain", posterior), ("calibrated", calibrated)):
        settings = replace(SHORT, drive="mean", beyond="flag")
        run = run_dynamics(source, silicon(), tmp_path / name, settings)
        frames = list(run.frames())
        assert [a.info["step"] for a in frames] == [0, 5, 10, 15, 20]
        p = bayespot.predict(source, frames, n_draws=6)
        forces = p.forces_parameter_std.reshape(len(frames), -1, 3)
        found = {key: run.column(key) for key in ("energy_std", "force_std", "grade")}
        # frames are written with eight decimals
        np.testing.assert_allclose(found["energy_std"], p.energy_parameter_std, rtol=1e-6)
        np.testing.assert_allclose(found["force_std"], forces.max(axis=(1, 2)), rtol=1e-6)
        np.testing.assert_allclose(found["grade"], p.extrapolation, rtol=1e-6)
        np.testing.assert_allclose(run.column("energy"), p.energy, rtol=1e-8)
        stress = p.stress_parameter_std.max(axis=1)
        np.testing.assert_allclose(run.column("stress_std"), stress, rtol=1e-5)
        if name == "plain":
            np.testing.assert_allclose(run.column("energy_draws").T, p.energy_draws, rtol=1e-8)


def test_spreads_on_the_same_positions_agree_to_rounding(posterior, ensemble):
    atoms = silicon()
    atoms.rattle(0.1, seed=1)
    p = bayespot.predict(posterior, atoms, n_draws=6)
    spread = ensemble.spread(atoms)
    np.testing.assert_allclose(spread.energy_draws, p.energy_draws[:, 0], rtol=1e-13)
    assert spread.energy_std == pytest.approx(p.energy_parameter_std[0], rel=1e-9)
    assert spread.force_std == pytest.approx(p.forces_parameter_std.max(), rel=1e-9)
    assert spread.atom == p.forces_parameter_std.max(axis=1).argmax()
    assert spread.grade == pytest.approx(p.extrapolation[0], rel=1e-9)


@pytest.mark.parametrize("drive", ["mean", "center", 3])
def test_every_surface_drives(posterior, ensemble, drive):
    atoms = silicon()
    atoms.rattle(0.1, seed=1)
    calculator = DynamicsCalculator(ensemble, drive=drive)
    atoms.calc = calculator
    p = bayespot.predict(posterior, atoms, n_draws=6)
    if drive == "mean":
        energy, forces, stress = p.energy[0], p.forces, p.stress[0]
    elif drive == 3:
        energy, forces, stress = p.energy_draws[3, 0], p.forces_draws[3], p.stress_draws[3, 0]
    else:
        energy, forces, stress = reference.ours(posterior.potential, atoms)[0]
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-11)
    np.testing.assert_allclose(atoms.get_stress(), stress, atol=1e-12)
    spread = calculator.spread(atoms)  # from what is at hand where the mean drives
    assert spread.force_std == pytest.approx(p.forces_parameter_std.max(), rel=1e-9)
    atoms.rattle(0.05, seed=2)
    moved = bayespot.predict(posterior, atoms, n_draws=6)
    assert calculator.spread(atoms).force_std == pytest.approx(
        moved.forces_parameter_std.max(), rel=1e-9
    )


# --- canonical averages ----------------------------------------------------------------------


def test_a_run_on_one_draw_is_reweighted_to_others(posterior, ensemble, tmp_path):
    run = run_dynamics(ensemble, silicon(), tmp_path / "run",
                       replace(SHORT, steps=400, spread_every=10, write_every=10, drive=0))
    found = run.reweight(skip_fs=100.0, enough=0.0)
    frames = run.frames_of_weights(skip_fs=100.0)
    assert found.weights.shape == (6, 31)
    assert len(frames) == 31
    assert found.ess[0] == pytest.approx(31)  # the draw that drove
    k, kt = 2, units.kB * 600.0
    gap = np.array([row["energy_draws"][k] - row["energy"] for row in run.records[10:]])
    weights = np.exp(-(gap - gap.min()) / kt)
    np.testing.assert_allclose(found.weights[k], weights / weights.sum(), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.statistical
def test_reweighting_says_what_dynamics_on_the_draws_say(posterior, tmp_path):
    """Mean energies of three draws, by weights and by a trajectory of their own."""
    ensemble = Ensemble(posterior, n_draws=4)
    settings = Settings(steps=16_000, temperature=600.0, timestep_fs=2.0, spread_every=20,
                        write_every=4000, drive="center", n_draws=4)  # fmt: skip
    run = run_dynamics(ensemble, silicon(2, 1200.0), tmp_path / "center", settings)
    found = run.reweight(skip_fs=2000.0)
    assert found.usable.all(), found.problems
    energies = run.column("energy_draws")[run.column("time_fs") >= 2000.0]
    averages = found.average(energies.T, of_draws=True)
    runs, failed = run_draws(ensemble, silicon(2, 1200.0), tmp_path, settings, draws=(1, 2, 3))
    assert not failed
    shifts, errors = [], []
    for k, own in runs.items():
        mean, error = mean_error(own.column("energy")[own.column("time_fs") >= 2000.0])
        shifts.append(averages.value[k] - mean)
        errors.append(np.hypot(averages.error[k], error))
    assert np.abs(np.array(shifts) / errors).max() < 4.0
    assert max(errors) < 0.02 * 1.5 * 64 * units.kB * 600.0


def test_draws_move_by_themselves(posterior, ensemble, tmp_path):
    settings = replace(SHORT, spread_every=0)
    runs, failed = run_draws(ensemble, silicon(), tmp_path, settings, draws=(1, 4))
    assert sorted(runs) == [1, 4]
    assert not failed
    ends = [list(run.frames())[-1] for run in runs.values()]
    assert np.abs(ends[0].positions - ends[1].positions).max() > 1e-3
    (energy,) = bayespot.predict(posterior, ends[1], n_draws=6).energy_draws[4]
    assert runs[4].column("energy")[-1] == pytest.approx(energy, rel=1e-8)
    with pytest.raises(PropertyError, match="no step after 0 fs"):
        runs[1].reweight()
    hot = silicon(2, 4e7)
    _, failed = run_draws(ensemble, hot, tmp_path / "hot", settings, draws=(0, 2))
    assert sorted(failed) == [0, 2]
    assert all("exploded" in text for text in failed.values())


# --- limits ----------------------------------------------------------------------------------


def test_a_spread_beyond_the_limit_stops_or_is_flagged(ensemble, tmp_path):
    stopped = run_dynamics(ensemble, silicon(), tmp_path / "stop",
                           replace(SHORT, steps=100, force_spread=0.008))
    assert "above the 0.008 that was allowed" in stopped.stopped
    last = stopped.records[-1]
    assert last["step"] < 100
    assert last["force_std"] > 0.008
    assert max(row["force_std"] for row in stopped.records[:-1]) <= 0.008
    assert list(stopped.frames())[-1].info["step"] == last["step"]
    assert stopped.frame_fs == 5.0
    assert len(stopped.positions(skip_fs=5.0)) == last["step"] // 5
    again = run_dynamics(ensemble, silicon(), tmp_path / "stop",
                         replace(SHORT, steps=100, force_spread=0.008))
    assert again.records == stopped.records
    on = run_dynamics(ensemble, silicon(), tmp_path / "stop", replace(SHORT, steps=100))
    assert on.stopped is None
    assert on.records[-1]["step"] == 100
    flagged = run_dynamics(ensemble, silicon(), tmp_path / "flag",
                           replace(SHORT, steps=100, force_spread=0.008, beyond="flag"))
    assert flagged.records[-1]["step"] == 100
    assert flagged.beyond[0]["step"] == last["step"]
    assert flagged.stopped is None


def test_outside_of_the_calibrated_range(posterior, calibrated, tmp_path):
    run = run_dynamics(calibrated, silicon(), tmp_path / "calibrated", replace(SHORT, steps=100))
    assert "outside the calibrated range" in run.stopped
    assert run.records[-1]["grade"] > 1.0
    assert all(row["grade"] <= 1.0 for row in run.records[:-1])
    far = bayespot.Posterior.load(MODEL / "posterior.nc")
    far.record["data"]["training_spread"] = {"energy": 1.0, "forces": 0.008}
    plain = run_dynamics(far, silicon(), tmp_path / "plain", SHORT)
    assert plain.stopped is None  # the grade is written, and means less
    assert plain.records[-1]["grade"] > 0.0


# --- kills -----------------------------------------------------------------------------------

DRIVER = """
import sys, bayespot
sys.path[:0] = {here!r}
bayespot.configure()
import test_running as t
t.run_dynamics(t.bayespot.Posterior.load(t.MODEL / "posterior.nc"), t.silicon(), sys.argv[1],
               t.replace(t.SHORT, steps=100_000))
"""


def test_a_killed_run_ends_as_one_that_was_not(posterior, ensemble, tmp_path, monkeypatch):
    monkeypatch.setattr("bayespot.dynamics.running.KEPT_SECONDS", 0.0)
    whole = run_dynamics(ensemble, silicon(), tmp_path / "whole", replace(SHORT, steps=40))
    cut = tmp_path / "cut"
    states = []

    def kill(step, steps, message):
        if step == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_dynamics(ensemble, silicon(), cut, replace(SHORT, steps=40), progress=kill)
    states.append(json.loads((cut / STATE).read_text())["step"])
    assert states == [25]
    # what a kill in the middle of writing leaves
    with open(cut / RECORD, "a") as record, open(cut / FRAMES, "a") as frames:
        record.write('{"energy":-3')
        frames.write("64\nLattice=\"1 0 0")
    assert Trajectory.load(cut).records[-1]["step"] == 25
    assert [a.info["step"] for a in Trajectory.load(cut).frames()] == [0, 5, 10, 15, 20, 25]
    on = run_dynamics(posterior, silicon(), cut, replace(SHORT, steps=40))
    assert [row["step"] for row in on.records] == [row["step"] for row in whole.records]
    np.testing.assert_allclose(on.column("energy"), whole.column("energy"), rtol=1e-12)
    for a, b in zip(on.frames(), whole.frames(), strict=True):
        np.testing.assert_allclose(a.positions, b.positions, atol=2e-8)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_what_it_wrote(posterior, tmp_path):
    folder = tmp_path / "run"
    here = Path(__file__).parent
    script = DRIVER.format(here=[str(here), str(here.parent)])
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)])
    patience = time.monotonic() + 300
    while not (folder / RECORD).is_file() or len((folder / RECORD).read_bytes()) < 20_000:
        assert process.poll() is None, "the driver ended by itself"
        assert time.monotonic() < patience, "the driver wrote nothing"
        time.sleep(0.05)
    process.kill()
    process.wait()
    left = Trajectory.load(folder)
    steps = [row["step"] for row in left.records]
    assert steps == list(range(0, 5 * len(steps), 5))
    assert abs(len(list(left.frames())) - len(steps)) <= 1
    on = run_dynamics(posterior, silicon(), folder, replace(SHORT, steps=steps[-1] + 20))
    assert [row["step"] for row in on.records] == list(range(0, steps[-1] + 21, 5))
    np.testing.assert_allclose(
        on.column("energy")[: len(steps)], left.column("energy"), rtol=1e-9
    )


def test_a_folder_of_another_run_is_left_alone(ensemble, tmp_path):
    run_dynamics(ensemble, silicon(), tmp_path / "run", SHORT)
    before = (tmp_path / "run" / RECORD).read_bytes()
    with pytest.raises(BayespotError, match="other timestep_fs"):
        run_dynamics(ensemble, silicon(), tmp_path / "run", replace(SHORT, timestep_fs=2.0))
    with pytest.raises(BayespotError, match="draws_and_start"):
        run_dynamics(ensemble, silicon(seed=1), tmp_path / "run", SHORT)
    assert (tmp_path / "run" / RECORD).read_bytes() == before
    (tmp_path / "run" / FRAMES).write_text("")
    with pytest.raises(ConfigError, match="shorter than"):
        run_dynamics(ensemble, silicon(), tmp_path / "run", SHORT)


# --- what cannot be --------------------------------------------------------------------------


def test_starts_that_cannot_be(posterior, ensemble, tmp_path):
    small = bulk("Si", a=5.43)
    with pytest.raises(StructureError, match="repeat the cell"):
        run_dynamics(ensemble, small, tmp_path / "a", SHORT)
    with pytest.raises(SpeciesError, match="Ge"):
        run_dynamics(ensemble, bulk("Ge", cubic=True).repeat(2), tmp_path / "b", SHORT)
    lost = silicon()
    lost.positions[3] = np.nan
    with pytest.raises(StructureError, match="no numbers"):
        run_dynamics(ensemble, lost, tmp_path / "c", SHORT)
    with pytest.raises(PropertyError, match="a draw from 0 to 5"):
        run_dynamics(ensemble, silicon(), tmp_path / "d", replace(SHORT, drive=6))
    with pytest.raises(PropertyError, match="posterior or a potential"):
        run_dynamics("Si", silicon(), tmp_path / "e", SHORT)
    assert not list(tmp_path.iterdir())


def test_a_trajectory_that_explodes_says_when(ensemble, tmp_path):
    with pytest.raises(StructureError, match=r"between steps \d+ and \d+ .* exploded"):
        run_dynamics(ensemble, silicon(), tmp_path / "run",
                     replace(SHORT, steps=200, timestep_fs=60.0))
    assert Trajectory.load(tmp_path / "run").records[0]["step"] == 0


@pytest.mark.parametrize(("values", "message"), [
    ({"steps": 0}, "steps=0"), ({"timestep_fs": -1.0}, "timestep_fs"),
    ({"temperature": float("nan")}, "temperature=nan"), ({"thermostat": "nose"}, "langevin"),
    ({"beyond": "ask"}, "stop, flag"), ({"spread_every": 2.5}, "spread_every"),
    ({"force_spread": 0.1, "spread_every": 0}, "never looked at"),
])  # fmt: skip
def test_settings_that_cannot_be(values, message):
    with pytest.raises(ConfigError, match=message):
        replace(SHORT, **values)


def test_a_potential_alone_has_no_spread():
    potential = StillingerWeber.silicon_1985()
    atoms = silicon()
    spread = Ensemble(potential).spread(atoms)
    assert (spread.energy_std, spread.force_std, spread.grade) == (0.0, 0.0, None)
    two = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), potential)
    assert Ensemble(two).n == 2
    with pytest.raises(PropertyError, match="not canonical"):
        Trajectory(Path(), {"thermostat": "none"}, [], None).reweight()
