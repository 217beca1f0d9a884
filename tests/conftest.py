"""Fixtures shared by every test package."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Two noisy cores: how long an example takes says nothing about the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real bars, frames and golden vectors beside the repository; not part of it."""
    folder = Path(os.environ.get("QUANTUM_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared folder at {folder} (set QUANTUM_SHARED)")
    return folder
