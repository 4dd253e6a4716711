"""From draws to a `Posterior`: the groups of its tree, its diagnostics and its record."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections import Counter
from dataclasses import asdict
from functools import partial
from typing import Any

import arviz_base
import arviz_stats
import jax
import numpy as np
import xarray as xr

from bayespot.data.kinds import FamilyRanges
from bayespot.evaluate import Labels3, evaluate_draws
from bayespot.inference.streamed import StreamedProblem
from bayespot.likelihood import FitData, FitProblem, log_likelihood_by_structure, student
from bayespot.parameters import Constants, Layout, ParameterSpace
from bayespot.posterior import SCHEMA, Posterior
from bayespot.potentials.linear import LinearPotential
from bayespot.units import QUANTITIES

R_HAT_LIMIT, ESS_LIMIT, BFMI_LIMIT = 1.01, 400, 0.3
DIVERGENCE_LIMIT, SATURATION_LIMIT = 1e-3, 0.02

LIKELIHOOD_BUDGET = 4_000_000
"""Draws times atoms for which the log likelihood per structure is stored; thinned beyond."""


def build_posterior(
    problem: FitProblem | StreamedProblem,
    u: np.ndarray,
    *,
    method: str,
    sample_stats: dict[str, np.ndarray] | None = None,
    problems: list[str] | None = None,
    details: dict[str, Any] | None = None,
    training: Labels3 | None = None,
    parent: tuple[Posterior, dict[str, str]] | None = None,
    marks: dict[str, float] | None = None,
) -> Posterior:
    """Assemble the tree of a `Posterior` from draws ``u`` [chain, draw, p].

    Adds the physical parameters with their coordinates, prior draws, the log likelihood per
    structure, what was observed, diagnostics, and the record of how it was made. ``training`` has
    the predictions of the data by all draws, where they are known already. Draws that were taken
    from those of a ``parent`` keep its verdict; with it comes the parent's name of every entry that
    has one. ``marks`` replace the largest spreads on the data.
    """
    space = problem.space
    rng = np.random.default_rng(0)
    prior_u = rng.standard_normal((1, 1000, space.size))
    groups = {
        "posterior": _variables(space, u),
        "prior": _variables(space, prior_u),
        "unconstrained_posterior": {"u": (("chain", "draw", "parameter"), u)},
        "sample_stats": {
            name: (("chain", "draw"), value) for name, value in (sample_stats or {}).items()
        },
    }
    if isinstance(problem, FitProblem):  # single structures of a stream are not kept
        groups |= {"log_likelihood": _log_likelihood(problem, u, training), **_observed(problem)}
    tree = xr.DataTree.from_dict({
        name: xr.Dataset(content, coords=_coords(space, problem, name, content))
        for name, content in groups.items()
    })
    if parent is None:
        table, found = _diagnose(space, u, sample_stats or {}, method)
    else:
        table, found = _diagnose(space, u, {}, "")[0], parent[0].problems
        _inherit(table, *parent)
    tree["diagnostics"] = xr.DataTree(table)
    record = _record(problem, u, method, found + list(problems or []), details or {})
    seen = _look(problem, None if marks else u, training)
    record |= {key: seen[key] for key in ("dropped", "mean_kappa")}
    record["data"] |= {key: seen[key] for key in ("closest_pair", "families")}
    record["data"]["training_spread"] = marks or seen["training_spread"]
    record["data"]["spread_of"] = "families left out" if marks else "training structures"
    tree.attrs["bayespot"] = json.dumps(record)
    tree.attrs["inference_library"] = "numpyro" if method == "nuts" else "bayespot"
    return Posterior(tree)


def _variables(space: ParameterSpace, u: np.ndarray) -> dict[str, tuple]:
    """ArviZ variables: one per parameter with its species coordinate, one per noise scale."""
    potential, variables = space.potential(u), {}
    for item in space.form.parameters():
        value = getattr(potential, item.name)
        variables[item.name] = (("chain", "draw", item.per), value, {
            "units": item.unit, "symbol": item.symbol, "long_name": item.doc
        })
    return variables | _noise_variables(space, u)


def _noise_variables(space: ParameterSpace, u: np.ndarray) -> dict[str, tuple]:
    """One variable per noise scale; degrees of freedom and scales by family where there are any."""
    dims, variables = ("chain", "draw"), {}
    sigma, tail, spread = space.sigma(u), space.tail(u), space.spread(u)
    for k in space.layout.noise:
        variables[f"sigma_{QUANTITIES[k]}"] = (dims, sigma[..., k])
    for k in space.layout.tails:
        variables[f"tail_{QUANTITIES[k]}"] = (dims, tail[..., k])
    if space.families:
        by_family = space.family_sigma(u)
        for k in space.layout.noise:
            name = QUANTITIES[k]
            variables[f"spread_{name}"] = (dims, spread[..., k])
            variables[f"sigma_{name}_of"] = ((*dims, "family"), by_family[..., k])
    return variables


def _coords(space: ParameterSpace, problem: FitProblem, group: str, content: dict) -> dict:
    dims = {d for value in content.values() for d in value[0]}
    coords: dict[str, Any] = {}
    for per in {item.per for item in space.form.parameters()} & dims:
        coords[per] = problem.initial.coordinates(per)
    if "parameter" in dims:
        coords["parameter"] = space.names
    if "family" in dims:
        coords["family"] = list(space.families)
    return coords


@partial(jax.jit, static_argnums=0)
def _log_likelihood_of_draws(layout: Layout, constants: Constants, data: FitData, many: Any) -> Any:
    """At module level, so that fits of the same shape share one compiled program."""
    return jax.lax.map(
        lambda one: log_likelihood_by_structure(layout, constants, data, one), many
    )


def _log_likelihood(problem: FitProblem, u: np.ndarray, training: Labels3 | None
                    ) -> dict[str, tuple]:
    """Log likelihood per structure (the exchangeable unit) of thinned draws."""
    step = max(1, int(np.ceil(u[..., 0].size * problem.graph.n_atoms / LIKELIHOOD_BUDGET)))
    thinned = u[:, ::step]
    flat = thinned.reshape(-1, u.shape[-1])
    space = problem.space
    if training is not None:
        chosen = np.arange(u[..., 0].size).reshape(u.shape[:2])[:, ::step].ravel()
        values = log_likelihood_of_predictions(
            problem, flat, Labels3(*(values[chosen] for values in training))
        )
    elif isinstance(problem.initial, LinearPotential):
        batch = max(1, int(4e7 / problem.graph.n_atoms))  # 1 GB of forces at a time
        parts = [flat[k : k + batch] for k in range(0, len(flat), batch)]
        values = np.concatenate([
            log_likelihood_of_predictions(
                problem, part, evaluate_draws(space.potential(part), problem.graph)
            ) for part in parts
        ])
    else:
        values = _log_likelihood_of_draws(space.layout, space.constants, problem.placed(), flat)
        values = problem.graph.by_structure(values, axis=1)
    values = values.reshape(*thinned.shape[:2], -1)
    return {"structure": (("chain", "draw", "structure"), values, {"thinned_by": step})}


def log_likelihood_of_predictions(problem: FitProblem, u: np.ndarray, out: Labels3) -> np.ndarray:
    """Log likelihood per structure from predictions of draws, [n_draws, n_structures].

    The same number as `bayespot.likelihood.log_likelihood_by_structure`, for those who have the
    predictions: linear potentials make them for many draws at once.
    """
    data, atoms = problem.data, problem.graph.by_structure(problem.data.atoms)
    labels, kappa = problem.unpadded(data.labels), problem.unpadded(data.kappa)
    first = np.concatenate([[0], np.cumsum([len(a) for a in problem.dataset.structures])[:-1]])
    variance = problem.variance(u)
    if problem.space.layout.student:
        residual = Labels3(labels.energy - out.energy / atoms, labels.forces - out.forces,
                           labels.stress - out.stress)
        return _student(residual, kappa, variance, problem.space.tail(u), first)
    counts = np.stack([kappa.energy, np.add.reduceat(kappa.forces.sum(axis=1), first),
                       kappa.stress.sum(axis=1)], axis=1)
    forces = (kappa.forces * (labels.forces - out.forces) ** 2).sum(axis=2)
    squares = np.stack([
        kappa.energy * (labels.energy - out.energy / atoms) ** 2,
        np.add.reduceat(forces, first, axis=1),
        (kappa.stress * (labels.stress - out.stress) ** 2).sum(axis=2),
    ], axis=2)
    return -0.5 * (squares / variance + counts * np.log(2 * np.pi * variance)).sum(axis=2)


def _student(residual: Labels3, kappa: Labels3, variance: np.ndarray, nu: np.ndarray,
             first: np.ndarray) -> np.ndarray:
    """The same for noise with tails; ``first`` is the first atom of each structure."""
    def density(k: int, squares: np.ndarray, w: np.ndarray, v: np.ndarray) -> np.ndarray:
        q, d = (squares * (w > 0)).sum(axis=-1), (w > 0).sum(axis=-1)
        return w.max(axis=-1) * np.asarray(student.log_density(q, d, v, nu[:, k, None]))

    owner = np.repeat(np.arange(len(first)), np.diff([*first, len(kappa.forces)]))
    forces = density(1, residual.forces**2, kappa.forces, variance[:, owner, 1])
    return (
        density(0, residual.energy[..., None] ** 2, kappa.energy[:, None], variance[..., 0])
        + np.add.reduceat(forces, first, axis=1)
        + density(2, residual.stress**2, kappa.stress, variance[..., 2])
    )


def _observed(problem: FitProblem) -> dict[str, dict]:
    dataset = problem.dataset
    nan6 = np.full(6, np.nan)
    observed = {
        "energy": ("structure", np.array([
            np.nan if label.energy is None else label.energy for label in dataset.labels
        ]), {"units": "eV"}),
        "forces": (("atom", "axis"), np.concatenate([
            np.full((len(atoms), 3), np.nan) if label.forces is None else label.forces
            for atoms, label in zip(dataset.structures, dataset.labels, strict=True)
        ]), {"units": "eV/Å"}),
        "stress": (("structure", "voigt"), np.stack([
            nan6 if label.stress is None else label.stress for label in dataset.labels
        ]), {"units": "eV/Å^3"}),
    }
    constant = {
        "family": ("structure", np.array(dataset.families, dtype=str)),
        "n_atoms": ("structure", np.array([len(a) for a in dataset.structures])),
    }
    return {"observed_data": observed, "constant_data": constant}


def _diagnose(space: ParameterSpace, u: np.ndarray, stats: dict, method: str) -> tuple:
    """Diagnostics per entry, and the list of what does not pass."""
    chains, n_draws, size = u.shape
    physical = space.physical(u).reshape(-1, size)
    prior = space.physical(np.random.default_rng(1).standard_normal((4000, size)))
    nan = np.full(size, np.nan)
    columns = {
        "mean": physical.mean(axis=0),
        "sd": physical.std(axis=0),
        "prior_sd": prior.std(axis=0),
        "contraction": u.reshape(-1, size).std(axis=0),
        "r_hat": nan, "ess_bulk": nan, "ess_tail": nan, "mcse_mean": nan,
    }
    problems: list[str] = []
    if method == "nuts":
        chains_of = arviz_base.dict_to_dataset({"u": u}, dims={"u": ["parameter"]})
        # A chain that does not move divides by zero; the NaN that comes out does not pass.
        with np.errstate(divide="ignore", invalid="ignore"):
            columns["r_hat"] = arviz_stats.rhat(chains_of)["u"].values
            for kind in ("bulk", "tail"):
                columns[f"ess_{kind}"] = arviz_stats.ess(chains_of, method=kind)["u"].values
        columns["mcse_mean"] = columns["sd"] / np.sqrt(columns["ess_bulk"])
        problems = _failures(space.names, columns, stats)
    dataset = xr.Dataset(
        {name: ("parameter", np.array(value)) for name, value in columns.items()},
        coords={"parameter": space.names},
        attrs={"chains": chains, "draws": n_draws},
    )
    return dataset, problems


def _inherit(table: xr.Dataset, parent: Posterior, names: dict[str, str]) -> None:
    """Fill in the diagnostics of the parent's draws, of which these are some."""
    known = parent.diagnostics()
    theirs = [str(n) for n in known["parameter"].values]
    for k, name in enumerate(str(n) for n in table["parameter"].values):
        if name in names:
            for column in ("r_hat", "ess_bulk", "ess_tail", "mcse_mean"):
                table[column].values[k] = known[column].values[theirs.index(names[name])]


def _failures(names: list[str], columns: dict, stats: dict[str, np.ndarray]) -> list[str]:
    """What of the acceptance criteria is not met, in sentences."""
    problems = []

    def list_names(bad: np.ndarray, values: np.ndarray, digits: str) -> str:
        return ", ".join(f"{names[k]} {values[k]:{digits}}" for k in np.flatnonzero(bad))

    bad = ~(columns["r_hat"] <= R_HAT_LIMIT)
    if bad.any():
        problems.append(f"R-hat above {R_HAT_LIMIT}: {list_names(bad, columns['r_hat'], '.3f')}")
    for kind in ("bulk", "tail"):
        values = columns[f"ess_{kind}"]
        bad = ~(values >= ESS_LIMIT)
        if bad.any():
            problems.append(f"{kind} ESS below {ESS_LIMIT}: {list_names(bad, values, '.0f')}")
    divergent = int(stats["diverging"].sum())
    if divergent > DIVERGENCE_LIMIT * stats["diverging"].size:
        problems.append(f"{divergent} divergent transitions of {stats['diverging'].size}")
    energy = stats["energy"]
    with np.errstate(divide="ignore", invalid="ignore"):
        bfmi = (np.diff(energy, axis=1) ** 2).mean(axis=1) / energy.var(axis=1)
    if not (bfmi >= BFMI_LIMIT).all():
        problems.append(f"E-BFMI {bfmi.min():.2f} below {BFMI_LIMIT}")
    saturated = float(stats["reached_max_treedepth"].mean())
    if saturated > SATURATION_LIMIT:
        problems.append(f"{100 * saturated:.1f} % of the trajectories hit the largest tree")
    return problems


def _record(problem: FitProblem, u: np.ndarray, method: str, problems: list[str],
            details: dict[str, Any]) -> dict[str, Any]:
    """How the posterior was made: enough to rebuild its potential and to judge it."""
    space = problem.space
    floor = asdict(problem.floor)
    return {
        "schema": SCHEMA,
        "form": space.form.__name__,
        "species": list(space.species),
        "hypers": {k: v for k, v in space.layout.template[1] if k != "species"},
        "reference": asdict(problem.reference),
        "priors": {n: asdict(p) for n, p in zip(space.names, space.priors, strict=True)},
        "fixed": space.fixed,
        "quantities": [q for q in QUANTITIES if f"sigma_{q}" in (*space.names, *space.fixed)],
        "cutoff": problem.cutoff,
        "nu_forces": problem.nu_forces,
        "floor": floor,
        "families": list(space.families),
        "tails": space.tails,
        "misfit": problem.misfit,
        "method": method,
        "problems": problems,
        "n_structures": len(problem.dataset),
        "n_atoms": problem.dataset.n_atoms,
        "data": {
            "source": problem.dataset.source,
            "fingerprint": problem.dataset.fingerprint(),
        },
        "details": details,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("bayespot", "jax", "numpyro", "numpy", "arviz-stats", "ase")
            if _installed(name)
        } | {"python": platform.python_version(), "backend": jax.default_backend()},
    }


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _closest_pair(problem: FitProblem) -> dict[str, float]:
    """Shortest distance in the data per species pair, Å."""
    chunks = problem.graph.chunks
    real = chunks.center < chunks.species.shape[1] - 1
    names = problem.initial.coordinates("pair")
    closest: dict[str, float] = {}
    for c in range(real.shape[0]):
        pairs = np.unique(chunks.pair[c][real[c]])
        for k, name in enumerate(names):
            r = chunks.distance[c][pairs][chunks.pair_species[c][pairs] == k]
            if r.size:
                closest[name] = min(closest.get(name, np.inf), float(r.min()))
    return closest


def _look(problem: FitProblem | StreamedProblem, u: np.ndarray | None, training: Labels3 | None
          ) -> dict[str, Any]:
    """What the record says about the data, in one pass over them."""
    dropped: Counter[str] = Counter()
    ranges = FamilyRanges(problem.reference.length)
    closest, spread, sums = {}, dict.fromkeys(("energy", "forces"), 0.0), np.zeros((3, 2))
    for part in problem.parts():
        dropped.update(part.dropped)
        ranges.add(part.dataset.structures, part.dataset.families)
        for name, r in _closest_pair(part).items():
            closest[name] = min(closest.get(name, np.inf), r)
        for row, w in zip(sums, map(np.asarray, part.data.kappa), strict=True):
            row += w.sum(), (w > 0).sum()
        if u is not None:
            for name, value in _training_spread(problem.space, part, u, training).items():
                spread[name] = max(spread[name], value)
        del part  # before the next one is made
    return {
        "dropped": dict(dropped),
        "closest_pair": closest,
        "families": ranges.table(),
        "mean_kappa": {
            q: float(total / n) if n else 0.0
            for q, (total, n) in zip(QUANTITIES, sums, strict=True)
        },
        "training_spread": spread,
    }


def _training_spread(space: ParameterSpace, problem: FitProblem, u: np.ndarray,
                     training: Labels3 | None, n_draws: int = 32) -> dict[str, float]:
    """Largest parameter spread on the training structures: the mark for "far from the data"."""
    flat = u.reshape(-1, u.shape[-1])
    index = np.unique(np.linspace(0, len(flat) - 1, n_draws).round().astype(int))
    out = training or evaluate_draws(space.potential(flat[index]), problem.graph)
    atoms = np.array([len(a) for a in problem.dataset.structures])
    return {
        "energy": float((out.energy / atoms).std(axis=0).max()),
        "forces": float(out.forces.std(axis=0).max()),
    }
