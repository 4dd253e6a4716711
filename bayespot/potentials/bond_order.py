r"""The shape of bond-order potentials: a pair whose attraction depends on its surroundings.

.. math::
   E = \frac12 \sum_i \sum_{j \ne i} \left[ V_R(r_{ij}) - b_{ij}\, V_A(r_{ij}) \right], \qquad
   b_{ij} = b(\zeta_{ij}), \qquad
   \zeta_{ij} = \sum_{k \ne i, j} \omega_{ijk}\, f(r_{ik})\, g(\cos\theta_{jik})\,
                h(r_{ij} - r_{ik})

The bond from i to j is weakened by the further neighbours k of i. Each couple of neighbours of i is
listed once and counts twice: k weakens the bond to j, and j the bond to k. Cost grows with the
number of couples; everything is differentiated by hand up to the scalar functions of the author.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.graph import Chunk
from bayespot.potentials.base import Potential, param
from bayespot.potentials.priors import LogNormal


class BondOrderPotential(Potential):
    r"""Sum over bonds with a bond order.

    A subclass writes with the parameters of a pair ``repulsion(self, r)``,
    ``attraction(self, r)`` (positive) and ``weight(self, r)``, the :math:`f` above, which all
    vanish smoothly at the reach; with those of a bond angle ``angle(self, cos)`` and
    ``stretch(self, difference)``; and with those of a bond ``order(self, zeta)``.

    Three kinds of entries belong to this shape. What belongs to i, j, k in their order is named by
    the atoms with the centre in the middle, and after the colon

    * "bond": from a centre i to a neighbour j, "Si-C:Si" with the centre after the colon;
    * "angle": a bond from i to j seen by k, "C-Si-Ge:C" with the bond's j after the colon;
    * "third": those of them in which k is of another species than j.

    How much a third atom of j's own species weakens the bond is said by ``order`` already, so
    :math:`\omega` exists for others only and no direction of the parameter space is flat.
    """

    omega: Any = param(
        unit="1",
        symbol=r"\omega",
        doc="weight of a third atom relative to one of the bonded species",
        prior=LogNormal(1.0, 0.5),
        per="third",
    )

    abstract: ClassVar[bool] = True
    needs_triplets: ClassVar[bool] = True

    def repulsion(self, r: Any) -> Any:
        """Repulsion of a pair, eV."""
        raise TypeError(f"{type(self).__name__} must define repulsion(self, r)")

    def attraction(self, r: Any) -> Any:
        """Attraction of a pair at bond order one, a positive number, eV."""
        raise TypeError(f"{type(self).__name__} must define attraction(self, r)")

    def weight(self, r: Any) -> Any:
        """How much of a neighbour a third atom at distance ``r`` is."""
        raise TypeError(f"{type(self).__name__} must define weight(self, r)")

    def angle(self, cos: Any) -> Any:
        """How much a third atom weakens a bond, by the angle between them."""
        raise TypeError(f"{type(self).__name__} must define angle(self, cos)")

    def stretch(self, difference: Any) -> Any:
        """The same by the difference of the two distances, bond minus third atom, Å."""
        raise TypeError(f"{type(self).__name__} must define stretch(self, difference)")

    def order(self, zeta: Any) -> Any:
        """Bond order."""
        raise TypeError(f"{type(self).__name__} must define order(self, zeta)")

    def coordinates(self, per: str) -> list[str]:
        """See `Potential.coordinates` and the class."""
        if per not in ("bond", "angle", "third"):
            return super().coordinates(per)
        count, names = range(len(self.species)), []
        for i in count:
            for j in count:
                if per == "bond":
                    low, high = sorted((i, j))
                    pair = f"{self.species[low]}-{self.species[high]}"
                    names.append(f"{pair}:{self.species[i]}")
                    continue
                for k in count:
                    if per == "angle" or k != j:
                        low, high = sorted((j, k))
                        ends = self.species[low], self.species[high]
                        names.append(f"{ends[0]}-{self.species[i]}-{ends[1]}:{self.species[j]}")
        return names

    def weights(self) -> Any:
        """The omegas of all i, j, k in order, one where k is of the species of j, [n ** 3]."""
        n = len(self.species)
        if n == 1:
            return jnp.ones(1)
        i, j, k = (a.ravel() for a in np.indices((n, n, n)))
        same = j == k
        number = np.where(same, 0, (i * n + j) * (n - 1) + k - (k > j))
        return jnp.where(same, 1.0, jnp.asarray(self.omega)[number])

    def energy_and_edge_gradient(self, chunk: Chunk) -> tuple[Any, Any]:
        """See `Potential.energy_and_edge_gradient`."""
        n, n_atoms = len(self.species), chunk.species.shape[0]
        n_edges = chunk.center.shape[0]
        pair = self.at("pair", chunk.pair_species)
        columns = []
        for scalar in (pair.repulsion, pair.attraction, pair.weight):
            columns += jax.jvp(scalar, (chunk.distance,), (jnp.ones_like(chunk.distance),))
        columns = jnp.stack(columns, axis=1)[chunk.pair]
        v_r, dv_r, v_a, dv_a = (columns[:, k] for k in range(4))

        edges = chunk.triplet_edges[:, 0], chunk.triplet_edges[:, 1]
        kind = chunk.species[chunk.neighbor]
        bond_number = chunk.species[chunk.center] * n + kind
        along = [chunk.direction[e] for e in edges]
        distance = chunk.distance[chunk.pair]
        r = [distance[e] for e in edges]
        ends = [columns[:, 4:][e] for e in edges]  # f and its slope at both neighbours
        cos = (along[0] * along[1]).sum(axis=1)
        weights = self.weights()
        terms = []  # for each of the two roles: g h, dg h, g dh
        for bond, third in ((0, 1), (1, 0)):
            number = bond_number[edges[bond]] * n + kind[edges[third]]
            view = self.at("angle", number)
            g, dg = jax.jvp(view.angle, (cos,), (jnp.ones_like(cos),))
            gap = r[bond] - r[third]
            h, dh = jax.jvp(view.stretch, (gap,), (jnp.ones_like(gap),))
            w = chunk.triplet_mask * (weights[number] if n > 1 else 1.0)
            terms.append((w * g * h, w * dg * h, w * g * dh))

        def sum_to_edges(first: Any, second: Any) -> Any:
            # Couples are sorted by their first edge.
            sorted_sum = jax.ops.segment_sum(first, edges[0], n_edges, indices_are_sorted=True)
            return sorted_sum + jax.ops.segment_sum(second, edges[1], n_edges)

        zeta = sum_to_edges(ends[1][:, 0] * terms[0][0], ends[0][:, 0] * terms[1][0])
        order = self.at("bond", bond_number).order
        b, db = jax.jvp(order, (zeta,), (jnp.ones_like(zeta),))
        half = 0.5 * (v_r - b * v_a)
        energy = jax.ops.segment_sum(half, chunk.center, n_atoms, indices_are_sorted=True)

        pull = -0.5 * v_a * db  # dE / d zeta
        radial, d_cos = [0.0, 0.0], 0.0
        for bond, (gh, dg_h, g_dh) in enumerate(terms):
            third = 1 - bond
            z, f, df = pull[edges[bond]], ends[third][:, 0], ends[third][:, 1]
            radial[bond] += z * f * g_dh
            radial[third] += z * (df * gh - f * g_dh)
            d_cos += z * f * dg_h
        bent = [
            slope[:, None] * own + (other - cos[:, None] * own) * (d_cos / length)[:, None]
            for slope, own, other, length in zip(radial, along, along[::-1], r, strict=True)
        ]
        gradient = (0.5 * (dv_r - b * dv_a))[:, None] * chunk.direction
        return energy, gradient + sum_to_edges(*bent)
