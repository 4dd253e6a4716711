"""Ledgers in a file and on a PostgreSQL server, for the same tests."""

import functools
import uuid

import pytest
from postgres import PostgresServer, why_not

from bayespot.active.ledger import Ledger


@pytest.fixture(scope="session")
def postgres():
    """A server of our own; it may be stopped and started, and must run at the end of a test."""
    if reason := why_not():
        pytest.skip(reason)
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(params=["file", "server"])
def place(request):
    """Keywords that say where a ledger is, as `Ledger.open` takes them."""
    if request.param == "file":
        return {}
    server = request.getfixturevalue("postgres")
    return {"server": server.address, "name": f"test {uuid.uuid4().hex[:8]}"}


@pytest.fixture
def opened(place, tmp_path):
    """Opens the ledger of ``tmp_path``."""
    return functools.partial(Ledger.open, tmp_path, **place)
