"""The workers and the ledger of a campaign: what goes together in their tables, what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayespot.config.tables import LearnTable, RunConfig, WorkersTable
from bayespot.errors import ConfigError

if TYPE_CHECKING:
    from bayespot.active.executors import WorkerSettings

__all__ = ["worker_mistakes", "workers_of"]

_BELONG = {
    "none": set(),
    "processes": {"n"},
    "dask": {"n", "address", "cluster", "options"},
    "parsl": {"executor", "provider", "options", "provider_options"},
}
"""Keys of each kind of workers."""


def workers_of(config: RunConfig) -> WorkerSettings:
    """Say which workers a campaign has.

    Raises
    ------
    ConfigError
        Without a table ``[learn]``.
    """
    from bayespot.active.executors import WorkerSettings

    if config.learn is None:
        raise ConfigError("the table [learn] is missing: give it at least a pool")
    given: dict[str, Any] = config.learn.workers.model_dump()
    return WorkerSettings(**given)


def worker_mistakes(learn: LearnTable) -> list[str]:
    """Find keys of the workers that do not go together, and a ledger that cannot be.

    Parameters
    ----------
    learn : LearnTable
    """
    found = _combinations(learn.workers)
    if learn.workers.kind != "none" and learn.oracle == "archive":
        found.append(
            f"learn.workers.kind = '{learn.workers.kind}' has nothing to do: learn.oracle = "
            "'archive' looks labels up; name a calculator, or leave the workers out"
        )
    if learn.ledger is not None:
        from bayespot.active.database import check_url

        try:
            check_url(learn.ledger)
        except ConfigError as error:
            found.append(f"learn.{error}")
    return found


def _combinations(table: WorkersTable) -> list[str]:
    plain = WorkersTable()  # a resolved file has every default written out
    given = {key for key in table.model_fields_set - {"kind"}
             if getattr(table, key) != getattr(plain, key)}  # fmt: skip
    found = []
    for key in sorted(given - _BELONG[table.kind]):
        kinds = [kind for kind, keys in _BELONG.items() if key in keys]
        found.append(
            f"learn.workers.{key} belongs to kind = {' or '.join(map(repr, kinds))}, and the kind "
            f"is '{table.kind}'"
        )
    if table.kind == "dask" and table.address is not None:
        if both := sorted(given & {"n", "cluster", "options"}):
            found.append(
                f"learn.workers.address names a scheduler that runs already, whose workers are "
                f"started beside it: leave {', '.join(both)} out"
            )
        schemes = ("tcp://", "tls://", "ucx://", "ws://", "wss://")
        if not table.address.startswith(schemes) and not table.address.endswith(".json"):
            found.append(
                f"learn.workers.address = {table.address!r} is neither the address of a Dask "
                "scheduler (tcp://host:8786) nor its scheduler file (.json)"
            )
    if table.cluster != "local" and not table.options and table.address is None:
        found.append(
            f"learn.workers.options are missing: cluster = '{table.cluster}' needs at least cores "
            "and memory of a job, usually queue and walltime"
        )
    return found
