import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.artefacts import make_artefact, make_imported

from quantum_trader.core.errors import ArtefactError, ConfigError, LedgerError
from quantum_trader.core.predictions import MODELS
from quantum_trader.models.artefact import load_artefact
from quantum_trader.release.init import Release, initialise
from quantum_trader.release.ledger import append_entries, read_entries, voting
from quantum_trader.release.ledger_entries import Grant, New
from quantum_trader.settings import load_settings

AT = "2026-01-01T00:00:00Z"


def artefacts(folder: Path, models: tuple[str, ...] = MODELS) -> dict[str, Path]:
    return {model: make_artefact(folder / "models", model) for model in models}


def init(folder: Path, found: dict[str, Path], shadows: tuple[str, ...] = ("patchtst",)) -> Release:
    return initialise(found, shadows, folder / "ledger", folder / "engine.env", by="operator", at=AT)


def assert_nothing_written(folder: Path) -> None:
    assert not (folder / "engine.env").exists()
    assert read_entries(folder / "ledger") == []
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


class TestTheFirstRelease:
    def test_grants_every_voter_by_its_digest_and_no_shadow(self, tmp_path: Path) -> None:
        found = artefacts(tmp_path)
        release = init(tmp_path, found)
        digests = {model: load_artefact(path).digest for model, path in found.items()}
        assert voting(read_entries(tmp_path / "ledger")) == {
            model: {digests[model]} for model in ("xgb", "lgbm", "nhits")
        }
        assert {model: digest for model, (_, digest) in release.artefacts.items()} == digests
        assert release.shadows == {"patchtst"}
        grant = read_entries(tmp_path / "ledger")[0]
        assert (grant.at, grant.by, grant.reason) == (AT, "operator", "first voters: quantum init")

    def test_writes_an_env_file_that_the_engine_reads_back(self, tmp_path: Path) -> None:
        folder = tmp_path / "a folder's name, with $HOME and %h"
        found = artefacts(folder)
        init(folder, found)
        settings = load_settings(env_file=folder / "engine.env", environ={})
        assert settings.ledger == (folder / "ledger").resolve()
        assert {name: model.model_path for name, model in settings.models.items()} == found
        flags = {name: model.shadow_only for name, model in settings.models.items()}
        assert flags == {"xgb": "false", "lgbm": "false", "nhits": "false", "patchtst": "true"}

    def test_names_only_the_models_that_it_was_given(self, tmp_path: Path) -> None:
        init(tmp_path, artefacts(tmp_path, ("lgbm",)), shadows=())
        assert "PATCHTST" not in (tmp_path / "engine.env").read_text()
        assert "LGBM_SHADOW_ONLY=false\n" in (tmp_path / "engine.env").read_text()

    def test_keeps_its_env_file_from_other_users(self, tmp_path: Path) -> None:
        init(tmp_path, artefacts(tmp_path, ("lgbm",)), shadows=())
        assert stat.S_IMODE((tmp_path / "engine.env").stat().st_mode) & 0o077 == 0

    def test_takes_an_imported_checkpoint_as_a_shadow_only(self, tmp_path: Path) -> None:
        found = {"xgb": make_artefact(tmp_path, "xgb"), "patchtst": make_imported(tmp_path)}
        with pytest.raises(ConfigError, match="imported, its feature schema is unknown; shadow only"):
            init(tmp_path, found, shadows=())
        assert_nothing_written(tmp_path)
        init(tmp_path, found)
        assert set(voting(read_entries(tmp_path / "ledger"))) == {"xgb"}


class TestIsRefusedAndWritesNothing:
    def test_where_the_ledger_holds_grants(self, tmp_path: Path) -> None:
        found = artefacts(tmp_path)
        grant = Grant(model="xgb", artefact="ab" * 32, weight=0.25)
        append_entries(tmp_path / "ledger", [New(at=AT, by="x", reason="y", detail=grant)])
        before = (tmp_path / "ledger").read_bytes()
        with pytest.raises(LedgerError, match="holds entries already; a later model earns its vote in shadow"):
            init(tmp_path, found)
        assert (tmp_path / "ledger").read_bytes() == before
        assert not (tmp_path / "engine.env").exists()

    def test_where_it_was_done_before(self, tmp_path: Path) -> None:
        found = artefacts(tmp_path)
        init(tmp_path, found)
        before = (tmp_path / "engine.env").read_bytes(), (tmp_path / "ledger").read_bytes()
        (tmp_path / "engine.env").unlink()
        with pytest.raises(LedgerError, match="holds entries already"):
            init(tmp_path, found)
        (tmp_path / "engine.env").write_bytes(before[0])
        with pytest.raises(ConfigError, match="exists already"):
            init(tmp_path, found)
        assert before == ((tmp_path / "engine.env").read_bytes(), (tmp_path / "ledger").read_bytes())

    def test_where_the_env_file_exists(self, tmp_path: Path) -> None:
        (tmp_path / "engine.env").write_text("XGB_SHADOW_ONLY=true\n")
        with pytest.raises(ConfigError, match=r"engine\.env: exists already; edit it"):
            init(tmp_path, artefacts(tmp_path))
        assert (tmp_path / "engine.env").read_text() == "XGB_SHADOW_ONLY=true\n"
        assert read_entries(tmp_path / "ledger") == []

    def test_where_the_ledger_is_broken(self, tmp_path: Path) -> None:
        (tmp_path / "ledger").write_text("half a li")
        with pytest.raises(LedgerError, match="line 1 was cut off"):
            init(tmp_path, artefacts(tmp_path))
        assert not (tmp_path / "engine.env").exists()

    @pytest.mark.parametrize("model", ["xgb", "patchtst"])
    def test_where_an_artefact_does_not_verify(self, tmp_path: Path, model: str) -> None:
        found = artefacts(tmp_path)
        file = found[model] / "model.onnx"
        raw = bytearray(file.read_bytes())
        raw[-1] ^= 1
        file.write_bytes(raw)
        with pytest.raises(ArtefactError, match=r"model\.onnx was changed"):
            init(tmp_path, found)
        assert_nothing_written(tmp_path)

    def test_where_an_artefact_is_missing_or_of_another_model(self, tmp_path: Path) -> None:
        found = artefacts(tmp_path)
        with pytest.raises(ArtefactError, match="no such folder"):
            init(tmp_path, {**found, "xgb": tmp_path / "none"})
        with pytest.raises(ConfigError, match="it is a lgbm model, not xgb"):
            init(tmp_path, {**found, "xgb": found["lgbm"]})
        assert_nothing_written(tmp_path)

    @pytest.mark.parametrize(
        ("models", "shadows", "sentence"),
        [
            (("xgb", "gru"), (), "model 'gru': unknown, expected one of xgb"),
            (("xgb",), ("gru",), "model 'gru': unknown"),
            (("xgb",), ("patchtst",), "shadow patchtst: there is no artefact of it among xgb"),
            (("xgb", "patchtst"), ("patchtst", "xgb"), "every model would be a shadow"),
            ((), (), "every model would be a shadow"),
        ],
    )
    def test_for_names_that_make_no_ensemble(
        self, tmp_path: Path, models: tuple[str, ...], shadows: tuple[str, ...], sentence: str
    ) -> None:
        with pytest.raises(ConfigError, match=sentence):
            init(tmp_path, {model: tmp_path / model for model in models}, shadows)
        assert_nothing_written(tmp_path)

    def test_where_the_ledger_cannot_be_written(self, tmp_path: Path) -> None:
        found = artefacts(tmp_path)
        (tmp_path / "file").touch()
        with pytest.raises(LedgerError):
            initialise(found, (), tmp_path / "file" / "ledger", tmp_path / "engine.env", by="operator", at=AT)
        assert_nothing_written(tmp_path)

    @pytest.mark.parametrize("name", ["two\nlines", "one\rline", "a #comment", "back\\slash"])
    def test_where_systemd_and_dotenv_would_not_both_give_a_path_back(self, tmp_path: Path, name: str) -> None:
        found = artefacts(tmp_path / name, ("xgb",))
        with pytest.raises(ConfigError, match=r"^env file .*: cannot hold ") as refusal:
            init(tmp_path, found, shadows=())
        assert "\n" not in str(refusal.value)
        assert_nothing_written(tmp_path)


FULL_DISK = """
import resource, sys
from pathlib import Path
from quantum_trader.core.errors import QuantumError
from quantum_trader.release.init import initialise

folder, limit, by = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
models = {model: Path(path) for model, path in (item.split("=", 1) for item in sys.argv[4:])}
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    initialise(models, ["patchtst"], folder / "ledger", folder / "engine.env", by=by, at="2026-01-01T00:00:00Z")
except QuantumError as error:
    print("refused:", error)
"""


def test_a_full_disk_leaves_neither_env_file_nor_grants(tmp_path: Path) -> None:
    # A long name makes the ledger the larger file, so that there is room for the env file and none for the grants.
    by = "operator " * 200
    found = artefacts(tmp_path)
    initialise(found, ["patchtst"], tmp_path / "ledger", tmp_path / "engine.env", by=by, at=AT)
    env_size, ledger_size = ((tmp_path / name).stat().st_size for name in ("engine.env", "ledger"))
    assert env_size < ledger_size - 1
    (tmp_path / "engine.env").unlink()
    (tmp_path / "ledger").unlink()
    models = [f"{model}={path}" for model, path in found.items()]
    limits = {0: "env file", env_size - 1: "env file", env_size: "ledger", ledger_size - 1: "ledger"}
    for limit, full in limits.items():
        command = [sys.executable, "-c", FULL_DISK, str(tmp_path), str(limit), by, *models]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"refused: {full} "), (limit, done.stdout)
        assert_nothing_written(tmp_path)
