"""Where labels come from: a calculation, or an archive of earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bayespot.data.dataset import Dataset
from bayespot.errors import ConfigError
from bayespot.oracles.archive import ArchiveOracle
from bayespot.oracles.base import (
    MAX_FORCE,
    LabelledResult,
    Oracle,
    calculation_key,
    check_label,
    label_provenances,
    structure_hash,
)
from bayespot.oracles.calculators import CalculatorOracle
from bayespot.oracles.run_settings import Rung, RunSettings

__all__ = [
    "MAX_FORCE",
    "ArchiveOracle",
    "CalculatorOracle",
    "LabelledResult",
    "Oracle",
    "RunSettings",
    "Rung",
    "calculation_key",
    "check_label",
    "label_provenances",
    "make_oracle",
    "structure_hash",
]


def make_oracle(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    archive: Dataset | None = None,
    run: RunSettings | Mapping[str, Any] | None = None,
) -> Oracle:
    """Oracle from its name in a configuration file.

    Parameters
    ----------
    name : str
        ``"archive"``, ``"gpaw"``, ``"espresso"``, ``"chgnet"`` or any ASE calculator.
    settings : mapping, optional
        Keywords of the calculator.
    archive : Dataset, optional
        Where the archive oracle looks.
    run : RunSettings or mapping, optional
        Command, limits, scratch folder and ladder of a calculation.

    Raises
    ------
    ConfigError
        Unknown name, unusable keywords, or an archive oracle without an archive.
    """
    if name != "archive":
        return CalculatorOracle(name, settings, run=run)
    if archive is None:
        raise ConfigError("oracle = 'archive' needs a labelled pool; set [learn] pool to one")
    if settings:
        raise ConfigError(
            f"oracle = 'archive' takes no settings, got {sorted(settings)}; remove "
            "[learn.oracle_settings] or name a calculator"
        )
    if run:
        raise ConfigError("oracle = 'archive' runs nothing; remove [learn.oracle_run]")
    return ArchiveOracle(archive)
