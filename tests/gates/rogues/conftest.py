"""Scenes of the rogues' gallery."""

import pytest

from quantum_trader.gates.rogues.measure import scene_of
from quantum_trader.gates.rogues.scene import Scene

SEED = 5


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """A dozen neutral ones."""
    return [scene_of("neutral", repetition, SEED) for repetition in range(12)]
