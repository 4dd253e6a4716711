r"""A function for what a potential cannot describe: the default treatment of misfit.

Every functional form is wrong somewhere, and a posterior of its parameters alone does not know.
Here the labels are

.. math:: y = f(\theta) + Z w + \varepsilon

with a linear atomic cluster expansion :math:`\delta E = \sum_b w_b B_b`, whose forces and stresses
are the derivatives of the same function (Kennedy and O'Hagan's discrepancy, in an energy).
Parameters come first: :math:`\theta` has the posterior of the potential alone, so the potential
stays the best that it can be on its own (a cut posterior; Liu, Bayarri and Berger 2009). Then, for
each of its draws, the weights have the closed form

.. math::
   w \mid \theta_s \sim N\big(m_s, T A^{-1}\big), \quad
   A = \Lambda^{-1} + \sum_{gk} \frac{Z^T K Z}{v_{gk}}, \quad
   m_s = A^{-1} \sum_{gk} \frac{Z^T K\, r(\theta_s)}{v_{gk}}

with the residuals :math:`r(\theta_s) = y - f(\theta_s)`. Prior scales :math:`\Lambda` and noise
maximise the evidence of the residuals of the most probable draw. The noise is common to all
families, or of each family's own where that of the problem is (``scales="family"``): families that
a potential describes well are then honoured more closely, which sharpens properties of crystals
that are in the data; families that are not are not predicted better. The temperature T comes from
leaving out whole families (`bayespot.inference.temperature`). A pair :math:`(\theta_s, w_s)` is one
potential, a sum of the form and an `ACE`: forces, stresses and every derived property of a draw
belong together.

References
----------
M. C. Kennedy, A. O'Hagan, J. R. Stat. Soc. B 63, 425 (2001), doi:10.1111/1467-9868.00294.
F. Liu, M. J. Bayarri, J. O. Berger, Bayesian Anal. 4, 119 (2009), doi:10.1214/09-BA404.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from scipy import linalg

from bayespot.data.dataset import Dataset
from bayespot.errors import PriorError
from bayespot.evaluate import Labels3, evaluate_draws
from bayespot.inference.assemble import build_posterior, log_likelihood_of_predictions
from bayespot.inference.evidence import Evidence, Gaussian
from bayespot.inference.grams import Grams, collect_grams, crosses
from bayespot.inference.temperature import (
    Temperature,
    choose_temperature,
    folds_of,
    leave_out,
    spread_marks,
)
from bayespot.likelihood import FitProblem
from bayespot.parameters import NOISE_ENTRIES, ParameterSpace
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.potentials.priors import Normal, Reference
from bayespot.potentials.sums import SumPotential, add
from bayespot.units import QUANTITIES

BASES: dict[str, dict[str, float]] = {
    "base": {"degree_1": 12, "degree_2": 10, "degree_3": -1},
    "rich": {"degree_1": 12, "degree_2": 10, "degree_3": 6},
}
"""Settings of the `ACE` by name: pairs and triplets, or four-body functions as well."""

CUTOFF = 2.4
"""Range of the discrepancy in bond lengths."""

OFFSET = 0.025
"""Prior sd of the discrepancy's energy of an isolated atom, in cohesive energies."""


@dataclass(frozen=True)
class _Fitted:
    """The discrepancy of the most probable draw."""

    problem: FitProblem
    folds: list[str]
    grams: Grams
    evidence: Evidence
    eta: np.ndarray
    at: Gaussian
    temperature: Temperature
    marks: dict[str, float] | None


def add_discrepancy(
    problem: FitProblem,
    posterior: Posterior,
    *,
    key: jax.Array,
    n_draws: int = 200,
    basis: str | Mapping[str, Any] = "base",
    temperature: float | None = None,
) -> Posterior:
    """A posterior of the potential and its discrepancy from a posterior of the potential alone.

    Parameters
    ----------
    problem : FitProblem
        That the posterior was made for.
    posterior : Posterior
        Of `nuts`, `laplace` or `map_estimate`.
    key : jax.Array
        Random key of the weights.
    n_draws : int
        At most this many draws of the parameters, evenly spaced; fewer are repeated.
    basis : str or mapping
        A name of `BASES`, or settings of `ACE` (its ``cutoff`` in Å, its degrees).
    temperature : float, optional
        In place of the one from families left out.

    Raises
    ------
    PriorError
        If the basis is unknown.
    LabelError
        If there is one structure only, and no temperature.
    """
    began = time.perf_counter()
    u = _thinned(posterior, n_draws)
    flat = u.reshape(-1, u.shape[-1])
    unique, where = np.unique(flat, axis=0, return_inverse=True)
    plain = evaluate_draws(problem.space.potential(unique), problem.graph)
    best = _most_probable(problem, unique, plain)
    residual = _residuals(problem, plain)
    fitted = _fit(problem, Labels3(*(values[best] for values in residual)), basis, temperature)
    w = _weights(fitted, residual, where.reshape(-1), key)
    sd = fitted.evidence.scales(fitted.eta)[1]
    layer = _layer(fitted.problem, w)
    delta = evaluate_draws(layer, fitted.problem.graph, few=1)
    final = _sum_problem(problem, fitted, sd)
    draws = _draws(problem, final, flat, w / sd, layer)
    training = Labels3(*(
        own[where.reshape(-1)] + more for own, more in zip(plain, delta, strict=True)
    ))
    details = {
        **posterior.record["details"],
        "temperature": fitted.temperature.value,
        "temperature_from": "families left out" if temperature is None else "given",
        "folds": sorted(set(fitted.folds)),
        "log_evidence": fitted.at.evidence,
        "determined_weights": float(
            len(sd) - (linalg.solve_triangular(fitted.at.factor, np.eye(len(sd)), lower=True) ** 2
                       ).sum()
        ),
        "seconds_discrepancy": time.perf_counter() - began,
    }
    return build_posterior(
        final, draws.reshape(*u.shape[:2], -1), method=posterior.method, details=details,
        training=training, marks=fitted.marks,
        parent=(posterior, _names(problem, final)),
    )


def _thinned(posterior: Posterior, n_draws: int) -> np.ndarray:
    """Draws [chain, draw, p], evenly spaced in every chain."""
    u = posterior.tree["unconstrained_posterior"]["u"].values
    each = max(1, n_draws // u.shape[0])
    return u[:, np.linspace(0, u.shape[1] - 1, each).round().astype(int)]


def _most_probable(problem: FitProblem, u: np.ndarray, plain: Labels3) -> int:
    """Which draw has the highest posterior density."""
    likelihood = log_likelihood_of_predictions(problem, u, plain).sum(axis=1)
    return int(np.argmax(likelihood - 0.5 * (u**2).sum(axis=1)))


def _residuals(problem: FitProblem, plain: Labels3) -> Labels3:
    """Labels minus predictions of every draw, energies per atom; zero where no label is."""
    data, atoms = problem.data, problem.graph.by_structure(problem.data.atoms)
    labels, kappa = problem.unpadded(data.labels), problem.unpadded(data.kappa)
    raw = Labels3(labels.energy - plain.energy / atoms, labels.forces - plain.forces,
                  labels.stress - plain.stress)
    return Labels3(*(np.where(k > 0, r, 0.0) for r, k in zip(raw, kappa, strict=True)))


def _fit(problem: FitProblem, residual: Labels3, basis: str | Mapping[str, Any],
         temperature: float | None) -> _Fitted:
    """The linear model of the residuals of one draw, and its temperature."""
    own, families = _layer_problem(problem, residual, basis), list(problem.dataset.families)
    folds = folds_of(families) if temperature is None else families
    grams = collect_grams(own, folds)
    evidence = Evidence(own, grams, by_family=bool(problem.space.families))
    eta, _ = evidence.maximize()
    at = evidence.posterior(eta)
    if temperature is not None:
        # Of families with noise of their own the pooled one.
        scales, counts = evidence.scales(eta)[0], grams.counts + 1e-300
        sigma = np.sqrt((counts * scales**2).sum(axis=0) / counts.sum(axis=0))
        chosen = Temperature(float(temperature), sigma, np.array([temperature]), np.zeros(1))
        marks = None
    else:
        left_out = leave_out(own, grams, evidence, eta, folds)
        chosen = choose_temperature(left_out)
        marks = spread_marks(left_out, chosen)
    return _Fitted(own, folds, grams, evidence, eta, at, chosen, marks)


def _layer_problem(problem: FitProblem, residual: Labels3, basis: str | Mapping[str, Any]
                   ) -> FitProblem:
    """A fit of an `ACE` to residuals in the place of labels."""
    if isinstance(basis, str):
        if basis not in BASES:
            raise PriorError(f"basis={basis!r} is unknown: use one of {', '.join(BASES)}")
        basis = BASES[basis]
    length, energy = problem.reference.length, problem.reference.energy
    unit = float(np.log(energy / Reference().energy))
    amplitudes = {f"log_a_{k}": getattr(ACE, f"log_a_{k}") + unit for k in (1, 2, 3)}
    form = ACE(
        species=problem.initial.species,
        **{"cutoff": CUTOFF * length, "r0": length, "core": 0.0, **amplitudes, **basis},
    )
    noise = {name: prior for name, prior in zip(problem.space.names, problem.space.priors,
                                                strict=True) if name.startswith("sigma_")}
    dataset, labels, first = problem.dataset, [], 0
    for k, (atoms, label) in enumerate(zip(dataset.structures, dataset.labels, strict=True)):
        n = len(atoms)
        labels.append(replace(
            label,
            energy=None if label.energy is None else n * residual.energy[k],
            forces=None if label.forces is None else residual.forces[first : first + n],
            stress=None if label.stress is None else residual.stress[k],
        ))
        first += n
    return FitProblem(
        form,
        Dataset(dataset.structures, tuple(labels), dataset.families, dataset.source),
        reference=Reference(length, energy, (0.0,) * len(form.species)),
        priors={"e0": Normal(0.0, OFFSET * energy), **noise},
        # An offset that is held stays where it is held.
        fixed={name: 0.0 for name in problem.space.fixed if name.split("[")[0] == "e0"},
        floor=problem.floor,
        nu_forces=problem.nu_forces,
    )


def _weights(fitted: _Fitted, residual: Labels3, where: np.ndarray, key: jax.Array) -> np.ndarray:
    """Draws of the weights, one for each draw of the parameters, [n, p]."""
    evidence, at = fitted.evidence, fitted.at
    sigma, sd = evidence.scales(fitted.eta)
    counts = fitted.grams.counts
    inverse = np.where(counts > 0, 1.0 / (sigma**2 + fitted.grams.floor), 0.0)
    cross = np.tensordot(inverse, crosses(
        fitted.problem, residual, fitted.grams, fitted.folds
    ), axes=2)
    mean = linalg.cho_solve((at.factor, True), sd[:, None] * cross)[:, where]
    noise = np.asarray(jax.random.normal(key, mean.shape))
    spread = linalg.solve_triangular(at.factor, noise, lower=True, trans="T")
    return (sd[:, None] * (mean + np.sqrt(fitted.temperature.value) * spread)).T


def _layer(problem: FitProblem, w: np.ndarray) -> ACE:
    """Draws of the discrepancy from their weights, [n, p]."""
    space = problem.space
    widths = np.array([prior.sd for prior in space.priors[: w.shape[1]]])
    noise = np.zeros((len(w), len(space.layout.noise)))
    return space.potential(np.concatenate([w / widths, noise], axis=1))


def _sum_problem(problem: FitProblem, fitted: _Fitted, sd: np.ndarray) -> FitProblem:
    """The problem whose potential is the form and its discrepancy; noise is held."""
    initial = add(problem.initial, fitted.problem.initial)
    own, layer = _prefixes(problem, initial)
    priors, fixed = {}, {}
    for name, prior in zip(problem.space.names, problem.space.priors, strict=True):
        if not name.startswith(NOISE_ENTRIES):
            priors[own(name)] = prior
    for name, value in problem.space.fixed.items():
        if not name.startswith(NOISE_ENTRIES):
            fixed[own(name)] = value
    weights = fitted.problem.space
    for name, width in zip(weights.names, sd, strict=False):
        if not name.startswith("e0"):
            priors[layer(name)] = Normal(0.0, float(width))
    for k in range(3):
        fixed[f"sigma_{QUANTITIES[k]}"] = float(fitted.temperature.noise[k])
    final = copy.copy(problem)
    final.initial, final.misfit, final.scales = initial, "discrepancy", "common"
    final.data = replace(problem.data, family=None)
    final.space = ParameterSpace(
        initial, problem.reference, priors=priors, fixed=fixed,
        quantities=[q for q in QUANTITIES if f"sigma_{q}" in (
            *problem.space.names, *problem.space.fixed
        )],
    )
    final.cutoff = max(problem.cutoff, final.space.reach)
    return final


def _prefixes(problem: FitProblem, initial: SumPotential) -> tuple:
    """Functions from the names of entries of the parts to those of the sum."""
    *first, last = initial.prefixes
    single = "" if isinstance(problem.initial, SumPotential) else f"{first[0]}_"

    def own(name: str) -> str:
        return name if name.split("[")[0] == "e0" else single + name

    return own, lambda name: f"{last}_{name}"


def _names(problem: FitProblem, final: FitProblem) -> dict[str, str]:
    """Entries of the sum to those of the potential alone."""
    own, _ = _prefixes(problem, final.initial)
    n = problem.space.layout.n_theta
    return {own(name): name for name in problem.space.names[:n]}


def _draws(problem: FitProblem, final: FitProblem, u: np.ndarray, v: np.ndarray, layer: ACE
           ) -> np.ndarray:
    """Draws in the coordinates of the sum, [n, p], from those of its parts."""
    n = problem.space.layout.n_theta
    own, _ = _prefixes(problem, final.initial)
    columns = {own(name): u[:, k] for k, name in enumerate(problem.space.names[:n])}
    offsets = np.asarray(problem.space.potential(u).e0) + np.asarray(layer.e0)
    offset_names = [name for name in final.space.names if name.split("[")[0] == "e0"]
    for name in offset_names:
        k = 0 if "[" not in name else final.initial.species.index(name[3:-1])
        prior = final.space.priors[final.space.names.index(name)]
        columns[name] = np.array([prior.inverse(value) for value in offsets[:, k]])
    rest = iter(v.T)
    return np.stack([
        columns[name] if name in columns else next(rest) for name in final.space.names
    ], axis=1)
