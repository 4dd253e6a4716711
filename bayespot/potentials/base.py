"""How a potential is declared: parameters, fixed settings, registry.

A potential is an immutable pytree. Its sampled parameters are the leaves, its species and settings
are static. So a set of posterior draws is an array of potentials: the same tree with one more axis.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, dataclass_transform

import jax
import numpy as np

from bayespot.errors import PriorError, SpeciesError
from bayespot.graph import Chunk, pair_index
from bayespot.potentials.priors import Normal, Prior, Reference


@dataclass(frozen=True)
class Parameter:
    """The declaration of one sampled parameter."""

    name: str
    unit: str
    symbol: str
    doc: str
    prior: Prior
    per: str
    sampled: bool


def param(
    *, unit: str, symbol: str, doc: str, prior: Prior, per: str = "pair", sampled: bool = True
) -> Any:
    """Declare a sampled parameter of a potential.

    Parameters
    ----------
    unit : str
        "eV", "Å", "1/Å" or "1" for a pure number.
    symbol : str
        LaTeX, without dollar signs.
    doc : str
        What it is, in half a line.
    prior : Prior
        Proper; its bounds are the parameter's support.
    per : str
        One entry for each "species" (in order), "pair" (A-A, A-B, ..., B-B, ...) or "triplet"
        (centre A with A-A, A-B, ...; then centre B, ...). A form with entries of another kind
        (the knots of a spline, the functions of a basis) names them in its `coordinates`.
    sampled : bool
        False for a number that a fit holds at its value unless the user gives it a prior (a
        cutoff, a switching width).
    """
    metadata = {"param": (unit, symbol, doc, prior, per, sampled)}
    return dataclasses.field(default=None, kw_only=True, metadata=metadata)


def hyper(default: float | int | str, *, unit: str = "1", doc: str) -> Any:
    """Declare a fixed setting (a cutoff, a switching width): static, never sampled."""
    return dataclasses.field(default=default, kw_only=True, metadata={"hyper": (unit, doc)})


@dataclass_transform(kw_only_default=True, field_specifiers=(param, hyper))
class Potential:
    """Base of all functional forms.

    A subclass declares its parameters with `param`, its settings with `hyper`, and inherits one of
    the shapes (`PairPotential`, `ThreeBodyPotential`, ...), which turn scalar formulas into
    energies and edge gradients. Parameters that are not given start at their prior medians.

    Every potential has an energy offset per species, ``e0``: the energy of an atom without
    neighbours in the zero of energy of the data.
    """

    species: tuple[str, ...] = ("X",)
    e0: Any = param(
        unit="eV",
        symbol="E_0",
        doc="energy of an isolated atom, in the data's zero of energy",
        prior=Normal(0.0, 10.0, scale="offset"),
        per="species",
    )

    abstract: ClassVar[bool] = True
    needs_triplets: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _finish(cls)

    def __post_init__(self) -> None:
        species = (self.species,) if isinstance(self.species, str) else tuple(self.species)
        if not species or len(set(species)) != len(species):
            raise SpeciesError(f"species={species!r}: give each species once, at least one")
        object.__setattr__(self, "species", species)
        for item in self.parameters():
            value = getattr(self, item.name)
            count = len(self.coordinates(item.per))
            if value is None:
                value = [self._default(item, k) for k in range(count)]
            value = np.asarray(value, dtype=np.float64)
            if value.ndim > 1 or (value.ndim == 1 and value.size not in (1, count)):
                raise PriorError(
                    f"{type(self).__name__}.{item.name} got {value.size} values, it has {count} "
                    f"({', '.join(self.coordinates(item.per))})"
                )
            object.__setattr__(self, item.name, np.broadcast_to(value, (count,)).copy())

    def _default(self, item: Parameter, entry: int) -> float:
        """Prior median; for a number that is held the centre itself, also where it is bounded."""
        prior = self.prior_of(item, entry).resolve(
            Reference(), entry if item.per == "species" else 0
        )
        return float(prior.forward(0.0)) if item.sampled else prior.center

    @classmethod
    def parameters(cls) -> list[Parameter]:
        """Declared parameters in order of declaration, ``e0`` last."""
        found = [
            Parameter(f.name, *f.metadata["param"])
            for f in dataclasses.fields(cls)
            if "param" in f.metadata
        ]
        return [p for p in found if p.name != "e0"] + [p for p in found if p.name == "e0"]

    @classmethod
    def hypers(cls) -> dict[str, tuple[str, str]]:
        """Name to (unit, doc) of the fixed settings."""
        return {
            f.name: f.metadata["hyper"] for f in dataclasses.fields(cls) if "hyper" in f.metadata
        }

    def coordinates(self, per: str) -> list[str]:
        """Names of the entries: "Si", "Si-O", or "O-Si-O" with the centre in the middle.

        A form with other kinds of entries extends this; their names start with the species they
        belong to and a colon, as in "Si-O:3".
        """
        n = len(self.species)
        pairs = [(a, b) for a in range(n) for b in range(a, n)]
        if per == "species":
            return list(self.species)
        if per == "pair":
            return ["-".join(self.species[k] for k in pair) for pair in pairs]
        if per != "triplet":
            raise PriorError(
                f"{type(self).__name__} has a parameter per {per!r}: use species, pair or triplet, "
                "or name the entries in its method coordinates"
            )
        return [
            f"{self.species[a]}-{center}-{self.species[b]}"
            for center in self.species
            for a, b in pairs
        ]

    def prior_of(self, item: Parameter, entry: int) -> Prior:
        """Prior of one entry: the declared one, where a form does not refine it entry by entry."""
        return item.prior

    @property
    def reach(self) -> float:
        """Distance beyond which atoms do not see each other, Å."""
        raise TypeError(f"{type(self).__name__} must say how far it reaches")

    @classmethod
    def reach_of_priors(cls, hypers: Mapping[str, Any], priors: Mapping[str, Sequence[Prior]]
                        ) -> float:
        """Largest reach that the priors allow, Å: the cutoff of the graph of a fit."""
        raise TypeError(f"{cls.__name__} must say how far its priors let it reach")

    def energy_and_edge_gradient(self, chunk: Chunk) -> tuple[Any, Any]:
        """Energy of every atom without its offset, [A], and dE/d(edge vector), [E, 3]."""
        raise TypeError(f"{type(self).__name__} must inherit a shape, for example PairPotential")

    def __add__(self, other: Potential) -> Potential:
        """Both as one potential, with parameters named by component: see `potentials.sums`."""
        if not isinstance(other, Potential):
            return NotImplemented
        return importlib.import_module("bayespot.potentials.sums").add(self, other)

    def replace(self, **values: Any) -> Self:
        """A copy with other parameter values or settings."""
        return dataclasses.replace(self, **values)

    def at(self, per: str, index: Any) -> Self:
        """A view in which each parameter of kind ``per`` is the entry for every item of ``index``.

        With one species there is one entry and no gather.
        """
        single = len(self.coordinates(per)) == 1
        view = object.__new__(type(self))
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if "param" in f.metadata and f.metadata["param"][4] == per:
                value = value[0] if single else value[index]
            object.__setattr__(view, f.name, value)
        return view

    def pair_number(self, a: int, b: int) -> int:
        """Index of the unordered species pair (a, b)."""
        return int(pair_index(np.asarray(a), np.asarray(b), len(self.species)))


def _finish(cls: type) -> None:
    """Make a class a frozen dataclass and a pytree: parameters are leaves, the rest is static."""
    dataclass(frozen=True, eq=False)(cls)
    leaves = [f.name for f in dataclasses.fields(cls) if "param" in f.metadata]
    static = [f.name for f in dataclasses.fields(cls) if "param" not in f.metadata]

    def flatten(tree: Any) -> tuple[list, tuple]:
        children = [(jax.tree_util.GetAttrKey(n), getattr(tree, n)) for n in leaves]
        return children, tuple(getattr(tree, n) for n in static)

    def unflatten(aux: tuple, children: Sequence) -> Any:
        tree = object.__new__(cls)
        for name, value in (*zip(static, aux, strict=True), *zip(leaves, children, strict=True)):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)


_finish(Potential)


def registry() -> dict[str, type[Potential]]:
    """All functional forms: every public, complete `Potential` in a file of this folder.

    A new form needs one file and no other edit.
    """
    import bayespot.potentials as package

    forms: dict[str, type[Potential]] = {}
    for module in pkgutil.iter_modules(package.__path__):
        loaded = importlib.import_module(f"{package.__name__}.{module.name}")
        for name, item in vars(loaded).items():
            if (
                isinstance(item, type)
                and issubclass(item, Potential)
                and item.__module__ == loaded.__name__
                and not item.__dict__.get("abstract", False)
            ):
                forms[name] = item
    return dict(sorted(forms.items()))


def form_named(name: str) -> type[Potential]:
    """The form of a name: in this folder, a user's own that is imported, or a sum like "Morse+ZBL".

    Raises
    ------
    PriorError
        If there is none.
    """
    known = registry()
    stack: list[type[Potential]] = [Potential]
    while stack:
        form = stack.pop()
        stack.extend(form.__subclasses__())
        known.setdefault(form.__name__, form)
    parts = [part.strip() for part in name.split("+")]
    for part in parts:
        if part not in known:
            names = [n for n, form in known.items() if not form.__dict__.get("abstract", False)]
            close = difflib.get_close_matches(part, names, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise PriorError(
                f"the form {part!r} is not among {', '.join(sorted(names))}: import the module "
                f"that defines it first.{hint}"
            )
    if len(parts) == 1:
        return known[name.strip()]
    # By name, as the registry loads forms: this file imports none of those that build on it.
    sums = importlib.import_module("bayespot.potentials.sums")
    return sums.sum_form(*(known[part] for part in parts))
