"""Embedded atom of cubic splines, with its gauge fixed by construction."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from ase.build import bulk
from scipy.optimize import lsq_linear
from vesin import NeighborList

from bayespot.errors import CutoffError, PriorError
from bayespot.potentials.base import Parameter, hyper, param
from bayespot.potentials.embedded import EmbeddedSum
from bayespot.potentials.priors import LogNormal, Normal, Prior

LATTICES = ("fcc", "bcc", "hcp", "diamond", "sc")
"""Perfect crystals whose density can be the unit of density."""

MORSE_DEPTH, MORSE_RATE = 0.067, 5.0
"""Morse function that the priors of the pair term are centred on: depth in cohesive energies, rate
in inverse bond lengths. Twelve neighbours of 0.067 are 0.4 of the cohesive energy."""

EMBEDDING_ENERGY = 0.6
"""The rest of the cohesive energy: F is centred on 0.6 E (x ln x - x)."""

DENSITY_RATE = 4.5
"""Decay of the density that the priors are centred on, in inverse bond lengths."""

CORE = 1.1
"""Below this many bond lengths the pair term's curvature is positive: atoms repel."""


POINTS, LEAST = 400, 0.1
"""Points at which `SplineEAM.approximating` compares; how far below the median of a positive prior
it goes."""


def shells(lattice: str, length: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances (Å) and numbers of neighbours within ``reach`` of an atom of a perfect lattice.

    ``length`` is the distance of the nearest ones, Å.
    """
    cell = bulk("X", lattice, a=1.0, **({"c": np.sqrt(8.0 / 3.0)} if lattice == "hcp" else {}))

    def distances(scale: float, cutoff: float) -> np.ndarray:
        i, d = NeighborList(cutoff=cutoff, full_list=True).compute(
            points=cell.positions * scale, box=cell.cell.array * scale, periodic=True,
            quantities="id",
        )
        return d[i == 0]

    scale = length / distances(1.0, 1.2).min()
    values, counts = np.unique(np.round(distances(scale, reach), 9), return_counts=True)
    return values, counts.astype(float)


def from_the_end(curvature: Any) -> Any:
    """Coefficients of the cubes of a function whose curvature is zero at and beyond the last knot.

    The curvature is linear between the knots and constant before the first; [..., K] to [..., K+1].
    """
    zero = jnp.zeros_like(curvature[..., :1])
    left = jnp.concatenate([curvature[..., :1], curvature, zero], axis=-1)
    padded = jnp.concatenate([left, zero], axis=-1)
    return padded[..., :-2] - 2.0 * padded[..., 1:-1] + padded[..., 2:]


class SplineEAM(EmbeddedSum):
    r"""Cubic splines for pair term, density and embedding.

    Curvatures at equidistant knots are the parameters. The pair term and the density are
    integrated twice from their cutoff inwards, where value, slope and curvature are zero,

    .. math::
       \phi(r) = \frac{1}{\ell^2} \int_r^{r_c} (t - r)\, y(t)\, dt, \qquad
       \rho(r) \propto \int_r^{d} (t - r)\, u(t)\, dt, \qquad
       F(x) = \int_0^x (x - t)\, s(t)\, dt - x \int_0^1 s(t)\, dt

    with :math:`y, u, s` linear between knots and constant beyond the outer ones. So every draw is
    twice continuously differentiable, ends smoothly, and is the smoother the more knots there are:
    an integral over independent numbers, the usual prior of smoothing splines.

    The gauges of embedded atom are fixed by construction:

    * a factor of all densities: the density is divided by its sum over the perfect ``lattice``
      with neighbours at ``length`` :math:`\ell`, so that there :math:`\bar\rho = 1`, and only
      ratios of curvatures of the density are parameters, :math:`u_k = u_{k+1} e^{g_k}`;
    * a linear function that passes between F and the pair terms: :math:`F'(1) = 0`, and
      :math:`F(0) = 0`.

    Densities are positive, fall and are convex; F is convex (a bond weakens the others); the pair
    term repels below about 1.1 bond lengths and is free beyond. Give ``length`` and the cutoffs
    for the material; they are not sampled unless asked for.
    """

    pair_curvature: Any = param(
        unit="eV", symbol="y", doc="curvature of the pair term at a knot, times length^2",
        prior=Normal(0.0, 1.0, scale="energy"), per="pair_knot",
    )
    density_growth: Any = param(
        unit="1", symbol="g", doc="growth of ln(density curvature) from a knot to the next inwards",
        prior=Normal(0.6, 0.4, low=-2.0, high=5.0), per="density_knot",
    )
    embedding_curvature: Any = param(
        unit="eV", symbol="s", doc="curvature of the embedding function at a knot",
        prior=LogNormal(1.0, 0.6, scale="energy"), per="embedding_knot",
    )  # fmt: skip
    length: float = hyper(2.5, unit="Å", doc="distance of nearest neighbours in the reference")
    lattice: str = hyper("fcc", doc="lattice in which the density of an atom is one")
    inner: float = hyper(0.7, doc="first knot of pair term and density, in units of length")
    n_pair: int = hyper(9, doc="knots of the pair term, without the one at the cutoff")
    n_density: int = hyper(6, doc="knots of the density, without the one at its cutoff")
    n_embedding: int = hyper(7, doc="knots of the embedding function, from 0 to embedding_end")
    embedding_end: float = hyper(2.0, doc="last knot of the embedding function")

    abstract: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.lattice not in LATTICES:
            raise PriorError(f"lattice={self.lattice!r} is unknown: use one of {LATTICES}")
        if min(self.n_pair, self.n_density, self.n_embedding) < 3:
            raise PriorError("a spline needs at least three knots: raise n_pair, n_density, ...")
        # Priors are centred at knots, and knots lie between the inner one and the cutoffs.
        for name, per in (("cutoff", "pair"), ("density_cutoff", "density")):
            item = next(p for p in self.parameters() if p.name == name)
            value = getattr(self, name)
            value = item.prior.center if value is None else value
            size = len(self.coordinates(per))
            object.__setattr__(self, name, np.broadcast_to(np.asarray(value, float), size).copy())
        super().__post_init__()
        if min(self.cutoff.min(), self.density_cutoff.min()) < 1.1 * self.length:
            raise CutoffError(
                f"cutoffs of {self.cutoff} and {self.density_cutoff} Å must be beyond the nearest "
                f"neighbours of the reference lattice at length={self.length} Å"
            )

    def coordinates(self, per: str) -> list[str]:
        """As `EmbeddedSum.coordinates`, with knots: "Cu-Ni:0" is the innermost of that pair."""
        kinds = {"pair_knot": ("pair", self.n_pair),
                 "density_knot": ("density", self.n_density - 1),
                 "embedding_knot": ("species", self.n_embedding)}
        if per not in kinds:
            return super().coordinates(per)
        owner, count = kinds[per]
        return [f"{name}:{k}" for name in super().coordinates(owner) for k in range(count)]

    def prior_of(self, item: Parameter, entry: int) -> Prior:
        """Priors by knot, in bond lengths and cohesive energies."""
        if item.name == "pair_curvature":
            owner, k = divmod(entry, self.n_pair)
            step = (self.cutoff[owner] / self.length - self.inner) / self.n_pair
            z = self.inner + k * step - 1.0
            center = 2.0 * MORSE_DEPTH * MORSE_RATE**2 * (
                2.0 * np.exp(-2.0 * MORSE_RATE * z) - np.exp(-MORSE_RATE * z))
            if z < CORE - 1.0:
                return LogNormal(center, 0.4, scale="energy")
            return Normal(center, 0.5 * np.exp(-1.5 * z), scale="energy")
        if item.name == "density_growth":
            owner = entry // (self.n_density - 1)
            step = (self.density_cutoff[owner] / self.length - self.inner) / self.n_density
            return Normal(min(DENSITY_RATE * step, 4.0), 0.4, low=-2.0, high=5.0)
        if item.name == "embedding_curvature":
            step = self.embedding_end / (self.n_embedding - 1)
            x = max(entry % self.n_embedding, 1.0 / 3.0) * step
            return LogNormal(EMBEDDING_ENERGY / x, 0.6, scale="energy")
        return item.prior

    def _integrated(self, r: Any, coefficients: Any, end: Any, entry: Any) -> Any:
        """Double integral from ``end`` [entries] inwards of the spline of each entry at ``r``."""
        knots = np.arange(coefficients.shape[-1])
        start = self.inner * self.length
        step = (end[entry] - start) / knots[-1]
        u = (r - start) / step
        cubes = jnp.maximum(knots - u[..., None], 0.0) ** 3
        return step**2 / 6.0 * _chosen(cubes, coefficients, entry)

    def pair_energy(self, r: Any, entry: Any) -> Any:
        """See `EmbeddedSum.pair_energy`."""
        curvature = jnp.reshape(self.pair_curvature, (-1, self.n_pair)) / self.length**2
        return self._integrated(r, from_the_end(curvature), self.cutoff, entry)

    def density_at(self, r: Any, entry: Any) -> Any:
        """See `EmbeddedSum.density_at`."""
        growth = jnp.reshape(self.density_growth, (-1, self.n_density - 1))
        rising = jnp.cumsum(growth[:, ::-1], axis=1)[:, ::-1]
        curvature = jnp.exp(jnp.concatenate([rising, jnp.zeros_like(rising[:, :1])], axis=1))
        coefficients = from_the_end(curvature)
        distance, number = shells(self.lattice, self.length, 4.0 * self.length)
        entries = np.arange(coefficients.shape[0])
        whole = jnp.stack([
            (number * self._integrated(distance, coefficients, self.density_cutoff,
                                       np.full(distance.shape, k))).sum()
            for k in entries
        ])  # fmt: skip
        return self._integrated(r, coefficients / whole[:, None], self.density_cutoff, entry)

    def embedding(self, rhobar: Any, kind: Any) -> Any:
        """See `EmbeddedSum.embedding`."""
        s = jnp.reshape(self.embedding_curvature, (-1, self.n_embedding))
        step = self.embedding_end / (self.n_embedding - 1)
        padded = jnp.concatenate([s[:, :1], s, s[:, -1:]], axis=1)
        coefficients = (padded[:, :-2] - 2.0 * padded[:, 1:-1] + padded[:, 2:]) / (6.0 * step)
        knots = step * np.arange(self.n_embedding)
        slope_at_one = 3.0 * coefficients @ np.maximum(1.0 - knots, 0.0) ** 2 + s[:, 0]
        cubes = jnp.maximum(jnp.asarray(rhobar)[..., None] - knots, 0.0) ** 3
        square = 0.5 * s[:, 0][kind] * rhobar**2
        return _chosen(cubes, coefficients, kind) + square - slope_at_one[kind] * rhobar

    @classmethod
    def approximating(cls, other: EmbeddedSum, **settings: Any) -> Self:
        """The splines nearest to another embedded-atom potential, as a start or centre of priors.

        Density, embedding and pair term are brought to the gauge of this form and fitted by least
        squares at 400 points each, not far outside of the priors: where the other potential has
        a density that is not convex or an embedding that bends down, that is not followed.
        Settings (length, lattice, knots) are those of the class; cutoffs are the other's.
        """
        start = cls(species=other.species, density=other.density, cutoff=other.cutoff,
                    density_cutoff=other.density_cutoff, e0=other.e0, **settings)
        return start.replace(**_nearest(start, other))


def _chosen(cubes: Any, coefficients: Any, entry: Any) -> Any:
    """Sum over knots with the coefficients [entries, knots] of each point's entry."""
    if coefficients.shape[0] == 1:
        return cubes @ coefficients[0]
    # A product with all entries and a mask: a gather of rows would be a scatter in the gradient.
    mask = jnp.asarray(entry)[..., None] == np.arange(coefficients.shape[0])
    return jnp.where(mask, cubes @ coefficients.T, 0.0).sum(axis=-1)


def _columns(evaluate: Any, count: int) -> np.ndarray:
    """Values of a linear function for each unit vector, as columns."""
    return np.stack([np.asarray(evaluate(unit)) for unit in np.eye(count)], axis=1)


class _Gauged:
    """Functions of another potential in the gauge of the splines."""

    def __init__(self, start: SplineEAM, other: EmbeddedSum) -> None:
        self.start, self.other, self.n = start, other, len(start.species)
        self.factors = np.asarray(other.ratios())
        distance, number = shells(start.lattice, start.length, 4.0 * start.length)
        both = range(self.n)
        self.whole = np.array([[number @ self._given(i, j, distance) for j in both] for i in both])
        self.own, h = np.diagonal(self.whole), 1e-5
        ends = [np.array([1.0 - h, 1.0 + h]) * self.own[i] for i in both]
        self.pull = [float(np.diff(other.embedding(ends[i], np.full(2, i)))[0]) / (2.0 * h)
                     for i in both]

    def _given(self, i: int, j: int, r: np.ndarray) -> np.ndarray:
        """Density that j gives to i, in the other potential's unit at i."""
        entry = np.full(r.shape, int(self.start.density_entry(i, j)))
        return self.factors[i, j] * np.asarray(self.other.density_at(r, entry))

    def embedding(self, x: np.ndarray, i: int) -> np.ndarray:
        values = self.other.embedding(self.own[i] * x, np.full(x.shape, i))
        return np.asarray(values) - self.pull[i] * x

    def density(self, r: np.ndarray, i: int, j: int) -> np.ndarray:
        return self._given(i, j, r) / self.whole[i, j]

    def pair(self, r: np.ndarray, i: int, j: int) -> np.ndarray:
        entry = np.full(r.shape, self.start.pair_number(i, j))
        moved = [self.pull[a] * self._given(a, b, r) / self.own[a] for a, b in ((i, j), (j, i))]
        return np.asarray(self.other.pair_energy(r, entry)) + sum(moved)

    def weight(self) -> list[float]:
        """Ratios of densities that are one in their own lattice."""
        names, both = self.start.species, range(self.n)
        if self.start.density == "pair":
            return [self.whole[i, j] / self.own[i] for i in both for j in both if i != j]
        first = names.index(min(names))
        return [self.factors[first, k] * self.own[k] / self.own[first] for k in both if k != first]


def _nearest(start: SplineEAM, other: EmbeddedSum) -> dict[str, Any]:
    """Parameters of the splines nearest to ``other``."""
    target, n, inside = _Gauged(start, other), len(start.species), start.inner * start.length
    x = np.linspace(0.0, start.embedding_end, POINTS)
    design = _columns(lambda s: start.replace(embedding_curvature=np.tile(s, n)).embedding(
        x, np.zeros(POINTS, int)), start.n_embedding)
    items = {p.name: p for p in start.parameters()}
    won = [-target.embedding(np.ones(1), i)[0] / EMBEDDING_ENERGY for i in range(n)]

    def least(name: str, entry: int, energy: float) -> float:
        """A tenth of the prior's median where only positive values are allowed."""
        prior = start.prior_of(items[name], entry)
        return LEAST * prior.center * energy if prior.kind == "lognormal" else -np.inf

    bends = []
    for i in range(n):
        low = [least("embedding_curvature", k, won[i]) for k in range(start.n_embedding)]
        bends.append(lsq_linear(design, target.embedding(x, i), bounds=(low, np.inf)).x)

    def radial(end: float, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances, and the double integral for each unit curvature."""
        r, knots = np.linspace(inside, end, POINTS), np.arange(count + 1)
        step = (end - inside) / count
        cubes = step**2 / 6.0 * np.maximum(knots - (r[:, None] - inside) / step, 0.0) ** 3
        return r, _columns(lambda c: cubes @ from_the_end(c), count)

    growth, curvature = [], []
    for entry, end in enumerate(start.density_cutoff):
        i, j = (entry, entry) if start.density == "species" else divmod(entry, n)
        r, design = radial(end, start.n_density)
        u = lsq_linear(design, target.density(r, i, j), bounds=(1e-9, np.inf)).x
        prior = start.prior_of(items["density_growth"], entry * (start.n_density - 1))
        far = 3.0 * prior.sd
        growth.append(np.clip(-np.diff(np.log(u)), prior.center - far, prior.center + far))
    for i in range(n):
        for j in range(i, n):
            pair, size = start.pair_number(i, j), start.n_pair
            r, design = radial(start.cutoff[pair], size)
            energy = 0.5 * (won[i] + won[j])
            low = [least("pair_curvature", pair * size + k, energy) for k in range(size)]
            fit = lsq_linear(design / start.length**2, target.pair(r, i, j), bounds=(low, np.inf))
            curvature.append(fit.x)
    return {
        "embedding_curvature": np.concatenate(bends), "density_growth": np.concatenate(growth),
        "pair_curvature": np.concatenate(curvature), "weight": target.weight(),
    }  # fmt: skip
