r"""How sharply the data determine the noise: expected second derivatives.

For normal noise that of :math:`\tfrac12 n \ln v` by the entries of the noise,
:math:`\tfrac12 n (d \ln v / du)^2`, with :math:`v = \sigma^2 + s^2`; for the other distribution see
`bayespot.likelihood.student`. Degrees of freedom are treated as if they were independent of the
scales.
"""

from __future__ import annotations

import numpy as np

from bayespot.evaluate import Labels3
from bayespot.likelihood import student
from bayespot.parameters import ParameterSpace

STEP = 1e-5
"""In u, of the differences behind the derivatives of maps with bounds."""


def noise_precision(space: ParameterSpace, u: np.ndarray, families: np.ndarray,
                    variance: np.ndarray, kappa: Labels3, owner: np.ndarray) -> np.ndarray:
    """Expected second derivatives of minus the log posterior by the noise, [p_noise, p_noise].

    Parameters
    ----------
    space : ParameterSpace
    u : ndarray [p]
    families : ndarray [n_structures] of int
        Which of the noise scales each structure has.
    variance : ndarray [n_structures, 3]
        Of noise and floor together.
    kappa : Labels3
        Weights in the order of the structures and of their atoms.
    owner : ndarray [n_atoms] of int
        The structure of each atom.
    """
    sigma = space.family_sigma(u)[families]
    # Derivatives of ln v by the entries of the noise, [n_structures, 3, p_noise].
    slopes = 2.0 * (sigma**2 / variance)[..., None] * _scale_slopes(space, u)[families]
    counts = np.stack([kappa.energy, np.bincount(owner, kappa.forces.sum(axis=1), len(families)),
                       kappa.stress.sum(axis=1)], axis=1)
    per_label, tails = np.full_like(counts, 0.5), np.zeros(slopes.shape[-1])
    nu = space.tail(u)
    if nu is not None:
        dimensions = _dimensions(kappa, owner)
        per_label = student.information_of_scale(dimensions, nu) / dimensions
        sampled = list(space.layout.tails)
        slope_of_tail = (space.tail(u + STEP) - space.tail(u - STEP))[sampled] / (2 * STEP)
        first = len(space.layout.noise)
        tails[first : first + len(sampled)] = slope_of_tail**2 * (
            counts * student.information_of_tail(dimensions, nu) / dimensions
        ).sum(axis=0)[sampled]
    return (
        np.eye(slopes.shape[-1]) + np.diag(tails)
        + np.einsum("ck,cka,ckb->ab", counts * per_label, slopes, slopes)
    )


def _scale_slopes(space: ParameterSpace, u: np.ndarray) -> np.ndarray:
    """Derivatives of ln sigma by the entries of the noise, [n_families or 1, 3, p_noise]."""
    n_theta, layout = space.layout.n_theta, space.layout
    n, families = len(layout.noise), len(space.families)
    slopes = np.zeros((max(families, 1), 3, space.size - n_theta))
    first = n + len(layout.tails)
    spread = space.spread(u)
    for row, k in enumerate(layout.noise):
        slopes[:, k, row] = space.priors[n_theta + row].sd
        if families:
            prior, at = space.priors[n_theta + first + row], u[n_theta + first + row]
            own = first + n + row * families + np.arange(families)
            slope = (prior.forward(at + STEP) - prior.forward(at - STEP)) / (2 * STEP)
            slopes[:, k, first + row] = slope * np.asarray(u)[n_theta + own]
            slopes[np.arange(families), k, own] = spread[k]
    return slopes


def _dimensions(kappa: Labels3, owner: np.ndarray) -> np.ndarray:
    """Mean number of components that share a scale, by structure and kind, [n_structures, 3]."""
    used, n = (kappa.forces > 0).sum(axis=1), len(kappa.energy)
    vectors = np.bincount(owner, used > 0, n)
    return np.stack([
        np.ones(n), np.bincount(owner, used, n) / np.maximum(vectors, 1),
        (kappa.stress > 0).sum(axis=1),
    ], axis=1).clip(1.0)
