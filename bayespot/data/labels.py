"""Where the labels of one structure are, and how they become eV, eV/Å and eV/Å^3.

The look-up order is: keys named by the caller; REF_energy, REF_forces, REF_stress or
REF_virial(s); results of a calculator (where ASE puts plain ``energy``, ``forces`` and ``stress``
of a file); plain keys. Whatever is found twice has to agree.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.data.dataset import Labels
from bayespot.errors import LabelError, SpeciesError, StructureError, UnitError
from bayespot.units import GPA, VOIGT

STRESS_UNITS = {"eV/A^3": 1.0, "GPa": 1.0 / GPA, "kbar": 0.1 / GPA}
"""Units of the argument `stress_unit`, in eV/Å^3."""

STRESS_ORDERS = {"ase": (0, 1, 2, 3, 4, 5), "vasp": (0, 1, 2, 4, 5, 3),
                 "lammps": (0, 1, 2, 5, 4, 3)}
"""Where ASE's xx yy zz yz xz xy stand in xx yy zz xy yz xz (vasp), xx yy zz xy xz yz (lammps)."""

VIRIAL_KEYS = ("virial", "virials", "REF_virial", "REF_virials")


@dataclass(frozen=True)
class Conventions:
    """Which keys hold the labels and what their numbers mean (arguments of ``read``)."""

    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    virial_key: str | None = None
    energy_per_atom: bool = False
    stress_unit: str = "eV/A^3"
    stress_sign: int = 1
    stress_order: str = "ase"

    def __post_init__(self) -> None:
        for name, allowed in (("stress_unit", STRESS_UNITS), ("stress_order", STRESS_ORDERS)):
            value = getattr(self, name)
            if value not in allowed:
                near = get_close_matches(str(value), allowed, 1, 0.3)
                raise UnitError(f"{name}={value!r} is not known"
                                + (f"; did you mean {near[0]!r}?" if near else ";")
                                + f" Use one of {', '.join(map(repr, allowed))}")
        if self.stress_sign not in (1, -1):
            raise UnitError(f"stress_sign={self.stress_sign!r}; use 1 (ASE: compression negative) "
                            "or -1 (compression positive)")
        if self.stress_key is not None and self.virial_key is not None:
            raise LabelError(f"stress_key={self.stress_key!r} and virial_key={self.virial_key!r} "
                             "are both given; name one of them")
        if self.stress_key is not None and "virial" in self.stress_key.lower():
            raise LabelError(f"stress_key={self.stress_key!r} names a virial, which is -volume "
                             f"times stress; pass virial_key={self.stress_key!r} instead")

    @property
    def explicit(self) -> dict[str, str]:
        """Keys named by the caller, by argument."""
        names = ("energy_key", "forces_key", "stress_key", "virial_key")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class Tally:
    """What was found where, over all frames."""

    used: Counter[tuple[str, str]] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    free_energy_differs: list[float] = field(default_factory=list)
    no_volume: int = 0

    def label_keys(self) -> tuple[str, ...]:
        """One line of text for each key that gave labels."""
        return tuple(f"{quantity}: {key} ({n})" for (quantity, key), n in self.used.items())


def read_labels(atoms: Atoms, where: str, conventions: Conventions, tally: Tally) -> Labels:
    """Labels of one structure of n atoms.

    Parameters
    ----------
    atoms : Atoms
        With labels in ``info``, ``arrays`` or the results of a calculator.
    where : str
        File and frame, for messages.
    conventions : Conventions
        Keys and units.
    tally : Tally
        Filled with the keys that were used.

    Raises
    ------
    LabelError
        If a label is not a finite number of the right shape, or two sources contradict.
    """
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    tally.seen.update(atoms.info, atoms.arrays, results)
    energy = _energy(atoms, results, where, conventions, tally)
    forces = _forces(atoms, results, where, conventions, tally)
    stress = _stress(atoms, results, where, conventions, tally)
    return Labels(energy, forces, stress)


def _look(key: str, where: str, *places: dict[str, Any]) -> Any:
    """First value found under `key`, or None; a second one that differs is an error."""
    found = [place[key] for place in places if place.get(key) is not None]
    for other in found[1:]:
        first, second = _array(found[0], where, key), _array(other, where, key)
        if first.shape == second.shape and not np.allclose(first, second, 1e-4, 1e-5):
            raise LabelError(f"{where}: the calculator's {key} and the {key} in info or arrays "
                             f"contradict each other by up to {np.abs(first - second).max():.4g}; "
                             "remove the wrong one (atoms.calc = None drops the calculator's)")
    return found[0] if found else None


def _array(value: Any, where: str, key: str) -> np.ndarray:
    """Finite floats, or a LabelError that says which entry is not."""
    if isinstance(value, (str, bool)):
        raise LabelError(f"{where}: {key} = {value!r} is not a number; correct the file or leave "
                         "the key out of this frame")
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise LabelError(f"{where}: {key} = {value!r} is not an array of numbers; correct the "
                         "file or leave the key out of this frame") from None
    if not np.isfinite(array).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0]) if array.ndim else ()
        place = f"{key}{list(index)}" if index else key
        raise LabelError(f"{where}: {place} = {array[index]} is not finite; a missing label is "
                         f"written by leaving {key} out of the frame, not by nan")
    return array


def _disagree(where: str, first: tuple[str, np.ndarray], second: tuple[str, np.ndarray],
              unit: str, quantity: str, extra: str = "") -> LabelError:
    """Make the error for two sources of one quantity that contradict each other."""
    difference = float(np.abs(first[1] - second[1]).max())
    ways = [f"{'virial' if key in VIRIAL_KEYS else quantity}_key={key!r}"
            for key in (first[0], second[0])]
    return LabelError(
        f"{where}: {first[0]} and {second[0]} contradict each other by up to {difference:.4g} "
        f"{unit}{extra}; say which one to use: {ways[0]} or {ways[1]}")


def _energy(atoms: Atoms, results: dict[str, Any], where: str, conventions: Conventions,
            tally: Tally) -> float | None:
    """Find the energy of the cell in eV."""
    plain = {key: value for key in ("free_energy", "energy")
             if (value := _look(key, where, results, atoms.info)) is not None}
    found: list[tuple[str, np.ndarray]] = []
    if conventions.energy_key is not None:
        value = _look(conventions.energy_key, where, atoms.info, results)
        candidates = {} if value is None else {conventions.energy_key: value}
    else:
        candidates = {"REF_energy": atoms.info.get("REF_energy"), **plain}
    for key, value in candidates.items():
        if value is None:
            continue
        array = _array(value, where, key)
        if array.size != 1:
            raise LabelError(f"{where}: {key} has shape {array.shape}; an energy is one number, "
                             "that of the whole cell")
        found.append((key, array.reshape(())))
    if not found:
        return None
    tolerance = 1e-5 * len(atoms)
    if [key for key, _ in found] == ["free_energy", "energy"]:
        tally.free_energy_differs.append(float(found[0][1] - found[1][1]) / len(atoms))
    if found[0][0] == "REF_energy" and len(found) > 1:
        gaps = [abs(float(found[0][1] - other[1])) for other in found[1:]]
        if min(gaps) > tolerance:
            raise _disagree(where, found[0], found[1], "eV", "energy")
    key, energy = found[0]
    tally.used["energy", key] += 1
    return float(energy) * (len(atoms) if conventions.energy_per_atom else 1)


def _forces(atoms: Atoms, results: dict[str, Any], where: str, conventions: Conventions,
            tally: Tally) -> np.ndarray | None:
    """Find the forces [n, 3] in eV/Å."""
    if conventions.forces_key is not None:
        key = conventions.forces_key
        candidates = {key: _look(key, where, atoms.arrays, results, atoms.info)}
    else:
        candidates = {"REF_forces": _look("REF_forces", where, atoms.arrays, atoms.info),
                      "forces": _look("forces", where, results, atoms.arrays, atoms.info),
                      "force": _look("force", where, atoms.arrays, atoms.info)}
    found = []
    for key, value in candidates.items():
        if value is None:
            continue
        array = _array(value, where, key)
        if array.shape != (len(atoms), 3):
            raise LabelError(f"{where}: {key} has shape {array.shape}; {len(atoms)} atoms need "
                             f"({len(atoms)}, 3)")
        found.append((key, array))
    if not found:
        return None
    for other in found[1:]:
        if np.abs(found[0][1] - other[1]).max() > 1e-4 + 1e-4 * np.abs(found[0][1]).max():
            raise _disagree(where, found[0], other, "eV/Å", "forces")
    tally.used["forces", found[0][0]] += 1
    return found[0][1]


def _stress(atoms: Atoms, results: dict[str, Any], where: str, conventions: Conventions,
            tally: Tally) -> np.ndarray | None:
    """Find the stress [6] in eV/Å^3, ASE's sign and order."""
    if conventions.stress_key is not None or conventions.virial_key is not None:
        names = [conventions.stress_key or conventions.virial_key]
    else:
        names = ["REF_stress", "REF_virial", "REF_virials", "stress", "virial", "virials"]
    volume = abs(float(np.linalg.det(atoms.cell.array)))
    found: list[tuple[str, np.ndarray]] = []
    for key in names:
        value = _look(key, where, results, atoms.info, atoms.arrays)
        if value is None:
            continue
        voigt = to_voigt(_array(value, where, key), where, key)
        voigt = conventions.stress_sign * voigt[list(STRESS_ORDERS[conventions.stress_order])]
        if key == conventions.virial_key or key in VIRIAL_KEYS:
            if volume == 0.0:
                tally.no_volume += 1
                return None
            voigt = -voigt / volume
        else:
            voigt = voigt * STRESS_UNITS[conventions.stress_unit]
        found.append((key, voigt))
    if not found:
        return None
    if volume == 0.0:
        tally.no_volume += 1
        return None
    for other in found[1:]:
        scale = np.abs(found[0][1]).max()
        if np.abs(found[0][1] - other[1]).max() > 1e-6 + 1e-3 * scale:
            flipped = np.abs(found[0][1] + other[1]).max() <= 1e-6 + 1e-3 * scale
            extra = " (virials as -virial/volume; the two agree with one sign changed)" \
                if flipped else " (virials as -virial/volume)"
            raise _disagree(where, found[0], other, "eV/Å^3", "stress", extra)
    tally.used["stress", found[0][0]] += 1
    return found[0][1]


def to_voigt(array: np.ndarray, where: str, key: str) -> np.ndarray:
    """Six numbers from six, from nine, or from a 3x3 matrix, which has to be symmetric."""
    if array.shape == (6,):
        return array
    if array.shape not in ((9,), (3, 3)):
        raise LabelError(f"{where}: {key} has shape {array.shape}; give 6 numbers, 9, or 3x3")
    matrix = array.reshape(3, 3)
    lopsided = float(np.abs(matrix - matrix.T).max())
    if lopsided > 1e-6 + 1e-3 * np.abs(matrix).max():
        raise LabelError(f"{where}: {key} is not symmetric (off-diagonal elements differ by "
                         f"{lopsided:.4g}); check the order of its nine numbers")
    matrix = 0.5 * (matrix + matrix.T)
    return np.array([matrix[i, j] for i, j in VOIGT])


def check_geometry(atoms: Atoms, where: str) -> None:
    """Raise an error for no atoms, no element, and positions or cells that cannot be."""
    if len(atoms) == 0:
        raise StructureError(f"{where}: no atoms; leave the frame out")
    if atoms.numbers.min() < 1:
        i = int(np.argmin(atoms.numbers))
        raise SpeciesError(f"{where}: atom {i} has atomic number {atoms.numbers[i]} "
                           f"({atoms.symbols[i]!r}); give it a chemical element")
    for name, value in (("position", atoms.positions), ("cell", atoms.cell.array)):
        if not np.isfinite(value).all():
            i, j = (int(k) for k in np.argwhere(~np.isfinite(value))[0])
            raise StructureError(f"{where}: {name}[{i}, {j}] = {value[i, j]} is not finite; "
                                 "correct the file or leave the frame out")
    periodic = atoms.cell.array[atoms.pbc]
    if len(periodic):
        gram = float(np.sqrt(max(np.linalg.det(periodic @ periodic.T), 0.0)))
        if gram < 1e-3:
            raise StructureError(
                f"{where}: periodic in {len(periodic)} direction(s), but the cell encloses nothing "
                f"(volume {gram:.3g}); set the cell, or pbc=\"F F F\" for a molecule")
