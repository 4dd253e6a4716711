r"""Linear ACE as a ``.yace`` file: LAMMPS' ``pair_style pace`` (package ML-PACE), and python-ace.

The file holds products of

.. math::
   A_{\mu nlm}(i) = \sum_{j \in \mu} R_{nl}(r_{ij})\, \sqrt{4\pi}\, Y_{lm}(\hat r_{ij}), \qquad
   R_{nl}(r) = \sum_k c_{nlk}\, g_k(r)

with complex harmonics of the Condon-Shortley phase; for the :math:`g_k` see
`bayespot.export.ace_tables`. Energies are the real parts of sums of products. A product and its
conjugate are one entry with twice the coefficient, and so are products that differ by an exchange
of equal factors. Products of one factor are in the :math:`g_k` themselves.

LAMMPS tabulates the radial functions. The writer makes the tables finer until energies and forces
agree in random surroundings, and says how well. The core repulsion is no part of the file: it goes
beside it as a table.

References
----------
R. Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.
Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021), doi:10.1038/s41524-021-00559-9.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from bayespot.errors import ConfigError
from bayespot.export.ace_tables import (
    SURROUNDINGS,
    RadialSeries,
    coefficients,
    measured,
    shortest,
)
from bayespot.export.styles import LammpsStyle, overlay, register, write_new, write_style
from bayespot.potentials.ace import ACE, BOHR, COULOMB
from bayespot.potentials.ace_basis import Group
from bayespot.potentials.base import Potential, param
from bayespot.potentials.cutoffs import switch
from bayespot.potentials.pair_sum import PairSum
from bayespot.potentials.priors import LogNormal
from bayespot.potentials.zbl import SCREENING

__all__ = ["CoreRepulsion", "taken_apart", "write_ace"]

BINS = (1e-3, 5e-4, 2.5e-4)
"""Å; steps of LAMMPS' tables that are tried."""

FINE_ENERGY, FINE_FORCE = 1e-8, 1e-6
"""eV of an atom and eV/Å of a bond in random surroundings that end the refinement."""

ENERGY, FORCE = 1e-6, 1e-5
"""eV and eV/Å of the same; a potential that does worse on the finest table is refused."""

LAST = 103
"""Atomic number of the last element that LAMMPS' ``pace`` knows."""


# --- the core as a potential of its own -----------------------------------------------------


class CoreRepulsion(PairSum):
    """The core repulsion of an ACE alone, for a table beside the ``.yace`` file."""

    charge: Any = param(
        unit="1", symbol="Z_i Z_j", doc="product of the nuclear charges",
        prior=LogNormal(196.0, 0.1), sampled=False,
    )
    length: Any = param(
        unit="Å", symbol="a", doc="screening length", prior=LogNormal(0.128, 0.1), sampled=False,
    )
    cutoff: Any = param(
        unit="Å", symbol="r_c", doc="distance at which the repulsion ends",
        prior=LogNormal(2.0, 0.1), sampled=False,
    )

    abstract: ClassVar[bool] = False

    def pair_energy(self, r: Any) -> Any:
        """See `ACE`."""
        screen = sum(a * jnp.exp(-b * r / self.length) for a, b in SCREENING)
        return COULOMB * self.charge / r * screen * switch(r, self.cutoff, 0.5 * self.cutoff)


def taken_apart(potential: Potential) -> list[Potential]:
    """An ACE without its core, and the core where there is one; any other form as it is."""
    if not isinstance(potential, ACE) or potential.core <= 0:
        return [potential]
    z = np.array([float(atomic_numbers.get(s, 0)) for s in potential.species])
    low, high = np.triu_indices(len(z))
    core = CoreRepulsion(
        species=potential.species, e0=0.0, charge=z[low] * z[high],
        length=0.88534 * BOHR / np.maximum(z[low] ** 0.23 + z[high] ** 0.23, 1.0),
        cutoff=potential.core * np.asarray(potential.r0),
    )
    return [potential.replace(core=0.0), core]


# --- products of complex moments ------------------------------------------------------------


def _to_complex(ell: int) -> np.ndarray:
    r"""Our real harmonics [m] in those of the file [M]: :math:`C_{lm} = \sum_M U_{mM} Y_{lM}`."""
    u = np.zeros((2 * ell + 1, 2 * ell + 1), complex)
    u[ell, ell] = 1.0
    for m in range(1, ell + 1):
        u[ell + m, ell + m], u[ell + m, ell - m] = (-1) ** m, 1.0
        u[ell - m, ell + m], u[ell - m, ell - m] = -1j * (-1) ** m, 1j
    u[np.arange(2 * ell + 1) != ell] *= np.sqrt(0.5)
    return u / np.sqrt(2 * ell + 1)


@cache
def products(group: Group, equal: tuple[bool, ...]) -> tuple[tuple[tuple, ...], np.ndarray]:
    """Products of complex moments that make an invariant of ours: degrees m, and coefficients.

    Parameters
    ----------
    group : Group
        With two factors or more.
    equal : tuple of bool
        Whether a factor is the one before it (the first never is): then their m are exchangeable.
    """
    ls, tensor = group.ls, group.tensor
    for axis, ell in enumerate(ls):
        tensor = np.moveaxis(np.tensordot(tensor, _to_complex(ell), (axis, 0)), -1, axis)
    found: defaultdict[tuple, float] = defaultdict(float)
    starts = [k for k in range(len(ls)) if not equal[k]] + [len(ls)]
    runs = [slice(a, b) for a, b in pairwise(starts)]
    for index in product(*(range(2 * ell + 1) for ell in ls)):
        ms = [m - ell for m, ell in zip(index, ls, strict=True)]
        # The product of the -m is the conjugate: the m sum to zero, so that there is no sign.
        both = (
            tuple(m for run in runs for m in sorted(sign * v for v in ms[run])) for sign in (1, -1)
        )
        found[max(both)] += float(tensor[index].real)
    kept = {ms: value for ms, value in found.items() if abs(value) > 1e-14}
    return tuple(kept), np.array(list(kept.values()))


def _functions(potential: ACE, radials: Sequence[RadialSeries], center: int
               ) -> list[dict[str, Any]]:
    """The file's entries of one centre. Those of one factor are in the g_k, as the file wants."""
    basis, c, entries = potential.basis, coefficients(potential)[center], []
    pairs: dict[int, np.ndarray] = {}
    for group in basis.groups:
        for row, number, again in zip(group.q, group.functions, group.again.tolist(), strict=True):
            kinds, ns = row // basis.n_radial, row % basis.n_radial
            if len(row) == 1:
                kind = int(kinds[0])
                mine = radials[potential.pair_number(center, kind)].series[ns[0]]
                pairs[kind] = pairs.get(kind, 0.0) + c[number] * mine
                continue
            ms, values = products(group, tuple(again))
            entries.append(_entry(center, kinds, ns + 1, group.ls, ms, c[number] * values))
    # A pair of unlike species has its functions at one of its centres only.
    single = [
        _entry(center, [kind], [k + 1], [0], [(0,)], [value])
        for kind, total in pairs.items() if total.any() or kind == center
        for k, value in enumerate(total)
    ]
    return single + entries


def _entry(center: int, mus: Any, ns: Any, ls: Any, ms: Any, values: Any) -> dict[str, Any]:
    """One entry in the words of the file."""
    return {
        "mu0": center, "rank": len(ls), "ndensity": 1, "num_ms_combs": len(ms),
        "mus": [int(v) for v in mus], "ns": [int(v) for v in ns], "ls": list(ls),
        "ms_combs": [m for one in ms for m in one], "ctildes": [float(v) for v in values],
    }  # fmt: skip


# --- the file -------------------------------------------------------------------------------


@register(ACE)
def write_ace(potential: ACE, folder: Path, stem: str) -> LammpsStyle:
    """Write ``stem.yace``, and the core, where there is one, as ``stem.table``.

    Raises
    ------
    ConfigError
        If a species is no element, or no table is fine enough.
    """
    parts = taken_apart(potential)
    if len(parts) > 1:
        return overlay([write_style(part, folder, stem) for part in parts])
    unknown = [s for s in potential.species if not 0 < atomic_numbers.get(s, 0) <= LAST]
    if unknown:
        raise ConfigError(
            f"ACE for {', '.join(potential.species)}: LAMMPS' pace knows the elements up to "
            f"{chemical_symbols[LAST]} by their symbols, not {', '.join(unknown)}"
        )
    radials = shortest(potential)
    for step in BINS:
        energy, force = measured(potential, radials, step)
        if energy <= FINE_ENERGY and force <= FINE_FORCE:
            break
    if not (energy <= ENERGY and force <= FORCE):
        raise ConfigError(
            f"ACE with map_p={potential.map_p:g}, map_q={potential.map_q:g} and radial degrees up "
            f"to {potential.basis.n_radial - 1}: the tables of LAMMPS' pace are off by "
            f"{energy:.1e} eV an atom and {force:.1e} eV/Å a bond (allowed: {ENERGY:g}, {FORCE:g}) "
            "even at their finest. Use smaller powers of the map or lower degrees"
        )
    file = write_new(folder / f"{stem}.yace", yace_text(potential, radials, step))
    return LammpsStyle(
        "pace", "product", (f"* * {file} {' '.join(potential.species)}",), (file,),
        precision=f"{radials[0].series.shape[1]} Chebyshev functions in tables of {step:g} Å: "
        f"{energy:.1e} eV an atom and {force:.1e} eV/Å a bond",
        note="needs a LAMMPS with the package ML-PACE; the error was measured in "
        f"{SURROUNDINGS} rattled crystals with bonds of about r0",
    )  # fmt: skip


def yace_text(potential: ACE, radials: Sequence[RadialSeries], step: float) -> str:
    """The file. Values are JSON, which YAML contains; numbers give their doubles back."""
    n, basis = len(potential.species), potential.basis
    many = [group.q % basis.n_radial for group in basis.groups if len(group.ls) > 1]
    n_max = max((int(n_of.max()) for n_of in many), default=0)
    lines = [
        f"# linear ACE for {', '.join(potential.species)}; eV, Å; without the energies of isolated "
        "atoms; written by bayespot",
        f"elements: {json.dumps(potential.species)}",
        f"E0: {json.dumps([0.0] * n)}",
        f"deltaSplineBins: {step!r}",
        "embeddings:",
    ]
    linear = {"ndensity": 1, "FS_parameters": [1.0, 1.0], "npoti": "FinnisSinclairShiftedScaled",
              "rho_core_cutoff": 100000.0, "drho_core_cutoff": 250.0}  # no cores: never reached
    lines += [f"  {a}: {json.dumps(linear)}" for a in range(n)] + ["bonds:"]
    for a in range(n):
        for b in range(n):
            number = potential.pair_number(a, b)
            rows = radials[number].series[: n_max + 1].tolist()
            bond = {
                "nradmax": n_max + 1, "lmax": basis.l_max, "nradbasemax": len(rows[0]),
                "radbasename": "ChebPow", "radparameters": [1.0],
                "radcoefficients": [[row] * (basis.l_max + 1) for row in rows],
                "prehc": 0.0, "lambdahc": 1.0, "rcut": radials[number].cutoff, "dcut": 0.01,
                "rcut_in": 0.0, "dcut_in": 0.0, "inner_cutoff_type": "density",
            }  # fmt: skip
            lines.append(f"  [{a}, {b}]: {json.dumps(bond)}")
    lines.append("functions:")
    for a in range(n):
        lines.append(f"  {a}:")
        lines += [f"    - {json.dumps(one)}" for one in _functions(potential, radials, a)]
    return "\n".join(lines) + "\n"
