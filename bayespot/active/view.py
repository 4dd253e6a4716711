"""What a ledger holds, to look at: states, labels, failures; also while others write it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ase.db.core import Database
from ase.db.row import AtomsRow

from bayespot.active.database import LedgerDatabase, schema_name
from bayespot.active.rows import DATABASE, STATES, Entry, entry_of
from bayespot.data.dataset import Dataset, Labels
from bayespot.data.provenance import note_provenance
from bayespot.errors import ConfigError, LedgerError
from bayespot.records import canonical_json, read_json, write_json

__all__ = ["LedgerView", "find", "located", "note_place", "rows_of"]

ADDRESS = "ledger.json"
"""File of a campaign's folder that says where on a server its ledger is."""


class LedgerView:
    """The calculations of one campaign, to look at.

    Parameters
    ----------
    folder : Path
        Of the campaign.
    database : LedgerDatabase
    """

    def __init__(self, folder: Path, database: LedgerDatabase) -> None:
        self.folder, self.name = folder, database.name
        self._database = database

    def states(self) -> dict[str, str]:
        """State of every calculation, in the order of asking."""
        return {key: state for key, state, _ in self.overview()}

    def overview(self) -> list[tuple[str, str, int]]:
        """Address, state and round of every calculation, in the order of asking."""

        def look(db: Database) -> list[tuple[str, str, int]]:
            columns = ["id", "unique_id", "key_value_pairs"]
            rows = db.select(columns=columns, include_data=False, sort="id")
            return [(row.unique_id, row.state, int(row.round)) for row in rows]

        return self._database.run(look)

    def counts(self) -> dict[str, int]:
        """Count the calculations in each state."""
        states = list(self.states().values())
        return {state: states.count(state) for state in STATES}

    def entries(self, keys: Sequence[str] | None = None) -> list[Entry]:
        """Return calculations in the order of asking, or those named, in the order named.

        Parameters
        ----------
        keys : sequence of str, optional
        """

        def look(db: Database) -> list[Entry]:
            if keys is None:
                return [entry_of(row) for row in db.select(sort="id")]
            return [entry_of(find(db, key, self.name)) for key in keys]

        return self._database.run(look)

    def failures(self) -> list[Entry]:
        """Return the calculations that failed."""

        def look(db: Database) -> list[Entry]:
            return [entry_of(row) for row in db.select(state="failed", sort="id")]

        return self._database.run(look)

    def dataset(self, before_round: int | None = None) -> Dataset:
        """Every finished label as a `Dataset`, in the order of asking.

        Parameters
        ----------
        before_round : int, optional
            Take only what earlier rounds asked for (the initial set belongs to round -1).
        """
        done = [
            (entry, Labels(entry.result.energy, entry.result.forces, entry.result.stress))
            for entry in self.entries()
            if entry.result is not None and (before_round is None or entry.round < before_round)
        ]
        for entry, _ in done:
            if entry.result is not None:
                note_provenance(entry.structure, entry.result.metadata)
        return Dataset(
            structures=tuple(entry.structure for entry, _ in done),
            labels=tuple(labels for _, labels in done),
            families=tuple(str(entry.data["family"]) for entry, _ in done),
            source=self.name,
        )

    def export(self, path: str | Path) -> None:
        """Write every finished label to extxyz, at any time, also while a campaign runs.

        Parameters
        ----------
        path : path
        """
        self.dataset().write(path)

    def content(self) -> list[dict[str, Any]]:
        """List what was asked in which order, and what came of it, without times and hosts.

        Two campaigns that did the same have the same content, whatever happened on the way and
        whichever database it is kept in.
        """
        rows = []
        for entry in self.entries():
            row = {"key": entry.key, "state": entry.state, "round": entry.round}
            row |= {"role": entry.data["role"], "index": entry.data["index"]}
            row |= {"reason": entry.data.get("reason"), "energy": None, "forces": None}
            row["stress"] = None
            if (result := entry.result) is not None:
                # PostgreSQL has no sign of zero.
                row |= {"energy": result.energy + 0.0, "forces": (result.forces + 0.0).tolist()}
                if result.stress is not None:
                    row["stress"] = (result.stress + 0.0).tolist()
            rows.append(row)
        return rows

    def digest(self) -> str:
        """Hash of `content`: equal for equal campaigns."""
        return hashlib.sha256(canonical_json(self.content()).encode()).hexdigest()


def located(
    folder: Path, server: str | None = None, name: str | None = None
) -> LedgerDatabase:
    """Find the ledger of a folder: on the server that is noted in it, or a file."""
    path = folder / ADDRESS
    if path.exists():
        noted = read_json(path)
        there = LedgerDatabase(noted["server"], noted["schema"])
        if server is not None and server != noted["server"]:
            raise ConfigError(
                f"the ledger of {folder} is on {there.name}; leave it there, or use a new folder"
            )
        return there
    if server is None:
        return LedgerDatabase.in_folder(folder)
    if (folder / DATABASE).exists():
        raise ConfigError(
            f"the ledger of {folder} is the file {DATABASE}; take the server out of the "
            "configuration to continue, or use a new folder"
        )
    return LedgerDatabase(server, schema_name(name or folder.name))


def note_place(folder: Path, database: LedgerDatabase) -> None:
    """Write into a folder on which server its ledger is."""
    path = folder / ADDRESS
    if database.on_server and not path.exists():
        write_json(path, {"server": database.address, "schema": database.schema})


def rows_of(db: Database, key: str) -> list[AtomsRow]:
    """Rows of an address: one or none."""
    return list(db.select(unique_id=key))


def find(db: Database, key: str, name: str) -> AtomsRow:
    """Row of an address that was asked for."""
    for row in rows_of(db, key):
        return row
    raise LedgerError(f"{name} has no calculation {key[:12]}; it was never asked")
