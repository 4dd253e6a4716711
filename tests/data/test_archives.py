"""Built-in data sets: they load by name, obey physics, and may be fitted together where said."""

import tomllib
from collections import Counter

import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from scipy.optimize import least_squares

from bayespot.data.archives import archive_names, archive_path
from bayespot.data.read import read
from bayespot.generate.parents import reference_crystal
from bayespot.generate.phases import scaled_ratios
from bayespot.likelihood import NoiseFloor
from bayespot.units import GPA

FAMILIES = {"strained", "defect", "surface", "thermal", "phase"}


@pytest.mark.parametrize("name", archive_names())
def test_every_archive_loads_with_its_floor_and_card(name):
    dataset = read(name)  # checks that forces and stresses do the work that the energies say
    assert len(dataset) >= 20
    assert set(dataset.families) <= FAMILIES
    floor = NoiseFloor.from_json(archive_path(name) / "floor.json")
    assert 0 < floor.energy < 0.05
    assert 0 < floor.forces < 0.1
    card = (archive_path(name) / "README.md").read_text(encoding="utf-8")
    assert "Licence: MIT" in card
    for atoms, labels in zip(dataset.structures, dataset.labels, strict=True):
        assert np.abs(labels.forces.sum(axis=0)).max() < 0.02
        assert (labels.stress is None) == (not atoms.pbc.all())
        assert {"parent", "variant", "seed"} <= set(atoms.info)
        assert neighbor_list("d", atoms, 8.0).min() > 1.7


@pytest.mark.skipif("silicon_gpaw_pbe_extension" not in archive_names(),
                    reason="the archive is not built")
def test_the_extension_of_silicon_has_the_settings_of_silicon():
    tables = [tomllib.loads((archive_path(name) / "settings.toml").read_text(encoding="utf-8"))
              for name in ("silicon_gpaw_pbe", "silicon_gpaw_pbe_extension")]
    assert tables[0]["gpaw"] == tables[1]["gpaw"]
    both = read("silicon_gpaw_pbe") + read("silicon_gpaw_pbe_extension")
    assert both.species == ("Si",)
    kinds = Counter(a.info["variant"] for a in read("silicon_gpaw_pbe_extension").structures)
    assert kinds["stacking_fault"] >= 2
    assert kinds["liquid"] >= 4
    assert sum(n for kind, n in kinds.items() if kind.startswith("adatom")) >= 4


def equation_of_state(dataset):
    """Lattice constant (Å) and bulk modulus (GPa) of fcc from its one-atom frames.

    Birch-Murnaghan, energies and pressures at once; the mesh scatters them by some 4 meV and 0.5
    GPa.
    """
    rows = [(a.cell.volume, x.energy, -np.mean(x.stress[:3]))
            for a, x in zip(dataset.structures, dataset.labels, strict=True)
            if len(a) == 1 and a.info["variant"] in ("perfect", "isotropic")]
    volume, energy, pressure = np.array(rows).T
    assert len(rows) >= 4

    def misfit(p):
        e0, v0, b0, b1 = p
        x = (v0 / volume) ** (2 / 3)
        e = e0 + 9 * v0 * b0 / 16 * ((x - 1) ** 3 * b1 + (x - 1) ** 2 * (6 - 4 * x))
        y = (v0 / volume) ** (1 / 3)
        q = 1.5 * b0 * (y**7 - y**5) * (1 + 0.75 * (b1 - 4) * (x - 1))
        return np.concatenate([(e - energy) / 0.004, (q - pressure) / (0.5 / GPA)])

    _, v0, b0, _ = least_squares(misfit, [energy.min(), 16.5, 0.48, 4.5]).x
    return (4 * v0) ** (1 / 3), b0 * GPA


def test_aluminium_has_all_families_and_its_equation_of_state():
    """Against PBE.

    a0 = 4.04 Å and B0 = 77 GPa: Haas, Tran and Blaha, Phys. Rev. B 79, 085104 (2009), and
    Lejaeghere et al., Science 351, aad3000 (2016).
    """
    dataset = read("aluminium_gpaw_pbe")
    assert set(dataset.families) == FAMILIES
    lattice, bulk_modulus = equation_of_state(dataset)
    assert lattice == pytest.approx(4.04, abs=0.02)
    assert bulk_modulus == pytest.approx(77, abs=6)


def test_volumes_of_aluminium_phases_by_the_rule_of_the_generator():
    """Where the pressure of the archive's frames vanishes (Murnaghan, B' = 4.5), within 6 %."""
    dataset = read("aluminium_gpaw_pbe")
    cell = reference_crystal("Al").cell
    ratios = scaled_ratios(cell, ["bcc", "hcp", "diamond", "sc", "betatin"])
    compared = 0
    for phase, ratio in ratios.items():
        rows = [(a.cell.volume / len(a), -np.mean(x.stress[:3]) * GPA)
                for a, x in zip(dataset.structures, dataset.labels, strict=True)
                if a.info["variant"] == phase]
        if len(rows) < 2:
            continue
        volume, pressure = np.array(rows).T

        def misfit(p, volume=volume, pressure=pressure):
            return p[1] / 4.5 * ((p[0] / volume) ** 4.5 - 1.0) - pressure

        found = least_squares(misfit, [volume.mean(), 60.0]).x[0]
        assert ratio * cell.cell.volume == pytest.approx(found, rel=0.06), phase
        compared += 1
    assert compared >= 1
