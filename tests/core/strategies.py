"""Valid bars, outputs and decisions for property tests: Hypothesis strategies and seeded series."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantum_trader.core.bars import FIELDS, BarSeries
from quantum_trader.core.calibration import Calibration, IsotonicCurve, PlattCurve
from quantum_trader.core.decision import DecisionRecord, Occasion, decide, shadow_votes
from quantum_trader.core.policy import VotePolicy
from quantum_trader.core.predictions import MODELS, ModelOutput, Status, Thresholds

INTERVAL = 300_000
START = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""

THRESHOLDS = Thresholds(0.55, 0.45)

NOT_OK = [status for status in Status if status is not Status.OK]

probabilities = st.floats(0.0, 1.0)


def random_series(
    n: int, seed: int = 0, *, symbol: str = "BTCUSDT", start: int = START, holes: tuple[int, ...] = ()
) -> BarSeries:
    """A seeded random walk of n valid bars; before every index in `holes` one bar is missing."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.002, n)))
    open_ = np.concatenate([[100.0], close[:-1]])
    high = np.maximum(open_, close) * (1.0 + rng.exponential(0.001, n))
    low = np.minimum(open_, close) * (1.0 - rng.exponential(0.001, n))
    steps = np.ones(n, dtype=np.int64)
    steps[0] = 0
    steps[list(holes)] += 1
    ts_open = start + np.cumsum(steps) * INTERVAL
    return BarSeries(symbol, INTERVAL, ts_open, open_, high, low, close, rng.exponential(50.0, n))


def real_series(shared: Path, symbol: str) -> BarSeries:
    """The real 5-minute futures bars of a symbol."""
    path = shared / "data" / "bars_5m_um.parquet"
    table = pq.read_table(path, filters=pc.field("symbol") == symbol)
    ts_open = table["open_time"].cast("int64").to_numpy()
    return BarSeries(symbol, INTERVAL, ts_open, **{name: table[name].to_numpy() for name in FIELDS})


def output_of(p_up: list[float], artefact: str = "a" * 64) -> ModelOutput:
    """A model's valid answers."""
    return ModelOutput.of(np.array(p_up, dtype=np.float64), THRESHOLDS, artefact)


def occasion_of(n: int, *, price: float = 890.12, atr: float = 0.02, symbol: str = "BNBUSDT") -> Occasion:
    """n bars of one symbol, one after the other."""
    ts_open = [START + i * INTERVAL for i in range(n)]
    return Occasion(
        timeframe="5m",
        symbols=[symbol] * n,
        ts_open=ts_open,
        ts_close=[ts + INTERVAL for ts in ts_open],
        prices=[price] * n,
        atr_fractions=[atr] * n,
        input_hashes=["0123456789abcdef"] * n,
    )


@st.composite
def outputs(draw: st.DrawFn, n: int) -> ModelOutput:
    """n answers, each of them OK or not, with numbers only where they are OK."""
    p_up = draw(st.lists(probabilities, min_size=n, max_size=n))
    statuses = tuple(draw(st.lists(st.sampled_from([Status.OK, Status.OK, *NOT_OK]), min_size=n, max_size=n)))
    ok = np.array([status is Status.OK for status in statuses], dtype=np.bool_)
    clean: NDArray[np.float64] = np.where(ok, np.array(p_up, dtype=np.float64), np.nan)
    artefact = draw(st.sampled_from(["a" * 64, "b" * 64, ""]))
    reason = draw(st.sampled_from(["", "grace: nothing came in time", 'error: ValueError: "ü" \\ \n tab\t']))
    reasons = tuple("" if good else reason for good in ok.tolist())
    hashes = draw(st.sampled_from([(), ("0123456789abcdef",) * n]))
    return ModelOutput(clean, THRESHOLDS.actions(clean), statuses, artefact, reasons, hashes)


@st.composite
def ensembles(draw: st.DrawFn, n: int) -> tuple[dict[str, ModelOutput], dict[str, ModelOutput]]:
    """Voters and shadows, at least one voter, both in breakdown order."""
    roles = draw(st.lists(st.sampled_from("vvs-"), min_size=4, max_size=4).filter(lambda roles: "v" in roles))
    both = {name: draw(outputs(n)) for name, role in zip(MODELS, roles, strict=True) if role != "-"}
    voters = {name: both[name] for name, role in zip(MODELS, roles, strict=True) if role == "v"}
    return voters, {name: output for name, output in both.items() if name not in voters}


@st.composite
def occasions(draw: st.DrawFn, n: int) -> Occasion:
    """n occasions at distinct bars of a few symbols."""
    numbers: Any = st.floats(1e-6, 1e7)
    keys = st.tuples(st.sampled_from(["BTCUSDT", "ETHUSDT", "1000SATSUSDT"]), st.integers(0, 500))
    where = draw(st.lists(keys, min_size=n, max_size=n, unique=True))
    ts_open = [START + bar * INTERVAL for _, bar in where]
    return Occasion(
        timeframe="5m",
        symbols=[symbol for symbol, _ in where],
        ts_open=ts_open,
        ts_close=[ts + INTERVAL for ts in ts_open],
        prices=draw(st.lists(numbers, min_size=n, max_size=n)),
        atr_fractions=draw(st.lists(st.floats(0.0, 0.5), min_size=n, max_size=n)),
        input_hashes=draw(st.lists(st.text("0123456789abcdef", min_size=16, max_size=16), min_size=n, max_size=n)),
    )


platt_curves = st.builds(PlattCurve, st.floats(-3.0, 3.0), st.floats(1e-3, 5.0))


@st.composite
def isotonic_curves(draw: st.DrawFn) -> IsotonicCurve:
    """Two to eight knots."""
    steps = draw(st.lists(st.integers(0, 10**9), min_size=2, max_size=8, unique=True))
    levels = draw(st.lists(probabilities, min_size=len(steps), max_size=len(steps)))
    return IsotonicCurve(tuple(step / 10**9 for step in sorted(steps)), tuple(sorted(levels)))


curves = st.one_of(platt_curves, isotonic_curves())


@st.composite
def calibrations(draw: st.DrawFn) -> dict[str, Calibration]:
    """Calibrations of some models, each of one of the artefacts of `outputs`."""
    names = draw(st.sets(st.sampled_from(MODELS)))
    return {
        name: Calibration("d" * 64, name, draw(st.sampled_from(["a", "b"])) * 64, draw(curves))
        for name in sorted(names)
    }


policies = st.builds(
    VotePolicy,
    weights=st.fixed_dictionaries({name: st.integers(1, 40).map(lambda n: n / 40) for name in MODELS}),
    min_consensus=st.integers(1, 4),
    calibrations=calibrations(),
)


@st.composite
def records(draw: st.DrawFn, max_rows: int = 6) -> list[DecisionRecord]:
    """Decision records as the service builds them."""
    n = draw(st.integers(1, max_rows))
    voters, shadows = draw(ensembles(n))
    decisions = decide(draw(occasions(n)), voters, draw(policies))
    beside = {name: shadow_votes(output) for name, output in shadows.items()}
    return [
        DecisionRecord(
            decision=decision,
            shadows={name: votes[i] for name, votes in beside.items()},
            reasons={
                name: f"{output.statuses[i].value}: {output.reasons[i]}"
                for name, output in voters.items()
                if output.statuses[i] is not Status.OK
            },
            ts_decision=decision.ts_close + draw(st.integers(0, 10_000)),
        )
        for i, decision in enumerate(decisions)
    ]
