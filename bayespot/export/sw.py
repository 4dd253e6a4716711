r"""Stillinger-Weber potentials as files of LAMMPS' ``sw``, and back.

An entry (i, j, k) of the file has the centre first. LAMMPS takes the numbers of a pair from i j j,
and :math:`\epsilon`, :math:`\lambda` and :math:`\cos\theta_0` of an angle from i j k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from bayespot.errors import ConfigError
from bayespot.export.entries import read_entries
from bayespot.export.styles import LammpsStyle, numbers, register, write_new
from bayespot.potentials.stillinger_weber import StillingerWeber

__all__ = ["read_sw", "write_sw"]

NAMES = ("epsilon", "sigma", "a", "lam", "gamma", "cos0", "A", "B", "p", "q")
"""Columns of the file; an eleventh, the tolerance, is written as 0 (exact cutoffs)."""

PAIR_NAMES = ("D", "r0", "k", "q", "s", "r_c", "gamma")


@register(StillingerWeber)
def write_sw(potential: StillingerWeber, folder: Path, stem: str) -> LammpsStyle:
    """Write an ``.sw`` file.

    Raises
    ------
    ConfigError
        If an exponent is negative: LAMMPS takes positive ones only.
    """
    species = potential.species
    lines = [
        f"# UNITS: metal CONTRIBUTOR: bayespot, Stillinger-Weber for {', '.join(species)}",
        f"# centre, two neighbours, {', '.join(NAMES)}, tol",
    ]
    for i, j, k in product(range(len(species)), repeat=3):
        row = _entry(potential, i, j, k)
        names = " ".join(species[m] for m in (i, j, k))
        lines.append(f"{names} {numbers(*(row[name] for name in NAMES))} 0.0")
    file = write_new(folder / f"{stem}.sw", "\n".join(lines) + "\n")
    return LammpsStyle("sw", coeffs=(f"* * {file} {' '.join(species)}",), files=(file,))


def _entry(potential: StillingerWeber, i: int, j: int, k: int) -> dict[str, float]:
    """Numbers of the entry i j k: the pair i j, and the angle."""
    n = len(potential.species)
    pair, other = potential.pair_number(i, j), potential.pair_number(i, k)
    angle = i * (n * (n + 1) // 2) + potential.pair_number(j, k)
    # lam is the strength for bonds of length r0 and the file wants it without the normalisation
    # of either bond; to_reduced takes that of the pair i j from both.
    end = potential.gamma / (potential.r0 - potential.r_c)
    one = StillingerWeber(
        species=("X",),
        lam=potential.lam[angle] * np.exp(end[pair] - end[other]),
        cos0=potential.cos0[angle],
        **{name: getattr(potential, name)[pair] for name in PAIR_NAMES},
    ).to_reduced()
    if one["A"] < 0:
        # The two powers have changed their roles: A (B x^p - x^q) = -A B (x^q / B - x^p).
        one |= {"A": -one["A"] * one["B"], "B": 1.0 / one["B"], "p": one["q"], "q": one["p"]}
    names = "-".join(potential.species[m] for m in (i, j))
    for name in ("A", "B", "p", "q"):
        if one[name] < 0:
            raise ConfigError(
                f"StillingerWeber {names} has {name} = {one[name]:.4g} in the file's numbers and "
                "LAMMPS' sw takes none below zero: the pair term of this draw has no such form. "
                "Leave the draw out, or give k and q priors that keep the exponents positive"
            )
    return one


def read_sw(
    path: Path | str,
    species: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    tolerance: float = 1e-9,
) -> StillingerWeber:
    """Potential of an ``.sw`` file.

    Parameters
    ----------
    path : path
    species : sequence of str
        Chemical symbols of the potential, in its order.
    names : sequence of str, optional
        What the file calls them; the symbols themselves if not given.
    tolerance : float
        How far, relatively, numbers of one pair or angle may differ between entries; the first is
        taken.

    Raises
    ------
    ConfigError
        If the file cannot be read, lacks an entry, or says two things about one pair or angle.
    """
    table = {
        key: dict(zip(NAMES, row[:-1], strict=True))
        for key, row in read_entries(path, (len(NAMES) + 1,), species, names).items()
    }
    missing = [" ".join(key) for key in product(species, repeat=3) if key not in table]
    if missing:
        raise ConfigError(f"{path} lacks the entries {', '.join(missing)}")
    values: dict[str, list[float]] = {name: [] for name in (*PAIR_NAMES, "lam", "cos0")}
    ends = {}
    for a, i in enumerate(species):
        for j in species[a:]:
            one = _pair(table[i, j, j], path, f"{i} {j} {j}")
            other = _pair(table[j, i, i], path, f"{j} {i} {i}")
            _agree(one, other, PAIR_NAMES, path, (i, j), tolerance)
            for name in PAIR_NAMES:
                values[name].append(one[name])
            ends[i, j] = ends[j, i] = np.exp(one["gamma"] / (one["r0"] - one["r_c"]))
    for i in species:
        for a, j in enumerate(species):
            for k in species[a:]:
                both = [
                    {"lam": one["lam"] * one["epsilon"] * ends[i, j] * ends[i, k],
                     "cos0": one["cos0"]}
                    for one in (table[i, j, k], table[i, k, j])
                ]  # fmt: skip
                _agree(*both, ("lam", "cos0"), path, (i, j, k), tolerance)
                for name, value in both[0].items():
                    values[name].append(value)
    return StillingerWeber(species=tuple(species), **values)


def _pair(row: Mapping[str, float], path: Path | str, name: str) -> dict[str, float]:
    """Our numbers of a pair from the file's."""
    try:
        one = StillingerWeber.from_reduced(("X",), **row)
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{path}: the entry {name} has no well between its atoms ({error})"
        ) from error
    return {key: float(getattr(one, key)[0]) for key in PAIR_NAMES}


def _agree(
    first: Mapping[str, float], second: Mapping[str, float], names: Sequence[str],
    path: Path | str, key: tuple[str, ...], tolerance: float,
) -> None:  # fmt: skip
    for name in names:
        if not np.isclose(first[name], second[name], rtol=tolerance, atol=1e-12):
            raise ConfigError(
                f"{path} says two things about {'-'.join(key)}: {name} is {first[name]:.9g} in "
                f"one order of the species and {second[name]:.9g} in the other; correct the "
                "file, or take the first with a larger tolerance"
            )
