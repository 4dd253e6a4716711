"""The workers of a campaign: an executor that is made anew where its scheduler was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from bayespot.active.executors import InProcess, WorkerSettings, make_executor
from bayespot.errors import OracleError

__all__ = ["Workers", "is_loss"]

PATIENCE = 600.0
"""Seconds for which a campaign waits for a scheduler that is gone."""

FIRST_PATIENCE = 30.0
"""The same before the first calculation."""


def is_loss(error: BaseException) -> bool:
    """Whether an error says that a worker, or the way to it, was lost.

    What the oracle raises comes back as a value, so whatever a future raises is about the workers:
    either they died, or they cannot run a calculation at all.

    Parameters
    ----------
    error : BaseException
    """
    if "serializ" in type(error).__name__.lower():
        return False
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return False  # a program that is not there does not come back
    known = (CancelledError, BrokenExecutor, OSError, EOFError, TimeoutError)
    packages = ("distributed", "dask", "dask_jobqueue", "parsl", "tornado")
    return isinstance(error, known) or type(error).__module__.split(".")[0] in packages


class Workers:
    """An executor, and how to make it anew.

    Parameters
    ----------
    make : callable
        Makes the executor; what has to be closed later it enters into the stack it is given.
    name : str
        For people.
    remote : bool
        Whether calculations leave this process.
    patience : float
        Seconds for which making it is tried.
    """

    def __init__(
        self,
        make: Callable[[ExitStack], Executor],
        *,
        name: str = "workers",
        remote: bool = True,
        patience: float = PATIENCE,
    ) -> None:
        self.name, self.remote, self.generation = name, remote, 0
        self._make, self._patience = make, patience
        self._stack = ExitStack()
        self._executor: Executor | None = None

    @classmethod
    def described(cls, settings: WorkerSettings, folder: Path) -> Workers:
        """Workers of a configuration.

        Parameters
        ----------
        settings : WorkerSettings
        folder : Path
            For what they write beside the results.
        """
        if settings.kind == "none":
            return cls(lambda stack: InProcess(), name="this process", remote=False)
        name = settings.address or f"{settings.n} {settings.kind} workers"
        return cls(lambda stack: make_executor(settings, stack, folder), name=name)

    @classmethod
    def around(cls, executor: Executor) -> Workers:
        """Workers of an executor that somebody else made and closes.

        Parameters
        ----------
        executor : Executor
        """
        return cls(lambda stack: executor, name=type(executor).__name__, patience=0.0)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Submit a call; where the executor is gone, to a new one.

        Parameters
        ----------
        function : callable
        *arguments

        Raises
        ------
        OracleError
            If no executor can be had, or the call cannot be sent.
        """
        deadline = time.monotonic() + self._patience
        while True:
            executor = self._executor or self._start()
            try:
                return executor.submit(function, *arguments)
            except Exception as error:
                # Executors that were closed behind our back say so with a RuntimeError.
                gone = is_loss(error) or isinstance(error, RuntimeError)
                if not gone or time.monotonic() > deadline:
                    raise OracleError(
                        f"calculations cannot be sent to {self.name} ({_said(error)})", "workers"
                    ) from error
            self.renew()
            time.sleep(0.1)

    def renew(self) -> None:
        """Let the executor go; the next call is submitted to a new one."""
        self._close()
        self.generation += 1

    def broken(self, error: BaseException) -> bool:
        """Whether the executor that an error came from is of no use any more.

        Parameters
        ----------
        error : BaseException
        """
        alive = getattr(self._executor, "alive", None)
        return isinstance(error, BrokenExecutor) or (alive is not None and not alive())

    def _start(self) -> Executor:
        # At first a wrong address is more likely than a scheduler that restarts.
        patience = self._patience if self.generation else min(self._patience, FIRST_PATIENCE)
        deadline, pause = time.monotonic() + patience, 0.1
        while True:
            stack = ExitStack()
            try:
                self._executor = self._make(stack)
            except Exception as error:
                stack.close()
                if not is_loss(error):
                    raise
                if time.monotonic() + pause > deadline:
                    raise OracleError(
                        f"{self.name} cannot be reached ({_said(error)}); start the scheduler and "
                        "run the same command: nothing that was recorded is lost",
                        "workers",
                    ) from error
            else:
                self._stack = stack
                return self._executor
            time.sleep(pause)
            pause = min(2.0 * pause, 10.0)

    def _close(self) -> None:
        self._executor = None
        # What is left of a cluster whose scheduler died may fail to close in any way.
        with suppress(Exception):
            self._stack.close()


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
