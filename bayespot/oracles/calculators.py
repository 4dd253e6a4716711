"""Labels that are calculated: any code, retried by a ladder, with a record of how it came about."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from bayespot.errors import ConfigError, OracleError
from bayespot.oracles.base import LabelledResult, check_label
from bayespot.oracles.calculation import calculate
from bayespot.oracles.codes import Code, leaves, merged
from bayespot.oracles.isolation import isolated
from bayespot.oracles.registry import code_of
from bayespot.oracles.run_settings import Rung, RunSettings
from bayespot.records import canonical_json


class CalculatorOracle:
    """Labels from a code, built afresh for every structure.

    Parameters
    ----------
    name : str
        ``"gpaw"``, ``"espresso"``, ``"chgnet"``, any name that ASE knows, or
        ``"package.module:Class"`` for an ASE calculator of another package.
    settings : mapping
        Keywords of the calculator, plain JSON (as they come from TOML).
    run : RunSettings or mapping
        Command, limits, scratch, ladder: what does not change a label.

    Raises
    ------
    ConfigError
        Unknown name, missing package, or keywords that the calculator refuses. They are tried
        here, once, so that a typing error does not fail every structure of a campaign.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any] | None = None,
        *,
        run: RunSettings | Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.run = RunSettings.of(run)
        self.max_force = self.run.max_force
        self._code = code_of(name)
        self._keywords = _plain_settings(settings or {})
        self.settings: dict[str, Any] = self._code.identity(self._fresh_keywords(), self.run)
        self._ladder = self._code.ladder if self.run.ladder is None else self.run.ladder
        _check_ladder(self._code, self._ladder)
        alone = self._code.isolated if self.run.isolate is None else self.run.isolate
        self._isolated = alone or bool(self.run.time_limit or self.run.memory_limit)
        self._try_keywords()

    def __reduce__(self) -> tuple:
        """Travel to a worker by name and settings; made again and compared there."""
        return _made_again, (self.name, self._keywords, self.run.plain(), self.settings)

    def label(self, structure: Atoms) -> LabelledResult:
        """Calculate one structure; where that fails, climb the ladder.

        Raises
        ------
        OracleError
            If the ladder ends. ``kind`` is that of the last failure, ``attempts`` has all of them.
        """
        attempts: list[dict[str, Any]] = []
        left = list(self._ladder)
        rung: Rung | None = None
        while True:
            begin, note = time.perf_counter(), {}
            try:
                result = self._attempt(structure, rung, note)
                return replace(result, metadata={**result.metadata, "attempts": attempts})
            except OracleError as error:
                failure = error
            record = {} if rung is None else rung.described()
            attempts.append({
                "kind": failure.kind, "message": str(failure),
                "wall_time_s": time.perf_counter() - begin, **record,
                **{k: note[k] for k in ("tail", "folder") if k in note},
            })  # fmt: skip
            rung = next((r for r in left if failure.kind in r.on), None)
            if rung is None:
                raise OracleError(_story(attempts), failure.kind, attempts) from failure
            left.remove(rung)

    def _attempt(
        self, structure: Atoms, rung: Rung | None, note: dict[str, Any]
    ) -> LabelledResult:
        """One calculation; the note gets what should be known if it fails."""
        keywords = self._fresh_keywords()
        guess: Mapping[str, Any] = {}
        factor = 1.0
        if rung is not None:
            keywords, guess, factor = merged(keywords, rung.change), rung.guess, rung.time_factor

        def accept(found: dict[str, Any]) -> LabelledResult:
            stress = found["stress"]
            result = LabelledResult(
                energy=float(found["energy"]),
                forces=np.array(found["forces"], dtype=float),
                stress=None if stress is None else np.array(stress, dtype=float),
                metadata=self._metadata(found["metadata"], rung),
            )
            check_label(structure, result, self.max_force)
            return result

        code, run = self._code, self.run
        if self._isolated:
            return isolated(code, keywords, run, structure, guess, factor, accept, note)
        if not code.writes:
            return accept(calculate(code, keywords, run, structure, None, guess))
        with tempfile.TemporaryDirectory(prefix="bayespot-", dir=run.scratch) as folder:
            try:
                return accept(calculate(code, keywords, run, structure, Path(folder), guess))
            except OracleError:
                note["tail"] = code.tail(Path(folder))
                raise

    def _metadata(self, found: Mapping[str, Any], rung: Rung | None) -> dict[str, Any]:
        """Where a label comes from; no names of machines, no paths."""
        described = {} if rung is None else {"retried_with": rung.described()}
        used = self.settings.get("pseudopotentials")
        files = {} if used is None else {"pseudopotentials": used}
        return {"code": self.name, "settings": self.settings, **files, **found, **described}

    def _fresh_keywords(self) -> dict[str, Any]:
        """Make a copy that a calculator may change without changing the next one's."""
        return json.loads(json.dumps(self._keywords))

    def _try_keywords(self) -> None:
        try:
            self._code.calculator(self._fresh_keywords(), self.run)
        except (ImportError, TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f"the calculator '{self.name}' cannot be made with {self._keywords}: {error}; "
                "correct [learn.oracle_settings]"
            ) from error


def _made_again(
    name: str, keywords: dict[str, Any], run: dict[str, Any], settings: dict[str, Any]
) -> CalculatorOracle:
    oracle = CalculatorOracle(name, keywords, run=run)
    if oracle.settings != settings:
        raise ConfigError(
            f"the oracle '{name}' is another one on this machine: its pseudopotentials differ "
            "from those where the campaign was started; use the same files on all machines"
        )
    return oracle


def _plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn settings into plain JSON, or say why they are not."""
    try:
        return json.loads(canonical_json(dict(settings)))
    except TypeError as error:
        raise ConfigError(
            f"oracle settings must be numbers, strings, booleans, lists and tables: {error}"
        ) from None


def _check_ladder(code: Code, ladder: tuple[Rung, ...]) -> None:
    """Refuse rungs that would give another label, or that this code cannot do."""
    for rung in ladder:
        if rung.guess and not code.can_start_from_density:
            raise ConfigError(
                f"a rung has guess = {dict(rung.guess)}, but the oracle '{code.name}' cannot start "
                "from the density of another calculation"
            )
        for key in leaves(rung.change):
            if not any(f"{key}.".startswith(f"{allowed}.") for allowed in code.path_keys):
                known = ", ".join(sorted(code.path_keys)) or "nothing"
                raise ConfigError(
                    f"a rung changes {key}, which could change what the labels mean; it may change "
                    f"{known}. A calculation with other settings may be its guess"
                )


def _story(attempts: list[dict[str, Any]]) -> str:
    """Say how the last attempt failed, and how many there were."""
    last = attempts[-1]["message"]
    if len(attempts) == 1:
        return str(last)
    kinds = ", ".join(str(attempt["kind"]) for attempt in attempts)
    return f"{last} (attempt {len(attempts)}; failures: {kinds})"
