"""Reference values of properties by an oracle, by the functions that give them for the draws.

Every calculation is kept, and every property when it is done: a run that was stopped goes on. What
the oracle could not do is noted and said; the other properties go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.config.properties import PropertiesConfig, ReferenceTable, compute
from bayespot.convergence.calculations import Calculations
from bayespot.errors import ConfigError, OracleError, PropertyError
from bayespot.oracles import make_oracle
from bayespot.oracles.ase_calculator import OracleCalculator
from bayespot.oracles.base import LabelledResult
from bayespot.properties import CalculatorSurface, Result
from bayespot.records import canonical_json, read_json, write_json

__all__ = ["REFERENCES", "read_references", "reference_run"]

REFERENCES = "references.json"


class _Kept:
    """An oracle whose labels are kept in a folder."""

    def __init__(self, table: ReferenceTable, folder: Path) -> None:
        run = table.oracle_run.model_dump()
        self._settings = dict(table.oracle_settings)
        self._calculations = Calculations(
            folder, table.oracle, lambda name, settings: make_oracle(name, settings, run=run),
            retry_failed=True,
        )
        self._oracle = self._calculations.oracle(self._settings)
        self.settings = self._oracle.settings

    def label(self, structure: Atoms) -> LabelledResult:
        """Label, from the folder where it is known."""
        found = self._calculations.get(self._oracle, self._settings, structure)
        if found.failed:
            raise OracleError(f"{structure.get_chemical_formula()}: {found.failed}")
        return LabelledResult(found.energy, np.asarray(found.forces), found.stress)


def reference_run(
    config: PropertiesConfig, folder: str | Path,
    *, happened: Callable[[str], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Compute the properties of a file with its oracle.

    Parameters
    ----------
    config : PropertiesConfig
        With a ``[reference]``.
    folder : path
        Gets references.json and the calculations.
    happened : callable, optional
        Gets a sentence after each property.

    Returns
    -------
    dict
        Of each property: ``values`` and ``errors`` by quantity, ``units``, ``problems`` and, where
        there are no values, ``failed`` with the reason.

    Raises
    ------
    ConfigError
        If there is no ``[reference]``, or the code refuses its keywords.
    """
    table, folder = config.reference, Path(folder)
    if table is None:
        raise ConfigError("there is no [reference] with an oracle in this file")
    oracle = _Kept(table, folder / "calculations")
    surfaces = CalculatorSurface(OracleCalculator(oracle), table.relax.tolerance)
    found, path = _known(config, folder), folder / REFERENCES
    for name, asked in zip(config.names, config.properties, strict=True):
        if name in table.skip or (name in found and "failed" not in found[name]):
            continue
        one = config.model_copy(update={"properties": [asked]})
        try:
            (result,) = compute(one, surfaces).values()
            found[name] = {"asked": _identity(config, name), **_row(result)}
            text = f"{len(result.quantities)} numbers"
        except (OracleError, PropertyError) as error:
            found[name] = {"asked": _identity(config, name), "failed": str(error)}
            text = f"no values: {error}"
        write_json(path, {"label": table.label, "oracle": dict(oracle.settings), "found": found})
        if happened is not None:
            problems = found[name].get("problems", [])
            happened("; ".join([f"{table.label}, {name}: {text}", *problems]))
    return found


def read_references(config: PropertiesConfig, folder: str | Path
                    ) -> dict[str, dict[str, dict[str, float]]]:
    """References of a file: those written in it, and those its oracle computed into the folder.

    Parameters
    ----------
    config : PropertiesConfig
    folder : path
        Of `reference_run`; it may be missing.

    Returns
    -------
    dict
        Name of the property to label to quantity to value.
    """
    merged: dict[str, dict[str, dict[str, float]]] = {
        name: dict(asked.reference)
        for name, asked in zip(config.names, config.properties, strict=True)
    }
    if config.reference is None:
        return merged
    for name, row in _known(config, Path(folder)).items():
        values = {k: v for k, v in row.get("values", {}).items() if v is not None}
        if values:
            label = config.reference.label
            merged[name][label] = merged[name].get(label, {}) | values
    return merged


def _known(config: PropertiesConfig, folder: Path) -> dict[str, dict[str, Any]]:
    """What was computed for properties as the file asks for them now."""
    path = folder / REFERENCES
    if not path.is_file():
        return {}
    return {
        name: row for name, row in read_json(path)["found"].items()
        if name in config.names and row["asked"] == _identity(config, name)
    }  # fmt: skip


def _identity(config: PropertiesConfig, name: str) -> str:
    """Everything that decides the value of a property, as one text."""
    asked = config.properties[config.names.index(name)]
    table = config.reference
    return canonical_json({
        "property": asked.model_dump(exclude={"name", "reference", "show"}, exclude_none=True),
        "crystals": {key: one.model_dump() for key, one in config.crystals.items()},
        "oracle": {"name": table.oracle, "settings": dict(table.oracle_settings)},
        "relax": table.relax.model_dump(),
    })  # fmt: skip


def _row(result: Result) -> Mapping[str, Any]:
    return {
        "values": {k: float(q.values[0]) for k, q in result.quantities.items()},
        "errors": {k: float(q.error[0]) for k, q in result.quantities.items()},
        "units": {k: q.unit for k, q in result.quantities.items()},
        "problems": result.problems,
    }
