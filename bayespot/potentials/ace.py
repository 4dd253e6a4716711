r"""Linear atomic cluster expansion (ACE), body orders two to five, any number of species.

.. math::
   E = \sum_i \Big[ e_0(z_i) + \sum_b c_b^{(z_i)} B_b(i) \Big] + \sum_{i<j} V_\mathrm{core}(r_{ij}),
   \qquad A_{znlm}(i) = \sum_{j \in z} R_n(r_{ij})\, C_{lm}(\hat r_{ij})

with :math:`B = A_{zn00}`, :math:`\sum_m A_{znlm} A_{z'n'lm}`,
:math:`\sum_{m_1 m_2 m_3} K_{m_1 m_2 m_3} A_{1} A_{2} A_{3}` and the same with four factors:
invariant under rotations, reflections and permutations. Radial and angular functions are in
`bayespot.potentials.ace_functions`. The core is the repulsion of Ziegler, Biersack and Littmark and
is not fitted.

References
----------
R. Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.
G. Dusson et al., J. Comput. Phys. 454, 110946 (2022), doi:10.1016/j.jcp.2022.110946.
W. C. Witt et al., J. Chem. Phys. 159, 164101 (2023), doi:10.1063/5.0158783: prior and map of
distances.
J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Solids (1985).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import log
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers

from bayespot.errors import CutoffError, PriorError
from bayespot.graph import Chunk
from bayespot.potentials.ace_basis import Basis, contracted, make_basis
from bayespot.potentials.ace_design import design_block
from bayespot.potentials.ace_functions import distance_map, harmonics, radial
from bayespot.potentials.base import Parameter, hyper, param
from bayespot.potentials.cutoffs import switch
from bayespot.potentials.linear import Block, LinearPotential
from bayespot.potentials.priors import LogNormal, Normal, Prior, largest

COULOMB = 14.399645478
"""e^2 / (4 pi epsilon_0), eV Å."""

BOHR = 0.529177210903


@lru_cache(maxsize=64)
def _kept(species: tuple[str, ...], basis: Basis) -> np.ndarray:
    """Functions with a coefficient, among [centre, function] flattened.

    A pair function of unlike species is the same sum seen from either end; it stays with the
    centre that comes first in the alphabet.
    """
    keep = np.ones((len(species), basis.size), bool)
    for group in basis.groups:
        if len(group.ls) == 1:
            neighbors = [species[q // basis.n_radial] for q in group.q[:, 0]]
            for a, center in enumerate(species):
                keep[a, group.functions] = [center <= other for other in neighbors]
    return np.flatnonzero(keep)


class ACE(LinearPotential):
    r"""Linear ACE with a smoothness prior.

    A coefficient of order :math:`\nu` has the prior standard deviation

    .. math::
       s_b = a_\nu\, (1 + N_b)^{-p_\nu}\, (1 + L_b)^{-q_\nu}

    with :math:`N_b` and :math:`L_b` the sums of its radial and angular degrees; `linear_gaussian`
    chooses amplitudes and powers by their evidence. The default basis is small, for a first look:
    fits to DFT data want degrees of 12 to 20.
    """

    cutoff: Any = param(
        unit="Å", symbol="r_c", doc="distance at which the interaction ends",
        prior=LogNormal(5.0, 0.1, high=9.0), sampled=False,
    )
    r0: Any = param(
        unit="Å", symbol="r_0", doc="distance that the radial functions resolve best",
        prior=LogNormal(1.0, 0.1, scale="length"), sampled=False,
    )
    degree_1: int = hyper(5, doc="largest total degree of pair functions")
    degree_2: int = hyper(3, doc="largest total degree of three-body functions")
    degree_3: int = hyper(2, doc="largest total degree of four-body functions; -1 for none")
    degree_4: int = hyper(-1, doc="largest total degree of five-body functions; -1 for none")
    angular_weight: float = hyper(1.0, doc="cost of an angular degree in radial degrees")
    degree_l: int = hyper(20, doc="largest angular degree of a factor")
    map_p: float = hyper(2.0, doc="power p of the map of distances")
    map_q: float = hyper(4.0, doc="power q of the map of distances")
    core: float = hyper(0.8, doc="range of the core repulsion in units of r0; 0 for none")
    log_a_1: float = hyper(0.0, doc="logarithm of the prior amplitude of pair functions in eV")
    log_a_2: float = hyper(-1.0, doc="logarithm of the amplitude of three-body functions in eV")
    log_a_3: float = hyper(-2.0, doc="logarithm of the amplitude of four-body functions in eV")
    log_a_4: float = hyper(-2.0, doc="logarithm of the amplitude of five-body functions in eV")
    p_1: float = hyper(2.0, doc="fall of the prior of pair functions with the radial degree")
    p_2: float = hyper(2.0, doc="fall of the prior of three-body functions, radial")
    p_3: float = hyper(2.0, doc="fall of the prior of four-body functions, radial")
    p_4: float = hyper(2.0, doc="fall of the prior of five-body functions, radial")
    q_2: float = hyper(2.0, doc="fall of the prior of three-body functions, angular")
    q_3: float = hyper(2.0, doc="fall of the prior of four-body functions, angular")
    q_4: float = hyper(2.0, doc="fall of the prior of five-body functions, angular")

    abstract: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (np.asarray(self.cutoff) > np.asarray(self.r0)).all():
            raise CutoffError(f"cutoff {self.cutoff} Å must be larger than r0 {self.r0} Å")
        p, q = self.map_p, self.map_q
        if not (0 < p <= q and 2 * p * q > p + q):
            raise PriorError(f"map_p={p:g}, map_q={q:g}: the map of distances needs 0 < p <= q and "
                             "2 p q > p + q, as 2 and 4 have")

    @property
    def basis(self) -> Basis:
        """The basis functions of one centre."""
        degrees = (self.degree_1, self.degree_2, self.degree_3, self.degree_4)
        return make_basis(len(self.species), degrees, self.angular_weight, self.degree_l)

    @property
    def kept(self) -> np.ndarray:
        """Functions with a coefficient, among [centre, function] flattened."""
        return _kept(self.species, self.basis)

    def coordinates(self, per: str) -> list[str]:
        """Functions are named centre:neighbour(n,l)neighbour(n,l)..., "Si:Si(2,1)Ge(1,1)".

        Four factors are followed by the degree to which they are coupled in pairs, "L2".
        """
        if per != "function":
            return super().coordinates(per)
        names = []
        for group in self.basis.groups:
            for row in group.q:
                names.append("".join(sorted(
                    f"{self.species[q // self.basis.n_radial]}({q % self.basis.n_radial},{ell})"
                    for q, ell in zip(row, group.ls, strict=True)
                )) + (f"L{group.through}" if len(group.ls) > 3 else ""))
        every = [f"{center}:{name}" for center in self.species for name in names]
        return [every[k] for k in self.kept]

    def prior_slopes(self) -> tuple[tuple[str, ...], np.ndarray]:
        """See `LinearPotential.prior_slopes`."""
        basis, columns = self.basis, {}
        for nu in (1, 2, 3, 4):
            if (mine := basis.order == nu).any():
                columns[f"log_a_{nu}"] = 1.0 * mine
                columns[f"p_{nu}"] = -np.log1p(basis.n_sum) * mine
                if nu > 1:
                    columns[f"q_{nu}"] = -np.log1p(basis.l_sum) * mine
        slopes = np.stack(list(columns.values()), axis=1)
        return tuple(columns), slopes[self.kept % basis.size]

    def prior_of(self, item: Parameter, entry: int) -> Prior:
        """Prior of one entry; that of a coefficient falls with its degrees."""
        if item.name != "c":
            return item.prior
        basis, b = self.basis, self.kept[entry] % self.basis.size
        nu, n, ell = basis.order[b], basis.n_sum[b], basis.l_sum[b]
        fall = getattr(self, f"p_{nu}") * log(1 + n) + (
            getattr(self, f"q_{nu}") * log(1 + ell) if nu > 1 else 0.0
        )
        return Normal(0.0, float(np.exp(getattr(self, f"log_a_{nu}") - fall)))

    @property
    def reach(self) -> float:
        """The largest cutoff, Å."""
        return float(np.max(self.cutoff))

    @classmethod
    def reach_of_priors(cls, hypers: Mapping[str, Any], priors: Mapping[str, Sequence[Prior]]
                        ) -> float:
        """Largest cutoff, or the upper bound of its prior where it is sampled, Å."""
        return largest(priors["cutoff"], "cutoff")

    def held(self) -> ACE | None:
        """See `LinearPotential.held`: the core, with the smallest basis that there is."""
        if self.core <= 0:
            return None
        kinds = len(self.species)
        return self.replace(degree_1=0, degree_2=-1, degree_3=-1, degree_4=-1, c=np.zeros(1),
                            e0=np.zeros(kinds))

    def design_block(self, block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `LinearPotential.design_block`."""
        rows = design_block(self.basis, block, np.asarray(self.r0), np.asarray(self.cutoff),
                            (self.map_p, self.map_q))
        if len(self.species) == 1:
            return rows
        kept = self.kept
        return rows[0][kept], rows[1][kept], rows[2][kept]

    def energy_and_edge_gradient(self, chunk: Chunk) -> tuple[Any, Any]:
        """See `Potential.energy_and_edge_gradient`."""
        basis, n, n_atoms = self.basis, len(self.species), chunk.species.shape[0]
        view = self.at("pair", chunk.pair_species)
        r = chunk.distance
        x, dx = distance_map(r, view.r0, view.cutoff, self.map_p, self.map_q)
        value, slope = (jnp.stack(f, axis=1) for f in radial(x, dx, basis.n_radial - 1))
        core, d_core = self._core(chunk, view)
        value, slope, over_r = (v[chunk.pair] for v in (value, slope, value / r[:, None]))
        y, gradient = harmonics(chunk.direction, basis.l_max)
        y = [jnp.stack(part, axis=1) for part in y]
        kind = chunk.species[chunk.neighbor]
        segment = chunk.center * n + kind if n > 1 else chunk.center

        def moment(ell: int) -> Any:
            terms = (value[:, :, None] * y[ell][:, None]).reshape(len(segment), -1)
            sums = jax.ops.segment_sum(terms, segment, n_atoms * n, indices_are_sorted=True)
            return sums.reshape(n_atoms, -1, 2 * ell + 1).transpose(2, 1, 0)

        moments = [moment(ell) for ell in range(basis.l_max + 1)]
        energy, pull = jax.vjp(lambda m: self._polynomial(m, chunk.species), moments)
        force = 0.5 * d_core[chunk.pair][:, None] * chunk.direction
        for ell, back in enumerate(pull(jnp.ones(n_atoms))[0]):
            mine = back.transpose(2, 1, 0).reshape(n_atoms * n, basis.n_radial, -1)[segment]
            along = (jnp.einsum("enm,en->em", mine, slope) * y[ell]).sum(axis=1)
            across = jnp.einsum("enm,en->em", mine, over_r)
            tangent = jnp.stack([
                sum(across[:, m] * part[k] for m, part in enumerate(gradient[ell]))
                for k in range(3)
            ], axis=1)
            tangent = tangent - (tangent * chunk.direction).sum(axis=1, keepdims=True) * (
                chunk.direction
            )
            force = force + along[:, None] * chunk.direction + tangent
        pairs = jax.ops.segment_sum(
            0.5 * core[chunk.pair], chunk.center, n_atoms, indices_are_sorted=True
        )
        return energy + pairs, force

    def _polynomial(self, moments: list[Any], species: Any) -> Any:
        """Energy of every atom from its moments [2 l + 1, Q, A]."""
        basis = self.basis
        c = jnp.zeros(len(self.species) * basis.size).at[self.kept].set(self.c)
        c = c.reshape(len(self.species), basis.size)
        energy = 0.0
        for group in basis.groups:
            own = moments[group.ls[0]][:, group.q[:, 0]]
            value = (own * contracted(group.plans[0], moments)).sum(axis=0)
            weight = c[:, group.functions]
            weight = weight[species].T if len(self.species) > 1 else weight[0][:, None]
            energy = energy + (weight * value).sum(axis=0)
        return energy

    def _core(self, chunk: Chunk, view: Any) -> tuple[Any, Any]:
        """Energy of the core repulsion of every pair and its slope."""
        r = chunk.distance
        if self.core <= 0:
            return jnp.zeros_like(r), jnp.zeros_like(r)
        z = np.array([float(atomic_numbers.get(s, 0)) for s in self.species])
        low, high = np.triu_indices(len(z))
        product, length = z[low] * z[high], 0.88534 * BOHR / np.maximum(
            z[low] ** 0.23 + z[high] ** 0.23, 1.0
        )
        kind = chunk.pair_species if len(z) > 1 else 0
        product, length = jnp.asarray(product)[kind], jnp.asarray(length)[kind]
        end = self.core * view.r0

        def energy(distance: Any) -> Any:
            s = distance / length
            screen = sum(
                a * jnp.exp(-b * s)
                for a, b in ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029),
                             (0.02817, 0.20162))
            )
            return COULOMB * product / distance * screen * switch(distance, end, 0.5 * end)

        return jax.jvp(energy, (r,), (jnp.ones_like(r),))
