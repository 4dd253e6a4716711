"""From draws to energies, forces and stresses of new structures, with the spread kept apart.

``parameter_std`` is the spread over posterior draws, ``noise_std`` what the fit inferred as noise
(label noise and misfit) together with the DFT floor, ``total_std`` both in quadrature. The noise of
a structure's energy grows with its number of atoms, because it was inferred per atom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import ase.io
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from scipy import special

from bayespot.data.dataset import Dataset
from bayespot.data.kinds import described
from bayespot.errors import PriorError, StructureError
from bayespot.evaluate import Labels3, evaluate_draws
from bayespot.graph import NeighborGraph, build_graph
from bayespot.inference.sum_rows import has_linear_part, rows_of_sum
from bayespot.pending import parameter_covariance, pending_point, pending_problem
from bayespot.posterior import Posterior
from bayespot.potentials.linear import LinearPotential
from bayespot.potentials.sums import SumPotential
from bayespot.units import QUANTITIES

PRODUCTS = ("corrected", "classical")
"""What a posterior with a discrepancy predicts, see `predict`."""


@dataclass(frozen=True)
class Prediction:
    """Draws of energies, forces and stresses of some structures.

    Attributes
    ----------
    energy_draws : ndarray [n_draws, n_structures]
        eV, of the whole cell.
    forces_draws : ndarray [n_draws, n_atoms, 3]
        eV/Å, all structures one after the other.
    stress_draws : ndarray [n_draws, n_structures, 6]
        eV/Å^3, Voigt; NaN where a structure is not periodic in three directions.
    atom_counts : ndarray [n_structures]
    sigma : ndarray [3] or [n_structures, 3]
        Noise per atom energy, force component, stress component: inferred and floor.
    extrapolation : ndarray [n_structures]
        Parameter spread (energy per atom or force, whichever is farther out) over the largest on
        any training structure; above 1 the structure is farther out than all data. Where the
        spread was calibrated on families left out, over the largest on one of those; above 1 the
        structure is outside of the calibrated range.
    warnings : list of list of str
        For each structure, what is outside of what the potential was fitted to.
    """

    energy_draws: np.ndarray
    forces_draws: np.ndarray
    stress_draws: np.ndarray
    atom_counts: np.ndarray
    sigma: np.ndarray
    extrapolation: np.ndarray
    warnings: list[list[str]] = field(default_factory=list)
    structures: tuple[Atoms, ...] = ()

    @cached_property
    def offsets(self) -> np.ndarray:
        """First atom of each structure, and the end, [n_structures + 1]."""
        return np.concatenate([[0], np.cumsum(self.atom_counts)])

    @property
    def energy(self) -> np.ndarray:
        """Mean energy, eV, [n_structures]."""
        return self.energy_draws.mean(axis=0)

    @property
    def forces(self) -> np.ndarray:
        """Mean forces, eV/Å, [n_atoms, 3]."""
        return self.forces_draws.mean(axis=0)

    @property
    def stress(self) -> np.ndarray:
        """Mean stress, eV/Å^3, [n_structures, 6]."""
        return self.stress_draws.mean(axis=0)

    @property
    def energy_parameter_std(self) -> np.ndarray:
        """Spread of the energy over draws, eV."""
        return self.energy_draws.std(axis=0)

    @property
    def forces_parameter_std(self) -> np.ndarray:
        """Spread of the forces over draws, eV/Å."""
        return self.forces_draws.std(axis=0)

    @property
    def stress_parameter_std(self) -> np.ndarray:
        """Spread of the stress over draws, eV/Å^3."""
        return self.stress_draws.std(axis=0)

    @property
    def energy_noise_std(self) -> np.ndarray:
        """Inferred noise of the energy, eV: that per atom times the number of atoms."""
        return self._noise[:, 0] * self.atom_counts

    @property
    def forces_noise_std(self) -> np.ndarray:
        """Inferred noise of the forces, eV/Å."""
        return np.repeat(self._noise[:, 1], self.atom_counts)[:, None] * np.ones(3)

    @property
    def stress_noise_std(self) -> np.ndarray:
        """Inferred noise of the stress, eV/Å^3."""
        return self._noise[:, 2, None] * np.ones(6)

    @property
    def _noise(self) -> np.ndarray:
        """Noise of every structure, [n_structures, 3]."""
        return np.broadcast_to(self.sigma, (len(self.atom_counts), 3))

    @property
    def energy_total_std(self) -> np.ndarray:
        """Parameter spread and noise in quadrature, eV."""
        return np.hypot(self.energy_parameter_std, self.energy_noise_std)

    @property
    def forces_total_std(self) -> np.ndarray:
        """Parameter spread and noise in quadrature, eV/Å."""
        return np.hypot(self.forces_parameter_std, self.forces_noise_std)

    @property
    def stress_total_std(self) -> np.ndarray:
        """Parameter spread and noise in quadrature, eV/Å^3."""
        return np.hypot(self.stress_parameter_std, self.stress_noise_std)

    def interval(self, quantity: str, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Central interval of parameter spread and noise together, as a normal distribution.

        Parameters
        ----------
        quantity : {"energy", "forces", "stress"}
        level : float
            Probability that the interval claims, in (0, 1).

        Returns
        -------
        low, high : ndarray
        """
        if quantity not in QUANTITIES or not 0 < level < 1:
            raise ValueError(
                f"interval({quantity!r}, {level}): the quantity is one of {QUANTITIES}, the level "
                "between 0 and 1"
            )
        half = special.ndtri(0.5 + level / 2) * getattr(self, f"{quantity}_total_std")
        center = getattr(self, quantity)
        return center - half, center + half

    def write(self, path: str | Path) -> None:
        """Write the structures as extended XYZ with keys ``bayespot_energy``, ``..._std``, ..."""
        frames = []
        for k, atoms in enumerate(self.structures):
            rows = slice(self.offsets[k], self.offsets[k + 1])
            frame = Atoms(
                atoms.get_chemical_symbols(), atoms.positions, cell=atoms.cell, pbc=atoms.pbc
            )
            frame.info.update({
                key: value for key, value in atoms.info.items() if isinstance(value, (str, int))
            })
            frame.info["bayespot_energy"] = float(self.energy[k])
            frame.info["bayespot_energy_std"] = float(self.energy_total_std[k])
            frame.info["bayespot_energy_parameter_std"] = float(self.energy_parameter_std[k])
            frame.info["bayespot_extrapolation"] = float(self.extrapolation[k])
            if np.isfinite(self.stress[k]).all():
                frame.info["bayespot_stress"] = self.stress[k]
                frame.info["bayespot_stress_std"] = self.stress_total_std[k]
            if self.warnings[k]:
                frame.info["bayespot_warning"] = "; ".join(self.warnings[k])
            frame.arrays["bayespot_forces"] = self.forces[rows]
            frame.arrays["bayespot_forces_std"] = self.forces_total_std[rows]
            frame.arrays["bayespot_forces_parameter_std"] = self.forces_parameter_std[rows]
            frames.append(frame)
        ase.io.write(path, frames, format="extxyz")


def predict(
    posterior: Posterior,
    structures: Dataset | Sequence[Atoms] | Atoms,
    *,
    n_draws: int = 100,
    product: str = "corrected",
    allow_unconverged: bool = False,
) -> Prediction:
    """Energies, forces and stresses of structures for thinned posterior draws.

    Parameters
    ----------
    posterior : Posterior
    structures : Dataset, sequence of Atoms, or Atoms
        Labels, if any, are not looked at; the families of a data set are, where the noise has
        scales by family.
    n_draws : int
        At most this many draws, evenly spaced.
    product : {"corrected", "classical"}
        With ``misfit="discrepancy"``: the potential with its discrepancy, or the plain potential
        as it runs in other codes, with its known error in the bars, see `_classical`.
    allow_unconverged : bool
        Go on although the posterior has not converged.

    Raises
    ------
    NotConverged
        If the posterior has not converged and ``allow_unconverged`` is not set.
    PriorError
        If the product is unknown, or the posterior has no discrepancy to fold into the bars.
    SpeciesError
        If a structure has a species that the potential does not know.
    """
    posterior.check(allow_unconverged=allow_unconverged)
    families = None
    if isinstance(structures, Dataset):
        structures, families = structures.structures, structures.families
    atoms = (structures,) if isinstance(structures, Atoms) else tuple(structures)
    if n_draws < 1:
        raise StructureError(f"n_draws={n_draws}: at least one draw is needed")
    check_product(posterior, product)
    graph = build_graph(
        atoms, posterior.species, posterior.cutoff, triplets=posterior.potential.needs_triplets
    )
    out = evaluate_draws(posterior.potentials(n_draws), graph)
    counts = np.array([len(a) for a in atoms])
    sigma = posterior.noise(families)
    extrapolation = extrapolation_grades(posterior, out.energy / counts, out.forces, counts)
    if posterior.calibrated:
        out = _widened(out, extrapolation, counts)
    if product == "classical":
        out = _classical(out, posterior.potentials(n_draws), graph)
    periodic = np.array([a.pbc.all() for a in atoms])
    stress = np.where(periodic[None, :, None], out.stress, np.nan)
    return Prediction(
        out.energy, out.forces, stress, counts, sigma, extrapolation,
        _warnings(posterior, atoms, graph, extrapolation), atoms,
    )


def check_product(posterior: Posterior, product: str) -> None:
    """Raise `PriorError` unless the posterior can give this product."""
    if product not in PRODUCTS:
        raise PriorError(f"product={product!r} is unknown: use one of {', '.join(PRODUCTS)}")
    if product == "classical" and posterior.misfit != "discrepancy":
        raise PriorError(
            f"product='classical' folds a known error into the bars, and a posterior with misfit="
            f"{posterior.misfit!r} knows none: fit with misfit='discrepancy', or leave product away"
        )
    if product == "classical" and issubclass(posterior.space.form, LinearPotential):
        raise PriorError(
            f"product='classical' of {posterior.space.form.__name__}: a linear potential is its "
            "own discrepancy, there is no plain potential beside it; leave product away"
        )


def _classical(out: Labels3, potentials: SumPotential, graph: NeighborGraph) -> Labels3:
    r"""Draws around the plain potential whose spread holds what the discrepancy corrects.

    With :math:`m` the mean of the plain potential over its draws and :math:`y_k` the corrected
    draws, the draws are :math:`m + (y_k - m)` and :math:`m - (y_k - m)`: their mean is :math:`m`,
    their variance that of the :math:`y_k` plus the square of the known error
    :math:`\bar y - m`, and an interval around :math:`m` holds as many :math:`y_k` as it claims.
    """
    *parts, _ = potentials.parts_of_draws()
    plain = [evaluate_draws(part, graph) for part in parts]
    mean = [sum(values[1:], values[0]).mean(axis=0) for values in zip(*plain, strict=True)]
    return Labels3(*(
        np.concatenate([draws, 2 * center - draws]) for draws, center in zip(out, mean, strict=True)
    ))


def extrapolation_grades(
    posterior: Posterior, energy: np.ndarray, forces: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Parameter spread over the largest one on the training structures, [n_structures]."""
    if len(energy) == 1:
        return np.zeros(len(counts))  # one draw has no spread: nothing can be said
    seen = posterior.record["data"]["training_spread"]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    largest = np.maximum.reduceat(forces.std(axis=0).max(axis=1), starts)
    grades = [
        spread / seen[q]
        for q, spread in (("energy", energy.std(axis=0)), ("forces", largest))
        if seen[q] > 0
    ]
    return np.max(grades, axis=0) if grades else np.zeros(len(counts))


def _widened(out: Labels3, grade: np.ndarray, counts: np.ndarray) -> Labels3:
    r"""Draws with the spread of a structure times its grade where that is above one.

    At grade :math:`\gamma` that is a temperature :math:`T \max(1, \gamma)^2`: T inside of the range
    in which it was tuned; outside the spread grows faster than the leverage, because prior scales
    that were learned from the directions in the data need not hold for others. The mean is not
    changed.
    """
    factor = np.maximum(1.0, grade)

    def wider(draws: np.ndarray, by: np.ndarray) -> np.ndarray:
        mean = draws.mean(axis=0)
        return mean + by * (draws - mean)

    return Labels3(
        wider(out.energy, factor), wider(out.forces, np.repeat(factor, counts)[:, None]),
        wider(out.stress, factor[:, None]),
    )


_FAR = {
    True: "outside the calibrated range: spread {:.1f} times the largest on a family left out; its "
    "bar was not tested this far out, add structures like this one to the data",
    False: "far from the data: parameter spread {:.1f} times the largest on any training structure",
}


def _warnings(posterior: Posterior, atoms: Sequence[Atoms], graph, extrapolation: np.ndarray
              ) -> list[list[str]]:
    """What of every structure lies outside of the data of the fit."""
    closest = posterior.record["data"]["closest_pair"]
    names = posterior.potential.coordinates("pair")
    chunks, found = graph.chunks, []
    n_slots = chunks.volume.shape[1]
    for k, structure in enumerate(atoms):
        notes = []
        c, slot = divmod(int(graph.structure_slot[k]), n_slots)
        edges = chunks.structure[c][chunks.center[c]] == slot
        pairs = chunks.pair[c][edges]
        lonely = len(structure) - len(np.unique(chunks.center[c][edges]))
        if lonely:
            notes.append(
                f"{lonely} of {len(structure)} atoms have no neighbour within the cutoff "
                f"{posterior.cutoff:.2f} Å: the potential sees nothing there"
            )
        for number, name in enumerate(names):
            r = chunks.distance[c][pairs][chunks.pair_species[c][pairs] == number]
            if not r.size:
                continue
            if name not in closest:
                notes.append(f"{name} pairs do not occur in the data of the fit")
            elif r.min() < 0.98 * closest[name]:
                notes.append(
                    f"closest {name} pair {r.min():.2f} Å, the data end at {closest[name]:.2f} Å"
                )
        if extrapolation[k] > 1:
            far = _FAR[posterior.calibrated].format(extrapolation[k])
            notes.append(far + described(structure, posterior.record))
        found.append(notes)
    return found


def information(
    posterior: Posterior, structures: Dataset | Sequence[Atoms], *, allow_unconverged: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """What a calculation of each structure would tell about the parameters.

    Returns
    -------
    covariance : ndarray [p, p]
        Posterior covariance of the potential's standard-normal coordinates.
    fisher : ndarray [n_structures, p, p]
        Weighted Fisher matrix of the energy, forces and stress of each structure at the posterior
        mean, with the weights that its labels would get in a fit and the noise that predictions
        have. Where misfit is treated this is what the spread of the parameters leaves over, not the
        noise of the fit times the temperature: a fit takes less from a label than is said here.
    """
    posterior.check(allow_unconverged=allow_unconverged)
    atoms = structures.structures if isinstance(structures, Dataset) else tuple(structures)
    problem = pending_problem(posterior, atoms)
    covariance, at = parameter_covariance(posterior), pending_point(posterior)
    if has_linear_part(problem.space):
        return covariance, np.stack([rows.T @ rows for rows in rows_of_sum(problem, at)])
    return covariance, problem.gauss_newton(jnp.asarray(at)).fisher
