"""How calculations are run: where, for how long, and what is tried again.

None of it may change what a label means; what does is in an oracle's ``settings``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from bayespot.errors import ConfigError
from bayespot.oracles.base import MAX_FORCE
from bayespot.oracles.failures import KINDS

SMALLEST_MEMORY = 256.0
"""MB; Python with ASE takes more than half of it before the calculation begins."""


@dataclass(frozen=True)
class Rung:
    """One more attempt at a calculation that failed.

    Attributes
    ----------
    on : tuple of str
        Kinds of failure that it is for (`bayespot.oracles.failures.KINDS`).
    change : mapping
        Keywords of the calculator in place of those given. Only such that decide how the result is
        reached (mixing, iterations, diagonalization), never what it is.
    guess : mapping
        Keywords, of any kind, of a calculation made first whose density is the start of the real
        one. The label is that of the real one, which has the settings of the data set.
    time_factor : float
        How much longer than `time_limit` it may run.
    """

    on: tuple[str, ...]
    change: Mapping[str, Any] = field(default_factory=dict)
    guess: Mapping[str, Any] = field(default_factory=dict)
    time_factor: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "on", tuple(self.on))
        for kind in self.on:
            if kind not in KINDS:
                raise ConfigError(
                    f"a rung of the ladder is on = {kind!r}, which is no kind of failure"
                    f"{_hint(kind, KINDS)}; there are {', '.join(KINDS)}"
                )
        if not self.on:
            raise ConfigError("a rung of the ladder needs on = [...], the failures that it is for")
        if not self.time_factor > 0:
            raise ConfigError(f"time_factor = {self.time_factor} of a rung must be positive")

    def described(self) -> dict[str, Any]:
        """Return what it changes, for the record of an attempt."""
        parts = {"change": dict(self.change), "guess": dict(self.guess)}
        return {name: part for name, part in parts.items() if part}


@dataclass(frozen=True)
class RunSettings:
    """Where and for how long calculations run, and what is tried again.

    Attributes
    ----------
    command : tuple of str
        Words of the command that starts the code, for codes that are programs (``["mpirun", "-np",
        "4", "pw.x"]``). Never given to a shell.
    check_command : bool
        Whether the command must be found where the oracle is made. False where only the machines
        that calculate have it.
    pseudo_dir : str or None
        Folder of the pseudopotential files.
    isolate : bool or None
        Whether each calculation has a process of its own; None: unless the calculator is one of the
        small ones inside of ASE. Limits need it.
    time_limit : float or None
        s of wall time of one attempt.
    memory_limit : float or None
        MB that the processes of a calculation may hold together (not on Linux: that each of them
        may allocate).
    scratch : str or None
        Where each calculation gets its folder; None: the system's folder for temporary files.
    keep_failed : bool
        Whether the folders of failed attempts stay; the record then says where. The end of the
        output is recorded in any case.
    environment : mapping
        Variables, such as OMP_NUM_THREADS.
    max_force : float
        eV/Å, above which a force means a broken calculation.
    allow_fixed_occupations : bool
        Calculate without smearing although cells whose gap closes then end in a wrong state.
    ladder : tuple of Rung, or None
        What is tried after a failure, in this order; None: what the code's module says.
    """

    command: tuple[str, ...] = ()
    check_command: bool = True
    pseudo_dir: str | None = None
    isolate: bool | None = None
    time_limit: float | None = None
    memory_limit: float | None = None
    scratch: str | None = None
    keep_failed: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    max_force: float = MAX_FORCE
    allow_fixed_occupations: bool = False
    ladder: tuple[Rung, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.command, str):
            raise ConfigError(
                f"command = {self.command!r} must be a list of words, such as "
                f"{self.command.split()}: it is not given to a shell"
            )
        object.__setattr__(self, "command", tuple(self.command))
        object.__setattr__(self, "environment", dict(self.environment))
        for name in ("time_limit", "memory_limit", "max_force"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} = {value} must be positive, or be left out")
        if self.memory_limit is not None and self.memory_limit < SMALLEST_MEMORY:
            raise ConfigError(
                f"memory_limit = {self.memory_limit} MB is less than the {SMALLEST_MEMORY:g} MB "
                "that Python itself needs with ASE"
            )
        if self.isolate is False and (self.time_limit or self.memory_limit):
            raise ConfigError(
                "time_limit and memory_limit need a process for each calculation; leave "
                "isolate = false out"
            )
        if self.ladder is not None:
            object.__setattr__(self, "ladder", tuple(self.ladder))

    @classmethod
    def of(cls, given: RunSettings | Mapping[str, Any] | None) -> RunSettings:
        """Make it from a table of a configuration.

        Raises
        ------
        ConfigError
            For an unknown key or a value that cannot be.
        """
        if isinstance(given, RunSettings):
            return given
        content = dict(given or {})
        _refuse_unknown(content, (f.name for f in fields(cls)), "[learn.oracle_run]")
        if content.get("ladder") is not None:
            rungs = []
            for rung in content["ladder"]:
                if isinstance(rung, Rung):
                    rungs.append(rung)
                    continue
                _refuse_unknown(rung, (f.name for f in fields(Rung)), "[[learn.oracle_run.ladder]]")
                if "on" not in rung:
                    raise ConfigError("a rung of the ladder needs on = [...]: the kinds it is for")
                rungs.append(Rung(**rung))
            content["ladder"] = tuple(rungs)
        return cls(**content)

    def plain(self) -> dict[str, Any]:
        """Return it as plain JSON; `of` reads it again."""
        return asdict(self)


def _refuse_unknown(given: Iterable[str], known: Iterable[str], where: str) -> None:
    known = sorted(known)
    for name in given:
        if name not in known:
            raise ConfigError(
                f"unknown key {name} in {where}{_hint(name, known)}; known: {', '.join(known)}"
            )


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
