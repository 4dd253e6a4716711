"""Small files that prove a step was done: written whole or not at all, read with an answer."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from bayespot.errors import LedgerError

__all__ = ["canonical_json", "read_json", "write_json", "write_text"]


def _plain(value: Any) -> Any:
    """Turn numpy into plain Python and numbers that JSON cannot hold into None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def canonical_json(value: Any) -> str:
    """One text for one content: sorted keys, no spaces; what hashes are made of.

    Raises
    ------
    TypeError
        If the content is not numbers, strings, booleans, None, lists and dictionaries.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: after a kill there is the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed temporary name: what a killed process left behind is overwritten, not collected.
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; non-finite numbers become null."""
    write_text(path, json.dumps(_plain(value), indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that an earlier step wrote.

    Raises
    ------
    LedgerError
        If the file is not JSON: it was edited or damaged, since bayespot writes it whole.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LedgerError(
            f"{path} is not valid JSON ({error}); it was edited or the disk damaged it. "
            "Delete it and run the same command: the step is done again from the ledger"
        ) from None
