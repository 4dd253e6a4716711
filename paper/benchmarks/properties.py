"""Properties: against closed forms, LAMMPS and published values; speed; silicon with bars.

Usage: python paper/benchmarks/properties.py [--only exact speed silicon discrepancy families]
                                             [--posterior FILE]

exact        nearest-neighbour Morse and Lennard-Jones fcc against closed forms; silicon of
             Stillinger and Weber and of Tersoff, copper of Sutton and Chen against LAMMPS, whose
             forces go through ASE's relaxations.
speed        CPU time of 32 draws over that of one, compiled; that of ASE's relaxations beside it.
silicon      the published model of this repository, misfit none: properties_silicon.toml.
discrepancy  the same data and form with misfit = "discrepancy" (Laplace): the crystals and phonons
             of the same list (its ACE makes defects and slabs some twenty times dearer);
             --posterior takes an earlier fit.

families     the same with noise of each family's own (scales = "family").

References by GPAW are those of paper/results/properties_silicon_references.json, which is the
references.json of `bayespot properties properties_silicon.toml --reference`.

Claims go to paper/results/properties.json, rows of the picture to properties_silicon.json.
"""

# ruff: noqa: E402  (threads and the cache are configured before anything is compiled)
import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "properties")]

import jax
import numpy as np
from ase.build import bulk
from ase.data import atomic_masses
from claims import add_claims, claim, show
from closed_forms import lennard_jones_fcc, morse_neighbors_fcc
from lammps_force import LammpsCalculator

import bayespot

bayespot.configure()

from bayespot.config.properties import load_properties
from bayespot.data.archives import archive_path
from bayespot.export.styles import write_style
from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.morse import Morse
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.sutton_chen import SuttonChen
from bayespot.potentials.tersoff import Tersoff
from bayespot.properties import (
    CalculatorSurface,
    PropertyDraws,
    elastic,
    equation_of_state,
    lattice,
    phonons,
    surface_energy,
    surfaces_of,
    vacancy,
)
from bayespot.property_references import REFERENCES
from bayespot.runs import properties_run
from bayespot.units import GPA

COMMAND = "python paper/benchmarks/properties.py"
RESULTS = ROOT / "paper" / "results"
MODEL = ROOT / "models" / "silicon-stillinger_weber-gpaw_pbe-2026" / "posterior.nc"
DIAMOND = bulk("Si", "diamond", a=5.45)


def row(name: str, value: float, target: str, n: int, unit: str) -> dict:
    return claim(name, value, target, n=n, unit=unit, command=COMMAND)


# --- closed forms and LAMMPS -----------------------------------------------------------------


def exact() -> list[dict]:
    """Differences from closed forms, in relative numbers and in stated numerical errors."""
    relative, stated = closed_forms()
    rows = [
        row("closed forms, largest relative difference", max(relative), "<= 0.003",
            len(relative), "1"),
        row("closed forms, share within the stated numerical error", np.mean(stated), ">= 0.9",
            len(stated), "1"),
    ]  # fmt: skip
    published = {"C11": 151.4, "C12": 76.4, "C44": 56.4}
    found = elastic(StillingerWeber.silicon_1985(), DIAMOND)
    worst = max(abs(found[name].value - value) for name, value in published.items())
    rows.append(row("Stillinger-Weber elastic constants, difference from Cowley 1988", worst,
                    "<= 0.051", 3, "GPa"))  # fmt: skip
    t3 = {"C11": 142.5, "C12": 75.4, "C44": 69.0, "C44 clamped": 118.8}
    found = elastic(Tersoff.silicon_1988_elastic(), DIAMOND)
    worst = max(abs(found[name].value - value) for name, value in t3.items())
    rows.append(row("Tersoff elastic constants, difference from Balamane 1992", worst, "<= 0.5", 4,
                    "GPa"))  # fmt: skip
    return rows + against_lammps()


def closed_forms() -> tuple[list[float], list[bool]]:
    D, alpha, r0 = 0.35, 1.4, 2.55
    morse = Morse(species=("Cu",), D=D, alpha=alpha, r0=r0, cutoff=1.2 * r0, switch_width=0.0)
    sums = 0.5 * (2.0 + np.sqrt(5.0))
    lj = lennard_jones_fcc(0.0104, 3.4, sums)
    argon = LennardJones(species=("Ar",), epsilon=0.0104, sigma=3.4, switch_width=0.0,
                         cutoff=sums * lj["distance"])  # fmt: skip
    values = morse_neighbors_fcc(D, alpha, r0, atomic_masses[29])
    cu, ar = bulk("Cu", "fcc", a=1.42 * r0), bulk("Ar", "fcc", a=1.42 * lj["distance"])
    near = np.linspace(0.96, 1.04, 9)
    states = [equation_of_state(s, c, volumes=near) for s, c in ((morse, cu), (argon, ar))]
    modes, constants = phonons(morse, cu, mesh=4), elastic(morse, cu)
    pairs = [
        (states[0]["bulk modulus"], values["B"] * GPA), (states[0]["B'"], values["B'"]),
        (states[1]["bulk modulus"], lj["B"] * GPA), (states[1]["B'"], 8.0),
        (lattice(argon, ar)["a"], lj["distance"] * np.sqrt(2.0)),
        (constants["C11"], values["C11"] * GPA), (constants["C44"], values["C44"] * GPA),
        (modes["highest frequency at X"], values["X high"]),
        (modes["lowest frequency at X"], values["X low"]),
        (modes["lowest frequency at L"], values["L low"]),
        (vacancy(morse, cu, starts=1, sizes=(2,))["formation energy"], values["vacancy"]),
    ]
    relative = [abs(q.value / value - 1.0) for q, value in pairs]
    stated = [bool(abs(q.value - value) <= q.error[0] + 1e-6 * abs(value)) for q, value in pairs]
    return relative, stated


def against_lammps() -> list[dict]:
    """The same functions on LAMMPS' forces: relative differences of what both find."""
    rows = []
    copper = SuttonChen.published("Cu", cutoff=6.0)
    for name, potential, crystal in (
        ("Stillinger-Weber", StillingerWeber.silicon_1985(), DIAMOND),
        ("Tersoff", Tersoff.silicon_1988_elastic(), DIAMOND),
        ("Sutton-Chen", copper, bulk("Cu", "fcc", a=3.6)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            style = write_style(potential, Path(folder), "form")
            theirs = surfaces_of(
                LammpsCalculator(potential, Path(folder), style.commands(Path(folder)))
            )
            differences = []
            for of, settings in ((elastic, {}), (vacancy, {"starts": 1, "sizes": (2,)})):
                mine, other = (of(s, crystal, **settings) for s in (potential, theirs))
                differences += [
                    abs(q.value / other[key].value - 1.0) for key, q in mine.quantities.items()
                    if key in ("C11", "C12", "C44", "formation energy")
                ]  # fmt: skip
        rows.append(row(f"{name}, largest relative difference from LAMMPS", max(differences),
                        "<= 0.001", len(differences), "1"))  # fmt: skip
    return rows


# --- speed ----------------------------------------------------------------------------------

WORK: dict[str, Callable] = {
    "lattice and elastic tensor": lambda s: elastic(s, DIAMOND),
    "vacancy, 63 atoms": lambda s: vacancy(s, DIAMOND, starts=1, sizes=(2,)),
    "surface (100) 2x1": lambda s: surface_energy(
        s, DIAMOND, miller=(1, 0, 0), repeat=(2, 1), pairing=0.7
    ),
    "phonons": lambda s: phonons(s, DIAMOND),
}


def cpu_time(make: Callable, work: Callable, repeats: int = 3) -> float:
    """CPU seconds of the work on fresh surfaces, after one untimed run; the median."""
    work(make())
    times = []
    for _ in range(repeats):
        surfaces = make()
        start = time.process_time()
        work(surfaces)
        times.append(time.process_time() - start)
    return float(np.median(times))


def speed() -> list[dict]:
    posterior = bayespot.Posterior.load(MODEL)
    potentials = posterior.potentials(32)
    first = jax.tree.map(lambda leaf: np.asarray(leaf)[0], potentials)
    rows = []
    for name, work in WORK.items():
        many = cpu_time(lambda: surfaces_of(posterior), work)
        one = cpu_time(lambda: surfaces_of(first), work)
        alone = cpu_time(
            lambda: CalculatorSurface(surfaces_of(first).calculator(0)), work, repeats=1
        )
        rows += [
            row(f"{name}: 32 draws over one", many / one, "<= 16", 1, "1"),
            row(f"{name}: 32 draws", many, "<= 60", 1, "s"),
            row(f"{name}: 32 runs of ASE's relaxations over 32 draws at once", 32 * alone / many,
                ">= 4", 1, "1"),
        ]  # fmt: skip
    return rows


# --- silicon --------------------------------------------------------------------------------


DEFECTS = ("vacancy", "interstitial", "stacking_fault", "vacancy_migration", "surface_energy")


def silicon(posterior_file: Path, label: str, folder: Path, without: Sequence[str] = ()
            ) -> list[dict]:
    """Properties of a posterior but some kinds; how many references lie in the bars."""
    text = (Path(__file__).parent / "properties_silicon.toml").read_text(encoding="utf-8")
    config_file = folder / "silicon.toml"
    config_file.write_text(
        text.replace('posterior = "posterior.nc"', f'posterior = "{posterior_file}"'), "utf-8"
    )
    config = load_properties(config_file)
    wanted = [asked for asked in config.properties if asked.kind not in without]
    config = config.model_copy(update={"properties": wanted})
    (folder / label / "reference").mkdir(parents=True)
    shutil.copy(RESULTS / "properties_silicon_references.json",
                folder / label / "reference" / REFERENCES)
    start = time.process_time()
    draws, summary = properties_run(
        config, bayespot.Posterior.load(posterior_file), folder / label, happened=print
    )
    seconds = time.process_time() - start
    keep(label, draws, summary)
    values = [s for s in summary if s.n > 0]
    # Of the code and settings of the training data where it was calculated, else published.
    known = [(s, s.references.get("GPAW/PBE", s.references.get("DFT"))) for s in values]
    dft = [(s, reference) for s, reference in known if reference is not None]
    inside = [s.intervals[0.9][0] <= reference <= s.intervals[0.9][1] for s, reference in dft]
    z = [abs(reference - s.mean) / np.hypot(s.parameter_std, np.nan_to_num(s.numerical_error))
         for s, reference in dft]  # fmt: skip
    distance = [abs(s.mean / reference - 1.0) for s, reference in dft]
    return [
        row(f"silicon, {label}: properties with bars", len(values), ">= 24", 32, "1"),
        row(f"silicon, {label}: share of DFT references in 90 % bars", np.mean(inside), ">= 0.85",
            len(dft), "1"),
        row(f"silicon, {label}: rms z against DFT", np.sqrt(np.mean(np.square(z))), "<= 1.3",
            len(dft), "1"),
        row(f"silicon, {label}: median relative distance from DFT", np.median(distance), "<= 0.1",
            len(dft), "1"),
        row(f"silicon, {label}: CPU time of all properties", seconds, "<= 600", 32, "s"),
    ]  # fmt: skip


def keep(label: str, draws: PropertyDraws, summary: list) -> None:
    """Rows for paper/figures/properties.py."""
    path = RESULTS / "properties_silicon.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content[label] = {
        "problems": draws.problems,
        "rows": [
            {"name": s.name, "unit": s.unit, "median": s.median, "n": s.n,
             "parameter_std": s.parameter_std, "numerical_error": s.numerical_error,
             "intervals": {f"{p:g}": list(ends) for p, ends in s.intervals.items()},
             "failed": s.failed, "unstable": s.unstable, "references": dict(s.references)}
            for s in summary
        ],
    }  # fmt: skip
    text = json.dumps(content, indent=1, ensure_ascii=False).replace("NaN", "null")
    path.write_text(text + "\n", encoding="utf-8")


def with_discrepancy(folder: Path, scales: str = "common") -> Path:
    """The data, form and floor of the published model; Laplace, with a discrepancy."""
    data = bayespot.read("silicon_gpaw_pbe")
    floor = bayespot.NoiseFloor.from_json(archive_path("silicon_gpaw_pbe") / "floor.json")
    problem = bayespot.FitProblem(
        StillingerWeber(species=("Si",)), data, fixed={"r_c": 3.77118}, floor=floor,
        misfit="discrepancy", scales=scales,
    )  # fmt: skip
    path = folder / "discrepancy.nc"
    bayespot.laplace(problem, key=jax.random.key(1), draws=400, starts=4).save(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("exact", "speed", "silicon", "discrepancy", "families")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--posterior", type=Path, help="of an earlier run with a discrepancy")
    given = parser.parse_args()
    for part in given.only:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if part == "silicon":
                rows = silicon(MODEL, "misfit none", folder)
            elif part == "discrepancy":
                path = given.posterior or with_discrepancy(folder)
                rows = silicon(path, "misfit discrepancy", folder, DEFECTS)
            elif part == "families":
                path = with_discrepancy(folder, "family")
                rows = silicon(path, "misfit discrepancy, noise by family", folder, DEFECTS)
            else:
                rows = {"exact": exact, "speed": speed}[part]()
        show(rows)
        add_claims(RESULTS / "properties.json", "properties", rows)


if __name__ == "__main__":
    main()
