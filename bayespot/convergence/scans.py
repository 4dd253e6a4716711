"""What is scanned: a setting of the code, where it stands among its keywords, and its values."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayespot.errors import ConfigError

__all__ = ["KNOWN", "Scan", "make_scan", "value_at", "with_value"]


@dataclass(frozen=True)
class _Known:
    """How a code calls a setting that every plane-wave code has."""

    key: str
    unit: str = ""
    power: float = 1.0


KNOWN: Mapping[str, Mapping[str, _Known]] = {
    "gpaw": {
        "cutoff": _Known("mode.ecut", "eV"),
        "kpoints": _Known("kpts.density", "Å"),
        "smearing": _Known("occupations.width", "eV"),
        "scf": _Known("convergence.density", "electrons/electron"),
    },
    "espresso": {
        "cutoff": _Known("input_data.system.ecutwfc", "Ry"),
        "kpoints": _Known("kpts.density", "Å"),
        "smearing": _Known("input_data.system.degauss", "Ry"),
        # estimated error of the energy, so the square of an error of the density
        "scf": _Known("input_data.electrons.conv_thr", "Ry", 2.0),
    },
}
"""Keywords of two codes; for any other code or setting the key is given."""

TIGHTER = {"cutoff": "larger", "kpoints": "larger", "smearing": "smaller", "scf": "smaller"}


@dataclass(frozen=True)
class Scan:
    """One setting and the values that it takes, loosest first.

    Attributes
    ----------
    name : str
        As tables and pictures call it.
    keys : mapping of str to float
        Dotted keywords of the calculator, and the factor by which the value is multiplied there:
        a cutoff of the density goes with that of the wave functions.
    values : tuple
        Numbers, or lists of numbers such as a k-point mesh; loosest first.
    tighter : {"larger", "smaller"}
        Which way the setting is more exact.
    unit : str
    power : float
        The setting is proportional to this power of the error it controls: 1, or 2 for a
        self-consistency threshold that is an energy, since energies are quadratic in the error
        of the density.
    refine : bool
        Whether the best reference has the tightest value; if not, the base value, because the
        setting is part of the model (a width of smearing that stands for a temperature).
    """

    name: str
    keys: Mapping[str, float]
    values: tuple[Any, ...]
    tighter: str
    unit: str = ""
    power: float = 1.0
    refine: bool = True
    sizes: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.tighter not in ("larger", "smaller"):
            raise ConfigError(
                f"scan {self.name}: tighter = {self.tighter!r} is neither 'larger' nor 'smaller'"
            )
        sizes = [_size(self.name, value) for value in self.values]
        if len(set(sizes)) != len(sizes) or len(sizes) < 2:
            raise ConfigError(
                f"scan {self.name}: {list(self.values)} are not two or more different values; "
                "errors are differences from the tightest"
            )
        order = np.argsort(sizes)
        order = order if self.tighter == "larger" else order[::-1]
        object.__setattr__(self, "values", tuple(self.values[i] for i in order))
        object.__setattr__(self, "sizes", np.asarray(sizes)[order])

    @property
    def steps(self) -> np.ndarray:
        """What goes to zero as the setting gets tighter; orders are powers of it.

        ``1/size`` where larger is tighter and ``size^(1/power)`` where smaller is: the density
        error behind a self-consistency threshold.
        """
        return 1.0 / self.sizes if self.tighter == "larger" else self.sizes ** (1.0 / self.power)

    def settings(self, base: Mapping[str, Any], level: int) -> dict[str, Any]:
        """Keywords with this setting at one of its levels."""
        return with_value(base, self.keys, self.values[level])


def make_scan(
    code: str,
    name: str,
    values: Sequence[Any],
    *,
    key: str | None = None,
    linked: Mapping[str, float] | None = None,
    tighter: str | None = None,
    unit: str | None = None,
    power: float | None = None,
    refine: bool = True,
) -> Scan:
    """Fill in what is known of a code's setting.

    Parameters
    ----------
    code : str
        Name of the oracle.
    name : str
        ``"cutoff"``, ``"kpoints"``, ``"smearing"``, ``"scf"``, or any other with key and direction.
    values : sequence
    key : str, optional
        Dotted keyword; needed where `KNOWN` lacks it.
    linked : mapping, optional
        Further keywords that get the value times a factor.
    tighter, unit, power, refine : optional
        See `Scan`.

    Raises
    ------
    ConfigError
        If the key or the direction is not known and not given, or the values are unusable.
    """
    known = KNOWN.get(code, {}).get(name)
    if key is None and known is None:
        names = ", ".join(KNOWN.get(code, {})) or "none"
        raise ConfigError(
            f"scan.{name}: the keyword of '{code}' for it is not known (known: {names}); give it "
            "as key = 'table.keyword'"
        )
    if tighter is None and name not in TIGHTER:
        raise ConfigError(f"scan.{name}: say tighter = 'larger' or tighter = 'smaller'")
    if power is None:
        power = known.power if known is not None and key in (None, known.key) else 1.0
    return Scan(
        name=name,
        keys={key or known.key: 1.0, **(linked or {})},
        values=tuple(values),
        tighter=tighter or TIGHTER[name],
        unit=unit if unit is not None else (known.unit if known is not None else ""),
        power=power,
        refine=refine,
    )


def _size(name: str, value: Any) -> float:
    """Number behind a value: itself, or the geometric mean of a mesh."""
    numbers = value if isinstance(value, (list, tuple)) else [value]
    good = numbers and all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) and n > 0
        for n in numbers
    )
    if not good:
        raise ConfigError(
            f"scan {name}: {value!r} is not a positive number or a list of positive numbers"
        )
    return float(np.exp(np.mean(np.log(numbers)))) if len(numbers) > 1 else float(numbers[0])


def value_at(settings: Mapping[str, Any], key: str) -> Any:
    """Value behind a dotted keyword, None if there is none."""
    found: Any = settings
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def with_value(base: Mapping[str, Any], keys: Mapping[str, float], value: Any) -> dict[str, Any]:
    """Copy of the keywords with a value, times its factors, at the dotted keys.

    Raises
    ------
    ConfigError
        If a key leads through something that is no table, or a mesh has a factor.
    """
    settings = copy.deepcopy(dict(base))
    for key, factor in keys.items():
        *tables, last = key.split(".")
        place: Any = settings
        for part in tables:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"key '{key}': {part} = {place!r} of the settings is no table")
        if factor == 1.0:
            place[last] = list(value) if isinstance(value, tuple) else value
        elif isinstance(value, (int, float)):
            place[last] = value * factor
        else:
            raise ConfigError(f"key '{key}': {value!r} cannot be multiplied by {factor:g}")
    return settings
