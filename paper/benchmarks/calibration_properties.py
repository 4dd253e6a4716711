r"""Derived properties of families that a fit has not seen, as linear functionals of its labels.

A property is :math:`q = \sum_i a_i y_i` over total energies, forces and stresses of DFT structures
at their DFT geometries (nothing is relaxed), with the same weights :math:`a_i` for the DFT labels
and for every draw of a fit. So the energy of a slab and of the crystal that it is compared with
come from one potential, and their covariance is in the bar. A property is predicted by the fit that
left out its family. Kinds, the same for all elements:

elastic constants
    C11, C12, C44 (clamped) by least squares of the stress on strains below 2.5 %.
crystal energies
    Of strained cells (each way of straining: the largest, and the one nearest to half of it), or of
    other volumes and lattices, above the crystal of least energy.
pressures
    Of the crystal, of strained cells, and in the mean over snapshots.
snapshot energies
    Mean over at most ten snapshots of one temperature and volume, above the crystal.
force constants
    :math:`-\sum F \cdot u / \sum u^2` of snapshots of a solid, with the displacements u from the
    mean over them.
defects
    Cell with a vacancy above as many atoms of the crystal; generalised stacking faults.
surfaces
    Every slab above as many atoms of the crystal, over the area of its two faces.

Cells that symmetry makes equal are taken once, and properties smaller than what the DFT floor makes
of them are left out. The bar is the spread over draws and the floor of the labels in quadrature; no
white noise of the fit is in it. Beyond the guard the spread is that times the largest grade of the
structures, as `bayespot.predict` has it for a single structure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bayespot.data.dataset import Dataset, has_vacuum
from bayespot.likelihood import NoiseFloor
from bayespot.prediction import Prediction
from bayespot.units import GPA, QUANTITIES

SMALL = 0.025
"""Largest strain for elastic constants."""

SNAPSHOTS = 10
"""At most so many of a group."""

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
J_PER_M2 = 16.021766
"""eV/Å^2."""

TENSOR = np.array([1.0, 1.0, 1.0, 0.5, 0.5, 0.5])
"""Components of the strain tensor over Voigt's."""

PRESSURE = np.array([-1.0, -1.0, -1.0, 0.0, 0.0, 0.0]) / 3.0


@dataclass(frozen=True)
class Property:
    """A linear functional: ``terms`` are (number of the structure, quantity, weights).

    A structure's quantity is there once, so that the errors of the terms are independent.
    """

    kind: str
    name: str
    family: str
    unit: str
    terms: tuple[tuple[int, str, np.ndarray], ...]

    @property
    def structures(self) -> list[int]:
        """Numbers of the structures in it."""
        return sorted({number for number, _, _ in self.terms})

    def truth(self, data: Dataset) -> float:
        """Of the labels."""
        return float(sum(np.sum(weight * getattr(data.labels[number], quantity))
                         for number, quantity, weight in self.terms))

    def floor(self, data: Dataset, floor: NoiseFloor) -> float:
        """Standard deviation of the labels' own error."""
        variance = 0.0
        for number, quantity, weight in self.terms:
            sd = floor.of(data.families[number])[QUANTITIES.index(quantity)]
            atoms = len(data.structures[number]) if quantity == "energy" else 1
            variance += (atoms * sd) ** 2 * np.sum(np.square(weight))
        return float(np.sqrt(variance))


def properties_of(data: Dataset, floor: NoiseFloor) -> list[Property]:
    """All properties of a data set with the families that are left out (`calibration_sets`)."""
    crystal = crystal_of(data)
    found = []
    for family in sorted(set(data.families)):
        rows = [k for k, f in enumerate(data.families) if f == family]
        if family.lower().startswith("elastic"):
            found += [*elastic(data, family, rows), *strained(data, family, rows, crystal)]
        elif family.startswith("Volume"):
            found += volumes(data, family, rows, crystal)
        elif family.startswith("GSF"):
            found += faults(data, family, rows)
        elif family.lower() == "surface":
            found += surfaces(data, family, rows, crystal)
        else:
            found += snapshots(data, family, rows, crystal)
    return [p for p in found if p.kind == "pressures"
            or abs(p.truth(data)) > p.floor(data, floor)]


def crystal_of(data: Dataset) -> int:
    """The perfect crystal of least energy: a cubic cell in which no force acts."""
    def perfect(k: int) -> bool:
        atoms, forces = data.structures[k], data.labels[k].forces
        cubic = np.allclose(atoms.cell.array, atoms.cell.array[0, 0] * np.eye(3), atol=1e-3)
        return cubic and not has_vacuum(atoms) and np.abs(forces).max() < 0.02

    return min((k for k in range(len(data)) if perfect(k)),
               key=lambda k: data.labels[k].energy / len(data.structures[k]))


def above(data: Dataset, number: int, crystal: int, scale: float) -> tuple:
    """Terms of the energy of a structure above as many atoms of the crystal."""
    share = len(data.structures[number]) / len(data.structures[crystal])
    if number == crystal:
        return ()
    return ((number, "energy", np.array(scale)), (crystal, "energy", np.array(-scale * share)))


def strains(data: Dataset, rows: Sequence[int]) -> np.ndarray:
    """Voigt strains from the cube of the median volume, [n, 6], shears doubled."""
    cells = np.array([data.structures[k].cell.array for k in rows])
    edge = np.cbrt(np.median([abs(np.linalg.det(h)) for h in cells]))
    deformation = cells / edge
    e = 0.5 * (deformation + np.swapaxes(deformation, 1, 2)) - np.eye(3)
    return np.stack([e[:, 0, 0], e[:, 1, 1], e[:, 2, 2], 2 * e[:, 1, 2], 2 * e[:, 0, 2],
                     2 * e[:, 0, 1]], axis=1)


def distinct(strain: np.ndarray, rows: Sequence[int]) -> list[int]:
    """Places of one cell of those that cubic symmetry makes equal."""
    seen: dict[tuple, int] = {}
    for k in range(len(rows)):
        key = (*np.sort(strain[k, :3]).round(3), *np.sort(np.abs(strain[k, 3:])).round(3))
        seen.setdefault(key, k)
    return list(seen.values())


def elastic(data: Dataset, family: str, rows: Sequence[int]) -> Iterator[Property]:
    """C11, C12, C44 by least squares of the stress on small strains; pressure at the least."""
    strain = strains(data, rows)
    size = np.abs(strain * TENSOR).max(axis=1)
    places = [k for k in distinct(strain, rows) if size[k] < SMALL]
    design = []
    for k in places:
        trace = strain[k, :3].sum()
        design += [[1.0, e, trace - e, 0.0] for e in strain[k, :3]]
        design += [[0.0, 0.0, 0.0, g] for g in strain[k, 3:]]
    weights = np.linalg.pinv(np.array(design)).reshape(4, len(places), 6)
    phase = "" if family == "elastic" else f" ({family})"
    for name, weight in zip(("C11", "C12", "C44"), GPA * weights[1:], strict=True):
        yield Property("elastic constants", name + phase, family, "GPa", tuple(
            (rows[k], "stress", w) for k, w in zip(places, weight, strict=True)
        ))
    yield Property("pressures", f"crystal{phase}", family, "GPa",
                   ((rows[int(size.argmin())], "stress", GPA * PRESSURE),))


def strained(data: Dataset, family: str, rows: Sequence[int], crystal: int) -> Iterator[Property]:
    """Energies and pressures of cells strained in one way only."""
    strain = strains(data, rows)
    ways: dict[str, list[tuple[float, int]]] = {}
    for k in distinct(strain, rows):
        size = np.abs(strain[k])
        main = int(size.argmax())
        if size[main] < 1e-3 or np.sort(size)[-2] > 0.25 * size[main]:
            continue  # no strain, or several at once
        way = "shear" if main > 2 else "tension" if strain[k, main] > 0 else "compression"
        ways.setdefault(way, []).append((float(size[main]), rows[k]))
    for way, cells in sorted(ways.items()):
        largest = max(cells)
        half = min(cells, key=lambda c, most=largest[0]: abs(c[0] - 0.5 * most))
        for size, number in dict.fromkeys((largest, half)):
            name = f"{way} {100 * size:.1f} %"
            yield Property("crystal energies", name, family, "eV/atom", above(
                data, number, crystal, 1.0 / len(data.structures[number])
            ))
        yield Property("pressures", f"{way} {100 * largest[0]:.1f} %", family, "GPa",
                       ((largest[1], "stress", GPA * PRESSURE),))


def volumes(data: Dataset, family: str, rows: Sequence[int], crystal: int) -> Iterator[Property]:
    """Energies of a lattice at its best edge and 5 and 10 % off, pressures up to 5 % off."""
    edge = {k: data.structures[k].cell.lengths()[0] for k in rows}
    best = min(rows, key=lambda k: data.labels[k].energy / len(data.structures[k]))
    for change in (0.0, -0.1, -0.05, 0.05, 0.1):
        number = min(rows, key=lambda k, c=change: abs(edge[k] - (1 + c) * edge[best]))
        name = f"{family}, edge {edge[number]:.1f}"
        terms = above(data, number, crystal, 1.0 / len(data.structures[number]))
        if terms:
            yield Property("crystal energies", name, family, "eV/atom", terms)
        if abs(change) < 0.07:
            yield Property("pressures", name, family, "GPa",
                           ((number, "stress", GPA * PRESSURE),))


def faults(data: Dataset, family: str, rows: Sequence[int]) -> Iterator[Property]:
    """Stacking faults: a quarter and a tenth of the period, above the unfaulted slab."""
    by_name = {str(data.structures[k].info["source_file"]): k for k in rows}
    for name, start in by_name.items():
        if not name.endswith("_0.0"):
            continue
        curve, scale = name.removesuffix("_0.0"), J_PER_M2 / area(data, start)
        for shift in ("0.1", "0.25"):
            number = by_name[f"{curve}_{shift}"]
            yield Property("defects", f"{curve}_{shift}", family, "J/m^2", (
                (number, "energy", np.array(scale)), (start, "energy", np.array(-scale)),
            ))


def area(data: Dataset, number: int) -> float:
    """Of the cell's face along the widest empty layer's plane, Å^2."""
    atoms = data.structures[number]
    places, lengths = np.sort(atoms.get_scaled_positions(), axis=0), atoms.cell.lengths()
    gaps = [np.diff(np.append(places[:, k], places[0, k] + 1)).max() * lengths[k]
            for k in range(3)]
    a, b = (atoms.cell.array[k] for k in range(3) if k != int(np.argmax(gaps)))
    return float(np.linalg.norm(np.cross(a, b)))


def surfaces(data: Dataset, family: str, rows: Sequence[int], crystal: int) -> Iterator[Property]:
    """Every slab."""
    for k, number in enumerate(rows):
        info = data.structures[number].info
        name = str(info.get("source_file", info.get("description", ""))).split("/")[-1]
        yield Property("surfaces", name or f"slab {k + 1}", family, "J/m^2", above(
            data, number, crystal, 0.5 * J_PER_M2 / area(data, number)
        ))


def snapshots(data: Dataset, family: str, rows: Sequence[int], crystal: int) -> Iterator[Property]:
    """Means over the snapshots of one temperature and volume; force constants of solids."""
    groups: dict[str, list[int]] = {}
    for k in rows:
        info = data.structures[k].info
        known = (("temperature_K", " K"), ("cell_state", ""))
        state = [f"{info[key]}{unit}" for key, unit in known if key in info]
        groups.setdefault(" ".join(state) or family, []).append(k)
    for name, mine in sorted(groups.items()):
        pick = np.unique(np.linspace(0, len(mine) - 1, SNAPSHOTS).round().astype(int))
        some = [mine[k] for k in pick]
        yield Property("snapshot energies", name, family, "eV/atom", (
            *((k, "energy", np.array(1.0 / (len(some) * len(data.structures[k])))) for k in some),
            (crystal, "energy", np.array(-1.0 / len(data.structures[crystal]))),
        ))
        yield Property("pressures", name, family, "GPa",
                       tuple((k, "stress", GPA * PRESSURE / len(some)) for k in some))
        if family == "solid" or family.startswith("Displaced"):
            yield force_constant(data, name, family, some)
    if family == "vacancy, cold":
        number = min(rows, key=lambda k: data.labels[k].energy / len(data.structures[k]))
        yield Property("defects", "vacancy, snapshot of least energy", family, "eV",
                       above(data, number, crystal, 1.0))
        yield force_constant(data, family, family, some)


def force_constant(data: Dataset, name: str, family: str, rows: Sequence[int]) -> Property:
    """What drives the atoms back to their mean places, mean over atoms and directions."""
    first = data.structures[rows[0]]
    inverse = np.linalg.inv(first.cell.array)
    fractions = np.array([data.structures[k].positions @ np.linalg.inv(
        data.structures[k].cell.array) for k in rows])
    moved = fractions - first.positions @ inverse
    moved -= moved.round()  # the nearest image
    u = np.array([m @ data.structures[k].cell.array
                  for m, k in zip(moved - moved.mean(axis=0), rows, strict=True)])
    u -= u.mean(axis=1, keepdims=True)
    return Property("force constants", name, family, "eV/Å^2", tuple(
        (k, "forces", -displaced / np.sum(u**2)) for k, displaced in zip(rows, u, strict=True)
    ))


def draws_of(properties: Sequence[Property], prediction: Prediction, numbers: Sequence[int],
             calibrated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Draws of every property [n_properties, n_draws], and the largest grade in each.

    Parameters
    ----------
    properties : sequence of Property
    prediction : Prediction
        Of the structures ``numbers`` of the data set.
    numbers : sequence of int
    calibrated : bool
        Whether the prediction has widened its structures by their grades. The draws of a property
        are those before, so that they belong together, widened by the largest grade.
    """
    place = {number: k for k, number in enumerate(numbers)}
    grade = np.maximum(1.0, prediction.extrapolation) if calibrated else np.ones(len(numbers))
    first = prediction.offsets

    def before(draws: np.ndarray, factor: float) -> np.ndarray:
        mean = draws.mean(axis=0)
        return mean + (draws - mean) / factor

    found, grades = [], []
    for p in properties:
        total = 0.0
        for number, quantity, weight in p.terms:
            k = place[number]
            rows = slice(first[k], first[k + 1])
            columns = rows if quantity == "forces" else k
            draws = getattr(prediction, f"{quantity}_draws")[:, columns]
            axes = tuple(range(1, draws.ndim))
            total = total + (weight * before(draws, grade[k])).sum(axis=axes)
        widest = max(grade[place[k]] for k in p.structures)
        mean = total.mean()
        found.append(mean + widest * (total - mean))
        grades.append(max(float(prediction.extrapolation[place[k]]) for k in p.structures))
    return np.array(found), np.array(grades)


def records(properties: Sequence[Property], draws: np.ndarray, grades: Sequence[float],
            data: Dataset, floor: NoiseFloor, method: str) -> list[dict]:
    """One row a property: truth, mean, bar, z, quantiles of the draws."""
    rows = []
    for p, values, grade in zip(properties, draws, grades, strict=True):
        truth, label = p.truth(data), p.floor(data, floor)
        sd = float(np.hypot(values.std(), label))
        rows.append({
            "method": method, "kind": p.kind, "name": p.name, "family": p.family, "unit": p.unit,
            "truth": truth, "mean": float(values.mean()), "sd": sd, "floor": label,
            "z": (truth - float(values.mean())) / sd, "grade": float(grade),
            "quantiles": dict(zip(map(str, LEVELS), np.quantile(values, LEVELS).tolist(),
                                  strict=True)),
        })
    return rows
