"""The TOML file of a convergence study: its tables, how it is read, what it describes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from bayespot.config.loading import missing_source, read_toml
from bayespot.config.messages import config_error, sentence
from bayespot.config.tables import Number, Positive, ReadTable, Table
from bayespot.convergence import Calculations, Scan, make_scan
from bayespot.data.archives import archive_names
from bayespot.data.dataset import Dataset
from bayespot.data.read import read
from bayespot.errors import ConfigError
from bayespot.oracles import Oracle, make_oracle
from bayespot.units import GPA

__all__ = [
    "ConvergenceConfig",
    "calculations_of",
    "load_convergence",
    "scans_of",
    "structures_of",
    "target_of",
]

class StructuresTable(Table):
    """Structures to calculate; their families become those of the floor."""

    source: str
    families: list[str] = Field(default_factory=list)
    read: ReadTable = ReadTable()


class ScanTable(Table):
    """One setting: its values, and what `bayespot.convergence.make_scan` does not know of it."""

    values: list[int | Number | list[int | Number]] = Field(min_length=2)
    key: str | None = None
    linked: dict[str, Number] = Field(default_factory=dict)
    tighter: Literal["larger", "smaller"] | None = None
    unit: str | None = None
    power: Positive | None = None
    refine: bool = True


class TargetTable(Table):
    """Errors that are allowed, eV/atom, eV/Å and GPa.

    Those left out are the floor that a fit assumes where none was measured; the energy per atom
    itself has no target unless it is given, because a potential learns differences.
    """

    energy: Positive | None = None
    energy_difference: Positive = 1e-3
    forces: Positive = 1e-2
    stress_GPa: Positive = 0.05  # noqa: N815  (the key carries its unit)


class ConvergenceConfig(Table):
    """A whole study. ``name`` names its folder of results."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "convergence"
    oracle: str
    structures: StructuresTable
    settings: dict[str, Any] = Field(default_factory=dict)
    run: dict[str, Any] = Field(default_factory=dict)
    scan: dict[str, ScanTable] = Field(min_length=1)
    target: TargetTable = TargetTable()
    production: Literal["recommended", "base"] = "recommended"


def load_convergence(path: str | Path) -> ConvergenceConfig:
    """Read and check the configuration of a convergence study.

    Parameters
    ----------
    path : path
        A TOML file; relative paths in it are relative to its folder.

    Raises
    ------
    ConfigError
        If the file is missing, is no TOML, or has any mistake; all of them are listed.
    """
    path = Path(path)
    content = read_toml(path)
    try:
        config = ConvergenceConfig.model_validate(content)
    except ValidationError as error:
        found = [sentence(e, content, ConvergenceConfig) for e in error.errors()]
        raise config_error(str(path), list(dict.fromkeys(found))) from None
    table = config.structures
    if table.source not in archive_names():
        source = str(path.parent.resolve() / table.source)
        table = table.model_copy(update={"source": source})
        config = config.model_copy(update={"structures": table})
    missing = missing_source("structures.source", table.source)
    if missing:
        raise config_error(str(path), [missing])
    scans_of(config)
    return config


def scans_of(config: ConvergenceConfig) -> list[Scan]:
    """Make the scans, in the order of the file.

    Raises
    ------
    ConfigError
        If a keyword or a direction is not known and not given, or values are unusable.
    """
    return [
        make_scan(config.oracle, name, **table.model_dump()) for name, table in config.scan.items()
    ]


def structures_of(config: ConvergenceConfig) -> Dataset:
    """Read the structures; labels in the file are not needed and not used.

    Raises
    ------
    ConfigError
        If a family does not occur.
    """
    table = config.structures
    dataset = read(table.source, require_labels=False, **table.read.model_dump())
    return dataset.select(family=table.families) if table.families else dataset


def target_of(config: ConvergenceConfig) -> dict[str, float]:
    """Errors that are allowed, by measure: eV/atom, eV/Å, eV/Å³."""
    target = config.target
    found = {
        "energy": target.energy,
        "energy_difference": target.energy_difference,
        "forces": target.forces,
        "stress": target.stress_GPa / GPA,
    }
    return {measure: limit for measure, limit in found.items() if limit is not None}


def calculations_of(
    config: ConvergenceConfig, folder: str | Path, *, retry_failed: bool = False
) -> Calculations:
    """Say with what to calculate, and where every calculation is kept.

    Raises
    ------
    ConfigError
        If the oracle is an archive: it has labels at one setting.
    """
    if config.oracle == "archive":
        raise ConfigError("oracle = 'archive' has labels at one setting; name a calculator")
    how = {"run": config.run} if config.run else {}

    def make(name: str, settings: Mapping[str, Any]) -> Oracle:
        return make_oracle(name, settings, **how)

    return Calculations(folder, config.oracle, make, retry_failed=retry_failed)
