"""The public names are frozen: a change here is a change for every user."""

import subprocess
import sys
from types import ModuleType

import pytest

import bayespot

PUBLIC = [
    "Dataset",
    "FitProblem",
    "Labels",
    "LennardJones",
    "LogNormal",
    "Morse",
    "NoiseFloor",
    "Normal",
    "Posterior",
    "PosteriorCalculator",
    "Reference",
    "StillingerWeber",
    "__version__",
    "configure",
    "errors",
    "export_lammps",
    "hyper",
    "laplace",
    "linear_gaussian",
    "map_estimate",
    "nuts",
    "param",
    "predict",
    "read",
    "registry",
    "testing",
]
MODULES = {"errors", "testing"}


def test_names_are_frozen():
    assert dir(bayespot) == PUBLIC


def test_there_are_at_most_25():
    assert len([name for name in PUBLIC if name != "__version__"]) <= 25


@pytest.mark.parametrize("name", [n for n in PUBLIC if n != "__version__"])
def test_name_resolves_and_is_described(name):
    thing = getattr(bayespot, name)
    assert isinstance(thing, ModuleType) == (name in MODULES)
    assert thing.__doc__


@pytest.mark.parametrize("order", [("PosteriorCalculator", "predict"), ("registry", "laplace")])
def test_names_mean_the_same_in_any_order(order):
    """A submodule that is loaded on the way must not take the place of a function."""
    script = "import bayespot\n" + "".join(f"x = bayespot.{name}\n" for name in order)
    script += "assert callable(x), x"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                         check=False, timeout=300)
    assert run.returncode == 0, run.stderr


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'nutz'"):
        _ = bayespot.nutz


def test_version_is_that_of_the_distribution():
    from importlib.metadata import version

    assert version("bayespot") == bayespot.__version__
