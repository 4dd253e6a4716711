"""Tables of embedded atom: LAMMPS takes every draw and finds our numbers; files come back whole."""

from pathlib import Path

import jax
import lammps_reference as reference
import numpy as np
import pytest
from ase.build import bulk, fcc100

from bayespot.errors import ConfigError
from bayespot.export.setfl import (
    TabulatedEAM,
    interpolated,
    read_setfl,
    setfl_text,
    tabulate,
    write_setfl,
)
from bayespot.export.styles import write_style
from bayespot.parameters import ParameterSpace
from bayespot.potentials.finnis_sinclair import FinnisSinclair
from bayespot.potentials.priors import Reference
from bayespot.potentials.spline_eam import SplineEAM
from bayespot.potentials.sutton_chen import SuttonChen
from bayespot.potentials.zhou_johnson import ZHOU_2001, ZhouJohnson
from bayespot.testing import check_potential

ENERGY, FORCE, STRESS = 1e-6, 1e-5, 1e-6  # eV/atom, eV/Å, eV/Å^3

needs_lammps = pytest.mark.skipif(
    reference.missing() is not None, reason=str(reference.missing())
)

POTENTIALS = {  # potential, lattice, bond length
    "SuttonChen": (SuttonChen.published("Cu"), "fcc", 2.55),
    "SuttonChen CuNi, of pairs": (SuttonChen.rafii_tabar(("Cu", "Ni"), cutoff=6.5), "fcc", 2.52),
    "FinnisSinclair 1984": (FinnisSinclair.published("W"), "bcc", 2.74),
    "FinnisSinclair": (FinnisSinclair.scaled(("W", "Ta"), 2.8, weight=0.8), "bcc", 2.8),
    "ZhouJohnson": (ZhouJohnson.published("Al"), "fcc", 2.86),
    "ZhouJohnson NiCu": (ZhouJohnson.published("Ni", "Cu", switch_width=1.0), "fcc", 2.52),
    "SplineEAM": (SplineEAM(species=("Cu",), length=2.55), "fcc", 2.55),
    "SplineEAM NiCu, of pairs": (
        SplineEAM(species=("Ni", "Cu"), length=2.55, density="pair", weight=[0.8, 1.3],
                  n_pair=7, n_density=5), "fcc", 2.55,
    ),
}  # fmt: skip


def metals(species, lattice, bond):
    """Crystal, hot, squeezed, with a vacancy, with a surface, and a cell below the cutoff."""
    rng = np.random.default_rng(1984)
    a = bond * (np.sqrt(2) if lattice == "fcc" else 2 / np.sqrt(3))
    crystal = bulk(species[0], lattice, a=a, cubic=True) * (2, 2, 2)
    hot, squeezed = crystal.copy(), crystal.copy()
    crystal.positions += 0.05 * rng.standard_normal(crystal.positions.shape)
    hot.positions += 0.09 * bond * rng.standard_normal(crystal.positions.shape)
    squeezed.set_cell(0.85 * crystal.cell, scale_atoms=True)
    skew = np.eye(3) + 0.04 * rng.standard_normal((3, 3))
    small = bulk(species[0], lattice, a=a) * (2, 1, 1)
    small.set_cell(small.cell.array @ skew, scale_atoms=True)
    small.positions[1] += 0.1
    slab = fcc100(species[0], (2, 2, 4), a=a, vacuum=8.0)
    slab.rattle(0.05, seed=4)
    slab.pbc = (True, True, False)
    cases = {"crystal": crystal, "hot": hot, "squeezed": squeezed, "vacancy": crystal[1:],
             "small": small, "slab": slab}
    return {name: reference.with_species(atoms, species) for name, atoms in cases.items()}


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


def off(lammps, potential, commands, cases):
    """Largest differences of energy, force and stress over the structures."""
    found = [
        reference.differences(mine, lammps.run(atoms, potential.species, commands))
        for atoms, mine in zip(cases, reference.ours(potential, *cases), strict=True)
    ]
    return np.max(found, axis=0)


# --- writing ------------------------------------------------------------------------------------


@needs_lammps
@pytest.mark.reference
@pytest.mark.parametrize("name", POTENTIALS)
def test_lammps_finds_our_numbers(lammps, tmp_path, name):
    potential, lattice, bond = POTENTIALS[name]
    style = write_style(potential, tmp_path, "metal")
    assert style.pair_style == ("eam/fs" if potential.density == "pair" else "eam/alloy")
    cases = list(metals(potential.species, lattice, bond).values())
    energy, force, stress = off(lammps, potential, style.commands(tmp_path), cases)
    # Only the published Finnis-Sinclair, with its kink, is allowed what its file says of itself.
    said = float(style.precision.split(" eV/Å")[0].split()[-1])
    assert energy < ENERGY
    assert force < (said if "1984" in name else FORCE)
    assert stress < STRESS
    assert style.precision.startswith("table: a bond <= ")
    # And what is read back is what LAMMPS computes from the file, to rounding.
    again = read_setfl(tmp_path / style.files[0])
    assert off(lammps, again, style.commands(tmp_path), cases[:2]).max() < 1e-8


@needs_lammps
@pytest.mark.reference
@pytest.mark.parametrize("density", ["species", pytest.param("pair", marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", [
    pytest.param(SuttonChen, marks=pytest.mark.slow), FinnisSinclair,
    pytest.param(ZhouJohnson, marks=pytest.mark.slow),
    pytest.param(SplineEAM, marks=pytest.mark.slow),
])  # fmt: skip
def test_twenty_prior_draws_are_accepted_and_equal(lammps, tmp_path, form, density):
    """Two species; draws a sigma wide as everywhere in the contract."""
    settings = {"length": 2.55} if form is SplineEAM else {}
    template = form(species=("Cu", "Ni"), density=density, cutoff=5.0, density_cutoff=5.0,
                    **settings)  # fmt: skip
    space = ParameterSpace(template, Reference(2.55, 3.9, (0.0, 0.0)), quantities=("energy",),
                           fixed={"e0": 0.0})  # fmt: skip
    cases = metals(("Cu", "Ni"), "fcc", 2.55)
    cases = [cases["vacancy"], cases["small"]]
    many = space.potential(np.random.default_rng(7).standard_normal((20, space.size)))
    for k in range(20):
        draw = jax.tree.map(lambda a, k=k: np.asarray(a[k]), many)
        style = write_style(draw, tmp_path, f"draw_{k}")
        energy, force, stress = off(lammps, draw, style.commands(tmp_path), cases)
        assert energy < ENERGY, (k, style.precision)
        assert force < FORCE, (k, style.precision)
        assert stress < STRESS, (k, style.precision)


@needs_lammps
@pytest.mark.reference
def test_all_twenty_draws_of_one_element(lammps, tmp_path):
    space = ParameterSpace(
        SplineEAM(species=("Cu",), length=2.55, cutoff=5.5, density_cutoff=5.5),
        Reference(2.55, 3.5, (0.0,)), quantities=("energy",), fixed={"e0": 0.0},
    )  # fmt: skip
    cases = [metals(("Cu",), "fcc", 2.55)["slab"]]
    many = space.potential(np.random.default_rng(3).standard_normal((20, space.size)))
    for k in range(20):
        draw = jax.tree.map(lambda a, k=k: np.asarray(a[k]), many)
        style = write_style(draw, tmp_path, f"draw_{k}")
        energy, force, _ = off(lammps, draw, style.commands(tmp_path), cases)
        assert energy < ENERGY
        assert force < FORCE


def test_the_measured_precision_is_said():
    def slope(name):
        _, precision = tabulate(POTENTIALS[name][0])
        return float(precision.split(" eV/Å")[0].split()[-1])

    assert slope("SplineEAM") < 3e-7
    # The published Finnis-Sinclair ends have a kink in their slope, and cubics cannot follow it.
    assert slope("FinnisSinclair 1984") > 1e-5


def test_densities_reach_into_compressed_cells():
    potential = POTENTIALS["ZhouJohnson"][0]
    tables, _ = tabulate(potential)
    top = tables.drho * (tables.embedding.shape[1] - 1)
    assert top > 3.0  # in units of the perfect crystal's: far beyond what heat and pressure do
    x = np.array([0.3, 1.0, 0.95 * top])
    np.testing.assert_allclose(
        interpolated(tables.embedding, tables.drho, x, 0), potential.embedding(x, np.zeros(3, int)),
        atol=1e-9,
    )  # fmt: skip


def test_files_are_never_overwritten(tmp_path):
    potential = POTENTIALS["ZhouJohnson"][0]
    write_setfl(potential, tmp_path, "al")
    with pytest.raises(ConfigError, match="never overwrites"):
        write_setfl(potential, tmp_path, "al")


# --- reading ------------------------------------------------------------------------------------


@needs_lammps
@pytest.mark.reference
@pytest.mark.parametrize("name", [
    "Cu_zhou.eam.alloy", "CuNi.eam.alloy", "AlFe_mm.eam.fs", "NiAlH_jea.eam.fs", "CuTa.eam.alloy",
])  # fmt: skip
def test_files_of_lammps_are_read_as_lammps_reads_them(lammps, shipped, name):
    potential = read_setfl(shipped / name)
    style = "eam/fs" if name.endswith("fs") else "eam/alloy"
    assert potential.density == ("pair" if style == "eam/fs" else "species")
    commands = [f"pair_style {style}",
                f"pair_coeff * * {shipped / name} {' '.join(potential.species)}"]
    cases = list(metals(potential.species, "fcc", 2.55).values())
    assert off(lammps, potential, commands, cases).max() < 1e-11


@needs_lammps
@pytest.mark.reference
@pytest.mark.parametrize(("element", "a"), [("Cu", 3.615), ("Al", 4.04)])
def test_the_formula_of_2001_is_the_table_of_lammps(lammps, shipped, element, a):
    """The authors' tables and our formula, with its outer branches computed and not rounded."""
    path = shipped / f"{element}_zhou.eam.alloy"
    cutoff = read_setfl(path).tables.cutoff
    potential = ZhouJohnson.from_published({element: ZHOU_2001[element]}, cutoff=cutoff)
    commands = ["pair_style eam/alloy", f"pair_coeff * * {path} {element}"]
    cases = metals((element,), "fcc", a / np.sqrt(2))
    dense = [cases.pop("squeezed"), cases.pop("hot")]
    energy, force, _ = off(lammps, potential, commands, list(cases.values()))
    assert energy < 1e-6
    assert force < 1e-5
    # Six digits are printed, and their rounding grows where the density is twice the crystal's.
    energy, force, _ = off(lammps, potential, commands, dense)
    assert energy < 1e-4
    assert force < 1e-4


@pytest.mark.parametrize("name", ["ZhouJohnson NiCu", "SuttonChen CuNi, of pairs"])
def test_round_trip(tmp_path, name):
    """Written, read, written again: the same numbers, bit by bit."""
    style = write_setfl(POTENTIALS[name][0], tmp_path, "first")
    first = read_setfl(tmp_path / style.files[0])
    again = write_setfl(first, tmp_path, "second")
    assert again.precision == "exact"
    second = read_setfl(tmp_path / again.files[0])
    assert setfl_text(first.tables, "") == setfl_text(second.tables, "")
    assert first.species == POTENTIALS[name][0].species
    x = np.linspace(1.5, 6.0, 200)
    for pair in range(3):
        np.testing.assert_allclose(
            first.pair_energy(x, np.full(200, pair)),
            POTENTIALS[name][0].pair_energy(x, np.full(200, pair)), atol=1e-8,
        )  # fmt: skip


def test_a_table_keeps_the_contract_and_starts_a_fit(tmp_path):
    style = write_setfl(ZhouJohnson.published("Cu", switch_width=1.0), tmp_path, "cu")
    table = read_setfl(tmp_path / style.files[0])
    assert len(check_potential(table, smooth_cutoff=False)) == 9
    start = SplineEAM.approximating(table, length=2.556, n_pair=12)
    cases = list(metals(("Cu",), "fcc", 2.556).values())[:1]
    (mine,), (theirs,) = reference.ours(start, *cases), reference.ours(table, *cases)
    assert abs(mine.energy - theirs.energy) / 32 < 1e-2
    assert np.sqrt(np.mean((mine.forces - theirs.forces) ** 2)) < 0.1


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "no.eam.alloy"
    path.write_text("one\ntwo\nthree\n1 Cu\n10 0.1 10 0.1 0.9\n29 63.5 3.6 fcc\n1 2 3\n")
    with pytest.raises(ConfigError, match="no setfl file"):
        read_setfl(path)
    with pytest.raises(ConfigError, match="read_setfl"):
        TabulatedEAM(species=("Cu",))
