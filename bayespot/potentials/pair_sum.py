"""The shape of pair forms whose formula ends by itself: the author writes the whole energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.graph import Chunk
from bayespot.potentials.base import Potential
from bayespot.potentials.priors import Prior, largest


class PairSum(Potential):
    r"""Sum over pairs, :math:`E = \sum_{i<j} \varphi(r_{ij})`.

    A subclass writes ``pair_energy(self, r)`` for one distance, zero beyond the reach and smooth
    there; its parameters are the entries of that pair of species. It ends at its ``cutoff``, a
    parameter by pair (or says otherwise in ``reach``). Forms that need a switch to end inherit
    `bayespot.potentials.pair.PairPotential` instead.
    """

    abstract: ClassVar[bool] = True

    def pair_energy(self, r: Any) -> Any:
        """Energy of a pair at distance ``r`` (Å), eV."""
        raise TypeError(f"{type(self).__name__} must define pair_energy(self, r)")

    @property
    def reach(self) -> float:
        """The largest cutoff, Å."""
        return float(np.max(self.cutoff))

    @classmethod
    def reach_of_priors(cls, hypers: Mapping[str, Any], priors: Mapping[str, Sequence[Prior]]
                        ) -> float:
        """Largest cutoff, or the upper bound of its prior where it is sampled, Å."""
        return largest(priors["cutoff"], "cutoff")

    def energy_and_edge_gradient(self, chunk: Chunk) -> tuple[Any, Any]:
        """See `Potential.energy_and_edge_gradient`."""
        r = chunk.distance
        view = self.at("pair", chunk.pair_species)
        value, slope = jax.jvp(view.pair_energy, (r,), (jnp.ones_like(r),))
        # Each directed edge carries half of its pair.
        half = 0.5 * jnp.stack([value, slope], axis=1)[chunk.pair]
        energy = jax.ops.segment_sum(
            half[:, 0], chunk.center, chunk.species.shape[0], indices_are_sorted=True
        )
        return energy, half[:, 1:] * chunk.direction
