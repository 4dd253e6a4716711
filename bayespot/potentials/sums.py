"""Sums of forms as one form: ``Morse(...) + ZBL(...)``.

The class of a sum is made once for each list of components. It is a form like any other: its
parameters are those of its components, always with the component's name in front ("morse_D",
"zbl_cutoff"), and one ``e0``. Its name, "Morse+ZBL", stands in configurations and posteriors.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np

from bayespot.errors import PriorError, SpeciesError
from bayespot.graph import Chunk
from bayespot.potentials.base import Parameter, Potential, hyper, param
from bayespot.potentials.priors import Prior

SHARED_KINDS = ("species", "pair", "triplet")
"""Kinds of entries that mean the same in every form; others get their component's name."""


class SumPotential(Potential):
    r"""Sum of other forms, :math:`E = \sum_k E_k`, with one energy offset per species.

    Made by ``+`` or by `sum_form`, not by hand.
    """

    components: ClassVar[tuple[type[Potential], ...]] = ()
    prefixes: ClassVar[tuple[str, ...]] = ()
    owners: ClassVar[dict[str, tuple[int, Parameter]]] = {}
    abstract: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for k in range(len(self.components)):
            part = self.part(k)
            part.replace()  # made anew, so that the component checks its own values

    def part(self, k: int) -> Potential:
        """Component number ``k`` with its parameters, and zero for its offsets."""
        form, prefix = self.components[k], self.prefixes[k]
        part = object.__new__(form)
        object.__setattr__(part, "species", self.species)
        object.__setattr__(part, "e0", np.zeros(len(self.species)))
        for name in _own_fields(form):
            object.__setattr__(part, name, getattr(self, f"{prefix}_{name}"))
        return part

    def parts_of_draws(self) -> list[Potential]:
        """All components of a sum whose leaves have a leading axis of draws; the first has e0."""
        parts = self.parts
        for k, part in enumerate(parts):
            object.__setattr__(part, "e0", np.asarray(self.e0) * (k == 0))
        return parts

    @property
    def parts(self) -> list[Potential]:
        """All components, see `part`."""
        return [self.part(k) for k in range(len(self.components))]

    def coordinates(self, per: str) -> list[str]:
        """See `Potential.coordinates`."""
        if per in SHARED_KINDS:
            return super().coordinates(per)
        for k, item in self.owners.values():
            if per == _kind(self.prefixes[k], item.per):
                return self.part(k).coordinates(item.per)
        return super().coordinates(per)

    def prior_of(self, item: Parameter, entry: int) -> Prior:
        """The component's prior."""
        if item.name not in self.owners:
            return item.prior
        k, own = self.owners[item.name]
        return self.part(k).prior_of(own, entry)

    @property
    def reach(self) -> float:
        """The largest reach of the components, Å."""
        return max(part.reach for part in self.parts)

    @classmethod
    def reach_of_priors(cls, hypers: Mapping[str, Any], priors: Mapping[str, Sequence[Prior]]
                        ) -> float:
        """Largest reach that the priors of any component allow, Å."""
        found = []
        for form, prefix in zip(cls.components, cls.prefixes, strict=True):
            own = {name: hypers[f"{prefix}_{name}"] for name in form.hypers()}
            its = {
                name: priors[f"{prefix}_{name}"]
                for name in _own_fields(form) if f"{prefix}_{name}" in priors
            }
            found.append(form.reach_of_priors({**own, "species": hypers["species"]},
                                              {**its, "e0": priors["e0"]}))
        return max(found)

    def energy_and_edge_gradient(self, chunk: Chunk) -> tuple[Any, Any]:
        """See `Potential.energy_and_edge_gradient`."""
        energies, gradients = zip(
            *(part.energy_and_edge_gradient(chunk) for part in self.parts), strict=True
        )
        return sum(energies[1:], energies[0]), sum(gradients[1:], gradients[0])


def add(*potentials: Potential) -> SumPotential:
    """The sum of potentials; their offsets are added, sums are taken apart first.

    Raises
    ------
    SpeciesError
        If the species or their order differ.
    """
    species = potentials[0].species
    for other in potentials[1:]:
        if other.species != species:
            raise SpeciesError(
                f"a sum needs the same species in the same order, got {species} and "
                f"{other.species}"
            )
    parts: list[Potential] = []
    for one in potentials:
        parts += one.parts if isinstance(one, SumPotential) else [one]
    form = sum_form(*(type(part) for part in parts))
    values = {
        f"{prefix}_{name}": getattr(part, name)
        for prefix, part in zip(form.prefixes, parts, strict=True)
        for name in _own_fields(type(part))
    }
    return form(species=species, e0=sum(np.asarray(one.e0) for one in potentials), **values)


@cache
def sum_form(*components: type[Potential]) -> type[SumPotential]:
    """The class of the sum of these forms, the same one for every call.

    Raises
    ------
    PriorError
        If there are fewer than two components, or one is itself a sum.
    """
    names = [form.__name__ for form in components]
    if len(components) < 2 or any(issubclass(form, SumPotential) for form in components):
        raise PriorError(f"a sum needs two or more forms that are no sums, got {names}")
    fields: dict[str, Any] = {}
    owners: dict[str, tuple[int, Parameter]] = {}
    prefixes = _prefixes(names)
    for k, (form, prefix) in enumerate(zip(components, prefixes, strict=True)):
        for item in form.parameters():
            if item.name != "e0":
                name = f"{prefix}_{item.name}"
                owners[name] = (k, item)
                fields[name] = param(
                    unit=item.unit, symbol=item.symbol, doc=f"{form.__name__}: {item.doc}",
                    prior=item.prior, per=_kind(prefix, item.per), sampled=item.sampled,
                )
        for name, (unit, doc) in form.hypers().items():
            default = form.__dataclass_fields__[name].default
            fields[f"{prefix}_{name}"] = hyper(default, unit=unit, doc=f"{form.__name__}: {doc}")
    return type(
        "+".join(names),
        (SumPotential,),
        {
            **fields,
            "__annotations__": dict.fromkeys(fields, Any),
            "__doc__": f"Sum of {' and '.join(names)}.",
            "__module__": __name__,
            "components": components,
            "prefixes": prefixes,
            "owners": owners,
            "needs_triplets": any(form.needs_triplets for form in components),
            "abstract": False,
        },
    )


def _own_fields(form: type[Potential]) -> list[str]:
    """Parameters and settings of a component that its sum holds under its prefix."""
    names = [f.name for f in dataclasses.fields(form)]
    return [name for name in names if name not in ("species", "e0")]


def _prefixes(names: Sequence[str]) -> tuple[str, ...]:
    """"LennardJones" is lennard_jones, "ZBL" zbl; a form's second appearance has a 2."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
        seen[snake] += 1
        found.append(snake if seen[snake] == 1 else f"{snake}{seen[snake]}")
    return tuple(found)


def _kind(prefix: str, per: str) -> str:
    """Kind of entries in the sum: knots of one component are not those of another."""
    return per if per in SHARED_KINDS else f"{prefix}_{per}"
