"""Derivatives of relaxed states against closed forms and against relaxing."""

import numpy as np
import pytest
from ase.build import bulk
from closed_forms import lennard_jones_fcc
from drawn import ARGON, SHELLS, SILICON, argon, silicon

from bayespot.errors import PropertyError
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.properties import (
    DrawSurfaces,
    elastic,
    lattice,
    surfaces_of,
    vacancy,
)
from bayespot.properties.implicit import (
    ImplicitSurfaces,
    free_directions,
    principal_directions,
)
from bayespot.properties.relaxing import Coordinates
from bayespot.units import GPA

# --- directions -----------------------------------------------------------------------------


def test_directions_hold_every_draw():
    draws, epsilon, sigma = argon()
    around, z = principal_directions(draws, 0.5)
    assert z.shape == (48, 2)
    np.testing.assert_allclose(np.cov(z, rowvar=False), np.eye(2), atol=1e-12)
    for name, drawn in (("epsilon", epsilon), ("sigma", sigma)):
        values = np.asarray(getattr(around, name))[:, 0]
        assert values[0] == pytest.approx(drawn.mean())
        slope = (values[1:3] - values[3:5]) / (2 * 0.5)
        np.testing.assert_allclose(values[0] + z @ slope, drawn, rtol=1e-12)
    assert np.ptp(np.asarray(around.cutoff)) == 0.0


def test_fewer_draws_than_parameters_leave_fewer_directions():
    draws = silicon(3, 0.02)
    around, z = principal_directions(draws, 1.0)
    assert z.shape == (3, 2)
    assert len(np.asarray(around.D)) == 5
    with pytest.raises(PropertyError, match="do not differ"):
        principal_directions(silicon(3, 0.0), 1.0)


@pytest.mark.parametrize(("cell", "r"), [("fixed", 9), ("volume", 10), ("shape", 14), ("all", 15)])
def test_directions_that_change_the_energy(cell, r):
    """Orthonormal, and along what is left out there is no force, in cells without symmetry too."""
    basis = free_directions(4, cell)
    assert basis.shape == (21, r)
    np.testing.assert_allclose(basis.T @ basis, np.eye(r), atol=1e-12)
    atoms = bulk("Si", "diamond", a=5.43).repeat((2, 1, 1))
    atoms.rattle(0.05, seed=1)
    surfaces = surfaces_of(StillingerWeber.silicon_1985())
    frames = surfaces.everywhere(atoms)
    space = Coordinates(frames, cell)
    gradient = space.gradient(np.array([0]), space.x, surfaces.evaluate(frames))[0]
    np.testing.assert_allclose(basis @ (basis.T @ gradient), gradient, atol=1e-9)
    assert np.linalg.norm(gradient) > 0.1


# --- closed forms ---------------------------------------------------------------------------


def test_lennard_jones_scales():
    """a is proportional to sigma, the cohesive energy to epsilon: first order is everything."""
    draws, epsilon, sigma = argon()
    surfaces = ImplicitSurfaces(draws)
    found = lattice(surfaces, ARGON)
    exact = [lennard_jones_fcc(e, s, SHELLS) for e, s in zip(epsilon, sigma, strict=True)]
    a = np.sqrt(2.0) * np.array([one["distance"] for one in exact])
    # One Newton step along s = ln(sigma) ends at s + 9 s² + 42 s³: 42 s² is left of differences.
    s = surfaces.step * 0.01
    made = surfaces.to_draws(found["a"].values)
    assert np.abs(made - a).max() < 50.0 * s**2 * np.ptp(a)
    np.testing.assert_allclose(
        surfaces.to_draws(found["cohesive energy"].values), [-one["energy"] for one in exact],
        rtol=1e-8,
    )  # fmt: skip


def test_derivative_of_the_bulk_modulus():
    """B = 4 epsilon A6²/(A12 V): d ln B = d ln epsilon - 3 d ln sigma."""
    draws, epsilon, sigma = argon()
    surfaces = ImplicitSurfaces(draws)
    made = surfaces.to_draws(elastic(surfaces, ARGON)["B Hill"].values)
    centre = lennard_jones_fcc(epsilon.mean(), sigma.mean(), SHELLS)["B"] * GPA
    slope = centre * (epsilon / epsilon.mean() - 1.0 - 3.0 * (sigma / sigma.mean() - 1.0))
    # The 42 s³ of the test above are lengths, and ln B goes with -3 B' = -24 of them.
    s = surfaces.step * 0.01
    np.testing.assert_allclose(made, centre + slope, atol=24 * 50 / 3 * s**2 * np.ptp(slope))


# --- relaxing at the same parameters --------------------------------------------------------


def test_derivatives_are_those_of_relaxed_draws():
    """Ions under strain, the cell, and a defect's energy, each with and without the response."""
    surfaces = ImplicitSurfaces(silicon(40, 0.01))
    relaxed = DrawSurfaces(surfaces.potentials)
    for function, settings, names in (
        (elastic, {}, ("C11", "C12", "C44", "C44 clamped")),
        (lattice, {}, ("a", "cohesive energy")),
        (vacancy, {"starts": 1, "sizes": (2,)}, ("formation energy",)),
    ):
        mine, theirs = (function(s, SILICON, **settings) for s in (surfaces, relaxed))
        for name in names:
            first, exact = (surfaces.derivatives(r[name].values) for r in (mine, theirs))
            assert np.abs(first - exact).max() < 5e-3 * np.linalg.norm(exact), name
            assert mine[name].values[0] == pytest.approx(theirs[name].values[0], rel=1e-6)
        if function is elastic:  # the response of the ions is a good part of it
            clamped = surfaces.derivatives(mine["C44 clamped"].values)
            whole = surfaces.derivatives(mine["C44"].values)
            assert np.linalg.norm(clamped - whole) > 0.1 * np.linalg.norm(whole)


def test_large_cells_are_relaxed_on_every_surface():
    """Where H costs more than relaxing; positions are then minima to the tolerance."""
    surfaces = ImplicitSurfaces(silicon(40, 0.01))
    atoms = bulk("Si", "diamond", a=5.45, cubic=True).repeat((2, 1, 1))
    atoms.rattle(0.03, seed=4)
    found = surfaces.relax(surfaces.everywhere(atoms))
    assert np.abs(found.forces).max() <= surfaces.tolerance.forces
    assert found.converged.all()
