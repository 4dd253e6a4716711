"""The Born-Mayer repulsion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np

from bayespot.potentials.base import param
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.priors import LogNormal


class BornMayer(PairPotential):
    r"""Born-Mayer repulsion, Z. Phys. 75, 1 (1932).

    .. math::
       \phi(r) = B\, e^{-(r - r_0)/\rho}

    :math:`B` is the energy of a pair at the reference distance :math:`r_0`, which a fit holds: it
    is a choice of coordinates and should be near the bond length. The textbook amplitude
    :math:`A = B\,e^{r_0/\rho}` is the energy at zero distance, where no data are, and therefore
    almost exactly correlated with :math:`\rho`. `from_amplitude` and `amplitude` convert.

    Usually one part of a sum, as in ``BornMayer(...) + Morse(...)``.
    """

    B: Any = param(
        unit="eV",
        symbol="B",
        doc="energy of a pair at the reference distance",
        prior=LogNormal(1 / 20, 1.0, scale="energy"),
    )
    rho: Any = param(
        unit="Å",
        symbol=r"\rho",
        doc="length over which the repulsion falls by e",
        prior=LogNormal(0.1, 0.3, scale="length"),
    )
    r0: Any = param(
        unit="Å",
        symbol="r_0",
        doc="reference distance at which B is the energy; a choice, not to be sampled",
        prior=LogNormal(1.0, 0.1, scale="length"),
        sampled=False,
    )

    abstract: ClassVar[bool] = False

    def phi(self, r: Any) -> Any:
        """Formula of the class."""
        return self.B * jnp.exp((self.r0 - r) / self.rho)

    @property
    def amplitude(self) -> np.ndarray:
        """Amplitude A of every pair in A exp(-r/rho), eV."""
        return np.asarray(self.B) * np.exp(np.asarray(self.r0) / np.asarray(self.rho))

    @classmethod
    def from_amplitude(
        cls, species: Sequence[str], *, A: Any, rho: Any, r0: Any = 2.5, **values: Any
    ) -> Self:
        """Potential from A exp(-r/rho): ``A`` in eV, ``rho`` and the reference ``r0`` in Å."""
        B = np.asarray(A, dtype=float) * np.exp(-np.asarray(r0) / np.asarray(rho))
        return cls(species=tuple(species), B=B, rho=rho, r0=r0, **values)
