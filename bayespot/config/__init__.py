"""One TOML file a run: validated, written back with every default beside the results."""

from bayespot.config.building import (
    campaign_settings,
    dataset_of,
    fit_problem,
    floor_of,
    floor_words,
    learner_of,
    oracle_of,
    pool_of,
    potential_of,
    priors_of,
    run_fit,
    start_of,
)
from bayespot.config.loading import load_config, parse_config, resolved_toml, write_resolved
from bayespot.config.tables import RunConfig
from bayespot.config.workers import workers_of

__all__ = [
    "RunConfig",
    "campaign_settings",
    "dataset_of",
    "fit_problem",
    "floor_of",
    "floor_words",
    "learner_of",
    "load_config",
    "oracle_of",
    "parse_config",
    "pool_of",
    "potential_of",
    "priors_of",
    "resolved_toml",
    "run_fit",
    "start_of",
    "workers_of",
    "write_resolved",
]
