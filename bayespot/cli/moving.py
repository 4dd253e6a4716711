"""The commands `bayespot dynamics` and `bayespot gather`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def dynamics(
    posterior: Annotated[Path, typer.Argument(help="File of a fit.", metavar="POSTERIOR.nc")],
    structure: Annotated[str, typer.Argument(help="Start: any file ASE reads, its first frame.")],
    temperature: Annotated[float, typer.Option(help="K.", min=0.0)],
    steps: Annotated[int, typer.Option(help="More of them continue a finished run.", min=1)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the trajectory.")] = Path(
        "dynamics"
    ),
    repeat: Annotated[int, typer.Option(help="Repeat the cell in all directions.", min=1)] = 1,
    timestep: Annotated[float, typer.Option(help="fs.")] = 1.0,
    thermostat: Annotated[str, typer.Option(help="langevin, or none.")] = "langevin",
    drive: Annotated[
        str, typer.Option(help="What moves the atoms: center, mean, or the number of a draw.")
    ] = "center",
    draws: Annotated[int, typer.Option(help="Posterior draws beside it.", min=1)] = 32,
    every: Annotated[
        int, typer.Option(help="Steps from one evaluation of all draws to the next.", min=1)
    ] = 10,
    limit: Annotated[
        float | None, typer.Option(help="Largest spread of a force to go on with, eV/Å.")
    ] = None,
    flag: Annotated[
        bool, typer.Option("--flag", help="Beyond a limit only say so, and go on.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.", min=0)] = 0,
    allow_unconverged: Annotated[
        bool, typer.Option("--allow-unconverged", help="Go on with draws that have not converged.")
    ] = False,
) -> None:
    """Run molecular dynamics with error bars along the way; continues after a stop of any kind."""
    from bayespot.runtime import configure

    configure()
    from bayespot.cli.screen import Screen
    from bayespot.data.read import read
    from bayespot.dynamics import Settings, run_dynamics
    from bayespot.plots import save, spread_along
    from bayespot.posterior import Posterior

    screen = Screen()
    atoms = read(structure, check=False, require_labels=False).structures[0].repeat(repeat)
    settings = Settings(
        steps=steps, temperature=temperature, timestep_fs=timestep, thermostat=thermostat,
        drive=int(drive) if drive.isdigit() else drive, n_draws=draws, spread_every=every,
        write_every=every, force_spread=limit, beyond="flag" if flag else "stop", seed=seed,
    )  # fmt: skip
    with screen.progress() as progress:
        run = run_dynamics(
            Posterior.load(posterior), atoms, out, settings, progress=progress.sampled,
            allow_unconverged=allow_unconverged,
        )  # fmt: skip
    spread, hot = run.column("force_std"), run.column("temperature_K")
    hot = hot[len(hot) // 2 :].mean()
    screen.print(
        f"{len(atoms)} atoms, {run.records[-1]['time_fs']:g} fs, {hot:.0f} K "
        f"in the second half; largest spread of a force {spread.max():.3g} eV/Å",
        markup=False,
    )
    if run.stopped:
        screen.show_note(f"stopped at {run.stopped}")
    elif run.beyond:
        first = run.beyond[0]
        screen.show_note(
            f"{len(run.beyond)} of {len(spread)} steps are beyond a limit, from step "
            f"{first['step']} on: {first['beyond']}"
        )
    save(spread_along(run, limit=limit), out / "spread.png")
    screen.print(
        f"written to {out}: trajectory.xyz, record.jsonl, settings.json, spread.png", markup=False
    )
    if run.stopped:
        raise typer.Exit(1)


def gather(
    folder: Annotated[
        Path, typer.Argument(help="Of bayespot export, run by LAMMPS.", metavar="FOLDER")
    ],
    last: Annotated[
        bool, typer.Option("--last", help="Take the last row of a run, not the mean of all.")
    ] = False,
    skip: Annotated[int, typer.Option(help="Rows that the mean leaves out.", min=0)] = 0,
) -> None:
    """Gather what LAMMPS found with every draw: means, spreads, failed draws by name."""
    from rich.table import Table

    from bayespot.cli.screen import Screen
    from bayespot.export.gather import gather as gathered

    screen = Screen()
    found = gathered(folder, rows="last" if last else "mean", skip=skip)
    done = len(found.series)
    table = Table(title=f"{folder}: {done} of {len(found.manifest.draws)} draws")
    for column in ("quantity", "mean", "spread over draws", "statistical error"):
        table.add_column(column)
    for name, row in found.summary().items():
        if name != "Step":
            table.add_row(name, f"{row.mean:.6g}", f"{row.parameter_std:.3g}",
                          f"{row.statistical_error:.2g}")  # fmt: skip
    screen.print(table)
    if found.forces is not None:
        screen.print(f"largest spread of a force: {found.forces_std.max():.3g} eV/Å", markup=False)
    for note in found.notes:
        screen.show_note(note)
    for number, why in found.failed.items():
        screen.show_note(f"draw {number} failed: {why}")
    names = ", ".join(path.name for path in found.write(folder))
    screen.print(f"written to {folder}: {names}", markup=False)
    if found.failed:
        raise typer.Exit(1)
