"""Which structures to calculate next: functions of a posterior and a pool, nothing else.

The rules by name; the designs behind information gain and information matching are in
`bayespot.active.designs`.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.active.designs import greedy_information, greedy_matching
from bayespot.active.learner import parameter_information, predict_structures
from bayespot.errors import ConfigError

__all__ = [
    "ACQUISITIONS",
    "Choice",
    "choose",
    "force_std_scores",
]


@dataclass(frozen=True)
class Choice:
    """A batch.

    Attributes
    ----------
    indices : tuple of int
        Positions in the pool, in the order of choice.
    scores : ndarray, shape (n_structures,)
        Score of every structure of the pool before anything was chosen; NaN where it was not
        available.
    gains : tuple of float
        What each chosen structure adds to those before it (for `max_std` its score).
    unit : str
        Unit of scores and gains.
    problems : tuple of str
        What a person should know, e.g. structures that could not be scored.
    """

    indices: tuple[int, ...]
    scores: np.ndarray
    gains: tuple[float, ...]
    unit: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Question:
    """Everything an acquisition rule may look at."""

    posterior: Any
    pool: Sequence[Atoms]
    available: np.ndarray
    batch: int
    seed: int | Sequence[int]
    quantile: float
    n_draws: int
    allow_unconverged: bool
    predict: Callable[..., Any]
    information: Callable[..., tuple[np.ndarray, np.ndarray]]


def force_std_scores(
    forces_parameter_std: np.ndarray, offsets: np.ndarray, quantile: float = 0.95
) -> np.ndarray:
    """Score of each structure: a high quantile of the spread of its force components.

    Parameters
    ----------
    forces_parameter_std : ndarray, shape (n_atoms_total, 3)
        Spread from the parameters (eV/Å); noise is left out, since no calculation removes it.
    offsets : ndarray of int, shape (n_structures + 1,)
        First atom of each structure.
    quantile : float
        0.95 (robust) or 1.0 (the maximum).

    Returns
    -------
    ndarray, shape (n_structures,)
        eV/Å; minus infinity where a spread is not finite.
    """
    scores = np.full(len(offsets) - 1, -np.inf)
    for i, (first, last) in enumerate(itertools.pairwise(offsets)):
        block = np.asarray(forces_parameter_std[first:last]).ravel()
        if block.size and np.all(np.isfinite(block)):
            scores[i] = np.quantile(block, quantile)
    return scores


def _max_std(question: _Question) -> Choice:
    prediction = question.predict(
        question.posterior,
        list(question.pool),
        n_draws=question.n_draws,
        allow_unconverged=question.allow_unconverged,
    )
    scores = force_std_scores(
        prediction.forces_parameter_std, prediction.offsets, question.quantile
    )[question.available]
    order = np.argsort(-scores, kind="stable")[: question.batch]
    return _answer(question, order, scores, scores[order], "eV/Å", scores == -np.inf)


def _fisher(question: _Question) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Covariance, Fisher matrices of the whole pool, and where these are not finite."""
    covariance, fisher = question.information(
        question.posterior, list(question.pool), allow_unconverged=question.allow_unconverged
    )
    fisher = np.array(fisher, float)
    broken = ~np.all(np.isfinite(fisher), axis=(1, 2))
    fisher[broken] = 0.0
    return np.asarray(covariance, float), fisher, broken


def _information_gain(question: _Question) -> Choice:
    covariance, fisher, broken = _fisher(question)
    free = question.available
    indices, gains, scores = greedy_information(covariance, fisher[free], question.batch)
    return _answer(question, indices, scores, gains, "nats", broken[free])


def _information_matching(question: _Question) -> Choice:
    _, fisher, broken = _fisher(question)
    free = question.available
    labelled = np.setdiff1d(np.arange(len(fisher)), free)
    indices, gains, scores = greedy_matching(fisher, labelled, free, question.batch)
    return _answer(question, indices, scores, gains, "1", broken[free])


def _random(question: _Question) -> Choice:
    size = len(question.available)
    order = np.random.default_rng(question.seed).permutation(size)[: question.batch]
    nothing = np.zeros(size)
    return _answer(question, order, nothing, nothing[order], "1", nothing > 0)


def _answer(
    question: _Question,
    order: Sequence[int] | np.ndarray,
    scores: np.ndarray,
    gains: Sequence[float] | np.ndarray,
    unit: str,
    broken: np.ndarray,
) -> Choice:
    """From positions among the available structures to positions in the pool."""
    everywhere = np.full(len(question.pool), np.nan)
    everywhere[question.available] = scores
    problems: tuple[str, ...] = ()
    if np.any(broken):
        problems = (f"{int(np.sum(broken))} of {broken.size} structures have no finite score",)
    return Choice(
        tuple(int(question.available[i]) for i in order),
        everywhere,
        tuple(float(gain) for gain in gains),
        unit,
        problems,
    )


#: Acquisition rules by the name that a configuration file uses.
ACQUISITIONS: dict[str, Callable[[_Question], Choice]] = {
    "information_gain": _information_gain,
    "information_matching": _information_matching,
    "max_std": _max_std,
    "random": _random,
}


def choose(
    name: str,
    posterior: Any,
    pool: Sequence[Atoms],
    batch: int,
    *,
    available: Sequence[int] | None = None,
    seed: int | Sequence[int] = 0,
    quantile: float = 0.95,
    n_draws: int = 100,
    allow_unconverged: bool = False,
    predict: Callable[..., Any] = predict_structures,
    information: Callable[..., tuple[np.ndarray, np.ndarray]] = parameter_information,
) -> Choice:
    """Choose a batch from a pool.

    Parameters
    ----------
    name : str
        ``information_gain``, ``information_matching``, ``max_std`` or ``random``.
    posterior : Posterior
        What is believed now.
    pool : sequence of Atoms
        What could be calculated.
    batch : int
        How many; a smaller pool is taken whole.
    available : sequence of int, optional
        Positions in the pool that may be chosen; all by default. The others count as labelled for
        ``information_matching``. Give a campaign's whole pool and
        narrow it here: arrays keep their shapes from round to round, and are compiled for once.
    seed : int or sequence of int
        Used by ``random`` only; the others are deterministic.
    quantile : float
        For ``max_std``: 0.95 or 1.0 (the maximum) of the force components of a structure.
    n_draws : int
        Posterior draws for ``max_std``.
    allow_unconverged : bool
        Go on with a posterior that has not converged.
    predict, information : callable
        Replacements of `bayespot.prediction.predict` and `bayespot.prediction.information`.

    Returns
    -------
    Choice

    Raises
    ------
    ConfigError
        Unknown rule, a quantile or batch that cannot be, or a posterior without spread (map).
    NotConverged
        If the posterior has not converged and `allow_unconverged` is not set.
    """
    if name not in ACQUISITIONS:
        close = difflib.get_close_matches(name, ACQUISITIONS, n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ConfigError(f"unknown acquisition '{name}'; {hint}known: {', '.join(ACQUISITIONS)}")
    if not 0.0 < quantile <= 1.0:
        raise ConfigError(f"quantile = {quantile} must lie in (0, 1]; 1 is the maximum")
    if batch < 1:
        raise ConfigError(f"batch = {batch} must be 1 or more")
    if name != "random":
        posterior.check(allow_unconverged=allow_unconverged)
        if getattr(posterior, "method", "") == "map":
            raise ConfigError(
                f"acquisition '{name}' needs a spread, and a map posterior is a single point; "
                "set [fit] method to laplace or nuts, or acquisition to random"
            )
    free = np.arange(len(pool)) if available is None else np.asarray(available, dtype=int)
    if free.size == 0:
        return Choice((), np.full(len(pool), np.nan), (), "1", ("the pool is empty",))
    question = _Question(
        posterior,
        pool,
        free,
        batch,
        seed,
        quantile,
        n_draws,
        allow_unconverged,
        predict,
        information,
    )
    return ACQUISITIONS[name](question)
