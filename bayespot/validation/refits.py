"""Refit without each fold and predict it: the honest way, and the only one for families."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bayespot.calibration import CalibrationTable, HeldOut, calibration_table
from bayespot.data.dataset import Dataset
from bayespot.errors import BayespotError
from bayespot.inference.stamp import stamp
from bayespot.posterior import Posterior
from bayespot.prediction import predict
from bayespot.scoring import Coverage
from bayespot.units import DISPLAY
from bayespot.validation.held_out import held_out_cases, together
from bayespot.validation.splitting import folds as folds_of

STAMP = "validation.json"
LEVEL, DECIDED = 0.9, 0.25


@dataclass(frozen=True)
class Validation:
    """Every structure predicted by a fit that has not seen it.

    Attributes
    ----------
    cases : list of HeldOut
        One for each quantity.
    folds : list of str
        What was left out, in order.
    unconverged : dict
        Fold to what is wrong with its posterior; its predictions are among the cases.
    """

    cases: list[HeldOut]
    folds: list[str]
    unconverged: dict[str, list[str]]

    @cached_property
    def table(self) -> CalibrationTable:
        """Scores by quantity and family."""
        return calibration_table(self.cases)

    def verdict(self) -> str:
        """Say in one sentence whether bars that claim 90 % hold.

        They are too short or too long where 90 % lies outside of the interval of the coverage,
        which takes families as the unit. They hold where it lies inside and the interval is at most
        `DECIDED` wide; otherwise the families are too few to tell.
        """
        parts = []
        for quantity in self.table.quantities:
            row = self.table.pooled(quantity)
            if row.n:
                n, word = row.n_families, DISPLAY[quantity].word.split()[0]
                worst = min(
                    self.table.by_family(quantity), key=lambda row: row.coverage[LEVEL].value
                )
                low = f", {100 * worst.coverage[LEVEL].value:.0f} % in the worst, {worst.family}"
                parts.append(
                    f"{word} bars {_judged(row.coverage[LEVEL], n)} "
                    f"({row.coverage[LEVEL].percent()} of the labels inside{low if n > 1 else ''})"
                )
        return f"Of {100 * LEVEL:.0f} % bars on structures not fitted: {'; '.join(parts)}."

    def text(self) -> str:
        """The verdict, what did not converge, and the tables, in Markdown."""
        lines = [self.verdict(), ""]
        for fold, problems in self.unconverged.items():
            lines += [f"**NOT CONVERGED without {fold}**: {'; '.join(problems)}.", ""]
        return "\n".join(lines) + "\n" + self.table.text()


def _judged(cell: Coverage, n: int) -> str:
    if cell.high < LEVEL:
        return "are too short"
    if cell.low > LEVEL:
        return "are too long"
    if cell.high - cell.low <= DECIDED:
        return "hold"
    return f"cannot be judged by {n} {'family' if n == 1 else 'families'}"


def cross_validate(
    dataset: Dataset,
    fit: Callable[[Dataset], Posterior],
    *,
    folds: Sequence[str | None] | None = None,
    n_draws: int = 200,
    folder: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    method: str = "",
    data: str = "",
    progress: Callable[[str], None] | None = None,
) -> Validation:
    """Fit without each fold, predict it, and put the predictions beside the labels.

    A fold whose posterior has not converged is kept, and named in the text of the result.

    Parameters
    ----------
    dataset : Dataset
    fit : callable
        Gets the structures that remain, returns their posterior.
    folds : sequence of str or None, optional
        The fold of every structure, from `folds`; by default its family.
    n_draws : int
        Posterior draws behind every prediction.
    folder : path, optional
        Gets the posterior of each fold; the same call goes on from those that are there.
    settings : mapping, optional
        What the fit depends on, of plain JSON types: a folder made with others is refused.
    method, data : str
        Names for the tables.
    progress : callable, optional
        Gets a sentence before each fit and after one that did not converge.

    Raises
    ------
    BayespotError
        If the folder is of other data, folds or settings.
    """
    names = folds_of(dataset, "family" if folds is None else folds)
    place = None if folder is None else Path(folder)
    if place is not None:
        stamp(place / STAMP, {
            "data": dataset.fingerprint(), "folds": names, "settings": dict(settings or {}),
        }, "the validation")
    order = list(dict.fromkeys(name for name in names if name is not None))
    tell = progress or (lambda message: None)
    found, unconverged = [], {}
    for number, fold in enumerate(order):
        out = np.array([name == fold for name in names])
        test = np.flatnonzero(out)
        tell(f"{number + 1} of {len(order)}: without {fold} ({len(test)} structures)")
        posterior = _posterior(
            fit, dataset[np.flatnonzero(~out)], fold,
            None if place is None else place / f"fold_{number:03}.nc",
        )
        if not posterior.converged:
            unconverged[fold] = posterior.problems
            tell(f"NOT CONVERGED without {fold}: {'; '.join(posterior.problems)}")
        truth = dataset[test]
        prediction = predict(posterior, truth, n_draws=n_draws, allow_unconverged=True)
        found.append(held_out_cases(prediction, truth, numbers=test, method=method, data=data))
    return Validation(together(found), order, unconverged)


def _posterior(fit: Callable[[Dataset], Posterior], train: Dataset, fold: str, path: Path | None
               ) -> Posterior:
    """The posterior without a fold: from its file if it is there."""
    if path is not None and path.is_file():
        return Posterior.load(path)
    try:
        posterior = fit(train)
    except BayespotError as error:
        error.add_note(f"in the fit without {fold}")
        raise
    if path is not None:
        posterior.save(path)
    return posterior
