"""The Finnis-Sinclair potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp

from bayespot.errors import SpeciesError
from bayespot.potentials.base import param
from bayespot.potentials.embedded import EmbeddedAtom, guarded_sqrt
from bayespot.potentials.priors import LogNormal, Normal

FINNIS_SINCLAIR_1984 = {
    "V": {"d": 3.692767, "A": 2.010637, "beta": 0.0, "c": 3.80,
          "c0": -0.8816318, "c1": 1.4907756, "c2": -0.3976370},
    "Nb": {"d": 3.915354, "A": 3.013789, "beta": 0.0, "c": 4.20,
           "c0": -1.5640104, "c1": 2.0055779, "c2": -0.4663764},
    "Ta": {"d": 4.076980, "A": 2.591061, "beta": 0.0, "c": 4.20,
           "c0": 1.2157373, "c1": 0.0271471, "c2": -0.1217350},
    "Cr": {"d": 3.915720, "A": 1.453418, "beta": 1.8, "c": 2.90,
           "c0": 29.1429813, "c1": -23.3975027, "c2": 4.7578297},
    "Mo": {"d": 4.114825, "A": 1.887117, "beta": 0.0, "c": 3.25,
           "c0": 43.4475218, "c1": -31.9332978, "c2": 6.0804249},
    "W": {"d": 4.400224, "A": 1.896373, "beta": 0.0, "c": 3.25,
          "c0": 47.1346499, "c1": -33.7665655, "c2": 6.2541999},
}  # fmt: skip
"""Bcc metals, Finnis and Sinclair, Phil. Mag. A 50, 45 (1984): d and c in Å, A in eV/Å, c0 in
eV/Å^2, c1 in eV/Å^3, c2 in eV/Å^4. They give the paper's lattice constants and cohesive energies.
Iron is left out: codes use several sets of it, of the paper, of the erratum, Phil. Mag. A 53, 161
(1986), and later ones."""

BOND_LENGTHS = {"V": 2.6326, "Nb": 2.8586, "Ta": 2.8629, "Cr": 2.4981, "Mo": 2.7256, "W": 2.7411}
"""Å, half of the cube's diagonal for the paper's lattice constants."""

SMALL = 0.05
"""A twentieth of one bond at r0: the square root ends smoothly below."""


class FinnisSinclair(EmbeddedAtom):
    r"""Finnis-Sinclair potential, Phil. Mag. A 50, 45 (1984), in physical coordinates.

    .. math::
       \phi(r) &= (r - c)^2 (q_0 + q_1 x + \tfrac12 q_2 x^2), \qquad x = r - r_0, \quad r < c, \\
       \rho(r) &= \frac{u(r)}{u(r_0)}, \qquad
       u(r) = (r - d)^2 \left[1 + \beta\, \frac{r - d}{d}\right], \quad r < d, \\
       F(\bar\rho) &= -A \sqrt{\bar\rho}

    The cutoff is :math:`c`, the density's cutoff :math:`d`. The published polynomial in :math:`r`
    is the same one; its coefficients are nearly dependent, so the parameters are the pair term, its
    slope and its curvature at a reference distance :math:`r_0` (the bond length: a choice of
    coordinates, held),

    .. math::
       V = \phi(r_0), \quad P = -r_0\, \phi'(r_0), \quad K = r_0^2\, \phi''(r_0), \qquad
       q_0 = \frac{V}{g^2}, \quad
       q_1 = -\frac{P}{r_0 g^2} - \frac{2V}{g^3}, \quad
       q_2 = \frac{K}{r_0^2 g^2} + \frac{4P}{r_0 g^3} + \frac{6V}{g^4}

    with :math:`g = r_0 - c`, and :math:`A` is the embedding energy of a single bond. Below
    :math:`\bar\rho = 0.05` the root ends as `guarded_sqrt` says.

    The published forms end at :math:`c` and :math:`d` with a jump of the second derivative. That is
    what `published` gives, by switching widths of zero. For new fits the smooth switch is the
    default.
    """

    V: Any = param(
        unit="eV",
        symbol="V",
        doc="pair term at r0",
        prior=Normal(0.06, 0.04, scale="energy"),
    )
    P: Any = param(
        unit="eV",
        symbol="P",
        doc="repulsion at r0, -r0 phi'(r0)",
        prior=LogNormal(0.6, 0.6, scale="energy"),
    )
    K: Any = param(
        unit="eV",
        symbol="K",
        doc="stiffness of the pair term at r0, r0^2 phi''(r0)",
        prior=LogNormal(3.5, 0.5, scale="energy"),
    )
    A: Any = param(
        unit="eV",
        symbol="A",
        doc="embedding energy of one bond of length r0",
        prior=LogNormal(0.4, 0.3, scale="energy"),
        per="species",
    )
    beta: Any = param(
        unit="1",
        symbol=r"\beta",
        doc="cubic part of the density; above one the density is negative at short distances",
        prior=Normal(0.0, 0.3, low=-1.0, high=1.0),
        per="density",
        sampled=False,
    )
    r0: Any = param(
        unit="Å",
        symbol="r_0",
        doc="distance at which the pair term is stated and a density is one",
        prior=LogNormal(2.5, 0.1),
        sampled=False,
    )

    abstract: ClassVar[bool] = False

    def phi(self, r: Any) -> Any:
        """Pair term of the class."""
        g, x = self.r0 - self.cutoff, r - self.r0
        value, slope, curvature = self.V, -self.P / self.r0, self.K / self.r0**2
        q0 = value / g**2
        q1 = slope / g**2 - 2.0 * value / g**3
        q2 = curvature / g**2 - 4.0 * slope / g**3 + 6.0 * value / g**4
        inside = r < self.cutoff
        return jnp.where(inside, (r - self.cutoff) ** 2 * (q0 + x * (q1 + 0.5 * q2 * x)), 0.0)

    def rho(self, r: Any) -> Any:
        """Density of the class."""
        def u(x: Any) -> Any:
            y = x - self.density_cutoff
            return y**2 * (1.0 + self.beta * y / self.density_cutoff)

        return jnp.where(r < self.density_cutoff, u(r) / u(self.r0), 0.0)

    def F(self, rhobar: Any) -> Any:  # noqa: N802
        """Embedding of the class."""
        return -self.A * guarded_sqrt(rhobar, SMALL)

    @classmethod
    def from_published(
        cls, species: str, *, r0: float, d: float, A: float, beta: float, c: float, c0: float,
        c1: float, c2: float, e0: float = 0.0,
    ) -> Self:
        r"""One element from the numbers of the paper, with its own rough ends.

        .. math::
           \phi(r) = (r - c)^2 (c_0 + c_1 r + c_2 r^2), \qquad
           u(r) = (r - d)^2 + \beta (r - d)^3/d, \qquad F = -A \Big(\sum u\Big)^{1/2}

        Lengths in Å, energies in eV; ``r0`` is where the coordinates are stated.
        """
        g, q = r0 - c, c0 + c1 * r0 + c2 * r0**2
        dq, ddq = c1 + 2.0 * c2 * r0, 2.0 * c2
        y = r0 - d
        return cls(
            species=(species,),
            V=g**2 * q,
            P=-r0 * (2.0 * g * q + g**2 * dq),
            K=r0**2 * (2.0 * q + 4.0 * g * dq + g**2 * ddq),
            A=A * (y**2 + beta * y**3 / d) ** 0.5,
            beta=beta, r0=r0, cutoff=c, density_cutoff=d, switch_width=0.0,
            density_switch_width=0.0, e0=e0,
        )  # fmt: skip

    @classmethod
    def published(cls, species: str) -> Self:
        """One element of `FINNIS_SINCLAIR_1984`.

        Raises
        ------
        SpeciesError
            If it is not there.
        """
        if species not in FINNIS_SINCLAIR_1984:
            raise SpeciesError(
                f"Finnis and Sinclair (1984) have no {species} here: "
                f"use one of {', '.join(FINNIS_SINCLAIR_1984)}"
            )
        return cls.from_published(
            species, r0=BOND_LENGTHS[species], **FINNIS_SINCLAIR_1984[species]
        )

    @classmethod
    def scaled(cls, species: Sequence[str], length: float, **values: Any) -> Self:
        """Start of a new fit: held lengths in proportion to the bond length (Å).

        The pair term ends at 1.35, the density at 1.6 bond lengths, over a quarter of one.
        """
        held = {"r0": length, "cutoff": 1.35 * length, "density_cutoff": 1.6 * length,
                "switch_width": 0.25 * length, "density_switch_width": 0.25 * length}
        return cls(species=tuple(species), **{**held, **values})
