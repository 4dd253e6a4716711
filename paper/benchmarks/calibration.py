"""Do error bars cover the truth? Families of public DFT data, each predicted without it.

Usage: python paper/benchmarks/calibration.py SET FORM [--most 20] [--method map|nuts]
       python paper/benchmarks/calibration.py SET FORM --truth tersoff|emt|stillinger_weber
       python paper/benchmarks/calibration.py SET FORM --by temperature

SET is an element of mlearn (Zuo et al., J. Phys. Chem. A 124, 731 (2020), BSD-3) or Ta, the set of
FitSNAP (Thompson et al., J. Comput. Phys. 285, 316 (2015), GPL-2), both in ../shared/data; FORM a
name of `bayespot potentials`. Published splits are put together and split again by family:
strained cells, surfaces, snapshots of the solid and of the liquid (temperature below or above the
melting point), and snapshots with a vacancy, two kinds by energy; tantalum has families of its own.
At most so many of a family, evenly spaced. Nothing of a family is seen by the fit that predicts it,
and all settings are the defaults of the package. One of them, the wider spread beyond the guard,
was added when Si, Cu, Li and Ni had been seen; Ta had not.

Methods: ``none`` (spread of the parameters), ``none + noise`` (with the inferred noise),
``frederiksen`` (parameters, covariance times T0 = 2 C0 / Np), ``discrepancy`` (the default),
``discrepancy, rich`` (its larger basis) and ``classical`` (the plain potential, what the
discrepancy corrects in its bars). With ``--method map`` the parameters are at their most
probable values; their spread is then that of the Gaussian there, linearised.

With ``--by temperature`` the snapshots alone are taken, and one temperature is left out after the
other. With ``--truth`` the same structures are labelled by another potential instead of DFT, with
noise of the size that `bayespot.NoiseFloor` takes for DFT's: Tersoff's silicon of 1988 or the
effective medium theory of ASE, which the form fitted cannot be, or Stillinger and Weber's silicon,
which it can.

Rows go to paper/results/calibration_tables.json, one record a family and quantity.
"""

# ruff: noqa: E402  (threads and the cache are configured before anything is compiled)
import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np
from ase.calculators.emt import EMT

import bayespot

bayespot.configure()

from ladder_fits import potential_of

from bayespot.calibration import HeldOut, calibration_table
from bayespot.data.dataset import Dataset, Labels
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.inference.discrepancy import add_discrepancy
from bayespot.inference.laplace import whitening
from bayespot.inference.map import map_estimate
from bayespot.inference.nuts import nuts
from bayespot.likelihood import FitProblem, NoiseFloor, reference_from_data
from bayespot.posterior import Posterior
from bayespot.potentials.stillinger_weber import SILICON_1985, StillingerWeber
from bayespot.potentials.tersoff import Tersoff
from bayespot.prediction import Prediction, predict
from bayespot.units import GPA
from bayespot.validation import held_out_cases, together

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
RESULTS = ROOT / "paper" / "results"

MELTING = {"Si": 1687.0, "Li": 454.0, "Cu": 1358.0, "Ni": 1728.0}
"""K, at normal pressure: CRC Handbook of Chemistry and Physics."""

CONSTANT_PRESSURE = {"Cu": 2.66 / GPA, "Ni": 3.02 / GPA}
"""What the stresses of the elastic cells exceed the derivative of their own energies by (README of
the set); taken off all stresses, as `bayespot.read` advises."""

FIXED = {"StillingerWeber": {"r_c": 1.58}}
"""In bond lengths: the cut-off of Stillinger and Weber's silicon; shells that enter and leave make
several modes."""


def dataset_of(name: str, most: int, by: str) -> Dataset:
    """All structures of an element, or its snapshots, in families of at most ``most``."""
    if name == "Ta":
        data = bayespot.read(DATA / "fitsnap_Ta" / "fitsnap_Ta.extxyz.xz")
        families = ["GSF" if f.startswith("GSF") else f for f in data.families]
        return thinned(data, families, data.labels, most)
    data = bayespot.read(
        DATA / "mlearn" / f"mlearn_{name}.extxyz.xz", check=name not in CONSTANT_PRESSURE
    )
    energy = np.array([
        label.energy / len(a) for a, label in zip(data.structures, data.labels, strict=True)
    ])
    hot = energy > _two_groups(energy[np.array(data.families) == "vacancy"])
    families = []
    for k, (family, atoms) in enumerate(zip(data.families, data.structures, strict=True)):
        if by == "temperature":
            family = f"{atoms.info['temperature_K']} K" if family == "aimd" else ""
        elif family == "aimd":
            family = "liquid" if atoms.info["temperature_K"] > MELTING[name] else "solid"
        elif family == "vacancy":
            family = "vacancy, hot" if hot[k] else "vacancy, cold"
        families.append("elastic" if family == "ground_state" else family)
    shift = CONSTANT_PRESSURE.get(name, 0.0) * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    labels = [
        label if label.stress is None else replace(label, stress=label.stress - shift)
        for label in data.labels
    ]
    return thinned(data, families, labels, most)


TRUTHS = {"tersoff": Tersoff.silicon_1988, "stillinger_weber": StillingerWeber.silicon_1985}


def exact_labels(data: Dataset, truth: str) -> list[tuple]:
    """Energy, forces and stress (None beside vacuum) of every structure by another potential."""
    if truth == "emt":
        found = []
        for structure in data.structures:
            atoms = structure.copy()
            atoms.calc = EMT(asap_cutoff=True)  # ASE's own would end EMT without smoothing
            found.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
        return found
    potential = TRUTHS[truth]()
    graph = build_graph(data.structures, potential.species, potential.reach,
                        triplets=potential.needs_triplets)
    out = evaluate(potential, graph, cutoff=potential.reach)
    ends = np.cumsum([len(a) for a in data.structures])
    return list(zip(out.energy, np.split(out.forces, ends[:-1]), out.stress, strict=True))


def labelled_by(data: Dataset, truth: str) -> Dataset:
    """The same structures with labels of ``truth`` and noise of known size."""
    rng, floor, labels = np.random.default_rng(0), NoiseFloor(), []
    found = exact_labels(data, truth)
    for label, (energy, forces, stress) in zip(data.labels, found, strict=True):
        labels.append(Labels(
            energy=float(energy) + len(forces) * rng.normal(0, floor.energy),
            forces=forces + rng.normal(0, floor.forces, forces.shape),
            stress=None if label.stress is None else stress + rng.normal(0, floor.stress, 6),
        ))
    return Dataset.from_atoms(data.structures, labels, families=data.families)


def thinned(data: Dataset, families: list[str], labels: Sequence[Labels], most: int) -> Dataset:
    """At most so many structures of every family, evenly spaced; families stand together.

    Structures without a family are left away.
    """
    names, rows = np.array(families), []
    for family in sorted(set(families) - {""}):
        mine = np.flatnonzero(names == family)
        rows += list(mine[np.unique(np.linspace(0, len(mine) - 1, most).round().astype(int))])
    return Dataset.from_atoms(
        [data.structures[k] for k in rows], [labels[k] for k in rows],
        families=[families[k] for k in rows],
    )


def _two_groups(values: np.ndarray) -> float:
    """The border that splits numbers into two groups of least variance within."""
    values = np.sort(values)
    cuts = range(1, len(values))
    best = min(cuts, key=lambda k: values[:k].var() * k + values[k:].var() * (len(values) - k))
    return 0.5 * (values[best - 1] + values[best])


def linearised(problem: FitProblem, posterior: Posterior, structures: Dataset, scale: float
               ) -> Prediction:
    """Prediction at the mode with the spread of the Gaussian there, linear in the parameters.

    Draws of a thousandth of the width; their deviations are multiplied back.
    """
    u = posterior.u[0]
    z = np.random.default_rng(0).standard_normal((60, len(u)))
    factor = whitening(problem, u)
    small = Posterior(posterior.tree.copy())
    small.__dict__["u"] = np.concatenate([u + 1e-3 * z @ factor.T, u - 1e-3 * z @ factor.T])
    out = predict(small, structures, n_draws=120, allow_unconverged=True)
    half = len(z)

    def stretched(draws: np.ndarray) -> np.ndarray:
        center = 0.5 * (draws[:half] + draws[half:])
        return center.mean(axis=0) + 0.5 * (draws - np.roll(draws, half, axis=0)) * scale / 1e-3

    return replace(out, energy_draws=stretched(out.energy_draws),
                   forces_draws=stretched(out.forces_draws),
                   stress_draws=stretched(out.stress_draws))


def fold(name: str, form: str, data: Dataset, family: str, options: argparse.Namespace
         ) -> tuple[dict[str, list[HeldOut]], dict[str, dict[str, float]]]:
    """Fit without a family, predict it by every method; ``name`` is that of the table.

    Also the temperature of each layer, its cost, and how far the draws under it had converged.
    """
    element = data.structures[0].get_chemical_symbols()[0]
    rest = np.array(data.families) != family
    train, test = data[np.flatnonzero(rest)], data[np.flatnonzero(~rest)]
    reference = reference_from_data(train, (element,))
    held = {k: v * reference.length for k, v in FIXED.get(form, {}).items()}
    if form == "StillingerWeber" and options.truth == "stillinger_weber":
        held = {"r_c": SILICON_1985["a"] * SILICON_1985["sigma"]}  # the truth is to be in the class
    problem = FitProblem(potential_of(form, element, reference.length), train,
                         reference=reference, fixed=held)
    key = jax.random.key(0)
    if options.method == "map":
        posterior = map_estimate(problem, key=key, starts=options.starts)
        squares, _ = problem.misfit_by_structure(posterior.u[0])
        variance = problem.space.sigma(posterior.u[0]) ** 2 + problem.floor_by_structure()
        cost = 0.5 * (squares / variance).sum()  # C0 with the weights of the fit
        plain = linearised(problem, posterior, test, 1.0)
        wide = linearised(problem, posterior, test, float(np.sqrt(
            2 * cost / problem.space.layout.n_theta
        )))
    else:
        posterior = nuts(problem, key=key, warmup=options.warmup, draws=options.draws,
                         starts=options.starts, progress=False)
        plain, wide = predict(posterior, test, n_draws=200, allow_unconverged=True), None
    numbers = np.flatnonzero(~rest)
    common = {"numbers": numbers, "data": name}
    found = {"none": held_out_cases(plain, test, floor=problem.floor, guard=False, method="none",
                                    **common)}
    # Every method leaves out what the first has found to be fixed by symmetry.
    common["fixed"] = {case.quantity: case.fixed for case in found["none"]}
    found["none + noise"] = held_out_cases(plain, test, guard=False, method="none + noise",
                                           **common)
    if wide is not None:
        found["frederiksen"] = held_out_cases(wide, test, floor=problem.floor, guard=False,
                                              method="frederiksen", **common)
    facts = {}
    for basis in ("base", "rich"):
        method = "discrepancy" if basis == "base" else f"discrepancy, {basis}"
        treated = add_discrepancy(problem, posterior, key=jax.random.key(1), basis=basis,
                                  n_draws=200)
        out = predict(treated, test, n_draws=200, allow_unconverged=True)
        found[method] = held_out_cases(out, test, method=method, **common)
        if basis == "base":
            out = predict(treated, test, n_draws=200, product="classical", allow_unconverged=True)
            found["classical"] = held_out_cases(out, test, method="classical", **common)
        details = treated.record["details"]
        facts[method] = {"temperature": float(details["temperature"])}
        if options.method == "nuts":
            facts[method] |= {
                "layer_cost": details["seconds_discrepancy"] / details["seconds"],
                "max_rhat": float(posterior.diagnostics()["r_hat"].max()),
            }
        print(f"  {method}: {facts[method]}, "
              f"grade {np.median(out.extrapolation):.2f}", flush=True)
    return found, facts


def main() -> None:
    """One data set and form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=[*sorted(MELTING), "Ta"])
    parser.add_argument("form")
    parser.add_argument("--truth", choices=[*sorted(TRUTHS), "emt"])
    parser.add_argument("--by", choices=["family", "temperature"], default="family")
    parser.add_argument("--most", type=int, default=20)
    parser.add_argument("--method", choices=["map", "nuts"], default="map")
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=250)
    parser.add_argument("--draws", type=int, default=250)
    parser.add_argument("--out", type=Path, default=RESULTS / "calibration_tables.json")
    options = parser.parse_args()
    if options.by == "temperature" and options.set not in MELTING:
        parser.error(f"{options.set} has no temperatures")
    data, label = dataset_of(options.set, options.most, options.by), options.set
    if options.by == "temperature":
        label = f"{label} by temperature"
    if options.truth:
        data, label = labelled_by(data, options.truth), f"{options.set} of {options.truth}"
    by_method: dict[str, list[list[HeldOut]]] = {}
    facts: dict[str, list[dict[str, float]]] = {}
    for family in sorted(set(data.families)):
        began = time.perf_counter()
        print(f"{label} {options.form} without {family} "
              f"({data.families.count(family)} structures)", flush=True)
        found, more = fold(label, options.form, data, family, options)
        for method, cases in found.items():
            by_method.setdefault(method, []).append(cases)
        for method, values in more.items():
            facts.setdefault(method, []).append({"family": family, **values})
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)
    records = []
    for method, cases in by_method.items():
        table = calibration_table(together(cases))
        print(table.text(), flush=True)
        common = {"form": options.form, "fit": options.method}
        records += [
            {**common, **r} | {k: v for f in facts.get(method, ()) if f["family"] == r["family"]
                               for k, v in f.items()}
            for r in table.as_records()
        ]
    before = json.loads(options.out.read_text())["rows"] if options.out.exists() else []
    key = (label, options.form, options.method)
    before = [r for r in before if (r["data"], r["form"], r["fit"]) != key]
    lines = ",\n".join(json.dumps(row) for row in before + records)
    options.out.write_text(f'{{"rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
