"""What kind of structure it is, and what kind a data set lacks, on real silicon families."""

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, diamond100, fcc111

from bayespot.data.kinds import FamilyRanges, described, kind_of, what_is_missing
from bayespot.data.read import read

LENGTH = 2.37


@pytest.fixture(scope="module")
def data():
    return read("silicon_gpaw_pbe")


def ranges(data, length=LENGTH):
    found = FamilyRanges(length)
    found.add(data.structures[:50], data.families[:50])  # block by block
    found.add(data.structures[50:], data.families[50:])
    return found.table()


def without(data, family):
    return data[[k for k, name in enumerate(data.families) if name != family]]


@pytest.mark.parametrize(("atoms", "length", "neighbors"), [
    (bulk("Si", "diamond", a=5.43), 2.35, 4), (bulk("Cu", "fcc", a=3.6), 2.55, 12),
    (bulk("W", "bcc", a=3.16), 2.74, 14), (bulk("Po", "sc", a=3.3), 3.3, 6),
    (bulk("Si", "diamond", a=5.43, cubic=True) * (2, 1, 1), 2.35, 4),
])
def test_numbers_of_crystals(atoms, length, neighbors):
    kind = kind_of(atoms, length)
    assert kind["neighbors"] == kind["fewest"] == neighbors
    assert kind["volume"] == pytest.approx(atoms.get_volume() / len(atoms))
    assert kind["shortest"] == pytest.approx(length, rel=0.01)
    assert kind["vacuum"] == 0
    assert kind[f"content {atoms.symbols[0]}"] == 1


def test_numbers_of_slabs_and_molecules():
    slab = kind_of(fcc111("Cu", (1, 1, 3), a=3.6, vacuum=8.0, periodic=True), 2.55)
    assert np.isnan(slab["volume"])
    assert (slab["fewest"], slab["vacuum"]) == (9, 1)
    assert slab["neighbors"] == pytest.approx(10)
    alone = kind_of(Atoms("Si"), 2.35)
    assert np.isnan(alone["shortest"])
    assert (alone["neighbors"], alone["vacuum"]) == (0, 1)


def test_ranges_by_hand(data):
    table = ranges(data)
    assert set(table) == {"strained", "defect", "phase", "surface", "thermal"}
    mine = [kind_of(a, LENGTH) for a, f in zip(data.structures, data.families, strict=True)
            if f == "defect"]
    for name in ("volume", "neighbors", "fewest", "shortest"):
        values = [kind[name] for kind in mine]
        np.testing.assert_allclose(table["defect"][name],
                                   [min(values), max(values), np.mean(values)], rtol=1e-12)
    assert "volume" not in table["surface"]


def test_structures_of_a_family_are_nearest_to_it_or_in_it(data):
    table = ranges(data)
    for atoms, family in zip(data.structures, data.families, strict=True):
        nearest, words = what_is_missing(atoms, LENGTH, table)
        assert words == "" or family != nearest
        if family == "surface":
            assert nearest == "surface"


@pytest.mark.parametrize(("family", "share", "words"), [
    ("surface", 1.0, "vacuum"), ("phase", 0.5, "neighbours an atom"),
])
def test_the_family_that_is_left_out_is_asked_for(data, family, share, words):
    """Surfaces are missed by their vacuum, other phases by their coordination."""
    table = ranges(without(data, family))
    told = [what_is_missing(atoms, LENGTH, table)[1]
            for atoms, name in zip(data.structures, data.families, strict=True) if name == family]
    named = Counter(words in text and text.startswith("no structure of the data has")
                    for text in told)
    assert named[True] >= share * len(told)


def test_thermal_silicon_is_like_strained_silicon(data):
    table = ranges(without(data, "thermal"))
    near = Counter(what_is_missing(atoms, LENGTH, table)[0]
                   for atoms, name in zip(data.structures, data.families, strict=True)
                   if name == "thermal")
    assert near.most_common(1)[0][0] == "strained"


@pytest.mark.parametrize(("atoms", "words"), [
    (bulk("Si", "bcc", a=3.0), "14 neighbours an atom (2.5 to 12 in the mean)"),
    (bulk("Si", "diamond", a=6.2), "29.8 Å^3 an atom (volumes of 12 to 24.9)"),
    (Atoms("Si", cell=[15] * 3, pbc=True), "atoms of 0 neighbours (1 to 12 at least)"),
    (bulk("Ge", "diamond", a=5.6), "no structure of the data has Ge"),
    (bulk("SiGe", "zincblende", a=5.5), "no structure of the data has Ge"),
])
def test_words(data, atoms, words):
    nearest, told = what_is_missing(atoms, LENGTH, ranges(data))
    assert nearest in data.families
    assert words in told


def test_a_slab_is_near_the_surfaces(data):
    slab = diamond100("Si", (1, 1, 6), vacuum=6.0)
    slab.pbc = True
    assert what_is_missing(slab, LENGTH, ranges(data))[0] == "surface"


def test_units_change_nothing(data):
    """Lengths in another unit: the same family. (Vacuum is 5 Å; smaller cells have none.)"""
    smaller = []
    for atoms in data.structures:
        copy = atoms.copy()
        copy.set_cell(0.5 * copy.cell.array, scale_atoms=True)
        smaller.append(copy)
    table = FamilyRanges(0.5 * LENGTH)
    keep = [k for k, f in enumerate(data.families) if f != "surface"]
    table.add([smaller[k] for k in keep], [data.families[k] for k in keep])
    mine = ranges(data[keep])
    for k in keep[::7]:
        assert what_is_missing(smaller[k], 0.5 * LENGTH, table.table())[0] == what_is_missing(
            data.structures[k], LENGTH, mine)[0]


def test_a_record_that_knows_no_families():
    assert described(bulk("Si"), {"data": {}}) == ""
