import pytest

from quantum_trader.core.errors import ConfigError
from quantum_trader.gates.planning import Cadence, block_mean, forecast, least_bars, plan
from quantum_trader.gates.sample import CYCLE

FIVE_MINUTES = 300_000


def test_the_studys_model_is_described_by_the_defaults() -> None:
    # Golden g11: 4,992 events on ten symbols in 6,027 bars, 54.1 % right; its blocks have a standardised mean of 0.215.
    cadence = Cadence(symbols=10, bar_ms=FIVE_MINUTES, share=4992 / 6027 / 10)
    assert block_mean(0.541, cadence) == pytest.approx(0.215, rel=0.1)
    found = forecast(0.541, cadence)
    # GATES.md: "median 2,400 events, 10 days".
    assert found.days == pytest.approx(10, rel=0.2)
    assert found.events == pytest.approx(2400, rel=0.2)


def test_dense_events_do_not_shorten_the_calendar() -> None:
    # GATES.md, Planning: 5,000 dense events on 50 symbols are 8.3 hours and must return HOLD.
    cadence = Cadence(symbols=50, bar_ms=FIVE_MINUTES)
    assert least_bars(cadence) == 20 * CYCLE > 5000 / 50
    for found in plan(cadence):
        assert found.bars is not None
        assert found.bars >= 20 * CYCLE
        assert found.days is not None
        assert found.days > 3


def test_more_skill_is_decided_sooner_and_a_later_version_later() -> None:
    cadence = Cadence(symbols=5, bar_ms=FIVE_MINUTES)
    days = [found.days for found in plan(cadence)]
    assert None not in days
    assert days == sorted(days, reverse=True)  # type: ignore[type-var]
    assert forecast(0.53, cadence, version=3).bars > forecast(0.53, cadence).bars  # type: ignore[operator]


def test_what_only_repeats_the_voters_is_never_decided() -> None:
    found = forecast(0.51, Cadence(symbols=5, bar_ms=FIVE_MINUTES, ensemble=0.55, overlap=0.9))
    assert (found.blocks, found.bars, found.days) == (None, None, None)
    assert "no time suffices" in found.reason


def test_a_weak_calibrated_model_cannot_reach_the_spread() -> None:
    cadence = Cadence(symbols=5, bar_ms=FIVE_MINUTES)
    assert [forecast(a, cadence).reaches_spread for a in (0.55, 0.567, 0.568)] == [False, False, True]


def test_sparse_events_wait_for_their_number() -> None:
    cadence = Cadence(symbols=1, bar_ms=FIVE_MINUTES, share=0.01)
    assert least_bars(cadence) == CYCLE * 409
    assert forecast(0.6, cadence).bars >= CYCLE * 409  # type: ignore[operator]


@pytest.mark.parametrize("accuracy", [0.5, 1.0, float("nan"), 54.0])
def test_an_accuracy_out_of_range_is_refused(accuracy: float) -> None:
    with pytest.raises(ConfigError, match="accuracy"):
        forecast(accuracy, Cadence(symbols=5, bar_ms=FIVE_MINUTES))


@pytest.mark.parametrize("field", ["symbols", "bar_ms", "share", "overlap", "ensemble", "persistence", "alike"])
def test_a_cadence_out_of_range_is_refused(field: str) -> None:
    values = {"symbols": 5, "bar_ms": FIVE_MINUTES} | {field: -2}
    with pytest.raises(ConfigError, match=f"{field} = -2"):
        Cadence(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("overlap", [-1.0, 1.0])
def test_what_is_all_of_the_ensemble_has_no_view_of_its_own(overlap: float) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        Cadence(symbols=5, bar_ms=FIVE_MINUTES, overlap=overlap)


def test_sparse_events_are_silent_until_a_refit_finds_enough_of_them() -> None:
    # Three events in ten bars, 31 needed: the 104th bar, the refit of bar 144; then entry, 24 blocks, the evidence.
    found = forecast(0.55, Cadence(symbols=1, bar_ms=FIVE_MINUTES, share=0.3))
    assert found.blocks is not None
    assert found.bars == CYCLE * -(-(144 + 2 + 24 * 12 + 12 * found.blocks) // CYCLE) > 20 * CYCLE
    dense = forecast(0.53, Cadence(symbols=50, bar_ms=FIVE_MINUTES))
    assert dense.blocks is not None
    assert dense.bars == CYCLE * max(-(-(48 + 2 + 24 * 12 + 12 * dense.blocks) // CYCLE), 20)
