r"""Coordinates in which a narrow curved posterior is close to a standard normal.

Whitening at the mode gives every direction unit scale there. Along its loose directions the
posterior is long, and energies and forces are not linear in the parameters over that length: where
a direction is stiff, its best value moves along a curve as the loose ones change, by many of its
own standard deviations, and so may its width. In whitened coordinates with the loosest direction
first, the third derivatives :math:`T_{iab}` of the negative log posterior at the mode say by how
much. The map

.. math::

    u = u^* + L w, \qquad
    w_i = z_i\, e^{s_i(z)} - \tfrac12 \sum_{a, b < i} T_{iab} z_a z_b, \qquad
    s_i(z) = -\tfrac12 \sum_{a < i} T_{iia} z_a

makes the density of z free of every cubic term with two different indices: those in which the
stiffest index occurs once are absorbed by the bend of its coordinate, those in which it occurs
twice by the stretch. Coordinate i moves with looser ones only, so the map is invertible whatever
the derivatives are, and the logarithm of its Jacobian determinant is :math:`\sum_i s_i(z)` and a
constant: a sampler that works in z samples the same posterior.

Only the loosest directions bend others (`LOOSEST`), so the map costs 2 p + m (m - 1) gradients and
some hundred densities. Triangular maps close to a transport of the posterior to a normal
precondition Markov chains in Parno and Marzouk, SIAM/ASA J. Uncertain. Quantif. 6, 645 (2018).
Finnis-Sinclair on nine structures of lithium, where a bend is 47: 95 gradients for an effective
draw, warmup included, against 13,000 with the whitening alone, which did not converge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.inference.map import value_and_gradient
from bayespot.likelihood import FitProblem

STEP, LONG_STEP = 1e-3, 1e-2
"""Posterior standard deviations of the differences behind second and third derivatives. Where the
posterior bends by C standard deviations at one, the first is wrong by C^2 STEP^2."""

CURVATURES = (0.05, 50.0)
"""Bounds of the Hessian's eigenvalues relative to Gauss-Newton's: a direction in which the
posterior is flat or concave at its mode keeps a finite width."""

LOOSEST = 20
"""Directions along which others are bent; their pairs are what the map costs."""

AMOUNTS = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0))
"""Parts of the bend and of the stretch that are tried, see `curved`."""

TRIED = 64
"""Points at which a map is judged."""

LOWEST = 1e6
"""Nats; what a point without a finite density counts for below the mode."""


def whitening(problem: FitProblem, u: np.ndarray) -> np.ndarray:
    r"""A matrix L with :math:`L L^T` the inverse Hessian of the negative log posterior, [p, p].

    Gauss-Newton sets the scales; the Hessian in its coordinates then comes from differences of
    gradients. It adds what Gauss-Newton leaves out: under misfit the energies alone would like
    other parameters than energies, forces and stresses together, so parameters and noise scales
    are correlated.
    """
    # Along its eigenvectors, so that the differences do not depend on the order of the entries.
    precision = problem.precision(u)
    information, vectors = np.linalg.eigh(0.5 * (precision + precision.T))
    scale = vectors / np.sqrt(information)

    slope = _slope(problem, u, scale)
    steps = STEP * np.eye(len(u))
    hessian = np.stack([(slope(z) - slope(-z)) / (2 * STEP) for z in steps])
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    return scale @ (vectors / np.sqrt(np.clip(values, *CURVATURES)))


def _slope(problem: FitProblem, u: np.ndarray, factor: np.ndarray) -> Callable:
    """The gradient [p] of the negative log posterior by z at ``u + factor @ z``."""
    space, placed = problem.space, problem.placed()

    def slope(z: np.ndarray) -> np.ndarray:
        at = jnp.asarray(u + factor @ z)
        _, gradient = value_and_gradient(space.layout, space.constants, placed, at)
        return -factor.T @ np.asarray(gradient)

    return slope


class Curved(NamedTuple):
    """The map of the module, for p entries of ``u`` of which m bend others.

    Attributes
    ----------
    center : [p]
        The mode.
    factor : [p, p]
        L: orthogonal columns, the longest first.
    bend : [p, m, m]
        :math:`T_{iab}`, zero unless a, b < i.
    stretch : [p, p]
        :math:`-T_{iia} / 2`, zero unless a < i.
    """

    center: Any
    factor: Any
    bend: Any
    stretch: Any

    def forward(self, z: Any) -> tuple[Any, Any]:
        """``u`` [p] of ``z`` [p], and the log of the Jacobian determinant without its constant."""
        log_scale = self.stretch @ z
        loose = z[: self.bend.shape[1]]
        w = z * jnp.exp(log_scale) - 0.5 * (self.bend @ loose) @ loose
        return self.center + self.factor @ w, log_scale.sum()

    def inverse(self, u: np.ndarray) -> np.ndarray:
        """``z`` [p] of ``u`` [p]."""
        w = np.linalg.solve(self.factor, u - self.center)
        z, m = np.zeros_like(w), self.bend.shape[1]
        for i in range(len(w)):
            bent = w[i] + 0.5 * z[:m] @ self.bend[i] @ z[:m]
            z[i] = bent * np.exp(-self.stretch[i] @ z)
        return z


forward_all = jax.jit(jax.vmap(Curved.forward, in_axes=(None, 0)))
"""`Curved.forward` of ``z`` [n, p]."""


def curved(problem: FitProblem, u: np.ndarray) -> tuple[Curved, dict[str, float]]:
    r"""The map at the mode ``u``, and what the record says of it.

    Derivatives at one point may say little of the curve far from it. The map is therefore judged
    by the divergence of a standard normal through it from the posterior, up to a constant
    (:math:`-\langle \ln p(u(z)) + \sum_i s_i(z) \rangle` over points z and -z that are the
    same for all), beside maps with part of the bend or of the stretch; the best is kept, which
    may be the whitening alone.
    """
    factor = _loosest_first(whitening(problem, u))
    bend, stretch = _cubic_terms(problem, u, factor)
    half = np.random.default_rng(0).standard_normal((TRIED // 2, len(u)))
    z = jnp.asarray(np.concatenate([half, -half]))
    maps = [Curved(np.asarray(u), factor, x * bend, y * stretch) for x, y in AMOUNTS]
    costs = [_divergence(problem, one, z) for one in maps]
    best = int(np.argmin(costs))
    return maps[best], {
        "bent": AMOUNTS[best][0], "stretched": AMOUNTS[best][1],
        "largest_bend": float(np.abs(maps[best].bend).max(initial=0.0)),
    }


def _loosest_first(factor: np.ndarray) -> np.ndarray:
    """The same covariance by orthogonal columns, the one with most of the prior left first."""
    vectors, widths, _ = np.linalg.svd(factor)
    return vectors * widths


def _cubic_terms(problem: FitProblem, u: np.ndarray, factor: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:
    """``bend`` and ``stretch`` of `Curved`, from second differences of gradients."""
    p, slope = len(u), _slope(problem, u, factor)
    middle = slope(np.zeros(p))

    def second(step: np.ndarray) -> np.ndarray:
        """The second derivative of the slope along ``step``, [p]."""
        step = LONG_STEP * step
        return (slope(step) + slope(-step) - 2.0 * middle) / LONG_STEP**2

    eye = np.eye(p)
    twice = np.stack([second(e) for e in eye])  # [a, i]: T_iaa
    m = min(LOOSEST, p - 1)
    bend = np.zeros((p, m, m))
    for a in range(m):
        bend[:, a, a] = twice[a]
        for b in range(a):
            mixed = 0.5 * (second(eye[a] + eye[b]) - twice[a] - twice[b])
            bend[:, a, b] = bend[:, b, a] = mixed
    stiffer = np.arange(p)[:, None] > np.arange(p)  # [i, a]: a < i
    bend *= stiffer[:, :m, None] & stiffer[:, None, :m]
    return bend, -0.5 * twice * stiffer


def _divergence(problem: FitProblem, coordinates: Curved, z: Any) -> float:
    """See `curved`."""
    u, log_volume = forward_all(coordinates, z)
    values = np.array([problem.log_posterior(one) for one in np.asarray(u)])
    worst = problem.log_posterior(coordinates.center) - LOWEST
    values = np.maximum(np.nan_to_num(values, nan=worst, posinf=worst, neginf=worst), worst)
    return -float(np.mean(values + np.asarray(log_volume)))
