"""A trajectory in its folder: records, frames, and what they say about every draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.dynamics.files import FRAMES, SETTINGS, STATE, read_frames, read_records
from bayespot.dynamics.reweighting import ENOUGH, Reweighting, reweight
from bayespot.errors import ConfigError, PropertyError
from bayespot.records import read_json


@dataclass(frozen=True)
class Trajectory:
    """What `bayespot.dynamics.run_dynamics` wrote, also while it still runs or after a kill.

    Attributes
    ----------
    folder : Path
    settings : dict
    records : list of dict
        One a written step: step, time_fs, temperature_K, energy and kinetic (eV); where the draws
        were evaluated also energy_draws, energy_std, force_std, atom, stress_std, grade, beyond.
    stopped : str or None
        Why the run ended early.
    """

    folder: Path
    settings: dict[str, Any]
    records: list[dict[str, Any]]
    stopped: str | None

    @classmethod
    def load(cls, folder: str | Path) -> Trajectory:
        """Read a folder.

        Raises
        ------
        ConfigError
            If it holds no trajectory.
        """
        folder = Path(folder)
        if not (folder / SETTINGS).is_file() or not (folder / FRAMES).is_file():
            raise ConfigError(f"{folder} holds no trajectory: {SETTINGS} or {FRAMES} is missing")
        state = read_json(folder / STATE) if (folder / STATE).is_file() else {"stopped": None}
        return cls(folder, read_json(folder / SETTINGS), read_records(folder), state["stopped"])

    def column(self, name: str) -> np.ndarray:
        """One entry of all records that have it, ``energy_draws`` as [n_records, n_draws]."""
        return np.array([row[name] for row in self.records if row.get(name) is not None])

    @cached_property
    def spread_steps(self) -> np.ndarray:
        """Steps at which all draws were evaluated."""
        return np.array([row["step"] for row in self.records if "energy_draws" in row], dtype=int)

    @property
    def beyond(self) -> list[dict[str, Any]]:
        """Records beyond the limits of the run."""
        return [row for row in self.records if row.get("beyond")]

    def frames(self, *, skip_fs: float = 0.0) -> Iterator[Atoms]:
        """Frames from a time on, one by one; ``info`` has ``step`` and ``time_fs``."""
        for atoms in read_frames(self.folder):
            if atoms.info["time_fs"] >= skip_fs:
                yield atoms

    @property
    def frame_fs(self) -> float:
        """Time from one regular frame to the next."""
        return self.settings["write_every"] * self.settings["timestep_fs"]

    def positions(self, *, skip_fs: float = 0.0) -> np.ndarray:
        """Unwrapped positions at equal distances in time, Å, [n_frames, n_atoms, 3].

        A frame beside these, that of the step at which a run was stopped, is left out.
        """
        every = self.settings["write_every"]
        return np.array([
            a.positions for a in self.frames(skip_fs=skip_fs) if a.info["step"] % every == 0
        ])

    def reweight(self, *, skip_fs: float = 0.0, enough: float = ENOUGH) -> Reweighting:
        """Weights of the steps with all draws, from a time on, see `reweight`.

        Raises
        ------
        PropertyError
            If the trajectory is not canonical, or the draws were never evaluated.
        """
        if self.settings["thermostat"] == "none":
            raise PropertyError(
                "a trajectory without a thermostat is not canonical and cannot be reweighted: "
                "run it with thermostat='langevin'"
            )
        rows = [row for row in self.records
                if "energy_draws" in row and row["time_fs"] >= skip_fs]  # fmt: skip
        if not rows:
            raise PropertyError(
                f"{self.folder} has no step after {skip_fs:g} fs at which all draws were "
                "evaluated: run it with spread_every, or skip less"
            )
        return reweight(
            np.array([row["energy_draws"] for row in rows]),
            np.array([row["energy"] for row in rows]),
            self.settings["temperature"], enough=enough,
        )  # fmt: skip

    def frames_of_weights(self, *, skip_fs: float = 0.0) -> list[Atoms]:
        """The frames of the steps that `reweight` takes, in its order.

        Raises
        ------
        PropertyError
            If frames were not written at all of these steps.
        """
        wanted = [row["step"] for row in self.records
                  if "energy_draws" in row and row["time_fs"] >= skip_fs]  # fmt: skip
        frames = {int(a.info["step"]): a for a in self.frames(skip_fs=skip_fs)}
        missing = [step for step in wanted if step not in frames]
        if missing:
            raise PropertyError(
                f"{len(missing)} of {len(wanted)} steps with all draws have no frame (the first is "
                f"step {missing[0]}): write_every must divide spread_every"
            )
        return [frames[step] for step in wanted]
