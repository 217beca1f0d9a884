"""What is brought to a host, and that half of it is refused."""

from pathlib import Path

import pytest

from quantum_trader.core.errors import ConfigError
from quantum_trader.release.bundle import read_bundle

NEEDED = frozenset({"a.service"})


def bundle(folder: Path) -> Path:
    (folder / "wheels").mkdir(parents=True)
    (folder / "systemd").mkdir()
    (folder / "wheels" / "quantum_trader-0.1.0-py3-none-any.whl").write_bytes(b"ours")
    (folder / "wheels" / "numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(b"theirs")
    (folder / "systemd" / "a.service").write_bytes(b"[Service]\n")
    return folder


def test_equal_bytes_are_one_release_and_one_byte_more_is_another(tmp_path: Path) -> None:
    first, second = bundle(tmp_path / "1"), bundle(tmp_path / "2")
    name = read_bundle(first, NEEDED).release
    assert read_bundle(second, NEEDED).release == name
    (second / "wheels" / "numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(b"theirs!")
    assert read_bundle(second, NEEDED).release != name
    (first / "systemd" / "a.service").write_bytes(b"[Service]\nNice=1\n")
    assert read_bundle(first, NEEDED).release == name


def test_what_is_missing_or_foreign_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wheels: No such file"):
        read_bundle(tmp_path / "none", NEEDED)
    folder = bundle(tmp_path / "b")
    with pytest.raises(ConfigError, match=r"systemd/b\.timer is missing"):
        read_bundle(folder, NEEDED | {"b.timer"})
    (folder / "wheels" / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"'notes\.txt' does not belong"):
        read_bundle(folder, NEEDED)
    (folder / "wheels" / "notes.txt").unlink()
    (folder / "wheels" / "quantum_trader-0.1.0-py3-none-any.whl").unlink()
    with pytest.raises(ConfigError, match="no wheel of this project"):
        read_bundle(folder, NEEDED)
