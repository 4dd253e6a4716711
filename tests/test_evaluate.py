"""Energies, forces, stresses: one formula in two shapes, finite differences, and refusals."""

import subprocess
import sys
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from bayespot.errors import CutoffError, PrecisionError
from bayespot.evaluate import check_reach, evaluate, evaluate_draws, jacobian_columns
from bayespot.graph import build_graph
from bayespot.potentials.base import param
from bayespot.potentials.lennard_jones import LennardJones
from bayespot.potentials.priors import Normal
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.three_body import TripletPotential
from bayespot.runtime import require_x64

NAMES = ("D", "r0", "q", "s", "r_c")


def sampled(per: str = "triplet") -> Any:
    return param(unit="1", symbol="x", doc="of the test", prior=Normal(1.0, 1.0), per=per)


class DirectStillingerWeber(TripletPotential):
    """The textbook triple sum: one cutoff and one gamma for all pairs of species."""

    D: Any = sampled("pair")
    r0: Any = sampled("pair")
    p: Any = sampled("pair")
    q: Any = sampled("pair")
    s: Any = sampled("pair")
    r_c: Any = sampled("pair")
    gamma3: Any = sampled()
    r_c3: Any = sampled()
    lam: Any = sampled()
    cos0: Any = sampled()

    abstract: ClassVar[bool] = True

    @property
    def reach(self) -> float:
        return float(np.max(self.r_c))

    def phi2(self, r):
        t = self.s * self.r0 / (self.r0 - self.r_c) ** 2
        a_q = self.D * (self.p + t) / (self.p - self.q) * jnp.exp(self.s / (self.r_c - self.r0))
        a_p = a_q * (self.q + t) / (self.p + t)
        return self.end(r, self.s, self.r_c) * (
            a_p * (self.r0 / r) ** self.p - a_q * (self.r0 / r) ** self.q
        )

    def phi3(self, r_ij, r_ik, cos):
        ends = [self.end(r, self.gamma3, self.r_c3) for r in (r_ij, r_ik)]
        return self.lam * (cos - self.cos0) ** 2 * ends[0] * ends[1]

    @staticmethod
    def end(r, length, r_c):
        inside = r < r_c
        return jnp.where(inside, jnp.exp(length / jnp.where(inside, r - r_c, -1.0)), 0.0)


def two_species() -> StillingerWeber:
    """Everything by pair and triplet but the end of the angular term."""
    return StillingerWeber(
        species=("Si", "C"), D=[2.1, 1.6, 2.9], r0=[2.3, 2.0, 1.9], k=[26.0, 28.0, 24.0],
        q=[0.1, -0.2, 0.3], s=[2.1, 1.9, 1.8], r_c=3.7, gamma=2.4,
        lam=[1.3, 0.9, 0.6, 1.5, 1.1, 1.8], cos0=[-0.33, -0.2, -0.4, -0.1, -0.3, -0.5],
        e0=[-1.0, -2.0],
    )  # fmt: skip


def direct(potential: StillingerWeber) -> DirectStillingerWeber:
    """The same numbers in the coordinates of the paper."""
    r0, s, r_c, gamma = (getattr(potential, n) for n in ("r0", "s", "r_c", "gamma"))
    gap = r0 - r_c
    t = s * r0 / gap**2
    p = (potential.k - (t - 2 * s * r0**2 / gap**3)) / (potential.q + t) - t
    end = np.exp(-gamma / gap)  # of each pair, at its own r0
    n = len(potential.species)
    both = [end[potential.pair_number(a, b)] * end[potential.pair_number(a, c)]
            for a in range(n) for b in range(n) for c in range(b, n)]  # fmt: skip
    same = {name: getattr(potential, name) for name in (*NAMES, "cos0", "e0")}
    return DirectStillingerWeber(
        species=potential.species, p=p, lam=potential.lam * both, gamma3=gamma[0], r_c3=r_c[0],
        **same,
    )  # fmt: skip


def structures(species) -> list[Atoms]:
    rng = np.random.default_rng(11)
    found = [bulk("Si", "diamond", a=5.2), bulk("Si", "diamond", a=5.0, cubic=True),
             bulk("Si", "fcc", a=3.8) * (1, 1, 2),
             Atoms("Si4", [[0, 0, 0], [2.2, 0, 0], [0, 2.1, 0.3], [1, 1, 2.4]])]  # fmt: skip
    for k, atoms in enumerate(found):
        atoms.rattle(0.12, seed=k)
        atoms.set_chemical_symbols([str(s) for s in rng.choice(species, len(atoms))])
    return found


def relative(one, other):
    return np.abs(one - other).max() / max(1.0, np.abs(other).max())


@pytest.mark.parametrize("potential", [StillingerWeber.silicon_1985(), two_species()],
                         ids=["one species", "two species"])  # fmt: skip
def test_moments_equal_the_sum_over_triplets(potential):
    cells, other = structures(potential.species), direct(potential)
    reach = potential.reach
    moments = evaluate(potential, build_graph(cells, potential.species, reach), cutoff=reach)
    graph = build_graph(cells, potential.species, reach, triplets=True)
    triplets = evaluate(other, graph, cutoff=reach)
    assert np.abs(moments.forces).max() > 1.0
    for one, two in zip(moments, triplets, strict=True):
        assert relative(one, two) < 1e-12


def test_a_longer_graph_changes_nothing():
    potential = two_species()
    cells = structures(potential.species)
    one, two = (
        evaluate(potential, build_graph(cells, potential.species, cutoff), cutoff=cutoff)
        for cutoff in (potential.reach, 5.1)
    )
    for a, b in zip(one, two, strict=True):
        assert relative(a, b) < 1e-12


def test_chunks_change_nothing():
    potential = LennardJones(species=("Si", "C"))
    cells = structures(potential.species) * 3
    results = [
        evaluate(potential, build_graph(cells, ("Si", "C"), 6.0, chunk_atoms=n), cutoff=6.0)
        for n in (8, 1000)
    ]
    for a, b in zip(*results, strict=True):
        assert relative(a, b) < 1e-12


def test_draws_are_single_potentials():
    one, other = two_species(), two_species().replace(D=[1.0, 2.0, 3.0])
    cells = structures(one.species)
    graph = build_graph(cells, one.species, one.reach)
    many = jax.tree.map(lambda *leaves: np.stack(leaves), one, other)
    together = evaluate_draws(many, graph)
    for k, potential in enumerate((one, other)):
        alone = evaluate(potential, graph, cutoff=potential.reach)
        for a, b in zip(together, alone, strict=True):
            assert relative(a[k], b) < 1e-13


def test_open_structures_have_no_stress_and_isolated_atoms_no_forces():
    potential = StillingerWeber.silicon_1985().replace(e0=-7.5)
    cells = [Atoms("Si", cell=[20, 20, 20], pbc=True), structures(("Si",))[3]]
    out = evaluate(potential, build_graph(cells, ("Si",), potential.reach), cutoff=potential.reach)
    assert out.energy[0] == -7.5
    assert not out.forces[0].any()
    assert not out.stress.any()


def test_the_jacobian_is_the_slope():
    value, columns = jacobian_columns(lambda u: jnp.array([u[0] * u[1], jnp.sin(u[1])]),
                                      jnp.array([2.0, 0.5]))  # fmt: skip
    np.testing.assert_allclose(value, [1.0, np.sin(0.5)])
    np.testing.assert_allclose(columns, [[0.5, 0.0], [2.0, np.cos(0.5)]])


# --- refusals -------------------------------------------------------------------------------


def test_a_potential_that_reaches_past_its_graph():
    potential = LennardJones(species=("Si",))
    graph = build_graph([bulk("Si")], ("Si",), 5.0)
    with pytest.raises(CutoffError, match=r"reaches 6.0000 Å, the neighbour graph ends at 5.0000 "):
        evaluate(potential, graph, cutoff=5.0)
    check_reach(5.0, 5.0)


def test_a_switch_wider_than_the_cutoff():
    with pytest.raises(CutoffError, match=r"switch_width 7.0 Å must be between 0 and the cutoff"):
        LennardJones(species=("Si",), switch_width=7.0)


SINGLE = """
from ase.build import bulk
from bayespot.data.dataset import Dataset, Labels
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.likelihood import FitProblem
from bayespot.potentials.lennard_jones import LennardJones
potential, atoms = LennardJones(species=("Si",)), bulk("Si")
calls = [
    lambda: evaluate(potential, build_graph([atoms], ("Si",), 6.0), cutoff=6.0),
    lambda: FitProblem(potential, Dataset.from_atoms([atoms], [Labels(energy=-9.0)])),
]
for call in calls:
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_single_precision_is_refused():
    require_x64()
    run = subprocess.run([sys.executable, "-c", SINGLE], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 2, run.stdout + run.stderr
    for line in lines:
        assert line.startswith(PrecisionError.__name__)
        assert "double precision; call bayespot.configure() before anything else" in line
