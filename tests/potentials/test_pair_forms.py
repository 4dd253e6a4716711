"""Pair forms: their formulas, coordinates, priors, published numbers, and what pairs cannot do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from scipy.optimize import brentq, minimize_scalar

from bayespot.errors import CutoffError, PriorError, SpeciesError
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.parameters import ParameterSpace
from bayespot.potentials.born_mayer import BornMayer
from bayespot.potentials.buckingham import ARGON_1938, Buckingham
from bayespot.potentials.lennard_jones import BOLTZMANN, LennardJones
from bayespot.potentials.mie import Mie
from bayespot.potentials.morse import METALS_1959, Morse
from bayespot.potentials.priors import LogNormal, Reference
from bayespot.potentials.spline_pair import SplinePair
from bayespot.potentials.zbl import COULOMB, ZBL
from bayespot.testing import check_potential

REFERENCE = Reference(length=2.5, energy=4.0, offset=(0.0,))
ONE = ("Cu",)


@jax.jit
def _curve(view, r):
    energy = view.phi if hasattr(view, "phi") else view.pair_energy

    def both(x):
        return jax.jvp(energy, (x,), (jnp.ones_like(x),))

    (value, slope), (_, curvature) = jax.jvp(both, (r,), (jnp.ones_like(r),))
    return value, slope, curvature


def curve(potential, r, pair=0):
    """Energy and its first two derivatives at the distances r, without the switch."""
    r = jnp.atleast_1d(jnp.asarray(r, dtype=float))
    return tuple(np.asarray(v) for v in _curve(potential.at("pair", pair), r))


def draws(potential, count, seed=0):
    space = ParameterSpace(potential, REFERENCE, quantities=("energy",))
    u = np.random.default_rng(seed).standard_normal((count, space.size))
    many = space.potential(u)
    return [jax.tree.map(lambda a, k=k: a[k], many) for k in range(count)]


# --- formulas and coordinates ---------------------------------------------------------------


def test_mie_is_lennard_jones_at_12_6():
    lj = LennardJones(species=ONE, epsilon=0.4, sigma=2.3)
    mie = Mie.from_sigma(ONE, epsilon=0.4, sigma=2.3, n=12, m=6)
    r = np.linspace(1.8, 6, 50)
    np.testing.assert_allclose(curve(mie, r), curve(lj, r), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(mie.sigma, 2.3, rtol=1e-14)


def test_depth_position_and_stiffness_are_the_parameters():
    mie = Mie(species=ONE, epsilon=0.4, r0=2.6, n=9.5, m=4.2)
    energy, slope, curvature = curve(mie, 2.6)
    np.testing.assert_allclose(energy, -0.4, rtol=1e-13)
    np.testing.assert_allclose(slope, 0.0, atol=1e-13)
    np.testing.assert_allclose(curvature, 9.5 * 4.2 * 0.4 / 2.6**2, rtol=1e-12)
    buck = Buckingham(species=ONE, D=0.4, r0=2.6, zeta=12.5)
    energy, slope, curvature = curve(buck, 2.6)
    np.testing.assert_allclose(energy, -0.4, rtol=1e-13)
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)
    expected = 6 * 12.5 * 5.5 * 0.4 / (6.5 * 2.6**2)
    np.testing.assert_allclose(curvature, expected, rtol=1e-12)


def test_born_mayer_in_the_textbook_form():
    form = BornMayer.from_amplitude(ONE, A=22.5e3, rho=0.196)
    r = np.linspace(0.5, 4, 30)
    np.testing.assert_allclose(form.amplitude, 22.5e3, rtol=1e-12)
    np.testing.assert_allclose(
        curve(form, r)[0], 22.5e3 * np.exp(-r / 0.196), rtol=1e-12
    )
    again = BornMayer.from_amplitude(ONE, A=form.amplitude, rho=form.rho, r0=2.0)
    np.testing.assert_allclose(curve(again, r)[0], curve(form, r)[0], rtol=1e-12)


def test_buckingham_in_the_textbook_form():
    form = Buckingham.argon_1938()
    r = np.linspace(2.5, 8, 30)
    A, rho, C = (ARGON_1938[k] for k in ("A", "rho", "C"))
    np.testing.assert_allclose(
        curve(form, r)[0], A * np.exp(-r / rho) - C / r**6, rtol=1e-10, atol=1e-14
    )
    for name, value in form.textbook().items():
        np.testing.assert_allclose(value, ARGON_1938[name], rtol=1e-10)
    assert 13 < form.zeta[0] < 15
    assert 3.7 < form.r0[0] < 3.9  # Å, near argon's 3.76 in the gas
    with pytest.raises(PriorError, match="BornMayer"):
        Buckingham.from_textbook(("Mg", "O"), A=800.0, rho=0.3, C=[1.0, 0.0, 1.0])
    with pytest.raises(PriorError, match="attraction wins"):
        Buckingham.from_textbook(ONE, A=10.0, rho=0.3, C=100.0)
    with pytest.raises(PriorError, match="above 7"):
        Buckingham(species=ONE, zeta=6.5)


@pytest.mark.parametrize("zeta", [10.0, 11.0, 12.0])
def test_the_barrier_before_the_collapse_is_what_the_docstring_says(zeta):
    form = Buckingham(species=ONE, D=1.0, r0=1.0, zeta=zeta)
    top = minimize_scalar(lambda r: -curve(form, r)[0][0], bounds=(0.15, 0.8), method="bounded")
    place, height = {10.0: (0.47, 69), 11.0: (0.37, 370), 12.0: (0.30, 1700)}[zeta]
    assert abs(top.x - place) < 0.01
    assert abs(-top.fun / height - 1) < 0.05


def test_no_prior_draw_of_buckingham_collapses():
    """The energy rises all the way from the minimum to 0.38 of it, where it is 300 wells high."""
    for one in draws(Buckingham(species=ONE), 300):
        r = float(one.r0[0]) * np.linspace(0.38, 0.99, 60)
        energy, slope, _ = curve(one, r)
        assert np.all(slope < 0)
        assert energy[0] > 300 * float(one.D[0])


def test_mixing_only_when_asked():
    kwargs = {"epsilon": [0.4, 0.1], "sigma": [2.0, 3.0]}
    berthelot = LennardJones.mixed(("Cu", "Ar"), **kwargs)
    np.testing.assert_allclose(berthelot.epsilon, [0.4, 0.2, 0.1])
    np.testing.assert_allclose(berthelot.sigma, [2.0, 2.5, 3.0])
    geometric = LennardJones.mixed(("Cu", "Ar"), rule="geometric", cutoff=7.0, **kwargs)
    np.testing.assert_allclose(geometric.sigma, [2.0, np.sqrt(6), 3.0])
    assert geometric.reach == 7.0
    with pytest.raises(PriorError, match="mixing rule"):
        LennardJones.mixed(("Cu", "Ar"), rule="sixth power", **kwargs)
    with pytest.raises(PriorError, match="one epsilon and one sigma"):
        LennardJones.mixed(("Cu", "Ar"), epsilon=[0.4], sigma=[2.0])


# --- ZBL ------------------------------------------------------------------------------------


def test_zbl_is_bare_coulomb_at_zero_distance():
    form = ZBL(species=("Si", "Ge"))
    energy = [curve(form, 1e-4, k)[0][0] * 1e-4 for k in range(3)]
    np.testing.assert_allclose(energy, COULOMB * np.array([14**2, 14 * 32, 32**2]), rtol=5e-3)


def test_zbl_has_nothing_to_sample_until_asked():
    form = ZBL(species=("Si", "Ge"))
    two = Reference(offset=(0.0, 0.0))
    names = ParameterSpace(form, two, quantities=("energy",)).names
    assert names == ["e0[Si]", "e0[Ge]", "sigma_energy"]
    space = ParameterSpace(
        form, two, quantities=("energy",), priors={"charge": LogNormal(100.0, 0.1)}
    )
    assert "charge[Si-Ge]" in space.names


def test_zbl_is_smooth_within_and_at_its_ends():
    """Value, slope and curvature from both sides of the two radii."""
    form = ZBL(species=ONE, cutoff=2.2, switch_width=0.9)
    for radius, allowed in ((1.3, 1e-5), (2.2, 1e-5)):
        below, above = (np.array(curve(form, radius + d)).ravel() for d in (-1e-9, 1e-9))
        scale = np.abs(np.array(curve(form, 1.3))).ravel()
        assert np.all(np.abs(below - above) <= allowed * scale)
    assert not np.any(curve(form, 2.2 + 1e-9))
    energy, slope, _ = curve(form, np.linspace(0.3, 2.19, 200))
    assert np.all(energy > 0)
    assert np.all(slope < 0)


def test_zbl_refuses_what_it_cannot_be():
    with pytest.raises(SpeciesError, match="atomic numbers"):
        ZBL(species=("X",))
    with pytest.raises(CutoffError, match="switch_width"):
        ZBL(species=ONE, switch_width=0.0)


def test_the_contract_where_zbl_counts():
    """Long enough to reach the neighbours of the contract's crystals, another range per pair."""
    form = ZBL(species=("Si", "Ge"), cutoff=3.4, switch_width=[1.2, 1.4, 1.1])
    check_potential(form)


# --- splines --------------------------------------------------------------------------------


def test_the_spline_has_its_parameters_as_curvatures():
    form = SplinePair(species=("Si", "Ge"), n_knots=5, cutoff=5.5)
    values = np.random.default_rng(0).standard_normal(15)
    form = form.replace(curvature=values)
    assert form.coordinates("knot")[6] == "Si-Ge:2"
    for pair in range(3):
        own = values[5 * pair : 5 * pair + 5]
        knots = form.knots
        middle = 0.5 * (knots[1:-1] + knots[:-2])
        np.testing.assert_allclose(curve(form, knots[:-1], pair)[2], own, atol=1e-12)
        np.testing.assert_allclose(
            curve(form, middle, pair)[2], 0.5 * (own[1:] + own[:-1]), atol=1e-12
        )
        assert not np.any(np.abs(curve(form, form.cutoff, pair)) > 1e-12)
        assert not np.any(curve(form, form.cutoff + 0.5, pair))


def test_the_spline_goes_on_inside_of_its_first_knot():
    form = SplinePair(species=ONE)
    first = form.knots[0]
    below, above = (np.array(curve(form, first + d)).ravel() for d in (-1e-9, 1e-9))
    np.testing.assert_allclose(below, above, rtol=1e-6)


def test_prior_draws_of_the_spline_look_like_pair_potentials():
    """One well near the bond with a depth of about a sixth of the cohesive energy, a hard core."""
    r = np.linspace(0.8, 6.0, 500)
    depths, places, minima = [], [], []
    for one in draws(SplinePair(species=ONE), 100):
        energy, slope, _ = curve(one, r)
        assert energy[0] > 20.0
        assert np.all(slope[r < 1.6] < 0)
        assert np.abs(energy[r > 4.0]).max() < 0.25
        depths.append(-energy.min())
        places.append(r[energy.argmin()])
        minima.append(int((np.diff(np.sign(np.diff(energy))) > 0).sum()))
    assert np.mean(np.array(minima) == 1) > 0.95
    assert 0.8 * 4 / 6 < np.median(depths) < 1.2 * 4 / 6
    assert 2.2 < np.percentile(places, 5) < np.percentile(places, 95) < 3.1


def test_a_spline_needs_room():
    with pytest.raises(CutoffError, match="two knots"):
        SplinePair(species=ONE, n_knots=1)
    with pytest.raises(CutoffError, match="shorter than the cutoff"):
        SplinePair(species=ONE, bond=7.0)


# --- published numbers ----------------------------------------------------------------------

CRYSTALS = {
    "Pb": ("fcc", 4.95, 2.03), "Ag": ("fcc", 4.09, 2.95), "Ni": ("fcc", 3.524, 4.44),
    "Cu": ("fcc", 3.615, 3.49), "Al": ("fcc", 4.05, 2.9), "Ca": ("fcc", 5.58, 1.84),
    "Sr": ("fcc", 6.08, 1.72), "Mo": ("bcc", 3.147, 6.82), "W": ("bcc", 3.165, 8.9),
    "Cr": ("bcc", 2.885, 4.1), "Fe": ("bcc", 2.866, 4.28), "Ba": ("bcc", 5.02, 1.90),
    "K": ("bcc", 5.23, 0.934), "Na": ("bcc", 4.29, 1.113), "Cs": ("bcc", 6.05, 0.804),
    "Rb": ("bcc", 5.60, 0.852),
}  # fmt: skip
"""Structure, lattice constant (Å) and energy of sublimation (eV) that the authors fitted; of
aluminium the 2.9 eV that were current in 1959."""


@pytest.mark.parametrize("symbol", METALS_1959)
def test_metals_of_1959_are_their_crystals(symbol):
    structure, a, cohesive = CRYSTALS[symbol]
    form = Morse.metal_1959(symbol)
    grid = np.arange(-9, 10)
    n = np.array(np.meshgrid(grid, grid, grid)).reshape(3, -1).T
    ones, eye = np.ones((3, 3)), np.eye(3)
    d = np.linalg.norm(n @ (ones - eye if structure == "fcc" else ones - 2 * eye) / 2, axis=1)
    d = d[(d > 0) & (d < 6)]
    view = form.at("pair", 0)
    found = minimize_scalar(
        lambda x: 0.5 * float(view.phi(x * d).sum()), bounds=(0.9 * a, 1.1 * a), method="bounded"
    )
    assert abs(found.x / a - 1) < 0.01
    assert abs(-found.fun / cohesive - 1) < 0.07


def test_metals_that_are_not_in_the_paper():
    with pytest.raises(SpeciesError, match="not among"):
        Morse.metal_1959("Ti")


def test_argon_is_bound_as_in_the_literature():
    """The sum over the whole fcc lattice is 8.61 epsilon at 1.09 sigma, Ashcroft and Mermin."""
    form = LennardJones.argon_1964(cutoff=25.0)
    assert LennardJones.argon_1964().reach == pytest.approx(2.25 * 3.4)
    atoms = bulk("Ar", "fcc", a=np.sqrt(2) * 1.0902 * 3.4)
    (energy,) = labels(form, atoms).energy
    # what lies beyond the middle of the switch, with sqrt(2)/1.09^3 atoms per sigma^3
    tail = 8 * np.pi / 3 * np.sqrt(2) / 1.0902**3 * (3.4 / 24.5) ** 3
    assert abs(energy / (120 * BOLTZMANN) - tail + 8.610) < 0.003


# --- Cauchy ---------------------------------------------------------------------------------


def labels(potential, *structures):
    graph = build_graph(structures, potential.species, potential.reach)
    return evaluate(potential, graph, cutoff=potential.reach)


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    out = atoms.copy()
    out.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return out


def elastic(potential, atoms, step=1e-4):
    """d sigma_xx / d e_yy and d sigma_yz / d gamma_yz by central differences, and the pressure."""
    stretch, shear = np.zeros((3, 3)), np.zeros((3, 3))
    stretch[1, 1] = 1.0
    shear[1, 2] = shear[2, 1] = 0.5
    cases = [strained(atoms, s * step * e) for e in (stretch, shear) for s in (1, -1)]
    stress = labels(potential, atoms, *cases).stress
    c12 = (stress[1, 0] - stress[2, 0]) / (2 * step)
    c44 = (stress[3, 3] - stress[4, 3]) / (2 * step)
    return c12, c44, -stress[0, 0]


def at_rest(potential, crystal, low, high):
    """The lattice constant without pressure."""
    a = brentq(lambda x: labels(potential, crystal(x)).stress[0, 0], low, high, xtol=1e-12)
    return crystal(a)


RANGE = {"cutoff": 5.0, "switch_width": 1.2}
"""Past the second shell: the crystals of pairs are then held by more than one distance."""


def fcc(a):
    return bulk("Cu", "fcc", a=a)


def cesium_chloride(a):
    return Atoms(("Cu", "Ag"), cell=np.eye(3) * a, scaled_positions=[[0] * 3, [0.5] * 3], pbc=True)


CAUCHY = {
    "Morse": (Morse.metal_1959("Cu", **RANGE), fcc),
    "Lennard-Jones": (LennardJones(species=ONE, epsilon=0.4, sigma=2.28, **RANGE), fcc),
    "Mie": (Mie(species=ONE, epsilon=0.4, r0=2.55, n=9.0, m=5.0, **RANGE), fcc),
    "Buckingham": (Buckingham(species=ONE, D=0.4, r0=2.55, zeta=12.0, **RANGE), fcc),
    "spline": (SplinePair(species=ONE, n_knots=6, cutoff=5.0), fcc),
    "sum": (
        Morse.metal_1959("Cu", **RANGE) + BornMayer(species=("Cu",), B=0.05, rho=0.2, r0=2.55,
                                                    **RANGE), fcc,
    ),
    "two species": (
        Morse(species=("Cu", "Ag"), D=[0.3, 0.4, 0.33], alpha=[1.4, 1.5, 1.35],
              r0=[2.9, 2.8, 3.1], cutoff=[5.0, 5.4, 5.2], switch_width=1.2), cesium_chloride,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CAUCHY)
def test_pairs_keep_the_cauchy_relation(name):
    """C12 = C44 without pressure where every atom is a centre of symmetry, and B12 - B44 = 2 P."""
    potential, crystal = CAUCHY[name]
    ranges = (3.2, 4.3) if crystal is fcc else (2.7, 3.6)
    rest = at_rest(potential, crystal, *ranges)
    c12, c44, pressure = elastic(potential, rest)
    assert abs(pressure) < 1e-9
    assert abs(c44) > 0.05  # eV/Å^3
    assert abs(c12 - c44) < 1e-5 * abs(c44)
    squeezed = strained(rest, -0.02 * np.eye(3))
    b12, b44, pressure = elastic(potential, squeezed)
    assert pressure > 0.01
    assert abs(b12 - b44 - 2 * pressure) < 1e-5 * abs(b44)
