"""Labels for what was asked: sent to the workers, recorded as they come, sent again if lost.

The order of asking is the ledger's; in which order calculations end changes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from pathlib import Path

from bayespot.active.jobs import (
    Failure,
    Job,
    calculate,
    clear,
    left_behind,
    noted_starts,
    run_job,
)
from bayespot.active.ledger import Ledger
from bayespot.active.workers import Workers, is_loss
from bayespot.errors import OracleError
from bayespot.oracles import LabelledResult

__all__ = ["Labelling", "record"]

_CLAIM = 100  # calculations that go to the workers in one transaction

_HOPELESS = 100  # workers lost one after the other before any began to calculate


def record(
    ledger: Ledger, key: str, outcome: LabelledResult | Failure, *, attempts: int = 0
) -> None:
    """Write down what came of a calculation that runs.

    Parameters
    ----------
    ledger : Ledger
    key : str
    outcome : LabelledResult or Failure
    attempts : int
        How often it was started, if that is known.
    """
    if isinstance(outcome, Failure):
        ledger.fail(
            key, outcome.reason, kind=outcome.kind, tried=outcome.tried, attempts=attempts
        )
    else:
        ledger.finish(key, outcome, attempts=attempts)


class Labelling:
    """Has calculations done.

    Parameters
    ----------
    ledger : Ledger
        Where they were asked for.
    workers : Workers
        Where they run.
    told : callable
        Gets the address and what came of it; None for a calculation that was lost and goes out
        again.
    """

    def __init__(
        self,
        ledger: Ledger,
        workers: Workers,
        told: Callable[[str, LabelledResult | Failure | None], None],
    ) -> None:
        self._ledger, self._workers, self._told = ledger, workers, told
        self._folder = str(Path(ledger.folder).resolve())
        self._running: dict[Future, tuple[str, int]] = {}
        self._waiting: deque[str] = deque()
        self._idle = 0
        self._starts: dict[str, int] = {}

    def run(
        self, jobs: Mapping[str, Job], known: Mapping[str, LabelledResult] | None = None
    ) -> None:
        """Label everything, in this order where there is one worker.

        Parameters
        ----------
        jobs : mapping of str to Job
            By address; all of them asked for.
        known : mapping of str to LabelledResult, optional
            Labels that are there already, from another campaign.

        Raises
        ------
        OracleError
            If there are no workers, or they cannot calculate anything.
        LedgerError
            If the ledger was taken over or cannot be written.
        """
        self._waiting.extend(jobs)
        while self._waiting or self._running:
            self._ledger.check()
            self._send(jobs, known or {})
            done, _ = wait(self._running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                self._receive(future)
            self._give_up_on_the_old()
        # Without jobs, this is a round of old, and what is there belongs to the one that comes.
        if jobs:
            clear(self._folder)

    def _send(self, jobs: Mapping[str, Job], known: Mapping[str, LabelledResult]) -> None:
        if not self._waiting:
            return
        remote = self._workers.remote
        n = min(_CLAIM if remote else 1, len(self._waiting))
        some = [self._waiting.popleft() for _ in range(n)]
        for key in self._ledger.claim(some, attempts=0 if remote else 1):
            outcome = known.get(key) or left_behind(self._folder, key)
            if outcome is not None:
                self._settle(key, outcome)
                continue
            job = jobs[key]
            call = (run_job, job) if remote else (calculate, job.oracle, job.structure)
            future = self._workers.submit(*call)
            self._running[future] = (key, self._workers.generation)

    def _receive(self, future: Future) -> None:
        key, generation = self._running.pop(future)
        try:
            outcome = future.result()
        except Exception as error:
            if not is_loss(error):
                raise OracleError(
                    f"{self._workers.name} cannot calculate ({type(error).__name__}: {error}); "
                    "workers need the same bayespot and the same codes as this process",
                    "workers",
                ) from error
            self._lost(key, generation, error)
        else:
            self._settle(key, outcome)

    def _give_up_on_the_old(self) -> None:
        """Calculations that were sent to an executor that is no more do not come back."""
        for future, (_, generation) in list(self._running.items()):
            if generation < self._workers.generation and not future.done():
                key, _ = self._running.pop(future)
                self._lost(key, generation, CancelledError("the scheduler was lost"))

    def _settle(self, key: str, outcome: LabelledResult | Failure) -> None:
        self._idle = 0
        starts = noted_starts(self._folder, key) or 1
        record(self._ledger, key, outcome, attempts=starts)
        self._told(key, outcome)

    def _lost(self, key: str, generation: int, error: Exception) -> None:
        """Send a calculation out again whose worker, or whose scheduler, is gone."""
        if generation == self._workers.generation and self._workers.broken(error):
            self._workers.renew()
        starts = noted_starts(self._folder, key)
        began = starts is None or starts > self._starts.get(key, 0)
        self._starts[key] = starts or 0
        self._idle = 0 if began else self._idle + 1
        if self._idle >= _HOPELESS:
            raise OracleError(
                f"{self._workers.name} were lost {self._idle} times without having begun a single "
                f"calculation ({type(error).__name__}: {error}); look into their logs",
                "workers",
            ) from error
        reason = f"{type(error).__name__}: {error}"
        if (outcome := left_behind(self._folder, key)) is not None:
            self._settle(key, outcome)
        elif self._ledger.lose(key, reason, attempts=starts) == "asked":
            self._waiting.append(key)
            self._told(key, None)
        else:
            self._told(key, Failure(reason, "worker_lost"))
