"""A data set that grows by a structure reuses every compiled program.

Without this a campaign compiled everything anew each round, and a long one ran out of memory maps.
"""

import jax
import numpy as np
from ase.build import bulk

import bayespot
from bayespot import evaluate, likelihood
from bayespot.data.dataset import Dataset, Labels
from bayespot.inference import assemble
from bayespot.inference.map import value_and_gradient

PROGRAMS = (
    evaluate._evaluate_draws,
    likelihood.log_posterior,
    likelihood.gauss_newton,
    likelihood.misfit_by_structure,
    assemble._log_likelihood_of_draws,
    value_and_gradient,
)


def fit(n: int) -> None:
    rng = np.random.default_rng(0)
    structures = []
    for _ in range(n):
        atoms = bulk("Si", "diamond", a=5.4)
        atoms.positions += 0.05 * rng.standard_normal((2, 3))
        structures.append(atoms)
    labels = [Labels(-8.0, 0.1 * rng.standard_normal((2, 3))) for _ in structures]
    problem = bayespot.FitProblem(
        bayespot.Morse(species=("Si",), cutoff=4.0), Dataset.from_atoms(structures, labels),
        misfit="none",
    )
    bayespot.laplace(problem, key=jax.random.key(0), draws=10, starts=2)


def test_nothing_is_compiled_again():
    fit(3)
    before = [program._cache_size() for program in PROGRAMS]
    fit(4)
    fit(7)
    assert [program._cache_size() for program in PROGRAMS] == before
