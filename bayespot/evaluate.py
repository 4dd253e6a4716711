"""Energies, forces, stresses and their derivatives with respect to parameters.

The only place where edge gradients become forces and stresses and where anything is differentiated
with respect to parameters. Work goes chunk by chunk inside a compiled loop; nothing is vectorised
over chunks or draws on a CPU, which was measured to be slower (temporaries leave the cache).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayespot.errors import CutoffError
from bayespot.graph import Chunk, NeighborGraph
from bayespot.potentials.base import Potential
from bayespot.potentials.linear import LinearPotential
from bayespot.potentials.sums import SumPotential
from bayespot.runtime import require_x64
from bayespot.units import VOIGT


class Labels3(NamedTuple):
    """Energies, forces and stresses, of a chunk or in the order of the structures."""

    energy: Any  # [S] or [n_structures], eV of the whole cell
    forces: Any  # [A, 3] or [n_atoms, 3], eV/Å
    stress: Any  # [S, 6] or [n_structures, 6], eV/Å^3; zero where there is no volume


def evaluate_chunk(potential: Potential, chunk: Chunk) -> Labels3:
    r"""Energies, forces and stresses of one chunk.

    With :math:`G_{ij} = \partial E / \partial r_{ij}` of the directed edges,

    .. math::
       F_i = \sum_j (G_{ij} - G_{ji}), \qquad
       \sigma = \frac1V \sum_{ij} r_{ij} \otimes G_{ij}
    """
    n_atoms, n_structures = chunk.species.shape[0], chunk.volume.shape[0]
    atom_energy, gradient = potential.energy_and_edge_gradient(chunk)
    # Antisymmetrised by the reversed edge: one sorted sum, no scatter to the neighbours.
    forces = gradient - gradient[chunk.reverse]
    vector = chunk.direction * chunk.distance[chunk.pair][:, None]
    virial = jnp.stack([vector[:, a] * gradient[:, b] for a, b in VOIGT], axis=1)
    sums = jax.ops.segment_sum(
        jnp.concatenate([forces, virial], axis=1), chunk.center, n_atoms, indices_are_sorted=True
    )
    per_structure = jax.ops.segment_sum(
        jnp.concatenate([atom_energy[:, None], sums[:, 3:]], axis=1),
        chunk.structure,
        n_structures,
        indices_are_sorted=True,
    )
    energy = per_structure[:, 0] + chunk.composition @ potential.e0
    return Labels3(energy, sums[:, :3], per_structure[:, 1:] / chunk.volume[:, None])


def chunk_sum(function: Callable[[Any], Any], n_chunks: Any) -> Any:
    """Sum of ``function(k)`` over the chunks in use; compiled, not differentiable."""
    shapes = jax.eval_shape(function, 0)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return lax.fori_loop(0, n_chunks, lambda k, total: jax.tree.map(jnp.add, total, function(k)),
                         zero)


@jax.jit
def _evaluate(potential: Potential, chunks: Chunk) -> Labels3:
    return lax.map(lambda chunk: evaluate_chunk(potential, chunk), chunks)


@jax.jit
def _evaluate_draws(potentials: Potential, chunks: Chunk) -> Labels3:
    return lax.map(lambda one: _evaluate(one, chunks), potentials)


def _unpack(out: Labels3, graph: NeighborGraph, axis: int = 0) -> Labels3:
    """From padded chunks to the order of the structures."""
    return Labels3(
        graph.by_structure(out.energy, axis),
        graph.by_atom(out.forces, axis),
        graph.by_structure(out.stress, axis),
    )


def check_reach(reach: float, cutoff: float) -> None:
    """Raise `CutoffError` if a potential reaches past the graph it would be evaluated on."""
    if reach > cutoff * (1 + 1e-12):
        raise CutoffError(
            f"the potential reaches {reach:.4f} Å, the neighbour graph ends at {cutoff:.4f} Å: "
            "build the graph with a larger cutoff; neighbours are never silently cut"
        )


def evaluate(potential: Potential, graph: NeighborGraph, *, cutoff: float) -> Labels3:
    """Energies (eV), forces (eV/Å) and stresses (eV/Å^3, Voigt) of all structures of a graph.

    Parameters
    ----------
    potential : Potential
        One potential, without an axis of draws.
    graph : NeighborGraph
    cutoff : float
        The cutoff that the graph was built with, Å.

    Raises
    ------
    CutoffError
        If the potential reaches farther than the graph.
    PrecisionError
        If JAX is in single precision.
    """
    require_x64()
    check_reach(potential.reach, cutoff)
    return _unpack(_evaluate(potential, graph.chunks), graph)


DRAWS_BY_DESIGN = 8
"""Draws from which on one pass over the design matrix is cheaper than evaluating each of them."""


def evaluate_draws(potentials: Potential, graph: NeighborGraph, *, few: int = DRAWS_BY_DESIGN
                   ) -> Labels3:
    """As `evaluate`, for a potential whose leaves have a leading axis of draws.

    ``few`` or more draws of a linear potential, also of one in a sum, go through its design matrix,
    where one pass serves all of them.
    """
    require_x64()
    linear = isinstance(potentials, LinearPotential)
    if not linear and isinstance(potentials, SumPotential) and any(
        issubclass(form, LinearPotential) for form in potentials.components
    ):
        parts = [evaluate_draws(p, graph, few=few) for p in potentials.parts_of_draws()]
        return Labels3(*(sum(values[1:], values[0]) for values in zip(*parts, strict=True)))
    if linear and len(potentials.c) >= few and _differs_linearly(potentials):
        rest = jax.tree.map(lambda leaf: np.asarray(leaf)[0], potentials).held()
        out = Labels3(*potentials.evaluate_by_design(graph))
        if rest is None:
            return out
        held = _unpack(_evaluate(rest, graph.chunks), graph)
        return Labels3(*(a + b for a, b in zip(out, held, strict=True)))
    return _unpack(_evaluate_draws(potentials, graph.chunks), graph, axis=1)


def _differs_linearly(potentials: LinearPotential) -> bool:
    """Whether the draws differ in linear parameters alone."""
    others = (getattr(potentials, item.name) for item in potentials.parameters()
              if item.name not in ("c", "e0"))
    return all(
        (np.asarray(leaf) == np.asarray(leaf)[:1]).all() for leaf in others
    )


def jacobian_columns(function: Callable[[Any], Any], u: Any) -> tuple[Any, Any]:
    """``function(u)`` and its Jacobian by columns (leading axis p).

    One forward-mode pass per parameter in a loop: for some ten parameters this costs two to three
    gradients, half of a vectorised Jacobian.
    """
    columns = lax.map(lambda t: jax.jvp(function, (u,), (t,))[1], jnp.eye(u.shape[0]))
    return function(u), columns
