"""The log posterior density of a `bayespot.likelihood.FitProblem` and its derivatives."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayespot.evaluate import Labels3, evaluate_chunk, jacobian_columns
from bayespot.graph import Chunk
from bayespot.likelihood import student
from bayespot.likelihood.devices import map_over_chunks, sum_over_chunks
from bayespot.parameters import Constants, Layout, Noise, unpack


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FitData:
    """Labels and weights in the shape of the graph's chunks; weights are zero on padding."""

    chunks: Chunk
    n_chunks: Any  # [] chunks in use; [devices] where a mesh shares them
    labels: Labels3  # energy per atom [C, S], forces [C, A, 3], stress [C, S, 6]
    kappa: Labels3  # the same shapes
    floor: Any  # [C, S, 3] variances of the DFT floor
    atoms: Any  # [C, S] atoms per structure
    family: Any = None  # [C, S] which noise scales, where families have their own
    mesh: Any = field(default=None, metadata={"static": True})  # devices that share the chunks


class Misfit(NamedTuple):
    """Per structure slot: weighted squares and weights by kind of label, [..., S, 3]."""

    squares: Any
    counts: Any


class _Terms(NamedTuple):
    """What the likelihood of a chunk is made of."""

    residual: Labels3
    kappa: Labels3
    variance: Any  # [S, 3]
    noise: Noise
    chunk: Chunk


def _variance(data: FitData, k: Any, noise: Noise) -> Any:
    """Of inferred noise and floor together, by structure of chunk ``k`` and kind, [S, 3]."""
    squared = noise.sigma**2
    return (squared if data.family is None else squared[data.family[k]]) + data.floor[k]


def _chunk_terms(layout: Layout, data: FitData, k: Any, constants: Constants, u: Any) -> _Terms:
    chunk, labels, kappa, atoms = jax.tree.map(
        lambda a: a[k], (data.chunks, data.labels, data.kappa, data.atoms)
    )
    potential, noise = unpack(layout, constants, u)
    out = evaluate_chunk(potential, chunk)
    residual = Labels3(
        labels.energy - out.energy / atoms, labels.forces - out.forces, labels.stress - out.stress
    )
    return _Terms(residual, kappa, _variance(data, k, noise), noise, chunk)


def _by_structure(values: Labels3, chunk: Chunk) -> Any:
    """Sums over the components of every structure, [S, 3]."""
    forces = jax.ops.segment_sum(
        values.forces.sum(axis=1), chunk.structure, chunk.volume.shape[0], indices_are_sorted=True
    )
    return jnp.stack([values.energy, forces, values.stress.sum(axis=1)], axis=1)


def _misfit(terms: _Terms) -> Misfit:
    """Weighted squared residuals and counts by kind of label and structure."""
    squares = jax.tree.map(lambda r, w: w * r * r, terms.residual, terms.kappa)
    return Misfit(_by_structure(squares, terms.chunk), _by_structure(terms.kappa, terms.chunk))


class _Vectors(NamedTuple):
    """Errors that share one scale: energies [S], force vectors [A], stresses [S]."""

    q: Labels3  # sums of squares
    d: Labels3  # how many components
    kappa: Labels3
    variance: Labels3
    nu: Labels3


def _vectors(terms: _Terms) -> _Vectors:
    """The chunk's errors as `bayespot.likelihood.student` takes them."""
    kappa, variance = terms.kappa, terms.variance
    used = jax.tree.map(lambda w: jnp.where(w > 0, 1.0, 0.0), kappa)
    q = jax.tree.map(lambda r, on: on * r * r, terms.residual, used)
    return _Vectors(
        Labels3(q.energy, q.forces.sum(axis=1), q.stress.sum(axis=1)),
        Labels3(used.energy, used.forces.sum(axis=1), used.stress.sum(axis=1)),
        Labels3(kappa.energy, kappa.forces.max(axis=1), kappa.stress.max(axis=1)),
        Labels3(variance[:, 0], variance[terms.chunk.structure, 1], variance[:, 2]),
        Labels3(*(terms.noise.tail[k] for k in range(3))),
    )


def _log_likelihood_by_kind(layout: Layout, data: FitData, k: Any, constants: Constants, u: Any
                            ) -> Any:
    """Log likelihood of every structure of chunk ``k`` by kind of label, [S, 3]."""
    terms = _chunk_terms(layout, data, k, constants, u)
    if layout.student:
        v = _vectors(terms)
        values = jax.tree.map(
            lambda q, d, w, variance, nu: w * student.log_density(q, d, variance, nu), *v
        )
        forces = values.forces[:, None]
        return _by_structure(Labels3(values.energy, forces, values.stress[:, None]), terms.chunk)
    misfit, variance = _misfit(terms), terms.variance
    return -0.5 * (misfit.squares / variance + misfit.counts * jnp.log(2 * jnp.pi * variance))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def log_likelihood(layout: Layout, constants: Constants, data: FitData, u: Any) -> Any:
    """Log likelihood; value and gradient are accumulated chunk by chunk."""
    def one(part: FitData, k: Any, *arguments: Any) -> Any:
        return _log_likelihood_by_kind(layout, part, k, *arguments).sum()

    return sum_over_chunks(one, data, constants, u)


def _forward(layout: Layout, constants: Constants, data: FitData, u: Any) -> tuple:
    def one(part: FitData, k: Any, constants: Constants, u: Any) -> tuple:
        return jax.value_and_grad(
            lambda v: _log_likelihood_by_kind(layout, part, k, constants, v).sum()
        )(u)

    value, gradient = sum_over_chunks(one, data, constants, u)
    return value, gradient


def _backward(layout: Layout, gradient: Any, cotangent: Any) -> tuple:
    return None, None, cotangent * gradient


log_likelihood.defvjp(_forward, _backward)


@partial(jax.jit, static_argnums=0)
def log_posterior(layout: Layout, constants: Constants, data: FitData, u: Any) -> Any:
    """Log posterior density in ``u`` up to a constant."""
    return log_likelihood(layout, constants, data, u) - 0.5 * u @ u


@partial(jax.jit, static_argnums=0)
def log_likelihood_by_kind(layout: Layout, constants: Constants, data: FitData, u: Any) -> Any:
    """Log likelihood of every structure by kind of label, as chunks [n_chunks, S, 3]."""
    return map_over_chunks(partial(_log_likelihood_by_kind, layout), data, constants, u)


@partial(jax.jit, static_argnums=0)
def log_likelihood_by_structure(layout: Layout, constants: Constants, data: FitData, u: Any) -> Any:
    """Log likelihood of every structure, as chunks [n_chunks, S]."""
    return log_likelihood_by_kind(layout, constants, data, u).sum(axis=2)


class GaussNewton(NamedTuple):
    """Everything one step of least squares needs; by structure, or as chunks [n_chunks, S, ...]."""

    fisher: Any  # [n_structures, p_theta, p_theta]
    gradient: Any  # [p_theta], d ln L / du
    misfit: Misfit  # [n_structures, 3]


@partial(jax.jit, static_argnums=0)
def gauss_newton(layout: Layout, constants: Constants, data: FitData, u: Any) -> GaussNewton:
    r"""Fisher matrix of every structure and gradient, at fixed noise.

    :math:`G_c = \sum_{i \in c} \kappa_i J_i J_i^T / (\sigma^2 + s^2)` with the Jacobian with
    respect to the potential's entries of ``u``; for noise with tails, their information in the
    place of :math:`1 / (\sigma^2 + s^2)`.
    """
    one = partial(_gauss_newton_of_chunk, layout)
    fisher, gradient, misfit = map_over_chunks(one, data, constants, u)
    return GaussNewton(fisher, gradient.sum(axis=0), misfit)


def _gauss_newton_of_chunk(layout: Layout, data: FitData, k: Any, constants: Constants, u: Any
                           ) -> tuple:
    n_theta = layout.n_theta
    chunk, atoms = jax.tree.map(lambda a: a[k], (data.chunks, data.atoms))

    def predict(head: Any) -> Labels3:
        potential, _ = unpack(layout, constants, u.at[:n_theta].set(head))
        out = evaluate_chunk(potential, chunk)
        return Labels3(out.energy / atoms, out.forces, out.stress)

    _, columns = jacobian_columns(predict, u[:n_theta])
    terms = _chunk_terms(layout, data, k, constants, u)
    weight, pull = _weights(layout, terms)
    forces = jnp.einsum("pac,qac,ac->apq", columns.forces, columns.forces, weight.forces)
    fisher = (
        jnp.einsum("ps,qs,s->spq", columns.energy, columns.energy, weight.energy)
        + jax.ops.segment_sum(forces, chunk.structure, atoms.shape[0], indices_are_sorted=True)
        + jnp.einsum("psv,qsv,sv->spq", columns.stress, columns.stress, weight.stress)
    )
    gradient = sum(
        (c * (w * r)[None]).sum(axis=tuple(range(1, c.ndim)))
        for c, w, r in zip(columns, pull, terms.residual, strict=True)
    )
    return fisher, gradient, _misfit(terms)


def _weights(layout: Layout, terms: _Terms) -> tuple[Labels3, Labels3]:
    """Weights of squared derivatives and of residuals, component by component."""
    if layout.student:
        v = _vectors(terms)
        kinds = (
            jax.tree.map(student.information, v.d, v.variance, v.nu),
            jax.tree.map(student.pull, v.q, v.d, v.variance, v.nu),
        )
    else:
        variance = terms.variance
        inverse = Labels3(1 / variance[:, 0], 1 / variance[terms.chunk.structure, 1],
                          1 / variance[:, 2])
        kinds = inverse, inverse
    kappa = terms.kappa
    found = (Labels3(kappa.energy * w.energy, kappa.forces * w.forces[:, None],
                     kappa.stress * w.stress[:, None]) for w in kinds)
    return next(found), next(found)


@partial(jax.jit, static_argnums=0)
def misfit_by_structure(layout: Layout, constants: Constants, data: FitData, u: Any) -> Misfit:
    """Weighted squares and counts as chunks [n_chunks, S, 3], without derivatives."""
    def one(part: FitData, k: Any, constants: Constants, u: Any) -> Misfit:
        return _misfit(_chunk_terms(layout, part, k, constants, u))

    return map_over_chunks(one, data, constants, u)
