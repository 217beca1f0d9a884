"""The tally: equal to what is counted one by one, whatever is written twice, trimmed or tampered with."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.bus.books import begin, read_books, recount
from quantum_trader.bus.client import Durability, connect
from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.session import Session
from quantum_trader.bus.tally import Part, Tally, counted
from quantum_trader.bus.writer import CommitBatch, DecisionWriter
from quantum_trader.core.decision import Decision, DecisionRecord, ModelVote, ShadowVote, decision_id
from quantum_trader.core.errors import BusError, WireError
from quantum_trader.core.intent import build_intent
from quantum_trader.core.policy import IntentPolicy
from quantum_trader.core.predictions import MODELS, Status

STEP = 300_000
NOW_US = 1768012593250080
STATUSES = [status.value for status in Status]


def a_record(
    symbol: str, n: int, action: str, votes: dict[str, str], shadows: dict[str, str], ts_decision: int = 7
) -> DecisionRecord:
    """A decision; votes and shadows give each model's status."""

    def fields(status: str) -> dict[str, object]:
        said = {"action": "BUY", "confidence": 0.7, "p_up": 0.7} if status == "ok" else {"action": "HOLD"}
        return {"confidence": 0.0, **said, "status": status, "artefact": "sha256:1"}

    decision = Decision(
        schema=1,
        decision_id=decision_id(symbol, "5m", n * STEP),
        symbol=symbol,
        timeframe="5m",
        ts_open=n * STEP,
        ts_close=(n + 1) * STEP,
        action=action,
        confidence=0.7,
        consensus_count=2,
        voters=len(votes),
        min_consensus=2,
        weights=dict.fromkeys(votes, 0.25),
        scores={"SELL": 0.0, "HOLD": 0.0, "BUY": 1.0},
        votes={name: ModelVote(**fields(status)) for name, status in votes.items()},
        entry_price=100.5,
        atr_value=0.02,
        features="f",
        input_hash="i",
        policy="p",
    )
    said = {name: ShadowVote(**fields(status)) for name, status in shadows.items()}
    return DecisionRecord(decision=decision, shadows=said, reasons={}, ts_decision=ts_decision)


@st.composite
def records(draw: st.DrawFn) -> list[DecisionRecord]:
    """Decisions of some symbols with casts that change, some of them handed in twice and out of order."""
    found = []
    for _ in range(draw(st.integers(1, 25))):
        shadows = draw(st.sets(st.sampled_from(MODELS)))
        status = st.sampled_from(STATUSES)
        found.append(
            a_record(
                draw(st.sampled_from(["BTCUSDT", "ETHUSDT"])),
                draw(st.integers(1, 30)),
                draw(st.sampled_from(["BUY", "SELL", "HOLD"])),
                {name: draw(status) for name in MODELS if name not in shadows},
                {name: draw(status) for name in MODELS if name in shadows},
            )
        )
    return found


def a_batch(found: Sequence[DecisionRecord]) -> CommitBatch:
    pairs = [(r, build_intent(r.decision, r.shadows, IntentPolicy(), NOW_US)) for r in found]
    return CommitBatch(entry_ids=[], group="g", records=pairs, now_us=NOW_US)


def some(rounds: range, shadow: str = "ok") -> list[DecisionRecord]:
    votes = dict.fromkeys(MODELS[:3], "ok")
    return [a_record("BTCUSDT", n, "BUY" if n % 3 else "HOLD", votes, {"patchtst": shadow}) for n in rounds]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("tally") / "valkey", appendfsync="no") as running:
        yield running


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[redis.Redis]:
    with connect(server.url) as connected:
        connected.flushall()
        yield connected


NAMES = StreamNames()


@given(records())
def test_every_tally_of_records_adds_up(found: list[DecisionRecord]) -> None:
    tally = Tally.of(found)
    assert tally.problems() == []
    assert tally.decisions == len(found) == sum(tally.casts.values())
    for part in tally.parts:
        by_hand = Counter(
            (record.decision.votes if part.role == "voter" else record.shadows)[part.model].status
            for record in found
            if part.model in (record.decision.votes if part.role == "voter" else record.shadows)
        )
        assert tally.answers[part] == by_hand
        assert tally.took_part(part) == tally.answered(part) == by_hand.total()
    # A model is always there in one role or the other, so its roles together took part in everything.
    for model in MODELS:
        assert sum(tally.took_part(Part(model, role)) for role in ("voter", "shadow")) == len(found)
    assert tally.minus(tally) == Tally()


@given(records(), st.data())
def test_one_counter_more_or_less_is_seen(found: list[DecisionRecord], data: st.DataObject) -> None:
    fields = Counter(field for r in found for field in counted(r, intent=r.decision.action != "HOLD"))
    field = data.draw(st.sampled_from(sorted(set(fields) - {"intents"})))
    fields[field] += data.draw(st.sampled_from([-1, 1]))
    assert Tally.from_fields(fields).problems()


@given(st.lists(records(), min_size=1, max_size=4))
def test_what_was_committed_is_what_the_stream_gives(
    server: EmbeddedServer, batches: list[list[DecisionRecord]]
) -> None:
    with connect(server.url) as client:
        client.flushall()
        writer, session = DecisionWriter(client, NAMES, Durability.NONE), Session(client)
        written = [writer.commit(a_batch(batch)).written for batch in batches]
        assert all(writer.commit(a_batch(batch)).written == () for batch in batches), "the same again counts nothing"
        books, again = read_books(session, NAMES), recount(session, NAMES)
        assert books.problems() == [] == again.problems
        assert books.tally.decisions == sum(map(len, written)) == again.tally.decisions
        assert (again.tally.casts, again.tally.answers) == (books.tally.casts, books.tally.answers)
        assert again.tally.intents == books.tally.intents
        writer.close()
        session.close()


def test_the_tally_says_since_when_and_begins_behind_what_was_there(client: redis.Redis) -> None:
    # Decisions from before there was a tally: they were never counted, and are not asked for.
    DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch(some(range(1, 6))))
    client.delete(NAMES.tally)
    session = Session(client)
    assert read_books(session, NAMES).tally.since is None
    assert read_books(session, NAMES).problems() == [
        "0 decisions were counted, but 5 were added to the stream",
        "0 intents were counted, but 4 were added to the stream",
    ]
    begin(session, NAMES, 1111)
    begin(session, NAMES, 2222)
    DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch(some(range(6, 9))))
    books, again = read_books(session, NAMES), recount(session, NAMES)
    assert books.problems() == [] == again.problems
    assert (books.tally.since, books.tally.decisions, again.tally.decisions, again.trimmed) == (1111, 3, 3, 0)


def test_a_trimmed_stream_is_counted_again_as_far_as_it_goes(client: redis.Redis) -> None:
    writer, session = DecisionWriter(client, NAMES, Durability.NONE), Session(client)
    for n in range(1, 41):
        writer.commit(a_batch(some(range(n, n + 1), shadow=STATUSES[n % 5])))
    client.xtrim(NAMES.decisions, maxlen=15, approximate=False)
    books, again = read_books(session, NAMES), recount(session, NAMES)
    assert books.problems() == [] == again.problems
    assert (books.tally.decisions, again.tally.decisions, again.trimmed) == (40, 15, 25)
    # One decision of the trimmed part too many: no decision of the stream can show it, the sum does.
    client.hincrby(NAMES.tally, "xgb:voter:ok", 1)
    assert recount(session, NAMES).problems == [
        "the tally does not hold what the stream holds: xgb as voter: took part in 25 decisions, 26 answers counted"
    ]


@pytest.mark.parametrize(
    ("tamper", "books_say", "recount_says"),
    [
        (lambda c: c.hincrby(NAMES.tally, "decisions", -1), "were counted, but 6 were added", "-1"),
        (
            lambda c: c.hincrby(NAMES.tally, "patchtst:shadow:late", 2),
            "patchtst as shadow: took part in 6",
            "8 answ|2 answ",
        ),
        # The sums still hold; only counting again can tell.
        (
            lambda c: (c.hincrby(NAMES.tally, "xgb:voter:ok", -1), c.hincrby(NAMES.tally, "xgb:voter:late", 1)),
            None,
            "below zero",
        ),
        (lambda c: c.xadd(NAMES.intents, {"a": "b"}), "4 intents were counted, but 5 were added", None),
        (lambda c: c.xdel(NAMES.decisions, c.xrange(NAMES.decisions)[2][0]), None, None),
        (lambda c: c.delete(NAMES.decisions), "6 decisions were counted, but 0 were added", None),
    ],
)
def test_tampering_shows(client: redis.Redis, tamper, books_say: str | None, recount_says: str | None) -> None:
    DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch(some(range(1, 7))))
    session = Session(client)
    tamper(client)
    said = "; ".join(read_books(session, NAMES).problems())
    assert (books_say or "") in said
    assert bool(said) == (books_say is not None)
    if recount_says is not None:
        assert re.search(recount_says, "; ".join(recount(session, NAMES).problems))


def test_foreign_entries_and_fields_are_named(client: redis.Redis) -> None:
    session = Session(client)
    DecisionWriter(client, NAMES, Durability.NONE).commit(a_batch(some(range(1, 3))))
    client.xadd(NAMES.decisions, {"event_type": "ai.decision", "payload": "{}"})
    assert "2 decisions were counted, but 3 were added to the stream" in read_books(session, NAMES).problems()
    with pytest.raises(WireError, match=r"entry \d+-\d+: ai.decision"):
        recount(session, NAMES)
    client.hset(NAMES.tally, "xgb:voter:asleep", "1")
    with pytest.raises(BusError, match="tally key quantum:tally: 'asleep'"):
        read_books(session, NAMES)


def test_no_decisions_no_problems(client: redis.Redis) -> None:
    session = Session(client)
    assert read_books(session, NAMES).problems() == []
    assert recount(session, NAMES).problems == []
