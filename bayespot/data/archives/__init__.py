"""Data sets that travel with the package, one folder each."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bayespot.errors import LabelError

_ROOT = Path(__file__).resolve().parent


def archive_names() -> tuple[str, ...]:
    """Names of the built-in data sets: the folders that hold an extxyz file of their own name."""
    return tuple(sorted(folder.name for folder in _ROOT.iterdir()
                        if (folder / f"{folder.name}.extxyz.xz").is_file()))


def archive_path(name: str) -> Path:
    """Folder of a built-in data set (data, ``settings.toml``, ``floor.json``, ``README.md``).

    Parameters
    ----------
    name : str
        One of :func:`archive_names`.

    Returns
    -------
    Path
        The folder; the data lie in it as ``<name>.extxyz.xz``.

    Raises
    ------
    LabelError
        If there is no such archive.
    """
    names = archive_names()
    if name not in names:
        raise LabelError(f"no built-in archive {name!r}; there are: {', '.join(names) or 'none'}")
    return _ROOT / name


def provenance_beside(path: Path) -> dict[str, Any] | None:
    """Provenance of every label in the file of an archive, from the ``settings.toml`` beside it.

    Parameters
    ----------
    path : Path
        ``NAME/NAME.extxyz.xz``; for any other file the answer is None.

    Returns
    -------
    dict or None
        As in ``Atoms.info`` of calculated structures, see `bayespot.data.provenance`; None where
        the settings do not name a code.
    """
    beside = path.parent / "settings.toml"
    if path.name != f"{path.parent.name}.extxyz.xz" or not beside.is_file():
        return None
    content = tomllib.loads(beside.read_text(encoding="utf-8"))
    code = str(content.get("label", {}).get("code", "")).lower()
    if code not in content:
        return None
    return {
        "code": code,
        "version": str(content["label"].get("version", "unknown")),
        "settings": {"oracle": code, "keywords": content[code]},
        "energy_kind": "free_energy",
    }
