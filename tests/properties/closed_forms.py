"""Closed forms of pair potentials on fcc, written without any code of the package."""

from __future__ import annotations

import numpy as np

AMU_A2_PER_EV = 1.0364269574711572e-4
"""ps² eV/(amu Å²): atomic mass unit over the elementary charge, 1.66053906660e-27/1.602176634e-19
times 1e4."""


def shells(cutoff: float) -> np.ndarray:
    """Distances of the neighbours of an fcc atom over the nearest one, below ``cutoff`` of it."""
    n = int(2 * cutoff) + 2
    grid = np.arange(-n, n + 1)
    i, j, k = np.meshgrid(grid, grid, grid, indexing="ij")
    even = (i + j + k) % 2 == 0
    r = np.sqrt((i**2 + j**2 + k**2)[even] / 2.0)
    return r[(r > 0.1) & (r < cutoff)]


def lennard_jones_fcc(epsilon: float, sigma: float, cutoff: float) -> dict[str, float]:
    """Nearest distance, energy and bulk modulus of fcc; cutoff in nearest distances.

    With lattice sums A_n of r^-n: x6 = A6 / (2 A12), E = -epsilon A6²/(2 A12) and
    B = 4 epsilon A6² / (A12 V).
    """
    r = shells(cutoff)
    a6, a12 = (r**-6.0).sum(), (r**-12.0).sum()
    distance = sigma * (2.0 * a12 / a6) ** (1.0 / 6.0)
    volume = distance**3 / np.sqrt(2.0)
    return {
        "distance": distance, "volume": volume, "energy": -epsilon * a6**2 / (2.0 * a12),
        "B": 4.0 * epsilon * a6**2 / (a12 * volume),
    }  # fmt: skip


def morse_neighbors_fcc(D: float, alpha: float, r0: float, mass: float) -> dict[str, float]:
    """Fcc with a Morse pair of nearest neighbours alone: depth D, spring k = 2 D alpha²."""
    volume, spring = r0**3 / np.sqrt(2.0), 2.0 * D * alpha**2

    def frequency(times: float) -> float:
        """THz, of a mode with m w² = times * spring."""
        return float(np.sqrt(times * spring / (mass * AMU_A2_PER_EV)) / (2.0 * np.pi))

    # E(r) = 6 phi(r) per atom, V = r³/sqrt 2: B = r² E''/(9 V); B' from the third derivative.
    second, third = 6 * 2 * D * alpha**2, -6 * 6 * D * alpha**3
    return {
        "energy": -6.0 * D, "volume": volume, "B": r0**2 * second / (9.0 * volume),
        "B'": 1.0 - r0 * third / (3.0 * second),
        "C11": np.sqrt(2.0) * spring / r0, "C44": spring / (np.sqrt(2.0) * r0),
        "X high": frequency(8.0), "X low": frequency(4.0),
        "L high": frequency(8.0), "L low": frequency(2.0),
        "vacancy": 6.0 * D,
        "(111)": 1.5 * D / (np.sqrt(3.0) / 2.0 * r0**2), "(100)": 2.0 * D / r0**2,
    }  # fmt: skip
