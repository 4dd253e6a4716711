"""CHGNet, whose weights are in its package."""

import numpy as np
import pytest
from ase.build import bulk

from bayespot.errors import ConfigError
from bayespot.oracles import make_oracle

pytest.importorskip("chgnet", reason="needs CHGNet: pip install chgnet")
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch and pymatgen


def test_labels_are_derivatives_of_the_energy():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    oracle = make_oracle("chgnet")
    result = oracle.label(atoms)
    assert oracle.settings == {"oracle": "chgnet", "keywords": {"model_name": "0.3.0"}}
    assert result.metadata["version"].startswith("chgnet ")
    assert -6.0 < result.energy / len(atoms) < -4.5
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[0, 0] += sign * 0.01
        energies.append(oracle.label(moved).energy)
    assert result.forces[0, 0] == pytest.approx(-np.diff(energies[::-1])[0] / 0.02, abs=0.01)
    energies = []
    for sign in (1, -1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ np.diag([1 + sign * 0.003, 1, 1]), scale_atoms=True)
        energies.append(oracle.label(strained).energy)
    slope = -np.diff(energies[::-1])[0] / 0.006 * -1 / atoms.get_volume()
    assert result.stress[0] == pytest.approx(slope, abs=5e-4)


def test_what_it_does_not_take():
    with pytest.raises(ConfigError, match="takes no modelname"):
        make_oracle("chgnet", {"modelname": "0.3.0"})
    with pytest.raises(ConfigError, match="no weights of CHGNet"):
        make_oracle("chgnet", {"model_name": "9.9.9"})
