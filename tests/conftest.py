"""Double precision for every test; shapes in signatures are checked by beartype here only."""

import os
from pathlib import Path

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
