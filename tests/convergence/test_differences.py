"""Errors between two settings: energies, differences, forces, stresses; and settings themselves."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from bayespot.convergence.calculations import Outcome
from bayespot.convergence.differences import errors_of, pairs_of
from bayespot.convergence.scans import make_scan, with_value
from bayespot.errors import ConfigError

RNG = np.random.default_rng(0)


def outcome(n, energy=0.0, forces=None, stress=None):
    return Outcome(energy, np.ones((n, 3)) if forces is None else forces, stress)


def test_an_offset_per_species_is_no_error_of_differences():
    """Labels that differ by a number per atom of each species teach a potential the same."""
    frames = [bulk("Cu"), bulk("Ni"), Atoms("Cu2Ni", positions=[[0, 0, k] for k in range(3)]),
              Atoms("CuNi3", positions=[[0, 0, k] for k in range(4)])]
    offset = {"Cu": 0.3, "Ni": -0.7}
    shift = [sum(offset[s] for s in atoms.symbols) for atoms in frames]
    fine = [outcome(len(a), 1.0) for a in frames]
    coarse = [outcome(len(a), 1.0 + x) for a, x in zip(frames, shift, strict=True)]
    errors = errors_of(list(pairs_of(frames, coarse, fine).values()))
    assert errors.rms["energy"] == pytest.approx(
        np.sqrt(np.mean([(x / len(a)) ** 2 for a, x in zip(frames, shift, strict=True)])))
    assert errors.rms["energy_difference"] < 1e-12


def test_difference_is_the_standard_deviation_for_one_species():
    frames = [bulk("Cu", cubic=True) for _ in range(5)]
    d = RNG.normal(size=5)
    fine = [outcome(4) for _ in frames]
    coarse = [outcome(4, 4 * x) for x in d]
    errors = errors_of(list(pairs_of(frames, coarse, fine).values()))
    assert errors.rms["energy_difference"] == pytest.approx(np.std(d, ddof=1))
    assert errors.largest["energy_difference"] == pytest.approx(np.max(np.abs(d - d.mean())))
    one = errors_of(list(pairs_of(frames[:1], coarse[:1], fine[:1]).values()))
    assert one.rms["energy_difference"] is None
    assert one.rms["energy"] == pytest.approx(abs(d[0]))


def test_stress_is_that_of_the_nine_components():
    frames = [bulk("Cu")]
    tensor = RNG.normal(size=(3, 3))
    tensor = tensor + tensor.T
    voigt = tensor[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    errors = errors_of(list(pairs_of(
        frames, [outcome(1, stress=voigt)], [outcome(1, stress=np.zeros(6))]).values()))
    assert errors.rms["stress"] == pytest.approx(np.sqrt(np.mean(tensor**2)))


def test_what_cannot_be_compared_is_left_out():
    slab = bulk("Cu", cubic=True)
    slab.center(vacuum=6.0, axis=2)
    frames = [bulk("Cu", cubic=True), slab, bulk("Cu")]
    zero = np.zeros((4, 3))
    fine = [outcome(4, forces=zero, stress=np.zeros(6)), outcome(4, stress=np.zeros(6)),
            Outcome(failed="x")]
    coarse = [outcome(4, forces=zero + 1e-6, stress=np.ones(6)),
              outcome(4, forces=np.full((4, 3), 1.2), stress=np.full(6, 9.0)), outcome(1)]
    pairs = pairs_of(frames, coarse, fine)
    assert sorted(pairs) == [0, 1]  # a failure on either side
    assert pairs[0].forces is None  # zero by symmetry
    assert pairs[1].stress is None  # vacuum
    errors = errors_of(list(pairs.values()))
    assert errors.rms["forces"] == pytest.approx(0.2)
    assert errors.rms["stress"] == pytest.approx(1.0)
    assert errors_of([]).rms["energy"] is None


def test_values_are_placed_and_linked_without_touching_the_base():
    base = {"mode": {"name": "pw", "ecut": 300}, "xc": "PBE"}
    new = with_value(base, {"mode.ecut": 1.0, "extra.deep.rho": 8.0}, 400)
    assert new == {"mode": {"name": "pw", "ecut": 400}, "xc": "PBE",
                   "extra": {"deep": {"rho": 3200.0}}}
    assert base["mode"]["ecut"] == 300
    assert with_value({}, {"kpts": 1.0}, (4, 4, 2)) == {"kpts": [4, 4, 2]}
    with pytest.raises(ConfigError, match="xc = 'PBE' of the settings is no table"):
        with_value(base, {"xc.name": 1.0}, 1)
    with pytest.raises(ConfigError, match="cannot be multiplied by 2"):
        with_value(base, {"kpts": 2.0}, [4, 4, 4])


def test_scans_go_from_loose_to_tight():
    cutoff = make_scan("gpaw", "cutoff", [500, 200, 300])
    assert (cutoff.values, cutoff.unit) == ((200, 300, 500), "eV")
    np.testing.assert_allclose(cutoff.steps, [1 / 200, 1 / 300, 1 / 500])
    assert cutoff.settings({}, 1) == {"mode": {"ecut": 300}}
    threshold = make_scan("espresso", "scf", [1e-8, 1e-2, 1e-4])
    assert threshold.values == (1e-2, 1e-4, 1e-8)
    np.testing.assert_allclose(threshold.steps, [1e-1, 1e-2, 1e-4])  # an energy: its root
    assert make_scan("gpaw", "scf", [1e-2, 1e-4]).steps[0] == 1e-2
    mesh = make_scan("vasp", "mesh", [[4, 4, 2], [2, 2, 1]], key="kpts", tighter="larger")
    assert mesh.values == ([2, 2, 1], [4, 4, 2])
    np.testing.assert_allclose(mesh.sizes, [4 ** (1 / 3), 32 ** (1 / 3)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vasp", "cutoff", [1, 2]), "keyword of 'vasp' for it is not known .known: none."),
        (("gpaw", "bands", [1, 2]), "known: cutoff, kpoints, smearing, scf"),
        (("gpaw", "cutoff", [300]), "not two or more different values"),
        (("gpaw", "cutoff", [300, 300]), "not two or more different values"),
        (("gpaw", "cutoff", [0, 300]), "0 is not a positive number"),
        (("gpaw", "cutoff", ["a", 300]), "'a' is not a positive number"),
    ],
)
def test_mistakes_of_scans(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_scan(*arguments)
    with pytest.raises(ConfigError, match="tighter = 'larger' or tighter = 'smaller'"):
        make_scan("vasp", "bands", [1, 2], key="nbands")
    with pytest.raises(ConfigError, match="'more' is neither"):
        make_scan("gpaw", "cutoff", [1, 2], tighter="more")
