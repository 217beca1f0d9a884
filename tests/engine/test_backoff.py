from quantum_trader.engine.backoff import Backoff


def test_pauses_double_up_to_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.ended() for _ in range(10)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_minute_of_answers_on_time_begins_anew() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.ended()
    backoff.on_time(100.0)
    backoff.on_time(159.0)
    assert backoff.ended() == 16.0
    backoff.on_time(200.0)
    backoff.on_time(260.0)
    assert backoff.ended() == 0.5


def test_a_miss_or_an_end_within_the_minute_begins_the_minute_anew() -> None:
    backoff = Backoff()
    backoff.ended()
    backoff.on_time(0.0)
    backoff.missed()
    backoff.on_time(61.0)
    assert backoff.ended() == 1.0
    backoff.on_time(130.0)
    assert backoff.ended() == 2.0


def test_what_crashes_at_every_bar_never_proves_itself_by_living_long() -> None:
    backoff = Backoff()
    pauses = []
    for _ in range(8):
        backoff.missed()
        pauses.append(backoff.ended())
    assert pauses[-1] == 60.0
