"""The Lennard-Jones potential."""

from __future__ import annotations

from typing import Any, ClassVar

from bayespot.potentials.base import param
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.priors import LogNormal


class LennardJones(PairPotential):
    r"""Lennard-Jones 12-6, Proc. R. Soc. A 106, 463 (1924).

    .. math::
       \phi(r) = 4 \epsilon \left[ (\sigma/r)^{12} - (\sigma/r)^6 \right]

    The minimum is at :math:`2^{1/6} \sigma`, where :math:`\phi = -\epsilon`.
    """

    epsilon: Any = param(
        unit="eV",
        symbol=r"\epsilon",
        doc="depth of the well",
        prior=LogNormal(1 / 6, 0.7, scale="energy"),
    )
    sigma: Any = param(
        unit="Å",
        symbol=r"\sigma",
        doc="distance at which the energy of a pair is zero",
        prior=LogNormal(0.9, 0.15, scale="length"),
    )

    abstract: ClassVar[bool] = False

    def phi(self, r: Any) -> Any:
        """Formula of the class."""
        x = (self.sigma / r) ** 6
        return 4.0 * self.epsilon * (x * x - x)
