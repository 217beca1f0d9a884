"""Import of checkpoints: weights only, strict, and only ever a shadow."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from quantum_trader.core.errors import ArtefactError
from quantum_trader.core.predictions import Role
from quantum_trader.core.roles import assign_role
from quantum_trader.learn.import_pth import import_checkpoint
from quantum_trader.learn.patchtst import PatchTST
from quantum_trader.models.artefact import Artefact, load_artefact
from quantum_trader.models.inference import OnnxModel

NOW = datetime(2026, 1, 10, 2, 36, 33, tzinfo=UTC)

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(11)
    return PatchTST().state_dict()


def _save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def imported(state: State, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    folder = tmp_path_factory.mktemp("imported")
    return load_artefact(import_checkpoint(_save(folder / "bare.pth", state), folder / "models", NOW))


def test_a_checkpoint_answers_as_before_its_import(state: State, imported: Artefact) -> None:
    assert imported.folder.name == "patchtst_v20260110_023633"
    model = OnnxModel(imported, allow_unknown_schema=True)
    sequences = np.random.default_rng(5).standard_normal((70, 128, 8)).astype(np.float32)
    network = PatchTST().eval()
    network.load_state_dict(state)
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(sequences))).numpy()
    np.testing.assert_allclose(model.predict(sequences), expected, atol=1e-6)
    assert imported.manifest.parity.rows >= 10_000
    assert (model.thresholds.buy_above, model.thresholds.sell_below) == (0.55, 0.45)


def test_a_wrapped_checkpoint_gives_the_same_model(state: State, imported: Artefact, tmp_path: Path) -> None:
    wrapped = _save(tmp_path / "wrapped.pth", {"epoch": 3, "model_state_dict": state})
    again = load_artefact(import_checkpoint(wrapped, imported.folder.parent, NOW + timedelta(seconds=1)))
    assert again.manifest.files == imported.manifest.files
    assert again.manifest.version == imported.manifest.version + 1


def test_an_imported_one_says_its_schema_is_unknown_and_stays_in_shadow(imported: Artefact) -> None:
    manifest = imported.manifest
    assert manifest.features == "unknown"
    assert not manifest.schema_known
    assert manifest.training is None
    with pytest.raises(ArtefactError, match="only be a shadow"):
        OnnxModel(imported)
    role = assign_role("patchtst", imported.digest, [imported.digest], "false", schema_known=manifest.schema_known)
    assert role.role is Role.SHADOW


def _missing(state: State) -> object:
    return {key: value for key, value in state.items() if key != "output_proj.bias"}


def _foreign(state: State) -> object:
    return {**state, "extra.weight": torch.zeros(1)}


def _reshaped(state: State) -> object:
    return {**state, "pos_encoding": torch.zeros(1, 16, 128)}


def _retyped(state: State) -> object:
    return {**state, "pos_encoding": state["pos_encoding"].double()}


def _not_finite(state: State) -> object:
    return {**state, "output_proj.bias": torch.tensor([float("nan")])}


def _not_a_tensor(state: State) -> object:
    return {**state, "output_proj.bias": [0.0]}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (_missing, r"output_proj\.bias is missing"),
        (_foreign, r"extra\.weight does not belong"),
        (_reshaped, r"pos_encoding is torch\.float32\[1, 16, 128\], expected torch\.float32\[1, 8, 128\]"),
        (_retyped, r"pos_encoding is torch\.float64"),
        (_not_finite, r"output_proj\.bias holds a value that is not finite"),
        (_not_a_tensor, r"output_proj\.bias is list"),
        (lambda _: [1, 2], "neither a state dict"),
    ],
)
def test_any_deviation_is_refused_and_named(
    state: State, tmp_path: Path, change: Callable[[State], object], rule: str
) -> None:
    with pytest.raises(ArtefactError, match=rule):
        import_checkpoint(_save(tmp_path / "m.pth", change(state)), tmp_path / "models", NOW)
    assert not (tmp_path / "models").exists()


class _Payload:
    """Leaves a file behind if anything unpickles it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.target,))


def test_code_in_a_checkpoint_is_not_run(state: State, tmp_path: Path) -> None:
    bomb = _save(tmp_path / "bomb.pth", {**state, "extra": _Payload(tmp_path / "exploded")})
    with pytest.raises(ArtefactError, match="holds more than weights"):
        import_checkpoint(bomb, tmp_path / "models", NOW)
    assert not (tmp_path / "exploded").exists()
    torch.load(bomb, weights_only=False)
    assert (tmp_path / "exploded").exists(), "the payload works, so the refusal above was the import's"


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pth").write_bytes(content)
    with pytest.raises(ArtefactError, match="no torch checkpoint"):
        import_checkpoint(tmp_path / "m.pth", tmp_path / "models", NOW)
    with pytest.raises(ArtefactError, match="cannot be read"):
        import_checkpoint(tmp_path / "missing.pth", tmp_path / "models", NOW)
