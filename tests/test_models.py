"""Published models load, describe themselves truly, and still predict what they predicted."""

import importlib.util
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

import bayespot

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted(p for p in (ROOT / "models").iterdir() if p.is_dir())
FILES = {"README.md", "card.toml", "fit.py", "posterior.nc", "predictions.json"}


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda p: p.name)
def folder(request):
    return request.param


@pytest.fixture(scope="module")
def posterior(folder):
    return bayespot.Posterior.load(folder / "posterior.nc")


@pytest.fixture(scope="module")
def card(folder):
    return tomllib.loads((folder / "card.toml").read_text(encoding="utf-8"))


def test_there_is_a_model():
    assert FOLDERS


def test_folder_is_complete_and_small(folder):
    names = {p.name for p in folder.iterdir() if not p.name.startswith("__")}
    assert names == FILES
    assert (folder / "posterior.nc").stat().st_size < 1_000_000


def test_posterior_is_as_the_card_says(posterior, card):
    assert posterior.converged
    assert card["diagnostics"]["passed"]
    assert card["diagnostics"]["max_r_hat"] <= 1.01
    assert min(card["diagnostics"]["min_ess_bulk"], card["diagnostics"]["min_ess_tail"]) >= 400
    assert posterior.record["form"] == card["potential"]["form"]
    assert list(posterior.species) == card["potential"]["species"]
    assert posterior.misfit == card["method"]["misfit"]
    assert posterior.record["data"]["fingerprint"] == card["data"]["fingerprint"]
    assert posterior.record["thinned"]["kept"] == len(posterior.u)


def test_data_are_those_of_the_archive(card):
    assert bayespot.read(card["data"]["source"]).fingerprint() == card["data"]["fingerprint"]


def test_predictions_have_not_changed(folder, posterior):
    """Same draws, same structures: anything but rounding is a change of the code."""
    spec = importlib.util.spec_from_file_location("fit_script", folder / "fit.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    stored = json.loads((folder / "predictions.json").read_text(encoding="utf-8"))
    now = script.properties(posterior)
    assert list(now) == list(stored)
    for name, value in stored.items():
        assert np.isfinite(list(value.values())).all()
        for part in ("mean", "sd"):
            assert now[name][part] == pytest.approx(value[part], rel=1e-6, abs=1e-9), name


def test_the_readme_of_the_model_says_what_to_expect(folder, card):
    text = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("## Range of validity", "## Known failures", "misfit", "card.toml", "fit.py"):
        assert part in text
