"""The TOML file of `bayespot properties`: crystals, properties, references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols
from ase.io import read as read_structure
from pydantic import Field, ValidationError

from bayespot import properties as functions
from bayespot.config.loading import read_toml
from bayespot.config.messages import config_error, did_you_mean, sentence
from bayespot.config.tables import Count, Number, OracleRunTable, Positive, Table
from bayespot.properties import Result, Surfaces, Tolerance
from bayespot.properties.propagation import Propagation
from bayespot.units import GPA

__all__ = ["PropertiesConfig", "compute", "crystals_of", "load_properties"]

Sizes = Annotated[list[Count], Field(min_length=1)]
Three = Annotated[list[Number], Field(min_length=3, max_length=3)]
Indices = Annotated[list[int], Field(min_length=3, max_length=3)]


class CrystalTable(Table):
    """A crystal: a file that ASE reads, or a structure of `ase.build.bulk`, or "beta-tin"."""

    file: str | None = None
    structure: str | None = None
    element: str | None = None
    a: Positive | None = None
    c: Positive | None = None


class Asked(Table):
    """What all properties have: a name, a crystal, and references by label and quantity."""

    name: str | None = None
    crystal: str | None = None
    show: list[str] | None = None
    reference: dict[str, dict[str, Number]] = Field(default_factory=dict)


class LatticeTable(Asked):
    """See `bayespot.properties.lattice`."""

    kind: Literal["lattice"]
    atom_energies: dict[str, Number] | None = None


class StateTable(Asked):
    """See `bayespot.properties.equation_of_state`."""

    kind: Literal["equation_of_state"]
    volumes: list[Positive] | None = None


class ElasticTable(Asked):
    """See `bayespot.properties.elastic`."""

    kind: Literal["elastic"]
    step: Positive | None = None


class VacancyTable(Asked):
    """See `bayespot.properties.vacancy`."""

    kind: Literal["vacancy"]
    sizes: Sizes | None = None
    site: Annotated[int, Field(ge=0)] | None = None
    starts: Count | None = None
    chemical_potentials: dict[str, Number] | None = None


class InterstitialTable(Asked):
    """See `bayespot.properties.interstitial`."""

    kind: Literal["interstitial"]
    position: Three | None = None
    dumbbell: Three | None = None
    site: Annotated[int, Field(ge=0)] | None = None
    species: str | None = None
    separation: Positive | None = None
    sizes: Sizes | None = None
    starts: Count | None = None
    chemical_potentials: dict[str, Number] | None = None


class SurfaceTable(Asked):
    """See `bayespot.properties.surface_energy`."""

    kind: Literal["surface_energy"]
    miller: Indices
    layers: Sizes | None = None
    repeat: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    cut: Number | None = None
    pairing: Number | None = None


class FaultTable(Asked):
    """See `bayespot.properties.stacking_fault`."""

    kind: Literal["stacking_fault"]
    miller: Indices | None = None
    layers: Sizes | None = None
    shift: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    spacing: Literal["narrow", "wide"] | None = None


class PhononTable(Asked):
    """See `bayespot.properties.phonons`."""

    kind: Literal["phonons"]
    size: Count | None = None
    mesh: Count | None = None
    step: Positive | None = None


class ThermalTable(Asked):
    """See `bayespot.properties.quasi_harmonic`."""

    kind: Literal["quasi_harmonic"]
    temperature: Positive | None = None
    volumes: list[Positive] | None = None
    size: Count | None = None
    mesh: Count | None = None


class TransitionTable(Asked):
    """See `bayespot.properties.transition_pressure`; ``crystal`` becomes ``to``."""

    kind: Literal["transition_pressure"]
    to: str
    volumes: list[Positive] | None = None


class MigrationTable(Asked):
    """See `bayespot.properties.vacancy_migration`."""

    kind: Literal["vacancy_migration"]
    size: Count | None = None
    images: Count | None = None
    force: Positive | None = None


PropertyTable = Annotated[
    LatticeTable | StateTable | ElasticTable | VacancyTable | InterstitialTable | SurfaceTable
    | FaultTable | PhononTable | ThermalTable | TransitionTable | MigrationTable,
    Field(discriminator="kind"),
]

KINDS: dict[str, Callable[..., Result]] = {
    kind: getattr(functions, kind) for kind in (
        "lattice", "equation_of_state", "elastic", "vacancy", "interstitial", "surface_energy",
        "stacking_fault", "phonons", "quasi_harmonic", "transition_pressure", "vacancy_migration",
    )
}  # fmt: skip


class RelaxTable(Table):
    """When a structure counts as relaxed: eV/Å and GPa."""

    forces: Positive = 1e-5
    stress_GPa: Positive = 3e-5  # noqa: N815  (the key carries its unit)
    steps: Count = 500

    @property
    def tolerance(self) -> Tolerance:
        """The same in eV/Å and eV/Å^3."""
        return Tolerance(self.forces, self.stress_GPa / GPA, self.steps)


class ReferenceTable(Table):
    """The same properties by an oracle, see `bayespot.property_references`.

    ``oracle_settings`` are its keywords; those of the training data make the comparison fair.
    ``skip`` names properties that are too dear for it.
    """

    label: str = "DFT"
    oracle: str
    oracle_settings: dict[str, Any] = Field(default_factory=dict)
    oracle_run: OracleRunTable = OracleRunTable()
    relax: RelaxTable = RelaxTable(forces=0.01, stress_GPa=0.05, steps=100)
    skip: list[str] = Field(default_factory=list)


class PropertiesConfig(Table):
    """A whole file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "properties"
    posterior: str
    draws: Count = 32
    propagation: Literal["auto", "exact", "linear"] = "auto"
    allow_unconverged: bool = False
    relax: RelaxTable = RelaxTable()
    reference: ReferenceTable | None = None
    crystals: Annotated[dict[str, CrystalTable], Field(min_length=1)]
    properties: Annotated[list[PropertyTable], Field(min_length=1)]

    @property
    def names(self) -> list[str]:
        """A name for every property that is asked for; the kind where the file gives none."""
        return [p.name or p.kind.replace("_", " ") for p in self.properties]


def load_properties(path: str | Path) -> PropertiesConfig:
    """Read and check the file; relative paths in it are relative to its folder.

    Raises
    ------
    ConfigError
        With all mistakes of the file.
    """
    path = Path(path)
    content = read_toml(path)
    try:
        config = PropertiesConfig.model_validate(content)
    except ValidationError as error:
        found = [_said(e, content) for e in error.errors()]
        raise config_error(str(path), list(dict.fromkeys(found))) from None
    config = _placed(config, path.parent.resolve())
    mistakes = _mistakes(config)
    if mistakes:
        raise config_error(str(path), mistakes)
    return config


def _said(error: Any, content: Mapping[str, Any]) -> str:
    if error["type"].startswith("union_tag"):
        given = error["input"].get("kind") if isinstance(error["input"], dict) else None
        hint = did_you_mean(str(given), KINDS) if given else ""
        at = "".join(f"[{step}]" if isinstance(step, int) else step for step in error["loc"])
        return f"{at}.kind = {given!r} is no property{hint or ';'} known: {', '.join(KINDS)}"
    return sentence(error, content, PropertiesConfig)


def _placed(config: PropertiesConfig, folder: Path) -> PropertiesConfig:
    crystals = {
        name: table if table.file is None
        else table.model_copy(update={"file": str(folder / table.file)})
        for name, table in config.crystals.items()
    }  # fmt: skip
    return config.model_copy(
        update={"posterior": str(folder / config.posterior), "crystals": crystals}
    )


def _mistakes(config: PropertiesConfig) -> list[str]:
    found = []
    if not Path(config.posterior).is_file():
        found.append(f"posterior = {config.posterior!r}: there is no such file; run a fit first")
    for name, table in config.crystals.items():
        found += [f"crystals.{name}: {text}" for text in _crystal_mistakes(table)]
    if config.reference is not None:
        for name in config.reference.skip:
            if name not in config.names:
                hint = did_you_mean(name, config.names)
                found.append(f"reference.skip: {name!r} is no property of this file{hint or ';'} "
                             f"there are: {', '.join(config.names)}")
    twice = sorted({name for name in config.names if config.names.count(name) > 1})
    found += [f"two properties are called {name!r}: give them a name" for name in twice]
    for k, asked in enumerate(config.properties):
        given = {"crystal": asked.crystal}
        if isinstance(asked, TransitionTable):
            given["to"] = asked.to
        for key, name in given.items():
            if name is not None and name not in config.crystals:
                hint = did_you_mean(name, config.crystals)
                found.append(
                    f"properties[{k}].{key} = {name!r} is no crystal{hint or ';'} there are: "
                    f"{', '.join(config.crystals)}"
                )
    return found


def _crystal_mistakes(table: CrystalTable) -> list[str]:
    if (table.file is None) == (table.structure is None):
        return ["give a file, or a structure with element and a"]
    if table.file is not None:
        return [] if Path(table.file).is_file() else [f"file = {table.file!r}: there is none"]
    found = []
    known = (*_BULK, "beta-tin")
    if table.structure not in known:
        hint = did_you_mean(str(table.structure), known)
        found.append(f"structure = {table.structure!r} is unknown{hint or ';'} known: "
                     f"{', '.join(known)}")  # fmt: skip
    if table.element not in chemical_symbols[1:]:
        found.append(f"element = {table.element!r} is no chemical symbol")
    if table.a is None or (table.structure in ("hcp", "beta-tin") and table.c is None):
        found.append("a is missing, or c of hcp and beta-tin (Å)")
    return found


_BULK = ("sc", "fcc", "bcc", "hcp", "diamond")


def crystals_of(config: PropertiesConfig) -> dict[str, Atoms]:
    """The crystals of the file, the first of them the default of all properties."""
    made = {}
    for name, table in config.crystals.items():
        if table.file is not None:
            made[name] = read_structure(table.file)
        elif table.structure == "beta-tin":
            made[name] = Atoms(
                f"{table.element}4", cell=[table.a, table.a, table.c], pbc=True,
                scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.25], [0.5, 0, 0.75]],
            )  # fmt: skip
        else:
            extra = {"c": table.c} if table.c is not None else {}
            made[name] = bulk(table.element, table.structure, a=table.a, **extra)
    return made


def compute(
    config: PropertiesConfig, surfaces: Surfaces, told: Callable[[str, Result], None] | None = None
) -> dict[str, Result]:
    """Compute everything the file asks for on these surfaces.

    Parameters
    ----------
    config : PropertiesConfig
    surfaces : Surfaces
        Of the draws, or of a DFT calculator for references by the same settings, which has no
        spread to propagate.
    told : callable, optional
        Gets the name and result of every property.
    """
    crystals, results = crystals_of(config), {}
    propagation = Propagation(surfaces, config.propagation)
    default = next(iter(crystals))
    for name, asked in zip(config.names, config.properties, strict=True):
        settings = asked.model_dump(
            exclude={"kind", "name", "crystal", "reference", "show", "to"}, exclude_none=True
        )
        among = [crystals[asked.crystal or default]]
        if isinstance(asked, TransitionTable):
            among.append(crystals[asked.to])
        results[name] = propagation.result(KINDS[asked.kind], *among, **settings)
        if told is not None:
            told(name, results[name])
    return results
