"""One small real artefact per test."""

from pathlib import Path

import pytest
from tests.artefacts import make_artefact


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of an artefact of XGBoost's input kind."""
    return make_artefact(tmp_path / "models", "xgb", seed=3)
