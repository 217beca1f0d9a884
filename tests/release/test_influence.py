"""Votes given and taken: whatever fails, nobody votes who should not."""

from pathlib import Path

import pytest
from tests.release.promoting import House

from quantum_trader.core.errors import ConfigError, ProofError
from quantum_trader.release.influence import Deed, Ground, Place, change_weight, demote, promote
from quantum_trader.release.ledger import read_entries, verify, voting
from quantum_trader.release.ledger_entries import Demote
from quantum_trader.release.overrides import overrides
from quantum_trader.release.sealing import State as Sealed
from quantum_trader.release.sealing import check_seal
from quantum_trader.release.signing import PRIVATE_FILE, generate
from quantum_trader.settings import load_settings

NOW_MS = 1_790_000_000_000


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, NOW_MS)


def deed(house: House) -> Deed:
    return Deed(model="patchtst", artefact=house.artefact, at="2027-01-01T00:00:00+00:00", by="tests", reason="a test")


def place(house: House) -> Place:
    return Place(house.ledger, house.env_file)


def flag(house: House) -> str | None:
    return load_settings((), house.env_file, {}).models["patchtst"].shadow_only


def votes(house: House) -> bool:
    return house.artefact in voting(read_entries(house.ledger)).get("patchtst", set())


def promoted(house: House) -> House:
    promote(place(house), deed(house), 0.1, Ground("", None, True))
    assert (flag(house), votes(house)) == ("false", True)
    return house


def refuse() -> None:
    raise ConfigError("it has no effect")


def test_a_promotion_without_effect_is_undone_whole(house: House) -> None:
    before = house.env_file.read_bytes()
    with pytest.raises(ConfigError, match="no effect"):
        promote(place(house), deed(house), 0.1, Ground("", None, True), check=refuse)
    assert house.env_file.read_bytes() == before
    assert not votes(house)
    assert verify(house.ledger) == []


def test_a_weight_without_effect_is_undone_whole(house: House) -> None:
    promoted(house)
    before = house.env_file.read_bytes()
    with pytest.raises(ConfigError, match="no effect"):
        change_weight(place(house), deed(house), 0.1, 0.2, check=refuse)
    assert house.env_file.read_bytes() == before
    assert [(e.detail.before.weight, e.detail.after.weight) for e in read_entries(house.ledger)[-2:]] == [
        (0.1, 0.2),
        (0.2, 0.1),
    ]


def test_other_weights_and_lines_stay(house: House) -> None:
    house.env_file.write_text("# a comment\nQUANTUM_WEIGHTS=nhits=0.3, xgb=0.2\n" + house.env_file.read_text())
    promoted(house)
    weights = load_settings((), house.env_file, {}).vote_policy().weights
    assert weights == {"xgb": 0.2, "lgbm": 0.25, "nhits": 0.3, "patchtst": 0.1}
    assert house.env_file.read_text().startswith("# a comment\nQUANTUM_WEIGHTS=xgb=0.2,nhits=0.3,patchtst=0.1\n")


def test_an_override_is_shown_for_ever(house: House) -> None:
    assert overrides(read_entries(house.ledger)) == []
    (said,) = overrides(read_entries(promoted(house).ledger))
    assert "patchtst" in said
    assert "a test; it still stands" in said
    demote(place(house), deed(house), 0.1)
    (said,) = overrides(read_entries(house.ledger))
    assert said.endswith("it was taken back since")


def test_a_demotion_takes_flag_and_grant(house: House) -> None:
    assert demote(place(promoted(house)), deed(house), 0.1) == []
    assert (flag(house), votes(house)) == ("true", False)
    assert isinstance(read_entries(house.ledger)[-1].detail, Demote)


@pytest.mark.parametrize("broken", ["ledger", "env file"])
def test_half_a_demotion_ends_the_vote_too_and_says_what_is_missing(house: House, broken: str) -> None:
    promoted(house)
    if broken == "ledger":
        with house.ledger.open("ab") as file:
            file.write(b"{")
    else:
        house.env_file.write_bytes(b"\xff" + house.env_file.read_bytes())
    (problem,) = demote(place(house), deed(house), 0.1)
    assert broken.replace("ledger", "grant is not revoked").replace("env file", "flag is not set") in problem
    assert flag(house) == "true" if broken == "ledger" else not votes(house)


def test_the_ledgers_head_is_signed_and_a_key_that_is_gone_hinders_no_demotion(house: House, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    public, private = generate(keys).verify_key, keys / PRIVATE_FILE
    signed = place(house)._replace(key_file=private)
    promote(signed, deed(house), 0.1, Ground("", None, True))
    assert check_seal(house.ledger, public).state is Sealed.SEALED
    private.unlink()
    (problem,) = demote(signed, deed(house), 0.1)
    assert "head is not signed" in problem
    assert (flag(house), votes(house)) == ("true", False)
    with pytest.raises(ProofError):
        promote(signed, deed(house), 0.1, Ground("", None, True))
    assert (flag(house), votes(house)) == ("true", False)
