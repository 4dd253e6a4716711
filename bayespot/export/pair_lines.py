"""Pair forms as LAMMPS input lines, and sums as ``hybrid/overlay``.

A form that is cut (``switch_width = 0``) is LAMMPS' own style, number by number. A form with our
smooth switch is not, and goes through a table (`bayespot.export.table`); ZBL ends in LAMMPS' own
way and needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bayespot.export.styles import LammpsStyle, numbers, overlay, register, write_style
from bayespot.export.table import write_table
from bayespot.export.yace import taken_apart
from bayespot.potentials.base import Potential
from bayespot.potentials.born_mayer import BornMayer
from bayespot.potentials.buckingham import Buckingham
from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.mie import Mie
from bayespot.potentials.morse import Morse
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.sums import SumPotential
from bayespot.potentials.zbl import ZBL

NATIVE: dict[type[PairPotential], tuple[str, Callable[[Any], tuple[Any, ...]]]] = {
    LennardJones: ("lj/cut", lambda p: (p.epsilon, p.sigma)),
    Mie: ("mie/cut", lambda p: (p.epsilon, p.sigma, p.n, p.m)),
    Morse: ("morse", lambda p: (p.D, p.alpha, p.r0)),
    BornMayer: ("born", lambda p: (p.B, p.rho, p.r0, 0.0 * p.B, 0.0 * p.B)),
    Buckingham: ("buck", lambda p: tuple(p.textbook()[name] for name in ("A", "rho", "C"))),
}
"""Form to LAMMPS' style and its coefficients, each for every pair of species."""


@register(*NATIVE)
def write_pair(potential: Any, folder: Path, stem: str) -> LammpsStyle:
    """A pair form as its LAMMPS style where it is cut, else as a table."""
    if np.any(np.asarray(potential.switch_width) > 0):
        return write_table(potential, folder, stem)
    style, values = NATIVE[type(potential)]
    columns = [*values(potential), potential.cutoff]
    lines = tuple(
        f"{types} {numbers(*(column[k] for column in columns))}"
        for k, types in enumerate(_pairs(potential))
    )
    return LammpsStyle(style, numbers(potential.reach), lines, note="cut, not smooth")


@register(ZBL)
def write_zbl(potential: Any, folder: Path, stem: str) -> LammpsStyle:
    """``pair_style zbl`` where it can say it: universal numbers, one range for all pairs."""
    ours = (potential.charge, potential.screening, potential.cutoff, potential.switch_width)
    charge, screening = potential.universal()
    theirs = (charge, screening, potential.cutoff[0], potential.switch_width[0])
    if not all(np.allclose(a, b, rtol=1e-14, atol=0) for a, b in zip(ours, theirs, strict=True)):
        return write_table(potential, folder, stem)
    outer = potential.cutoff[0]
    n = len(potential.species)
    z = np.sqrt([charge[potential.pair_number(a, a)] for a in range(n)]).round()
    lines = tuple(
        f"{types} {z[int(types.split()[0]) - 1]:.0f} {z[int(types.split()[1]) - 1]:.0f}"
        for types in _pairs(potential)
    )
    return LammpsStyle("zbl", numbers(outer - potential.switch_width[0], outer), lines)


@register(SumPotential)
def write_sum(potential: Any, folder: Path, stem: str) -> LammpsStyle:
    """A sum as ``hybrid/overlay`` of its components, each written by its own exporter.

    Raises
    ------
    ConfigError
        If a component cannot be exported.
    """
    return overlay([
        write_style(piece, folder, f"{stem}-{prefix}")
        for part, prefix in zip(potential.parts, potential.prefixes, strict=True)
        for piece in taken_apart(part)
    ])


def _pairs(potential: Potential) -> list[str]:
    """Type numbers of every pair of species, in the order of the entries."""
    n = len(potential.species)
    return [f"{a + 1} {b + 1}" for a in range(n) for b in range(a, n)]
