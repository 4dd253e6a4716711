"""Physics that correct labels obey: one function a check, run by ``read(check=True)``.

A check returns findings, which end in ``Dataset.summary()``, or raises with what is wrong, where,
and the argument of ``read`` that mends it. Thresholds are set so that none of the public sets that
bayespot is tested on (Si, Li, Cu, Ni, Ta, Nb-Ta-W, W, MgO) trips a check; what they cannot see is
said in each docstring. ``read(..., skip=["overlap"])`` leaves one out, by name.

Not checked, because a data set holds no trace of it: whether an ``energy`` without a
``free_energy`` beside it is the free energy. The two differ by the smearing entropy only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from ase.data import covalent_radii
from scipy.stats import spearmanr
from vesin import NeighborList

from bayespot.data.dataset import Dataset, has_vacuum
from bayespot.data.provenance import refuse_mixed
from bayespot.data.work import check_forces_against_energy, check_stress_against_energy
from bayespot.errors import LabelError, StructureError, UnitError
from bayespot.units import GPA

OVERLAP = 0.3  # of the sum of covalent radii; the closest pair in a real set (MgO) is at 0.38
NET_FORCE_ERROR = 0.1  # eV/Å per atom; DFT codes leave 1e-3 at most
NET_FORCE_FINDING = 0.005
STIFFEST = 3000.0  # eV per atom; (pressure x volume)^2 / energy: diamond 16, tungsten 31
DUPLICATE = {"energy": 1e-3, "forces": 0.02, "stress": 0.5 / GPA}  # eV/atom, eV/Å, eV/Å^3


def check_overlap(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Refuse two atoms (or an atom and its own image) in almost the same place."""
    finder: dict[float, NeighborList] = {}
    for atoms, where in zip(dataset.structures, places, strict=True):
        cutoff = round(2.0 * OVERLAP * float(covalent_radii[atoms.numbers].max()), 6)
        if cutoff not in finder:
            finder[cutoff] = NeighborList(cutoff=cutoff, full_list=False)
        i, j, d = finder[cutoff].compute(points=atoms.positions, box=atoms.cell.array,
                                         periodic=atoms.pbc, quantities="ijd")
        if not len(d):
            continue
        limit = OVERLAP * (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
        if (d < limit).any():
            k = int(np.argmin(d - limit))
            raise StructureError(
                f"{where}: atoms {i[k]} and {j[k]} ({atoms.symbols[i[k]]}-{atoms.symbols[j[k]]}) "
                f"are {d[k]:.3f} Å apart, nearer than {limit[k]:.2f} Å; are positions or cell in "
                "another unit, or an atom written twice? If it is meant, skip=['overlap']")
    return []


def check_net_force(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Require forces that sum to zero: rows may be cut, or zeroed by constraints."""
    worst = 0.0
    for atoms, labels, where in zip(dataset.structures, dataset.labels, places, strict=True):
        if labels.forces is None or len(atoms) < 2:
            continue
        net = float(np.linalg.norm(labels.forces.sum(axis=0))) / len(atoms)
        rms = float(np.sqrt((labels.forces**2).mean()))
        if net > NET_FORCE_ERROR and net > 0.05 * rms:
            raise LabelError(
                f"{where}: the forces sum to {net:.3g} eV/Å per atom, not to zero; rows may be "
                "missing, or set to zero for fixed atoms (read raw forces, not those after "
                "constraints). If a field or wall acts on the atoms, skip=['net_force']")
        worst = max(worst, net)
    if worst > NET_FORCE_FINDING:
        return [f"net force up to {worst:.2g} eV/Å per atom: a measure of how converged forces are"]
    return []


def check_duplicates(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Require one set of labels for one geometry."""
    first: dict[tuple[bytes, ...], int] = {}
    repeats = 0
    for i, atoms in enumerate(dataset.structures):
        key = (atoms.numbers.tobytes(), atoms.pbc.tobytes(),
               (np.rint(atoms.positions * 1e6) + 0.0).tobytes(),
               (np.rint(atoms.cell.array * 1e6) + 0.0).tobytes())
        j = first.setdefault(key, i)
        if j == i:
            continue
        repeats += 1
        for quantity, limit in DUPLICATE.items():
            a, b = (getattr(dataset.labels[k], quantity) for k in (j, i))
            if a is None or b is None:
                continue
            scale = len(atoms) if quantity == "energy" else 1
            gap = float(np.abs(np.asarray(a) - np.asarray(b)).max()) / scale
            if gap > limit:
                unit = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å^3"}[quantity]
                raise LabelError(
                    f"{places[j]} and {places[i]} are the same structure, but {quantity} differ by "
                    f"{gap:.4g} {unit}; were two settings or codes mixed? Remove one, or "
                    "skip=['duplicates']")
    return [f"{repeats} structures occur more than once, with the same labels"] if repeats else []


def check_placeholders(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Refuse stresses of exactly zero beside forces that are not: never calculated."""
    zero = [i for i, x in enumerate(dataset.labels)
            if x.stress is not None and not x.stress.any() and x.forces is not None
            and np.abs(x.forces).max() > 1e-3]
    dense = [i for i in zero if not has_vacuum(dataset.structures[i])]
    if dense:
        raise LabelError(
            f"{places[dense[0]]}: the stress is exactly zero in all components (and so on "
            f"{len(dense)} structures) while forces reach "
            f"{np.abs(dataset.labels[dense[0]].forces).max():.2g} eV/Å: zeros instead of a missing "
            "label? Leave the key out of these frames, or skip=['placeholders']")
    return [f"stress exactly zero on {len(zero)} structures with vacuum"] if zero else []


def check_energy_per_atom(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Require energies that grow with the number of atoms.

    Needs two sizes of one composition, the larger at least 1.5 times the smaller.
    """
    groups = _by_formula(dataset, lambda i: dataset.labels[i].energy is not None
                         and dataset.families[i] != "IsolatedAtom")
    for formula, rows in groups.items():
        n = np.array([len(dataset.structures[i]) for i in rows])
        if len(rows) < 4 or n.max() < 1.5 * n.min():
            continue
        energy = np.array([dataset.labels[i].energy for i in rows])
        sizes = np.unique(n)
        total = np.array([np.median(energy[n == size]) for size in sizes])
        each = total / sizes
        spread, spread_each = (float(np.std(x) / (np.abs(x.mean()) + 1e-300))
                               for x in (total, each))
        if spread < 0.15 and spread_each > 0.2 and spread_each > 3.0 * spread:
            raise UnitError(
                f"energies of {formula} look per atom: they stay near {total.mean():.4g} eV "
                f"(within {100 * spread:.1f} %) while cells have {sizes.min()} to {sizes.max()} "
                "atoms. Pass energy_per_atom=True; if they are totals, skip=['energy_per_atom']")
    return []


def check_stress_magnitude(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Require pressures and energies that belong to a stiffness that exists.

    (standard deviation of pressure x volume)^2 / (2 x that of the energy) estimates the bulk
    modulus times the volume per atom from below. Sees stresses that are far too large (GPa, kbar,
    virials) in any family; those that are too small are seen by ``stress_energy`` only.
    """
    for (family, formula), rows in _dense_groups(dataset).items():
        rows = [i for i in rows if dataset.labels[i].energy is not None]
        if len(rows) < 6:
            continue
        n = np.array([len(dataset.structures[i]) for i in rows])
        volume = np.array([dataset.structures[i].cell.volume for i in rows])
        pressure = -np.array([dataset.labels[i].stress[:3].mean() for i in rows])
        energy = np.array([dataset.labels[i].energy for i in rows]) / n
        work = float(np.std(pressure * volume / n))
        stiffness = work**2 / (2.0 * max(float(np.std(energy)), 1e-6))
        if work > 2.0 and stiffness > STIFFEST:
            size = float(np.median(volume))
            ways = [f"{stiffness / f**2:.3g} eV as {name}" for name, f in (
                ("GPa (pass stress_unit='GPa')", GPA), ("kbar (stress_unit='kbar')", 10 * GPA),
                ("a virial in eV (virial_key=...)", size)) if stiffness / f**2 > 0.01]
            raise UnitError(
                f"stress of family {family!r} ({formula}) is too large to be eV/Å^3: pressures "
                f"vary by {np.std(pressure):.3g} while energies vary by {np.std(energy):.3g} "
                f"eV/atom, a stiffness of {stiffness:.3g} eV per atom (solids: 1 to 50). It would "
                f"be {', '.join(ways)}. If it is right, skip=['stress_magnitude']")
    return []


def check_pressure_volume(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Require a pressure that falls with the volume, in a family of one composition.

    Needs 6 structures without vacuum whose volumes differ by 3 %.
    """
    for (family, formula), rows in _dense_groups(dataset).items():
        volume = np.array([dataset.structures[i].cell.volume / len(dataset.structures[i])
                           for i in rows])
        if len(rows) < 6 or volume.max() < 1.03 * volume.min():
            continue
        pressure = -np.array([dataset.labels[i].stress[:3].mean() for i in rows])
        if np.ptp(pressure) == 0.0:
            continue
        correlation = float(spearmanr(volume, pressure).statistic)
        if correlation > 0.7:
            raise LabelError(
                f"stress of family {family!r} ({formula}) has the opposite sign: pressure "
                f"(-trace/3) rises with volume (rank correlation {correlation:+.2f} over "
                f"{len(rows)} structures). Pass stress_sign=-1 (or leave it out), or "
                "virial_key=... if it is a virial; if it is right, skip=['pressure_volume']")
    return []


def check_vacuum(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Report the stresses that depend on empty space in the cell (never an error)."""
    empty = [has_vacuum(atoms) for atoms in dataset.structures]
    labelled = sum(e and x.stress is not None for e, x in zip(empty, dataset.labels, strict=True))
    missing = sum(not e and x.stress is None for e, x in zip(empty, dataset.labels, strict=True))
    findings = []
    if labelled:
        findings.append(f"{labelled} stresses are of structures with vacuum (or not periodic in "
                        "all directions): they depend on the cell and are not fitted")
    if missing and any(x.stress is not None for x in dataset.labels):
        findings.append(f"{missing} structures without vacuum have no stress")
    return findings


def check_provenance(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Require labels of one kind of calculation, where they say what they come from."""
    refuse_mixed(dataset.provenances(), where=dataset.source)
    return []


CHECKS: dict[str, Callable[[Dataset, Sequence[str]], list[str]]] = {
    "provenance": check_provenance,
    "overlap": check_overlap,
    "net_force": check_net_force,
    "duplicates": check_duplicates,
    "placeholders": check_placeholders,
    "energy_per_atom": check_energy_per_atom,
    "force_energy": check_forces_against_energy,
    "stress_energy": check_stress_against_energy,
    "stress_magnitude": check_stress_magnitude,
    "pressure_volume": check_pressure_volume,
    "vacuum": check_vacuum,
}
"""All checks, in the order in which they run, by the name that ``skip`` takes."""


def run_checks(dataset: Dataset, places: Sequence[str], skip: frozenset[str] = frozenset()
               ) -> Dataset:
    """Run all checks but those in `skip`.

    Parameters
    ----------
    dataset : Dataset
        Geometry and labels in bayespot's units.
    places : sequence of str
        File and frame of each structure, for messages.
    skip : frozenset of str
        Names from `CHECKS`.

    Returns
    -------
    Dataset
        The same with the findings added.
    """
    findings = [f for name, check in CHECKS.items() if name not in skip
                for f in check(dataset, places)]
    if "provenance" in skip and dataset.provenances():
        dataset = dataset.accept_mixed()
    return replace(dataset, findings=(*dataset.findings, *findings))


def _by_formula(dataset: Dataset, keep: Callable[[int], bool]) -> dict[str, list[int]]:
    """Rows that pass `keep`, grouped by reduced formula."""
    groups: dict[str, list[int]] = defaultdict(list)
    names: dict[bytes, str] = {}
    for i, atoms in enumerate(dataset.structures):
        if keep(i):
            key = atoms.numbers.tobytes()
            if key not in names:
                names[key] = atoms.symbols.formula.reduce()[0].format("hill")
            groups[names[key]].append(i)
    return groups


def _dense_groups(dataset: Dataset) -> dict[tuple[str, str], list[int]]:
    """Rows with a stress and without vacuum, by family and reduced formula."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    dense = _by_formula(dataset, lambda i: dataset.labels[i].stress is not None
                        and not has_vacuum(dataset.structures[i]))
    for formula, rows in dense.items():
        for i in rows:
            groups[dataset.families[i], formula].append(i)
    return groups
