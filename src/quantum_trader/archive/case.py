"""What one verdict reads: a model's decisions and the bars as a sample and a panel, and the verdict itself.

- The window goes from the first decision in which the model took part to the last bar that every symbol has decided.
  A last bar that only some symbols have decided is still being decided, and left out.
- What the window's decisions and bars contradict each other in is in `window`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from quantum_trader.archive.codes import codes, column
from quantum_trader.archive.join import bar_length
from quantum_trader.archive.window import Join, plays
from quantum_trader.core.bars import BarSeries
from quantum_trader.core.errors import ConfigError, format_ms
from quantum_trader.core.predictions import DISPLAY_NAMES, Role
from quantum_trader.gates.judge import judge
from quantum_trader.gates.panel import Panel
from quantum_trader.gates.sample import Sample
from quantum_trader.gates.verdict import Verdict
from quantum_trader.gates.whole_policy import WHOLE, Policy


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Everything that one verdict reads.

    Attributes:
        model: Short name of the judged model.
        voters: Short names, in the electorate's order.
        symbols: Names, in the order of their indices.
        ts_first: Open of the window's first bar, milliseconds since the epoch.
        bar_ms: Length of a bar.
        artefact: Digest of the judged artefact; empty where it never could be loaded.
        sample: The judged model's events.
        panel: The voters at these events, and the prices.
        faults: What is wrong, a sentence each, besides the faults of sample and panel.
        notes: What was left out, a sentence each.
    """

    model: str
    voters: tuple[str, ...]
    symbols: tuple[str, ...]
    ts_first: int
    bar_ms: int
    artefact: str
    sample: Sample
    panel: Panel
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def case_of(table: pa.Table, bars: Mapping[str, BarSeries], model: str, shadow_weight: float) -> Case:
    """The case of a model that watched from the shadow.

    Args:
        table: Decisions in the archive's schema, in any order.
        bars: Bars by symbol; one before the window gives its first return.
        model: Short name of the judged model.
        shadow_weight: The weight that it would have, were it a voter.

    Raises:
        ConfigError: if there is no decision, bars and decisions do not match, or the model never watched.
    """
    interval = bar_length(table, dict(bars))
    shadow = plays(table, model, Role.SHADOW)
    if not shadow.any():
        raise ConfigError(f"model {model}: it never was in shadow in these decisions; only a shadow is judged")
    ts_open = column(table, "ts_open")
    begins = int(ts_open[shadow | plays(table, model, Role.VOTER)].min())
    kept = ts_open >= begins
    notes = []
    if not kept.all():
        left = int((~kept).sum())
        notes.append(f"{left:,} decisions before {format_ms(begins)}, without {model}, are left out.")
        table, ts_open = table.filter(pa.array(kept)), ts_open[kept]
    join = Join(model, codes(table, "symbol")[0], int(ts_open.min()), interval, shadow_weight)
    end = join.bar_of(int(ts_open.max())) + 1
    if end > 1 and not join.decided(table, bars, end - 1):
        notes.append(f"The bar of {format_ms(int(ts_open.max()))} is not decided by every symbol yet; it is left out.")
        end -= 1
    portion = join.portion(table, bars, end)
    return Case(
        model=model,
        voters=join.voters,
        symbols=join.symbols,
        ts_first=join.ts_first,
        bar_ms=interval,
        artefact=join.artefact,
        sample=portion.sample,
        panel=portion.panel,
        faults=portion.faults,
        notes=tuple(notes),
    )


def judge_case(
    case: Case,
    policy: Policy = WHOLE,
    recorded_digest: str | None = None,
    *,
    version: int | None = None,
    faults: Sequence[str] = (),
) -> Verdict:
    """The whole verdict on a case.

    Args:
        case: From `case_of`.
        policy: Thresholds.
        recorded_digest: Of the policy, as recorded before the window; any other policy makes the verdict INVALID.
        version: Of the model in its lineage; None where it is not known.
        faults: What was found wrong elsewhere, a sentence each.
    """
    return judge(
        *(case.sample, case.panel, policy, recorded_digest),
        version=version,
        symbols=case.symbols,
        voters=[DISPLAY_NAMES[name] for name in case.voters],
        bar_ms=case.bar_ms,
        faults=(*faults, *case.faults),
    )
