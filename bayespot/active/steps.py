"""The steps of a campaign; each looks for its own file first and does nothing if it is there."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bayespot.active.acquisition import choose
from bayespot.active.jobs import Failure, Job
from bayespot.active.labelling import Labelling
from bayespot.active.learner import Learner
from bayespot.active.ledger import Ledger
from bayespot.active.plan import CampaignSettings, Plan, folded_seed, make_plan
from bayespot.active.prequential import coverage_counts, errors, predicted_rows
from bayespot.active.report import write_reports
from bayespot.active.same_campaign import refuse_changes, refuse_other_labels, refuse_reuse
from bayespot.active.workers import Workers
from bayespot.data.dataset import Dataset, Labels, has_vacuum
from bayespot.errors import NotConverged, OracleError
from bayespot.oracles import LabelledResult, Oracle, calculation_key
from bayespot.records import canonical_json, read_json, write_json

__all__ = ["CampaignEvent", "Steps"]


@dataclass(frozen=True)
class CampaignEvent:
    """Something happened: for progress bars and logs.

    Attributes
    ----------
    phase : str
        ``label``, ``fit``, ``test``, ``choose``, ``predict`` or ``coverage``.
    round : int
        -1 while the initial set is labelled.
    message : str
        One line for people.
    done, total : int
        Progress within the phase.
    """

    phase: str
    round: int
    message: str
    done: int = 0
    total: int = 0


class Steps:
    """The steps; each looks for its own file first."""

    def __init__(
        self,
        settings: CampaignSettings,
        pool: Dataset,
        oracle: Oracle,
        learner: Learner,
        ledger: Ledger,
        start: Dataset | None,
        reuse: Sequence[str | Path],
        workers: Workers,
        progress: Callable[[CampaignEvent], None] | None,
    ) -> None:
        self.settings = settings
        self.pool = pool
        self.oracle = oracle
        self.learner = learner
        self.ledger = ledger
        self.start = start
        self.folder = ledger.folder
        self.workers = workers
        self._progress = progress
        self._others = [Path(other) for other in reuse]
        self._known: dict[str, LabelledResult] | None = None
        self._posterior: tuple[int, Any] | None = None

    # -- the order of things -----------------------------------------------------------------

    def identify(self, test: Dataset | None) -> None:
        """Write down what this campaign is, or refuse to mix two in one folder."""
        mine = {
            "settings": self.settings.identity(),
            "pool": self.pool.fingerprint(),
            "oracle": dict(self.oracle.settings),
            "start": None if self.start is None else self.start.fingerprint(),
            "test": None if test is None else test.fingerprint(),
        }
        refuse_other_labels(self.oracle, start=self.start, test=self.pool if test is None else test)
        refuse_reuse(self._others, self.oracle)
        # The folder says what differs; a ledger on a server may be met from another folder.
        path = self.folder / "campaign.json"
        fits: list[dict[str, Any]] = []
        if path.exists():
            before = read_json(path)
            refuse_changes(self.folder, before["identity"], mine)
            fits = before["fits"]
        text = canonical_json(mine)
        self.ledger.belongs_to(hashlib.sha256(text.encode()).hexdigest())
        if not fits or fits[-1] != dict(self.learner.settings):
            fits.append(dict(self.learner.settings))
        source = str(self.pool.source)
        write_json(
            path,
            {"identity": mine, "rounds": self.settings.rounds, "pool": source, "fits": fits},
        )

    def run(self, test: Dataset | None) -> None:
        """Do everything that is not done yet."""
        plan = self._plan(test)
        held_out = self.pool[list(plan.test)] if test is None else test
        self._label(-1, "initial", list(plan.initial))
        for k in range(self.settings.rounds + 1):
            if not (self._room(k) / "evaluation.json").exists():
                self._evaluate(k, held_out)
            write_reports(self.ledger, self.settings.rounds)
            if k == self.settings.rounds or not self._choose(k, plan):
                break
            self._predict(k)
            chosen = read_json(self._room(k) / "chosen.json")["indices"]
            self._label(k, "batch", chosen)
            self._coverage(k)
        write_reports(self.ledger, self.settings.rounds)

    # -- the steps ---------------------------------------------------------------------------

    def _plan(self, test: Dataset | None) -> Plan:
        """Divide the pool, once."""
        path = self.folder / "plan.json"
        if not path.exists():
            settings = self.settings if test is None else replace(self.settings, test_fraction=0.0)
            held = [part for part in (self.start, test) if part is not None]
            write_json(path, vars(make_plan(settings, self.pool, held=held)))
        saved = read_json(path)
        return Plan(**{name: tuple(value) for name, value in saved.items()})

    def _label(self, k: int, role: str, indices: list[int]) -> None:
        """Have structures calculated; failures are set aside."""
        keys = self.ledger.ask(
            [self.pool.structures[i] for i in indices],
            self.oracle.settings,
            round=k,
            role=role,
            indices=indices,
            families=[self.pool.families[i] for i in indices],
        )
        states = self.ledger.states()
        wanted = {key: i for key, i in zip(keys, indices, strict=True) if states[key] == "asked"}
        settled = len(keys) - len(wanted)

        def told(key: str, outcome: LabelledResult | Failure | None) -> None:
            nonlocal settled
            what = "lost its worker, and is sent out again"
            if outcome is not None:
                settled += 1
                failed = isinstance(outcome, Failure)
                what = f"failed: {outcome.reason}" if failed else "labelled"
            self._tell("label", k, f"structure {wanted[key]} {what}", settled, len(keys))

        folder = str(self.folder.resolve())
        jobs = {
            key: Job(key, self.pool.structures[i], self.oracle, folder) for key, i in wanted.items()
        }
        known = self._known_elsewhere() if jobs else {}
        Labelling(self.ledger, self.workers, told).run(jobs, known)

    def _known_elsewhere(self) -> dict[str, LabelledResult]:
        """Labels of the campaigns whose labels are reused."""
        if self._known is None:
            self._known = {}
            for other in self._others:
                if (other / "campaign.json").exists():
                    entries = Ledger.read(other).entries()
                    self._known |= {e.key: e.result for e in entries if e.result is not None}
        return self._known

    def _fitted(self, k: int) -> Any:
        """Return the posterior of a round, always as read from its file.

        What a continued campaign sees is then bit for bit what an undisturbed one sees.
        """
        if self._posterior is not None and self._posterior[0] == k:
            return self._posterior[1]
        path = self._room(k) / "posterior.nc"
        if not path.exists():
            self._fit(k, path)
        shutil.rmtree(self._room(k) / "checkpoint", ignore_errors=True)
        self._posterior = (k, self.learner.load(path))
        return self._posterior[1]

    def _training(self, k: int) -> Dataset:
        """Labels that the fit of round k may use."""
        asked = self.ledger.dataset(before_round=k)
        training = asked if self.start is None else self.start + asked
        if len(training) == 0:
            reasons = [str(e.data.get("reason")) for e in self.ledger.failures()]
            raise OracleError(
                f"not one of {len(reasons)} calculations gave a label"
                + (f"; the first failed with: {reasons[0]}" if reasons else "")
                + ". Correct the oracle's settings and use a new folder"
            )
        return training

    def _fit(self, k: int, path: Path) -> None:
        """Fit; once more with twice the warmup if that did not converge; then give up."""
        training = self._training(k)
        room = self._room(k)
        for left in room.glob(".*.nc.*"):  # what a kill in the middle of a save leaves behind
            left.unlink(missing_ok=True)
        refused = room / "unconverged.json"
        settings = dict(self.learner.settings)
        # A checkpoint belongs to its settings: with others a fit begins anew.
        name = hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:8]
        if refused.exists() and read_json(refused)["fit"] == settings:
            if self.settings.allow_unconverged:
                os.replace(room / "unconverged.nc", path)
                return
            raise NotConverged(_unconverged_message(k, room, read_json(refused)["problems"]))
        begin = time.perf_counter()
        factors = (1,) if self.settings.allow_unconverged else (1, 2)
        posterior: Any = None
        for factor in factors:
            again = " again, with twice the warmup" if factor > 1 else ""
            self._tell("fit", k, f"fitting {len(training)} structures{again}")
            posterior = self.learner.fit(
                training,
                seed=folded_seed(self.settings.seed, k, f"fit {factor}"),
                warmup_factor=factor,
                checkpoint=room / "checkpoint" / f"{name}_warmup_{factor}",
            )
            if posterior.converged:
                break
        if not posterior.converged and not self.settings.allow_unconverged:
            posterior.save(room / "unconverged.nc")
            problems = [str(problem) for problem in posterior.problems]
            write_json(refused, {"fit": settings, "problems": problems})
            raise NotConverged(_unconverged_message(k, room, problems))
        posterior.save(path)
        seconds = time.perf_counter() - begin
        write_json(room / "fit.json", {"seconds": seconds, "warmup_factor": factor})

    def _evaluate(self, k: int, held_out: Dataset) -> None:
        """One row of the learning curve."""
        posterior = self._fitted(k)
        self._tell("test", k, f"predicting {len(held_out)} test structures")
        scores = None
        if len(held_out):
            rows = self._predicted(posterior, held_out)
            scores = errors(rows, _comparable(held_out))
        fit_file = self._room(k) / "fit.json"
        failed = [entry for entry in self.ledger.failures() if entry.round < k]
        write_json(
            self._room(k) / "evaluation.json",
            {
                "round": k,
                "n_labels": len(self._training(k)),
                "n_failed": len(failed),
                "converged": bool(posterior.converged),
                "problems": [str(problem) for problem in posterior.problems],
                "method": str(getattr(posterior, "method", "unknown")),
                "misfit": str(getattr(posterior, "misfit", "unknown")),
                "fit_seconds": read_json(fit_file)["seconds"] if fit_file.exists() else None,
                "time": time.time(),
                "test": scores,
            },
        )

    def _choose(self, k: int, plan: Plan) -> bool:
        """Choose the next batch; False where nothing is left."""
        path = self._room(k) / "chosen.json"
        if path.exists():
            return bool(read_json(path)["indices"])
        # By what earlier rounds asked: this round's own entries may be there already.
        asked = {key for key, _, round in self.ledger.overview() if round < k}
        free = [n for n, i in enumerate(plan.candidates) if self._key(i) not in asked]
        choice = choose(
            self.settings.acquisition,
            self._fitted(k),
            [self.pool.structures[i] for i in plan.candidates],
            self.settings.batch,
            available=free,
            seed=folded_seed(self.settings.seed, k, "choose"),
            quantile=self.settings.quantile,
            n_draws=self.settings.n_draws,
            allow_unconverged=self.settings.allow_unconverged,
            predict=self.learner.predict,
            information=self.learner.information,
        )
        indices = [plan.candidates[i] for i in choice.indices]
        notes = [f"round {k}: {problem}" for problem in choice.problems]
        if 0 < len(indices) < self.settings.batch:
            notes.append(f"round {k}: {len(indices)} of a batch of {self.settings.batch} were left")
        write_json(
            path,
            {
                "acquisition": self.settings.acquisition,
                "indices": indices,
                "keys": [self._key(i) for i in indices],
                "families": [self.pool.families[i] for i in indices],
                "gains": choice.gains,
                "unit": choice.unit,
                "pool_size": len(free),
                "notes": notes,
            },
        )
        self._tell("choose", k, f"chose {len(indices)} of {len(free)}")
        return bool(indices)

    def _predict(self, k: int) -> None:
        """Predict the chosen structures before their labels are asked for."""
        path = self._room(k) / "predicted.json"
        if path.exists():
            return
        indices = read_json(self._room(k) / "chosen.json")["indices"]
        rows = self._predicted(self._fitted(k), self.pool[indices])
        write_json(path, {"indices": indices, "rows": rows})
        self._tell("predict", k, f"predicted {len(indices)} structures before labelling")

    def _coverage(self, k: int) -> None:
        """Compare the predictions with the labels that came in."""
        path = self._room(k) / "coverage.json"
        if path.exists():
            return
        predicted = read_json(self._room(k) / "predicted.json")
        keys = read_json(self._room(k) / "chosen.json")["keys"]
        rows, labels = [], []
        for row, entry in zip(predicted["rows"], self.ledger.entries(keys), strict=True):
            if entry.result is not None:
                rows.append(row)
                result = entry.result
                labels.append(Labels(result.energy, result.forces, result.stress))
        write_json(path, {"round": k, "counts": coverage_counts(rows, labels)})
        self._tell("coverage", k, f"{len(labels)} of {len(keys)} predictions compared with labels")

    # -- small things ------------------------------------------------------------------------

    def _predicted(self, posterior: Any, dataset: Dataset) -> list[dict[str, Any]]:
        prediction = self.learner.predict(
            posterior,
            list(dataset.structures),
            n_draws=self.settings.n_draws,
            allow_unconverged=self.settings.allow_unconverged,
        )
        return predicted_rows(prediction, len(dataset))

    def _key(self, index: int) -> str:
        return calculation_key(self.pool.structures[index], self.oracle.settings)

    def _room(self, k: int) -> Path:
        room = self.folder / f"round_{k:03d}"
        room.mkdir(exist_ok=True)
        return room

    def _tell(self, phase: str, k: int, message: str, done: int = 0, total: int = 0) -> None:
        if self._progress is not None:
            self._progress(CampaignEvent(phase, k, message, done, total))


def _comparable(dataset: Dataset) -> list[Labels]:
    """Labels of a test set without the stresses that depend on the thickness of a vacuum."""
    return [
        replace(labels, stress=None) if has_vacuum(structure) else labels
        for structure, labels in zip(dataset.structures, dataset.labels, strict=True)
    ]


def _unconverged_message(k: int, room: Path, problems: Sequence[str]) -> str:
    what = "; ".join(problems[:5]) or "no reason given"
    return (
        f"the fit of round {k} did not converge, also not with twice the warmup ({what}). The "
        f"posterior is kept as {room / 'unconverged.nc'}. Raise [fit] warmup and run the same "
        "command, or set [learn] allow_unconverged = true to go on with it marked"
    )
