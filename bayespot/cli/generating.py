"""The command that makes training structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Source = Annotated[
    str,
    typer.Argument(help="A symbol (Si), symbols (Al,Cu), a crystal (file) or settings (TOML).",
                   metavar="SOURCE"),
]


def generate(
    source: Source,
    out: Annotated[Path, typer.Option("--out", "-o", help="Extended XYZ to write.")],
    prototype: Annotated[
        str | None, typer.Option(help="Crystal of the symbols: fcc, bcc, rocksalt, ...")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another draw of everything random.")] = None,
    driver: Annotated[
        str | None,
        typer.Option(help="What drives dynamics: auto, a posterior.nc, or an oracle's name."),
    ] = None,
) -> None:
    """Make structures to label: strained, defects, surfaces, thermal, other phases, alloys."""
    from bayespot.runtime import configure

    configure()
    from bayespot.cli.screen import Screen
    from bayespot.config.generation import generation_of
    from bayespot.generate.recipe import generate as made
    from bayespot.report.generated import family_table, write_generation_report

    given: dict[str, Any] = {"prototype": prototype, "seed": seed, "driver": driver}
    changes = {key: value for key, value in given.items() if value is not None}
    screen, settings = Screen(), generation_of(source, changes=changes)
    with screen.progress() as progress:
        generated = made(settings, progress=progress.sampled)
    files = write_generation_report(generated, settings, out)
    screen.show_markdown(family_table(generated))
    for note in generated.notes:
        screen.show_note(note)
    screen.print(
        f"{len(generated.structures)} structures, {len(generated.dropped)} near-duplicates left "
        f"out; written to {out.parent}: {', '.join(f.name for f in files)}",
        markup=False,
    )
