"""The flat vector of standard normals behind a potential and its noise scales.

``u`` has one entry per free parameter: the potential's in order of declaration, then ln-scale
entries of the noise. Each is standard normal under the prior (see `bayespot.potentials.priors`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayespot.errors import PriorError
from bayespot.potentials.base import Potential
from bayespot.potentials.priors import LogNormal, Prior, Reference, transform
from bayespot.units import GPA, QUANTITIES

NOISE_PRIORS = {
    "energy": LogNormal(10e-3, 1.0),  # eV/atom
    "forces": LogNormal(0.1, 1.0),  # eV/Å
    "stress": LogNormal(0.5 / GPA, 1.0),  # eV/Å^3
}
"""Noise scales: median 10 meV/atom, 0.1 eV/Å, 0.5 GPa, a factor of e wide."""

NOISE_UNITS = {"energy": "eV/atom", "forces": "eV/Å", "stress": "eV/Å³"}


@dataclass(frozen=True)
class Layout:
    """The static half of a parameter space: hashable, so it can steer compilation."""

    template: tuple[type[Potential], tuple[tuple[str, Any], ...]]  # class, static fields
    sizes: tuple[tuple[str, int], ...]  # entries of each parameter of the potential
    free: tuple[int, ...]  # positions of the sampled entries among all entries
    noise: tuple[int, ...]  # which of the three noise scales are sampled
    kinds: tuple[tuple[bool, bool], ...]  # per sampled entry: lognormal?, bounded?

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


def unpack(layout: Layout, constants: Constants, u: Any) -> tuple[Potential, Any]:
    """The potential and the three noise scales of ``u``; differentiable."""
    theta = transform(u, layout.kinds, constants.priors)
    n = layout.n_theta
    values = jnp.asarray(constants.values)
    if n:
        values = values.at[jnp.array(layout.free)].set(theta[:n])
    sigma = jnp.asarray(constants.sigma)
    if layout.noise:
        sigma = sigma.at[jnp.array(layout.noise)].set(theta[n:])
    return _assemble(layout, values), sigma


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
        ``sigma_energy``, ``sigma_forces``, ``sigma_stress``.
    fixed : mapping, optional
        Name (or name[entry]) to a value that is not sampled.
    quantities : sequence of str
        Which of energy, forces, stress have labels; only their noise is sampled.
    """

    def __init__(
        self,
        potential: Potential,
        reference: Reference,
        *,
        priors: Mapping[str, Prior] | None = None,
        fixed: Mapping[str, float] | None = None,
        quantities: Sequence[str] = QUANTITIES,
    ) -> None:
        self.form = type(potential)
        self.species = potential.species
        self.reference = reference
        priors, fixed = dict(priors or {}), dict(fixed or {})
        entries = self._entries(potential)
        known = {e[0] for e in entries} | {e[1] for e in entries}
        known |= {f"sigma_{q}" for q in QUANTITIES}
        for given in (*priors, *fixed):
            if given not in known:
                close = difflib.get_close_matches(given, known, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else "."
                raise PriorError(
                    f"{self.form.__name__} has no parameter {given!r}{hint} "
                    f"It has {', '.join(sorted(known))}"
                )
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
        )
        self.constants = Constants(
            priors=np.array([p.constants() for p in self.priors]).reshape(-1, 4),
            values=np.array(values),
            sigma=np.array(sigma),
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
        """The three noise scales of ``u``, [..., 3]."""
        sigma = np.broadcast_to(self.constants.sigma, (*np.shape(u)[:-1], 3)).copy()
        sigma[..., list(self.layout.noise)] = self.physical(u)[..., self.layout.n_theta :]
        return sigma


def _point(value: float) -> Prior:
    """A stand-in for the prior of a fixed entry, bounded by its value."""
    width = max(abs(value), 1.0) * 1e-12
    return Prior("normal", value, width, value - width, value + width)
