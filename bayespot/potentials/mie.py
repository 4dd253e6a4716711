"""The Mie (n-m Lennard-Jones) potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np

from bayespot.potentials.base import param
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.priors import LogNormal


class Mie(PairPotential):
    r"""Mie's n-m potential, Ann. Phys. (Leipzig) 316, 657 (1903); n = 12, m = 6 is Lennard-Jones.

    .. math::
       \phi(r) = \frac{\epsilon}{n - m}
         \left[ m \left(\frac{r_0}{r}\right)^n - n \left(\frac{r_0}{r}\right)^m \right]

    The minimum is at :math:`r_0`, where :math:`\phi = -\epsilon` and
    :math:`\phi'' = n\,m\,\epsilon / r_0^2`. Depth and position do not move with the exponents, as
    they would with the distance of zero energy, :math:`\sigma = r_0\,(m/n)^{1/(n-m)}`, which
    LAMMPS' ``mie/cut`` wants (`sigma`, `from_sigma`).
    """

    epsilon: Any = param(
        unit="eV",
        symbol=r"\epsilon",
        doc="depth of the well",
        prior=LogNormal(1 / 6, 0.7, scale="energy"),
    )
    r0: Any = param(
        unit="Å",
        symbol="r_0",
        doc="distance of the minimum",
        prior=LogNormal(1.0, 0.1, scale="length"),
    )
    n: Any = param(
        unit="1",
        symbol="n",
        doc="exponent of the repulsion",
        prior=LogNormal(12.0, 0.25, low=8.0, high=40.0),
    )
    m: Any = param(
        unit="1",
        symbol="m",
        doc="exponent of the attraction; its prior ends where that of n begins",
        prior=LogNormal(6.0, 0.2, low=2.0, high=8.0),
    )

    abstract: ClassVar[bool] = False

    def phi(self, r: Any) -> Any:
        """Formula of the class."""
        x = jnp.log(self.r0 / r)
        wells = self.m * jnp.exp(self.n * x) - self.n * jnp.exp(self.m * x)
        return self.epsilon / (self.n - self.m) * wells

    @property
    def sigma(self) -> np.ndarray:
        """Distance of zero energy of every pair, Å."""
        n, m = np.asarray(self.n), np.asarray(self.m)
        return np.asarray(self.r0) * (m / n) ** (1.0 / (n - m))

    @classmethod
    def from_sigma(
        cls, species: Sequence[str], *, epsilon: Any, sigma: Any, n: Any, m: Any, **values: Any
    ) -> Self:
        """Potential from the numbers of a LAMMPS ``mie/cut`` line.

        ``epsilon`` in eV and ``sigma`` in Å, exponents ``n`` (repulsion) and ``m``; each one
        number or one for every pair of species.
        """
        n, m = np.asarray(n, dtype=float), np.asarray(m, dtype=float)
        r0 = np.asarray(sigma, dtype=float) * (n / m) ** (1.0 / (n - m))
        return cls(species=tuple(species), epsilon=epsilon, r0=r0, n=n, m=m, **values)
