"""The draws of a posterior as energy surfaces, evaluated and relaxed all at once."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from bayespot.errors import PropertyError
from bayespot.evaluate import Labels3
from bayespot.posterior import Posterior
from bayespot.potentials.base import Potential
from bayespot.properties.frames import Frames
from bayespot.properties.lists import Reference, evaluate_frames, make_reference, needed_reach
from bayespot.properties.relaxing import minimize
from bayespot.properties.surfaces import CalculatorSurface, Relaxed, Surfaces, Tolerance
from bayespot.runtime import require_x64

Source = Calculator | Surfaces | Posterior | Potential
"""What property functions take: an ASE calculator, a posterior, a potential, or surfaces."""

N_DRAWS = 32
REMEMBERED = 12
"""Neighbour lists that are kept."""


class DrawSurfaces(Surfaces):
    """One surface for each draw of a potential's parameters.

    Parameters
    ----------
    potentials : Potential
        Its leaves have a leading axis of draws.
    tolerance : Tolerance, optional
    """

    def __init__(self, potentials: Potential, tolerance: Tolerance | None = None) -> None:
        require_x64()
        super().__init__(len(np.asarray(potentials.e0)), tolerance or Tolerance())
        self.potentials = potentials
        # The first draw again as padding: one program serves a single potential and all draws.
        index = np.zeros(-(-self.n // N_DRAWS) * N_DRAWS, dtype=int)
        index[: self.n] = np.arange(self.n)
        self._padded = jax.tree.map(lambda leaf: np.asarray(leaf)[index], potentials)
        self.reach = max(float(_draw(potentials, k).reach) for k in range(self.n))
        self._references: dict[tuple, list[Reference]] = {}

    def evaluate(self, frames: Frames) -> Labels3:
        """See `Surfaces.evaluate`."""
        return evaluate_frames(self._padded, frames, self._reference(frames).list)

    def _reference(self, frames: Frames) -> Reference:
        """The shortest neighbour list that reaches far enough for all frames, or a new one."""
        known = self._references.setdefault((frames.symbols, frames.pbc), [])
        enough = [
            one for one in known
            if needed_reach(frames, one.positions, one.cell, self.reach).max() <= one.reach
        ]
        if enough:  # a draw that collapsed has left long ones behind
            return min(enough, key=lambda one: one.reach)
        made = make_reference(
            frames, self.potentials.species, self.reach, self.potentials.needs_triplets
        )
        known.insert(0, made)
        del known[REMEMBERED:]
        return made

    def relax(self, frames: Frames, cell: str = "fixed") -> Relaxed:
        """See `Surfaces.relax`.

        Frames on many surfaces start from where those of the first surface end: draws differ little
        and then need few steps each.
        """
        first = self.of_first(frames)
        if self.n < 4 or first is None or frames.n_atoms < 3:
            return minimize(self.evaluate, frames, cell, self.tolerance)
        end = minimize(self.evaluate, first, cell, self.tolerance).frames
        return minimize(self.evaluate, self.as_first(frames, end), cell, self.tolerance)

    def of_first(self, frames: Frames) -> Frames | None:
        """The frames of the first surface, if all surfaces have as many, one after the other."""
        each = len(frames) // self.n
        if not each or not np.array_equal(frames.surface, np.repeat(np.arange(self.n), each)):
            return None
        return frames.select(np.arange(each))

    def as_first(self, frames: Frames, end: Frames) -> Frames:
        """What was done to the first surface's atoms and cells, done to those of all surfaces.

        Parameters
        ----------
        frames : Frames
            For which `of_first` is not None.
        end : Frames
            Where those of the first surface are now.
        """
        start, shape = frames.select(np.arange(len(end))), (self.n, len(end), 3, 3)
        inside = end.positions @ np.linalg.inv(end.cells)
        before = start.positions @ np.linalg.inv(start.cells)
        strain = np.linalg.solve(start.cells, end.cells)
        cells = (frames.cells.reshape(shape) @ strain).reshape(-1, 3, 3)
        own = frames.positions @ np.linalg.inv(frames.cells)
        return frames.moved((own + np.tile(inside - before, (self.n, 1, 1))) @ cells, cells)

    def calculator(self, k: int) -> Calculator:
        """See `Surfaces.calculator`."""
        return DrawCalculator(self, k)


class DrawCalculator(Calculator):
    """One draw as an ASE calculator; all draws share compiled programs and neighbour lists."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, surfaces: DrawSurfaces, k: int = 0) -> None:
        super().__init__()
        self._surfaces, self._k = surfaces, k

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate one structure."""
        super().calculate(atoms, properties, system_changes)
        energy, forces, stress = self._surfaces.evaluate(Frames.of([self.atoms], [self._k]))
        self.results = {"energy": float(energy[0]), "free_energy": float(energy[0]),
                        "forces": forces[0]}  # fmt: skip
        if self.atoms.pbc.all():
            self.results["stress"] = stress[0]


def _draw(potentials: Potential, k: int) -> Potential:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[k], potentials)


def surfaces_of(
    source: Any, *, n_draws: int = N_DRAWS, tolerance: Tolerance | None = None,
    allow_unconverged: bool = False,
) -> Surfaces:
    """Energy surfaces of whatever property functions take.

    Parameters
    ----------
    source : ASE calculator, Posterior, Potential or Surfaces
        Surfaces come back as they are, with what they remember.
    n_draws : int
        Draws of a posterior, evenly spaced.
    tolerance : Tolerance, optional
        When a structure counts as relaxed.
    allow_unconverged : bool
        Go on although the posterior has not converged.

    Raises
    ------
    PropertyError
        If it is nothing of these.
    NotConverged
        If the posterior has not converged and ``allow_unconverged`` is not set.
    """
    if isinstance(source, Surfaces):
        return source
    if isinstance(source, Posterior):
        source.check(allow_unconverged=allow_unconverged)
        return DrawSurfaces(source.potentials(n_draws), tolerance)
    if isinstance(source, Potential):
        with_draws = jax.tree.map(lambda leaf: np.asarray(leaf)[None], source)
        return DrawSurfaces(with_draws, tolerance)
    if isinstance(source, Calculator) or hasattr(source, "get_potential_energy"):
        return CalculatorSurface(source, tolerance)
    raise PropertyError(
        f"properties need an ASE calculator, a posterior or a potential, not {source!r}"
    )
