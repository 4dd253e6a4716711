"""A fit as it is by default, misfit = "discrepancy", from its TOML file to all that people see."""

import sys
from types import SimpleNamespace

import ase.io
import jax
import numpy as np
import pytest
from ase.build import bulk
from test_validation import data_of, fit

import bayespot
from bayespot import plots
from bayespot.cli import main
from bayespot.errors import PriorError
from bayespot.evaluate import evaluate_draws
from bayespot.graph import build_graph
from bayespot.inference.discrepancy import add_discrepancy
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.sums import sum_form
from bayespot.prediction import check_product
from bayespot.report import write_fit_report

CONFIG = """
name = "silicon"
[data]
source = "si.extxyz"
floor = { energy = 1e-3, forces = 1e-2, stress_GPa = 0.08 }
[potential]
form = "Morse"
species = ["Si"]
fixed = { cutoff = 4.5 }
[fit]
method = "laplace"
chains = 1
draws = 200
starts = 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("discrepancy")
    data = data_of(["a", "b", "c"] * 5, potential=StillingerWeber.silicon_1985())
    data.write(place / "si.extxyz")
    near, far = bulk("Si", "diamond", a=5.43), bulk("Si", "fcc", a=3.6)
    ase.io.write(place / "near_and_far.xyz", [near, far])
    (place / "run.toml").write_text(CONFIG, encoding="utf-8")
    return place


def command(folder, *arguments):
    """Run a command there; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["bayespot", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return end.code or 0
    return 0


@pytest.fixture(scope="module")
def fitted(folder):
    shown = {}

    def watch(name):
        original = getattr(plots, name)

        def wrapped(first, *rest, **options):
            labels = first if name == "contraction" else options.get("name", *rest[:1])
            shown.setdefault(name, []).append(labels)
            return original(first, *rest, **options)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in ("marginal", "pairs", "contraction"):
            patch.setattr(plots, name, watch(name))
        assert command(folder, "fit", "run.toml") == 0
    return folder / "silicon", shown


def test_pictures_show_the_parameters_and_not_the_weights(fitted):
    _, shown = fitted
    names = ["$D$", r"$\alpha$", "$r_0$", "$E_0$"]
    assert shown["marginal"] == names
    assert shown["pairs"] == [names]
    assert shown["contraction"] == [names]


def test_the_summary_says_what_the_bars_mean(fitted):
    place, _ = fitted
    text = (place / "summary.md").read_text(encoding="utf-8")
    assert "# silicon: Morse+ACE for Si by laplace" in text
    assert "| morse_D | eV |" in text
    assert "104 weights" in text
    assert "ace_c[" not in text
    assert "misfit = discrepancy. Temperature" in text
    assert "families left out (a, b, c)" in text
    assert "loss weights" not in text
    assert "misfit = none" not in text
    assert len(text.splitlines()) < 110


def test_the_guard_speaks_of_the_calibrated_range(fitted, folder, capsys):
    place, _ = fitted
    posterior = Posterior.load(place / "posterior.nc")
    assert posterior.calibrated
    near, far = ase.io.read(folder / "near_and_far.xyz", index=":")
    out = bayespot.predict(posterior, [near, far])
    assert out.extrapolation[0] < 1 < out.extrapolation[1]
    assert not any("calibrated" in note for note in out.warnings[0])
    assert any(note.startswith("outside the calibrated range") for note in out.warnings[1])
    arguments = ("predict", place / "posterior.nc", "near_and_far.xyz", "-o", "o.xyz")
    assert command(folder, *arguments) == 0
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "outside the" in printed
    frames = ase.io.read(folder / "o.xyz", index=":")
    assert "outside the calibrated range" in frames[1].info["bayespot_warning"]


def test_the_calculator_warns_once(fitted, folder):
    place, _ = fitted
    near, far = ase.io.read(folder / "near_and_far.xyz", index=":")
    calculator = bayespot.PosteriorCalculator(Posterior.load(place / "posterior.nc"))
    near.calc = calculator
    near.get_potential_energy()  # any warning would be an error here
    far.calc = calculator
    with pytest.warns(UserWarning, match="outside the calibrated range"):
        far.get_potential_energy()
    far.positions += 0.01
    far.get_potential_energy()
    assert calculator.results["extrapolation"] > 1


def test_a_plain_posterior_speaks_of_the_data():
    posterior = fit(data_of(["a", "b"] * 4))
    assert not posterior.calibrated
    out = bayespot.predict(posterior, bulk("Si", "fcc", a=3.0))
    assert any(note.startswith("far from the data") for note in out.warnings[0])


def test_diagnostics_are_those_of_all_draws_of_the_sampler(tmp_path):
    data = data_of(["a", "b"] * 4, potential=StillingerWeber.silicon_1985())
    problem = bayespot.FitProblem(bayespot.Morse(species=("Si",), cutoff=4.5), data,
                                  misfit="none")
    plain = bayespot.nuts(problem, key=jax.random.key(0), chains=2, warmup=20, draws=20, starts=1,
                          progress=False)
    treated = add_discrepancy(problem, plain, key=jax.random.key(1), n_draws=10, temperature=2.0)
    theirs, own = plain.diagnostics(), treated.diagnostics()
    for column in ("r_hat", "ess_bulk", "ess_tail", "mcse_mean"):
        expected = theirs[column].sel(parameter=["D", "alpha", "r0"]).values
        found = own[column].sel(parameter=["morse_D", "morse_alpha", "morse_r0"]).values
        np.testing.assert_array_equal(found, expected)
        assert np.isfinite(expected).all()
    write_fit_report(treated, data, bayespot.predict(treated, data, allow_unconverged=True),
                     tmp_path)
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "the draws are some of the sampler's" in text
    assert f"largest R-hat {theirs['r_hat'][:4].max():.4f}" in text
    assert "No family was left out" in text
    assert (tmp_path / "ranks.png").is_file()


def test_draws_go_out_as_a_sum(fitted, folder):
    place, _ = fitted
    assert command(folder, "export", place, "lmp", "--draws", 3) == 0
    lines = (folder / "lmp" / "draw_2.in").read_text(encoding="utf-8")
    assert "pair_style hybrid/overlay" in lines
    assert "pace" in lines
    assert (folder / "lmp" / "draw_2-ace.yace").is_file()


def test_validation_of_the_run(folder, capsys):
    assert command(folder, "validate", "run.toml", "--folds", 2, "-o", "v") == 0
    assert {p.name for p in (folder / "v").iterdir()} == {
        "calibration.md", "calibration.json", "calibration.png", "config.resolved.toml",
        "fold_000.nc", "fold_001.nc", "validation.json",
    }  # fmt: skip
    assert Posterior.load(folder / "v" / "fold_000.nc").misfit == "discrepancy"
    assert "Of 90 % bars on structures not fitted: energy bars" in capsys.readouterr().out
    assert np.isfinite([
        Posterior.load(folder / "v" / f"fold_00{k}.nc").record["details"]["temperature"]
        for k in (0, 1)
    ]).all()


def test_the_classical_product_is_the_plain_potential_with_its_error_in_the_bars(fitted):
    """Mean, variance and forces against the parts, each evaluated on its own."""
    place, _ = fitted
    posterior = Posterior.load(place / "posterior.nc")
    atoms = bulk("Si", "diamond", a=5.5, cubic=True)
    atoms.rattle(0.05, seed=1)
    corrected = bayespot.predict(posterior, atoms, n_draws=60)
    classical = bayespot.predict(posterior, atoms, n_draws=60, product="classical")
    form, _ = posterior.potentials(60).parts_of_draws()
    graph = build_graph([atoms], ("Si",), posterior.cutoff)
    plain = evaluate_draws(form, graph)
    for quantity in ("energy", "forces", "stress"):
        center = getattr(plain, quantity).mean(axis=0)
        draws = getattr(corrected, f"{quantity}_draws")
        np.testing.assert_allclose(getattr(classical, quantity), center, rtol=0, atol=1e-10)
        spread = np.sqrt(((draws - center) ** 2).mean(axis=0))
        np.testing.assert_allclose(getattr(classical, f"{quantity}_parameter_std"), spread,
                                   rtol=1e-8, atol=1e-10)
    # Morse is far from Stillinger-Weber's forces: the bars say so.
    assert (classical.forces_parameter_std > 1.2 * corrected.forces_parameter_std).mean() > 0.5


def test_the_classical_calculator_has_forces_that_are_derivatives(fitted, folder):
    place, _ = fitted
    atoms = ase.io.read(folder / "si.extxyz", 0)
    atoms.calc = bayespot.PosteriorCalculator(Posterior.load(place / "posterior.nc"),
                                              product="classical")
    forces, step, energies = atoms.get_forces(), 1e-4, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.positions[0, 0] += sign * step
        energies.append(moved.get_potential_energy())
    slope = -(energies[0] - energies[1]) / (2 * step)
    assert abs(slope - forces[0, 0]) < 1e-6


def test_products_that_cannot_be_are_refused(fitted):
    place, _ = fitted
    atoms = bulk("Si", "diamond", a=5.43)
    with pytest.raises(PriorError, match="product='plain' is unknown"):
        bayespot.predict(Posterior.load(place / "posterior.nc"), atoms, product="plain")
    with pytest.raises(PriorError, match="knows none"):
        bayespot.predict(fit(data_of(["a", "b", "c"])), atoms, product="classical",
                         allow_unconverged=True)


@pytest.mark.parametrize("form", [ACE, sum_form(ACE, ACE)])
def test_a_linear_potential_has_no_plain_one_beside_it(form):
    posterior = SimpleNamespace(misfit="discrepancy", space=SimpleNamespace(form=form))
    check_product(posterior, "corrected")
    with pytest.raises(PriorError, match="its own discrepancy"):
        check_product(posterior, "classical")
