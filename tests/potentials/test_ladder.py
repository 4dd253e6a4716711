"""What each rung of the ladder can see, and the one below it cannot.

A pair potential knows distances, an embedded atom knows coordination as well, bond order and beyond
know angles. Two sheets of three-coordinated atoms, flat (120 degrees, sp2) and puckered to the
tetrahedral angle (sp3), with the same bond length and no second neighbours within the cutoff, are
the same to the first two and not to the others.
"""

import numpy as np
import pytest
from ase import Atoms

from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.potentials.ace import ACE
from bayespot.potentials.finnis_sinclair import FinnisSinclair
from bayespot.potentials.morse import Morse
from bayespot.potentials.neural import NeuralNetwork
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.sutton_chen import SuttonChen
from bayespot.potentials.tersoff import Tersoff

BOND, CUTOFF = 1.5, 2.2
"""Å; second neighbours are at 2.45 Å (puckered) and 2.60 Å (flat)."""

CARBON = ("C",)
ENDS = {"cutoff": CUTOFF, "switch_width": 0.4}
DENSITY_ENDS = {"density_cutoff": CUTOFF, "density_switch_width": 0.4}

BLIND = {
    "Morse": Morse(species=CARBON, D=1.0, alpha=2.0, r0=1.5, **ENDS),
    "SuttonChen": SuttonChen(species=CARBON, **ENDS, **DENSITY_ENDS),
    "FinnisSinclair": FinnisSinclair(species=CARBON, **ENDS, **DENSITY_ENDS),
}
SEEING = {
    "StillingerWeber": StillingerWeber(species=CARBON, r0=BOND, r_c=CUTOFF, s=1.0, gamma=1.0),
    "Tersoff": Tersoff(species=CARBON, r0=BOND, **ENDS),
    "ACE": ACE(species=CARBON, cutoff=CUTOFF, r0=BOND),
    "NeuralNetwork": NeuralNetwork(species=CARBON, cutoff=CUTOFF, bond=BOND),
}


def sheet(angle):
    """Two atoms of a honeycomb whose bonds of length `BOND` meet at ``angle`` (degrees)."""
    flat = BOND * 2 / np.sqrt(3) * np.sin(np.radians(angle) / 2)  # bond seen from above
    a, height = flat * np.sqrt(3), np.sqrt(max(BOND**2 - flat**2, 0.0))
    cell = [[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 20]]
    return Atoms("C2", cell=cell, scaled_positions=[[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]],
                 pbc=[True, True, False]), height


def energies(potential):
    """Of the flat and the puckered sheet, eV."""
    sheets = []
    for angle in (120.0, np.degrees(np.arccos(-1 / 3))):
        atoms, height = sheet(angle)
        atoms.positions[1, 2] += height
        sheets.append(atoms)
    graph = build_graph(sheets, CARBON, potential.reach, triplets=potential.needs_triplets)
    return evaluate(potential, graph, cutoff=potential.reach).energy


def excited(potential):
    """Forms that are linear in their parameters start at zero: give them values."""
    rng = np.random.default_rng(0)
    if isinstance(potential, (ACE, NeuralNetwork)):
        values = {"c": rng.standard_normal(potential.c.shape)}
        if isinstance(potential, NeuralNetwork):
            values["a"] = 0.3 * rng.standard_normal(potential.a.shape)
        return potential.replace(**values)
    return potential


def test_the_sheets_are_what_they_are_said_to_be():
    for angle in (120.0, 109.4712):
        atoms, height = sheet(angle)
        atoms.positions[1, 2] += height
        graph = build_graph([atoms], CARBON, CUTOFF)
        real = graph.chunks.distance[0][np.unique(graph.chunks.pair[0][:6])]
        np.testing.assert_allclose(real, BOND, rtol=1e-6)


@pytest.mark.parametrize("name", BLIND)
def test_pairs_and_embedded_atoms_do_not_see_angles(name):
    flat, puckered = energies(BLIND[name])
    assert abs(flat) > 0.1
    assert flat == pytest.approx(puckered, rel=1e-10)


@pytest.mark.parametrize("name", SEEING)
def test_bond_order_and_beyond_do(name):
    flat, puckered = energies(excited(SEEING[name]))
    assert abs(flat - puckered) > 1e-3 * max(abs(flat), abs(puckered))
