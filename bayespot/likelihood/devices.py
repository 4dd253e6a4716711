"""One data set on several devices: each sums over the chunks that it holds, then they add up.

The chunks of a `FitData` lie on the devices of its mesh in equal parts, the parameters on all of
them. The sum over chunks is the only place where devices speak to each other: one number and one
gradient for each evaluation. On several hosts (`bayespot.configure` with ``hosts``) the devices are
those of all of them, and every process runs the same program on the same data set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from bayespot.errors import BayespotError
from bayespot.evaluate import chunk_sum

AXIS = "chunks"

Place = Mesh | SingleDeviceSharding | None
"""Devices that share the data, one device that has them all, or wherever JAX puts them."""


def groups(devices: int | None) -> list[Place]:
    """Groups of so many devices that share one copy of the data; those left over are not used.

    Raises
    ------
    BayespotError
        If there are fewer devices, or several hosts and not all their devices are asked for.
    """
    if devices is None:
        return [None]
    found = jax.devices()
    if not 1 <= devices <= len(found):
        raise BayespotError(
            f"devices={devices}: JAX has {len(found)} here ({found[0].platform}). For several on "
            "one CPU set XLA_FLAGS=--xla_force_host_platform_device_count before JAX starts; for "
            "several hosts call bayespot.configure(hosts=...) first"
        )
    if jax.process_count() > 1 and devices != len(found):
        raise BayespotError(
            f"devices={devices} on {jax.process_count()} hosts with {len(found)} devices together: "
            f"hosts share one copy of the data, give devices={len(found)}"
        )
    if devices == 1:
        return [SingleDeviceSharding(device) for device in found]
    return [
        Mesh(np.array(found[first : first + devices]), (AXIS,))
        for first in range(0, len(found) - devices + 1, devices)
    ]


def put(values: Any, place: Place, *, chunks: bool = False) -> Any:
    """Arrays on the devices of a place: in parts where they are chunks, otherwise a copy on each.

    What a place of None gets stays free to go where a program needs it.
    """
    if isinstance(place, Mesh):
        return jax.device_put(
            values, NamedSharding(place, PartitionSpec(AXIS) if chunks else PartitionSpec())
        )
    return jax.device_put(values, place)


def sum_over_chunks(one: Callable, data: Any, *arguments: Any) -> Any:
    """Sum of ``one(data, k, *arguments)`` over the chunks in use; compiled, not differentiable.

    ``data`` is a `FitData`.
    """
    if data.mesh is None:
        return chunk_sum(lambda k: one(data, k, *arguments), data.n_chunks)

    def own(part: Any, *arguments: Any) -> Any:
        total = chunk_sum(lambda k: one(part, k, *arguments), part.n_chunks[0])
        return jax.lax.psum(total, AXIS)

    return _spread(own, data, arguments)


def map_over_chunks(one: Callable, data: Any, *arguments: Any) -> Any:
    """``one(data, k, *arguments)`` of every chunk, [n_chunks, ...]; all devices get all of it."""
    if data.mesh is None:
        return _map(one, data, *arguments)

    def own(part: Any, *arguments: Any) -> Any:
        return jax.tree.map(
            lambda a: jax.lax.all_gather(a, AXIS, tiled=True), _map(one, part, *arguments)
        )

    return _spread(own, data, arguments)


def _map(one: Callable, data: Any, *arguments: Any) -> Any:
    return jax.lax.map(lambda k: one(data, k, *arguments), jnp.arange(data.atoms.shape[0]))


def _spread(own: Callable, data: Any, arguments: tuple) -> Any:
    """Run a function of a part of the data on the device of each part."""
    # Parts differ in how many chunks they have, so nothing may be added up inside of the loop, as
    # the check of what varies over devices would do for derivatives.
    return jax.shard_map(
        own, mesh=data.mesh, in_specs=(PartitionSpec(AXIS), *(PartitionSpec() for _ in arguments)),
        out_specs=PartitionSpec(), check_vma=False,
    )(data, *arguments)
