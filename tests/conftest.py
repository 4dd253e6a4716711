"""Double precision for every test; shapes in signatures are checked by beartype here only."""

import os
from pathlib import Path

import jax
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")

import bayespot

bayespot.configure()

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public DFT sets beside the checkout; tests that need it skip without it."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("needs the public DFT sets in ../shared/data, which are not here")
    return folder


COMPILED_MAPS = 20_000
"""Memory maps of a process after which compiled programs are let go. Each program takes several and
Linux allows 65530 of them; a run of all tests compiles more."""


@pytest.fixture(autouse=True)
def let_programs_go():
    """Clear JAX's caches between tests once the process holds many programs."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > COMPILED_MAPS:
        jax.clear_caches()
