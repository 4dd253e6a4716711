"""A folder of draws: what it holds, what it refuses, and that LAMMPS runs it."""

import hashlib
import json
from pathlib import Path

import jax
import lammps_reference as reference
import numpy as np
import pytest
import xarray as xr
from ase.build import bulk
from typer.testing import CliRunner

import bayespot
from bayespot.cli import app
from bayespot.errors import ConfigError, NotConverged, SpeciesError
from bayespot.export.lammps import MANIFEST, Manifest, export_lammps
from bayespot.export.styles import exporters, register, write_style
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.tersoff import Tersoff

MODEL = Path(__file__).resolve().parents[2] / "models/silicon-stillinger_weber-gpaw_pbe-2026"


@pytest.fixture(scope="module")
def posterior():
    return bayespot.Posterior.load(MODEL / "posterior.nc")


@pytest.fixture(scope="module")
def structure():
    return reference.structures()["triclinic"]


@pytest.fixture(scope="module")
def three(posterior, structure, tmp_path_factory):
    """Three draws in a folder, with a structure."""
    folder = tmp_path_factory.mktemp("export") / "three"
    return export_lammps(posterior, folder, draws=3, structure=structure)


def test_what_the_folder_holds(three, posterior):
    names = {p.name for p in three.folder.iterdir()}
    assert names == {
        "manifest.json", "in.ensemble", "run_array.sh", "structure.data",
        *(f"draw_{k}.{end}" for k in range(3) for end in ("in", "sw")),
    }  # fmt: skip
    assert not [p for p in three.folder.parent.iterdir() if p != three.folder]
    assert three.form == "StillingerWeber"
    assert three.species == ("Si",)
    assert [one.index for one in three.draws] == [0, 200, 399]
    assert [(one.chain, one.draw) for one in three.draws] == [(0, 0), (2, 0), (3, 99)]
    for one in three.draws:
        values = posterior.draws[one.index]
        for name in ("D", "q", "e0"):
            found = one.e0["Si"] if name == "e0" else one.parameters[name][0]
            assert found == values[posterior.parameter_names.index(name)]
        for name, digest in one.sha256.items():
            assert hashlib.sha256((three.folder / name).read_bytes()).hexdigest() == digest


def test_the_manifest_is_read_back_and_says_what_is_missing(three):
    record = json.loads((three.folder / MANIFEST).read_text())
    assert "add e0" in record["e0"]
    assert record["source"]["converged"]
    assert record["source"]["data"]["fingerprint"]
    assert record["draws"][1]["commands"] == ["pair_style sw", "pair_coeff * * draw_1.sw Si"]
    assert Manifest.load(three.folder) == three


def test_a_folder_without_manifest(tmp_path):
    with pytest.raises(ConfigError, match="not the manifest"):
        Manifest.load(tmp_path)


@pytest.mark.reference
@pytest.mark.skipif(reference.missing() is not None, reason=str(reference.missing()))
def test_lammps_runs_the_input_for_every_draw(three, posterior, structure, tmp_path, monkeypatch):
    """`-var draw K` from another folder: our energy without e0, and our forces."""
    import lammps

    monkeypatch.chdir(tmp_path)
    many = posterior.space.potential(posterior.u[[one.index for one in three.draws]])
    for k, exported in enumerate(three.draws):
        program = lammps.lammps(cmdargs=[
            "-screen", "none", "-nocite", "-var", "draw", str(k), "-var", "here",
            str(three.folder),
        ])  # fmt: skip
        program.file(str(three.folder / "in.ensemble"))
        energy = program.get_thermo("pe")
        program.close()
        one = jax.tree.map(lambda a, k=k: np.asarray(a[k]), many)
        (mine,) = reference.ours(one, structure)
        expected = mine.energy - len(structure) * exported.e0["Si"]
        assert energy == pytest.approx(expected, abs=1e-9)
        number, written = (tmp_path / f"draw_{k}.energy").read_text().split()
        assert int(number) == k
        assert float(written) == pytest.approx(expected, abs=1e-9)
        rows = np.loadtxt(tmp_path / f"draw_{k}.forces", skiprows=9)
        lengths = np.linalg.norm(rows[:, 5:], axis=1)  # LAMMPS' axes are turned
        np.testing.assert_allclose(lengths, np.linalg.norm(mine.forces, axis=1), atol=1e-9)
        assert (tmp_path / f"draw_{k}.log").is_file()


@pytest.mark.reference
@pytest.mark.skipif(reference.missing() is not None, reason=str(reference.missing()))
@pytest.mark.parametrize("name", ["cluster", "slab, open"])
def test_open_structures_and_two_species(tmp_path, monkeypatch, name):
    import lammps

    monkeypatch.chdir(tmp_path)
    potential = Tersoff.elements_1989(("C", "Si")).replace(switch="smooth")
    atoms = reference.structures()[name]  # silicon only: the data file has both types all the same
    if name == "cluster":
        atoms.set_cell(None)
    export_lammps(potential, tmp_path / "out", structure=atoms)
    program = lammps.lammps(
        cmdargs=["-screen", "none", "-log", "none", "-nocite", "-var", "here", "out"]
    )
    program.file("out/in.ensemble")
    energy = program.get_thermo("pe")
    program.close()
    assert energy == pytest.approx(float(reference.ours(potential, atoms)[0].energy), abs=1e-9)


def test_which_draws(posterior, tmp_path):
    best = export_lammps(posterior, tmp_path / "best")
    lp = posterior.tree["sample_stats"]["lp"].values.ravel()
    assert [one.index for one in best.draws] == [int(lp.argmax())]
    assert best.choice == "draw of highest posterior density"
    chosen = export_lammps(posterior, tmp_path / "chosen", draws=[7, 3])
    assert [one.index for one in chosen.draws] == [7, 3]
    for wrong, words in ((0, "at least one"), ("best", "'map', 'all'"), ([400], "0 to 399")):
        with pytest.raises(ConfigError, match=words):
            export_lammps(posterior, tmp_path / "wrong", draws=wrong)
    assert not (tmp_path / "wrong").exists()


def test_a_potential_without_posterior(tmp_path):
    potential = StillingerWeber.silicon_1985().replace(e0=-1.5)
    manifest = export_lammps(potential, tmp_path / "one")
    assert manifest.draws[0].e0 == {"Si": -1.5}
    assert manifest.draws[0].index is None
    assert manifest.source == {}
    assert Manifest.load(tmp_path / "one") == manifest
    with pytest.raises(ConfigError, match="one potential"):
        export_lammps(potential, tmp_path / "two", draws=20)


# --- refusals ------------------------------------------------------------------------------------


def test_nothing_is_overwritten(tmp_path):
    potential = StillingerWeber.silicon_1985()
    (tmp_path / "empty").mkdir()
    export_lammps(potential, tmp_path / "empty")  # an empty folder is as good as none
    before = (tmp_path / "empty" / MANIFEST).read_bytes()
    with pytest.raises(ConfigError, match="never overwrites"):
        export_lammps(potential.replace(D=1.0), tmp_path / "empty")
    assert (tmp_path / "empty" / MANIFEST).read_bytes() == before
    with pytest.raises(ConfigError, match="never overwrites"):
        write_style(potential, tmp_path / "empty", "draw_0")


def test_draws_that_have_not_converged(posterior, tmp_path):
    record = {**posterior.record, "problems": ["R-hat of D is 1.2"]}
    tree = posterior.tree.copy()
    tree.attrs = {**tree.attrs, "bayespot": json.dumps(record)}
    wild = bayespot.Posterior(tree)
    with pytest.raises(NotConverged, match="R-hat of D"):
        export_lammps(wild, tmp_path / "wild")
    manifest = export_lammps(wild, tmp_path / "wild", allow_unconverged=True)
    assert manifest.source["problems"] == ["R-hat of D is 1.2"]
    assert not manifest.source["converged"]


def test_a_draw_that_lammps_cannot_take_leaves_nothing(posterior, tmp_path):
    u = posterior.u[:3].copy()
    u[1, posterior.parameter_names.index("q")] = -1.0
    content = xr.Dataset({"u": (("chain", "draw", "parameter"), u[None])})
    tree = xr.DataTree.from_dict({"unconstrained_posterior": content})
    tree.attrs = posterior.tree.attrs
    with pytest.raises(ConfigError, match="draw 1 of the posterior: StillingerWeber Si-Si has q"):
        export_lammps(bayespot.Posterior(tree), tmp_path / "out", draws="all")
    assert not list(tmp_path.iterdir())


def test_forms_without_exporter_and_foreign_species(tmp_path, posterior):
    class Homemade(StillingerWeber):
        """A form of the user's own: what it inherits may mean something else."""

    with pytest.raises(ConfigError, match=r"Homemade cannot be .*Tersoff.* can\."):
        write_style(Homemade(species=("Si",)), tmp_path, "one")
    with pytest.raises(ConfigError, match="2 draws of StillingerWeber"):
        write_style(posterior.potentials(2), tmp_path, "many")
    with pytest.raises(SpeciesError, match="contains Cu"):
        export_lammps(posterior, tmp_path / "out", structure=bulk("Cu"))
    assert not list(tmp_path.iterdir())


def test_a_form_of_the_users_own_is_registered_beside_it(tmp_path):
    class Other(StillingerWeber):
        """A form of the user's own."""

    register(Other)(exporters()[StillingerWeber])
    style = write_style(Other(species=("Si",), k=40.0), tmp_path, "other")
    assert style.commands(tmp_path)[1] == f"pair_coeff * * {tmp_path / 'other.sw'} Si"


# --- command line --------------------------------------------------------------------------------


def test_the_command(posterior, structure, tmp_path):
    """A file or a run's folder; the same folder as the function makes."""
    run = tmp_path / "run"
    posterior.save(run / "posterior.nc")
    structure.write(tmp_path / "start.xyz")
    out = tmp_path / "out"
    said = CliRunner().invoke(
        app, ["export", str(run), str(out), "--draws", "2", "--structure",
              str(tmp_path / "start.xyz")],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    assert "2 of 400 draws" in said.output
    assert "add e0" in said.output
    assert len(Manifest.load(out).draws) == 2
    assert (out / "structure.data").is_file()
    again = CliRunner().invoke(app, ["export", str(MODEL / "posterior.nc"), str(out)])
    assert isinstance(again.exception, ConfigError)
