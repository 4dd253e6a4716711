"""The Buckingham potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq

from bayespot.errors import PriorError
from bayespot.potentials.base import param
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.priors import LogNormal

ERG = 6.241509074460763e11
"""eV in an erg."""

ARGON_1938 = {"A": 1.69e-8 * ERG, "rho": 0.273, "C": 102e-12 * ERG}
"""Argon, R. A. Buckingham, Proc. R. Soc. A 168, 264 (1938), Eq. 27: 1.69e-8 erg exp(-r/0.273 Å) and
102e-12 erg Å^6. Oxide sets are not here: their short-range part has no meaning without the charges
that go with it."""


class Buckingham(PairPotential):
    r"""Buckingham's exp-6 potential, Proc. R. Soc. A 168, 264 (1938).

    .. math::
       \phi(r) = \frac{D}{\zeta - 6} \left[ 6\, e^{\zeta (1 - r/r_0)}
                 - \zeta \left(\frac{r_0}{r}\right)^6 \right]

    The minimum is at :math:`r_0`, where :math:`\phi = -D` and
    :math:`\phi'' = 6\,\zeta\,(\zeta - 7)\,D / [(\zeta - 6)\, r_0^2]`. In the textbook form
    :math:`A e^{-r/\rho} - C/r^6` this is

    .. math::
       A = \frac{6 D\, e^{\zeta}}{\zeta - 6}, \qquad \rho = \frac{r_0}{\zeta}, \qquad
       C = \frac{\zeta D\, r_0^6}{\zeta - 6}

    (`from_textbook`, `textbook`). At short distance the attraction wins and the energy falls to
    minus infinity. The top of the barrier in front of that collapse depends on :math:`\zeta`
    alone: at 0.47 r0 and 69 D for 10, at 0.37 r0 and 370 D for 11, at 0.30 r0 and 1700 D for 12.
    The prior begins at 11, so that no draw lets atoms fall in at energies that a simulation
    reaches.
    """

    D: Any = param(
        unit="eV",
        symbol="D",
        doc="depth of the well",
        prior=LogNormal(1 / 6, 0.7, scale="energy"),
    )
    r0: Any = param(
        unit="Å",
        symbol="r_0",
        doc="distance of the minimum",
        prior=LogNormal(1.0, 0.1, scale="length"),
    )
    zeta: Any = param(
        unit="1",
        symbol=r"\zeta",
        doc="steepness of the repulsion, r0 over its decay length",
        prior=LogNormal(13.5, 0.15, low=11.0, high=25.0),
    )

    abstract: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.min(self.zeta) <= 7.0:
            raise PriorError(
                f"Buckingham.zeta = {self.zeta} must be above 7: below, r0 is no minimum but the "
                "top of the barrier before the collapse"
            )

    def phi(self, r: Any) -> Any:
        """Formula of the class."""
        x = r / self.r0
        terms = 6.0 * jnp.exp(self.zeta * (1.0 - x)) - self.zeta / x**6
        return self.D / (self.zeta - 6.0) * terms

    def textbook(self) -> dict[str, np.ndarray]:
        """A (eV), rho (Å) and C (eV Å^6) of every pair: the numbers of LAMMPS' ``buck``."""
        D, r0, zeta = (np.asarray(v) for v in (self.D, self.r0, self.zeta))
        return {
            "A": 6.0 * D * np.exp(zeta) / (zeta - 6.0),
            "rho": r0 / zeta,
            "C": zeta * D * r0**6 / (zeta - 6.0),
        }

    @classmethod
    def from_textbook(
        cls, species: Sequence[str], *, A: Any, rho: Any, C: Any, **values: Any
    ) -> Self:
        """Potential from A exp(-r/rho) - C/r^6, each one number or one for every pair.

        ``A`` in eV, ``rho`` in Å, ``C`` in eV Å^6.

        Raises
        ------
        PriorError
            If the numbers have no minimum (C = 0, or the attraction wins everywhere).
        """
        A, rho, C = np.broadcast_arrays(*(np.atleast_1d(v).astype(float) for v in (A, rho, C)))
        r0 = np.array([_minimum(*one) for one in zip(A, rho, C, strict=True)])
        zeta = r0 / rho
        D = C * (zeta - 6.0) / (zeta * r0**6)
        return cls(species=tuple(species), D=D, r0=r0, zeta=zeta, **values)

    @classmethod
    def argon_1938(cls, **values: Any) -> Self:
        """Argon of `ARGON_1938`."""
        return cls.from_textbook(("Ar",), **ARGON_1938, **values)


def _minimum(A: float, rho: float, C: float) -> float:
    """Outer root of the slope, Å.

    With z = r/rho the slope vanishes where ln(A rho^6 / 6 C) = z - 7 ln z, whose right side has
    its minimum at z = 7: the barrier lies inside, the well outside.
    """
    if A <= 0 or rho <= 0 or C <= 0:
        raise PriorError(
            f"A = {A}, rho = {rho}, C = {C} have no well: all three must be positive; without "
            "dispersion use BornMayer"
        )
    level = np.log(A * rho**6 / (6.0 * C))

    def excess(z: float) -> float:
        return z - 7.0 * np.log(z) - level

    if excess(7.0) >= 0:
        raise PriorError(f"A = {A}, rho = {rho}, C = {C} have no well: the attraction wins")
    return rho * brentq(excess, 7.0, 1e4, xtol=1e-14, rtol=1e-15)
