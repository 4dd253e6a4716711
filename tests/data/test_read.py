"""What the reader takes, and what it does with labels that are found in several places."""

from __future__ import annotations

import bz2
import gzip
import lzma
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.db import connect
from ase.io import write
from ase.stress import full_3x3_to_voigt_6_stress

from bayespot.data.archives import archive_names, archive_path
from bayespot.data.dataset import Dataset
from bayespot.data.labels import STRESS_ORDERS
from bayespot.data.read import read
from bayespot.errors import LabelError
from bayespot.units import GPA

VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <kpoints><varray name="kpointlist"><v> 0 0 0</v></varray>
  <varray name="weights"><v> 1.0</v></varray></kpoints>
 <atominfo><array name="atoms"><set><rc><c>Si</c><c> 1</c></rc><rc><c>Si</c><c> 1</c></rc></set>
  </array></atominfo>
 <structure name="initialpos"><crystal><varray name="basis">
  <v> 0.0 2.7 2.7</v><v> 2.7 0.0 2.7</v><v> 2.7 2.7 0.0</v></varray></crystal>
  <varray name="positions"><v> 0 0 0</v><v> 0.25 0.25 0.25</v></varray></structure>
 <calculation>
  <scstep><energy><i name="e_fr_energy"> -10.80</i><i name="e_wo_entrp"> -10.70</i>
   <i name="e_0_energy"> -10.75</i></energy></scstep>
  <structure><crystal><varray name="basis">
   <v> 0.0 2.7 2.7</v><v> 2.7 0.0 2.7</v><v> 2.7 2.7 0.0</v></varray></crystal>
   <varray name="positions"><v> 0 0 0</v><v> 0.25 0.25 0.25</v></varray></structure>
  <varray name="forces"><v> 0.1 0 0</v><v> -0.1 0 0</v></varray>
  <varray name="stress"><v> 16.0 1.0 0</v><v> 1.0 16.0 0</v><v> 0 0 16.0</v></varray>
  <energy><i name="e_fr_energy"> -10.80</i><i name="e_wo_entrp"> -10.70</i>
   <i name="e_0_energy"> -10.75</i></energy>
 </calculation>
</modeling>
"""


@pytest.fixture
def reference(copper) -> Dataset:
    return read(copper)


def same(one: Dataset, two: Dataset, digits: float = 1e-6) -> None:
    assert len(one) == len(two)
    for x, y in zip(one.labels, two.labels, strict=True):
        assert y.energy == pytest.approx(x.energy, abs=digits)
        np.testing.assert_allclose(y.forces, x.forces, atol=digits)
        np.testing.assert_allclose(y.stress, x.stress, atol=digits)


@pytest.mark.parametrize(("suffix", "opener"), [
    ("", open), (".xz", lzma.open), (".gz", gzip.open), (".bz2", bz2.open)])
def test_extxyz_plain_and_compressed(copper, reference, tmp_path, suffix, opener):
    path = tmp_path / f"cu.extxyz{suffix}"
    plain = tmp_path / "plain.xyz"
    write(plain, copper, format="extxyz")
    with opener(path, "wb") as file:
        file.write(plain.read_bytes())
    for source in (path, str(path)):
        same(reference, read(source))
    assert read(path).families == reference.families


def test_what_ase_writes_from_a_calculator(copper, reference, tmp_path, with_calculator):
    """ASE moves energy, forces and stress into a calculator on reading; nothing is lost."""
    path = tmp_path / "calc.extxyz"
    write(path, [with_calculator(atoms) for atoms in copper], format="extxyz")
    back = read(path)
    same(reference, back)
    assert back.label_keys == ("energy: energy (41)", "forces: forces (41)", "stress: stress (41)")


@pytest.mark.parametrize("name", ["cu.db", "cu.json", "cu.traj"])
def test_databases_and_trajectories(copper, reference, tmp_path, with_calculator, name):
    path = tmp_path / name
    if name.endswith("traj"):
        write(path, [with_calculator(atoms) for atoms in copper])
    else:
        with connect(str(path)) as database:
            for atoms in copper:
                database.write(with_calculator(atoms), config_type=atoms.info["config_type"],
                               split=atoms.info["split"])
    back = read(path)
    same(reference, back)
    assert back.families == reference.families
    assert len(back.select(split="test")) == len(reference.select(split="test"))


def test_database_with_reference_keys(copper, reference, tmp_path):
    with connect(str(tmp_path / "ref.db")) as database:
        for atoms in copper:
            database.write(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True),
                           REF_energy=atoms.info["REF_energy"],
                           data={"REF_forces": atoms.arrays["REF_forces"],
                                 "REF_stress": atoms.info["REF_stress"]})
    same(reference, read(tmp_path / "ref.db"), 1e-10)


@pytest.mark.parametrize("packed", [False, True])
def test_vasprun_gives_the_free_energy(tmp_path, packed):
    path = tmp_path / ("vasprun.xml.gz" if packed else "vasprun.xml")
    if packed:
        path.write_bytes(gzip.compress(VASPRUN.encode()))
    else:
        path.write_text(VASPRUN)
    data = read(path)
    assert data.labels[0].energy == -10.80
    assert data.labels[0].stress[0] == pytest.approx(-1.6 / GPA, rel=1e-6)  # kbar, compressed
    assert "free_energy taken, not energy" in data.findings[0]
    assert "25 meV/atom" in data.findings[0]
    # asked for by name, the other one comes
    assert read(path, energy_key="energy").labels[0].energy == -10.75


def test_glob_joins_files_in_order(copper, reference, tmp_path):
    for k, part in enumerate((copper[:10], copper[10:25], copper[25:])):
        write(tmp_path / f"run{k}.extxyz", part, format="extxyz")
    joined = read(str(tmp_path / "run*.extxyz"))
    same(reference, joined)
    assert joined.source.endswith("(3 files)")
    with pytest.raises(LabelError, match="no file matches"):
        read(str(tmp_path / "walk*.extxyz"))


def test_one_structure_and_lists_are_not_changed(copper):
    before = copper[0].copy()
    data = read(copper[0])
    assert len(data) == 1
    assert copper[0] == before
    assert "REF_energy" in copper[0].info
    data.structures[0].positions += 1.0
    assert copper[0] == before


def test_archives():
    for name in archive_names():
        data = read(name)
        assert data.n_structures > 0
        assert archive_path(name).is_dir()
        assert read(archive_path(name)).fingerprint() == data.fingerprint()
    with pytest.raises(LabelError, match="no built-in archive 'copper'"):
        archive_path("copper")


def test_reference_keys_come_before_the_calculator(copper, with_calculator):
    """Both are there and agree: REF_ is used. They disagree: see test_bad_input."""
    atoms = with_calculator(copper[31])
    for key in ("REF_energy", "REF_stress"):
        atoms.info[key] = copper[31].info[key]
    atoms.set_array("REF_forces", copper[31].arrays["REF_forces"])
    assert read([atoms]).label_keys[0] == "energy: REF_energy (1)"


def test_plain_keys_in_memory(copper, reference):
    for atoms in copper:
        atoms.info["energy"] = atoms.info.pop("REF_energy")
        atoms.arrays["force"] = atoms.arrays.pop("REF_forces")
        atoms.info["virials"] = -atoms.get_volume() * atoms.info.pop("REF_stress").ravel()
    same(reference, read(copper), 1e-10)


def test_explicit_keys(copper, reference):
    for atoms in copper:
        atoms.info["e_pbe"] = atoms.info["REF_energy"]
        atoms.arrays["f_pbe"] = atoms.arrays.pop("REF_forces")
        atoms.info["s_pbe"] = atoms.info.pop("REF_stress")
        atoms.info["REF_energy"] = -1e3  # of something else; not looked at
    data = read(copper, energy_key="e_pbe", forces_key="f_pbe", stress_key="s_pbe")
    same(reference, data, 1e-10)
    assert not {"e_pbe", "s_pbe", "REF_energy"} & set(data.structures[0].info)


def test_six_nine_and_matrix_are_the_same_stress(tmp_path):
    head = '1\nLattice="3 0 0 0 3 0 0 0 3" {} energy=-1.0\nCu 0 0 0\n'
    six, nine = '"1 2 3 4 5 6"', '"1 6 5 6 2 4 5 4 3"'
    path = tmp_path / "stress.extxyz"
    text = "".join(head.format(f"{key}={value}") for key in ("stress", "REF_stress")
                   for value in (six, nine))
    path.write_text(text)
    stresses = [x.stress for x in read(path, check=False).labels]
    assert len(stresses) == 4
    for stress in stresses:
        np.testing.assert_array_equal(stress, [1, 2, 3, 4, 5, 6])
    path.write_text("".join(head.format(f"{key}={value}") for key in
                            ("virial", "REF_virial", "REF_virials") for value in (six, nine)))
    for labels in read(path, check=False).labels:
        np.testing.assert_allclose(labels.stress, -np.arange(1.0, 7.0) / 27.0, rtol=1e-14)


def test_tensor_keys_inside_quoted_text_are_left_alone(tmp_path):
    path = tmp_path / "quoted.extxyz"
    path.write_text('1\nLattice="3 0 0 0 3 0 0 0 3" note="has stress=none here" energy=-1.0\n'
                    "Cu 0 0 0\n")
    assert read(path).structures[0].info["note"] == "has stress=none here"


@pytest.mark.parametrize(("order", "unit", "sign"), [
    ("vasp", "kbar", -1), ("lammps", "GPa", 1), ("vasp", "eV/A^3", 1)])
def test_conversions_undo_other_conventions(copper, reference, order, unit, sign):
    factor = {"kbar": 10 * GPA, "GPa": GPA, "eV/A^3": 1.0}[unit]
    for atoms in copper:
        voigt = full_3x3_to_voigt_6_stress(atoms.info["REF_stress"])
        foreign = np.empty(6)
        foreign[list(STRESS_ORDERS[order])] = voigt
        atoms.info["REF_stress"] = sign * factor * foreign
    same(reference, read(copper, stress_unit=unit, stress_sign=sign, stress_order=order), 1e-9)


def test_energy_per_atom(copper, reference):
    for atoms in copper:
        atoms.info["REF_energy"] /= len(atoms)
    same(reference, read(copper, energy_per_atom=True), 1e-10)


def test_families_and_isolated_atoms():
    frames = []
    for name in ("isolated_atom", "IsolatedAtom", "isolatedatom", "", "md"):
        atoms = Atoms("Cu", cell=[12, 12, 12], pbc=True)
        atoms.info.update(REF_energy=-0.5, config_type=name)
        frames.append(atoms)
    del frames[3].info["config_type"]
    data = read(frames, skip=["duplicates"])
    assert data.families == ("IsolatedAtom",) * 3 + ("default", "md")
    frames[4].info["kind"] = "liquid"
    assert read(frames, family_key="kind").families[4] == "liquid"


def test_missing_labels_are_allowed(copper):
    del copper[0].info["REF_energy"]
    del copper[1].arrays["REF_forces"]
    del copper[2].info["REF_stress"]
    data = read(copper)
    assert [len(x.present) for x in data.labels[:4]] == [2, 2, 2, 3]
    assert data.counts()["stresses"] == 40
    assert "1 structures without vacuum have no stress" in data.findings


def test_slab_stress_is_kept_and_reported(label):
    slab = label(fcc111("Cu", (1, 1, 4), vacuum=5.0, periodic=True))
    data = read([slab, label(bulk("Cu", a=3.6))])
    assert data.labels[0].stress is not None
    assert "1 stresses are of structures with vacuum" in data.findings[0]
    molecule = Atoms("Cu2", [[0, 0, 0], [0, 0, 2.4]])
    molecule.info.update(REF_energy=-1.0, REF_virial=np.eye(3))
    assert "stress left out on 1 structures whose cell has no volume" in read([molecule]).findings


def test_constant_pressure_is_a_finding(copper):
    """What the published Cu and Ni sets have: stress and energy differ by a few GPa."""
    assert not any("DISAGREE" in finding for finding in read(copper).findings)
    for atoms in copper:
        atoms.info["REF_stress"] = atoms.info["REF_stress"] + 3.0 / GPA * np.eye(3)
    found = [finding for finding in read(copper).findings if "DISAGREE" in finding]
    assert len(found) == 1
    assert "family 'strained' by a constant pressure of" in found[0]
    offset = float(found[0].split("pressure of")[1].split()[0])
    assert offset == pytest.approx(-3.0, abs=0.3)  # the trapezoidal rule leaves a few per cent
    assert found[0] in read(copper).summary()


SETS = {
    "fitsnap_Ta/fitsnap_Ta": (363, 4224, 363, ("Elastic_BCC", "Elastic_FCC")),
    "mlearn/mlearn_Cu": (293, 30594, 293, ("elastic",)),
    "mlearn/mlearn_Li": (270, 12896, 270, ()),
    "mlearn/mlearn_Ni": (294, 30578, 294, ("elastic",)),
    "mlearn/mlearn_Si": (239, 14758, 239, ()),
    "nbtaw/nbtaw": (3186, 71430, 3186, ()),
    "pypolymlp_MgO/pypolymlp_MgO": (1000, 64000, 1000, ()),
    "w_gap2014/w_gap2014": (9691, 158256, 2183, ()),
}


@pytest.mark.reference
@pytest.mark.parametrize("name", SETS)
def test_public_sets_pass_all_checks(shared, name):
    structures, atoms, stresses, disagree = SETS[name]
    start = time.perf_counter()
    data = read(shared / f"{name}.extxyz.xz")
    assert time.perf_counter() - start < 60.0  # seconds; 1 to 4 on a quiet machine
    counts = data.counts()
    assert (counts["structures"], counts["atoms"], counts["stresses"]) == (structures, atoms,
                                                                           stresses)
    assert counts["energies"] == counts["forces"] == structures
    found = [finding for finding in data.findings if "DISAGREE" in finding]
    assert len(found) == len(disagree)
    for family, finding in zip(disagree, found, strict=True):
        assert f"family {family!r}" in finding


@pytest.mark.reference
def test_published_pressure_offset_of_nickel(shared):
    """The README of the set gives 3.02 +- 0.37 GPa."""
    (found,) = [x for x in read(shared / "mlearn/mlearn_Ni.extxyz.xz").findings if "DISAGREE" in x]
    offset = float(found.split("constant pressure of")[1].split()[0])
    assert offset == pytest.approx(-3.02, abs=0.5)
