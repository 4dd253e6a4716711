r"""A potential as a linear model around one point: rows of its Jacobian, residuals, leverages.

.. math:: f_i(u^* + \delta) \approx f_i(u^*) + J_i \delta, \qquad r_i = y_i - f_i(u^*)

for every label that has a weight, energies per atom; u are the standard-normal coordinates of the
potential's parameters alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg

from bayespot.evaluate import Labels3, evaluate_chunk, jacobian_columns
from bayespot.inference.temperature import LeftOut
from bayespot.likelihood import FitData, FitProblem
from bayespot.parameters import Constants, Layout, unpack


@dataclass(frozen=True)
class Linearized:
    """All labels with a weight, [n] each, energies per atom first, then forces, then stresses.

    Attributes
    ----------
    u : ndarray [p]
        The point, without noise entries.
    rows : ndarray [n, p]
        Derivatives of the predictions.
    residual : ndarray [n]
        Label minus prediction at the point.
    kappa, floor : ndarray [n]
        Weight in the likelihood, and variance of the DFT floor.
    kind, structure : ndarray [n] of int
        0 energy per atom, 1 force component, 2 stress component; number of the structure.
    use : ndarray of bool
        Which of `flat_values` of all labels these are.
    """

    u: np.ndarray
    rows: np.ndarray
    residual: np.ndarray
    kappa: np.ndarray
    floor: np.ndarray
    kind: np.ndarray
    structure: np.ndarray
    use: np.ndarray


def flat_values(t: Labels3) -> np.ndarray:
    """Energies, force components and stress components one after the other, of all labels."""
    return np.concatenate([np.asarray(t.energy), np.ravel(t.forces), np.ravel(t.stress)])


@partial(jax.jit, static_argnums=0)
def _jacobian(layout: Layout, constants: Constants, data: FitData, u: Any) -> tuple:
    """Predictions and their derivatives as chunks, [n_chunks, ...] and [n_chunks, p, ...]."""
    n_theta = layout.n_theta

    def one(k: Any) -> tuple:
        chunk, atoms = jax.tree.map(lambda a: a[k], (data.chunks, data.atoms))

        def predict(head: Any) -> Labels3:
            potential, _ = unpack(layout, constants, u.at[:n_theta].set(head))
            out = evaluate_chunk(potential, chunk)
            return Labels3(out.energy / atoms, out.forces, out.stress)

        return jacobian_columns(predict, u[:n_theta])

    return jax.lax.map(one, jnp.arange(data.atoms.shape[0]))


def linearize(problem: FitProblem, u: np.ndarray) -> Linearized:
    """The linear model of a problem at ``u`` [p or more; noise entries are not looked at]."""
    space, data = problem.space, problem.data
    n = space.layout.n_theta
    full = np.concatenate([np.asarray(u, float)[:n], np.zeros(space.size - n)])
    value, columns = _jacobian(space.layout, space.constants, data, jnp.asarray(full))

    def flat(t: Labels3) -> np.ndarray:
        return flat_values(problem.unpadded(t))

    kappa = flat(data.kappa)
    use, count = kappa > 0, len(problem.dataset)
    structures = np.arange(count)
    owner = np.repeat(structures, [len(a) for a in problem.dataset.structures])
    kind = np.repeat([0, 1, 2], [count, 3 * len(owner), 6 * count])[use]
    structure = np.concatenate([structures, np.repeat(owner, 3), np.repeat(structures, 6)])[use]
    rows = np.stack([
        flat(Labels3(*(np.asarray(v)[:, k] for v in columns)))[use] for k in range(n)
    ], axis=1) if n else np.zeros((int(use.sum()), 0))
    return Linearized(
        full[:n], rows, (flat(data.labels) - flat(value))[use], kappa[use],
        problem.floor_by_structure()[structure, kind], kind, structure, use,
    )


def leave_out_linearized(linear: Linearized, sigma: np.ndarray, folds: Sequence[str],
                         temperature: float | None = None) -> LeftOut:
    r"""Predict every fold from the others in the linear model, at fixed noise; no refit.

    With :math:`F_{-g} = \sum_{i \notin g} \kappa_i J_i J_i^T / v_i`, :math:`v_i = \sigma_k^2 +
    s_i^2`, and the standard-normal prior,

    .. math::
       A_{-g} = I + F_{-g}, \quad
       \delta_{-g} = A_{-g}^{-1} \Big( \sum_{i \notin g} \frac{\kappa_i J_i r_i}{v_i} - u^* \Big),
       \quad r_i^{-g} = r_i - J_i \delta_{-g}, \quad \ell_i = J_i A_{-g}^{-1} J_i^T

    Parameters
    ----------
    linear : Linearized
    sigma : ndarray [3] or [n_structures, 3]
        Noise scales of energies per atom, forces and stresses.
    folds : sequence of str
        One for every structure.
    temperature : float, optional
        Leverages of the density whose likelihood alone has this temperature, divided by it:
        :math:`\ell_i = J_i (T I + F_{-g})^{-1} J_i^T`, the prior being what it is.
    """
    sigma = np.broadcast_to(sigma, (len(folds), 3))
    weight = linear.kappa / (sigma[linear.structure, linear.kind] ** 2 + linear.floor)
    names = np.asarray(folds)[linear.structure]
    eye = np.eye(linear.rows.shape[1])
    miss, leverage = np.empty_like(linear.residual), np.empty_like(linear.residual)
    for name in dict.fromkeys(names):
        mine = names == name
        rows, w = linear.rows[~mine], weight[~mine]
        fisher = (rows.T * w) @ rows
        factor = linalg.cho_factor(eye + fisher, lower=True)
        shift = linalg.cho_solve(factor, (rows.T * w) @ linear.residual[~mine] - linear.u)
        miss[mine] = linear.residual[mine] - linear.rows[mine] @ shift
        if temperature is not None:
            factor = linalg.cho_factor(temperature * eye + fisher, lower=True)
        half = linalg.solve_triangular(factor[0], linear.rows[mine].T, lower=True)
        leverage[mine] = (half**2).sum(axis=0)
    return LeftOut(names.astype(object), linear.structure, linear.kind, miss, leverage,
                   linear.floor, linear.kappa)
