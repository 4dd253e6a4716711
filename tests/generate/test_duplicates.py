"""The distance of environments: what changes it and what does not, and orderings it must find."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from scipy.special import eval_legendre
from scipy.stats import special_ortho_group

from bayespot.errors import StructureError
from bayespot.generate.alloys import alloys, decorations, mixed_volume
from bayespot.generate.crystals import repeated, space_group
from bayespot.generate.duplicates import Fingerprint, distance, drop_duplicates, fingerprint_for
from bayespot.generate.frames import minimum_distance

PARENT = bulk("NaCl", "rocksalt", a=5.6)
PRINT = fingerprint_for([PARENT], ["Na", "Cl"])


@pytest.fixture
def frame():
    atoms = PARENT.repeat((2, 1, 1))
    atoms.rattle(0.15, seed=3)
    return atoms


def test_the_formula_is_the_formula(frame):
    """The docstring's double sum over neighbors, by hand."""
    found = PRINT.environments(frame)[1] * PRINT.scale
    i, j, r, vector = neighbor_list("ijdD", frame, PRINT.cutoff)
    mine = i == 1
    symbols = np.array(frame.get_chemical_symbols())[j[mine]]
    r, unit = r[mine], (vector / r[:, None])[mine]
    radial = (np.exp(-0.5 * ((r[:, None] - PRINT.centers) / PRINT.width) ** 2)
              * 0.5 * (1 + np.cos(np.pi * r / PRINT.cutoff))[:, None])
    features = np.concatenate([radial * (symbols == s)[:, None] for s in ("Cl", "Na")], axis=1)
    spectrum = []
    for ell in range(5):
        table = features.T @ eval_legendre(ell, unit @ unit.T) @ features
        spectrum.append(table[np.triu_indices(len(table))])
    spectrum = np.concatenate(spectrum)
    np.testing.assert_allclose(found, spectrum / np.sqrt(np.linalg.norm(spectrum)), atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_what_does_not_change_it(frame, seed):
    rng = np.random.default_rng(seed)
    turn = special_ortho_group.rvs(3, random_state=seed)
    same = {"rotation": frame.copy(), "reflection": frame.copy(), "order": frame.copy(),
            "translation": frame.copy(), "lattice vectors": frame.copy()}
    same["rotation"].set_cell(frame.cell.array @ turn, scale_atoms=True)
    same["reflection"].set_cell(frame.cell.array @ np.diag([1, 1, -1]), scale_atoms=True)
    same["order"] = frame[rng.permutation(len(frame))]
    same["translation"].positions += rng.normal(size=3)
    same["translation"].wrap()
    same["lattice vectors"].set_cell(np.array([[1, 0, 0], [1, 1, 0], [-2, 3, 1]])
                                     @ frame.cell.array)
    same["supercell"] = repeated(frame, np.array([[1, 1, 0], [0, 2, 1], [0, 0, 2]]))
    for name, atoms in same.items():
        assert distance(frame, atoms, PRINT) < 1e-6, name


def test_it_is_a_length():
    """A random displacement of s has a distance of about s in the median over atoms."""
    rng = np.random.default_rng(1)
    for step in (0.005, 0.02, 0.08):
        gaps = []
        for seed in range(12):
            first = PARENT.repeat(2)
            first.rattle(0.15, seed=seed)
            second = first.copy()
            second.positions += rng.normal(0.0, step, second.positions.shape)
            gaps += list(np.linalg.norm(PRINT.environments(first) - PRINT.environments(second),
                                        axis=1))
        assert np.median(gaps) == pytest.approx(step, rel=0.25)


def test_what_changes_it(frame):
    """Strain, one displaced atom in many, and species count."""
    strained = frame.copy()
    strained.set_cell(frame.cell.array * 1.01, scale_atoms=True)
    moved = frame.copy()
    moved.positions[0] += [0.05, 0.0, 0.0]
    exchanged = frame.copy()
    exchanged.numbers = frame.numbers[::-1]
    other = frame.copy()
    other.numbers[frame.numbers == 11] = 19
    assert distance(frame, strained, PRINT) > 0.01
    assert distance(frame, moved, PRINT) > 0.01
    assert distance(frame, exchanged, PRINT) > 0.05
    assert distance(frame, other, fingerprint_for([PARENT], ["Na", "Cl", "K"])) == np.inf


def test_near_duplicates_are_dropped_and_counted():
    """The shortcuts by lengths of vectors leave what a comparison of all pairs leaves."""
    rng = np.random.default_rng(5)
    frames = []
    for k in range(30):
        atoms = PARENT.repeat((2, 1, 1)) if k % 2 else PARENT.copy()
        atoms.positions += rng.normal(0.0, rng.choice([0.003, 0.02, 0.1]), (len(atoms), 3))
        frames.append(atoms)
    kept, dropped = drop_duplicates(frames, PRINT, 0.02)
    slow = []
    for atoms in frames:
        if all(distance(atoms, other, PRINT) > 0.02 for other in slow):
            slow.append(atoms)
    assert len(kept) + len(dropped) == 30
    assert 5 < len(kept) < 27
    assert [a.positions.tobytes() for a in kept] == [a.positions.tobytes() for a in slow]
    for one in dropped:
        assert one.distance <= 0.02
        assert distance(one.structure, kept[one.twin], PRINT) == pytest.approx(one.distance)


def test_orderings_of_fcc_and_bcc():
    """29 of up to four atoms on fcc, the known number (2, 2, 6 and 19 of 1, 2, 3 and 4 atoms).

    Hart and Forcade, Phys. Rev. B 77, 224115 (2008); L1_0, L1_1, L1_2 and D0_22 are among them.
    """
    found = decorations(bulk("Al", a=4.0), ["Al", "Cu"], 4)
    counts = np.bincount([len(a) for a in found])
    assert list(counts) == [0, 2, 2, 6, 19]
    groups = [space_group(a) for a in found]
    for formula, group in (("AlCu", 123), ("AlCu", 166), ("Al3Cu", 221), ("AlCu3", 221),
                           ("Al3Cu", 139)):
        assert any(a.get_chemical_formula() == formula and g == group
                   for a, g in zip(found, groups, strict=True)), (formula, group)
    b2 = [a for a in decorations(bulk("Fe", "bcc", a=2.8), ["Al", "Fe"], 2) if len(a) == 2]
    assert sorted(space_group(a) for a in b2) == [65, 221]  # B2, and alternating (110) planes


def test_alloys_have_mixed_volumes():
    site = bulk("Al", a=4.0)
    volumes = {"Al": 16.0, "Cu": 12.0}
    frames = alloys(site, 12, 0, volumes=volumes, most=8, volume=(0.0, 0.0), rattle=(0.0, 0.0))
    for frame in frames:
        assert len(set(frame.symbols)) == 2
        assert frame.cell.volume == pytest.approx(mixed_volume(frame, volumes))
        assert frame.info["config_type"] == "alloy"
    assert {len(f) for f in frames if f.info["variant"] == "random"} == {8}
    compositions = {f.get_chemical_formula() for f in frames if f.info["variant"] == "random"}
    assert len(compositions) > 2
    with pytest.raises(StructureError, match="two species"):
        alloys(site, 1, 0, volumes={"Al": 16.0})


def test_an_atom_alone_has_an_environment_of_nothing():
    alone = Atoms("Na", cell=[30, 30, 30], pbc=True)
    assert np.all(Fingerprint(5.0, ["Na"], 0.4).environments(alone) == 0.0)
    assert minimum_distance(alone, 12.0) == np.inf
