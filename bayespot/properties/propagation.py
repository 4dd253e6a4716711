"""How the spread of parameters becomes that of properties: by relaxing draws, or to first order.

First order costs two surfaces along each direction in which the draws differ, however many draws
there are, and is right where properties are linear over the width of the posterior. Whether they
are is asked of a few draws that are relaxed. An instability of one draw in a hundred is not seen by
these few: to first order there is no count of instabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from bayespot.errors import PropertyError
from bayespot.properties.draws import N_DRAWS, DrawSurfaces, surfaces_of
from bayespot.properties.implicit import ImplicitSurfaces, NoDerivative
from bayespot.properties.results import Choice, Curve, Quantity, Result

WAYS = ("auto", "exact", "linear")

CHECKS = 8
"""Draws that are relaxed to check first order."""

ALLOWED = 0.2
"""Largest root mean square, over checked draws, of what first order is off; in standard deviations
of the draws."""

GAIN, ALONE = 10, 260
"""First order is not exact, so it is taken where it is cheaper by this factor. Beside its surfaces
it has to relax the mean and the checked draws from where the user put the atoms, in steps that few
frames share: that costs as much as relaxing 260 of many draws (measured: the slowest of eight
properties of Stillinger-Weber silicon, slabs that end in (111))."""

RESOLUTION = 1e-6
"""Relative spread below which a property is taken not to vary; relaxations end at about that."""


class Propagation:
    """Calls property functions on draws, relaxing all of them or to first order.

    Parameters
    ----------
    source : Posterior, Surfaces, Potential or ASE calculator
        What is not draws has no spread, and functions are called on it as they are.
    how : "auto", "exact" or "linear"
        "auto" takes first order if there are so many draws that it is ten times cheaper (it needs
        two surfaces a direction, those of the check, and the mean relaxed), and if the checked
        draws are off by no more than 0.2 of the spread (root mean square) in any quantity; else it
        relaxes all draws. "linear" insists on first order whatever the check says; its numbers are
        in the result.
    checks : int
        Draws that are relaxed to check first order, chosen before anything is computed: at even
        ranks of their distance from the mean in standard deviations, from the nearest to the
        farthest. First order is off by about the square of that distance, and the farthest is one
        of eight and not one of all: the checked draws say rather too much than too little.
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
        self._made: tuple[ImplicitSurfaces, DrawSurfaces] | None = None

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
        found = self._linear(surfaces, lambda s: function(s, *among, **settings))
        if isinstance(found, Result):
            return found
        if self.how == "linear":
            raise PropertyError(
                f"{function.__name__} has no first order here: {found.why}; "
                'propagation = "exact" relaxes every draw'
            )
        return replace(function(surfaces, *among, **settings), choice=found)

    def _linear(self, surfaces: DrawSurfaces, call: Callable[[Any], Result]) -> Result | Choice:
        """First order, or why not."""
        near, checked = self._surfaces(surfaces)
        fewest = GAIN * (near.n + checked.n + ALONE)
        if self.how == "auto" and surfaces.n < fewest:
            return Choice("exact", f"first order in {near.p} directions pays from {fewest} draws "
                          f"on, and these are {surfaces.n}")  # fmt: skip
        try:
            found = call(near)
        except NoDerivative as error:
            return Choice("exact", str(error))
        wrong = _what_failed(found)
        if wrong:
            return Choice("exact", f"near the mean parameters: {wrong}")
        # By the path that all draws would take: who relaxes into another minimum is seen.
        exact = call(checked)
        wrong = _what_failed(exact)
        if wrong and self.how == "auto":
            return Choice("exact", f"of the draws that were checked: {wrong}", checked.n)
        return self._compared(near, found, exact, wrong)

    def _compared(
        self, near: ImplicitSurfaces, found: Result, exact: Result, wrong: str
    ) -> Result | Choice:
        """First order if it is near enough to what relaxed draws say."""
        index = near.ranks(self.checks)
        errors = {
            name: _off(near.to_draws(q.values), index, exact[name].values)
            for name, q in found.quantities.items()
        }
        worst = max(errors, key=lambda name: errors[name])
        said = f"{len(index)} checked draws are off by {errors[worst]:.2g} of the spread"
        if len(errors) > 1:
            said += f" ({worst})"
        if self.how == "auto" and not errors[worst] <= ALLOWED:
            return Choice("exact", f"to first order {said}", len(index), errors)
        if wrong:
            said += f"; of these: {wrong}"
        quantities, curves, bent = {}, {}, []
        for name, q in found.quantities.items():
            made = near.to_draws(q.values)
            quantities[name] = Quantity(
                made, np.nan_to_num(q.error[0]) + _rms(made[index] - exact[name].values), q.unit
            )
        for name, c in found.curves.items():
            made = near.to_draws(c.values)
            off = _off(made, index, _on(c.x, exact.curves[name]))
            if self.how == "auto" and not off <= ALLOWED:
                bent.append(name)
            else:
                curves[name] = replace(c, values=made)
        if bent:
            said += f"; without {', '.join(bent)}, which first order does not give"
        choice = Choice("linear", said, len(index), errors)
        return Result(found.kind, quantities, curves, choice=choice)

    def _surfaces(self, surfaces: DrawSurfaces) -> tuple[ImplicitSurfaces, DrawSurfaces]:
        """Those of first order, and the draws of the check; made once, they remember crystals."""
        if self._made is None:
            near = ImplicitSurfaces(surfaces.potentials, surfaces.tolerance)
            index = near.ranks(self.checks)
            some = jax.tree.map(lambda leaf: np.asarray(leaf)[index], surfaces.potentials)
            self._made = near, DrawSurfaces(some, surfaces.tolerance)
        return self._made


def _what_failed(result: Result) -> str:
    """Failures and instabilities in words; first order has no place for them."""
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


def _off(made: np.ndarray, index: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square of what checked draws are off, over the standard deviation of all draws.

    Of curves both over all points; infinite where no checked draw has a value.
    """
    spread = np.maximum(made.std(axis=0, ddof=1), RESOLUTION * np.abs(made.mean(axis=0)))
    away = made[index] - exact
    whole = np.where(np.isfinite(away), spread, np.nan)
    whole, away = _rms(whole), _rms(np.where(np.isfinite(whole), away, np.nan))
    return away / max(whole, 1e-300) if np.isfinite(away) and np.isfinite(whole) else np.inf
