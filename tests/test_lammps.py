"""Energies, forces and stresses equal those of LAMMPS."""

import lammps_reference as reference
import numpy as np
import pytest

from bayespot.potentials.stillinger_weber import SILICON_1985, StillingerWeber

pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(reference.missing() is not None, reason=str(reference.missing())),
]

TOLERANCE = {"eV/atom": 1e-8, "eV/Å": 1e-7, "eV/Å^3": 1e-9}
POTENTIALS, STRUCTURES = reference.potentials(), reference.structures()


@pytest.fixture(scope="module")
def lammps():
    program = reference.Lammps()
    yield program
    program.close()


@pytest.mark.parametrize("form", POTENTIALS)
def test_equals_lammps(lammps, form):
    for structure, found in reference.compare(lammps, POTENTIALS[form]).items():
        for value, (unit, allowed) in zip(found, TOLERANCE.items(), strict=True):
            assert value <= allowed, f"{form}, {structure}: off by {value:.2g} {unit}"


def test_the_structures_are_what_they_are_called():
    """None is a disguised perfect crystal, and the small cells are smaller than the cutoff."""
    reach = StillingerWeber.silicon_1985().reach
    for name, atoms in STRUCTURES.items():
        heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
        assert ("smaller" in name) == (heights.max() < reach)
    names = ("liquid-like", "cluster")
    liquid, cluster = reference.ours(POTENTIALS["Morse"], *(STRUCTURES[n] for n in names))
    assert np.sqrt((liquid.forces**2).mean()) > 3.0
    assert np.abs(cluster.forces).max() > 1.0
    assert len(STRUCTURES["vacancy"]) == 63


def test_a_small_cell_is_its_supercell(lammps):
    """LAMMPS agrees with itself and with us on the small cell and eight times that cell."""
    potential = POTENTIALS["StillingerWeber"]
    small = STRUCTURES["two-atom cell, smaller than the cutoff"]
    big = small * (2, 2, 2)
    one, eight = reference.ours(potential, small, big)
    assert abs(eight.energy / 8 - one.energy) < 1e-10
    np.testing.assert_allclose(eight.stress, one.stress, atol=1e-12)
    assert max(reference.differences(eight, reference.theirs(lammps, potential, big))) < 1e-8


def test_silicon_1985_is_at_its_published_minimum():
    """Diamond, a = 5.4310 Å (here from sigma), E = -2 epsilon: Phys. Rev. B 31, 5262."""
    from ase.build import bulk

    atoms = bulk("Si", "diamond", a=5.4309494)
    (out,) = reference.ours(StillingerWeber.silicon_1985(), atoms)
    assert abs(out.energy / 2 / SILICON_1985["epsilon"] + 2) < 1e-7
    assert np.abs(out.stress).max() < 1e-4


def test_parameters_survive_the_change_of_coordinates():
    back = StillingerWeber.silicon_1985().to_reduced()
    again = StillingerWeber.from_reduced(("Si",), **back)
    for item in again.parameters():
        np.testing.assert_allclose(
            getattr(again, item.name), getattr(StillingerWeber.silicon_1985(), item.name),
            rtol=1e-12, atol=1e-12,
        )  # fmt: skip
