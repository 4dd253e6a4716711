"""The command that chooses from files of any size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bayespot.active.pool_choice import PoolChoice


def score(
    posterior: Annotated[Path, typer.Argument(help="File of a fit.", metavar="POSTERIOR.nc")],
    pool: Annotated[
        list[str], typer.Argument(help="Structures to choose from: files, globs.", metavar="POOL")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of scores and batch.")] = Path(
        "pool-scores"
    ),
    batch: Annotated[int, typer.Option(help="How many structures to choose.", min=1)] = 20,
    rule: Annotated[
        str, typer.Option(help="information_gain, max_std, information_matching or random.")
    ] = "information_gain",
    shortlist: Annotated[
        int | None, typer.Option(help="Structures of the second stage; 50 times the batch if none.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Posterior draws, for max_std.", min=2)] = 100,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.", min=0)] = 0,
    allow_unconverged: Annotated[
        bool, typer.Option("--allow-unconverged", help="Go on with draws that have not converged.")
    ] = False,
) -> None:
    """Score a pool of any size and choose what to calculate; continues after a stop of any kind."""
    from bayespot.runtime import configure

    configure()
    from bayespot.active.pool_choice import choose_from_pool
    from bayespot.cli.screen import Screen
    from bayespot.posterior import Posterior

    screen = Screen()
    with screen.progress() as progress:
        choice = choose_from_pool(
            Posterior.load(posterior), pool, batch, out, rule=rule, shortlist=shortlist, seed=seed,
            n_draws=draws, allow_unconverged=allow_unconverged, progress=progress.sampled,
        )  # fmt: skip
    _show(screen, choice)
    scores = "scores.csv and " if (out / "scores.csv").is_file() else ""
    screen.print(f"written to {out}: {scores}chosen.xyz", markup=False)


def _show(screen: Any, choice: PoolChoice) -> None:
    from rich.table import Table

    table = Table(title=f"to calculate next, {choice.unit}")
    for column in ("place", "structure", "family", "score alone", "adds", "extrapolation"):
        table.add_column(column)
    rows = zip(choice.places, choice.dataset.structures, choice.dataset.families, choice.scores,
               choice.gains, choice.grades, strict=True)  # fmt: skip
    for place, atoms, family, score, gain, grade in rows:
        numbers = ("-" if value != value else f"{value:.4g}" for value in (score, gain, grade))
        table.add_row(place, atoms.get_chemical_formula(), family, *numbers)
    screen.print(table)
    for line in choice.lines():
        screen.print(line, style="yellow" if line.startswith("set aside") else None, markup=False)
