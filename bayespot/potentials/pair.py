"""The shape of a pair potential: the author writes phi(r)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from bayespot.errors import CutoffError
from bayespot.graph import Chunk
from bayespot.potentials.base import Potential, hyper
from bayespot.potentials.cutoffs import switch
from bayespot.potentials.priors import Prior


class PairPotential(Potential):
    r"""Sum over pairs, :math:`E = \sum_{i<j} \phi(r_{ij})\, S(r_{ij})`.

    A subclass writes ``phi(self, r)`` for one distance; its parameters are the entries of that
    pair of species. ``S`` is the smooth switch of `bayespot.potentials.cutoffs`.
    """

    cutoff: float = hyper(6.0, unit="Å", doc="distance at which the interaction ends")
    switch_width: float = hyper(1.0, unit="Å", doc="range of the smooth switch below the cutoff")

    abstract: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.switch_width < self.cutoff:
            raise CutoffError(
                f"switch_width {self.switch_width} Å must be between 0 and the cutoff "
                f"{self.cutoff} Å"
            )

    def phi(self, r: Any) -> Any:
        """Energy of a pair at distance ``r`` (Å), eV, without the switch."""
        raise TypeError(f"{type(self).__name__} must define phi(self, r)")

    @property
    def reach(self) -> float:
        """The cutoff, Å."""
        return float(self.cutoff)

    @classmethod
    def reach_of_priors(cls, hypers: Mapping[str, Any], priors: Mapping[str, Sequence[Prior]]
                        ) -> float:
        """The cutoff is a setting and not sampled."""
        return float(hypers["cutoff"])

    def energy_and_edge_gradient(self, chunk: Chunk) -> tuple[Any, Any]:
        """See `Potential.energy_and_edge_gradient`."""
        view = self.at("pair", chunk.pair_species)

        def phi_switched(r: Any) -> Any:
            return view.phi(r) * switch(r, self.cutoff, self.switch_width)

        r = chunk.distance
        value, slope = jax.jvp(phi_switched, (r,), (jnp.ones_like(r),))
        # Each directed edge carries half of its pair.
        half = 0.5 * jnp.stack([value, slope], axis=1)[chunk.pair]
        energy = jax.ops.segment_sum(
            half[:, 0], chunk.center, chunk.species.shape[0], indices_are_sorted=True
        )
        return energy, half[:, 1:] * chunk.direction
