r"""The No-U-Turn sampler in coordinates that are whitened and straightened at the mode.

The posterior of a potential has condition numbers of 1e4 and more. NumPyro's defaults never mix
there: the regularisation of its mass matrix adds about 1e-5 to variances that are 1e-6. So the
sampler works in :math:`z`, with :math:`u = u^* + L w(z)` and :math:`L L^T` the inverse Hessian at
the mode :math:`u^*` (noise entries included): there every direction has unit scale, and a
diagonal mass matrix adapts the rest. The map :math:`w(z)` of `bayespot.inference.curved` takes out
the curves that stiff directions follow along loose ones, which no matrix can.

Chains run in threads, one per core, in one compiled program, block by block; after each block all
states can be written to a folder, from which the same call continues to the same draws. Where the
problem names devices, chains are dealt to the groups of devices that each hold a copy of the data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpyro.infer.hmc import hmc

from bayespot.inference.assemble import build_posterior
from bayespot.inference.curved import Curved, curved, forward_all
from bayespot.inference.map import climb, find_modes
from bayespot.inference.misfit import require_method, target_of, treat_misfit
from bayespot.inference.stamp import stamp
from bayespot.likelihood import FitProblem, log_posterior
from bayespot.likelihood.devices import Place, put
from bayespot.parameters import Layout
from bayespot.posterior import Posterior

MODE_WINDOW = 6.0
"""Chains start from modes whose log posterior is within this of the best."""

RECORDED = ("potential_energy", "energy", "num_steps", "accept_prob", "diverging")


@lru_cache(maxsize=16)
def _kernel(layout: Layout, warmup: int, target_accept: float, max_tree_depth: int
            ) -> tuple[Callable, Callable]:
    """Compiled (start, advance) of a NUTS chain in ``z``; data are arguments."""

    def potential_of(constants: Any, data: Any, coordinates: Curved) -> Callable:
        def potential(z: Any) -> Any:
            u, log_volume = coordinates.forward(z)
            return -log_posterior(layout, constants, data, u) - log_volume

        return potential

    init, sample = hmc(potential_fn_gen=potential_of, algo="NUTS")

    @jax.jit
    def start(z: Any, key: Any, arguments: tuple) -> Any:
        return init(
            z, warmup, step_size=0.3, dense_mass=False, target_accept_prob=target_accept,
            max_tree_depth=max_tree_depth, trajectory_length=None, model_args=arguments,
            rng_key=key,
        )

    @jax.jit
    def advance(state: Any, arguments: tuple, length: Any, record: Any) -> tuple:
        """``length`` iterations; ``record`` [block, ...] is filled with what they were."""

        def one(k: Any, carry: tuple) -> tuple:
            state, record = carry
            state = sample(state, arguments)
            row = (state.z, *(getattr(state, name) for name in RECORDED))
            record = tuple(r.at[k].set(v) for r, v in zip(record, row, strict=True))
            return state, record

        return jax.lax.fori_loop(0, length, one, (state, record))

    return start, advance


def nuts(
    problem: FitProblem,
    *,
    key: jax.Array,
    chains: int = 4,
    warmup: int = 300,
    draws: int = 500,
    starts: int = 16,
    target_accept: float = 0.95,
    max_tree_depth: int = 10,
    progress: bool | Callable[[int, int, str], None] = True,
    checkpoint: str | Path | None = None,
    block: int = 50,
) -> Posterior:
    """Draws from the posterior by NUTS.

    Parameters
    ----------
    problem : FitProblem
    key : jax.Array
        Random key; the same key gives the same draws, interrupted or not.
    chains, warmup, draws : int
        Number of chains, and iterations of each before and after adaptation.
    starts : int
        Starting points of the search for modes; chains start around distinct modes.
    target_accept, max_tree_depth
        As in NumPyro. At 0.9 Stillinger-Weber silicon had four divergences in 3600 draws, at 0.95
        none, with trees no longer than those of whitening alone at 0.9.
    progress : bool or callable
        Show a bar, or call ``progress(done, total, message)``.
    checkpoint : path, optional
        Folder for the state after every ``block`` iterations. The same call continues from it.
    block : int
        Iterations between checkpoints.

    Raises
    ------
    BayespotError
        If the checkpoint belongs to another problem or other settings, or the misfit is to be
        treated in a way that takes no sampling.
    """
    require_method(problem, "nuts")
    began = time.perf_counter()
    key_map, key_chains = jax.random.split(key)
    run = _Run(problem, checkpoint, {
        "chains": chains, "warmup": warmup, "draws": draws, "target_accept": target_accept,
        "max_tree_depth": max_tree_depth, "block": block, "starts": starts, "coordinates": "curved",
        "data": problem.dataset.fingerprint(), "names": problem.space.names,
        "priors": np.asarray(problem.space.constants.priors).tolist(),
        "form": [problem.space.form.__name__, list(problem.space.layout.template[1])],
        "floor": asdict(problem.floor), "nu_forces": problem.nu_forces,
        "misfit": problem.misfit if problem.temperature is None else
        [problem.misfit, problem.temperature],
        "fixed": problem.space.fixed, "key": np.asarray(jax.random.key_data(key)).tolist()
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else np.asarray(key).tolist(),
        **({} if problem.tails == "normal" else {"tails": problem.tails}),
    })
    modes = run.cached_modes()
    if modes is None:
        found = find_modes(problem, key_map, starts=starts)
        best = found[0].log_posterior
        kept = [m for m in found if best - m.log_posterior < MODE_WINDOW]
        modes = np.stack([m.u for m in kept])
        run.store_modes(modes)
    target = target_of(problem, modes[0])
    density = target.density
    if density is not problem:
        modes = np.stack([climb(density, u[: problem.space.layout.n_theta]).u for u in modes])
    cached = run.cached_coordinates()
    coordinates, shape = cached or curved(density, modes[0])
    if cached is None:
        run.store_coordinates(coordinates, shape)
    searched = time.perf_counter()
    start, advance = _kernel(density.space.layout, warmup, target_accept, max_tree_depth)
    show = _reporter(progress, chains * (warmup + draws))
    places = density.places
    everywhere = [
        (put(density.space.constants, place), put(density.placed(place), place, chunks=True),
         put(coordinates, place))
        for place in places[:chains]
    ]

    def one_chain(c: int) -> dict[str, np.ndarray]:
        arguments = everywhere[c % len(everywhere)]
        state_key, z_key = jax.random.split(jax.random.fold_in(key_chains, c))
        offset = coordinates.inverse(modes[c % len(modes)])
        z = offset + np.asarray(jax.random.normal(z_key, offset.shape))
        rows, state = run.resume(c, start(jnp.asarray(z), state_key, arguments))
        done = 0 if rows is None else len(rows["z"])
        show(done)
        empty = jax.tree.map(
            lambda v: jnp.zeros((block, *jnp.shape(v)), jnp.asarray(v).dtype),
            (state.z, *(getattr(state, name) for name in RECORDED)),
        )
        while done < warmup + draws:
            length = min(block, warmup + draws - done)
            state, record = advance(state, arguments, length, empty)
            new = {n: np.asarray(v)[:length] for n, v in zip(("z", *RECORDED), record, strict=True)}
            rows = new if rows is None else {n: np.concatenate([rows[n], new[n]]) for n in new}
            done += length
            run.save(c, rows, state)
            show(length)
        return rows

    try:
        results = _in_threads(one_chain, chains, places[:chains])
    finally:
        show(None)
    rows = {n: np.stack([r[n] for r in results]) for n in ("z", *RECORDED)}
    warm = rows["num_steps"][:, :warmup].sum()
    kept = {n: v[:, warmup:] for n, v in rows.items()}
    u, log_volume = map(np.asarray, jax.vmap(forward_all, (None, 0))(coordinates, kept["z"]))
    stats = {
        "lp": -kept["potential_energy"] - log_volume,
        "energy": kept["energy"],
        "n_steps": kept["num_steps"],
        "acceptance_rate": kept["accept_prob"],
        "diverging": kept["diverging"],
        "reached_max_treedepth": kept["num_steps"] >= 2**max_tree_depth - 1,
    }
    posterior = build_posterior(
        target.final, u, method="nuts", sample_stats=stats, marks=target.marks,
        details={
            "chains": chains, "warmup": warmup, "draws": draws, "target_accept": target_accept,
            "max_tree_depth": max_tree_depth, "modes": len(modes), "coordinates": shape,
            "gradients_warmup": int(warm), "gradients_draws": int(kept["num_steps"].sum()),
            "seconds_modes": searched - began, "seconds": time.perf_counter() - began,
            **target.details,
        },
    )
    return treat_misfit(problem, posterior, jax.random.fold_in(key, 1))


def _in_threads(one_chain: Callable[[int], dict], chains: int, places: list[Place]) -> list[dict]:
    """The rows of all chains."""
    if not isinstance(places[0], Mesh):
        # One device runs programs of several threads side by side: one compilation serves them.
        with ThreadPoolExecutor(min(chains, os.cpu_count() or 1)) as pool:
            return list(pool.map(one_chain, range(chains)))
    # Devices that wait for each other must all be given their work in the same order.
    with ThreadPoolExecutor(len(places)) as pool:
        dealt = pool.map(
            lambda first: [one_chain(c) for c in range(first, chains, len(places))],
            range(len(places)),
        )
        rows = list(dealt)
    return [rows[c % len(places)][c // len(places)] for c in range(chains)]


class _Run:
    """The checkpoint folder of one call; does nothing without a folder."""

    def __init__(self, problem: FitProblem, folder: str | Path | None, settings: dict) -> None:
        self.folder = Path(folder) if folder is not None else None
        if self.folder is None:
            return
        stamp(self.folder / "settings.json", settings, "the checkpoint")

    def cached_modes(self) -> np.ndarray | None:
        """Modes of an earlier start of the same call."""
        path = self.folder / "modes.npy" if self.folder else None
        return np.load(path, allow_pickle=False) if path and path.exists() else None

    def store_modes(self, modes: np.ndarray) -> None:
        """Keep the modes, so that a continued run is whitened alike."""
        if self.folder:
            _save_array(self.folder / "modes.npy", modes)

    def cached_coordinates(self) -> tuple[Curved, dict[str, float]] | None:
        """The coordinates in which the draws of the folder are written, if there are any."""
        path = self.folder / "coordinates.npz" if self.folder else None
        if path is None or not path.exists():
            return None
        with np.load(path, allow_pickle=False) as stored:
            parts = dict(stored)
        coordinates = Curved(*(parts.pop(name) for name in Curved._fields))
        return coordinates, {name: float(value) for name, value in parts.items()}

    def store_coordinates(self, coordinates: Curved, shape: dict[str, float]) -> None:
        """Keep the coordinates, so that a continued run has the same ones to the last digit."""
        if self.folder:
            _save_arrays(self.folder / "coordinates.npz", {**coordinates._asdict(), **shape})

    def resume(self, chain: int, fresh: Any) -> tuple[dict | None, Any]:
        """Draws so far and the sampler's state, or nothing and the fresh state."""
        path = self.folder / f"chain_{chain}.npz" if self.folder else None
        if path is None or not path.exists():
            return None, fresh
        with np.load(path, allow_pickle=False) as stored:
            leaves, structure = jax.tree.flatten(_plain(fresh))
            state = jax.tree.unflatten(
                structure, [jnp.asarray(stored[f"state_{k}"]) for k in range(len(leaves))]
            )
            rows = {n: stored[f"row_{n}"] for n in ("z", *RECORDED)}
        return rows, _with_key(state, fresh)

    def save(self, chain: int, rows: dict, state: Any) -> None:
        """Write draws and state; the file appears whole or not at all."""
        if self.folder is None:
            return
        leaves = jax.tree.leaves(_plain(state))
        arrays = {f"state_{k}": np.asarray(v) for k, v in enumerate(leaves)}
        arrays |= {f"row_{n}": v for n, v in rows.items()}
        _save_arrays(self.folder / f"chain_{chain}.npz", arrays)


def _plain(state: Any) -> Any:
    """The state with its random keys as plain integers."""
    return jax.tree.map(
        lambda v: jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v,
        state,
    )


def _with_key(state: Any, like: Any) -> Any:
    """Plain integers back to random keys where ``like`` has them."""
    return jax.tree.map(
        lambda v, t: jax.random.wrap_key_data(v)
        if jnp.issubdtype(t.dtype, jax.dtypes.prng_key) else v,
        state, like,
    )


def _save_array(path: Path, array: np.ndarray) -> None:
    temporary = path.with_name(f".{path.stem}.tmp.npy")
    np.save(temporary, array, allow_pickle=False)
    os.replace(temporary, path)


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.stem}.tmp.npz")
    np.savez(temporary, **arrays)
    os.replace(temporary, path)


def _reporter(progress: bool | Callable, total: int) -> Callable[[int | None], None]:
    """A function that takes newly finished iterations, and None at the end."""
    if progress is False:
        return lambda done: None
    if callable(progress):
        count = [0]

        def call(done: int | None) -> None:
            count[0] += done or 0
            progress(count[0], total, "sampling")

        return call
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(TextColumn("sampling"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
                   TimeElapsedColumn(), TimeRemainingColumn())
    task = bar.add_task("sampling", total=total)
    bar.start()

    def advance(done: int | None) -> None:
        if done is None:
            bar.stop()
        else:
            bar.advance(task, done)

    return advance
