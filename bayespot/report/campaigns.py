"""Learning curves of campaigns side by side, and the coverage of predictions before labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bayespot import plots
from bayespot.active.prequential import LEVELS
from bayespot.active.report import (
    collect_curve,
    compare_campaigns,
    cumulative_coverage,
    labels_needed,
)
from bayespot.posterior import MISFIT_NONE
from bayespot.report.comparison import write_text
from bayespot.units import QUANTITIES

__all__ = ["campaign_lines", "write_campaign_report"]


def write_campaign_report(
    folders: Mapping[str, str | Path], folder: str | Path, *, title: str = "Campaign"
) -> list[Path]:
    """Write the learning curves of campaigns side by side, and the coverage of the first.

    Parameters
    ----------
    folders : mapping
        Name of each way of choosing to its campaign folder; the first is the one of interest.
    folder : path
        Where to write ``learning_curve.png``, ``coverage.png`` and ``summary.md``.
    title : str
        First line of the summary.

    Returns
    -------
    list of Path
        The files, the summary last.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    curves = compare_campaigns(folders)
    shown = [q for q in QUANTITIES if any(None not in c[q] and c[q] for c in curves.values())]
    written = []
    if shown:
        axes = plots.grid_of(len(shown), (4.6, 3.6))
        for quantity, ax in zip(shown, axes, strict=True):
            plots.learning_curve(
                {
                    name.replace("_", " "): plots.Curve(c["n_labels"], c[quantity])
                    for name, c in curves.items()
                    if c[quantity] and None not in c[quantity]
                },
                quantity=quantity,
                ax=ax,
            )
        written.append(plots.save(axes[0], folder / "learning_curve.png"))
    first = next(iter(folders))
    table = cumulative_coverage(folders[first])
    counted = [q for q in QUANTITIES if table[q]["n"]]
    if counted:
        axes = plots.grid_of(len(counted), (4.3, 4.3))
        for quantity, ax in zip(counted, axes, strict=True):
            plots.coverage(
                {
                    label: _prequential_curve(table[quantity][spread])
                    for label, spread in (
                        ("draws and noise", "total"),
                        ("draws alone", "parameter"),
                    )
                },
                ax=ax,
            )
            ax.set_title(f"{plots.DISPLAY[quantity].word}, before labelling", fontsize=10)
        written.append(plots.save(axes[0], folder / "coverage.png"))
    path = folder / "summary.md"
    lines = [f"# {title}", "", *campaign_lines(curves)]
    for name, place in folders.items():
        rows = collect_curve(place)
        if bad := [str(row["round"]) for row in rows if not row["converged"]]:
            lines += [
                "",
                f"**{len(bad)} of {len(rows)} fits of {name} have NOT converged** "
                f"(round {', '.join(bad)}); their errors and choices are marked so.",
            ]
        lines += [
            "",
            f"Details of {name}: [{Path(place).name}/summary.md]({Path(place).name}/summary.md)",
        ]
    lines += ["", *(f"![{p.stem}]({p.name})" for p in written)]
    if any(row["misfit"] == "none" for place in folders.values() for row in collect_curve(place)):
        lines += ["", MISFIT_NONE]
    write_text(path, "\n".join(lines) + "\n")
    return [*written, path]


def campaign_lines(curves: Mapping[str, Mapping[str, list]]) -> list[str]:
    """Say how the error went, and how many labels were saved.

    Parameters
    ----------
    curves : mapping
        Of `compare_campaigns`; the first against "random".

    Returns
    -------
    list of str
        Lines of Markdown.
    """
    first = next(iter(curves))
    lines = ["| labels | " + " | ".join(f"{name}: forces RMSE, eV/Å" for name in curves) + " |"]
    lines.append("|---|" + "---|" * len(curves))
    for n in sorted({n for c in curves.values() for n in c["n_labels"]}):
        cells = []
        for c in curves.values():
            known = dict(zip(c["n_labels"], c["forces"], strict=True)).get(n)
            cells.append("-" if known is None else f"{known:.4f}")
        lines.append(f"| {n} | " + " | ".join(cells) + " |")
    chosen = [v for v in curves[first]["forces"] if v is not None]
    if chosen:
        lines += [
            "",
            f"With {first} the forces' error went from {chosen[0]:.3f} to {chosen[-1]:.3f} eV/Å.",
        ]
    random = curves.get("random")
    if random is None or first == "random" or not random["forces"] or None in random["forces"]:
        return lines
    target, n_random = random["forces"][-1], random["n_labels"][-1]
    needed = labels_needed(curves[first], "forces", target)
    if needed is None:
        lines.append(
            f"It did not stay below the {target:.3f} eV/Å that random choice reached "
            f"with {n_random} labels."
        )
    else:
        lines.append(
            f"The {target:.3f} eV/Å that random choice reached with {n_random} labels, "
            f"it reached with {needed}. One pair of runs; chance is part of both."
        )
    return lines


def _prequential_curve(spread: Mapping[str, Mapping[str, float]]) -> plots.Curve:
    cells = [spread[str(level)] for level in LEVELS]
    return plots.Curve(
        LEVELS, *([cell[part] for cell in cells] for part in ("fraction", "low", "high"))
    )
