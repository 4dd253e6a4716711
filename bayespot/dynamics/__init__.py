"""Molecular dynamics under a posterior: spread along the way, reweighting, observables.

`run_dynamics` moves atoms with ASE's integrators on one surface and evaluates all draws beside it;
`run_draws` moves them on every draw; `DynamicsCalculator` is what both use, for scripts that drive
ASE themselves.
"""

from bayespot.correlation import DrawsSummary, effective_size, mean_error, over_draws
from bayespot.dynamics.calculator import DynamicsCalculator
from bayespot.dynamics.ensemble import Ensemble, Spread
from bayespot.dynamics.observables import (
    Diffusion,
    RadialDistribution,
    diffusion,
    mean_square_displacement,
    radial_distribution,
)
from bayespot.dynamics.reweighting import Averages, Reweighting, reweight
from bayespot.dynamics.running import run_draws, run_dynamics
from bayespot.dynamics.settings import Settings
from bayespot.dynamics.trajectory import Trajectory

__all__ = [
    "Averages",
    "Diffusion",
    "DrawsSummary",
    "DynamicsCalculator",
    "Ensemble",
    "RadialDistribution",
    "Reweighting",
    "Settings",
    "Spread",
    "Trajectory",
    "diffusion",
    "effective_size",
    "mean_error",
    "mean_square_displacement",
    "over_draws",
    "radial_distribution",
    "reweight",
    "run_draws",
    "run_dynamics",
]
