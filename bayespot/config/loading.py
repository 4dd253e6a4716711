"""From a TOML file to a checked `RunConfig` and back.

Everything that can be known before the first calculation is checked here: unknown keys, types and
ranges, names of forms, parameters and settings, species, and whether sources exist. All mistakes
of a file come in one `ConfigError`.
"""

from __future__ import annotations

import glob
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from ase.data import chemical_symbols
from pydantic import ValidationError

from bayespot.config.messages import config_error, did_you_mean, sentence
from bayespot.config.tables import NOISE_NAMES, OracleRunTable, RunConfig, Table
from bayespot.config.workers import worker_mistakes
from bayespot.data.archives import archive_names, archive_path
from bayespot.errors import BayespotError, ConfigError, PriorError
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
    content = read_toml(path)
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
        mistakes = list(dict.fromkeys(sentence(e, content, RunConfig) for e in error.errors()))
        raise config_error(source, mistakes) from None
    config = _absolute(config, Path(folder).resolve())
    mistakes = [*_potential_mistakes(config), *_source_mistakes(config)]
    if mistakes:
        raise config_error(source, mistakes)
    return config


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If there is no such file, or it is no TOML.
    """
    if not path.is_file():
        there = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise ConfigError(f"there is no file {path}{did_you_mean(path.name, there)}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def resolved_toml(config: Table) -> str:
    """Return the configuration with every default written out; it reproduces the run."""
    return tomli_w.dumps(_without_none(config.model_dump(mode="json")))


def write_resolved(config: Table, path: str | Path) -> None:
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
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


# ------------------------------------------------------------------------------ checks


def _potential_mistakes(config: RunConfig) -> list[str]:
    """Names of form, species, parameters and settings that do not exist."""
    table, found = config.potential, []
    for i, symbol in enumerate(table.species):
        if symbol not in chemical_symbols[1:]:
            hint = did_you_mean(symbol, chemical_symbols[1:])
            found.append(f"potential.species[{i}] = {symbol!r} is no chemical symbol{hint}")
    forms = registry()
    unknown = [part for part in table.form.split("+") if part.strip() not in forms]
    if unknown:
        hint = did_you_mean(unknown[0], forms)
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
                f"{did_you_mean(name, known) or ';'} it has: {', '.join(known) or 'none'}"
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
                    f"{did_you_mean(name, names) or ';'} it has: {', '.join(plain)}"
                )
    both = sorted(set(table.fixed) & set(config.priors))
    found += [f"{name} is in potential.fixed and in priors; leave one out" for name in both]
    for name, prior in config.priors.items():
        center = prior.mean if prior.kind == "normal" else prior.median
        low = -float("inf") if prior.low is None else prior.low
        high = float("inf") if prior.high is None else prior.high
        if not (low <= center <= high and low < high):
            found.append(
                f"priors.{name}: the center {center:g} is outside of its bounds ({low:g}, {high:g})"
            )
    return found + _misfit_mistakes(config, potential)


def _misfit_mistakes(config: RunConfig, potential: Potential) -> list[str]:
    """A treatment of misfit that form, noise and method do not have together."""
    from bayespot.inference.misfit import check_method

    try:
        check_method(potential, config.fit.method, misfit=config.noise.misfit,
                     tails=config.noise.tails)
    except PriorError as error:
        method = f"fit.method = {config.fit.method!r}"
        return [f"noise.misfit = {config.noise.misfit!r} with {method}: {error}"]
    return []


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
        if config.learn.oracle == "archive" and config.learn.oracle_run != OracleRunTable():
            found.append("learn.oracle_run has nothing to run; with learn.oracle = 'archive' leave "
                         "it out")  # fmt: skip
        if config.learn.acquisition != "random" and config.fit.method == "map":
            found.append(
                f"learn.acquisition = '{config.learn.acquisition}' needs a spread, and "
                "fit.method = 'map' is a single point: take 'nuts' or 'laplace'"
            )
        found += worker_mistakes(config.learn)
    found += [m for key, source in sources.items() if (m := missing_source(key, source))]
    floor = config.data.floor
    if floor == "archive" and not any(s in archive_names() for s in sources.values()):
        found.append(
            "data.floor = 'archive' needs a built-in archive as source or pool; take 'default', "
            "a JSON file or a table with energy, forces and stress_GPa"
        )
    if isinstance(floor, str) and floor not in ("archive", "default") and not Path(floor).is_file():
        hint = did_you_mean(Path(floor).name, ("archive", "default"))
        found.append(f"data.floor = {floor!r} is no file{hint} Or: 'archive', 'default', a table")
    return found


def missing_source(key: str, source: str | None) -> str | None:
    """Say that a source is neither file, pattern nor archive; None if it is there."""
    if source is None or source in archive_names() or _matches(source):
        return None
    hint = did_you_mean(Path(source).name, archive_names())
    return (
        f"{key} = {source!r}: no such file, no file fits it as a pattern, and no built-in "
        f"archive has that name{hint or ';'} archives: {', '.join(archive_names()) or 'none'}"
    )


def _matches(source: str) -> bool:
    return Path(source).exists() or bool(glob.glob(source, recursive=True))


def _measured_floor(source: str | None, species: list[str]) -> str | None:
    """Find the floor that was measured for labels: of their archive, or a file beside them.

    For ``labels.xyz`` that is ``labels.floor.json`` or ``floor.json`` in the same folder, as
    `bayespot converge` writes it; one that names other species belongs to other labels.
    """
    if source is None:
        return None
    if source in archive_names():
        return "archive" if (archive_path(source) / "floor.json").is_file() else None
    path = Path(source)
    while glob.has_magic(str(path.parent)):
        path = path.parent
    for beside in (path.with_name(f"{path.name.split('.')[0]}.floor.json"),
                   path.with_name("floor.json")):
        if beside.is_file() and set(species) <= set(_species_of(beside) or species):
            return str(beside)
    return None


def _species_of(floor: Path) -> list[str] | None:
    """Species that a file with a floor is for, None if it does not say."""
    try:
        return json.loads(floor.read_text(encoding="utf-8")).get("species")
    except (ValueError, AttributeError):
        raise ConfigError(
            f"{floor}, the floor beside the labels, is no JSON table; measure it again with "
            "bayespot converge, or say which floor is meant with data.floor"
        ) from None


def _absolute(config: RunConfig, folder: Path) -> RunConfig:
    """Paths relative to the file made absolute, and the floor decided."""

    def place(source: str | None, known: Iterable[str]) -> str | None:
        return source if source is None or source in known else str(folder / source)

    archives = archive_names()
    data, learn = config.data, config.learn
    source = place(data.source, archives)
    if learn is not None:
        run = learn.oracle_run
        folders = {name: place(getattr(run, name), ()) for name in ("pseudo_dir", "scratch")}
        learn = learn.model_copy(update={
            "pool": place(learn.pool, archives), "oracle_run": run.model_copy(update=folders)
        })  # fmt: skip
        if learn.oracle == "gpaw" and not learn.oracle_settings and learn.pool in archives:
            text = (archive_path(learn.pool) / "settings.toml").read_text(encoding="utf-8")
            learn = learn.model_copy(update={"oracle_settings": tomllib.loads(text)["gpaw"]})
    floor = data.floor
    if floor is None:
        used = source if learn is None or source is not None else learn.pool
        floor = _measured_floor(used, config.potential.species) or "default"
    elif isinstance(floor, str) and floor not in ("archive", "default"):
        # a mistyped word is not a path: only what looks like a file is made absolute
        floor = str(folder / floor) if "." in floor else floor
    data = data.model_copy(update={"source": source, "floor": floor})
    return config.model_copy(update={"data": data, "learn": learn})
