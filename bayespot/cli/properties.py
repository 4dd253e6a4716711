"""The command `bayespot properties`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def properties(
    config: Annotated[
        Path, typer.Argument(help="TOML file: crystals, properties.", metavar="CONFIG.toml")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the results; its name if none.")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="First the same properties by [reference]'s oracle.")
    ] = False,
) -> None:
    """Compute properties of materials for posterior draws: error bars, table, picture."""
    from rich.table import Table

    from bayespot.runtime import configure

    configure()
    from bayespot.cli.screen import Screen
    from bayespot.config.properties import load_properties
    from bayespot.posterior import MISFIT_NONE, Posterior
    from bayespot.runs import properties_run

    screen = Screen()
    run = load_properties(config)
    posterior = Posterior.load(run.posterior)
    folder = out or Path(run.name)
    if reference:
        from bayespot.property_references import reference_run

        reference_run(
            run, folder / "reference", happened=lambda text: screen.print(text, markup=False)
        )
    draws, rows = properties_run(
        run, posterior, folder, happened=lambda text: screen.print(text, markup=False)
    )
    table = Table(title=f"{run.name}: {draws.n_draws} draws of {posterior.record['form']}")
    for column in ("property", "unit", "median", "90 %", "numerical", "failed", "references"):
        table.add_column(column)
    for row in rows:
        low, high = row.intervals[0.9]
        references = ", ".join(f"{label} {value:.4g}" for label, value in row.references.items())
        table.add_row(
            row.name, row.unit, f"{row.median:.4g}", f"{low:.4g} to {high:.4g}",
            f"{row.numerical_error:.1g}", f"{row.failed:.0%}", references or "-",
        )  # fmt: skip
    screen.print(table)
    for problem in draws.problems:
        screen.show_note(problem)
    files = "properties.nc, properties.json, properties.md, properties.png"
    screen.print(f"written to {folder}: {files}", markup=False)
    if posterior.misfit == "none":
        screen.print(MISFIT_NONE, style="yellow", markup=False)
