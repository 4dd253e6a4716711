r"""The power posterior over the parameters: a form that is wrong, and a spread that admits it.

.. math:: p_T(\theta) \propto p(\theta) \prod_i p(y_i \mid \theta)^{\kappa_i / T}

The noise scales are held at the mode of the posterior: sampled together with a temperature they
would undo it. The temperature is that of `bayespot.inference.temperature`, from families left out
of the linear model at the mode, or Frederiksen's

.. math::
   T_0 = \frac{2 C_0}{N_p}, \quad
   C_0 = \tfrac12 \sum_i \frac{\kappa_i r_i^2}{\sigma_k^2 + s_i^2}

with the residuals at the mode and :math:`N_p` sampled parameters of the potential, or a number.
Families also say how much white noise is left over; the other two rules add none, as in the
literature: there the spread of the parameters is all.

A potential cannot spread farther than its form and its prior let it. In the linear model that
chooses T, prior and likelihood are tempered together, as they are for linear potentials
(`bayespot.inference.linear_gaussian`); here the prior stays, and the white noise and the marks of
the guard are those of the spread that it leaves.

References
----------
S. L. Frederiksen, K. W. Jacobsen, K. S. Brown, J. P. Sethna, Phys. Rev. Lett. 93, 165501 (2004),
doi:10.1103/PhysRevLett.93.165501.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from bayespot.inference.linearized import leave_out_linearized, linearize
from bayespot.inference.temperature import (
    NO_NOISE,
    choose_temperature,
    folds_of,
    spread_marks,
    white_noise,
)
from bayespot.likelihood import FitProblem
from bayespot.parameters import ParameterSpace
from bayespot.units import QUANTITIES

SOURCES = {"families": "families left out", "frederiksen": "Frederiksen's T0"}
"""What the record says of a rule for the temperature."""


@dataclass(frozen=True)
class Target:
    """What is sampled, and what the draws are a posterior of.

    Attributes
    ----------
    density : FitProblem
        Its posterior density is sampled.
    final : FitProblem
        With the same parameters, and the noise of predictions.
    details : dict
        For the record.
    marks : dict, optional
        See `bayespot.inference.temperature.spread_marks`.
    """

    density: FitProblem
    final: FitProblem
    details: dict[str, Any] = field(default_factory=dict)
    marks: dict[str, float] | None = None


def temper(problem: FitProblem, u: np.ndarray) -> Target:
    """The power posterior of a problem whose mode is ``u``, noise entries included.

    Raises
    ------
    LabelError
        If the temperature is to come from families left out and there is one structure only.
    """
    rule = "families" if problem.temperature is None else problem.temperature
    sigma = noise_at(problem, u)
    details: dict[str, Any] = {"temperature_from": SOURCES.get(rule, "given")}
    noise, marks = np.full(3, NO_NOISE), None
    if rule == "families":
        folds = folds_of(problem.dataset.families)
        linear = linearize(problem, u)
        chosen = choose_temperature(leave_out_linearized(linear, sigma, folds))
        value = chosen.value
        kept = leave_out_linearized(linear, sigma, folds, value)
        noise, marks = white_noise(kept, value * kept.leverage + kept.floor), spread_marks(
            kept, chosen
        )
        details["folds"] = sorted(set(folds))
    else:
        value = frederiksen(problem, u) if rule == "frederiksen" else float(rule)
    details["temperature"] = value
    held = hold_noise(problem, sigma)
    held.data = replace(held.data, kappa=jax.tree.map(lambda k: k / value, held.data.kappa))
    return Target(held, hold_noise(problem, noise), details, marks)


def frederiksen(problem: FitProblem, u: np.ndarray) -> float:
    """The temperature T0 of the module at the mode ``u``."""
    squares = problem.misfit_by_structure(u).squares
    return float((squares / problem.variance(u)).sum() / problem.space.layout.n_theta)


def noise_at(problem: FitProblem, u: np.ndarray) -> np.ndarray:
    """Noise scales at ``u``, [3], or [n_structures, 3] where families have their own."""
    space = problem.space
    return space.family_sigma(u)[problem.families] if space.families else space.sigma(u)


def hold_noise(problem: FitProblem, sigma: np.ndarray) -> FitProblem:
    """The problem with the noise scales that it samples held at ``sigma``, see `noise_at`."""
    space, n, data = problem.space, problem.space.layout.n_theta, problem.data
    if np.ndim(sigma) == 2:  # all noise by structure goes where the floor is
        floor = np.array(data.floor)
        floor.reshape(-1, 3)[problem.graph.structure_slot] += sigma**2
        data, sigma = replace(data, floor=floor), np.full(3, NO_NOISE)
    held = {f"sigma_{QUANTITIES[k]}": float(sigma[k]) for k in space.layout.noise}
    other = copy.copy(problem)
    other.data, other.scales = replace(data, family=None), "common"
    other.space = ParameterSpace(
        problem.initial,
        problem.reference,
        priors=dict(zip(space.names[:n], space.priors[:n], strict=True)),
        fixed=space.fixed | held,
        quantities=[q for q in QUANTITIES if f"sigma_{q}" in (*space.names, *space.fixed)],
    )
    return other
