"""A Behler-Parrinello neural network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb, sqrt
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.errors import PriorError
from bayespot.graph import Chunk
from bayespot.potentials.base import Parameter, Potential, hyper, param
from bayespot.potentials.cutoffs import switch
from bayespot.potentials.priors import LogNormal, Normal, Prior, largest
from bayespot.potentials.three_body import monomials, powers

ZETAS = (1, 2, 4)
"""Exponents of the angular functions, as in Behler and Parrinello's own sets."""

SIGNS = (1, -1)
"""Whether an angular function sees small or large angles."""


class NeuralNetwork(Potential):
    r"""Behler-Parrinello neural network, Phys. Rev. Lett. 98, 146401 (2007), one hidden layer.

    Symmetry functions of atom :math:`i`, by species of the neighbours,

    .. math::
       G_m &= \sum_j e^{-(r_{ij} - \mu_m)^2 / 2 w^2} S(r_{ij}), \\
       G_{q\lambda\zeta} &= 2^{1-\zeta} \sum_{j < k} (1 + \lambda \cos\theta_{jik})^\zeta\,
         R_q(r_{ij})\, R_q(r_{ik}), \qquad R_q(r) = e^{-(r - \nu_q)^2 / 2 v^2} S(r)

    (the angular ones without the :math:`r_{jk}` factor: Behler, J. Chem. Phys. 134, 074106 (2011),
    eq. 9), shifted and scaled to :math:`x = (G - \langle G\rangle)/\mathrm{sd}(G)` of an ideal gas
    with one atom per bond length cubed, and

    .. math::
       E_i = \sum_k c_k \left[ \tanh(a_k \cdot x_i + b_k) - \tanh(a_k \cdot x_0 + b_k) \right]

    with :math:`x_0` of an atom without neighbours, so that such an atom has no energy but its
    ``e0``. Given the hidden layer the energy is linear in :math:`c`. The priors of the biases have
    centres in increasing order, all positive: otherwise exchanging hidden units, or the signs of
    one, would change nothing, and the posterior would be copied many times.
    """

    a: Any = param(
        unit="1", symbol="a", doc="weight of a symmetry function in a hidden unit",
        prior=Normal(0.0, 1.0), per="input",
    )  # fmt: skip
    b: Any = param(
        unit="1", symbol="b", doc="bias of a hidden unit", prior=Normal(1.0, 0.3), per="unit",
    )  # fmt: skip
    c: Any = param(
        unit="eV", symbol="c", doc="energy of a hidden unit",
        prior=Normal(0.0, 1.0, scale="energy"), per="unit",
    )  # fmt: skip
    cutoff: Any = param(
        unit="Å", symbol="r_c", doc="distance at which atoms cease to see each other",
        prior=LogNormal(5.0, 0.1, high=8.0), per="species", sampled=False,
    )  # fmt: skip
    hidden: int = hyper(6, doc="hidden units of every species")
    n_radial: int = hyper(6, doc="radial symmetry functions of every species of neighbour")
    n_angular: int = hyper(2, doc="radial factors of angular functions, each with six angles")
    bond: float = hyper(2.5, unit="Å", doc="bond length that sets the scale of the functions")

    abstract: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if min(self.hidden, self.n_radial, self.n_angular) < 1:
            raise PriorError("hidden, n_radial and n_angular must be 1 or more")
        super().__post_init__()
        if np.ptp(self.cutoff) > 0:
            raise PriorError("NeuralNetwork has one cutoff: give all species the same")

    def features(self) -> list[str]:
        """Names of the symmetry functions of an atom."""
        radial = [f"r{m}({s})" for s in self.species for m in range(self.n_radial)]
        couples = [
            "-".join(sorted((s, t))) for k, s in enumerate(self.species) for t in self.species[k:]
        ]
        angular = [
            f"a{q}{'+' if sign > 0 else '-'}{zeta}({couple})"
            for couple in couples
            for q in range(self.n_angular)
            for sign in SIGNS
            for zeta in ZETAS
        ]
        return radial + angular

    def coordinates(self, per: str) -> list[str]:
        """Hidden units are "Si:2", their inputs "Si:2,r0(Si)"."""
        units = [f"{s}:{k}" for s in self.species for k in range(self.hidden)]
        if per == "unit":
            return units
        if per == "input":
            return [f"{unit},{feature}" for unit in units for feature in self.features()]
        return super().coordinates(per)

    def prior_of(self, item: Parameter, entry: int) -> Prior:
        """Weights shrink with the number of inputs, so that each unit stays of order one."""
        if item.name == "a":
            return Normal(0.0, 1.0 / sqrt(len(self.features())))
        if item.name == "b":
            return Normal(2.0 * (entry % self.hidden + 0.5) / self.hidden, 0.3)
        if item.name == "c":
            return Normal(0.0, 1.0 / sqrt(self.hidden), scale="energy")
        return item.prior

    @property
    def reach(self) -> float:
        """The cutoff, Å."""
        return float(np.max(self.cutoff))

    @classmethod
    def reach_of_priors(cls, hypers: Mapping[str, Any], priors: Mapping[str, Sequence[Prior]]
                        ) -> float:
        """The cutoff, or the upper bound of its prior where it is sampled, Å."""
        return largest(priors["cutoff"], "cutoff")

    def _radial(self, r: Any, n: int, cutoff: Any) -> Any:
        """``n`` Gaussians from 0.7 bond lengths to the cutoff, switched off over half of it."""
        first = 0.7 * self.bond
        step = (cutoff - first) / n
        centers = first + step * jnp.arange(n)
        shape = jnp.exp(-0.5 * ((r[..., None] - centers) / (0.75 * step)) ** 2)
        return shape * switch(r, cutoff, 0.5 * cutoff)[..., None]

    def symmetry_functions(self, vector: Any, chunk: Chunk) -> Any:
        """G of every atom, [A, n_features], from edge vectors [E, 3]."""
        n, n_atoms = len(self.species), chunk.species.shape[0]
        r = jnp.sqrt((vector * vector).sum(axis=1))
        cutoff = self.cutoff[0]
        terms = monomials(max(ZETAS))
        axes = [powers(vector[:, k] / r, max(ZETAS)) for k in range(3)]
        basis = jnp.stack([axes[0][i] * axes[1][j] * axes[2][k] for i, j, k, _ in terms], axis=1)
        factor = self._radial(r, self.n_angular, cutoff)
        columns = jnp.concatenate([
            self._radial(r, self.n_radial, cutoff),
            factor * factor,
            (factor[:, :, None] * basis[:, None, :]).reshape(len(r), -1),
        ], axis=1)
        segment = chunk.center * n + chunk.species[chunk.neighbor]
        sums = jax.ops.segment_sum(columns, segment, n_atoms * n, indices_are_sorted=True)
        sums = sums.reshape(n_atoms, n, -1)
        radial = sums[:, :, : self.n_radial].reshape(n_atoms, -1)
        own = sums[:, :, self.n_radial : self.n_radial + self.n_angular]
        moments = sums[:, :, self.n_radial + self.n_angular :]
        moments = moments.reshape(n_atoms, n, self.n_angular, len(terms))
        weights, straight = _angular_weights()
        angular = []
        for s in range(n):
            for t in range(s, n):
                both = jnp.einsum("aqm,zm->aqz", moments[:, s] * moments[:, t], weights)
                if s == t:  # each couple is counted twice, and j = k is none
                    both = 0.5 * (both - own[:, s, :, None] * straight)
                angular.append(both.reshape(n_atoms, -1))
        return jnp.concatenate([radial, *angular], axis=1)

    def _ideal_gas(self) -> tuple[Any, Any]:
        """Mean and sd of the symmetry functions of an atom in an ideal gas, [n_features].

        Let N and v be the integrals of n R and n R^2 over space, with the density n of a species.
        A sum over couples of R R h(theta) has the mean N^2 <h> / 2 and the variance
        N^2 v <h>^2 + v^2 <h^2> / 2; between two species it is twice both.
        """
        n = len(self.species)
        cutoff = self.cutoff[0]
        first = 0.7 * self.bond
        x = (jnp.arange(200) + 0.5) / 200
        r = first + (cutoff - first) * x
        shell = 4.0 * jnp.pi * r**2 * (cutoff - first) / 200 / (n * self.bond**3)

        def moments(size: int) -> tuple[Any, Any]:
            values = self._radial(r, size, cutoff)
            return shell @ values, shell @ values**2

        mean, square = moments(self.n_radial)
        shift, variance = [jnp.tile(mean, n)], [jnp.tile(square, n)]
        number, square = (m[:, None] for m in moments(self.n_angular))
        zeta = np.tile(ZETAS, len(SIGNS))
        h, h2 = 2.0 / (zeta + 1), 4.0 / (2 * zeta + 1)
        for s in range(n):
            for t in range(s, n):
                same = 0.5 if s == t else 1.0
                shift.append((same * number**2 * h).ravel())
                linear = number**2 * square * h**2  # of either species
                variance.append((2 * same * linear + same * square**2 * h2).ravel())
        return jnp.concatenate(shift), jnp.sqrt(jnp.concatenate(variance))

    def energy_and_edge_gradient(self, chunk: Chunk) -> tuple[Any, Any]:
        """See `Potential.energy_and_edge_gradient`."""
        n = len(self.species)
        shift, scale = self._ideal_gas()
        a = self.a.reshape(n, self.hidden, -1)[chunk.species]
        b, c = (w.reshape(n, self.hidden)[chunk.species] for w in (self.b, self.c))

        def unit(features: Any) -> Any:
            return jnp.tanh(jnp.einsum("ahf,af->ah", a, (features - shift) / scale) + b)

        alone = unit(jnp.zeros((chunk.species.shape[0], len(shift))))

        def energy(vector: Any) -> Any:
            return (c * (unit(self.symmetry_functions(vector, chunk)) - alone)).sum(axis=1)

        vector = chunk.direction * chunk.distance[chunk.pair][:, None]
        value, pull = jax.vjp(energy, vector)
        return value, pull(jnp.ones_like(value))[0]


def _angular_weights() -> tuple[np.ndarray, np.ndarray]:
    """2^(1-zeta) (1 + lambda cos)^zeta in the monomials of two unit vectors, and its value at 1.

    Shapes [signs * zetas, terms] and [signs * zetas].
    """
    terms = monomials(max(ZETAS))
    rows = [
        [
            2.0 ** (1 - zeta) * comb(zeta, i + j + k) * sign ** (i + j + k) * weight
            if i + j + k <= zeta else 0.0
            for i, j, k, weight in terms
        ]
        for sign in SIGNS for zeta in ZETAS
    ]
    straight = [2.0 ** (1 - zeta) * (1 + sign) ** zeta for sign in SIGNS for zeta in ZETAS]
    return np.array(rows), np.array(straight)
