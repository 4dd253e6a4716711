"""The settings of a generated training set: from a TOML file, or from a symbol or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from bayespot.config.loading import read_toml
from bayespot.config.messages import config_error, sentence
from bayespot.generate.settings import GenerationSettings

__all__ = ["generation_of", "generation_toml"]


def generation_of(source: str, *, changes: Mapping[str, Any] | None = None) -> GenerationSettings:
    """Settings from what stands on the command line.

    Parameters
    ----------
    source : str
        A TOML file (relative paths in it are relative to its folder), a file with a crystal, a
        chemical symbol, or several with commas.
    changes : mapping, optional
        Keys that take the place of those in the file.

    Raises
    ------
    ConfigError
        If the file is missing, is no TOML, or has any mistake; all of them are listed.
    """
    folder = Path()
    if source.endswith(".toml"):
        content, folder = dict(read_toml(Path(source))), Path(source).parent
    elif Path(source).is_file():
        content = {"structure": source}
    elif "," in source:
        content = {"species": [part.strip() for part in source.split(",")]}
    else:
        # a word with a dot or a slash can only be a file that is not there
        content = {"structure" if "." in source or "/" in source else "element": source}
    content |= changes or {}
    try:
        settings = GenerationSettings.model_validate(content)
    except ValidationError as error:
        found = [sentence(e, content, GenerationSettings) for e in error.errors()]
        raise config_error(source, list(dict.fromkeys(found))) from None
    placed = {key: str(folder / value) for key in ("structure", "driver")
              if (value := getattr(settings, key)) and _is_path(key, value)
              and key not in (changes or {})}
    return settings.model_copy(update=placed)


def _is_path(key: str, value: str) -> bool:
    return key == "structure" or value.endswith(".nc")


def generation_toml(settings: GenerationSettings) -> str:
    """Return the settings with every default written out; they make the set again."""
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
