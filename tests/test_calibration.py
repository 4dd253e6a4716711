"""The calibration table, its curves and the comparison of methods, on draws of known spread."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bayespot import scoring
from bayespot.calibration import (
    CalibrationTable,
    HeldOut,
    calibration_curves,
    calibration_table,
    coverage_band,
    crps_ratio,
    error_bins,
)
from bayespot.errors import LabelError
from bayespot.units import GPA

FAMILIES = ("elastic", "liquid", "surface", "vacancy")


def synthetic(quantity="forces", *, factor=1.0, per=12, n_structures=20, seed=0, names=FAMILIES):
    """Errors drawn from spreads that differ by family, reported as `factor` times the truth."""
    rng = np.random.default_rng(seed)
    shape = (len(names), n_structures, per)
    spread = 0.05 * (1 + np.arange(len(names)))[:, None, None] * np.exp(
        0.4 * rng.standard_normal(shape)
    )
    truth = rng.standard_normal(shape)
    mean = truth - spread * rng.standard_normal(shape)
    family = np.broadcast_to(np.array(names)[:, None, None], shape)
    number = np.broadcast_to(
        np.arange(len(names) * n_structures).reshape(len(names), -1)[..., None], shape
    )
    std = factor * spread
    columns = [mean, std, 0.6 * std, truth, family, number]
    flat = [np.array(c).ravel() for c in columns]
    no = np.zeros(flat[0].size, bool)
    return HeldOut(quantity, *flat, no, no, method="discrepancy", data="silicon")


def with_zeros(cases, family="elastic"):
    """The same with as many components again in one family that symmetry fixes."""
    rows = np.flatnonzero(cases.family == family)
    columns = {
        name: np.concatenate([getattr(cases, name), getattr(cases, name)[rows]])
        for name in ("mean", "std", "epistemic_std", "truth", "family", "structure", "outside")
    }
    for name in ("mean", "truth"):
        columns[name][len(cases):] = 0.0
    return replace(cases, **columns, fixed=np.arange(len(cases) + rows.size) >= len(cases))


def test_calibrated_draws_are_covered_at_every_level_in_every_family():
    cases = synthetic(per=50)
    table = calibration_table(cases)
    assert [r.family for r in table.rows] == ["all", *FAMILIES]
    inside = [c.low < level < c.high for r in table.rows for level, c in r.coverage.items()]
    assert sum(inside) >= stats.binom.ppf(0.001, len(inside), 0.95)  # they are 95 % intervals
    for row in table.rows:
        for level, c in row.coverage.items():
            assert abs(c.value - level) < 4 * np.sqrt(level * (1 - level) / row.n)
        assert abs(row.rms_z**2 - 1) < 4 * np.sqrt(2 / row.n)
        assert abs(row.rank - row.rank_expected) < 4 / np.sqrt(row.n)
        assert row.epistemic == pytest.approx(0.6 * row.sharpness)
        assert row.outside == 0.0
    pooled = table.pooled("forces")
    assert (pooled.n, pooled.n_structures, pooled.n_families) == (4000, 80, 4)
    # families differ in their spread, which the pooled ranks see
    assert pooled.rank > 1.3 * table.row("forces", "liquid").rank


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_bars_that_are_half_as_long_cover_what_the_normal_says(level):
    table = calibration_table(synthetic(factor=0.5, per=50))
    exact = 2 * stats.norm.cdf(stats.norm.ppf(0.5 + level / 2) / 2) - 1
    row = table.pooled("forces")
    assert abs(row.coverage[level].value - exact) < 4 * np.sqrt(exact * (1 - exact) / row.n)
    assert row.coverage[level].high < level
    assert row.rms_z == pytest.approx(2.0, rel=0.05)


def test_a_family_row_is_what_scoring_says():
    cases = synthetic()
    row = calibration_table(cases).row("forces", "liquid")
    part = cases.where(cases.family == "liquid")
    m, s, t = part.mean, part.std, part.truth
    assert row.rmse == scoring.rmse(m, t)
    assert row.mae == scoring.mae(m, t)
    assert row.crps == scoring.crps_gaussian(m, s, t)
    assert row.log_score == pytest.approx(-np.mean(stats.norm.logpdf(t, m, s)))
    assert row.rms_z == pytest.approx(np.sqrt(np.mean(((t - m) / s) ** 2)))
    assert row.ence == scoring.ence(m, s, t)
    assert row.miscalibration == scoring.miscalibration_area(m, s, t)
    assert row.rank == pytest.approx(stats.spearmanr(np.abs(t - m), s).statistic)
    assert row.coverage[0.9] == scoring.cluster_bootstrap_coverage(
        scoring.covered(m, s, t, 0.9), part.structure
    )


def test_families_count_equally_in_the_mean():
    cases = synthetic(n_structures=30)
    # ten structures of one family, thirty of the others
    cases = cases.where((cases.family != "surface") | (cases.structure % 3 == 0))
    table = calibration_table(cases)
    rows, pooled = table.by_family(), table.pooled("forces")
    assert [r.n_structures for r in rows] == [30, 30, 10, 30]
    assert pooled.coverage[0.9] == scoring.coverage_over_groups(
        [r.coverage[0.9].value for r in rows]
    )
    assert pooled.crps == pytest.approx(np.mean([r.crps for r in rows]))
    assert pooled.rmse == pytest.approx(np.sqrt(np.mean([r.rmse**2 for r in rows])))
    # three copies of the small family make all equal, and then no weights are needed
    small = cases.where(cases.family == "surface")
    columns = ("mean", "std", "truth")
    tripled = [
        np.concatenate([getattr(cases, c)] + 2 * [getattr(small, c)]) for c in columns
    ]
    assert pooled.miscalibration == pytest.approx(scoring.miscalibration_area(*tripled))


def test_symmetry_fixed_zeros_are_left_out_and_shown_apart():
    cases = synthetic(factor=0.3)
    zeros = with_zeros(cases)
    plain, table = calibration_table(cases), calibration_table(zeros)
    for name in FAMILIES:
        one, other = plain.row("forces", name), table.row("forces", name)
        assert one.coverage == other.coverage
        assert one.crps == other.crps
    row = table.row("forces", "elastic")
    assert (row.n, row.n_fixed) == (240, 240)
    value = row.coverage[0.9].value
    assert row.coverage_with_fixed[0.9].value == pytest.approx(0.5 * value + 0.5)
    assert table.pooled("forces").coverage_with_fixed[0.9].value > value
    assert "zeros by symmetry counted" in table.text()
    assert "zeros by symmetry counted" not in plain.text()


def test_a_family_of_zeros_only_has_no_scores_and_is_not_in_the_mean():
    cases = synthetic()
    fixed = cases.family == "elastic"
    table = calibration_table(
        replace(cases, fixed=fixed, mean=np.where(fixed, 0, cases.mean),
                truth=np.where(fixed, 0, cases.truth))
    )
    row = table.row("forces", "elastic")
    assert (row.n, row.n_fixed, row.crps, row.coverage) == (0, 240, None, {})
    assert row.coverage_with_fixed[0.9].value == 1.0
    assert table.pooled("forces").n_families == 3
    assert table.pooled("forces").crps == pytest.approx(
        np.mean([r.crps for r in table.by_family()])
    )
    assert [r.family for r in table.by_family()] == ["liquid", "surface", "vacancy"]
    everything = calibration_table(
        replace(cases, fixed=np.ones(len(cases), bool))
    ).pooled("forces")
    assert (everything.n, everything.crps) == (0, None)


def test_one_structure_and_one_family_say_nothing_of_others():
    cases = synthetic()
    one = calibration_table(cases.where(cases.structure == 0))
    for row in one.rows:
        assert (row.coverage[0.9].low, row.coverage[0.9].high) == (0.0, 1.0)
    family = calibration_table(cases.where(cases.family == "liquid"))
    assert family.pooled("forces").coverage[0.9][1:] == (0.0, 1.0)
    assert family.row("forces", "liquid").coverage[0.9].low > 0.5
    energy = calibration_table(synthetic("energy", per=1, n_structures=1, names=("bulk",)))
    assert energy.row("energy", "bulk").rank is None
    assert "–" in energy.text()
    assert "mean of 1 family " in energy.text()


def test_without_spread_z_does_not_exist():
    cases = synthetic(names=("bulk", "liquid"))
    std = np.where(np.arange(len(cases)) == 0, 0.0, cases.std)
    table = calibration_table(replace(cases, std=std))
    row = table.row("forces", "bulk")
    assert (row.rms_z, row.ence, row.log_score) == (None, None, None)
    assert row.crps > 0
    assert table.row("forces", "liquid").rms_z > 0
    assert table.pooled("forces").rms_z is None


def test_the_guard_is_counted_and_its_families_have_a_row_without_them():
    cases = synthetic()
    outside = cases.family == "surface"
    # the flagged family is wrong, and another that was not flagged as well
    shift = np.where(outside | (cases.family == "vacancy"), 2.0, 0.0)
    table = calibration_table(replace(cases, mean=cases.mean + shift, outside=outside))
    assert table.row("forces", "surface").flagged
    assert table.guard("forces") == (4, 1, 2, 1)
    within = table.pooled("forces", "within the guard")
    assert (within.n_families, within.outside) == (3, 0.0)
    assert table.pooled("forces").outside == 0.25
    rows = [r for r in table.by_family() if not r.flagged]
    assert within.coverage[0.9].value == pytest.approx(
        np.mean([r.coverage[0.9].value for r in rows])
    )
    assert "mean of 3 families, within the guard" in table.text()
    assert "covered below 70 % at 90 %: 2, outside among them: 1" in table.text()
    with pytest.raises(LabelError, match=r"no level 0.8; it has \[0.5, 0.9, 0.95\]"):
        table.guard("forces", level=0.8)


def test_records_are_plain_json_and_come_back():
    cases = with_zeros(synthetic())
    energies = replace(synthetic("energy", per=1), std=np.full(80, 0.0))
    table = calibration_table([energies, cases], levels=(0.9, 0.5))
    records = table.as_records()
    back = CalibrationTable.from_records(json.loads(json.dumps(records, allow_nan=False)))
    assert back == table
    assert back.levels == [0.9, 0.5]
    assert back.text() == table.text()
    assert records[0]["unit"] == "eV/atom"
    assert records[0]["log_score"] is None
    assert records[-1]["coverage"][0].keys() == {"level", "value", "low", "high"}
    with pytest.raises(LabelError, match="a table is of one method"):
        CalibrationTable.from_records([*records, {**records[0], "method": "other"}])


def test_the_text_has_intervals_counts_and_quoted_units():
    cases = synthetic("stress", per=6)
    table = calibration_table(cases)
    row = table.pooled("stress")
    text = table.text()
    assert "## stress, GPa: discrepancy on silicon" in text
    assert f"{row.rmse * GPA:.3g}" in text
    # density per GPa
    assert f"{row.log_score + np.log(GPA):.3g}" in text
    for line in [line for line in text.splitlines() if "% [" in line]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1].isdigit()
        assert cells[2].isdigit()
        assert all("[" in cell for cell in cells[3:6])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines[: len(lines) // 2]}) == 1


def test_curves_are_the_scores_they_show():
    cases = with_zeros(synthetic())
    (curves,) = calibration_curves(cases)
    kept = cases.where(~cases.fixed)
    np.testing.assert_array_equal(curves.z, kept.z)
    table = calibration_table(cases)
    where = np.flatnonzero(curves.coverage.x == 0.9)[0]
    point = [curves.coverage.y[where], curves.coverage.low[where], curves.coverage.high[where]]
    assert tuple(point) == table.pooled("forces").coverage[0.9]
    one = kept.where(kept.family == "liquid")
    assert coverage_band(one, [0.9]).y[0] == table.row("forces", "liquid").coverage[0.9].value
    assert 0 < coverage_band(one, [0.9]).low[0] < coverage_band(one, [0.9]).high[0] < 1
    assert calibration_curves(replace(cases, fixed=np.ones(len(cases), bool))) == []


def test_error_bins_lie_on_the_line_for_true_spreads():
    cases = synthetic(per=50)
    bins = error_bins(cases)
    assert bins.x.size == 10
    assert np.all(np.diff(bins.x) > 0)
    # the mean square of 400 normals has a relative standard deviation of sqrt(2/400)
    np.testing.assert_allclose((bins.y / bins.x) ** 2, 1, atol=4 * np.sqrt(2 / 400))
    assert np.all((bins.low <= bins.y) & (bins.y <= bins.high))
    np.testing.assert_allclose(np.mean(bins.x**2), scoring.sharpness(cases.std) ** 2)
    alone = error_bins(cases.where(cases.structure == 0), n_bins=1)
    assert (alone.low[0], alone.high[0]) == (0.0, np.inf)


def test_ratio_of_crps_is_geometric_over_families():
    a = synthetic()
    b = replace(a, std=4 * a.std, method="Frederiksen")
    ratio = crps_ratio(a, b)

    def crps(cases):
        parts = [cases.where(cases.family == f) for f in FAMILIES]
        return np.array([scoring.crps_gaussian(p.mean, p.std, p.truth) for p in parts])

    by_family = crps(a) / crps(b)
    assert list(ratio.by_family.values()) == pytest.approx(by_family.tolist())
    assert ratio.value == pytest.approx(stats.gmean(by_family))
    assert ratio.low < ratio.value < ratio.high < 1
    back = crps_ratio(b, a)
    assert back.value == pytest.approx(1 / ratio.value)
    # families share the error: paired, the interval is far narrower than that of the scores
    alone = scoring.mean_over_groups(np.log(crps(a)))
    assert np.log(ratio.high / ratio.low) < 0.2 * (alone[2] - alone[1])
    same = crps_ratio(a, a)
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)
    assert same.text() == "1.00 [1.00, 1.00], 4 families"


def test_ratio_of_one_family_has_no_upper_end():
    a = synthetic(names=("bulk",))
    ratio = crps_ratio(a, replace(a, std=2 * a.std, method="wide"))
    assert (ratio.low, ratio.high) == (0.0, np.inf)
    record = json.loads(json.dumps(ratio.as_record(), allow_nan=False))
    assert record["high"] is None
    assert record["n_families"] == 1
    assert record["methods"] == ["discrepancy", "wide"]


def test_ratio_needs_the_same_cases():
    a = synthetic()
    with pytest.raises(LabelError, match=r"'discrepancy' and 'other' differ in truth"):
        crps_ratio(a, replace(a, truth=a.truth + 1, method="other"))
    with pytest.raises(LabelError, match="symmetry fixes every component"):
        crps_ratio(a, replace(a, fixed=np.ones(len(a), bool)))
    exact = replace(a, mean=a.truth, std=0 * a.std)
    with pytest.raises(LabelError, match="family 'elastic': a CRPS is 0"):
        crps_ratio(exact, a)


def test_joined_data_sets_keep_their_families_apart():
    a, b = synthetic(), replace(synthetic(seed=1), data="copper")
    both = HeldOut.join([a, b])
    assert both.families == sorted(f"{d}/{f}" for d in ("silicon", "copper") for f in FAMILIES)
    assert both.data == "silicon + copper"
    assert np.unique(both.structure).size == 160
    table = calibration_table(both)
    assert table.pooled("forces").n_families == 8
    alone = calibration_table(b).row("forces", "liquid")
    assert table.row("forces", "copper/liquid").coverage == alone.coverage
    with pytest.raises(LabelError, match="names that differ"):
        HeldOut.join([a, a])
    with pytest.raises(LabelError, match="several of method"):
        HeldOut.join([a, replace(b, method="other")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantity": "force"}, "quantity 'force' is unknown; it is one of energy, forces"),
        ({"mean": np.zeros(3)}, "columns must be flat and of one length"),
        ({"truth": np.full(240, np.nan)}, "truth has 240 of 240 values that are not finite"),
        ({"epistemic_std": np.full(240, -0.5)}, "epistemic_std has a negative value, -0.5"),
        ({"structure": np.zeros(240)}, "structure 0 has two families"),
    ],
)
def test_bad_cases_are_named(change, message):
    good = synthetic(n_structures=10, per=12, names=("a", "b"))
    with pytest.raises(LabelError, match=message):
        replace(good, **change)


def test_cases_are_read_only_and_empty_selections_are_refused():
    cases = synthetic()
    with pytest.raises(ValueError, match="read-only"):
        cases.mean[0] = 1.0
    with pytest.raises(LabelError, match="forces: there is no case"):
        cases.where(cases.family == "gas")
    with pytest.raises(LabelError, match="each quantity once"):
        calibration_table([cases, cases])
    with pytest.raises(LabelError, match="no row for stress: all; there are forces: all"):
        calibration_table(cases).pooled("stress")
    assert repr(cases) == (
        "HeldOut('forces', 960 cases, 4 families, method='discrepancy', data='silicon')"
    )


def test_z_of_a_case_without_spread():
    cases = synthetic(names=("bulk",), n_structures=1, per=3)
    z = replace(cases, mean=[0, 0, 0], truth=[1, 0, -2], std=[0, 0, 1], epistemic_std=[0] * 3).z
    assert z.tolist() == [np.inf, 0.0, -2.0]
