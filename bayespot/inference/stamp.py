"""What a folder of unfinished work belongs to, so that nothing else continues from it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bayespot.errors import BayespotError


def stamp(path: Path, settings: dict[str, Any], what: str) -> None:
    """Write the settings of the work in the folder of ``path``, or compare them with those there.

    Parameters
    ----------
    path : Path
        File of the stamp; its folder is made if it is not there.
    settings : dict
        Plain JSON types.
    what : str
        How the folder's work is called in the message, as "the checkpoint".

    Raises
    ------
    BayespotError
        If the folder was made with other settings; the message names them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(key for key in settings if before.get(key) != settings[key])
        if changed:
            raise BayespotError(
                f"{what} {path.parent} was made with other {', '.join(changed)}: use another "
                "folder, or remove this one to start again"
            )
        return
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(settings), encoding="utf-8")
    os.replace(part, path)
