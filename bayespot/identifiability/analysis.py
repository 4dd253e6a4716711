"""From a problem and its posterior to what the data determine."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from bayespot.data.dataset import Dataset
from bayespot.errors import LabelError, PriorError
from bayespot.identifiability.draws import edge_of, push_forward
from bayespot.identifiability.findings import Direction, Identifiability
from bayespot.identifiability.scores import design_effect
from bayespot.inference.curved import whitening
from bayespot.inference.map import climb
from bayespot.inference.tempered import hold_noise, noise_at
from bayespot.likelihood import FitProblem
from bayespot.parameters import NOISE_ENTRIES, ParameterSpace
from bayespot.posterior import Posterior
from bayespot.potentials.linear import LinearPotential
from bayespot.potentials.sums import SumPotential, add
from bayespot.units import QUANTITIES

MAX_PARAMETERS = 200
"""Parameters of a potential up to which its Jacobian is worth making."""

SHOWN = 4
"""Parameters named in a direction at most."""

CANDIDATES, STEPS = 20, 50
"""Draws that the most probable one is chosen among, and steps from there to the mode."""

NOT_REACHED = "the mode was not reached; everything is taken where the search for it ended"


def identifiability(
    problem: FitProblem,
    posterior: Posterior,
    *,
    n_draws: int = 400,
    allow_unconverged: bool = False,
) -> Identifiability:
    """What of a potential the data determine, and what its priors hold.

    Of a potential with a discrepancy the part that has parameters is looked at; ``problem`` is the
    one that the posterior was made for. A posterior of one draw goes without what needs draws.

    Parameters
    ----------
    problem : FitProblem
        What was fitted; `problem_behind` makes it again from a posterior and its data.
    posterior : Posterior
    n_draws : int
        At most this many draws, evenly spaced, for the spread of predictions.
    allow_unconverged : bool
        Go on although the posterior has not converged.

    Raises
    ------
    PriorError
        If the posterior is of another potential than the problem, or has too many parameters.
    LabelError
        If the posterior was fitted to other data.
    NotConverged
        If the posterior has not converged and ``allow_unconverged`` is not set.
    """
    posterior.check(allow_unconverged=allow_unconverged)
    problem, columns = _matched(problem, posterior)
    space = problem.space
    n = space.layout.n_theta
    if not 0 < n <= MAX_PARAMETERS:
        raise PriorError(
            f"identifiability of {space.form.__name__} with {n} parameters: this report is for 1 "
            f"to {MAX_PARAMETERS} of them"
        )
    u = _draws(space, posterior, columns)
    known = [space.names.index(name) for name in columns]
    at = _linearize(problem, u, posterior)
    fisher = at.density.gauss_newton(at.mode).fisher.sum(axis=0)
    values, vectors = np.linalg.eigh(0.5 * (fisher + fisher.T))
    order = np.argsort(values)[::-1]
    values, vectors = np.clip(values[order], 0.0, None), vectors[:, order]
    notes = [at.note]
    table = posterior.diagnostics()["contraction"]
    contraction, edges, spreads = {}, {}, {}
    if np.ptp(u[:, known], axis=0).any():
        for k, name in zip(known, columns, strict=True):
            contraction[name] = float(table.sel(parameter=columns[name]))
            edges[name] = edge_of(space.priors[k], u[:, k])
        if at.comparable:
            spreads = _spreads(at, u, n_draws)
        else:
            notes.append("spreads are not compared with linear ones: these draws are no sample of "
                         "a posterior density of the parameters")
    else:
        notes.append("one draw of the parameters: contraction, edges of priors and spreads are "
                     "left out")
    effect = design_effect(problem, at.base, problem.gauss_newton(at.base).fisher.sum(axis=0))
    if not np.isfinite(effect.value):
        notes.append(f"{effect.structures} structures for {effect.directions} directions: too few "
                     "for a design effect")
    missing = [name for name in space.names if name not in columns]
    if missing:
        notes.append(f"{', '.join(missing)}: at the most probable values; these draws do not have "
                     "them apart from the treatment of misfit")
    return Identifiability(
        form=space.form.__name__, method=posterior.method, misfit=posterior.misfit,
        names=tuple(space.names[:n]), temperature=at.temperature, eigenvalues=values,
        directions=tuple(
            _direction(space, at.base, value, vector)
            for value, vector in zip(values, vectors.T, strict=True)
        ),
        contraction=contraction, edges=edges, push_forward=spreads,
        design_effect=effect if np.isfinite(effect.value) else None, notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Linear:
    """Where the potential is linearised, and in which density."""

    density: FitProblem  # that the draws are from; its likelihood may be tempered
    mode: np.ndarray  # in its coordinates
    base: np.ndarray  # the same point in those of the problem
    temperature: float
    comparable: bool  # whether the draws are a sample of that density
    note: str


def problem_behind(posterior: Posterior, dataset: Dataset) -> FitProblem:
    """The problem that a posterior was made for; without the discrepancy, if it has one.

    Parameters
    ----------
    posterior : Posterior
    dataset : Dataset
        That it was fitted to.
    """
    space, potential = posterior.space, posterior.potential
    priors = dict(zip(space.names, space.priors, strict=True))
    fixed = dict(space.fixed)
    if posterior.misfit != "none":  # the noise that is held there is that of predictions
        fixed = {name: value for name, value in fixed.items() if not name.startswith(NOISE_ENTRIES)}
    if _has_discrepancy(posterior):
        *parts, _ = potential.parts
        own = _own_names(space, [*priors, *fixed])
        priors = {own[name]: prior for name, prior in priors.items() if name in own}
        fixed = {own[name]: value for name, value in fixed.items() if name in own}
        potential = add(*parts) if len(parts) > 1 else parts[0]
    return FitProblem(
        potential, dataset, priors=priors, fixed=fixed, reference=space.reference,
        floor=posterior.floor, nu_forces=posterior.nu_forces, misfit="none",
        scales=space.families or "common", tails=space.tails,
    )


def fitted_parameters(posterior: Posterior) -> int:
    """How many parameters the potential has, without the discrepancy's."""
    space = posterior.space
    if _has_discrepancy(posterior):
        return len(_own_names(space, space.names))
    return space.layout.n_theta


def _own_names(space: ParameterSpace, names: list[str]) -> dict[str, str]:
    """Entries of a potential with a discrepancy to those of the potential; noise has none."""
    *first, last = space.form.prefixes
    cut = len(first[0]) + 1 if len(first) == 1 else 0
    return {
        name: name if name.split("[")[0] == "e0" else name[cut:]
        for name in names if not name.startswith((f"{last}_", *NOISE_ENTRIES))
    }


def _matched(problem: FitProblem, posterior: Posterior) -> tuple[FitProblem, dict[str, str]]:
    """The problem as it was fitted, and its entries to those of the posterior.

    The noise of a posterior that treats misfit is that of predictions and is not matched, nor are
    offsets that a discrepancy has a part in.
    """
    if posterior.record["data"]["fingerprint"] != problem.dataset.fingerprint():
        raise LabelError(
            f"the posterior was fitted to other data ({posterior.record['data']['source']}) than "
            f"the problem has ({problem.dataset.source}): give the data of the fit"
        )
    space, theirs = problem.space, posterior.space
    wanted = space.names[: space.layout.n_theta]
    kept = {name: name for name in theirs.names[: theirs.layout.n_theta]}
    if _has_discrepancy(posterior):
        kept = {own: name for name, own in _own_names(theirs, theirs.names).items()}
    if sorted(kept) != sorted(wanted) or space.species != theirs.species:
        raise PriorError(
            f"the posterior of {theirs.form.__name__} ({', '.join(kept)}) is not one of this "
            f"problem, {space.form.__name__} ({', '.join(wanted)}): give the problem that was "
            "fitted"
        )
    priors = {kept[name]: prior for name, prior in zip(wanted, space.priors, strict=False)}
    if posterior.floor != problem.floor or any(
        priors.get(name, prior) != prior
        for name, prior in zip(theirs.names, theirs.priors, strict=True)
    ):  # evidence chose them
        problem = problem_behind(posterior, problem.dataset)
    if posterior.misfit == "none":
        problem = copy.copy(problem)
        problem.space = theirs  # evidence may have chosen the noise
        return problem, {name: name for name in theirs.names}
    if _has_discrepancy(posterior):
        kept = {own: name for own, name in kept.items() if own.split("[")[0] != "e0"}
    return problem, kept


def _has_discrepancy(posterior: Posterior) -> bool:
    """Whether the potential is a sum of what was fitted and of what it misses."""
    form = posterior.space.form
    return posterior.misfit == "discrepancy" and issubclass(form, SumPotential) and not issubclass(
        form, LinearPotential)  # which is its own discrepancy, also where it is a sum


def _draws(space: ParameterSpace, posterior: Posterior, columns: dict[str, str]) -> np.ndarray:
    """Draws of the problem's entries, NaN where the posterior has none, [n_draws, p]."""
    theirs = posterior.parameter_names
    return np.stack([
        posterior.u[:, theirs.index(columns[name])] if name in columns
        else np.full(len(posterior.u), np.nan)
        for name in space.names
    ], axis=1)


def _linearize(problem: FitProblem, u: np.ndarray, posterior: Posterior) -> _Linear:
    """The mode next to the most probable draw."""
    index = np.linspace(0, len(u) - 1, min(CANDIDATES, len(u))).round().astype(int)
    candidates = np.nan_to_num(u[np.unique(index)])
    best = candidates[int(np.argmax([problem.log_posterior(one) for one in candidates]))]
    mode = climb(problem, best, steps=STEPS)
    note = "everything is taken at the mode next to the most probable draw"
    if posterior.misfit != "tempered":
        comparable = posterior.misfit == "none" or _has_discrepancy(posterior)
        where = note if mode.converged else NOT_REACHED
        return _Linear(problem, mode.u, mode.u, 1.0, comparable, where)
    value = float(posterior.record["details"]["temperature"])
    density = hold_noise(problem, noise_at(problem, mode.u))
    density.data = replace(density.data, kappa=type(density.data.kappa)(
        *(k / value for k in density.data.kappa)
    ))
    n = problem.space.layout.n_theta
    tempered = climb(density, mode.u[:n], steps=STEPS)
    base = np.concatenate([tempered.u, mode.u[n:]])
    where = note if tempered.converged else NOT_REACHED
    return _Linear(density, tempered.u, base, value, True, f"{where}, at temperature {value:.3g}")


def _spreads(at: _Linear, u: np.ndarray, n_draws: int) -> dict[str, float]:
    """The push-forward check on what of the draws is known."""
    size, n = at.density.space.size, at.density.space.layout.n_theta
    u = u[np.unique(np.linspace(0, len(u) - 1, min(n_draws, len(u))).round().astype(int)), :size]
    known = ~np.isnan(u[0])
    root = np.where(known[:, None], whitening(at.density, at.mode), 0.0)
    names = at.density.space.names + list(at.density.space.fixed)
    # An offset that is not known would be missing from every energy.
    kinds = [q for q in QUANTITIES if f"sigma_{q}" in names and (known[:n].all() or q != "energy")]
    return push_forward(at.density, np.where(known, u, at.mode), at.mode, root, kinds)


def _direction(space: ParameterSpace, mode: np.ndarray, value: float, vector: np.ndarray
               ) -> Direction:
    """An eigenvector in words of parameters."""
    n = len(vector)
    order = np.argsort(-np.abs(vector))
    vector = vector * np.sign(vector[order[0]])
    moved = mode.copy()
    moved[:n] += vector / np.sqrt(1.0 + value)
    before, after = space.physical(mode), space.physical(moved)
    moves = []
    for k in order[:SHOWN]:
        if abs(vector[k]) < 0.3 * abs(vector[order[0]]):
            break
        if space.priors[k].kind == "lognormal":
            change = f"{100 * (after[k] / before[k] - 1):+.2g} %"
        else:
            unit = "" if space.units[k] == "1" else f" {space.units[k]}"
            change = f"{after[k] - before[k]:+.2g}{unit}"
        moves.append(f"{space.names[k]} {change}")
    return Direction(
        float(value), dict(zip(space.names[:n], vector.tolist(), strict=True)), tuple(moves)
    )
