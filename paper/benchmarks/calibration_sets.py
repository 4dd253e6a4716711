"""The data of the calibration tables: families of public DFT data, and other potentials' labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.calculators.emt import EMT

import bayespot
from bayespot.data.dataset import Dataset, Labels
from bayespot.evaluate import evaluate
from bayespot.graph import build_graph
from bayespot.likelihood import NoiseFloor
from bayespot.potentials.stillinger_weber import StillingerWeber
from bayespot.potentials.tersoff import Tersoff
from bayespot.units import GPA

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

MELTING = {"Si": 1687.0, "Li": 454.0, "Cu": 1358.0, "Ni": 1728.0}
"""K, at normal pressure: CRC Handbook of Chemistry and Physics."""

FITSNAP = {"Ta": "fitsnap_Ta", "W": "w_gap2014"}
"""Sets with families of their own, as FitSNAP ships them."""

WITHOUT_CRYSTAL = ("W",)
"""Sets without a perfect crystal, which energies of defects and surfaces are differences from."""

CONSTANT_PRESSURE = {"Cu": 2.66 / GPA, "Ni": 3.02 / GPA}
"""What the stresses of the elastic cells exceed the derivative of their own energies by (README of
the set); taken off all stresses, as `bayespot.read` advises."""


def dataset_of(name: str, most: int, by: str) -> Dataset:
    """All structures of an element, or its snapshots, in families of at most ``most``."""
    return thinned(grouped(name, by), most)


def grouped(name: str, by: str = "family") -> Dataset:
    """All structures of an element with the families that are left out together.

    With ``by="temperature"`` the snapshots alone have a family.
    """
    if name in FITSNAP:
        data = bayespot.read(DATA / FITSNAP[name] / f"{FITSNAP[name]}.extxyz.xz")
        families = ["GSF" if f.startswith("GSF") else f for f in data.families]
        return replace(data, families=tuple(families))
    data = bayespot.read(
        DATA / "mlearn" / f"mlearn_{name}.extxyz.xz", check=name not in CONSTANT_PRESSURE
    )
    energy = np.array([
        label.energy / len(a) for a, label in zip(data.structures, data.labels, strict=True)
    ])
    hot = energy > _two_groups(energy[np.array(data.families) == "vacancy"])
    families = []
    for k, (family, atoms) in enumerate(zip(data.families, data.structures, strict=True)):
        if by == "temperature":
            family = f"{atoms.info['temperature_K']} K" if family == "aimd" else ""
        elif family == "aimd":
            family = "liquid" if atoms.info["temperature_K"] > MELTING[name] else "solid"
        elif family == "vacancy":
            family = "vacancy, hot" if hot[k] else "vacancy, cold"
        families.append("elastic" if family == "ground_state" else family)
    shift = CONSTANT_PRESSURE.get(name, 0.0) * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    labels = [
        label if label.stress is None else replace(label, stress=label.stress - shift)
        for label in data.labels
    ]
    return replace(data, labels=tuple(labels), families=tuple(families))


TRUTHS = {"tersoff": Tersoff.silicon_1988, "stillinger_weber": StillingerWeber.silicon_1985}


def exact_labels(data: Dataset, truth: str) -> list[tuple]:
    """Energy, forces and stress (None beside vacuum) of every structure by another potential."""
    if truth == "emt":
        found = []
        for structure in data.structures:
            atoms = structure.copy()
            atoms.calc = EMT(asap_cutoff=True)  # ASE's own would end EMT without smoothing
            found.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
        return found
    potential = TRUTHS[truth]()
    graph = build_graph(data.structures, potential.species, potential.reach,
                        triplets=potential.needs_triplets)
    out = evaluate(potential, graph, cutoff=potential.reach)
    ends = np.cumsum([len(a) for a in data.structures])
    return list(zip(out.energy, np.split(out.forces, ends[:-1]), out.stress, strict=True))


def labelled_by(data: Dataset, truth: str) -> Dataset:
    """The same structures with labels of ``truth`` and noise of known size."""
    rng, floor, labels = np.random.default_rng(0), NoiseFloor(), []
    found = exact_labels(data, truth)
    for label, (energy, forces, stress) in zip(data.labels, found, strict=True):
        labels.append(Labels(
            energy=float(energy) + len(forces) * rng.normal(0, floor.energy),
            forces=forces + rng.normal(0, floor.forces, forces.shape),
            stress=None if label.stress is None else stress + rng.normal(0, floor.stress, 6),
        ))
    return Dataset.from_atoms(data.structures, labels, families=data.families)


def thinned(data: Dataset, most: int) -> Dataset:
    """At most so many structures of every family, evenly spaced; families stand together.

    Structures without a family are left away.
    """
    names, rows = np.array(data.families), []
    for family in sorted(set(data.families) - {""}):
        mine = np.flatnonzero(names == family)
        rows += list(mine[np.unique(np.linspace(0, len(mine) - 1, most).round().astype(int))])
    return data[np.array(rows)]


def _two_groups(values: np.ndarray) -> float:
    """The border that splits numbers into two groups of least variance within."""
    values = np.sort(values)
    cuts = range(1, len(values))
    best = min(cuts, key=lambda k: values[:k].var() * k + values[k:].var() * (len(values) - k))
    return 0.5 * (values[best - 1] + values[best])
