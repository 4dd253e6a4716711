"""What LAMMPS found with every draw of an exported folder: one table, failed draws by name.

Reads the logs and dumps that ``in.ensemble`` (continued as the user likes) leaves beside the
potentials. Energies get the offsets of the isolated atoms of their draw, which LAMMPS does not
know and without which they do not have the zero of the data.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.lammpsdata import read_lammps_data
from ase.io.lammpsrun import read_lammps_dump_text

from bayespot.correlation import DrawsSummary, effective_size, over_draws
from bayespot.errors import ConfigError
from bayespot.export.lammps import STRUCTURE, ExportedDraw, Manifest
from bayespot.records import write_json, write_text

LOG, DUMP = "draw_{draw}.log", "draw_{draw}.forces"

ENERGIES = ("PotEng", "TotEng", "E_pair", "Enthalpy")
"""Columns of a log that lack the energies of isolated atoms."""

ROWS = ("mean", "last")
"""What stands for a draw's run: the mean over its rows, or the last of them."""


@dataclass(frozen=True)
class Gathered:
    """Results of all draws.

    Attributes
    ----------
    manifest : Manifest
    rows : {"mean", "last"}
        What `values` holds of a run.
    series : dict of int to dict of str to ndarray
        Thermodynamic columns of each draw that ended well, row by row.
    values, errors : dict of str to ndarray [n_draws]
        Of each column one number a draw in LAMMPS' metal units (pressures in bar), and the
        statistical error of a mean; NaN for failed draws.
    forces : ndarray [n_draws, n_atoms, 3] or None
        eV/Å in the last frame of the dumps, along LAMMPS' axes; NaN for failed draws, None without
        dumps.
    frames : dict of int to Atoms
        The last frame of each dump.
    failed : dict of int to str
        Why a draw has no results.
    notes : list of str
        What else a reader should know.
    """

    manifest: Manifest
    rows: str
    series: Mapping[int, Mapping[str, np.ndarray]]
    values: Mapping[str, np.ndarray]
    errors: Mapping[str, np.ndarray]
    forces: np.ndarray | None
    frames: Mapping[int, Atoms]
    failed: Mapping[int, str]
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, DrawsSummary]:
        """Of each column the mean over draws, their spread, and the statistical error."""
        return {name: over_draws(values, self.errors[name])
                for name, values in self.values.items()}  # fmt: skip

    @property
    def forces_std(self) -> np.ndarray:
        """Spread of the forces over the draws that have any, eV/Å, [n_atoms, 3].

        Raises
        ------
        ConfigError
            If there were no dumps.
        """
        if self.forces is None:
            raise ConfigError(f"{self.manifest.folder} has no dumps with forces")
        return np.nanstd(self.forces, axis=0)

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``gathered.csv`` (one line a draw) and ``gathered.json`` (means and spreads)."""
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["draw", "index", *self.values, "failed"])
        for k, one in enumerate(self.manifest.draws):
            numbers = ["" if np.isnan(v[k]) else repr(float(v[k])) for v in self.values.values()]
            index = "" if one.index is None else one.index
            table.writerow([one.number, index, *numbers, self.failed.get(one.number, "")])
        files = [Path(folder) / "gathered.csv", Path(folder) / "gathered.json"]
        write_text(files[0], text.getvalue())
        write_json(files[1], {
            "rows": self.rows, "failed": {str(k): text for k, text in self.failed.items()},
            "notes": self.notes, "columns": {
                name: {"mean": s.mean, "parameter_std": s.parameter_std,
                       "statistical_error": s.statistical_error, "draws": s.n}
                for name, s in self.summary().items()
            },
        })  # fmt: skip
        return files


def gather(
    folder: str | Path, *, log: str = LOG, dump: str | None = DUMP, rows: str = "mean",
    skip: int = 0, run: int = -1,
) -> Gathered:
    """Read the results of all draws of an exported folder.

    Parameters
    ----------
    folder : path
        Of `bayespot.export.lammps.export_lammps`, after its draws have run in it.
    log, dump : str
        Names of the files, with ``{draw}`` where the number stands; no dumps are looked for with
        None.
    rows : {"mean", "last"}
        Take the mean over a run's rows (molecular dynamics) or the last of them (a minimisation).
    skip : int
        Rows at the beginning that the mean leaves out.
    run : int
        Which ``run`` or ``minimize`` of the input, -1 for the last.

    Raises
    ------
    ConfigError
        If the folder is no export, or fewer than two draws have results.
    """
    if rows not in ROWS:
        raise ConfigError(f"rows={rows!r} is unknown: use one of {', '.join(ROWS)}")
    manifest = Manifest.load(folder)
    series: dict[int, dict[str, np.ndarray]] = {}
    failed: dict[int, str] = {}
    for one in manifest.draws:
        try:
            series[one.number] = _thermo(manifest.folder / log.format(draw=one.number), run, skip)
        except _Broken as broken:
            failed[one.number] = str(broken)
    frames = _frames(manifest, dump, series, failed)
    _odd_columns(series, failed)
    if len(series) < 2:
        reasons = "; ".join(f"draw {k}: {text}" for k, text in list(failed.items())[:4])
        raise ConfigError(
            f"{len(series)} of {len(manifest.draws)} draws in {folder} have results, and a spread "
            f"needs two ({reasons}): run them first (run_array.sh)"
        )
    notes = _add_offsets(manifest, series, frames)
    columns = next(iter(series.values()))
    values = {name: np.full(len(manifest.draws), np.nan) for name in columns}
    errors = {name: np.full(len(manifest.draws), np.nan) for name in columns}
    for k, one in enumerate(manifest.draws):
        for name, column in series.get(one.number, {}).items():
            values[name][k] = column.mean() if rows == "mean" else column[-1]
            errors[name][k] = _error(column) if rows == "mean" else 0.0
    short = [k for k, table in series.items() if rows == "mean" and len(table["Step"]) < 4]
    if short:
        notes.append("runs have fewer than four rows: their statistical error is taken as zero")
    forces = None
    if frames and all(atoms.calc is not None for atoms in frames.values()):
        n = len(next(iter(frames.values())))
        forces = np.full((len(manifest.draws), n, 3), np.nan)
        for k, one in enumerate(manifest.draws):
            if one.number in series:
                forces[k] = frames[one.number].get_forces()
    return Gathered(manifest, rows, series, values, errors, forces, frames, failed, notes)


class _Broken(Exception):  # noqa: N818
    """One draw has no results; the text says why."""


def _error(column: np.ndarray) -> float:
    size = effective_size(column)
    return 0.0 if np.isnan(size) else float(column.std() / np.sqrt(size))


def _thermo(path: Path, run: int, skip: int) -> dict[str, np.ndarray]:
    """Columns of one run of a log whose LAMMPS ended that run without an error."""
    if not path.is_file():
        raise _Broken(f"{path.name} is not there: it has not run, or in another folder")
    tables: list[tuple[list[str], list[list[float]]]] = []
    ended, inside = 0, False
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if words[:1] == ["ERROR:"] or line.startswith("ERROR"):
            raise _Broken(f"{path.name}: {line.strip()}")
        if words[:1] == ["Step"]:
            tables.append((words, []))
            inside = True
        elif line.startswith("Loop time of"):
            ended, inside = len(tables), False
        elif inside and len(words) == len(tables[-1][0]):
            try:
                tables[-1][1].append([float(word) for word in words])
            except ValueError:
                continue  # a warning in between
    if not tables:
        raise _Broken(f"{path.name} has no table of thermodynamic output")
    if ended < len(tables):
        raise _Broken(f"{path.name} ends in the middle of a run: it was killed, or still runs")
    try:
        names, numbers = tables[run]
    except IndexError:
        raise ConfigError(f"run={run}: {path.name} has {len(tables)} runs") from None
    table = np.array(numbers)[skip:]
    if not len(table):
        raise _Broken(f"{path.name} has {len(numbers)} rows, and {skip} are skipped")
    lost = [name for name, column in zip(names, table.T, strict=True)
            if not np.isfinite(column).all()]  # fmt: skip
    if lost:
        raise _Broken(f"{path.name}: {', '.join(lost)} is not finite: the run has exploded")
    return dict(zip(names, table.T, strict=True))


def _frames(
    manifest: Manifest, dump: str | None, series: dict[int, Any], failed: dict[int, str]
) -> dict[int, Atoms]:
    """The last frame of every draw's dump; draws whose dump is missing or cut short fail."""
    if dump is None:
        return {}
    paths = {k: manifest.folder / dump.format(draw=k) for k in series}
    if not any(path.is_file() for path in paths.values()):
        return {}
    frames: dict[int, Atoms] = {}
    for k, path in paths.items():
        try:
            with open(path, encoding="utf-8") as handle:
                frames[k] = read_lammps_dump_text(handle, specorder=list(manifest.species))
        except (OSError, ValueError, RuntimeError, IndexError, StopIteration) as error:
            failed[k] = f"{path.name} cannot be read: {error!r}"
    usual = Counter(map(len, frames.values())).most_common(1)
    for k, atoms in list(frames.items()):
        if len(atoms) != usual[0][0]:
            failed[k] = f"{paths[k].name} has {len(atoms)} atoms, others {usual[0][0]}: cut short"
            del frames[k]
    for k in set(series) - set(frames):
        del series[k]
    return frames


def _odd_columns(series: dict[int, dict[str, np.ndarray]], failed: dict[int, str]) -> None:
    """Draws whose log has other columns than most are no results of the same input."""
    if not series:
        return
    usual = Counter(tuple(table) for table in series.values()).most_common(1)[0][0]
    for k, table in list(series.items()):
        if tuple(table) != usual:
            failed[k] = f"its log has the columns {', '.join(table)}, others {', '.join(usual)}"
            del series[k]


def _add_offsets(
    manifest: Manifest, series: dict[int, dict[str, np.ndarray]], frames: Mapping[int, Atoms]
) -> list[str]:
    """Add the energies of isolated atoms to all energies; notes on what could not be done."""
    counts = _composition(manifest, frames)
    present = [name for name in ENERGIES if name in next(iter(series.values()))]
    if not present:
        return []
    if counts is None:
        return [
            f"{', '.join(present)} lack the energies of isolated atoms, which differ from draw to "
            "draw: which atoms there were is not known without structure.data or a dump"
        ]
    by_number: dict[int, ExportedDraw] = {one.number: one for one in manifest.draws}
    for k, table in series.items():
        offset = sum(by_number[k].e0[species] * n for species, n in counts.items())
        for name in present:
            table[name] = table[name] + offset
    return []


def _composition(manifest: Manifest, frames: Mapping[int, Atoms]) -> dict[str, int] | None:
    """How many atoms of each species ran, by a dump or else by the exported structure."""
    if frames:
        return dict(Counter(next(iter(frames.values())).get_chemical_symbols()))
    path = manifest.folder / STRUCTURE
    if not path.is_file():
        return None
    with open(path, encoding="utf-8") as handle:
        types = read_lammps_data(handle, atom_style="atomic").arrays["type"]
    return dict(Counter(manifest.species[k - 1] for k in types))
