"""Files of LAMMPS with an entry for every centre, bonded atom and third atom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bayespot.errors import ConfigError

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eEdD][-+]?\d+)?$")


def read_entries(
    path: Path | str,
    counts: Sequence[int],
    species: Sequence[str],
    names: Sequence[str] | None = None,
) -> dict[tuple[str, ...], list[float]]:
    """Numbers of each entry; an entry is three names and its numbers, over one line or several.

    Entries of other species are left out.

    Parameters
    ----------
    path : path
    counts : sequence of int
        How many numbers an entry may have.
    species : sequence of str
        Chemical symbols, which the keys are made of.
    names : sequence of str, optional
        What the file calls them; the symbols themselves if not given.

    Raises
    ------
    ConfigError
        If the file cannot be read, has another layout, or has an entry twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    words = [word for line in text.splitlines() for word in line.split("#")[0].split()]
    found: dict[tuple[str, str, str], list[float]] = {}
    start = 0
    while start < len(words):
        key, end = tuple(words[start : start + 3]), start + 3
        while end < len(words) and NUMBER.match(words[end]):
            end += 1
        if any(NUMBER.match(word) for word in key) or end - start - 3 not in counts:
            expected = " or ".join(str(count) for count in counts)
            raise ConfigError(
                f"{path}: the entry that begins with '{' '.join(key)}' has {end - start - 3} "
                f"numbers where three names and {expected} numbers are expected"
            )
        if key in found:
            raise ConfigError(f"{path} has the entry {' '.join(key)} twice: take one out")
        found[key] = [float(re.sub("[dD]", "e", word)) for word in words[start + 3 : end]]
        start = end
    by_name = dict(zip(names or species, species, strict=True))
    return {
        tuple(by_name[name] for name in key): row
        for key, row in found.items() if all(name in by_name for name in key)
    }
