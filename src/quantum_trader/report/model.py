"""Everything a report says, gathered once: the terminal and the HTML file render the same numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from quantum_trader.archive.case import case_of, judge_case
from quantum_trader.archive.codes import column
from quantum_trader.archive.join import roles, samples
from quantum_trader.archive.store import in_order
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.predictions import DEFAULT_WEIGHTS, DISPLAY_NAMES, MODELS, Role, Status
from quantum_trader.gates.policy import ContractPolicy
from quantum_trader.gates.sample import Sample
from quantum_trader.gates.summary import ModelSummary, describe
from quantum_trader.gates.verdict import Verdict, judge_contract
from quantum_trader.gates.whole_policy import WHOLE, Policy
from quantum_trader.report.flips import Flips, counterfactual
from quantum_trader.report.frame import Frame, tally
from quantum_trader.report.intents import IntentLine, last_intents
from quantum_trader.report.views import (
    AgreementView,
    IntArray,
    PriceView,
    ReliabilityView,
    SharesView,
    agreement_view,
    confidence_counts,
    price_view,
    reliability_view,
    shares_view,
)
from quantum_trader.report.whole import WholeView, whole_view

PRICE_DAYS = 7.0
"""Days before the last decision that the price charts show."""

PRICE_SYMBOLS = 12
"""Symbols with a price chart; further ones are counted, not drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelReport:
    """One model.

    Attributes:
        name: Short name.
        roles: Roles it had, sorted; usually one.
        summary: What it said, how surely, how often rightly: `gates.summary.describe`.
        statuses: Decisions by how its prediction ended, in the order of Status; they add up to `decisions`.
        decisions: Decisions that it took part in.
        artefacts: Digests of the artefacts that answered, sorted.
        confidences: Shape (25,), valid outputs per bin of CONFIDENCE_EDGES.
    """

    name: str
    roles: tuple[str, ...]
    summary: ModelSummary
    statuses: dict[str, int]
    decisions: int
    artefacts: tuple[str, ...]
    confidences: IntArray

    @property
    def display(self) -> str:
        """The model's name for people."""
        return DISPLAY_NAMES[self.name]

    @property
    def role(self) -> str:
        """Its roles in words."""
        return " and ".join(self.roles)


@dataclass(frozen=True, slots=True, eq=False)
class Charts:
    """What the charts draw.

    Attributes:
        agreement: Of every two models.
        shares: Actions over time.
        prices: Of at most PRICE_SYMBOLS symbols, those with the most intents.
        prices_left_out: Symbols that are not drawn.
        reliability: Of the judged model; None without one.
        whole: What belongs to the verdict over all sections; None without a judged model.
        flips: Of the judged model; None where it never was a shadow.
    """

    agreement: AgreementView
    shares: SharesView
    prices: tuple[PriceView, ...]
    prices_left_out: int
    reliability: ReliabilityView | None
    whole: WholeView | None
    flips: Flips | None


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """A report's content. Times are milliseconds since the epoch, UTC.

    Attributes:
        title: For people.
        headline: The verdict in one sentence, or why there is none.
        simulated: Whether the bars come from the simulator.
        judged: Short name of the judged model; None without one.
        symbols: Venue symbols, sorted.
        timeframe: Of the bars; empty without decisions.
        bar_ms: Length of a bar; 0 without decisions.
        ts_first: Open of the first bar decided on.
        ts_last: Close of the last bar decided on.
        decisions: How many.
        outcomes: Decisions whose outcome is known.
        actions: Decisions by action: BUY, SELL, HOLD.
        models: Every model that took part.
        verdict: Of the gates; None where nothing was judged.
        intents: Three samples.
        charts: None without decisions.
        features: Digests of the feature schemas in use.
        policies: Digests of the vote policies in use.
        notes: What a reader should know besides.
    """

    title: str
    headline: str
    simulated: bool
    judged: str | None
    symbols: tuple[str, ...]
    timeframe: str
    bar_ms: int
    ts_first: int
    ts_last: int
    decisions: int
    outcomes: int
    actions: dict[str, int]
    models: tuple[ModelReport, ...]
    verdict: Verdict | None
    intents: tuple[IntentLine, ...]
    charts: Charts | None
    features: tuple[str, ...]
    policies: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def judged_report(self) -> ModelReport | None:
        """The judged model's numbers."""
        return next((model for model in self.models if model.name == self.judged), None)


def build_report(
    table: pa.Table,
    bars: dict[str, BarSeries],
    judged: str | None,
    *,
    simulated: bool,
    title: str,
    verdict: Verdict | None = None,
    policy: Policy | ContractPolicy = WHOLE,
    weight: float | None = None,
    notes: Sequence[str] = (),
) -> ReportData:
    """Gather a report.

    Args:
        table: Decisions in the archive's schema, in any order; none at all gives a report that says so.
        bars: Bars by symbol; those after the decisions give the outcomes, where they have come.
        judged: Short name of the model to judge; None, or one that took no part, gives a report without a verdict.
        simulated: Whether the bars come from the simulator.
        title: For people.
        verdict: The gates' verdict on the judged model; taken here with `policy` if not given.
        policy: Thresholds: of the whole verdict, or those of the contract alone, which never promotes.
        weight: The weight that the judged model would vote at; its default weight if not given.
        notes: Sentences for the reader.

    Raises:
        ConfigError: if bars and decisions do not match.
    """
    if not len(table):
        return _empty(simulated, title, tuple(notes))
    table = in_order(table)
    sample, frame, parts = samples(table, bars), Frame.of(table, bars), roles(table)
    found = judged if judged in sample else None
    share = DEFAULT_WEIGHTS.get(found or "", 0.0) if weight is None else weight
    if found is None:
        verdict = None
    elif verdict is None:
        verdict = take_verdict(table, bars, found, policy, share)
    return ReportData(
        title=title,
        headline=verdict.summary if verdict else _nothing(judged),
        simulated=simulated,
        judged=found,
        symbols=frame.names,
        timeframe=table["timeframe"][0].as_py(),
        bar_ms=frame.interval,
        ts_first=int(frame.ts_open[0]),
        ts_last=int(column(table, "ts_close").max()),
        decisions=len(table),
        outcomes=int((frame.forward == frame.forward).sum()),
        actions={name: int((frame.action == value).sum()) for name, value in _ACTIONS.items()},
        models=tuple(_model(table, frame, name, parts[name], describe(sample[name])) for name in sample),
        verdict=verdict,
        intents=last_intents(table, found),
        charts=_charts(frame, bars, sample[found] if found else None, found, share, verdict),
        features=tuple(tally(table, "features")),
        policies=tuple(tally(table, "policy")),
        notes=tuple(notes),
    )


def take_verdict(
    table: pa.Table,
    bars: dict[str, BarSeries],
    judged: str,
    policy: Policy | ContractPolicy = WHOLE,
    weight: float | None = None,
) -> Verdict:
    """The verdict on a model: over all sections on a shadow, over the contract alone on a model that only votes.

    A model that votes already stands among those that it would have to be compared with.

    Raises:
        ConfigError: if bars and decisions do not match.
    """
    if isinstance(policy, ContractPolicy):
        return judge_contract(samples(table, bars)[judged], policy)
    if roles(table)[judged] == {Role.VOTER.value}:
        return judge_contract(samples(table, bars)[judged], policy.contract)
    share = DEFAULT_WEIGHTS[judged] if weight is None else weight
    return judge_case(case_of(table, bars, judged, share), policy)


_ACTIONS = {"BUY": 1, "SELL": -1, "HOLD": 0}


def _nothing(judged: str | None) -> str:
    if judged is None:
        return "Nothing was judged: no model was in shadow."
    return f"Nothing was judged: {DISPLAY_NAMES.get(judged, judged)} took no part in these decisions."


def _empty(simulated: bool, title: str, notes: tuple[str, ...]) -> ReportData:
    headline = "Nothing was judged: there are no decisions in the window."
    nothing = dict.fromkeys(_ACTIONS, 0)
    return ReportData(
        title, headline, simulated, None, (), "", 0, 0, 0, 0, 0, nothing, (), None, (), None, (), (), notes
    )


def _model(table: pa.Table, frame: Frame, name: str, parts: set[str], summary: ModelSummary) -> ModelReport:
    statuses = tally(table, f"{name}.status")
    return ModelReport(
        name=name,
        roles=tuple(sorted(parts)),
        summary=summary,
        statuses={status.value: statuses.get(status.value, 0) for status in Status},
        decisions=len(table) - table[f"{name}.role"].null_count,
        artefacts=tuple(tally(table, f"{name}.artefact")),
        confidences=confidence_counts(frame, name),
    )


def _charts(
    frame: Frame,
    bars: dict[str, BarSeries],
    sample: Sample | None,
    judged: str | None,
    weight: float,
    verdict: Verdict | None,
) -> Charts:
    busiest = sorted(frame.names, key=lambda name: -_intents(frame, name))
    drawn = sorted(busiest[:PRICE_SYMBOLS])
    prices = [price_view(frame, bars[name], PRICE_DAYS) for name in drawn]
    whole = None
    if sample is not None and verdict is not None:
        policy = verdict.whole.policy if verdict.whole else WHOLE
        whole = whole_view(sample, verdict, frame.names, int(frame.ts_open[0]), frame.interval, policy)
    return Charts(
        agreement=agreement_view(frame),
        shares=shares_view(frame),
        prices=tuple(view for view in prices if view is not None),
        prices_left_out=len(busiest) - len(drawn),
        reliability=reliability_view(frame, judged) if judged else None,
        whole=whole,
        flips=counterfactual(frame, judged, weight) if judged else None,
    )


def _intents(frame: Frame, symbol: str) -> int:
    return int(((frame.symbol == frame.names.index(symbol)) & (frame.action != 0)).sum())


def shadow_of(table: pa.Table) -> str | None:
    """The model to judge by default: the first, in the order of every breakdown, that was only ever a shadow."""
    parts = roles(table)
    return next((model for model in MODELS if parts.get(model) == {Role.SHADOW.value}), None)
