"""What is left out together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayespot.data.dataset import Dataset
from bayespot.errors import LabelError

ISOLATED = "IsolatedAtom"
"""Family of the energies of free atoms: the zero of energy, which no other structure tells."""


def folds(dataset: Dataset, by: str | int | Sequence[str | None] = "family") -> list[str | None]:
    """The fold of every structure; None is never left out.

    Free atoms are never left out: they set the zero of energy.

    Parameters
    ----------
    dataset : Dataset
    by : "family", int or sequence of str
        Leave out one family after the other: whether bars cover kinds of structures that were not
        fitted. Or so many folds over whole structures, where consecutive structures of a family
        stay together because neighbours in a file often are of one trajectory: whether bars cover
        more of the same. Or a name for every structure.

    Raises
    ------
    LabelError
        If there would be fewer than two folds, more folds than structures, or names and structures
        differ in number.
    """
    if isinstance(by, str):
        if by != "family":
            raise LabelError(f"folds by {by!r}: it is 'family', a number of folds, or names")
        names = [None if name == ISOLATED else name for name in dataset.families]
        if len(set(names) - {None}) < 2:
            raise LabelError(
                f"all structures of {dataset.source} are of one family, nothing remains when it is "
                "left out: give families when reading, or a number of folds"
            )
        return names
    if isinstance(by, (int, np.integer)):
        return _consecutive(dataset, int(by))
    names = list(by)
    if len(names) != len(dataset):
        raise LabelError(f"{len(names)} names of folds for {len(dataset)} structures")
    if len(set(names) - {None}) < 2:
        raise LabelError(f"the names of the folds are {sorted(set(names) - {None})}: two at least")
    return names


def _consecutive(dataset: Dataset, n: int) -> list[str | None]:
    """Every family cut into at most ``n`` parts; the folds take turns to get the next part."""
    families = np.array(dataset.families, dtype=np.str_)
    free = families == ISOLATED
    if not 2 <= n <= np.sum(~free):
        raise LabelError(
            f"{n} folds of {np.sum(~free)} structures: take from 2 to as many as there are"
        )
    width, turn = len(str(n)), 0
    found: list[str | None] = [None] * len(families)
    for family in dict.fromkeys(families[~free].tolist()):
        mine = np.flatnonzero(families == family)
        for part in np.array_split(mine, min(n, len(mine))):
            for k in part:
                found[k] = f"fold {turn % n + 1:0{width}}"
            turn += 1
    return found
