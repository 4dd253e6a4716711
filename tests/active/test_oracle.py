import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from linear_learner import lj_oracle, make_pool

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


def test_failing_calculators_give_a_reason(monkeypatch):
    class KohnShamConvergenceError(Exception):
        pass

    def raising(name, settings):
        calculator = EMT()
        calculator.calculate = lambda *a, **k: (_ for _ in ()).throw(KohnShamConvergenceError())
        return calculator

    oracle = CalculatorOracle("emt")
    monkeypatch.setattr("bayespot.oracles.calculators._build_calculator", raising)
    with pytest.raises(OracleError, match="not converged: KohnShamConvergenceError"):
        oracle.label(copper())


def test_a_calculator_that_says_it_did_not_converge(monkeypatch):
    calculator = EMT()
    calculator.converged = False
    oracle = CalculatorOracle("emt")
    monkeypatch.setattr("bayespot.oracles.calculators._build_calculator", lambda *a: calculator)
    with pytest.raises(OracleError, match="not converged: the calculator says so"):
        oracle.label(copper())


def test_atoms_on_top_of_each_other_fail_without_a_label():
    structure = copper()
    structure.positions[1] = structure.positions[0] + [0.05, 0, 0]
    with pytest.raises(OracleError, match=r"beyond the limit|not finite|Error"):
        CalculatorOracle("lj", {"sigma": 2.3, "epsilon": 0.4}).label(structure)


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
    assert result.energy == pytest.approx(-10.424, abs=0.01)
    with pytest.raises(OracleError, match="not converged: KohnShamConvergenceError"):
        make_oracle("gpaw", {**settings, "maxiter": 2}).label(structure)
    with pytest.raises(ConfigError, match="maxitr"):
        make_oracle("gpaw", {**settings, "maxitr": 2})
    with pytest.raises(ConfigError, match="unconverged labels without a word"):
        make_oracle("gpaw", {**settings, "convergence": {"maximum iterations": 2}})
