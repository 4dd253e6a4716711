"""What generating a training set leaves: structures, settings, table, picture."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import ase.io
import numpy as np

from bayespot import plots
from bayespot.config.generation import generation_toml
from bayespot.data.dataset import has_vacuum
from bayespot.generate.frames import minimum_distance
from bayespot.generate.recipe import Generated
from bayespot.generate.settings import GenerationSettings
from bayespot.records import write_text

__all__ = ["family_table", "write_generation_report"]


def family_table(generated: Generated) -> list[str]:
    """One line per family as Markdown: how many, sizes, distances, volumes, what was left out."""
    lines = ["| family | structures | left out | atoms | nearest, Å | volume, Å³/atom |",
             "|---|---|---|---|---|---|"]
    dropped = Counter(d.structure.info["config_type"] for d in generated.dropped)
    families = list(dict.fromkeys(a.info["config_type"] for a in generated.structures))
    for family in [*families, *(f for f in dropped if f not in families)]:
        some = [a for a in generated.structures if a.info["config_type"] == family]
        nearest = [minimum_distance(a, 12.0) for a in some]
        dense = [a.cell.volume / len(a) for a in some if not has_vacuum(a)]
        lines.append(
            f"| {family} | {len(some)} | {dropped[family]} | {_range([len(a) for a in some], 0)} | "
            f"{_range(nearest, 2)} | {_range(dense, 1)} |")
    return lines


def _range(values: list, digits: int) -> str:
    if not values:
        return "-"
    low, high = (f"{f(values):.{digits}f}" for f in (min, max))
    return low if low == high else f"{low} to {high}"


def _summary(generated: Generated, name: str) -> str:
    kinds = Counter((a.info["config_type"], a.info["variant"]) for a in generated.structures)
    parents = ", ".join(p.name for p in generated.parents)
    lines = [f"# {name}", "", f"{len(generated.structures)} structures from {parents}; "
             f"{len(generated.dropped)} near-duplicates left out. `info` of each structure says "
             "family (`config_type`), `parent`, `variant` and `seed`.", "",
             *family_table(generated), "", "| family | variant | structures |", "|---|---|---|",
             *(f"| {family} | {variant} | {n} |" for (family, variant), n in kinds.items()), ""]
    if generated.notes:
        lines += [*(f"* {note}" for note in generated.notes), ""]
    if generated.dropped:
        gaps = np.array([d.distance for d in generated.dropped])
        lines += [f"Left out: environments within {gaps.max():.3g} Å of another structure's "
                  f"(median {np.median(gaps):.2g} Å).", ""]
    return "\n".join([*lines, f"![volumes and distances]({name}.png)", ""])


def write_generation_report(generated: Generated, settings: GenerationSettings, path: str | Path
                            ) -> list[Path]:
    """Write the structures, and beside them their settings (.toml), table (.md), picture (.png).

    Parameters
    ----------
    generated : Generated
    settings : GenerationSettings
    path : path
        Extended XYZ file; the others get its name.

    Returns
    -------
    list of Path
        The files.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    ase.io.write(text, list(generated.structures), format="extxyz")
    write_text(path, text.getvalue())
    beside = [path.with_suffix(suffix) for suffix in (".toml", ".md", ".png")]
    write_text(beside[0], generation_toml(settings))
    write_text(beside[1], _summary(generated, path.stem))
    plots.save(plots.population(generated.structures), beside[2])
    return [path, *beside]
