"""The shape of a pair potential: the author writes phi(r)."""

from __future__ import annotations

from typing import Any, ClassVar

from bayespot.errors import CutoffError
from bayespot.potentials.base import param
from bayespot.potentials.cutoffs import switch
from bayespot.potentials.pair_sum import PairSum
from bayespot.potentials.priors import LogNormal


class PairPotential(PairSum):
    r"""Sum over pairs, :math:`E = \sum_{i<j} \phi(r_{ij})\, S(r_{ij})`.

    A subclass writes ``phi(self, r)`` for one distance; its parameters are the entries of that
    pair of species. ``S`` is the smooth switch of `bayespot.potentials.cutoffs`. Cutoff and
    switching width are held at their values in a fit; they are sampled if they are given priors.
    """

    cutoff: Any = param(
        unit="Å",
        symbol="r_c",
        doc="distance at which the interaction ends",
        prior=LogNormal(6.0, 0.1, high=9.0),
        sampled=False,
    )
    switch_width: Any = param(
        unit="Å",
        symbol="w",
        doc="range of the smooth switch below the cutoff",
        prior=LogNormal(1.0, 0.3),
        sampled=False,
    )

    abstract: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for width, cutoff in zip(self.switch_width, self.cutoff, strict=True):
            if not 0 <= width < cutoff:
                raise CutoffError(
                    f"switch_width {width} Å must be between 0 and the cutoff {cutoff} Å"
                )

    def phi(self, r: Any) -> Any:
        """Energy of a pair at distance ``r`` (Å), eV, without the switch."""
        raise TypeError(f"{type(self).__name__} must define phi(self, r)")

    def pair_energy(self, r: Any) -> Any:
        """The formula of the form with its switch."""
        return self.phi(r) * switch(r, self.cutoff, self.switch_width)
