"""Frames of files, databases and lists, one after the other: no file is held in memory whole.

A frame knows its place (file and frame, for messages) and how to become an ``Atoms``; a frame that
is not wanted is skipped without being parsed.
"""

from __future__ import annotations

import bz2
import glob as globbing
import gzip
import io
import itertools
import lzma
import os
import re
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import ase.io
from ase import Atoms
from ase.db import connect
from ase.io.extxyz import key_val_str_to_dict, read_xyz
from ase.io.formats import UnknownFileTypeError

from bayespot.data.archives import archive_names, archive_path, provenance_beside
from bayespot.data.provenance import KEY
from bayespot.errors import LabelError, SpeciesError, StructureError

_OPENERS = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}
_RAW = "raw_"  # keeps ASE's hands off a key until we have seen its nine (or six) numbers
_TENSOR_KEY = re.compile(
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|\{[^}]*\}|\[[^\]]*\]|(?<!\S)(stress|virial)(?=\s*=)')
ROWS_AT_A_TIME = 256
"""Rows of a database that one query brings: ASE fetches all that a query matches."""


class Frame(NamedTuple):
    """One frame of a source."""

    where: str
    """File and frame, for messages."""
    load: Callable[[], Atoms]
    """Parse it; raises what is wrong with it."""


def frames_of(source: Any) -> tuple[str, Iterator[Frame]]:
    """Name of a source, and its frames.

    Parameters
    ----------
    source : str, Path, Atoms or sequence of Atoms
        See `bayespot.data.read.read`.

    Raises
    ------
    LabelError, StructureError
        If there is no such file, or something else than structures in a list.
    """
    if isinstance(source, Atoms):
        source = [source]
    if not isinstance(source, (str, os.PathLike)):
        frames = list(source)
        for i, atoms in enumerate(frames):
            if not isinstance(atoms, Atoms):
                raise StructureError(f"item {i} of the list is {type(atoms).__name__}, "
                                     "not ase.Atoms")
        return "list of Atoms", (Frame(f"list of Atoms, frame {i}", lambda a=a: a)
                                 for i, a in enumerate(frames))
    name, files = files_of(source)
    return name, (frame for file in files for frame in file_frames(file))


def files_of(source: str | os.PathLike[str]) -> tuple[str, list[Path]]:
    """Name of a source that is a file, a glob or a built-in archive, and its files.

    Raises
    ------
    LabelError
        If there are none.
    """
    text = os.fspath(source)
    path = Path(text)
    if text in archive_names():
        return text, [archive_path(text) / f"{text}.extxyz.xz"]
    if path.is_dir():
        inside = path / f"{path.name}.extxyz.xz"
        if not inside.is_file():
            raise LabelError(f"{path} is a folder; name a file or a glob such as "
                             f"{str(path / '*.extxyz')!r}")
        path = inside
    if path.is_file():
        return path.name, [path]
    if globbing.has_magic(text):
        files = sorted(f for f in globbing.glob(text, recursive=True) if os.path.isfile(f))
        if not files:
            raise LabelError(f"no file matches {text!r} (from {Path.cwd()})")
        return f"{text} ({len(files)} files)", [Path(file) for file in files]
    folder = path.parent
    names = [f.name for f in folder.iterdir()] if folder.is_dir() else []
    near = get_close_matches(path.name, [*names, *archive_names()], 3)
    raise LabelError(f"no file or built-in archive {text!r}"
                     + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")
                     + ("" if folder.is_dir() else f"; there is no folder {str(folder)!r} either")
                     + f" Built-in archives: {', '.join(archive_names()) or 'none'}")


def file_frames(path: Path) -> Iterator[Frame]:
    """Frames of one file."""
    if path.stat().st_size == 0:
        raise LabelError(f"{path}: the file is empty; it was probably not written completely")
    suffixes = [s.lower() for s in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in _OPENERS
    inner = suffixes[-2] if packed and len(suffixes) > 1 else (suffixes[-1] if suffixes else "")
    if inner in (".extxyz", ".xyz"):
        known = provenance_beside(path)
        for frame in _extxyz_frames(path):
            yield frame if known is None else Frame(frame.where, partial(_told, frame.load, known))
    elif inner == ".db":
        yield from _on_disk(path, packed, _database_frames)
    elif inner == ".json":
        yield from _on_disk(path, packed, _json_frames)
    else:
        yield from _on_disk(path, packed, _ase_frames)


def _told(load: Callable[[], Atoms], known: dict[str, Any]) -> Atoms:
    """Frame with the provenance of its archive, where it has none of its own."""
    atoms = load()
    atoms.info.setdefault(KEY, known)
    return atoms


def _lines(path: Path) -> Iterator[str]:
    """Lines of a text file, unpacked on the way; a compressed stream is never sought in."""
    opener = _OPENERS.get(path.suffix.lower(), open)
    seen = 0
    try:
        with opener(path, "rb") as file:
            for raw in file:
                yield raw.decode("utf-8").rstrip("\r\n")
                seen += len(raw)
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: byte {seen + error.start} is not UTF-8 text; is it an extxyz "
                         "file?") from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> LabelError:
    what = "decompressed" if path.suffix.lower() in _OPENERS else "read"
    return LabelError(f"{path}: cannot be {what} ({error}); the file is damaged or was not copied "
                      "completely")


def _on_disk(path: Path, packed: bool, frames: Any) -> Iterator[Frame]:
    """Call `frames(path, shown)`, through a temporary file if the content has to be unpacked."""
    if not packed:
        yield from frames(path, path)
        return
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / path.with_suffix("").name
        try:
            with _OPENERS[path.suffix.lower()](path, "rb") as file, open(unpacked, "wb") as plain:
                shutil.copyfileobj(file, plain)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise _damaged(path, error) from error
        yield from frames(unpacked, path)


def _extxyz_frames(path: Path) -> Iterator[Frame]:
    """Frames of extended XYZ, one by one so that a fault has a frame and a line."""
    lines = _lines(path)
    ahead, start, frame = next(lines, None), 0, 0
    while ahead is not None:
        if not ahead.strip():  # ASE would take a blank line for the end of the file
            ahead, start = next(lines, None), start + 1
            continue
        where = f"{path.name}, frame {frame}"
        try:
            n = int(ahead)
        except ValueError:
            raise StructureError(f"{where} (line {start + 1}): expected a number of atoms, found "
                                 f"{ahead[:40]!r}; the frame before is too long, or the "
                                 "file is damaged") from None
        body = [ahead, *itertools.islice(lines, max(n, 0) + 1)]
        if len(body) < n + 2:
            raise StructureError(f"{where} (line {start + 1}): {n} atoms announced, "
                                 f"{max(len(body) - 2, 0)} lines left; the file is cut "
                                 "off. Write it again or remove the frame")
        ahead = next(lines, None)
        while ahead is not None and ahead.lstrip().startswith("VEC"):
            body.append(ahead)
            ahead = next(lines, None)
        yield Frame(where, partial(_parse_frame, where, start, body))
        start, frame = start + len(body), frame + 1


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


def _json_frames(path: Path, shown: Path) -> Iterator[Frame]:
    """Frames of a JSON file: an ASE database, or another JSON that ASE reads."""
    content = path.read_bytes()
    found = b'"nextid"' in content and b'"ids"' in content
    yield from (_database_frames if found else _ase_frames)(path, shown)


def _database_frames(path: Path, shown: Path) -> Iterator[Frame]:
    """Rows of an ASE database; key-value pairs and data go to ``info``."""
    row_id: Any = 0
    try:
        with connect(str(path)) as database:
            while rows := list(database.select(f"id>{row_id}", sort="id", limit=ROWS_AT_A_TIME)):
                for row in rows:
                    row_id = row.id
                    yield Frame(f"{shown.name}, row {row.id}", partial(_row_atoms, row, shown))
    except (sqlite3.Error, ValueError, KeyError, EOFError) as error:
        raise _no_database(shown, row_id or "?", error) from error


def _row_atoms(row: Any, shown: Path) -> Atoms:
    try:
        atoms = row.toatoms()
        atoms.info.update(row.get("data", {}))
        atoms.info.update(row.key_value_pairs)
    except (ValueError, KeyError, EOFError) as error:
        raise _no_database(shown, row.id, error) from error
    return atoms


def _no_database(shown: Path, row_id: Any, error: Exception) -> LabelError:
    return LabelError(f"{shown}: not an ASE database that can be read (after row {row_id}): "
                      f"{error}")


def _ase_frames(path: Path, shown: Path) -> Iterator[Frame]:
    """Frames of any other file that ASE knows."""
    frame = 0
    try:
        for atoms in ase.io.iread(str(path), index=":"):
            yield Frame(f"{shown.name}, frame {frame}", lambda atoms=atoms: atoms)
            frame += 1
    except UnknownFileTypeError as error:
        raise LabelError(f"{shown}: ASE does not recognise this file ({error}); rename it to the "
                         "suffix of its format (.extxyz, .db, .xml ...) or convert it with "
                         "'ase convert'") from error
    except Exception as error:
        raise StructureError(f"{shown.name}, frame {frame}: ASE cannot read it "
                             f"({type(error).__name__}: {error}); the file is damaged or the "
                             "calculation did not finish") from error
