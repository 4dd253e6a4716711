"""All properties of all draws: intervals, covariance, files, the run of a TOML file."""

import json
import tomllib

import numpy as np
import pytest

import bayespot
from bayespot.cli import main
from bayespot.config.properties import load_properties
from bayespot.errors import ConfigError, NotConverged, PropertyError
from bayespot.properties import Curve, PropertyDraws, Quantity, Result, surfaces_of

MODEL = "silicon-stillinger_weber-gpaw_pbe-2026"


def made(n=400):
    """Two results with known moments: y = 2 x + noise, z missing on every fourth draw."""
    rng = np.random.default_rng(5)
    x = rng.normal(10.0, 1.0, n)
    y = 2.0 * x + rng.normal(0.0, 0.5, n)
    missing = np.arange(n) % 4 == 0
    z = np.where(missing, np.nan, rng.normal(size=n))
    one = Result("one", {"x": Quantity(x, 0.01, "GPa"), "y": Quantity(y, np.nan, "eV")},
                 {"c": Curve(np.arange(3.0), np.ones((n, 3)), "T", "K", "eV")})  # fmt: skip
    two = Result("two", {"z": Quantity(z, 0.2, "1")}, failed={"no minimum": missing},
                 unstable={"soft": np.arange(n) % 2 == 0})  # fmt: skip
    return PropertyDraws({"one": one, "two": two}, {"one": {"DFT": {"x": 11.0}}}, {"seed": 5})


def test_rows():
    x, y, z = made().summary()
    assert (x.name, x.unit, x.n, x.failed) == ("one: x", "GPa", 400, 0.0)
    assert x.references == {"DFT": 11.0}
    low, high = x.intervals[0.9]
    assert low == pytest.approx(10 - 1.645, abs=0.2)
    assert high == pytest.approx(10 + 1.645, abs=0.2)
    assert x.intervals[0.5][1] - x.intervals[0.5][0] == pytest.approx(1.349, abs=0.2)
    # The spread of the parameters and the numerical error are two numbers.
    assert x.parameter_std == pytest.approx(1.0, abs=0.1)
    assert x.numerical_error == pytest.approx(0.01)
    assert np.isnan(y.numerical_error)
    assert (z.n, z.failed, z.unstable) == (300, 0.25, 0.5)


def test_covariance():
    draws = made()
    covariance, n = draws.covariance(["one: x", "one: y"])
    assert n == 400
    np.testing.assert_allclose(covariance, np.cov(draws.values[:, :2], rowvar=False))
    assert covariance[0, 1] == pytest.approx(2.0, abs=0.3)
    assert draws.covariance()[1] == 300  # those with all three
    with pytest.raises(PropertyError, match="no property 'one: q'; there are: one: x"):
        draws.covariance(["one: q"])


def test_file(tmp_path):
    draws = made(8)
    draws.save(tmp_path / "p.nc")
    again = PropertyDraws.load(tmp_path / "p.nc")
    assert again.names == draws.names
    np.testing.assert_array_equal(again.values, draws.values)
    np.testing.assert_array_equal(again.errors, draws.errors)
    assert again.references == draws.references
    assert again.record == {"seed": 5}
    assert again.problems == draws.problems
    np.testing.assert_array_equal(
        again.results["one"].curves["c"].values, draws.results["one"].curves["c"].values
    )
    with pytest.raises(PropertyError, match="no properties at"):
        PropertyDraws.load(tmp_path / "q.nc")


def test_what_does_not_fit_together():
    one = Result("one", {"x": Quantity(np.zeros(3), 0.0, "1")})
    with pytest.raises(PropertyError, match="cannot be joined"):
        PropertyDraws({"a": one, "b": Result("b", {"x": Quantity(np.zeros(2), 0.0, "1")})})
    with pytest.raises(PropertyError, match="has no quantity 'y'; it has: x"):
        PropertyDraws({"a": one}, {"a": {"DFT": {"y": 1.0}}})
    with pytest.raises(PropertyError, match="3 values, one per draw"):
        _ = one["x"].value


TEXT = """
name = "si"
posterior = "{posterior}"
draws = 4

[crystals.diamond]
structure = "diamond"
element = "Si"
a = 5.43

[crystals.tin]
structure = "beta-tin"
element = "Si"
a = 4.83
c = 2.66

[[properties]]
kind = "lattice"
show = ["a"]
reference.experiment = {{ a = 5.431 }}

[[properties]]
kind = "elastic"
show = ["C44", "C11"]
reference.DFT = {{ C11 = 147.0, C44 = 73.0 }}

[[properties]]
kind = "transition_pressure"
name = "to beta-tin"
to = "tin"
"""


@pytest.fixture
def config(request, tmp_path):
    posterior = request.config.rootpath / "models" / MODEL / "posterior.nc"
    path = tmp_path / "si.toml"
    path.write_text(TEXT.format(posterior=posterior), encoding="utf-8")
    return path


def test_command(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bayespot", "properties", str(config), "-o",
                                     str(tmp_path / "out")])  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "C44" in said
    assert "misfit = none" in said
    folder = tmp_path / "out"
    content = json.loads((folder / "properties.json").read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in content["properties"]}
    assert rows["elastic: C11"]["references"] == {"DFT": 147.0}
    assert len(content["covariance"]["matrix"]) == len(content["covariance"]["properties"])
    draws = PropertyDraws.load(folder / "properties.nc")
    assert draws.n_draws == 4
    # The draws are those of the posterior: the same numbers from the functions themselves.
    run = load_properties(config)
    posterior = bayespot.Posterior.load(run.posterior)
    from ase.build import bulk

    from bayespot.properties import lattice

    alone = lattice(surfaces_of(posterior, n_draws=4), bulk("Si", "diamond", a=5.43))
    np.testing.assert_allclose(
        draws.quantities["lattice: a"].values, alone["a"].values, rtol=1e-6
    )
    table = (folder / "properties.md").read_text(encoding="utf-8")
    assert table.index("elastic: C44") < table.index("elastic: C11")
    assert (folder / "properties.png").read_bytes().startswith(b"\x89PNG")
    resolved = tomllib.loads((folder / "config.resolved.toml").read_text(encoding="utf-8"))
    assert resolved["properties"][1]["kind"] == "elastic"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "elastic"', 'kind = "elastik"', "did you mean 'elastic'"),
        ('kind = "elastic"', 'kind = "elastic"\nstepp = 0.1', "did you mean 'step'"),
        ('kind = "elastic"', 'kind = "elastic"\nstep = -1.0', "step = -1.0"),
        ('to = "tin"', 'to = "tinn"', "properties[2].to = 'tinn' is no crystal; did you mean"),
        ('structure = "diamond"', 'structure = "diamon"', "did you mean 'diamond'"),
        ("c = 2.66", "", "c of hcp and beta-tin"),
        ('name = "to beta-tin"', 'name = "elastic"', "two properties are called 'elastic'"),
        ("posterior.nc", "nothing.nc", "run a fit first"),
        ("draws = 4", "draw = 4", "did you mean 'draws'"),
    ],
)
def test_mistakes_in_the_file(config, old, new, message):
    text = config.read_text(encoding="utf-8")
    assert text.count(old) == 1
    config.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_properties(config)
    assert message in str(error.value)


def test_a_quantity_that_is_not_there(config, tmp_path):
    from bayespot.runs import properties_run

    text = config.read_text(encoding="utf-8").replace('show = ["a"]', 'show = ["aa"]')
    config.write_text(text, encoding="utf-8")
    run = load_properties(config)
    with pytest.raises(ConfigError, match="no quantity 'lattice: aa'"):
        properties_run(run, bayespot.Posterior.load(run.posterior), tmp_path / "out")


def test_unconverged_draws_are_refused(config, monkeypatch):
    posterior = bayespot.Posterior.load(load_properties(config).posterior)
    posterior.record["problems"] = ["R-hat of D is 1.3"]
    with pytest.raises(NotConverged, match="R-hat of D"):
        surfaces_of(posterior)
    assert surfaces_of(posterior, n_draws=2, allow_unconverged=True).n == 2
