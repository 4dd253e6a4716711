"""From a checked configuration to what it describes: data, potential, problem, campaign."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayespot.config.loading import resolved_toml
from bayespot.config.tables import FloorTable, ReadTable, RunConfig
from bayespot.data.archives import archive_names, archive_path
from bayespot.data.dataset import Dataset
from bayespot.data.read import read
from bayespot.errors import ConfigError
from bayespot.likelihood import FitProblem, NoiseFloor
from bayespot.potentials.base import Potential, form_named
from bayespot.potentials.priors import LogNormal, Normal, Prior
from bayespot.units import GPA

if TYPE_CHECKING:
    from bayespot.active.campaign import CampaignSettings
    from bayespot.active.learner import Learner
    from bayespot.oracles import Oracle
    from bayespot.posterior import Posterior

Progress = Callable[[int, int, str], None]


def dataset_of(config: RunConfig) -> Dataset:
    """Read the labelled structures to fit.

    Raises
    ------
    ConfigError
        If there is no source, a family does not occur, or a species is not the potential's.
    """
    if config.data.source is None:
        raise ConfigError("data.source is missing: name a file, a pattern or a built-in archive")
    dataset = _read(config.data.source, config.data.read)
    if config.data.families:
        dataset = dataset.select(family=config.data.families)
    _check_species(config, dataset, "data.source")
    return dataset


def pool_of(config: RunConfig) -> Dataset:
    """Read the structures a campaign chooses from, with the labels they may have."""
    if config.learn is None:
        raise ConfigError("the table [learn] is missing: give it at least a pool")
    pool = _read(config.learn.pool, config.learn.read, require_labels=False)
    _check_species(config, pool, "learn.pool")
    return pool


def start_of(config: RunConfig) -> Dataset | None:
    """Read the labels that a campaign starts with: `data.source` unless it is the pool."""
    learn = config.learn
    if learn is None or config.data.source is None or config.data.source == learn.pool:
        return None
    return dataset_of(config)


def _read(source: str, table: ReadTable, *, require_labels: bool = True) -> Dataset:
    return read(source, require_labels=require_labels, **table.model_dump())


def _check_species(config: RunConfig, dataset: Dataset, key: str) -> None:
    unknown = sorted(set(dataset.species) - set(config.potential.species))
    if unknown:
        raise ConfigError(
            f"{key} = {dataset.source!r} contains {', '.join(unknown)}, but potential.species = "
            f"{config.potential.species}: add the species, or choose structures by family"
        )


def potential_of(config: RunConfig) -> Potential:
    """Make the functional form with its settings, parameters at their prior medians."""
    table = config.potential
    return form_named(table.form)(species=tuple(table.species), **table.hyper)


def priors_of(config: RunConfig) -> dict[str, Prior]:
    """Make the priors that the file gives in place of declared ones."""
    made = {}
    for name, table in config.priors.items():
        given = table.model_dump(exclude={"kind"}, exclude_none=True)
        made[name] = (Normal if table.kind == "normal" else LogNormal)(**given)
    return made


def floor_of(config: RunConfig) -> NoiseFloor:
    """Find the convergence error of the labels.

    Raises
    ------
    ConfigError
        If it is to come from an archive whose floor has not been measured.
    """
    floor = config.data.floor
    if isinstance(floor, FloorTable):
        return NoiseFloor(floor.energy, floor.forces, floor.stress_GPa / GPA)
    if floor in (None, "default"):
        return NoiseFloor()
    if floor != "archive":
        return NoiseFloor.from_json(floor)
    path = _archive_of(config) / "floor.json"
    if not path.is_file():
        raise ConfigError(
            f"data.floor = 'archive', but {path.parent.name} has no floor.json; take 'default' or "
            "a table with energy, forces and stress_GPa"
        )
    return NoiseFloor.from_json(path)


def floor_words(config: RunConfig) -> str:
    """Say where the convergence error of the labels comes from, in a sentence."""
    floor = config.data.floor
    if isinstance(floor, FloorTable):
        return "The DFT floor is the one that the configuration gives."
    if floor in (None, "default"):
        return (
            "The DFT floor is assumed: none was measured for these labels. `bayespot converge` "
            "measures one, and a floor.json beside the labels is used from then on."
        )
    where = f"the archive {_archive_of(config).name}" if floor == "archive" else floor
    return f"The DFT floor was measured: {where}."


def _archive_of(config: RunConfig) -> Path:
    """Find the folder of the built-in archive that the run uses; that of the labels comes first."""
    sources = [config.data.source, config.learn.pool if config.learn else None]
    return archive_path(next(s for s in sources if s in archive_names()))


def _problem_settings(config: RunConfig) -> dict[str, Any]:
    return {
        "priors": priors_of(config),
        "fixed": dict(config.potential.fixed),
        "floor": floor_of(config),
        "nu_forces": config.noise.nu_forces,
        "misfit": config.noise.misfit,
        "temperature": config.noise.temperature,
        "scales": config.noise.scales,
        "tails": config.noise.tails,
        "devices": config.fit.devices,
    }


def fit_problem(config: RunConfig, dataset: Dataset | None = None) -> FitProblem:
    """Put potential, data, priors and noise together; reads the data unless they are given."""
    dataset = dataset_of(config) if dataset is None else dataset
    return FitProblem(potential_of(config), dataset, **_problem_settings(config))


def run_fit(
    config: RunConfig,
    problem: FitProblem,
    *,
    progress: bool | Progress = True,
    checkpoint: str | Path | None = None,
) -> Posterior:
    """Fit with the method that the configuration names.

    Parameters
    ----------
    config : RunConfig
    problem : FitProblem
        Of `fit_problem`.
    progress : bool or callable
        Show a bar, or call ``progress(done, total, message)``; for NUTS.
    checkpoint : path, optional
        Folder from which a killed NUTS run continues.
    """
    import jax

    from bayespot.inference.laplace import laplace
    from bayespot.inference.linear_gaussian import linear_gaussian
    from bayespot.inference.map import map_estimate
    from bayespot.inference.nuts import nuts

    fit, key = config.fit, jax.random.key(config.seed)
    if fit.method == "map":
        return map_estimate(problem, key=key, starts=fit.starts)
    if fit.method == "linear_gaussian":
        return linear_gaussian(problem, key=key, draws=fit.chains * fit.draws)
    if fit.method == "laplace":
        return laplace(problem, key=key, draws=fit.chains * fit.draws, starts=fit.starts)
    return nuts(
        problem,
        key=key,
        chains=fit.chains,
        warmup=fit.warmup,
        draws=fit.draws,
        starts=fit.starts,
        progress=progress,
        checkpoint=checkpoint,
    )


def campaign_settings(config: RunConfig) -> CampaignSettings:
    """Collect the numbers of the campaign."""
    from bayespot.active.campaign import CampaignSettings

    if config.learn is None:
        raise ConfigError("the table [learn] is missing: give it at least a pool")
    elsewhere = {"pool", "oracle", "oracle_settings", "oracle_run", "ledger", "workers", "read"}
    given = config.learn.model_dump(exclude=elsewhere)
    return CampaignSettings(seed=config.seed, **given)


def oracle_of(config: RunConfig, pool: Dataset) -> Oracle:
    """Make what labels come from."""
    from bayespot.oracles import make_oracle

    learn = config.learn
    if learn is None:
        raise ConfigError("the table [learn] is missing: give it at least a pool")
    if learn.oracle == "archive":
        return make_oracle("archive", archive=pool)
    return make_oracle(learn.oracle, learn.oracle_settings, run=learn.oracle_run.model_dump())


def learner_of(config: RunConfig, *, progress: bool | Progress = False) -> Learner:
    """Say how a campaign fits."""
    from bayespot.active.learner import potential_learner

    fit = config.fit
    described = tomllib.loads(resolved_toml(config))
    return potential_learner(
        potential_of(config),
        method=fit.method,
        settings={key: described[key] for key in ("potential", "priors", "noise")}
        | {"floor": described["data"].get("floor", "default")},
        problem=_problem_settings(config),
        chains=fit.chains,
        warmup=fit.warmup,
        draws=fit.draws,
        starts=fit.starts,
        progress=progress,
    )
