"""The elastic tensor at zero pressure, with ions relaxed and with ions clamped."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from bayespot.properties.crystals import relaxed_crystal
from bayespot.properties.draws import surfaces_of
from bayespot.properties.results import Account, Result
from bayespot.properties.surfaces import Relaxed
from bayespot.properties.symmetry import symmetry_of
from bayespot.units import GPA, VOIGT

STEP = 2e-3
"""Strain of the differences; twice of it gives the error."""

INDEPENDENT = {
    "cubic": ("11", "12", "44"),
    "hexagonal": ("11", "12", "13", "33", "44"),
    "tetragonal": ("11", "12", "13", "33", "44", "66"),
    "orthorhombic": ("11", "12", "13", "22", "23", "33", "44", "55", "66"),
}
"""Components that are named, for the crystal in its standard orientation; others have all 21."""


def elastic(source: Any, crystal: Atoms, *, step: float = STEP) -> Result:
    r"""Elastic constants :math:`C_{ij} = \partial \sigma_i / \partial \varepsilon_j`.

    Central differences of the stress at strains of one and two steps, extrapolated,
    :math:`C = (4 C_h - C_{2h})/3`; the numerical error is :math:`|C_h - C_{2h}|/3` and what
    averaging over the point group took away, and what forces that are left on the ions may change:
    take a larger step where relaxations end early. The crystal is stable if all eigenvalues of C
    are positive (Born), beyond the error of the differences.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
    crystal : ase.Atoms
        Its axes are those of the tensor.
    step : float
        Strain.

    Returns
    -------
    Result
        "C11", ... (GPa; ions relaxed), the same with " clamped", "B Hill", "G Hill" (GPa).

    Raises
    ------
    PropertyError
        If ``crystal`` is no crystal.
    """
    surfaces = surfaces_of(source)
    account = Account(surfaces.n)
    found = relaxed_crystal(surfaces, crystal, account)
    frames = found.frames.deformed(_deformations(step))
    clamped = surfaces.evaluate(frames).stress
    relaxed = surfaces.relax(frames, "fixed")
    whole = relaxed.converged.reshape(surfaces.n, -1).all(axis=1)
    account.fail("relaxation of the ions under strain", ~whole)
    symmetry = symmetry_of(crystal)
    quantities: dict[str, tuple] = {}
    for suffix, stress in (("", relaxed.stress), (" clamped", clamped)):
        tensor, error = _tensor(stress.reshape(surfaces.n, 6, 4, 6), step)
        even = np.array([average(one, symmetry.rotations) for one in tensor])
        error = error + np.abs(even - tensor)
        truncated = error.max(axis=(1, 2))
        if not suffix:
            left = left_by_ions(relaxed, step).reshape(surfaces.n, -1).max(axis=1)
            error = error + left[:, None, None]
        for name in _names(even, symmetry.system):
            i, j = (int(c) - 1 for c in name)
            quantities[f"C{name}{suffix}"] = (even[:, i, j] * GPA, error[:, i, j] * GPA, "GPa")
        if not suffix:
            lowest = np.linalg.eigvalsh(even)[:, 0]
            account.instability("elastically unstable (Born)", lowest <= truncated)
            spread = error.max(axis=(1, 2)) * GPA
            bulk, shear = hill(even)
            quantities["B Hill"] = (bulk * GPA, spread, "GPa")
            quantities["G Hill"] = (shear * GPA, spread, "GPa")
    return account.result("elastic", quantities)


def left_by_ions(relaxed: Relaxed, step: float) -> np.ndarray:
    r"""Error of C by forces that are left on the ions, eV/Å^3, [K].

    :math:`\sum_i |F_i| (V/N)^{1/3} / (V h)`: an ion that a force F would still move by u = F/k
    changes the stress by about k u times a bond length over the volume.
    """
    volume, n = relaxed.frames.volumes, relaxed.frames.n_atoms
    total = np.linalg.norm(relaxed.forces, axis=2).sum(axis=1)
    return total * np.cbrt(volume / n) / (volume * step)


def _deformations(step: float) -> np.ndarray:
    """Six Voigt strains at -2, -1, 1 and 2 steps, [24, 3, 3]."""
    made = []
    for a, b in VOIGT:
        for times in (-2, -1, 1, 2):
            strain = np.zeros((3, 3))
            strain[a, b] += 0.5 * times * step
            strain[b, a] += 0.5 * times * step
            made.append(np.eye(3) + strain)
    return np.array(made)


def _tensor(stress: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """C and its error from stresses [n, strain 6, step 4, 6], eV/Å^3, [n, 6, 6]."""
    one = (stress[:, :, 2] - stress[:, :, 1]) / (2.0 * step)
    two = (stress[:, :, 3] - stress[:, :, 0]) / (4.0 * step)
    best = (4.0 * one - two) / 3.0
    symmetric = 0.5 * (best + best.transpose(0, 2, 1))
    return symmetric, np.abs(one - two) / 3.0 + np.abs(best - symmetric)


def _full(tensor: np.ndarray) -> np.ndarray:
    """Voigt [6, 6] to [3, 3, 3, 3]."""
    number = np.zeros((3, 3), dtype=int)
    for k, (a, b) in enumerate(VOIGT):
        number[a, b] = number[b, a] = k
    return tensor[number[:, :, None, None], number[None, None]]


def average(tensor: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Mean of a Voigt tensor [6, 6] over rotations [m, 3, 3]."""
    full = _full(tensor)
    mean = np.mean(
        [np.einsum("ia,jb,kc,ld,abcd->ijkl", r, r, r, r, full, optimize=True) for r in rotations],
        axis=0,
    )
    rows, columns = np.array(VOIGT).T
    return mean[rows[:, None], columns[:, None], rows[None], columns[None]]


def _names(tensors: np.ndarray, system: str) -> list[str]:
    """Independent components, where the rest has the form that the crystal system gives it."""
    everything = [f"{i + 1}{j + 1}" for i in range(6) for j in range(i, 6)]
    names = INDEPENDENT.get(system)
    if names is None:
        return everything
    allowed = {"11", "12", "13", "22", "23", "33", "44", "55", "66"}
    others = [n for n in everything if n not in allowed]
    scale = np.nanmax(np.abs(tensors))
    stray = max(np.nanmax(np.abs(tensors[:, int(n[0]) - 1, int(n[1]) - 1])) for n in others)
    return list(names) if stray < 1e-6 * scale else everything


def hill(tensors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bulk and shear modulus of an isotropic polycrystal (Hill, Proc. Phys. Soc. A 65, 349, 1952).

    Parameters
    ----------
    tensors : ndarray [n, 6, 6]

    Returns
    -------
    bulk, shear : ndarray [n]
        Means of Voigt's and Reuss' bounds, NaN where C cannot be inverted.
    """
    def moduli(c: np.ndarray, s: bool) -> tuple[float, float]:
        diagonal, off = c[0, 0] + c[1, 1] + c[2, 2], c[0, 1] + c[0, 2] + c[1, 2]
        shear = c[3, 3] + c[4, 4] + c[5, 5]
        if s:
            return 1.0 / (diagonal + 2.0 * off), 15.0 / (4.0 * (diagonal - off) + 3.0 * shear)
        return (diagonal + 2.0 * off) / 9.0, (diagonal - off + 3.0 * shear) / 15.0

    rows = []
    for c in tensors:
        if not np.isfinite(c).all() or abs(np.linalg.det(c)) < 1e-30:
            rows.append((np.nan, np.nan))
            continue
        voigt, reuss = moduli(c, False), moduli(np.linalg.inv(c), True)
        rows.append(tuple(0.5 * (a + b) for a, b in zip(voigt, reuss, strict=True)))
    bulk, shear = np.array(rows).T
    return bulk, shear
