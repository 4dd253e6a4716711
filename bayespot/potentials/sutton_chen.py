"""The Sutton-Chen potential."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax.numpy as jnp
import numpy as np

from bayespot.errors import SpeciesError
from bayespot.potentials.base import param
from bayespot.potentials.embedded import EmbeddedAtom, guarded_sqrt
from bayespot.potentials.priors import LogNormal

SUTTON_CHEN_1990 = {
    "Ni": {"epsilon": 1.5707e-2, "a": 3.52, "c": 39.432, "n": 9, "m": 6},
    "Cu": {"epsilon": 1.2382e-2, "a": 3.61, "c": 39.432, "n": 9, "m": 6},
    "Rh": {"epsilon": 4.9371e-3, "a": 3.80, "c": 144.41, "n": 12, "m": 6},
    "Pd": {"epsilon": 4.1790e-3, "a": 3.89, "c": 108.27, "n": 12, "m": 7},
    "Ag": {"epsilon": 2.5415e-3, "a": 4.09, "c": 144.41, "n": 12, "m": 6},
    "Ir": {"epsilon": 2.4489e-3, "a": 3.84, "c": 334.94, "n": 14, "m": 6},
    "Pt": {"epsilon": 1.9833e-2, "a": 3.92, "c": 34.408, "n": 10, "m": 8},
    "Au": {"epsilon": 1.2793e-2, "a": 4.08, "c": 34.408, "n": 10, "m": 8},
    "Pb": {"epsilon": 5.5765e-3, "a": 4.95, "c": 45.778, "n": 10, "m": 7},
    "Al": {"epsilon": 3.3147e-2, "a": 4.05, "c": 16.399, "n": 7, "m": 6},
}
"""Ten fcc metals, Sutton and Chen, Phil. Mag. Lett. 61, 139 (1990): epsilon in eV, a in Å. With
sums over the whole lattice each c holds the crystal at its a, and each epsilon gives a cohesive
energy of two decimals. Sets with another c for the same exponents (39.755 for 9-6 and so on) are
the same condition for sums that end at 2 a, not those of the paper."""

SMALL = 0.05
"""A twentieth of one bond at its natural length: the square root ends smoothly below."""

NEIGHBORS = 12.0
"""Neighbours in the model that gives the coordinates their meaning."""


def _power(s: Any, r: Any, exponent: Any) -> Any:
    """(s / r)^exponent; derivatives of this form share its exponential, those of pow do not.

    Gradients of a fit take a fifth of the time so.
    """
    return jnp.exp(exponent * (jnp.log(s) - jnp.log(r)))


class SuttonChen(EmbeddedAtom):
    r"""Sutton-Chen potential, Phil. Mag. Lett. 61, 139 (1990), in physical coordinates.

    .. math::
       \phi(r) = v\, (s/r)^n, \qquad \rho(r) = (s/r)^m, \qquad F(\bar\rho) = -A \sqrt{\bar\rho}

    The original :math:`\epsilon, a, c` are three numbers for two degrees of freedom. Here an atom
    with twelve neighbours at the distance :math:`s` and no others is at its minimum, with the
    energy :math:`-E`; from this

    .. math::
       v = \frac{E}{6}\, \frac{m}{2n - m}, \qquad
       A = \frac{E}{\sqrt{12}}\, \frac{2n}{2n - m}

    so that :math:`E` and :math:`s` are near cohesive energy and bond length (a few per cent off,
    by the neighbours farther out). Unlike pairs have their own :math:`s` and :math:`n` and the mean
    :math:`v` of both species: a factor in front of a power is no degree of freedom beside the
    length. Below :math:`\bar\rho = 0.05` (a twentieth of a bond) the root ends as `guarded_sqrt`
    says. `from_published` takes the original numbers.
    """

    E: Any = param(
        unit="eV",
        symbol="E",
        doc="energy of an atom with twelve neighbours at the distance s",
        prior=LogNormal(0.9, 0.3, scale="energy"),
        per="species",
    )
    s: Any = param(
        unit="Å",
        symbol="s",
        doc="natural length of a bond of an atom with twelve",
        prior=LogNormal(1.03, 0.08, scale="length"),
    )
    n: Any = param(
        unit="1",
        symbol="n",
        doc="exponent of the repulsion",
        prior=LogNormal(10.0, 0.2, low=6.0, high=20.0),
    )
    m: Any = param(
        unit="1",
        symbol="m",
        doc="exponent of the density",
        prior=LogNormal(6.5, 0.2, low=2.0, high=10.0),
        per="density",
    )

    abstract: ClassVar[bool] = False

    def _strengths(self) -> tuple[Any, Any]:
        """Strengths v and A of every species, from its own pair and density."""
        n, m = self.n[self.like("pair")], self.m[self.like("density")]
        attraction = self.E / (2.0 * n - m)
        return attraction * m / (0.5 * NEIGHBORS), attraction * 2.0 * n / np.sqrt(NEIGHBORS)

    def pair_energy(self, r: Any, entry: Any) -> Any:
        """See `EmbeddedSum.pair_energy`: the formula times the mean v of both species."""
        v, _ = self._strengths()
        count = len(self.species)
        ends = np.array([(a, b) for a in range(count) for b in range(a, count)])
        mean = 0.5 * (v[ends[:, 0]] + v[ends[:, 1]])
        return mean[entry] * super().pair_energy(r, entry)

    def phi(self, r: Any) -> Any:
        """Pair term of the class in units of v."""
        return _power(self.s, r, self.n)

    def rho(self, r: Any) -> Any:
        """Density of the class."""
        return _power(self.s, r, self.m)

    def embedding(self, rhobar: Any, kind: Any) -> Any:
        """See `EmbeddedSum.embedding`: formula F of the class."""
        _, strength = self._strengths()
        return -strength[kind] * guarded_sqrt(rhobar, SMALL)

    @classmethod
    def from_published(
        cls, species: str, *, epsilon: float, a: float, c: float, n: float, m: float,
        cutoff: float | None = None, switch_width: float = 1.0, e0: float = 0.0,
    ) -> Self:
        r"""One element from the numbers of the paper.

        .. math::
           E = \epsilon \left[ \tfrac12 \sum_{ij} (a/r_{ij})^n
               - c \sum_i \Big(\sum_j (a/r_{ij})^m\Big)^{1/2} \right]

        Parameters
        ----------
        species : str
        epsilon : float
            eV.
        a : float
            Lattice constant, Å.
        c, n, m : float
        cutoff : float, optional
            Å; default 2 a. The published sums go to infinity, and c holds the crystal at a only
            with all of them.
        switch_width : float
            Å.
        e0 : float
            eV.
        """
        # Twelve neighbours: 6 n v_c s^-n = (m / 2) A_c sqrt(12) s^(-m/2), amplitudes at one Å.
        v_c, a_c = epsilon * a**n, epsilon * c * a ** (0.5 * m)
        root = np.sqrt(NEIGHBORS)
        s = (NEIGHBORS * n * v_c / (m * root * a_c)) ** (1.0 / (n - 0.5 * m))
        energy = root * a_c * s ** (-0.5 * m) * (1.0 - m / (2.0 * n))
        end = 2.0 * a if cutoff is None else cutoff
        return cls(
            species=(species,), E=energy, s=s, n=n, m=m, cutoff=end, density_cutoff=end,
            switch_width=switch_width, density_switch_width=switch_width, e0=e0,
        )  # fmt: skip

    @classmethod
    def published(cls, species: str, *, cutoff: float | None = None, switch_width: float = 1.0
                  ) -> Self:
        """One element of `SUTTON_CHEN_1990`; the cutoff (Å, default 2 a) is not part of it.

        Raises
        ------
        SpeciesError
            If the paper has no such element.
        """
        if species not in SUTTON_CHEN_1990:
            raise SpeciesError(
                f"Sutton and Chen (1990) have no {species}: they have {', '.join(SUTTON_CHEN_1990)}"
            )
        return cls.from_published(
            species, **SUTTON_CHEN_1990[species], cutoff=cutoff, switch_width=switch_width
        )

    @classmethod
    def rafii_tabar(cls, species: Sequence[str], *, cutoff: float, switch_width: float = 1.0
                    ) -> Self:
        r"""Alloy by the mixing rules of Rafii-Tabar and Sutton, Phil. Mag. Lett. 63, 217 (1991).

        .. math::
           \epsilon_{AB} = \sqrt{\epsilon_A \epsilon_B}, \quad a_{AB} = \sqrt{a_A a_B}, \quad
           n_{AB} = \tfrac12 (n_A + n_B), \quad m_{AB} = \tfrac12 (m_A + m_B)

        Densities belong to pairs. Cutoff and width in Å.
        """
        sets = [SUTTON_CHEN_1990[s] for s in species]
        alone = [cls.published(s) for s in species]
        own, count = cls(species=tuple(species), density="pair"), len(sets)
        s_values, n_values, m_values, weight = [], [], [], []
        v = [float(one._strengths()[0][0]) for one in alone]

        def mixed(i: int, j: int) -> tuple[float, float, float, float]:
            a, b = sets[i], sets[j]
            return (np.sqrt(a["epsilon"] * b["epsilon"]), np.sqrt(a["a"] * b["a"]),
                    0.5 * (a["n"] + b["n"]), 0.5 * (a["m"] + b["m"]))

        for i in range(count):
            for j in range(i, count):
                epsilon, length, n, _ = mixed(i, j)
                s_values.append(length * (epsilon / (0.5 * (v[i] + v[j]))) ** (1.0 / n))
                n_values.append(n)
        for i in range(count):
            for j in range(count):
                _, length, _, m = mixed(i, j)
                m_values.append(m)
                if i != j:
                    # (a_ij/r)^m_ij at i, in the unit of i's own density, (a_i/s_i)^m_i
                    s_ij = s_values[own.pair_number(i, j)]
                    unit = (sets[i]["a"] / float(alone[i].s[0])) ** sets[i]["m"]
                    weight.append((length / s_ij) ** m / unit)
        return own.replace(
            E=[float(one.E[0]) for one in alone], s=s_values, n=n_values, m=m_values,
            weight=weight, cutoff=cutoff, density_cutoff=cutoff, switch_width=switch_width,
            density_switch_width=switch_width,
        )  # fmt: skip
