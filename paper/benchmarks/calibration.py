"""Do error bars cover the truth? Families of public DFT data, each predicted without it.

Usage: python paper/benchmarks/calibration.py SET FORM [--most 20] [--method map|nuts]
           [--judged 20] [--keep FOLDER] [--others]
       python paper/benchmarks/calibration.py SET FORM --truth tersoff|emt|stillinger_weber
       python paper/benchmarks/calibration.py SET FORM --by temperature
       python paper/benchmarks/calibration.py SET ACE --method evidence

SET is an element of mlearn (Zuo et al., J. Phys. Chem. A 124, 731 (2020), BSD-3), Ta, the set of
FitSNAP (Thompson et al., J. Comput. Phys. 285, 316 (2015), GPL-2), or W (Szlachta et al., Phys.
Rev. B 90, 104108 (2014), GPL-2), all in ../shared/data; FORM a name of `bayespot potentials`.
Published splits are put together and split again by family: strained cells, surfaces, snapshots of
the solid and of the liquid (temperature below or above the melting point), and snapshots with a
vacancy, two kinds by energy; Ta and W have families of their own. At most so many of a family,
evenly spaced. Nothing of a family is seen by the fit that predicts it, and all settings are the
defaults of the package. One of them, the wider spread beyond the guard, was added when Si, Cu, Li
and Ni had been seen; Ta and W had not.

Methods: ``none`` (spread of the parameters), ``none + noise`` (with the inferred noise),
``frederiksen`` (parameters, covariance times T0 = 2 C0 / Np), ``discrepancy`` (the default),
``discrepancy, rich`` (its larger basis) and ``classical`` (the plain potential, what the
discrepancy corrects in its bars); with ``--others`` those of `calibration_baselines` as well. With
``--method map`` the parameters are at their most probable values; their spread is then that of the
Gaussian there, linearised. With ``--method nuts`` they are draws, but for ``frederiksen`` and the
other baselines. ``--method evidence`` is for a linear potential: its closed forms.

Every fold also predicts properties that are derived in the family left out, from all of its
structures (`calibration_properties`); of W none, whose set has no perfect crystal to start from.

With ``--by temperature`` the snapshots alone are taken, and one temperature is left out after the
other. With ``--truth`` the same structures are labelled by another potential instead of DFT, with
noise of the size that `bayespot.NoiseFloor` takes for DFT's: Tersoff's silicon of 1988 or the
effective medium theory of ASE, which the form fitted cannot be, or Stillinger and Weber's silicon,
which it can.

With ``--keep`` finished folds stay in a folder, with their posteriors, and chains that were killed
continue. To predict anew from a kept posterior, remove ``fold.json`` of the fold.

Rows go to paper/results/calibration_tables.json, one record a family and quantity, and to
calibration_properties.json beside it, one record a property.
"""

# ruff: noqa: E402  (threads and the cache are configured before anything is compiled)
import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import numpy as np

import bayespot

bayespot.configure()

from calibration_baselines import (
    DRAWS,
    Method,
    linear,
    linearised,
    others,
)
from calibration_properties import Property, draws_of, properties_of, records
from calibration_sets import (
    FITSNAP,
    MELTING,
    TRUTHS,
    WITHOUT_CRYSTAL,
    dataset_of,
    grouped,
    labelled_by,
)
from ladder_fits import potential_of

from bayespot.calibration import HeldOut, calibration_table
from bayespot.data.dataset import Dataset
from bayespot.inference.curved import whitening
from bayespot.inference.discrepancy import add_discrepancy
from bayespot.inference.map import climb, map_estimate
from bayespot.inference.nuts import nuts
from bayespot.inference.stamp import stamp
from bayespot.inference.tempered import frederiksen
from bayespot.likelihood import FitProblem, NoiseFloor, reference_from_data
from bayespot.posterior import Posterior
from bayespot.potentials.stillinger_weber import SILICON_1985
from bayespot.prediction import Prediction, predict
from bayespot.validation import held_out_cases, together

RESULTS = Path(__file__).resolve().parents[1] / "results"

FIXED = {"StillingerWeber": {"r_c": 1.58}}
"""In bond lengths: the cut-off of Stillinger and Weber's silicon; shells that enter and leave make
several modes."""

COLUMNS = ("mean", "std", "epistemic_std", "truth", "family", "structure", "fixed", "outside")


@dataclass
class Fold:
    """What one family left out gave: cases and facts by method, rows of properties."""

    cases: dict[str, list[HeldOut]] = field(default_factory=dict)
    facts: dict[str, dict] = field(default_factory=dict)
    properties: list[dict] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write ``cases.npz`` and, when that is there, ``fold.json``."""
        arrays = {f"{method}|{case.quantity}|{name}": getattr(case, name)
                  for method, cases in self.cases.items() for case in cases for name in COLUMNS}
        np.savez(folder / "cases.npz", **arrays)
        data = next(iter(self.cases.values()))[0].data
        text = json.dumps({"data": data, "facts": self.facts, "properties": self.properties})
        part = folder / ".fold.json.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, folder / "fold.json")

    @classmethod
    def load(cls, folder: Path) -> "Fold":
        """Read what `save` wrote."""
        record = json.loads((folder / "fold.json").read_text(encoding="utf-8"))
        found = cls(facts=record["facts"], properties=record["properties"])
        with np.load(folder / "cases.npz", allow_pickle=False) as stored:
            for method, quantity in dict.fromkeys(tuple(k.split("|")[:2]) for k in stored.files):
                columns = {n: stored[f"{method}|{quantity}|{n}"] for n in COLUMNS}
                found.cases.setdefault(method, []).append(
                    HeldOut(quantity, **columns, method=method, data=record["data"])
                )
        return found


def problem_of(train: Dataset, form: str, truth: str | None) -> FitProblem:
    """The fit without a family, all settings those of the package."""
    element = train.structures[0].get_chemical_symbols()[0]
    reference = reference_from_data(train, (element,))
    held = {k: v * reference.length for k, v in FIXED.get(form, {}).items()}
    if form == "StillingerWeber" and truth == "stillinger_weber":
        held = {"r_c": SILICON_1985["a"] * SILICON_1985["sigma"]}  # the truth is to be in the class
    return FitProblem(potential_of(form, element, reference.length), train,
                      reference=reference, fixed=held, misfit="none")


def fitted(problem: FitProblem, options: argparse.Namespace, folder: Path | None) -> Posterior:
    """The posterior of the parameters; that of NUTS is kept in the folder."""
    key = jax.random.key(0)
    if options.method == "map":
        return map_estimate(problem, key=key, starts=options.starts)
    if folder and (folder / "posterior.nc").exists():
        return Posterior.load(folder / "posterior.nc")
    posterior = nuts(problem, key=key, warmup=options.warmup, draws=options.draws,
                     starts=options.starts, progress=False,
                     checkpoint=folder / "chains" if folder else None)
    if not posterior.converged:
        print(f"  not converged: {'; '.join(posterior.problems)}", flush=True)
    if folder:
        posterior.save(folder / "posterior.nc")
    return posterior


def mode_of(problem: FitProblem, posterior: Posterior) -> np.ndarray:
    """The most probable parameters: those of the fit, or what its best draw leads to."""
    if posterior.method == "map":
        return posterior.u[0]
    return climb(problem, posterior.u[int(posterior.tree["sample_stats"]["lp"].values.argmax())]).u


def methods(problem: FitProblem, posterior: Posterior, options: argparse.Namespace
            ) -> Iterator[Method]:
    """Every method of a form with a posterior of its parameters."""
    facts, u = {}, mode_of(problem, posterior)
    factor = whitening(problem, u)
    plain = partial(linearised, posterior, u, factor)
    if options.method == "nuts":
        plain = partial(predict, posterior, n_draws=DRAWS, allow_unconverged=True)
        table, stats = posterior.diagnostics(), posterior.tree["sample_stats"]
        facts = {
            "max_rhat": float(table["r_hat"].max()), "min_ess": float(table["ess_bulk"].min()),
            "divergent": int(stats["diverging"].values.sum()),
            "gradients": int(stats["n_steps"].values.sum()),
        }
    alone = {"floor": problem.floor, "guard": False}
    yield "none", plain, alone, facts
    yield "none + noise", plain, {"guard": False}, facts
    wide = float(np.sqrt(frederiksen(problem, u)))
    yield "frederiksen", partial(linearised, posterior, u, wide * factor), alone, facts
    if options.others:
        yield from others(problem, posterior, u, options.starts)
    for basis in options.bases:
        method = "discrepancy" if basis == "base" else f"discrepancy, {basis}"
        treated = add_discrepancy(problem, posterior, key=jax.random.key(1), basis=basis,
                                  n_draws=DRAWS)
        details = treated.record["details"]
        more = {"temperature": float(details["temperature"])}
        if options.method == "nuts":
            more["layer_cost"] = details["seconds_discrepancy"] / details["seconds"]
        layered = partial(predict, treated, n_draws=DRAWS, allow_unconverged=True)
        yield method, layered, {}, facts | more
        if basis == "base":
            yield "classical", partial(layered, product="classical"), {}, facts | more


def fold(name: str, data: Dataset, judged: Dataset, family: str, options: argparse.Namespace,
         whole: Dataset | None, folder: Path | None) -> Fold:
    """Fit without a family and predict that of ``judged`` by every method.

    ``name`` is that of the table, ``whole`` the data set with the structures of the properties.
    """
    train = data[np.array(data.families) != family]
    numbers = np.flatnonzero(np.array(judged.families) == family)
    test = judged[numbers]
    if folder:
        stamp(folder / "settings.json", {
            "data": [data.fingerprint(), judged.fingerprint()], "family": family,
            **{k: getattr(options, k) for k in ("form", "method", "starts", "warmup", "draws")},
        }, "the fold")
        if (folder / "fold.json").exists():
            return Fold.load(folder)
    problem = problem_of(train, options.form, options.truth)
    if options.method == "evidence":
        found = linear(problem)
    else:
        found = methods(problem, fitted(problem, options, folder), options)
    fits = time.perf_counter()
    chosen = [p for p in properties_of(whole, problem.floor) if p.family == family] if whole else []
    common = {"numbers": numbers, "data": name}
    kept, draws = Fold(), {}
    for method, predictor, how, facts in found:
        out = predictor(test)
        kept.cases[method] = held_out_cases(out, test, method=method, **how, **common)
        # Every method leaves out what the first has found to be fixed by symmetry.
        common.setdefault("fixed", {case.quantity: case.fixed for case in kept.cases[method]})
        kept.facts[method] = facts
        if chosen and method not in ("none + noise", "classical"):
            draws[method] = property_draws(chosen, whole, predictor, calibrated="dis" in method)
        print(f"  {method}: {facts}, grade {np.median(out.extrapolation):.2f}", flush=True)
    if chosen:
        kept.properties = property_records(chosen, draws, whole, problem.floor,
                                           classical="classical" in kept.cases)
    print(f"  predictions {time.perf_counter() - fits:.0f} s", flush=True)
    if folder:
        kept.save(folder)
    return kept


def property_draws(chosen: list[Property], whole: Dataset,
                   predictor: Callable[[Dataset], Prediction], calibrated: bool
                   ) -> tuple[np.ndarray, np.ndarray]:
    """Draws and grades of the properties, see `draws_of`."""
    numbers = sorted({number for p in chosen for number in p.structures})
    return draws_of(chosen, predictor(whole[np.array(numbers)]), numbers, calibrated)


def property_records(chosen: list[Property], draws: dict[str, tuple[np.ndarray, np.ndarray]],
                     whole: Dataset, floor: NoiseFloor, classical: bool) -> list[dict]:
    """Rows of every method; of the plain potential with the known error in its bars, too."""
    if classical:
        center = draws["none"][0].mean(axis=1, keepdims=True)
        corrected, grades = draws["discrepancy"]
        draws["classical"] = np.concatenate([corrected, 2 * center - corrected], axis=1), grades
    return [row for method, (values, grade) in draws.items()
            for row in records(chosen, values, grade, whole, floor, method)]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=[*sorted(MELTING), *FITSNAP])
    parser.add_argument("form")
    parser.add_argument("--truth", choices=[*sorted(TRUTHS), "emt"])
    parser.add_argument("--by", choices=["family", "temperature"], default="family")
    parser.add_argument("--most", type=int, default=20)
    parser.add_argument("--judged", type=int, help="so many of the family left out, if not --most")
    parser.add_argument("--method", choices=["map", "nuts", "evidence"], default="map")
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=250)
    parser.add_argument("--draws", type=int, default=250)
    parser.add_argument("--bases", nargs="+", choices=["base", "rich"], default=["base", "rich"])
    parser.add_argument("--others", action="store_true", help="tempered, pro, kliff-style as well")
    parser.add_argument("--keep", type=Path, help="folder of finished folds, to continue from")
    parser.add_argument("--only", nargs="+", default=[], help="these folds; no table is written")
    parser.add_argument("--out", type=Path, default=RESULTS / "calibration_tables.json")
    options = parser.parse_args()
    if options.by == "temperature" and options.set not in MELTING:
        parser.error(f"{options.set} has no temperatures")
    return options


def main() -> None:
    """One data set and form."""
    options = arguments()
    data, label = dataset_of(options.set, options.most, options.by), options.set
    judged = dataset_of(options.set, options.judged or options.most, options.by)
    whole = None
    if options.by == "temperature":
        label = f"{label} by temperature"
    elif not options.truth and options.set not in WITHOUT_CRYSTAL:
        whole = grouped(options.set)
    if options.truth:
        data, label = labelled_by(data, options.truth), f"{options.set} of {options.truth}"
        judged = labelled_by(judged, options.truth)
    folds: dict[str, Fold] = {}
    for family in options.only or sorted(set(data.families)):
        began = time.perf_counter()
        print(f"{label} {options.form} without {family} "
              f"({data.families.count(family)} structures)", flush=True)
        slug = "_".join((label, options.form, options.method, family)).replace(" ", "_")
        folder = options.keep / slug.replace(",", "") if options.keep else None
        folds[family] = fold(label, data, judged, family, options, whole, folder)
        print(f"  {time.perf_counter() - began:.0f} s", flush=True)
    if not options.only:
        write(folds, label, options)


def write(folds: dict[str, Fold], label: str, options: argparse.Namespace) -> None:
    """The table of every method and the rows of the properties into their files."""
    common, rows = {"form": options.form, "fit": options.method}, []
    for method in next(iter(folds.values())).cases:
        table = calibration_table(together([one.cases[method] for one in folds.values()]))
        print(table.text(), flush=True)
        rows += [{**common, **row, **(folds[row["family"]].facts[method]
                                      if row["family"] in folds else {})}
                 for row in table.as_records()]
    merge(options.out, rows, (label, options.form, options.method))
    found = [{**common, "data": label, **row} for one in folds.values() for row in one.properties]
    if found:
        merge(options.out.with_name("calibration_properties.json"), found,
              (label, options.form, options.method))


def merge(path: Path, rows: list[dict], key: tuple[str, str, str]) -> None:
    """Put rows in the place of those of the same data, form and fit."""
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    before = [r for r in before if (r["data"], r["form"], r["fit"]) != key]
    lines = ",\n".join(json.dumps(row) for row in before + rows)
    part = path.with_name(f".{path.name}.part")
    part.write_text(f'{{"rows": [\n{lines}\n]}}\n', encoding="utf-8")
    os.replace(part, path)


if __name__ == "__main__":
    main()
