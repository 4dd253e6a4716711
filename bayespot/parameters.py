r"""The flat vector of standard normals behind a potential and its noise.

``u`` has one entry per free parameter: the potential's in order of declaration, then those of the
noise. Each is standard normal under the prior (see `bayespot.potentials.priors`).

The noise has a scale :math:`\sigma_k` for every kind of label k, ``sigma_energy`` and so on.
Families of structures may have scales of their own around it,

.. math:: \ln \sigma_{gk} = \ln \sigma_k + \omega_k z_{gk}, \qquad z_{gk} \sim N(0, 1)

with the spread :math:`\omega_k` (``spread_energy``) learned from how much the families differ, and
the standard normals z (``shift_energy[family]``) in the place of the scales, so that a sampler
sees no funnel where the data say little of a family. With the tails of a Student t distribution,
its degrees of freedom are ``tail_energy`` and so on.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.errors import PriorError
from bayespot.potentials.base import Potential
from bayespot.potentials.priors import LogNormal, Normal, Prior, Reference, transform
from bayespot.units import GPA, QUANTITIES

NOISE_PRIORS = {
    "energy": LogNormal(10e-3, 1.0),  # eV/atom
    "forces": LogNormal(0.1, 1.0),  # eV/Å
    "stress": LogNormal(0.5 / GPA, 1.0),  # eV/Å^3
}
"""Noise scales: median 10 meV/atom, 0.1 eV/Å, 0.5 GPa, a factor of e wide."""

SPREAD_PRIOR = Normal(0.0, 0.5, low=0.0)
"""Half-normal: families whose noise differs by a factor of e are two sd out."""

SHIFT_PRIOR = Normal(0.0, 1.0)

TAIL_PRIOR = LogNormal(13.0, 0.8)
"""Degrees of freedom: nine in ten between 3.5 and 48, as under the Gamma(2, 0.1) of Juarez and
Steel (J. Bus. Econ. Stat. 28, 52, 2010)."""

NOISE_ENTRIES = ("sigma_", "tail_", "spread_", "shift_")
"""How names of entries of the noise begin; the potential's do not."""

NO_FAMILY = "no family"
"""In names, what a structure without a family belongs to."""

NOISE_UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}


@dataclass(frozen=True)
class Layout:
    """The static half of a parameter space: hashable, so it can steer compilation."""

    template: tuple[type[Potential], tuple[tuple[str, Any], ...]]  # class, static fields
    sizes: tuple[tuple[str, int], ...]  # entries of each parameter of the potential
    free: tuple[int, ...]  # positions of the sampled entries among all entries
    noise: tuple[int, ...]  # which of the three noise scales are sampled
    kinds: tuple[tuple[bool, bool], ...]  # per sampled entry: lognormal?, bounded?
    families: tuple[str, ...] = ()  # with noise scales of their own
    tails: tuple[int, ...] = ()  # which of the three degrees of freedom are sampled
    student: bool = False  # whether the noise is Student's

    @property
    def n_theta(self) -> int:
        """Sampled parameters of the potential."""
        return len(self.free)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Constants:
    """The numeric half: arguments of compiled programs."""

    priors: Any  # [p, 4] of Prior.constants
    values: Any  # [entries] of the potential, used where an entry is fixed
    sigma: Any  # [3] noise scales, used where they are fixed
    tail: Any = None  # [3] degrees of freedom, used where they are fixed; None: normal


class Noise(NamedTuple):
    """Noise scales [3], or of every family [n_families, 3]; degrees of freedom [3] or None."""

    sigma: Any
    tail: Any = None


def unpack(layout: Layout, constants: Constants, u: Any) -> tuple[Potential, Noise]:
    """The potential and the noise of ``u``; differentiable."""
    theta = transform(u, layout.kinds, constants.priors)
    n = layout.n_theta
    values = jnp.asarray(constants.values)
    if n:
        values = values.at[jnp.array(layout.free)].set(theta[:n])
    return _assemble(layout, values), _unpack_noise(layout, constants, theta[n:])


def _unpack_noise(layout: Layout, constants: Constants, theta: Any) -> Noise:
    """The noise from its entries."""
    sigma, n = jnp.asarray(constants.sigma), len(layout.noise)
    if not (layout.families or layout.student):
        return Noise(sigma.at[jnp.array(layout.noise)].set(theta) if n else sigma)
    scales, tails, spread, shift = jnp.split(
        theta, np.cumsum([n, len(layout.tails), n if layout.families else 0])
    )
    sigma = sigma.at[jnp.array(layout.noise, int)].set(scales)
    if layout.families:
        sigma = jnp.tile(sigma, (len(layout.families), 1))
        grown = jnp.exp(spread[:, None] * shift.reshape(n, -1)).T
        sigma = sigma.at[:, jnp.array(layout.noise, int)].set(scales * grown)
    if not layout.student:
        return Noise(sigma)
    tail = jnp.asarray(constants.tail).at[jnp.array(layout.tails, int)].set(tails)
    return Noise(sigma, tail)


def _assemble(layout: Layout, values: Any) -> Potential:
    """A potential from all its entries, last axis; leading axes are draws."""
    form, static = layout.template
    potential = object.__new__(form)
    for name, value in static:
        object.__setattr__(potential, name, value)
    start = 0
    for name, size in layout.sizes:
        object.__setattr__(potential, name, values[..., start : start + size])
        start += size
    return potential


class ParameterSpace:
    """Priors, fixed values and names of everything that is sampled.

    Parameters
    ----------
    potential : Potential
        Functional form, species and settings; its values are starting values.
    reference : Reference
        Scales that relative priors are centred on.
    priors : mapping, optional
        Name (or name[entry]) to `Prior`, in place of the declared ones. Noise scales are
        ``sigma_energy``, ``sigma_forces``, ``sigma_stress``; see the module for others.
    fixed : mapping, optional
        Name (or name[entry]) to a value that is not sampled.
    quantities : sequence of str
        Which of energy, forces, stress have labels; only their noise is sampled.
    families : sequence of str
        Families of structures with noise scales of their own; none by default.
    tails : float or str
        "normal"; "student" for a Student t distribution with sampled degrees of freedom, or their
        number.
    """

    def __init__(
        self,
        potential: Potential,
        reference: Reference,
        *,
        priors: Mapping[str, Prior] | None = None,
        fixed: Mapping[str, float] | None = None,
        quantities: Sequence[str] = QUANTITIES,
        families: Sequence[str] = (),
        tails: float | str = "normal",
    ) -> None:
        self.form = type(potential)
        self.families, self.tails = tuple(families), tails
        self.species = potential.species
        self.reference = reference
        priors, fixed = dict(priors or {}), dict(fixed or {})
        entries = self._entries(potential)
        self._check_names((*priors, *fixed), entries)
        if "energy" not in quantities:
            fixed.setdefault("e0", 0.0)
        self.names: list[str] = []
        self.units: list[str] = []
        self.priors: list[Prior] = []
        self.fixed: dict[str, float] = {}
        self._all_priors: dict[str, list[Prior]] = {}
        free, values = [], []
        for position, (full, short, item, entry, current) in enumerate(entries):
            declared = potential.prior_of(item, entry).resolve(
                reference, entry if item.per == "species" else 0
            )
            prior = priors.get(full, priors.get(short, declared)).resolve(reference, entry)
            value = fixed.get(full, fixed.get(short))
            if value is None and not (item.sampled or full in priors or short in priors):
                value = current
            self._all_priors.setdefault(short, []).append(
                prior if value is None else _point(float(value))
            )
            if value is None:
                free.append(position)
                self.names.append(full)
                self.units.append(item.unit)
                self.priors.append(prior)
                values.append(current)
            else:
                self.fixed[full] = float(value)
                values.append(float(value))
        noise, sigma = self._add_noise(priors, fixed, quantities)
        sampled_tails, tail = self._add_tails(priors, fixed, quantities)
        if self.families:
            self._add_families(priors, [QUANTITIES[k] for k in noise])
        self.layout = Layout(
            template=(self.form, tuple(
                (f, getattr(potential, f)) for f in ("species", *self.form.hypers())
            )),
            sizes=tuple(
                (p.name, len(potential.coordinates(p.per))) for p in self.form.parameters()
            ),
            free=tuple(free),
            noise=tuple(noise),
            kinds=tuple((p.kind == "lognormal", p.bounded) for p in self.priors),
            families=self.families,
            tails=tuple(sampled_tails),
            student=tail is not None,
        )
        self.constants = Constants(
            priors=np.array([p.constants() for p in self.priors]).reshape(-1, 4),
            values=np.array(values),
            sigma=np.array(sigma),
            tail=None if tail is None else np.array(tail),
        )

    def _check_names(self, given: Sequence[str], entries: list[tuple]) -> None:
        """Raise `PriorError` for a name that neither the potential nor the noise has."""
        words = ["sigma", *(["tail"] * (self.tails != "normal")),
                 *(["spread"] * bool(self.families))]
        known = {e[0] for e in entries} | {e[1] for e in entries}
        known |= {f"{word}_{q}" for word in words for q in QUANTITIES}
        for name in given:
            if name in known or (self.families and name.startswith("shift_")):
                continue
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise PriorError(
                f"{self.form.__name__} has no parameter {name!r}{hint} "
                f"It has {', '.join(sorted(known))}"
            )

    @staticmethod
    def _entries(potential: Potential) -> list[tuple]:
        """(full name, parameter name, declaration, entry, value) of every entry."""
        found = []
        for item in potential.parameters():
            names = potential.coordinates(item.per)
            for k, coordinate in enumerate(names):
                full = item.name if len(names) == 1 else f"{item.name}[{coordinate}]"
                found.append((full, item.name, item, k, float(getattr(potential, item.name)[k])))
        return found

    def _add_noise(self, priors: dict, fixed: dict, quantities: Sequence[str]) -> tuple:
        noise, sigma = [], []
        for k, quantity in enumerate(QUANTITIES):
            name = f"sigma_{quantity}"
            prior = priors.get(name, NOISE_PRIORS[quantity])
            sigma.append(float(fixed.get(name, prior.center)))
            if name in fixed:
                self.fixed[name] = sigma[-1]
            elif quantity in quantities:
                noise.append(k)
                self.names.append(name)
                self.units.append(NOISE_UNITS[quantity])
                self.priors.append(prior)
        return noise, sigma

    def _add_tails(self, priors: dict, fixed: dict, quantities: Sequence[str]) -> tuple:
        """Which degrees of freedom are sampled, and all three of them; None for normal noise."""
        if self.tails == "normal":
            return [], None
        sampled, tail = [], []
        for k, quantity in enumerate(QUANTITIES):
            name = f"tail_{quantity}"
            prior = priors.get(name, TAIL_PRIOR)
            value = fixed.get(name, None if self.tails == "student" else self.tails)
            if value is not None and not value > 0:
                raise PriorError(f"{name}={value} must be positive: it is a number of degrees of "
                                 "freedom")
            tail.append(prior.center if value is None else float(value))
            if quantity not in quantities:
                continue
            if value is not None:
                self.fixed[name] = tail[-1]
            else:
                sampled.append(k)
                self._append(name, prior)
        return sampled, tail

    def _add_families(self, priors: dict, quantities: Sequence[str]) -> None:
        """Spreads over the families, then where each of them is."""
        for quantity in quantities:
            self._append(f"spread_{quantity}", priors.get(f"spread_{quantity}", SPREAD_PRIOR))
        for quantity in quantities:
            for family in self.families:
                self._append(f"shift_{quantity}[{family or NO_FAMILY}]", SHIFT_PRIOR)

    def _append(self, name: str, prior: Prior) -> None:
        self.names.append(name)
        self.units.append("1")
        self.priors.append(prior)

    @property
    def size(self) -> int:
        """Number of sampled entries."""
        return len(self.names)

    @cached_property
    def reach(self) -> float:
        """Cutoff of the graph that every allowed draw fits into, Å."""
        _, static = self.layout.template
        return self.form.reach_of_priors(dict(static), self._all_priors)

    def inverse(self, potential: Potential, sigma: Sequence[float] | None = None) -> np.ndarray:
        """The ``u`` of given parameter values.

        Raises
        ------
        PriorError
            If a value is outside its prior's support; the message names the parameter.
        """
        by_name = {full: value for full, *_, value in self._entries(potential)}
        by_name |= dict(zip(
            (f"sigma_{q}" for q in QUANTITIES), sigma if sigma is not None else
            self.constants.sigma, strict=True,
        ))
        u = []
        for name, prior in zip(self.names, self.priors, strict=True):
            if name not in by_name:  # tails and families, from the middle of their priors
                u.append(0.0)
                continue
            try:
                u.append(prior.inverse(by_name[name]))
            except PriorError as error:
                raise PriorError(f"{name}: {error}") from None
        return np.array(u)

    def physical(self, u: np.ndarray) -> np.ndarray:
        """Parameter values of ``u``; [..., p] to [..., p]."""
        u = np.asarray(u)
        columns = [prior.forward(u[..., k]) for k, prior in enumerate(self.priors)]
        return np.stack(columns, axis=-1)

    def potential(self, u: np.ndarray) -> Potential:
        """The potential of ``u``; leading axes become axes of its leaves."""
        values = np.broadcast_to(
            self.constants.values, (*np.shape(u)[:-1], len(self.constants.values))
        ).copy()
        values[..., list(self.layout.free)] = self.physical(u)[..., : self.layout.n_theta]
        return _assemble(self.layout, values)

    def sigma(self, u: np.ndarray) -> np.ndarray:
        """The three noise scales of ``u`` that all families have in common, [..., 3]."""
        sigma = np.broadcast_to(self.constants.sigma, (*np.shape(u)[:-1], 3)).copy()
        sigma[..., list(self.layout.noise)] = self._noise_entries(u)[0]
        return sigma

    def spread(self, u: np.ndarray) -> np.ndarray:
        """Prior sd of ln sigma of a family around the common one, [..., 3]; zero without."""
        spread = np.zeros((*np.shape(u)[:-1], 3))
        if self.families:
            spread[..., list(self.layout.noise)] = self._noise_entries(u)[2]
        return spread

    def family_sigma(self, u: np.ndarray) -> np.ndarray:
        """Noise scales by family, [..., n_families, 3]; one family stands for all if none has."""
        sigma = self.sigma(u)[..., None, :]
        if not self.families:
            return sigma
        columns, (_, _, spread, shift) = list(self.layout.noise), self._noise_entries(u)
        sigma = np.repeat(sigma, len(self.families), axis=-2)
        shift = shift.reshape(*shift.shape[:-1], len(columns), len(self.families))
        sigma[..., columns] *= np.moveaxis(np.exp(spread[..., None] * shift), -1, -2)
        return sigma

    def tail(self, u: np.ndarray) -> np.ndarray | None:
        """Degrees of freedom of the noise, [..., 3]; None if it is normal."""
        if not self.layout.student:
            return None
        tail = np.broadcast_to(self.constants.tail, (*np.shape(u)[:-1], 3)).copy()
        tail[..., list(self.layout.tails)] = self._noise_entries(u)[1]
        return tail

    def _noise_entries(self, u: np.ndarray) -> list[np.ndarray]:
        """Scales, degrees of freedom, spreads and shifts as they lie in ``u``."""
        n = len(self.layout.noise)
        ends = np.cumsum([n, len(self.layout.tails), n if self.families else 0])
        return np.split(self.physical(u)[..., self.layout.n_theta :], ends, axis=-1)


def _point(value: float) -> Prior:
    """A stand-in for the prior of a fixed entry, bounded by its value."""
    width = max(abs(value), 1.0) * 1e-12
    return Prior("normal", value, width, value - width, value + width)
