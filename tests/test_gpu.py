"""The same numbers on a GPU as on the CPU; skipped, saying so, where there is none."""

import jax
import numpy as np
import pytest
from ase.build import bulk

import bayespot
from bayespot.data.dataset import Dataset, Labels
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.likelihood import log_posterior


def gpus() -> list:
    try:
        return jax.devices("gpu")
    except RuntimeError:
        return []


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpus(), reason="needs a GPU that JAX can see"),
]


def problem() -> bayespot.FitProblem:
    rng = np.random.default_rng(0)
    structures = []
    for _ in range(6):
        atoms = bulk("Si", "diamond", a=5.43, cubic=True)
        atoms.positions += 0.1 * rng.standard_normal((8, 3))
        structures.append(atoms)
    potential = bayespot.StillingerWeber.silicon_1985()
    graph = build_graph(structures, potential.species, potential.reach)
    truth = evaluate(potential, graph, cutoff=potential.reach)
    labels = [
        Labels(e, f, s)
        for e, f, s in zip(truth.energy, np.split(truth.forces, 6), truth.stress, strict=True)
    ]
    return bayespot.FitProblem(potential, Dataset.from_atoms(structures, labels))


def test_density_and_gradient_are_those_of_the_cpu():
    made = problem()
    space = made.space
    u = 0.1 * np.random.default_rng(1).standard_normal(space.size)
    results = []
    for device in (jax.devices("cpu")[0], gpus()[0]):
        with jax.default_device(device):
            data = jax.device_put(made.data, device)
            results.append(jax.value_and_grad(
                lambda v, data=data: log_posterior(space.layout, space.constants, data, v)
            )(jax.device_put(u, device)))
    np.testing.assert_allclose(*(float(r[0]) for r in results), rtol=1e-10)
    np.testing.assert_allclose(*(np.asarray(r[1]) for r in results), rtol=1e-8)


def test_nuts_runs_on_a_gpu():
    with jax.default_device(gpus()[0]):
        posterior = bayespot.nuts(
            problem(), key=jax.random.key(0), chains=2, warmup=20, draws=20, starts=1,
            progress=False,
        )
    assert np.isfinite(posterior.draws).all()
