import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from bayespot.data.dataset import Dataset, Labels
from bayespot.errors import ConfigError, OracleError
from bayespot.oracles import (
    ArchiveOracle,
    CalculatorOracle,
    LabelledResult,
    calculation_key,
    check_label,
    make_oracle,
    structure_hash,
)


def lj_oracle() -> CalculatorOracle:
    return CalculatorOracle("lj", {"epsilon": 0.0104, "sigma": 3.4, "rc": 6.0})


def make_pool(n: int, labels: bool = False) -> Dataset:
    """Rattled argon cells."""
    structures = [bulk("Ar", "fcc", a=5.0 + 0.1 * i, cubic=i % 2 == 0) for i in range(n)]
    for i, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=i)
    made = [lj_oracle().label(s) for s in structures] if labels else []
    known = [Labels(r.energy, r.forces, r.stress) for r in made] or None
    return Dataset.from_atoms(structures, known, source="argon")


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_calculator_by_name():
    structure = copper()
    oracle = CalculatorOracle("emt")
    result = oracle.label(structure)
    reference = structure.copy()
    reference.calc = EMT()
    assert result.energy == reference.get_potential_energy()
    np.testing.assert_array_equal(result.forces, reference.get_forces())
    np.testing.assert_array_equal(result.stress, reference.get_stress())
    assert result.metadata["energy_kind"] == "free_energy"
    assert result.metadata["version"].startswith("ase ")
    assert result.metadata["wall_time_s"] > 0
    assert structure.calc is None


def test_constraints_do_not_hide_forces():
    structure = copper()
    structure.set_constraint(FixAtoms([0, 1, 2, 3]))
    assert np.abs(CalculatorOracle("emt").label(structure).forces).max() > 0.01


def test_no_stress_in_vacuum():
    slab = fcc111("Cu", (1, 1, 3), vacuum=8.0)
    add_adsorbate(slab, "Cu", 2.0, "fcc")
    assert CalculatorOracle("emt").label(slab).stress is None
    slab.pbc = True
    assert CalculatorOracle("emt").label(slab).stress is None
    assert CalculatorOracle("emt").label(copper()).stress.shape == (6,)


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("emtt", {}, "unknown oracle 'emtt'; did you mean 'emt'"),
        ("os.system", {}, "unknown oracle"),
        ("os:system", {}, "os has no ASE calculator called 'system'"),
        ("ase.calculators.emt:Emt", {}, "has no ASE calculator called 'Emt'"),
        ("nowhere:Emt", {}, "No module named 'nowhere'"),
        ("emt", {"frobnicate": object()}, "must be numbers, strings"),
        ("gpaw", {"convergence": {"maximum iterations": 3}}, "GPAW"),
        ("archive", {}, "needs a labelled pool"),
    ],
)
def test_settings_that_cannot_be(name, settings, match):
    with pytest.raises(ConfigError, match=match):
        make_oracle(name, settings)


def test_archive_takes_no_settings():
    with pytest.raises(ConfigError, match="takes no settings"):
        make_oracle("archive", {"xc": "PBE"}, archive=make_pool(2, labels=True))


class Unconverged(EMT):
    """Ends without an error and says that it did not converge."""

    converged = False


class Raising(EMT):
    """Ends as GPAW does."""

    def calculate(self, *args, **more):
        class KohnShamConvergenceError(Exception):
            pass

        raise KohnShamConvergenceError


@pytest.mark.parametrize(
    ("name", "match"),
    [("Raising", "not converged: KohnShamConvergenceError"),
     ("Unconverged", "not converged: the calculator says so")],
)  # fmt: skip
def test_calculators_of_other_packages(name, match):
    """By module and class; each way not to converge is seen."""
    oracle = CalculatorOracle(f"{__name__}:{name}", run={"isolate": False})
    with pytest.raises(OracleError, match=match) as raised:
        oracle.label(copper())
    assert raised.value.kind == "not_converged"


def test_atoms_on_top_of_each_other_fail_without_a_label():
    structure = copper()
    structure.positions[1] = structure.positions[0] + [0.05, 0, 0]
    with pytest.raises(OracleError, match=r"beyond the limit|not finite|Error") as raised:
        CalculatorOracle("lj", {"sigma": 2.3, "epsilon": 0.4}).label(structure)
    assert len(raised.value.attempts) == 1


GOOD = {"energy": -1.0, "forces": np.zeros((4, 3)), "stress": np.zeros(6)}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"energy": np.nan}, "energy is not finite"),
        ({"energy": np.inf}, "energy is not finite"),
        ({"forces": np.full((4, 3), np.nan)}, "12 force components are not finite"),
        ({"forces": np.zeros((3, 3))}, "wrong number of atoms: forces on 3, asked for 4"),
        ({"forces": np.zeros(12)}, "shape"),
        ({"forces": np.full((4, 3), 99.0)}, "171 eV/Å is beyond the limit of 100"),
        ({"stress": np.zeros((3, 3))}, "stress has shape"),
        ({"stress": np.full(6, np.nan)}, "stress is not finite"),
    ],
)
def test_labels_are_checked(change, match):
    check_label(copper(), LabelledResult(**GOOD))
    with pytest.raises(OracleError, match=match):
        check_label(copper(), LabelledResult(**(GOOD | change)))


def test_archive_finds_what_was_calculated():
    pool = make_pool(6, labels=True)
    oracle = ArchiveOracle(pool)
    result = oracle.label(pool.structures[3])
    assert result.energy == pool.labels[3].energy
    rounded = pool.structures[3].copy()
    rounded.positions = np.round(rounded.positions, 6)
    assert oracle.label(rounded).metadata["entry"] == 3
    moved = pool.structures[3].copy()
    moved.positions[0, 0] += 0.01
    with pytest.raises(OracleError, match="is not in the archive argon; take the pool from"):
        oracle.label(moved)


def test_hashes_tell_structures_and_settings_apart():
    structure = copper()
    same = structure.copy()
    same.positions += 1e-9
    same.info["anything"] = 1
    assert structure_hash(same) == structure_hash(structure)
    for change in ("positions", "cell", "numbers", "pbc"):
        other = structure.copy()
        if change == "positions":
            other.positions[2, 1] += 1e-4
        elif change == "cell":
            other.cell[0, 0] += 1e-4
        elif change == "numbers":
            other.numbers[0] = 28
        else:
            other.pbc = [True, True, False]
        assert structure_hash(other) != structure_hash(structure)
    a = {"oracle": "gpaw", "keywords": {"xc": "PBE", "kpts": {"density": 3.5, "gamma": True}}}
    b = {"keywords": {"kpts": {"gamma": True, "density": 3.5}, "xc": "PBE"}, "oracle": "gpaw"}
    assert calculation_key(structure, a) == calculation_key(structure, b)
    b["keywords"]["xc"] = "LDA"
    assert calculation_key(structure, a) != calculation_key(structure, b)


def test_fresh_calculator_each_time():
    oracle = lj_oracle()
    structures = make_pool(3).structures
    alone = [lj_oracle().label(s).energy for s in structures]
    assert [oracle.label(s).energy for s in reversed(structures)] == alone[::-1]


def test_oracles_travel_to_other_processes():
    oracle = CalculatorOracle("lj", {"sigma": 3.4, "epsilon": 0.01}, run={"max_force": 90.0})
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = pool.submit(oracle.label, make_pool(1).structures[0]).result()
    assert result.energy == oracle.label(make_pool(1).structures[0]).energy
    back = pickle.loads(pickle.dumps(oracle))
    assert (back.settings, back.run) == (oracle.settings, oracle.run)


def test_limits_on_time_and_memory_of_any_calculator():
    """EMT in a process of its own gives what it gives in this one."""
    alone = CalculatorOracle("emt", run={"time_limit": 60.0}).label(copper())
    here = CalculatorOracle("emt").label(copper())
    assert alone.energy == here.energy
    np.testing.assert_array_equal(alone.forces, here.forces)
    np.testing.assert_array_equal(alone.stress, here.stress)
    assert alone.metadata["cpu_time_s"] > 0


@pytest.mark.dft
def test_gpaw_live():
    pytest.importorskip("gpaw", reason="needs GPAW: pip install gpaw")
    settings = {
        "mode": {"name": "pw", "ecut": 200},
        "xc": "PBE",
        "kpts": {"density": 1.5, "gamma": True},
        "occupations": {"name": "fermi-dirac", "width": 0.1},
    }
    structure = bulk("Si")
    structure.rattle(0.05, seed=1)
    result = make_oracle("gpaw", settings).label(structure)
    assert result.metadata["energy_kind"] == "free_energy"
    assert result.metadata["iterations"] > 3
    assert result.metadata["pseudopotentials"]["Si"]["file"] == "Si.PBE"
    assert result.metadata["cpu_time_s"] > 0.1
    assert result.energy == pytest.approx(-10.424, abs=0.01)
    with pytest.raises(OracleError, match="not converged: KohnShamConvergenceError") as raised:
        make_oracle("gpaw", {**settings, "maxiter": 2}, run={"ladder": []}).label(structure)
    assert raised.value.kind == "not_converged"
    assert "iter:   2" in raised.value.attempts[0]["tail"]
    slow = make_oracle("gpaw", {**settings, "maxiter": 4})
    assert slow.settings == make_oracle("gpaw", settings).settings  # how, not what
    retried = slow.label(structure)
    assert [a["kind"] for a in retried.metadata["attempts"]] == ["not_converged"]
    assert retried.energy == pytest.approx(result.energy, abs=1e-5)
    with pytest.raises(ConfigError, match="maxitr"):
        make_oracle("gpaw", {**settings, "maxitr": 2})
    with pytest.raises(ConfigError, match="unconverged labels without a word"):
        make_oracle("gpaw", {**settings, "convergence": {"maximum iterations": 2}})
    with pytest.raises(ConfigError, match="allow_fixed_occupations"):
        make_oracle("gpaw", {**settings, "occupations": {"name": "fermi-dirac", "width": 0}})
