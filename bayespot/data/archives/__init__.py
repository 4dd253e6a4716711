"""Data sets that travel with the package, one folder each."""

from __future__ import annotations

from pathlib import Path

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
