"""A posterior made small for publishing keeps its verdict and its draws."""

import jax
import numpy as np
import pytest
from ase.build import bulk

import bayespot


@pytest.fixture(scope="module")
def posterior():
    cells = [bulk("Cu", "fcc", a=a) for a in np.linspace(3.4, 3.9, 6)]
    labels = [bayespot.Labels(energy=-3.5 + (c.cell.array[0, 1] - 1.8) ** 2) for c in cells]
    data = bayespot.Dataset.from_atoms(cells, labels)
    problem = bayespot.FitProblem(bayespot.LennardJones(species=("Cu",)), data, misfit="none")
    return bayespot.laplace(problem, key=jax.random.key(0), draws=200, starts=2)


def test_draws_are_some_of_those_that_were_there(posterior):
    small = posterior.thinned(40)
    assert small.u.shape == (40, posterior.u.shape[1])
    assert {tuple(row) for row in small.u} <= {tuple(row) for row in posterior.u}
    np.testing.assert_array_equal(small.u[[0, -1]], posterior.u[[0, -1]])
    assert small.record["thinned"] == {"kept": 40, "of": 200}


def test_the_verdict_is_that_of_all_draws(posterior):
    small = posterior.thinned(10)
    assert small.problems == posterior.problems
    assert small.diagnostics().identical(posterior.diagnostics())


def test_the_file_is_smaller_and_loads(posterior, tmp_path):
    posterior.save(tmp_path / "all.nc")
    posterior.thinned(20).save(tmp_path / "some.nc")
    assert (tmp_path / "some.nc").stat().st_size < (tmp_path / "all.nc").stat().st_size
    loaded = bayespot.Posterior.load(tmp_path / "some.nc")
    np.testing.assert_array_equal(loaded.draws, posterior.thinned(20).draws)
    assert "log_likelihood" not in loaded.tree.children


def test_asking_for_more_than_there_is_gives_all(posterior):
    assert len(posterior.thinned(10_000).u) == len(posterior.u)
