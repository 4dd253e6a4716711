"""A fit to a stream is the fit in memory, in memory that does not grow with the data."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import bayespot
from bayespot.data.dataset import Dataset, Labels
from bayespot.data.stream import Stream
from bayespot.errors import LabelError, PriorError
from bayespot.inference.laplace import laplace
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.inference.streamed import StreamedProblem
from bayespot.likelihood import FitProblem, NoiseFloor, reference_from_data
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.potentials.morse import Morse
from bayespot.prediction import predict

ARCHIVE = "silicon_gpaw_pbe"
FLOOR = NoiseFloor(1e-3, 1e-2, 5e-4, families={"thermal": (2e-3, 1e-2, 1e-3)})


def form(core=0.0):
    return ACE(species=("Si",), cutoff=4.5, r0=2.37, degree_1=6, degree_2=4, degree_3=-1,
               core=core)


@pytest.fixture(scope="module")
def data():
    return bayespot.read(ARCHIVE)


def both(data, core=0.0, **options):
    stream = Stream(ARCHIVE, block_atoms=150)
    return (FitProblem(form(core), data, floor=FLOOR, **{"misfit": "none", **options}),
            StreamedProblem(form(core), stream, floor=FLOOR, **options))


@pytest.mark.parametrize("by_family", [False, True])
def test_same_posterior(data, by_family):
    """With the evidence at its maximum, to the last digit: the sums have one order."""
    memory, streamed = both(data)
    first, second = (linear_gaussian(p, key=jax.random.key(1), draws=100, by_family=by_family)
                     for p in (memory, streamed))
    np.testing.assert_allclose(second.u, first.u, rtol=1e-10, atol=1e-10)
    for key in ("reference", "priors", "fixed", "floor", "quantities", "dropped", "n_structures",
                "n_atoms", "method", "problems"):
        assert second.record[key] == first.record[key], key
    for key in ("fingerprint", "closest_pair"):
        assert second.record["data"][key] == first.record["data"][key]
    assert second.record["data"]["training_spread"] == pytest.approx(
        first.record["data"]["training_spread"], rel=1e-10)
    assert second.record["mean_kappa"] == pytest.approx(first.record["mean_kappa"], rel=1e-12)
    assert second.record["details"]["log_evidence"] == pytest.approx(
        first.record["details"]["log_evidence"], rel=1e-12)


@pytest.mark.parametrize("maximize", [False, True])
def test_same_posterior_with_a_core(data, maximize):
    """What is held fixed is evaluated by a compiled program, whose rounding follows its shape."""
    first, second = (linear_gaussian(p, key=jax.random.key(1), draws=100, maximize=maximize)
                     for p in both(data, core=0.8))
    np.testing.assert_allclose(second.u, first.u, atol=1e-7 if maximize else 1e-9)
    spread = [predict(p, data[:5]).energy_parameter_std for p in (first, second)]
    np.testing.assert_allclose(*spread, rtol=1e-7 if maximize else 1e-9)


@pytest.mark.parametrize("temperature", ["frederiksen", 3.0])
def test_tempered(data, temperature):
    first, second = (
        linear_gaussian(p, key=jax.random.key(1), draws=50)
        for p in both(data, misfit="tempered", temperature=temperature)
    )
    np.testing.assert_allclose(second.u, first.u, atol=1e-10)
    assert second.record["details"]["temperature"] == pytest.approx(
        first.record["details"]["temperature"], rel=1e-10)


def test_kinds_of_label_in_different_blocks(data, tmp_path):
    """Energies first, forces later, stresses last: no block has all kinds."""
    labels = [
        Labels(label.energy if k < 60 else None, label.forces if 60 <= k < 150 else None,
               label.stress if k >= 150 else None)
        for k, label in enumerate(data.labels)
    ]
    parts = Dataset(data.structures, tuple(labels), data.families)
    path = parts.write(tmp_path / "parts.xyz")
    streamed = StreamedProblem(form(), Stream(path, block_atoms=100))
    memory = FitProblem(form(), bayespot.read(path), misfit="none")
    assert streamed.space.names == memory.space.names
    assert "sigma_stress" in streamed.space.names
    first, second = (linear_gaussian(p, key=jax.random.key(1), draws=20)
                     for p in (memory, streamed))
    np.testing.assert_allclose(second.u, first.u, atol=1e-10)


def test_scales_of_alloys_and_isolated_atoms(tmp_path):
    """The zero of energy by species, and the bond of the lowest structure that has one."""
    rng = np.random.default_rng(0)
    structures, energies = [Atoms("Cu", cell=[20] * 3, pbc=True)], [-40.0]
    for k in range(30):
        atoms = bulk("Cu", a=3.6 + 0.02 * (k % 7)) * (2, 1, 1)
        atoms.symbols[0] = ["Cu", "Ni"][k % 2]
        structures.append(atoms)
        energies.append(-8.0 + rng.normal() - (k % 2))
    data = Dataset.from_atoms(structures, [Labels(energy=e) for e in energies])
    path = data.write(tmp_path / "alloy.xyz")
    potential = ACE(species=("Cu", "Ni"), cutoff=4.0, r0=2.5, degree_1=3, degree_2=-1,
                    degree_3=-1)
    streamed = StreamedProblem(potential, Stream(path, block_atoms=7, check=False))
    assert streamed.reference == reference_from_data(data, ("Cu", "Ni"))


def test_file_and_summary(data, tmp_path):
    posterior = linear_gaussian(both(data)[1], key=jax.random.key(0), draws=30)
    assert "log_likelihood" not in posterior.tree.children
    assert "observed_data" not in posterior.tree.children
    posterior.save(tmp_path / "posterior.nc")
    again = Posterior.load(tmp_path / "posterior.nc")
    assert again.summary() == posterior.summary()
    np.testing.assert_array_equal(predict(again, data[:3]).energy, predict(posterior, data[:3]
                                                                           ).energy)


def test_what_a_stream_cannot_do(data, tmp_path):
    stream = Stream(ARCHIVE)
    for options in ({"misfit": "discrepancy"}, {"misfit": "tempered"},
                    {"misfit": "tempered", "temperature": "families"}):
        with pytest.raises(PriorError, match="families are left out of data in memory only"):
            StreamedProblem(form(), stream, **options)
    with pytest.raises(PriorError, match="linear_gaussian is the only method"):
        laplace(StreamedProblem(form(), stream), key=jax.random.key(0))
    with pytest.raises(PriorError, match="Morse is not linear"):
        linear_gaussian(StreamedProblem(Morse(species=("Si",)), stream), key=jax.random.key(0))
    bare = Stream(Dataset.from_atoms(data.structures[:3]).write(tmp_path / "bare.xyz"))
    with pytest.raises(LabelError, match="no energies, forces or stresses"):
        StreamedProblem(form(), bare)


SCRIPT = """
    import re, sys
    import jax
    import bayespot
    from bayespot.data.stream import Stream
    from bayespot.inference.linear_gaussian import linear_gaussian
    from bayespot.inference.streamed import StreamedProblem
    from bayespot.potentials.ace import ACE

    bayespot.configure()
    form = ACE(species=("Si",), cutoff=5.0, r0=2.37, degree_1=8, degree_2=6, degree_3=4, core=0.0)
    problem = StreamedProblem(form, Stream(sys.argv[1], block_atoms=512))
    linear_gaussian(problem, key=jax.random.key(0), draws=10, maximize=False)
    # Not getrusage: its peak includes that of the process which started this one.
    status = open("/proc/self/status").read()
    print(re.search(r"VmHWM:\\s+(\\d+)", status)[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory as Linux tells it")
def test_memory_does_not_grow(data, tmp_path):
    """Peak memory of whole processes, MiB: paper/benchmarks/pool_scoring.py has longer runs."""
    text = data.write(tmp_path / "once.xyz").read_text()

    def peak(times):
        path = tmp_path / f"{times}.xyz"
        path.write_text(text * times)
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path)],
            capture_output=True, text=True, check=True, timeout=600,
            # The C library keeps memory for every thread there ever was; that is not ours.
            env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        )
        return int(run.stdout) / 1024

    assert peak(8) < peak(2) + 25  # in memory it is 100 more
