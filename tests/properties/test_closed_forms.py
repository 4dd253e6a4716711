"""Properties against closed forms: Lennard-Jones lattice sums, nearest-neighbour Morse."""

import numpy as np
import pytest
from ase.build import bulk
from ase.data import atomic_masses, atomic_numbers
from closed_forms import lennard_jones_fcc, morse_neighbors_fcc

from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.morse import Morse
from bayespot.properties import (
    elastic,
    equation_of_state,
    lattice,
    phonons,
    stacking_fault,
    surface_energy,
    surfaces_of,
    vacancy,
)
from bayespot.properties.planar import J_PER_M2
from bayespot.units import GPA

D, ALPHA, R0 = 0.35, 1.4, 2.55
MASS = atomic_masses[atomic_numbers["Cu"]]


@pytest.fixture(scope="module")
def neighbors():
    """Copper-like fcc whose potential ends, without a switch, between the first two shells."""
    morse = Morse(species=("Cu",), D=D, alpha=ALPHA, r0=R0, cutoff=1.2 * R0, switch_width=0.0)
    return surfaces_of(morse), bulk("Cu", "fcc", a=2.6 * np.sqrt(2.0)), morse_neighbors_fcc(
        D, ALPHA, R0, MASS
    )


def close(quantity, exact, extra=0.0):
    """Within the stated numerical error, and what rounding and tolerances may leave."""
    error = np.nan_to_num(quantity.error[0])
    assert abs(quantity.value - exact) <= error + extra, (quantity.value, exact, error)


def test_lennard_jones_lattice_sums():
    """The cutoff lies between shells for all volumes used, so the sums are exact."""
    epsilon, sigma = 0.0104, 3.4
    cutoff = 0.5 * (np.sqrt(4.0) + np.sqrt(5.0))
    exact = lennard_jones_fcc(epsilon, sigma, cutoff)
    form = LennardJones(species=("Ar",), epsilon=epsilon, sigma=sigma, switch_width=0.0,
                        cutoff=cutoff * exact["distance"])  # fmt: skip
    surfaces = surfaces_of(form)
    crystal = bulk("Ar", "fcc", a=1.01 * exact["distance"] * np.sqrt(2.0))
    found = lattice(surfaces, crystal)
    close(found["a"], exact["distance"] * np.sqrt(2.0), 1e-9)
    close(found["cohesive energy"], -exact["energy"], 1e-9)
    state = equation_of_state(surfaces, crystal, volumes=np.linspace(0.95, 1.05, 9))
    close(state["bulk modulus"], exact["B"] * GPA, 1e-3)
    # Mie: B' = (n + m + 6) / 3 = 8 exactly, for any cutoff in shells.
    close(state["B'"], 8.0)
    assert state["B'"].error[0] < 0.3
    constants = elastic(surfaces, crystal)
    close(constants["B Hill"], exact["B"] * GPA, 1e-4)
    # Central forces at zero pressure: Cauchy's relation.
    assert constants["C12"].value == pytest.approx(constants["C44"].value, abs=2e-4)


def test_morse_crystal(neighbors):
    surfaces, crystal, exact = neighbors
    found = lattice(surfaces, crystal)
    close(found["volume"], exact["volume"], 1e-6)
    close(found["cohesive energy"], -exact["energy"], 1e-9)
    state = equation_of_state(surfaces, crystal, volumes=np.linspace(0.96, 1.04, 9))
    close(state["bulk modulus"], exact["B"] * GPA)
    close(state["B'"], exact["B'"])
    constants = elastic(surfaces, crystal)
    for name in ("C11", "C44"):
        close(constants[name], exact[name] * GPA, 1e-3)
    assert not constants.unstable


def test_morse_phonons(neighbors):
    """Springs of nearest neighbours: m w² is 8 k and 4 k at X, 8 k and 2 k at L."""
    surfaces, crystal, exact = neighbors
    found = phonons(surfaces, crystal, mesh=6)
    for name, key in (("highest frequency at X", "X high"), ("lowest frequency at X", "X low"),
                      ("highest frequency at L", "L high"), ("lowest frequency at L", "L low")):
        close(found[name], exact[key], 2e-4)
    assert not found.unstable
    bands = found.curves["bands"]
    assert bands.values.shape == (1, len(bands.x), 3)
    dos = found.curves["density of states"]
    assert np.trapezoid(dos.values[0], dos.x) == pytest.approx(3.0, rel=0.03)


def test_broken_bonds(neighbors):
    """Each broken bond costs D/2 for each of its atoms, and nothing relaxes."""
    surfaces, crystal, exact = neighbors
    close(vacancy(surfaces, crystal, starts=1)["formation energy"], exact["vacancy"], 1e-6)
    for miller, key in (((1, 1, 1), "(111)"), ((1, 0, 0), "(100)")):
        found = surface_energy(surfaces, crystal, miller=miller, layers=(4, 5))
        close(found["surface energy"], exact[key] * J_PER_M2, 1e-6)
    assert abs(stacking_fault(surfaces, crystal)["stacking-fault energy"].value) < 1e-4


def test_unstable_crystal_is_said():
    """Simple cubic with springs to nearest neighbours alone has no shear stiffness."""
    morse = Morse(species=("Cu",), D=D, alpha=ALPHA, r0=R0, cutoff=1.2 * R0, switch_width=0.0)
    crystal = bulk("Cu", "sc", a=R0)
    found = elastic(morse, crystal)
    assert "elastically unstable (Born)" in found.unstable
    assert abs(found["C44"].value) < 0.01
