"""Every kind of bad input has its own message, with the way out in it."""

from __future__ import annotations

import lzma

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import Bohr, Hartree

from bayespot.data.checks import CHECKS
from bayespot.data.labels import STRESS_ORDERS
from bayespot.data.read import read
from bayespot.errors import LabelError, SpeciesError, StructureError, UnitError
from bayespot.units import GPA, VOIGT

FRAME = ('2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:REF_forces:R:3 '
         'REF_energy=-1.0 pbc="T T T"\nCu 0 0 0 0.1 0 0\nCu 2 2 2 -0.1 0 0\n')


def save(folder, text, name="bad.extxyz"):
    path = folder / name
    path.write_text(text)
    return path


# ---------------------------------------------------------------- files

def test_good_frame_is_good(tmp_path):
    assert len(read(save(tmp_path, FRAME * 3 + "\n" + FRAME))) == 4  # blank lines lose nothing


def test_missing_file_suggests_a_name(tmp_path):
    save(tmp_path, FRAME, "training.extxyz")
    with pytest.raises(LabelError, match=r"no file or built-in arch.*did you mean 'training.ext"):
        read(tmp_path / "trainng.extxyz")
    with pytest.raises(LabelError, match="there is no folder"):
        read(tmp_path / "nowhere" / "data.extxyz")


def test_empty_file(tmp_path):
    with pytest.raises(LabelError, match=r"bad\.extxyz: the file is empty"):
        read(save(tmp_path, ""))
    with pytest.raises(LabelError, match="no structures in it"):
        read(save(tmp_path, "\n\n"))
    with pytest.raises(LabelError, match="list of Atoms: no structures"):
        read([])


def test_unknown_suffix(tmp_path):
    with pytest.raises(LabelError, match=r"data\.foo: ASE does not recognise this file"):
        read(save(tmp_path, "nothing that anyone knows\n", "data.foo"))


def test_folder(tmp_path):
    with pytest.raises(LabelError, match=r"is a folder; name a file or a glob"):
        read(tmp_path)


def test_truncated_file_names_the_frame(tmp_path):
    cut = "".join((FRAME * 3).splitlines(keepends=True)[:-1])
    with pytest.raises(StructureError,
                       match=r"bad\.extxyz, frame 2 \(line 9\): 2 atoms announced, 1 lines left"):
        read(save(tmp_path, cut))


def test_line_lost_in_the_middle(tmp_path):
    lines = (FRAME * 3).splitlines(keepends=True)
    with pytest.raises(StructureError, match=r"frame 1 \(line 5\): not extended XYZ"):
        read(save(tmp_path, "".join(lines[:6] + lines[7:])))
    with pytest.raises(StructureError, match=r"frame 1 .*expected a number of atoms, found 'Cu 2"):
        read(save(tmp_path, "".join([*lines[:4], lines[3], *lines[4:]])))


def test_truncated_archive(tmp_path):
    path = tmp_path / "bad.extxyz.xz"
    path.write_bytes(lzma.compress((FRAME * 50).encode())[:-40])
    with pytest.raises(LabelError, match="cannot be decompressed"):
        read(path)


def test_binary_rubbish(tmp_path):
    path = tmp_path / "bad.extxyz"
    path.write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(LabelError, match="byte 0 is not UTF-8"):
        read(path)
    path = tmp_path / "bad.db"
    path.write_bytes(b"\xff\xfe\x00\x01" * 1000)
    with pytest.raises(LabelError, match="not an ASE database"):
        read(path)


def test_damaged_dft_output(tmp_path):
    with pytest.raises(StructureError, match=r"vasprun\.xml, frame 0: ASE cannot read it"):
        read(save(tmp_path, "<?xml version='1.0'?>\n<modeling>\n <calculation>\n", "vasprun.xml"))


def test_not_atoms():
    with pytest.raises(StructureError, match="item 1 of the list is str"):
        read([bulk("Cu"), "Cu"])


# ---------------------------------------------------------------- labels

def test_no_labels_lists_the_keys(tmp_path):
    text = FRAME.replace("REF_forces", "f_dft").replace("REF_energy", "E_dft")
    with pytest.raises(LabelError, match=r"no energies, forces or stresses in any of 1 frames\. "
                                         r"Keys found: E_dft, f_dft\. .*energy_key="):
        read(save(tmp_path, text))


def test_structures_to_be_calculated_need_no_labels(tmp_path):
    text = FRAME.replace("REF_forces", "f_dft").replace("REF_energy", "E_dft")
    (tmp_path / "a.xyz").write_text(text)
    dataset = read(tmp_path / "a.xyz", require_labels=False)
    assert len(dataset) == 1
    assert dataset.labels[0].present == ()


def test_requested_key_is_nowhere(tmp_path):
    with pytest.raises(LabelError, match="no frame has energy_key='REF_energi'; did you mean 'REF"):
        read(save(tmp_path, FRAME), energy_key="REF_energi")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("REF_energy=-1.0", "REF_energy=nan", r"frame 1: REF_energy = nan is not finite; a missing"),
    ("REF_energy=-1.0", "REF_energy=-inf", r"frame 1: REF_energy = -inf is not finite"),
    ("REF_energy=-1.0", "REF_energy=none", r"REF_energy = 'none' is not a number"),
    ("REF_energy=-1.0", "REF_energy", r"REF_energy = True is not a number"),
    ("REF_energy=-1.0", 'REF_energy="-1.0 -2.0"', r"an energy is one number"),
    ("-0.1 0 0", "-0.1 nan 0", r"frame 1: REF_forces\[1, 1\] = nan is not finite"),
    ("REF_energy=-1.0", 'REF_energy=-1.0 REF_stress="1 2 3"', r"REF_stress has shape \(3,\)"),
    ("REF_energy=-1.0", 'REF_energy=-1.0 REF_stress="0 1 0 0 0 0 0 0 0"',
     r"REF_stress is not symmetric \(off-diagonal elements differ by 1\)"),
    ("REF_energy=-1.0", 'REF_energy=-1.0 stress="0 1 0 0 0 0 0 0 0"', r"stress is not symmetric"),
    ("REF_energy=-1.0", 'REF_energy=-1.0 virial="nan 0 0 0 0 0 0 0 0"',
     r"virial\[0\] = nan is not finite"),
])
def test_labels_that_cannot_be(tmp_path, old, new, message):
    with pytest.raises(LabelError, match=message):
        read(save(tmp_path, FRAME + FRAME.replace(old, new)))


def test_forces_of_wrong_shape(tmp_path):
    text = FRAME.replace("REF_forces:R:3", "REF_forces:R:2").replace("0.1 0 0", "0.1 0")
    with pytest.raises(LabelError, match=r"REF_forces has shape \(2, 2\); 2 atoms need \(2, 3\)"):
        read(save(tmp_path, text))
    atoms = bulk("Cu")
    atoms.calc = SinglePointCalculator(atoms, forces=np.zeros((5, 3)))
    with pytest.raises(LabelError, match=r"frame 0: forces has shape \(5, 3\); 1 atoms need"):
        read([atoms])


def test_two_energies_contradict(copper, with_calculator):
    atoms = with_calculator(copper[0])
    atoms.info["REF_energy"] = copper[0].info["REF_energy"] - 0.5
    with pytest.raises(LabelError, match=r"REF_energy and energy contradict each other by up to "
                                         r"0\.5 eV; .*energy_key='REF_energy' or energy_key='ene"):
        read([atoms])
    read([atoms], energy_key="REF_energy")
    # a REF_energy that is the calculator's free energy contradicts nothing
    read([with_calculator(copper[0], free_energy=atoms.info["REF_energy"])])


def test_calculator_and_info_contradict(copper, with_calculator):
    atoms = with_calculator(copper[0])
    atoms.info["energy"] = 5.0
    with pytest.raises(LabelError, match="calculator's energy and the energy in info or arrays"):
        read([atoms])


def test_two_forces_contradict(copper, with_calculator):
    atoms = with_calculator(copper[31])
    atoms.set_array("REF_forces", 2.0 * copper[31].arrays["REF_forces"])
    with pytest.raises(LabelError, match="REF_forces and forces contradict each other"):
        read([atoms])


def test_stress_and_virial_contradict(copper):
    copper[0].info["REF_virial"] = copper[0].get_volume() * copper[0].info["REF_stress"]
    with pytest.raises(LabelError, match=r"frame 0: REF_stress and REF_virial contradict .*agree "
                                         r"with one sign changed.*virial_key='REF_virial'"):
        read(copper)
    copper[0].info["REF_virial"] *= -1
    read(copper)


def test_stress_key_that_names_a_virial(copper):
    with pytest.raises(LabelError, match="pass virial_key='REF_virial' instead"):
        read(copper, stress_key="REF_virial")
    with pytest.raises(LabelError, match="are both given; name one"):
        read(copper, stress_key="a", virial_key="b")


def test_unknown_conventions_and_checks(copper):
    with pytest.raises(UnitError, match="stress_unit='Gpa' is not known; did you mean 'GPa'"):
        read(copper, stress_unit="Gpa")
    with pytest.raises(UnitError, match="stress_order='voigt' is not known"):
        read(copper, stress_order="voigt")
    with pytest.raises(UnitError, match="stress_sign=0; use 1"):
        read(copper, stress_sign=0)
    with pytest.raises(LabelError, match="skip='overlaps' is no check; did you mean 'overlap'"):
        read(copper, skip=["overlaps"])


def test_zeros_instead_of_a_missing_stress(copper):
    copper[33].info["REF_stress"] = np.zeros((3, 3))
    with pytest.raises(LabelError, match="frame 33: the stress is exactly zero"):
        read(copper)
    read(copper, skip="placeholders")


def test_net_force(copper):
    copper[32].arrays["REF_forces"][1] = 0.0
    with pytest.raises(LabelError, match=r"frame 32: the forces sum to .*rows may be missing"):
        read(copper)


def test_same_structure_with_two_labels(copper):
    twin = copper[3].copy()
    assert "1 structures occur more than once" in read([*copper, twin]).findings[0]
    twin.info["REF_energy"] += 0.1
    with pytest.raises(LabelError, match="frame 3 and list of Atoms, frame 41 are the same struct"):
        read([*copper, twin])


# ---------------------------------------------------------------- structures

def test_overlapping_atoms(copper):
    copper[2].positions[1] = copper[2].positions[0] + [0.3, 0, 0]
    with pytest.raises(StructureError, match=r"frame 2: atoms 0 and 1 \(Cu-Cu\) are 0\.300 Å"):
        read(copper)
    tiny = Atoms("Cu", cell=[0.6, 4, 4], pbc=True, info={"REF_energy": -1.0})
    with pytest.raises(StructureError, match=r"atoms 0 and 0 .* 0\.600 Å apart"):
        read([tiny])
    assert len(read([tiny], skip=["overlap"])) == 1


def test_positions_not_finite(tmp_path):
    with pytest.raises(StructureError, match=r"frame 0: position\[1, 2\] = nan is not finite"):
        read(save(tmp_path, FRAME.replace("Cu 2 2 2", "Cu 2 2 nan")))


def test_periodic_without_volume(tmp_path):
    flat = FRAME.replace("0 4 0 0 0 4", "0 4 0 0 4 0")
    with pytest.raises(StructureError, match=r"periodic in 3 direction.*encloses nothing"):
        read(save(tmp_path, flat))


def test_unknown_species(tmp_path):
    with pytest.raises(SpeciesError, match=r"frame 0: atom 1 has atomic number 0 \('X'\)"):
        read(save(tmp_path, FRAME.replace("Cu 2 2 2", "X 2 2 2")))
    with pytest.raises(SpeciesError, match=r"'Qq' is neither a chemical element"):
        read(save(tmp_path, FRAME.replace("Cu 2 2 2", "Qq 2 2 2")))


def test_no_atoms(tmp_path):
    empty = '0\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 REF_energy=0.0\n'
    with pytest.raises(StructureError, match="frame 1: no atoms"):
        read(save(tmp_path, FRAME + empty))


# ---------------------------------------------------------------- physics

def spoil(frames, *, energy=None, forces=None, stress=None):
    """Frames with labels changed by functions of (label, atoms)."""
    for atoms in frames:
        if energy:
            atoms.info["REF_energy"] = energy(atoms.info["REF_energy"], atoms)
        if forces:
            atoms.arrays["REF_forces"] = forces(atoms.arrays["REF_forces"], atoms)
        if stress:
            voigt = np.array([atoms.info["REF_stress"][i, j] for i, j in VOIGT])
            atoms.info["REF_stress"] = stress(voigt, atoms)
    return frames


def raw(order):
    """Order of the components as another code writes them."""
    return list(np.argsort(STRESS_ORDERS[order]))


STRESS_MISTAKES = {
    "sign": (lambda s, a: -s, LabelError, "of opposite sign .*stress_sign=-1"),
    "GPa": (lambda s, a: s * GPA, UnitError, "in GPa .*stress_unit='GPa'"),
    "kbar of VASP": (lambda s, a: -10 * GPA * s[raw("vasp")], UnitError,
                     "in kbar .*opposite sign.*order of VASP: pass stress_order='vasp'"),
    "virial": (lambda s, a: -a.get_volume() * s, UnitError, r"a virial .*virial_key=\.\.\."),
    "converted twice": (lambda s, a: s / GPA, UnitError, "converted from GPa once too often"),
    "VASP's order": (lambda s, a: s[raw("vasp")], LabelError, "pass stress_order='vasp'"),
    "LAMMPS' order": (lambda s, a: s[raw("lammps")], LabelError, "pass stress_order='lammps'"),
    "reordered twice": (lambda s, a: s[list(STRESS_ORDERS["vasp"])], LabelError,
                        "leave stress_order='vasp' out"),
    "yz and xz swapped": (lambda s, a: s[[0, 1, 2, 4, 3, 5]], LabelError,
                          "xz where yz belongs, yz where xz belongs"),
}


@pytest.mark.parametrize("mistake", STRESS_MISTAKES)
def test_stress_against_energy(copper, mistake):
    change, error, message = STRESS_MISTAKES[mistake]
    spoil(copper, stress=change)
    with pytest.raises(error, match=rf"family 'strained' do not fit the energies.*{message}"):
        read(copper)
    read(copper, check=False)


def test_the_way_out_is_a_way_out(copper):
    """What the messages propose makes the same data pass."""
    spoil(copper, stress=lambda s, a: -10 * GPA * s[raw("vasp")])
    read(copper, stress_unit="kbar", stress_sign=-1, stress_order="vasp")
    for atoms in copper:
        atoms.info["w"] = atoms.info.pop("REF_stress")
    with pytest.raises(UnitError, match=r"converted from|in kbar|ten times"):
        read(copper, stress_key="w", stress_unit="GPa", stress_sign=-1, stress_order="vasp")


def test_only_one_family_is_wrong(copper):
    """A set glued together from two sources, as in the wild."""
    other = spoil([atoms.copy() for atoms in copper if atoms.info["config_type"] == "strained"],
                  stress=lambda s, a: s[raw("lammps")])
    for atoms in other:
        atoms.info["config_type"] = "second"
        atoms.rattle(1e-5)
    with pytest.raises(LabelError, match=r"family 'second'.*stress_order='lammps'"):
        read([*copper, *other])


def volume_scan(label):
    frames = []
    for a in np.linspace(3.3, 3.9, 9):
        for n in (1, 2):  # different cells, so that no pair of structures can be compared
            frames.append(label(bulk("Cu", a=a + 0.01 * n).repeat((n, 1, 1))))
    return frames


def test_pressure_has_to_fall_with_volume(label):
    frames = spoil(volume_scan(label), stress=lambda s, a: -s)
    with pytest.raises(LabelError, match=r"opposite sign: pressure .* rises with volume"):
        read(frames, skip=["stress_energy"])


@pytest.mark.parametrize("factor", [GPA, 10 * GPA])
def test_stress_far_too_large(label, factor):
    frames = spoil(volume_scan(label), stress=lambda s, a: factor * s)
    with pytest.raises(UnitError, match=r"too large to be eV/Å\^3.*stress_unit='GPa'"):
        read(frames, skip=["stress_energy"])


def test_energies_per_atom(copper):
    spoil(copper, energy=lambda e, a: (e - 3.5 * len(a)) / len(a))
    with pytest.raises(UnitError, match=r"energies of Cu look per atom.*energy_per_atom=True"):
        read(copper)
    read(copper, energy_per_atom=True)


def test_energies_per_atom_in_cells_of_one_size(copper):
    strained = spoil(copper[:30], energy=lambda e, a: e / len(a))
    with pytest.raises(UnitError, match=r"do not fit the energies.*energy_per_atom=True"):
        read(strained)
    rattled = spoil(copper[30:38], energy=lambda e, a: e / len(a))
    with pytest.raises(UnitError, match=r"looks like .*energies per atom.*energy_per_atom=True"):
        read(rattled)


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"forces": lambda f, a: -f}, LabelError, "gradients, not forces"),
    ({"forces": lambda f, a: f * Bohr / Hartree}, UnitError, "forces in Hartree/Bohr"),
    ({"energy": lambda e, a: e / Hartree}, UnitError, "energies in Hartree")])
def test_forces_against_energy(copper, change, error, message):
    frames = spoil(copper[30:38], **change)
    with pytest.raises(error, match=rf"forces and energies of family 'rattled'.*{message}"):
        read(frames)


def test_every_message_of_a_check_names_the_check(copper):
    """Otherwise nobody finds the way out of a false alarm."""
    spoil(copper, stress=lambda s, a: -s)
    with pytest.raises(LabelError, match=r"skip=\['stress_energy'\]"):
        read(copper)
    read(copper, skip=["stress_energy", "pressure_volume"])
    assert {"overlap", "net_force", "duplicates", "stress_energy"} < set(CHECKS)


def test_slabs_do_not_confuse_the_checks(label, tmp_path):
    """Their stress depends on the vacuum, not on the material."""
    frames = [label(fcc111("Cu", (1, 1, 3), a=3.6, vacuum=v, periodic=True))
              for v in (5.0, 6.0, 7.0, 8.0, 9.0, 10.0)]
    for atoms in frames:
        atoms.info.pop("adsorbate_info")
    write(tmp_path / "slabs.extxyz", frames, format="extxyz")
    data = read(tmp_path / "slabs.extxyz")
    assert "6 stresses are of structures with vacuum" in data.findings[0]
