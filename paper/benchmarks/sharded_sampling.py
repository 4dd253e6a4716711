"""Throughput of the log posterior's gradient with the data on 1, 2, ... devices.

    python paper/benchmarks/sharded_sampling.py SET.extxyz.xz --every 2 --devices 1 2
    python paper/benchmarks/sharded_sampling.py SET.extxyz.xz --hosts 2

Each number of devices is a process of its own, because JAX takes it when it starts: on a CPU the
host is cut into devices (XLA_FLAGS), on a machine with several accelerators they are those. A row
has the gradients per second, and how far value and gradient are from those of one device. Processes
are run one after the other; the smallest of several block means is kept, since other work on the
machine can only make a block slower. Devices of one CPU share its cores, and one core is what a
single device can fill here: the figures say what sharing costs and whether it uses the cores that
are there, not how it scales over a network.

Claims go to paper/results/dft_side.json.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import claims
import numpy as np

RESULTS = Path(__file__).resolve().parents[1] / "results" / "dft_side.json"
BLOCKS, REPEAT = 8, 10
"""Blocks of so many gradients; the same on every host, because hosts wait for each other."""


def measure(options: argparse.Namespace) -> dict:
    """One process: timing and numbers with the data on so many devices."""
    import jax

    import bayespot
    from bayespot.inference.map import value_and_gradient

    hosts = False
    if options.process is not None:
        hosts = {"coordinator_address": options.address, "num_processes": options.processes,
                 "process_id": options.process}  # fmt: skip
    bayespot.configure(cache="", hosts=hosts)
    data = bayespot.read(options.source)
    data = data[np.arange(0, len(data), options.every)]
    form = bayespot.StillingerWeber(species=data.species)
    problem = bayespot.FitProblem(form, data, misfit="none", devices=len(jax.devices()))
    space, u = problem.space, 0.1 * np.random.default_rng(0).standard_normal(problem.space.size)
    shared = problem.placed()

    def gradient() -> tuple:
        return jax.block_until_ready(value_and_gradient(space.layout, space.constants, shared, u))

    (value, slope), means = gradient(), []
    for _ in range(BLOCKS):
        began = time.perf_counter()
        for _ in range(REPEAT):
            gradient()
        means.append((time.perf_counter() - began) / REPEAT)
    return {
        "devices": len(jax.devices()), "platform": jax.devices()[0].platform,
        "atoms": problem.graph.n_atoms, "chunks": np.atleast_1d(problem.graph.n_chunks).tolist(),
        "value": float(value), "gradient": np.asarray(slope).tolist(),
        "seconds": min(means), "slowest": max(means),
    }


def run(options: argparse.Namespace, devices: int, processes: int = 1) -> dict:
    """Start the processes of one measurement; the answer of the first."""
    environment = {**os.environ,
                   "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, __file__, options.source, "--every", str(options.every), "--one"]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            command += ["--address", f"localhost:{free.getsockname()[1]}", "--processes",
                        str(processes)]  # fmt: skip
    started = [
        subprocess.Popen(command + (["--process", str(k)] if processes > 1 else []),
                         env=environment, stdout=subprocess.PIPE, text=True)
        for k in range(processes)
    ]
    answers = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"a process of {processes} with {devices} devices failed")
    return json.loads(answers[0].splitlines()[-1])


def rows_of(found: dict[str, dict], options: argparse.Namespace) -> list[dict]:
    """Claims: the numbers agree; what each layout does in a second."""
    command = "python " + " ".join(["paper/benchmarks/sharded_sampling.py", *sys.argv[1:]])
    one, rows = found["1 device"], []
    cores = len(os.sched_getaffinity(0))
    for name, row in found.items():
        speed = 1.0 / row["seconds"]
        rows.append(claims.claim(
            f"gradients per second, SW, {one['atoms']} atoms, {name} on {cores} core(s)", speed,
            "> 0", n=BLOCKS, unit="1/s", command=command, low=1.0 / row["slowest"], high=speed,
        ))
        if row is one:
            continue
        exact = np.array(one["gradient"])
        rows.append(claims.claim(
            f"value of {name} relative to one device", abs(row["value"] / one["value"] - 1),
            "<= 1e-12", n=1, unit="1", command=command,
        ))
        rows.append(claims.claim(
            f"gradient of {name} relative to one device, largest entry",
            float(np.abs(np.array(row["gradient"]) / exact - 1).max()), "<= 1e-12",
            n=len(exact), unit="1", command=command,
        ))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="labelled structures of one species")
    parser.add_argument("--every", type=int, default=1, help="take every so-many-th structure")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--hosts", type=int, default=1, help="also so many processes")
    for name, kind in (("address", str), ("processes", int), ("process", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options)))
        return
    found = {}
    for devices in sorted({1, *options.devices}):
        found[f"{devices} device" + "s" * (devices > 1)] = run(options, devices)
    if options.hosts > 1:
        found[f"{options.hosts} processes"] = run(options, 1, options.hosts)
    rows = rows_of(found, options)
    claims.show(rows)
    claims.add_claims(RESULTS, "The DFT side", rows)


if __name__ == "__main__":
    main()
