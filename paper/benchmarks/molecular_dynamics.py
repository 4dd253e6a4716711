"""Molecular dynamics: cost of a step against LAMMPS, and the same trajectory.

Usage: python paper/benchmarks/molecular_dynamics.py [--blocks N]

512 atoms of silicon, the published Stillinger-Weber model of this repository, one core. A call of
bayespot is that of its ASE calculator at new positions: energy, forces and stress over a list that
is kept. A call of LAMMPS is a step of ``run`` without thermodynamic output and without making its
list anew, which tallies no energy and no stress. Blocks of both are interleaved in one process;
times are CPU times, ratios are medians over blocks with their quartiles.

Claims go to paper/results/properties.json.
"""

# ruff: noqa: E402  (threads and the cache are configured before anything is compiled)
import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
if hasattr(os, "sched_setaffinity"):  # one core for both programs
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import jax
import lammps_reference as reference
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet
from claims import add_claims, claim, show

import bayespot

bayespot.configure()

from bayespot.dynamics import DynamicsCalculator, Ensemble
from bayespot.export.styles import write_style
from bayespot.potentials.base import Potential

COMMAND = "python paper/benchmarks/molecular_dynamics.py"
MODEL = ROOT / "models" / "silicon-stillinger_weber-gpaw_pbe-2026" / "posterior.nc"
N_DRAWS, TEMPERATURE, DT = 32, 600.0, 1.0
LAMMPS_STEPS, CALLS, CALLS_DRAWS = 40, 20, 3
LAMMPS_SKIN = 1.0
"""Å, as ours; its default of 2 makes lists more rarely and steps dearer."""


def row(name: str, value: float, target: str, n: int, unit: str = "1", **ends: float) -> dict:
    return claim(f"molecular dynamics: {name}", value, target, n=n, unit=unit, command=COMMAND,
                 **ends)  # fmt: skip


def hot(ensemble: Ensemble, repeat: int = 4) -> Atoms:
    """Silicon after half a picosecond with a thermostat."""
    rng = np.random.default_rng(0)
    atoms = bulk("Si", cubic=True, a=5.46).repeat(repeat)
    atoms.set_momenta(np.sqrt(2 * units.kB * TEMPERATURE * atoms.get_masses())[:, None]
                      * rng.standard_normal((len(atoms), 3)))  # fmt: skip
    atoms.calc = DynamicsCalculator(ensemble, drive=0)
    Langevin(atoms, DT * units.fs, temperature_K=TEMPERATURE, friction=0.02 / units.fs,
             fixcm=False, rng=rng).run(500)  # fmt: skip
    return atoms


def started(atoms: Atoms, potential: Potential, folder: Path) -> reference.Lammps:
    """LAMMPS with these atoms and velocities, ready to run Newton's equations."""
    lammps = reference.Lammps()
    commands = write_style(potential, folder, "md").commands(folder)
    lammps.run(atoms, potential.species, commands)
    lmp = lammps.lmp
    # LAMMPS rounds its constant of F / m; masses that undo it leave the equations the same.
    mass = atoms.get_masses()[0] * lmp.extract_global("ftm2v") / (1e3 * units.fs) ** 2
    velocities = np.ascontiguousarray(1e3 * units.fs * atoms.get_velocities())
    lmp.command(f"mass 1 {mass:.17g}")
    lmp.scatter_atoms("v", 1, 3, np.ctypeslib.as_ctypes(velocities.ravel()))
    lmp.commands_list([f"timestep {1e-3 * DT}", "fix newton all nve", "thermo 0"])
    return lammps


def per_call(work: Callable[[], None], calls: int) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) / calls


def moved(calculator: DynamicsCalculator, frames: list[np.ndarray], atoms: Atoms) -> None:
    """One evaluation at each of these positions."""
    for positions in frames:
        atoms.positions = positions
        calculator.calculate(atoms, ["energy", "forces"])


def speed(ensemble: Ensemble, potential: Potential, blocks: int) -> list[dict]:
    atoms = hot(ensemble)
    frames: list[np.ndarray] = []
    one, many = (DynamicsCalculator(ensemble, drive=drive) for drive in (0, "mean"))
    walker = atoms.copy()
    walker.calc = one
    newton = VelocityVerlet(walker, DT * units.fs)
    for _ in range(CALLS):
        newton.run(1)
        frames.append(walker.get_positions())
    still = atoms.copy()
    with tempfile.TemporaryDirectory() as name:
        lammps = started(atoms, potential, Path(name))
        lmp = lammps.lmp
        lmp.commands_list([
            f"neighbor {LAMMPS_SKIN} bin", "neigh_modify delay 1000000 every 1000000 check no",
            "run 0 post no",
        ])
        run = f"run {LAMMPS_STEPS} pre no post no"
        works = {
            "LAMMPS": (lambda: lmp.command(run), LAMMPS_STEPS),
            "one": (lambda: moved(one, frames, still), CALLS),
            "draws": (lambda: moved(many, frames[:CALLS_DRAWS], still), CALLS_DRAWS),
        }
        for work, _ in works.values():
            work()
        lmp.commands_list(["timestep 0.0"])  # stays within the list, whatever the blocks
        made = ensemble.list.made
        times = {key: [] for key in works}
        for _ in range(blocks):
            for key, (work, calls) in works.items():
                times[key].append(per_call(work, calls))
        assert ensemble.list.made == made, "a list was made anew between blocks"
        lammps.close()
    lists = ensemble.list.graph(atoms)
    edges = int((lists.chunks.center < len(atoms)).sum()) / len(atoms)
    print({key: f"{1e3 * np.median(values):.3f} ms" for key, values in times.items()},
          f"{edges:.1f} neighbours within the cutoff")  # fmt: skip
    rows = []
    for name, over, under, target in (
        ("one draw over one LAMMPS force call", "one", "LAMMPS", "<= 2.5"),
        (f"{N_DRAWS} draws over one draw", "draws", "one", "<= 16"),
        (f"{N_DRAWS} draws over one LAMMPS force call", "draws", "LAMMPS", "<= 40"),
    ):
        ratios = np.array(times[over]) / np.array(times[under])
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        rows.append(row(f"{name}, 512 atoms", middle, target, blocks, low=low, high=high))
    return rows


def same_trajectory(potential: Potential, steps: int = 200) -> list[dict]:
    """Positions after so many steps of Newton's equations, against LAMMPS'."""
    alone = Ensemble(potential)
    atoms = hot(alone, repeat=2)
    with tempfile.TemporaryDirectory() as name:
        lammps = started(atoms, potential, Path(name))
        lammps.lmp.command(f"run {steps}")
        theirs = np.array(lammps.lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)
        lammps.close()
    VelocityVerlet(atoms, DT * units.fs).run(steps)
    apart = atoms.positions - theirs
    apart -= np.rint(apart @ np.linalg.inv(atoms.cell.array)) @ atoms.cell.array
    return [row(f"largest distance from LAMMPS' trajectory after {steps} steps",
                np.abs(apart).max(), "<= 1e-6", 1, "Å")]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=25)
    given = parser.parse_args()
    why = reference.missing()
    if why is not None:
        raise SystemExit(why)
    ensemble = Ensemble(bayespot.Posterior.load(MODEL), n_draws=N_DRAWS)
    potential = jax.tree.map(lambda leaf: np.asarray(leaf)[0], ensemble.potentials)
    rows = speed(ensemble, potential, given.blocks) + same_trajectory(potential)
    show(rows)
    add_claims(ROOT / "paper" / "results" / "properties.json", "properties", rows)


if __name__ == "__main__":
    main()
