"""The command line: parse, call, print. Libraries are imported inside of the commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bayespot.cli.campaigns import labels, workers
from bayespot.cli.converging import converge
from bayespot.cli.generating import generate
from bayespot.cli.moving import dynamics, gather
from bayespot.cli.pooling import score
from bayespot.cli.properties import properties
from bayespot.errors import BayespotError, NotConverged

if TYPE_CHECKING:
    from bayespot.cli.screen import Screen
    from bayespot.config import RunConfig

app = typer.Typer(
    name="bayespot",
    help="Bayesian interatomic potentials: DFT labels in, NUTS posterior, error bars on new "
    "structures, the next DFT calculations out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[Path, typer.Argument(help="TOML file of the run.", metavar="CONFIG.toml")]
PosteriorFile = Annotated[Path, typer.Argument(help="File of a fit.", metavar="POSTERIOR.nc")]
Forms = Annotated[list[str] | None, typer.Argument(help="Forms to describe.", metavar="FORM")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder of the results; the run's name if none.")
]
OracleName = Annotated[
    str | None,
    typer.Option(help="Where labels come from: archive, gpaw, or any ASE calculator."),
]
Baseline = Annotated[
    bool | None,
    typer.Option(
        "--baseline/--no-baseline",
        help="Run a campaign of random choice beside it; by default if labels cost nothing.",
    ),
]
Unconverged = Annotated[
    bool, typer.Option("--allow-unconverged", help="Go on with draws that have not converged.")
]


def main() -> None:
    """Run the command line; a mistake of the user is one message and exit code 2."""
    arguments = [a for a in sys.argv[1:] if a != "--debug"]  # anywhere on the line
    try:
        app(args=arguments, prog_name="bayespot")
    except BayespotError as error:
        if "--debug" in sys.argv:
            raise
        from rich.console import Console

        screen = Console(stderr=True, soft_wrap=True)
        screen.print(f"{type(error).__name__}: {error}", style="bold red", markup=False)
        if isinstance(error, NotConverged) and "allow_unconverged=True" in str(error):
            screen.print("On the command line: --allow-unconverged", markup=False)
        raise SystemExit(2) from None


def _version(wanted: bool) -> None:
    if wanted:
        from bayespot import __version__

        typer.echo(f"bayespot {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """Options of all commands; `debug` is read by `main`."""


# ------------------------------------------------------------------------------ commands


@app.command()
def fit(
    config: ConfigFile,
    out: Out = None,
    again: Annotated[bool, typer.Option("--again", help="Compute anew what is there.")] = False,
) -> None:
    """Fit a potential: posterior, pictures and summary. The same command continues a killed fit."""
    screen = _begin()
    from bayespot.config import dataset_of, load_config
    from bayespot.runs import POSTERIOR, fit_run

    run = load_config(config)
    screen.show_cautions(run)
    folder = out or Path(run.name)
    dataset = dataset_of(run)
    screen.print(dataset.summary(), markup=False)
    with screen.progress() as progress:
        posterior = fit_run(run, dataset, folder, progress=progress.sampled, again=again)
    screen.show_posterior(posterior)
    screen.print(f"written to {folder}: {POSTERIOR}, summary.md, pictures", markup=False)
    if not posterior.converged:
        raise typer.Exit(1)


@app.command()
def validate(
    configs: Annotated[
        list[Path],
        typer.Argument(help="TOML file of the run; several are compared.", metavar="CONFIG.toml"),
    ],
    folds: Annotated[
        str, typer.Option(metavar="families|K", help="Leave out each family, or each of K parts.")
    ] = "families",
    out: Out = None,
) -> None:
    """Refit without each family and say whether error bars hold; continues after a stop."""
    screen = _begin()
    from bayespot.config import dataset_of, load_config
    from bayespot.errors import ConfigError
    from bayespot.runs import compare_runs, validate_run

    if folds != "families" and not folds.isdigit():
        raise ConfigError(f"--folds {folds}: it is families, or a number")
    runs = [load_config(config) for config in configs]
    for run in runs:
        screen.show_cautions(run)
    folder = out or Path(f"{runs[0].name}-validation")
    text = ""
    with screen.progress() as progress:
        options: dict[str, Any] = {
            "by": int(folds) if folds.isdigit() else "family",
            "progress": progress.sampled, "happened": screen.show_step,
        }  # fmt: skip
        if len(runs) == 1:
            run = runs[0]
            found = {run.name: validate_run(run, dataset_of(run), folder, **options)}
        else:
            found, text = compare_runs(runs, folder, **options)
    for name, validation in found.items():
        screen.show_validation(name, validation)
    screen.show_markdown(text.splitlines())
    files = "calibration.md, calibration.json, calibration.png"
    screen.print(f"written to {folder}: {files}", markup=False)
    if any(validation.unconverged for validation in found.values()):
        raise typer.Exit(1)


@app.command()
def predict(
    posterior: PosteriorFile,
    structures: Annotated[
        str, typer.Argument(help="Structures: any file ASE reads, or an archive's name.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Extended XYZ to write.")],
    draws: Annotated[int, typer.Option(help="Posterior draws to use.", min=2)] = 100,
    product: Annotated[str, typer.Option(
        help="corrected, or classical: the plain potential, its known error in the bars."
    )] = "corrected",
    allow_unconverged: Unconverged = False,
) -> None:
    """Predict energies, forces and stresses with error bars; compares with labels if any."""
    screen = _begin()
    from bayespot.data.read import read
    from bayespot.posterior import Posterior
    from bayespot.prediction import predict as predicted

    fitted = Posterior.load(posterior)
    dataset = read(structures, check=False, require_labels=False)
    prediction = predicted(fitted, dataset, n_draws=draws, product=product,
                           allow_unconverged=allow_unconverged)
    out.parent.mkdir(parents=True, exist_ok=True)
    prediction.write(out)
    screen.show_prediction(prediction, dataset)
    if any(label.present for label in dataset.labels):
        from bayespot.report import compare, score_lines

        screen.print("\nAgainst the labels in the file:")
        screen.show_markdown(
            score_lines(compare(prediction, dataset), by_family=screen.width >= 110)
        )
    screen.print(
        f"\n{len(dataset)} structures written to {out} (bayespot_energy, bayespot_energy_std, "
        "bayespot_forces, ...)",
        markup=False,
    )
    if fitted.misfit == "none":
        from bayespot.posterior import MISFIT_NONE

        screen.print(MISFIT_NONE, style="yellow", markup=False)


@app.command()
def export(
    source: Annotated[
        Path, typer.Argument(help="File of a fit, or the folder of a run.", metavar="POSTERIOR.nc")
    ],
    folder: Annotated[
        Path, typer.Argument(help="Folder to make; nothing is overwritten.", metavar="FOLDER")
    ],
    draws: Annotated[
        str, typer.Option(help="How many evenly spaced draws; or map; or all.")
    ] = "map",
    structure: Annotated[
        Path | None, typer.Option(help="Write this structure too: any file ASE reads.")
    ] = None,
    allow_unconverged: Unconverged = False,
) -> None:
    """Write draws as LAMMPS files with a manifest and an input that runs them all."""
    screen = _begin()
    from bayespot.data.read import read
    from bayespot.export.lammps import INPUT, NO_OFFSET, export_lammps
    from bayespot.posterior import Posterior
    from bayespot.runs import POSTERIOR

    fitted = Posterior.load(source / POSTERIOR if source.is_dir() else source)
    atoms = None
    if structure is not None:
        atoms = read(structure, check=False, require_labels=False).structures[0]
    manifest = export_lammps(
        fitted, folder, draws=int(draws) if draws.isdigit() else draws, structure=atoms,
        allow_unconverged=allow_unconverged,
    )  # fmt: skip
    styles = sorted({one.style.pair_style for one in manifest.draws})
    screen.print(
        f"{manifest.form} for {', '.join(manifest.species)}: {manifest.choice}, "
        f"{len(manifest.draws)} written to {folder} as pair_style {', '.join(styles)} "
        f"({manifest.draws[0].style.precision})\n"
        f"in {folder}: lmp -in {INPUT} -var draw K, K from 0 to {len(manifest.draws) - 1}",
        markup=False,
    )
    screen.print(NO_OFFSET, style="yellow", markup=False)


@app.command()
def learn(
    config: ConfigFile,
    out: Out = None,
    oracle: OracleName = None,
    rounds: Annotated[int | None, typer.Option(help="In place of learn.rounds.", min=0)] = None,
    baseline: Baseline = None,
) -> None:
    """Run an active-learning campaign; the same command continues it after a stop of any kind."""
    screen = _begin()
    from bayespot.config import load_config

    changes: dict[str, Any] = {}
    if oracle is not None:
        changes["oracle"] = oracle
    if rounds is not None:
        changes["rounds"] = rounds
    run = load_config(config, changes={"learn": changes} if changes else None)
    _learn(screen, run, out or Path(f"{run.name}-campaign"), baseline)


@app.command()
def demo(
    short: Annotated[bool, typer.Option("--short", help="One round, short chains.")] = False,
    oracle: OracleName = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results.")] = Path(
        "bayespot-demo"
    ),
    seed: Annotated[int | None, typer.Option(help="Another draw of everything random.")] = None,
    baseline: Baseline = None,
) -> None:
    """Run the silicon campaign on the built-in archive of DFT calculations, or live with GPAW."""
    screen = _begin()
    from bayespot.demo import demo_config

    run = demo_config(short=short, oracle=oracle, seed=seed)
    _learn(screen, run, out, baseline)


app.command()(generate)
app.command()(converge)
app.command()(score)
app.command()(properties)
app.command()(dynamics)
app.command()(gather)
app.command()(labels)
app.add_typer(workers)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="Folder of a campaign, or of several.")],
) -> None:
    """Say how far a campaign is, also while it runs."""
    from bayespot.cli.screen import Screen

    screen = Screen()
    from bayespot.active.report import status as state_of

    places = [p for p in (folder, *sorted(folder.glob("*"))) if (p / "campaign.json").is_file()]
    for place in places or [folder]:
        screen.show_status(state_of(place))


@app.command()
def diagnose(posterior: PosteriorFile) -> None:
    """Print the diagnostics of a posterior; exit code 1 if it has not converged."""
    screen = _begin()
    from bayespot.posterior import Posterior

    fitted = Posterior.load(posterior)
    screen.show_posterior(fitted)
    if not fitted.converged:
        raise typer.Exit(1)


@app.command()
def potentials(forms: Forms = None) -> None:
    """List the functional forms; with names, their parameters, units and priors."""
    screen = _begin()
    from rich.table import Table

    from bayespot.potentials.base import form_named, registry

    if not forms:
        table = Table("form", "sampled parameters", "what it is")
        for name, form in registry().items():
            sampled = [p.name for p in form.parameters() if p.sampled]
            table.add_row(name, ", ".join(sampled), (form.__doc__ or "").strip().splitlines()[0])
        screen.print(table)
        screen.print(
            "bayespot potentials FORM says more; sums like Morse+ZBL are forms too.", markup=False
        )
        return
    for form in map(form_named, forms):
        first = (form.__doc__ or "").strip().splitlines()[0]
        table = Table(title=f"{form.__name__}: {first}", title_justify="left", title_style="bold")
        for column in ("parameter", "unit", "per", "prior", "what it is"):
            table.add_column(column)
        for p in form.parameters():
            held = "" if p.sampled else "held unless given a prior; "
            table.add_row(p.name, p.unit, p.per, held + p.prior.describe(), p.doc)
        for setting, (unit, doc) in form.hypers().items():
            table.add_row(setting, unit, "", "fixed setting", doc)
        screen.print(table)
    screen.print(
        "r_nn: nearest-neighbor distance, E_coh: cohesive energy, E_ref: zero of energy; all are "
        "taken from the data.",
        markup=False,
    )


# ------------------------------------------------------------------------------ inside


def _begin() -> Screen:
    """Set JAX up, before anything that uses it is imported, and return the screen."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's notes on slow compilation
    from bayespot.runtime import configure

    configure()
    from bayespot.cli.screen import Screen

    return Screen()


def _learn(screen: Screen, run: RunConfig, folder: Path, baseline: bool | None) -> None:
    from bayespot.active.report import compare_campaigns
    from bayespot.report import campaign_lines
    from bayespot.runs import learn_run

    screen.show_cautions(run)
    screen.print(f"campaign {run.name} in {folder}; the same command continues it", markup=False)
    with screen.progress(folder) as progress:
        results = learn_run(
            run, folder, baseline=baseline, sampled=progress.sampled, happened=progress.happened
        )
    curves = compare_campaigns({name: result.folder for name, result in results.items()})
    screen.show_markdown(campaign_lines(curves))
    screen.show_coverage(next(iter(results.values())).coverage)
    for name, result in results.items():
        for note in result.notes:
            screen.show_note(f"{name}: {note}")
        for formula, reason in result.failures:
            screen.print(f"{name}: {formula} failed: {reason}", style="yellow", markup=False)
    screen.print(f"pictures and summary.md in {folder}", markup=False)
