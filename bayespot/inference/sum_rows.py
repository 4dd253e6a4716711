r"""Derivatives of labels by the parameters of a sum, where part of the sum is linear.

A potential with its discrepancy has a hundred weights more than the potential alone. Their columns
of the Jacobian are those of the design matrix, one pass for all of them, and only the parameters of
the other parts need a pass of forward differentiation each: the Fisher matrices of a pool then cost
about as much as those of the potential alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.evaluate import Labels3, evaluate_chunk, jacobian_columns
from bayespot.inference.grams import flat_rows
from bayespot.likelihood import FitData, FitProblem
from bayespot.likelihood.devices import map_over_chunks
from bayespot.parameters import Constants, Layout, ParameterSpace, unpack
from bayespot.potentials.linear import LinearPotential
from bayespot.potentials.sums import SumPotential


def has_linear_part(space: ParameterSpace) -> bool:
    """Whether `rows_of_sum` serves: normal noise, and parts of which only ``c`` is sampled."""
    form, layout = space.form, space.layout
    if not issubclass(form, SumPotential) or issubclass(form, LinearPotential) or layout.student:
        return False
    linear = _linear(form)
    sampled = {name for name in _entries(layout) if name != "e0"}
    inside = {name for name in sampled if form.owners[name][0] in linear}
    return bool(linear) and inside <= {f"{form.prefixes[k]}_c" for k in linear}


def rows_of_sum(problem: FitProblem, u: np.ndarray) -> list[np.ndarray]:
    r"""Rows :math:`A_c` of every structure, [r, p], with the Fisher matrix :math:`A_c^T A_c`.

    A row is :math:`\sqrt{\kappa_i / (\sigma_k^2 + s_i^2)}\, df_i / du`, one for every label that
    has a weight, with the derivatives by the potential's standard-normal coordinates: the matrices
    of `bayespot.likelihood.gauss_newton`, factored.

    Parameters
    ----------
    problem : FitProblem
        For whose space `has_linear_part` holds.
    u : ndarray, shape (p + noise entries,)
        Where.
    """
    form, layout, graph = problem.space.form, problem.space.layout, problem.graph
    linear, own = _linear(form), _columns(layout, form)
    slopes = _slopes(layout, problem.space.constants, u, linear)
    other = _other_columns(problem, u, own)
    kappa, variance = problem.unpadded(problem.data.kappa), problem.variance(u)
    atoms, p = graph.by_structure(problem.data.atoms), layout.n_theta
    parts = problem.space.potential(u).parts
    found: list[list[np.ndarray]] = [[] for _ in range(graph.n_structures)]
    for designs in zip(*(parts[k].design(graph) for k in linear), strict=True):
        s, a = designs[0].block.structures, designs[0].block.atoms
        columns = [np.arange(len(design.energy)) for design in designs]
        kinds = zip(*(
            flat_rows(design, kappa, kappa, atoms, every)
            for design, every in zip(designs, columns, strict=True)
        ), strict=True)
        alone = (other.energy[:, s] / atoms[s], other.forces[:, a].reshape(len(own), 3 * len(a)),
                 other.stress[:, s].reshape(len(own), 6 * len(s)))
        for blocks, rest in zip(kinds, alone, strict=True):
            rows = sum(slope.T @ block[0] for slope, block in zip(slopes, blocks, strict=True))
            rows[own] += rest
            _, _, weight, which, k = blocks[0]
            scale = np.sqrt(weight / variance[which, k])
            for c in np.unique(which):
                mine = (which == c) & (weight > 0)
                found[c].append((rows[:, mine] * scale[mine]).T.reshape(-1, p))
    return [np.concatenate(rows) for rows in found]


def _linear(form: type[SumPotential]) -> list[int]:
    """Numbers of the linear components."""
    return [k for k, part in enumerate(form.components) if issubclass(part, LinearPotential)]


def _entries(layout: Layout) -> list[str]:
    """The parameter that every sampled entry belongs to, [p]."""
    names = [name for name, size in layout.sizes for _ in range(size)]
    return [names[k] for k in layout.free]


def _columns(layout: Layout, form: type[SumPotential]) -> list[int]:
    """Entries of the parts that are not linear."""
    linear = _linear(form)
    return [k for k, name in enumerate(_entries(layout))
            if name != "e0" and form.owners[name][0] not in linear]


def _slopes(layout: Layout, constants: Constants, u: np.ndarray, linear: list[int]
            ) -> list[np.ndarray]:
    """Derivatives of the coefficients, then of the offsets, of each linear part by u, [B + S, p].

    The offsets of the sum are counted with the first of them.
    """
    prefixes, n = layout.template[0].prefixes, layout.n_theta

    def values(head: Any) -> list:
        potential, _ = unpack(layout, constants, jnp.asarray(u).at[:n].set(head))
        return [getattr(potential, f"{prefixes[k]}_c") for k in linear] + [potential.e0]

    *found, offsets = map(np.asarray, jax.jacfwd(values)(jnp.asarray(u)[:n]))
    return [np.concatenate([one, offsets * (k == 0)]) for k, one in enumerate(found)]


def _other_columns(problem: FitProblem, u: np.ndarray, own: list[int]) -> Labels3:
    """Columns of the Jacobian of the parts that are not linear, [q, ...] in the data's order."""
    space, graph = problem.space, problem.graph
    if not own:
        return Labels3(np.zeros((0, graph.n_structures)), np.zeros((0, graph.n_atoms, 3)),
                       np.zeros((0, graph.n_structures, 6)))
    out = _jacobian(space.layout, tuple(own), space.constants, problem.placed(), jnp.asarray(u))
    energy, forces, stress = (np.moveaxis(np.asarray(values), 1, 0) for values in out)
    return Labels3(graph.by_structure(energy, axis=1), graph.by_atom(forces, axis=1),
                   graph.by_structure(stress, axis=1))


@partial(jax.jit, static_argnums=(0, 1))
def _jacobian(layout: Layout, columns: tuple[int, ...], constants: Constants, data: FitData, u: Any
              ) -> Labels3:
    """The same as chunks [n_chunks, q, ...]."""
    form, where = layout.template[0], jnp.array(columns)
    parts = [k for k in range(len(form.components)) if k not in _linear(form)]

    def one(data: FitData, k: Any, constants: Constants, u: Any) -> Labels3:
        chunk = jax.tree.map(lambda a: a[k], data.chunks)

        def predict(head: Any) -> Labels3:
            potential, _ = unpack(layout, constants, u.at[where].set(head))
            labels = [evaluate_chunk(potential.part(m), chunk) for m in parts]
            return Labels3(*(sum(values) for values in zip(*labels, strict=True)))

        return jacobian_columns(predict, u[where])[1]

    return map_over_chunks(one, data, constants, u)
