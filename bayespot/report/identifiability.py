"""What the data determine of a fit: text, record and picture beside its results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from bayespot import plots
from bayespot.data.dataset import Dataset
from bayespot.identifiability import (
    MAX_PARAMETERS,
    Identifiability,
    fitted_parameters,
    identifiability,
    problem_behind,
)
from bayespot.posterior import Posterior
from bayespot.report.comparison import write_text

__all__ = ["draw_identifiability", "write_identifiability"]


def write_identifiability(
    posterior: Posterior, dataset: Dataset, folder: str | Path
) -> list[Path]:
    """Write ``identifiability.txt``, ``.json`` and ``.png``.

    A potential with more than `MAX_PARAMETERS` parameters gets the text alone, which says so.

    Parameters
    ----------
    posterior : Posterior
        Converged or not; the text says which.
    dataset : Dataset
        What it was fitted to.
    folder : path
        Where to write.

    Returns
    -------
    list of Path
        The files.
    """
    text = Path(folder) / "identifiability.txt"
    count = fitted_parameters(posterior)
    if not 0 < count <= MAX_PARAMETERS:
        write_text(text, f"Not made: {count} parameters, this report is for 1 to "
                         f"{MAX_PARAMETERS}.\n")
        return [text]
    found = identifiability(
        problem_behind(posterior, dataset), posterior, allow_unconverged=True
    )
    lines = [found.text()]
    if not posterior.converged:
        lines.insert(0, f"NOT CONVERGED: {'; '.join(posterior.problems)}\n")
    write_text(text, "\n".join(lines) + "\n")
    record = text.with_suffix(".json")
    write_text(record, json.dumps(found.as_record(), indent=1, allow_nan=False) + "\n")
    return [text, record, plots.save(draw_identifiability(found), text.with_suffix(".png"))]


def draw_identifiability(found: Identifiability) -> Figure:
    """The spectrum, and beside it what the sloppiest directions are made of."""
    names = found.names
    height = max(3.2, 1.2 + 0.3 * min(len(names), plots.MAX_ROWS))
    figure = Figure(figsize=(9.5, min(height, 5.0)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.2))
    plots.spectrum(found.eigenvalues, ax=left)
    left.set_title(f"{found.determined} of {len(names)} directions determined", fontsize=10)
    shown = found.sloppiest
    components = np.array([[d.components[name] for d in shown] for name in names])
    plots.directions(components, [d.eigenvalue for d in shown], names, ax=right)
    return figure
