"""Files of sw, tersoff and tersoff/mod: LAMMPS takes them and finds our numbers, both ways."""

from pathlib import Path

import jax
import lammps_reference as reference
import numpy as np
import pytest

import bayespot
from bayespot.errors import ConfigError
from bayespot.export.styles import write_style
from bayespot.export.sw import read_sw
from bayespot.export.tersoff import read_tersoff
from bayespot.parameters import ParameterSpace
from bayespot.potentials.priors import Reference
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.tersoff import Tersoff

MODEL = Path(__file__).resolve().parents[2] / "models/silicon-stillinger_weber-gpaw_pbe-2026"
ENERGY, FORCE, STRESS = 1e-9, 1e-8, 1e-10  # eV/atom, eV/Å, eV/Å^3: LAMMPS' rounding, no more

needs_lammps = pytest.mark.skipif(
    reference.missing() is not None, reason=str(reference.missing())
)


@pytest.fixture(scope="module")
def lammps():
    program = reference.Lammps()
    yield program
    program.close()


@pytest.fixture(scope="module")
def shipped():
    """The folder of potentials that come with LAMMPS."""
    import lammps

    return Path(lammps.__file__).parent / "share/lammps/potentials"


def check(lammps, folder, stem, potential, *names):
    """Same energies, forces and stresses on the structures of these names."""
    style = write_style(potential, folder, stem)
    cases = [reference.with_species(reference.structures()[n], potential.species) for n in names]
    for atoms, mine in zip(cases, reference.ours(potential, *cases), strict=True):
        theirs = lammps.run(atoms, potential.species, style.commands(folder))
        offset = sum(float(potential.e0[potential.species.index(s)]) for s in atoms.symbols)
        off = reference.differences(mine._replace(energy=mine.energy - offset), theirs)
        assert off[0] < ENERGY
        assert off[1] < FORCE
        assert off[2] < STRESS
    return style


def draws_of(potentials, count):
    return [jax.tree.map(lambda a, k=k: np.asarray(a[k]), potentials) for k in range(count)]


# --- every draw ---------------------------------------------------------------------------------


@needs_lammps
@pytest.mark.reference
def test_twenty_posterior_draws_are_accepted_and_equal(lammps, tmp_path):
    posterior = bayespot.Posterior.load(MODEL / "posterior.nc")
    for k, draw in enumerate(draws_of(posterior.potentials(20), 20)):
        style = check(lammps, tmp_path, f"draw_{k}", draw, "rattled bulk",
                      "two-atom cell, smaller than the cutoff", "slab, open")  # fmt: skip
        assert style.pair_style == "sw"
        assert style.precision == "exact"


@needs_lammps
@pytest.mark.reference
@pytest.mark.parametrize("switch", ["smooth", "cosine"])
@pytest.mark.parametrize("species", [("Si",), ("Si", "Ge")], ids="-".join)
def test_twenty_prior_draws_of_tersoff_are_accepted_and_equal(lammps, tmp_path, species, switch):
    space = ParameterSpace(
        Tersoff(species=species, switch=switch), Reference(2.35, 4.6, (0.0,) * len(species))
    )
    u = np.random.default_rng(7).standard_normal((20, space.size))
    for k, draw in enumerate(draws_of(space.potential(u), 20)):
        style = check(lammps, tmp_path, f"draw_{k}", draw, "liquid-like",
                      "one-atom cell, smaller than the cutoff")  # fmt: skip
        assert style.pair_style == {"smooth": "tersoff/mod", "cosine": "tersoff"}[switch]


@needs_lammps
@pytest.mark.reference
@pytest.mark.parametrize("m", [1, 3])
def test_every_number_of_three_species(lammps, tmp_path, m):
    """All entries differ: nothing is read from the place of another."""
    rng = np.random.default_rng(3)
    form = Tersoff(species=("Ge", "C", "Si"), m=m)
    values = {
        p.name: getattr(form, p.name) * (1 + 0.1 * rng.uniform(-1, 1, getattr(form, p.name).size))
        for p in form.parameters()
    }
    names = ("rattled bulk", "triclinic", "cluster")
    check(lammps, tmp_path, "tersoff", form.replace(**values), *names)
    check(lammps, tmp_path, "cosine", form.replace(**values, switch="cosine"), *names)
    form = StillingerWeber(species=("Ge", "C", "Si"), q=0.7, k=45.0, s=1.9, r_c=3.8)
    values = {
        p.name: getattr(form, p.name) * (1 + 0.05 * rng.uniform(-1, 1, getattr(form, p.name).size))
        for p in form.parameters()
    }
    check(lammps, tmp_path, "sw", form.replace(**values), *names)


# --- reading -------------------------------------------------------------------------------------


@needs_lammps
@pytest.mark.reference
@pytest.mark.parametrize(("file", "species"), [
    ("Si.sw", ("Si",)), ("GaN.sw", ("Ga", "N")), ("CdTe.sw", ("Te", "Cd")),
    ("Si.tersoff", ("Si",)), ("SiC.tersoff", ("Si", "C")), ("SiC_1990.tersoff", ("C", "Si")),
    ("SiO.tersoff", ("Si", "O")), ("GaN.tersoff", ("Ga", "N")), ("Ge.tersoff", ("Ge",)),
    ("SiC_Erhart-Albe.tersoff", ("Si", "C")),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_files_that_come_with_lammps(lammps, shipped, tmp_path, file, species):
    """Read, written and run again they are what they were: the files' own numbers are the judge."""
    style = file.split(".")[1]
    potential = {"sw": read_sw, "tersoff": read_tersoff}[style](shipped / file, species)
    assert potential.species == species
    original = [f"pair_style {style}", f"pair_coeff * * {shipped / file} {' '.join(species)}"]
    written = write_style(potential, tmp_path, "again").commands(tmp_path)
    for name in ("liquid-like", "slab, periodic"):
        atoms = reference.structures()[name]
        rng = np.random.default_rng(1)
        atoms.set_chemical_symbols([str(s) for s in rng.choice(species, len(atoms))])
        (mine,) = reference.ours(potential, atoms)
        theirs = lammps.run(atoms, species, original)
        for other in (mine, lammps.run(atoms, species, written)):
            off = reference.differences(other, theirs)
            assert off[0] < ENERGY
            assert off[1] < FORCE
            assert off[2] < STRESS


@needs_lammps
@pytest.mark.reference
@pytest.mark.parametrize(("file", "names", "potential"), [
    ("SiCGe.tersoff", ("Si(B)",), Tersoff.silicon_1988()),
    ("SiCGe.tersoff", ("Si(C)",), Tersoff.silicon_1988_elastic()),
    ("SiCGe.tersoff", ("Si(D)", "C"), Tersoff.elements_1989(("Si", "C"))),
    ("SiCGe.tersoff", ("Ge", "Si(D)"), Tersoff.elements_1989(("Ge", "Si"))),
    ("SiC_1990.tersoff", ("Si", "C"), Tersoff.silicon_carbide_1990()),
    ("Si.sw", ("Si",), StillingerWeber.silicon_1985()),
], ids=["Si(B)", "Si(C)", "SiC", "GeSi", "SiC 1990", "SW"])  # fmt: skip
def test_published_sets_are_those_of_lammps(shipped, file, names, potential):
    """To the digits of the files, which round means of two elements."""
    read = read_sw if file.endswith("sw") else read_tersoff
    theirs = read(shipped / file, potential.species, names=names)
    for item in potential.parameters():
        tolerance = 1e-3 if item.name == "switch_width" else 1e-4
        np.testing.assert_allclose(getattr(potential, item.name), getattr(theirs, item.name),
                                   rtol=tolerance, atol=1e-9, err_msg=item.name)


@pytest.mark.parametrize("potential", [
    StillingerWeber.silicon_1985().replace(q=0.4),
    StillingerWeber(species=("C", "Si"), k=[30.0, 28.0, 33.0], lam=[1, 2, 3, 4, 5, 6.0]),
    Tersoff(species=("Si",)),
    Tersoff.elements_1989(("Si", "C")),
    Tersoff.elements_1989(("C", "Si")).replace(switch="smooth", omega=[0.5, 1.5, 2.0, 0.7], m=1),
], ids=["SW", "SW CSi", "Tersoff", "SiC", "CSi smooth"])  # fmt: skip
def test_what_is_written_is_read(tmp_path, potential):
    style = write_style(potential, tmp_path, "form")
    read = read_sw if style.pair_style == "sw" else read_tersoff
    again = read(tmp_path / style.files[0], potential.species)
    assert type(again) is type(potential)
    assert {h: getattr(again, h) for h in again.hypers()} == {
        h: getattr(potential, h) for h in potential.hypers()
    }
    for item in potential.parameters():
        np.testing.assert_allclose(getattr(again, item.name), getattr(potential, item.name),
                                   rtol=1e-11, atol=1e-13, err_msg=item.name)  # fmt: skip


# --- what LAMMPS cannot say --------------------------------------------------------------------


def test_powers_that_change_roles_and_powers_below_zero(tmp_path):
    """For a soft well p < q: the two terms of the file are then exchanged."""
    soft = StillingerWeber(species=("Si",), q=2.5, k=31.0, r0=2.35, s=2.0, r_c=3.8)
    assert soft.to_reduced()["p"] < 2.5
    assert soft.to_reduced()["A"] < 0
    again = read_sw(tmp_path / write_style(soft, tmp_path, "soft").files[0], ("Si",))
    r = np.linspace(1.8, 3.7, 20)
    mine, read = (one.at("pair", np.zeros(1, int)).phi2(r) for one in (soft, again))
    np.testing.assert_allclose(read, mine, rtol=1e-10, atol=1e-12)
    with pytest.raises(ConfigError, match=r"Si-Si has q = -0.3"):
        write_style(soft.replace(q=-0.3, k=40.0), tmp_path, "negative")
    with pytest.raises(ConfigError, match="Leave the draw out"):
        write_style(soft.replace(k=12.0), tmp_path, "softer")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["soft.sw"]


def test_the_prior_of_stillinger_weber_has_no_negative_exponent():
    space = ParameterSpace(StillingerWeber(species=("Si",)), Reference())
    u = np.random.default_rng(0).standard_normal((1000, space.size))
    assert space.potential(u).q.min() > 0


@needs_lammps
@pytest.mark.reference
def test_files_that_are_no_such_potential(shipped, tmp_path):
    with pytest.raises(ConfigError, match=r"c4 = 1.0, n = 0.938.* and eta = 1.0"):
        read_tersoff(shipped / "Si.tersoff.mod", ("Si",))
    with pytest.raises(ConfigError, match=r"D is 0.15271 .* larger tolerance"):
        read_tersoff(shipped / "SiC_1989.tersoff", ("Si", "C"))
    read_tersoff(shipped / "SiC_1989.tersoff", ("Si", "C"), tolerance=1e-3)
    with pytest.raises(ConfigError, match=r"two things about .*larger tolerance"):
        read_sw(shipped / "CdTeZnSeHgS0.sw", ("Cd", "Te"))
    read_sw(shipped / "CdTeZnSeHgS0.sw", ("Cd", "Te"), tolerance=1e-5)
    with pytest.raises(ConfigError, match=r"lacks the entries .*Ge Ge Ge"):
        read_sw(shipped / "Si.sw", ("Si", "Ge"))
    with pytest.raises(ConfigError, match=r"entries for .*Ge Ge Ge"):
        read_tersoff(shipped / "Si.tersoff", ("Si", "Ge"))
    with pytest.raises(ConfigError, match=r"has 14 numbers .* 11"):
        read_sw(shipped / "Si.tersoff", ("Si",))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_sw(tmp_path / "none.sw", ("Si",))
    (tmp_path / "twice.sw").write_text((shipped / "Si.sw").read_text() * 2)
    with pytest.raises(ConfigError, match="Si Si Si twice"):
        read_sw(tmp_path / "twice.sw", ("Si",))
    (tmp_path / "flat.sw").write_text("Si Si Si 2.1 2.1 1.8 21 1.2 -0.33 7.0 0.0 4.0 0.0 0.0")
    with pytest.raises(ConfigError, match="no well"):
        read_sw(tmp_path / "flat.sw", ("Si",))
