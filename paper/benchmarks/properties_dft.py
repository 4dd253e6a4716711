"""Properties with bars beside DFT of the settings of the training data: silicon and aluminium.

Usage: python paper/benchmarks/properties_dft.py MATERIAL [--only RUN ...]

MATERIAL names properties_MATERIAL.toml, beside this file, which lists what is computed and how
DFT is asked for the same; its answers are paper/results/properties_MATERIAL_references.json, the
references.json of `bayespot properties properties_MATERIAL.toml --reference`. RUN is a name of
RUNS below. Every form is fitted to the data set of the package, with its floor and the default
misfit = "discrepancy" unless the run says another (Laplace; the closed form for linear ACE). The
size of the ACE basis is the one of largest evidence among SIZES.

What DFT has no value for (large supercells) is computed for the published model alone: the ACE of a
discrepancy makes supercells some twenty times dearer. A property of DFT without a value on the
draws counts as one outside of the bars.

Claims go to paper/results/properties.json, rows of the picture to properties_MATERIAL.json.
"""

# ruff: noqa: E402  (threads and the cache are configured before anything is compiled)
import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np
from claims import add_claims, claim, show
from ladder_fits import potential_of

import bayespot

bayespot.configure()

from bayespot.config.properties import load_properties
from bayespot.data.archives import archive_path
from bayespot.likelihood import FitProblem, reference_from_data
from bayespot.posterior import Posterior
from bayespot.properties import PropertyDraws
from bayespot.property_references import REFERENCES
from bayespot.runs import properties_run
from bayespot.scoring import wilson_interval

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "paper" / "results"
MODEL = ROOT / "models" / "silicon-stillinger_weber-gpaw_pbe-2026" / "posterior.nc"

SIZES = ((8, 6, 4), (10, 8, 6), (12, 10, 8))
"""Degrees of the pair, three-body and four-body functions."""

LABEL = "GPAW/PBE"


class Material(NamedTuple):
    """What it is made of, and where its labels are."""

    species: str
    archive: str


MATERIALS = {
    "silicon": Material("Si", "silicon_gpaw_pbe"),
    "aluminium": Material("Al", "aluminium_gpaw_pbe"),
}


def problem_of(material: Material, form: str, fixed: dict | None = None, scales: str = "common",
               **settings: float) -> FitProblem:
    """A form and the data, floor and default misfit; lengths from the bond length of the data."""
    data = bayespot.read(material.archive)
    floor = bayespot.NoiseFloor.from_json(archive_path(material.archive) / "floor.json")
    bond = reference_from_data(data, (material.species,)).length
    if form == "ACE":
        settings["r0"] = bond
    return FitProblem(potential_of(form, material.species, bond, **settings), data, floor=floor,
                      fixed=fixed or {}, scales=scales)


def classical(material: Material, form: str, **how: object) -> Posterior:
    return bayespot.laplace(problem_of(material, form, **how), key=jax.random.key(1), draws=400,
                            starts=4)


def linear(material: Material) -> Posterior:
    """The closed form of the size with the largest evidence."""
    found = [
        bayespot.linear_gaussian(
            problem_of(material, "ACE", degree_1=a, degree_2=b, degree_3=c),
            key=jax.random.key(1), draws=400,
        ) for a, b, c in SIZES
    ]  # fmt: skip
    evidence = [posterior.record["details"]["log_evidence"] for posterior in found]
    print("evidence by size:", dict(zip(SIZES, np.round(evidence, 1).tolist(), strict=True)))
    return found[int(np.argmax(evidence))]


CUTOFF = {"r_c": 3.77118}
"""Å, of the published model."""

RUNS: dict[str, dict[str, Callable[[Material], Posterior]]] = {
    "silicon": {
        "Stillinger-Weber, misfit none": lambda material: Posterior.load(MODEL),
        "Stillinger-Weber": partial(classical, form="StillingerWeber", fixed=CUTOFF),
        "Stillinger-Weber, noise by family": partial(
            classical, form="StillingerWeber", scales="family", fixed=CUTOFF),
        "Tersoff": partial(classical, form="Tersoff"),
        "ACE": linear,
    },
    "aluminium": {
        "Sutton-Chen": partial(classical, form="SuttonChen"),
        "Finnis-Sinclair": partial(classical, form="FinnisSinclair"),
        "Sutton-Chen, noise by family": partial(classical, form="SuttonChen", scales="family"),
        "ACE": linear,
    },
}


def run(name: str, label: str, posterior: Posterior, folder: Path) -> list[dict]:
    """Properties of a posterior; how many values of DFT lie in the bars."""
    posterior.save(folder / "posterior.nc")
    shutil.copy(Path(__file__).parent / f"properties_{name}.toml", folder / "asked.toml")
    config = load_properties(folder / "asked.toml")
    if posterior.misfit != "none":
        pairs = zip(config.names, config.properties, strict=True)
        wanted = [asked for key, asked in pairs if key not in config.reference.skip]
        table = config.reference.model_copy(update={"skip": []})
        config = config.model_copy(update={"properties": wanted, "reference": table})
    (folder / "found" / "reference").mkdir(parents=True)
    shutil.copy(RESULTS / f"properties_{name}_references.json",
                folder / "found" / "reference" / REFERENCES)
    start = time.process_time()
    draws, summary = properties_run(config, posterior, folder / "found", happened=print)
    seconds = time.process_time() - start
    keep(name, label, draws, summary)
    known = [(s, s.references[LABEL]) for s in summary if LABEL in s.references]
    have = [(s, reference) for s, reference in known if s.n > 0]
    inside = {
        level: sum(s.intervals[level][0] <= reference <= s.intervals[level][1]
                   for s, reference in have) for level in (0.5, 0.9)
    }  # fmt: skip
    z = [(reference - s.mean) / np.hypot(s.parameter_std, np.nan_to_num(s.numerical_error))
         for s, reference in have]  # fmt: skip
    distance = [abs(s.mean / reference - 1.0) for s, reference in have]
    for (s, reference), one in zip(have, z, strict=True):
        print(f"{s.name}: {s.mean:.4g} +- {s.parameter_std:.2g}, DFT {reference:.4g}, z {one:.2f}")
    n, command = len(known), f"python paper/benchmarks/properties_dft.py {name}"

    def row(what: str, value: float, target: str, unit: str = "1", **more: float) -> dict:
        return claim(f"{name}, {label}: {what}", value, target, n=n, unit=unit, command=command,
                     **more)

    shares = []
    for level, target in ((0.9, ">= 0.85"), (0.5, ">= 0.4")):
        low, high = wilson_interval(inside[level], n)
        shares.append(row(f"share of DFT values in {100 * level:.0f} % bars", inside[level] / n,
                          target, low=low, high=high))
    return [
        row("properties with a DFT value", len(have), ">= 24"), *shares,
        row("rms z against DFT", np.sqrt(np.mean(np.square(z))), "<= 1.3"),
        row("median relative distance from DFT", np.median(distance), "<= 0.1"),
        row("mean share of draws without a value", np.mean([s.failed for s, _ in known]),
            "<= 0.05"),
        row("CPU time of all properties", seconds, "<= 600", "s"),
    ]


def keep(name: str, label: str, draws: PropertyDraws, summary: list) -> None:
    """Rows for paper/figures/properties.py."""
    path = RESULTS / f"properties_{name}.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content[label] = {
        "problems": draws.problems,
        "rows": [
            {"name": s.name, "unit": s.unit, "median": s.median, "n": s.n,
             "parameter_std": s.parameter_std, "numerical_error": s.numerical_error,
             "intervals": {f"{p:g}": list(ends) for p, ends in s.intervals.items()},
             "mean": s.mean, "failed": s.failed, "unstable": s.unstable,
             "references": dict(s.references)}
            for s in summary
        ],
    }  # fmt: skip
    content = {key: content[key] for key in RUNS[name] if key in content}
    text = json.dumps(content, indent=1, ensure_ascii=False).replace("NaN", "null")
    path.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("material", choices=sorted(MATERIALS))
    parser.add_argument("--only", nargs="+", help="of RUNS")
    given = parser.parse_args()
    for label in given.only or RUNS[given.material]:
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            posterior = RUNS[given.material][label](MATERIALS[given.material])
            print(f"{label}: fitted in {time.process_time() - began:.0f} s of CPU")
            rows = run(given.material, label, posterior, Path(folder))
        show(rows)
        add_claims(RESULTS / "properties.json", "properties", rows)


if __name__ == "__main__":
    main()
