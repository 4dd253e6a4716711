"""Properties against closed forms, LAMMPS and published values; speed of many draws.

Usage: python paper/benchmarks/properties.py [--only exact speed]

exact  nearest-neighbour Morse and Lennard-Jones fcc against closed forms; silicon of
       Stillinger and Weber and of Tersoff, copper of Sutton and Chen against LAMMPS, whose
       forces go through ASE's relaxations; a migration barrier against the saddle that symmetry
       gives.
speed  CPU time of 32 draws over that of one, compiled; that of ASE's relaxations beside it.

Bars beside values of DFT are in properties_dft.py. Claims go to paper/results/properties.json.
"""

# ruff: noqa: E402  (threads and the cache are configured before anything is compiled)
import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "properties")]

import jax
import numpy as np
from ase.build import bulk
from ase.data import atomic_masses
from ase.optimize import FIRE
from claims import add_claims, claim, show
from closed_forms import lennard_jones_fcc, morse_neighbors_fcc
from lammps_force import LammpsCalculator

import bayespot

bayespot.configure()

from bayespot.export.styles import write_style
from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.morse import Morse
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.sutton_chen import SuttonChen
from bayespot.potentials.tersoff import Tersoff
from bayespot.properties import (
    CalculatorSurface,
    elastic,
    equation_of_state,
    interstitial,
    lattice,
    phonons,
    stacking_fault,
    surface_energy,
    surfaces_of,
    vacancy,
    vacancy_migration,
)
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


COMPARED: dict[str, tuple[Callable, dict, tuple[str, ...]]] = {
    "elastic constants": (elastic, {}, ("C11", "C12", "C44")),
    "vacancy": (vacancy, {"starts": 1, "sizes": (2,)}, ("formation energy",)),
    "interstitial": (interstitial, {"position": (0.5, 0.5, 0.5), "sizes": (2,)},
                     ("formation energy",)),
    "surface (111)": (surface_energy, {"miller": (1, 1, 1), "layers": (6,)}, ("surface energy",)),
    "phonons": (phonons, {"mesh": 4}, ("highest frequency at X", "lowest frequency at L")),
}  # fmt: skip


def against_lammps() -> list[dict]:
    """The same functions on LAMMPS' forces: relative differences of what both find."""
    rows = []
    copper = SuttonChen.published("Cu", cutoff=6.0)
    fcc = bulk("Cu", "fcc", a=3.6)
    for name, potential, crystal in (
        ("Stillinger-Weber", StillingerWeber.silicon_1985(), DIAMOND),
        ("Tersoff", Tersoff.silicon_1988_elastic(), DIAMOND),
        ("Sutton-Chen", copper, fcc),
    ):
        compared = dict(COMPARED)
        if potential is copper:  # the fault of these forms of silicon costs nothing
            compared["fault"] = (stacking_fault, {"layers": (6,)}, ("stacking-fault energy",))
        with tempfile.TemporaryDirectory() as folder:
            style = write_style(potential, Path(folder), "form")
            calculator = LammpsCalculator(potential, Path(folder), style.commands(Path(folder)))
            theirs = surfaces_of(calculator)
            differences = []
            for of, settings, keys in compared.values():
                mine, other = (of(s, crystal, **settings) for s in (potential, theirs))
                differences += [abs(mine[key].value / other[key].value - 1.0) for key in keys]
            rows.append(row(f"{name}, largest relative difference from LAMMPS", max(differences),
                            "<= 0.001", len(differences), "1"))  # fmt: skip
            if potential is copper:
                barrier = vacancy_migration(potential, fcc)["migration barrier"].value
                saddle = barrier_by_symmetry(calculator, lattice(potential, fcc)["a"].value)
                rows.append(row("Sutton-Chen, migration barrier, difference from LAMMPS' energy of "
                                "the saddle that symmetry gives", abs(barrier - saddle), "<= 0.001",
                                1, "eV"))  # fmt: skip
    return rows


def barrier_by_symmetry(calculator: LammpsCalculator, a: float) -> float:
    """Energy of an atom half way into a vacancy of fcc over that of the vacancy, relaxed, eV.

    The plane between both sites is a mirror of this state, so that a relaxation cannot leave the
    saddle: no band is needed.
    """
    perfect = bulk("Cu", "fcc", a=a, cubic=True).repeat(2)
    neighbor = int(np.argsort(perfect.get_distances(0, range(len(perfect)), mic=True))[1])
    half = 0.5 * perfect.get_distance(0, neighbor, mic=True, vector=True)
    vacant, between = perfect.copy(), perfect.copy()
    between.positions[neighbor] -= half
    energies = []
    for state in (vacant, between):
        del state[0]
        state.calc = calculator
        FIRE(state, logfile=None).run(fmax=1e-4, steps=1000)
        energies.append(state.get_potential_energy())
    return energies[1] - energies[0]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"exact": exact, "speed": speed}
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    for part in parser.parse_args().only:
        rows = parts[part]()
        show(rows)
        add_claims(RESULTS / "properties.json", "properties", rows)


if __name__ == "__main__":
    main()
