"""Structures whose labels are still to come, and what a posterior knows about their fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from bayespot.data.dataset import Dataset, Labels
from bayespot.likelihood import FitProblem
from bayespot.parameters import NOISE_ENTRIES
from bayespot.posterior import Posterior
from bayespot.units import QUANTITIES


def parameter_covariance(posterior: Posterior) -> np.ndarray:
    """Posterior covariance of the potential's standard-normal coordinates, [p, p]."""
    n_theta = posterior.space.layout.n_theta
    return np.cov(posterior.u[:, :n_theta], rowvar=False).reshape(n_theta, n_theta)


def pending_point(posterior: Posterior) -> np.ndarray:
    """Mean of the draws in the coordinates of `pending_problem`, [p]."""
    space, u = posterior.space, posterior.u.mean(axis=0)
    return u[: space.layout.n_theta] if space.families or space.layout.student else u


def pending_problem(posterior: Posterior, structures: Sequence[Atoms]) -> FitProblem:
    """The posterior's problem on structures whose labels are still to come.

    Noise by family or with tails is held at the normal noise of the same width.
    """
    space, kinds = posterior.space, posterior.record["quantities"]
    priors, fixed = dict(zip(space.names, space.priors, strict=True)), dict(space.fixed)
    if space.families or space.layout.student:
        priors = {name: priors[name] for name in space.names[: space.layout.n_theta]}
        fixed = {n: v for n, v in fixed.items() if not n.startswith(NOISE_ENTRIES)}
        fixed |= {f"sigma_{q}": float(posterior.sigma[QUANTITIES.index(q)]) for q in kinds}
    return FitProblem(
        posterior.potential,
        pending_dataset(posterior, structures),
        priors=priors,
        fixed=fixed,
        reference=space.reference,
        floor=posterior.floor,
        nu_forces=posterior.nu_forces,
    )


def pending_dataset(posterior: Posterior, structures: Sequence[Atoms]) -> Dataset:
    """Structures with labels of zero in the place of those to come.

    Of the labels the Fisher matrix depends on the kinds alone.
    """
    kinds = posterior.record["quantities"]
    return Dataset.from_atoms(structures, [
        Labels(
            energy=0.0 if "energy" in kinds else None,
            forces=np.zeros((len(a), 3)) if "forces" in kinds else None,
            stress=np.zeros(6) if "stress" in kinds else None,
        )
        for a in structures
    ])
