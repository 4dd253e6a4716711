"""Pools of 10^5 structures, and fits to data on disk: rates, and memory that does not grow.

    python paper/benchmarks/pool_scoring.py

A pool of strained and rattled eight-atom silicon cells is written to a temporary folder. Processes
of one core each score it with the published Stillinger-Weber posterior and with a linear ACE fitted
to the archive, and choose 20 structures. Rates are per second of processor time, which other load
on the machine does not change; peaks of memory are those of whole processes, as Linux counts them.
The approximation of the second stage is measured on pools small enough for the whole rule. Claims
go to paper/results/dft_side.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from claims import add_claims, claim, show

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "dft_side.json"
COMMAND = "python paper/benchmarks/pool_scoring.py"
MODEL = next((HERE.parents[1] / "models").glob("silicon-stillinger_weber-*")) / "posterior.nc"
BATCH = 20
FORM = {"species": ("Si",), "cutoff": 5.0, "r0": 2.37, "core": 0.0,
        "degree_1": 10, "degree_2": 8, "degree_3": 6}  # fmt: skip


def cells(n: int, seed: int) -> Any:
    """Strained and rattled diamond cells, a few of them far from equilibrium."""
    from ase.build import bulk

    rng = np.random.default_rng(seed)
    ideal = bulk("Si", "diamond", a=5.43, cubic=True)
    for _ in range(n):
        atoms = ideal.copy()
        strain = rng.uniform(0.0, 0.06) * rng.standard_normal((3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        atoms.positions += rng.uniform(0.0, 0.25) * rng.standard_normal((len(atoms), 3))
        yield atoms


def write_pool(path: Path, n: int, seed: int = 7) -> float:
    """Write a pool; its size in MiB."""
    with open(path, "w", encoding="utf-8") as file:
        for atoms in cells(n, seed):
            cell = " ".join(f"{x:.10g}" for x in atoms.cell.array.ravel())
            rows = "".join(f"Si {x:.10g} {y:.10g} {z:.10g}\n" for x, y, z in atoms.positions)
            file.write(f'{len(atoms)}\nLattice="{cell}" Properties=species:S:1:pos:R:3 '
                       f'pbc="T T T"\n{rows}')
    return path.stat().st_size / 2**20


def peak_memory() -> float:
    """Largest memory that this process has had, MiB."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


# ------------------------------------------------------------------- in processes of their own


def score(posterior: str, pool: str, rule: str, folder: str) -> dict[str, Any]:
    """Score a pool and choose."""
    from bayespot.active.pool_choice import choose_from_pool
    from bayespot.posterior import Posterior

    begin, spent = time.perf_counter(), time.process_time()
    marks: list[tuple[int, float]] = []
    choice = choose_from_pool(
        Posterior.load(posterior), pool, BATCH, folder, rule=rule, n_draws=32,
        progress=lambda done, total, _: marks.append((done, time.process_time())),
    )  # fmt: skip
    # Without the first quarter, in which programs are compiled.
    first = next(k for k, (done, _) in enumerate(marks) if done >= choice.n_pool / 4)
    steady = (marks[-1][0] - marks[first][0]) / (marks[-1][1] - marks[first][1])
    return {
        "n": choice.n_pool, "peak": peak_memory(), "wall": time.perf_counter() - begin,
        "cpu": time.process_time() - spent, "rate": steady, "certain": choice.certain,
        "aside": sum(choice.aside.values()), "gain": float(choice.gains.sum()),
    }  # fmt: skip


def fit_ace(path: str) -> dict[str, Any]:
    """Fit the linear form to the archive and save it."""
    import jax

    import bayespot
    from bayespot.inference.linear_gaussian import linear_gaussian
    from bayespot.likelihood import FitProblem
    from bayespot.potentials.ace import ACE

    problem = FitProblem(ACE(**FORM), bayespot.read("silicon_gpaw_pbe"), misfit="none")
    posterior = linear_gaussian(problem, key=jax.random.key(0), draws=1000)
    posterior.save(path)
    return {"parameters": posterior.space.layout.n_theta}


def fit_stream(path: str, how: str) -> dict[str, Any]:
    """Fit the linear form to a file, streamed or in memory, at fixed settings."""
    import jax

    import bayespot
    from bayespot.data.stream import Stream
    from bayespot.inference.linear_gaussian import linear_gaussian
    from bayespot.inference.streamed import StreamedProblem
    from bayespot.likelihood import FitProblem
    from bayespot.potentials.ace import ACE

    form = ACE(**FORM)
    problem = (StreamedProblem(form, Stream(path, block_atoms=1024)) if how == "stream"
               else FitProblem(form, bayespot.read(path), misfit="none"))  # fmt: skip
    posterior = linear_gaussian(problem, key=jax.random.key(0), draws=100)
    return {"peak": peak_memory(), "n": len(problem.dataset), "u": posterior.u.tolist()}


def small_pools(posterior: str, folder: str) -> dict[str, Any]:
    """Objective of the two stages over that of the rule on the whole pool, three pools."""
    from bayespot.active.acquisition import choose
    from bayespot.active.designs import expected_information
    from bayespot.active.pool_choice import choose_from_pool
    from bayespot.posterior import Posterior
    from bayespot.prediction import information

    fitted, ratios, distances = Posterior.load(posterior), [], []
    for seed in range(3):
        path = Path(folder) / f"small_{seed}.xyz"
        write_pool(path, 2000, seed)
        structures = list(_read(path))
        covariance, fisher = known = information(fitted, structures)
        told = {"information": lambda *_, known=known, **__: known}
        whole = choose("information_gain", fitted, structures, BATCH, **told)
        part = choose_from_pool(fitted, path, BATCH, Path(folder) / f"gain_{seed}", shortlist=100)
        gain = [expected_information(covariance, fisher, c)
                for c in (whole.indices, part.frames)]  # fmt: skip
        ratios.append(gain[1] / gain[0])
        matched = choose("information_matching", fitted, structures, BATCH, **told)
        sampled = choose_from_pool(fitted, path, BATCH, Path(folder) / f"match_{seed}",
                                   rule="information_matching", shortlist=500)  # fmt: skip
        rng = np.random.default_rng(seed)
        by_chance = np.median([distance(fisher, rng.permutation(2000)[:BATCH]) for _ in range(50)])
        at = [distance(fisher, c) for c in (matched.indices, sampled.frames)]
        distances.append({"whole": at[0], "sampled": at[1], "random": float(by_chance)})
    return {"ratios": ratios, "distances": distances}


def distance(fisher: np.ndarray, batch: Any) -> float:
    """D of bayespot.active.designs: how far the mean information of a batch is from the pool's."""
    size, p = fisher.shape[:2]
    values, vectors = np.linalg.eigh((np.eye(p) + fisher.sum(axis=0)) / size)
    root = vectors / np.sqrt(values)
    mean = root.T @ fisher[np.asarray(batch)].mean(axis=0) @ root
    return float(((mean - np.eye(p)) ** 2).sum())


def _read(path: Path) -> Any:
    from bayespot.data.read import read

    return read(path, check=False, require_labels=False).structures


# ------------------------------------------------------------------------------ the measurement


def apart(name: str, *words: str) -> dict[str, Any]:
    """Run a function of this file in a process of its own."""
    run = subprocess.run(
        [sys.executable, __file__, "--part", name, *words], check=True, text=True,
        stdout=subprocess.PIPE,
        # One arena: the C library else keeps memory for every thread there ever was.
        env={**os.environ, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1",
             "MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    return json.loads(run.stdout.splitlines()[-1])


def pool_claims(folder: Path, large: int, only: str | None) -> None:
    """Score pools of two sizes with both posteriors; writes what it has after each case."""
    small, ace = large // 10, str(folder / "ace.nc")
    p = apart("fit_ace", ace)["parameters"]
    for n in (small, large):
        print(f"pool of {n}: {write_pool(folder / f'{n}.xyz', n):.0f} MiB", flush=True)
    # The spread of draws costs more than the information: the smaller pool is enough for its rate.
    cases = [("sw", str(MODEL), "information_gain", (small, large)),
             ("ace", ace, "information_gain", (small, large)),
             ("sw", str(MODEL), "max_std", (small,))]  # fmt: skip
    for form, posterior, rule, sizes in cases:
        if only not in (None, form):
            continue
        found = {}
        for n in sizes:
            found[n] = apart("score", posterior, str(folder / f"{n}.xyz"), rule,
                             str(folder / f"{form}_{rule}_{n}"))  # fmt: skip
            print(form, rule, found[n], flush=True)
        save(case_claims(form, rule, found, p if form == "ace" else None))


def case_claims(form: str, rule: str, found: dict[int, dict[str, Any]], p: int | None
                ) -> list[dict[str, Any]]:
    """Rows of one posterior and rule, by the size of the pool."""
    name, (small, large) = f"pool_{form}_{rule}", (min(found), max(found))
    unit = "structures of 8 atoms per second of one core"
    rows = [claim(f"{name}_rate", found[large]["rate"], ">= 100", n=large, command=COMMAND,
                  unit=unit if p is None else f"{unit}, {p} parameters")]  # fmt: skip
    rows += [claim(f"{name}_peak_{n}", row["peak"], "<= 2048", n=1, unit="MiB", command=COMMAND)
             for n, row in found.items()]  # fmt: skip
    if large > small:
        rows += [
            claim(f"{name}_scored", found[large]["n"], ">= 100000", n=1, unit="structures",
                  command=COMMAND),
            claim(f"{name}_peak_growth", found[large]["peak"] / found[small]["peak"], "<= 1.15",
                  n=2, unit="1", command=COMMAND),
        ]  # fmt: skip
    return rows


def save(rows: list[dict[str, Any]]) -> None:
    """Print and write."""
    show(rows)
    add_claims(RESULTS, "The DFT side", rows)


def approximation_claims(folder: Path) -> list[dict[str, Any]]:
    """What the shortlist loses."""
    found = apart("small_pools", str(MODEL), str(folder))
    print(found, flush=True)
    excess = [(d["sampled"] - d["whole"]) / (d["random"] - d["whole"]) for d in found["distances"]]
    return [
        claim("pool_two_stage_gain_over_greedy", min(found["ratios"]), ">= 0.97", n=3, unit="1",
              low=min(found["ratios"]), high=max(found["ratios"]), command=COMMAND),
        claim("pool_sampled_matching_excess", float(np.mean(excess)), "<= 0.05", n=3,
              unit="of the way from the whole rule to random choice",
              low=min(excess), high=max(excess), command=COMMAND),
    ]  # fmt: skip


def stream_claims(folder: Path) -> list[dict[str, Any]]:
    """Fit the archive written 2, 8 and 32 times."""
    import bayespot

    text = bayespot.read("silicon_gpaw_pbe").write(folder / "set.xyz").read_text()
    found = {}
    for times, how in ((2, "stream"), (2, "memory"), (8, "stream"), (32, "stream"),
                       (32, "memory")):  # fmt: skip
        path = folder / f"set_{times}.xyz"
        path.write_text(text * times)
        found[times, how] = apart("fit_stream", str(path), how)
        print(times, how, found[times, how]["n"], found[times, how]["peak"], flush=True)
    gap = [np.abs(np.subtract(found[t, "stream"]["u"], found[t, "memory"]["u"])).max()
           for t in (2, 32)]  # fmt: skip
    peak = {key: row["peak"] for key, row in found.items()}
    return [
        claim("streamed_fit_differs_from_memory", max(gap), "<= 1e-10", n=2,
              unit="standard normal coordinates", command=COMMAND),
        claim("streamed_fit_peak", peak[2, "stream"], "<= 2048", n=1, unit="MiB",
              command=COMMAND),
        claim("streamed_fit_growth_4x", peak[8, "stream"] / peak[2, "stream"], "<= 1.05", n=2,
              unit="1", command=COMMAND),
        claim("streamed_fit_growth_16x", peak[32, "stream"] / peak[2, "stream"], "<= 1.05", n=2,
              unit="1", command=COMMAND),
        claim("in_memory_fit_growth_16x", peak[32, "memory"] / peak[2, "memory"], "> 1.05", n=2,
              unit="1", command=COMMAND),
    ]  # fmt: skip


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="+", help="Run one function (used by this script).")
    parser.add_argument("--only", choices=("stream", "approximation", "pool"))
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--form", choices=("sw", "ace"), help="Score with this posterior only.")
    arguments = parser.parse_args()
    import bayespot

    bayespot.configure()
    if arguments.part:
        name, *words = arguments.part
        parts = {f.__name__: f for f in (score, fit_ace, fit_stream, small_pools)}
        print(json.dumps(parts[name](*words)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.only in (None, "stream"):
            save(stream_claims(folder))
        if arguments.only in (None, "approximation"):
            save(approximation_claims(folder))
        if arguments.only in (None, "pool"):
            pool_claims(folder, arguments.large, arguments.form)


if __name__ == "__main__":
    main()
