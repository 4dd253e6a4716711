"""Properties by an oracle as references: the same functions, kept, and continued."""

import json

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from bayespot.config.properties import load_properties
from bayespot.errors import ConfigError
from bayespot.properties import CalculatorSurface, elastic, lattice
from bayespot.property_references import read_references, reference_run

MODEL = "silicon-stillinger_weber-gpaw_pbe-2026"
TEXT = """
posterior = "{posterior}"

[reference]
label = "EMT"
oracle = "emt"
oracle_settings = {{ asap_cutoff = true }}
oracle_run = {{ isolate = false }}
relax = {{ forces = 1e-4, stress_GPa = 1e-3 }}
skip = ["fault"]

[crystals.copper]
structure = "fcc"
element = "Cu"
a = 3.6

[crystals.silicon]
structure = "diamond"
element = "Si"
a = 5.4

[[properties]]
kind = "lattice"
reference.experiment = {{ a = 3.615 }}

[[properties]]
kind = "elastic"
name = "elastic, silicon"
crystal = "silicon"

[[properties]]
kind = "elastic"

[[properties]]
kind = "stacking_fault"
name = "fault"
"""


@pytest.fixture
def config(request, tmp_path):
    posterior = request.config.rootpath / "models" / MODEL / "posterior.nc"
    path = tmp_path / "copper.toml"
    path.write_text(TEXT.format(posterior=posterior), encoding="utf-8")
    return path


def test_values_are_those_of_the_functions(config, tmp_path):
    told = []
    run = load_properties(config)
    found = reference_run(run, tmp_path / "reference", happened=told.append)
    surface = CalculatorSurface(EMT(asap_cutoff=True), run.reference.relax.tolerance)
    copper = bulk("Cu", a=3.6)
    for name, expected in (("lattice", lattice(surface, copper)),
                           ("elastic", elastic(surface, copper))):
        assert not expected.failed
        values = {k: q.value for k, q in expected.quantities.items()}
        assert found[name]["values"] == pytest.approx(values, rel=1e-9)
        assert found[name]["units"] == {k: q.unit for k, q in expected.quantities.items()}
    assert "fault" not in found, "it is to be skipped"
    # What the oracle cannot do is said, and what comes after it is done.
    assert "Si" in found["elastic, silicon"]["failed"]
    assert [text.split(":")[0] for text in told] == [
        "EMT, lattice", "EMT, elastic, silicon", "EMT, elastic"]
    references = read_references(run, tmp_path / "reference")
    assert references["lattice"]["experiment"] == {"a": 3.615}
    assert references["lattice"]["EMT"]["a"] == found["lattice"]["values"]["a"]
    assert references["elastic, silicon"] == references["fault"] == {}


def test_nothing_is_computed_twice(config, tmp_path):
    run, folder = load_properties(config), tmp_path / "reference"
    first = reference_run(run, folder)
    labels = {p.name: p.stat().st_mtime_ns for p in (folder / "calculations").iterdir()}
    told = []
    again = reference_run(run, folder, happened=told.append)
    assert again == first
    assert len(told) == 1, "only what failed is tried again"
    kept = {p.name: p.stat().st_mtime_ns for p in (folder / "calculations").iterdir()}
    assert sum(kept[name] == labels[name] for name in labels) == len(labels) - 1
    # Killed after its calculations, before its row was written: the calculations are taken.
    record = json.loads((folder / "references.json").read_text(encoding="utf-8"))
    del record["found"]["lattice"]
    (folder / "references.json").write_text(json.dumps(record), encoding="utf-8")
    assert reference_run(run, folder)["lattice"] == first["lattice"]
    assert {p.name for p in (folder / "calculations").iterdir()} == set(labels)


def test_values_of_other_settings_are_not_taken(config, tmp_path):
    folder = tmp_path / "reference"
    reference_run(load_properties(config), folder)
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("asap_cutoff = true", "asap_cutoff = false"), encoding="utf-8")
    assert "EMT" not in read_references(load_properties(config), folder)["lattice"]


@pytest.mark.parametrize(("old", "new", "message"), [
    ('skip = ["fault"]', 'skip = ["falt"]', "reference.skip: 'falt' is no property of this file; "
     "did you mean 'fault'"),
    ("stress_GPa = 1e-3", "stress = 1e-3", "did you mean 'stress_GPa'"),
])  # fmt: skip
def test_mistakes(config, old, new, message):
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_properties(config)
    assert message in str(error.value)


def test_unknown_code_is_refused_at_once(config, tmp_path):
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('oracle = "emt"', 'oracle = "emtt"'), encoding="utf-8")
    with pytest.raises(ConfigError, match="emtt"):
        reference_run(load_properties(config), tmp_path / "reference")


def test_a_file_without_oracle(config, tmp_path):
    text = config.read_text(encoding="utf-8")
    start, end = text.index("[reference]"), text.index("[crystals.copper]")
    config.write_text(text[:start] + text[end:], encoding="utf-8")
    run = load_properties(config)
    assert read_references(run, tmp_path)["lattice"] == {"experiment": {"a": 3.615}}
    with pytest.raises(ConfigError, match=r"no \[reference\] with an oracle"):
        reference_run(run, tmp_path)
