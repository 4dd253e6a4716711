"""Simulation-based calibration (Talts et al., arXiv:1804.06788) of five forms.

Parameters are drawn from the prior, labels from the potential plus noise of the drawn scales. Among
the posterior draws of such labels the true parameters have a uniform rank, if and only if inference
is right on average. The likelihood must be the one of the noise: every force counts in full
(``nu_forces`` large), there are no stresses (six components count as one), and nothing that any
parameter can move is left out.

Ranks need independent draws. A chain that has too few of them runs again at greater length, as
Talts et al. do (their algorithm 2), and is then thinned; one that still has too few is counted in
the ranks and marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import arviz_base
import arviz_stats
import jax
import numpy as np
from ase import Atoms
from ase.build import bulk
from scipy import stats

from bayespot.data.dataset import Dataset, Labels
from bayespot.evaluate import evaluate
from bayespot.inference.assemble import DIVERGENCE_LIMIT
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.inference.nuts import nuts
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.potentials.base import Potential
from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.linear import LinearPotential
from bayespot.potentials.morse import Morse
from bayespot.potentials.priors import LogNormal, Normal, Prior, Reference
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.sutton_chen import SuttonChen

FLOOR = NoiseFloor(2e-3, 1e-2, 1e-3)
WARMUP, LENGTHS, KEPT = 300, (1024, 4096), 64
RANKS = KEPT + 1
ENOUGH = 4 * KEPT
"""Effective draws of every quantity, so that one in so many of a chain is as good as independent:
the correlation of what is kept is then at most 0.6^16."""

NOISE = {"sigma_energy": LogNormal(0.01, 0.5), "sigma_forces": LogNormal(0.05, 0.5)}
"""Narrower than the defaults, which now and then draw noise that hides the potential: a chain of
this length is too short for the curved posteriors that follow."""


@dataclass(frozen=True)
class Case:
    """A form, the structures that it labels, and the priors of truth and fit alike."""

    potential: Potential
    structures: tuple[Atoms, ...]
    reference: Reference
    priors: Mapping[str, Prior]
    target_accept: float = 0.9

    @property
    def linear(self) -> bool:
        """Whether the posterior has a closed form."""
        return isinstance(self.potential, LinearPotential)


@dataclass(frozen=True)
class Replicate:
    """Ranks of one truth among the kept draws of its fit, by quantity, and how the fit went."""

    ranks: dict[str, int]
    draws: int
    ess: float
    """Of the quantity that has the least."""
    divergent: float
    """Share of the transitions."""

    @property
    def diverged(self) -> bool:
        """Whether the fit would report its divergences."""
        return self.divergent > DIVERGENCE_LIMIT

    @property
    def short(self) -> bool:
        """Whether the longest chain had too few draws."""
        return self.ess < ENOUGH


def _rattled(cells: list[Atoms], sd: float) -> tuple[Atoms, ...]:
    for k, atoms in enumerate(cells):
        atoms.rattle(sd, seed=k)
    return tuple(cells)


def _fcc(lattice: np.ndarray) -> list[Atoms]:
    return [bulk("Cu", "fcc", a=a) * (2, 1, 1) for a in lattice]


def _copper_clusters() -> list[Atoms]:
    """Two, three and four atoms: fewer neighbours than any crystal has."""
    return [
        Atoms("Cu2", [[0, 0, 0], [1.4, 1.2, 1.3]]),
        Atoms("Cu3", [[0, 0, 0], [2.5, 0, 0], [1.3, 2.1, 0.4]]),
        Atoms("Cu4", [[0, 0, 0], [2.5, 0, 0], [1.3, 2.2, 0], [1.2, 0.8, 2.1]]),
    ]


def _silicon() -> list[Atoms]:
    """Two- to four-atom cells of three crystals from dense to dilute, and two clusters."""
    crystals = [bulk("Si", "diamond", a=a) for a in (5.2, 5.35, 5.5, 5.7)]
    crystals += [bulk("Si", "sc", a=a) * (2, 1, 1) for a in (2.45, 2.6)]
    crystals.append(bulk("Si", "bct", a=4.7, c=2.6) * (2, 1, 1))
    return [
        *crystals,
        Atoms("Si3", [[0, 0, 0], [2.3, 0, 0], [0.7, 2.2, 0.3]]),
        Atoms("Si5", [[0, 0, 0], [1.4, 1.4, 1.3], [-1.4, -1.3, 1.4], [-1.3, 1.4, -1.4],
                      [1.4, -1.4, -1.3]]),
    ]


def morse() -> Case:
    """Eight two-atom cells from dense to dilute."""
    return Case(
        Morse(species=("Cu",), cutoff=5.0), _rattled(_fcc(np.linspace(3.3, 4.1, 8)), 0.12),
        Reference(length=2.6, energy=2.0, offset=(-2.0,)),
        {"alpha": LogNormal(1.8, 0.25), **NOISE},
    )


def lennard_jones() -> Case:
    """The cells of `morse`; the prior of sigma is narrower, a twelfth power makes it wide."""
    return Case(
        LennardJones(species=("Cu",), cutoff=5.0), morse().structures,
        Reference(length=2.6, energy=2.0, offset=(-2.0,)),
        {"sigma": LogNormal(0.9, 0.08, scale="length"), **NOISE},
    )


def sutton_chen() -> Case:
    """Crystals with twelve and eight neighbours, and clusters, so that the root shows."""
    cells = _fcc(np.linspace(3.4, 4.0, 4))
    cells += [bulk("Cu", "bcc", a=a) * (2, 1, 1) for a in (2.75, 2.95)]
    return Case(
        SuttonChen(species=("Cu",), cutoff=5.0, density_cutoff=5.0),
        _rattled([*cells, *_copper_clusters()], 0.12),
        Reference(length=2.55, energy=3.5, offset=(-2.0,)), NOISE,
    )


def stillinger_weber() -> Case:
    """All nine parameters, the cutoff among them.

    Three of five chains had divergences under the declared priors, which draw parameters that these
    few structures say little about; shorter steps take those that the narrower ones leave.
    """
    return Case(
        StillingerWeber(species=("Si",)), _rattled(_silicon(), 0.15),
        Reference(length=2.35, energy=4.0, offset=(-2.0,)),
        {
            "D": LogNormal(0.5, 0.2, scale="energy"), "k": LogNormal(25.0, 0.15),
            "q": Normal(0.1, 0.3, low=0.0), "s": LogNormal(0.9, 0.2, scale="length"),
            "r_c": LogNormal(1.6, 0.05, low=1.3, high=2.0, scale="length"),
            "gamma": LogNormal(1.07, 0.2, scale="length"),
            "lam": LogNormal(0.3, 0.3, scale="energy"), **NOISE,
        },
        target_accept=0.98,
    )


def linear_ace() -> Case:
    """A small basis; the noise is drawn and known."""
    potential = ACE(species=("Si",), cutoff=4.5, r0=2.35, degree_1=5, degree_2=3, degree_3=1)
    return Case(potential, _rattled(_silicon(), 0.15),
                Reference(length=2.35, energy=4.0, offset=(-2.0,)), NOISE)


CASES: dict[str, Callable[[], Case]] = {
    "lennard_jones": lennard_jones, "morse": morse, "sutton_chen": sutton_chen,
    "linear_ace": linear_ace, "stillinger_weber": stillinger_weber,
}


@cache
def case_of(name: str) -> Case:
    """The case, made once."""
    return CASES[name]()


def make_problem(case: Case, labels: list[Labels] | None = None,
                 known: Mapping[str, float] | None = None) -> FitProblem:
    """A fit of the case; without labels they are zero, ``known`` noise scales are held."""
    empty = [Labels(0.0, np.zeros((len(a), 3))) for a in case.structures]
    problem = FitProblem(
        case.potential,
        Dataset.from_atoms(case.structures, labels or empty),
        misfit="none",
        priors=case.priors,
        fixed=known,
        reference=case.reference,
        floor=FLOOR,
        nu_forces=1e9,
    )
    assert not any(problem.dropped.values()), "a label without a likelihood breaks calibration"
    return problem


def simulate(case: Case, u: np.ndarray, rng: np.random.Generator) -> FitProblem:
    """The problem with labels from the parameters ``u`` and fresh noise.

    A linear form gets its noise scales told: its closed form holds them.
    """
    blank = make_problem(case)
    out = evaluate(blank.space.potential(u), blank.graph, cutoff=blank.cutoff)
    sigma = blank.space.sigma(u)
    scale = np.hypot(sigma, [FLOOR.energy, FLOOR.forces, FLOOR.stress])
    labels, first = [], 0
    for energy, atoms in zip(out.energy, case.structures, strict=True):
        n = len(atoms)
        noise = rng.standard_normal((n, 3))
        labels.append(Labels(
            energy + n * scale[0] * rng.standard_normal(),
            out.forces[first : first + n] + scale[1] * noise,
        ))
        first += n
    told = {"sigma_energy": sigma[0], "sigma_forces": sigma[1]} if case.linear else None
    return make_problem(case, labels, told)


def replicate(name: str, seed: int) -> Replicate:
    """One truth of a case, its labels and its fit."""
    case, rng = case_of(name), np.random.default_rng([1804, seed])
    truth = rng.standard_normal(make_problem(case).space.size)
    problem = simulate(case, truth, rng)
    truth = truth[: problem.space.size]
    if case.linear:
        posterior = linear_gaussian(problem, key=jax.random.key(seed), draws=KEPT, maximize=False)
        draws, ess, divergent = _draws(posterior), float("inf"), 0.0
    else:
        for length in LENGTHS:
            posterior = nuts(problem, key=jax.random.key(seed), chains=1, warmup=WARMUP,
                             draws=length, starts=4, target_accept=case.target_accept,
                             progress=False)
            draws = _draws(posterior)
            chain = arviz_base.dict_to_dataset({"draws": draws[None]})
            ess = min(float(arviz_stats.ess(chain, method=kind)["draws"].min())
                      for kind in ("bulk", "tail"))
            if ess >= ENOUGH:
                break
        divergent = float(posterior.tree["sample_stats"]["diverging"].values.mean())
    of_truth = [*truth, problem.log_likelihood_by_structure(truth).sum()]
    thin = len(draws) // KEPT
    below = (draws[thin - 1 :: thin] < of_truth).sum(axis=0)
    names = (*problem.space.names, "log_likelihood")
    return Replicate({name: int(rank) for name, rank in zip(names, below, strict=True)},
                     len(draws), ess, divergent)


def _draws(posterior: Posterior) -> np.ndarray:
    """All quantities that get a rank, [n_draws, p + 1]."""
    by_structure = posterior.tree["log_likelihood"]["structure"]
    assert by_structure.attrs["thinned_by"] == 1
    return np.column_stack([posterior.u, by_structure.values[0].sum(axis=1)])


def collect(name: str, n: int, first: int = 0) -> Iterator[Replicate]:
    """Replicates of the seeds from ``first`` on."""
    for seed in range(first, first + n):
        yield replicate(name, seed)


def ecdf_p_value(ranks: np.ndarray, *, values: int = RANKS, simulations: int = 2000) -> float:
    """P value of uniform ranks in 0 .. values - 1 by the largest deviation of their ECDF.

    The statistic of Säilynoja, Bürkner and Vehtari (Stat. Comput. 32, 32, 2022): the least likely
    binomial count over all points, with its own distribution from simulated uniform ranks.
    """
    points = np.arange(1, values) / values

    def statistic(sample: np.ndarray) -> np.ndarray:
        counts = (sample[..., None] < np.arange(1, values)).sum(axis=-2)
        n = sample.shape[-1]
        tails = np.minimum(
            stats.binom.cdf(counts, n, points), stats.binom.sf(counts - 1, n, points)
        )
        return 2 * tails.min(axis=-1)

    rng = np.random.default_rng(0)
    null = statistic(rng.integers(0, values, (simulations, len(ranks))))
    return float((null <= statistic(np.asarray(ranks))).mean())


def p_values(results: Sequence[Replicate]) -> dict[str, float]:
    """By quantity, over all replicates."""
    return {
        name: ecdf_p_value(np.array([one.ranks[name] for one in results]))
        for name in results[0].ranks
    }


def family_wise(p: dict[str, float]) -> float:
    """The smallest p value times the number of quantities (Bonferroni), at most one."""
    return min(1.0, len(p) * min(p.values()))
