"""What a reader may copy from the README works."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bayespot

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "paper/paper.md")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def lenient(monkeypatch):
    """Accept the few draws that a test has time for."""
    for name, value in (("ESS_LIMIT", 0), ("R_HAT_LIMIT", 100.0), ("DIVERGENCE_LIMIT", 1.0),
                        ("SATURATION_LIMIT", 1.0), ("BFMI_LIMIT", 0.0)):
        monkeypatch.setattr(f"bayespot.inference.assemble.{name}", value)


def test_the_quickstart_runs(lenient, monkeypatch, tmp_path, capsys):
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    small = code.replace("chains=4, warmup=300, draws=500",
                         "chains=2, warmup=20, draws=20, starts=2, progress=False")
    small = small.replace('read("silicon_gpaw_pbe")', 'read("silicon_gpaw_pbe")[::6]')
    assert small.count("draws=20") == 1
    assert small.count("[::6]") == 1
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(small, "README.md", "exec"), names)
    assert names["prediction"].energy_total_std > 0
    assert (tmp_path / "silicon.nc").exists()
    assert "misfit = discrepancy: temperature" in capsys.readouterr().out


def test_two_commands_are_there():
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    chained = [c for c in commands if c.startswith("python3 -m venv")]
    assert [c.split("&&")[-1].strip() for c in chained] == [".venv/bin/bayespot demo",
                                                             ".venv/bin/pytest"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "bayespot" in project["scripts"]
    assert {"test", "gpaw"} <= set(project["optional-dependencies"])


@pytest.mark.parametrize("command", ["demo", "fit", "predict", "learn", "status", "diagnose",
                                     "potentials"])
def test_named_commands_exist(command):
    assert f"bayespot {command}" in README
    run = subprocess.run([sys.executable, "-m", "bayespot", command, "--help"],
                         capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr


def test_links_lead_somewhere():
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            made = re.sub(r"(figures/\w+)\.(png|md)$", r"\1.py", target)  # a script makes it
            if not target.startswith("http"):
                target = target if (ROOT / page).parent.joinpath(target).exists() else made
                assert (ROOT / page).parent.joinpath(target).exists(), f"{page}: {target}"


def test_version_is_everywhere_the_same():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {bayespot.__version__}\n" in citation
    assert f"## [{bayespot.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
