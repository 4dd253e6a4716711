"""Where calculations run: in this process, in others beside it, or on a cluster.

All of them are `concurrent.futures.Executor`; queues, machines and scheduling belong to Dask,
dask-jobqueue, Parsl or the batch system behind them.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bayespot.errors import ConfigError

__all__ = ["JOB_CLUSTERS", "InProcess", "WorkerSettings", "job_script", "make_executor"]

FREE_PORT = "127.0.0.1:0"
"""For Dask's status page: its own choice, 8787, is taken where two campaigns run on a machine."""

JOB_CLUSTERS = {
    "slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster",
    "oar": "OARCluster", "moab": "MoabCluster", "htcondor": "HTCondorCluster",
}  # fmt: skip
"""Batch systems that dask-jobqueue submits to, and its class for each."""


@dataclass(frozen=True)
class WorkerSettings:
    """Which workers a campaign has.

    Attributes
    ----------
    kind : str
        ``none`` (calculate in this process), ``processes``, ``dask`` or ``parsl``.
    n : int
        Processes; with a batch system jobs.
    address : str, optional
        Of a Dask scheduler that runs already, or its scheduler file.
    cluster : str
        For Dask without an address: ``local``, or a batch system of `JOB_CLUSTERS`.
    executor, provider : str
        Classes of Parsl.
    options, provider_options : mapping
        Keywords of the cluster or executor, and of Parsl's provider.
    """

    kind: str = "none"
    n: int = 1
    address: str | None = None
    cluster: str = "local"
    executor: str = "HighThroughputExecutor"
    provider: str = "LocalProvider"
    options: Mapping[str, Any] = field(default_factory=dict)
    provider_options: Mapping[str, Any] = field(default_factory=dict)


class InProcess(Executor):
    """Calls at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Call, and return what came of it."""
        future: Future = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class WorkerDiedError(OSError):
    """One process of several is gone, and what it calculated with it."""


_BUSY = threading.Lock()


class Processes(Executor):
    """Processes beside this one, each with a pool of its own: one that dies takes no other along.

    Parameters
    ----------
    n : int
        How many.
    """

    def __init__(self, n: int) -> None:
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="bayespot-worker")
        self._own = threading.local()
        self._pools: list[ProcessPoolExecutor] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Call in one of the processes."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; what they calculate at the moment they calculate to the end."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        for pool in self._pools:
            pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _call(self, fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        pool = getattr(self._own, "pool", None)
        if pool is None:
            # Not forked: JAX has threads, and a fork in their midst can hang.
            context = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(1, mp_context=context, initializer=_follow_parent)
            self._own.pool = pool
            self._pools.append(pool)
        try:
            return pool.submit(_busily, fn, args, kwargs).result()
        except BrokenExecutor as error:
            self._own.pool = None
            raise WorkerDiedError("the process died while it calculated") from error


def _busily(fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    with _BUSY:
        return fn(*args, **kwargs)


def _follow_parent() -> None:
    """End with the parent, but not in the middle of a calculation."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            with _BUSY:
                os._exit(0)

    threading.Thread(target=follow, daemon=True).start()


def _processes(settings: WorkerSettings, stack: ExitStack, folder: Path) -> Executor:
    executor = Processes(settings.n)
    stack.callback(executor.shutdown, wait=False, cancel_futures=True)
    return executor


class DaskExecutor(Executor):
    """Calculations on the workers of a Dask client.

    In place of Dask's own executor, whose futures wait for ever where a result is lost between
    worker and client.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def alive(self) -> bool:
        """Whether the scheduler is there."""
        return self._client.status == "running"

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Call on one of the workers."""
        inner = self._client.submit(fn, *args, pure=False, **kwargs)
        outer: Future = Future()

        def settle(ended: Any) -> None:
            try:
                outer.set_result(ended.result(timeout=60))
            # Cancelled futures raise what asyncio raises, which is no Exception; a client that was
            # closed on the way raises what it likes.
            except BaseException as error:
                theirs = ended.status == "error" and self.alive()
                outer.set_exception(error if theirs else CancelledError(repr(error)))
            finally:
                # Dask calculates again what its user still holds and a dead worker had.
                with suppress(Exception):
                    ended.release()

        outer.inner = inner  # type: ignore[attr-defined]  (Dask forgets what nobody holds)
        inner.add_done_callback(settle)
        return outer


def _dask(settings: WorkerSettings, stack: ExitStack, folder: Path) -> Executor:
    distributed = _package("distributed", "dask")
    if settings.address is not None:
        file = settings.address.endswith(".json")
        where = {"scheduler_file" if file else "address": settings.address}
        client = distributed.Client(**where, timeout=10, set_as_default=False)
    else:
        cluster = stack.enter_context(_dask_cluster(settings))
        client = distributed.Client(cluster, timeout=60, set_as_default=False)
    stack.callback(client.close, timeout=5)
    return DaskExecutor(client)


def _dask_cluster(settings: WorkerSettings) -> Any:
    import dask

    # A lost worker comes back to the driver, which counts it, instead of three times silently; a
    # worker has one calculation, not a second that is lost with it; and as many jobs as there are
    # calculations are worth starting, since one takes long.
    rules = {
        "allowed-failures": 0,
        "worker-saturation": 1.0,
        "default-task-durations": {"run_job": "1h"},
    }
    with dask.config.set({f"distributed.scheduler.{name}": rules[name] for name in rules}):
        if settings.cluster != "local":
            cluster = _job_cluster(settings)
            # Jobs come and go with the calculations: none waits for a fit, and one that reached
            # its time limit is replaced.
            cluster.adapt(minimum_jobs=0, maximum_jobs=settings.n, interval="2s", wait_count=15)
            return cluster
        distributed = _package("distributed", "dask")
        given = {"threads_per_worker": 1, "dashboard_address": FREE_PORT, **settings.options}
        return distributed.LocalCluster(n_workers=settings.n, processes=True, **given)


def _job_cluster(settings: WorkerSettings) -> Any:
    jobqueue = _package("dask_jobqueue", "dask-jobqueue")
    maker = getattr(jobqueue, JOB_CLUSTERS[settings.cluster])
    # A process calculates one structure at a time; dask-jobqueue would give it as many as cores.
    given = {
        "scheduler_options": {"dashboard_address": FREE_PORT},
        "worker_extra_args": ["--nthreads", "1"],
        **settings.options,
    }
    try:
        return maker(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"dask-jobqueue's {maker.__name__} does not take learn.workers.options = "
            f"{dict(settings.options)}: {error}"
        ) from error


def _parsl(settings: WorkerSettings, stack: ExitStack, folder: Path) -> Executor:
    parsl = _package("parsl", "parsl")
    from parsl import executors, providers
    from parsl.concurrent import ParslPoolExecutor

    given = dict(settings.options)
    if settings.executor != "ThreadPoolExecutor":
        provider = _named(providers, settings.provider, "provider")
        given["provider"] = _made(provider, "provider_options", settings.provider_options)
    executor = _made(_named(executors, settings.executor, "executor"), "options", given)
    # Parsl starts its programs by their names, and they lie beside this Python.
    beside = str(Path(sys.executable).parent)
    if beside not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = os.pathsep.join([beside, os.environ.get("PATH", os.defpath)])
    # It forks to start them, and runs nothing of ours before the new program takes over.
    warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
    config = parsl.Config(
        executors=[executor], run_dir=str(folder / "parsl"), initialize_logging=False
    )
    return stack.enter_context(ParslPoolExecutor(config))


def _named(module: Any, name: str, key: str) -> Any:
    known = [n for n in module.__all__ if n.endswith(("Executor", "Provider"))]
    if name not in known:
        raise ConfigError(
            f"learn.workers.{key} = {name!r} is none of Parsl's; known: {', '.join(known)}"
        )
    return getattr(module, name)


def _made(maker: Any, key: str, given: Mapping[str, Any]) -> Any:
    try:
        return maker(**given)
    except TypeError as error:
        raise ConfigError(
            f"Parsl's {maker.__name__} does not take learn.workers.{key} = {dict(given)}: {error}"
        ) from error


def _package(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"these workers need {package}: pip install 'bayespot[cluster]' ({error})"
        ) from error


def make_executor(settings: WorkerSettings, stack: ExitStack, folder: Path) -> Executor:
    """Start workers.

    Parameters
    ----------
    settings : WorkerSettings
        Of any kind but ``none``.
    stack : ExitStack
        Gets what has to be closed later.
    folder : Path
        For what they write beside the results.

    Raises
    ------
    ConfigError
        If a package is missing, or refuses its keywords.
    """
    makers = {"processes": _processes, "dask": _dask, "parsl": _parsl}
    return makers[settings.kind](settings, stack, folder)


def job_script(settings: WorkerSettings) -> str:
    """Return the script that a batch system will get for each job of workers.

    Nothing is submitted, and the batch system need not be there.

    Parameters
    ----------
    settings : WorkerSettings

    Raises
    ------
    ConfigError
        If no batch system is named.
    """
    if settings.kind != "dask" or settings.cluster not in JOB_CLUSTERS or settings.address:
        raise ConfigError(
            "there is no job script: learn.workers needs kind = 'dask', no address, and "
            f"cluster = one of {', '.join(JOB_CLUSTERS)} (Parsl writes its scripts to runinfo/ "
            "when it submits)"
        )
    with _job_cluster(settings) as cluster:
        return str(cluster.job_script())
