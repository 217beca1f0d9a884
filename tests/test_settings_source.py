from pathlib import Path

import pytest

from quantum_trader.core.errors import ConfigError
from quantum_trader.settings_source import SettingsSource


def test_what_the_file_says_now_counts_also_where_systemd_read_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "engine.env"
    path.write_text("PATCHTST_SHADOW_ONLY=false\nQUANTUM_MIN_CONSENSUS=1\nQUANTUM_LINGER_MS=10\n")
    environ = {"PATCHTST_SHADOW_ONLY": "false", "QUANTUM_MIN_CONSENSUS": "1", "QUANTUM_LINGER_MS": "20"}
    source = SettingsSource([], path, environ)
    assert source.first.models["patchtst"].shadow_only == "false"
    assert source.again() == source.first
    path.write_text("PATCHTST_SHADOW_ONLY=true\nQUANTUM_LINGER_MS=30\n")
    again = source.again()
    assert again.models["patchtst"].shadow_only == "true"
    assert again.min_consensus == 2, "a line that went is gone, though the environment still has it"
    assert again.linger_ms == 20, "what the environment said against the file stays so"
    assert source.first.models["patchtst"].shadow_only == "false"


def test_without_a_file_nothing_can_change_and_a_file_that_went_is_an_error(tmp_path: Path) -> None:
    source = SettingsSource([], None, {"QUANTUM_MIN_CONSENSUS": "1"})
    assert source.again() == source.first
    assert source.first.min_consensus == 1
    path = tmp_path / "engine.env"
    path.write_text("QUANTUM_MIN_CONSENSUS=3\n")
    source = SettingsSource([], path, {})
    path.unlink()
    with pytest.raises(ConfigError, match="no such file"):
        source.again()
