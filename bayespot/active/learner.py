"""What a campaign needs from the statistics: fit, load, predict, information."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms

from bayespot.data.dataset import Dataset
from bayespot.errors import ConfigError

__all__ = [
    "FitFunction",
    "Learner",
    "load_posterior",
    "parameter_information",
    "potential_learner",
    "predict_structures",
]


METHODS = ("nuts", "laplace", "map", "linear_gaussian")
"""What a campaign may fit with."""

# Imported when called: looking at a campaign (status, export) must not start JAX.


def load_posterior(path: Path) -> Any:
    """Read a posterior, see `bayespot.posterior.Posterior.load`."""
    from bayespot.posterior import Posterior

    return Posterior.load(path)


def predict_structures(posterior: Any, structures: Sequence[Atoms], **options: Any) -> Any:
    """Predict structures, see `bayespot.prediction.predict`."""
    from bayespot.prediction import predict

    return predict(posterior, structures, **options)


def parameter_information(
    posterior: Any, structures: Sequence[Atoms], **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return covariance and Fisher matrices, see `bayespot.prediction.information`."""
    from bayespot.prediction import information

    return information(posterior, structures, **options)


class FitFunction(Protocol):
    """How a campaign asks for a posterior."""

    def __call__(
        self, dataset: Dataset, *, seed: int, warmup_factor: int, checkpoint: Path
    ) -> Any:
        """Fit `dataset`.

        Parameters
        ----------
        dataset : Dataset
            Labels so far.
        seed : int
            Of this fit alone.
        warmup_factor : int
            1, or 2 when the first attempt did not converge.
        checkpoint : Path
            Folder in which a long fit may keep what it needs to continue after a kill.
        """
        ...


@dataclass(frozen=True)
class Learner:
    """The statistical side of a campaign.

    Attributes
    ----------
    fit : callable
        `FitFunction`.
    settings : mapping
        Plain JSON that says how it fits: potential, priors, method. Written down beside the
        results; a change of it in the middle of a campaign is noted.
    load, predict, information : callable
        `Posterior.load`, and `predict` and `information` of `bayespot.prediction`, or stand-ins.
    """

    fit: FitFunction
    settings: Mapping[str, Any] = field(default_factory=dict)
    load: Callable[[Path], Any] = load_posterior
    predict: Callable[..., Any] = predict_structures
    information: Callable[..., tuple[np.ndarray, np.ndarray]] = parameter_information


def potential_learner(
    potential: Any,
    *,
    method: str = "nuts",
    settings: Mapping[str, Any] | None = None,
    problem: Mapping[str, Any] | None = None,
    chains: int = 4,
    warmup: int = 300,
    draws: int = 500,
    starts: int = 16,
    progress: bool | Callable[[int, int, str], None] = False,
) -> Learner:
    """Learner for a potential, with any of the inference methods.

    Parameters
    ----------
    potential : Potential
        The functional form.
    method : str
        ``nuts``, ``laplace``, ``map``, or ``linear_gaussian`` of a linear potential.
    settings : mapping, optional
        What to write down about the fit (plain JSON); by default the method and its numbers.
    problem : mapping, optional
        Keywords of `FitProblem`: priors, fixed, noise, floor, nu_forces, misfit, temperature.
    chains, warmup, draws, starts : int
        Numbers of the method.
    progress : bool or callable
        Show the sampler's progress, see `nuts`.

    Raises
    ------
    ConfigError
        Unknown method.
    PriorError
        If the method cannot treat misfit as the problem wants it; said before anything is
        calculated.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown fit method '{method}'; known: {', '.join(METHODS)}")
    _check(potential, method, problem or {})

    def fit(dataset: Dataset, *, seed: int, warmup_factor: int, checkpoint: Path) -> Any:
        import jax

        from bayespot.inference.laplace import laplace
        from bayespot.inference.linear_gaussian import linear_gaussian
        from bayespot.inference.map import map_estimate
        from bayespot.inference.nuts import nuts
        from bayespot.likelihood import FitProblem

        key = jax.random.key(seed)
        task = FitProblem(potential, dataset, **dict(problem or {}))
        if method == "map":
            return map_estimate(task, key=key, starts=starts * warmup_factor)
        if method == "linear_gaussian":
            return linear_gaussian(task, key=key, draws=chains * draws)
        if method == "laplace":
            return laplace(task, key=key, draws=chains * draws, starts=starts * warmup_factor)
        return nuts(
            task,
            key=key,
            chains=chains,
            warmup=warmup * warmup_factor,
            draws=draws,
            starts=starts,
            progress=progress,
            checkpoint=checkpoint,
        )

    numbers = {"chains": chains, "warmup": warmup, "draws": draws, "starts": starts}
    described = dict(settings or {"potential": type(potential).__name__})
    return Learner(fit=fit, settings={**described, "method": method, **numbers})


def _check(potential: Any, method: str, problem: Mapping[str, Any]) -> None:
    """See `bayespot.inference.misfit.check_method`."""
    from bayespot.inference.misfit import check_method

    given = {name: value for name, value in problem.items() if name in ("misfit", "tails")}
    check_method(potential, method, **given)
