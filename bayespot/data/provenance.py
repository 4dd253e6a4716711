"""Where labels come from, and whether two labels may stand in one data set.

A structure with a label that was calculated carries ``info["provenance"]``: code, version,
settings, pseudopotentials, times, iterations, convergence, as an oracle wrote them. Labels of
different functionals, cutoffs, meshes, smearings, pseudopotentials or codes are labels of different
functions of the positions; no potential fits both, and no noise term describes the difference.
Nothing is known of labels without it, and nothing is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ase import Atoms

from bayespot.errors import LabelError

__all__ = ["KEY", "accepted", "differences", "note_provenance", "provenances", "refuse_mixed"]

KEY = "provenance"
"""Key in ``Atoms.info``."""

_ACCEPTED = "mixed_on_purpose"
_ASPECTS = (
    ("functional", r"\b(xc|input_dft|functional)\b"),
    ("cutoff", r"\b(ecut\w*|encut|cutoff)\b|\bmode\b"),
    ("k-points", r"\b(kpts|kspacing|koffset|kpoints)\b"),
    ("smearing", r"\b(occupations|smearing|degauss|width|sigma)\b"),
    ("pseudopotential", r"\b(pseudopotentials|setups)\b"),
)


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Say in which settings two labels, or two oracles, differ; empty if they may be mixed.

    Parameters
    ----------
    one, other : mapping
        Provenance of a label, or ``{"settings": oracle.settings}``. A missing part is unknown and
        differs from nothing. The version of a code is not compared.

    Returns
    -------
    list of str
        Aspect, key and both values of each difference.
    """
    first, second = one.get("settings"), other.get("settings")
    found: list[str] = []
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        codes = first.get("oracle"), second.get("oracle")
        if None not in codes and codes[0] != codes[1]:
            return [f"code: {codes[0]} and {codes[1]}"]
        found = _settings_apart(first, second)
    files = [dict(p.get("pseudopotentials") or {}) for p in (one, other)]
    found += _files_apart(*files)
    kinds = one.get("energy_kind"), other.get("energy_kind")
    if None not in kinds and kinds[0] != kinds[1]:
        found.append(f"energy: {kinds[0]} and {kinds[1]}")
    return list(dict.fromkeys(found))


def _settings_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    left, right = _leaves(first), _leaves(second)
    keys = [key for key in dict.fromkeys([*left, *right]) if left.get(key) != right.get(key)]
    groups: dict[str, list[str]] = {}
    for key in keys:
        if not key.startswith("pseudopotentials."):
            groups.setdefault(_aspect(key), []).append(key)
    found = []
    for aspect, members in groups.items():
        sides = [_shown(values, members) for values in (left, right)]
        found.append(f"{aspect}: {sides[0]} and {sides[1]}")
    return found + _files_apart(*(dict(s.get("pseudopotentials") or {}) for s in (first, second)))


def _shown(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Values of one side, without the prefix that all keywords have."""
    parts = [
        f"{key.removeprefix('keywords.')} = {json.dumps(values[key])}"
        for key in keys
        if key in values
    ]
    return ", ".join(parts) or "not given"


def _files_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Compare pseudopotentials of the elements that both have, by content."""
    found = []
    for symbol in sorted(set(first) & set(second)):
        one, other = first[symbol], second[symbol]
        sums = [{k: v for k, v in p.items() if k != "file"} for p in (one, other)]
        if sums[0] != sums[1]:
            texts = [f"{p.get('file')} ({' '.join(s.values())[:12]})"
                     for p, s in zip((one, other), sums, strict=True)]  # fmt: skip
            found.append(f"pseudopotential of {symbol}: {texts[0]} and {texts[1]}")
    return found


def _aspect(key: str) -> str:
    return next((name for name, sign in _ASPECTS if re.search(sign, key)), "settings")


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def provenances(structures: Iterable[Atoms]) -> list[Mapping[str, Any]]:
    """Different provenances among structures, one of each, without those that are unknown."""
    found: dict[str, Mapping[str, Any]] = {}
    seen: set[int] = set()
    for atoms in structures:
        known = atoms.info.get(KEY)
        if not isinstance(known, Mapping) or known.get(_ACCEPTED):
            continue
        settings = known.get("settings")
        if id(settings) in seen and not known.get("pseudopotentials"):
            continue
        seen.add(id(settings))
        decides = [settings, known.get("pseudopotentials"), known.get("energy_kind")]
        found.setdefault(json.dumps(decides, sort_keys=True), known)
    return list(found.values())


def refuse_mixed(*groups: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raise if labels of two kinds would come into one data set.

    Parameters
    ----------
    groups : sequences of mapping
        Provenances, see `provenances`.
    where : str
        What would be mixed, for the message.

    Raises
    ------
    LabelError
        With the first two that differ, and both values of what differs.
    """
    known = [provenance for group in groups for provenance in group]
    for other in known[1:]:
        apart = differences(known[0], other)
        if apart:
            raise LabelError(
                f"{where}: labels of different calculations cannot be one data set. They differ in "
                f"{'; '.join(apart)}. Calculate one part again with the settings of the other; or, "
                "if you know that the difference does not matter, read it with "
                "skip=['provenance'] (in a TOML file: [data.read] skip), or join "
                "dataset.accept_mixed()"
            )


def note_provenance(atoms: Atoms, metadata: Mapping[str, Any]) -> None:
    """Write into ``info`` what an oracle said of the label; of failed attempts only the kinds."""
    if "settings" in metadata:
        attempts = [str(attempt["kind"]) for attempt in metadata.get("attempts", ())]
        atoms.info[KEY] = {**metadata, "attempts": attempts}


def accepted(atoms: Atoms) -> Atoms:
    """Copy of a structure whose label is marked as one that may stand beside any others."""
    copy = atoms.copy()
    known = copy.info.get(KEY)
    if isinstance(known, Mapping):
        copy.info[KEY] = {**known, _ACCEPTED: True}
    return copy
