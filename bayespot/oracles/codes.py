"""What has to be known of a code to take labels from it; here, of any calculator that ASE knows.

`GpawCode`, `EspressoCode` and `ChgnetCode` override what is different about theirs. No code from a
configuration is evaluated: names are looked up, keywords are handed to the calculator.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.calculator import get_calculator_class
from ase.calculators.calculator import names as ase_names

from bayespot.errors import ConfigError, OracleError
from bayespot.oracles.failures import failure_of, tail_of, without_room
from bayespot.oracles.run_settings import Rung, RunSettings

IN_ASE = frozenset({"eam", "emt", "lj", "morse", "tip3p", "tip4p"})
"""Calculators of some lines of Python; a process for each of their calculations would cost more."""

AGAIN = (Rung(on=("crash", "exit_code", "killed", "truncated", "disk_full", "failed")),)
"""Ladder for a code of which nothing is known: what may have been chance is tried once more."""


class Code:
    """Any ASE calculator, by its name in ASE or as ``"package.module:Class"``.

    Parameters
    ----------
    name : str

    Raises
    ------
    ConfigError
        If there is no such calculator.
    """

    path_keys: frozenset[str] = frozenset()
    """Keywords, dotted, that decide how a result is reached and not what it is."""

    can_start_from_density = False
    """Whether a calculation may begin with the density of one with other settings."""

    ladder: tuple[Rung, ...] = AGAIN

    def __init__(self, name: str) -> None:
        self.name = name
        if name in IN_ASE:
            self.ladder = ()  # they give the same again
        if ":" not in name and name not in ase_names:
            raise ConfigError(f"unknown oracle '{name}'; {_nearest(name)}")

    @property
    def writes(self) -> bool:
        """Whether its calculations need a folder."""
        return self.name not in IN_ASE

    @property
    def isolated(self) -> bool:
        """Whether each calculation has a process of its own unless told otherwise."""
        return self.name not in IN_ASE

    def identity(self, keywords: dict[str, Any], run: RunSettings) -> dict[str, Any]:
        """Return what decides a label: plain JSON without what only decides how it is reached.

        Raises
        ------
        ConfigError
            For keywords that cannot be, or that give labels which cannot be trusted.
        """
        return {"oracle": self.name, "keywords": without_keys(keywords, self.path_keys)}

    def calculator(
        self,
        keywords: dict[str, Any],
        run: RunSettings,
        folder: Path | None = None,
        structure: Atoms | None = None,
        *,
        saves: bool = False,
        starts: bool = False,
    ) -> Any:
        """Make the calculator of one calculation.

        Parameters
        ----------
        keywords : dict
            Its keywords; it may change them.
        run : RunSettings
        folder : Path, optional
            Where it writes; None to try the keywords only.
        structure : Atoms, optional
            What it is for, where that decides an input.
        saves, starts : bool
            Whether it leaves its density in the folder, or starts from one that was left there.
        """
        return self._class()(**keywords)

    def check(self, calculator: Any, folder: Path | None) -> None:
        """Raise where a calculation ended without an error and without convergence.

        Raises
        ------
        OracleError
        """
        if getattr(calculator, "converged", None) is False:
            raise OracleError("not converged: the calculator says so", "not_converged")

    def provenance(self, calculator: Any, folder: Path | None) -> dict[str, Any]:
        """Return version, iterations and convergence, as far as the code tells them."""
        return {"version": self.version(), "iterations": _iterations(calculator)}

    def version(self) -> str:
        """Version of the package behind the calculator; ASE's own for those that live in ASE."""
        packages = [self.name, "ase"]
        if ":" in self.name:
            module = self.name.split(".")[0].split(":")[0]
            packages = importlib.metadata.packages_distributions().get(module, [])
        for package in packages:
            try:
                return f"{package} {importlib.metadata.version(package)}"
            except importlib.metadata.PackageNotFoundError:
                continue
        return "unknown"

    def failure(self, error: BaseException, folder: Path | None) -> OracleError:
        """Say what an exception of the calculator means."""
        failure = failure_of(error, self.tail(folder))
        return failure if folder is None else without_room(failure, folder)

    def tail(self, folder: Path | None) -> str:
        """End of what the code wrote."""
        return "" if folder is None else tail_of(folder / "log")

    def _class(self) -> Any:
        if ":" not in self.name:
            return get_calculator_class(self.name)
        module, _, name = self.name.partition(":")
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError as error:
            raise ConfigError(f"oracle = '{self.name}': {error}; install it") from None
        if not (inspect.isclass(found) and issubclass(found, GetPropertiesMixin)):
            raise ConfigError(
                f"oracle = '{self.name}': {module} has no ASE calculator called {name!r}"
            )
        return found


def merged(keywords: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords with others in their place, table by table."""
    result = dict(keywords)
    for name, value in changes.items():
        old = result.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[name] = merged(old, value) if both else value
    return result


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value of nested tables by its dotted key; lists are values."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def without_keys(tree: Mapping[str, Any], gone: frozenset[str], prefix: str = "") -> dict[str, Any]:
    """Nested tables without the dotted keys named, nor the tables that are empty then."""
    kept: dict[str, Any] = {}
    for name, value in tree.items():
        if f"{prefix}{name}" in gone:
            continue
        if isinstance(value, Mapping):
            inner = without_keys(value, gone, f"{prefix}{name}.")
            if inner or not value:
                kept[name] = inner
        else:
            kept[name] = value
    return kept


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, [*ase_names, "chgnet"], n=1)
    return f"did you mean '{close[0]}'?" if close else (
        "see ase.calculators for the names; others are written package.module:Class"
    )  # fmt: skip


def _iterations(calculator: Any) -> int | None:
    """Self-consistency iterations where the calculator tells."""
    try:
        return int(calculator.get_number_of_iterations())
    except Exception:  # every code has its own way of not knowing; a label does not need it
        return None
