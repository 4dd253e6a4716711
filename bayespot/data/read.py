"""From files, databases and lists of Atoms to a checked :class:`~bayespot.data.dataset.Dataset`.

The reader never guesses: what it cannot decide is an error that names the argument to decide it
with, and everything it found stands in ``Dataset.summary()``.
"""

from __future__ import annotations

import bz2
import glob as globbing
import gzip
import io
import lzma
import os
import re
import sqlite3
import tempfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.db import connect
from ase.io.extxyz import key_val_str_to_dict, read_xyz
from ase.io.formats import UnknownFileTypeError

from bayespot.data.archives import archive_names, archive_path
from bayespot.data.checks import CHECKS, run_checks
from bayespot.data.dataset import Dataset, bare, family_of
from bayespot.data.labels import Conventions, Tally, check_geometry, read_labels
from bayespot.errors import LabelError, SpeciesError, StructureError

_OPENERS = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_RAW = "raw_"  # keeps ASE's hands off a key until we have seen its nine (or six) numbers
_TENSOR_KEY = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|\{[^}]*\}|\[[^\]]*\]|(?<!\S)(stress|virial)(?=\s*=)')


def read(source: str | os.PathLike[str] | Atoms | Sequence[Atoms], *,
         energy_key: str | None = None, forces_key: str | None = None,
         stress_key: str | None = None, virial_key: str | None = None,
         family_key: str = "config_type", energy_per_atom: bool = False,
         stress_unit: str = "eV/A^3", stress_sign: int = 1, stress_order: str = "ase",
         check: bool = True, skip: Collection[str] = (),
         require_labels: bool = True) -> Dataset:
    """Read structures with their energies, forces and stresses.

    Parameters
    ----------
    source : str, Path, Atoms or sequence of Atoms
        An extended XYZ file (plain, .xz, .gz, .bz2), an ASE database (.db, .json), any file that
        ASE reads (vasprun.xml, OUTCAR, GPAW or pw.x output, .traj ...), a glob over such files,
        the name of a built-in archive, or structures in memory.
    energy_key, forces_key, stress_key, virial_key : str, optional
        Where the labels are. By default ``REF_energy``, ``REF_forces``, ``REF_stress`` or
        ``REF_virial(s)``, then results of a calculator (its ``free_energy`` before its
        ``energy``, because forces are the derivative of the former), then plain ``energy``,
        ``forces`` or ``force``, ``stress``, ``virial(s)``. Virials are -volume times stress, eV.
    family_key : str
        Key of the family in ``info``.
    energy_per_atom : bool
        True if the energies are per atom; they are multiplied by the number of atoms.
    stress_unit : {"eV/A^3", "GPa", "kbar"}
        Unit of stresses (not of virials).
    stress_sign : {1, -1}
        -1 if compression is positive in the source; applies to stresses and virials.
    stress_order : {"ase", "vasp", "lammps"}
        Order of six numbers: xx yy zz then yz xz xy (ase), xy yz xz (vasp), xy xz yz (lammps).
        Nine numbers or a matrix are taken as made from six that were believed in ASE's order.
    check : bool
        Whether the labels are checked against physics; see :mod:`bayespot.data.checks`.
    skip : collection of str
        Names of single checks to leave out; every message of a check gives its name.
    require_labels : bool
        False for structures that may have no labels at all: what is to be predicted or calculated.

    Returns
    -------
    Dataset
        In eV, Å, eV/Å and eV/Å^3. ``summary()`` tells what was found.

    Raises
    ------
    LabelError, UnitError, StructureError, SpeciesError
        If something is missing, malformed or suspicious; the message has the way out.
    """
    conventions = Conventions(energy_key, forces_key, stress_key, virial_key, energy_per_atom,
                              stress_unit, stress_sign, stress_order)
    skip = _known_checks(skip)
    name, frames = _frames(source)
    tally = Tally()
    structures, labels, families, places = [], [], [], []
    for where, atoms in frames:
        check_geometry(atoms, where)
        labels.append(read_labels(atoms, where, conventions, tally))
        structures.append(bare(atoms, conventions.explicit.values()))
        families.append(family_of(atoms, family_key))
        places.append(where)
    _check_found(name, len(structures), conventions, tally, require_labels)
    dataset = Dataset(tuple(structures), tuple(labels), tuple(families), name,
                      tuple(_findings(tally)), tally.label_keys())
    if check:
        dataset = run_checks(dataset, places, skip)
    return dataset


def _known_checks(skip: Collection[str]) -> frozenset[str]:
    """Return the names of checks to skip, or raise LabelError for one that is no check."""
    names = frozenset({skip} if isinstance(skip, str) else skip)
    for name in sorted(names - set(CHECKS)):
        near = get_close_matches(name, CHECKS, 1)
        raise LabelError(f"skip={name!r} is no check"
                         + (f"; did you mean {near[0]!r}?" if near else "")
                         + f" There are: {', '.join(CHECKS)}")
    return names


def _check_found(name: str, n: int, conventions: Conventions, tally: Tally, require: bool) -> None:
    """Raise LabelError if there is nothing at all, or nothing under a key the caller named."""
    if n == 0:
        raise LabelError(f"{name}: no structures in it; check that the file was written completely")
    shown = ", ".join(sorted(map(str, tally.seen - {"numbers", "positions"}))) or "none"
    used = {key for _, key in tally.used}
    for argument, key in conventions.explicit.items():
        if key not in used and not (tally.no_volume and argument in ("stress_key", "virial_key")):
            near = get_close_matches(key, [str(k) for k in tally.seen], 1)
            raise LabelError(f"{name}: no frame has {argument}={key!r}"
                             + (f"; did you mean {near[0]!r}?" if near else ";")
                             + f" Keys found: {shown}")
    if require and not used:
        raise LabelError(
            f"{name}: no energies, forces or stresses in any of {n} frames. Keys found: {shown}. "
            "Name them: read(..., energy_key=..., forces_key=..., stress_key=... "
            "or virial_key=...)")


def _findings(tally: Tally) -> Iterator[str]:
    """Tell what the look-up of keys noticed."""
    gaps = [gap for gap in tally.free_energy_differs if abs(gap) > 1e-7]
    if gaps:
        worst = 1e3 * max(abs(gap) for gap in gaps)
        yield (f"free_energy taken, not energy(sigma->0), on {len(gaps)} structures (up to "
               f"{worst:.3g} meV/atom apart): forces are the derivative of the free energy")
    if tally.no_volume:
        yield f"stress left out on {tally.no_volume} structures whose cell has no volume"


def _frames(source: Any) -> tuple[str, Iterator[tuple[str, Atoms]]]:
    """Name of the source, and its frames with the place of each."""
    if isinstance(source, Atoms):
        source = [source]
    if not isinstance(source, (str, os.PathLike)):
        frames = list(source)
        for i, atoms in enumerate(frames):
            if not isinstance(atoms, Atoms):
                raise StructureError(f"item {i} of the list is {type(atoms).__name__}, "
                                     "not ase.Atoms")
        return "list of Atoms", ((f"list of Atoms, frame {i}", a) for i, a in enumerate(frames))
    text = os.fspath(source)
    path = Path(text)
    if text in archive_names():
        return text, _file_frames(archive_path(text) / f"{text}.extxyz.xz")
    if path.is_dir():
        inside = path / f"{path.name}.extxyz.xz"
        if not inside.is_file():
            raise LabelError(f"{path} is a folder; name a file or a glob such as "
                             f"{str(path / '*.extxyz')!r}")
        path = inside
    if path.is_file():
        return path.name, _file_frames(path)
    if globbing.has_magic(text):
        files = sorted(f for f in globbing.glob(text, recursive=True) if os.path.isfile(f))
        if not files:
            raise LabelError(f"no file matches {text!r} (from {Path.cwd()})")
        return (f"{text} ({len(files)} files)",
                (frame for file in files for frame in _file_frames(Path(file))))
    folder = path.parent
    names = [f.name for f in folder.iterdir()] if folder.is_dir() else []
    near = get_close_matches(path.name, [*names, *archive_names()], 3)
    raise LabelError(f"no file or built-in archive {text!r}"
                     + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")
                     + ("" if folder.is_dir() else f"; there is no folder {str(folder)!r} either")
                     + f" Built-in archives: {', '.join(archive_names()) or 'none'}")


def _file_frames(path: Path) -> Iterator[tuple[str, Atoms]]:
    """Frames of one file, each with its place for messages."""
    if path.stat().st_size == 0:
        raise LabelError(f"{path}: the file is empty; it was probably not written completely")
    suffixes = [s.lower() for s in path.suffixes]
    opener = _OPENERS.get(suffixes[-1]) if suffixes else None
    inner = suffixes[-2] if opener and len(suffixes) > 1 else (suffixes[-1] if suffixes else "")
    content = None
    if opener:
        try:  # at once: seeking in a compressed stream costs time quadratic in its length
            with opener(path, "rb") as file:
                content = file.read()
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise LabelError(f"{path}: cannot be decompressed ({error}); the file is damaged or "
                             "was not copied completely") from error
    if inner in (".extxyz", ".xyz"):
        yield from _extxyz_frames(path, path.read_bytes() if content is None else content)
    elif inner == ".db" or (inner == ".json" and _is_database(content or path.read_bytes())):
        yield from _on_disk(path, content, _database_frames)
    else:
        yield from _on_disk(path, content, _ase_frames)


def _on_disk(path: Path, content: bytes | None, frames: Any) -> Iterator[tuple[str, Atoms]]:
    """Call `frames(path, shown)`, through a temporary file if the content had to be unpacked."""
    if content is None:
        yield from frames(path, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / path.with_suffix("").name
        unpacked.write_bytes(content)
        yield from frames(unpacked, path)


def _extxyz_frames(path: Path, content: bytes) -> Iterator[tuple[str, Atoms]]:
    """Frames of extended XYZ, one by one so that a fault has a frame and a line."""
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: byte {error.start} is not UTF-8 text; is it an extxyz file?"
                         ) from error
    start, frame = 0, 0
    while start < len(lines):
        if not lines[start].strip():  # ASE would take a blank line for the end of the file
            start += 1
            continue
        where = f"{path.name}, frame {frame}"
        try:
            n = int(lines[start])
        except ValueError:
            raise StructureError(f"{where} (line {start + 1}): expected a number of atoms, found "
                                 f"{lines[start][:40]!r}; the frame before is too long, or the "
                                 "file is damaged") from None
        end = start + n + 2
        if end > len(lines):
            raise StructureError(f"{where} (line {start + 1}): {n} atoms announced, "
                                 f"{max(len(lines) - start - 2, 0)} lines left; the file is cut "
                                 "off. Write it again or remove the frame")
        while end < len(lines) and lines[end].lstrip().startswith("VEC"):
            end += 1
        yield where, _parse_frame(where, start, lines[start:end])
        start, frame = end, frame + 1


def _parse_frame(where: str, start: int, lines: list[str]) -> Atoms:
    """One frame from its lines; `start` is the number of lines before it."""
    try:
        atoms = next(read_xyz(io.StringIO("\n".join(lines) + "\n"), 0, _parse_comment))
    except KeyError as error:
        raise SpeciesError(f"{where} (line {start + 1}): {error} is neither a chemical element nor "
                           "a column; correct the symbol or the Properties of the frame"
                           ) from error
    except Exception as error:
        raise StructureError(f"{where} (line {start + 1}): not extended XYZ ({error}); compare the "
                             "columns with Properties=... in the comment line") from error
    for key in ("stress", "virial"):
        if _RAW + key in atoms.info:
            atoms.info[key] = atoms.info.pop(_RAW + key)
    return atoms


def _parse_comment(comment: str) -> dict[str, Any]:
    """ASE's parser, but stress and virial come as they stand.

    ASE takes the upper half of nine numbers whether they are symmetric or not, and refuses six.
    """
    renamed = _TENSOR_KEY.sub(lambda m: _RAW + m[1] if m[1] else m[0], comment)
    return key_val_str_to_dict(renamed)


def _is_database(content: bytes) -> bool:
    """Whether a JSON file is an ASE database (and not another JSON that ASE reads)."""
    return b'"nextid"' in content and b'"ids"' in content


def _database_frames(path: Path, shown: Path) -> Iterator[tuple[str, Atoms]]:
    """Rows of an ASE database; key-value pairs and data go to ``info``."""
    row_id: Any = "?"
    try:
        with connect(str(path)) as database:
            for row in database.select(sort="id"):
                row_id = row.id
                atoms = row.toatoms()
                atoms.info.update(row.get("data", {}))
                atoms.info.update(row.key_value_pairs)
                yield f"{shown.name}, row {row.id}", atoms
    except (sqlite3.Error, ValueError, KeyError, EOFError) as error:
        raise LabelError(f"{shown}: not an ASE database that can be read (after row {row_id}): "
                         f"{error}") from error


def _ase_frames(path: Path, shown: Path) -> Iterator[tuple[str, Atoms]]:
    """Frames of any other file that ASE knows."""
    frame = 0
    try:
        for atoms in ase.io.iread(str(path), index=":"):
            yield f"{shown.name}, frame {frame}", atoms
            frame += 1
    except UnknownFileTypeError as error:
        raise LabelError(f"{shown}: ASE does not recognise this file ({error}); rename it to the "
                         "suffix of its format (.extxyz, .db, .xml ...) or convert it with "
                         "'ase convert'") from error
    except Exception as error:
        raise StructureError(f"{shown.name}, frame {frame}: ASE cannot read it "
                             f"({type(error).__name__}: {error}); the file is damaged or the "
                             "calculation did not finish") from error
