"""The score of a structure by itself: functions of a block of structures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.active.acquisition import force_std_scores
from bayespot.active.designs import (
    greedy_information,
    greedy_matching,
    greedy_rows,
    information_of_rows,
    root_of,
)
from bayespot.active.linear_information import label_rows
from bayespot.errors import BayespotError, ConfigError
from bayespot.evaluate import evaluate_draws
from bayespot.graph import NeighborGraph, build_graph
from bayespot.inference.sum_rows import has_linear_part
from bayespot.likelihood import FitProblem
from bayespot.pending import (
    parameter_covariance,
    pending_dataset,
    pending_point,
    pending_problem,
)
from bayespot.potentials.linear import LinearPotential
from bayespot.prediction import extrapolation_grades

__all__ = ["SCORED", "Gain", "Scorer", "scorer"]

BLOCK_ATOMS = 3840
"""Atoms that are scored together: fifteen chunks of a graph, padded to sixteen."""

SCORED = ("max_std", "information_gain", "information_matching")
"""Rules whose first stage scores every structure."""

MATRIX_BYTES = 2**30
"""Fisher matrices of a shortlist may take so much memory."""

Score = tuple[float, float, str]
"""Score, extrapolation grade (NaN if unknown), and why there is none."""


class Scorer:
    """Scores of the structures of a block.

    All graphs are padded to the largest so far, so that few programs are compiled. ``settings`` say
    what the scores depend on besides the posterior, in plain JSON.
    """

    state: np.ndarray | None = None
    """What is added up over the pool besides the scores, if anything."""

    def __init__(self, posterior: Any, **settings: Any) -> None:
        self.posterior, self.settings = posterior, settings
        self._last: NeighborGraph | None = None

    def graph(self, structures: list[Atoms]) -> NeighborGraph:
        """Neighbours of a block."""
        self._last = build_graph(
            structures, self.posterior.species, self.posterior.cutoff,
            triplets=self.posterior.potential.needs_triplets, like=self._last,
        )
        return self._last

    def complaint(self, atoms: Atoms) -> str:
        """What is wrong with a structure; empty if nothing is."""
        try:
            build_graph([atoms], self.posterior.species, self.posterior.cutoff)
        except BayespotError as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def __call__(self, structures: list[Atoms]) -> list[Score]:
        """Score, grade and what is wrong with each."""
        scores, grades = self.scores(structures)
        return [
            (float(s), float(g), "") if np.isfinite(s) else (np.nan, np.nan, "not finite")
            for s, g in zip(scores, grades, strict=True)
        ]

    def scores(self, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        """Scores and grades [n]."""
        raise TypeError(f"{type(self).__name__} must define scores(self, structures)")


class _Spread(Scorer):
    """Quantile of the spread of the force components, as `predict` gives it."""

    def __init__(self, posterior: Any, quantile: float, n_draws: int) -> None:
        super().__init__(posterior, rule="max_std", quantile=quantile, n_draws=n_draws)
        self.quantile, self.potentials = quantile, posterior.potentials(n_draws)

    def scores(self, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        """See the class; the grades are those of `predict`."""
        out = evaluate_draws(self.potentials, self.graph(structures))
        counts = np.array([len(a) for a in structures])
        grades = extrapolation_grades(self.posterior, out.energy / counts, out.forces, counts)
        spread = out.forces.std(axis=0)
        if self.posterior.calibrated:
            spread = spread * np.repeat(np.maximum(1.0, grades), counts)[:, None]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return force_std_scores(spread, offsets, self.quantile), grades


class Gain(Scorer):
    """Gain of a structure on its own, nats; for matching the sum of all Fisher matrices as well."""

    def __init__(self, posterior: Any, rule: str) -> None:
        super().__init__(posterior, rule=rule)
        self.matching = rule == "information_matching"
        if self.matching:
            p = posterior.space.layout.n_theta
            self.state = np.zeros((p, p))
        self.covariance = parameter_covariance(posterior)
        self.root = root_of(self.covariance)
        self.at = pending_point(posterior)
        self._problem: FitProblem | None = None

    def problem(self, structures: list[Atoms]) -> FitProblem:
        """The structures as data to come."""
        if self._problem is None:
            self._problem = pending_problem(self.posterior, structures)
        else:
            self._problem = self._problem.on(
                pending_dataset(self.posterior, structures), like=self._problem.graph
            )
        return self._problem

    def scores(self, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        """See the class; without draws there are no grades."""
        fisher = self.fisher(structures)
        if self.state is not None:
            self.state += np.where(np.isfinite(fisher), fisher, 0.0).sum(axis=0)
        whitened = np.swapaxes(self.root[None], 1, 2) @ fisher @ self.root
        eye = np.eye(len(self.root))
        return 0.5 * np.linalg.slogdet(eye + whitened)[1], np.full(len(structures), np.nan)

    def pick(self, structures: list[Atoms], batch: int, n: int) -> tuple[list[int], list[float]]:
        """Greedy choice by `bayespot.active.designs`, from a pool of n structures."""
        p = len(self.root)
        if self.matching and 8 * p * p * len(structures) > MATRIX_BYTES:
            raise ConfigError(
                f"Fisher matrices of {len(structures)} structures and {p} parameters take "
                f"{8 * p * p * len(structures) / 2**30:.1f} GiB: a shortlist of "
                f"{int(MATRIX_BYTES / (8 * p * p))} is the largest; information_gain of a linear "
                "form needs no matrices"
            )
        if not self.matching:
            return self.gain(structures, batch)
        fisher = np.concatenate([self.fisher(block) for block in _blocks(structures)])
        region = (np.eye(p) + self.state) / n
        return greedy_matching(fisher, [], range(len(fisher)), batch, region)[:2]

    def gain(self, structures: list[Atoms], batch: int) -> tuple[list[int], list[float]]:
        """Greedy information gain."""
        fisher = np.concatenate([self.fisher(block) for block in _blocks(structures)])
        return greedy_information(self.covariance, fisher, batch)[:2]

    def fisher(self, structures: list[Atoms]) -> np.ndarray:
        """Fisher matrices, shape (n_structures, p, p)."""
        return self.problem(structures).gauss_newton(self.at).fisher


class _LinearGain(Gain):
    """The same from rows of a form with a linear part, whose Fisher matrices would be large."""

    def rows(self, structures: list[Atoms]) -> list[np.ndarray]:
        """Rows of every structure, see `label_rows`."""
        return label_rows(self.problem(structures), self.at)

    def fisher(self, structures: list[Atoms]) -> np.ndarray:
        """Fisher matrices, shape (n_structures, p, p)."""
        return np.stack([a.T @ a for a in self.rows(structures)])

    def gain(self, structures: list[Atoms], batch: int) -> tuple[list[int], list[float]]:
        """Greedy information gain, without Fisher matrices."""
        rows = [a @ self.root for block in _blocks(structures) for a in self.rows(block)]
        return greedy_rows(rows, batch)

    def scores(self, structures: list[Atoms]) -> tuple[np.ndarray, np.ndarray]:
        """See the class."""
        rows = self.rows(structures)
        if self.state is not None:
            every = np.concatenate(rows)
            self.state += every.T @ every
        scores = np.array([information_of_rows(a @ self.root) for a in rows])
        return scores, np.full(len(structures), np.nan)


def _blocks(structures: list[Atoms]) -> Iterator[list[Atoms]]:
    """Structures in blocks of at most `BLOCK_ATOMS` atoms, larger ones alone."""
    block: list[Atoms] = []
    for atoms in structures:
        if block and sum(map(len, block)) + len(atoms) > BLOCK_ATOMS:
            yield block
            block = []
        block.append(atoms)
    yield block


def scorer(rule: str, posterior: Any, quantile: float, n_draws: int, allow_unconverged: bool
           ) -> Scorer:
    """The first stage of a rule.

    Raises
    ------
    ConfigError
        Unknown rule, a posterior that is a single point, or a quantile that cannot be.
    NotConverged
        If the posterior has not converged and `allow_unconverged` is not set.
    """
    if rule not in SCORED:
        raise ConfigError(f"rule {rule!r} gives no score to a structure; {' and '.join(SCORED)} do")
    posterior.check(allow_unconverged=allow_unconverged)
    if posterior.method == "map":
        raise ConfigError(
            f"rule {rule!r} needs a spread, and a map posterior is a single point; fit with nuts "
            "or laplace, or choose at random"
        )
    if not 0.0 < quantile <= 1.0:
        raise ConfigError(f"quantile = {quantile} must lie in (0, 1]; 1 is the maximum")
    if rule == "max_std":
        return _Spread(posterior, quantile, n_draws)
    linear = isinstance(posterior.potential, LinearPotential) or has_linear_part(posterior.space)
    return (_LinearGain if linear else Gain)(posterior, rule)
