"""What a convergence study leaves: text, record, picture, a setting to use, a floor."""

from __future__ import annotations

from pathlib import Path

import tomli_w

from bayespot import plots
from bayespot.convergence import Study, study_lines
from bayespot.records import write_json, write_text

__all__ = ["FLOOR", "RECOMMENDED", "write_convergence_report"]

FLOOR, RECOMMENDED = "floor.json", "recommended.toml"


def write_convergence_report(study: Study, folder: str | Path) -> list[Path]:
    """Write ``convergence.md``, ``.json`` and ``.png``, ``recommended.toml`` and ``floor.json``.

    The last two are written only where there is a setting that meets the target, and where a floor
    could be measured; those of an earlier study in the same folder are taken away.

    Parameters
    ----------
    study : Study
    folder : path
        Where to write.

    Returns
    -------
    list of Path
        The files.
    """
    folder = Path(folder)
    text = folder / "convergence.md"
    lines = [*study_lines(study), "", "![errors against settings](convergence.png)"]
    write_text(text, "\n".join(lines) + "\n")
    record = text.with_suffix(".json")
    write_json(record, study.as_record())
    figure = plots.convergence_page(study)
    written = [text, record, plots.save(figure, text.with_suffix(".png"))]
    for name in (FLOOR, RECOMMENDED):
        (folder / name).unlink(missing_ok=True)
    if study.recommended is not None:
        comment = f"# keywords of {study.code} that meet the target; see convergence.md\n"
        write_text(folder / RECOMMENDED, comment + tomli_w.dumps(dict(study.recommended.settings)))
        written.append(folder / RECOMMENDED)
    if study.floor is not None:
        write_json(folder / FLOOR, dict(study.floor))
        written.append(folder / FLOOR)
    return written
