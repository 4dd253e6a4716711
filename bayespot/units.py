"""Units, signs and orders that hold everywhere inside bayespot.

========== =========== ==================================================================
quantity   unit        convention
========== =========== ==================================================================
energy     eV          of the whole cell; errors are quoted per atom
length     Å
forces     eV/Å
stress     eV/Å³       ASE's sign: a compressed crystal has negative normal components,
                       pressure = -trace/3; Voigt order xx yy zz yz xz xy
========== =========== ==================================================================

GPa appear at the border only (tables, plots, configuration): multiply by `GPA`.
"""

from dataclasses import dataclass

GPA = 160.2176634
"""One eV/Å³ in GPa: the elementary charge of the 2019 SI, 1.602176634e-19 C, times 1e21."""

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Row and column of the six stress components, in ASE's Voigt order."""

QUANTITIES = ("energy", "forces", "stress")
"""The three kinds of labels, in the order in which every array of three is kept."""


@dataclass(frozen=True)
class Display:
    """How a quantity is shown: word, unit, and the factor from bayespot's unit to it."""

    word: str
    unit: str
    factor: float


DISPLAY = {
    "energy": Display("energy", "meV/atom", 1e3),
    "forces": Display("force component", "eV/Å", 1.0),
    "stress": Display("stress component", "GPa", GPA),
}
"""Units that people quote, for tables and pictures; energies are per atom there."""
