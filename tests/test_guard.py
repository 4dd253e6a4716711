"""The guard asks for the kind of structure that is missing, wherever people look."""

import re
import sys

import jax
import pytest

import bayespot
from bayespot.active.prequential import predicted_rows
from bayespot.active.report import collect_notes
from bayespot.cli import main
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.likelihood import FitProblem
from bayespot.posterior import Posterior
from bayespot.potentials.ace import ACE
from bayespot.prediction import predict
from bayespot.records import write_json


@pytest.fixture(scope="module")
def data():
    return bayespot.read("silicon_gpaw_pbe")


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    """Strained and thermal crystals, with bars tuned on families left out, from its file."""
    form = ACE(species=("Si",), cutoff=5.0, r0=2.37, degree_1=8, degree_2=6, degree_3=-1)
    problem = FitProblem(form, data.select(family=["strained", "thermal"]),
                         misfit="tempered")
    path = tmp_path_factory.mktemp("guard") / "posterior.nc"
    linear_gaussian(problem, key=jax.random.key(0), draws=100).save(path)
    return path


def test_what_a_prediction_asks_for(fitted, data):
    posterior = Posterior.load(fitted)
    assert set(posterior.record["data"]["families"]) == {"strained", "thermal"}
    for family, missing in (("surface", "vacuum"), ("phase", "neighbours")):
        part = data.select(family=family)
        out = predict(posterior, part)
        far = [notes[-1] for notes, grade in zip(out.warnings, out.extrapolation, strict=True)
               if grade > 1]
        assert far
        for note in far:
            assert note.startswith("outside the calibrated range: spread ")
            assert re.search(r"; nearest family '(strained|thermal)'", note)
        assert any(re.search(f"no structure of the data has .*{missing}", n) for n in far)
    inside = predict(posterior, data.select(family="thermal"))
    assert not any("nearest family" in n for notes, grade in
                   zip(inside.warnings, inside.extrapolation, strict=True) if grade <= 1
                   for n in notes)


def furthest(posterior, data):
    surfaces = data.select(family="surface")
    out = predict(posterior, surfaces)
    return surfaces[int(out.extrapolation.argmax())]


def test_the_calculator_and_the_command_ask_too(fitted, data, tmp_path, monkeypatch, capsys):
    posterior = Posterior.load(fitted)
    one = furthest(posterior, data)
    atoms = one.structures[0].copy()
    atoms.calc = bayespot.PosteriorCalculator(posterior)
    with pytest.warns(UserWarning, match=r"nearest family .*; no structure of the data has "):
        atoms.get_potential_energy()
    one.write(tmp_path / "one.xyz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bayespot", "predict", str(fitted), "one.xyz", "-o",
                                      "out.xyz"])
    with pytest.raises(SystemExit):
        main()
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "nearest family" in re.sub(r"\s+", " ", printed)
    text = (tmp_path / "out.xyz").read_text()
    assert re.search("no structure of the data has .*vacuum", text)


def test_the_campaign_asks_too(fitted, data, tmp_path):
    """Chosen structures were predicted before their labels came: what was said is a note."""
    posterior = Posterior.load(fitted)
    chosen = data.select(family=["surface", "thermal"])[::10]
    out = predict(posterior, chosen)
    room = tmp_path / "round_002"
    write_json(room / "predicted.json", {"rows": predicted_rows(out, len(chosen))})
    notes = collect_notes(tmp_path)
    flagged = sum(any(n.startswith("outside") for n in notes) for notes in out.warnings)
    assert flagged
    assert len(notes) == 1
    assert notes[0].startswith(f"round 2: {flagged} of {len(chosen)} chosen structures lay "
                               "outside the calibrated range, for example: spread ")
    assert "nearest family" in notes[0]
    write_json(room / "predicted.json", {"rows": [{"n_atoms": 2}]})
    assert collect_notes(tmp_path) == []
