"""The command of convergence studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(help="TOML file of the study.", metavar="CONFIG.toml")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder of the results; the study's name if none."),
]


def converge(
    config: ConfigFile,
    out: Out = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Make failed calculations again.")
    ] = False,
) -> None:
    """Scan settings of the DFT code: errors, a setting to use, the noise floor of its labels.

    The same command continues a study that was stopped. Exit code 1: no setting meets the target.
    """
    from bayespot.runtime import configure

    configure()
    from bayespot.cli.screen import Screen
    from bayespot.config.convergence import (
        calculations_of,
        load_convergence,
        scans_of,
        structures_of,
        target_of,
    )
    from bayespot.convergence import brief_lines, run_study
    from bayespot.report import write_convergence_report

    screen, described = Screen(), load_convergence(config)
    folder = out or Path(described.name)
    dataset = structures_of(described)
    screen.print(dataset.summary(), markup=False)
    said = ""

    def happened(done: int, total: int, what: str) -> None:
        nonlocal said
        progress.sampled(done, total, "calculations")
        setting = what.rpartition(":")[0]
        if setting != said:
            screen.print(f"{done:4} of {total}  {setting}", markup=False)
        said = setting

    with screen.progress() as progress:
        study = run_study(
            calculations_of(described, folder / "calculations", retry_failed=retry_failed),
            described.settings, scans_of(described), dataset, target_of(described),
            production=described.production, happened=happened,
        )  # fmt: skip
    files = write_convergence_report(study, folder)
    for line in brief_lines(study):
        screen.print(line, style="yellow" if line.startswith("note: ") else None, markup=False)
    screen.print(f"written to {folder}: {', '.join(f.name for f in files)}", markup=False)
    if study.recommended is None:
        raise typer.Exit(1)
