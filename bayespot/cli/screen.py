"""What the commands print: progress, tables, notes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bayespot.active.report import collect_curve
from bayespot.units import DISPLAY

if TYPE_CHECKING:
    from bayespot.config import RunConfig
    from bayespot.posterior import Posterior
    from bayespot.validation import Validation


class RunProgress:
    """A bar for the sampler and a line for every event of a campaign."""

    def __init__(self, screen: Any, folder: Path | None = None) -> None:
        self._folder, self._last = folder, time.monotonic()
        self._told: set[tuple[str, int]] = set()
        self._names: dict[str, None] = {}
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=screen,
            transient=True,
            disable=not screen.is_terminal,
        )
        self._screen, self._task = screen, None

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *what: object) -> None:
        self._bar.stop()
        self._errors()

    def sampled(self, done: int, total: int, message: str) -> None:
        """Show the state of a sampler."""
        if self._task is None:
            self._task = self._bar.add_task(message, total=total)
        self._bar.update(self._task, completed=done, total=total, visible=done < total)

    def happened(self, name: str, event: Any) -> None:
        """Print a line about a campaign."""
        self._names[name] = None
        self._errors()
        quick = time.monotonic() - self._last < 2.0
        if event.phase == "label" and 0 < event.done < event.total and quick:
            return  # one line a batch, unless each label takes long
        self._last = time.monotonic()
        labels = event.phase == "label" and event.total
        message = f"{event.done} of {event.total} labelled" if labels else event.message
        where = "start  " if event.round < 0 else f"round {event.round}"
        self._screen.print(f"{name:<17} {where}  {message}", markup=False)

    def _errors(self) -> None:
        """Print what the rounds that are fitted since the last event have reached."""
        for name in self._names if self._folder is not None else ():
            for row in collect_curve(self._folder / name):
                if (name, row["round"]) in self._told:
                    continue
                self._told.add((name, row["round"]))
                line = f"{name:<17} round {row['round']}  {_errors_of(row)}"
                self._screen.print(line, style="bold", markup=False)


def _errors_of(row: dict[str, Any]) -> str:
    """Say what a row of the learning curve has reached."""
    labels = f"{row['n_labels']} labels"
    rmse = (row["test"] or {"rmse": {}})["rmse"]
    parts = [
        f"{quantity} {rmse[quantity] * factor:.{digits}f} {unit}"
        for quantity, factor, digits, unit in (
            ("forces", 1.0, 3, "eV/Å"),
            ("energy", 1e3, 1, "meV/atom"),
        )
        if rmse.get(quantity) is not None
    ]
    return f"{labels}: {', '.join(parts)} (RMSE, test set)" if parts else labels


class Screen(Console):
    """The terminal, with what the commands show on it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(soft_wrap=not sys.stdout.isatty(), highlight=False, **options)

    def progress(self, folder: Path | None = None) -> RunProgress:
        """Show progress while a fit, or the campaigns in a folder, run."""
        return RunProgress(self, folder)

    def show_cautions(self, run: RunConfig) -> None:
        """Print what is allowed but will disappoint."""
        for caution in run.cautions():
            self.print(f"note: {caution}", style="yellow", markup=False)

    def show_note(self, note: str, most: int = 200) -> None:
        """Print a note, cut where it is long; the whole stands in ``summary.md``."""
        text = note if len(note) <= most else f"{note[:most]} ... (more in summary.md)"
        self.print(text, style="yellow", markup=False)

    def show_posterior(self, posterior: Posterior) -> None:
        """Print the summary of a posterior, its verdict in red if it has not converged."""
        style = None if posterior.converged else "red"
        *lines, last = posterior.summary().splitlines()
        self.print("\n".join(lines), markup=False)
        self.print(last, style=style, markup=False)

    def show_step(self, message: str) -> None:
        """Print what a validation does next, or what did not converge."""
        style = "red" if message.startswith("NOT") else None
        self.print(message, style=style, markup=False)

    def show_validation(self, name: str, validation: Validation) -> None:
        """Print the means over families, what did not converge, and whether the bars hold."""
        levels = validation.table.levels
        table = Table(title=f"{name}: structures not fitted, mean over families")
        columns = ["", "labels", *(f"in {100 * p:.3g} % bars" for p in levels)]
        for column in (*columns, "RMSE", "spread", "rms z"):
            table.add_column(column)
        for row in (row for row in validation.table.rows if row.pooled and row.n):
            unit = DISPLAY[row.quantity]
            family = "" if row.family == "all" else f", {row.family}"
            table.add_row(
                f"{row.quantity}{family}", str(row.n),
                *(row.coverage[p].percent() for p in levels),
                f"{row.rmse * unit.factor:.3g} {unit.unit}",
                f"{row.sharpness * unit.factor:.3g}",
                "-" if row.rms_z is None else f"{row.rms_z:.2f}",
            )  # fmt: skip
        self.print(table)
        for fold, problems in validation.unconverged.items():
            self.print(
                f"NOT CONVERGED without {fold}: {'; '.join(problems)}", style="red", markup=False
            )
        self.print(validation.verdict(), style="bold", markup=False)

    def show_prediction(self, prediction: Any, dataset: Any, most: int = 20) -> None:
        """Print energies with their spreads, and warnings, of the first structures."""
        table = Table(title="energies, eV; spread of the parameters, and with noise")
        for column in ("structure", "atoms", "energy", "± parameters", "± total", "warnings"):
            table.add_column(column)
        for i, atoms in enumerate(dataset.structures[:most]):
            table.add_row(
                f"{i} {atoms.get_chemical_formula()}",
                str(len(atoms)),
                f"{prediction.energy[i]:.4f}",
                f"{prediction.energy_parameter_std[i]:.4f}",
                f"{prediction.energy_total_std[i]:.4f}",
                "; ".join(prediction.warnings[i]),
            )
        self.print(table)
        if len(dataset) > most:
            warned = sum(bool(w) for w in prediction.warnings)
            self.print(f"... {len(dataset) - most} more; {warned} with warnings", markup=False)

    def show_markdown(self, lines: list[str]) -> None:
        """Print lines of Markdown."""
        self.print(Markdown("\n".join(lines)))

    def show_coverage(self, table: Any) -> None:
        """Print how many labels were inside of intervals predicted before."""
        for quantity, row in table.items():
            cell, alone = row["total"]["0.9"], row["parameter"]["0.9"]
            if cell["fraction"] is not None:
                self.print(
                    f"90 % intervals predicted before labelling hold "
                    f"{100 * cell['fraction']:.0f} % of {row['n']} {quantity} labels "
                    f"[{100 * cell['low']:.0f}, {100 * cell['high']:.0f}]; those of the "
                    f"draws alone {100 * alone['fraction']:.0f} %",
                    markup=False,
                )

    def show_status(self, state: dict[str, Any]) -> None:
        """Print the state of a campaign."""
        counts = ", ".join(f"{n} {name}" for name, n in state["counts"].items())
        driver = state["driver"]
        by = (
            f"driven by process {driver['pid']} on {driver['host']}"
            if driver
            else "nobody drives it"
        )
        done = f"{state['phase']}, round {state['round']} of {state['rounds']}"
        self.print(
            f"{state['folder']}: {done}; {by}",
            style="bold",
            markup=False,
        )
        self.print(f"  calculations: {counts}", markup=False)
        last = state["last"]
        if last is not None:
            self.print(f"  {_errors_of(last)}", markup=False)
        for formula, reason in state["failures"]:
            self.print(f"  failed: {formula}: {reason}", style="yellow", markup=False)
        for note in state["notes"]:
            self.show_note(f"  {note}")
