"""Data and chains on several devices and hosts: the same numbers as on one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from sharded import small_problem

from bayespot.errors import BayespotError
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph

HERE = Path(__file__).resolve().parent


def start(devices, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "JAX_PLATFORMS": "cpu",
                   "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return subprocess.Popen(
        [sys.executable, str(HERE / "sharded.py"), *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def result(process):
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-4000:]
    return json.loads(out.splitlines()[-1])


def same_numbers(row):
    assert len(row["chunks"]) == row["devices"]
    for name in ("value", "gradient", "entries", "gauss_newton", "structures", "precision"):
        assert row[name] < 1e-12, (row["devices"], name, row[name])


def seen_densities(draws):
    """The log densities that the sampler saw are those of the problem on one device."""
    problem = small_problem(None)
    u, lp = np.array(draws["u"]), np.array(draws["lp"])
    own = [problem.log_posterior(one) for one in u.reshape(-1, u.shape[-1])]
    np.testing.assert_allclose(lp.ravel(), own, rtol=1e-11)
    assert np.ptp(u, axis=1).max() > 1e-3, "a chain moves"


def test_value_and_gradient_are_those_of_one_device():
    found = result(start(4, "quick"))
    assert found["devices"] == 4
    (row,) = found["found"]
    assert max(row["chunks"]) > min(row["chunks"]), "parts of uneven size"
    same_numbers(row)


@pytest.mark.slow
def test_of_every_noise_and_number_of_devices():
    rows = result(start(3, "full"))["found"]
    assert [row["devices"] for row in rows] == [2, 3]
    for row in rows:
        same_numbers(row)


@pytest.mark.slow
def test_chains_on_several_devices():
    found = result(start(4, "chains"))["found"]
    assert found["dealt"] == found["alone"], "a device of its own draws what the only one would"
    seen_densities(found["shared"])


@pytest.mark.slow
def test_two_hosts_get_the_numbers_of_one():
    """Two processes of two devices each, told of each other by `bayespot.configure`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [start(2, "hosts", address, "2", str(k)) for k in range(2)]
    first, second = (result(p) for p in processes)
    assert first == second, "every host has the same draws"
    assert first["devices"] == 4
    same_numbers(first["found"]["compared"])
    seen_densities(first["found"]["shared"])


def test_chunks_dealt_to_parts_are_the_same_structures():
    problem = small_problem(None)
    structures = problem.dataset.structures
    dealt = build_graph(structures, ("Cu",), problem.cutoff, chunk_atoms=4, parts=3)
    assert dealt.n_chunks.tolist() == [2, 1, 1]
    assert dealt.chunks.species.shape[0] == 6
    form = problem.space.potential(np.zeros(problem.space.size))
    for a, b in zip(evaluate(form, dealt, cutoff=problem.cutoff),
                    evaluate(form, problem.graph, cutoff=problem.cutoff), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("devices", [0, 99])
def test_devices_that_are_not_there(devices):
    with pytest.raises(BayespotError, match=f"devices={devices}: JAX has {len(jax.devices())} "):
        small_problem(devices)
