"""What the draws say beside the spectrum: edges of priors, and spreads that are not linear."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayespot.data.dataset import Dataset
from bayespot.evaluate import Labels3, evaluate_draws
from bayespot.graph import build_graph
from bayespot.identifiability.findings import Edge
from bayespot.likelihood import FitProblem
from bayespot.potentials.priors import Prior
from bayespot.units import QUANTITIES

TAIL = 1.96
"""Beyond this many prior standard deviations lie the outer 5 % of a prior's probability."""

BOUND = 0.05
"""Share of a prior's range that counts as next to a bound."""

STRUCTURES, ATOMS = 12, 400
"""How many training structures, and atoms of them, the spreads are compared on."""

STEP = 1e-3
"""Posterior standard deviations of the differences behind the linear spread."""


def edge_of(prior: Prior, u: np.ndarray) -> Edge:
    """How the draws ``u`` of an entry lie in its prior."""
    theta = prior.forward(u)
    ends = np.array([prior.low, prior.high, float(prior.forward(0.0))])
    if prior.kind == "lognormal":
        ends[0] = max(ends[0], 0.0)
        with np.errstate(divide="ignore"):
            theta, ends = np.log(theta), np.log(ends)
    low, high, middle = ends
    width = high - low
    if not np.isfinite(width):  # one bound: as far past the median as that is from the bound
        width = 2 * min(high - middle, middle - low)
    near = np.zeros(len(u), bool)
    if np.isfinite(width):
        near = (theta - low < BOUND * width) | (high - theta < BOUND * width)
    return Edge(
        tail=float((np.abs(u) > TAIL).mean()),
        bound=float(near.mean()),
        pull=float(abs(u.mean()) * u.std()),
    )


def few_structures(dataset: Dataset) -> list[int]:
    """Some structures of every family, at most `STRUCTURES` with together `ATOMS`."""
    waiting = {
        family: [k for k, name in enumerate(dataset.families) if name == family]
        for family in sorted(set(dataset.families))
    }
    order = [
        rows[place] for place in range(len(dataset)) for rows in waiting.values()
        if place < len(rows)
    ]
    chosen: list[int] = []
    left = ATOMS
    for k in order:
        if len(dataset.structures[k]) <= left and len(chosen) < STRUCTURES:
            chosen.append(k)
            left -= len(dataset.structures[k])
    return chosen or [int(np.argmin([len(atoms) for atoms in dataset.structures]))]


def push_forward(
    problem: FitProblem, u: np.ndarray, mode: np.ndarray, root: np.ndarray,
    quantities: Sequence[str] = QUANTITIES,
) -> dict[str, float]:
    r"""Median ratio of the spread of the draws and of the linearised Gaussian, by kind of label.

    Parameters
    ----------
    problem : FitProblem
    u : ndarray [n_draws, p]
        Draws.
    mode : ndarray [p]
        Where the potential is linearised.
    root : ndarray [p, q]
        The Gaussian has the covariance :math:`R R^T`.
    quantities : sequence of str
        Which kinds of label to look at.
    """
    chosen = few_structures(problem.dataset)
    atoms = [problem.dataset.structures[k] for k in chosen]
    graph = build_graph(
        atoms, problem.space.species, problem.cutoff, triplets=problem.initial.needs_triplets
    )
    at = np.concatenate([mode + STEP * root.T, mode - STEP * root.T])
    beside = evaluate_draws(problem.space.potential(at), graph)
    drawn = evaluate_draws(problem.space.potential(u), graph)
    counts = np.array([len(a) for a in atoms])
    found = {}
    for k, name in enumerate(QUANTITIES):
        if name not in quantities:
            continue
        scale = counts if name == "energy" else 1.0
        plus, minus = np.split(_rows(beside, k, scale), 2)
        linear = np.sqrt((((plus - minus) / (2 * STEP)) ** 2).sum(axis=0))
        moving = linear > 1e-6 * linear.max()
        if moving.any():
            spread = _rows(drawn, k, scale).std(axis=0, ddof=1)
            found[name] = float(np.median(spread[moving] / linear[moving]))
    return found


def _rows(out: Labels3, k: int, scale: np.ndarray | float) -> np.ndarray:
    """One kind of label of every draw, flat, [n_draws, n]."""
    values = out[k] / scale
    return values.reshape(len(values), -1)
