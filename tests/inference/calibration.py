"""Simulation-based calibration (Talts et al., arXiv:1804.06788) on a small Morse problem.

Parameters are drawn from the prior, labels from the potential plus noise of the drawn scales. Among
the posterior draws of such labels the true parameters have a uniform rank, if and only if inference
is right on average. The likelihood must be the one of the noise: every force counts in full
(``nu_forces`` large), there are no stresses (six components count as one), and nothing that any
parameter can move is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
from ase import Atoms
from ase.build import bulk
from scipy import stats

from bayespot.data.dataset import Dataset, Labels
from bayespot.evaluate import evaluate
from bayespot.inference.nuts import nuts
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.potentials.morse import Morse
from bayespot.potentials.priors import LogNormal, Reference

CUTOFF = 5.0
FLOOR = NoiseFloor(2e-3, 1e-2, 1e-3)
WARMUP, DRAWS, THIN = 300, 1024, 16
RANKS = DRAWS // THIN + 1
PRIORS = {
    "alpha": LogNormal(1.8, 0.25), "sigma_energy": LogNormal(0.01, 0.5),
    "sigma_forces": LogNormal(0.05, 0.5),
}  # fmt: skip
"""Narrower than the defaults, which now and then draw noise that hides the potential: a chain of
this length is too short for the curved posteriors that follow, and ranks need independent draws."""


def structures() -> list[Atoms]:
    """Eight rattled two-atom cells from dense to dilute."""
    found = []
    for k, a in enumerate(np.linspace(3.3, 4.1, 8)):
        atoms = bulk("Cu", "fcc", a=a) * (2, 1, 1)
        atoms.rattle(0.12, seed=k)
        found.append(atoms)
    return found


def make_problem(labels: list[Labels] | None = None) -> FitProblem:
    cells = structures()
    empty = [Labels(0.0, np.zeros((len(a), 3))) for a in cells]
    problem = FitProblem(
        Morse(species=("Cu",), cutoff=CUTOFF),
        Dataset.from_atoms(cells, labels or empty),
        priors=PRIORS,
        reference=Reference(length=2.6, energy=2.0, offset=(-2.0,)),
        floor=FLOOR,
        nu_forces=1e9,
    )
    assert not any(problem.dropped.values()), "a label without a likelihood breaks calibration"
    return problem


def simulate(u: np.ndarray, rng: np.random.Generator) -> FitProblem:
    """The problem with labels from the parameters ``u`` and fresh noise."""
    blank = make_problem()
    out = evaluate(blank.space.potential(u), blank.graph, cutoff=blank.cutoff)
    sigma = np.hypot(blank.space.sigma(u), [FLOOR.energy, FLOOR.forces, FLOOR.stress])
    labels, first = [], 0
    for energy, atoms in zip(out.energy, blank.dataset.structures, strict=True):
        n = len(atoms)
        noise = rng.standard_normal((n, 3))
        labels.append(Labels(
            energy + n * sigma[0] * rng.standard_normal(),
            out.forces[first : first + n] + sigma[1] * noise,
        ))
        first += n
    return make_problem(labels)


def replicate(seed: int) -> tuple[dict[str, int], bool]:
    """Rank of the truth among the thinned draws by quantity; whether the chain diverged."""
    rng = np.random.default_rng([1804, seed])
    truth = rng.standard_normal(make_problem().space.size)
    problem = simulate(truth, rng)
    posterior = nuts(problem, key=jax.random.key(seed), chains=1, warmup=WARMUP, draws=DRAWS,
                     starts=4, progress=False)
    kept = slice(THIN - 1, None, THIN)
    below = (posterior.u[kept] < truth).sum(axis=0)
    ranks = dict(zip(problem.space.names, (int(r) for r in below), strict=True))
    by_structure = posterior.tree["log_likelihood"]["structure"]
    assert by_structure.attrs["thinned_by"] == 1
    log_likelihood = by_structure.values[0].sum(axis=1)[kept]
    of_truth = problem.log_likelihood_by_structure(truth).sum()
    ranks["log_likelihood"] = int((log_likelihood < of_truth).sum())
    return ranks, bool(posterior.tree["sample_stats"]["diverging"].values.mean() > 0.01)


def collect(n: int, first: int = 0) -> Iterator[tuple[dict[str, int], bool]]:
    for seed in range(first, first + n):
        yield replicate(seed)


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


def p_values(results: list[tuple[dict[str, int], bool]]) -> dict[str, float]:
    """By quantity, over all replicates."""
    names = results[0][0]
    return {name: ecdf_p_value(np.array([ranks[name] for ranks, _ in results])) for name in names}


def family_wise(p: dict[str, float]) -> float:
    """The smallest p value times the number of quantities (Bonferroni), at most one."""
    return min(1.0, len(p) * min(p.values()))
