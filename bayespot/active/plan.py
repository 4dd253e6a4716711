"""What a campaign decides before its first calculation: settings, test set, first structures."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bayespot.active.acquisition import ACQUISITIONS
from bayespot.data.dataset import Dataset
from bayespot.errors import ConfigError
from bayespot.oracles import structure_hash

__all__ = ["CampaignSettings", "Plan", "folded_seed", "make_plan"]


@dataclass(frozen=True)
class CampaignSettings:
    """Numbers of a campaign.

    Attributes
    ----------
    seed : int
        Everything random is drawn from it, folded with the round and the purpose.
    initial : int
        Structures labelled first, drawn at random.
    batch, rounds : int
        Structures a round, and rounds after the initial set. A finished campaign goes on when
        `rounds` is raised.
    test_fraction : float
        Part of the labelled pool held out, family by family, for the learning curve only.
    acquisition : str
        ``information_gain``, ``information_matching``, ``max_std`` or ``random``.
    quantile : float
        Of the force spreads, for ``max_std``.
    n_draws : int
        Posterior draws of a prediction.
    allow_unconverged : bool
        Go on with a posterior that has not converged (it stays marked).
    max_attempts : int
        Starts after which a calculation that kills the process each time is given up.
    """

    seed: int = 0
    initial: int = 5
    batch: int = 5
    rounds: int = 6
    test_fraction: float = 0.2
    acquisition: str = "information_gain"
    quantile: float = 0.95
    n_draws: int = 100
    allow_unconverged: bool = False
    max_attempts: int = 20

    def __post_init__(self) -> None:
        limits = {"seed": 0, "initial": 0, "batch": 1, "rounds": 0, "max_attempts": 1}
        for name, least in limits.items():
            value = getattr(self, name)
            if value < least:
                raise ConfigError(f"{name} = {value} must be {least} or more")
        if not 0.0 <= self.test_fraction < 1.0:
            raise ConfigError(
                f"test_fraction = {self.test_fraction} must lie in [0, 1); 0.2 is usual"
            )
        if self.acquisition not in ACQUISITIONS:
            raise ConfigError(
                f"unknown acquisition '{self.acquisition}'; known: {', '.join(ACQUISITIONS)}"
            )

    def identity(self) -> dict[str, Any]:
        """Return what may not change while a campaign is continued."""
        free = ("rounds", "allow_unconverged", "max_attempts")
        return {name: value for name, value in asdict(self).items() if name not in free}


@dataclass(frozen=True)
class Plan:
    """Positions in the pool.

    Attributes
    ----------
    candidates : tuple of int
        What may be calculated, the initial set included.
    initial : tuple of int
        What is calculated first.
    test : tuple of int
        What is held out.
    notes : tuple of str
        What a person should know.
    """

    candidates: tuple[int, ...]
    initial: tuple[int, ...]
    test: tuple[int, ...]
    notes: tuple[str, ...] = ()


def folded_seed(seed: int, round: int, purpose: str) -> int:
    """Seed of one random decision: depends on nothing that happened before it."""
    entropy = [seed, round, zlib.crc32(purpose.encode())]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def make_plan(
    settings: CampaignSettings, pool: Dataset, *, held: Sequence[Dataset] = ()
) -> Plan:
    """Divide a pool into test set, initial set and the rest.

    Parameters
    ----------
    settings : CampaignSettings
        Seed and sizes.
    pool : Dataset
        With or without labels; only labelled structures can be tested on.
    held : sequence of Dataset
        Separate start or test sets; their structures are taken out of the pool.

    Raises
    ------
    ConfigError
        If the pool is empty or the initial set does not fit into it.
    """
    seen = {structure_hash(structure) for part in held for structure in part.structures}
    unique, notes = [], []
    for i, structure in enumerate(pool.structures):
        name = structure_hash(structure)
        if name not in seen:
            seen.add(name)
            unique.append(i)
    if len(unique) < len(pool):
        notes.append(f"{len(pool) - len(unique)} pool structures are duplicates and left out")
    if not unique:
        raise ConfigError(f"the pool {pool.source} has no structure to choose from")
    labelled = [i for i in unique if pool.labels[i].forces is not None]
    test = _stratified(labelled, pool.families, settings.test_fraction, settings.seed)
    if settings.test_fraction > 0 and not labelled:
        notes.append("the pool has no labels, so there is no test set and no error to report")
    candidates = [i for i in unique if i not in set(test)]
    if settings.initial > len(candidates):
        raise ConfigError(
            f"initial = {settings.initial} structures, but the pool {pool.source} has "
            f"{len(candidates)} after {len(test)} were held out; lower initial or test_fraction"
        )
    rng = np.random.default_rng(folded_seed(settings.seed, 0, "initial"))
    order = rng.permutation(len(candidates))[: settings.initial]
    initial = tuple(candidates[i] for i in order)
    return Plan(tuple(candidates), initial, tuple(test), tuple(notes))


def _stratified(
    members: Sequence[int], families: Sequence[str], fraction: float, seed: int
) -> list[int]:
    """Part of `members` with the same fraction of every family, largest remainders first."""
    rng = np.random.default_rng(folded_seed(seed, 0, "test"))
    names = sorted({families[i] for i in members})
    groups = [[i for i in members if families[i] == name] for name in names]
    exact = np.array([fraction * len(group) for group in groups])
    sizes = np.floor(exact).astype(int)
    short = round(float(exact.sum())) - int(sizes.sum())
    for g in np.argsort(-(exact - sizes), kind="stable")[:short]:
        sizes[g] += 1
    chosen: list[int] = []
    for group, size in zip(groups, sizes, strict=True):
        chosen += [group[i] for i in rng.permutation(len(group))[:size]]
    return sorted(chosen)
