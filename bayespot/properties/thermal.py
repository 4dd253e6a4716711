"""Free energy of harmonic phonons at several volumes, and what it says about temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import kB

from bayespot.errors import PropertyError
from bayespot.properties.draws import surfaces_of
from bayespot.properties.equation_of_state import BirchMurnaghan, energies_at_volumes
from bayespot.properties.phonons import (
    IMAGINARY,
    MESH,
    PLANCK,
    SIZE,
    STEP,
    ForceConstants,
)
from bayespot.properties.results import Account, Curve, Result
from bayespot.properties.supercells import conventional_matrix
from bayespot.properties.symmetry import primitive_cell, quiet_spglib
from bayespot.units import GPA

VOLUMES = (0.97, 0.985, 1.0, 1.015, 1.03, 1.045, 1.06)


def quasi_harmonic(
    source: Any, crystal: Atoms, *, temperature: float = 300.0, volumes: Sequence[float] = VOLUMES,
    size: int | Sequence[int] = SIZE, mesh: int = MESH, highest: float = 1000.0,
) -> Result:
    r"""Thermal expansion from phonons at several volumes.

    .. math::
       F(V, T) = E(V) + \sum_{q\nu} \left[ \tfrac12 h\nu + k_B T \ln(1 - e^{-h\nu/k_B T}) \right]

    minimized over V at every temperature (Birch-Murnaghan of fourth order; the third gives the
    numerical error); :math:`\alpha = d \ln V / 3 dT` by central differences over 2 x 10 K.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    crystal : ase.Atoms
    temperature : float
        K, of the numbers.
    volumes : sequence of float
        Relative to the volume without vibrations; six or more.
    size, mesh
        See `bayespot.properties.phonons.phonons`.
    highest : float
        K, where the curves end.

    Returns
    -------
    Result
        "thermal expansion at 300 K" (1e-6/K, linear), "volume at 300 K" (Å^3/atom), "bulk modulus
        at 300 K" (GPa, isothermal), "heat capacity at 300 K" (k_B/atom, constant volume), "free
        energy at 300 K" (eV/atom), with the temperature that was asked for; curves of "volume" and
        "thermal expansion". Imaginary phonons at any volume are an instability, and there is no
        value then.

    Raises
    ------
    PropertyError
        If there are too few volumes, or the temperature is not positive.
    """
    if len(volumes) < 6 or not min(volumes) < 1.0 < max(volumes):
        raise PropertyError(f"volumes = {list(volumes)}: give six or more, around 1")
    if not temperature > 20.0:
        raise PropertyError(f"temperature = {temperature} K: give more than 20 K")
    surfaces = surfaces_of(source)
    account, crystal = Account(surfaces.n), primitive_cell(crystal)
    v, e, relaxed = energies_at_volumes(surfaces, crystal, volumes, account)
    found = ForceConstants(surfaces, relaxed.frames, conventional_matrix(crystal, size), STEP)
    shape = (surfaces.n, len(volumes))
    spectra = [_spectrum(found.of(k), mesh) for k in range(len(relaxed.frames))]
    soft = np.array([f.min() < -IMAGINARY for f, _ in spectra]).reshape(shape).any(axis=1)
    account.instability("imaginary phonons at some volume", soft)
    account.fail("no quasi-harmonic value with imaginary phonons", soft)
    grid = np.unique(np.append(np.arange(0.0, highest + 1.0, 50.0), temperature))
    around = np.concatenate([grid, [temperature - 10.0, temperature + 10.0]])
    vibration = np.array(
        [[_free_energy(f, w, t) / len(crystal) for t in around] for f, w in spectra]
    ).reshape(*shape, len(around))
    tables = [_minima(v, e, vibration, account, order) for order in (4, 3)]
    return _result(account, tables, grid, temperature, v, spectra, len(crystal))


def _spectrum(phonon: Any, mesh: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (THz, [q, branches]) and weights that sum to one."""
    with quiet_spglib():
        phonon.run_mesh([mesh] * 3, is_gamma_center=True)
    weights = phonon.mesh.weights / phonon.mesh.weights.sum()
    return phonon.mesh.frequencies, weights


def _free_energy(frequencies: np.ndarray, weights: np.ndarray, t: float) -> float:
    """Of a cell, eV; the three modes at the zone's centre that move it as a whole are left out."""
    energy = PLANCK * np.where(frequencies > IMAGINARY, frequencies, np.nan)
    each = 0.5 * energy
    if t > 0:
        each = each + kB * t * np.log1p(-np.exp(-energy / (kB * t)))
    return float((weights[:, None] * np.nan_to_num(each)).sum())


def _heat_capacity(frequencies: np.ndarray, weights: np.ndarray, t: float) -> float:
    """Of a cell at constant volume, in k_B."""
    x = PLANCK * np.where(frequencies > IMAGINARY, frequencies, np.nan) / (kB * t)
    each = x**2 * np.exp(-x) / np.expm1(-x) ** 2
    return float((weights[:, None] * np.nan_to_num(each)).sum())


def _minima(
    v: np.ndarray, e: np.ndarray, vibration: np.ndarray, account: Account, order: int
) -> np.ndarray:
    """Volume, bulk modulus and free energy at every temperature, [n, t, 3]."""
    table = np.full((len(v), vibration.shape[2], 3), np.nan)
    missing = np.zeros(len(v), dtype=bool)
    for k in np.flatnonzero(account.good):
        for j in range(vibration.shape[2]):
            try:
                fit = BirchMurnaghan(v[k], e[k] + vibration[k, :, j], order)
            except PropertyError:
                # A curve may end below the highest temperature; the numbers may not.
                missing[k] |= j >= vibration.shape[2] - 2
                continue
            table[k, j] = fit.v0, fit.bulk_modulus * GPA, fit.energy(fit.v0)
    account.fail("no minimum of the free energy within the volumes", missing)
    return table


def _result(
    account: Account, tables: list[np.ndarray], grid: np.ndarray, temperature: float,
    v: np.ndarray, spectra: list, n_atoms: int,
) -> Result:
    n, at = len(v), int(np.searchsorted(grid, temperature))

    def numbers(table: np.ndarray) -> dict[str, np.ndarray]:
        rise = (table[:, -1, 0] - table[:, -2, 0]) / (20.0 * 3.0 * table[:, at, 0])
        return {"thermal expansion": 1e6 * rise, "volume": table[:, at, 0],
                "bulk modulus": table[:, at, 1], "free energy": table[:, at, 2]}  # fmt: skip

    units = {"thermal expansion": "1e-6/K", "volume": "Å^3/atom", "bulk modulus": "GPa",
             "free energy": "eV/atom"}  # fmt: skip
    best, other = (numbers(table) for table in tables)
    quantities = {
        f"{name} at {temperature:g} K": (best[name], best[name] - other[name], unit)
        for name, unit in units.items()
    }
    capacity = np.array([_heat_capacity(f, w, temperature) / n_atoms for f, w in spectra])
    capacity = capacity.reshape(n, -1)
    wanted = tables[0][:, at, 0]
    at_volume = [np.interp(wanted[k], v[k], capacity[k]) for k in range(n)]
    quantities[f"heat capacity at {temperature:g} K"] = (np.array(at_volume), np.nan, "k_B/atom")
    volume = tables[0][:, : len(grid), 0]
    curves = {"volume": Curve(grid, volume, "temperature", "K", "Å^3/atom")}
    rise = np.gradient(np.log(volume), grid, axis=1) / 3.0
    curves["thermal expansion"] = Curve(grid, 1e6 * rise, "temperature", "K", "1e-6/K")
    return account.result("quasi-harmonic", quantities, curves)
