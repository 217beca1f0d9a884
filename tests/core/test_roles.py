import itertools

import pytest

from quantum_trader.core.predictions import MODELS, Role
from quantum_trader.core.roles import assign_role

DIGEST, OTHER = "ab" * 32, "cd" * 32

SAYS_FALSE = ("false", "FALSE", "False", " false", "false\n")
"""The one word, in any case and with blanks around it, as systemd and shells hand it over."""

SAYS_SHADOW = (
    *(None, "", " ", "true", "True ", "TRUE", "flase", "fals", "falsee", "'false'", '"false"', "false;", "false # x"),
    *("0", "no", "off", "n", "f", "None", "null", "1", "yes", "ｆａｌｓｅ", "fal\u017fe", "false\x00", "fa lse"),
)


@pytest.mark.parametrize("flag", [*SAYS_FALSE, *SAYS_SHADOW])
def test_only_the_word_false_with_a_grant_and_a_known_schema_votes(flag: str | None) -> None:
    for granted, known in itertools.product((True, False), (True, False)):
        decided = assign_role("patchtst", DIGEST, [DIGEST] if granted else [], flag, schema_known=known)
        votes = flag in SAYS_FALSE and granted and known
        assert decided.role is (Role.VOTER if votes else Role.SHADOW)
        assert decided.reason
        assert "\n" not in decided.reason


@pytest.mark.parametrize("granted", [[], [OTHER], [DIGEST[:16]], [DIGEST.upper()], [""], [DIGEST + "0"]])
def test_a_grant_for_anything_but_the_very_artefact_makes_no_voter(granted: list[str]) -> None:
    decided = assign_role("patchtst", DIGEST, granted, "false")
    assert decided.role is Role.SHADOW
    assert decided.reason == f"PATCHTST_SHADOW_ONLY=false, but the ledger holds no grant for artefact {DIGEST[:16]}"


def test_a_flag_that_was_removed_answers_for_itself() -> None:
    assert assign_role("patchtst", DIGEST, [DIGEST], None).reason == "PATCHTST_SHADOW_ONLY is not set: fail closed"


def test_a_mistyped_flag_is_quoted_in_the_reason() -> None:
    assert "is 'flase', neither true nor false" in assign_role("nhits", DIGEST, [DIGEST], "flase").reason


def test_an_imported_checkpoint_is_shadow_even_with_a_grant() -> None:
    decided = assign_role("patchtst", DIGEST, [DIGEST], "false", schema_known=False)
    assert decided.role is Role.SHADOW
    assert "feature schema is unknown" in decided.reason


@pytest.mark.parametrize("model", MODELS)
def test_the_reason_of_a_voter_names_grant_and_flag(model: str) -> None:
    decided = assign_role(model, DIGEST, {OTHER, DIGEST}, "false")
    assert decided.reason == f"grant for artefact {DIGEST[:16]} and {model.upper()}_SHADOW_ONLY=false"
