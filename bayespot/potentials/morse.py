"""The Morse potential."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp

from bayespot.potentials.base import param
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.priors import LogNormal


class Morse(PairPotential):
    r"""Morse potential, Phys. Rev. 34, 57 (1929).

    .. math::
       \phi(r) = D \left[ e^{-2\alpha(r - r_0)} - 2 e^{-\alpha(r - r_0)} \right]
    """

    D: Any = param(
        unit="eV",
        symbol="D",
        doc="depth of the well",
        prior=LogNormal(1 / 6, 0.5, scale="energy"),
    )
    alpha: Any = param(
        unit="1/Å",
        symbol=r"\alpha",
        doc="inverse width of the well",
        prior=LogNormal(1.8, 0.4),
    )
    r0: Any = param(
        unit="Å",
        symbol="r_0",
        doc="distance of the minimum",
        prior=LogNormal(1.0, 0.1, scale="length"),
    )

    abstract: ClassVar[bool] = False

    def phi(self, r: Any) -> Any:
        """Formula of the class."""
        x = jnp.exp(-self.alpha * (r - self.r0))
        return self.D * (x * x - 2.0 * x)
