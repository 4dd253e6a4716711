"""A stand-in for pw.x, and a structure for it."""

import sys
from pathlib import Path

import pytest
from ase.build import bulk

from bayespot.oracles import CalculatorOracle

STAND_IN = Path(__file__).with_name("stand_in.py")
SETTINGS = {
    "input_data": {"ecutwfc": 20, "occupations": "smearing", "degauss": 0.01},
    "pseudopotentials": {"Ar": "Ar.upf"},
    "kpts": {"density": 2.0, "gamma": True},
}


@pytest.fixture
def argon():
    atoms = bulk("Ar", "fcc", a=5.3)
    atoms.rattle(0.05, seed=1)
    atoms *= (2, 1, 1)
    return atoms


@pytest.fixture
def stand_in(tmp_path):
    """Make an espresso oracle around the stand-in: ``stand_in("--fail", "crash", ladder=())``."""
    pseudo = tmp_path / "pseudo"
    pseudo.mkdir()
    (pseudo / "Ar.upf").write_text("not read by the stand-in\n")
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def make(*words, settings=None, **run):
        command = [sys.executable, str(STAND_IN), *map(str, words)]
        run = {"command": command, "pseudo_dir": str(pseudo), "scratch": str(scratch)} | run
        return CalculatorOracle("espresso", SETTINGS | (settings or {}), run=run)

    make.scratch = scratch
    return make
