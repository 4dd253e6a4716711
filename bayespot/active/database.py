"""The ledger's database: an SQLite file or a PostgreSQL server, both through ASE's database API.

What ASE leaves to its callers is added here, once for both:

* a write lock taken before the first read (``BEGIN IMMEDIATE``, an advisory lock of PostgreSQL), so
  that nothing changes between reading a state and writing the next. It also serialises inserts,
  which ASE's PostgreSQL backend needs: it asks a sequence for the number of the row it has just
  made, and would get another writer's;
* closing without commit where something went wrong (that backend has no rollback);
* patience: a transaction that met a busy file or a server that restarts is run again, with pauses
  that double, for a stated time;
* indices by row number, without which ASE's updates read whole tables.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import ase.db
from ase.db.core import Database

from bayespot.active.rows import DATABASE, create_database
from bayespot.errors import ConfigError, LedgerError

__all__ = ["LedgerDatabase", "check_url", "schema_name"]

T = TypeVar("T")

PATIENCE = 300.0
"""Seconds for which a running campaign waits for a database that does not answer."""

OPENING_PATIENCE = 15.0
"""The same for the first connection, where a wrong address is more likely than a restart."""

_INDICES = tuple(
    f"CREATE INDEX IF NOT EXISTS {table}_by_row ON {table}(id)"
    for table in ("species", "keys", "text_key_values", "number_key_values")
)

# Connection lost (class 08), server going down or coming up, deadlock, lock not had in time.
_PASSING_CODES = ("08", "57P01", "57P02", "57P03", "40001", "40P01", "55P03", "25P03")


def check_url(url: str) -> None:
    """Refuse an address that cannot be that of a ledger.

    Raises
    ------
    ConfigError
        Another kind of database, no name of a database, a password, or ``options``.
    """
    parts = urlsplit(url)
    shown = url.split("@")[-1]
    if parts.scheme not in ("postgresql", "postgres"):
        raise ConfigError(
            f"ledger = {shown!r} is no address of a PostgreSQL server; write "
            "postgresql://user@host/database, or leave it out for a file in the campaign's folder"
        )
    query = parse_qs(parts.query)
    if parts.password is not None or "password" in query:
        raise ConfigError(
            "ledger contains a password, which would be copied into the results; take it out of "
            "the address and put it into ~/.pgpass or PGPASSWORD, where PostgreSQL looks for it"
        )
    if "options" in query:
        raise ConfigError(
            f"ledger = {shown!r} sets 'options', which bayespot needs for the schema of the "
            "campaign; set them for the user with ALTER ROLE"
        )
    if not parts.path.strip("/") and "dbname" not in query:
        raise ConfigError(f"ledger = {shown!r} names no database: postgresql://user@host/database")


def schema_name(name: str) -> str:
    """Schema of a campaign on a server, from the campaign's name."""
    return "bayespot_" + (re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:48] or "campaign")


class LedgerDatabase:
    """One campaign's database.

    Parameters
    ----------
    address : str
        File, or address of a server.
    schema : str, optional
        Of a server alone: each campaign has a schema of its own there, in which ``ase db`` finds an
        ordinary ASE database.
    """

    def __init__(self, address: str, schema: str | None = None) -> None:
        self.address, self.schema = address, schema
        self.on_server = schema is not None
        self._broken: tuple[type[Exception], ...] = (sqlite3.DatabaseError,)
        if self.on_server:
            check_url(address)
            self._broken = (_postgres_error(),)
            settings = (
                f"-csearch_path={schema} -clock_timeout=60000 "
                "-cidle_in_transaction_session_timeout=120000"
            )
            query = f"options={quote(settings)}&connect_timeout=10&application_name=bayespot"
            self._target = f"{address}{'&' if '?' in address else '?'}{query}"
        else:
            self._target = address

    @classmethod
    def in_folder(cls, folder: Path) -> LedgerDatabase:
        """SQLite file of a campaign's folder."""
        return cls(str(folder / DATABASE))

    @property
    def name(self) -> str:
        """What people call it: the file, or host, database and schema."""
        if not self.on_server:
            return self.address
        return f"{self.address.split('@')[-1].removeprefix('postgresql://')} ({self.schema})"

    def create(self) -> None:
        """Make what is not there yet: file or schema, ASE's tables, indices.

        Raises
        ------
        LedgerError
            If the server cannot be reached or does not allow it.
        """
        path = Path(self.address)
        if not self.on_server and not path.exists():
            self._guarded(lambda: create_database(path.parent), OPENING_PATIENCE)
        if self.on_server:
            self.run(self._make_schema, patience=OPENING_PATIENCE)

        def index(db: Database) -> None:
            db.count()
            cursor = db.connection.cursor()
            for statement in _INDICES:
                cursor.execute(statement)

        self.run(index, write=True, patience=OPENING_PATIENCE)

    def exists(self) -> bool:
        """Whether a ledger was made here before."""
        if not self.on_server:
            return Path(self.address).exists()
        return self.run(self._has_tables, patience=OPENING_PATIENCE)

    def run(
        self, work: Callable[[Database], T], *, write: bool = False, patience: float | None = None
    ) -> T:
        """Run a function in one transaction; again if the database was away for a while.

        Parameters
        ----------
        work : callable
            Gets an open ASE database. Where the server died while it committed, it is called
            though it had succeeded: it must see that and do nothing.
        write : bool
            Take the write lock first.
        patience : float, optional
            Seconds; `PATIENCE` if left out.

        Raises
        ------
        LedgerError
            If the database is damaged, full, forbidden, or away for longer than that.
        """
        seconds = PATIENCE if patience is None else patience
        return self._guarded(lambda: self._once(work, write), seconds)

    def clock(self, db: Database) -> float:
        """Seconds since 1970, by the server where there is one: hosts disagree."""
        if not self.on_server:
            return time.time()
        cursor = db.connection.cursor()
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        return float(cursor.fetchone()[0])

    # -- inside ------------------------------------------------------------------------------

    def _guarded(self, action: Callable[[], T], patience: float) -> T:
        deadline, pause = time.monotonic() + patience, 0.05
        while True:
            try:
                return action()
            except self._broken as error:
                late = time.monotonic() + pause > deadline
                if late or not self._passing(error):
                    raise LedgerError(self._sentence(error)) from error
            time.sleep(pause)
            pause = min(2.0 * pause, 5.0)

    def _once(self, work: Callable[[Database], T], write: bool) -> T:
        db = self._connect()
        try:
            db.__enter__()
            if write:
                db.connection.cursor().execute(self._lock_statement())
            result = work(db)
            db.connection.commit()
            return result
        finally:
            connection, db.connection = db.connection, None
            if connection is not None:
                connection.close()  # without a commit nothing of it stays

    def _connect(self) -> Database:
        # A new object each time: ASE's keep the connection and what they have read of the tables.
        if self.on_server:
            return ase.db.connect(self._target, type="postgresql")
        return ase.db.connect(self._target, type="db", use_lock_file=False, serial=True)

    def _lock_statement(self) -> str:
        if not self.on_server:
            return "BEGIN IMMEDIATE"
        return f"SELECT pg_advisory_xact_lock(hashtext('bayespot'), hashtext('{self.schema}'))"

    def _make_schema(self, db: Database) -> None:
        if self._has_tables(db):
            return
        cursor = db.connection.cursor()
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('bayespot'), 0)")
        cursor.execute(f"SELECT to_regnamespace('{self.schema}') IS NULL")
        if cursor.fetchone()[0]:
            cursor.execute(f"CREATE SCHEMA {self.schema}")
        db.count()  # ASE makes its tables, and commits

    def _has_tables(self, db: Database) -> bool:
        cursor = db.connection.cursor()
        cursor.execute(f"SELECT to_regclass('{self.schema}.information') IS NOT NULL")
        return bool(cursor.fetchone()[0])

    def _passing(self, error: Exception) -> bool:
        """Whether it may be over in a moment."""
        if not self.on_server:
            return "locked" in str(error) or "busy" in str(error)
        code = getattr(error, "pgcode", None)
        if code is None:  # not the server's answer: there was none
            return type(error).__name__ in ("OperationalError", "InterfaceError")
        return code.startswith(_PASSING_CODES)

    def _sentence(self, error: Exception) -> str:
        said = " ".join(str(error).split())
        if not self.on_server:
            name = Path(self.address).name
            return (
                f"{self.address} cannot be read or written ({said}); free disk space and check "
                f"permissions. If it is damaged, `sqlite3 {name} .recover` saves the rows"
            )
        if getattr(error, "pgcode", None) == "42501":
            return (
                f"the server refuses to make a place for the ledger {self.name} ({said}); its "
                "owner allows it with GRANT CREATE ON DATABASE ... TO ..."
            )
        return (
            f"the ledger {self.name} cannot be reached or written ({said}); check the server and "
            "the address, and run the same command: nothing that was recorded is lost"
        )


def _postgres_error() -> type[Exception]:
    try:
        import ase_db_backends.postgresql  # noqa: F401
        from psycopg2 import Error
    except ImportError:
        raise ConfigError(
            "a ledger on a PostgreSQL server needs ASE's backends: pip install ase-db-backends"
        ) from None
    return Error
