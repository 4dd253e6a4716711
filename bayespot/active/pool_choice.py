"""A batch from a pool that is larger than memory: a shortlist by scores, then the exact rule on it.

* ``max_std``: the score is the choice; the shortlist is the batch.
* ``information_gain``: the shortlist is the structures that gain most on their own, and a part
  drawn at random from the others. What greedy choice takes from it can differ from what it would
  take from the whole pool. While a pick gains at least what any structure outside would gain on its
  own it does not, because gains only shrink: `PoolChoice.certain` counts those picks.
* ``information_matching``: the information of the pool is the exact one, added up in the first
  stage. The shortlist is drawn at random, structures that gain more on their own more often.
* ``random`` has no first stage.

A campaign holds its pool in memory; where that is too small, a large batch chosen here is its pool.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.active.acquisition import ACQUISITIONS, Choice, choose
from bayespot.active.pool import Pool, PoolScores, Progress, example, score_pool
from bayespot.active.pool_scores import SCORED, Gain, scorer
from bayespot.data.dataset import Dataset, family_of
from bayespot.errors import BayespotError, ConfigError
from bayespot.graph import build_graph

__all__ = ["PoolChoice", "choose_from_pool"]

SHORTLIST, SHORTLIST_OF_BATCH = 1000, 50
"""Structures of a shortlist: so many, or so many times the batch."""

AT_RANDOM = 0.25
"""Part of the shortlist of ``information_gain`` that is drawn at random."""

@dataclass(frozen=True)
class PoolChoice:
    """A batch from a pool.

    Attributes
    ----------
    dataset : Dataset
        The chosen structures, in the order of choice.
    frames, places : tuple
        Number in the pool, and file and frame of each.
    scores, grades, gains : ndarray [batch]
        Score on its own, extrapolation (NaN where the rule does not know it), and what each adds
        to those before it.
    unit : str
        Unit of scores and gains.
    n_pool, n_scored, n_shortlist : int
        Structures of the pool, those of them that had no score yet, and those of the second stage.
    aside : dict of str to int
        Structures that could not be used, by kind of error.
    examples : dict of str to str
        A reason of each kind.
    certain : int
        So many of the first picks are those of the rule on the whole pool.
    problems : tuple of str
        What a person should know.
    seconds : float
        Of both stages, in this process.
    """

    dataset: Dataset
    frames: tuple[int, ...]
    places: tuple[str, ...]
    scores: np.ndarray
    grades: np.ndarray
    gains: np.ndarray
    unit: str
    n_pool: int
    n_scored: int
    n_shortlist: int
    aside: dict[str, int]
    examples: dict[str, str]
    certain: int
    problems: tuple[str, ...]
    seconds: float

    def lines(self) -> list[str]:
        """What was done and what was left out, for people."""
        aside = sum(self.aside.values())
        lines = [
            f"{len(self.frames)} of {self.n_pool} structures, from a shortlist of "
            f"{self.n_shortlist}; scored {self.n_scored} in {self.seconds:.0f} s"
        ]
        if self.unit == "nats":
            lines.append(
                f"the first {self.certain} are what the rule takes from the whole pool"
                if self.certain else "what the rule takes from the whole pool may differ"
            )
        lines += [f"set aside {aside} structures that cannot be used:"] if aside else []
        lines += [f"set aside {n} ({kind}), for example {self.examples[kind]}"
                  for kind, n in self.aside.items()]
        return lines + list(self.problems)


def choose_from_pool(
    posterior: Any,
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    batch: int,
    folder: str | Path,
    *,
    rule: str = "information_gain",
    shortlist: int | None = None,
    seed: int = 0,
    quantile: float = 0.95,
    n_draws: int = 100,
    allow_unconverged: bool = False,
    progress: Progress | None = None,
) -> PoolChoice:
    """Choose a batch from files; memory grows with the shortlist, not with the pool.

    Parameters
    ----------
    posterior : Posterior
    source : str, Path or sequence of them
        See `Pool`.
    batch : int
        How many; a smaller pool is taken whole.
    folder : path
        Gets ``scores.csv`` (see `score_pool`) and ``chosen.xyz``.
    rule : str
        ``information_gain``, ``max_std``, ``information_matching`` or ``random``.
    shortlist : int, optional
        Structures of the second stage.
    seed : int
        Of what is drawn at random.
    quantile, n_draws, allow_unconverged, progress
        See `score_pool`.

    Raises
    ------
    ConfigError
        Unknown rule, a number that cannot be, or a folder of another scoring.
    NotConverged
        If the posterior has not converged and `allow_unconverged` is not set.
    """
    begin = time.perf_counter()
    if rule not in ACQUISITIONS:
        raise ConfigError(f"unknown rule {rule!r}; known: {', '.join(ACQUISITIONS)}")
    if batch < 1:
        raise ConfigError(f"batch = {batch} must be 1 or more")
    wanted = max(SHORTLIST, SHORTLIST_OF_BATCH * batch) if shortlist is None else shortlist
    if wanted < batch:
        raise ConfigError(f"a shortlist of {wanted} structures is less than a batch of {batch}")
    pool, folder = Pool(source), Path(folder)
    options = {"quantile": quantile, "n_draws": n_draws, "allow_unconverged": allow_unconverged}
    give = scorer(rule, posterior, **options) if rule in SCORED else None
    first = _unscored(pool) if give is None else score_pool(give, pool, folder, progress=progress)
    picked = _shortlist(rule, first, batch, wanted, np.random.default_rng(seed))
    loaded = pool.load(picked)
    entries, aside, examples = _usable(posterior, {i: loaded[i] for i in picked})
    if not entries:
        raise ConfigError(f"no structure of {pool.name} can be used: "
                          + "; ".join([*first.examples.values(), *examples.values()]))
    structures = [atoms for _, _, atoms in entries]
    if isinstance(give, Gain):
        n = int(np.isfinite(first.scores).sum())
        indices, gains = give.pick(structures, batch, n)
        unit = "1" if give.matching else "nats"
        chosen = Choice(tuple(indices), np.full(len(structures), np.nan), tuple(gains), unit)
    else:
        chosen = choose(rule, posterior, structures, batch, seed=seed, **options)
    order = list(chosen.indices)
    frames = tuple(entries[i][0] for i in order)
    outside = np.setdiff1d(np.flatnonzero(np.isfinite(first.scores)), [e[0] for e in entries])
    dataset = _described([structures[i] for i in order], frames, chosen)
    folder.mkdir(parents=True, exist_ok=True)
    dataset.write(folder / "chosen.xyz")
    own = first.scores[list(frames)] if rule in SCORED else chosen.scores[order]
    return PoolChoice(
        dataset, frames, tuple(entries[i][1] for i in order), own, first.grades[list(frames)],
        np.array(chosen.gains), chosen.unit, len(pool), first.fresh, len(entries),
        {**first.aside, **aside}, {**first.examples, **examples},
        _certain(rule, chosen.gains, first.scores[outside]),
        chosen.problems, time.perf_counter() - begin,
    )  # fmt: skip


def _unscored(pool: Pool) -> PoolScores:
    nothing = np.full(len(pool), np.nan)
    return PoolScores(nothing, nothing, {}, {})


def _shortlist(rule: str, first: PoolScores, batch: int, wanted: int, rng: np.random.Generator
               ) -> list[int]:
    """Numbers of the structures that the second stage looks at, sorted."""
    if rule not in SCORED:
        n = len(first.scores)
        return sorted(int(i) for i in rng.permutation(n)[:wanted])
    usable = np.flatnonzero(np.isfinite(first.scores))
    order = usable[np.argsort(-first.scores[usable], kind="stable")]
    if rule == "max_std":
        return sorted(int(i) for i in order[:batch])
    if rule == "information_matching":
        # Exponential clocks: the first to ring are a draw without replacement by weight.
        clocks = rng.exponential(size=len(usable)) / np.maximum(first.scores[usable], 1e-300)
        return sorted(int(i) for i in usable[np.argsort(clocks)][:wanted])
    top = wanted - round(AT_RANDOM * wanted)
    rest = rng.permutation(order[top:])[: wanted - top]
    return sorted(int(i) for i in [*order[:top], *rest])


def _usable(posterior: Any, loaded: dict[int, tuple[str, Atoms | str]]) -> tuple:
    """(number, place, structure) of what can be used; how many cannot, and an example of each."""
    entries, aside, examples = [], {}, {}
    for index, (place, atoms) in loaded.items():
        reason = atoms if isinstance(atoms, str) else ""
        if not reason:
            try:
                build_graph([atoms], posterior.species, posterior.cutoff)
            except BayespotError as error:
                reason = f"{type(error).__name__}: {error}"
        if not reason:
            entries.append((index, place, atoms))
            continue
        kind, told = example(place, reason)
        aside[kind] = aside.get(kind, 0) + 1
        examples.setdefault(kind, told)
    return entries, aside, examples


def _certain(rule: str, gains: Sequence[float], outside: np.ndarray) -> int:
    """How many of the first picks are those of the rule on the whole pool."""
    if rule == "random":
        return 0
    if rule == "max_std" or not len(outside):
        return len(gains)
    if rule == "information_matching":
        return 0
    below = np.flatnonzero(np.array(gains) < outside.max())
    return int(below[0]) if len(below) else len(gains)


def _described(structures: list[Atoms], frames: tuple[int, ...], chosen: Choice) -> Dataset:
    """The batch with its place in the pool in ``info``."""
    marked = []
    for atoms, frame, gain in zip(structures, frames, chosen.gains, strict=True):
        copy = atoms.copy()
        copy.info |= {"bayespot_pool_frame": frame, "bayespot_gain": float(gain)}
        marked.append(copy)
    return Dataset.from_atoms(marked, families=[family_of(atoms) for atoms in marked],
                              source="batch")
