"""What each rung of the ladder can see: elasticity, angles, and the error that is left.

Usage: python paper/benchmarks/ladder_physics.py [--every 6] [--out FILE]

1. Crystals of prior draws: fcc at zero pressure, C12 - C44 over C44. A pair potential keeps the
   Cauchy relation whatever its parameters, an embedded atom does not.
2. Prior draws on two sheets with the same bonds, flat (sp2) and puckered (sp3): the difference of
   their energies over the larger one. Only forms that know angles tell them apart.
3. Every rung on the same silicon (mlearn, Zuo et al. 2020, BSD-3, ../shared/data), parameters at
   their most probable values: error of the forces on the published test split beside what the fit
   says of it, its noise and the spread of its discrepancy.

The definitions of 1 and 2 are those of the tests. Writes paper/results/ladder_physics.json, which
paper/figures/ladder.py draws.
"""

# ruff: noqa: E402  (threads and the cache are configured before anything is compiled)
import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "potentials"))

import jax
import numpy as np
from claims import commit, versions
from scipy import optimize

import bayespot

bayespot.configure()

import test_ladder as sheets
import test_pair_forms as crystals
from ladder_fits import dataset_of, errors, potential_of

from bayespot.inference.discrepancy import add_discrepancy
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.inference.map import map_estimate
from bayespot.likelihood import FitProblem
from bayespot.parameters import ParameterSpace
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.potentials.base import Potential, form_named
from bayespot.potentials.priors import Reference
from bayespot.prediction import predict

METALS = ("Morse", "Buckingham", "SuttonChen", "FinnisSinclair", "ZhouJohnson")
SHEETS = ("Morse", "SuttonChen", "FinnisSinclair", "StillingerWeber", "Tersoff")
RUNGS = ("Morse", "SplineEAM", "StillingerWeber", "Tersoff", "ACE")
COPPER = Reference(2.556, 3.5, (0.0,))
CARBON = Reference(sheets.BOND, 5.0, (0.0,))


def draws(potential: Potential, reference: Reference, count: int, seed: int = 0) -> list[Potential]:
    """Potentials drawn from the priors."""
    space = ParameterSpace(potential, reference)
    u = np.random.default_rng(seed).standard_normal((count, space.size))
    return [space.potential(one) for one in u]


def cauchy(form: str, count: int = 40) -> list[float]:
    """(C12 - C44) / C44 of fcc crystals at rest; draws without such a crystal are left out."""
    found = []
    for potential in draws(form_named(form)(species=("Cu",)), COPPER, count):
        lattice = np.linspace(3.0, 4.6, 33)
        pressure = -np.array([
            s[0] for s in crystals.labels(potential, *map(crystals.fcc, lattice)).stress
        ])
        turns = np.flatnonzero((pressure[:-1] > 0) & (pressure[1:] <= 0))
        if not turns.size:
            continue
        a = optimize.brentq(
            lambda a, p=potential: crystals.labels(p, crystals.fcc(a)).stress[0, 0],
            lattice[turns[0]], lattice[turns[0] + 1], xtol=1e-10,
        )
        c12, c44, _ = crystals.elastic(potential, crystals.fcc(a))
        found.append(float((c12 - c44) / abs(c44)))
    return found


def angles(form: str, count: int = 40) -> list[float]:
    """Difference of the energies of the sheets over the larger one."""
    settings = {} if form == "StillingerWeber" else {"cutoff": sheets.CUTOFF, "switch_width": 0.4}
    if form in ("SuttonChen", "FinnisSinclair"):
        settings |= sheets.DENSITY_ENDS
    if form == "StillingerWeber":
        settings = {"r_c": sheets.CUTOFF, "s": 1.0}
    found = []
    for potential in draws(form_named(form)(species=("C",), **settings), CARBON, count):
        if form == "StillingerWeber":
            potential = potential.replace(r_c=sheets.CUTOFF)
        flat, puckered = sheets.energies(potential.replace(e0=0.0))
        found.append(float(abs(flat - puckered) / max(abs(flat), abs(puckered), 1e-12)))
    return found


def rung(form: str, every: int) -> dict:
    """One form on silicon: errors, noise, and the spread of its discrepancy, forces in eV/Å."""
    began = time.perf_counter()
    train, test = dataset_of("Si", "train"), dataset_of("Si", "test")
    train = train[np.arange(0, len(train), every)]
    key = jax.random.key(0)
    probe = FitProblem(bayespot.Morse(species=("Si",)), train).reference
    if form == "ACE":
        potential = ACE(species=("Si",), r0=probe.length, cutoff=2.4 * probe.length, degree_1=12,
                        degree_2=10, degree_3=7)
        plain = linear_gaussian(
            FitProblem(potential, train, misfit="none"), key=key, draws=100
        )
        treated: Posterior = linear_gaussian(
            FitProblem(potential, train, misfit="discrepancy"), key=key, draws=100
        )
    else:
        fixed = {"r_c": 1.58 * probe.length} if form == "StillingerWeber" else {}
        problem = FitProblem(potential_of(form, "Si", probe.length), train, fixed=fixed,
                             misfit="none")
        plain = map_estimate(problem, key=key, starts=4)
        treated = add_discrepancy(problem, plain, key=key, n_draws=100)
    out, better = (predict(p, test, n_draws=100, allow_unconverged=True) for p in (plain, treated))
    forces = np.concatenate([label.forces for label in test.labels])
    row = {
        "form": form, "n_structures": len(train), "test": errors(out, test),
        "spread": float(np.sqrt((out.forces_total_std**2).mean())),
        "corrected_rmse": float(np.sqrt(((better.forces - forces) ** 2).mean())),
        "corrected_spread": float(np.sqrt((better.forces_total_std**2).mean())),
        "seconds": time.perf_counter() - began,
    }
    print({k: v for k, v in row.items() if k != "test"}, flush=True)
    return row


def main() -> None:
    """All three parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=6)
    parser.add_argument("--out", type=Path, default=ROOT / "paper/results/ladder_physics.json")
    options = parser.parse_args()
    record = {"versions": versions(), "commit": commit(),
              "command": f"python paper/benchmarks/ladder_physics.py --every {options.every}",
              "cauchy": {}, "angles": {}, "rungs": []}
    for form in METALS:
        record["cauchy"][form] = cauchy(form)
        print(form, len(record["cauchy"][form]), np.round(np.quantile(
            record["cauchy"][form], [0, 0.5, 1]), 6), flush=True)
    for form in SHEETS:
        record["angles"][form] = angles(form)
        print(form, np.quantile(record["angles"][form], [0, 0.5, 1]), flush=True)
    for form in RUNGS:
        record["rungs"].append(rung(form, options.every))
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
