"""The Lennard-Jones potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from bayespot.errors import PriorError
from bayespot.potentials.base import param
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.priors import LogNormal

BOLTZMANN = 8.617333262e-5
"""eV/K."""

ARGON_1964 = {"epsilon": 120.0 * BOLTZMANN, "sigma": 3.4}
"""Argon, Rahman, Phys. Rev. 136, A405 (1964): epsilon = 120 K, sigma = 3.4 Å, cut at 2.25 sigma."""


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

    @classmethod
    def argon_1964(cls, **values: Any) -> Self:
        """Argon of `ARGON_1964`."""
        return cls(species=("Ar",), **ARGON_1964, **{"cutoff": 2.25 * 3.4, **values})

    @classmethod
    def mixed(
        cls,
        species: Sequence[str],
        *,
        epsilon: Sequence[float],
        sigma: Sequence[float],
        rule: Literal["lorentz-berthelot", "geometric"] = "lorentz-berthelot",
        **values: Any,
    ) -> Self:
        r"""Every pair written out from numbers of the elements, by a mixing rule.

        Nothing else in this package mixes: pairs have parameters of their own, and after this call
        they have too.

        Parameters
        ----------
        species : sequence of str
        epsilon, sigma : sequence of float
            Of each species with itself, eV and Å.
        rule : {"lorentz-berthelot", "geometric"}
            :math:`\epsilon_{ij} = \sqrt{\epsilon_i \epsilon_j}` in both;
            :math:`\sigma_{ij} = (\sigma_i + \sigma_j)/2` or
            :math:`\sqrt{\sigma_i \sigma_j}` (LAMMPS' "arithmetic" and "geometric").

        Raises
        ------
        PriorError
            If there is not one number per species, or the rule is unknown.
        """
        eps, sig = np.asarray(epsilon, dtype=float), np.asarray(sigma, dtype=float)
        if eps.shape != (len(species),) or sig.shape != (len(species),):
            raise PriorError(
                f"mixing needs one epsilon and one sigma for each of {tuple(species)}, got "
                f"{eps.size} and {sig.size}"
            )
        if rule not in ("lorentz-berthelot", "geometric"):
            raise PriorError(f"mixing rule {rule!r}: use 'lorentz-berthelot' or 'geometric'")
        a, b = np.triu_indices(len(species))
        mean = 0.5 * (sig[a] + sig[b])
        return cls(
            species=tuple(species),
            epsilon=np.sqrt(eps[a] * eps[b]),
            sigma=np.sqrt(sig[a] * sig[b]) if rule == "geometric" else mean,
            **values,
        )
