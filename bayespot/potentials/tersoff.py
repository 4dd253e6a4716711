"""The Tersoff potential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np

from bayespot.errors import CutoffError, PriorError
from bayespot.potentials.base import hyper, param
from bayespot.potentials.bond_order import BondOrderPotential
from bayespot.potentials.priors import LogNormal, Normal, Prior, largest
from bayespot.potentials.tersoff_sets import (
    CARBON_1990,
    CHI_1989,
    CHI_1990,
    ELEMENTS_1989,
    LAMMPS_NAMES,
    SILICON_1988,
    SILICON_1988_ELASTIC,
    check_entries,
    combine,
)

LARGEST_EXPONENT = 69.0776
"""ln(1e30): where LAMMPS, too, stops the exponential of the difference of two distances."""

TINY = 1e-100
"""A zeta below this is none: its powers would leave the range of double precision."""


class Tersoff(BondOrderPotential):
    r"""Tersoff potential, Phys. Rev. B 37, 6991 (1988); 39, 5566 (1989), in physical coordinates.

    .. math::
       E &= \frac12 \sum_i \sum_{j \ne i} f(r_{ij}) \left[ A e^{-\lambda_1 r_{ij}}
            - b_{ij} B e^{-\lambda_2 r_{ij}} \right], \qquad
       b_{ij} = \left[ 1 + (e^{2 n w} - 1) (\zeta_{ij}/3)^n \right]^{-1/2n}, \\
       \zeta_{ij} &= \sum_{k \ne i, j} f(r_{ik})\, \omega_{ijk}\,
            \frac{e + y[(\cos\theta_{jik} - c_0)^2]}{e + y[\frac13 + c_0^2]}\,
            e^{[\lambda_3 (r_{ij} - r_{ik})]^m}, \qquad y[s] = \frac{s}{1 + s/d^2}

    The mean of :math:`(\cos\theta - c_0)^2` over the sphere is :math:`\frac13 + c_0^2`, so three
    others at no angle in particular make :math:`\zeta = 3` and :math:`b = e^{-w}`: :math:`w` says
    how coordination weakens a bond, :math:`c_0`, :math:`e` and :math:`d` how angles do. (Their
    weakening at one angle would vanish where that angle is the best one.) Let :math:`\bar b` be the
    bond order with three others at tetrahedral angles, as in diamond, and for two species the mean
    of both ends, as in zincblende. A bond of that order has its depth :math:`D`, length :math:`r_0`
    and stiffness :math:`k = r_0^2 V''(r_0)/D` as parameters; with the ratio :math:`S`,

    .. math::
       \lambda_1 = \frac{\sqrt{kS}}{r_0}, \quad \lambda_2 = \frac{\sqrt{k/S}}{r_0}, \quad
       A = \frac{D}{S - 1} e^{\lambda_1 r_0}, \quad
       B = \frac{S D}{(S - 1)\, \bar b}\, e^{\lambda_2 r_0}

    So lattice constant, cohesive energy :math:`2D` and bulk modulus of diamond are one parameter
    each, and what is left says what bonds do elsewhere. The dimer is that of
    :math:`D_e = D\, \bar b^{-S/(S-1)}`, :math:`r_e = r_0 + \ln\bar b/(\lambda_1 - \lambda_2)`.
    LAMMPS' other numbers are :math:`c = d^2/\sqrt{e}`, :math:`\gamma_{ijj} = 1`,
    :math:`\gamma_{ijk} = \omega_{ijk} g_{ijj}/g_{ijk}` and
    :math:`\beta = (e^{2nw} - 1)^{1/n}/(3 g_{ijj})`, with
    :math:`g = 1 + y[\frac13 + c_0^2]/e`; of :math:`\gamma_{ijj}` and :math:`\beta` only the product
    counts.
    `from_entries` and `to_entries` convert.

    **Cutoff.** With :math:`x` from 0 to 1 over the last ``switch_width`` (LAMMPS' 2 D) before
    ``cutoff`` (R + D), and :math:`q = \cos^2(\pi x / 2)`, the published switch is :math:`f = q`
    (``switch="cosine"``), whose second derivative jumps at both ends. The default ``"smooth"`` is
    :math:`f = 3q^2 - 2q^3`, with three continuous derivatives; it equals
    :math:`\frac12 - \frac{9}{16}\sin\theta - \frac{1}{16}\sin 3\theta`,
    :math:`\theta = \pi(x - \frac12)`, of Kumagai et al., Comput. Mater. Sci. 39, 457 (2007). LAMMPS
    has it in ``tersoff/mod``, whose angular function contains this one. Since :math:`b` falls as
    :math:`f^n`, and :math:`f` ends as the fourth power of the distance, energies have two
    continuous derivatives for n > 1/2, the lower bound of its prior. ``switch_width = 0``
    truncates: for comparisons only.
    """

    D: Any = param(
        unit="eV", symbol="D", doc="depth of a bond in the four-fold crystal",
        prior=LogNormal(0.5, 0.3, scale="energy"),
    )  # fmt: skip
    r0: Any = param(
        unit="Å", symbol="r_0", doc="length of a bond in the four-fold crystal",
        prior=LogNormal(1.0, 0.05, low=0.75, high=1.25, scale="length"),
    )  # fmt: skip
    k: Any = param(
        unit="1", symbol="k", doc="stiffness of that bond, r0^2 V''(r0) / D",
        prior=LogNormal(23.0, 0.3),
    )  # fmt: skip
    S: Any = param(
        unit="1", symbol="S", doc="decay of the repulsion over that of the attraction",
        prior=LogNormal(1.6, 0.25, low=1.05),
    )  # fmt: skip
    w: Any = param(
        unit="1", symbol="w", doc="weakening of a bond by three others at any angle, -ln b",
        prior=LogNormal(0.3, 0.5), per="bond",
    )  # fmt: skip
    n: Any = param(
        unit="1", symbol="n", doc="power with which neighbours weaken a bond",
        prior=LogNormal(1.0, 0.5, low=0.5), per="bond",
    )  # fmt: skip
    floor: Any = param(
        unit="1", symbol="e", doc="weakening at the best angle against its curvature, d^4 / c^2",
        prior=LogNormal(0.1, 2.0), per="angle",
    )  # fmt: skip
    d: Any = param(
        unit="1", symbol="d", doc="cosine over which the angular function saturates",
        prior=LogNormal(3.0, 1.0), per="angle",
    )  # fmt: skip
    cos0: Any = param(
        unit="1", symbol="c_0", doc="cosine of the angle that weakens a bond least",
        prior=Normal(-0.45, 0.25), per="angle",
    )  # fmt: skip
    lambda3: Any = param(
        unit="1/Å", symbol=r"\lambda_3", doc="how much closer third atoms count more",
        prior=LogNormal(1.2, 0.4, high=3.0), per="angle",
    )  # fmt: skip
    cutoff: Any = param(
        unit="Å", symbol="r_c", doc="end of a bond, R + D of LAMMPS",
        prior=LogNormal(1.32, 0.05, low=1.1, high=1.6, scale="length"), sampled=False,
    )  # fmt: skip
    switch_width: Any = param(
        unit="Å", symbol="w_c", doc="range over which a bond ends, 2 D of LAMMPS",
        prior=LogNormal(0.6, 0.3, low=0.2, high=1.2), sampled=False,
    )  # fmt: skip
    m: int = hyper(3, doc="power of the difference of two distances, 1 or 3")
    switch: str = hyper("smooth", doc="end of a bond: smooth, or cosine as published")

    abstract: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.m not in (1, 3):
            raise PriorError(f"Tersoff has m = {self.m!r}: it must be 1 or 3")
        if self.switch not in ("smooth", "cosine"):
            raise PriorError(f"Tersoff has switch = {self.switch!r}: use 'smooth' or 'cosine'")
        for width, cutoff in zip(self.switch_width, self.cutoff, strict=True):
            if not 0 <= width < cutoff:
                raise CutoffError(
                    f"switch_width {width} Å must be between 0 and the cutoff {cutoff} Å"
                )

    @property
    def reach(self) -> float:
        """The largest cutoff, Å."""
        return float(np.max(self.cutoff))

    @classmethod
    def reach_of_priors(cls, hypers: Mapping[str, Any], priors: Mapping[str, Sequence[Prior]]
                        ) -> float:
        """Largest cutoff, or the upper bound of its prior where it is sampled, Å."""
        return largest(priors["cutoff"], "cutoff")

    def at(self, per: str, index: Any) -> Self:
        """See `Potential.at`; pairs get the mean bond order of their crystal with them."""
        view = super().at(per, index)
        if per == "pair":
            order = self._crystal_orders()
            single = len(self.species) == 1
            object.__setattr__(view, "crystal_order", order[0] if single else order[index])
        return view

    def _crystal_orders(self) -> Any:
        """Mean bond order of both ends of every pair in the four-fold crystal."""
        n = len(self.species)
        bonds = np.arange(n * n)
        others = self.at("angle", bonds * n + bonds % n)  # third atoms are of the bonded species
        b = self.at("bond", bonds).order(3.0 * others.angle(-1.0 / 3.0))
        b = jnp.reshape(b, (n, n))
        return 0.5 * (b + b.T)[np.triu_indices(n)]

    # --- formulas of the class ----------------------------------------------------------------

    def weight(self, r: Any) -> Any:
        """The switch f of the class."""
        width = jnp.where(self.switch_width > 0, self.switch_width, 1.0)
        x = jnp.clip((r - (self.cutoff - self.switch_width)) / width, 0.0, 1.0)
        q = jnp.cos(0.5 * jnp.pi * x) ** 2
        f = q if self.switch == "cosine" else q * q * (3.0 - 2.0 * q)
        return jnp.where(r < self.cutoff, f, 0.0)

    def repulsion(self, r: Any) -> Any:
        """First term of the class."""
        slope = jnp.sqrt(self.k * self.S) / self.r0
        return self.weight(r) * self.D / (self.S - 1.0) * jnp.exp(slope * (self.r0 - r))

    def attraction(self, r: Any) -> Any:
        """Second term of the class without the bond order."""
        slope = jnp.sqrt(self.k / self.S) / self.r0
        scale = self.S * self.D / ((self.S - 1.0) * self.crystal_order)
        return self.weight(r) * scale * jnp.exp(slope * (self.r0 - r))

    def _bend(self, square: Any) -> Any:
        """The y of the class."""
        return square / (1.0 + square / self.d**2)

    def angle(self, cos: Any) -> Any:
        """Angular function, one at the mean square of the sphere."""
        mean = self._bend(1.0 / 3.0 + self.cos0**2)
        return (self.floor + self._bend((cos - self.cos0) ** 2)) / (self.floor + mean)

    def stretch(self, difference: Any) -> Any:
        """Exponential of the difference of the distances."""
        exponent = (self.lambda3 * difference) ** self.m
        return jnp.exp(jnp.clip(exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT))

    def order(self, zeta: Any) -> Any:
        """Bond order; in logarithms, since powers of zeta overflow for a large n."""
        present = zeta > TINY
        weakened = 2.0 * self.n * self.w
        log_strength = weakened + jnp.log(-jnp.expm1(-weakened))
        log_term = log_strength + self.n * jnp.log(jnp.where(present, zeta, 3.0) / 3.0)
        b = jnp.exp(-jnp.logaddexp(log_term, 0.0) / (2.0 * self.n))
        return jnp.where(present, b, 1.0)

    # --- LAMMPS' numbers and published sets ---------------------------------------------------

    @classmethod
    def from_entries(
        cls,
        species: Sequence[str],
        entries: Mapping[tuple[str, str, str], Mapping[str, float]],
        *,
        switch: str = "cosine",
        tolerance: float = 1e-9,
        e0: float | Sequence[float] = 0.0,
    ) -> Self:
        """Potential from LAMMPS' numbers.

        Parameters
        ----------
        species : sequence of str
        entries : mapping
            `LAMMPS_NAMES` to numbers of every (centre i, bonded j, third k).
        switch : {"cosine", "smooth"}
            The numbers of LAMMPS' ``tersoff`` belong to the cosine.
        tolerance : float
            How far, relatively, numbers may differ that belong to one pair and stand in several
            entries; the first is taken.
        e0 : float or sequence
            Energy of each isolated atom, eV.

        Raises
        ------
        PriorError
            If the numbers contradict each other, or are no Tersoff potential with a bond order.
        """
        species = tuple(species)
        table = {key: dict(entries[key]) for key in product(species, repeat=3) if key in entries}
        check_entries(species, table, tolerance)
        values: dict[str, list[float]] = {name: [] for name in (
            "D", "r0", "k", "S", "cutoff", "switch_width", "w", "n", "floor", "d", "cos0",
            "lambda3", "omega",
        )}  # fmt: skip
        mean, order = {}, {}
        for key, one in table.items():
            values["floor"].append(one["d"] ** 4 / one["c"] ** 2)
            values["d"].append(one["d"])
            values["cos0"].append(one["costheta0"])
            values["lambda3"].append(one["lambda3"])
            mean[key] = _angular(one, 1.0 / 3.0 + one["costheta0"] ** 2)
        for i, j in product(species, repeat=2):
            one = table[i, j, j]
            tetrahedral = _angular(one, (1.0 / 3.0 + one["costheta0"]) ** 2)
            weakening, in_crystal = (
                np.log1p((3.0 * one["beta"] * g) ** one["n"]) / (2.0 * one["n"])
                for g in (mean[i, j, j], tetrahedral)
            )
            order[i, j] = np.exp(-in_crystal)
            values["w"].append(weakening)
            values["n"].append(one["n"])
            values["omega"] += [mean[i, j, k] / mean[i, j, j] for k in species if k != j]
        for a, i in enumerate(species):
            for j in species[a:]:
                one = table[i, j, j]
                b = 0.5 * (order[i, j] + order[j, i])
                fast, slow = one["lambda1"], one["lambda2"]
                r0 = np.log(one["A"] * fast / (b * one["B"] * slow)) / (fast - slow)
                values["r0"].append(r0)
                values["D"].append((fast / slow - 1.0) * one["A"] * np.exp(-fast * r0))
                values["k"].append(fast * slow * r0**2)
                values["S"].append(fast / slow)
                values["cutoff"].append(one["R"] + one["D"])
                values["switch_width"].append(2.0 * one["D"])
        m = int(next(iter(table.values()))["m"])
        return cls(species=species, m=m, switch=switch, e0=e0, **values)

    def to_entries(self) -> dict[tuple[str, str, str], dict[str, float]]:
        """LAMMPS' numbers of every (centre i, bonded j, third k).

        Numbers of the bond (A, B, lambda1, lambda2, beta, n) count in entries with k = j only; in
        the others they are 0, and n is 1.
        """
        n, found = len(self.species), {}
        omega = np.asarray(self.weights())
        for number, (i, j, k) in enumerate(product(range(n), repeat=3)):
            angle, bond_angle = self.at("angle", number), self.at("angle", (i * n + j) * n + j)
            pair = self.at("pair", self.pair_number(i, k))
            g, g_bond = (float(1.0 + a._bend(1.0 / 3.0 + a.cos0**2) / a.floor)
                         for a in (angle, bond_angle))  # fmt: skip
            one = {
                "m": float(self.m), "gamma": float(omega[number]) * g_bond / g if k != j else 1.0,
                "lambda3": float(angle.lambda3), "d": float(angle.d),
                "c": float(angle.d) ** 2 / np.sqrt(float(angle.floor)),
                "costheta0": float(angle.cos0),
                "R": float(pair.cutoff) - 0.5 * float(pair.switch_width),
                "D": 0.5 * float(pair.switch_width),
                "n": 1.0, "beta": 0.0, "lambda1": 0.0, "A": 0.0, "lambda2": 0.0, "B": 0.0,
            }  # fmt: skip
            if j == k:
                bond = self.at("bond", i * n + j)
                power = float(bond.n)
                strength = np.log(np.expm1(2.0 * power * float(bond.w))) / power
                ratio, r0 = float(pair.S), float(pair.r0)
                fast, slow = (np.sqrt(float(pair.k) * s) / r0 for s in (ratio, 1.0 / ratio))
                scale = float(pair.D) / (ratio - 1.0)
                one |= {
                    "n": power, "beta": np.exp(strength) / (3.0 * g_bond), "lambda1": fast,
                    "lambda2": slow, "A": scale * np.exp(fast * r0),
                    "B": ratio * scale / float(pair.crystal_order) * np.exp(slow * r0),
                }  # fmt: skip
            found[self.species[i], self.species[j], self.species[k]] = {
                name: float(one[name]) for name in LAMMPS_NAMES
            }
        return found

    @classmethod
    def silicon_1988(cls) -> Self:
        """Si(B), with the published switch."""
        return cls.from_entries(("Si",), combine({"Si": SILICON_1988}))

    @classmethod
    def silicon_1988_elastic(cls) -> Self:
        """Si(C), with the published switch."""
        return cls.from_entries(("Si",), combine({"Si": SILICON_1988_ELASTIC}))

    @classmethod
    def elements_1989(cls, species: Sequence[str]) -> Self:
        """Carbon, silicon, germanium, SiC or SiGe of 1989, with the published switch.

        Raises
        ------
        PriorError
            If the paper has no numbers for these species together.
        """
        unknown = [s for s in species if s not in ELEMENTS_1989]
        if unknown:
            raise PriorError(f"Tersoff 1989 has {', '.join(ELEMENTS_1989)}, not {unknown}")
        return cls.from_entries(
            species, combine({s: ELEMENTS_1989[s] for s in species}, CHI_1989)
        )

    @classmethod
    def silicon_carbide_1990(cls, species: Sequence[str] = ("Si", "C")) -> Self:
        """Carbon in silicon of 1990; bonds end sharply, so that it is for comparisons only."""
        sets = {"Si": {**ELEMENTS_1989["Si"], "R": 2.5, "S": 2.5}, "C": CARBON_1990}
        return cls.from_entries(species, combine({s: sets[s] for s in species}, CHI_1990))


def _angular(one: Mapping[str, float], square: float) -> float:
    """LAMMPS' angular function at this (cos theta - costheta0) ** 2."""
    return one["gamma"] * (1.0 + (one["c"] / one["d"]) ** 2 * square / (one["d"] ** 2 + square))
