"""The silicon campaign that `bayespot demo` runs."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from bayespot.config import RunConfig, parse_config

__all__ = ["demo_config"]

SHORT: dict[str, dict[str, Any]] = {
    "fit": {"chains": 2, "warmup": 150, "draws": 150, "starts": 8},
    "learn": {"initial": 6, "batch": 4, "rounds": 1, "n_draws": 50, "allow_unconverged": True},
}
"""What `--short` changes: enough to see every step, too short to trust the numbers."""


def demo_config(
    *, short: bool = False, oracle: str | None = None, seed: int | None = None
) -> RunConfig:
    """Return the configuration of the demo.

    Parameters
    ----------
    short : bool
        One round and short chains: a check that everything works.
    oracle : str, optional
        "gpaw" computes every label live, with the settings of the archive.
    seed : int, optional
        Another test set, initial set and chains.

    Returns
    -------
    RunConfig
    """
    content = tomllib.loads(files("bayespot").joinpath("demo.toml").read_text(encoding="utf-8"))
    if short:
        for name, table in SHORT.items():
            content[name].update(table)
    if oracle is not None:
        content["learn"]["oracle"] = oracle
    if seed is not None:
        content["seed"] = seed
    return parse_config(content, source="demo.toml")
