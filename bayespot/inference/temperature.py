r"""The temperature of a linear posterior, from families that it has not seen.

A posterior that believes its model is exact is too sure of itself by a factor that no likelihood
knows. With :math:`A_{-g}`, :math:`m_{-g}` the precision and mean of the weights without family g,
a datum i of g is missed by :math:`r_i^{-g} = r_i - z_i^T m_{-g}` and has the leverage
:math:`\ell_i = z_i^T A_{-g}^{-1} z_i`. The power posterior of temperature T has the same mean and
T times the covariance, and

.. math::
   T = \arg\min_T \sum_g \frac{1}{n_g} \sum_{i \in g} \kappa_i
     \left[ \frac{(r_i^{-g})^2}{2 (T \ell_i + s_i^2)} + \tfrac12 \ln(T \ell_i + s_i^2) \right]
     + \frac{(\ln T)^2}{2 \bar n}

with :math:`n_g = \sum_{i \in g} \kappa_i` and :math:`\bar n` their mean: the score of what the
parameters spread, the noise held at the DFT floor s. (With an inferred noise in it the score hardly
depends on T: the noise explains everything.) Each family counts the same. The last term is a prior,
:math:`\ln T \sim N(0, 1)`, beside a family's data; it decides only where the spread is so small
beside the floor that the data do not, and then for Bayes' rule as it is. What is left over goes to
white noise afterwards,

.. math::
   \sigma_k = \arg\min_\sigma \sum_g \frac{1}{n_{gk}} \sum_{i \in (g,k)} \kappa_i
     \left[ \frac{(r_i^{-g})^2}{2 v_i} + \tfrac12 \ln v_i \right],
   \quad v_i = T \ell_i + s_i^2 + \sigma^2

References
----------
P. Grünwald, T. van Ommen, Bayesian Anal. 12, 1069 (2017), doi:10.1214/17-BA1085: powers of the
likelihood under misspecification.
Y. McLatchie et al., arXiv:2408.08806: why the score must not contain the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from bayespot.errors import LabelError
from bayespot.inference.evidence import Evidence
from bayespot.inference.grams import (
    Grams,
    columns_of,
    flat_rows,
    residual_labels,
)
from bayespot.likelihood import FitProblem

GRID = np.logspace(0.0, 3.5, 141)
"""Temperatures that are tried. Below one the posterior would claim more than Bayes' rule."""

NOISE_GRID = np.concatenate([[0.0], np.logspace(-2.0, 2.0, 81)])
"""White noise that is tried, in units of the root of the mean squared miss of its kind."""

NO_NOISE = 1e-12
"""In place of a noise scale of zero, in its unit."""


@dataclass(frozen=True)
class LeftOut:
    """What families left out are missed by, and how far the weights reach there, [n] each.

    Attributes
    ----------
    fold, family, structure : ndarray
        Name of the fold, and number of the structure in the data set.
    kind : ndarray of int
        0 energy per atom, 1 force component, 2 stress component.
    miss : ndarray
        Label minus prediction of the fold that has not seen it.
    leverage : ndarray
        Variance of that prediction at temperature one.
    floor : ndarray
        Variance of the DFT floor.
    kappa : ndarray
        Weight in the likelihood.
    """

    fold: np.ndarray
    structure: np.ndarray
    kind: np.ndarray
    miss: np.ndarray
    leverage: np.ndarray
    floor: np.ndarray
    kappa: np.ndarray

    def balanced(self, kinds: bool = False) -> np.ndarray:
        """Weights kappa, scaled so that every fold (or kind in a fold) has the same sum."""
        _, group = np.unique(self.fold, return_inverse=True)
        if kinds:
            group = 3 * group + self.kind
        return self.kappa / np.bincount(group, self.kappa)[group]


@dataclass(frozen=True)
class Temperature:
    """The chosen temperature, the white noise left over, and the score of every temperature.

    Attributes
    ----------
    value : float
    noise : ndarray [3]
        eV/atom, eV/Å, eV/Å^3, without the floor.
    grid, score : ndarray
        Temperatures tried and their score in nats per family; less is better.
    """

    value: float
    noise: np.ndarray
    grid: np.ndarray
    score: np.ndarray


def folds_of(families: Sequence[str], n_folds: int = 5) -> list[str]:
    """A fold for every structure: its family, or parts of the only family.

    Parts are consecutive structures, because neighbours in a file often are of one trajectory.

    Raises
    ------
    LabelError
        If there are fewer than two structures.
    """
    if len(set(families)) > 1:
        return list(families)
    if len(families) < 2:
        raise LabelError(
            "one structure cannot be left out of itself, and nothing else says how wide bars must "
            "be: give more data, or take misfit='none'"
        )
    parts = np.array_split(np.arange(len(families)), min(n_folds, len(families)))
    return [f"part {k + 1}" for k, part in enumerate(parts) for _ in part]


def leave_out(problem: FitProblem, grams: Grams, evidence: Evidence, eta: np.ndarray,
              folds: Sequence[str]) -> LeftOut:
    """Predict every fold from the others, at fixed noise and priors; exact, no refit.

    Parameters
    ----------
    problem : FitProblem
        With a linear potential.
    grams : Grams
        Of `collect_grams` with ``groups=folds``.
    evidence : Evidence
        Of the same.
    eta : ndarray
        Noise scales and settings of the priors, see `Evidence`.
    folds : sequence of str
        One for every structure.
    """
    sd = evidence.scales(eta)[1]
    atoms = problem.graph.by_structure(problem.data.atoms)
    residual, kappa = residual_labels(problem), problem.unpadded(problem.data.kappa)
    floor, columns = problem.floor_by_structure(), columns_of(problem)
    solved = {}
    for name in dict.fromkeys(folds):
        rest = Evidence(problem, grams.select([g for g in grams.groups if g != name]),
                        by_family=evidence.by_family)
        at = rest.posterior(eta)
        solved[name] = evidence.center + sd * at.mean, at.factor
    parts: list[tuple] = []
    names = np.asarray(folds)
    for design in problem.initial.design(problem.graph):
        for rows, r, weight, which, kind in flat_rows(design, residual, kappa, atoms, columns):
            for name in np.unique(names[which]):
                pick = (names[which] == name) & (weight > 0)
                mean, factor = solved[name]
                z = rows[:, pick]
                half = linalg.solve_triangular(factor, sd[:, None] * z, lower=True)
                n = int(pick.sum())
                parts.append((
                    np.full(n, name, dtype=object), which[pick], np.full(n, kind),
                    r[pick] - mean @ z, (half**2).sum(axis=0), floor[which[pick], kind],
                    weight[pick],
                ))
    return LeftOut(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def choose_temperature(left_out: LeftOut) -> Temperature:
    """Minimise the scores of the module over T, then over the white noise of each kind."""
    weight, n_folds = left_out.balanced(), len(set(left_out.fold))
    prior = 0.5 * np.log(GRID) ** 2 * n_folds / left_out.kappa.sum()
    scores = np.array([
        _score(left_out, t * left_out.leverage + left_out.floor, weight) for t in GRID
    ]) / n_folds
    value = float(GRID[np.argmin(n_folds * scores + prior)])
    noise = white_noise(left_out, value * left_out.leverage + left_out.floor)
    return Temperature(value, noise, GRID, scores)


def white_noise(left_out: LeftOut, variance: np.ndarray) -> np.ndarray:
    """The scales that minimise the second score of the module, [3]; ``variance`` [n] without it."""
    noise = np.full(3, NO_NOISE)
    by_kind = left_out.balanced(kinds=True)
    for kind in range(3):
        mine = np.where(left_out.kind == kind, by_kind, 0.0)
        if mine.any():
            scale = np.sqrt(mine @ left_out.miss**2 / mine.sum())
            noise[kind] = min(
                NOISE_GRID * scale + NO_NOISE,
                key=lambda sigma, mine=mine: _score(left_out, variance + sigma**2, mine),
            )
    return noise


def _score(left_out: LeftOut, variance: np.ndarray, weight: np.ndarray) -> float:
    """Weighted sum of the misses' negative log density, without its constant."""
    return float(weight @ (0.5 * (left_out.miss**2 / variance + np.log(variance))))


def spread_marks(left_out: LeftOut, temperature: Temperature) -> dict[str, float]:
    """Largest typical spread with which a fold was predicted, eV/atom and eV/Å.

    The temperature was tuned on these predictions: where a spread is larger nothing was tested. Of
    a structure's force components the largest counts, of a fold's structures the median. A spread
    below the DFT floor counts as the floor, which hides it: a handful of crystals whose forces
    symmetry makes small would otherwise put everything else a thousand times out of range.
    """
    spread = np.sqrt(np.maximum(temperature.value * left_out.leverage, left_out.floor))
    marks = {}
    for kind, name in ((0, "energy"), (1, "forces")):
        mine = left_out.kind == kind
        folds = [mine & (left_out.fold == fold) for fold in set(left_out.fold[mine])]
        if folds:
            marks[name] = max(
                float(np.median(_largest(spread[at], left_out.structure[at]))) for at in folds
            )
    return marks


def _largest(values: np.ndarray, structure: np.ndarray) -> np.ndarray:
    """The largest value of every structure."""
    return np.array([values[structure == s].max() for s in np.unique(structure)])
