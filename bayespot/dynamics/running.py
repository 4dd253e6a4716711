"""Molecular dynamics under a posterior: ASE's integrators on one surface, all draws beside it."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from bayespot.dynamics.calculator import DynamicsCalculator
from bayespot.dynamics.ensemble import Ensemble, driver_of
from bayespot.dynamics.files import SETTINGS, Writer, read_records
from bayespot.dynamics.settings import Settings
from bayespot.dynamics.trajectory import Trajectory
from bayespot.errors import StructureError
from bayespot.graph import species_index
from bayespot.inference.stamp import stamp
from bayespot.posterior import Posterior
from bayespot.potentials.base import Potential

KEPT_SECONDS = 10.0
"""Time between two states from which a killed run continues."""

Progress = Callable[[int, int, str], None]


def run_dynamics(
    source: Posterior | Potential | Ensemble, atoms: Atoms, folder: str | Path,
    settings: Settings, *, allow_unconverged: bool = False, progress: Progress | None = None,
) -> Trajectory:
    """Run molecular dynamics into a folder; the same call continues what was killed.

    Parameters
    ----------
    source : Posterior, Potential or Ensemble
        An ensemble is used as it is, with its lists and compiled programs.
    atoms : Atoms
        Start; not changed. Without momenta it gets those of the temperature.
    folder : path
        New, or of a run with the same start and settings (``steps`` and limits may differ).
    settings : Settings
    allow_unconverged : bool
        Go on although the posterior has not converged.
    progress : callable, optional
        Called as ``progress(step, steps, message)``.

    Raises
    ------
    StructureError
        If the cell is smaller than the cutoff, or the trajectory explodes. Up to there it is in
        the folder.
    BayespotError
        If the folder belongs to another run.
    """
    folder = Path(folder)
    ensemble = source if isinstance(source, Ensemble) else Ensemble(
        source, n_draws=settings.n_draws, skin=settings.skin, allow_unconverged=allow_unconverged
    )  # fmt: skip
    driver_of(settings.drive, ensemble.n)
    check_start(atoms, ensemble)
    of = {**settings.decisive(), **_identity(ensemble, atoms)}
    stamp(folder / SETTINGS, of, "the trajectory")
    run = _Run(ensemble, atoms.copy(), folder, settings)
    try:
        run.go(progress or (lambda step, steps, message: None))
    finally:
        run.writer.close()
    return Trajectory.load(folder)


def run_draws(
    source: Posterior | Potential | Ensemble, atoms: Atoms, folder: str | Path,
    settings: Settings, *, draws: Sequence[int] | None = None, allow_unconverged: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[int, Trajectory], dict[int, str]]:
    """A trajectory on each draw, in ``folder/draw_K``, with random numbers of its own.

    All draws share compiled programs; the call continues where it was killed, and may be given a
    part of the draws, for example in processes of their own.

    Parameters
    ----------
    draws : sequence of int, optional
        Some of the draws; all without.
    source, atoms, folder, settings, allow_unconverged, progress
        See `run_dynamics`; ``settings.drive`` is not looked at.

    Returns
    -------
    trajectories : dict
        By the number of the draw.
    failed : dict
        Why a draw's trajectory ended early, by its number.
    """
    ensemble = source if isinstance(source, Ensemble) else Ensemble(
        source, n_draws=settings.n_draws, skin=settings.skin, allow_unconverged=allow_unconverged
    )  # fmt: skip
    found: dict[int, Trajectory] = {}
    failed: dict[int, str] = {}
    for k in range(ensemble.n) if draws is None else draws:
        place = Path(folder) / f"draw_{driver_of(k, ensemble.n)}"
        own = replace(settings, drive=int(k), seed=settings.seed + int(k))
        try:
            found[k] = run_dynamics(ensemble, atoms, place, own, progress=progress)
        except StructureError as error:
            failed[k] = str(error)
            continue
        if found[k].stopped:
            failed[k] = found[k].stopped
    return found, failed


def check_start(atoms: Atoms, ensemble: Ensemble) -> None:
    """Raise `StructureError` or `SpeciesError` unless dynamics of this structure make sense."""
    species_index(atoms, ensemble.potentials.species)
    if not len(atoms):
        raise StructureError("a structure without atoms cannot move")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.get_momenta()).all()):
        raise StructureError("positions or momenta of the start are no numbers")
    heights = _heights(atoms)
    narrow = [h for h, periodic in zip(heights, atoms.pbc, strict=True) if periodic]
    if narrow and min(narrow) < ensemble.list.reach:
        raise StructureError(
            f"the cell is {min(narrow):.2f} Å wide and the potential reaches "
            f"{ensemble.list.reach:.2f} Å: atoms would move together with images that they see; "
            "repeat the cell (atoms.repeat)"
        )


def _heights(atoms: Atoms) -> np.ndarray:
    """Distances between opposite faces of the cell, Å, [3]."""
    return 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.complete().array), axis=0)


def _identity(ensemble: Ensemble, atoms: Atoms) -> dict[str, Any]:
    """What a folder belongs to besides its settings: the draws and the start."""
    parts = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(ensemble.potentials)]
    parts += [atoms.numbers, atoms.positions, atoms.get_momenta(), atoms.get_masses(),
              atoms.cell.array, atoms.pbc]  # fmt: skip
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()
    return {"form": type(ensemble.potentials).__name__, "draws_and_start": digest}


class _Run:
    """One run between its folder and ASE."""

    def __init__(self, ensemble: Ensemble, atoms: Atoms, folder: Path, settings: Settings) -> None:
        self.atoms, self.settings, self.ensemble = atoms, settings, ensemble
        self.calculator = DynamicsCalculator(ensemble, drive=settings.drive)
        self.writer = Writer(folder)
        self.step, self.stopped = 0, None
        self.rng = np.random.default_rng(settings.seed)
        state = self.writer.state
        if state is None:
            if not atoms.get_momenta().any():
                with warnings.catch_warnings():
                    # newer ASE names the argument of the velocities' distribution otherwise
                    warnings.simplefilter("ignore", DeprecationWarning)
                    warnings.simplefilter("ignore", FutureWarning)
                    MaxwellBoltzmannDistribution(
                        atoms, temperature_K=settings.temperature, rng=self.rng
                    )
        else:
            self.step = state["step"]
            self.rng.bit_generator.state = state["rng"]
            atoms.set_cell(state["cell"])
            atoms.positions = np.array(state["positions"])
            atoms.set_momenta(np.array(state["momenta"]))
        atoms.calc = self.calculator

    def go(self, progress: Progress) -> None:
        """From where the folder is to the last step, or to where it is too much."""
        s, md = self.settings, self._integrator()
        if self.step == 0 and self.writer.state is None:
            self._write()
        else:
            self.stopped = self._still_beyond()
        kept = time.monotonic()
        while self.step < s.steps and self.stopped is None:
            to = min(s.steps, *(
                (self.step // every + 1) * every for every in (s.write_every, s.spread_every)
                if every
            ))
            try:
                md.run(to - self.step)
            except StructureError as error:
                raise StructureError(
                    f"between steps {self.step} and {to} ({s.timestep_fs:g} fs each): {error}"
                ) from error
            self.step = to
            self._write()
            if time.monotonic() - kept > KEPT_SECONDS:
                self.writer.keep(self.atoms, self.step, self.rng, self.stopped)
                kept = time.monotonic()
            progress(self.step, s.steps, f"{self.atoms.get_temperature():.0f} K")
        self.writer.keep(self.atoms, self.step, self.rng, self.stopped)

    def _integrator(self) -> MolecularDynamics:
        s = self.settings
        if s.thermostat == "none":
            return VelocityVerlet(self.atoms, s.timestep_fs * units.fs)
        return Langevin(
            self.atoms, s.timestep_fs * units.fs, temperature_K=s.temperature,
            friction=s.friction_per_fs / units.fs, fixcm=False, rng=self.rng,
        )  # fmt: skip

    def _write(self) -> None:
        """Frame and record of this step, where one is due."""
        s, atoms = self.settings, self.atoms
        spread = None
        if s.spread_every and self.step % s.spread_every == 0:
            spread = self.calculator.spread(atoms)
        time_fs = self.step * s.timestep_fs
        content = {
            "step": self.step, "time_fs": time_fs, "temperature_K": atoms.get_temperature(),
            "energy": atoms.get_potential_energy(), "kinetic": atoms.get_kinetic_energy(),
        }  # fmt: skip
        if spread is not None:
            beyond = self._beyond(spread.force_std, spread.grade, spread.atom)
            content |= {**asdict(spread), "beyond": beyond}
            if beyond and s.beyond == "stop":
                self.stopped = f"step {self.step}, {time_fs:g} fs: {beyond}"
        self.writer.record(content)
        if self.step % s.write_every == 0 or self.stopped:  # the latter is one to learn from
            self.writer.frame(atoms, self.step, time_fs)

    def _beyond(self, force_std: float, grade: float | None, atom: int) -> str | None:
        """What is too much, in words."""
        s, posterior = self.settings, self.ensemble.posterior
        found = []
        if s.force_spread is not None and force_std > s.force_spread:
            found.append(
                f"the force on atom {atom} has a spread of {force_std:.3g} eV/Å, above the "
                f"{s.force_spread:g} that was allowed"
            )
        calibrated = posterior is not None and posterior.calibrated
        if s.grade is not None and calibrated and grade > s.grade:
            found.append(
                f"outside the calibrated range: spread {grade:.2f} times the largest on a family "
                "left out"
            )
        return "; ".join(found) or None

    def _still_beyond(self) -> str | None:
        """Whether the last record is beyond the limits that are given now."""
        if self.settings.beyond != "stop":
            return None
        last = read_records(self.writer.folder)[-1]
        if "force_std" not in last:
            return None
        beyond = self._beyond(last["force_std"], last["grade"], last["atom"])
        return beyond and f"step {last['step']}, {last['time_fs']:g} fs: {beyond}"
