"""The universal screened repulsion of nuclei."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers

from bayespot.errors import CutoffError, SpeciesError
from bayespot.potentials.base import Parameter, param
from bayespot.potentials.pair_sum import PairSum
from bayespot.potentials.priors import LogNormal, Prior

COULOMB = 14.399645
"""e^2 / 4 pi epsilon_0, eV Å, to the digits of LAMMPS' metal units, so that files agree exactly."""

SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
"""Amplitudes and decay rates of the universal screening function."""

LENGTH, POWER = 0.46850, 0.23
"""Å and exponent of the universal screening length."""


class ZBL(PairSum):
    r"""Ziegler-Biersack-Littmark repulsion, *The Stopping and Range of Ions in Matter* (1985).

    .. math::
       \varphi(r) &= E(r) + S(r), \qquad
       E(r) = \frac{Z_i Z_j e^2}{4\pi\epsilon_0\, r} \sum_{k=1}^4 c_k\, e^{-d_k r/a}, \qquad
       a = \frac{0.4685}{Z_i^{0.23} + Z_j^{0.23}} \\
       S(r) &= C + \begin{cases} 0 & r < r_1 \\
         \tfrac{A}{3} (r - r_1)^3 + \tfrac{B}{4} (r - r_1)^4 & r_1 < r < r_c \end{cases}

    and zero beyond :math:`r_c`. The ends are those of LAMMPS' ``pair_style zbl``: with
    :math:`w = r_c - r_1` and E at the cutoff,
    :math:`A = (w E'' - 3 E')/w^2`, :math:`B = (2 E' - w E'')/w^3`,
    :math:`C = -E + w E'/2 - w^2 E''/12`, which makes the sum twice continuously differentiable.

    Nothing is fitted unless the user gives priors to the charge product or the screening length;
    both are held at their universal values. For the core of another form:
    ``Morse(...) + ZBL(...)``.
    """

    charge: Any = param(
        unit="1",
        symbol="Z_i Z_j",
        doc="product of the nuclear charges; the default is that of the species",
        prior=LogNormal(196.0, 0.1),
        sampled=False,
    )
    screening: Any = param(
        unit="Å",
        symbol="a",
        doc="screening length; the default is the universal one of the species",
        prior=LogNormal(0.128, 0.1),
        sampled=False,
    )
    cutoff: Any = param(
        unit="Å",
        symbol="r_c",
        doc="distance at which the repulsion ends",
        prior=LogNormal(2.0, 0.1, high=4.0),
        sampled=False,
    )
    switch_width: Any = param(
        unit="Å",
        symbol="w",
        doc="range of the smooth switch below the cutoff",
        prior=LogNormal(1.0, 0.2),
        sampled=False,
    )

    abstract: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for width, cutoff in zip(self.switch_width, self.cutoff, strict=True):
            if not 0 < width < cutoff:
                raise CutoffError(
                    f"ZBL: switch_width {width} Å must be above 0 and below the cutoff {cutoff} Å"
                )

    def prior_of(self, item: Parameter, entry: int) -> Prior:
        """Centres of charge and screening are those of the species."""
        if item.name not in ("charge", "screening"):
            return item.prior
        charge, screening = (values[entry] for values in self.universal())
        return LogNormal(charge if item.name == "charge" else screening, item.prior.sd)

    def universal(self) -> tuple[np.ndarray, np.ndarray]:
        """Products of the charges, and screening lengths (Å), of every pair of species.

        Raises
        ------
        SpeciesError
            If a species is no element.
        """
        n = len(self.species)
        z = np.array([atomic_numbers.get(symbol, 0) for symbol in self.species], dtype=float)
        if np.any(z == 0):
            raise SpeciesError(
                f"ZBL needs elements, their atomic numbers are its charges: {self.species}"
            )
        a, b = np.triu_indices(n)
        return z[a] * z[b], LENGTH / (z[a] ** POWER + z[b] ** POWER)

    def _bare(self, r: Any) -> tuple[Any, Any, Any]:
        """E, E' and E'' without the end."""
        sums = [0.0, 0.0, 0.0]
        for amplitude, rate in SCREENING:
            d = rate / self.screening
            term = amplitude * jnp.exp(-d * r)
            sums = [sums[0] + term, sums[1] - d * term, sums[2] + d * d * term]
        strength = COULOMB * self.charge / r
        return (
            strength * sums[0],
            strength * (sums[1] - sums[0] / r),
            strength * (sums[2] - 2.0 * sums[1] / r + 2.0 * sums[0] / r**2),
        )

    def pair_energy(self, r: Any) -> Any:
        """Formula of the class."""
        w = self.switch_width
        end, slope, curvature = self._bare(self.cutoff)
        a = (w * curvature - 3.0 * slope) / w**2
        b = (2.0 * slope - w * curvature) / w**3
        c = -end + w * slope / 2.0 - w**2 * curvature / 12.0
        x = jnp.maximum(r - (self.cutoff - w), 0.0)
        energy = self._bare(r)[0] + c + x**3 * (a / 3.0 + b / 4.0 * x)
        return jnp.where(r < self.cutoff, energy, 0.0)
