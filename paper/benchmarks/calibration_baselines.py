r"""What others do about a potential that cannot be right, for the calibration tables.

All are spreads of the parameters alone, taken as Gaussians at the mode and linearised there
(``pro``: draws):

frederiksen
    Covariance times T0 = 2 C0 / Np, weights those of the inferred noise (Frederiksen, Jacobsen,
    Brown, Sethna, Phys. Rev. Lett. 93, 165501 (2004)).
kliff-style
    The same rule on a plain least-squares cost as in the toolbox of KLIFF (Kurniawan et al.,
    arXiv:2206.00578): energies over the number of atoms and force components over the number of
    atoms, both with weight one, no stress. The rule of weights here counts a structure as
    :math:`\nu_F` forces, so that is :math:`\nu_F = 3/N` with the mean number of atoms N.
tempered
    Temperature from the families left out (`bayespot.inference.tempered`), and its white noise.
pro
    The predictively oriented Gaussian (`bayespot.inference.pro`).

A linear potential has its evidence posterior, the temperature of `linear_gaussian` and the
hypercube of POPS (`bayespot.inference.pops`), all in closed form.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from bayespot.data.dataset import Dataset
from bayespot.inference.curved import whitening
from bayespot.inference.linear_gaussian import linear_gaussian
from bayespot.inference.map import climb, map_estimate
from bayespot.inference.pops import pops
from bayespot.inference.pro import pro
from bayespot.inference.tempered import temper
from bayespot.likelihood import FitProblem
from bayespot.posterior import Posterior
from bayespot.prediction import Prediction, predict
from bayespot.units import QUANTITIES

DRAWS = 200
"""Of every prediction."""

UNUSED = 1e3
"""eV/Å^3: noise of a stress that is not to be fitted."""

Method = tuple[str, Callable[[Dataset], Prediction], dict, dict]
"""Name, what predicts, options of `bayespot.validation.held_out_cases`, facts for the rows."""


def linearised(posterior: Posterior, u: np.ndarray, factor: np.ndarray, structures: Dataset
               ) -> Prediction:
    """Prediction at the mode u with the spread of a Gaussian there, linear in the parameters.

    The covariance is L L^T with ``factor`` L [p, k]. Draws of a thousandth of the width; their
    deviations are multiplied back.
    """
    z = np.random.default_rng(0).standard_normal((60, factor.shape[1]))
    small = Posterior(posterior.tree.copy())
    small.__dict__["u"] = np.concatenate([u + 1e-3 * z @ factor.T, u - 1e-3 * z @ factor.T])
    out = predict(small, structures, n_draws=120, allow_unconverged=True)
    half = len(z)

    def stretched(draws: np.ndarray) -> np.ndarray:
        center = 0.5 * (draws[:half] + draws[half:])
        return center.mean(axis=0) + 0.5 * (draws - np.roll(draws, half, axis=0)) / 1e-3

    return replace(out, energy_draws=stretched(out.energy_draws),
                   forces_draws=stretched(out.forces_draws),
                   stress_draws=stretched(out.stress_draws))


def others(problem: FitProblem, posterior: Posterior, u: np.ndarray, starts: int
           ) -> Iterator[Method]:
    """``tempered``, ``pro`` and ``kliff-style`` of a form with the mode ``u``."""
    alone = {"floor": problem.floor, "guard": False}
    target, predictor = power(problem, posterior, u, "families")
    noise = [target.final.space.fixed.get(f"sigma_{q}", 0.0) for q in QUANTITIES]
    white = np.hypot(noise, [problem.floor.energy, problem.floor.forces, problem.floor.stress])
    facts = {"temperature": target.details["temperature"]}
    yield "tempered", lambda data: replace(predictor(data), sigma=white), {"guard": False}, facts
    spread = pro(problem, u, key=jax.random.key(2), draws=DRAWS)
    facts = {f"push_forward_{k}": v for k, v in spread.record["details"]["push_forward"].items()}
    yield "pro", partial(predict, spread, n_draws=DRAWS, allow_unconverged=True), alone, facts
    counts = [len(atoms) for atoms in problem.dataset.structures]
    squares = FitProblem(
        problem.initial, problem.dataset, reference=problem.reference,
        fixed={**problem.space.fixed, "sigma_energy": 1.0, "sigma_forces": 1.0,
               "sigma_stress": UNUSED},
        nu_forces=3.0 / np.mean(counts), misfit="none",
    )
    own = map_estimate(squares, key=jax.random.key(0), starts=starts)
    target, predictor = power(squares, own, own.u[0], "frederiksen")
    yield "kliff-style", predictor, alone, {"temperature": target.details["temperature"]}


def power(problem: FitProblem, posterior: Posterior, u: np.ndarray, rule: str) -> tuple:
    """The power posterior by a rule, and what predicts with the Gaussian at its mode."""
    n = problem.space.layout.n_theta
    tempered = FitProblem(
        problem.initial, problem.dataset, reference=problem.reference,
        priors=dict(zip(problem.space.names, problem.space.priors, strict=True)),
        fixed=problem.space.fixed, floor=problem.floor, nu_forces=problem.nu_forces,
        misfit="tempered", temperature=rule,
    )
    target = temper(tempered, u)
    mode = climb(target.density, u[:n]).u
    factor = np.zeros((len(u), n))
    factor[:n] = whitening(target.density, mode)
    return target, partial(linearised, posterior, np.concatenate([mode, u[n:]]), factor)


def linear(problem: FitProblem) -> Iterator[Method]:
    """A linear potential: evidence posterior, POPS, and the temperature of families left out."""
    key, alone = jax.random.key(0), {"floor": problem.floor, "guard": False}

    def of(posterior: Posterior) -> Callable[[Dataset], Prediction]:
        return partial(predict, posterior, n_draws=DRAWS, allow_unconverged=True)

    evidence = of(linear_gaussian(problem, key=key, draws=DRAWS))
    yield "none", evidence, alone, {}
    yield "none + noise", evidence, {"guard": False}, {}
    yield "pops", of(pops(problem, key=key, draws=DRAWS)), alone, {}
    problem.misfit = "discrepancy"
    treated = linear_gaussian(problem, key=key, draws=DRAWS)
    facts = {"temperature": treated.record["details"]["temperature"]}
    yield "discrepancy", of(treated), {}, facts
