"""The data sets that were generated and computed with GPAW: size, and what is known of them.

Usage: python paper/benchmarks/generated_sets.py

Frames, families and net forces are read off the archives; lattice constant and bulk modulus of
aluminium follow from its one-atom frames and are compared with PBE of the literature (Haas, Tran
and Blaha, Phys. Rev. B 79, 085104 (2009): 4.04 Å, 77 GPa). Writes paper/results/dft_side.json.
"""

import sys
from pathlib import Path

import numpy as np
from claims import add_claims, claim

import bayespot
from bayespot.data.archives import archive_names

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python paper/benchmarks/generated_sets.py"
sys.path.insert(0, str(ROOT / "tests" / "data"))


def main() -> None:
    """All claims."""
    from test_archives import FAMILIES, equation_of_state

    bayespot.configure()
    found = []
    for name in archive_names():
        data = bayespot.read(name)
        forces = max(np.abs(label.forces.sum(axis=0)).max() for label in data.labels)
        found += [
            claim(f"{name}_frames", len(data), ">= 20", n=len(data), unit="1", command=COMMAND),
            claim(f"{name}_families", len(set(data.families) & FAMILIES),
                  f">= {3 if name.endswith('extension') else 5}", n=len(data), unit="1",
                  command=COMMAND),
            claim(f"{name}_net_force", float(forces), "<= 0.02", n=len(data), unit="eV/Å",
                  command=COMMAND),
        ]
    lattice, bulk_modulus = equation_of_state(bayespot.read("aluminium_gpaw_pbe"))
    found += [
        claim("aluminium_gpaw_pbe_a0_off", abs(lattice - 4.04), "<= 0.02", n=1, unit="Å",
              command=COMMAND),
        claim("aluminium_gpaw_pbe_B0_off", abs(bulk_modulus - 77.0), "<= 6", n=1, unit="GPa",
              command=COMMAND),
    ]
    for row in found:
        print(f"{row['name']:<40} {row['value']:10.4g} {row['target']:>8} {row['passed']}")
    add_claims(ROOT / "paper" / "results" / "dft_side.json", "The DFT side", found)


if __name__ == "__main__":
    main()
