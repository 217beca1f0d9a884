"""The file of a calibration: one form, one digest, and nothing else is ever used."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.artefacts import GOLDEN, make_artefact, make_calibration
from tests.core.strategies import curves

from quantum_trader.core.calibration import Curve, IsotonicCurve
from quantum_trader.core.errors import ArtefactError, CalibrationError
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.calibration import (
    CalibrationFile,
    IsotonicMap,
    PlattMap,
    curve_of,
    load_calibration,
    map_of,
    parse,
    render,
    voters_calibrations,
    write_calibration,
)

RELEASED = {
    "platt": "da6221ac85b29397b6cac89bf156fbc52f4212f7b1f1b7e9950cdd81072fb956",
    "isotonic": "f6cca6dae3eb9bb41f1dce7bd1c521b6229d4f8d0c92363ab5f8135d688a75b5",
}
"""Digests of the examples in tests/golden, which must be read for ever."""

MAPPED: dict[str, list[float]] = {
    "platt": [0.3171833131707217, 0.45496231391398495, 0.5466728030104645, 0.6353210208705382, 0.7579034068384342],
    "isotonic": [0.28592269904228174, 0.46805709474967533, 0.5486682686907047, 0.640775070216947, 0.7391612908885955],
}
"""What they make of .1, .3, .5, .7 and .9."""


def golden(method: str = "platt") -> CalibrationFile:
    return parse((GOLDEN / f"{method}.calibration.json").read_bytes(), method)


class TestAReleasedFile:
    @pytest.mark.parametrize("method", RELEASED)
    def test_is_read_for_ever(self, method: str) -> None:
        loaded = load_calibration(f"{GOLDEN / method}.calibration.json@{RELEASED[method]}")
        assert (loaded.digest, loaded.artefact) == (RELEASED[method], "a" * 64)
        assert loaded.model == {"platt": "patchtst", "isotonic": "xgb"}[method]
        mapped = loaded.curve(np.array([0.1, 0.3, 0.5, 0.7, 0.9]))
        assert mapped == pytest.approx(np.array(MAPPED[method]), rel=1e-14)

    @given(curve=curves)
    def test_gives_its_curve_back_to_the_bit(self, curve: Curve) -> None:
        content = msgspec.structs.replace(golden(), map=map_of(curve))
        assert curve_of(parse(render(content), "x").map) == curve


def changed(**changes: Any) -> CalibrationFile:
    return msgspec.structs.replace(golden(), **changes)


WINDOW = golden().window
BROKEN: dict[str, tuple[CalibrationFile, str]] = {
    "another format": (changed(format=2), "format 2: this program reads 1"),
    "an unknown model": (changed(model="gru"), "model 'gru'"),
    "no digest": (changed(artefact="A" * 64), "expected a SHA-256"),
    "times that go back": (
        changed(window=msgspec.structs.replace(WINDOW, last_ms=WINDOW.first_ms - 1)),
        "not in order",
    ),
    "an outcome before its decision": (
        changed(window=msgspec.structs.replace(WINDOW, resolved_ms=WINDOW.last_ms)),
        "not in order",
    ),
    "no symbol": (changed(window=msgspec.structs.replace(WINDOW, symbols=())), "no symbol"),
    "more scored than there are": (changed(window=msgspec.structs.replace(WINDOW, events=7199)), "more events"),
    "no help": (changed(judgement=msgspec.structs.replace(golden().judgement, helps=False)), "does not help"),
    "a falling map": (changed(map=PlattMap(0.0, -1.0)), "positive slope"),
    "falling knots": (changed(map=IsotonicMap((0.1, 0.2), (0.2, 0.1))), "calibrated values fall"),
    "knots outside": (changed(map=IsotonicMap((0.1, 0.2), (0.2, 1.1))), r"within \[0, 1\]"),
}


class TestAFileThatBreaksARule:
    @pytest.mark.parametrize("name", BROKEN)
    def test_is_neither_read_nor_written(self, name: str, tmp_path: Path) -> None:
        content, rule = BROKEN[name]
        with pytest.raises(CalibrationError, match=rf"^calibration here: .*{rule}"):
            parse(render(content), "here")
        with pytest.raises(CalibrationError, match=rule):
            write_calibration(tmp_path / "a.calibration.json", content)
        assert list(tmp_path.iterdir()) == []

    def test_is_read_where_somebody_forced_it(self) -> None:
        judgement = msgspec.structs.replace(golden().judgement, helps=False)
        assert parse(render(changed(judgement=judgement, forced=True)), "x").forced

    @pytest.mark.parametrize("method", RELEASED)
    @given(data=st.data())
    def test_by_a_flipped_byte_is_refused(self, method: str, data: st.DataObject) -> None:
        raw = bytearray((GOLDEN / f"{method}.calibration.json").read_bytes())
        at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
        raw[at] ^= 1 << bit
        try:
            content = parse(bytes(raw), "x")
        except CalibrationError:
            return
        # Another number, say: a file of its own with a digest of its own, which no setting names.
        assert render(content) == bytes(raw)
        assert content != golden(method)

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"[]",
            b"null",
            b"\xff",
            b"[" * 100_000,
            b'{"format": 1}',
            render(golden())[:-1],
            render(golden()) + b" ",
        ],
    )
    def test_or_is_none_is_one_line(self, raw: bytes) -> None:
        with pytest.raises(CalibrationError, match=r"^calibration x: [^\n]*$"):
            parse(raw, "x")


class TestWriting:
    def test_gives_the_digest_that_loads_it(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "xgb.calibration.json"
        found = write_calibration(path, golden("isotonic"))
        assert found == RELEASED["isotonic"]
        assert load_calibration(f"{path}@{found}").digest == found
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]

    def test_overwrites_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "xgb.calibration.json"
        write_calibration(path, golden())
        with pytest.raises(CalibrationError, match="exists already; calibrations are never overwritten"):
            write_calibration(path, golden("isotonic"))
        link = tmp_path / "link.calibration.json"
        link.symlink_to(tmp_path / "nowhere")
        with pytest.raises(CalibrationError, match="exists already"):
            write_calibration(link, golden())

    @pytest.mark.parametrize("name", ["xgb.json", ".calibration.json", "xgb"])
    def test_wants_its_own_kind_of_name(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(CalibrationError, match=r"expected a name like NAME\.calibration\.json"):
            write_calibration(tmp_path / name, golden())

    def test_that_fails_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(CalibrationError, match="cannot be written"):
            write_calibration(tmp_path / "file" / "xgb.calibration.json", golden())
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def no_digest(path: Path) -> str:
    return str(path)


def short_digest(path: Path) -> str:
    return f"{path}@{RELEASED['platt'][:16]}"


def other_digest(path: Path) -> str:
    return f"{path}@{RELEASED['isotonic']}"


def missing(path: Path) -> str:
    path.unlink()
    return f"{path}@{RELEASED['platt']}"


def exchanged(path: Path) -> str:
    path.write_bytes((GOLDEN / "isotonic.calibration.json").read_bytes())
    return f"{path}@{RELEASED['platt']}"


def linked(path: Path) -> str:
    path.unlink()
    path.symlink_to(GOLDEN / "platt.calibration.json")
    return f"{path}@{RELEASED['platt']}"


def piped(path: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return f"{path}@{RELEASED['platt']}"


def huge(path: Path) -> str:
    path.write_bytes(b" " * (2**20 + 1))
    return f"{path}@{RELEASED['platt']}"


REFERENCES: dict[Callable[[Path], str], str] = {
    no_digest: "expected FILE@DIGEST",
    short_digest: "expected FILE@DIGEST",
    other_digest: "was changed",
    missing: "is missing",
    exchanged: "was changed",
    linked: "is a link",
    piped: "is no regular file",
    huge: "the limit is",
}


class TestAReference:
    @pytest.mark.parametrize("spoil", REFERENCES, ids=lambda spoil: spoil.__name__)
    def test_that_is_not_kept_loads_nothing(self, spoil: Callable[[Path], str], tmp_path: Path) -> None:
        path = tmp_path / "a@b.calibration.json"
        write_calibration(path, golden())
        assert load_calibration(f" {path}@{RELEASED['platt']}\n").curve == curve_of(golden().map)
        with pytest.raises(ArtefactError, match=REFERENCES[spoil]):
            load_calibration(spoil(path))

    @pytest.mark.parametrize("text", ["", "@", "@" + "a" * 64, "file@", "file@" + "g" * 64])
    def test_of_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(CalibrationError, match="expected FILE@DIGEST"):
            load_calibration(text)


class TestAVoter:
    def test_gets_its_own_calibration(self, tmp_path: Path) -> None:
        artefact = make_artefact(tmp_path, "xgb")
        curve = IsotonicCurve((0.2, 0.8), (0.4, 0.6))
        reference = make_calibration(tmp_path / "x.calibration.json", artefact, curve)
        digest = load_artefact(artefact).digest
        found, idle = voters_calibrations({"xgb": reference}, {"xgb": digest, "lgbm": "b" * 64})
        assert (found["xgb"].curve, found["xgb"].artefact, list(found), idle) == (curve, digest, ["xgb"], {})

    def test_never_gets_another_artefacts_or_another_models(self, tmp_path: Path) -> None:
        one, other = make_artefact(tmp_path, "xgb"), make_artefact(tmp_path, "xgb", 1)
        reference = make_calibration(tmp_path / "x.calibration.json", one)
        start = "^XGBoost is meant to vote calibrated and cannot: calibration "
        with pytest.raises(ArtefactError, match=rf"{start}.*: it belongs to artefact .* is loaded$"):
            voters_calibrations({"xgb": reference}, {"xgb": load_artefact(other).digest})
        foreign = make_calibration(tmp_path / "l.calibration.json", one, model="lgbm")
        with pytest.raises(ArtefactError, match=rf"{start}.*: it is one of lgbm$"):
            voters_calibrations({"xgb": foreign}, {"xgb": load_artefact(one).digest})

    def test_whose_calibration_cannot_be_loaded_does_not_start(self, tmp_path: Path) -> None:
        with pytest.raises(ArtefactError, match=r"^XGBoost is meant to vote calibrated and cannot: .*is missing$"):
            voters_calibrations({"xgb": f"{tmp_path / 'no'}@{'a' * 64}"}, {"xgb": "a" * 64})

    def test_alone_needs_it(self, tmp_path: Path) -> None:
        # A shadow's counts for nothing, whatever its file says, and keeps nobody from starting.
        found, idle = voters_calibrations({"patchtst": "nonsense"}, {"xgb": "a" * 64})
        assert found == {}
        assert "counts for nothing" in idle["patchtst"]
