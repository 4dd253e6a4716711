"""The pressure at which one crystal becomes another, by the common tangent of E(V)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import brentq

from bayespot.errors import PropertyError
from bayespot.properties.draws import surfaces_of
from bayespot.properties.equation_of_state import energies_at_volumes
from bayespot.properties.results import Account, Curve, Result
from bayespot.units import GPA

VOLUMES = tuple(np.round(np.linspace(0.74, 1.06, 17), 4))
"""Relative to each crystal's own volume: a transition under pressure happens below 1."""

DISTINCT = 1e-3
"""Relative difference of volume below which two crystals are one."""

HIGHEST = 100.0 / GPA
"""eV/Å^3; transitions are sought between minus and plus this pressure."""

FINE = 4000


def transition_pressure(
    source: Any, low: Atoms, high: Atoms, *, volumes: Sequence[float] = VOLUMES
) -> Result:
    r"""Pressure :math:`p` with :math:`H_1(p) = H_2(p)`, :math:`H(p) = \min_V [E(V) + pV]`.

    Cell shapes and ions are relaxed at every volume; E(V) is the cubic Hermite spline through
    energies and pressures, which follows potentials with short cutoffs too. Every second volume
    gives the numerical error.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    low, high : ase.Atoms
        The crystals stable at low and at high pressure (diamond and beta-tin).
    volumes : sequence of float
        Relative to the relaxed volume of each, ascending; an odd number.

    Returns
    -------
    Result
        "energy difference" (eV/atom, high minus low, at their minima), "transition pressure" (GPa),
        "volume before" and "volume after" (Å^3/atom). Where the second crystal relaxes into the
        first the surface has failed; where the enthalpies do not cross within the volumes there
        is an energy difference and no transition, which counts as an instability.

    Raises
    ------
    PropertyError
        If there are too few volumes.
    """
    if len(volumes) < 7 or len(volumes) % 2 == 0 or not volumes[0] < 1.0 < volumes[-1]:
        raise PropertyError(
            f"volumes = {list(volumes)}: give an odd number, seven or more, ascending, around 1"
        )
    surfaces = surfaces_of(source)
    account = Account(surfaces.n)
    tables = []
    for crystal in (low, high):
        v, e, relaxed = energies_at_volumes(surfaces, crystal, volumes, account)
        tables.append((v, e, -relaxed.stress[:, :3].mean(axis=1).reshape(v.shape)))
    rows = [
        np.array([
            _cross(*([column[k, ::stride] for column in table] for table in tables))
            for k in range(surfaces.n)
        ])
        for stride in (1, 2)
    ]  # fmt: skip
    account.fail("the two crystals relax into one", np.abs(rows[0][:, 4] - 1.0) < DISTINCT)
    account.instability(
        "no transition within the volumes", account.good & ~np.isfinite(rows[0][:, 1])
    )
    names = (("energy difference", "eV/atom"), ("transition pressure", "GPa"),
             ("volume before", "Å^3/atom"), ("volume after", "Å^3/atom"))  # fmt: skip
    quantities = {
        name: (rows[0][:, k], rows[0][:, k] - rows[1][:, k], unit)
        for k, (name, unit) in enumerate(names)
    }
    base = tables[0][1].min(axis=1, keepdims=True)
    curves = {
        name: Curve(np.asarray(volumes), table[1] - base, "V/V0", "1", "eV/atom")
        for name, table in zip(("low", "high"), tables, strict=True)
    }
    return account.result("transition", quantities, curves)


class _Legendre:
    """Enthalpies of one crystal from its energies (eV) and pressures (eV/Å^3) at volumes."""

    def __init__(self, v: np.ndarray, e: np.ndarray, p: np.ndarray) -> None:
        self.v = np.linspace(v[0], v[-1], FINE)
        self.e = CubicHermiteSpline(v, e, -p)(self.v)

    def at(self, pressure: float) -> tuple[float, float]:
        """Enthalpy and volume; NaN where the minimum lies at the end of the volumes."""
        h = self.e + pressure * self.v
        k = int(np.argmin(h))
        if k in (0, FINE - 1):
            return np.nan, np.nan
        # The vertex of the parabola through three points: the grid is then no limit.
        left, middle, right = h[k - 1 : k + 2]
        shift = 0.5 * (left - right) / (left - 2.0 * middle + right)
        spacing = self.v[1] - self.v[0]
        return middle - 0.25 * (left - right) * shift, self.v[k] + shift * spacing


def _cross(low: list[np.ndarray], high: list[np.ndarray]) -> tuple[float, ...]:
    """Energy difference, pressure (GPa), volumes before and after, ratio of volumes at p = 0."""
    if not all(np.isfinite(column).all() for column in (*low, *high)):
        return (np.nan,) * 5
    one, two = _Legendre(*low), _Legendre(*high)
    (e1, v1), (e2, v2) = one.at(0.0), two.at(0.0)

    def gap(p: float) -> float:
        return two.at(p)[0] - one.at(p)[0]

    grid = np.linspace(-HIGHEST, HIGHEST, 401)
    gaps = np.array([gap(p) for p in grid])
    turns = np.flatnonzero((gaps[:-1] > 0) & (gaps[1:] <= 0))
    if not turns.size:
        return e2 - e1, np.nan, np.nan, np.nan, v2 / v1
    p = float(brentq(gap, grid[turns[0]], grid[turns[0] + 1], xtol=1e-10))
    return e2 - e1, p * GPA, one.at(p)[1], two.at(p)[1], v2 / v1
