"""Commands around a campaign: the job script of its workers, and its labels as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["labels", "workers"]

workers = typer.Typer(
    name="workers", help="The workers that calculate for a campaign.", no_args_is_help=True
)


@workers.callback()
def _workers() -> None:
    """Keep `script` a command of its own: Typer would run a lone one without its name."""


@workers.command()
def script(
    config: Annotated[Path, typer.Argument(help="TOML file of the run.", metavar="CONFIG.toml")],
) -> None:
    """Print the script that the batch system will get for each job; nothing is submitted."""
    from bayespot.active.executors import job_script
    from bayespot.config import load_config, workers_of

    typer.echo(job_script(workers_of(load_config(config))), nl=False)


def labels(
    folder: Annotated[Path, typer.Argument(help="Folder of one campaign.")],
    out: Annotated[Path, typer.Argument(help="Extended XYZ to write.", metavar="LABELS.xyz")],
) -> None:
    """Write the labels that a campaign has so far, also while it runs."""
    from bayespot.active.ledger import Ledger
    from bayespot.cli.screen import Screen

    ledger = Ledger.read(folder)
    dataset = ledger.dataset()
    dataset.write(out)
    counts = ", ".join(f"{n} {state}" for state, n in ledger.counts().items())
    Screen().print(f"{len(dataset)} labels written to {out}; calculations: {counts}", markup=False)
