"""Observables against an ideal gas, perfect lattices, and free Langevin particles."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin

from bayespot.dynamics import (
    diffusion,
    mean_square_displacement,
    over_draws,
    radial_distribution,
    reweight,
)
from bayespot.errors import PropertyError, SpeciesError


def gas(n_frames, n, seed=0):
    rng = np.random.default_rng(seed)
    cell = np.array([[12.0, 0, 0], [3.0, 11.0, 0], [-2.0, 1.0, 13.0]])
    symbols = ["Ar"] * (n // 2) + ["Ne"] * (n - n // 2)
    return [
        Atoms(symbols, positions=(rng.random((n, 3)) + 5.0) @ cell, cell=cell, pbc=True)
        for _ in range(n_frames)
    ]


@pytest.mark.parametrize("pair", [None, ("Ar", "Ar"), ("Ar", "Ne")])
def test_an_ideal_gas_has_one(pair):
    found = radial_distribution(gas(400, 24), r_max=5.0, bins=10, pair=pair)
    z = (found.value - 1.0) / found.error
    assert np.abs(z[2:]).max() < 4.0  # the innermost shells hold a handful of pairs
    assert found.error[-1] < 0.03


@pytest.mark.parametrize(("crystal", "a", "shells"), [
    ("diamond", 5.43, [(np.sqrt(3) / 4, 4), (np.sqrt(0.5), 12), (np.sqrt(11) / 4, 12)]),
    ("fcc", 4.05, [(np.sqrt(0.5), 12), (1.0, 6), (np.sqrt(1.5), 24)]),
])  # fmt: skip
def test_a_lattice_has_its_shells(crystal, a, shells):
    symbol = {"diamond": "Si", "fcc": "Al"}[crystal]
    atoms = bulk(symbol, crystal, a=a, cubic=True).repeat(3)
    found = radial_distribution([atoms], r_max=1.3 * a, bins=400)
    volumes = 4.0 / 3.0 * np.pi * np.diff(found.edges**3)
    neighbors = found.value * volumes * (len(atoms) - 1) / atoms.get_volume()
    for ratio, number in shells:
        near = np.abs(found.r - ratio * a) < 0.05
        assert neighbors[near].sum() == pytest.approx(number, rel=1e-9)
    assert found.value[found.r < 0.95 * shells[0][0] * a].max() == 0.0


def test_it_follows_the_weights_of_the_draws():
    """Two kinds of frames, and draws that know only one of them each."""
    frames = gas(200, 10) + gas(200, 10, seed=1)
    for atoms in frames[200:]:
        atoms.set_cell(1.5 * atoms.cell.array, scale_atoms=True)
    found = radial_distribution(frames, r_max=5.0, bins=5)
    energy = np.zeros(400)
    draws = np.zeros((400, 2))
    draws[200:, 0] = draws[:200, 1] = 5.0
    averages = found.of_draws(reweight(draws, energy, 300.0, enough=0.0))
    np.testing.assert_allclose(averages.value[0], found.frames[:200].mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(averages.value[1], found.frames[200:].mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(averages.reference, found.value, rtol=1e-10)


def test_displacements_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 5, 3)).cumsum(axis=0) + 100.0
    for drift in (True, False):
        moved = x - x.mean(axis=1, keepdims=True) if drift else x
        direct = [((moved[m:] - moved[: len(x) - m]) ** 2).sum(axis=2).mean() for m in range(40)]
        np.testing.assert_allclose(
            mean_square_displacement(x, remove_drift=drift), direct, rtol=1e-9, atol=1e-9
        )
    line = np.arange(30)[:, None, None] * np.array([1.0, 2.0, -2.0])
    found = mean_square_displacement(line + np.zeros((30, 4, 3)), remove_drift=False)
    np.testing.assert_allclose(found, 9.0 * np.arange(30) ** 2, rtol=1e-9, atol=1e-9)


class Nothing(Calculator):
    """No forces."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=None, system_changes=None):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def test_free_langevin_particles_diffuse_as_einstein_says():
    """D = kT / (m gamma), within its error bar, which is a small one."""
    friction, temperature, steps, every, dt = 0.05, 500.0, 3000, 5, 2.0
    rng = np.random.default_rng(4)
    atoms = Atoms("Ar200", positions=10.0 * rng.random((200, 3)), cell=[10.0] * 3, pbc=True)
    atoms.calc = Nothing()
    mass = atoms.get_masses()[0]
    thermal = np.sqrt(units.kB * temperature * mass)
    atoms.set_momenta(thermal * rng.standard_normal((200, 3)))
    md = Langevin(atoms, dt * units.fs, temperature_K=temperature, friction=friction / units.fs,
                  fixcm=False, rng=rng)  # fmt: skip
    track = []
    md.attach(lambda: track.append(atoms.get_positions()), interval=every)
    md.run(steps)
    found = diffusion(np.array(track), frame_fs=every * dt, window_fs=(100.0, 600.0),
                      remove_drift=False)  # fmt: skip
    exact = units.kB * temperature / mass / (friction / units.fs) * units.fs  # Å^2/fs
    assert found.error < 0.06 * exact
    assert abs(found.value - exact) < 3.5 * found.error
    assert found.cm2_per_s == pytest.approx(0.1 * found.value)
    # the whole curve: MSD = 6 D [t - (1 - exp(-gamma t)) / gamma]
    t = found.lags[1:61]
    curve = 6.0 * exact * (t - (1.0 - np.exp(-friction * t)) / friction)
    np.testing.assert_allclose(found.msd[1:61], curve, rtol=0.08)
    several = diffusion(np.array_split(np.array(track), 4), frame_fs=every * dt,
                        window_fs=(100.0, 600.0), remove_drift=False)  # fmt: skip
    assert len(several.parts) == 4
    assert abs(several.value - exact) < 4.0 * several.error


def test_spread_over_draws_without_the_noise_of_each():
    rng = np.random.default_rng(1)
    true = 3.0 + 0.5 * rng.standard_normal(4000)
    errors = np.full(4000, 0.4)
    found = over_draws(true + errors * rng.standard_normal(4000), errors)
    assert found.parameter_std == pytest.approx(0.5, rel=0.06)
    assert found.statistical_error == pytest.approx(0.4 / np.sqrt(4000))
    alike = over_draws(1.0 + 0.1 * np.array([1.0, -1.0, 0.5]), np.full(3, 0.4))
    assert alike.parameter_std == 0.0
    missing = over_draws(np.array([1.0, np.nan, 2.0]), np.array([0.1, np.nan, 0.1]))
    assert (missing.n, missing.without) == (2, (1,))
    with pytest.raises(PropertyError, match="1 of 2 draws"):
        over_draws(np.array([1.0, np.nan]), np.zeros(2))


def test_what_makes_no_sense_is_refused():
    atoms = bulk("Si", cubic=True).repeat(2)
    with pytest.raises(PropertyError, match=r"r_max=6.000 Å is more than half"):
        radial_distribution([atoms], r_max=6.0)
    with pytest.raises(SpeciesError, match="Ge is not in Si64"):
        radial_distribution([atoms], r_max=5.0, pair=("Si", "Ge"))
    with pytest.raises(PropertyError, match="at least one frame"):
        radial_distribution([], r_max=5.0)
    atoms.pbc = (True, True, False)
    with pytest.raises(PropertyError, match="not periodic in three directions"):
        radial_distribution([atoms], r_max=5.0)
    x = np.zeros((50, 2, 3))
    with pytest.raises(PropertyError, match="length of the shortest part"):
        diffusion(x, frame_fs=1.0, window_fs=(1.0, 20.0))
    with pytest.raises(PropertyError, match="no error bar"):
        diffusion(x, frame_fs=1.0, window_fs=(1.0, 20.0), blocks=1)
    with pytest.raises(PropertyError, match="a line needs three"):
        diffusion(x, frame_fs=1.0, window_fs=(1.0, 2.0))
    x[3, 0, 1] = np.nan
    with pytest.raises(PropertyError, match="finite"):
        mean_square_displacement(x)
