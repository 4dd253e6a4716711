"""All draws of a posterior on one moving structure: energies, forces, spreads, grade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from ase import Atoms

from bayespot.dynamics.verlet import VerletList
from bayespot.errors import PropertyError
from bayespot.evaluate import DRAWS_BY_DESIGN, Labels3, evaluate_draws
from bayespot.posterior import Posterior
from bayespot.potentials.base import Potential
from bayespot.potentials.linear import LinearPotential
from bayespot.prediction import extrapolation_grades
from bayespot.runtime import require_x64

N_DRAWS = 32


@dataclass(frozen=True)
class Spread:
    """What the draws say about one structure.

    Spreads are those of `bayespot.predict`: parameter spreads, wider outside of the calibrated
    range. Energies are the draws' own, as reweighting needs them.
    """

    energy_draws: np.ndarray  # [n_draws] eV
    energy_std: float  # eV, of the whole cell
    force_std: float  # eV/Å, of the component with the largest spread
    atom: int  # whose it is
    stress_std: float | None  # eV/Å^3, largest component; None where there is no volume
    grade: float | None  # None where there is no posterior to compare with


class Ensemble:
    """Draws of potential parameters, evaluated together over one neighbour list that is kept.

    Parameters
    ----------
    source : Posterior or Potential
        A posterior, a potential, or a potential whose leaves have a leading axis of draws.
    n_draws : int
        Of a posterior: at most so many, evenly spaced, the same that `bayespot.predict` takes.
    skin : float, optional
        Å, of the neighbour list, see `VerletList`.
    allow_unconverged : bool
        Go on although the posterior has not converged.

    Raises
    ------
    NotConverged
        If the posterior has not converged and ``allow_unconverged`` is not set.
    PropertyError
        If the source is nothing of these, or no draw is asked for.
    """

    def __init__(
        self, source: Posterior | Potential, *, n_draws: int = N_DRAWS, skin: float | None = None,
        allow_unconverged: bool = False,
    ) -> None:
        require_x64()
        self.posterior = source if isinstance(source, Posterior) else None
        if n_draws < 1:
            raise PropertyError(f"n_draws={n_draws}: at least one draw is needed")
        if self.posterior is not None:
            source.check(allow_unconverged=allow_unconverged)
            self.potentials = source.potentials(n_draws)
            center = source.potential
        elif isinstance(source, Potential):
            self.potentials = source if np.ndim(source.e0) == 2 else _with_axis(source)
            center = jax.tree.map(lambda leaf: np.mean(leaf, axis=0), self.potentials)
        else:
            raise PropertyError(f"dynamics need a posterior or a potential, not {source!r}")
        self.n = len(np.asarray(self.potentials.e0))
        self._placed = jax.device_put(self.potentials)  # not once a step
        self._alone = {"center": jax.device_put(_with_axis(center))}
        reach = max(float(one.reach) for one in (center, *map(self._draw, range(self.n))))
        self.list = VerletList(
            self.potentials.species, reach, triplets=self.potentials.needs_triplets, skin=skin
        )
        forms = getattr(self.potentials, "components", (type(self.potentials),))
        # Many draws of a linear form share one pass over its design matrix.
        self._by_design = self.n >= DRAWS_BY_DESIGN and any(
            issubclass(form, LinearPotential) for form in forms
        )

    def _draw(self, k: int) -> Potential:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[k], self.potentials)

    def draws(self, atoms: Atoms) -> Labels3:
        """All draws: energy [n], forces [n, N, 3], stress [n, 6]."""
        if not self._by_design:
            return self.list.evaluate(self._placed, atoms)
        out = evaluate_draws(self.potentials, self.list.graph(atoms))
        return Labels3(out.energy[:, 0], out.forces, out.stress[:, 0])

    def one(self, atoms: Atoms, k: int | str) -> Labels3:
        """Draw ``k``, or "center", the potential at the mean of the parameters.

        Energy [], forces [N, 3], stress [6].
        """
        if k not in self._alone:
            self._alone[k] = jax.device_put(_with_axis(self._draw(k)))
        out = self.list.evaluate(self._alone[k], atoms)
        return Labels3(out.energy[0], out.forces[0], out.stress[0])

    def spread(self, atoms: Atoms, out: Labels3 | None = None) -> Spread:
        """Spreads and grade; ``out`` is what `draws` gave, where that is at hand."""
        out = self.draws(atoms) if out is None else out
        n, factor, grade = len(atoms), 1.0, None
        if self.posterior is not None and self.n > 1:
            grade = float(extrapolation_grades(
                self.posterior, out.energy[:, None] / n, out.forces, np.array([n])
            )[0])
            factor = max(1.0, grade) if self.posterior.calibrated else 1.0
        force = factor * out.forces.std(axis=0)
        stress = factor * float(out.stress.std(axis=0).max()) if atoms.pbc.all() else None
        return Spread(
            out.energy, factor * float(out.energy.std()), float(force.max()),
            int(force.max(axis=1).argmax()), stress, grade,
        )  # fmt: skip


def _with_axis(potential: Potential) -> Potential:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[None], potential)


def driver_of(drive: Any, n: int) -> int | str:
    """What drives the atoms: "mean", "center" or the number of a draw.

    Raises
    ------
    PropertyError
        If it is nothing of these.
    """
    if drive in ("mean", "center"):
        return drive
    if isinstance(drive, (int, np.integer)) and 0 <= drive < n:
        return int(drive)
    raise PropertyError(
        f"drive={drive!r}: it is 'mean' (of the forces of all draws), 'center' (the potential at "
        f"the mean of the parameters) or a draw from 0 to {n - 1}"
    )
