from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.alarms import Alarm, AlarmName, Board, Key

alarms = st.builds(
    Alarm,
    name=st.sampled_from([AlarmName.FROZEN_OUTPUT, AlarmName.INPUT_DRIFT]),
    model=st.sampled_from(["", "xgb", "patchtst"]),
    symbol=st.sampled_from(["", "BTCUSDT"]),
    detail=st.sampled_from(["one", "other"]),
)
words = st.lists(st.tuples(st.sampled_from(["honesty", "clock"]), st.lists(alarms, max_size=5)), max_size=20)


def test_an_alarm_is_raised_once_and_cleared_once() -> None:
    board, alarm = Board(), Alarm(AlarmName.FROZEN_OUTPUT, "xgb", "BTCUSDT", "0.6150 at 20 bars in a row")
    assert board.update("honesty", [alarm]) == ((alarm,), ())
    assert board.update("honesty", [alarm]) == ((), ())
    assert board.standing == (alarm,)
    assert board.update("honesty", []) == ((), (alarm,))
    assert board.update("honesty", []) == ((), ())
    assert board.standing == ()


def test_one_watcher_does_not_clear_anothers_alarm() -> None:
    board, alarm = Board(), Alarm(AlarmName.CLOCK_STEP)
    board.update("clock", [alarm])
    assert board.update("honesty", []) == ((), ())
    assert board.standing == (alarm,)


def test_the_detail_of_an_alarm_that_stands_is_that_of_its_raising() -> None:
    board = Board()
    first, second = (Alarm(AlarmName.INPUT_DRIFT, "xgb", "BTCUSDT", detail) for detail in ("one", "other"))
    board.update("honesty", [first])
    assert board.update("honesty", [second]) == ((), ())
    assert board.update("honesty", []).cleared == (first,)


@given(words)
def test_every_key_alternates_between_raised_and_cleared_and_the_board_is_their_balance(
    told: list[tuple[str, list[Alarm]]],
) -> None:
    board = Board()
    balance: Counter[tuple[str, Key]] = Counter()
    for watcher, conditions in told:
        changes = board.update(watcher, conditions)
        balance.update((watcher, alarm.key) for alarm in changes.raised)
        balance.subtract((watcher, alarm.key) for alarm in changes.cleared)
        assert set(balance.values()) <= {0, 1}
        own = {key for (of, key), n in balance.items() if of == watcher and n}
        assert own == {alarm.key for alarm in conditions}
    assert Counter(alarm.key for alarm in board.standing) == Counter(key for (_, key), n in balance.items() if n)


def test_an_alarm_says_where() -> None:
    assert str(Alarm(AlarmName.FROZEN_OUTPUT, "xgb", "BTCUSDT", "why")) == "frozen-output | xgb | BTCUSDT | why"
    assert str(Alarm(AlarmName.CLOCK_STEP, detail="why")) == "clock-step | engine | why"


@given(alarms)
def test_an_alarm_survives_json(alarm: Alarm) -> None:
    assert msgspec.json.decode(msgspec.json.encode(alarm), type=Alarm) == alarm
