"""Whether a folder is continued as the campaign it holds, and its labels are of one kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bayespot.data.dataset import Dataset
from bayespot.data.provenance import differences, refuse_mixed
from bayespot.errors import ConfigError
from bayespot.oracles import Oracle, label_provenances
from bayespot.records import read_json

__all__ = ["refuse_changes", "refuse_other_labels", "refuse_reuse"]


def refuse_changes(folder: Path, before: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise if a folder is continued as another campaign.

    Parameters
    ----------
    folder : Path
    before, mine : mapping
        ``identity`` of ``campaign.json`` as it is and as it would be.

    Raises
    ------
    ConfigError
        With what differs; of an oracle, the settings and both values.
    """
    was, now = before["settings"], mine["settings"]
    changed = [f"{n} was {was.get(n)}, is {now[n]}" for n in now if was.get(n) != now[n]]
    for name in ("pool", "oracle", "start", "test"):
        if before[name] != mine[name]:
            apart = []
            if name == "oracle":
                apart = differences({"settings": before[name]}, {"settings": mine[name]})
            changed.append(f"the {name} is another one{_listed(apart)}")
    if changed:
        raise ConfigError(
            f"{folder} holds another campaign: {'; '.join(changed)}. Use a new folder, or the old "
            "settings to continue"
        )


def refuse_other_labels(oracle: Oracle, **sets: Dataset | None) -> None:
    """Raise if labels that are there already are not of the oracle's kind.

    Parameters
    ----------
    oracle : Oracle
    **sets : Dataset or None
        By the name that the message gives them.

    Raises
    ------
    LabelError
        With the settings that differ and both values.
    """
    for name, dataset in sets.items():
        if dataset is not None:
            refuse_mixed(
                label_provenances(oracle), dataset.provenances(),
                where=f"oracle '{oracle.name}' and {name} set {dataset.source}",
            )  # fmt: skip


def refuse_reuse(folders: Sequence[Path], oracle: Oracle) -> None:
    """Raise if labels of campaigns with another oracle should be taken over.

    Raises
    ------
    ConfigError
        With the settings that differ and both values.
    """
    for folder in folders:
        path = folder / "campaign.json"
        if not path.exists():
            continue
        theirs = read_json(path)["identity"]["oracle"]
        apart = differences({"settings": theirs}, {"settings": oracle.settings})
        if apart:
            raise ConfigError(
                f"the labels of {folder} cannot be reused, they are of another oracle"
                f"{_listed(apart)}. Leave the folder out, or calculate with its settings"
            )


def _listed(apart: Sequence[str]) -> str:
    return f" ({'; '.join(apart)})" if apart else ""
