"""A fit on several devices beside the same one on one of them; run by test_sharding.py.

Run as a program, because JAX takes the number of devices when it starts. Prints one line of JSON.
The first argument says what to compare. With the arguments ADDRESS PROCESSES PROCESS after it, this
is one of several processes of one run.
"""

import json
import sys

import jax
import numpy as np
from ase.build import bulk

import bayespot
from bayespot.data.dataset import Dataset, Labels
from bayespot.inference.map import value_and_gradient
from bayespot.inference.nuts import nuts
from bayespot.likelihood import FitProblem
from bayespot.potentials.base import Potential
from bayespot.potentials.morse import Morse
from bayespot.potentials.stillinger_weber import StillingerWeber


def labelled() -> Dataset:
    """Rattled cells of 16 and 54 atoms: chunks that do not divide evenly."""
    rng, structures, labels = np.random.default_rng(4), [], []
    for k in range(11):
        atoms = bulk("Si", "diamond", a=5.2 + 0.05 * k) * ((2, 2, 2) if k % 3 else (3, 3, 3))
        atoms.rattle(0.1, rng=rng)
        structures.append(atoms)
        labels.append(Labels(-5.0 * len(atoms) + rng.normal(), rng.normal(size=(len(atoms), 3)),
                             0.01 * rng.normal(size=6)))
    families = tuple(("cold", "hot")[k % 2] for k in range(11))
    return Dataset(tuple(structures), tuple(labels), families, "made")


def difference(a: object, b: object) -> float:
    """Largest difference of two trees of arrays, relative to the largest entry of each array."""
    return max(
        float(np.abs(np.asarray(x) - np.asarray(y)).max() / np.abs(np.asarray(x)).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def compare(form: Potential, devices: int, **options) -> dict[str, float]:
    """Relative differences of what is computed with the data on some devices and on one."""
    data = labelled()
    one, many = FitProblem(form, data, **options), FitProblem(form, data, devices=devices,
                                                              **options)
    u = 0.3 * np.random.default_rng(0).standard_normal(one.space.size)
    (v, g), (w, h) = (
        value_and_gradient(p.space.layout, p.space.constants, p.placed(), u) for p in (one, many)
    )
    return {
        "devices": devices, "value": abs(float(w) / float(v) - 1), "gradient": difference(g, h),
        "entries": float(np.abs(np.asarray(h) / np.asarray(g) - 1).max()),
        "gauss_newton": difference(one.gauss_newton(u), many.gauss_newton(u)),
        "structures": difference(one.log_likelihood_by_structure(u),
                                 many.log_likelihood_by_structure(u)),
        "precision": difference(one.precision(u), many.precision(u)),
        "chunks": np.atleast_1d(many.graph.n_chunks).tolist(),
    }


def small_problem(devices: int | None) -> FitProblem:
    """Quick to sample."""
    rng, structures, labels = np.random.default_rng(1), [], []
    for k in range(8):
        atoms = bulk("Cu", "fcc", a=3.3 + 0.1 * k) * (2, 1, 1)
        atoms.rattle(0.1, rng=rng)
        structures.append(atoms)
        labels.append(Labels(-2.0 + 0.01 * rng.normal(), 0.05 * rng.normal(size=(2, 3))))
    return FitProblem(Morse(species=("Cu",), cutoff=4.5), Dataset.from_atoms(structures, labels),
                      misfit="none", devices=devices)


def chains(devices: int | None) -> dict[str, list]:
    """Draws of a few short chains, and the log density that the sampler saw there."""
    posterior = nuts(small_problem(devices), key=jax.random.key(0), chains=3, warmup=20, draws=10,
                     starts=2, progress=False, block=10)
    return {"u": posterior.tree["unconstrained_posterior"]["u"].values.tolist(),
            "lp": posterior.tree["sample_stats"]["lp"].values.tolist()}


def main() -> None:
    what, *others = sys.argv[1:]
    hosts = dict(zip(("coordinator_address", "num_processes", "process_id"),
                     (others[0], int(others[1]), int(others[2])), strict=True)) if others else False
    bayespot.configure(cache="", hosts=hosts)
    devices = len(jax.devices())
    silicon = StillingerWeber(species=("Si",))
    found = {
        "quick": lambda: [compare(Morse(species=("Si",), cutoff=4.5), devices)],
        "full": lambda: [compare(silicon, 2), compare(silicon, 3, scales="family", tails=5.0)],
        "chains": lambda: {"alone": chains(None), "dealt": chains(1), "shared": chains(2)},
        "hosts": lambda: {"compared": compare(Morse(species=("Si",), cutoff=4.5), devices),
                          "shared": chains(devices)},
    }[what]()
    print(json.dumps({"devices": devices, "found": found}))


if __name__ == "__main__":
    main()
