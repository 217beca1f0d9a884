"""The manifest: one form as bytes, read strictly."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.artefacts import make_manifest, onnx_bytes

from quantum_trader.core.errors import ArtefactError
from quantum_trader.models.manifest import ActionThresholds, FileEntry, Label, Manifest, parse, render


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return make_manifest("xgb", onnx_bytes("xgb"))


def test_a_manifest_survives_its_bytes(manifest: Manifest) -> None:
    raw = render(manifest)
    assert parse(raw, "here") == manifest
    assert render(parse(raw, "here")) == raw
    assert b'\n  "model": "xgb",\n' in raw, "people read it"


@given(buy=st.floats(0.5, 1.0), sell=st.floats(0.0, 0.5), seed=st.integers(-(2**62), 2**62))
def test_any_numbers_survive_their_bytes(manifest: Manifest, buy: float, sell: float, seed: int) -> None:
    training = msgspec.structs.replace(manifest.training, seed=seed)
    changed = msgspec.structs.replace(manifest, thresholds=ActionThresholds(buy, sell), training=training)
    assert parse(render(changed), "here") == changed


def test_an_unknown_key_is_refused_at_any_depth(manifest: Manifest) -> None:
    content = json.loads(render(manifest))
    with pytest.raises(ArtefactError, match="unknown field `extra`"):
        parse(json.dumps({**content, "extra": 1}).encode(), "here")
    content["label"]["extra"] = 1
    with pytest.raises(ArtefactError, match="unknown field `extra`"):
        parse(json.dumps(content).encode(), "here")


def test_every_key_is_required(manifest: Manifest) -> None:
    content = json.loads(render(manifest))
    for key in content:
        rest = {name: value for name, value in content.items() if name != key}
        with pytest.raises(ArtefactError, match=f"missing required field `{key}`"):
            parse(json.dumps(rest).encode(), "here")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"format": 2}, "format 2: this program reads 1"),
        ({"model": "lstm"}, "model 'lstm': expected one of xgb, lgbm, nhits, patchtst"),
        ({"name": "../xgb_v20260101_000000"}, "expected NAME_vYYYYMMDD_HHMMSS"),
        ({"version": 0}, "version 0: expected at least 1"),
        ({"features": "abc"}, "expected a SHA-256 or 'unknown'"),
        ({"label": Label(0, 1)}, "horizon or delay out of range"),
        ({"thresholds": ActionThresholds(0.4, 0.6)}, "does not hold"),
        ({"thresholds": ActionThresholds(1.5, 0.5)}, "does not hold"),
        ({"files": {}}, "model.onnx is missing"),
        ({"files": {"model.onnx": FileEntry("0" * 64, 1), "../x": FileEntry("0" * 64, 1)}}, "not a plain file name"),
        ({"files": {"model.onnx": FileEntry("xyz", 1)}}, "not a SHA-256"),
    ],
)
def test_a_broken_rule_is_named(manifest: Manifest, change: dict[str, object], rule: str) -> None:
    with pytest.raises(ArtefactError, match=rule):
        parse(render(msgspec.structs.replace(manifest, **change)), "here")


def test_another_spelling_of_the_same_values_is_refused(manifest: Manifest) -> None:
    compact = json.dumps(json.loads(render(manifest))).encode()
    with pytest.raises(ArtefactError, match="one form"):
        parse(compact, "here")


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff\xfe", b"{" * 100_000, b'{"format": NaN}'])
def test_what_is_no_manifest_is_refused_in_one_line(raw: bytes) -> None:
    with pytest.raises(ArtefactError) as caught:
        parse(raw, "here")
    assert "\n" not in str(caught.value)


def test_an_unknown_feature_schema_is_told(manifest: Manifest) -> None:
    assert manifest.schema_known
    assert not msgspec.structs.replace(manifest, features="unknown").schema_known
