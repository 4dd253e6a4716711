"""A whole study on an oracle with known orders: choice, floor, failures, kills."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import power_law
import pytest

from bayespot import NoiseFloor
from bayespot.convergence import Calculations, brief_lines, make_scan, run_study, study_lines
from bayespot.errors import ConfigError, OracleError
from bayespot.records import write_json

SCRIPT = Path(power_law.__file__)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return power_law.study(tmp_path_factory.mktemp("study"))


def test_orders_are_recovered(found):
    """In 1/cutoff and in the tolerance: energies 2, forces and stresses 1."""
    for result in found.scans:
        for measure, order in (("energy", 2), ("energy_difference", 2), ("forces", 1),
                               ("stress", 1)):
            fitted = result.orders[measure]
            # An error against a reference that is itself off by x is short by x, and points count
            # from three times that: at the tightest the logarithm is wrong by log(3/2), over a
            # range of steps of 8 or more.
            bias = np.log(1.5) / np.log(8.0)
            assert order - 0.01 < fitted.slope < order + bias, (result.scan.name, measure)
            assert len(fitted.used) >= 3


def test_errors_are_differences_from_the_tightest(found):
    cutoff = found.scans[0]
    assert cutoff.scan.values[cutoff.reference] == 1600.0
    expected = 0.02 * (1 / 50 - 1 / 1600)
    assert cutoff.levels[0].errors.rms["stress"] == pytest.approx(expected, rel=1e-9)
    assert cutoff.levels[-1].errors.rms["forces"] == 0.0


def test_the_recommended_setting_meets_the_target_and_no_cheaper_one_does(found):
    values = found.recommended.values
    h, t = 1 / values["cutoff"], values["scf"]
    spread = np.sqrt(np.mean([np.mean(np.cos(5 * a.positions) ** 2)
                              for a in power_law.crystals().structures]))
    assert (h + 0.5 * t) * spread <= power_law.TARGET["forces"]
    assert 0.02 * (h + t) <= power_law.TARGET["stress"]
    for result in found.scans:
        for level in result.levels[: result.chosen]:
            assert not level.good
    assert found.recommended.settings == {
        "basis": {"cutoff": values["cutoff"]}, "tolerance": values["scf"]}
    assert found.notes == ()


def test_settings_are_tightened_until_the_whole_meets_the_target(tmp_path):
    """Each scan alone keeps the target, both errors together do not: the worse is tightened."""
    target = {"stress": 0.02 * (1 / 100 + 0.5e-2)}
    study = power_law.study(tmp_path, target=target)
    alone = {r.scan.name: r.scan.values[r.chosen] for r in study.scans}
    assert alone == {"cutoff": 100.0, "scf": 1e-2}
    assert study.tried[0].values == alone
    assert not study.tried[0].good
    assert study.recommended.values == {"cutoff": 100.0, "scf": 1e-3}  # 1e-2 errs most


def test_an_unconverged_reference_is_said(tmp_path):
    """The last step of the scan is as large as the target: no setting can be recommended."""
    some = [make_scan("power_law", "cutoff", (20.0, 25.0, 30.0), key="basis.cutoff")]
    study = power_law.study(tmp_path, some=some)
    assert study.recommended is None
    notes = " ".join(study.notes)
    assert "the reference itself (30 ) is not converged in forces" in notes.replace("  ", " ")
    assert "no setting of these scans meets the target" in notes
    truth = np.sqrt(np.mean([np.mean(np.cos(5 * a.positions) ** 2)
                             for a in power_law.crystals().structures])) / 30
    assert study.uncertainty["forces"] >= 0.2 * truth
    text = "\n".join(study_lines(study))
    assert "**No setting of these scans meets the target**" in text


def test_the_floor_is_what_the_likelihood_reads(found, tmp_path):
    path = tmp_path / "floor.json"
    write_json(path, found.floor)
    floor = NoiseFloor.from_json(path)
    settings = found.recommended.values
    h = 1 / settings["cutoff"] - 1 / 1600
    t = settings["scf"] - 1e-6
    stress = np.hypot(0.02 * (h + t), found.uncertainty["stress"])
    assert floor.stress == pytest.approx(stress, rel=1e-6)
    assert set(floor.families) == {"strained", "thermal"}
    rows = found.floor["families"]
    assert {name: row["n"] for name, row in rows.items()} == {"strained": 1, "thermal": 2}
    total = sum(row["n"] * row["s_energy"] ** 2 for row in rows.values()) / 3
    assert floor.energy**2 == pytest.approx(total)
    errors = found.production.errors.rms
    assert floor.energy == pytest.approx(
        np.hypot(errors["energy_difference"], found.uncertainty["energy_difference"]))
    assert found.floor["settings"] == found.recommended.settings
    assert found.floor["species"] == ["Cu"]


def test_no_floor_where_it_cannot_be_measured(tmp_path):
    study = power_law.study(tmp_path, dataset=power_law.crystals(1))
    assert study.floor is None
    assert any(n.startswith("no floor: s_energy could not be measured on 1 ") for n in study.notes)
    assert any("energy difference: nothing to measure" in n for n in study.notes)


def test_the_floor_of_the_base_setting(tmp_path):
    study = power_law.study(tmp_path, production="base")
    assert study.production.settings == power_law.BASE
    h = 1 / 100 - 1 / 1600
    expected = np.hypot(0.02 * h, study.uncertainty["stress"])
    assert study.floor["overall"]["s_stress"] == pytest.approx(expected, rel=1e-4)


def test_failures_are_set_aside_and_reported(tmp_path):
    """One structure fails at one loose and at the tightest cutoff: the rest of the study stands."""
    first = power_law.crystals().structures[0].positions

    def fails(keywords, atoms):
        return np.array_equal(atoms.positions, first) and keywords["basis"]["cutoff"] in (200, 1600)

    target = {"forces": 4.5e-3}
    study = power_law.study(tmp_path, fails=fails, target=target)
    cutoff = study.scans[0]
    assert [level.failed for level in cutoff.levels] == [0, 0, 1, 0, 0, 1]
    assert [level.errors.n for level in cutoff.levels] == [2, 2, 2, 2, 2, 2]
    assert cutoff.scan.values[cutoff.chosen] == 400.0  # 200 failed once, so it is not taken
    where = {(f.where, f.structure) for f in study.failures}
    assert {("cutoff = 200", 0), ("cutoff = 1600", 0), ("best reference", 0)} <= where
    text = "\n".join(study_lines(study))
    assert "cutoff = 200, structure 0 (Cu4): not converged: made to fail" in text
    assert "calculations without labels" in brief_lines(study)[-1]
    again = []
    study = power_law.study(tmp_path, made=again.append, target=target)
    assert again == []  # failures are results, too
    failed = [p for p in tmp_path.iterdir() if json.loads(p.read_text(encoding="utf-8"))["failed"]]
    study = power_law.study(tmp_path, made=again.append, retry_failed=True, target=target)
    assert len(again) >= len(failed) == 2  # with them the combinations that are tried may change
    assert not study.failures


def test_a_tightest_value_that_always_fails_is_no_reference(tmp_path):
    study = power_law.study(tmp_path, fails=lambda k, _: k["basis"]["cutoff"] == 1600)
    cutoff = study.scans[0]
    assert cutoff.scan.values[cutoff.reference] == 800.0
    assert any("most calculations failed beyond 800" in note for note in study.notes)
    assert study.reference["basis"]["cutoff"] == 800.0
    assert study.recommended is not None
    with pytest.raises(OracleError, match=r"18 times.*not converged: made to fail"):
        power_law.study(tmp_path / "all", fails=lambda *_: True)


def test_a_setting_that_is_part_of_the_model_stays(tmp_path):
    some = power_law.scans()
    some[1] = make_scan("power_law", "scf", power_law.TOLERANCES, key="tolerance", refine=False)
    study = power_law.study(tmp_path, some=some)
    assert study.reference["tolerance"] == power_law.BASE["tolerance"]
    assert set(study.recommended.values) == {"cutoff"}
    assert "Part of the model" in "\n".join(study_lines(study))


def test_mistakes(tmp_path):
    scan = power_law.scans()[0]
    for options, message in (
        ({"some": []}, "no scan"),
        ({"some": [scan, scan]}, "basis.cutoff is changed by two scans"),
        ({"target": {"force": 1.0}}, "give one or more of energy, energy_difference, forces"),
        ({"production": "best"}, "neither 'recommended' nor 'base'"),
    ):
        with pytest.raises(ConfigError, match=message):
            power_law.study(tmp_path, **options)


def test_a_threshold_that_was_passed_counts_once(tmp_path):
    """A cycle may end far below its threshold: equal labels belong to the tightest of theirs."""
    class Steps(power_law.PowerLaw):
        def label(self, structure):
            asked = self.keywords
            reached = 10.0 ** np.floor(np.log10(asked["tolerance"] * 1.001))
            self.keywords = {**asked, "tolerance": reached}
            result = super().label(structure)
            self.keywords = asked
            return result

    values = tuple(10.0 ** (-np.arange(1, 11) / 2))
    study = run_study(
        Calculations(tmp_path, "steps", lambda _, keywords: Steps(keywords)), power_law.BASE,
        [make_scan("steps", "scf", values, key="tolerance")], power_law.crystals(),
        power_law.TARGET)
    (scan,) = study.scans
    for measure, order in (("energy", 2), ("forces", 1)):
        fitted = scan.orders[measure]
        # 0.3 and 0.1 reach 0.1, and so on: each second one is left
        assert fitted.used in ((1, 3, 5), (1, 3, 5, 7)), measure
        # the reference, off by 1e-5 itself, makes the last error of three decades 10 % too small
        assert fitted.slope == pytest.approx(order, abs=np.log(1 / 0.9) / np.log(1e3))


def test_a_keyword_without_effect_is_found(tmp_path):
    """pw.x knows ecutwfc with and without its namelist; the one that is scanned may not count."""
    class Deaf(power_law.PowerLaw):
        def __init__(self, settings):
            super().__init__(settings)
            self.settings = {"oracle": "deaf"}

    with pytest.raises(ConfigError, match=r"basis\.cutoff does not change what is calculated"):
        run_study(Calculations(tmp_path, "deaf", lambda _, keywords: Deaf(keywords)),
                  power_law.BASE, power_law.scans(), power_law.crystals(), power_law.TARGET)
    assert not list(tmp_path.iterdir())


def test_a_killed_study_goes_on(tmp_path, found):
    """SIGKILL in the middle of calculations 1, 8 and 20; then to the end: each is made once."""
    log = tmp_path / "log"

    def run(*words):
        return subprocess.run([sys.executable, SCRIPT, tmp_path / "work", log, *words], check=False,
                              capture_output=True, text=True, timeout=300)

    for number in ("1", "8", "20"):
        assert run(number).returncode == -9
    done = run()
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == found.recommended.settings
    calculations = list((tmp_path / "work").glob("*.json"))
    lines = log.read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(calculations) > 27
    assert all(json.loads(p.read_text(encoding="utf-8"))["energy"] is not None
               for p in calculations)
