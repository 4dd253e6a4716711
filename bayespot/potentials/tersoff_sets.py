"""Published numbers of the Tersoff potential, and the table of a LAMMPS file.

Element sets are in the notation of the papers: A, B (eV), lambda1, lambda2 (lambda and mu, 1/Å),
beta, n, c, d, h, and R, S (Å), between which the switch falls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import sqrt

from bayespot.errors import PriorError

Entries = Mapping[tuple[str, str, str], Mapping[str, float]]

LAMMPS_NAMES = (
    "m", "gamma", "lambda3", "c", "d", "costheta0", "n", "beta", "lambda2", "B", "R", "D",
    "lambda1", "A",
)  # fmt: skip
"""Numbers of one entry (i, j, k) of a LAMMPS file, in their order; R and D in Å, A and B in eV."""

SILICON_1988 = {
    "A": 3264.7, "B": 95.373, "lambda1": 3.2394, "lambda2": 1.3258, "beta": 0.33675, "n": 22.956,
    "c": 4.8381, "d": 2.0417, "h": 0.0, "R": 2.8, "S": 3.2, "lambda3": 1.3258,
}  # fmt: skip
"""Silicon, Tersoff, Phys. Rev. B 37, 6991 (1988), often called Si(B): good surfaces."""

SILICON_1988_ELASTIC = {
    "A": 1830.8, "B": 471.18, "lambda1": 2.4799, "lambda2": 1.7322, "beta": 1.0999e-6,
    "n": 0.78734, "c": 1.0039e5, "d": 16.218, "h": -0.59826, "R": 2.7, "S": 3.0, "lambda3": 1.7322,
}  # fmt: skip
"""Silicon, Tersoff, Phys. Rev. B 38, 9902 (1988), often called Si(C): good elastic constants."""

ELEMENTS_1989 = {
    "C": {
        "A": 1393.6, "B": 346.74, "lambda1": 3.4879, "lambda2": 2.2119, "beta": 1.5724e-7,
        "n": 0.72751, "c": 3.8049e4, "d": 4.3484, "h": -0.57058, "R": 1.8, "S": 2.1,
    },
    "Si": {
        "A": 1830.8, "B": 471.18, "lambda1": 2.4799, "lambda2": 1.7322, "beta": 1.1e-6,
        "n": 0.78734, "c": 1.0039e5, "d": 16.217, "h": -0.59825, "R": 2.7, "S": 3.0,
    },
    "Ge": {
        "A": 1769.0, "B": 419.23, "lambda1": 2.4451, "lambda2": 1.7047, "beta": 9.0166e-7,
        "n": 0.75627, "c": 1.0643e5, "d": 15.652, "h": -0.43884, "R": 2.8, "S": 3.1,
    },
}  # fmt: skip
"""Tersoff, Phys. Rev. B 39, 5566 (1989), with the erratum Phys. Rev. B 41, 3248 (1990)."""

CHI_1989 = {("C", "Si"): 0.9776, ("Ge", "Si"): 1.00061}
"""Strengths of bonds between unlike atoms, same paper; it has none for carbon and germanium."""

CARBON_1990 = {
    "A": 1544.8, "B": 389.63, "lambda1": 3.4653, "lambda2": 2.3064, "beta": 4.1612e-6,
    "n": 0.99054, "c": 1.9981e4, "d": 7.034, "h": -0.33953, "R": 2.5, "S": 2.5,
}  # fmt: skip
"""Carbon in silicon, Tersoff, Phys. Rev. Lett. 64, 1757 (1990); silicon is that of 1989. Every bond
ends sharply at 2.5 Å, as in the file of LAMMPS."""

CHI_1990 = {("C", "Si"): 0.9972}
"""Strength of bonds between silicon and carbon, same paper."""


def combine(
    elements: Mapping[str, Mapping[str, float]],
    chi: Mapping[tuple[str, str], float] | None = None,
) -> dict[tuple[str, str, str], dict[str, float]]:
    r"""LAMMPS' numbers of every (centre i, bonded j, third k) from sets of elements.

    The rules of Phys. Rev. B 39, 5566 (1989): arithmetic means of the decays, geometric means of
    A, B, R and S, :math:`B_{ij} = \chi_{ij} \sqrt{B_i B_j}`, the rest from the centre. ``lambda3``
    is 0 where a set has none, as in that paper.

    Raises
    ------
    PriorError
        If the strength of bonds between two of the elements is not in ``chi``.
    """
    strengths = {frozenset(pair): value for pair, value in (chi or {}).items()}
    found = {}
    for i, j, k in product(elements, repeat=3):
        one, bonded, third = elements[i], elements[j], elements[k]
        if i != j and frozenset((i, j)) not in strengths:
            raise PriorError(f"this set of Tersoff's has no numbers for {i} with {j}")
        inner, outer = (sqrt(one[name] * third[name]) for name in ("R", "S"))
        found[i, j, k] = {
            "m": 3.0, "gamma": 1.0, "lambda3": one.get("lambda3", 0.0),
            "c": one["c"], "d": one["d"], "costheta0": one["h"],
            "n": one["n"], "beta": one["beta"],
            "lambda2": 0.5 * (one["lambda2"] + bonded["lambda2"]),
            "B": strengths.get(frozenset((i, j)), 1.0) * sqrt(one["B"] * bonded["B"]),
            "R": 0.5 * (inner + outer), "D": 0.5 * (outer - inner),
            "lambda1": 0.5 * (one["lambda1"] + bonded["lambda1"]),
            "A": sqrt(one["A"] * bonded["A"]),
        }  # fmt: skip
    return found


def check_entries(species: Sequence[str], entries: Entries, tolerance: float) -> None:
    """Raise `PriorError` unless the entries make one Tersoff potential with a bond order."""
    missing = [key for key in product(species, repeat=3) if key not in entries]
    if missing:
        raise PriorError(f"Tersoff needs entries for {', '.join(' '.join(m) for m in missing)}")
    if len({entries[key]["m"] for key in entries}) > 1:
        raise PriorError("Tersoff's entries have m = 1 and m = 3: give all of them one of the two")
    for i, j, k in product(species, repeat=3):
        one = entries[i, j, k]
        positive = ["gamma", "c", "d"]
        if j == k:
            positive += ["A", "B", "lambda1", "lambda2", "beta", "n"]
            _same(("A", "B", "lambda1", "lambda2"), (i, j, j), (j, i, i), entries, tolerance)
        _same(("R", "D"), (i, j, k), (i, k, k), entries, tolerance)
        _same(("R", "D"), (i, k, k), (k, i, i), entries, tolerance)
        wrong = [name for name in positive if not one[name] > 0]
        if j == k and not wrong and not one["lambda1"] > one["lambda2"]:
            wrong = ["lambda1 - lambda2"]
        if wrong:
            raise PriorError(
                f"{', '.join(wrong)} of the Tersoff entry {i} {j} {k} must be positive: there is "
                "no bond order otherwise"
            )


def _same(
    names: Sequence[str], first: tuple[str, str, str], second: tuple[str, str, str],
    entries: Entries, tolerance: float,
) -> None:  # fmt: skip
    for name in names:
        a, b = entries[first][name], entries[second][name]
        if abs(a - b) > tolerance * max(abs(a), abs(b)):
            raise PriorError(
                f"{name} is {a} in the Tersoff entry {' '.join(first)} and {b} in "
                f"{' '.join(second)}, which belong to one pair of species: correct the file, or "
                "take the first with a larger tolerance"
            )
