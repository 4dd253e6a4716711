"""Real codes: silicon with pw.x and with GPAW, as small as they can be."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from bayespot.convergence import Calculations, make_scan, run_study
from bayespot.data.dataset import Dataset
from bayespot.oracles import make_oracle

PSEUDO = Path("/usr/share/espresso/pseudo")  # where Debian's quantum-espresso-data has them
SILICON = "Si.pbe-nl-rrkjus_psl.1.0.0.UPF"
TARGET = {"energy_difference": 0.05, "forces": 0.2, "stress": 0.02}


def silicon():
    frames = []
    for k in range(2):
        atoms = bulk("Si", a=5.47)
        atoms.rattle(0.05, seed=k)
        frames.append(atoms)
    return Dataset.from_atoms(frames)


def study(tmp_path, code, base, scans, **run):
    calculations = Calculations(
        tmp_path, code, lambda name, settings: make_oracle(name, settings, run=run))
    return run_study(calculations, base, scans, silicon(), TARGET)


def check(found):
    """Errors fall, cost is counted, the floor is there and no calculation was lost."""
    assert not found.failures
    assert found.recommended is not None
    assert found.floor["overall"]["s_forces"] > 0
    cutoff, cycle = found.scans
    energies = [level.errors.rms["energy"] for level in cutoff.levels]
    assert np.all(np.diff(energies) < 0)
    assert all(level.cost > 0.05 for result in found.scans for level in result.levels)
    loose, tight = cycle.levels[0].errors.rms, cycle.levels[-2].errors.rms
    assert tight["energy"] < 0.1 * loose["energy"]
    assert tight["forces"] < 0.3 * loose["forces"]


@pytest.mark.slow
def test_espresso(tmp_path):
    if shutil.which("pw.x") is None or not (PSEUDO / SILICON).is_file():
        pytest.skip("needs pw.x and its pseudopotentials: apt-get install quantum-espresso")
    base = {
        "pseudopotentials": {"Si": SILICON},
        "kpts": {"density": 0.8, "gamma": True},
        "input_data": {
            "system": {"ecutwfc": 14.0, "ecutrho": 112.0, "occupations": "smearing",
                       "degauss": 0.01},
            "electrons": {"conv_thr": 1e-8},
        },
    }  # fmt: skip
    scans = [
        make_scan("espresso", "cutoff", [10.0, 14.0, 20.0],
                  linked={"input_data.system.ecutrho": 8.0}),
        make_scan("espresso", "scf", [1e-1, 1e-4, 1e-9]),
    ]
    # MPI refuses to be started by root, which continuous integration often is
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMP_NUM_THREADS": "1"}
    check(study(tmp_path, "espresso", base, scans, pseudo_dir=str(PSEUDO), environment=root,
                isolate=False))


@pytest.mark.dft
def test_gpaw(tmp_path):
    pytest.importorskip("gpaw", reason="needs GPAW: pip install gpaw")
    base = {
        "mode": {"name": "pw", "ecut": 200.0}, "xc": "PBE",
        "kpts": {"density": 0.8, "gamma": True},
        "occupations": {"name": "fermi-dirac", "width": 0.1},
        "convergence": {"density": 1e-6, "energy": 1e3, "eigenstates": 1e3},
    }  # fmt: skip
    scans = [make_scan("gpaw", "cutoff", [150.0, 200.0, 300.0]),
             make_scan("gpaw", "scf", [1e-1, 1e-3, 1e-7])]
    check(study(tmp_path, "gpaw", base, scans, isolate=False))
