r"""Radial functions of an ACE as LAMMPS' ``pace`` has them, and how well that agrees with ours.

Of the radial functions that a ``.yace`` file can ask for, those of "ChebPow" with power one,

.. math:: g_k(r) = \tfrac12 [1 - T_k(2 r / r_c - 1)], \qquad k = 1, 2, \ldots

span the polynomials in r that vanish at the cutoff. Ours are analytic in r (for the powers of the
default map), so that their Chebyshev series converge geometrically, and as many terms are taken as
rounding needs. LAMMPS tabulates the series and goes through the tables with cubics. Both errors are
measured here, in random surroundings.

References
----------
Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021), doi:10.1038/s41524-021-00559-9.
L. N. Trefethen, Approximation Theory and Approximation Practice (2013): the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.build import bulk
from numpy.polynomial import chebyshev

from bayespot.potentials.ace import ACE
from bayespot.potentials.ace_basis import contracted
from bayespot.potentials.ace_functions import distance_map, harmonics, radial

__all__ = ["RadialSeries", "coefficients", "measured", "shortest"]

TERMS = (16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of Chebyshev functions that are tried, fewest first."""

VALUE, SLOPE = 1e-12, 1e-10
"""Errors of a radial function (relative to the largest) that end the series; the slope per Å."""

CORE = 0.5
"""Å; the radial functions are compared above. No atoms come that close."""

SURROUNDINGS = 24
"""Number of random surroundings in which a table is tried."""


@dataclass(frozen=True, eq=False)
class RadialSeries:
    """Radial functions of one species pair: ours, the file's, and LAMMPS' tables of the file's."""

    r0: float  # Å
    cutoff: float  # Å
    powers: tuple[float, float]  # of the map of distances
    series: np.ndarray  # [n, k - 1], coefficients of the g_k

    @classmethod
    def of(cls, potential: ACE, pair: int, terms: int) -> RadialSeries:
        """Chebyshev interpolation of the radial functions of a pair of species.

        g_k carries -1/2 of T_k; the constant follows, because both sides vanish at the cutoff.
        """
        one = cls(
            float(potential.r0[pair]), float(potential.cutoff[pair]),
            (potential.map_p, potential.map_q), np.zeros((potential.basis.n_radial, terms)),
        )
        t = chebyshev.chebpts1(terms + 1)
        values, _ = one.exact(0.5 * one.cutoff * (1.0 + t))
        transform = chebyshev.chebvander(t, terms)[:, 1:] * (2.0 / (terms + 1))
        return replace(one, series=-2.0 * values @ transform)

    def exact(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ours at ``r`` (Å) and their slopes, [n, ...]; zero beyond the cutoff."""
        x, dx = distance_map(np.minimum(r, self.cutoff), self.r0, self.cutoff, *self.powers)
        values, slopes = radial(x, dx, len(self.series) - 1)
        return np.stack(values), np.stack(slopes)

    def written(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The series at ``r`` and its slopes, [n, ...]; zero beyond the cutoff."""
        t = 2.0 * r / self.cutoff - 1.0
        constant = 0.5 * self.series.sum(axis=1, keepdims=True)
        whole = np.concatenate([constant, -0.5 * self.series], axis=1).T
        slopes = chebyshev.chebder(whole) * (2.0 / self.cutoff)
        inside = r < self.cutoff
        return inside * chebyshev.chebval(t, whole), inside * chebyshev.chebval(t, slopes)

    def error(self) -> float:
        """Largest error of the series, in units of `VALUE` and `SLOPE`."""
        r = np.linspace(CORE, self.cutoff, 2000)
        exact, written = self.exact(r), self.written(r)
        scale = np.abs(exact[0]).max()
        return max(
            float(np.abs(a - b).max() / (scale * unit))
            for a, b, unit in zip(exact, written, (VALUE, SLOPE), strict=True)
        )

    def table(self, step: float, r: np.ndarray) -> np.ndarray:
        """The series at ``r`` as LAMMPS' tables with this step (Å) have it, [n, ...].

        Cubics through values and slopes at ``int(cutoff / step)`` equal steps.
        """
        bins = int(self.cutoff / step)
        width = self.cutoff / bins
        m = np.minimum(np.floor(r / width), bins)
        t = r / width - m
        (f0, d0), (f1, d1) = (self.written((m + k) * width) for k in (0, 1))
        rise, d0, d1 = f1 - f0, width * d0, width * d1
        return f0 + t * (d0 + t * (3.0 * rise - d1 - 2.0 * d0 + t * (d0 + d1 - 2.0 * rise)))


def shortest(potential: ACE) -> list[RadialSeries]:
    """Series of every species pair, equally long: the shortest that is exact, else the best."""
    best, least = [], np.inf
    for terms in TERMS:
        found = [
            RadialSeries.of(potential, k, terms) for k in range(len(potential.coordinates("pair")))
        ]
        error = max(one.error() for one in found)
        if not best or error < least:
            best, least = found, error
        if least <= 1.0:
            break
    return best


# --- how well the tables agree --------------------------------------------------------------


def _surroundings(potential: ACE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random surroundings: vectors to neighbours [E, N, 3] (Å), their species, the centres [E].

    Rattled crystals, half of them close packed, stretched and compressed by a tenth. Missing
    neighbours stand beyond the cutoff.
    """
    rng, n = np.random.default_rng(0), len(potential.species)
    found = []
    for k in range(SURROUNDINGS):
        bond = float(np.mean(potential.r0)) * rng.uniform(0.9, 1.1)
        lattice, size = (("fcc", np.sqrt(2.0)), ("diamond", 4.0 / np.sqrt(3.0)))[k % 2]
        crystal = bulk("X", lattice, a=bond * size, cubic=True)
        repeat = 2 * int(np.ceil(potential.reach / (bond * size))) + 1
        at = (crystal * (repeat, repeat, repeat)).positions
        middle = at[np.argmin(np.linalg.norm(at - at.mean(axis=0), axis=1))]
        vectors = at - middle + 0.06 * bond * rng.standard_normal(at.shape)
        own = np.linalg.norm(at - middle, axis=1) < 0.1
        found.append(vectors[~own & (np.linalg.norm(vectors, axis=1) < potential.reach)])
    most = max(len(one) for one in found)
    padded = np.full((len(found), most, 3), 2.0 * potential.reach)
    for k, one in enumerate(found):
        padded[k, : len(one)] = one
    return padded, rng.integers(n, size=padded.shape[:2]), rng.integers(n, size=len(found))


def coefficients(potential: ACE) -> np.ndarray:
    """Coefficients with zeros for the functions that are left out, [species, functions]."""
    c = np.zeros(len(potential.species) * potential.basis.size)
    c[potential.kept] = np.asarray(potential.c)
    return c.reshape(len(potential.species), -1)


def _energies(potential: ACE, functions: np.ndarray, direction: np.ndarray, kind: np.ndarray,
              center: np.ndarray) -> np.ndarray:
    """Energies of centres [E] from radial functions [n, E, N] and directions [E, N, 3]."""
    basis = potential.basis
    own = (kind[:, :, None] == np.arange(basis.n_species)).astype(float)
    moments = [
        np.einsum("neN,meN,eNs->msne", functions, np.stack(y), own, optimize=True)
        .reshape(len(y), -1, len(kind))
        for y in harmonics(direction, basis.l_max)[0]
    ]  # [l][m, Q, E]
    c, energy = coefficients(potential)[center], np.zeros(len(kind))
    for group in basis.groups:
        own = moments[group.ls[0]][:, group.q[:, 0]]
        value = (own * contracted(group.plans[0], moments)).sum(axis=0)  # [T, E]
        energy += (c[:, group.functions].T * value).sum(axis=0)
    return energy


def measured(potential: ACE, radials: Sequence[RadialSeries], step: float) -> tuple[float, float]:
    """Largest errors of LAMMPS' tables: energy of an atom (eV), force of one of its bonds (eV/Å).

    The force is the derivative of the energy's error along one neighbour's distance.
    """
    vectors, kind, center = _surroundings(potential)
    h, errors = 2e-5, []
    first = np.argmin(np.linalg.norm(vectors, axis=2), axis=1)
    where = (np.arange(len(center)), first)
    for shift in (-h, 0.0, h):
        moved = vectors.copy()
        moved[where] *= 1.0 + shift / np.linalg.norm(vectors[where], axis=1)[:, None]
        r = np.linalg.norm(moved, axis=2)
        ours, theirs = np.zeros((2, potential.basis.n_radial, *r.shape))
        for a in range(len(potential.species)):
            for b in range(len(potential.species)):
                number = potential.pair_number(a, b)
                mine = (center[:, None] == a) & (kind == b)
                ours[:, mine] = radials[number].exact(r[mine])[0]
                theirs[:, mine] = radials[number].table(step, r[mine])
        direction = moved / r[:, :, None]
        errors.append(_energies(potential, theirs, direction, kind, center)
                      - _energies(potential, ours, direction, kind, center))
    behind, here, ahead = errors
    return float(np.abs(here).max()), float(np.abs(ahead - behind).max() / (2.0 * h))
