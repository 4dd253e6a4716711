r"""The functions behind a linear ACE: radial functions, harmonics, couplings.

They use arithmetic alone, so that one formula serves NumPy (design matrices) and JAX (evaluation).

References
----------
R. Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.
W. C. Witt et al., J. Chem. Phys. 159, 164101 (2023), doi:10.1063/5.0158783.
"""

from __future__ import annotations

from functools import cache
from itertools import permutations
from math import factorial, sqrt
from typing import Any

import numpy as np

ENVELOPE = 3
"""Power of (1 - x) in the radial functions: two continuous derivatives at the cutoff."""


# --- radial functions -----------------------------------------------------------------------


def distance_map(r: Any, r0: Any, cutoff: Any, p: float, q: float) -> tuple[Any, Any]:
    r"""Agnesi map of a distance to x in [-1, 1] and its slope dx/dr.

    .. math::
       y(s) = \left[1 + \frac{a s^q}{1 + s^{q-p}}\right]^{-1}, \quad s = \frac{r}{r_0}, \qquad
       x = 1 - 2\,\frac{y(r) - y(r_c)}{1 - y(r_c)}

    with :math:`a = (4pq - 2p - 2q) / (p + p^2 + q + q^2)`, which puts the steepest slope near
    :math:`r_0`. x = -1 at r = 0 and 1 at the cutoff.
    """
    a = (4 * p * q - 2 * p - 2 * q) / (p + p * p + q + q * q)

    def agnesi(distance: Any) -> tuple[Any, Any]:
        s = distance / r0
        low, ratio = 1.0 + s ** (q - p), s**q
        y = 1.0 / (1.0 + a * ratio / low)
        slope = a * (q * s ** (q - 1) / low - (q - p) * ratio * s ** (q - p - 1) / low**2)
        return y, -(y**2) * slope / r0

    y, dy = agnesi(r)
    end, _ = agnesi(cutoff)
    scale = -2.0 / (1.0 - end)
    return 1.0 + scale * (y - end), scale * dy


@cache
def _jacobi(n_max: int) -> tuple[tuple[float, float, float], ...]:
    """Recursion P_n = (a x + b) P_{n-1} - c P_{n-2} of the orthonormal polynomials for (1-x)^6."""
    alpha = 2 * ENVELOPE
    rows = []
    for n in range(1, n_max + 1):
        t = 2 * n + alpha
        if n == 1:
            rows.append((0.5 * (alpha + 2), 0.5 * alpha, 0.0))
            continue
        scale = 2 * n * (n + alpha) * (t - 2)
        rows.append((
            (t - 1) * t * (t - 2) / scale,
            (t - 1) * alpha**2 / scale,
            2 * (n + alpha - 1) * (n - 1) * t / scale,
        ))
    return tuple(rows)


def radial(x: Any, dx: Any, n_max: int) -> tuple[list[Any], list[Any]]:
    r"""Radial functions of degree 0 to ``n_max`` and their slopes dR/dr, from x and dx/dr.

    .. math:: R_n = \sqrt{n + 7/2}\, \left(\frac{1 - x}{2}\right)^3 P_n^{(6, 0)}(x)

    Jacobi polynomials, orthogonal in x with the envelope included; zero beyond the cutoff.
    """
    inside = x < 1.0
    w = 0.5 * (1.0 - x) * inside
    envelope, d_envelope = w**ENVELOPE, -0.5 * ENVELOPE * w ** (ENVELOPE - 1)
    values, slopes = [0.0 * x + 1.0], [0.0 * x]
    for n, (a, b, c) in enumerate(_jacobi(n_max), start=1):
        linear = a * x + b
        before, d_before = (values[n - 2], slopes[n - 2]) if n > 1 else (0.0, 0.0)
        values.append(linear * values[n - 1] - c * before)
        slopes.append(a * values[n - 1] + linear * slopes[n - 1] - c * d_before)
    norms = [sqrt(n + ENVELOPE + 0.5) for n in range(n_max + 1)]
    functions = [k * envelope * v for k, v in zip(norms, values, strict=True)]
    derivatives = [
        k * dx * (d_envelope * v + envelope * d)
        for k, v, d in zip(norms, values, slopes, strict=True)
    ]
    return functions, derivatives


# --- angular functions ----------------------------------------------------------------------


def harmonics(direction: Any, l_max: int) -> tuple[list[list[Any]], list[list[Any]]]:
    r"""Real spherical harmonics and gradients: [l][m + l] and [l][m + l] of (x, y, z) parts.

    Racah's normalisation, :math:`\sum_m C_{lm}(a) C_{lm}(b) = P_l(a \cdot b)`. The gradient is that
    of a polynomial that equals the harmonic on the unit sphere; its part along the direction has no
    meaning and is projected out by the caller.
    """
    x, y, z = direction[..., 0], direction[..., 1], direction[..., 2]
    cos, sin = [0.0 * x + 1.0], [0.0 * x]
    for m in range(1, l_max + 1):
        cos.append(x * cos[m - 1] - y * sin[m - 1])
        sin.append(x * sin[m - 1] + y * cos[m - 1])
    # q[l][m] is the m-th derivative of the Legendre polynomial P_l at z.
    q: list[list[Any]] = []
    for ell in range(l_max + 1):
        row: list[Any] = []
        for m in range(ell + 1):
            if m == ell:
                row.append(float(np.prod(np.arange(1, 2 * ell, 2))) + 0.0 * z)
            else:
                older = q[ell - 2][m] if m <= ell - 2 else 0.0
                row.append(((2 * ell - 1) * z * q[ell - 1][m] - (ell + m - 1) * older) / (ell - m))
        row.append(0.0 * z)
        q.append(row)
    values, gradients = [], []
    for ell in range(l_max + 1):
        value: list[Any] = [None] * (2 * ell + 1)
        gradient: list[Any] = [None] * (2 * ell + 1)
        for m in range(ell + 1):
            norm = sqrt((2.0 if m else 1.0) * factorial(ell - m) / factorial(ell + m))
            f, df = norm * q[ell][m], norm * q[ell][m + 1]
            value[ell + m] = f * cos[m]
            gradient[ell + m] = (
                (m * f * cos[m - 1], -m * f * sin[m - 1], df * cos[m]) if m
                else (0.0 * x, 0.0 * x, df)
            )
            if m:
                value[ell - m] = f * sin[m]
                gradient[ell - m] = (m * f * sin[m - 1], m * f * cos[m - 1], df * sin[m])
        values.append(value)
        gradients.append(gradient)
    return values, gradients


@cache
def coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    r"""Coupling of three real harmonics that rotations leave alone, of unit norm.

    [2 l1 + 1, 2 l2 + 1, 2 l3 + 1], proportional to the 3j symbol:

    .. math::
       K \propto \int C_1 C_2 C_3\, d\Omega \ \ (l_1 + l_2 + l_3 \text{ even}), \qquad
       K \propto \int C_1\, \hat r \cdot (\nabla C_2 \times \nabla C_3)\, d\Omega
       \ \ (\text{odd})

    which a product quadrature gives exactly. The odd one changes sign under reflections; two of
    them make an invariant of four harmonics.
    """
    degree = l1 + l2 + l3
    z, weight = np.polynomial.legendre.leggauss(degree // 2 + 1)
    phi = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    rho = np.sqrt(1 - z**2)[:, None]
    points = np.stack([rho * np.cos(phi), rho * np.sin(phi), z[:, None] + 0 * phi], axis=-1)
    values, gradients = harmonics(points, max(l1, l2, l3))
    a, b, c = (np.stack(values[ell]) for ell in (l1, l2, l3))
    if degree % 2:
        db, dc = (np.stack([np.stack(one, axis=-1) for one in gradients[ell]]) for ell in (l2, l3))
        across = np.cross(points, db)[:, None] * dc[None]  # r . (db x dc) = (r x db) . dc
        tensor = np.einsum("azp,bczp,z->abc", a, across.sum(axis=-1), weight)
    else:
        tensor = np.einsum("azp,bzp,czp,z->abc", a, b, c, weight)
    tensor[np.abs(tensor) < 1e-13 * np.abs(tensor).max()] = 0.0
    return tensor / np.linalg.norm(tensor)


@cache
def couplings(ls: tuple[int, ...]) -> dict[int, np.ndarray]:
    r"""Invariant couplings of one to four real harmonics with an even sum of degrees, by L.

    Four are coupled in pairs to a degree L,

    .. math:: \sum_M K^{l_1 l_2 L}_{m_1 m_2 M} K^{L l_3 l_4}_{M m_3 m_4},

    of unit norm, which for all L are an orthogonal basis of the invariants. One, two or three have
    one coupling, here of L = 0.
    """
    if len(ls) < 4:
        small = {1: np.ones, 2: np.eye}
        return {0: small[len(ls)](2 * ls[0] + 1) if len(ls) < 3 else coupling(*ls)}
    low, high = max(ls[1] - ls[0], ls[3] - ls[2]), min(ls[0] + ls[1], ls[2] + ls[3])
    return {
        ell: np.tensordot(coupling(ls[0], ls[1], ell), coupling(ell, ls[2], ls[3]), 1)
        * sqrt(2 * ell + 1)
        for ell in range(low, high + 1)
    }


@cache
def independent(ls: tuple[int, ...], equal: tuple[bool, ...]) -> tuple[int, ...]:
    """The L of `couplings` that give independent functions of factors some of which are equal.

    Only the part of a coupling counts that is symmetric in equal factors. What follows from smaller
    L is left out.

    Parameters
    ----------
    ls : tuple of int
        Ascending.
    equal : tuple of bool
        Whether a factor is the one before it (the first never is).
    """
    runs = np.cumsum(~np.array(equal))
    swaps = [p for p in permutations(range(len(ls))) if (runs[list(p)] == runs).all()]
    found: dict[int, np.ndarray] = {}
    for ell, tensor in couplings(ls).items():
        new = sum(tensor.transpose(p) for p in swaps) / len(swaps)
        for _ in range(2):  # once leaves what rounding puts back
            new = new - sum(np.vdot(old, new) * old for old in found.values())
        if (norm := np.linalg.norm(new)) > 1e-6:
            found[ell] = new / norm
    return tuple(found)
