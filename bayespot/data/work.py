"""Do forces and stresses do the work that the energies say? Finite differences within a set.

Between two structures with the same atoms that are close to each other, the trapezoidal rule for
the work along the straight path in fractional coordinates and metric gives

    E2 - E1  =  V1/2 (S1 + S2) : e  -  1/2 sum_a (F1 + F2)_a . (h ds)_a  +  third order,

with e the Green strain from cell 1 to cell 2 and S the second Piola-Kirchhoff stresses, so that a
rotation between the cells does no harm. A wrong sign, unit or order of the six stress components
breaks this by a factor, which is named. On public DFT sets the two sides agree within 1 to 25 %
(median over pairs) where they are right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from ase.units import Bohr, Hartree, Rydberg, kcal, kJ, mol
from scipy.spatial import cKDTree

from bayespot.data.dataset import Dataset, has_vacuum
from bayespot.data.labels import STRESS_ORDERS
from bayespot.errors import LabelError, UnitError
from bayespot.units import GPA, VOIGT

FLOOR = 5e-4  # eV/atom; work below this drowns in the noise of DFT energies
ENOUGH = 6  # pairs; fewer decide nothing
GOOD, BAD, CLEARER = 0.15, 0.6, 4.0  # scores: 0 both sides agree, 1 opposite sign or far apart
GROUP = 60  # structures of a group that are compared all with all
NEIGHBORS = 6  # pairs per structure
MAX_STRAIN, MAX_SHIFT = 0.15, 0.6  # fraction of the cell's size; Å
OFFSET = 0.5 / GPA  # eV/Å^3; smaller constant pressures are not worth a line
OFF_DIAGONAL = ("yz", "xz", "xy")


@dataclass(frozen=True)
class Pairs:
    """Pairs of structures, as what is needed to write down the work between them."""

    energy: np.ndarray  # [m] E2 - E1, eV
    force_work: np.ndarray  # [m] work of the forces, eV
    weights: np.ndarray  # [m, 2, 6] so that (weights * stress).sum((1, 2)) is the stress work
    stress: np.ndarray  # [m, 2, 6] eV/Å^3
    volume: np.ndarray  # [m, 2] Å^3
    n_atoms: np.ndarray  # [m]

    def __len__(self) -> int:
        return len(self.energy)


FORCE_MISTAKES: dict[str, tuple[float, float]] = {
    "forces in Hartree/Bohr": (1.0, Hartree / Bohr),
    "forces in Rydberg/Bohr": (1.0, Rydberg / Bohr),
    "forces converted from Hartree/Bohr twice": (1.0, Bohr / Hartree),
    "energies in Hartree": (Hartree, 1.0),
    "energies in Rydberg": (Rydberg, 1.0),
    "energies in kcal/mol": (kcal / mol, 1.0),
    "energies in kJ/mol": (kJ / mol, 1.0),
    "positions in Bohr": (1.0, Bohr),
    "energies in Hartree and forces in Hartree/Bohr": (Hartree, Hartree / Bohr)}
"""What may be wrong, with the factors that would mend the energies and the forces."""


def check_forces_against_energy(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Require forces with the sign and unit of -dE/dr, from pairs of near snapshots.

    Needs 6 pairs of structures in one family with atoms less than 0.6 Å apart, in the same cell
    or, where both have a stress, in nearly the same.
    """
    for family, rows in _families(dataset, "forces").items():
        pairs = _snapshot_pairs(dataset, rows)
        if len(pairs) < ENOUGH:
            continue
        stress_work = _stress_work(pairs)
        candidates: dict[str, tuple[float | np.ndarray, float]] = {
            "": (1.0, 1.0), **FORCE_MISTAKES, "energies per atom": (pairs.n_atoms, 1.0)}
        found: dict[str, float] = {}
        for name, (energy, force) in candidates.items():
            for sign, text in ((1, ""), (-1, "gradients, not forces (sign)")):
                found[" and ".join(filter(None, (name, text)))] = _score(
                    sign * force * pairs.force_work, energy * pairs.energy - stress_work,
                    pairs.n_atoms)
        best, given = min(found, key=found.__getitem__), found[""]
        if best and found[best] < GOOD and given > max(GOOD, CLEARER * found[best]):
            names = [n for n, s in found.items() if s < 1.5 * found[best] + 0.02 and n]
            kind = LabelError if best.startswith("gradients") else UnitError
            slope = float(np.median(pairs.force_work / _nonzero(pairs.energy - stress_work)))
            way = ("energy_per_atom=True" if "energies per atom" in names else
                   "the labels converted to eV and eV/Å (forces = -gradient)")
            raise kind(
                f"forces and energies of family {family!r} do not fit: over {len(pairs)} pairs of "
                f"near structures the work of the forces is {slope:.4g} times the energy "
                f"difference. It looks like {' or '.join(names)}. Read it again with {way}; if it "
                "is right, skip=['force_energy']")
    return []


def check_stress_against_energy(dataset: Dataset, places: Sequence[str]) -> list[str]:
    """Require stresses with sign, unit and Voigt order of (1/V) dE/d(strain), from strained pairs.

    Needs 6 pairs in one family with the same fractional coordinates within 0.1 Å. Order is seen
    only where cells are sheared. A constant pressure between the two sides is a finding.
    """
    findings = []
    for family, rows in _families(dataset, "stress").items():
        pairs = _strained_pairs(dataset, rows)
        if len(pairs) < ENOUGH:
            continue
        _check_stress_family(family, pairs)
        findings += _constant_pressure(family, pairs)
    return findings


def _check_stress_family(family: str, pairs: Pairs) -> None:
    """Raise if another sign, unit or order of the stress explains the energies far better."""
    orders = [(0, 1, 2, *p) for p in permutations((3, 4, 5))]
    rest = pairs.energy - pairs.force_work

    def score(sign: float, factor: np.ndarray | float, order: Sequence[int],
              where: np.ndarray | slice = slice(None), per_atom: bool = False) -> float:
        work = sign * _stress_work(pairs, order, factor)
        target = pairs.energy * pairs.n_atoms - pairs.force_work if per_atom else rest
        return _score(work[where], target[where], pairs.n_atoms[where])

    factors: dict[str, np.ndarray | float] = {
        "": 1.0, "in GPa (factor 160.2): pass stress_unit='GPa'": GPA,
        "in kbar (factor 1602): pass stress_unit='kbar'": 10 * GPA,
        "a virial (factor volume): pass virial_key=...": pairs.volume,
        "converted from GPa once too often: leave stress_unit out": 1 / GPA,
        "converted from kbar once too often: leave stress_unit out": 0.1 / GPA,
        "ten times too large (kbar read as GPa?): pass stress_unit='kbar'": 10.0,
        "ten times too small (GPa read as kbar?): pass stress_unit='GPa'": 0.1}
    found = {(name, sign): min(score(sign, f, o) for o in orders)
             for name, f in factors.items() for sign in (1, -1)}
    per_atom = {sign: min(score(sign, 1.0, o, per_atom=True) for o in orders) for sign in (1, -1)}
    given = found["", 1]
    (unit, sign), value = min(found.items(), key=lambda item: item[1])
    problems = []
    best_per_atom = min(per_atom.values())
    # energies per atom in cells of 2 atoms give a score of 1/3, of 4 atoms 0.6
    if given > 0.3 and best_per_atom < min(GOOD, given / CLEARER, 0.5 * value):
        raise UnitError(f"stresses of family {family!r} do not fit the energies, but would if the "
                        "energies are per atom: pass energy_per_atom=True; if they are totals, "
                        "skip=['stress_energy']")
    if given > BAD and value < GOOD and value < given / CLEARER:
        # a virial is minus volume times stress, so its sign is right as virial_key
        flipped = sign < 0 if "virial" not in unit else sign > 0
        problems += [unit] if unit else []
        if flipped:
            problems.append("of opposite sign (compression positive): pass stress_sign=-1, or "
                            "leave it out if you passed it")
    else:
        unit, sign = "", 1
    order = _find_order(pairs, lambda o, w: score(sign, factors[unit], o, w), orders)
    if order is not None:
        problems.append(_order_text(order))
    if problems:
        slope = float(np.median(_stress_work(pairs) / _nonzero(rest)))
        kind = UnitError if unit else LabelError
        raise kind(f"stresses of family {family!r} do not fit the energies: over {len(pairs)} "
                   f"pairs of strained cells their work is {slope:.4g} times the energy "
                   f"difference (median). They look {', and '.join(problems)}. If they are right, "
                   "skip=['stress_energy']")


def _find_order(pairs: Pairs, score: Callable[[tuple[int, ...], np.ndarray], float],
                orders: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Find an order of the components that explains sheared pairs far better than the given one."""
    works = np.array([_stress_work(pairs, o) for o in orders])
    spread = np.ptp(works, axis=0)
    sheared = spread > 0.3 * np.abs(works).max(axis=0)
    if sheared.sum() < ENOUGH:
        return None
    scores = {o: score(o, sheared) for o in orders}
    given, best = scores[orders[0]], min(scores, key=scores.__getitem__)
    clear = scores[best] < GOOD and given > max(0.15, CLEARER * scores[best])
    return best if clear and best != orders[0] else None


def _order_text(order: tuple[int, ...]) -> str:
    """Say what to do about a wrong order of the off-diagonal components."""
    for name, known in STRESS_ORDERS.items():
        if order == known:
            return f"in the order of {name.upper()}: pass stress_order={name!r}"
        if order == tuple(np.argsort(known)):
            return f"reordered once too often: leave stress_order={name!r} out"
    held = ", ".join(f"{OFF_DIAGONAL[j - 3]} where {OFF_DIAGONAL[i]} belongs"
                     for i, j in enumerate(order[3:]) if j != i + 3)
    return f"in another order ({held}): check stress_order, or reorder them before reading"


def _constant_pressure(family: str, pairs: Pairs) -> list[str]:
    """Report that stress and dE/d(strain) differ by one pressure (Pulay stress, mixed settings)."""
    unit = np.zeros_like(pairs.stress)
    unit[:, :, :3] = -1.0
    expansion = (pairs.weights * unit).sum((1, 2))  # work of a pressure of 1 eV/Å^3
    relative = np.abs(expansion) / pairs.volume.mean(axis=1)
    use = (relative > 1e-3) & (relative < 0.06)
    if use.sum() < ENOUGH:
        return []
    # dE = work(given) - work(offset): the energies ask for less pressure than the labels have
    pressure = (_stress_work(pairs) - pairs.energy + pairs.force_work)[use] / expansion[use]
    offset = float(np.median(pressure))
    scatter = float(np.median(np.abs(pressure - offset)))
    if abs(offset) < OFFSET or abs(offset) < 4.0 * scatter:
        return []
    return [f"STRESS AND ENERGY DISAGREE in family {family!r} by a constant pressure of "
            f"{offset * GPA:+.2f} GPa (scatter {scatter * GPA:.2f}): labelled pressure minus "
            "-dE/dV. No potential fits both; leave the stress out or take the constant off"]


def _families(dataset: Dataset, quantity: str) -> dict[str, list[int]]:
    """Rows with an energy and `quantity` (stress: and without vacuum), by family."""
    rows: dict[str, list[int]] = defaultdict(list)
    for i, labels in enumerate(dataset.labels):
        if labels.energy is None or getattr(labels, quantity) is None:
            continue
        if quantity == "stress" and has_vacuum(dataset.structures[i]):
            continue
        rows[dataset.families[i]].append(i)
    return rows


def _stress_work(pairs: Pairs, order: Sequence[int] = range(6),
                 factor: np.ndarray | float = 1.0) -> np.ndarray:
    """Work of the stresses [m] if their components had another order or were `factor` too large."""
    scale = np.broadcast_to(factor, pairs.volume.shape)[:, :, None]
    return (pairs.weights * pairs.stress[:, :, list(order)] / scale).sum((1, 2))


def _score(work: np.ndarray, energy: np.ndarray, n_atoms: np.ndarray) -> float:
    """Median relative disagreement: 0 none, 1 opposite sign or different order of magnitude."""
    size = np.maximum(np.abs(work), np.abs(energy))
    use = size > FLOOR * n_atoms
    if use.sum() < ENOUGH:
        return 0.5  # says nothing either way
    return float(np.median((np.abs(work - energy) / (np.abs(work) + np.abs(energy)))[use]))


def _nonzero(values: np.ndarray) -> np.ndarray:
    """Replace zeros, to divide by the result."""
    return np.where(np.abs(values) > 1e-12, values, 1e-12)


def _groups(dataset: Dataset, rows: Sequence[int]
            ) -> list[tuple[list[int], np.ndarray, np.ndarray]]:
    """Rows with the same atoms in the same order, with cells [n,3,3], fractional coordinates."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i in rows:
        atoms = dataset.structures[i]
        if atoms.cell.rank == 3:
            groups[atoms.numbers.tobytes() + atoms.pbc.tobytes()].append(i)
    out = []
    for members in groups.values():
        if len(members) > 1:
            cells = np.array([dataset.structures[i].cell.array for i in members])
            positions = np.array([dataset.structures[i].positions for i in members])
            out.append((members, cells, positions @ np.linalg.inv(cells)))
    return out


def _shifts(fractional: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Nearest-image displacements in fractional coordinates, without the drift of the whole."""
    shift = fractional - reference
    shift = shift - np.rint(shift)
    return shift - shift.mean(axis=-2, keepdims=True)


def _snapshot_pairs(dataset: Dataset, rows: Sequence[int]) -> Pairs:
    """Pairs of near snapshots in the same cell, or in nearly the same where stress is known."""
    found = []
    for members, cells, fractional in _groups(dataset, rows):
        members, cells, fractional = members[:GROUP], cells[:GROUP], fractional[:GROUP]
        known = np.array([dataset.labels[i].stress is not None
                          and not has_vacuum(dataset.structures[i]) for i in members])
        for a in range(len(members) - 1):
            later = fractional[a + 1:]
            moved = np.abs(_shifts(later, fractional[a]) @ cells[a]).max(axis=(1, 2))
            change = np.abs(cells[a + 1:] - cells[a]).max(axis=(1, 2))
            same = (change < 1e-6) | (known[a] & known[a + 1:]
                                      & (change < 0.01 * np.abs(cells[a]).max()))
            use = same & (moved > 0.02) & (moved < MAX_SHIFT)
            nearest = np.argsort(np.where(use, moved, np.inf))[:NEIGHBORS]
            found += [(members[a], members[a + 1 + b]) for b in nearest if use[b]]
    return _pairs(dataset, found)


def _strained_pairs(dataset: Dataset, rows: Sequence[int]) -> Pairs:
    """Pairs that are homogeneous deformations of each other, nearest in the metric first."""
    found = []
    for members, cells, fractional in _groups(dataset, rows):
        values, vectors = np.linalg.eigh(cells @ np.swapaxes(cells, 1, 2))
        stretch = np.einsum("nij,nj,nkj->nik", vectors, np.sqrt(np.maximum(values, 0)), vectors)
        features = np.array([stretch[:, i, j] * (1.0 if i == j else 2**0.5) for i, j in VOIGT]).T
        size = np.abs(np.linalg.det(cells)) ** (1 / 3)
        distances, near = cKDTree(features).query(features, k=min(len(members), 40))
        seen: set[tuple[int, int]] = set()
        for a in range(len(members)):
            count = 0
            for distance, b in zip(distances[a], near[a], strict=True):
                if distance > MAX_STRAIN * size[a] or count == NEIGHBORS:
                    break
                if distance < 1e-3 * size[a]:
                    continue
                if (b, a) not in seen:
                    shift = _shifts(fractional[b], fractional[a]) @ cells[a]
                    if np.abs(shift).max() > 0.1:
                        continue
                    seen.add((a, int(b)))
                    found.append((members[a], members[b]))
                count += 1
    return _pairs(dataset, found)


def _pairs(dataset: Dataset, rows: Sequence[tuple[int, int]]) -> Pairs:
    """Energies, works and stresses of pairs of structures."""
    m = len(rows)
    pairs = Pairs(np.empty(m), np.zeros(m), np.empty((m, 2, 6)), np.zeros((m, 2, 6)),
                  np.empty((m, 2)), np.empty(m))
    for k, (i, j) in enumerate(rows):
        one, two = dataset.structures[i], dataset.structures[j]
        left, right = dataset.labels[i], dataset.labels[j]
        cell1, cell2 = one.cell.array, two.cell.array
        pairs.n_atoms[k] = len(one)
        pairs.volume[k] = one.cell.volume, two.cell.volume
        pairs.energy[k] = right.energy - left.energy
        gradient = np.linalg.solve(cell1, cell2).T
        strain = 0.5 * (gradient.T @ gradient - np.eye(3))
        inverse = np.linalg.inv(gradient)
        pulled = np.linalg.det(gradient) * inverse.T @ strain @ inverse
        pairs.weights[k] = [[0.5 * pairs.volume[k, 0] * e[a, b] * (1 if a == b else 2)
                             for a, b in VOIGT] for e in (strain, pulled)]
        for side, labels in enumerate((left, right)):
            if labels.stress is not None:
                pairs.stress[k, side] = labels.stress
        if left.forces is not None and right.forces is not None:
            shift = _shifts(two.positions @ np.linalg.inv(cell2),
                            one.positions @ np.linalg.inv(cell1))
            mean = 0.5 * (left.forces @ cell1.T + right.forces @ cell2.T)
            pairs.force_work[k] = -float((mean * shift).sum())
    return pairs
