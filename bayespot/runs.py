"""A whole run from its configuration to its folder of results; the same call continues it."""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bayespot.active.campaign import CampaignEvent, CampaignResult, run_baseline, run_campaign
from bayespot.config import (
    RunConfig,
    campaign_settings,
    dataset_of,
    fit_problem,
    floor_words,
    learner_of,
    oracle_of,
    pool_of,
    resolved_toml,
    run_fit,
    start_of,
    workers_of,
    write_resolved,
)
from bayespot.config.properties import PropertiesConfig, compute
from bayespot.data.dataset import Dataset
from bayespot.errors import ConfigError
from bayespot.posterior import Posterior
from bayespot.prediction import predict
from bayespot.properties import DrawSurfaces, PropertyDraws, Summary
from bayespot.property_references import read_references
from bayespot.report import (
    write_campaign_report,
    write_comparison_report,
    write_fit_report,
    write_property_report,
    write_validation_report,
)
from bayespot.validation import Validation, cross_validate, folds

__all__ = [
    "CONFIG", "POSTERIOR", "compare_runs", "fit_run", "learn_run", "properties_run", "validate_run",
]  # fmt: skip

CONFIG, POSTERIOR = "config.resolved.toml", "posterior.nc"

Sampled = Callable[[int, int, str], None]


def fit_run(
    config: RunConfig,
    dataset: Dataset,
    folder: str | Path,
    *,
    progress: bool | Sampled = True,
    again: bool = False,
) -> Posterior:
    """Fit, and write posterior, resolved configuration, pictures and summary.

    A run that was killed goes on from its checkpoint. A folder that holds the result of the same
    configuration and data is not computed again; its pictures and summary are.

    Parameters
    ----------
    config : RunConfig
    dataset : Dataset
        Of `bayespot.config.dataset_of`.
    folder : path
        Where to write.
    progress : bool or callable
        See `bayespot.nuts`.
    again : bool
        Throw away what is in the folder and compute it anew.

    Returns
    -------
    Posterior
        Converged or not; look at ``converged``.

    Raises
    ------
    ConfigError
        If the folder holds another run.
    """
    folder = Path(folder)
    posterior = _earlier(config, dataset, folder) if not again else None
    if posterior is None:
        if again:
            shutil.rmtree(folder / "checkpoint", ignore_errors=True)
        problem = fit_problem(config, dataset)
        write_resolved(config, folder / CONFIG)
        posterior = run_fit(config, problem, progress=progress, checkpoint=folder / "checkpoint")
        posterior.save(folder / POSTERIOR)
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    prediction = predict(posterior, dataset, allow_unconverged=True)
    write_fit_report(
        posterior, dataset, prediction, folder, title=config.name, floor=floor_words(config)
    )
    return posterior


def _earlier(config: RunConfig, dataset: Dataset, folder: Path) -> Posterior | None:
    """Return the posterior of the same run if it is there."""
    _refuse_another(config, folder)
    if not (folder / POSTERIOR).is_file():
        return None
    posterior = Posterior.load(folder / POSTERIOR)
    if posterior.record["data"]["fingerprint"] != dataset.fingerprint():
        raise ConfigError(
            f"{folder} holds a fit to other data than {dataset.source} now contains; use another "
            "folder (--out) or --again"
        )
    return posterior


def _refuse_another(config: RunConfig, folder: Path) -> None:
    path = folder / CONFIG
    if path.is_file() and path.read_text(encoding="utf-8") != resolved_toml(config):
        raise ConfigError(
            f"{folder} holds the run of another configuration ({path}); use another folder "
            "(--out) or --again"
        )


def validate_run(
    config: RunConfig,
    dataset: Dataset,
    folder: str | Path,
    *,
    by: str | int = "family",
    progress: bool | Sampled = False,
    happened: Callable[[str], None] | None = None,
) -> Validation:
    """Refit without each fold, predict it, and write whether the error bars hold.

    Parameters
    ----------
    config : RunConfig
    dataset : Dataset
        Of `bayespot.config.dataset_of`.
    folder : path
        Gets the posterior of each fold, ``calibration.md``, ``.json`` and ``.png``. The same call
        continues after a stop of any kind.
    by : "family" or int
        What is left out, see `bayespot.validation.folds`.
    progress : bool or callable
        Progress of the sampler.
    happened : callable, optional
        Gets a sentence before each fit.

    Raises
    ------
    BayespotError
        If the folder is of another run.
    """
    folder = Path(folder)
    described = tomllib.loads(resolved_toml(config))
    settings = {key: described[key] for key in described if key not in ("name", "learn")}

    def fit(train: Dataset) -> Posterior:
        checkpoint = folder / "checkpoint" / train.fingerprint()[:16]
        problem = fit_problem(config, train)
        posterior = run_fit(config, problem, progress=progress, checkpoint=checkpoint)
        shutil.rmtree(checkpoint, ignore_errors=True)
        return posterior

    validation = cross_validate(
        dataset, fit, folds=folds(dataset, by), folder=folder, settings=settings,
        method=f"{config.potential.form}, misfit {config.noise.misfit}",
        data=Path(dataset.source).name, progress=happened,
    )  # fmt: skip
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    write_resolved(config, folder / CONFIG)
    write_validation_report(validation, folder, title=f"Validation of {config.name}")
    return validation


def compare_runs(
    configs: Sequence[RunConfig], folder: str | Path, **options: Any
) -> tuple[dict[str, Validation], str]:
    """Validate several runs on the same data, each in a folder of its name, and compare them.

    Parameters
    ----------
    configs : sequence of RunConfig
    folder : path
        Gets ``comparison.md`` and ``comparison.json`` too.
    **options
        Of `validate_run`.

    Returns
    -------
    validations : dict
        Name of the run to `Validation`.
    text : str
        The comparison in Markdown.

    Raises
    ------
    ConfigError
        If two runs have one name or their data differ.
    """
    names = [config.name for config in configs]
    if len(set(names)) < len(names):
        raise ConfigError(f"runs to compare need names that differ, not {', '.join(names)}")
    data = [dataset_of(config) for config in configs]
    for config, other in zip(configs, data, strict=True):
        if other.fingerprint() != data[0].fingerprint():
            raise ConfigError(
                f"{names[0]} and {config.name} are fits to different structures or labels: a "
                "comparison needs the same [data]"
            )
    found = {
        config.name: validate_run(config, data[0], Path(folder) / config.name, **options)
        for config in configs
    }
    return found, write_comparison_report(found, folder)


def learn_run(
    config: RunConfig,
    folder: str | Path,
    *,
    baseline: bool | None = None,
    sampled: bool | Sampled = False,
    happened: Callable[[str, CampaignEvent], None] | None = None,
) -> dict[str, CampaignResult]:
    """Run a campaign, beside it the same with random choice, and write how they compare.

    Parameters
    ----------
    config : RunConfig
        With a table ``[learn]``.
    folder : path
        Gets one campaign folder for each way of choosing, ``learning_curve.png``,
        ``coverage.png`` and ``summary.md``.
    baseline : bool, optional
        Run the random choice too. By default where labels cost nothing, from an archive.
    sampled : bool or callable
        Progress of the sampler.
    happened : callable, optional
        Gets the name of the campaign and a `CampaignEvent`.

    Returns
    -------
    dict
        Way of choosing to `CampaignResult`.

    Raises
    ------
    BayespotError
        As `run_campaign`; the same call continues.
    """
    folder = Path(folder)
    settings = campaign_settings(config)
    pool, start = pool_of(config), start_of(config)
    arguments: dict[str, Any] = {
        "pool": pool,
        "start": start,
        "oracle": oracle_of(config, pool),
        "learner": learner_of(config, progress=sampled),
        "workers": workers_of(config),
        "server": config.learn.ledger if config.learn else None,
    }
    write_resolved(config, folder / CONFIG)

    def told(name: str) -> Callable[[CampaignEvent], None]:
        return lambda event: happened(name, event) if happened is not None else None

    chosen = settings.acquisition
    results = {
        chosen: run_campaign(
            settings, folder=folder / chosen, name=f"{config.name}_{chosen}",
            progress=told(chosen), **arguments,
        )
    }  # fmt: skip
    if baseline is None:
        baseline = config.learn is not None and config.learn.oracle == "archive"
    if baseline and chosen != "random":
        _share_first_fit(folder / chosen, folder / "random")
        results["random"] = run_baseline(
            settings,
            folder=folder / "random",
            name=f"{config.name}_random",
            reuse=[folder / chosen],
            progress=told("random"),
            **arguments,
        )
    places = {name: result.folder for name, result in results.items()}
    write_campaign_report(places, folder, title=config.name)
    return results


def _share_first_fit(source: Path, target: Path) -> None:
    """Hand the fit to the initial set over: same labels, same seed, so the same draws."""
    if (target / "campaign.json").exists():
        return
    room = target / "round_000"
    room.mkdir(parents=True, exist_ok=True)
    for name in ("fit.json", POSTERIOR):
        part = room / f".{name}.part"
        shutil.copyfile(source / room.name / name, part)
        os.replace(part, room / name)


def properties_run(
    config: PropertiesConfig, posterior: Posterior, folder: str | Path,
    *, happened: Callable[[str], None] | None = None,
) -> tuple[PropertyDraws, list[Summary]]:
    """Compute properties for draws of a posterior; write files, table and picture.

    Parameters
    ----------
    config : PropertiesConfig
    posterior : Posterior
    folder : path
        Gets the resolved configuration and what `bayespot.report.write_property_report` writes;
        references of the file's oracle are taken from its folder ``reference``.
    happened : callable, optional
        Gets a sentence after each property.

    Returns
    -------
    draws : PropertyDraws
    rows : list of Summary
        The properties that the file shows.

    Raises
    ------
    NotConverged
        If the posterior has not converged and the file does not allow it.
    """
    posterior.check(allow_unconverged=config.allow_unconverged)
    surfaces = DrawSurfaces(posterior.potentials(config.draws), config.relax.tolerance)
    write_resolved(config, Path(folder) / CONFIG)

    def told(name: str, result: Any) -> None:
        if happened is not None:
            how = [result.choice.sentence] if result.choice else []
            happened("; ".join(
                [f"{name}: {len(result.quantities)} numbers", *how, *result.problems]
            ))

    results = compute(config, surfaces, told)
    asked = dict(zip(config.names, config.properties, strict=True))
    draws = PropertyDraws(
        results, read_references(config, Path(folder) / "reference"),
        {"posterior": posterior.record["form"], "misfit": posterior.misfit,
         "data": posterior.record["data"].get("fingerprint"), "draws": surfaces.n},
    )  # fmt: skip
    shown = [
        f"{name}: {quantity}" for name, one in asked.items()
        for quantity in (one.show if one.show is not None else results[name].quantities)
    ]  # fmt: skip
    unknown = sorted(set(shown) - set(draws.names))
    if unknown:
        raise ConfigError(
            f"show: there is no quantity {unknown[0]!r}; there are: {', '.join(draws.names)}"
        )
    title = f"{config.name}: {posterior.record['form']}, {surfaces.n} draws"
    write_property_report(draws, folder, title=title, shown=shown)
    rows = {row.name: row for row in draws.summary()}
    return draws, [rows[name] for name in shown]
