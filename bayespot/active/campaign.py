"""The loop: label, fit, test, choose, predict, label again; killed and continued at any moment.

Every step leaves one file, written whole or not at all, and that file is the proof that the step
was done. Nothing else is remembered: the same command looks which files are there and goes on
with the first that is missing. Labels live in the ledger only. All randomness is drawn from the
seed folded with round and purpose, so a campaign that was killed ends as one that was not.

    campaign.json  plan.json  ledger.db  learning_curve.json  summary.md
    round_000/  posterior.nc  fit.json  evaluation.json  chosen.json  predicted.json  coverage.json
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bayespot.active.executors import WorkerSettings
from bayespot.active.learner import Learner
from bayespot.active.ledger import Ledger
from bayespot.active.plan import CampaignSettings
from bayespot.active.report import collect_curve, collect_notes, cumulative_coverage
from bayespot.active.steps import CampaignEvent, Steps
from bayespot.active.workers import Workers
from bayespot.data.dataset import Dataset
from bayespot.oracles import Oracle

__all__ = ["CampaignEvent", "CampaignResult", "CampaignSettings", "run_baseline", "run_campaign"]


@dataclass(frozen=True)
class CampaignResult:
    """A finished campaign.

    Attributes
    ----------
    folder : Path
        Where everything lies.
    curve : list of dict
        Rows of the learning curve, see ``learning_curve.json``.
    coverage : dict
        Of all predictions made before labelling, see `prequential.coverage_table`.
    counts : dict
        Calculations by state.
    failures : list of (str, str)
        Formula and reason of each failed calculation.
    notes : list of str
        What a person should know.
    """

    folder: Path
    curve: list[dict[str, Any]]
    coverage: dict[str, Any]
    counts: dict[str, int]
    failures: list[tuple[str, str]]
    notes: list[str]


def run_campaign(
    settings: CampaignSettings,
    *,
    pool: Dataset,
    oracle: Oracle,
    learner: Learner,
    folder: str | Path,
    start: Dataset | None = None,
    test: Dataset | None = None,
    reuse: Sequence[str | Path] = (),
    workers: WorkerSettings | Executor | None = None,
    server: str | None = None,
    name: str | None = None,
    progress: Callable[[CampaignEvent], None] | None = None,
) -> CampaignResult:
    """Run a campaign, or continue it where it stopped.

    Parameters
    ----------
    settings : CampaignSettings
        Numbers; the same as before when continuing, except `rounds`.
    pool : Dataset
        What could be calculated. Labels in it are used for the test set only.
    oracle : Oracle
        Where labels come from.
    learner : Learner
        How posteriors are made.
    folder : path
        One campaign, one folder.
    start : Dataset, optional
        Labels that are there already; in every fit.
    test : Dataset, optional
        A test set of its own; nothing is held out from the pool then.
    reuse : sequence of paths
        Folders of other campaigns whose labels are taken over instead of calculated again.
    workers : WorkerSettings or Executor, optional
        Where calculations run; in this process if left out.
    server : str, optional
        Address of a PostgreSQL database for the ledger, in place of a file in the folder.
    name : str, optional
        Of the campaign on that server; the folder's name if left out.
    progress : callable, optional
        Gets a `CampaignEvent` whenever something happened.

    Raises
    ------
    LedgerError
        If another process drives the campaign, or the ledger's database cannot be used.
    ConfigError
        If the folder holds a campaign with other settings, or the pool is too small.
    OracleError
        If not one label could be had, or there are no workers to calculate them.
    NotConverged
        If a fit does not converge, also not with twice the warmup.
    """
    if isinstance(workers, Executor):
        crew = Workers.around(workers)
    else:
        crew = Workers.described(workers or WorkerSettings(), Path(folder).resolve())
    opened = Ledger.open(folder, server=server, name=name, max_attempts=settings.max_attempts)
    with opened as ledger, crew:
        campaign = Steps(settings, pool, oracle, learner, ledger, start, reuse, crew, progress)
        campaign.identify(test)
        campaign.run(test)
        return _result(ledger)


def run_baseline(
    settings: CampaignSettings, *, folder: str | Path, **arguments: Any
) -> CampaignResult:
    """Run the same campaign with random choice, for comparison.

    The seed decides test set and initial set, so both campaigns share them. Pass ``reuse`` with
    the folder of the other campaign so that no label is calculated for both.

    Parameters
    ----------
    settings : CampaignSettings
        Of the campaign to compare with.
    folder : path
        Another folder.
    **arguments
        As for `run_campaign`.
    """
    return run_campaign(replace(settings, acquisition="random"), folder=folder, **arguments)


def _result(ledger: Ledger) -> CampaignResult:
    failures = [
        (entry.structure.get_chemical_formula(), str(entry.data.get("reason", "unknown")))
        for entry in ledger.failures()
    ]
    return CampaignResult(
        folder=ledger.folder,
        curve=collect_curve(ledger.folder),
        coverage=cumulative_coverage(ledger.folder),
        counts=ledger.counts(),
        failures=failures,
        notes=collect_notes(ledger.folder),
    )
