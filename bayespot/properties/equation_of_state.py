r"""Energy against volume: equilibrium, bulk modulus and its pressure derivative.

Birch-Murnaghan (Birch, Phys. Rev. 71, 809 (1947)) of order n is a polynomial of this order in
:math:`x = V^{-2/3}`, and is fitted as one by linear least squares. Values are of the fourth order;
the third says how much the order matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from scipy.optimize import brentq

from bayespot.errors import PropertyError
from bayespot.properties.crystals import relaxed_crystal
from bayespot.properties.draws import surfaces_of
from bayespot.properties.results import Account, Curve, Result
from bayespot.properties.surfaces import Relaxed, Surfaces
from bayespot.units import GPA

VOLUMES = tuple(np.round(np.linspace(0.92, 1.08, 9), 4))
"""Volumes over the equilibrium volume."""


class BirchMurnaghan:
    """E(V) of one surface, eV and Å^3, by atom or by cell.

    Parameters
    ----------
    volumes, energies : ndarray [m]
    order : int
        3 has four numbers (E0, V0, B, B'), 4 has five.

    Raises
    ------
    PropertyError
        If there is no minimum within the volumes.
    """

    def __init__(self, volumes: np.ndarray, energies: np.ndarray, order: int = 3) -> None:
        self.low, self.high = float(volumes.min()), float(volumes.max())
        self.middle = float(np.mean(volumes))
        x = (volumes / self.middle) ** (-2.0 / 3.0)
        self._poly = np.polynomial.Polynomial.fit(x, energies, order).convert()
        slope = [self.pressure(self.low), self.pressure(self.high)]
        if not (slope[0] > 0 > slope[1]):
            raise PropertyError(
                f"no minimum of the energy between {self.low:.3f} and {self.high:.3f} Å^3"
            )
        self.v0 = float(brentq(self.pressure, self.low, self.high, xtol=1e-12, rtol=1e-14))

    def _x(self, volume: Any) -> Any:
        return (np.asarray(volume) / self.middle) ** (-2.0 / 3.0)

    def energy(self, volume: Any) -> Any:
        """E, eV."""
        return self._poly(self._x(volume))

    def pressure(self, volume: Any) -> Any:
        """-dE/dV, eV/Å^3."""
        x = self._x(volume)
        return (2.0 / 3.0) * x / np.asarray(volume) * self._poly.deriv()(x)

    @property
    def bulk_modulus(self) -> float:
        """B = V d2E/dV2 at the minimum, eV/Å^3."""
        return float(4.0 / 9.0 * self._x(self.v0) ** 2 / self.v0 * self._poly.deriv(2)(
            self._x(self.v0)))  # fmt: skip

    @property
    def derivative(self) -> float:
        r"""B' = dB/dp at the minimum, :math:`-1 - V E'''/E''` in derivatives by volume."""
        x = float(self._x(self.v0))
        second, third = (float(self._poly.deriv(k)(x)) for k in (2, 3))
        # With x ~ V^(-2/3) and dE/dx = 0 at the minimum.
        return 4.0 + 2.0 * x * third / (3.0 * second)


def energies_at_volumes(
    surfaces: Surfaces, crystal: Atoms, volumes: Sequence[float], account: Account
) -> tuple[np.ndarray, np.ndarray, Relaxed]:
    """Energies of a crystal at volumes relative to its own; ions and cell shape are relaxed.

    Returns
    -------
    volumes, energies : ndarray [n, m]
        By atom.
    relaxed : Relaxed
        The frames, those of one surface together.
    """
    found = relaxed_crystal(surfaces, crystal, account)
    stretch = np.cbrt(np.asarray(volumes))[:, None, None] * np.eye(3)
    relaxed = surfaces.relax(found.frames.deformed(stretch), "shape")
    shape = (surfaces.n, len(volumes))
    account.fail("relaxation of the strained crystal", ~relaxed.converged.reshape(shape).all(1))
    n = len(crystal)
    return (relaxed.frames.volumes.reshape(shape) / n, relaxed.energy.reshape(shape) / n, relaxed)


def fits_of(volumes: np.ndarray, energies: np.ndarray, account: Account, order: int = 3
            ) -> list[BirchMurnaghan | None]:
    """A fit for every surface that did not fail, None for others."""
    fits: list[BirchMurnaghan | None] = []
    missing = np.zeros(len(volumes), dtype=bool)
    for k, good in enumerate(account.good):
        try:
            fits.append(BirchMurnaghan(volumes[k], energies[k], order) if good else None)
        except PropertyError:
            fits.append(None)
            missing[k] = True
    account.fail("no minimum of E(V)", missing)
    return fits


def equation_of_state(source: Any, crystal: Atoms, *, volumes: Sequence[float] = VOLUMES) -> Result:
    """Bulk modulus and its pressure derivative from energies at several volumes.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    crystal : ase.Atoms
    volumes : sequence of float
        Relative to the relaxed volume; six or more, on both sides of 1.

    Returns
    -------
    Result
        "V0" (Å^3/atom), "bulk modulus" (GPa), "B'" (1) of the fit of fourth order; the numerical
        error is its difference from the third. Curve "energy".

    Raises
    ------
    PropertyError
        If there are too few volumes.
    """
    if len(volumes) < 6 or not min(volumes) < 1.0 < max(volumes):
        raise PropertyError(
            f"volumes = {list(volumes)}: an equation of state needs six or more, around 1"
        )
    surfaces = surfaces_of(source)
    account = Account(surfaces.n)
    v, e, _ = energies_at_volumes(surfaces, crystal, volumes, account)
    fourth, third = (fits_of(v, e, account, order) for order in (4, 3))
    rows = {
        name: np.array([[np.nan] * 2 if f is None or g is None else [get(f), get(g)]
                        for f, g in zip(fourth, third, strict=True)])
        for name, get in (("V0", lambda f: f.v0), ("bulk modulus", lambda f: f.bulk_modulus * GPA),
                          ("B'", lambda f: f.derivative))
    }  # fmt: skip
    units = {"V0": "Å^3/atom", "bulk modulus": "GPa", "B'": "1"}
    quantities = {
        name: (pair[:, 0], pair[:, 0] - pair[:, 1], units[name]) for name, pair in rows.items()
    }
    curve = Curve(np.asarray(volumes), e - e.min(axis=1, keepdims=True), "V/V0", "1", "eV/atom")
    return account.result("equation of state", quantities, {"energy": curve})
