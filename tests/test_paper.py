"""Figures come from results files, and the text cites what the bibliography has."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAPER = Path(__file__).resolve().parents[1] / "paper"
SCRIPTS = sorted((PAPER / "figures").glob("*.py"))
TEXT = (PAPER / "paper.md").read_text(encoding="utf-8")


def results_read_by(script):
    """Names of results files that stand in a script."""
    strings = [n.value for n in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
               if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [s for s in strings if re.fullmatch(r"[\w*]+\.json", s)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_figure_script_runs(script, tmp_path):
    names = results_read_by(script)
    assert names, f"{script.name} reads no results file"
    missing = [n for n in names if not list((PAPER / "results").glob(n))]
    if missing:
        pytest.skip(f"paper/results has no {', '.join(missing)} yet: run the benchmark behind it")
    subprocess.run([sys.executable, script, "--out", tmp_path], check=True, timeout=300)
    made = list(tmp_path.iterdir())
    # A table and a picture have the name of their script, and what follows it where it makes many.
    assert made
    assert all(f"{file.stem}_".startswith(f"{script.stem}_") for file in made), made
    assert all(file.stat().st_size > 0 for file in made)


def test_every_figure_has_its_script():
    for figure in re.findall(r"\]\(figures/(\w+)\.(?:png|md)\)", TEXT):
        assert (PAPER / "figures" / f"{figure}.py").exists(), figure


def test_no_number_is_typed_by_hand():
    """Words count things that do not change; measured numbers belong to results files."""
    body = TEXT.split("---", 2)[2]
    body = re.sub(r"\[@[^\]]*\]|@\w+|\]\([^)]*\)|\\\w+\{[^}]*\}", "", body)
    assert not re.findall(r"\d[\d.,]*", body)


def test_citations_and_bibliography_agree():
    keys = set(re.findall(r"^@\w+\{(\w+),", (PAPER / "paper.bib").read_text(encoding="utf-8"),
                          flags=re.MULTILINE))
    cited = set(re.findall(r"@(\w+)", TEXT.split("---", 2)[2]))
    assert cited == keys


def test_results_have_the_agreed_form():
    files = sorted((PAPER / "results").glob("*.json"))
    if not files:
        pytest.skip("no results yet")
    for path in files:
        record = json.loads(path.read_text(encoding="utf-8"))
        for claim in record.get("claims", []):
            assert set(claim) >= {"name", "value", "low", "high", "n", "target", "passed", "unit",
                                  "command"}, f"{path.name}: {claim.get('name')}"
            if claim["target"] is not None and claim["value"] is not None:
                assert isinstance(claim["passed"], bool), claim["name"]
