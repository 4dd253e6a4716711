"""The forms of the ladder on real DFT: NUTS, and errors on the published test split.

Usage: python paper/benchmarks/ladder_fits.py SET FORM [--every 1] [--warmup 300] [--draws 400]
                                                   [--accept 0.95] [--hold NAME ...]

FORM is a name of `bayespot potentials`, or a sum as "Morse+ZBL".

SET is an element of mlearn (Si, Li, Cu, Ni; Zuo et al., J. Phys. Chem. A 124, 731 (2020), BSD-3)
in ../shared/data. Hyperparameters follow from the training split: lengths from its bond length,
noise inferred. The stresses of copper and nickel disagree with their own energies by a constant
(README of the set) and are left out. Twenty draws are written for LAMMPS and run there on one test
structure of every family, where the form has an exporter and LAMMPS is installed. Fits go to
paper/results/ladder_fits.json, one row each; the claims (R-hat, ESS, divergences, differences from
LAMMPS) to paper/results/ladder.json. ``--hold`` keeps parameters where they are most probable: the
hidden layer of a network ("a b"), so that its last layer is what is sampled.
"""

# ruff: noqa: E402  (the clock starts before the imports, which a user waits for too)
import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

BEGAN = time.perf_counter()

import jax
import numpy as np
from claims import add_claims, claim

import bayespot
from bayespot.data.dataset import Dataset
from bayespot.errors import ConfigError
from bayespot.export.styles import write_style
from bayespot.inference.map import find_modes
from bayespot.posterior import Posterior
from bayespot.potentials.base import Potential, form_named
from bayespot.prediction import Prediction
from bayespot.scoring import mae, rmse
from bayespot.units import GPA

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "mlearn"
RESULTS = ROOT / "paper" / "results"
sys.path.insert(0, str(ROOT / "tests"))  # LAMMPS as the independent program is beside the tests
NO_STRESS = ("Cu", "Ni")
LATTICE = {"Si": "diamond", "Li": "bcc", "Cu": "fcc", "Ni": "fcc", "Al": "fcc"}


def dataset_of(name: str, split: str) -> Dataset:
    """A published split."""
    dataset = bayespot.read(DATA / f"mlearn_{name}.extxyz.xz", check=name not in NO_STRESS)
    if name in NO_STRESS:
        dataset = replace(dataset, labels=tuple(
            replace(label, stress=None) for label in dataset.labels
        ))
    return dataset.select(split=split)


def potential_of(form: str, name: str, bond: float, **more: float) -> Potential:
    """The form with its lengths set by the bond length, and further settings."""
    made = form_named(form)
    lengths = {"bond": bond, "length": bond, "r0": bond}
    settings = {k: v for k, v in lengths.items() if k in made.hypers()}
    if "lattice" in made.hypers():
        settings["lattice"] = LATTICE[name]
    return made(species=(name,), **settings, **more)


def main() -> None:
    """Fit, report, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=["Si", "Li", "Cu", "Ni"])
    parser.add_argument("form")
    parser.add_argument("--every", type=int, default=1, help="one training structure of so many")
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--accept", type=float, default=0.95, help="of the proposals of NUTS")
    parser.add_argument("--fixed", nargs="*", default=[], help="NAME=VALUE")
    parser.add_argument("--hold", nargs="*", default=[], help="parameters that stay at the mode")
    options = parser.parse_args()
    bayespot.configure()
    train, test = dataset_of(options.set, "train"), dataset_of(options.set, "test")
    train = train[np.arange(0, len(train), options.every)]
    fixed = {k: float(v) for k, v in (item.split("=") for item in options.fixed)}
    probe = bayespot.FitProblem(bayespot.Morse(species=(options.set,)), train)
    potential = potential_of(options.form, options.set, probe.reference.length)
    problem = bayespot.FitProblem(potential, train, fixed=fixed, misfit="none")
    if options.hold:
        problem = held(problem, options.hold)
    posterior = bayespot.nuts(problem, key=jax.random.key(0), warmup=options.warmup,
                              draws=options.draws, starts=8, target_accept=options.accept)
    wall = time.perf_counter() - BEGAN
    print(posterior.summary())
    table = posterior.diagnostics()
    prediction = bayespot.predict(posterior, test, n_draws=50, allow_unconverged=True)
    row = {
        "set": options.set, "form": options.form, "n_structures": len(train),
        "n_parameters": problem.space.size, "seconds": wall, "fixed": fixed, "held": options.hold,
        "converged": posterior.converged, "problems": posterior.problems,
        "max_rhat": float(table["r_hat"].max()),
        "min_ess": float(min(table["ess_bulk"].min(), table["ess_tail"].min())),
        "divergences": int(posterior.tree["sample_stats"]["diverging"].values.sum()),
        "parameters": {
            name: {"mean": float(table["mean"][k]), "sd": float(table["sd"][k]),
                   "contraction": float(table["contraction"][k])}
            for k, name in enumerate(posterior.parameter_names)
        },
        "test": errors(prediction, test),
        "lammps": against_lammps(posterior, test),
    }
    write(row, f"python paper/benchmarks/ladder_fits.py {options.set} {options.form} "
               f"--every {options.every} --warmup {options.warmup} --draws {options.draws}"
               + (f" --accept {options.accept}" if options.accept != 0.95 else "")
               + (f" --hold {' '.join(options.hold)}" if options.hold else ""))
    print({k: v for k, v in row.items() if k != "parameters"})


def held(problem: bayespot.FitProblem, names: list[str]) -> bayespot.FitProblem:
    """The same problem with some parameters fixed at the best of the modes found."""
    mode = find_modes(problem, jax.random.key(1), starts=4)[0]
    print(f"mode: converged {mode.converged}, ln p {mode.log_posterior:.1f}", flush=True)
    space = problem.space
    values = {
        name: float(value)
        for name, value in zip(space.names, space.physical(mode.u), strict=False)
        if name.split("[")[0] in names
    }
    return bayespot.FitProblem(problem.initial, problem.dataset, fixed=space.fixed | values,
                               misfit="none")


def errors(prediction: Prediction, test: Dataset) -> dict:
    """RMSE and MAE: energy meV/atom, force eV/Å per component, stress GPa."""
    sizes = np.array([len(atoms) for atoms in test.structures])
    energy = np.array([label.energy for label in test.labels])
    pairs = {
        "energy": (1e3 * prediction.energy / sizes, 1e3 * energy / sizes),
        "forces": (prediction.forces, np.concatenate([label.forces for label in test.labels])),
    }
    have = [k for k, label in enumerate(test.labels) if label.stress is not None]
    if have:
        truth = np.array([test.labels[k].stress for k in have])
        pairs["stress"] = (prediction.stress[have] * GPA, truth * GPA)
    return {q: {"rmse": rmse(*pair), "mae": mae(*pair)} for q, pair in pairs.items()}


def against_lammps(posterior: Posterior, test: Dataset, count: int = 20) -> dict | None:
    """Largest differences of exported draws on one structure of each family: eV/atom, eV/Å."""
    import lammps_reference as reference

    if reference.missing():
        return None
    firsts = [test.families.index(family) for family in sorted(set(test.families))]
    cases = [test.structures[k] for k in firsts]
    many = posterior.potentials(count)
    worst, program = np.zeros(3), reference.Lammps()
    with tempfile.TemporaryDirectory() as folder:
        for k in range(count):
            draw = jax.tree.map(lambda leaf, k=k: np.asarray(leaf[k]), many)
            try:
                style = write_style(draw, folder, f"draw_{k}")
            except ConfigError as error:
                print(f"draw {k}: {error}")
                return None
            if "pace" in style.settings.split() and not program.lmp.has_style("pair", "pace"):
                print("this LAMMPS is without ML-PACE; tests/export/test_yace.py asks python-ace")
                return None
            for mine, atoms in zip(reference.ours(draw, *cases), cases, strict=True):
                other = program.run(atoms, draw.species, style.commands(folder))
                # LAMMPS has no energy of isolated atoms.
                other = other._replace(energy=other.energy + draw.e0[0] * len(atoms))
                worst = np.maximum(worst, reference.differences(mine, other))
    program.close()
    return {"draws": count, "structures": len(cases), "style": style.pair_style,
            "energy": worst[0], "forces": worst[1], "stress": worst[2]}


def write(row: dict, command: str) -> None:
    """The fit in the table of fits, and its claims."""
    path = RESULTS / "ladder_fits.json"
    rows = json.loads(path.read_text())["fits"] if path.exists() else []
    key = (row["set"], row["form"])
    rows = sorted([r for r in rows if (r["set"], r["form"]) != key] + [row],
                  key=lambda r: (r["set"], r["form"]))
    path.write_text(json.dumps({"fits": rows}, indent=1) + "\n")
    name, n = f"{row['set']}_{row['form']}".lower().replace("+", "_"), row["n_structures"]
    parity = row["lammps"] or {}
    add_claims(RESULTS / "ladder.json", "ladder", [
        claim(f"{name}_lammps_{quantity}", parity[quantity], target, n=parity["draws"], unit=unit,
              command=command)
        for quantity, target, unit in (("energy", "<= 1e-6", "eV/atom"),
                                       ("forces", "<= 1e-5", "eV/Å")) if parity
    ] + [
        claim(f"{name}_max_rhat", row["max_rhat"], "<= 1.01", n=n, unit="1", command=command),
        claim(f"{name}_min_ess", row["min_ess"], ">= 400", n=n, unit="1", command=command),
        claim(f"{name}_divergences", row["divergences"], "<= 0", n=n, unit="1", command=command),
    ])


if __name__ == "__main__":
    main()
