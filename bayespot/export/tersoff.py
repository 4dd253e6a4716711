r"""Tersoff potentials as files of LAMMPS' ``tersoff`` and ``tersoff/mod``, and back.

A potential with the published switch is a ``tersoff`` file. One with the smooth switch is a
``tersoff/mod`` file: that style has the same switch, and its angular function
:math:`c_1 + c_2 x^2 [1 + c_4 e^{-c_5 x^2}] / (c_3 + x^2)`, :math:`x = h - \cos\theta`, is Tersoff's
with :math:`c_1 = \beta\gamma`, :math:`c_2 = \beta\gamma c^2/d^2`, :math:`c_3 = d^2` and
:math:`c_4 = 0`. Both are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bayespot.errors import ConfigError, PriorError
from bayespot.export.entries import read_entries
from bayespot.export.styles import LammpsStyle, numbers, register, write_new
from bayespot.potentials.tersoff import Tersoff
from bayespot.potentials.tersoff_sets import LAMMPS_NAMES

__all__ = ["read_tersoff", "write_tersoff"]

MOD_NAMES = (
    "m", "lambda3", "costheta0", "n", "beta", "lambda2", "B", "R", "D", "lambda1", "A", "n_delta",
    "c1", "c2", "c3", "c4", "c5",
)  # fmt: skip
"""Columns of a ``tersoff/mod`` file in the names used here (its m is called beta there, its
lambda3 alpha, its n eta, its n_delta n)."""


@register(Tersoff)
def write_tersoff(potential: Tersoff, folder: Path, stem: str) -> LammpsStyle:
    """Write a ``.tersoff`` or, for the smooth switch, a ``.tersoff.mod`` file."""
    smooth = potential.switch == "smooth"
    names = MOD_NAMES if smooth else LAMMPS_NAMES
    entries = potential.to_entries()
    lines = [
        f"# UNITS: metal CONTRIBUTOR: bayespot, Tersoff for {', '.join(potential.species)}",
        f"# centre, bonded, third atom, {', '.join(names)}",
    ]
    for (i, j, k), one in entries.items():
        row = _modified(one, entries[i, j, j]["beta"]) if smooth else one
        lines.append(f"{i} {j} {k} {numbers(*(row[name] for name in names))}")
    style = "tersoff/mod" if smooth else "tersoff"
    ending = style.replace("tersoff/", "tersoff.")
    file = write_new(folder / f"{stem}.{ending}", "\n".join(lines) + "\n")
    return LammpsStyle(
        pair_style=style, coeffs=(f"* * {file} {' '.join(potential.species)}",), files=(file,)
    )


def _modified(one: dict[str, float], beta: float) -> dict[str, float]:
    """The same entry for ``tersoff/mod``, where the beta of the bond is in c1 and c2."""
    strength = beta * one["gamma"]
    return {
        **one, "beta": 1.0, "n_delta": one["n"], "c1": strength,
        "c2": strength * (one["c"] / one["d"]) ** 2, "c3": one["d"] ** 2, "c4": 0.0, "c5": 0.0,
    }  # fmt: skip


def read_tersoff(
    path: Path | str,
    species: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    tolerance: float = 1e-9,
) -> Tersoff:
    """Potential of a ``.tersoff`` file, or of a ``tersoff/mod`` file that `write_tersoff` wrote.

    Parameters
    ----------
    path : path
    species : sequence of str
        Chemical symbols of the potential, in its order.
    names : sequence of str, optional
        What the file calls them, as "Si(D)"; the symbols themselves if not given.
    tolerance : float
        How far, relatively, numbers of one pair of species may differ between entries.

    Raises
    ------
    ConfigError
        If the file cannot be read, lacks an entry, or holds no such potential.
    """
    found = read_entries(path, (len(LAMMPS_NAMES), len(MOD_NAMES)), species, names)
    smooth = any(len(row) == len(MOD_NAMES) for row in found.values())
    entries = {
        key: dict(zip(MOD_NAMES if smooth else LAMMPS_NAMES, row, strict=True))
        for key, row in found.items()
    }
    try:
        if smooth:
            entries = {
                key: _from_modified(key, one, path) for key, one in entries.items()
            }
        return Tersoff.from_entries(
            species, entries, switch="smooth" if smooth else "cosine", tolerance=tolerance
        )
    except PriorError as error:
        raise ConfigError(f"{path}: {error}") from error


def _from_modified(key: tuple, one: dict[str, float], path: Path | str) -> dict[str, float]:
    """Tersoff's numbers: beta and gamma are known as a product only, so beta is one."""
    used = key[1] == key[2]
    if one["c4"] != 0.0 or (used and one["n_delta"] != one["n"]):
        raise ConfigError(
            f"{path}: the entry {' '.join(key)} of this tersoff/mod file has c4 = {one['c4']}, "
            f"n = {one['n_delta']} and eta = {one['n']}; Tersoff's form has c4 = 0 and n = eta"
        )
    return {**one, "gamma": one["c1"], "d": one["c3"] ** 0.5,
            "c": (one["c2"] / one["c1"] * one["c3"]) ** 0.5}
