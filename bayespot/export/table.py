"""Pair energies as tables: ``pair_style table``.

LAMMPS' own pair styles are cut, ours end in a smooth switch, so anything with a switch goes through
a table. With ``spline`` LAMMPS interpolates energy and force by cubic splines in the square of the
distance. The file has its points where that spline has its own (equal steps of r^2, as many points
as the style asks for), so that nothing is interpolated twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from bayespot.errors import ConfigError
from bayespot.export.styles import LammpsStyle, numbers, register, write_new
from bayespot.graph import MIN_DISTANCE
from bayespot.potentials.base import Potential
from bayespot.potentials.pair_sum import PairSum
from bayespot.potentials.spline_pair import SplinePair
from bayespot.runtime import require_x64

POINTS = (1000, 2000, 4000, 8000, 16000)
"""Sizes that are tried, the smallest that is good enough is written."""

ENERGY, FORCE = 2e-8, 3e-6
"""eV and eV/Å of one pair: atoms then stay below 1e-6 eV and 1e-5 eV/Å. The largest error of the
force is that at the knots of a spline, where few neighbours are at a time."""

HOT = 30.0
"""eV; the error is measured where pairs have at most this energy. Closer atoms are in the table
too, down to `MIN_DISTANCE`, with an error that is small relative to their energy."""


def pair_curve(
    potential: Potential, pair: int, r: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy (eV), force -dE/dr (eV/Å) and its slope (eV/Å^2) of a species pair at ``r``, [n]."""
    require_x64()
    value, slope, curvature = _curve(potential.at("pair", jnp.asarray(pair)), jnp.asarray(r))
    return np.asarray(value), -np.asarray(slope), -np.asarray(curvature)


@jax.jit
def _curve(view: Any, r: Any) -> tuple[Any, Any, Any]:
    """Energy of the view of one pair and its first two derivatives."""
    one = jnp.ones_like(r)

    def both(x: Any) -> Any:
        return jax.jvp(view.pair_energy, (x,), (one,))

    (value, slope), (_, curvature) = jax.jvp(both, (r,), (one,))
    return value, slope, curvature


def pair_end(potential: Potential, pair: int) -> float:
    """Distance at which one species pair ends, Å."""
    ends = getattr(potential, "cutoff", potential.reach)  # an own form may have another name for it
    cutoffs = np.broadcast_to(ends, (len(potential.coordinates("pair")),))
    return float(cutoffs[pair])


@register(SplinePair, PairSum)
def write_table(potential: Potential, folder: Path, stem: str) -> LammpsStyle:
    """Any sum over pairs as ``pair_style table spline``, one section for each pair of species.

    Raises
    ------
    ConfigError
        If the form is no sum over pairs.
    """
    if not isinstance(potential, PairSum):
        raise ConfigError(f"{type(potential).__name__} is no sum over pairs: it has no table")
    pairs = potential.coordinates("pair")
    for points in POINTS:
        errors = [_errors(potential, k, points) for k in range(len(pairs))]
        energy, force = np.max(errors, axis=0)
        if energy <= ENERGY and force <= FORCE:
            break
    sections = [
        f"# {type(potential).__name__} for {', '.join(potential.species)}; eV, Å; written by "
        "bayespot\n"
    ]
    sections += [_section(potential, k, name, points) for k, name in enumerate(pairs)]
    file = write_new(folder / f"{stem}.table", "\n".join(sections))
    n, coeffs = len(potential.species), []
    for a in range(n):
        for b in range(a, n):
            k = potential.pair_number(a, b)
            end = numbers(pair_end(potential, k))
            coeffs.append(f"{a + 1} {b + 1} {file} {pairs[k]} {end}")
    return LammpsStyle(
        "table", f"spline {points}", tuple(coeffs), (file,),
        precision=f"table: {energy:.1e} eV and {force:.1e} eV/Å a pair",
        note=f"measured between the points, where a pair has at most {HOT:g} eV; atoms closer than "
        f"{MIN_DISTANCE} Å stop LAMMPS",
    )  # fmt: skip


def _grid(potential: Potential, pair: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Equal steps of r^2 from the closest distance to the cutoff, and the distances, [points].

    The last distance is a hair below the cutoff, where a form that is cut has its value still.
    """
    low, high = MIN_DISTANCE**2, pair_end(potential, pair) ** 2
    square = low + (high - low) * np.arange(points) / (points - 1)
    r = np.sqrt(square)
    r[-1] *= 1.0 - 1e-13
    return square, r


def _errors(potential: Potential, pair: int, points: int) -> tuple[float, float]:
    """Largest errors of energy (eV) and force (eV/Å) of LAMMPS' interpolation, between points."""
    square, r = _grid(potential, pair, points)
    energy, force, rise = pair_curve(potential, pair, r)
    # LAMMPS splines the energy and the force over r, with their slopes in r^2 at both ends.
    over = force / r
    fall = (-0.5 * over)[[0, -1]]
    turn = ((rise - over) / (2.0 * square))[[0, -1]]
    between = 0.5 * (square[1:] + square[:-1])
    r = np.sqrt(between)
    exact_energy, exact_force, _ = pair_curve(potential, pair, r)
    found_energy = CubicSpline(square, energy, bc_type=[(1, v) for v in fall])(between)
    found_force = CubicSpline(square, over, bc_type=[(1, v) for v in turn])(between) * r
    hot = np.flatnonzero(np.abs(exact_energy) > HOT)
    cool = slice(hot[-1] + 1 if hot.size else 0, None)
    return (
        float(np.abs(found_energy - exact_energy)[cool].max()),
        float(np.abs(found_force - exact_force)[cool].max()),
    )


def _section(potential: Potential, pair: int, name: str, points: int) -> str:
    """One section of the file."""
    _, r = _grid(potential, pair, points)
    energy, force, rise = pair_curve(potential, pair, r)
    rows = [f"{i + 1} {numbers(*row)}" for i, row in enumerate(zip(r, energy, force, strict=True))]
    range_ = numbers(MIN_DISTANCE, pair_end(potential, pair))
    return "\n".join(
        [name, f"N {points} RSQ {range_} FPRIME {numbers(rise[0], rise[-1])}", "", *rows, ""]
    )
