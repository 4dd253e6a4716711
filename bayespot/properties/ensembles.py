"""Properties of all draws together: spreads, numerical errors, covariance, what failed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr

from bayespot.errors import PropertyError
from bayespot.properties.results import Choice, Curve, Quantity, Result

FEWEST = 4
"""Draws with a value below which there is no interval."""


@dataclass(frozen=True)
class Summary:
    """One property over the draws that have a value."""

    name: str
    unit: str
    n: int
    mean: float
    parameter_std: float
    numerical_error: float  # root mean square over draws; NaN where nothing was varied
    median: float
    intervals: Mapping[float, tuple[float, float]]  # by level
    failed: float  # share of draws without a value
    unstable: float  # share of draws on which an instability was found; NaN by expansion
    references: Mapping[str, float] = field(default_factory=dict)


class PropertyDraws:
    """Results of several property functions on the same draws.

    Parameters
    ----------
    results : mapping
        Name that people read to `Result`; all on one set of draws.
    references : mapping, optional
        Name of a result to label ("PBE") to quantity to value.
    record : mapping, optional
        What they were made with; plain JSON.

    Raises
    ------
    PropertyError
        If numbers of draws differ, or a reference belongs to no quantity.
    """

    def __init__(
        self, results: Mapping[str, Result],
        references: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        if not results:
            raise PropertyError("there are no properties: ask for one at least")
        self.results, self.record = dict(results), dict(record or {})
        self.quantities: dict[str, Quantity] = {
            f"{name}: {quantity}": value
            for name, result in self.results.items()
            for quantity, value in result.quantities.items()
        }  # fmt: skip
        counts = {len(q.values) for q in self.quantities.values()}
        if len(counts) > 1:
            raise PropertyError(f"results on {sorted(counts)} draws cannot be joined")
        self.references = _references(self.results, references or {})

    @property
    def names(self) -> list[str]:
        """Names of the properties, "result: quantity"."""
        return list(self.quantities)

    @cached_property
    def values(self) -> np.ndarray:
        """[n_draws, n_properties], NaN where there is none."""
        return np.stack([q.values for q in self.quantities.values()], axis=1)

    @cached_property
    def errors(self) -> np.ndarray:
        """Numerical errors, [n_draws, n_properties]."""
        return np.stack([q.error for q in self.quantities.values()], axis=1)

    @property
    def n_draws(self) -> int:
        """Number of draws."""
        return len(self.values)

    def covariance(self, names: Sequence[str] | None = None) -> tuple[np.ndarray, int]:
        """Joint covariance of properties, over the draws on which all of them have a value.

        Parameters
        ----------
        names : sequence of str, optional
            All properties that have values if left out.

        Returns
        -------
        covariance : ndarray [p, p]
        n : int
            How many draws that was.

        Raises
        ------
        PropertyError
            If a name is unknown, or fewer than two draws have all values.
        """
        unknown = sorted(set(names or ()) - set(self.names))
        if unknown:
            raise PropertyError(f"no property {unknown[0]!r}; there are: {', '.join(self.names)}")
        wanted = self.names if names is None else list(names)
        columns = self.values[:, [self.names.index(name) for name in wanted]]
        whole = columns[np.isfinite(columns).all(axis=1)]
        if len(whole) < 2:
            raise PropertyError(
                f"only {len(whole)} of {self.n_draws} draws have all of these properties: name "
                "those whose covariance is wanted"
            )
        return np.atleast_2d(np.cov(whole, rowvar=False)), len(whole)

    def summary(self, levels: Sequence[float] = (0.5, 0.9)) -> list[Summary]:
        """A row for every property.

        Parameters
        ----------
        levels : sequence of float
            Of the central intervals, by quantiles of the draws.
        """
        return [self._row(name, tuple(levels)) for name in self.names]

    def _row(self, name: str, levels: tuple[float, ...]) -> Summary:
        quantity = self.quantities[name]
        owner = self.results[name.split(": ")[0]]
        values = quantity.values[np.isfinite(quantity.values)]
        errors = quantity.error[np.isfinite(quantity.error)]
        nothing = (np.nan, np.nan)
        intervals = {
            level: tuple(float(q) for q in np.quantile(values, [0.5 - level / 2, 0.5 + level / 2]))
            if len(values) >= FEWEST else nothing
            for level in levels
        }  # fmt: skip
        unstable = np.zeros(self.n_draws, dtype=bool)
        for mask in owner.unstable.values():
            unstable |= mask
        # By expansion nobody looked at any draw but a few that were relaxed.
        expanded = owner.choice is not None and owner.choice.how != "exact"
        return Summary(
            name, quantity.unit, len(values),
            float(values.mean()) if len(values) else np.nan,
            float(values.std(ddof=1)) if len(values) > 1 else np.nan,
            float(np.sqrt(np.mean(errors**2))) if len(errors) else np.nan,
            float(np.median(values)) if len(values) else np.nan, intervals,
            1.0 - len(values) / self.n_draws, np.nan if expanded else float(unstable.mean()),
            self.references.get(name, {}),
        )  # fmt: skip

    @property
    def problems(self) -> list[str]:
        """What failed or was unstable, with the number of draws."""
        return [
            f"{name}: {reason}: {int(mask.sum())} of {len(mask)} draws"
            for name, result in self.results.items()
            for masks in (result.failed, result.unstable)
            for reason, mask in masks.items()
        ]

    @property
    def choices(self) -> dict[str, Choice]:
        """By result, how the spread of the parameters was propagated, where that was a choice."""
        return {name: result.choice for name, result in self.results.items() if result.choice}

    # --- file --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write netCDF: draws, errors, curves, failures; the file appears whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset = xr.Dataset(
            {"value": (("draw", "property"), self.values),
             "numerical_error": (("draw", "property"), self.errors)},
            coords={"property": self.names,
                    "unit": ("property", [q.unit for q in self.quantities.values()])},
        )  # fmt: skip
        groups = {"properties": dataset}
        description: dict[str, Any] = {}
        for number, (name, result) in enumerate(self.results.items()):
            group, description[name] = _group(result)
            groups[f"result_{number}"] = xr.Dataset(group)
        tree = xr.DataTree.from_dict(groups)
        tree.attrs["bayespot_properties"] = json.dumps(
            {"results": description, "references": self.references, "record": self.record}
        )
        part = path.with_name(f".{path.name}.part")
        tree.to_netcdf(part, engine="h5netcdf")
        os.replace(part, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file written by `save`.

        Raises
        ------
        PropertyError
            If there is no such file, or it is another one.
        """
        path = Path(path)
        if not path.is_file():
            raise PropertyError(f"there are no properties at {path}: run bayespot properties first")
        with xr.open_datatree(path, engine="h5netcdf") as opened:
            tree = opened.load()
        if "bayespot_properties" not in tree.attrs:
            raise PropertyError(f"{path} is netCDF but holds no properties")
        content = json.loads(tree.attrs["bayespot_properties"])
        results = {
            name: _result(tree[f"result_{number}"].to_dataset(), described)
            for number, (name, described) in enumerate(content["results"].items())
        }
        made = cls(results, record=content["record"])
        made.references = content["references"]
        return made


def _references(
    results: Mapping[str, Result], given: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> dict[str, dict[str, float]]:
    """By "result: quantity", label to value."""
    found: dict[str, dict[str, float]] = {}
    for name, labels in given.items():
        for label, values in labels.items():
            for quantity, value in values.items():
                results[name][quantity]
                found.setdefault(f"{name}: {quantity}", {})[label] = float(value)
    return found


def _group(result: Result) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays of one result, and what describes them."""
    arrays: dict[str, Any] = {}
    for k, quantity in enumerate(result.quantities.values()):
        arrays[f"value_{k}"] = ("draw", quantity.values)
        arrays[f"error_{k}"] = ("draw", quantity.error)
    for k, curve in enumerate(result.curves.values()):
        arrays[f"x_{k}"] = (f"point_{k}", curve.x)
        last = (f"branch_{k}",) if curve.values.ndim == 3 else ()
        arrays[f"curve_{k}"] = (("draw", f"point_{k}", *last), curve.values)
    for what in ("failed", "unstable"):
        for k, mask in enumerate(getattr(result, what).values()):
            arrays[f"{what}_{k}"] = ("draw", mask.astype("i1"))
    described = {
        "kind": result.kind,
        "quantities": {name: q.unit for name, q in result.quantities.items()},
        "curves": {name: [c.x_label, c.x_unit, c.unit, dict(c.marks)]
                   for name, c in result.curves.items()},
        "failed": list(result.failed), "unstable": list(result.unstable),
        "choice": None if result.choice is None else asdict(result.choice),
    }  # fmt: skip
    return arrays, described


def _result(arrays: xr.Dataset, described: Mapping[str, Any]) -> Result:
    """The inverse of `_group`."""
    def masks(what: str) -> dict[str, np.ndarray]:
        return {text: arrays[f"{what}_{k}"].values.astype(bool)
                for k, text in enumerate(described[what])}  # fmt: skip

    return Result(
        described["kind"],
        {name: Quantity(arrays[f"value_{k}"].values, arrays[f"error_{k}"].values, unit)
         for k, (name, unit) in enumerate(described["quantities"].items())},
        {name: Curve(arrays[f"x_{k}"].values, arrays[f"curve_{k}"].values, label, x_unit, unit,
                     marks)
         for k, (name, (label, x_unit, unit, marks)) in enumerate(described["curves"].items())},
        masks("failed"), masks("unstable"),
        None if described.get("choice") is None else Choice(**described["choice"]),
    )  # fmt: skip
