"""Expansions against relaxing all draws, and their refusals."""

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from closed_forms import lennard_jones_fcc
from drawn import ARGON, SHELLS, SILICON, argon, silicon, with_draws

import bayespot
from bayespot.config.properties import load_properties
from bayespot.errors import ConfigError, PropertyError
from bayespot.potentials.morse import Morse
from bayespot.properties import (
    CalculatorSurface,
    Curve,
    DrawSurfaces,
    PropertyDraws,
    Quantity,
    Result,
    Tolerance,
    equation_of_state,
    lattice,
)
from bayespot.properties.implicit import (
    ImplicitSurfaces,
    NoDerivative,
    principal_directions,
)
from bayespot.properties.propagation import CHECKS, Propagation
from bayespot.runs import properties_run

MODEL = "models/silicon-stillinger_weber-gpaw_pbe-2026/posterior.nc"


def test_silicon_posterior(request):
    """Every draw of the published model, to first order and relaxed; the check says how well."""
    posterior = bayespot.Posterior.load(request.config.rootpath / MODEL)
    propagation = Propagation(posterior, "linear", n_draws=400)
    found = propagation.result(lattice, SILICON)
    exact = lattice(propagation.surfaces, SILICON)
    assert found.choice.checked == CHECKS
    worst = max(found.choice.errors.values())
    assert f"8 relaxed draws are off by up to {worst:.2g} of the spread" in found.choice.sentence
    for name, quantity in exact.quantities.items():
        spread = quantity.values.std(ddof=1)
        off = np.abs(found[name].values - quantity.values) / spread
        assert np.sqrt(np.mean(off**2)) < 0.2, name
        assert 0.4 * off.max() < found.choice.errors[name] <= 1.001 * off.max(), name
        assert found[name].values.std(ddof=1) == pytest.approx(spread, rel=0.05)
        # What was found by the check is in the numerical error, as root mean square.
        least = found.choice.errors[name] * spread / np.sqrt(CHECKS)
        assert (found[name].error >= 0.95 * least).all()
    both = [PropertyDraws({"x": r}).covariance(["x: a", "x: cohesive energy"])[0]
            for r in (found, exact)]  # fmt: skip
    correlation = [c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]) for c in both]
    assert correlation[0] == pytest.approx(correlation[1], abs=0.02)


def test_many_draws_of_a_linear_property():
    """Nobody asks for first order, and it is taken: a goes with sigma, the energy with epsilon."""
    draws, epsilon, sigma = argon(n=2730, sd=0.004)  # the volume goes with sigma's cube
    found = Propagation(DrawSurfaces(draws)).result(lattice, ARGON)
    assert found.choice.how == "linear"
    assert np.isnan(PropertyDraws({"x": found}).summary()[0].unstable)
    exact = lennard_jones_fcc(1.0, 1.0, SHELLS)
    np.testing.assert_allclose(found["cohesive energy"].values, -exact["energy"] * epsilon, 1e-7)
    a = np.sqrt(2.0) * exact["distance"] * sigma
    np.testing.assert_allclose(found["a"].values, a, atol=50.0 * (0.2 * 0.004) ** 2 * np.ptp(a))


def springs(n):
    """Nearest neighbours with an uncertain spring 2 D alpha², and how to ask for B."""
    alpha = np.random.default_rng(2).normal(1.4, 0.25, n)
    morse = Morse(species=("Cu",), D=0.35, r0=2.55, cutoff=3.1, switch_width=0.0)

    def moduli(source):
        return source.result(equation_of_state, bulk("Cu", "fcc", a=3.6),
                             volumes=np.linspace(0.98, 1.02, 7))  # fmt: skip

    return alpha, DrawSurfaces(with_draws(morse, alpha=alpha)), moduli


def test_wide_posterior_is_relaxed():
    """To first order B misses by (alpha - mean)²."""
    alpha, surfaces, moduli = springs(2731)
    found, exact = moduli(Propagation(surfaces)), moduli(Propagation(surfaces, "exact"))
    assert found.choice.how == "exact"
    np.testing.assert_array_equal(found["bulk modulus"].values, exact["bulk modulus"].values)
    # With alpha = mean + x: first order 2 mean x, the rest x²; the farthest draw is checked.
    x = alpha - alpha.mean()
    expected = np.max(x**2) / (2.0 * alpha.mean() * x.std(ddof=1))
    assert found.choice.errors["bulk modulus"] == pytest.approx(expected, rel=0.01)
    assert expected > 0.2
    assert "to first order 8 relaxed draws are off" in found.choice.why
    assert "where 0.08 is allowed" in found.choice.why
    linear = moduli(Propagation(surfaces, "linear"))
    assert linear.choice.how == "linear"
    assert linear.choice.errors == found.choice.errors


def test_wide_posterior_to_second_order():
    """Forty draws more, and the five that give the second derivative pay: nothing is missed."""
    _, surfaces, moduli = springs(2770)
    found, exact = moduli(Propagation(surfaces)), moduli(Propagation(surfaces, "exact"))
    assert found.choice.sentence.startswith("second order: 13 relaxed draws are off by up to")
    made, theirs = (r["bulk modulus"].values for r in (found, exact))
    assert np.abs(made - theirs).max() < 2e-3 * theirs.std(ddof=1)
    assert np.isnan(PropertyDraws({"x": found}).summary()[0].unstable)


def test_second_order_of_a_polynomial():
    """Whatever is of second degree is found, and draws that are left out are what they are off."""
    draws, rng = silicon(120, 0.01), np.random.default_rng(5)
    surfaces = ImplicitSurfaces(draws)
    z, p = surfaces.z, surfaces.p
    curved = rng.normal(size=(2, p, p))

    def values(x, cubic=0.0):
        return np.stack([
            1.0 + x[:, j] + np.einsum("ka,ab,kb->k", x, curved[j], x) + cubic * x[:, 0] ** 3
            for j in (0, 1)
        ], axis=1)  # fmt: skip

    steps = surfaces.step * np.concatenate([np.zeros((1, p)), np.eye(p), -np.eye(p)])
    index = surfaces.outermost(23, besides=np.array([0, 1]))
    assert len(set(index) - {0, 1}) == 23
    assert surfaces.coefficients == 15
    for cubic in (0.0, 0.1):
        near, exact = values(steps, cubic), values(z, cubic)
        made, left_out = surfaces.to_second_order(near, index, exact[index])
        off = np.abs(made - exact).max(axis=0)
        if cubic:
            assert (off < 1.5 * np.abs(left_out).max(axis=0)).all()
            one = np.delete(index, 3)
            again, _ = surfaces.to_second_order(near, one, exact[one])
            np.testing.assert_allclose(exact[index[3]] - again[index[3]], left_out[3], rtol=1e-6)
            assert (off > 0.05).all()
        else:
            assert off.max() < 1e-9
            assert np.abs(left_out).max() < 1e-9


def simple_cubic():
    """Springs to nearest neighbours alone: simple cubic has no shear stiffness."""
    morse = Morse(species=("Cu",), alpha=1.4, cutoff=3.1, switch_width=0.0)
    rng = np.random.default_rng(0)
    return with_draws(morse, D=rng.normal(0.35, 0.01, 2730), r0=rng.normal(2.55, 0.01, 2730))


def test_nearly_singular_is_refused():
    draws, crystal = simple_cubic(), bulk("Cu", "sc", a=2.55)
    with pytest.raises(NoDerivative, match="nearly singular: its lowest curvature is"):
        lattice(ImplicitSurfaces(draws), crystal)
    found = Propagation(DrawSurfaces(draws)).result(lattice, crystal)
    assert found.choice.how == "exact"
    assert "nearly singular" in found.choice.why
    np.testing.assert_allclose(found["a"].values, np.asarray(draws.r0)[:, 0], rtol=1e-5)
    with pytest.raises(PropertyError, match=r"no first order here.*nearly singular"):
        Propagation(DrawSurfaces(draws), "linear").result(lattice, crystal)


def test_unstable_is_refused():
    """Lennard-Jones in bcc, held there by symmetry alone: it shears into a close packing."""
    with pytest.raises(NoDerivative, match="unstable: its lowest curvature is -"):
        lattice(ImplicitSurfaces(argon()[0]), bulk("Ar", "bcc", a=4.2))


def test_what_fails_is_counted():
    """No relaxation ends in two steps: all draws are relaxed, and all failures counted."""
    surfaces = DrawSurfaces(silicon(2770, 0.01), Tolerance(steps=2))
    found = Propagation(surfaces).result(lattice, bulk("Si", "diamond", a=5.2))
    assert found.choice.how == "exact"
    assert "near the mean parameters: relaxation of the crystal" in found.choice.why
    assert found.failed["relaxation of the crystal"].all()


def linear_but(unstable):
    """A property that is linear in epsilon, with an instability on some surfaces."""

    def function(surfaces):
        values = np.asarray(surfaces.potentials.epsilon)[:, 0]
        mask = unstable(values)
        return Result("p", {"e": Quantity(values, 0.0, "eV")},
                      unstable={"soft": mask} if mask.any() else {})  # fmt: skip

    return function


def test_an_unstable_draw_of_the_check_says_no():
    surfaces = DrawSurfaces(argon(n=2730)[0])
    stable = Propagation(surfaces).result(linear_but(lambda v: v < 0.0))
    assert stable.choice.how == "linear"
    np.testing.assert_allclose(stable["e"].values, surfaces.potentials.epsilon[:, 0], rtol=1e-10)
    farthest = (principal_directions(surfaces.potentials, 1.0)[1] ** 2).sum(axis=1).argmax()
    value = surfaces.potentials.epsilon[farthest]
    found = Propagation(surfaces).result(linear_but(lambda v: v == value))
    assert found.choice.how == "exact"
    assert "of the draws that were relaxed: soft (1 of 8)" in found.choice.why
    assert found.unstable["soft"].sum() == 1


def test_curves_that_bend_are_left_out():
    """A line in epsilon, a parabola around its mean, and a line on a grid of each call's own."""
    drawn, _, _ = argon(n=2730)
    mean = drawn.epsilon.mean()

    def function(surfaces):
        v, x = np.asarray(surfaces.potentials.epsilon), np.linspace(1.0, 2.0, 5)
        shifted = np.linspace(1.0, 2.0 + 0.1 / surfaces.n, 7)
        return Result("p", {"e": Quantity(v[:, 0], 0.0, "eV")}, {
            "straight": Curve(x, v * x, "x", "1", "eV"),
            "shifted": Curve(shifted, v * shifted, "x", "1", "eV"),
            "bent": Curve(x, (v - mean) ** 2 * x, "x", "1", "eV²"),
        })  # fmt: skip

    found = Propagation(DrawSurfaces(drawn)).result(function)
    assert set(found.curves) == {"straight", "shifted"}
    assert "without bent, which first order does not give" in found.choice.why
    curve = found.curves["straight"]
    np.testing.assert_allclose(curve.values, drawn.epsilon * curve.x, rtol=1e-9)


def test_who_has_no_choice(tmp_path):
    few = DrawSurfaces(argon(n=8)[0])
    assert Propagation(few).result(lattice, ARGON).choice.why == "8 draws are few"
    some = DrawSurfaces(argon(n=100)[0])
    assert Propagation(some).result(lattice, ARGON).choice.why == (
        "first order in 2 directions pays from 2730 draws on, and these are 100"
    )
    asked = Propagation(few, "exact").result(lattice, ARGON)
    assert asked.choice.sentence == "every draw relaxed: asked for"
    PropertyDraws({"lattice": asked}).save(tmp_path / "p.nc")
    assert PropertyDraws.load(tmp_path / "p.nc").choices == {"lattice": asked.choice}
    alone = Propagation(CalculatorSurface(EMT()), "linear").result(
        lattice, bulk("Cu", "fcc", a=3.6), atom_energies={"Cu": 0.0}
    )
    assert alone.choice is None
    with pytest.raises(PropertyError, match="it is one of auto, exact, linear"):
        Propagation(few, "first order")
    with pytest.raises(PropertyError, match="two draws are the least"):
        Propagation(few, checks=1)


CONFIG = """
name = "si"
posterior = "{posterior}"
draws = 40
propagation = "linear"

[crystals.diamond]
structure = "diamond"
element = "Si"
a = 5.43

[[properties]]
kind = "lattice"
"""


def test_run_of_a_file(request, tmp_path):
    """The choice and the check's number are in the result, the table and the record."""
    path = tmp_path / "si.toml"
    path.write_text(CONFIG.format(posterior=request.config.rootpath / MODEL), encoding="utf-8")
    said = []
    run = load_properties(path)
    draws, _ = properties_run(
        run, bayespot.Posterior.load(run.posterior), tmp_path / "out", happened=said.append
    )
    choice = draws.choices["lattice"]
    assert choice.how == "linear"
    assert set(choice.errors) == {"a", "volume", "cohesive energy"}
    assert said[0].endswith(choice.sentence)
    table = (tmp_path / "out" / "properties.md").read_text(encoding="utf-8")
    assert f"* lattice: {choice.sentence}" in table
    record = json.loads((tmp_path / "out" / "properties.json").read_text(encoding="utf-8"))
    assert record["propagation"]["lattice"]["errors"] == dict(choice.errors)
    assert PropertyDraws.load(tmp_path / "out" / "properties.nc").choices == draws.choices
    path.write_text(path.read_text(encoding="utf-8").replace('"linear"', '"lineal"'), "utf-8")
    with pytest.raises(ConfigError, match="propagation = 'lineal'"):
        load_properties(path)
