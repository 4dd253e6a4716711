"""The analytic alloy potential of Zhou, Johnson and Wadley."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np

from bayespot.errors import PriorError, SpeciesError
from bayespot.potentials.base import hyper, param
from bayespot.potentials.cutoffs import switch
from bayespot.potentials.embedded import EmbeddedAtom
from bayespot.potentials.priors import LogNormal, Normal

COLUMNS = ("r_e", "f_e", "rho_e", "rho_s", "alpha", "beta", "A", "B", "kappa", "lam",
           "F0", "F2", "F3")  # fmt: skip

ZHOU_2004 = {
    "Cu": (2.556162, 1.554485, 21.175871, 21.175395, 8.127620, 4.334731, 0.396620, 0.548085,
           0.308782, 0.756515, -2.19, 0.561830, -2.100595),
    "Ag": (2.891814, 1.106232, 14.604100, 14.604144, 9.132010, 4.870405, 0.277758, 0.419611,
           0.339710, 0.750758, -1.75, 0.744561, -1.150650),
    "Au": (2.885034, 1.529021, 19.991632, 19.991509, 9.516052, 5.075228, 0.229762, 0.356666,
           0.356570, 0.748798, -2.98, 1.706587, -1.134778),
    "Ni": (2.488746, 2.007018, 27.562015, 27.930410, 8.383453, 4.471175, 0.429046, 0.633531,
           0.443599, 0.820658, -2.70, 0.265390, -0.152856),
    "Pd": (2.750897, 1.595417, 21.335246, 21.940073, 8.697397, 4.638612, 0.406763, 0.598880,
           0.397263, 0.754799, -2.36, 1.481742, -1.675615),
    "Al": (2.863924, 1.403115, 20.418205, 23.195740, 6.613165, 3.527021, 0.314873, 0.365551,
           0.379846, 0.759692, -2.83, 0.622245, -2.488244),
    "Mo": (2.728100, 2.723710, 29.354065, 29.354065, 8.393531, 4.476550, 0.708787, 1.120373,
           0.137640, 0.275280, -3.71, 0.875874, 0.776222),
    "Ta": (2.860082, 3.086341, 33.787168, 33.787168, 8.489528, 4.527748, 0.611679, 1.032101,
           0.176977, 0.353954, -5.14, 1.640098, 0.221375),
    "W": (2.740840, 3.487340, 37.234847, 37.234847, 8.900114, 4.746728, 0.882435, 1.394592,
          0.139209, 0.278417, -4.96, 0.661935, 0.348147),
    "Mg": (3.196291, 0.544323, 7.132600, 7.132600, 10.228708, 5.455311, 0.137518, 0.225930,
           0.5, 1.0, -0.90, 0.122838, -0.226010),
    "Ti": (2.933872, 1.863200, 25.565138, 25.565138, 8.775431, 4.680230, 0.373601, 0.570968,
           0.5, 1.0, -3.22, 0.608587, -0.750710),
    "Zr": (3.199978, 2.230909, 30.879991, 30.879991, 8.559190, 4.564902, 0.424667, 0.640054,
           0.5, 1.0, -4.51, 0.928602, -0.981870),
}  # fmt: skip
"""Zhou, Johnson and Wadley, Phys. Rev. B 69, 144113 (2004), in the order of `COLUMNS`: r_e in Å;
f_e, rho_e and rho_s in one arbitrary unit; A, B, F0, F2, F3 in eV; the rest pure numbers. A of Al
is that of the authors' own file (the journal prints 0.134873). rho_s of Ni is the journal's; the
file, which LAMMPS and NIST distribute, has 27.562031, the same F up to 1.15 rho_e and another above
(by 1.3 meV at 1.4 rho_e)."""

ZHOU_2001 = {
    "Cu": (2.556162, 1.554485, 22.150141, 22.150141, 7.669911, 4.090619, 0.327584, 0.468735,
           0.431307, 0.862140, -2.19, 0.702991, 0.683705),
    "Al": (2.886166, 1.392302, 20.226537, 20.226537, 6.942419, 3.702623, 0.251519, 0.313394,
           0.395132, 0.790264, -2.83, 0.929508, -0.682320),
}  # fmt: skip
"""Zhou et al., Acta Mater. 49, 4005 (2001): the earlier sets, which LAMMPS ships as tables."""

LOW, HIGH = 0.85, 1.15
"""Where the branches of the embedding function meet, in units of rho_e."""

MIXINGS = ("none", "johnson")
"""Where unlike pairs come from: parameters of their own, or their species."""


class ZhouJohnson(EmbeddedAtom):
    r"""Analytic embedded atom for alloys, Zhou, Johnson and Wadley, Phys. Rev. B 69, 144113 (2004).

    .. math::
       \phi(r) &= A\, h_{\alpha\kappa}(r) - B\, h_{\beta\lambda}(r), \qquad
       \rho(r) = f\, h_{\beta\lambda}(r), \qquad
       h_{ab}(r) = \frac{e^{-a(r/r_e - 1)}}{1 + (r/r_e - b)^{20}}, \\
       F(x) &= \begin{cases}
         \sum_{i=0}^3 F_{ni}\, (x/0.85 - 1)^i & x < 0.85 \\
         F_0 + F_2 (x-1)^2 + F_3 (x-1)^3 & 0.85 \le x < 1.15 \\
         F_e \left[1 - \eta \ln(x/x_s)\right] (x/x_s)^\eta & x \ge 1.15
       \end{cases}

    with :math:`x = \bar\rho/\rho_e`; so :math:`f = f_e/\rho_e`, :math:`x_s = \rho_s/\rho_e`.
    The branches of the published sets meet: value, slope and curvature at 0.85, value and slope at
    1.15, and :math:`F(0) = 0`. These are exactly as many equations as there are numbers in the
    outer branches, so here they follow from :math:`F_0, F_2, F_3`,

    .. math::
       F_{n0} = F, \quad F_{n1} = 0.85\,F', \quad F_{n2} = \tfrac12\, 0.85^2 F'', \quad
       F_{n3} = F_{n0} - F_{n1} + F_{n2} \quad \text{of the middle branch at } 0.85, \\
       \eta = \tfrac12 Q + \sqrt{\tfrac14 Q^2 - Q/L}, \quad
       L = \ln(1.15/x_s), \quad Q = 1.15\,F'/F, \quad
       F_e = F\, \frac{(1.15/x_s)^{-\eta}}{1 - \eta L} \quad \text{of it at } 1.15

    which gives the published ones: F to 1e-6 eV up to x = 1.15, and to 3e-5 eV at 1.35 and 3e-4 eV
    at twice the density, because some published slopes differ at 1.15, by up to 5e-4 of their
    value. The parameters are
    :math:`D = B - A` (the depth at :math:`r_e`), :math:`a = A/B`, :math:`E_F = -F_0`,
    :math:`b = F_2/E_F` and :math:`c = F_3/F_2`; the bound on c keeps F rising at 1.15.

    Unlike pairs are pairs like others unless the user asks for ``mixing="johnson"``:

    .. math::
       \phi_{AB} = \tfrac12 \left[ \frac{\rho_B}{\rho_A} \phi_{AA}
                 + \frac{\rho_A}{\rho_B} \phi_{BB} \right]
    """

    D: Any = param(
        unit="eV", symbol="D", doc="depth of the pair term at r_e", per="own",
        prior=LogNormal(0.045, 0.5, scale="energy"),
    )
    a: Any = param(
        unit="1", symbol="a", doc="repulsion over attraction at r_e", per="own",
        prior=LogNormal(0.68, 0.1, low=0.3, high=0.95),
    )
    r_e: Any = param(
        unit="Å", symbol="r_e", doc="bond length", per="own",
        prior=LogNormal(1.0, 0.05, scale="length"),
    )
    alpha: Any = param(
        unit="1", symbol=r"\alpha", doc="decay of the repulsion", per="own",
        prior=LogNormal(8.2, 0.15),
    )
    beta: Any = param(
        unit="1", symbol=r"\beta", doc="decay of attraction and density", per="own",
        prior=LogNormal(4.4, 0.15),
    )
    kappa: Any = param(
        unit="1", symbol=r"\kappa", doc="end of the repulsion, beyond r_e (1 + kappa)", per="own",
        prior=Normal(0.35, 0.15, low=0.0, high=0.8),
    )
    lam: Any = param(
        unit="1", symbol=r"\lambda", doc="end of attraction and density", per="own",
        prior=Normal(0.6, 0.25, low=0.0, high=1.2),
    )
    f: Any = param(
        unit="1", symbol="f", doc="density of a neighbour at r_e, f_e/rho_e", per="density",
        prior=LogNormal(0.073, 0.1),
    )
    E_F: Any = param(
        unit="eV", symbol="E_F", doc="embedding energy won at rho_e, -F0", per="species",
        prior=LogNormal(0.62, 0.3, scale="energy"),
    )
    b: Any = param(
        unit="1", symbol="b", doc="curvature of the embedding, F2/E_F", per="species",
        prior=LogNormal(0.3, 0.5, high=3.0),
    )
    c: Any = param(
        unit="1", symbol="c", doc="asymmetry of the embedding, F3/F2", per="species",
        prior=Normal(-1.0, 1.5, low=-4.4, high=4.0),
    )
    x_s: Any = param(
        unit="1", symbol="x_s", doc="scale of the outer branch, rho_s/rho_e", per="species",
        prior=LogNormal(1.0, 0.05, low=0.8, high=1.145), sampled=False,
    )  # fmt: skip
    mixing: str = hyper("none", doc="unlike pairs: 'none' (own parameters) or 'johnson'")

    abstract: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.mixing not in MIXINGS:
            raise PriorError(f"mixing={self.mixing!r} is unknown: use one of {MIXINGS}")
        if self.mixing == "johnson" and self.density != "species":
            raise PriorError("mixing='johnson' needs densities of species (density='species')")
        super().__post_init__()

    def coordinates(self, per: str) -> list[str]:
        """As `EmbeddedSum.coordinates`; pairs have own parameters unless they are mixed."""
        if per == "own":
            return [f"{s}-{s}" for s in self.species] if self.mixing == "johnson" else (
                super().coordinates("pair"))
        return super().coordinates(per)

    def phi(self, r: Any) -> Any:
        """Pair term of the class."""
        strength = self.D / (1.0 - self.a)
        return strength * (self.a * self._decay(r, self.alpha, self.kappa)
                           - self._decay(r, self.beta, self.lam))

    def rho(self, r: Any) -> Any:
        """Density of the class, in units of rho_e."""
        return self.f * self._decay(r, self.beta, self.lam)

    def _decay(self, r: Any, rate: Any, end: Any) -> Any:
        """The function h of the class."""
        x = r / self.r_e
        return jnp.exp(-rate * (x - 1.0)) / (1.0 + (x - end) ** 20)

    def F(self, rhobar: Any) -> Any:  # noqa: N802
        """Embedding of the class; ``rhobar`` is x."""
        def middle(x: Any) -> tuple[Any, Any, Any]:
            y, b, c = x - 1.0, self.b, self.c
            value = -1.0 + b * y * y * (1.0 + c * y)
            return value, b * y * (2.0 + 3.0 * c * y), b * (2.0 + 6.0 * c * y)

        value, slope, curvature = middle(LOW)
        n0, n1, n2 = value, LOW * slope, 0.5 * LOW**2 * curvature
        y = rhobar / LOW - 1.0
        inner = n0 + y * (n1 + y * (n2 + y * (n0 - n1 + n2)))

        value, slope, _ = middle(HIGH)
        length, q = jnp.log(HIGH / self.x_s), HIGH * slope / value
        eta = 0.5 * q + jnp.sqrt(0.25 * q * q - q / length)
        high = jnp.where(rhobar > HIGH, rhobar, HIGH)
        ratio = eta * jnp.log(high / HIGH)
        outer = value * (1.0 - ratio / (1.0 - eta * length)) * jnp.exp(ratio)
        return self.E_F * jnp.where(
            rhobar < LOW, inner, jnp.where(rhobar < HIGH, middle(rhobar)[0], outer)
        )

    def pair_energy(self, r: Any, entry: Any) -> Any:
        """See `EmbeddedSum.pair_energy`."""
        if self.mixing == "none":
            view = self.pair_view(entry).at("own", entry)
            return view.phi(r) * switch(r, view.cutoff, view.switch_width)
        n = len(self.species)
        ends = jnp.asarray([(p, q) for p in range(n) for q in range(p, n)])[entry]
        low, high = (
            self.at("pair", entry).at("own", ends[..., k]).at("density", ends[..., k])
            for k in (0, 1)
        )
        ratios = self.ratios()
        # Densities in one unit: the ratio of the weights of the two species.
        share = ratios[ends[..., 0], ends[..., 1]] * high.rho(r) / low.rho(r)
        mixed = 0.5 * (share * low.phi(r) + high.phi(r) / share)
        return mixed * switch(r, low.cutoff, low.switch_width)

    def density_view(self, entry: Any) -> Self:
        """The parameters of densities and of the pairs that belong to them."""
        own = np.arange(len(self.species)) if self.mixing == "johnson" else self.density_pairs()
        return super().density_view(entry).at("own", jnp.asarray(own)[entry])

    @classmethod
    def from_published(
        cls, sets: dict[str, Sequence[float]], *, cutoff: float, switch_width: float = 0.0,
    ) -> Self:
        """Elements, or an alloy by Johnson's mixing, from rows in the order of `COLUMNS`.

        Parameters
        ----------
        sets : mapping
            Species to its row, in the order of the potential's species.
        cutoff : float
            Å.
        switch_width : float
            Å; the published forms have no switch and tables of them simply end.
        """
        row = {name: np.array([values[k] for values in sets.values()])
               for k, name in enumerate(COLUMNS)}
        species = tuple(sets)
        first = sets[min(species)][COLUMNS.index("rho_e")]
        return cls(
            species=species, mixing="johnson", cutoff=cutoff, density_cutoff=cutoff,
            switch_width=switch_width, density_switch_width=switch_width,
            D=row["B"] - row["A"], a=row["A"] / row["B"], r_e=row["r_e"], alpha=row["alpha"],
            beta=row["beta"], kappa=row["kappa"], lam=row["lam"], f=row["f_e"] / row["rho_e"],
            E_F=-row["F0"], b=-row["F2"] / row["F0"], c=row["F3"] / row["F2"],
            x_s=row["rho_s"] / row["rho_e"],
            weight=[sets[s][COLUMNS.index("rho_e")] / first for s in species if s != min(species)],
        )  # fmt: skip

    @classmethod
    def published(cls, *species: str, cutoff: float | None = None, switch_width: float = 0.0
                  ) -> Self:
        """Element or alloy of `ZHOU_2004`, unlike pairs by Johnson's mixing as in the paper.

        The cutoff (Å) is not part of the sets; the default is the authors' table's,
        sqrt(10)/2 of the largest fcc lattice constant sqrt(2) r_e.

        Raises
        ------
        SpeciesError
            If an element is not there.
        """
        missing = [s for s in species if s not in ZHOU_2004]
        if missing or not species:
            raise SpeciesError(
                f"Zhou, Johnson and Wadley (2004) have no {', '.join(missing) or 'species'} here: "
                f"use {', '.join(ZHOU_2004)}"
            )
        sets = {s: ZHOU_2004[s] for s in species}
        largest = max(values[0] for values in sets.values())
        return cls.from_published(
            sets, cutoff=np.sqrt(5.0) * largest if cutoff is None else cutoff,
            switch_width=switch_width,
        )  # fmt: skip
