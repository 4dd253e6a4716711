"""Properties of materials: plain functions of any ASE calculator, or of all draws of a posterior.

Each takes an ASE calculator, a `Posterior`, a `Potential` or `Surfaces`, and returns a `Result`:
values with units and numerical errors, one for each energy surface, and what failed or was
unstable on which of them. DFT gives a reference by the same code.
"""

from bayespot.properties.barriers import vacancy_migration
from bayespot.properties.crystals import lattice
from bayespot.properties.defects import interstitial, vacancy
from bayespot.properties.draws import DrawSurfaces, surfaces_of
from bayespot.properties.elastic import elastic
from bayespot.properties.ensembles import PropertyDraws, Summary
from bayespot.properties.equation_of_state import BirchMurnaghan, equation_of_state
from bayespot.properties.phonons import phonons
from bayespot.properties.planar import stacking_fault, surface_energy
from bayespot.properties.results import Curve, Quantity, Result
from bayespot.properties.surfaces import CalculatorSurface, Surfaces, Tolerance
from bayespot.properties.thermal import quasi_harmonic
from bayespot.properties.transitions import transition_pressure

__all__ = [
    "BirchMurnaghan",
    "CalculatorSurface",
    "Curve",
    "DrawSurfaces",
    "PropertyDraws",
    "Quantity",
    "Result",
    "Summary",
    "Surfaces",
    "Tolerance",
    "elastic",
    "equation_of_state",
    "interstitial",
    "lattice",
    "phonons",
    "quasi_harmonic",
    "stacking_fault",
    "surface_energy",
    "surfaces_of",
    "transition_pressure",
    "vacancy",
    "vacancy_migration",
]
