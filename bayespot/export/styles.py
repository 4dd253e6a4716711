"""What an exporter hands back, and which exporter belongs to which form.

An exporter is one function in a file of this folder, registered for the forms that it writes:

    @register(Morse)
    def write_morse(potential, folder, stem):
        ...
        return LammpsStyle("morse", settings, coeffs)

No other edit is needed: `write_style` scans the folder. Nothing here needs LAMMPS.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bayespot.errors import ConfigError
from bayespot.potentials.base import Potential
from bayespot.potentials.sums import SumPotential

__all__ = ["LammpsStyle", "exporters", "numbers", "overlay", "register", "write_new",
           "write_style"]


@dataclass(frozen=True)
class LammpsStyle:
    """A potential in the words of LAMMPS, metal units.

    Attributes
    ----------
    pair_style : str
        Name of the style, as "sw".
    settings : str
        Arguments after the name, as "6.0" of ``pair_style lj/cut 6.0``.
    coeffs : tuple of str
        Arguments of each ``pair_coeff`` line. Types are numbered in the order of the potential's
        species; files are named relative to the folder that they were written to.
    files : tuple of str
        Names of the files that were written.
    precision : str
        "exact" where the numbers are written with seventeen digits, else the measured error.
    note : str
        What a user of the files must know.
    """

    pair_style: str
    settings: str = ""
    coeffs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    precision: str = "exact"
    note: str = ""

    def commands(self, folder: Path | str | None = None) -> list[str]:
        """Lines of a LAMMPS input; ``folder`` is put before the names of the files."""
        lines = [f"pair_style {self.pair_style} {self.settings}".rstrip()]
        for coeff in self.coeffs:
            words = [
                str(Path(folder) / word) if folder is not None and word in self.files else word
                for word in coeff.split()
            ]
            lines.append(" ".join(["pair_coeff", *words]))
        return lines

    def as_record(self) -> dict[str, Any]:
        """The same as plain data, for a manifest."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


def overlay(parts: Sequence[LammpsStyle]) -> LammpsStyle:
    """The sum of styles, none of them a sum itself, as ``hybrid/overlay``."""
    total, seen = Counter(part.pair_style for part in parts), Counter[str]()
    settings, coeffs = [], []
    for part in parts:
        name = part.pair_style
        seen[name] += 1
        # LAMMPS tells two of a kind apart by a number after the name.
        label = name if total[name] == 1 else f"{name} {seen[name]}"
        settings.append(f"{name} {part.settings}".rstrip())
        for line in part.coeffs:
            first, second, *rest = line.split()
            coeffs.append(" ".join([first, second, label, *rest]))
    inexact = [part.precision for part in parts if part.precision != "exact"]
    return LammpsStyle(
        "hybrid/overlay",
        " ".join(settings),
        tuple(coeffs),
        tuple(file for part in parts for file in part.files),
        precision="; ".join(inexact) or "exact",
        note="; ".join(dict.fromkeys(part.note for part in parts if part.note)),
    )


Exporter = Callable[[Potential, Path, str], LammpsStyle]

_EXPORTERS: dict[type[Potential], Exporter] = {}


def register(*forms: type[Potential]) -> Callable[[Exporter], Exporter]:
    """Say that the decorated function writes potentials of these forms.

    The function takes a potential (without an axis of draws), an existing folder and the stem of
    its files' names; it writes with `write_new` and returns a `LammpsStyle`.
    """

    def decorate(function: Exporter) -> Exporter:
        for form in forms:
            _EXPORTERS[form] = function
        return function

    return decorate


@cache
def _scan() -> None:
    """Load every file of this folder, so that each has registered its forms."""
    import bayespot.export as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def exporters() -> dict[type[Potential], Exporter]:
    """Forms that can be exported, by class."""
    _scan()
    return dict(_EXPORTERS)


def write_style(potential: Potential, folder: Path | str, stem: str) -> LammpsStyle:
    """Write one potential for LAMMPS.

    Parameters
    ----------
    potential : Potential
        Without an axis of draws.
    folder : path
        Made if it is not there.
    stem : str
        Files are called ``stem`` with the ending of their format.

    Raises
    ------
    ConfigError
        If the form has no exporter, its parameters have an axis of draws, the form's settings
        have no equal in LAMMPS, or a file is there already.
    """
    known = exporters()
    # The class of a sum is made when it is first added; all of them share one exporter.
    form = SumPotential if isinstance(potential, SumPotential) else type(potential)
    if form not in known:
        # A user's own form is written as its shape is, where shapes can be tabulated. A form that
        # inherits from another form is not: it may mean something else by the same parameters.
        shapes = [base for base in form.__mro__ if base in known and base.__dict__.get("abstract")]
        form = shapes[0] if shapes else form
    if form not in known:
        names = ", ".join(sorted(other.__name__ for other in known))
        raise ConfigError(
            f"{type(potential).__name__} cannot be exported to LAMMPS: {names} can. For another "
            "form write an exporter (bayespot.export.styles.register)"
        )
    if np.ndim(potential.e0) != 1:
        raise ConfigError(
            f"export got {np.shape(potential.e0)[0]} draws of {type(potential).__name__} at once: "
            "give one potential, or the posterior to export_lammps"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return known[form](potential, folder, stem)


def numbers(*values: Any) -> str:
    """Numbers with the seventeen digits that give a double back exactly."""
    return " ".join(f"{float(v):.17g}" for v in values)


def write_new(path: Path, text: str) -> str:
    """Write a text file whole or not at all, never over another; returns its name.

    Raises
    ------
    ConfigError
        If the file is there already.
    """
    if path.exists():
        raise ConfigError(
            f"{path} is there already and export never overwrites: choose another folder or name"
        )
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path.name
