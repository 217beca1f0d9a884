import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from quantum_trader.core.errors import ConfigError
from quantum_trader.core.policy import IntentPolicy, VotePolicy
from quantum_trader.core.predictions import MODELS
from quantum_trader.settings import Settings, load_settings


def from_toml(folder: Path, *texts: str | bytes) -> Settings:
    files = []
    for number, text in enumerate(texts):
        files.append(folder / f"{number}.toml")
        files[-1].write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_settings(files, environ={})


def from_env(**environ: str) -> Settings:
    return load_settings(environ=environ)


def from_env_file(folder: Path, content: bytes, **environ: str) -> Settings:
    path = folder / "engine.env"
    path.write_bytes(content)
    return load_settings(env_file=path, environ=environ)


class TestDefaults:
    def test_watch_five_pairs_on_five_minutes_and_let_nobody_vote(self) -> None:
        settings = from_env()
        assert settings.symbols == ["BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT"]
        assert (settings.timeframe, settings.min_consensus, settings.retention_hours) == ("5m", 2, 192.0)
        assert settings.vote_policy() == VotePolicy({"xgb": 0.25, "lgbm": 0.25, "nhits": 0.30, "patchtst": 0.20}, 2)
        assert settings.intent_policy() == IntentPolicy()
        assert set(settings.models) == set(MODELS)
        assert all(model.model_path is None and model.shadow_only is None for model in settings.models.values())

    def test_bind_to_this_machine_only(self) -> None:
        assert from_env().redis_url.startswith("redis://127.0.0.1:")

    def test_are_the_same_for_every_reading(self) -> None:
        one = from_env()
        one.weights["xgb"] = 9.0
        one.models.clear()
        assert from_env().weights["xgb"] == 0.25
        assert set(from_env().models) == set(MODELS)


class TestTheLastOneToSpeakWins:
    def test_over_two_files_the_env_file_and_the_environment_key_by_key(self, tmp_path: Path) -> None:
        first, second, env_file = tmp_path / "a.toml", tmp_path / "b.toml", tmp_path / "engine.env"
        first.write_text(
            'linger_ms = 1\nlease_wait_s = 1\nmin_consensus = 1\ngroup = "one"\n'
            "[intent]\nleverage = 1\nstop_atr = 1.0\n[weights]\nxgb = 0.1\nlgbm = 0.1\n"
            '[models.patchtst]\nmodel_path = "one"\nshadow_only = "one"\n'
        )
        second.write_text(
            "linger_ms = 2\nlease_wait_s = 2\nmin_consensus = 2\n[intent]\nstop_atr = 2.0\n[weights]\nlgbm = 0.2\n"
            '[models.patchtst]\nshadow_only = "two"\n'
        )
        env_file.write_text("QUANTUM_LINGER_MS=3\nQUANTUM_LEASE_WAIT_S=3\nPATCHTST_SHADOW_ONLY=three\n")
        environ = {"QUANTUM_LINGER_MS": "4", "QUANTUM_WEIGHTS": "nhits=0.4"}
        found = load_settings([first, second], env_file, environ)
        assert (found.linger_ms, found.lease_wait_s, found.min_consensus, found.group) == (4, 3, 2, "one")
        assert (found.intent.leverage, found.intent.stop_atr) == (1, 2.0)
        assert found.vote_policy().weights == {"xgb": 0.1, "lgbm": 0.2, "nhits": 0.4, "patchtst": 0.20}
        assert (found.models["patchtst"].model_path, found.models["patchtst"].shadow_only) == (Path("one"), "three")

    def test_every_setting_is_a_variable(self) -> None:
        plain: dict[str, tuple[str, Any]] = {
            "pairs": ("BTC/USDT, ETH/USDT", ["BTC/USDT", "ETH/USDT"]),
            "timeframe": ("1h", "1h"),
            "redis_url": ("rediss://host:6380/1", "rediss://host:6380/1"),
            "stream_prefix": ("test:", "test:"),
            "group": ("g", "g"),
            "consumer": ("c", "c"),
            "ledger": ("/var/lib/ledger", Path("/var/lib/ledger")),
            "signing_key": ("/run/key", Path("/run/key")),
            "ready_file": ("/run/ready", Path("/run/ready")),
            "linger_ms": ("7", 7),
            "lease_wait_s": ("8", 8.0),
            "health_address": ("127.0.0.1:0", "127.0.0.1:0"),
            "shadow_grace_ms": ("9.5", 9.5),
            "shadow_memory_mb": ("512", 512),
            "retention_hours": ("1.5", 1.5),
            "min_consensus": ("3", 3),
            "log_format": ("console", "console"),
            "weights": ("xgb=1, lgbm=2", {"xgb": 1.0, "lgbm": 2.0}),
            "weight_ramp": ("0.1, 0.3", [0.1, 0.3]),
            "verdict_max_age_hours": ("12", 12.0),
            "reload_command": ("kill -HUP '1 2'", ["kill", "-HUP", "1 2"]),
            "restart_command": ("sv restart engine", ["sv", "restart", "engine"]),
            "alert_urls": ("json://a mailto://b", [SecretStr("json://a"), SecretStr("mailto://b")]),
        }
        assert set(plain) == set(Settings.model_fields) - {"models", "intent"}
        found = from_env(**{f"QUANTUM_{name.upper()}": text for name, (text, _) in plain.items()})
        for name, (_, value) in plain.items():
            assert getattr(found, name) == value
        intent = from_env(
            QUANTUM_INTENT_POSITION_SIZE_USD="25",
            QUANTUM_INTENT_LEVERAGE="3",
            QUANTUM_INTENT_STOP_ATR="1.5",
            QUANTUM_INTENT_TAKE_ATR="2.5",
        ).intent_policy()
        assert intent == IntentPolicy(25.0, 3, 1.5, 2.5)
        assert from_env(SHADOW_GRACE_MS="3").shadow_grace_ms == 3.0

    @pytest.mark.parametrize("model", MODELS)
    def test_every_model_has_its_variables(self, model: str) -> None:
        found = from_env(**{f"{model.upper()}_MODEL_PATH": "/m", f"{model.upper()}_SHADOW_ONLY": "false"})
        assert (found.models[model].model_path, found.models[model].shadow_only) == (Path("/m"), "false")
        mapped = from_env(**{f"{model.upper()}_CALIBRATION": "x.calibration.json@ab"})
        assert mapped.calibrations == {model: "x.calibration.json@ab"}
        assert from_env(**{f"{model.upper()}_CALIBRATION": " "}).calibrations == {}
        assert all(found.models[name].shadow_only is None for name in MODELS if name != model and name in found.models)

    def test_the_process_environment_is_read_where_none_is_given(self) -> None:
        code = "from quantum_trader.settings import load_settings; print(load_settings().linger_ms)"
        environ = {**os.environ, "QUANTUM_LINGER_MS": "77"}
        found = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        assert found.stdout == "77\n"


class TestAFlagArrivesAsItWasWritten:
    @given(flag=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12))
    def test_from_the_environment(self, flag: str) -> None:
        assert from_env(PATCHTST_SHADOW_ONLY=flag).models["patchtst"].shadow_only == flag

    @pytest.mark.parametrize(("written", "flag"), [("true", "true"), ("false", "false"), ('"fALSE "', "fALSE ")])
    def test_from_toml_where_its_own_booleans_are_the_words(self, tmp_path: Path, written: str, flag: str) -> None:
        settings = from_toml(tmp_path, f"[models.patchtst]\nshadow_only = {written}\n")
        assert settings.models["patchtst"].shadow_only == flag

    @pytest.mark.parametrize("written", ["0", "1", "0.0", "[]", "1979-05-27"])
    def test_and_is_refused_where_it_is_neither_word_nor_boolean(self, tmp_path: Path, written: str) -> None:
        with pytest.raises(ConfigError, match=r"^setting models\.patchtst\.shadow_only: "):
            from_toml(tmp_path, f"[models.patchtst]\nshadow_only = {written}\n")

    def test_missing_and_blanked_flags_stay_apart(self, tmp_path: Path) -> None:
        assert from_env().models["patchtst"].shadow_only is None
        assert from_env_file(tmp_path, b"PATCHTST_SHADOW_ONLY=\n").models["patchtst"].shadow_only == ""


class TestABlankPathIsNoPath:
    @pytest.mark.parametrize("blank", ["", "  "])
    def test_from_the_environment_and_toml(self, tmp_path: Path, blank: str) -> None:
        found = from_env(PATCHTST_MODEL_PATH=blank, QUANTUM_READY_FILE=blank)
        assert found.models["patchtst"].model_path is None
        assert found.ready_file is None
        toml = from_toml(tmp_path, f'ready_file = "{blank}"\n[models.patchtst]\nmodel_path = "{blank}"\n')
        assert toml.models["patchtst"].model_path is None
        assert toml.ready_file is None


class TestWhatIsNoSettingIsRefused:
    @pytest.mark.parametrize("name", ["QUANTUM_LINGER", "QUANTUM_", "QUANTUM_MODELS", "QUANTUM_INTENT", "QUANTUM_X_Y"])
    def test_variables_of_our_prefix(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigError, match=f"^environment: {name} is no setting"):
            from_env(**{name: "1"})
        with pytest.raises(ConfigError, match=rf"engine\.env: {name} is no setting"):
            from_env_file(tmp_path, f"{name}=1\n".encode())

    def test_but_not_other_peoples_variables(self) -> None:
        assert from_env(PATH="/bin", HOME="/", QUANTUMLEAP="1", QUANTUM_SHARED="/s") == from_env()

    @pytest.mark.parametrize(
        ("text", "where"),
        [
            ("foo = 1", "foo"),
            ("[intent]\nfoo = 1", "intent.foo"),
            ("[models.patchtst]\nshadow = true", "models.patchtst.shadow"),
            ('[models.gru]\nshadow_only = "false"', "models.gru"),
        ],
    )
    def test_keys_of_toml(self, tmp_path: Path, text: str, where: str) -> None:
        with pytest.raises(ConfigError, match=f"^setting {where}: "):
            from_toml(tmp_path, text)

    def test_weights_of_unknown_models(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="'gru': unknown model"):
            from_toml(tmp_path, "[weights]\ngru = 0.5")
        with pytest.raises(ConfigError, match="'gru': unknown model"):
            from_env(QUANTUM_WEIGHTS="gru=0.5")


WRONG = [
    ("linger_ms = 1.5", "setting linger_ms: "),
    ("linger_ms = true", "setting linger_ms: true is neither a number nor a text"),
    ('linger_ms = "soon"', "setting linger_ms: "),
    ("linger_ms = -1", "setting linger_ms: "),
    ("linger_ms = 600001", "setting linger_ms: "),
    ("retention_hours = inf", "setting retention_hours: "),
    ("retention_hours = nan", "setting retention_hours: "),
    ("retention_hours = 0", "setting retention_hours: "),
    ("shadow_grace_ms = nan", "setting shadow_grace_ms: "),
    ("min_consensus = 0", "setting min_consensus: "),
    ('log_format = "xml"', "setting log_format: "),
    ('timeframe = "5x"', "timeframe '5x': "),
    ('pairs = "BTC/USDT"', "setting pairs: "),
    ("pairs = []", "setting pairs: "),
    ("pairs = [1]", "setting pairs.0: "),
    ('pairs = ["BTC-USDT"]', "pair 'BTC-USDT': "),
    ("[intent]\nleverage = 0", "leverage: 0 is not a positive number"),
    ("[intent]\nleverage = 1.5", "setting intent.leverage: "),
    ("[intent]\nstop_atr = nan", "setting intent.stop_atr: "),
    ("[intent]\nposition_size_usd = true", "setting intent.position_size_usd: true is neither"),
    ("[weights]\nxgb = 0", "weight of xgb: 0.0 is not a positive number"),
    ("[weights]\nxgb = inf", "setting weights.xgb: "),
    ("[weights]\nxgb = true", "setting weights.xgb: true is neither"),
    ("weights = 3", "setting weights: "),
    ("models = 3", "setting models: "),
    ("[[models]]\nxgb = 1", "setting models: "),
    ('[models]\nxgb = "x"', "setting models.xgb: "),
    ("linger_ms =", "config "),
    ("linger_ms = 1\nlinger_ms = 2", "config "),
    (b"group = '\xff'", "config "),
]


@pytest.mark.parametrize(("text", "start"), WRONG)
def test_a_wrong_value_is_refused_in_one_line_that_names_it(tmp_path: Path, text: str | bytes, start: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        from_toml(tmp_path, text)
    assert str(refusal.value).startswith(start)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["xgb", "xgb=", "xgb=high", "=", "xgb:0.5"])
def test_weights_in_the_environment_that_are_none_are_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^setting weights: .* is not like patchtst=0\.2$"):
        from_env(QUANTUM_WEIGHTS=text)


@pytest.mark.parametrize("pairs", ["BTC/USDT,BTC/USDT", "BTC/USDT,BTCUSDT", "BTC/USDT:USDT,ETH/USDT,btc/usdt"])
def test_pairs_that_are_the_same_symbol_twice_are_refused(pairs: str) -> None:
    with pytest.raises(ConfigError, match="one is named twice"):
        from_env(QUANTUM_PAIRS=pairs)


class TestAFileThatCannotBeRead:
    def test_is_named_where_it_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^config .*none\.toml: cannot be read \(No such file or directory\)"):
            load_settings([tmp_path / "none.toml"], environ={})
        with pytest.raises(ConfigError, match=r"^env file .*none\.env: no such file"):
            load_settings(env_file=tmp_path / "none.env", environ={})
        with pytest.raises(ConfigError, match=r"^config .*: cannot be read \(Is a directory\)"):
            load_settings([tmp_path], environ={})

    def test_is_named_where_it_is_no_utf_8(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"^env file .*engine\.env: not UTF-8 \(.* at byte 8\)"):
            from_env_file(tmp_path, b"GROUP=a\n\xff\n")

    @given(content=st.binary(max_size=40))
    def test_never_ends_in_anything_but_settings_or_one_line(
        self, content: bytes, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("fuzz")
        for read in (from_toml, from_env_file):
            try:
                message = str(read(folder, content).group)
            except ConfigError as error:
                message = str(error)
            assert len(message.splitlines()) == 1


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        from_env().linger_ms = 3


def test_a_comment_that_would_swallow_the_next_lines_is_refused(tmp_path: Path) -> None:
    env_file = tmp_path / "ai-engine.env"
    env_file.write_text("# roles\n;QUANTUM_PAIRS='ETH/USDT\nXGB_SHADOW_ONLY=false\n#'\n")
    with pytest.raises(ConfigError, match="line 2 is a comment with a quoted value; begin it with #"):
        load_settings((), env_file, {})


def test_a_comment_behind_a_value_is_refused_because_systemd_reads_it_differently(tmp_path: Path) -> None:
    env_file = tmp_path / "ai-engine.env"
    env_file.write_text("# roles\nXGB_SHADOW_ONLY=false # for now\n")
    with pytest.raises(ConfigError, match="line 2 has a comment behind its value"):
        load_settings((), env_file, {})
