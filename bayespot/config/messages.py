"""What is wrong in a configuration, as sentences with the key that stands in the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from bayespot.config.tables import Table
from bayespot.errors import ConfigError

__all__ = ["config_error", "did_you_mean", "sentence"]


def config_error(source: str, mistakes: list[str]) -> ConfigError:
    """All mistakes of a file in one error."""
    if len(mistakes) == 1:
        return ConfigError(f"{source}: {mistakes[0]}")
    lines = "\n".join(f"  * {mistake}" for mistake in mistakes)
    return ConfigError(f"{source} has {len(mistakes)} mistakes:\n{lines}")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Hint at the nearest known name, empty if there is none."""
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given.lower(), lowered, n=1)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""


def sentence(error: Any, content: Mapping[str, Any], root: type[Table]) -> str:
    """Say what pydantic found in a file of tables, with the key as it stands in the file."""
    key, value = _key_of(error["loc"], content), error.get("input")
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        name = key.rpartition(".")[2]
        known = _keys_beside(error["loc"], root)
        return (
            f"unknown key {key}{did_you_mean(name, known)}"
            f"{' known: ' if did_you_mean(name, known) else '; known: '}{', '.join(known)}"
        )
    if kind == "missing":
        return f"{key} is missing"
    if kind.startswith("union_tag"):
        return f"{key}: a prior needs kind = 'normal' or 'lognormal', got {value!r}"
    if kind == "literal_error":
        hint = did_you_mean(str(value), [str(v).strip("'") for v in _options(context)])
        return f"{key} = {value!r} is not one of {context['expected']}{hint}"
    said = re.sub(r"^(Input|String|List|Dictionary) ", "", error["msg"])
    return f"{key} = {value!r} {said}"


def _options(context: Mapping[str, Any]) -> list[str]:
    return [part.strip() for part in context["expected"].replace(" or ", ", ").split(",")]


def _key_of(location: tuple, content: Any) -> str:
    """Dotted key of an error; tags that pydantic puts in for unions are not in the file."""
    parts: list[str] = []
    for i, step in enumerate(location):
        if isinstance(content, Mapping) and step in content:
            parts.append(str(step))
            content = content[step]
        elif isinstance(content, list) and isinstance(step, int) and step < len(content):
            parts[-1] += f"[{step}]"
            content = content[step]
        elif i == len(location) - 1 and isinstance(content, Mapping):
            parts.append(str(step))
    return ".".join(parts)


def _keys_beside(location: tuple, root: type[Table]) -> list[str]:
    """Keys that the table of an unknown key may have."""
    model: Any = root
    for step in location[:-1]:
        model = _model_at(model, step)
    return sorted(model.model_fields) if model is not None else []


def _model_at(model: Any, step: Any) -> Any:
    """Return the table under a key, or the list of tables it may be."""
    if model is None:
        return None
    if isinstance(model, list):  # the tables that a field may hold; a tag picks one
        picked = [m for m in model if str(step) in _tags(m)] or model
        return picked[0] if len(picked) == 1 else picked
    if step not in model.model_fields:
        return model
    found = _tables_in(model.model_fields[step].annotation)
    return found[0] if len(found) == 1 else found or None


def _tags(model: type[Table]) -> set[str]:
    kind = model.model_fields.get("kind")
    return set(get_args(kind.annotation)) if kind is not None else set()


def _tables_in(annotation: Any) -> list[type[Table]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in get_args(annotation) for table in _tables_in(part)]
