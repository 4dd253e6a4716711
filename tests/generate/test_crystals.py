"""Cells, planes, voids and phases against crystallography."""

import numpy as np
import pytest
from ase.build import bulk
from ase.neighborlist import neighbor_list

from bayespot.errors import ConfigError, SpeciesError, StructureError
from bayespot.generate.crystals import (
    conventional,
    coordination,
    distinct_planes,
    in_basis,
    primitive,
    repeated,
    space_group,
    sublattices,
    supercell,
    voids,
)
from bayespot.generate.drivers import cheap_model
from bayespot.generate.frames import minimum_distance
from bayespot.generate.parents import parents_of, reference_crystal
from bayespot.generate.phases import (
    COORDINATION,
    PHASE_VOLUME_RATIOS,
    lattice,
    relaxed_ratios,
    scaled_ratios,
)


@pytest.mark.parametrize(("phase", "group"), [
    ("fcc", 225), ("bcc", 229), ("sc", 221), ("hcp", 194), ("simplehex", 191), ("diamond", 227),
    ("hexdiamond", 194), ("betatin", 141), ("bc8", 206)])
def test_phases_have_their_space_groups(phase, group):
    atoms = lattice(phase, ["Si"])
    assert space_group(atoms) == group
    assert minimum_distance(atoms) == pytest.approx(1.0)
    if phase not in ("betatin", "hexdiamond"):  # those have two shells close to each other
        assert coordination(atoms, 1.12) == COORDINATION[phase]


@pytest.mark.parametrize(("phase", "group"), [
    ("rocksalt", 225), ("cesiumchloride", 221), ("zincblende", 216)])
def test_compounds_have_their_space_groups(phase, group):
    assert space_group(lattice(phase, ["Na", "Cl"])) == group


def test_hexagonal_close_packing_fills_space_as_the_cubic_one():
    filled = [lattice(p, ["Al"]).cell.volume / len(lattice(p, ["Al"])) for p in ("fcc", "hcp")]
    np.testing.assert_allclose(filled, 1 / np.sqrt(2), rtol=2e-4)


def test_number_of_sublattices():
    """OEIS A001001, sublattices of index n of a lattice in three dimensions."""
    assert [sum(1 for _ in sublattices(n)) for n in range(1, 9)] == [1, 7, 13, 35, 31, 91, 57, 155]


def test_sublattices_are_different_lattices():
    """Of two that were one, the vectors of the one would be integer in the other."""
    found = list(sublattices(4))
    same = [(i, j) for i, a in enumerate(found) for j, b in enumerate(found[:i])
            if np.allclose(a @ np.linalg.inv(b), np.rint(a @ np.linalg.inv(b)))]
    assert not same


@pytest.mark.parametrize("matrix", [np.diag([2, 1, 3]), [[1, 1, 0], [0, 2, 1], [0, 0, 3]],
                                    [[1, 2, 3], [0, -1, 1], [2, 0, 1]]])
def test_a_supercell_is_the_same_crystal(matrix):
    atoms = lattice("hcp", ["Ti"])
    large = repeated(atoms, np.array(matrix))
    copies = abs(round(np.linalg.det(matrix)))
    assert len(large) == copies * len(atoms)
    assert large.cell.volume == pytest.approx(copies * atoms.cell.volume)
    assert space_group(large) == 194
    assert len(primitive(large)) == 2


def test_the_roundest_cells_of_fcc_and_diamond():
    a = 4.0
    eight = supercell(bulk("Al", a=a), 8)
    np.testing.assert_allclose(eight.cell.lengths(), 2 * a / np.sqrt(2))
    four = supercell(bulk("Al", a=a), 4, fill=True)
    assert len(four) == 4
    with pytest.raises(StructureError, match="has 2 atoms, and at most 1 are wanted"):
        supercell(bulk("Si"), 1)


def test_planes_of_the_usual_crystals():
    """Widest spacing first: (111) of fcc, (110) of bcc, (0001) of hcp."""
    planes = {s: distinct_planes(conventional(reference_crystal(s).cell)) for s in ("Al", "Fe")}
    assert planes["Al"] == [(1, 1, 1), (1, 0, 0), (1, 1, 0)]
    assert planes["Fe"] == [(1, 1, 0), (1, 0, 0), (1, 1, 1)]
    assert distinct_planes(conventional(reference_crystal("Ti").cell))[0] == (0, 0, 1)


def test_planes_in_the_primitive_basis():
    cell = bulk("Al", a=4.0, cubic=True)
    small = bulk("Al", a=4.0)
    for plane in ((1, 0, 0), (1, 1, 0), (1, 1, 1)):
        indices = in_basis(cell, plane, small)
        normal = np.asarray(indices) @ np.linalg.inv(small.cell.array).T
        assert np.linalg.norm(np.cross(normal, plane)) == pytest.approx(0.0, abs=1e-12)
        # 4, 4 and 3 is the sum of squares of the first allowed reflections 200, 220, 111
        squares = {(1, 0, 0): 4, (1, 1, 0): 8, (1, 1, 1): 3}[plane]
        assert 1 / np.linalg.norm(normal) == pytest.approx(4.0 / np.sqrt(squares))


def test_voids_of_fcc():
    """Octahedral at a/2 from six atoms, tetrahedral at a sqrt(3)/4 from four."""
    found = voids(bulk("Al", a=4.0, cubic=True))
    assert [(round(radius, 4), many) for _, radius, many in found] == [(2.0, 6), (1.7321, 4)]


def test_void_of_bcc():
    """One kind, tetrahedral, at a sqrt(5)/4 from four atoms."""
    found = voids(bulk("Fe", "bcc", a=2.8, cubic=True))
    assert [(round(radius, 4), many) for _, radius, many in found] == [
        (round(2.8 * np.sqrt(5) / 4, 4), 4)]


def test_reference_crystals_are_those_of_experiment():
    for symbol, group in (("Al", 225), ("Si", 227), ("Fe", 229), ("Ti", 194), ("Po", 221)):
        parent = reference_crystal(symbol)
        assert space_group(parent.cell) == group
        assert parent.notes == ()
    assert minimum_distance(reference_crystal("Al").cell) == pytest.approx(4.05 / np.sqrt(2))


def test_every_element_has_a_crystal():
    """Those that ASE cannot build are fcc, and a note says so."""
    from ase.data import chemical_symbols

    made_up = [s for s in chemical_symbols[1:] if reference_crystal(s).notes]
    assert {"N", "O", "Lr"} <= set(made_up)
    assert not {"Li", "Na", "Mg", "Al", "Si", "Cu", "Zn", "Ge", "W", "U"} & set(made_up)
    assert space_group(reference_crystal("O").cell) == 225


def test_volumes_of_silicon_phases_by_the_rule():
    """Within 15 % of DFT's, which were written down by hand."""
    names = [n for n in PHASE_VOLUME_RATIOS if n not in ("random", "simplehex")]
    ratios = scaled_ratios(reference_crystal("Si").cell, names)
    for name in names:
        assert ratios[name] == pytest.approx(PHASE_VOLUME_RATIOS[name], rel=0.15), name


def test_volumes_by_a_driver():
    """Effective-medium copper: hcp has the volume of fcc, bcc nearly, diamond far more."""
    cell = reference_crystal("Cu").cell
    ratios = relaxed_ratios(cell, ["fcc", "hcp", "bcc", "diamond"], cheap_model(cell)[0])
    assert ratios["fcc"] == pytest.approx(1.0, abs=2e-3)
    assert ratios["hcp"] == pytest.approx(1.0, abs=5e-3)
    assert ratios["bcc"] == pytest.approx(1.01, abs=0.03)
    assert 1.2 < ratios["diamond"] < 2.0


def test_a_supercell_as_prototype_gives_its_primitive_cell(tmp_path):
    bulk("NaCl", "rocksalt", a=5.6, cubic=True).write(tmp_path / "salt.cif")
    (parent,) = parents_of(structure=str(tmp_path / "salt.cif"))
    assert parent.name == "NaCl"
    assert len(parent.cell) == 2
    assert space_group(parent.cell) == 225


def test_a_compound_and_an_alloy_from_symbols():
    (compound,) = parents_of(species=["Na", "Cl"], prototype="rocksalt")
    assert space_group(compound.cell) == 225
    assert "mean of the elements" in compound.notes[0]
    assert len(neighbor_list("i", compound.cell, 1.05 * minimum_distance(compound.cell))) == 12
    parents = parents_of(species=["Al", "Cu"], prototype="fcc")
    assert [p.name for p in parents] == ["Al", "Cu", "AlCu", "AlCu"]
    assert sorted(space_group(p.cell) for p in parents) == [123, 166, 225, 225]  # L1_0, L1_1
    volumes = [p.cell.cell.volume / len(p.cell) for p in parents]
    np.testing.assert_allclose(volumes[2:], np.mean(volumes[:2]))


@pytest.mark.parametrize(("what", "kind", "words"), [
    ({"element": "si"}, SpeciesError, "did you mean 'Si'"),
    ({"element": "Xx"}, SpeciesError, "no chemical symbol"),
    ({}, ConfigError, "got none"),
    ({"element": "Si", "species": ["Al", "Cu"]}, ConfigError, "element and species"),
    ({"species": ["Al", "Cu"]}, ConfigError, "need a prototype"),
    ({"species": ["Al", "Cu"], "prototype": "fccc"}, ConfigError, "did you mean 'fcc'"),
    ({"element": "Al", "prototype": "rocksalt"}, ConfigError, "has two species"),
    ({"structure": "nowhere.cif"}, ConfigError, "no such file"),
])
def test_kind_errors(what, kind, words):
    with pytest.raises(kind, match=words):
        parents_of(**what)


def test_a_molecule_is_no_prototype(tmp_path):
    from ase.build import molecule

    molecule("H2O").write(tmp_path / "water.xyz")
    with pytest.raises(StructureError, match="not periodic"):
        parents_of(structure=str(tmp_path / "water.xyz"))
