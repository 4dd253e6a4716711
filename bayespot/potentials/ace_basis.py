r"""The functions of a linear ACE: radial and angular parts, couplings, tables of basis functions.

Everything about the basis that does not depend on a structure. The functions of distances and
directions use arithmetic alone, so that one formula serves NumPy (design matrices) and JAX
(evaluation).

References
----------
R. Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.
W. C. Witt et al., J. Chem. Phys. 159, 164101 (2023), doi:10.1063/5.0158783.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
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
    """Invariant coupling of three real harmonics, [2 l1 + 1, 2 l2 + 1, 2 l3 + 1], of unit norm.

    For an even sum of degrees the 3j symbol is proportional to the integral of the product of the
    three harmonics over the sphere, which a product quadrature gives exactly; an odd sum would
    change sign under reflection and is not used.
    """
    degree = l1 + l2 + l3
    z, weight = np.polynomial.legendre.leggauss(degree // 2 + 1)
    phi = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    rho = np.sqrt(1 - z**2)[:, None]
    points = np.stack([rho * np.cos(phi), rho * np.sin(phi), z[:, None] + 0 * phi], axis=-1)
    values, _ = harmonics(points, max(l1, l2, l3))
    a, b, c = (np.stack(values[ell]) for ell in (l1, l2, l3))
    tensor = np.einsum("azp,bzp,czp,z->abc", a, b, c, weight)
    tensor[np.abs(tensor) < 1e-13 * np.abs(tensor).max()] = 0.0
    return tensor / np.linalg.norm(tensor)


# --- tables of basis functions --------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Group:
    """Basis functions of one centre that share their angular degrees.

    A factor ``q`` numbers neighbour species and radial degree, q = species * n_radial + n.
    """

    ls: tuple[int, ...]  # angular degrees, ascending
    q: np.ndarray  # [T, order] factors
    functions: np.ndarray  # [T] numbers of the basis functions


@dataclass(frozen=True, eq=False)
class Basis:
    """All basis functions of a centre; the same for every species of the centre."""

    n_species: int
    n_radial: int
    l_max: int
    groups: tuple[Group, ...]
    order: np.ndarray  # [B] correlation order
    n_sum: np.ndarray  # [B] sum of radial degrees
    l_sum: np.ndarray  # [B] sum of angular degrees

    @property
    def size(self) -> int:
        """Basis functions of one centre."""
        return len(self.order)

    def factors(self, function: int) -> list[tuple[int, int, int]]:
        """(species, n, l) of every factor of a basis function."""
        for group in self.groups:
            row = np.flatnonzero(group.functions == function)
            if row.size:
                return [
                    (int(q) // self.n_radial, int(q) % self.n_radial, ell)
                    for q, ell in zip(group.q[row[0]], group.ls, strict=True)
                ]
        raise IndexError(f"there is no basis function {function}")


def _angular_sets(order: int, degree: float, weight: float) -> list[tuple[int, ...]]:
    """Ascending degrees that couple to an invariant of even parity within the total degree."""
    sets = combinations_with_replacement(range(int(degree / weight + 1e-9) + 1), order)
    within = [ls for ls in sets if weight * sum(ls) <= degree + 1e-9]
    if order == 1:
        return [ls for ls in within if ls == (0,)]
    if order == 2:
        return [ls for ls in within if ls[0] == ls[1]]
    return [ls for ls in within if sum(ls) % 2 == 0 and ls[2] <= ls[0] + ls[1]]


def _radial_sets(ls: tuple[int, ...], n_species: int, n_radial: int, most: int) -> np.ndarray:
    """Factors q of every function with these angular degrees; equal degrees are sorted."""
    n_factors = n_species * n_radial
    cost = np.arange(n_factors) % n_radial
    rows = [(q,) for q in range(n_factors) if cost[q] <= most]
    for k in range(1, len(ls)):
        same = ls[k] == ls[k - 1]
        rows = [
            (*row, q) for row in rows for q in range(row[-1] if same else 0, n_factors)
            if sum(cost[t] for t in row) + cost[q] <= most
        ]
    return np.array(rows, dtype=np.int64).reshape(-1, len(ls))


@cache
def make_basis(n_species: int, degrees: Sequence[float], weight: float) -> Basis:
    r"""Basis functions of one centre within a total degree for each correlation order.

    A function of order :math:`\nu` is kept if :math:`\sum_t (n_t + w\, l_t) \le D_\nu`, with radial
    degrees from zero.

    Parameters
    ----------
    n_species : int
    degrees : tuple of float
        :math:`D_1, D_2, D_3`; a negative one leaves the order out.
    weight : float
        Cost w of an angular degree in radial degrees.
    """
    n_radial = int(max(degrees)) + 1
    groups, order, n_sum, l_sum = [], [], [], []
    for nu, degree in enumerate(degrees, start=1):
        if degree < 0:
            continue
        for ls in _angular_sets(nu, degree, weight):
            q = _radial_sets(ls, n_species, n_radial, int(degree - weight * sum(ls) + 1e-9))
            functions = len(order) + np.arange(len(q))
            groups.append(Group(ls, q, functions))
            order += [nu] * len(q)
            n_sum += list((q % n_radial).sum(axis=1))
            l_sum += [sum(ls)] * len(q)
    l_max = max((max(g.ls) for g in groups), default=0)
    return Basis(
        n_species, n_radial, l_max, tuple(groups), np.array(order), np.array(n_sum),
        np.array(l_sum),
    )
