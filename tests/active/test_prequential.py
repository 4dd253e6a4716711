import numpy as np
import pytest
from linear_learner import fit, make_pool, predict

from bayespot.active.prequential import (
    add_counts,
    coverage_counts,
    coverage_table,
    errors,
    predicted_rows,
)
from bayespot.data.dataset import Labels


def row(n_atoms=1, energy=0.0, spread=1.0):
    return {
        "n_atoms": n_atoms,
        "energy": energy, "energy_parameter_std": spread / 10, "energy_total_std": spread,
        "forces": np.zeros((n_atoms, 3)).tolist(),
        "forces_parameter_std": np.full((n_atoms, 3), spread / 10).tolist(),
        "forces_total_std": np.full((n_atoms, 3), spread).tolist(),
        "stress": [0.0] * 6, "stress_parameter_std": [spread / 10] * 6,
        "stress_total_std": [spread] * 6,
    }  # fmt: skip


def test_counts_by_hand():
    labels = [Labels(energy=0.5, forces=np.array([[0.1, 1.0, 3.0]])), Labels(energy=1.8)]
    table = coverage_table(coverage_counts([row(), row()], labels))
    assert table["energy"]["n"] == 2
    assert table["energy"]["total"]["0.5"]["fraction"] == 0.5  # 0.5 < 0.674 < 1.8
    assert table["energy"]["total"]["0.95"]["fraction"] == 1.0  # 1.8 < 1.96
    assert table["energy"]["total"]["0.9"]["fraction"] == 0.5  # 1.8 > 1.645
    assert table["forces"]["total"]["0.9"]["fraction"] == pytest.approx(2 / 3)
    assert table["forces"]["parameter"]["0.9"]["fraction"] == pytest.approx(1 / 3)
    assert (table["forces"]["n"], table["forces"]["n_structures"]) == (3, 1)
    assert table["forces"]["mean_z2"] == pytest.approx((0.01 + 1 + 9) / 3)
    assert table["stress"]["total"]["0.9"]["fraction"] is None


def test_the_structure_is_the_unit_of_the_interval():
    rng = np.random.default_rng(0)
    labels = [Labels(forces=rng.normal(size=(50, 3))) for _ in range(4)]
    cell = coverage_table(coverage_counts([row(50)] * 4, labels))["forces"]["total"]["0.9"]
    assert cell["fraction"] == pytest.approx(0.9, abs=0.05)
    assert cell["high"] - cell["low"] > 0.4  # four structures do not tell more than that


def test_symmetry_zeros_do_not_count():
    fixed = row()
    fixed["forces_parameter_std"] = [[0.1, 1e-12, 1e-12]]
    counts = coverage_counts([fixed], [Labels(forces=np.array([[0.3, 1e-7, 0.2]]))])["forces"]
    assert (counts["n"], counts["n_zeros"]) == (2, 1)  # the third is wrong, not zero


def test_rounds_add_up():
    labels = [Labels(energy=x) for x in (0.1, 5.0, 0.3)]
    rows = [row()] * 3
    parts = [coverage_counts(rows[:1], labels[:1]), coverage_counts(rows[1:], labels[1:])]
    assert add_counts(parts) == coverage_counts(rows, labels)
    assert add_counts([])["energy"]["n"] == 0


def test_errors_are_per_atom():
    result = errors([row(4, energy=1.0)], [Labels(energy=3.0)])
    assert result["rmse"] == {"energy": 0.5, "forces": None, "stress": None}
    assert result["total_std"]["energy"] == 0.25


def test_rows_of_a_prediction():
    pool = make_pool(4, labels=True)
    posterior = fit(pool, seed=0, warmup_factor=1, checkpoint=None)
    prediction = predict(posterior, list(pool.structures))
    rows = predicted_rows(prediction, 4)
    assert [r["n_atoms"] for r in rows] == pool.atom_counts.tolist()
    np.testing.assert_array_equal(
        np.concatenate([r["forces"] for r in rows]), prediction.forces
    )
    result = errors(rows, pool.labels)
    assert result["rmse"]["energy"] < 5e-3
    assert result["n_structures"] == 4
