"""Defects, surfaces, dynamics: counts and geometry by hand, thermal physics by equipartition."""

import itertools

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.harmonic import SpringCalculator
from ase.neighborlist import neighbor_list
from scipy.special import sph_harm_y

from bayespot.errors import ConfigError, StructureError
from bayespot.generate.crystals import in_basis, space_group, supercell
from bayespot.generate.defects import (
    antisites,
    fault_cell,
    interstitials,
    stacking_faults,
    vacancies,
)
from bayespot.generate.deformed import strained
from bayespot.generate.drivers import cheap_model
from bayespot.generate.frames import minimum_distance, push_apart
from bayespot.generate.parents import reference_crystal
from bayespot.generate.phases import lattice, other_phases
from bayespot.generate.surfaces import adatoms, surfaces
from bayespot.generate.thermal import liquids, thermal

AL = bulk("Al", a=4.0)
NEAREST = 4.0 / np.sqrt(2)
STILL = {"rattle": (0.0, 0.0)}


def test_strain_is_what_was_asked_for():
    frames = strained(AL, 40, 1, volume=(-0.1, 0.2), shear=0.06, **STILL)
    by_kind = {k: [f for f in frames if f.info["variant"] == k] for k in
               ("isotropic", "uniaxial", "shear", "random")}
    assert {k: len(v) for k, v in by_kind.items()} == dict.fromkeys(by_kind, 10)
    changes = [f.cell.volume / AL.cell.volume - 1 for f in by_kind["isotropic"]]
    assert min(changes) > -0.1
    assert max(changes) < 0.2
    assert np.all(np.diff(changes) > 0), "the range is covered in steps"
    for frame in by_kind["isotropic"]:
        assert space_group(frame) == 225
    for frame in by_kind["uniaxial"]:
        strain = np.linalg.solve(AL.cell.array, frame.cell.array) - np.eye(3)
        assert np.linalg.matrix_rank(strain, tol=1e-9) == 1
    for frame in by_kind["shear"]:
        strain = np.linalg.solve(AL.cell.array, frame.cell.array) - np.eye(3)
        np.testing.assert_allclose(np.diag(strain), 0.0, atol=1e-12)
        assert np.abs(strain).max() <= 0.03


def test_vacancies_by_distinct_site():
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    frames = vacancies(salt, 6, 0, distinct=True, **STILL)
    assert [len(f) for f in frames] == [7] * 6
    left = [f.get_chemical_formula() for f in frames]
    assert sorted(left) == ["Cl3Na4"] * 3 + ["Cl4Na3"] * 3
    one = vacancies(supercell(AL, 8), 2, 0, distinct=True)
    assert {f.info["variant"] for f in one} == {"vacancy_Al"}
    with pytest.raises(StructureError, match="needs a cell of 2 atoms"):
        vacancies(AL, 1, 0)


def test_interstitials_sit_in_voids():
    cell = bulk("Al", a=4.0, cubic=True).repeat(2)
    frames = interstitials(cell, 12, 3, kinds=("interstitial_site",), volume=(0.0, 0.0), **STILL,
                           min_distance=0.1)
    coordinations = []
    for frame in frames:
        assert len(frame) == 33
        # neighbors of the new atom have been pushed radially, all by the same amount
        distances = frame.get_distances(32, range(32), mic=True)
        coordinations.append(int(np.sum(distances < distances.min() + 1e-6)))
    assert set(coordinations) == {4, 6}, "tetrahedral and octahedral"


def test_dense_crystals_make_room():
    host = supercell(AL, 8)
    frames = interstitials(host, 9, 3, kinds=("interstitial_split", "interstitial_site",
                                              "interstitial_void"), spread=True)
    assert all(minimum_distance(f) >= 0.76 * NEAREST for f in frames)
    pair = Atoms("Al2", positions=[[0, 0, 0], [0, 0, 1.0]], cell=[9, 9, 9], pbc=True)
    push_apart(pair, 2.0)
    np.testing.assert_allclose(pair.positions[:, 2], [-0.5, 1.5])


@pytest.mark.parametrize("layers", [2, 5, 6])
@pytest.mark.parametrize(("parent", "many"), [
    (AL, 12), (bulk("Si", a=5.43), 4), (reference_crystal("Si").cell, 4)])
def test_the_intrinsic_fault_keeps_all_bonds(parent, many, layers):
    """It is trigonal, with all neighbors at their distance: the glide set of diamond."""
    (atoms,) = stacking_faults(parent, 1, 0, layers=(layers, layers), opening=(0.0, 0.0),
                               kinds=("stacking_fault",), **STILL)
    perfect = minimum_distance(parent)
    assert atoms.cell.volume == pytest.approx(layers * parent.cell.volume)
    assert minimum_distance(atoms) == pytest.approx(perfect)
    neighbors = np.bincount(neighbor_list("i", atoms, 1.1 * perfect), minlength=len(atoms))
    assert set(neighbors) == {many}
    expected = {2: (194,), 5: (164,), 6: (166,)}  # two layers: AB is hcp, and lonsdaleite
    assert space_group(atoms) in expected[layers]


def test_an_intrinsic_fault_of_fcc_is_two_layers_of_hcp():
    """Layers i and i + 2 are above each other twice (at sqrt(8/3) nearest distances): ABC|BCA."""
    (atoms,) = stacking_faults(AL, 1, 0, layers=(5, 5), opening=(0.0, 0.0),
                               kinds=("stacking_fault",), **STILL)
    hcp = np.sqrt(8 / 3) * NEAREST
    found = neighbor_list("d", atoms, hcp + 0.01)
    assert np.sum(np.abs(found - hcp) < 1e-6) == 4
    perfect = neighbor_list("d", fault_cell(AL, (1, 1, 1), 6), hcp + 0.01)
    assert np.sum(np.abs(perfect - hcp) < 1e-6) == 0


@pytest.mark.parametrize("parent", [AL, bulk("Si", a=5.43), reference_crystal("Si").cell,
                                    bulk("Ti"), bulk("Fe")], ids=lambda a: str(a.symbols))
def test_without_a_shift_there_is_no_fault(parent):
    plane = (0, 0, 1) if len(set(parent.cell.angles().round())) > 1 else (1, 1, 1)
    for layers, cut in itertools.product((1, 2, 3, 4, 5), (0, 1)):
        cell = fault_cell(parent, plane, layers, cut)
        assert len(cell) == layers * len(parent)
        assert cell.cell.volume == pytest.approx(layers * parent.cell.volume)
        assert space_group(cell) == space_group(parent)
        np.testing.assert_allclose(cell.cell.array[:2, 2], 0.0, atol=1e-9)


def test_a_random_fault_is_a_shift_along_the_plane():
    frames = stacking_faults(AL, 3, 0, layers=(4, 4), opening=(0.0, 0.0), min_distance=0.5,
                             kinds=("gamma_surface",), **STILL)
    for atoms in frames:
        perfect = fault_cell(AL, (1, 1, 1), 4)
        np.testing.assert_allclose(atoms.cell.array[:2], perfect.cell.array[:2])
        np.testing.assert_allclose(np.sort(atoms.positions[:, 2]),
                                   np.sort(perfect.positions[:, 2]), atol=1e-9)
        assert atoms.cell.array[2, 2] >= perfect.cell.array[2, 2] - 1e-12


def test_antisites_by_count():
    salt = bulk("NaCl", "cesiumchloride", a=3.4).repeat(2)
    frames = antisites(salt, 20, 0, min_distance=0.5)
    for frame in frames:
        wrong = int(np.sum(frame.numbers != salt.numbers))
        assert wrong == {"antisite": 1, "exchange": 2}[frame.info["variant"]]
    with pytest.raises(StructureError, match="one species"):
        antisites(AL, 1, 0)


@pytest.mark.parametrize(("plane", "area"), [
    ((1, 1, 1), np.sqrt(3) / 4), ((1, 0, 0), 1 / 2), ((1, 1, 0), 1 / np.sqrt(2))])
def test_areas_of_slabs(plane, area):
    """Of the primitive surface cells of fcc, in squares of the lattice parameter."""
    miller = in_basis(bulk("Al", a=4.0, cubic=True), plane, AL)
    for make, extra in ((surfaces, 0), (adatoms, 1)):
        (slab,) = make(AL, 1, 0, millers=[miller], layers=(4, 4), strain=0.0, vacuum=9.0, **STILL)
        assert list(slab.pbc) == [True, True, False]
        assert len(slab) == 4 + extra
        flat = np.cross(slab.cell.array[0], slab.cell.array[1])
        assert np.linalg.norm(flat) == pytest.approx(area * 16.0)
        height = np.ptp(slab.positions[:, 2])
        assert slab.cell.array[2, 2] - height == pytest.approx(9.0)
        spacing = {(1, 1, 1): 1 / np.sqrt(3), (1, 0, 0): 1 / 2, (1, 1, 0): 1 / np.sqrt(8)}[plane]
        if not extra:
            assert height == pytest.approx(3 * spacing * 4.0)


def test_adatoms_touch_the_surface():
    frames = adatoms(AL, 8, 2, millers=[(1, 1, 1)], bond=(0.9, 1.1), strain=0.0, **STILL)
    for slab in frames:
        new = len(slab) - 1
        assert slab.positions[new, 2] >= slab.positions[:new, 2].max()
        distances = neighbor_list("id", slab, 6.0)
        nearest = distances[1][distances[0] == new].min()
        assert nearest + 1e-9 >= 0.9 * NEAREST
        assert nearest <= 1.1 * NEAREST + 1e-9


def test_equipartition():
    """Atoms on springs: <u^2> of a component is kT/k, from independent snapshots."""
    cell, k, temperature = bulk("Al", a=4.0, cubic=True), 4.0, 600.0
    springs = SpringCalculator(cell.positions, k)
    frames = thermal(cell, springs, 300, 5, temperature_K=temperature, timestep_fs=4.0,
                     friction_per_fs=0.05, interval=15)
    moved = np.array([f.positions - cell.positions for f in frames])
    expected = units.kB * temperature / k
    assert np.mean(moved**2) == pytest.approx(expected, rel=0.10)
    assert np.mean(moved) == pytest.approx(0.0, abs=0.2 * np.sqrt(expected))


def order(atoms):
    """Steinhardt's Q6 of all bonds, Phys. Rev. B 28, 784 (1983); 0.575 in fcc."""
    d, vector = neighbor_list("dD", atoms, 1.2 * 4.05 / np.sqrt(2))
    polar, azimuth = np.arccos(vector[:, 2] / d), np.arctan2(vector[:, 1], vector[:, 0])
    moments = [np.mean(sph_harm_y(6, m, polar, azimuth)) for m in range(-6, 7)]
    return float(np.sqrt(4 * np.pi / 13 * np.sum(np.abs(moments) ** 2)))


def test_a_liquid_has_lost_its_order():
    cell = supercell(bulk("Al", a=4.05), 27)
    driver = cheap_model(bulk("Al"))[0]
    assert order(cell) == pytest.approx(0.5745, abs=1e-3)
    (crystal,) = thermal(cell, driver, 1, 0, temperature_K=300.0, equilibrate=60, timestep_fs=3.0)
    melt = liquids(cell, driver, 2, 0, temperature_K=2000.0, ratio=1.1, volume=(0.0, 0.02),
                   equilibrate=120)
    assert order(crystal) > 0.45
    assert max(order(frame) for frame in melt) < 0.25
    assert [f.info["variant"] for f in melt] == ["liquid"] * 2
    assert {f.info["config_type"] for f in melt} == {"phase"}


def test_other_phases_have_the_volumes_asked_for():
    frames = other_phases(AL, 8, 0, ratios={"bcc": 1.02, "sc": 1.2}, volume=(0.0, 0.0),
                          strain=0.0, **STILL)
    own = AL.cell.volume
    for frame in frames:
        ratio, group = {"bcc": (1.02, 229), "sc": (1.2, 221)}[frame.info["variant"]]
        assert frame.cell.volume / len(frame) / own == pytest.approx(ratio)
        assert space_group(frame) == group
    compound = other_phases(lattice("rocksalt", ["Mg", "O"]), 2, 0, ratios={"zincblende": 1.3})
    assert {f.get_chemical_formula() for f in compound} == {"MgO"}


def test_no_atoms_overlap_and_the_seed_decides():
    host = supercell(AL, 8)
    calls = {
        strained: (AL, {}), vacancies: (host, {}), interstitials: (host, {"spread": True}),
        stacking_faults: (AL, {}), surfaces: (AL, {}), adatoms: (AL, {}),
    }  # fmt: skip
    for (function, (parent, options)), seed in itertools.product(calls.items(), (1, 2)):
        frames = function(parent, 6, seed, **options)
        again = function(parent, 6, seed, **options)
        other = function(parent, 6, seed + 10, **options)
        assert len(frames) == 6
        for frame, same, different in zip(frames, again, other, strict=True):
            assert minimum_distance(frame) >= 0.76 * NEAREST
            assert frame.positions.tobytes() == same.positions.tobytes()
            assert frame.cell.array.tobytes() == same.cell.array.tobytes()
            assert not (np.array_equal(frame.cell.array, different.cell.array)
                        and np.array_equal(frame.positions, different.positions))
            assert set(frame.info) == {"config_type", "parent", "variant", "seed"}


def test_kind_errors():
    with pytest.raises(ConfigError, match="n = -1 structures"):
        strained(AL, -1, 0)
    with pytest.raises(ConfigError, match="kinds = \\['twist'\\] cannot be made"):
        strained(AL, 1, 0, kinds=("twist",))
    with pytest.raises(StructureError, match="200 attempts gave no structure"):
        strained(AL, 1, 0, min_distance=4.0)
    with pytest.raises(StructureError, match="0 atoms"):
        strained(Atoms(cell=[3, 3, 3]), 1, 0, min_distance=1.0)
    with pytest.raises(ConfigError, match="2 <= fewest"):
        stacking_faults(AL, 1, 0, layers=(1, 3))
    with pytest.raises(ConfigError, match="vacuum = -1"):
        surfaces(AL, 1, 0, vacuum=-1.0)
    with pytest.raises(ConfigError, match="temperature above 0"):
        thermal(AL, None, 1, 0, temperature_K=-5.0)
