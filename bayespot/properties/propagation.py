"""How the spread of parameters becomes that of properties: by relaxing draws, or by expansion.

First order costs two surfaces along each direction in which the draws differ, however many draws
there are. Second order costs as well some relaxed draws, half as many again as a polynomial of
second degree has coefficients, and is taken where that pays. Either is right where the posterior
is narrow enough; whether it is, is asked of further draws that are relaxed. An instability of one
draw in a thousand is not seen by these: by expansion there is no count of instabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from bayespot.errors import PropertyError
from bayespot.properties.draws import N_DRAWS, DrawSurfaces, surfaces_of
from bayespot.properties.implicit import ImplicitSurfaces, NoDerivative
from bayespot.properties.results import Choice, Curve, Quantity, Result

WAYS = ("auto", "exact", "linear")

CHECKS = 8
"""Draws that are relaxed to check an expansion, and take no part in it."""

ALLOWED = 0.2
"""What an expansion may be off at any draw; in standard deviations of the draws."""

UNSEEN = 2.5
"""To first order, the worst of thousands of draws over the worst of eight checked ones (measured:
1.0 to 2.0 for 19 quantities of Stillinger-Weber silicon). To second order the relaxed draws are the
outermost ones, and the worst of them stands for all (0.5 to 1.0)."""

SPARE = 1.5
"""Relaxed draws for a coefficient of the second order."""

GAIN, ALONE = 10, 260
"""An expansion is not exact, so it is taken where it is cheaper by this factor. Beside its surfaces
it has to relax the mean and the checked draws from where the user put the atoms, in steps that few
frames share: that costs as much as relaxing 260 of many draws (measured: the slowest of eight
properties of Stillinger-Weber silicon, slabs that end in (111))."""

RESOLUTION = 1e-6
"""Relative spread below which a property is taken not to vary; relaxations end at about that."""


class Propagation:
    """Calls property functions on draws, relaxing all of them or by expansion around their mean.

    Parameters
    ----------
    source : Posterior, Surfaces, Potential or ASE calculator
        What is not draws has no spread, and functions are called on it as they are.
    how : "auto", "exact" or "linear"
        "auto" expands if there are so many draws that it is ten times cheaper, to second order if
        that is so with the draws that it relaxes, else to first, and if no draw is found or feared
        to be off by more than 0.2 of the spread in any quantity; else it relaxes all draws.
        "linear" insists on first order whatever the check says; its numbers are in the result.
    checks : int
        Draws that are relaxed to check the expansion, chosen before anything is computed: at even
        ranks of their distance from the mean in standard deviations, from the nearest to the
        farthest. To second order the draws of the fit check as well, each by what a fit to the
        others is off there.
    n_draws : int
        Of a posterior, evenly spaced.

    Raises
    ------
    PropertyError
        If ``how`` is something else, or there are fewer than two checks.
    """

    def __init__(
        self, source: Any, how: str = "auto", *, checks: int = CHECKS, n_draws: int = N_DRAWS
    ) -> None:
        if how not in WAYS:
            raise PropertyError(f"propagation = {how!r}: it is one of {', '.join(WAYS)}")
        if checks < 2:
            raise PropertyError(f"checks = {checks}: two draws are the least that say something")
        self.surfaces = surfaces_of(source, n_draws=n_draws)
        self.how, self.checks = how, checks
        self._made: Expansion | None = None

    def result(self, function: Callable[..., Result], *among: Any, **settings: Any) -> Result:
        """What a property function finds on the draws; `Result.choice` says how.

        Parameters
        ----------
        function : callable
            One of `bayespot.properties`, or one of a user that takes surfaces first and treats
            them as independent of each other.
        among
            Its further arguments (crystals).
        settings
            Its keywords.

        Raises
        ------
        PropertyError
            If first order was asked for and there are no derivatives; what the function raises.
        """
        surfaces = self.surfaces
        if not isinstance(surfaces, DrawSurfaces) or surfaces.n == 1:
            return function(surfaces, *among, **settings)
        if self.how == "exact" or (self.how == "auto" and surfaces.n <= N_DRAWS):
            why = "asked for" if self.how == "exact" else f"{surfaces.n} draws are few"
            return replace(function(surfaces, *among, **settings), choice=Choice("exact", why))
        found = self._expanded(surfaces, lambda s: function(s, *among, **settings))
        if isinstance(found, Result):
            return found
        if self.how == "linear":
            raise PropertyError(
                f"{function.__name__} has no first order here: {found.why}; "
                'propagation = "exact" relaxes every draw'
            )
        return replace(function(surfaces, *among, **settings), choice=found)

    def _expanded(self, surfaces: DrawSurfaces, call: Callable[[Any], Result]) -> Result | Choice:
        """The expansion, or why not."""
        if self._made is None:
            self._made = Expansion.of(surfaces, self.checks, first=self.how == "linear")
        made, near = self._made, self._made.near
        if self.how == "auto" and surfaces.n < made.fewest:
            return Choice("exact", f"first order in {near.p} directions pays from {made.fewest} "
                          f"draws on, and these are {surfaces.n}")  # fmt: skip
        try:
            found = call(near)
        except NoDerivative as error:
            return Choice("exact", str(error))
        wrong = _what_failed(found)
        if wrong:
            return Choice("exact", f"near the mean parameters: {wrong}")
        # By the path that all draws would take: who relaxes into another minimum is seen.
        exact = call(made.relaxed)
        wrong = _what_failed(exact)
        if wrong and self.how == "auto":
            return Choice("exact", f"of the draws that were relaxed: {wrong}", made.relaxed.n)
        return self._compared(made, found, exact, wrong)

    def _compared(
        self, made: Expansion, found: Result, exact: Result, wrong: str
    ) -> Result | Choice:
        """The expansion if it is near enough to what relaxed draws say."""
        values, errors = {}, {}
        for name, q in found.quantities.items():
            values[name], errors[name] = made.to_draws(q.values, exact[name].values)
        worst = max(errors, key=lambda name: errors[name])
        count = len(made.checked)
        said = f"{made.relaxed.n} relaxed draws are off by up to {errors[worst]:.2g} of the spread"
        if len(errors) > 1:
            said += f" ({worst})"
        if self.how == "auto" and not errors[worst] <= made.allowed:
            said += f", where {made.allowed:.2g} is allowed"
            return Choice("exact", f"to {made.order} order {said}", made.relaxed.n, errors)
        if wrong:
            said += f"; of these: {wrong}"
        quantities = {
            name: Quantity(values[name], np.nan_to_num(q.error[0])
                           + _rms(values[name][made.checked] - exact[name].values[:count]), q.unit)
            for name, q in found.quantities.items()
        }  # fmt: skip
        curves, bent = {}, []
        for name, c in found.curves.items():
            of, off = made.to_draws(c.values, _on(c.x, exact.curves[name]))
            if self.how == "auto" and not off <= made.allowed:
                bent.append(name)
            else:
                curves[name] = replace(c, values=of)
        if bent:
            said += f"; without {', '.join(bent)}, which {made.order} order does not give"
        how = "quadratic" if len(made.fitted) else "linear"
        choice = Choice(how, said, made.relaxed.n, errors)
        return Result(found.kind, quantities, curves, choice=choice)


@dataclass(frozen=True)
class Expansion:
    """Surfaces of an expansion and of the draws that are relaxed for it; they remember crystals."""

    near: ImplicitSurfaces
    checked: np.ndarray  # draws that check
    fitted: np.ndarray  # draws that second order is fitted to; none of first order
    relaxed: DrawSurfaces  # the checked ones, then the fitted ones
    fewest: int  # draws from which on it pays

    @classmethod
    def of(cls, surfaces: DrawSurfaces, checks: int, *, first: bool = False) -> Expansion:
        """To second order where that pays and ``first`` does not forbid it, else to first."""
        near = ImplicitSurfaces(surfaces.potentials, surfaces.tolerance)
        more = math.ceil(SPARE * near.coefficients)
        checked, fitted = near.ranks(checks), np.zeros(0, dtype=int)
        fewest = GAIN * (near.n + len(checked) + ALONE)
        if not first and surfaces.n >= fewest + GAIN * more:
            fewest += GAIN * more
            fitted = near.outermost(more, besides=checked)
        index = np.concatenate([checked, fitted])
        some = jax.tree.map(lambda leaf: np.asarray(leaf)[index], surfaces.potentials)
        return cls(near, checked, fitted, DrawSurfaces(some, surfaces.tolerance), fewest)

    @property
    def order(self) -> str:
        """In words."""
        return "second" if len(self.fitted) else "first"

    @property
    def allowed(self) -> float:
        """What a relaxed draw may be off."""
        return ALLOWED if len(self.fitted) else ALLOWED / UNSEEN

    def to_draws(self, values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, float]:
        """Values of all draws, from those on `near` and on `relaxed`, and what they are off.

        The latter at the worst of the relaxed draws, over the standard deviation of all; of curves
        both are root mean squares over points. It is infinite where no draw has a value.
        """
        count = len(self.checked)
        if len(self.fitted):
            made, left_out = self.near.to_second_order(values, self.fitted, known[count:])
        else:
            made, left_out = self.near.to_draws(values), known[count:]
        away = np.concatenate([made[self.checked] - known[:count], left_out])
        spread = np.maximum(made.std(axis=0, ddof=1), RESOLUTION * np.abs(made.mean(axis=0)))
        each = np.array([_rms(one) for one in away])
        whole = _rms(np.where(np.isfinite(away).any(axis=0), spread, np.nan))
        there = np.isfinite(each)
        return made, float(each[there].max() / max(whole, 1e-300)) if there.any() else np.inf


def _what_failed(result: Result) -> str:
    """Failures and instabilities in words; expansions have no place for them."""
    said = [
        f"{reason} ({int(mask.sum())} of {len(mask)})"
        for masks in (result.failed, result.unstable) for reason, mask in masks.items()
    ]  # fmt: skip
    said += [
        f"no value of {name!r}" for name, quantity in result.quantities.items()
        if not said and not np.isfinite(quantity.values).all()
    ]  # fmt: skip
    return "; ".join(said)


def _on(x: np.ndarray, curve: Curve) -> np.ndarray:
    """Values of a curve at ``x``: the grid of a density of states is that of its own draws."""
    if np.array_equal(x, curve.x):
        return curve.values
    return np.apply_along_axis(lambda y: np.interp(x, curve.x, y), 1, curve.values)


def _rms(away: np.ndarray) -> float:
    """Root mean square of what is finite, NaN if nothing is."""
    there = np.isfinite(away)
    return float(np.sqrt(np.mean(away[there] ** 2))) if there.any() else np.nan
