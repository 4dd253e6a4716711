"""Tables and pictures of a validation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bayespot import plots
from bayespot.calibration import calibration_curves
from bayespot.report.comparison import write_text
from bayespot.validation import Validation, compare

__all__ = ["write_comparison_report", "write_validation_report"]


def write_validation_report(
    validation: Validation, folder: str | Path, *, title: str = "Validation"
) -> list[Path]:
    """Write ``calibration.md``, ``calibration.json`` and ``calibration.png``.

    Parameters
    ----------
    validation : Validation
    folder : path
        Where to write; made if it does not exist.
    title : str
        First line of the text.

    Returns
    -------
    list of Path
        The files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text, record, picture = (folder / f"calibration.{kind}" for kind in ("md", "json", "png"))
    plots.save(
        plots.calibration_page(validation.table, calibration_curves(validation.cases)), picture
    )
    write_text(record, json.dumps({
        "verdict": validation.verdict(),
        "left_out": validation.folds,
        "unconverged": validation.unconverged,
        "rows": validation.table.as_records(),
    }, indent=1, ensure_ascii=False) + "\n")
    write_text(text, f"# {title}\n\n{validation.text()}\n![calibration]({picture.name})\n")
    return [text, record, picture]


def write_comparison_report(validations: Mapping[str, Validation], folder: str | Path) -> str:
    """Write ``comparison.md`` and ``comparison.json`` of several potentials.

    Parameters
    ----------
    validations : mapping
        Name to `Validation` of the same structures and folds.
    folder : path
        Where to write; made if it does not exist.

    Returns
    -------
    str
        The text.
    """
    folder, found = Path(folder), compare(validations)
    folder.mkdir(parents=True, exist_ok=True)
    text = found.text()
    record = json.dumps(found.as_record(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / "comparison.json", record + "\n")
    write_text(folder / "comparison.md", f"# {', '.join(validations)}\n\n{text}")
    return text
