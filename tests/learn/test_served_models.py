"""The four trained models as service sees them: no neighbour changes an answer, no training library is needed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import ROOT

from quantum_trader.core.predictions import MODELS
from quantum_trader.learn.dataset import Dataset
from quantum_trader.models.artefact import Artefact
from quantum_trader.models.inference import BATCH_ROWS, OnnxModel

pytestmark = pytest.mark.slow


def _inputs(dataset: Dataset, model: OnnxModel) -> np.ndarray:
    return dataset.rows if model.uses == "row" else dataset.sequences


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_depends_neither_on_place_nor_on_neighbours(
    trained: dict[str, Artefact], dataset: Dataset, name: str
) -> None:
    model = OnnxModel(trained[name])
    inputs = _inputs(dataset, model)
    rng = np.random.default_rng(0)
    reference = model.predict(inputs[:400])
    for n in range(1, 101):
        rows = rng.integers(0, 400, n)
        assert model.predict(inputs[rows]).tobytes() == reference[rows].tobytes(), n
    # One row at every place of a batch whose other rows are extreme.
    for place in range(BATCH_ROWS):
        batch = inputs[rng.integers(0, 400, BATCH_ROWS)] * np.float32(1e3)
        batch[place] = inputs[7]
        assert model.predict(batch)[place] == reference[7]


@pytest.mark.parametrize("name", MODELS)
def test_another_session_gives_the_same_bytes(trained: dict[str, Artefact], dataset: Dataset, name: str) -> None:
    first, second = OnnxModel(trained[name]), OnnxModel(trained[name])
    inputs = _inputs(dataset, first)[:200]
    assert first.predict(inputs).tobytes() == second.predict(inputs).tobytes()


def test_a_process_without_any_training_library_answers_the_same_bytes(
    trained: dict[str, Artefact], dataset: Dataset, tmp_path: Path
) -> None:
    np.savez(tmp_path / "inputs.npz", row=dataset.rows[:50], sequence=dataset.sequences[:50])
    folder = trained["xgb"].folder.parent
    command = [sys.executable, ROOT / "tests" / "models" / "serve.py", folder, tmp_path / "inputs.npz", *MODELS]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    answers = dict(line.split() for line in run.stdout.splitlines())
    for name in MODELS:
        model = OnnxModel(trained[name])
        assert answers[name] == model.predict(_inputs(dataset, model)[:50]).tobytes().hex()
