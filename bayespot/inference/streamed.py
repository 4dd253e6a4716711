"""A linear fit to data that are larger than memory: the data pass by, and sums of them stay.

What the posterior of a linear potential needs of the data is the Gram matrices of
`bayespot.inference.grams`, by family. They are added up block by block of a
`bayespot.data.stream.Stream`. Of the structures themselves three things must be known beforehand,
the scales of the priors, the kinds of label and the families; a first pass finds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NoReturn

import jax
import numpy as np

from bayespot.data.dataset import Dataset
from bayespot.data.stream import Stream
from bayespot.errors import LabelError, PriorError
from bayespot.graph import CHUNK_ATOMS
from bayespot.likelihood import (
    FitProblem,
    NoiseFloor,
    energies_and_counts,
    lowest_bond,
    reference_of,
)
from bayespot.potentials.base import Potential
from bayespot.potentials.priors import Prior, Reference


class StreamedProblem:
    """A `bayespot.likelihood.FitProblem` whose data stay on disk; for `linear_gaussian`.

    A fit in memory has the same posterior: the sums are made in the same order. The file of this
    one holds neither labels nor likelihoods of single structures.

    Parameters
    ----------
    potential : Potential
        Linear in its parameters.
    stream : Stream
    priors, fixed, reference, floor, nu_forces
        See `FitProblem`.
    misfit : {"none", "tempered"}
        What is done about a form that cannot be right. Unlike that of `FitProblem` the default is
        nothing: the temperature of a linear form comes from families left out.
    temperature : float or "frederiksen", optional
        Of ``misfit="tempered"``. The rule that leaves families out needs every label in memory.

    Raises
    ------
    PriorError
        If the treatment of misfit needs the data in memory.
    LabelError
        If no structure has a label, and what reading the files raises.
    """

    def __init__(
        self,
        potential: Potential,
        stream: Stream,
        *,
        priors: Mapping[str, Prior] | None = None,
        fixed: Mapping[str, float] | None = None,
        reference: Reference | None = None,
        floor: NoiseFloor | None = None,
        nu_forces: float = 6.0,
        misfit: str = "none",
        temperature: float | str | None = None,
    ) -> None:
        if misfit not in ("none", "tempered") or (
            misfit == "tempered" and temperature in (None, "families")
        ):
            raise PriorError(
                f"misfit={misfit!r}, temperature={temperature!r}: families are left out of data in "
                "memory only. For a stream take misfit='none', or 'tempered' with a number or "
                "'frederiksen'; a temperature found on a part of the data is one"
            )
        scales, kinds = _Scales(potential.species), {}
        for block in stream.scan():
            scales.add(block)
            for k, label in enumerate(block.labels):
                for kind in label.present:
                    if kind not in kinds:
                        kinds[kind] = block[k]
        if not kinds:
            raise LabelError(f"none of the {len(stream)} structures of {stream.source} has a label")
        # A few structures that have every kind of label stand for all.
        first, *others = kinds.values()
        for other in others:
            first = first + other
        self._form = FitProblem(
            potential, first, priors=priors, fixed=fixed,
            reference=reference or scales.reference(), floor=floor, nu_forces=nu_forces,
            misfit=misfit, temperature=temperature,
        )
        self.dataset = stream
        self.initial, self.space = self._form.initial, self._form.space
        self.reference, self.floor = self._form.reference, self._form.floor
        self.nu_forces, self.cutoff = self._form.nu_forces, self._form.cutoff
        self.misfit, self.temperature = misfit, temperature

    def parts(self) -> Iterator[FitProblem]:
        """The problem with one block of the data after the other."""
        together = max(CHUNK_ATOMS, self.dataset.largest)
        on_cpu = jax.default_backend() == "cpu"
        graph = None
        for block in self.dataset.blocks(together):
            part = self._form.on(block, chunk_atoms=together if on_cpu else None, like=graph)
            graph = part.graph  # the next is padded to it: programs are compiled for few shapes
            yield part
            del part

    @property
    def data(self) -> NoReturn:
        """There is none in memory: raises `PriorError`."""
        raise PriorError("the data of a StreamedProblem are not in memory: linear_gaussian is the "
                         "only method that takes one; others need bayespot.read and a FitProblem")

    graph = data


class _Scales:
    """`bayespot.likelihood.reference_from_data`, block by block.

    Of every structure the energy and the composition are kept.
    """

    def __init__(self, species: tuple[str, ...]) -> None:
        self.species = species
        self.lowest, self.length = np.inf, None
        self.first_length: float | None = None
        self.energies: list[np.ndarray] = []
        self.counts: list[np.ndarray] = []

    def add(self, block: Dataset) -> None:
        """Take a block into account."""
        energies, counts = energies_and_counts(block, self.species)
        self.energies.append(energies)
        self.counts.append(counts)
        lower = np.flatnonzero(np.where(np.isfinite(energies), energies, np.inf) < self.lowest)
        at, length = lowest_bond(block.structures, lower[np.argsort(energies[lower])])
        if length is not None:
            self.lowest, self.length = energies[at], length
        if self.length is None and self.first_length is None:
            self.first_length = lowest_bond(block.structures, range(len(block)))[1]

    def reference(self) -> Reference:
        """The scales of all blocks."""
        return reference_of(self.length or self.first_length, np.concatenate(self.energies),
                            np.concatenate(self.counts))
