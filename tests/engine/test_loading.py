from pathlib import Path

import numpy as np
import pytest
from tests.artefacts import graph_bytes, make_artefact, make_imported

from quantum_trader.core.errors import ArtefactError, ConfigError
from quantum_trader.core.predictions import MODELS
from quantum_trader.engine.loading import Cast, ModelSpec, load_cast
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.manifest import ActionThresholds

Grants = dict[str, set[str]]


class House:
    """Four real artefacts, a grant for each, and the flags as an operator wrote them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = {model: make_artefact(folder, model) for model in MODELS}
        self.grants: Grants = {model: {load_artefact(path).digest} for model, path in self.paths.items()}
        self.flags: dict[str, str | None] = dict.fromkeys(MODELS, "false")

    def load(self) -> Cast:
        specs = [ModelSpec(model, self.paths[model], self.flags[model]) for model in self.paths]
        return load_cast(specs[::-1], self.grants)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "models")


def assert_shadow(cast: Cast, model: str, reason: str, *, loadable: bool = True) -> None:
    assert model not in cast.voters
    (spec,) = [spec for spec in cast.shadows if spec.model == model]
    assert reason in spec.reason
    assert spec.loadable == loadable
    assert bool(spec.digest) == loadable
    assert reason in cast.reasons[model]


class TestAVoter:
    def test_is_who_has_a_grant_for_its_digest_and_the_word_false(self, house: House) -> None:
        cast = house.load()
        assert list(cast.voters) == list(MODELS)
        assert cast.shadows == []
        assert {model: {voter.digest} for model, voter in cast.voters.items()} == house.grants
        for model in MODELS:
            assert cast.reasons[model].startswith("voter: grant for artefact ")

    def test_stands_in_breakdown_order_whatever_order_it_was_configured_in(self, house: House) -> None:
        house.flags["lgbm"] = None
        assert list(house.load().voters) == ["xgb", "nhits", "patchtst"]


class TestAModelIsAShadowAndSaysWhy:
    @pytest.mark.parametrize("flag", [None, "", "true", "flase", "0"])
    def test_without_the_word_false(self, house: House, flag: str | None) -> None:
        house.flags["patchtst"] = flag
        assert_shadow(house.load(), "patchtst", "PATCHTST_SHADOW_ONLY")

    def test_with_the_flag_removed_and_no_grant(self, house: House) -> None:
        house.grants["patchtst"] = set()
        house.flags["patchtst"] = None
        assert_shadow(house.load(), "patchtst", "PATCHTST_SHADOW_ONLY is not set: fail closed")

    def test_with_the_word_false_and_no_grant(self, house: House) -> None:
        del house.grants["patchtst"]
        assert_shadow(house.load(), "patchtst", "PATCHTST_SHADOW_ONLY=false, but the ledger holds no grant")

    def test_with_another_models_grant(self, house: House) -> None:
        house.grants["patchtst"] = house.grants["nhits"]
        assert_shadow(house.load(), "patchtst", "no grant")

    def test_after_its_artefact_was_replaced_by_another_good_one(self, house: House) -> None:
        # Every file verifies; only the digest is another than the one that was granted.
        other = make_artefact(house.folder / "other", "patchtst", seed=1)
        for name in ("manifest.json", "model.onnx"):
            (house.paths["patchtst"] / name).write_bytes((other / name).read_bytes())
        cast = house.load()
        assert_shadow(cast, "patchtst", "no grant for artefact " + load_artefact(other).digest[:16])

    def test_after_only_its_thresholds_were_changed(self, house: House) -> None:
        other = make_artefact(
            house.folder / "other", "patchtst", thresholds=ActionThresholds(buy_above=0.5, sell_below=0.1)
        )
        (house.paths["patchtst"] / "manifest.json").write_bytes((other / "manifest.json").read_bytes())
        assert_shadow(house.load(), "patchtst", "no grant")

    def test_when_it_was_imported_even_with_grant_and_flag(self, house: House) -> None:
        house.paths["patchtst"] = make_imported(house.folder / "imported")
        house.grants["patchtst"] = {load_artefact(house.paths["patchtst"]).digest}
        assert_shadow(house.load(), "patchtst", "feature schema is unknown")


def flip(house: House, model: str) -> None:
    file = house.paths[model] / "model.onnx"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def lose(house: House, model: str) -> None:
    house.paths[model] = house.folder / "none"


def swap(house: House, model: str) -> None:
    house.paths[model] = house.paths["lgbm"]


def blank(house: House, model: str) -> None:
    (house.paths[model] / "manifest.json").write_bytes(b"")


def link(house: House, model: str) -> None:
    file = house.paths[model] / "model.onnx"
    file.rename(house.folder / "elsewhere.onnx")
    file.symlink_to(house.folder / "elsewhere.onnx")


BREAKS = {
    "model.onnx was changed": flip,
    "no such folder": lose,
    "it is a lgbm model, configured as ": swap,
    "manifest.json is not a manifest": blank,
    "model.onnx is a link": link,
}


class TestABrokenArtefact:
    @pytest.mark.parametrize("reason", BREAKS)
    def test_of_a_model_that_is_meant_to_vote_stops_the_start(self, house: House, reason: str) -> None:
        BREAKS[reason](house, "patchtst")
        with pytest.raises(ArtefactError, match=r"^PatchTST is meant to vote and cannot: artefact .*") as refusal:
            house.load()
        assert reason in str(refusal.value)
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize("reason", BREAKS)
    @pytest.mark.parametrize("flag", ["true", None, "flase"])
    def test_of_a_shadow_is_a_failure_that_is_recorded(self, house: House, reason: str, flag: str | None) -> None:
        BREAKS[reason](house, "patchtst")
        house.flags["patchtst"] = flag
        cast = house.load()
        assert_shadow(cast, "patchtst", reason, loadable=False)
        assert cast.reasons["patchtst"].startswith("failed: ")
        assert list(cast.voters) == ["xgb", "lgbm", "nhits"]

    def test_never_votes_even_if_the_ledger_grants_an_empty_digest(self, house: House) -> None:
        lose(house, "patchtst")
        house.grants["patchtst"] = {""}
        house.flags["patchtst"] = "true"
        assert "patchtst" not in house.load().voters

    def test_of_another_feature_schema_stops_the_start_of_a_voter(self, house: House) -> None:
        house.paths["nhits"] = make_artefact(house.folder / "other", "nhits", features="0" * 64)
        house.grants["nhits"] = {load_artefact(house.paths["nhits"]).digest}
        with pytest.raises(
            ArtefactError, match=r"^N-HiTS is meant to vote and cannot: .*trained on feature schema 0000"
        ):
            house.load()

    def test_whose_graph_is_not_what_is_served_stops_the_start_of_a_voter(self, house: House) -> None:
        raw = graph_bytes(np.zeros(44, np.float32), "row", output="probability")
        house.paths["xgb"] = make_artefact(house.folder / "other", "xgb", onnx_bytes=raw)
        house.grants["xgb"] = {load_artefact(house.paths["xgb"]).digest}
        with pytest.raises(ArtefactError, match=r"^XGBoost is meant to vote and cannot: .*expected p_up"):
            house.load()

    def test_whose_warm_up_answers_no_probability_stops_the_start_of_a_voter(self, house: House) -> None:
        weights = np.full(44, np.inf, np.float32)
        house.paths["xgb"] = make_artefact(house.folder / "other", "xgb", onnx_bytes=graph_bytes(weights, "row"))
        house.grants["xgb"] = {load_artefact(house.paths["xgb"]).digest}
        with pytest.raises(ArtefactError, match=r"warm-up prediction is nan, no probability"):
            house.load()


class TestWithoutAVoterNothingRuns:
    def test_and_every_models_reason_is_given(self, house: House) -> None:
        house.flags = {"xgb": None, "lgbm": "true", "nhits": "false", "patchtst": "true"}
        house.grants = {}
        lose(house, "patchtst")
        with pytest.raises(ConfigError) as refusal:
            house.load()
        message = str(refusal.value)
        assert message.startswith(
            "no model may vote, so there is nothing to run: xgb is shadow: XGB_SHADOW_ONLY is not"
        )
        assert "lgbm is shadow: LGBM_SHADOW_ONLY=true" in message
        assert "nhits is shadow: NHITS_SHADOW_ONLY=false, but the ledger holds no grant" in message
        assert "patchtst is failed: artefact" in message
        assert "\n" not in message

    def test_nor_without_any_model(self) -> None:
        with pytest.raises(ConfigError, match="no model may vote, so there is nothing to run: no model is configured"):
            load_cast([], {})
