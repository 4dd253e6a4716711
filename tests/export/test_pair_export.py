"""Pair forms and sums as LAMMPS styles: the exported files give our energies and forces."""

import jax.numpy as jnp
import lammps_reference as reference
import numpy as np
import pytest

from bayespot.errors import ConfigError
from bayespot.export.styles import write_style
from bayespot.export.table import ENERGY, FORCE, POINTS, write_table
from bayespot.parameters import ParameterSpace
from bayespot.potentials.base import form_named
from bayespot.potentials.born_mayer import BornMayer
from bayespot.potentials.buckingham import Buckingham
from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.mie import Mie
from bayespot.potentials.morse import Morse
from bayespot.potentials.priors import LogNormal, Reference
from bayespot.potentials.spline_pair import SplinePair
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.zbl import ZBL

needs_lammps = [
    pytest.mark.reference,
    pytest.mark.skipif(reference.missing() is not None, reason=str(reference.missing())),
]
EXACT = (1e-10, 1e-9, 1e-11)
"""Largest differences in eV/atom, eV/Å, eV/Å^3 where LAMMPS has the same formula."""
TABLE = (1e-7, 5e-6, 1e-7)
"""The same for tables."""

PAIR = ("Si", "Ge")
CUT = {"cutoff": [5.7, 5.4, 5.2], "switch_width": 0.0}
SMOOTH = {"cutoff": [5.7, 5.4, 5.2], "switch_width": [1.0, 1.2, 0.8]}
VALUES = {
    LennardJones: {"epsilon": [0.8, 0.7, 0.55], "sigma": [2.1, 2.2, 2.25]},
    Mie: {"epsilon": [0.8, 0.7, 0.55], "r0": [2.4, 2.5, 2.55], "n": [11, 10, 9.5],
          "m": [5, 6, 4.4]},
    Morse: {"D": [0.8, 0.7, 0.55], "r0": [2.4, 2.5, 2.55], "alpha": [1.5, 1.6, 1.7]},
    BornMayer: {"B": [0.8, 0.7, 0.55], "rho": [0.3, 0.25, 0.2], "r0": [2.4, 2.5, 2.3]},
    Buckingham: {"D": [0.8, 0.7, 0.55], "r0": [2.4, 2.5, 2.55], "zeta": [12, 13, 11.5]},
}  # fmt: skip
STYLES = {LennardJones: "lj/cut", Mie: "mie/cut", Morse: "morse", BornMayer: "born",
          Buckingham: "buck"}  # fmt: skip


@pytest.fixture(scope="module")
def lammps():
    program = reference.Lammps()
    yield program
    program.close()


def one_species(form, range_):
    values = {name: value[0] for name, value in VALUES[form].items()}
    return form(species=("Si",), **values, cutoff=5.7, switch_width=range_["switch_width"] and 1.0)


def spline(species=PAIR):
    """A draw from its prior."""
    space = ParameterSpace(
        SplinePair(species=species), Reference(2.35, 4.6, (0.0,) * len(species)),
        quantities=("energy",),
    )  # fmt: skip
    u = np.random.default_rng(3).standard_normal(space.size)
    return space.potential(u).replace(e0=0.0)  # LAMMPS has no offsets


def worst(lammps, potential, folder, style):
    """Largest differences over all structures of the comparison."""
    cases = [reference.with_species(a, potential.species) for a in reference.structures().values()]
    mine = reference.ours(potential, *cases)
    return np.max([
        reference.differences(one, lammps.run(atoms, potential.species, style.commands(folder)))
        for one, atoms in zip(mine, cases, strict=True)
    ], axis=0)  # fmt: skip


def check(lammps, potential, folder, allowed, stem="form"):
    style = write_style(potential, folder, stem)
    found = worst(lammps, potential, folder, style)
    assert np.all(found <= allowed), f"{style.pair_style}: off by {found}, allowed {allowed}"
    return style


class TestInLammps:
    pytestmark = needs_lammps

    @pytest.mark.parametrize("form", STYLES, ids=lambda form: form.__name__)
    def test_a_form_that_is_cut_is_the_style_itself(self, lammps, form, tmp_path):
        for potential in (form(species=PAIR, **VALUES[form], **CUT), one_species(form, CUT)):
            style = check(lammps, potential, tmp_path, EXACT)
            assert style.pair_style == STYLES[form]
            assert style.precision == "exact"
            assert not style.files

    @pytest.mark.parametrize("form", [Mie, Buckingham], ids=lambda form: form.__name__)
    def test_a_form_with_our_switch_is_a_table(self, lammps, form, tmp_path):
        potential = form(species=PAIR, **VALUES[form], **SMOOTH)
        style = check(lammps, potential, tmp_path, TABLE)
        assert style.pair_style == "table"
        assert style.files == ("form.table",)

    def test_a_table_of_one_pair_that_is_cut_among_smooth_ones(self, lammps, tmp_path):
        range_ = {"cutoff": [5.7, 5.4, 5.2], "switch_width": [1.0, 0.0, 0.8]}
        check(lammps, Morse(species=PAIR, **VALUES[Morse], **range_), tmp_path, TABLE)

    def test_splines(self, lammps, tmp_path):
        check(lammps, spline(), tmp_path, TABLE)

    def test_a_form_of_the_user_is_written_as_its_shape_is(self, lammps, tmp_path):
        """Also one that inherits from Morse: its formula is another, so Morse's style would lie."""

        class Softer(Morse):
            """Morse without its repulsion."""

            def phi(self, r):
                return -self.D * jnp.exp(-self.alpha * (r - self.r0))

        style = check(lammps, Softer(species=("Si",), cutoff=5.5), tmp_path, TABLE)
        assert style.pair_style == "table"

    def test_zbl(self, lammps, tmp_path):
        for k, form in enumerate((
            ZBL(species=PAIR, cutoff=3.5, switch_width=1.5), ZBL(species=("Si",), cutoff=3.0),
        )):  # fmt: skip
            style = check(lammps, form, tmp_path, EXACT, stem=f"core{k}")
            assert style.pair_style == "zbl"

    def test_zbl_that_lammps_has_no_words_for(self, lammps, tmp_path):
        other = ZBL(species=PAIR, cutoff=[3.5, 3.3, 3.4], switch_width=1.5)
        assert check(lammps, other, tmp_path, TABLE).pair_style == "table"

    def test_sums(self, lammps, tmp_path):
        core = ZBL(species=PAIR, cutoff=3.4, switch_width=1.2)
        exact = Morse(species=PAIR, **VALUES[Morse], **CUT) + core
        style = check(lammps, exact, tmp_path, EXACT)
        assert style.pair_style == "hybrid/overlay"
        assert style.precision == "exact"
        smooth = LennardJones(species=PAIR, **VALUES[LennardJones], **SMOOTH)
        style = check(lammps, spline() + smooth + exact, tmp_path, TABLE, stem="many")
        assert style.files == ("many-spline_pair.table", "many-lennard_jones.table")
        assert "table 2" in " ".join(style.coeffs)

    def test_angles_with_a_core(self, lammps, tmp_path):
        core = ZBL(species=("Si",), cutoff=3.0, switch_width=1.2)
        style = check(lammps, StillingerWeber.silicon_1985() + core, tmp_path, (1e-8, 1e-7, 1e-9))
        assert style.settings.split() == ["sw", "zbl", "1.8", "3"]

    def test_embedded_atoms_with_a_core(self, lammps, tmp_path):
        metal = form_named("SuttonChen")(species=PAIR)
        core = ZBL(species=PAIR, cutoff=3.0, switch_width=1.2)
        alone = write_style(metal, tmp_path, "alone")
        style = check(lammps, metal + core, tmp_path, (1e-6, 1e-5, 1e-6))
        assert style.settings.split()[:2] == [alone.pair_style, "zbl"]
        assert style.precision == alone.precision

    @pytest.mark.parametrize("name", ["Mie", "BornMayer", "Buckingham", "Morse+ZBL"])
    def test_twenty_draws_that_lammps_accepts(self, lammps, name, tmp_path):
        """Prior draws, cut, so that no table hides a number that LAMMPS would refuse."""
        form = form_named(name)
        prefix = "morse_" if "+" in name else ""
        template = form(species=PAIR, **{f"{prefix}switch_width": 0.0})
        space = ParameterSpace(template, Reference(2.35, 4.6, (0.0, 0.0)))
        rng = np.random.default_rng(5)
        atoms = reference.with_species(reference.structures()["rattled bulk"], PAIR)
        for k in range(20):
            one = space.potential(rng.standard_normal(space.size))
            style = write_style(one, tmp_path, f"draw{k}")
            (mine,) = reference.ours(one.replace(e0=0.0), atoms)
            found = reference.differences(mine, lammps.run(atoms, PAIR, style.commands(tmp_path)))
            size = max(1.0, np.abs(mine.forces).max())
            assert np.all(np.array(found) <= 1e-9 * size)


def test_the_precision_is_measured_and_stated(tmp_path):
    style = write_table(LennardJones(species=("Si",), epsilon=0.5, sigma=2.1), tmp_path, "lj")
    words = style.precision.split()
    assert float(words[1]) <= ENERGY
    assert float(words[4]) <= FORCE
    assert int(style.settings.split()[1]) in POINTS
    assert style.coeffs == ("1 1 lj.table Si-Si 6",)


def test_zbl_with_numbers_of_its_own_is_a_table(tmp_path):
    """LAMMPS' zbl takes atomic numbers only: another charge or screening must not be lost."""
    style = write_style(ZBL(species=("Si",), charge=150.0), tmp_path, "core")
    assert style.pair_style == "table"


def test_only_pairs_have_tables(tmp_path):
    with pytest.raises(ConfigError, match="no sum over pairs"):
        write_table(StillingerWeber.silicon_1985(), tmp_path, "sw")


def test_a_sampled_cutoff_is_written_by_pair(tmp_path):
    space = ParameterSpace(
        Morse(species=PAIR, switch_width=0.0), Reference(offset=(0.0, 0.0)),
        priors={"cutoff": LogNormal(5.5, 0.1, high=7.0)},
    )  # fmt: skip
    one = space.potential(np.random.default_rng(0).standard_normal(space.size))
    style = write_style(one, tmp_path, "morse")
    ends = [float(line.split()[-1]) for line in style.coeffs]
    np.testing.assert_array_equal(ends, one.cutoff)
    assert float(style.settings) == max(ends)
