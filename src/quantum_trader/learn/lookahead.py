"""Does a feature look ahead, or remember more than its window? Decided by experiment, not by reading its code.

At several bars t the features are computed again on altered frames, and the row of bar t is compared byte for byte:

- frame cut after t, and frame whose bars after t are noise: a difference is a *future leak*;
- window alone (t and the 511 bars before it), and frame whose bars before the window are noise: a difference from
  the frame cut after t is a *history dependence*, and training would see other numbers than service;
- the same frame once more: a difference means that the feature is *not reproducible*.

A feature that passes may still be useless; one that fails has been caught in the act, at the bar that is named.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.bars import FIELDS, WINDOW, BarSeries
from quantum_trader.core.errors import ConfigError
from quantum_trader.core.features import SCHEMA, compute
from quantum_trader.learn.planted_leaks import Columns, FeatureFunction

PROBES = 12
MARGIN = 64
"""Bars that every probe has before its window and after itself at least: there must be something to alter."""

_NOISE = 0.05
"""Standard deviation of the log factor that noise puts on a bar's prices."""


class Kind(StrEnum):
    """What is wrong with a feature, worst first."""

    FUTURE = "future leak"
    HISTORY = "history dependence"
    UNSTABLE = "not reproducible"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference.

    Attributes:
        symbol: Venue symbol.
        feature: Name of the column.
        kind: What the difference means.
        ts_open: Open of the bar whose features differ, milliseconds.
        experiment: Which altered frame showed it.
        expected: The row's first differing value on the unaltered frame.
        found: The same value on the altered frame.
    """

    symbol: str
    feature: str
    kind: Kind
    ts_open: int
    experiment: str
    expected: float
    found: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """Outcome for one symbol: every feature examined, every difference found, and the bars at which was looked."""

    symbol: str
    features: tuple[str, ...]
    findings: tuple[Finding, ...]
    probed: tuple[int, ...]

    def of(self, feature: str) -> list[Finding]:
        """Findings of one feature, the worst kind first."""
        own = [finding for finding in self.findings if finding.feature == feature]
        return sorted(own, key=lambda finding: list(Kind).index(finding.kind))

    @property
    def leaking(self) -> tuple[str, ...]:
        """Features with any finding, in the order of the columns."""
        found = {finding.feature for finding in self.findings}
        return tuple(name for name in self.features if name in found)


def own_features(series: BarSeries) -> dict[str, NDArray[Any]]:
    """`core.features.compute` at every bar with a whole window: one column a feature, one more for the sequence.

    Rows without a whole window are NaN. The sequence's column has the shape (n, 128, 8).
    """
    rows = np.full((len(series), len(SCHEMA.names)), np.nan, dtype=np.float32)
    sequences = np.full((len(series), SCHEMA.sequence_length, len(SCHEMA.sequence_names)), np.nan, dtype=np.float32)
    matrix = series.matrix()
    for end in series.window_ends().tolist():
        features = compute(np.ascontiguousarray(matrix[:, end - WINDOW + 1 : end + 1]))
        rows[end], sequences[end] = features.row, features.sequence
    return {**{name: rows[:, column] for column, name in enumerate(SCHEMA.names)}, "sequence": sequences}


def together(*functions: FeatureFunction) -> FeatureFunction:
    """The columns of several feature functions as one.

    Raises:
        ConfigError: when called, if two have a column of the same name.
    """

    def joined(series: BarSeries) -> Columns:
        columns: dict[str, NDArray[Any]] = {}
        for function in functions:
            for name, column in function(series).items():
                if name in columns:
                    raise ConfigError(f"feature {name} is given twice")
                columns[name] = column
        return columns

    return joined


def analyse(function: FeatureFunction, series: BarSeries, probes: int = PROBES, seed: int = 0) -> Analysis:
    """Examine every feature of a function on one symbol's bars.

    Args:
        function: From a frame of bars to columns (`planted_leaks.FeatureFunction`).
        series: Checked bars; the longest stretch without a gap is used, and of a long one its last part.
        probes: Bars at which to look.
        seed: Of the noise and of the choice of bars.

    Raises:
        ConfigError: if the bars are too few or the function does not give one row per bar.
    """
    frame = _stretch(series, probes)
    whole = _columns(function, frame)
    rng = np.random.default_rng(seed)
    room = np.arange(WINDOW - 1 + MARGIN, len(frame) - MARGIN)
    chosen = np.sort(rng.choice(room, size=min(probes, len(room)), replace=False)).tolist()
    findings = _differences(frame, Kind.UNSTABLE, "once more", chosen, whole, _columns(function, frame))
    for bar in chosen:
        findings += _probe(function, frame, whole, bar, rng)
    symbol = series.symbol
    return Analysis(symbol, tuple(whole), tuple(findings), tuple(int(frame.ts_open[bar]) for bar in chosen))


def _stretch(series: BarSeries, probes: int) -> BarSeries:
    """The longest run without a gap, its last bars: enough room for the probes, short enough to be computed often."""
    breaks = np.flatnonzero(np.diff(series.ts_open) != series.interval) + 1
    edges = [0, *breaks.tolist(), len(series)]
    start, stop = max(itertools.pairwise(edges), key=lambda run: run[1] - run[0])
    least = WINDOW + 2 * MARGIN
    if stop - start < least:
        raise ConfigError(f"{series.symbol}: {stop - start} bars without a gap, the analysis needs {least}")
    return series.slice(max(start, stop - least - 24 * probes), stop)


def _columns(function: FeatureFunction, frame: BarSeries) -> dict[str, NDArray[Any]]:
    try:
        columns = {name: np.asarray(column) for name, column in function(frame).items()}
    except Exception as error:
        raise ConfigError(f"the feature function failed on {len(frame)} bars: {error!r}") from error
    if not columns:
        raise ConfigError("the feature function gives no features")
    for name, column in columns.items():
        if column.shape[:1] != (len(frame),):
            raise ConfigError(f"feature {name} has the shape {column.shape}: expected one row for each bar")
    return columns


def _probe(
    function: FeatureFunction, frame: BarSeries, whole: Columns, bar: int, rng: np.random.Generator
) -> list[Finding]:
    """All experiments at one bar."""
    start = bar - WINDOW + 1
    findings = []
    for experiment, altered in _futures(frame, bar, rng):
        findings += _differences(frame, Kind.FUTURE, experiment, [bar], whole, _columns(function, altered))
    # Against the cut frame, not the whole one: a leak of the future must not pass for a dependence on the past.
    cut = _columns(function, frame.slice(0, bar + 1))
    for experiment, altered in _pasts(frame.slice(0, bar + 1), start, rng):
        offset = len(frame.slice(0, bar + 1)) - len(altered)
        shifted = _columns(function, altered)
        findings += _differences(frame, Kind.HISTORY, experiment, [bar], cut, shifted, offset)
    return findings


def _futures(frame: BarSeries, bar: int, rng: np.random.Generator) -> Iterator[tuple[str, BarSeries]]:
    yield "future cut off", frame.slice(0, bar + 1)
    yield "other future", _noisy(frame, bar + 1, len(frame), rng)


def _pasts(cut: BarSeries, start: int, rng: np.random.Generator) -> Iterator[tuple[str, BarSeries]]:
    yield "window alone", cut.slice(start, len(cut))
    yield "other past", _noisy(cut, 0, start, rng)


def _noisy(frame: BarSeries, start: int, stop: int, rng: np.random.Generator) -> BarSeries:
    """The frame with other bars from start to stop: one factor for a bar's prices, so that it still obeys the rules."""
    columns = {name: getattr(frame, name).copy() for name in FIELDS}
    prices = np.exp(rng.normal(0.0, _NOISE, stop - start))
    for name in ("open", "high", "low", "close"):
        columns[name][start:stop] *= prices
    columns["volume"][start:stop] = (columns["volume"][start:stop] + 1.0) * np.exp(rng.normal(0.0, 1.0, stop - start))
    return replace(frame, **columns)


def _differences(
    frame: BarSeries,
    kind: Kind,
    experiment: str,
    bars: list[int],
    expected: Columns,
    found: Columns,
    offset: int = 0,
) -> list[Finding]:
    """Features whose bytes differ at the bars; row t of `expected` is row t - offset of `found`."""
    if list(found) != list(expected):
        raise ConfigError(f"the feature function gives other columns after a change of the frame: {', '.join(found)}")
    findings = []
    for name, column in expected.items():
        for bar in bars:
            before, after = np.atleast_1d(column[bar]), np.atleast_1d(found[name][bar - offset])
            if before.dtype == after.dtype and before.tobytes() == after.tobytes():
                continue
            pair = _first_difference(before, after)
            findings.append(Finding(frame.symbol, name, kind, int(frame.ts_open[bar]), experiment, *pair))
    return findings


def _first_difference(before: NDArray[Any], after: NDArray[Any]) -> tuple[float, float]:
    for one, other in zip(before.ravel(), after.ravel(), strict=False):
        if one.tobytes() != other.tobytes():
            return float(one), float(other)
    return float(before.ravel()[0]), float(after.ravel()[0])
