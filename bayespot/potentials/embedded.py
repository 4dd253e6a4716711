r"""The shape of embedded-atom potentials: the author writes phi(r), rho(r) and F(rhobar).

.. math::
   E = \sum_i F_{s_i}(\bar\rho_i) + \tfrac12 \sum_{ij} \phi_{s_i s_j}(r_{ij}), \qquad
   \bar\rho_i = \sum_j w_{s_i s_j}\, \rho_{s_j}(r_{ij})

The setting ``density`` says what a density belongs to. With ``"species"`` it is the neighbour's
own (:math:`\rho_{s_j}`, LAMMPS' eam/alloy), with ``"pair"`` it depends on both, in order
(:math:`\rho_{s_i s_j}`, eam/fs).

The scale of all densities together is a gauge: it is taken up by F. So every density is a pure
number in a scale that the form fixes for each element, and only ratios between elements,
:math:`w`, are parameters: :math:`w_{ij} = w_j/w_i` in the first case, with one for the species
that comes first in the alphabet, and :math:`w_{ij}` free for :math:`i \ne j` in the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.errors import CutoffError, PriorError
from bayespot.graph import Chunk
from bayespot.potentials.base import Potential, hyper, param
from bayespot.potentials.cutoffs import switch
from bayespot.potentials.priors import LogNormal, Prior, largest

DENSITIES = ("species", "pair")
"""What a density belongs to: the neighbour alone, or the ordered pair."""


def guarded_sqrt(x: Any, small: float) -> Any:
    r"""Square root that ends smoothly at zero, where its own slope is infinite.

    .. math::
       \sqrt{x} \;\text{for}\; x \ge x_0, \qquad
       \frac{\sqrt{x_0}}{64} (105 t - 126 t^3 + 120 t^4 - 35 t^5), \;
       t = x/x_0 \;\text{for}\; 0 \le x < x_0

    Value and three derivatives agree at :math:`x_0`, value and curvature at zero are zero (a table
    takes its slope there from one side), and below zero it is a straight line. Without this an atom
    that leaves its last neighbour has a force of :math:`0 \cdot \infty`, and no cutoff is smooth,
    since :math:`\sqrt\rho` has one half of the zeros of :math:`\rho`.
    """
    t = jnp.clip(x / small, 0.0, 1.0)
    rise = t * (105.0 - t * t * (126.0 - t * (120.0 - 35.0 * t)))
    below = small**0.5 / 64.0 * (rise + 105.0 * jnp.minimum(x / small, 0.0))
    return jnp.where(x > small, jnp.sqrt(jnp.where(x > small, x, small)), below)


class EmbeddedSum(Potential):
    """Pairs and embedding of three families of functions of one number.

    A subclass gives ``pair_energy``, ``density_at`` and ``embedding``, each with the entries that
    its points belong to. Most forms are scalar formulas: they derive from `EmbeddedAtom`.
    """

    cutoff: Any = param(
        unit="Å",
        symbol="r_c",
        doc="distance at which the pair term ends",
        prior=LogNormal(6.0, 0.1, high=9.0),
        sampled=False,
    )
    density_cutoff: Any = param(
        unit="Å",
        symbol="d",
        doc="distance at which the density ends",
        prior=LogNormal(6.0, 0.1, high=9.0),
        per="density",
        sampled=False,
    )
    weight: Any = param(
        unit="1",
        symbol="w",
        doc="density that a species gives, relative to the species first in the alphabet",
        prior=LogNormal(1.0, 0.3),
        per="relative",
    )
    density: str = hyper("species", doc="a density belongs to the neighbour's 'species' (eam/alloy)"
                                        " or to the ordered 'pair' (eam/fs)")

    abstract: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.density not in DENSITIES:
            raise PriorError(f"density={self.density!r} is unknown: use one of {DENSITIES}")
        super().__post_init__()

    # --- which entry is what ----------------------------------------------------------------

    def coordinates(self, per: str) -> list[str]:
        """As `Potential.coordinates`, with densities ("Ni", or "Cu:Ni" of Ni at Cu) and ratios."""
        if per == "density":
            if self.density == "species":
                return list(self.species)
            return [f"{center}:{neighbor}" for center in self.species for neighbor in self.species]
        if per == "relative":
            if self.density == "species":
                return [s for s in self.species if s != min(self.species)]
            return [f"{a}:{b}" for a in self.species for b in self.species if a != b]
        return super().coordinates(per)

    def density_entry(self, center: Any, neighbor: Any) -> Any:
        """Entry of the density that ``neighbor`` gives to ``center`` (species indices)."""
        return neighbor if self.density == "species" else center * len(self.species) + neighbor

    def density_pairs(self) -> np.ndarray:
        """The species pair of every density entry: of the neighbour with its own kind, or i-j."""
        n = len(self.species)
        if self.density == "species":
            return np.array([self.pair_number(a, a) for a in range(n)])
        return np.array([self.pair_number(a, b) for a in range(n) for b in range(n)])

    def like(self, per: str) -> np.ndarray:
        """Entry of each species with its own kind, among the entries of a pair or density."""
        n = len(self.species)
        if per == "pair":
            return np.array([self.pair_number(a, a) for a in range(n)])
        return np.array([int(self.density_entry(a, a)) for a in range(n)])

    def ratios(self) -> Any:
        """The weights w of the densities, [centre, neighbour]."""
        n = len(self.species)
        if self.density == "species":
            free = np.array([k for k, s in enumerate(self.species) if s != min(self.species)], int)
            own = jnp.ones(n).at[free].set(self.weight)
            return own[None, :] / own[:, None]
        row, column = np.nonzero(~np.eye(n, dtype=bool))
        return jnp.ones((n, n)).at[row, column].set(self.weight)

    # --- the three functions ----------------------------------------------------------------

    def pair_energy(self, r: Any, entry: Any) -> Any:
        """Pair term with its end, eV, at distances ``r`` (Å) of the species pairs ``entry``."""
        raise TypeError(f"{type(self).__name__} must define pair_energy(self, r, entry)")

    def density_at(self, r: Any, entry: Any) -> Any:
        """Density with its end and without the weight, at ``r`` (Å) of the entries ``entry``."""
        raise TypeError(f"{type(self).__name__} must define density_at(self, r, entry)")

    def embedding(self, rhobar: Any, kind: Any) -> Any:
        """Embedding energy, eV, of densities ``rhobar`` at atoms of the species ``kind``."""
        raise TypeError(f"{type(self).__name__} must define embedding(self, rhobar, kind)")

    @property
    def reach(self) -> float:
        """The largest cutoff, Å."""
        return float(max(np.max(self.cutoff), np.max(self.density_cutoff)))

    @classmethod
    def reach_of_priors(cls, hypers: Mapping[str, Any], priors: Mapping[str, Sequence[Prior]]
                        ) -> float:
        """Largest cutoff, or the upper bound of its prior where it is sampled, Å."""
        names = ("cutoff", "density_cutoff")
        return max(largest(priors[name], name) for name in names)

    # --- energy -----------------------------------------------------------------------------

    def _radial(self, chunk: Chunk) -> Any:
        """Of every directed edge: half the pair term, its slope, the density felt, its slope."""
        n, r = len(self.species), chunk.distance
        one = jnp.ones_like(r)
        phi, dphi = jax.jvp(lambda x: self.pair_energy(x, chunk.pair_species), (r,), (one,))
        if n == 1:
            rho, drho = jax.jvp(lambda x: self.density_at(x, 0), (r,), (one,))
            return jnp.stack([0.5 * phi, 0.5 * dphi, rho, drho], axis=1)[chunk.pair]
        ends = np.array([(a, b) for a in range(n) for b in range(a, n)])
        low, high = (jnp.asarray(ends)[chunk.pair_species, k] for k in (0, 1))
        ratios = self.ratios()
        columns = [0.5 * phi, 0.5 * dphi]
        for center, neighbor in ((low, high), (high, low)):
            entry = self.density_entry(center, neighbor)
            both = jax.jvp(lambda x, entry=entry: self.density_at(x, entry), (r,), (one,))
            columns += [ratios[center, neighbor] * value for value in both]
        edges = jnp.stack(columns, axis=1)[chunk.pair]
        at_low = chunk.species[chunk.center] <= chunk.species[chunk.neighbor]
        felt = jnp.where(at_low[:, None], edges[:, 2:4], edges[:, 4:6])
        return jnp.concatenate([edges[:, :2], felt], axis=1)

    def energy_and_edge_gradient(self, chunk: Chunk) -> tuple[Any, Any]:
        """See `Potential.energy_and_edge_gradient`."""
        n_atoms = chunk.species.shape[0]
        edges = self._radial(chunk)
        sums = jax.ops.segment_sum(
            jnp.stack([edges[:, 0], edges[:, 2]], axis=1), chunk.center, n_atoms,
            indices_are_sorted=True,
        )  # fmt: skip
        # All padding piles up on the dummy atom, in a density that no formula was made for.
        rhobar = jnp.where(np.arange(n_atoms) < n_atoms - 1, sums[:, 1], 0.0)
        energy, slope = jax.jvp(
            lambda x: self.embedding(x, chunk.species), (rhobar,), (jnp.ones_like(rhobar),)
        )
        along = edges[:, 1] + slope[chunk.center] * edges[:, 3]
        return energy + sums[:, 0], along[:, None] * chunk.direction


class EmbeddedAtom(EmbeddedSum):
    r"""Embedded atom of scalar formulas.

    A subclass writes ``phi(self, r)`` with the parameters of a pair, ``rho(self, r)`` with those
    of a density and of its pair, and ``F(self, rhobar)`` with those of a species. Pair term and
    density are multiplied by the smooth switch of `bayespot.potentials.cutoffs`; a switching width
    of zero leaves them as they are written. ``F`` must be zero and differentiable at zero, see
    `guarded_sqrt`: the energy of an isolated atom is ``e0``.
    """

    switch_width: Any = param(
        unit="Å",
        symbol="w_c",
        doc="range of the smooth switch of the pair term",
        prior=LogNormal(1.0, 0.3),
        sampled=False,
    )
    density_switch_width: Any = param(
        unit="Å",
        symbol="w_d",
        doc="range of the smooth switch of the density",
        prior=LogNormal(1.0, 0.3),
        per="density",
        sampled=False,
    )

    abstract: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for width, cutoff in zip((*self.switch_width, *self.density_switch_width),
                                 (*self.cutoff, *self.density_cutoff), strict=True):
            if not 0 <= width < cutoff:
                raise CutoffError(
                    f"a switching width of {width} Å must be between 0 and its cutoff {cutoff} Å"
                )

    def phi(self, r: Any) -> Any:
        """Pair term at distance ``r`` (Å), eV, without the switch."""
        raise TypeError(f"{type(self).__name__} must define phi(self, r)")

    def rho(self, r: Any) -> Any:
        """Density of a neighbour at distance ``r`` (Å), a pure number, without the switch."""
        raise TypeError(f"{type(self).__name__} must define rho(self, r)")

    def F(self, rhobar: Any) -> Any:  # noqa: N802  (the field's letter)
        """Embedding energy, eV."""
        raise TypeError(f"{type(self).__name__} must define F(self, rhobar)")

    def pair_view(self, entry: Any) -> Self:
        """The parameters of pairs, for ``phi``."""
        return self.at("pair", entry)

    def density_view(self, entry: Any) -> Self:
        """The parameters of densities and of the pairs that belong to them, for ``rho``."""
        return self.at("density", entry).at("pair", jnp.asarray(self.density_pairs())[entry])

    def species_view(self, kind: Any) -> Self:
        """The parameters of species, for ``F``."""
        return self.at("species", kind)

    def pair_energy(self, r: Any, entry: Any) -> Any:
        """See `EmbeddedSum.pair_energy`."""
        view = self.pair_view(entry)
        return view.phi(r) * switch(r, view.cutoff, view.switch_width)

    def density_at(self, r: Any, entry: Any) -> Any:
        """See `EmbeddedSum.density_at`."""
        view = self.density_view(entry)
        return view.rho(r) * switch(r, view.density_cutoff, view.density_switch_width)

    def embedding(self, rhobar: Any, kind: Any) -> Any:
        """See `EmbeddedSum.embedding`."""
        return self.species_view(kind).F(rhobar)
