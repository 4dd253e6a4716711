"""From a TOML file to a checked `RunConfig` and back.

Everything that can be known before the first calculation is checked here: unknown keys, types and
ranges, names of forms, parameters and settings, species, and whether sources exist. All mistakes
of a file come in one `ConfigError`.
"""

from __future__ import annotations

import difflib
import glob
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import tomli_w
from ase.data import chemical_symbols
from pydantic import BaseModel, ValidationError

from bayespot.config.tables import NOISE_NAMES, RunConfig, Table
from bayespot.data.archives import archive_names, archive_path
from bayespot.errors import BayespotError, ConfigError
from bayespot.potentials.base import Potential, form_named, registry

__all__ = ["load_config", "parse_config", "resolved_toml", "write_resolved"]


def load_config(path: str | Path, *, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """Read and check the configuration of a run.

    Parameters
    ----------
    path : path
        A TOML file; relative paths in it are relative to its folder.
    changes : mapping, optional
        Tables of keys that take the place of those in the file.

    Returns
    -------
    RunConfig
        With absolute paths and defaults filled in.

    Raises
    ------
    ConfigError
        If the file is missing, is no TOML, or has any mistake; all of them are listed.
    """
    path = Path(path)
    if not path.is_file():
        there = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise ConfigError(f"there is no file {path}{_did_you_mean(path.name, there)}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    for name, table in (changes or {}).items():
        content[name] = {**content.get(name, {}), **table} if isinstance(table, dict) else table
    return parse_config(content, folder=path.parent, source=str(path))


def parse_config(
    content: Mapping[str, Any], *, folder: str | Path = ".", source: str = "configuration"
) -> RunConfig:
    """Check the content of a configuration, see `load_config`.

    Parameters
    ----------
    content : mapping
        As parsed from TOML.
    folder : path
        What relative paths are relative to.
    source : str
        For messages.
    """
    try:
        config = RunConfig.model_validate(dict(content))
    except ValidationError as error:
        mistakes = list(dict.fromkeys(_sentence(e, content) for e in error.errors()))
        raise _config_error(source, mistakes) from None
    config = _absolute(config, Path(folder).resolve())
    mistakes = [*_potential_mistakes(config), *_source_mistakes(config)]
    if mistakes:
        raise _config_error(source, mistakes)
    return config


def resolved_toml(config: RunConfig) -> str:
    """Return the configuration with every default written out; it reproduces the run."""
    return tomli_w.dumps(_without_none(config.model_dump(mode="json")))


def write_resolved(config: RunConfig, path: str | Path) -> None:
    """Write `resolved_toml`; the file appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(resolved_toml(config), encoding="utf-8")
    os.replace(part, path)


def _without_none(value: Any) -> Any:
    """TOML has no null: what is None is left out, and its default is None again."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


# ------------------------------------------------------------------------------ messages


def _config_error(source: str, mistakes: list[str]) -> ConfigError:
    if len(mistakes) == 1:
        return ConfigError(f"{source}: {mistakes[0]}")
    lines = "\n".join(f"  * {mistake}" for mistake in mistakes)
    return ConfigError(f"{source} has {len(mistakes)} mistakes:\n{lines}")


def _did_you_mean(given: str, known: Iterable[str]) -> str:
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given.lower(), lowered, n=1)
    return f"; did you mean '{lowered[close[0]]}'?" if close else ""


def _sentence(error: Any, content: Mapping[str, Any]) -> str:
    """Say what pydantic found, with the key as it stands in the file."""
    key, value = _key_of(error["loc"], content), error.get("input")
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        name = key.rpartition(".")[2]
        known = _keys_beside(error["loc"], content)
        return (
            f"unknown key {key}{_did_you_mean(name, known)}"
            f"{' known: ' if _did_you_mean(name, known) else '; known: '}{', '.join(known)}"
        )
    if kind == "missing":
        return f"{key} is missing"
    if kind.startswith("union_tag"):
        return f"{key}: a prior needs kind = 'normal' or 'lognormal', got {value!r}"
    if kind == "literal_error":
        hint = _did_you_mean(str(value), [str(v).strip("'") for v in _options(context)])
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


def _keys_beside(location: tuple, content: Any) -> list[str]:
    """Keys that the table of an unknown key may have."""
    model: Any = RunConfig
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


# ------------------------------------------------------------------------------ checks


def _potential_mistakes(config: RunConfig) -> list[str]:
    """Names of form, species, parameters and settings that do not exist."""
    table, found = config.potential, []
    for i, symbol in enumerate(table.species):
        if symbol not in chemical_symbols[1:]:
            hint = _did_you_mean(symbol, chemical_symbols[1:])
            found.append(f"potential.species[{i}] = {symbol!r} is no chemical symbol{hint}")
    forms = registry()
    unknown = [part for part in table.form.split("+") if part.strip() not in forms]
    if unknown:
        hint = _did_you_mean(unknown[0], forms)
        known = ", ".join(forms)
        found.append(
            f"potential.form = {table.form!r} is unknown{hint or ';'} known: {known}, and sums of "
            "them with +"
        )
        return found
    form = form_named(table.form)
    for name in table.hyper:
        if name not in form.hypers():
            known = list(form.hypers())
            found.append(
                f"potential.hyper.{name} is no setting of {table.form}"
                f"{_did_you_mean(name, known) or ';'} it has: {', '.join(known) or 'none'}"
            )
    if found:
        return found
    return _parameter_mistakes(config, form)


def _parameter_mistakes(config: RunConfig, form: type[Potential]) -> list[str]:
    table = config.potential
    try:
        potential = form(species=tuple(table.species), **table.hyper)
    except (BayespotError, TypeError, ValueError) as error:
        return [f"potential: {error}"]
    names = set(NOISE_NAMES)
    for item in form.parameters():
        names.add(item.name)
        names |= {f"{item.name}[{entry}]" for entry in potential.coordinates(item.per)}
    found = []
    for key, given in (("potential.fixed", table.fixed), ("priors", config.priors)):
        for name in given:
            if name not in names:
                plain = sorted(n for n in names if "[" not in n)
                found.append(
                    f"{key}.{name} is no parameter of {table.form}"
                    f"{_did_you_mean(name, names) or ';'} it has: {', '.join(plain)}"
                )
    both = sorted(set(table.fixed) & set(config.priors))
    found += [f"{name} is in potential.fixed and in priors; leave one out" for name in both]
    for name, prior in config.priors.items():
        center = prior.mean if prior.kind == "normal" else prior.median
        low = -float("inf") if prior.low is None else prior.low
        high = float("inf") if prior.high is None else prior.high
        if not low < center < high:
            found.append(
                f"priors.{name}: the center {center:g} is outside of its bounds ({low:g}, {high:g})"
            )
    return found


def _source_mistakes(config: RunConfig) -> list[str]:
    """Find sources that are not there, and combinations that cannot run."""
    found = []
    sources = {"data.source": config.data.source}
    if config.learn is not None:
        sources["learn.pool"] = config.learn.pool
        if config.learn.oracle == "archive" and config.learn.oracle_settings:
            found.append(
                "learn.oracle_settings belong to a calculator; with learn.oracle = 'archive' "
                "leave them out"
            )
        if config.learn.acquisition != "random" and config.fit.method == "map":
            found.append(
                f"learn.acquisition = '{config.learn.acquisition}' needs a spread, and "
                "fit.method = 'map' is a single point: take 'nuts' or 'laplace'"
            )
    for key, source in sources.items():
        if source is None or source in archive_names() or _matches(source):
            continue
        hint = _did_you_mean(Path(source).name, archive_names())
        found.append(
            f"{key} = {source!r}: no such file, no file fits it as a pattern, and no built-in "
            f"archive has that name{hint or ';'} archives: {', '.join(archive_names()) or 'none'}"
        )
    floor = config.data.floor
    if floor == "archive" and not any(s in archive_names() for s in sources.values()):
        found.append(
            "data.floor = 'archive' needs a built-in archive as source or pool; take 'default', "
            "a JSON file or a table with energy, forces and stress_GPa"
        )
    if isinstance(floor, str) and floor not in ("archive", "default") and not Path(floor).is_file():
        hint = _did_you_mean(Path(floor).name, ("archive", "default"))
        found.append(f"data.floor = {floor!r} is no file{hint} Or: 'archive', 'default', a table")
    return found


def _matches(source: str) -> bool:
    return Path(source).exists() or bool(glob.glob(source, recursive=True))


def _absolute(config: RunConfig, folder: Path) -> RunConfig:
    """Paths relative to the file made absolute, and the floor decided."""

    def place(source: str | None, known: Iterable[str]) -> str | None:
        return source if source is None or source in known else str(folder / source)

    archives = archive_names()
    data, learn = config.data, config.learn
    source = place(data.source, archives)
    if learn is not None:
        learn = learn.model_copy(update={"pool": place(learn.pool, archives)})
        if learn.oracle == "gpaw" and not learn.oracle_settings and learn.pool in archives:
            text = (archive_path(learn.pool) / "settings.toml").read_text(encoding="utf-8")
            learn = learn.model_copy(update={"oracle_settings": tomllib.loads(text)["gpaw"]})
    floor = data.floor
    if floor is None:
        used = source if learn is None or source is not None else learn.pool
        floor = "archive" if used in archives else "default"
    elif isinstance(floor, str) and floor not in ("archive", "default"):
        # a mistyped word is not a path: only what looks like a file is made absolute
        floor = str(folder / floor) if "." in floor else floor
    data = data.model_copy(update={"source": source, "floor": floor})
    return config.model_copy(update={"data": data, "learn": learn})
