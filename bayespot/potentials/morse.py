"""The Morse potential."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import jax.numpy as jnp

from bayespot.errors import SpeciesError
from bayespot.potentials.base import param
from bayespot.potentials.pair import PairPotential
from bayespot.potentials.priors import LogNormal

METALS_1959 = {
    "Pb": (0.2348, 1.1836, 3.733),
    "Ag": (0.3323, 1.3690, 3.115),
    "Ni": (0.4205, 1.4199, 2.780),
    "Cu": (0.3429, 1.3588, 2.866),
    "Al": (0.2703, 1.1646, 3.253),
    "Ca": (0.1623, 0.80535, 4.569),
    "Sr": (0.1513, 0.73776, 4.988),
    "Mo": (0.8032, 1.5079, 2.976),
    "W": (0.9906, 1.4116, 3.032),
    "Cr": (0.4414, 1.5721, 2.754),
    "Fe": (0.4174, 1.3885, 2.845),
    "Ba": (0.1416, 0.65698, 5.373),
    "K": (0.05424, 0.49767, 6.369),
    "Na": (0.06334, 0.58993, 5.336),
    "Cs": (0.04485, 0.41569, 7.557),
    "Rb": (0.04644, 0.42981, 7.207),
}
"""D (eV), alpha (1/Å), r0 (Å) of cubic metals, Girifalco and Weizer, Phys. Rev. 114, 687 (1959).
Made for sums over the whole lattice: use a cutoff of 12 Å or more to find their crystals again."""


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

    @classmethod
    def metal_1959(cls, symbol: str, **values: Any) -> Self:
        """One metal of `METALS_1959`.

        Raises
        ------
        SpeciesError
            If the paper has no numbers for it.
        """
        if symbol not in METALS_1959:
            raise SpeciesError(f"{symbol!r} is not among {', '.join(METALS_1959)}")
        names = ("D", "alpha", "r0")
        return cls(
            species=(symbol,), **dict(zip(names, METALS_1959[symbol], strict=True)), **values
        )
