"""`quantum counterfactual`: recorded decisions voted on again under other weights, another quorum, other thresholds."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantum_trader.cli.evidence import Bars, Decisions, Hours, Since
from quantum_trader.cli.run import ConfigFiles, EnvFile

if TYPE_CHECKING:
    from quantum_trader.report.flips import Flips
    from quantum_trader.report.revote import Ballot

_NUMBERS = "such as patchtst=0.2,xgb=0.3"


def counterfactual(
    weights: Annotated[str, typer.Option(help=f"Weights of the vote, {_NUMBERS}; 0 takes a vote away.")] = "",
    min_consensus: Annotated[int | None, typer.Option(help="Voters that must agree for BUY or SELL.")] = None,
    buy_above: Annotated[str, typer.Option(help="p_up from which on a model says BUY, such as xgb=0.55.")] = "",
    sell_below: Annotated[str, typer.Option(help="p_up up to which a model says SELL, such as xgb=0.45.")] = "",
    hours: Hours = None,
    since: Since = "",
    decisions: Decisions = None,
    bars: Bars = None,
    cost: Annotated[float, typer.Option(min=0.0, help="Per unit of turnover, as a log return.")] = 0.0002,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Vote again on recorded decisions: which would have been another, and what would the others have earned?

    What is not named stays as recorded: a voter keeps its weight, a shadow has none. First the recorded rules must give
    every recorded decision again, to the last bit, and the records must be those that were written: digests and chain
    hold. Nothing of it reaches the engine.

    Flips compare actions only. A vote for another action than the recorded one weighs that side's calibrated
    probability where one was recorded, else what the model stated.
    """
    from quantum_trader.archive.store import in_order
    from quantum_trader.cli.evidence import Source
    from quantum_trader.core.errors import ConfigError, QuantumError
    from quantum_trader.report.flips import compare
    from quantum_trader.report.frame import Frame
    from quantum_trader.report.revote import Ballot, differing
    from quantum_trader.settings import load_settings

    ballot = Ballot(
        by_model("--weights", weights),
        min_consensus,
        by_model("--buy-above", buy_above),
        by_model("--sell-below", sell_below),
    )
    if ballot == Ballot():
        raise ConfigError("nothing to change: give --weights, --min-consensus, --buy-above or --sell-below")
    evidence = Source(hours, since, decisions, bars).read(load_settings(config, env_file))
    table = in_order(evidence.table)
    frame = Frame.of(table, evidence.bars)
    problem = differing(table, frame)
    if problem is not None:
        raise QuantumError(f"the recorded decisions are not the vote of their records: {problem}")
    # The vote alone reads no probability, thresholds do; and a shadow's answers stand in no decision's digest.
    if evidence.faults:
        raise QuantumError(f"the decisions are not what was recorded: {evidence.faults[0]}")
    flips = compare(frame, ballot, cost)
    if as_json:
        typer.echo(json.dumps(_content(ballot, flips), indent=2, allow_nan=False))
    else:
        _print(ballot, flips)


def by_model(option: str, text: str) -> dict[str, float]:
    """A list such as ``patchtst=0.2,xgb=0.3`` as numbers by model.

    Raises:
        ConfigError: if an item has another form, or names a model twice.

    >>> by_model("--weights", "patchtst=0.2, xgb=0")
    {'patchtst': 0.2, 'xgb': 0.0}
    """
    from quantum_trader.core.errors import ConfigError

    found: dict[str, float] = {}
    for item in (part.strip() for part in text.split(",") if part.strip()):
        name, _, number = (part.strip() for part in item.partition("="))
        try:
            value = float(number)
        except ValueError:
            raise ConfigError(f"{option} {item!r}: expected a model and a number, {_NUMBERS}") from None
        if name in found:
            raise ConfigError(f"{option}: {name} is named twice")
        found[name] = value
    return found


def _content(ballot: "Ballot", flips: "Flips") -> dict[str, Any]:
    from quantum_trader.gates.result import finite
    from quantum_trader.report.words import Z95

    def money(pnl: float, se: float) -> dict[str, float]:
        return {"pnl": pnl, "se": se, "low": pnl - Z95 * se, "high": pnl + Z95 * se}

    directions = [
        {"before": d.before, "after": d.after, "count": d.count, "settled": d.settled, **money(d.pnl, d.se)}
        for d in flips.directions
    ]
    return finite(
        {
            "weights": dict(ballot.weights),
            "min_consensus": ballot.min_consensus,
            "buy_above": dict(ballot.buy_above),
            "sell_below": dict(ballot.sell_below),
            "cost": flips.cost,
            "decisions": flips.decisions,
            "reproduced": flips.decisions,
            "flipped": flips.flipped,
            "settled": flips.settled,
            "total": money(flips.total, flips.total_se),
            "per_flip": {"mean": flips.per_flip.value, "se": flips.per_flip.se},
            "directions": directions,
            "matrix": flips.matrix.tolist(),
            "consensus": [{"agreeing": k, "before": b, "after": a} for k, b, a in flips.consensus],
        }
    )


def _print(ballot: "Ballot", flips: "Flips") -> None:
    from quantum_trader.cli.screen import table_console
    from quantum_trader.report.terminal import directions_table, votes_table
    from quantum_trader.report.words import basis_points, basis_points_se, interval, percent

    console = table_console()
    share = percent(flips.flipped / flips.decisions)
    console.print(f"{flips.flipped:,} of {flips.decisions:,} decisions ({share}) would have been another", style="bold")
    console.print(f"under {ballot}. The recorded rules give all {flips.decisions:,} again, to the last bit.")
    if flips.settled:
        console.print(
            f"{flips.settled:,} of the flips have an outcome: together {basis_points(flips.total)} after cost "
            f"(95%: {interval(flips.total, flips.total_se)}), {basis_points_se(flips.per_flip)} each."
        )
    if flips.directions:
        console.print()
        console.print(directions_table(flips))
    console.print()
    console.print(votes_table(flips))
