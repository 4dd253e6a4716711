"""A convergence study: scans, their reference, the setting that meets a target, its floor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bayespot.convergence.calculations import Calculations, Outcome
from bayespot.convergence.choice import cheapest, meets
from bayespot.convergence.differences import MEASURES, errors_of, pairs_of
from bayespot.convergence.floors import floor_record
from bayespot.convergence.orders import fit_order
from bayespot.convergence.references import reference_uncertainty
from bayespot.convergence.results import Combination, Failure, Level, ScanResult, Study
from bayespot.convergence.scans import Scan, with_value
from bayespot.convergence.text import value_text
from bayespot.data.dataset import Dataset
from bayespot.errors import ConfigError, OracleError

__all__ = ["run_study"]

Happened = Callable[[int, int, str], None]


def run_study(
    calculations: Calculations,
    base: Mapping[str, Any],
    scans: Sequence[Scan],
    dataset: Dataset,
    target: Mapping[str, float],
    *,
    production: str = "recommended",
    happened: Happened | None = None,
) -> Study:
    """Scan settings one at a time, choose a combination, and measure its floor.

    Parameters
    ----------
    calculations : Calculations
        The code, and the folder where every calculation is kept; the same call goes on after a
        stop of any kind.
    base : mapping
        Keywords of the calculator; each scan changes its own and leaves the rest.
    scans : sequence of Scan
    dataset : Dataset
        Structures with their families; labels are not used.
    target : mapping of measure to float
        Errors that are allowed: eV/atom, eV/atom, eV/Å, eV/Å³. See `MEASURES`.
    production : {"recommended", "base"}
        Whose floor is measured.
    happened : callable, optional
        Called with (done, total, what is calculated) before every calculation; the total grows
        where combinations have to be tried.

    Returns
    -------
    Study

    Raises
    ------
    ConfigError
        If keywords are refused, or two scans change the same one.
    OracleError
        If every calculation of a scan failed: then the settings are wrong, not the structures.
    """
    _check(scans, target, production)
    return _Runner(calculations, base, tuple(scans), dataset, dict(target), happened).run(
        production
    )


def _check(scans: Sequence[Scan], target: Mapping[str, float], production: str) -> None:
    if not scans:
        raise ConfigError("no scan: give at least one setting with two or more values")
    used = Counter(key for scan in scans for key in scan.keys)
    twice = sorted(key for key, n in used.items() if n > 1)
    if twice:
        raise ConfigError(f"{', '.join(twice)} is changed by two scans; each keyword is one's own")
    unknown = sorted(set(target) - set(MEASURES))
    if unknown or not target:
        raise ConfigError(f"target {sorted(target)}: give one or more of {', '.join(MEASURES)}")
    if production not in ("recommended", "base"):
        raise ConfigError(f"production = {production!r} is neither 'recommended' nor 'base'")


class _Runner:
    """The state of one run: what was calculated, what failed."""

    def __init__(
        self,
        calculations: Calculations,
        base: Mapping[str, Any],
        scans: tuple[Scan, ...],
        dataset: Dataset,
        target: dict[str, float],
        happened: Happened | None,
    ) -> None:
        self.calculations, self.base, self.scans = calculations, dict(base), scans
        self.dataset, self.target, self.happened = dataset, target, happened
        self.structures = dataset.structures
        self.failures: dict[tuple[str, int], Failure] = {}
        self.versions: dict[str, None] = {}
        self.done = 0
        self.total = sum(len(scan.values) for scan in scans) * len(self.structures)

    def run(self, production: str) -> Study:
        for scan in self.scans:
            self._try_keywords(scan)
        results = tuple(self._scan(scan) for scan in self.scans)
        best = {r.scan.name: r.reference for r in results if r.scan.refine}
        uncertainty = _together([r.uncertainty for r in results if r.scan.refine])
        reference = self._label("best reference", self._combined(best))
        tried = self._settle(results, best, reference, uncertainty)
        chosen = tried[-1]
        if production == "base":
            chosen = self._combination("base", {}, reference, uncertainty)
        coarse = self._label("production", chosen.settings)
        floor, why_not = floor_record(
            pairs_of(self.structures, coarse, reference),
            self.dataset.families,
            uncertainty,
            production=chosen.settings,
            reference=self._combined(best),
            about={"code": self.calculations.code, "versions": list(self.versions),
                   "species": list(self.dataset.species)},
        )
        notes = [*self._notes(results, tried), *([why_not] if why_not else [])]
        return Study(
            code=self.calculations.code,
            versions=tuple(self.versions),
            base=self.base,
            reference=self._combined(best),
            target=self.target,
            n_structures=len(self.structures),
            families=Counter(self.dataset.families),
            scans=results,
            uncertainty=uncertainty,
            tried=tried,
            production=chosen,
            floor=floor,
            failures=tuple(self.failures.values()),
            notes=tuple(notes),
        )

    # -- calculations ----------------------------------------------------------------------

    def _try_keywords(self, scan: Scan) -> None:
        """Find what is refused, and what has no effect, before anything is calculated."""
        made = [
            self.calculations.oracle(scan.settings(self.base, level)).settings
            for level in range(len(scan.values))
        ]
        if all(settings == made[0] for settings in made):
            raise ConfigError(
                f"scan {scan.name}: {', '.join(scan.keys)} does not change what is calculated; it "
                "is no keyword of the code, or the same is set elsewhere in [settings]"
            )

    def _label(self, where: str, settings: Mapping[str, Any]) -> list[Outcome]:
        """Labels of all structures at one setting; failures are set aside."""
        oracle = self.calculations.oracle(settings)
        found = []
        for i, atoms in enumerate(self.structures):
            formula = atoms.get_chemical_formula()
            if self.happened is not None:
                self.happened(self.done, max(self.total, self.done), f"{where}: {formula}")
            outcome = self.calculations.get(oracle, settings, atoms)
            self.done += 1
            if outcome.version:
                self.versions[outcome.version] = None
            if outcome.failed:
                self.failures[where, i] = Failure(where, i, formula, outcome.failed)
            found.append(outcome)
        return found

    def _combined(self, levels: Mapping[str, int]) -> dict[str, Any]:
        """Keywords with several scans at a level of theirs."""
        settings = dict(self.base)
        for scan in self.scans:
            if scan.name in levels:
                settings = with_value(settings, scan.keys, scan.values[levels[scan.name]])
        return settings

    # -- one scan --------------------------------------------------------------------------

    def _scan(self, scan: Scan) -> ScanResult:
        """Errors, uncertainty, orders and the level to take of one setting."""
        outcomes: list[list[Outcome]] = [[] for _ in scan.values]
        for level in reversed(range(len(scan.values))):  # the reference first
            where = f"{scan.name} = {value_text(scan.values[level])}"
            outcomes[level] = self._label(where, scan.settings(self.base, level))
        failed = [sum(bool(o.failed) for o in row) for row in outcomes]
        usable = [level for level, n in enumerate(failed) if 2 * n <= len(self.structures)]
        if not usable:
            reasons = Counter(o.failed for row in outcomes for o in row if o.failed)
            reason, n = reasons.most_common(1)[0]
            raise OracleError(
                f"scan {scan.name}: most calculations failed at every value; the commonest reason "
                f"({n} times): {reason}. Correct the base settings"
            )
        reference = usable[-1]

        def errors(a: int, b: int) -> dict[str, float | None]:
            pairs = pairs_of(self.structures, outcomes[a], outcomes[b])
            return dict(errors_of(list(pairs.values())).rms)

        against = [
            errors_of(list(pairs_of(self.structures, row, outcomes[reference]).values()))
            for row in outcomes
        ]
        below = [level for level in usable if level < reference]
        last = errors(below[-1], reference) if below else dict.fromkeys(MEASURES)
        before = errors(below[-2], below[-1]) if len(below) > 1 else {}
        steps = [scan.steps[level] for level in (*below[-2:], reference)]
        uncertainty = {
            m: reference_uncertainty(last[m], before.get(m), steps) for m in MEASURES
        }
        good = [meets(e.rms, uncertainty, self.target) and bool(below) and e.n > 0
                for e in against]
        cost = _costs(outcomes)
        return ScanResult(
            scan=scan,
            levels=tuple(
                Level(value, e, c, n, g)
                for value, e, c, n, g in zip(scan.values, against, cost, failed, good, strict=True)
            ),
            reference=reference,
            uncertainty=uncertainty,
            orders={
                m: fit_order(
                    scan.steps[:reference],
                    _counted_once([e.rms[m] for e in against[:reference]]),
                    floor=uncertainty[m] or 0.0,
                )
                for m in MEASURES
            },
            chosen=cheapest(
                good[: reference + 1], [n == 0 for n in failed[: reference + 1]],
                cost[: reference + 1],
            ),
        )  # fmt: skip

    # -- all settings at once --------------------------------------------------------------

    def _combination(
        self,
        where: str,
        levels: Mapping[str, int],
        reference: Sequence[Outcome],
        uncertainty: Mapping[str, float | None],
    ) -> Combination:
        settings = self._combined(levels)
        self.total += len(self.structures)
        outcomes = self._label(where, settings)
        errors = errors_of(list(pairs_of(self.structures, outcomes, reference).values()))
        done = [o.cpu for o in outcomes if not o.failed]
        failed = len(outcomes) - len(done)
        return Combination(
            values={s.name: s.values[levels[s.name]] for s in self.scans if s.name in levels},
            settings=settings,
            errors=errors,
            cost=float(np.mean(done)) if done else float("nan"),
            failed=failed,
            good=failed == 0 and meets(errors.rms, uncertainty, self.target),
        )

    def _settle(
        self,
        results: Sequence[ScanResult],
        best: Mapping[str, int],
        reference: Sequence[Outcome],
        uncertainty: Mapping[str, float | None],
    ) -> tuple[Combination, ...]:
        """Combine what each scan chose; tighten what errs most until the whole is good enough."""
        by_name = {r.scan.name: r for r in results if r.scan.refine}
        levels = {
            name: r.reference if r.chosen is None else r.chosen for name, r in by_name.items()
        }
        tried = []
        while True:
            tried.append(self._combination("all at once", levels, reference, uncertainty))
            left = [name for name in levels if levels[name] < best[name]]
            hopeless = any((uncertainty[m] or 0.0) > limit for m, limit in self.target.items())
            if tried[-1].good or not left or hopeless:
                return tuple(tried)
            worst = max(left, key=lambda name: self._share(by_name[name].levels[levels[name]]))
            levels = {**levels, worst: levels[worst] + 1}

    def _share(self, level: Level) -> float:
        """Largest error of a level in units of its target."""
        return max(
            ((level.errors.rms.get(m) or 0.0) / limit for m, limit in self.target.items()),
            default=0.0,
        )

    def _notes(
        self, results: Sequence[ScanResult], tried: Sequence[Combination]
    ) -> list[str]:
        found = []
        for r in results:
            tightest = value_text(r.scan.values[r.reference])
            for measure in r.unconverged(self.target) if r.scan.refine else ():
                found.append(
                    f"scan {r.scan.name}: the reference itself ({tightest} {r.scan.unit}) is not "
                    f"converged in {measure.replace('_', ' ')}; add a tighter value"
                )
            if r.reference < len(r.scan.values) - 1:
                found.append(
                    f"scan {r.scan.name}: most calculations failed beyond {tightest}, which is "
                    "the reference now"
                )
        if not tried[-1].good:
            found.append("no setting of these scans meets the target")
        if len(self.versions) > 1:
            found.append(f"calculations of several versions: {', '.join(self.versions)}")
        nothing = [m for m in MEASURES if m in self.target
                   and all(lv.errors.rms.get(m) is None for r in results for lv in r.levels)]
        for measure in nothing:
            found.append(
                f"{measure.replace('_', ' ')}: nothing to measure on these structures (differences "
                "need two, forces and stresses structures where symmetry leaves them); its target "
                "was not tested"
            )
        return found


def _costs(outcomes: Sequence[Sequence[Outcome]]) -> list[float]:
    """CPU seconds a structure of every level, over the structures that all levels have."""
    n = len(outcomes[0])
    common = [i for i in range(n) if not any(row[i].failed for row in outcomes)]
    costs = []
    for row in outcomes:
        some = [row[i].cpu for i in common] or [o.cpu for o in row if not o.failed]
        costs.append(float(np.mean(some)) if some else float("nan"))
    return costs


def _counted_once(errors: Sequence[float | None]) -> np.ndarray:
    """Errors of levels, NaN where the next tighter level gave the same.

    A cycle that ended at one threshold may have passed the next one as well: such a calculation
    belongs to the tightest threshold that it met.
    """
    found = np.array([np.nan if e is None else e for e in errors], dtype=float)
    same = np.isclose(found[:-1], found[1:], rtol=1e-9, atol=0.0)
    found[:-1][same] = np.nan
    return found


def _together(parts: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Uncertainties in quadrature; None where no part has one."""
    found: dict[str, float | None] = {}
    for measure in MEASURES:
        known = [p[measure] for p in parts if p.get(measure) is not None]
        found[measure] = float(np.sqrt(np.sum(np.square(known)))) if known else None
    return found
