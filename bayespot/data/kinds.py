r"""What kind of structure this is, in numbers that a person knows; no label is needed.

Volume per atom (of structures without vacuum), neighbours within 1.3 bond lengths (mean over the
atoms, and of the atom that has fewest), the shortest distance, whether there is vacuum, and the
composition. A family of a data set is the range of each. The family nearest to a structure is the
one with the smallest

.. math:: d_f^2 = \sum_m \Big( \frac{x_m - [x_m]_f}{s_m} \Big)^2

with :math:`[x_m]_f` the value in the family's range nearest to :math:`x_m`, and the steps s of
`STEPS`; of equal ones the nearest by means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from vesin import NeighborList

from bayespot.data.dataset import has_vacuum

__all__ = ["FamilyRanges", "described", "kind_of", "what_is_missing"]

SHELL = 1.3
"""Neighbours are counted up to so many bond lengths."""

STEPS = {"volume": 0.1, "neighbors": 1.0, "fewest": 1.0, "shortest": 0.1, "vacuum": 1.0,
         "content": 0.1}  # fmt: skip
"""One step away: 10 % of volume or of the shortest distance, one neighbour, vacuum or none, 10 % of
the atoms."""

_WORDS = {
    "volume": ("{:.3g} Å^3 an atom", "volumes of {:.3g} to {:.3g}"),
    "neighbors": ("{:.3g} neighbours an atom", "{:.3g} to {:.3g} in the mean"),
    "fewest": ("atoms of {:.0f} neighbours", "{:.0f} to {:.0f} at least"),
    "shortest": ("a shortest distance of {:.3g} Å", "{:.3g} to {:.3g}"),
    "content": ("{:.0%} {}", "{:.0%} to {:.0%}"),
}


def kind_of(atoms: Atoms, length: float) -> dict[str, float]:
    """The numbers of the module; NaN where one is not defined.

    Parameters
    ----------
    atoms : Atoms
    length : float
        Bond length of the material, Å.

    Returns
    -------
    dict
        ``volume`` (Å^3), ``neighbors``, ``fewest``, ``shortest`` (Å), ``vacuum`` (0 or 1) and
        ``content X`` for every species X that occurs.
    """
    i, d = NeighborList(cutoff=2.0 * length, full_list=True).compute(
        points=atoms.positions, box=atoms.cell.complete().array,
        periodic=[bool(p) for p in atoms.pbc], quantities="id",
    )
    near = np.bincount(i[d < SHELL * length].astype(int), minlength=len(atoms))
    empty = has_vacuum(atoms)
    symbols = atoms.get_chemical_symbols()
    return {
        "volume": np.nan if empty else float(atoms.cell.volume) / len(atoms),
        "neighbors": float(near.mean()),
        "fewest": float(near.min()),
        "shortest": float(d.min()) if len(d) else np.nan,
        "vacuum": float(empty),
        **{f"content {s}": symbols.count(s) / len(symbols) for s in sorted(set(symbols))},
    }


class FamilyRanges:
    """Smallest, largest and mean of every number by family, of structures that pass by.

    Parameters
    ----------
    length : float
        Bond length of the material, Å.
    """

    def __init__(self, length: float) -> None:
        self._length = length
        self._seen: dict[str, dict[str, list[float]]] = {}

    def add(self, structures: Sequence[Atoms], families: Sequence[str]) -> None:
        """Take structures into account."""
        for atoms, family in zip(structures, families, strict=True):
            ranges = self._seen.setdefault(family, {})
            for name, value in kind_of(atoms, self._length).items():
                if np.isnan(value):
                    continue
                row = ranges.setdefault(name, [np.inf, -np.inf, 0.0, 0.0])
                row[:] = (min(row[0], value), max(row[1], value), row[2] + value, row[3] + 1.0)

    def table(self) -> dict[str, dict[str, list[float]]]:
        """Family to number to [smallest, largest, mean]; plain JSON."""
        return {
            family: {name: [low, high, total / n] for name, (low, high, total, n) in rows.items()}
            for family, rows in self._seen.items()
        }


Table = Mapping[str, Mapping[str, Sequence[float]]]


def what_is_missing(atoms: Atoms, length: float, families: Table) -> tuple[str, str]:
    """Nearest family, and what no structure of the data has, in words.

    Parameters
    ----------
    atoms : Atoms
    length : float
        Bond length of the material, Å.
    families : mapping
        Of `FamilyRanges.table`.

    Returns
    -------
    family, words : str
        Where every number lies within the data, the words say what sets the structure apart from
        the family; they are empty where no single number does.
    """
    kind = kind_of(atoms, length)
    for name in {name for rows in families.values() for name in rows}:
        if name.startswith("content"):
            kind.setdefault(name, 0.0)
    nearest = min(families, key=lambda f: _distance(kind, families[f], length))
    everything: dict[str, list[float]] = {}
    for rows in families.values():
        for name, (low, high, _) in rows.items():
            row = everything.setdefault(name, [low, high])
            row[:] = min(row[0], low), max(row[1], high)
    found = _outside(kind, everything)
    if found:
        return nearest, f"no structure of the data has {', '.join(found)}"
    found = _outside(kind, families[nearest])
    return nearest, f"no structure of that family has {', '.join(found)}" if found else ""


def _distance(kind: Mapping[str, float], rows: Mapping[str, Sequence[float]], length: float
              ) -> tuple[float, float]:
    """Distance to the ranges of a family, and to its means."""
    outside = middle = 0.0
    for name, value in kind.items():
        step = STEPS[name.split()[0]]
        if name in ("volume", "shortest"):
            step *= value if name == "volume" else length
        low, high, mean = rows.get(name, _ABSENT[name.split()[0]])
        if np.isnan(value) or np.isnan(low):
            continue
        outside += ((value - np.clip(value, low, high)) / step) ** 2
        middle += ((value - mean) / step) ** 2
    return outside, middle


_NOTHING = (np.nan,) * 3
_ABSENT = {name: (0.0,) * 3 if name in ("content", "vacuum") else _NOTHING for name in STEPS}
"""What a family has of a number that none of its structures has."""


def _outside(kind: Mapping[str, float], ranges: Mapping[str, Sequence[float]]) -> list[str]:
    """The numbers that lie outside of ranges, in words."""
    found = []
    for name, value in kind.items():
        what, *species = name.split()
        low, high = ranges.get(name, _ABSENT[what])[:2]
        if np.isnan(value) or low <= value <= high:
            continue
        if what == "content" and (value < low or high == 0.0):
            found += species if value else []  # a new species is enough to say
        elif what == "vacuum":
            found.append("vacuum" if value else "a cell without vacuum")
        elif np.isnan(low):
            found.append(_WORDS[what][0].format(value))
        else:
            here, there = _WORDS[what]
            found.append(f"{here.format(value, *species)} ({there.format(low, high)})")
    return found


def described(atoms: Atoms, record: Mapping[str, Any]) -> str:
    """`what_is_missing` as the end of a sentence, by the record of a posterior.

    Empty where the record is of an older one, which does not know its families.
    """
    families = record["data"].get("families")
    if not families:
        return ""
    nearest, words = what_is_missing(atoms, record["reference"]["length"], families)
    return f"; nearest family {nearest!r}" + (f"; {words}" if words else "")
