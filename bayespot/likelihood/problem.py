"""`FitProblem`: a potential, data, priors and noise."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bayespot.data.dataset import Dataset
from bayespot.errors import LabelError, PriorError
from bayespot.evaluate import Labels3
from bayespot.graph import build_graph
from bayespot.likelihood.density import (
    FitData,
    GaussNewton,
    Misfit,
    gauss_newton,
    log_likelihood_by_kind,
    log_likelihood_by_structure,
    log_posterior,
    misfit_by_structure,
)
from bayespot.likelihood.devices import Place, groups, put
from bayespot.likelihood.floor import NoiseFloor
from bayespot.likelihood.information import noise_precision
from bayespot.likelihood.reference import reference_from_data
from bayespot.likelihood.tables import family_numbers, tabulate
from bayespot.parameters import ParameterSpace
from bayespot.potentials.base import Potential
from bayespot.potentials.priors import Prior, Reference
from bayespot.runtime import require_x64
from bayespot.units import QUANTITIES

MISFITS = ("discrepancy", "tempered", "pro", "none")
"""Ways to treat a potential that cannot be right; the first is the default."""

TEMPERATURES = ("families", "frederiksen")
"""Rules for the temperature of ``misfit="tempered"``."""


class FitProblem:
    """A potential, data, priors and noise: what every inference function takes.

    Parameters
    ----------
    potential : Potential
        Functional form, species, settings; its values are one of the starting points.
    dataset : Dataset
        Labelled structures. Labels may be missing per structure and quantity.
    priors, fixed : mapping, optional
        See `ParameterSpace`.
    reference : Reference, optional
        Scales for relative priors; by default the bond length of the lowest-energy structure, a
        cohesive energy of 4 eV/atom and the mean energy of the data.
    floor : NoiseFloor, optional
        Measured convergence error of the DFT.
    nu_forces : float
        How many independent forces a structure counts as.
    misfit : {"discrepancy", "tempered", "pro", "none"}
        Treatment of a form that cannot be right: a function for what it misses
        (`bayespot.inference.discrepancy`), the default, because its bars are those that hold; a
        spread of the parameters, by a temperature (`bayespot.inference.tempered`) or chosen to
        predict (`bayespot.inference.pro`), which the form itself bounds; or nothing, which is
        overconfident and says so in every summary. Inference functions refuse what they cannot
        treat before they start, and name the way out: a linear potential is its own discrepancy
        (`linear_gaussian`), noise with tails has no closed form, one structure alone cannot be
        predicted from others. Two structures are enough; the fewer, the wider the bars.
    temperature : {"families", "frederiksen"} or float, optional
        Of ``misfit="tempered"`` alone: from families left out (the default), Frederiksen's rule,
        or a number.
    scales : {"common", "family"} or sequence of str
        Noise scales that all structures share, or of each family around those. The sequence has
        the names of the families, where the structures at hand are not of all of them. A form that
        cannot fit all families at once may have several modes then, one for each choice of what to
        give up; chains that found different ones do not mix, and say so by R-hat.
    tails : {"normal", "student"} or float
        Distribution of the noise: "student" samples its degrees of freedom, a number holds them.
    devices : int, optional
        JAX devices that share the data; `nuts` deals its chains to groups of so many. By default
        one device has all.
    """

    def __init__(
        self,
        potential: Potential,
        dataset: Dataset,
        *,
        priors: Mapping[str, Prior] | None = None,
        fixed: Mapping[str, float] | None = None,
        reference: Reference | None = None,
        floor: NoiseFloor | None = None,
        nu_forces: float = 6.0,
        misfit: str = MISFITS[0],
        temperature: float | str | None = None,
        scales: str | Sequence[str] = "common",
        tails: float | str = "normal",
        devices: int | None = None,
    ) -> None:
        require_x64()
        if misfit not in MISFITS:
            raise PriorError(f"misfit={misfit!r} is unknown: use one of {', '.join(MISFITS)}")
        if temperature is not None:
            _check_temperature(misfit, temperature)
        if not nu_forces > 0:
            raise PriorError(f"nu_forces={nu_forces} must be positive (6 is the default)")
        _check_noise(scales, tails)
        groups(devices)  # says now if they are not there
        self.scales, self.tails, self.devices = scales, tails, devices
        self.floor = floor or NoiseFloor()
        self.nu_forces = float(nu_forces)
        self.misfit, self.temperature = misfit, temperature
        self.initial = potential
        labelled = {
            "energy": any(label.energy is not None for label in dataset.labels),
            "forces": any(label.forces is not None for label in dataset.labels),
            "stress": any(label.stress is not None for label in dataset.labels),
        }
        if not any(labelled.values()):
            raise LabelError(
                f"none of the {len(dataset)} structures of {dataset.source} has a label: "
                "name the keys of energies, forces or stresses when reading"
            )
        self.reference = reference or reference_from_data(dataset, potential.species)
        self.space = ParameterSpace(
            potential,
            self.reference,
            priors=priors,
            fixed=fixed,
            quantities=[q for q in QUANTITIES if labelled[q]],
            families=_families(scales, dataset),
            tails=tails,
        )
        self.cutoff = self.space.reach
        self._placed: dict[Any, tuple[FitData, FitData]] = {}
        self._take(dataset)

    def _take(self, dataset: Dataset, **options: Any) -> None:
        """Neighbours, labels and weights of the structures."""
        self.dataset, place, form = dataset, self.places[0], self.initial
        mesh = place if isinstance(place, Mesh) else None
        self.graph = build_graph(
            dataset.structures, form.species, self.cutoff, triplets=form.needs_triplets,
            parts=None if mesh is None else self.devices, **options,
        )
        data, self.dropped = tabulate(
            dataset, self.graph, self.space, self.floor, self.nu_forces
        )
        self.data = replace(data, mesh=mesh)

    def on(self, dataset: Dataset, **options: Any) -> FitProblem:
        """The same form, priors, scales and noise with other data of the same kinds.

        ``options`` are those of `build_graph`: ``chunk_atoms``, ``like``.
        """
        other = copy.copy(self)
        other._take(dataset, **options)
        return other

    def parts(self) -> Iterator[FitProblem]:
        """The data in parts that fit into memory: here in one, see `StreamedProblem`."""
        yield self

    @property
    def places(self) -> list[Place]:
        """Groups of devices, each with a copy of the data."""
        return groups(self.devices)

    def placed(self, place: Place = None) -> FitData:
        """The data on a group of devices, by default on the first; they are put there once."""
        if self.devices is None:
            return self.data
        place = self.places[0] if place is None else place
        before, there = self._placed.get(place, (None, None))
        if before is not self.data:
            mesh = place if isinstance(place, Mesh) else None
            there = put(replace(self.data, mesh=mesh), place, chunks=True)
            self._placed = {**self._placed, place: (self.data, there)}
        return there

    def log_posterior(self, u: np.ndarray) -> float:
        """Log posterior density in ``u`` up to a constant."""
        return float(log_posterior(self.space.layout, self.space.constants, self.placed(),
                                   jnp.asarray(u)))

    def log_likelihood_by_structure(self, u: np.ndarray) -> np.ndarray:
        """Log likelihood of every structure at one ``u``, [n_structures]."""
        return self.graph.by_structure(log_likelihood_by_structure(
            self.space.layout, self.space.constants, self.placed(), jnp.asarray(u)
        ))

    def gauss_newton(self, u: np.ndarray) -> GaussNewton:
        """See the function of that name."""
        out = gauss_newton(self.space.layout, self.space.constants, self.placed(), jnp.asarray(u))
        return GaussNewton(
            self.graph.by_structure(out.fisher),
            np.asarray(out.gradient),
            self._in_order(out.misfit),
        )

    def _in_order(self, misfit: Misfit) -> Misfit:
        return Misfit(*(self.graph.by_structure(m) for m in misfit))

    def misfit_by_structure(self, u: np.ndarray) -> Misfit:
        """Weighted squares and counts of every structure, [n_structures, 3] each."""
        out = misfit_by_structure(self.space.layout, self.space.constants, self.placed(),
                                  jnp.asarray(u))
        return self._in_order(out)

    def unpadded(self, values: Labels3) -> Labels3:
        """Labels or weights of the chunks in the order of the structures and of their atoms."""
        graph = self.graph
        return Labels3(
            graph.by_structure(values.energy), graph.by_atom(values.forces),
            graph.by_structure(values.stress),
        )

    def log_likelihood_by_kind(self, u: np.ndarray) -> np.ndarray:
        """Log likelihood of every structure by kind of label, [n_structures, 3]."""
        return self.graph.by_structure(log_likelihood_by_kind(
            self.space.layout, self.space.constants, self.placed(), jnp.asarray(u)
        ))

    def variance(self, u: np.ndarray) -> np.ndarray:
        """Squared noise scales and floor of every structure, [..., n_structures, 3]."""
        scales = self.space.family_sigma(u)[..., self.families, :]
        return scales**2 + self.floor_by_structure()

    @property
    def families(self) -> np.ndarray:
        """Which of the noise scales each structure has, [n_structures] of int."""
        if not self.space.families:
            return np.zeros(len(self.dataset), int)
        return family_numbers(self.dataset.families, self.space.families)

    def floor_by_structure(self) -> np.ndarray:
        """Variances of the DFT floor, [n_structures, 3]."""
        return self.graph.by_structure(self.data.floor)

    def precision(self, u: np.ndarray) -> np.ndarray:
        r"""Gauss-Newton Hessian of the negative log posterior, noise entries included, [p, p].

        For a noise scale the expected second derivative of
        :math:`\tfrac12 n \ln(\sigma^2 + s^2)` is used, :math:`\tfrac12 n (d\ln v / du)^2`.
        """
        n_theta, size = self.space.layout.n_theta, self.space.size
        hessian = np.eye(size)
        hessian[:n_theta, :n_theta] += self.gauss_newton(u).fisher.sum(axis=0)
        hessian[n_theta:, n_theta:] = self.noise_precision(u)
        return hessian

    def noise_precision(self, u: np.ndarray) -> np.ndarray:
        """The block of `precision` that belongs to the noise."""
        owner = np.repeat(np.arange(len(self.dataset)), [len(a) for a in self.dataset.structures])
        return noise_precision(self.space, u, self.families, self.variance(u),
                               self.unpadded(self.data.kappa), owner)


def _check_temperature(misfit: str, temperature: float | str) -> None:
    if misfit != "tempered":
        raise PriorError(
            f"temperature={temperature!r} with misfit={misfit!r}: only misfit='tempered' takes one"
        )
    if isinstance(temperature, str):
        if temperature not in TEMPERATURES:
            raise PriorError(f"temperature={temperature!r} is unknown: use "
                             f"{' or '.join(map(repr, TEMPERATURES))}, or a positive number")
    elif not (np.isfinite(temperature) and temperature > 0):
        raise PriorError(f"temperature={temperature} must be positive and finite (1 is the "
                         "posterior as it is)")


def _check_noise(scales: str | Sequence[str], tails: float | str) -> None:
    if isinstance(scales, str) and scales not in ("common", "family"):
        raise PriorError(f"scales={scales!r} is unknown: use 'common', 'family', or the names of "
                         "the families")
    if isinstance(tails, str):
        if tails not in ("normal", "student"):
            raise PriorError(f"tails={tails!r} is unknown: use 'normal', 'student', or a number of "
                             "degrees of freedom")
    elif not (np.isfinite(tails) and tails > 0):
        raise PriorError(f"tails={tails} must be positive and finite: it is a number of degrees of "
                         "freedom; tails='normal' is the limit of many")


def _families(scales: str | Sequence[str], dataset: Dataset) -> tuple[str, ...]:
    """Families with noise scales of their own."""
    if scales == "common":
        return ()
    return tuple(sorted(set(dataset.families if isinstance(scales, str) else scales)))
