"""Convergence of GPAW and Quantum ESPRESSO on silicon and aluminium, and of what order it is.

    python paper/benchmarks/dft_convergence.py study CODE ELEMENT --work FOLDER
    python paper/benchmarks/dft_convergence.py cycle ELEMENT --work FOLDER
    python paper/benchmarks/dft_convergence.py ray ELEMENT --work FOLDER
    python paper/benchmarks/dft_convergence.py collect --work FOLDER [--out RESULTS]

`study` is what `bayespot converge` does: cutoff, k-points, smearing and self-consistency of one
code (gpaw or espresso) for one element (Si or Al), and the floor that follows. `cycle` follows the
self-consistency cycle of GPAW step by step: energy and forces of every step against the residual
that GPAW reports, the residual of the wave functions, and the true error of the density, with
different eigensolvers and mixers; and pw.x over its threshold. `ray` moves the density and the wave
functions of GPAW away from self-consistency along a line. `collect` writes
paper/results/dft_convergence.json (for the figure) and the claims in dft_side.json. Everything but
`collect` may be stopped and called again.

GPAW (pip install gpaw) for gpaw, cycle and ray; pw.x with the pseudopotentials of Debian's
quantum-espresso-data for espresso.
"""

import argparse
import itertools
import os
import re
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.build import bulk
from claims import add_claims, claim, commit, show, versions

from bayespot.convergence import Calculations, fit_order, make_scan, run_study
from bayespot.convergence.scans import with_value
from bayespot.data.dataset import Dataset
from bayespot.oracles import Oracle, make_oracle
from bayespot.oracles.codes import merged
from bayespot.records import read_json, write_json
from bayespot.report import write_convergence_report
from bayespot.units import GPA

RESULTS = Path(__file__).resolve().parents[1] / "results"
TARGET = {"energy_difference": 1e-3, "forces": 1e-2, "stress": 0.1 / GPA}  # 1 kbar
SMOOTH = {"name": "fermi-dirac", "width": 0.1}
RY = 13.605693122994  # eV

GPAW = {
    "xc": "PBE", "symmetry": {"point_group": False}, "occupations": SMOOTH,
    # the density alone decides when the cycle ends; min_niter keeps PPCG from stopping early
    # where the criterion of the eigenstates is loose
    "convergence": {"energy": 1e3, "eigenstates": 1e3, "density": 1e-6},
    "eigensolver": {"name": "ppcg", "niter": 2, "min_niter": 2},
}  # fmt: skip
DENSITY = [1e-1, 1e-2, 1e-3, 1e-4, 1e-6]
THRESHOLD = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10]


def espresso(file: str, element: str, **system: float) -> dict:
    """Keywords of pw.x."""
    return {
        "pseudopotentials": {element: file},
        "kpts": {"density": 2.0 if element == "Si" else 2.5, "gamma": True},
        "input_data": {
            "system": {"occupations": "smearing", "smearing": "fermi-dirac", "degauss": 0.1 / RY,
                       **system},
            "electrons": {"conv_thr": 1e-10},
        },
    }  # fmt: skip


STUDIES = {
    ("gpaw", "Si"): (
        {**GPAW, "mode": {"name": "pw", "ecut": 300.0}, "kpts": {"density": 2.0, "gamma": True}},
        {"cutoff": [200.0, 250.0, 300.0, 400.0, 600.0],
         "kpoints": [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5],
         "smearing": [0.4, 0.2, 0.1], "scf": DENSITY},
    ),
    ("gpaw", "Al"): (
        {**GPAW, "mode": {"name": "pw", "ecut": 250.0}, "kpts": {"density": 2.0, "gamma": True}},
        {"cutoff": [150.0, 200.0, 250.0, 350.0, 500.0],
         "kpoints": [1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5, 8.0],
         "smearing": [0.4, 0.2, 0.1], "scf": DENSITY},
    ),
    ("espresso", "Si"): (
        espresso("Si.pbe-nl-rrkjus_psl.1.0.0.UPF", "Si", ecutwfc=30.0, ecutrho=240.0),
        {"cutoff": [20.0, 25.0, 30.0, 40.0, 60.0, 80.0],
         "kpoints": [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.5],
         "smearing": [0.4 / RY, 0.2 / RY, 0.1 / RY], "scf": THRESHOLD},
    ),
    ("espresso", "Al"): (
        espresso("Al.pz-vbc.UPF", "Al", ecutwfc=20.0),
        {"cutoff": [10.0, 13.0, 16.0, 20.0, 25.0, 32.0],
         "kpoints": [1.5, 2.0, 3.0, 4.0, 5.0, 6.5, 8.0, 10.0, 13.0],
         "smearing": [0.4 / RY, 0.2 / RY, 0.1 / RY, 0.05 / RY], "scf": THRESHOLD},
    ),
}  # fmt: skip
"""Base setting and values of the scans; densities of k-points in Å, widths of 0.1 eV are the
electronic temperature of the labels and stay."""


def structures(element: str) -> Dataset:
    """Three small cells without symmetry: two strained and displaced, one other phase."""
    if element == "Si":
        parents = [bulk("Si", a=5.47), bulk("Si", a=5.30), bulk("Si", "bct", a=4.80, c=2.65)]
        parents[2] = Atoms("Si2", cell=[[-2.4, 2.4, 1.325], [2.4, -2.4, 1.325], [2.4, 2.4, -1.325]],
                           scaled_positions=[[0, 0, 0], [0.75, 0.25, 0.5]], pbc=True)
    else:
        a = 4.04
        two = Atoms("Al2", cell=[a / 2**0.5, a / 2**0.5, a],
                    scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], pbc=True)
        hcp = bulk("Al", "hcp", a=2.86, c=4.67)
        parents = [two, two.copy(), hcp]
    for k, atoms in enumerate(parents):
        rng = np.random.default_rng(k)
        strain = rng.normal(0.0, 0.012, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)),
                       scale_atoms=True)
        atoms.positions += rng.normal(0.0, 0.05, (len(atoms), 3))
    return Dataset.from_atoms(parents, families=["strained", "strained", "phase"])


def calculator(code: str, settings: dict) -> Oracle:
    """Oracle in this process: these cells are as small as the start of another one is long."""
    return make_oracle(code, settings, run={"isolate": False})


def study(code: str, element: str, work: Path) -> None:
    """Scan one code for one element."""
    base, values = STUDIES[code, element]
    linked = {"input_data.system.ecutrho": 8.0} if (code, element) == ("espresso", "Si") else None
    scans = [
        make_scan(code, name, some, linked=linked if name == "cutoff" else None,
                  refine=name != "smearing")
        for name, some in values.items()
    ]
    folder = work / f"{element}-{code}"
    found = run_study(
        Calculations(folder / "calculations", code, calculator), base, scans,
        structures(element), TARGET,
        happened=lambda done, total, what: print(f"{done}/{total} {what}", flush=True),
    )
    write_convergence_report(found, folder)


# ------------------------------------------------------- the self-consistency cycle, step by step

NEVER = {"energy": 1e-14, "density": 1e-14, "eigenstates": 1e-26}  # the loop below ends it
LINEAR = {"backend": "pulay", "beta": 0.6, "nmaxold": 1, "weight": 1.0}
CYCLES = {
    "PPCG, default criteria": {"convergence": {**NEVER, "eigenstates": 4e-8}},
    "PPCG, eigenstates off": {"convergence": {**NEVER, "eigenstates": 1e3}},
    "PPCG, 2 steps": {},
    "Davidson, 1 step": {"eigensolver": {"name": "davidson", "niter": 1}},
    "Davidson, 8 steps": {"eigensolver": {"name": "davidson", "niter": 8}},
    "Davidson, 8 steps, linear mixing": {
        "eigensolver": {"name": "davidson", "niter": 8}, "mixer": LINEAR},
}  # fmt: skip
"""What is done to the wave functions in each step of the cycle, and to the density after it."""

SAME = ("PPCG, 2 steps", "Davidson, 1 step")
"""Cycles that turn out to be those of PPCG with default criteria, and with eigenstates off."""
BY_ORBITALS = ("PPCG, eigenstates off", "Davidson, 8 steps, linear mixing")

LONGEST, SOLVED = 45, 1e-11  # steps; electrons/electron, the reported residual at the end
NOISE = {"cycle": 1e-9, "density": 4e-10, "wave functions": 4e-10, "pw.x": 1e-8}
"""eV/atom below which energies are not resolved: converged cycles scatter by the first, and along a
line energies jump by the second, from the search of the Fermi level; pw.x prints so many digits."""
FORCE_NOISE = {"cycle": 1e-8, "density": 1e-8, "wave functions": 1e-8, "pw.x": 1e-6}
"""eV/Å, likewise."""

MEASURED = {
    "reported": "residual that GPAW reports",
    "density_in": "true error of the density, L1",
    "density_out": "the same of the density that the wave functions make",
    "orbitals": "root of the residual of the wave functions",
}


class Cycle:
    """One self-consistency cycle of GPAW that can be stopped after every step and looked at."""

    def __init__(self, atoms: Atoms, element: str, settings: dict) -> None:
        from gpaw import GPAW

        base, _ = STUDIES["gpaw", element]
        kept = {k: v for k, v in base.items() if k not in ("convergence", "eigensolver")}
        calc = GPAW(**{**kept, "convergence": NEVER, "maxiter": 200, **settings, "txt": None})
        atoms = atoms.copy()
        atoms.calc = calc
        calc.create_new_calculation(atoms)
        # the calculator on the atoms keeps the log open
        self.atoms, self.dft, self.n_atoms = atoms, calc.dft, len(atoms)
        self.electrons = float(self.dft.density.nvalence)

    def density(self) -> tuple[np.ndarray, dict]:
        """Smooth density on its grid and atomic density matrices."""
        d = self.dft.density
        return d.nt_sR.data.copy(), {a: x.copy() for a, x in d.D_asii.items()}

    def set_density(self, smooth: np.ndarray, atomic: dict) -> None:
        self.dft.density.nt_sR.data[:] = smooth
        for a, x in atomic.items():
            self.dft.density.D_asii[a][:] = x

    def forces(self) -> np.ndarray:
        from ase.units import Bohr, Ha

        self.dft.results = {}
        return self.dft._calculate_forces().copy() * Ha / Bohr

    def output_density(self) -> np.ndarray:
        """Smooth density of the wave functions; that of the cycle stays as it is."""
        kept = self.density()
        self.dft.density.update(self.dft.ibzwfs)
        made = self.density()[0]
        self.set_density(*kept)
        return made

    def distance(self, one: np.ndarray, two: np.ndarray) -> float:
        """Integral of the absolute difference of smooth densities, electrons per electron."""
        from ase.units import Bohr

        volume = self.atoms.get_volume() / Bohr**3
        return float(np.abs(one - two).sum() * volume / one[0].size / self.electrons)


def follow(atoms: Atoms, element: str, settings: dict) -> dict:
    """Energy, forces and errors after every step of a cycle, against its own end."""
    from ase.units import Ha

    cycle, rows = Cycle(atoms, element, settings), []
    for context in cycle.dft.iconverge():
        rows.append({
            "energy": context.energies.total_free * Ha, "forces": cycle.forces(),
            "in": cycle.density()[0], "out": cycle.output_density(),
            "reported": float(context.dens.error) / cycle.electrons,
            "orbitals": float(np.sqrt(context.wfs.eigensolver.error * Ha**2 / cycle.electrons)),
        })  # fmt: skip
        if len(rows) == LONGEST or context.dens.error < SOLVED * cycle.electrons:
            break
    end = rows[-1]
    table = []
    for row in rows[:-1]:
        table.append({
            "energy": abs(row["energy"] - end["energy"]) / cycle.n_atoms,
            "forces": float(np.sqrt(np.mean((row["forces"] - end["forces"]) ** 2))),
            "reported": row["reported"] if np.isfinite(row["reported"]) else None,
            "orbitals": row["orbitals"], "density_in": cycle.distance(row["in"], end["out"]),
            "density_out": cycle.distance(row["out"], end["out"]),
        })  # fmt: skip
    return {"steps": len(rows), "rows": table}


def cycles(element: str, work: Path) -> None:
    """Follow every kind of cycle on the first two structures."""
    for k, atoms in enumerate(structures(element).structures[:2]):
        for name, settings in CYCLES.items():
            path = work / "cycles" / f"{element}-{k}-{list(CYCLES).index(name)}.json"
            if not path.exists():
                write_json(path, {"name": name, **follow(atoms, element, settings)})
                print(path.name, name, flush=True)


SCALES = np.geomspace(1e-4, 1.0, 9)


def ray(element: str, work: Path) -> None:
    """Errors along straight lines away from self-consistency.

    Density: n* + x (n_2 - n*) with n_2 the input of the third step, wave functions converged in
    its potential (the energy is Harris's then). Wave functions: psi* + x (psi_2 - psi*) in the
    self-consistent potential; the error of the density is that of the one they make.
    """
    from ase.units import Ha

    path = work / "cycles" / f"{element}-ray.json"
    if path.exists():
        return
    atoms = structures(element).structures[0]
    cycle = Cycle(atoms, element, CYCLES["Davidson, 8 steps"])
    dft, early = cycle.dft, None
    for step, context in enumerate(dft.iconverge()):
        if step == 2:
            early = (*cycle.density(), [w.psit_nX.data.copy() for w in dft.ibzwfs])
        if step == LONGEST or (step and context.dens.error < 1e-12 * cycle.electrons):
            break
    late = (*cycle.density(), [w.psit_nX.data.copy() for w in dft.ibzwfs])
    found = {"density": [], "wave functions": []}
    for scale in [0.0, *SCALES]:
        mixed = late[0] + scale * (early[0] - late[0])
        cycle.set_density(mixed, {a: x + scale * (early[1][a] - x) for a, x in late[1].items()})
        found["density"].append(_state(cycle, late, steps=5)
                                | {"error": cycle.distance(mixed, late[0])})
    for scale in [0.0, *SCALES]:
        cycle.set_density(late[0], late[1])
        start = [x + scale * (y - x) for x, y in zip(late[2], early[2], strict=True)]
        state = _state(cycle, (*late[:2], start), steps=0)
        dft.density.update(dft.ibzwfs)
        found["wave functions"].append(
            state | {"error": cycle.distance(cycle.density()[0], late[0])})
    rays = {}
    for name, rows in found.items():
        zero = rows[0]
        rays[name] = [
            {"error": row["error"], "energy": abs(row["energy"] - zero["energy"]) * Ha / len(atoms),
             "forces": float(np.sqrt(np.mean((row["forces"] - zero["forces"]) ** 2)))}
            for row in rows[1:]
        ]  # fmt: skip
    write_json(path, rays)


def _state(cycle: Cycle, state: tuple, steps: int) -> dict:
    """Energy and forces at the density that is set, with wave functions improved so often."""
    from gpaw.new.pwfd.davidson import Davidson

    dft = cycle.dft
    for wfs, psi in zip(dft.ibzwfs, state[2], strict=True):
        wfs.psit_nX.data[:] = psi
        wfs._P_ani = None
        wfs.orthonormalized = False
    potential, energies, _ = dft.pot_calc.calculate(dft.density, dft.ibzwfs, dft.potential.vHt_x)
    dft.potential = potential
    solver: Davidson = dft.scf_loop.eigensolver
    kept, solver.niter = solver.niter, max(solver.niter, 1)
    if steps:
        for _ in range(steps):
            _, _, energies = solver.iterate(dft.ibzwfs, dft.density, potential,
                                            dft.scf_loop.hamiltonian, dft.pot_calc, energies)
    else:
        _diagonalize(dft, potential)
    solver.niter = kept
    band, entropy, extrapolation = dft.ibzwfs.calculate_occs(
        dft.scf_loop.occ_calc, dft.density.nvalence - dft.density.charge)
    energies.set(band=band, entropy=entropy, extrapolation=extrapolation)
    dft.energies = energies
    return {"energy": energies.total_free, "forces": cycle.forces()}


def _diagonalize(dft, potential) -> None:
    """Eigenvalues of the wave functions as they are: rotated among themselves, not improved."""
    from functools import partial

    dft.ibzwfs.orthonormalize()
    dft.scf_loop.hamiltonian.update_wave_functions(dft.ibzwfs)
    for wfs in dft.ibzwfs:
        apply = partial(dft.scf_loop.hamiltonian.apply, potential.vt_sR, potential.dedtaut_sR,
                        dft.ibzwfs, dft.density.D_asii, spin=wfs.spin)
        wfs.subspace_diagonalize(apply, partial(potential.deltaH, spin=wfs.spin),
                                 psit2_nX=wfs.psit_nX.new())


# ------------------------------------------------------------------ the same for pw.x, from outside

ACCURACY = re.compile(r"estimated accuracy ([0-9.E+-]+)")


PW = {
    "pw.x": {},
    "pw.x, diagonalized to 1e-9": {"diago_thr_init": 1e-9},
    "pw.x, diagonalized to 1e-11, linear mixing": {
        "diago_thr_init": 1e-11, "mixing_ndim": 1, "mixing_beta": 0.1, "electron_maxstep": 300},
}  # fmt: skip
"""Without more words pw.x diagonalizes loosely as long as the density is far from converged. Linear
mixing leaves the slowest error alone in the end: one direction, as along a line."""


def thresholds(element: str, work: Path) -> None:
    """Errors of pw.x against the root of the accuracy (Ry) that it says it has reached.

    The accuracy is an energy, so its root goes with the error of the density.
    """
    base, _ = STUDIES["espresso", element]
    for (j, name), k in itertools.product(enumerate(PW), range(2)):
        path = work / "cycles" / f"{element}-{k}-espresso{j or ''}.json"
        if not path.exists():
            start = merged(base, {"input_data": {"electrons": PW[name]}})
            rows = over_thresholds(structures(element).structures[k], start)
            write_json(path, {"name": name, "rows": rows})
            print(path.name, name, len(rows), flush=True)


def over_thresholds(atoms: Atoms, base: dict) -> list[dict]:
    """Errors at every accuracy that was reached, against the tightest threshold."""
    found = []
    for threshold in [1e-13, *np.geomspace(1e-11, 1e-1, 15)]:
        settings = with_value(base, {"input_data.electrons.conv_thr": 1.0}, float(threshold))
        result = calculator("espresso", settings).label(atoms)
        reached = float(ACCURACY.search(result.metadata["converged"]).group(1))
        found.append((reached, result.energy, result.forces))
    end = found[0]
    rows = {
        reached: {"reported": float(np.sqrt(reached)),
                  "energy": abs(energy - end[1]) / len(atoms),
                  "forces": float(np.sqrt(np.mean((forces - end[2]) ** 2)))}
        for reached, energy, forces in found[1:]
    }  # fmt: skip
    return list(rows.values())


# ------------------------------------------------------------------------------------- results


def order_rows(rows: list[dict], against: str, kind: str) -> dict:
    """Orders of energy and forces against one measure of the error."""
    some = [row for row in rows if row.get(against)]
    step = [row[against] for row in some]
    fits = {"energy": fit_order(step, [row["energy"] for row in some], floor=NOISE[kind]),
            "forces": fit_order(step, [row["forces"] for row in some], floor=FORCE_NOISE[kind])}
    return {
        quantity: None if fit is None else
        {"order": fit.slope, "standard_error": fit.standard_error, "n": len(fit.used)}
        for quantity, fit in fits.items()
    }  # fmt: skip


def mean_order(orders: list[dict]) -> dict | None:
    """Mean over structures; the standard error is the larger of propagated and observed."""
    values = np.array([o["order"] for o in orders])
    if not values.size:
        return None
    inside = np.sqrt(np.sum([o["standard_error"] ** 2 for o in orders])) / values.size
    between = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else 0.0
    return {"order": float(values.mean()), "standard_error": float(max(inside, between)),
            "n": int(sum(o["n"] for o in orders)), "structures": int(values.size)}  # fmt: skip


def collect_cycles(work: Path, element: str) -> dict:
    """Rows and orders of everything that was followed for an element."""
    found: dict = {"cycles": {}, "rays": {}}
    for path in sorted((work / "cycles").glob(f"{element}-[0-9]-*.json")):
        record = read_json(path)
        found["cycles"].setdefault(record["name"], []).append(record["rows"])
    orders = {}
    for name, runs in found["cycles"].items():
        kind = "pw.x" if name in PW else "cycle"
        orders[name] = {}
        for against in MEASURED:
            fits = [order_rows(rows, against, kind) for rows in runs]
            orders[name][against] = {
                quantity: mean_order([f[quantity] for f in fits if f[quantity] is not None])
                for quantity in ("energy", "forces")
            }
    found["orders"] = orders
    path = work / "cycles" / f"{element}-ray.json"
    if path.exists():
        rays = read_json(path)
        found["rays"] = {
            name: {"rows": rows, "orders": order_rows(rows, "error", name)}
            for name, rows in rays.items()
        }
    return found


def study_record(folder: Path) -> dict:
    """Of a study what the figure shows, and its floor."""
    record = read_json(folder / "convergence.json")
    kept = ("code", "versions", "target", "scans", "uncertainty", "recommended", "notes")
    floor = folder / "floor.json"
    calculations = [read_json(p) for p in (folder / "calculations").glob("*.json")]
    return {
        **{key: record[key] for key in kept},
        "families": record["families"], "tried": record["tried"][-1],
        "floor": read_json(floor) if floor.exists() else None,
        "calculations": len(calculations),
        "failed": sum(bool(c["failed"]) for c in calculations),
        "cpu_s": float(sum(c["cpu_time_s"] for c in calculations)),
    }  # fmt: skip


def claims_of(data: dict, command: str) -> list[dict]:
    """Orders beside theory, misses included."""
    rows = []

    def add(name: str, fit: dict | None, target: str) -> None:
        if fit is not None:
            wide = 1.96 * fit["standard_error"]
            rows.append(claim(f"dft_order_{name}", fit["order"], target, n=fit["n"], unit="1",
                              low=fit["order"] - wide, high=fit["order"] + wide,
                              command=command))  # fmt: skip

    for name, study_ in data["studies"].items():
        rows.append(claim(f"dft_study_{'_'.join(reversed(name.split()))}_meets_its_target",
                          float(study_["recommended"] is not None), "== 1",
                          n=study_["calculations"], unit="1", command=command))  # fmt: skip
    for element, found in data["cycles"].items():
        for name, ray_ in found["rays"].items():
            label = f"gpaw_{element}_line_{name.replace(' ', '_')}"
            add(f"{label}_energy", ray_["orders"]["energy"], ">= 1.8")
            add(f"{label}_forces", ray_["orders"]["forces"], ">= 0.8")
        for name, against in found["orders"].items():
            if name in SAME:
                continue
            code = "espresso" if name in PW else "gpaw"
            words = re.sub(r"\W+", "_", name.replace("pw.x", "")).strip("_").lower()
            label = f"{code}_{element}_cycle{'_' if words else ''}{words}"
            add(f"{label}_energy", against["reported"]["energy"], ">= 1.8")
            add(f"{label}_forces", against["reported"]["forces"], ">= 0.8")
            if name in BY_ORBITALS:
                add(f"{label}_energy_by_orbitals", against["orbitals"]["energy"], ">= 1.8")
    return rows


def collect(work: Path, out: Path) -> None:
    """Write the results that the figure and the claims rest on."""
    data = {
        "studies": {
            f"{element} {code}": study_record(work / f"{element}-{code}")
            for code, element in STUDIES
            if (work / f"{element}-{code}" / "convergence.json").exists()
        },
        "cycles": {element: collect_cycles(work, element) for element in ("Si", "Al")},
        "measured": MEASURED, "versions": versions(), "commit": commit(),
    }  # fmt: skip
    write_json(out / "dft_convergence.json", data)
    rows = claims_of(data, "python paper/benchmarks/dft_convergence.py collect")
    show(rows)
    add_claims(out / "dft_side.json", "dft_side", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("study", "cycle", "ray", "collect"):
        sub = commands.add_parser(name)
        if name == "study":
            sub.add_argument("code", choices=("gpaw", "espresso"))
        if name != "collect":
            sub.add_argument("element", choices=("Si", "Al"))
        else:
            sub.add_argument("--out", type=Path, default=RESULTS)
        sub.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "study":
        study(given.code, given.element, given.work)
    elif given.command == "cycle":
        cycles(given.element, given.work)
        thresholds(given.element, given.work)
    elif given.command == "ray":
        ray(given.element, given.work)
    else:
        collect(given.work, given.out)


if __name__ == "__main__":
    main()
