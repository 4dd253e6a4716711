"""Published silicon potentials: what is known of them, and LAMMPS' forces by the same functions."""

import lammps_reference
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from lammps_force import LammpsCalculator

from bayespot.posterior import Posterior
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.tersoff import Tersoff
from bayespot.properties import (
    elastic,
    interstitial,
    lattice,
    phonons,
    quasi_harmonic,
    stacking_fault,
    surface_energy,
    surfaces_of,
    transition_pressure,
    vacancy,
    vacancy_migration,
)

CRYSTAL = bulk("Si", "diamond", a=5.5)
BETA_TIN = Atoms("Si4", cell=[4.83, 4.83, 2.66], pbc=True, scaled_positions=[
    [0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.25], [0.5, 0, 0.75]])  # fmt: skip


@pytest.fixture(scope="module")
def sw():
    return surfaces_of(StillingerWeber.silicon_1985())


@pytest.fixture(scope="module")
def tersoff():
    return surfaces_of(Tersoff.silicon_1988_elastic())


def rounded(quantity, published, digits):
    """The published number is ours, rounded."""
    assert quantity.value == pytest.approx(published, abs=0.51 * 10.0**-digits)


def test_stillinger_weber_crystal(sw):
    """Cowley, Phys. Rev. Lett. 60, 2379 (1988): 151.4, 76.4, 56.4 GPa (44 clamped 109.8)."""
    found = lattice(sw, CRYSTAL)
    rounded(found["a"], 5.431, 3)
    assert found["cohesive energy"].value == pytest.approx(2 * 2.1683, abs=1e-6)
    constants = elastic(sw, CRYSTAL)
    for name, value in {"C11": 151.4, "C12": 76.4, "C44": 56.4, "C44 clamped": 109.8}.items():
        rounded(constants[name], value, 1)
        assert constants[name].error[0] < 0.01


def test_tersoff_crystal(tersoff):
    """Balamane, Halicioglu and Tiller, Phys. Rev. B 46, 2250 (1992), table of T3."""
    found = lattice(tersoff, CRYSTAL)
    rounded(found["a"], 5.432, 3)
    rounded(found["cohesive energy"], 4.63, 2)
    constants = elastic(tersoff, CRYSTAL)
    for name, value in {"C11": 142.5, "C12": 75.4, "C44": 69.0, "C44 clamped": 118.8}.items():
        assert constants[name].value == pytest.approx(value, abs=0.3)


def test_stillinger_weber_surfaces(sw):
    """Broken bonds: (111) 1.36, (100) 2.36 J/m²; dimers of (100) 2x1 win about 0.9 J/m²."""
    area = np.sqrt(3.0) / 4.0 * 5.43095**2
    one_bond = 2.1683 * 16.02176634 / (2.0 * area)
    found = surface_energy(sw, CRYSTAL, miller=(1, 1, 1), cut=0.5, layers=(4, 5))
    assert found["surface energy, unrelaxed"].value == pytest.approx(one_bond, rel=1e-5)
    plain = surface_energy(sw, CRYSTAL, miller=(1, 0, 0), layers=(5, 6))
    rounded(plain["surface energy"], 2.36, 2)
    dimers = surface_energy(sw, CRYSTAL, miller=(1, 0, 0), layers=(5, 6), repeat=(2, 1),
                            pairing=0.7)  # fmt: skip
    assert dimers["surface energy"].value < plain["surface energy"].value - 0.8


def test_stillinger_weber_faults(sw):
    """The form ends before the third neighbours: the glide fault costs nothing, the vacancy is
    its four bonds before it relaxes."""
    assert abs(stacking_fault(sw, CRYSTAL)["stacking-fault energy"].value) < 1e-3
    found = vacancy(sw, CRYSTAL)
    assert found["formation energy, unrelaxed"].value == pytest.approx(4.3366, abs=1e-5)
    assert 2.5 < found["formation energy"].value < 3.0  # 2.66 to 2.82 in the literature
    # Two sizes of the supercell: what they differ by is in the stated error.
    assert 0.05 < found["formation energy"].error[0] < 0.5


def test_transition_of_stillinger_weber(sw):
    """Energy difference of Balamane et al. 0.213 eV at 4.63 eV of cohesion, thus 0.1995 here."""
    found = transition_pressure(sw, CRYSTAL, BETA_TIN)
    difference = found["energy difference"]
    assert difference.value == pytest.approx(0.213 * 4.3366 / 4.63, abs=6e-4)
    p, before, after = (found[name].value for name in (
        "transition pressure", "volume before", "volume after"))  # fmt: skip
    # The tangent, from the crystals relaxed at these volumes: equal pressure, equal enthalpy.
    from bayespot.properties.equation_of_state import energies_at_volumes
    from bayespot.properties.results import Account

    rows = []
    for crystal, volume in ((CRYSTAL, before), (BETA_TIN, after)):
        own = lattice(sw, crystal)["volume"].value
        v, e, relaxed = energies_at_volumes(sw, crystal, [volume / own], Account(1))
        pressure = -relaxed.stress[0, :3].mean()
        rows.append((pressure * 160.2176634, e[0, 0] + pressure * v[0, 0]))
    assert rows[0][0] == pytest.approx(p, abs=0.05)
    assert rows[1][0] == pytest.approx(p, abs=0.05)
    assert rows[0][1] == pytest.approx(rows[1][1], abs=2e-3)


def test_two_crystals_that_are_one(sw):
    found = transition_pressure(sw, CRYSTAL, bulk("Si", "diamond", a=5.4, cubic=True))
    assert found.failed["the two crystals relax into one"].all()
    assert np.isnan(found["transition pressure"].value)


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("form", [StillingerWeber.silicon_1985, Tersoff.silicon_1988_elastic])
def test_against_lammps(form, tmp_path):
    """The same numbers from LAMMPS' forces through ASE's relaxations."""
    if lammps_reference.missing():
        pytest.skip(lammps_reference.missing())
    potential = form()
    ours = surfaces_of(potential)
    theirs = surfaces_of(LammpsCalculator(potential, tmp_path))
    for function, names in (
        (lambda s: lattice(s, CRYSTAL), ("a",)),
        (lambda s: elastic(s, CRYSTAL), ("C11", "C12", "C44")),
        (lambda s: vacancy(s, CRYSTAL, starts=1, sizes=(2,)), ("formation energy",)),
        (lambda s: interstitial(s, CRYSTAL, position=(0.5, 0.5, 0.5), sizes=(2,)),
         ("formation energy",)),
    ):
        mine, other = function(ours), function(theirs)
        for name in names:
            error = 2e-4 + 3 * np.nan_to_num(mine[name].error[0] + other[name].error[0])
            assert mine[name].value == pytest.approx(other[name].value, abs=error), name


def test_phonons_are_those_of_phonopy(sw):
    """Phonopy alone, with the forces of one ASE calculator: the same frequencies."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    from bayespot.properties.symmetry import quiet_spglib

    found = phonons(sw, CRYSTAL, mesh=4)
    cell = bulk("Si", "diamond", a=lattice(sw, CRYSTAL)["a"].value)
    with quiet_spglib():
        phonon = Phonopy(
            PhonopyAtoms(symbols=["Si"] * 2, cell=cell.cell.array, positions=cell.positions),
            [[-2, 2, 2], [2, -2, 2], [2, 2, -2]], primitive_matrix=np.eye(3), log_level=0,
        )  # fmt: skip
        phonon.generate_displacements(distance=0.01)
        forces = []
        for one in phonon.supercells_with_displacements:
            atoms = Atoms(one.symbols, positions=one.positions, cell=one.cell, pbc=True)
            atoms.calc = sw.calculator(0)
            forces.append(atoms.get_forces())
        phonon.forces = np.array(forces)
        phonon.produce_force_constants(show_drift=False)
    phonon.run_qpoints([[0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5]])
    gamma, x, el = np.sort(phonon.qpoints.frequencies, axis=1)
    for name, value in (("highest frequency at Γ", gamma[-1]), ("lowest frequency at X", x[0]),
                        ("highest frequency at X", x[-1]), ("lowest frequency at L", el[0])):
        assert found[name].value == pytest.approx(value, abs=1e-5)


@pytest.mark.slow
def test_thermal_expansion_of_stillinger_weber(sw):
    """The heat capacity is Debye-like, and expansion is Grüneisen's gamma C_V / (3 B V)."""
    found = quasi_harmonic(sw, CRYSTAL, mesh=8)
    assert 2.0 < found["heat capacity at 300 K"].value < 3.0
    cold = quasi_harmonic(sw, CRYSTAL, mesh=8, temperature=3000.0, highest=100.0)
    assert cold["heat capacity at 3000 K"].value == pytest.approx(3.0, abs=0.02)
    assert abs(found["thermal expansion at 300 K"].error[0]) < 0.05


@pytest.mark.slow
def test_migration_of_a_vacancy(tersoff):
    found = vacancy_migration(tersoff, CRYSTAL, force=0.05, images=3)
    path = found.curves["path"].values[0]
    assert path[0] == 0.0
    assert found["migration barrier"].value > 0.0 or found.failed
    # The two ends are one vacancy in two places.
    assert path[-1] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.slow
def test_a_state_below_the_ends_is_told(request):
    """The fitted Stillinger-Weber has the split vacancy half an eV below the simple one."""
    model = "models/silicon-stillinger_weber-gpaw_pbe-2026/posterior.nc"
    surfaces = surfaces_of(Posterior.load(request.config.rootpath / model), n_draws=2)
    found = vacancy_migration(surfaces, CRYSTAL)
    assert not found.failed
    assert any("below both of its ends (2 of 2)" in text for text in found.problems)
    assert (found.curves["path"].values.min(axis=1) < -0.3).all()
    assert ((found["migration barrier"].values > 0.02)
            & (found["migration barrier"].values < 0.15)).all()
