"""Which promotions are watched, from what the ledger says."""

from pathlib import Path

import pytest
from tests.release.promoting import House

from quantum_trader.release.ledger import read_entries
from quantum_trader.release.ledger_entries import Demote, Promote, Revoke, Rollback, State, Watch, WeightChange
from quantum_trader.release.watching import UNPROVEN_MEAN, OpenWatch, open_watches

NOW_MS = 1_790_000_000_000


class Book(House):
    """Entries one second after the other."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, NOW_MS)
        self.at = NOW_MS

    def __call__(self, kind: type, before: float, after: float, **facts: str) -> None:
        self.at += 1000
        stands = {
            name: State(role="voter", artefact=self.artefact, weight=weight)
            for name, weight in (("before", before), ("after", after))
        }
        self.append(kind(model="patchtst", artefact=self.artefact, **stands, facts=facts), self.at)

    def watches(self) -> list[OpenWatch]:
        return open_watches(read_entries(self.ledger))

    def one(self, weight: float, mean: float, verdict: str) -> list[OpenWatch]:
        return [OpenWatch("patchtst", self.artefact, weight, self.at, mean, verdict)]


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def test_first_voters_are_not_watched_and_a_promotion_is(book: Book) -> None:
    assert book.watches() == []
    book(Promote, 0, 0.1, block_mean="0.21", verdict="v")
    assert book.watches() == book.one(0.1, 0.21, "v")
    book(Watch, 0.1, 0.1, state="KEEP")
    assert book.watches() == []


@pytest.mark.parametrize("text", ["", "None", "nan", "-0.2", "0.0", "inf"])
def test_a_promotion_without_a_good_mean_is_held_to_the_least(book: Book, text: str) -> None:
    book(Promote, 0, 0.1, block_mean=text)
    assert book.watches() == book.one(0.1, UNPROVEN_MEAN, "")


def test_a_step_up_opens_a_watch_and_a_step_down_does_not(book: Book) -> None:
    book(Promote, 0, 0.1, block_mean="0.21", verdict="v")
    book(WeightChange, 0.1, 0.05)
    assert book.watches() == book.one(0.05, 0.21, "v"), "a watch that is open goes on at the weight that it has now"
    book(Watch, 0.05, 0.05, state="KEEP")
    book(WeightChange, 0.05, 0.02)
    assert book.watches() == []
    book(WeightChange, 0.02, 0.1)
    assert book.watches() == book.one(0.1, 0.21, "v"), "held to what it was promoted for"
    book(WeightChange, 0.1, 0.2, block_mean="0.3", verdict="w")
    assert book.watches() == book.one(0.2, 0.3, "w"), "or to its own verdict"


@pytest.mark.parametrize("kind", [Demote, Rollback])
def test_who_lost_its_vote_is_not_watched(book: Book, kind: type) -> None:
    book(Promote, 0, 0.1)
    book(kind, 0.1, 0)
    assert book.watches() == []


def test_a_revoked_grant_ends_the_watch_and_what_was_found_does_not(book: Book) -> None:
    book(Promote, 0, 0.1)
    book(Watch, 0.1, 0.1, state="DEMOTE")
    assert len(book.watches()) == 1
    book.append(Revoke(model="patchtst", artefact=book.artefact), book.at + 1)
    assert book.watches() == []
