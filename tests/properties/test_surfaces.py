"""Many draws at once equal one after the other, and ASE's relaxations."""

import jax
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones as AseLennardJones

from bayespot.errors import PropertyError
from bayespot.evaluate import evaluate_draws
from bayespot.graph import build_graph
from bayespot.potentials.ace import ACE
from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.sutton_chen import SuttonChen
from bayespot.potentials.tersoff import Tersoff
from bayespot.properties import (
    CalculatorSurface,
    DrawSurfaces,
    PropertyDraws,
    Tolerance,
    elastic,
    lattice,
    surfaces_of,
)
from bayespot.properties.frames import Frames
from bayespot.properties.relaxing import STRETCH


def spread(potential, n, sd=0.02):
    """A potential with n draws around its values; cutoffs and the like stay."""
    rng = np.random.default_rng(0)
    sampled = {p.name for p in potential.parameters() if p.sampled}

    def around(path, leaf):
        width = sd if path[0].name in sampled else 0.0
        return np.asarray(leaf) * (1.0 + width * rng.normal(size=(n, 1)))

    return jax.tree_util.tree_map_with_path(around, potential)


def forms():
    ace = ACE(species=("Si",))
    weights = 0.05 * np.random.default_rng(3).normal(size=ace.c.shape)
    return {
        "Stillinger-Weber": StillingerWeber.silicon_1985(),
        "Tersoff": Tersoff.silicon_1988_elastic(),
        "sum with ACE": StillingerWeber.silicon_1985() + ace.replace(c=weights),
    }


@pytest.mark.parametrize("name", ["Stillinger-Weber", "Tersoff", "sum with ACE"])
def test_shared_lists_give_what_graphs_give(name):
    """Frames with positions and cells of their own: energies, forces, stresses of each draw."""
    draws = spread(forms()[name], 3)
    surfaces = DrawSurfaces(draws)
    rng = np.random.default_rng(1)
    structures = []
    for _ in range(3):
        atoms = bulk("Si", "diamond", a=5.43)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.normal(size=(3, 3))),
                       scale_atoms=True)  # fmt: skip
        atoms.positions += 0.1 * rng.normal(size=(2, 3))
        structures.append(atoms)
    found = surfaces.evaluate(Frames.of(structures, [0, 1, 2]))
    graph = build_graph(structures, ("Si",), surfaces.reach, triplets=draws.needs_triplets)
    exact = evaluate_draws(draws, graph)
    for k in range(3):
        scale = 1e-11 * max(1.0, np.abs(exact.forces).max())
        assert found.energy[k] == pytest.approx(exact.energy[k, k], abs=scale)
        np.testing.assert_allclose(found.forces[k], exact.forces[k, 2 * k : 2 * k + 2], atol=scale)
        np.testing.assert_allclose(found.stress[k], exact.stress[k, k], atol=scale)


def test_a_list_is_made_anew_before_it_is_too_short():
    """A dimer torn apart and pushed together again, far beyond the margin of a list."""
    surfaces = surfaces_of(StillingerWeber.silicon_1985())
    crystal = bulk("Si", "diamond", a=5.43, cubic=True)
    for factor in (1.0, 0.8, 1.3, 0.85):
        atoms = crystal.copy()
        atoms.set_cell(crystal.cell * factor, scale_atoms=True)
        atoms.positions[0] += 0.4
        graph = build_graph([atoms], ("Si",), surfaces.reach)
        exact = evaluate_draws(surfaces.potentials, graph)
        found = surfaces.evaluate(surfaces.everywhere(atoms))
        assert found.energy[0] == pytest.approx(exact.energy[0, 0], abs=1e-10)


@pytest.mark.parametrize("cell", ["fixed", "volume", "shape", "all"])
def test_relaxations_agree_with_those_of_ase(cell):
    draws = spread(StillingerWeber.silicon_1985(), 5)
    surfaces = DrawSurfaces(draws)
    atoms = bulk("Si", "diamond", a=5.3, cubic=True)
    atoms.set_cell(atoms.cell.array * [1.0, 1.02, 0.97], scale_atoms=True)
    atoms.rattle(0.1, seed=2)
    mine = surfaces.relax(surfaces.everywhere(atoms), cell)
    assert mine.converged.all()
    volume = np.abs(np.linalg.det(atoms.cell.array))
    if cell in ("fixed", "shape"):
        np.testing.assert_allclose(mine.frames.volumes, volume, rtol=1e-9)
    for k in (0, 4):
        one = surfaces.everywhere(atoms).select(np.array([0]))
        theirs = CalculatorSurface(surfaces.calculator(k)).relax(one, cell)
        assert theirs.converged.all()
        assert mine.energy[k] == pytest.approx(theirs.energy[0], abs=2e-6)
        assert mine.frames.volumes[k] == pytest.approx(theirs.frames.volumes[0], rel=2e-5)


def test_draws_relax_to_what_each_relaxes_to_alone():
    draws = spread(StillingerWeber.silicon_1985(), 6)
    together = elastic(DrawSurfaces(draws), bulk("Si", "diamond", a=5.43))
    for k in (1, 5):
        alone = elastic(jax.tree.map(lambda leaf, k=k: leaf[k], draws),
                        bulk("Si", "diamond", a=5.43))  # fmt: skip
        for name, quantity in together.quantities.items():
            assert quantity.values[k] == pytest.approx(alone[name].value, abs=0.01), name


def changed(draws, name, k, factor):
    """Draws with one parameter of draw k multiplied by a number."""
    values = np.array(getattr(draws, name))
    values[k] *= factor
    leaves, tree = jax.tree_util.tree_flatten_with_path(draws)
    return jax.tree_util.tree_unflatten(
        tree, [values if path[0].name == name else leaf for path, leaf in leaves]
    )


def test_what_fails_is_counted_not_dropped():
    """One step is enough from the minimum; draw 1 has another one, draw 2 the wrong angles."""
    draws = spread(StillingerWeber.silicon_1985(), 4, sd=0.0)
    draws = changed(changed(draws, "r0", 1, 1.01), "lam", 2, -0.5)
    a = lattice(StillingerWeber.silicon_1985(), bulk("Si", "diamond", a=5.43))["a"].value
    surfaces = DrawSurfaces(draws, Tolerance(forces=1.0, steps=1))
    found = elastic(surfaces, bulk("Si", "diamond", a=a))
    failed = np.any(list(found.failed.values()), axis=0)
    assert failed.tolist() == [False, True, False, False]
    assert found.unstable["elastically unstable (Born)"].tolist() == [False, False, True, False]
    values = found["C11"].values
    assert np.isnan(values[1])
    assert np.isfinite(values[[0, 2, 3]]).all()
    joined = PropertyDraws({"elastic": found})
    row = joined.summary()[0]
    assert (row.n, row.failed, row.unstable) == (3, 0.25, 0.25)
    assert len(joined.problems) == 2


def test_relaxations_that_run_out_of_steps_have_failed():
    draws = spread(StillingerWeber.silicon_1985(), 4)
    surfaces = DrawSurfaces(draws, Tolerance(steps=2))
    found = lattice(surfaces, bulk("Si", "diamond", a=5.2))
    assert found.failed["relaxation of the crystal"].all()
    assert np.isnan(found["a"].values).all()


@pytest.mark.parametrize("factor", [0.3, 3.0], ids=["collapses", "flies apart"])
def test_a_draw_that_becomes_another_structure_does_not_stop_the_others(factor):
    """Its lists would grow with the cube of what the cell shrinks by, for all draws."""
    argon = LennardJones(species=("Ar",), epsilon=0.0104, sigma=3.4, cutoff=8.0)
    draws = changed(spread(argon, 4, sd=0.0), "sigma", 1, factor)
    surfaces = DrawSurfaces(draws)
    found = lattice(surfaces, bulk("Ar", "fcc", a=5.3))
    assert np.any(list(found.failed.values()), axis=0).tolist() == [False, True, False, False]
    assert np.isfinite(found["a"].values).tolist() == [True, False, True, True]
    reach = max(one.reach for known in surfaces._references.values() for one in known)
    assert reach < (STRETCH + 0.2) * surfaces.reach


def test_any_ase_calculator_is_a_surface():
    """EMT copper; matscipy gives the same elastic constants."""
    from matscipy.elasticity import fit_elastic_constants

    crystal = bulk("Cu", "fcc", a=3.6, cubic=True)
    surface = surfaces_of(EMT())
    a = lattice(surface, crystal, atom_energies={"Cu": 0.0})["a"]
    found = elastic(surface, crystal)
    relaxed = bulk("Cu", "fcc", a=a.value, cubic=True)
    relaxed.calc = EMT()
    tensor, _ = fit_elastic_constants(
        relaxed, symmetry="cubic", N_steps=5, delta=1e-3, graphics=False, verbose=False
    )
    for name, value in (("C11", tensor[0, 0]), ("C12", tensor[0, 1]), ("C44", tensor[3, 3])):
        assert found[name].value == pytest.approx(value * 160.2176634, abs=0.05)


def test_metal_against_lammps(tmp_path):
    """Sutton-Chen copper through LAMMPS' eam/alloy: crystal, elastic constants, vacancy."""
    import lammps_reference
    from lammps_force import LammpsCalculator

    from bayespot.export.styles import write_style
    from bayespot.properties import vacancy

    if lammps_reference.missing():
        pytest.skip(lammps_reference.missing())
    copper = SuttonChen.published("Cu", cutoff=6.0)
    style = write_style(copper, tmp_path, "form")
    theirs = surfaces_of(LammpsCalculator(copper, tmp_path, style.commands(tmp_path)))
    ours, crystal = surfaces_of(copper), bulk("Cu", "fcc", a=3.6)
    assert lattice(ours, crystal)["a"].value == pytest.approx(
        lattice(theirs, crystal, atom_energies={"Cu": 0.0})["a"].value, abs=1e-4
    )
    mine, other = elastic(ours, crystal), elastic(theirs, crystal)
    for name in ("C11", "C12", "C44"):
        assert mine[name].value == pytest.approx(other[name].value, abs=0.05)
    first, second = (
        vacancy(s, crystal, starts=1, sizes=(2,))["formation energy"] for s in (ours, theirs)
    )
    assert first.value == pytest.approx(second.value, abs=2e-4)


def test_what_is_no_surface_is_refused():
    with pytest.raises(PropertyError, match="ASE calculator, a posterior or a potential"):
        surfaces_of("Si")
    molecule = bulk("Ar", "fcc", a=5.3)
    molecule.pbc = False
    with pytest.raises(PropertyError, match="periodic in three directions"):
        lattice(AseLennardJones(), molecule)
