"""A pair potential of any shape: a cubic spline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.errors import CutoffError
from bayespot.potentials.base import Parameter, hyper, param
from bayespot.potentials.pair_sum import PairSum
from bayespot.potentials.priors import LogNormal, Normal, Prior

FIRST = 0.8
"""The first knot over the bond length."""

STEEPNESS = 4.5
"""Decay rate of the well that the prior is centred on, times the bond length. The metals of
Girifalco and Weizer (see `bayespot.potentials.morse`) have 3.1 to 4.4."""


class SplinePair(PairSum):
    r"""Cubic spline whose parameters are its second derivatives at the knots.

    .. math::
       \varphi''(r) = \sum_{k=1}^{K} c_k\, \Lambda_k(r), \qquad
       \varphi(r) = \int_r^{r_c} (s - r)\, \varphi''(s)\, ds
                  = \frac{1}{6h} \sum_{k=1}^K c_k \left[ (t_{k+1} - r)_+^3 - 2 (t_k - r)_+^3
                    + (t_{k-1} - r)_+^3 \right]

    with hat functions :math:`\Lambda_k` on the equidistant knots
    :math:`t_k = t_1 + (k-1)\,h`, :math:`t_{K+1} = r_c` (the hat of the first knot is not cut: it
    falls to zero inside too, but is not used there). Integrated from the cutoff inwards, where
    :math:`\varphi = \varphi' = \varphi'' = 0`, the energy is twice continuously differentiable
    everywhere and ends smoothly whatever the parameters. Inside of the first knot, with
    :math:`x = t_1 - r` and :math:`\beta = 9/b`,

    .. math::
       \varphi(r) = \varphi(t_1) - \varphi'(t_1)\, x
                    + \frac{c_1}{\beta^2} \left( e^{\beta x} - 1 - \beta x \right)

    continues value, slope and curvature and is repulsive, because the prior of :math:`c_1` is
    positive.

    Two integrations make any set of :math:`c_k` a smooth energy; that is the smoothness prior. It
    is centred on the curvature of a Morse well at the bond length :math:`b` with a sixth of the
    cohesive energy for its depth and :math:`\alpha b = 4.5`. The deviations of the knots are
    independent, and their width falls with distance like the well's own tail.
    """

    curvature: Any = param(
        unit="eV/Å^2",
        symbol="c",
        doc="second derivative of the energy at a knot, counted outwards",
        prior=Normal(0.0, 1.0),
        per="knot",
    )
    n_knots: int = hyper(8, doc="number of knots with a parameter")
    bond: float = hyper(
        2.5, unit="Å", doc="bond length; the first knot is at 0.8 of it, the prior's well at it"
    )
    cutoff: float = hyper(6.0, unit="Å", doc="the last knot, where the energy ends")

    abstract: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.n_knots < 2 or not 0 < self.bond < self.cutoff:
            raise CutoffError(
                f"SplinePair with {self.n_knots} knots, bond {self.bond} Å and cutoff "
                f"{self.cutoff} Å: it needs two knots or more and a bond shorter than the cutoff"
            )
        super().__post_init__()

    @property
    def knots(self) -> np.ndarray:
        """Positions of the knots, the cutoff last, [n_knots + 1], Å."""
        return np.linspace(FIRST * self.bond, self.cutoff, self.n_knots + 1)

    def coordinates(self, per: str) -> list[str]:
        """See `Potential.coordinates`; knots are "Si-Si:1", "Si-Si:2", ... outwards."""
        if per != "knot":
            return super().coordinates(per)
        pairs = super().coordinates("pair")
        return [f"{pair}:{k + 1}" for pair in pairs for k in range(self.n_knots)]

    def prior_of(self, item: Parameter, entry: int) -> Prior:
        """Curvature of a Morse well; the first knot's is positive."""
        if item.name != "curvature":
            return item.prior
        k = entry % self.n_knots
        rate = STEEPNESS / self.bond
        x = np.exp(-rate * (self.knots[k] - self.bond))
        # eV/Å^2 per eV of cohesive energy, for a well of a sixth of it
        scale = rate**2 / 3.0
        center = scale * (2.0 * x * x - x)
        if k == 0:
            return LogNormal(center, 0.4, scale="energy")
        return Normal(center, 0.3 * scale * (2.0 * x * x + x), scale="energy")

    @property
    def reach(self) -> float:
        """The last knot, Å."""
        return float(self.cutoff)

    @classmethod
    def reach_of_priors(cls, hypers: Mapping[str, Any], priors: Mapping[str, Sequence[Prior]]
                        ) -> float:
        """The last knot, Å."""
        return float(hypers["cutoff"])

    def at(self, per: str, index: Any) -> Self:
        """See `Potential.at`; the view of a pair has its knots, [..., n_knots]."""
        view = super().at(per, index)
        if per == "pair":
            table = jnp.reshape(self.curvature, (-1, self.n_knots))
            # A product with zeros and ones: its transpose is a product again and no scatter.
            rows = table[0] if len(table) == 1 else jax.nn.one_hot(index, len(table)) @ table
            object.__setattr__(view, "curvature", rows)
        return view

    def pair_energy(self, r: Any) -> Any:
        """Formula of the class."""
        knots, c = self.knots, self.curvature
        h, rate = knots[1] - knots[0], 2.0 * STEEPNESS / self.bond
        # The same sum by knots: their weights are the second differences of the curvatures, which
        # are zero at the cutoff and beyond.
        padded = jnp.pad(c, [(0, 0)] * (c.ndim - 1) + [(1, 2)])
        weights = padded[..., :-2] - 2.0 * padded[..., 1:-1] + padded[..., 2:]
        outside = jnp.maximum(r, knots[0])
        value, slope = 0.0, 0.0
        for k, knot in enumerate(knots):
            ahead = jnp.maximum(knot - outside, 0.0)
            value = value + weights[..., k] * ahead**3 / (6.0 * h)
            slope = slope - weights[..., k] * ahead**2 / (2.0 * h)
        x = jnp.maximum(knots[0] - r, 0.0)
        inside = c[..., 0] / rate**2 * (jnp.expm1(rate * x) - rate * x)
        return value - slope * x + inside
