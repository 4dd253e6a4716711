import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.integrate import trapezoid

from bayespot import plots
from bayespot.calibration import HeldOut, calibration_curves, calibration_table
from bayespot.errors import LabelError
from bayespot.units import GPA

RNG = np.random.default_rng(0)
FAMILIES = np.repeat(["surface", "thermal"], 10)
TRUTH = -5.4 + 0.05 * RNG.random(20)
MEAN = TRUTH + 0.01 * RNG.standard_normal(20)
LEVELS = np.linspace(0.1, 0.9, 9)


def points(ax):
    """(x, y) of all markers, sorted by x."""
    xy = np.concatenate([line.get_xydata() for line in ax.lines if line.get_linestyle() == "None"])
    return xy[np.argsort(xy[:, 0])]


def test_parity_of_energies_is_relative_and_in_mev():
    ax = plots.parity(TRUTH, MEAN, np.full(20, 0.01), quantity="energy", families=FAMILIES)
    expected = 1e3 * (np.column_stack([TRUTH, MEAN]) - TRUTH.min())
    np.testing.assert_allclose(points(ax), expected[np.argsort(expected[:, 0])], atol=1e-9)
    assert ax.get_xlabel() == "DFT energy above lowest label (meV/atom)"
    assert ax.get_xlim() == ax.get_ylim()
    bar = ax.collections[0].get_segments()[0]
    assert bar[1, 1] - bar[0, 1] == pytest.approx(2 * 10.0)  # one standard deviation up and down
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["surface", "thermal"]


@pytest.mark.parametrize(
    ("quantity", "factor", "unit"), [("forces", 1.0, "(eV/Å)"), ("stress", GPA, "(GPa)")]
)
def test_units_of_parity_and_residuals(quantity, factor, unit):
    ax = plots.parity(TRUTH, MEAN, quantity=quantity)
    np.testing.assert_allclose(np.sort(points(ax)[:, 0]), np.sort(TRUTH) * factor)
    assert ax.get_xlabel().endswith(unit)
    ax = plots.residuals_by_family(MEAN - TRUTH, FAMILIES, quantity=quantity)
    assert ax.get_xlabel().endswith(unit)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["thermal (10)", "surface (10)"]


def test_a_family_keeps_its_color_where_another_is_missing():
    order = ["a", "surface", "thermal"]
    ax = plots.parity(TRUTH, MEAN, quantity="forces", families=FAMILIES, order=order)
    assert [line.get_color() for line in ax.lines[:2]] == list(plots.PALETTE[1:3])


def test_many_error_bars_are_thinned():
    n = 5 * plots.MAX_BARS
    ax = plots.parity(np.arange(n), np.arange(n), np.ones(n), quantity="forces")
    assert len(ax.collections[0].get_segments()) == plots.MAX_BARS
    assert len(points(ax)) == n


def test_unknown_quantity():
    with pytest.raises(LabelError, match="quantity 'force' is unknown; it is one of energy"):
        plots.parity(TRUTH, MEAN, quantity="force")


def test_coverage_has_the_diagonal_and_percent():
    curve = plots.Curve(LEVELS, LEVELS**2, LEVELS**3, LEVELS)
    ax = plots.coverage({"total": curve})
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 0], [100, 100]])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), 100 * LEVELS**2)
    assert len(ax.collections) == 1  # the band
    assert "(%)" in ax.get_xlabel()


def test_coverage_of_few_levels_has_bars():
    curve = plots.Curve([0.5, 0.9], [0.4, 1.0], [0.3, 0.8], [0.5, 1.0])
    ax = plots.coverage({"one": curve, "two": curve})
    assert len(ax.containers) == 2


def held_out(quantity, n=30, seed=1):
    """Two families with bars that are right; the guard flags one of them."""
    rng = np.random.default_rng(seed)
    std = 0.05 * np.exp(0.5 * rng.standard_normal(2 * n))
    family = np.repeat(["slab", "thermal"], n)
    return HeldOut(
        quantity, std * rng.standard_normal(2 * n), std, 0.5 * std, np.zeros(2 * n), family,
        np.arange(2 * n), np.zeros(2 * n, bool), family == "slab", method="none", data="silicon",
    )  # fmt: skip


def test_coverage_by_family_has_intervals_counts_and_hollow_flags():
    table = calibration_table([held_out("energy"), held_out("forces", seed=2)])
    ax = plots.coverage_by_family(table.by_family(), level=0.5)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["thermal (30)", "slab (30)"]
    assert ax.get_xlabel() == "coverage of 50 % bars (%)"
    dots = [container.lines[0] for container in ax.containers]
    rows = {round(dot.get_xdata()[0], 9): dot for dot in dots}
    assert len(dots) == 4
    for row in table.by_family():
        dot = rows[round(100 * row.coverage[0.5].value, 9)]
        # the families stand in rows, the quantities of one a little apart
        assert abs(dot.get_ydata()[0] - (row.family == "slab")) < 0.2
        assert (dot.get_markerfacecolor() == "white") == (row.family == "slab")
    bar = ax.containers[0].lines[2][0].get_segments()[0]
    c = table.by_family("energy")[0].coverage[0.5]
    np.testing.assert_allclose(bar[:, 0], [100 * c.low, 100 * c.high])
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["energy", "force component", "outside the calibrated range"]


def test_error_against_spread_is_logarithmic_in_quoted_units():
    curve = plots.Curve([0.01, 0.02], [0.02, 0.02], [0.0, 0.01], [0.03, np.inf])
    ax = plots.error_against_spread(curve, quantity="energy")
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[10, 20], [20, 20]])
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.get_xlabel() == "predicted spread (meV/atom)"
    low, high = ax.get_xlim()
    assert ax.get_ylim() == (low, high)
    assert low < 10 < 30 < high < 1000  # an interval without an end does not decide the range
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[low, low], [high, high]])


def test_z_histogram_keeps_what_lies_outside():
    ax = plots.z_histogram({"energy": [0.1, 0.2, 9.0, -np.inf]})
    heights, edges, _ = ax.patches[0].get_data()
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1.0)
    assert (heights[0], heights[-1]) == (pytest.approx(0.5), pytest.approx(0.5))
    assert ax.get_legend().get_texts()[1].get_text() == "energy (4)"
    x, y = ax.lines[0].get_data()
    assert trapezoid(y, x) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("quantities", [("energy", "forces", "stress"), ("forces",)])
def test_calibration_page_has_a_panel_for_everything(quantities, tmp_path):
    cases = [held_out(q, seed=k) for k, q in enumerate(quantities)]
    figure = plots.calibration_page(calibration_table(cases), calibration_curves(cases))
    assert len(figure.axes) == 3 + len(quantities)
    assert figure.get_suptitle() == "Calibration: none on silicon, 2 held-out families"
    assert plots.save(figure, tmp_path / "page.png", dpi=50).stat().st_size > 5000


def test_learning_curve_is_logarithmic_and_in_mev():
    n = np.array([5, 10, 15])
    curves = {
        "information gain": plots.Curve(n, 0.1 / n, 0.08 / n, 0.12 / n),
        "random": plots.Curve(n, 0.2 / n),
    }
    ax = plots.learning_curve(curves, quantity="energy", reference=0.005)
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "RMSE of energy (meV/atom)"
    np.testing.assert_allclose(ax.lines[1].get_ydata(), 100.0 / n)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "full pool", "information gain", "random",
    ]  # fmt: skip
    assert list(ax.get_xticks()) == [5, 10, 15]


def test_marginal_shows_posterior_over_prior_inside_the_support():
    draws, prior = np.exp(0.3 * RNG.standard_normal(400)), np.exp(RNG.standard_normal(400))
    ax = plots.marginal(draws, name=r"\epsilon", unit="eV", prior=prior)
    assert ax.get_xlabel() == r"$\epsilon$ (eV)"
    assert ax.get_xlim()[0] > 0
    assert ax.get_legend_handles_labels()[1] == ["posterior", "prior"]
    plots.marginal(np.ones(5), name="fixed")  # no spread, no density, no error


def test_pairs_fill_the_lower_triangle():
    axes = plots.pairs(RNG.standard_normal((500, 3)), ["a", "b", "c"], ["eV", "Å", "1"])
    visible = [[ax.get_visible() for ax in row] for row in axes]
    assert visible == [[True, False, False], [True, True, False], [True, True, True]]
    assert axes[2, 1].get_xlabel() == "b\n(Å)"
    assert axes[2, 0].get_ylabel() == "c"


def test_ranks_are_flat_where_chains_agree_and_not_where_they_do_not():
    values = RNG.standard_normal((4, 500))

    def outside(ax):
        band = ax.patches[0]
        low, high = band.get_y(), band.get_y() + band.get_height()
        counts = np.concatenate([stairs.get_data().values for stairs in ax.patches[1:]])
        return np.mean((counts < low) | (counts > high))

    assert outside(plots.ranks(values, name="D")) < 0.1
    assert outside(plots.ranks(values + np.arange(4)[:, None], name="D")) > 0.4


def test_contraction_marks_what_was_not_informed():
    ax = plots.contraction(["D", r"\lambda"], [0.9, 0.1])
    assert [t.get_text() for t in ax.texts] == ["not informed by data"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["D", r"$\lambda$"]
    assert [bar.get_width() for bar in ax.patches] == [0.9, 0.1]


def test_everything_draws_into_given_axes_and_writes(tmp_path):
    axes = plots.grid_of(6)
    curve = plots.Curve(LEVELS, LEVELS)
    given = [
        plots.parity(TRUTH, MEAN, quantity="energy", ax=axes[0]),
        plots.residuals_by_family(MEAN - TRUTH, FAMILIES, quantity="energy", ax=axes[1]),
        plots.coverage({"a": curve}, ax=axes[2]),
        plots.learning_curve({"a": curve}, ax=axes[3]),
        plots.marginal(RNG.random(50), name="D", prior=RNG.random(50), ax=axes[4]),
        plots.ranks(RNG.random((2, 100)), name="D", ax=axes[5]),
    ]
    assert given == axes
    plots.legend_of(axes[4:])
    path = plots.save(axes[0], tmp_path / "all.png", dpi=60)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["all.png"]
    assert isinstance(axes[0].figure, Figure)


def test_pyplot_is_not_loaded():
    code = "import sys, bayespot.plots; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
