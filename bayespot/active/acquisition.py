r"""Which structures to calculate next: functions of a posterior and a pool, nothing else.

The expected information gain of labelling a batch :math:`S`, in nats, is that of a Gaussian
posterior with covariance :math:`C` of the unconstrained parameters,

.. math::
   F(S) = \tfrac12 \log\det\Big(I + C \sum_{c \in S} G_c\Big), \qquad
   G_c = J_c^T K_c J_c ,

where :math:`K_c` holds :math:`\kappa/(\sigma^2+s^2)` of each label: the 192 force components of
a 64-atom cell do not count as 192 facts. F is monotone and submodular, so choosing one structure
after the other with the covariance updated in between reaches at least :math:`1-1/e` of the best
batch, and two near-duplicates are not chosen together because the second adds little.

That is the best design for a form that can be right. A form that cannot is pulled to the structures
which tell most about its parameters, the most extreme ones, and away from what it will be used for.
Where the error is bias, the design that minimizes it has the moments of the region of interest (Box
and Draper, J. Am. Stat. Assoc. 54, 622 (1959)). Information matching chooses so that the mean
information of the labelled structures becomes that of the pool :math:`T`,

.. math::
   D(S) = \Big\| M^{-1/2}\, \Big(\frac1{|S|} \sum_{c \in S} G_c\Big)\, M^{-1/2} - I \Big\|_F^2 ,
   \qquad M = \frac1{|T|} \Big(I + \sum_{c \in T} G_c\Big) ,

with the labelled structures in :math:`S` from the start; the :math:`I` in :math:`M` is the prior's
own information. Which rule suits which case was found on public data sets:
paper/benchmarks/acquisition_rules.py.
"""

from __future__ import annotations

import difflib
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.active.learner import parameter_information, predict_structures
from bayespot.errors import ConfigError

__all__ = [
    "ACQUISITIONS",
    "Choice",
    "choose",
    "expected_information",
    "force_std_scores",
    "greedy_information",
    "greedy_matching",
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


def _whitened(covariance: np.ndarray, fisher: np.ndarray) -> np.ndarray:
    """L^T G_c L with C = L L^T, shape (n_structures, p, p): information in posterior units."""
    covariance = 0.5 * (covariance + covariance.T)
    # Scaled to unit diagonal first: parameters differ by orders of magnitude in spread.
    scale = np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    values, vectors = np.linalg.eigh(covariance * inverse[:, None] * inverse)
    root = scale[:, None] * vectors * np.sqrt(np.clip(values, 0.0, None))
    whitened = np.einsum("ai,nab,bj->nij", root, fisher, root, optimize=True)
    return 0.5 * (whitened + np.swapaxes(whitened, 1, 2))


def expected_information(
    covariance: np.ndarray, fisher: np.ndarray, batch: Sequence[int] | None = None
) -> float:
    """Return the expected information gain of a batch, nats.

    Parameters
    ----------
    covariance : ndarray, shape (p, p)
        Posterior covariance of the unconstrained parameters.
    fisher : ndarray, shape (n_structures, p, p)
        Weighted Fisher matrix of each structure.
    batch : sequence of int, optional
        Structures of the batch; all of them by default.
    """
    chosen = fisher if batch is None else fisher[np.asarray(batch, dtype=int)]
    total = _whitened(covariance, np.sum(chosen, axis=0)[None])[0]
    return 0.5 * float(np.linalg.slogdet(np.eye(len(total)) + total)[1])


def greedy_information(
    covariance: np.ndarray, fisher: np.ndarray, batch: int
) -> tuple[list[int], list[float], np.ndarray]:
    """Choose a batch one by one, each given those before.

    Lazy: gains only shrink, so an old gain is an upper bound and most are never computed again.
    Ties go to the lower index, so the result does not depend on anything but the numbers.

    Parameters
    ----------
    covariance : ndarray, shape (p, p)
        Posterior covariance.
    fisher : ndarray, shape (n_structures, p, p)
        Weighted Fisher matrix of each structure.
    batch : int
        How many to choose; at most n_structures are.

    Returns
    -------
    indices, gains : list of int, list of float
        In the order of choice; gains in nats, never rising.
    scores : ndarray, shape (n_structures,)
        Gain of each structure on its own.
    """
    whitened = _whitened(covariance, fisher)
    current = np.eye(covariance.shape[0])
    scores = 0.5 * np.linalg.slogdet(current + whitened)[1]
    heap = [(-float(score), i, 0) for i, score in enumerate(scores)]
    heapq.heapify(heap)
    indices: list[int] = []
    gains: list[float] = []
    base = 0.0
    while heap and len(indices) < batch:
        bound, i, step = heapq.heappop(heap)
        if step < len(indices):
            gain = 0.5 * float(np.linalg.slogdet(current + whitened[i])[1]) - base
            heapq.heappush(heap, (-gain, i, len(indices)))
            continue
        indices.append(i)
        gains.append(-bound)
        current = current + whitened[i]
        base = 0.5 * float(np.linalg.slogdet(current)[1])
    return indices, gains, scores


def greedy_matching(
    fisher: np.ndarray, labelled: Sequence[int], available: Sequence[int], batch: int
) -> tuple[list[int], list[float], np.ndarray]:
    """Choose a batch one by one so that the mean information becomes that of the pool.

    Parameters
    ----------
    fisher : ndarray, shape (n_structures, p, p)
        Weighted Fisher matrix of each structure of the pool.
    labelled, available : sequence of int
        Positions of the structures that have labels, and of those that may be chosen.
    batch : int
        How many to choose; at most len(available) are.

    Returns
    -------
    indices, gains : list of int, list of float
        Positions in `available` in the order of choice, and by how much each lowers D (negative
        where the batch must be filled although every structure raises it).
    scores : ndarray, shape (len(available),)
        By how much each structure alone lowers D.
    """
    size, p = fisher.shape[:2]
    values, vectors = np.linalg.eigh((np.eye(p) + fisher.sum(axis=0)) / size)
    root = vectors / np.sqrt(values)
    whitened = np.einsum("ai,nab,bj->nij", root, fisher, root, optimize=True)
    total = whitened[np.asarray(labelled, dtype=int)].sum(axis=0)
    options = whitened[np.asarray(available, dtype=int)]
    count = len(labelled)

    def distance(mean: np.ndarray) -> np.ndarray:
        return ((mean - np.eye(p)) ** 2).sum(axis=(-2, -1))

    indices: list[int] = []
    gains: list[float] = []
    scores = np.zeros(len(options))
    for step in range(min(batch, len(options))):
        now = float(distance(total / max(count, 1)))
        gain = now - distance((total + options) / (count + 1))
        if step == 0:
            scores = gain.copy()
        gain[indices] = -np.inf
        best = int(np.argmax(gain))
        indices.append(best)
        gains.append(float(gain[best]))
        total, count = total + options[best], count + 1
    return indices, gains, scores


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
