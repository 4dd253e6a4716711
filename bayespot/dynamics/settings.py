"""What a run of molecular dynamics is: checked when it is made, written beside its results."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bayespot.errors import ConfigError

THERMOSTATS = ("langevin", "none")
REACTIONS = ("stop", "flag")


@dataclass(frozen=True)
class Settings:
    """How atoms move, what is written, and when it is too much.

    Attributes
    ----------
    steps : int
        A run of a folder that was made with fewer goes on from there.
    temperature : float
        K, of the thermostat, and of the velocities that atoms without any start with.
    timestep_fs : float
    thermostat : {"langevin", "none"}
        Canonical, or Newton's equations alone.
    friction_per_fs : float
        Of the Langevin thermostat.
    drive : "mean", "center" or int
        See `bayespot.dynamics.calculator.DynamicsCalculator`.
    n_draws : int
        Of a posterior.
    spread_every : int
        Steps from one evaluation of all draws to the next; 0 for none.
    write_every : int
        Steps from one written frame to the next.
    force_spread : float, optional
        Largest spread of a force component that is gone on with, eV/Å.
    grade : float, optional
        Largest extrapolation grade that is gone on with; looked at where the posterior's spread is
        calibrated.
    beyond : {"stop", "flag"}
        What is done beyond these: the run ends, or the record says so.
    seed : int
        Of velocities and thermostat.
    skin : float, optional
        Å, of the neighbour list.

    Raises
    ------
    ConfigError
        If a value cannot be.
    """

    steps: int
    temperature: float
    timestep_fs: float = 1.0
    thermostat: str = "langevin"
    friction_per_fs: float = 0.02
    drive: int | str = "center"
    n_draws: int = 32
    spread_every: int = 10
    write_every: int = 10
    force_spread: float | None = None
    grade: float | None = 1.0
    beyond: str = "stop"
    seed: int = 0
    skin: float | None = None

    def __post_init__(self) -> None:
        for name, low, why in (
            ("steps", 1, ""), ("write_every", 1, ""), ("n_draws", 1, ""), ("seed", 0, ""),
            ("spread_every", 0, "; 0 evaluates no spread"),
        ):  # fmt: skip
            value = getattr(self, name)
            if not (isinstance(value, (int, np.integer)) and value >= low):
                raise ConfigError(f"{name}={value!r}: give a whole number from {low} on{why}")
        for name in ("timestep_fs", "friction_per_fs", "skin", "force_spread", "grade"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ConfigError(f"{name}={value!r}: give a positive number")
        if not (np.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError(f"temperature={self.temperature!r}: give a number from 0 on")
        for name, known in (("thermostat", THERMOSTATS), ("beyond", REACTIONS)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} is unknown: use one of {', '.join(known)}"
                )
        if self.force_spread is not None and not self.spread_every:
            raise ConfigError(
                f"force_spread={self.force_spread} is never looked at with spread_every=0: say "
                "every how many steps the draws are evaluated"
            )

    def as_record(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)

    def decisive(self) -> dict[str, Any]:
        """What a continued run must have in common with its beginning."""
        free = ("steps", "force_spread", "grade", "beyond")
        return {key: value for key, value in asdict(self).items() if key not in free}
