"""Bayesian interatomic potentials.

DFT labels in, a NUTS posterior over the potential's parameters, error bars on new structures, and
the next DFT calculations out. Importing this package changes no setting; call `configure` first.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "configure": "runtime",
    "read": "data.read",
    "Dataset": "data.dataset",
    "Labels": "data.dataset",
    "StillingerWeber": "potentials.stillinger_weber",
    "Morse": "potentials.morse",
    "LennardJones": "potentials.lennard_jones",
    "Normal": "potentials.priors",
    "LogNormal": "potentials.priors",
    "Reference": "potentials.priors",
    "param": "potentials.base",
    "hyper": "potentials.base",
    "registry": "potentials.base",
    "NoiseFloor": "likelihood",
    "FitProblem": "likelihood",
    "Posterior": "posterior",
    "map_estimate": "inference.map",
    "laplace": "inference.laplace",
    "nuts": "inference.nuts",
    "linear_gaussian": "inference.linear_gaussian",
    "predict": "prediction",
    "PosteriorCalculator": "calculator",
    "export_lammps": "export.lammps",
    "errors": "",
    "testing": "",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are first used, so that importing stays cheap."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'bayespot' has no attribute {name!r}")
    home = _PUBLIC[name]
    if not home:
        return import_module(f"bayespot.{name}")
    value = getattr(import_module(f"bayespot.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
