"""A list that is kept gives what a list made anew gives, for every kind of form."""

import jax
import lammps_reference as reference
import numpy as np
import pytest
from ase.build import bulk

from bayespot.dynamics import Ensemble
from bayespot.dynamics.verlet import VerletList
from bayespot.errors import CutoffError, SpeciesError, StructureError
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.potentials.ace import ACE
from bayespot.potentials.base import registry
from bayespot.potentials.morse import Morse
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.tersoff import Tersoff
from bayespot.potentials.zbl import ZBL


def forms():
    argon = registry()["LennardJones"](species=("Ar",), epsilon=0.0104, sigma=3.4, cutoff=7.0)
    return {
        "Stillinger-Weber": (StillingerWeber.silicon_1985(), bulk("Si", cubic=True)),
        "Tersoff, couples of edges": (Tersoff.silicon_1988_elastic(), bulk("Si", cubic=True)),
        "two species in a cell smaller than the cutoff": (
            Morse(species=("Na", "Cl"), D=0.3, alpha=1.2, r0=2.8, cutoff=6.0)
            + ZBL(species=("Na", "Cl")),
            bulk("NaCl", "rocksalt", a=5.6),
        ),
        "one atom that sees itself": (argon, bulk("Ar", "fcc", a=5.3)),
    }


@pytest.mark.parametrize("name", list(forms()))
def test_a_kept_list_gives_what_a_new_one_gives(name):
    potential, atoms = forms()[name]
    rng = np.random.default_rng(3)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.03 * rng.standard_normal((3, 3))), True)
    kept = VerletList(potential.species, potential.reach,
                      triplets=potential.needs_triplets, skin=0.6)
    for step in range(12):
        atoms.positions += 0.06 * rng.standard_normal(atoms.positions.shape)
        if step % 4 == 3:
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.01 * rng.standard_normal((3, 3))),
                           True)  # fmt: skip
        new = build_graph([atoms], potential.species, potential.reach,
                          triplets=potential.needs_triplets)  # fmt: skip
        mine = evaluate(potential, kept.graph(atoms), cutoff=potential.reach)
        other = evaluate(potential, new, cutoff=potential.reach)
        for a, b in zip(mine, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12 + 1e-11 * np.abs(b).max())
    if len(atoms) > 1:
        assert 1 <= kept.made < 12


@pytest.mark.parametrize("n", [3, 9])
def test_draws_of_linear_forms_give_the_same_with_and_without_their_design_matrix(n):
    """Nine share one pass over it, three are evaluated one by one."""
    empty = ACE(species=("Si",), degree_1=3, degree_2=2, degree_3=-1)
    rng = np.random.default_rng(1)
    c = rng.standard_normal((n, len(empty.c)))
    alone = [empty.replace(c=c[k], e0=np.array([float(k)])) for k in range(n)]
    ensemble = Ensemble(jax.tree.map(lambda *leaves: np.stack(leaves), *alone), skin=0.4)
    atoms = bulk("Si", cubic=True)
    for _ in range(3):
        atoms.positions += 0.08 * rng.standard_normal(atoms.positions.shape)
        out = ensemble.draws(atoms)
        for k, one in enumerate(alone):
            (expected,) = reference.ours(one, atoms)
            for mine, other in zip(out, expected, strict=True):
                np.testing.assert_allclose(mine[k], other, rtol=1e-10, atol=1e-9)
            energy, forces, _ = ensemble.one(atoms, k)
            assert energy == pytest.approx(expected.energy, rel=1e-12)
            np.testing.assert_allclose(forces, expected.forces, atol=1e-10)


def test_it_is_made_again_only_when_somebody_may_have_come_into_reach():
    atoms = bulk("Si", cubic=True).repeat(2)
    kept = VerletList(("Si",), 3.77, skin=0.5)
    kept.graph(atoms)
    atoms.positions += [3.0, -2.0, 1.0]  # all together: nobody comes closer
    kept.graph(atoms)
    atoms.positions[0, 0] += 0.24
    kept.graph(atoms)
    assert kept.made == 1
    atoms.positions[0, 0] += 0.03
    kept.graph(atoms)
    assert kept.made == 2
    atoms.pbc = (True, True, False)
    open_above = kept.graph(atoms)
    assert kept.made == 3
    assert np.isinf(open_above.chunks.volume).all()


def test_sizes_stay_so_that_programs_stay():
    atoms = bulk("Si", cubic=True).repeat(3)
    kept = VerletList(("Si",), 3.77, skin=0.5)
    rng = np.random.default_rng(0)
    shapes = set()
    for _ in range(10):
        atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
        shapes.add(kept.graph(atoms).chunks.center.shape)
    assert kept.made > 1
    assert len(shapes) <= 3


def test_what_is_no_structure_is_refused():
    atoms = bulk("Si", cubic=True)
    kept = VerletList(("Si",), 3.77)
    kept.graph(atoms)
    near, lost = atoms.copy(), atoms.copy()
    near.positions[1] = near.positions[0] + [0.1, 0.0, 0.0]
    lost.positions[2, 1] = np.nan
    with pytest.raises(StructureError, match=r"atoms \d and \d .* 0.100 Å apart"):
        kept.graph(near)
    with pytest.raises(StructureError, match="1 of 8 atoms have positions that are no numbers"):
        kept.graph(lost)
    with pytest.raises(SpeciesError, match="Ge"):
        kept.graph(bulk("Ge", cubic=True))
    with pytest.raises(CutoffError, match="skin=0"):
        VerletList(("Si",), 3.77, skin=0.0)


def test_structures_of_every_boundary():
    potential = StillingerWeber.silicon_1985()
    structures = {
        name: reference.with_species(atoms, ("Si",))
        for name, atoms in reference.structures().items()
    }
    expected = reference.ours(potential, *structures.values())
    assert {tuple(a.pbc.tolist()) for a in structures.values()} >= {(True,) * 3, (False,) * 3}
    for (name, atoms), other in zip(structures.items(), expected, strict=True):
        energy, forces, stress = Ensemble(potential).draws(atoms)
        np.testing.assert_allclose(energy[0], other.energy, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(forces[0], other.forces, atol=1e-11, err_msg=name)
        np.testing.assert_allclose(stress[0], other.stress, atol=1e-12, err_msg=name)
