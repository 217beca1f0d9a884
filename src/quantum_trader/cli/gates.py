"""`quantum gates` and `quantum report`: judge a shadow by what it said and what the market then did."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantum_trader.cli.evidence import Bars, Decisions, Hours, Model, Since
from quantum_trader.cli.finish import Finish
from quantum_trader.cli.policies import Models, PolicyName, Version
from quantum_trader.cli.run import ConfigFiles, EnvFile

if TYPE_CHECKING:
    from quantum_trader.cli.evidence import Evidence
    from quantum_trader.gates.policy import ContractPolicy
    from quantum_trader.gates.verdict import Verdict
    from quantum_trader.gates.whole_policy import Policy
    from quantum_trader.report.model import ReportData
    from quantum_trader.settings import Settings


def gates(
    hours: Hours = None,
    since: Since = "",
    decisions: Decisions = None,
    bars: Bars = None,
    model: Model = "",
    policy: PolicyName = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole verdict as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write the report as one HTML file.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with the stream: a line for every cycle.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say how long a verdict will take; needs no data.")] = False,
    symbols: Annotated[int | None, typer.Option(min=1, help="--plan: symbols; else those of the settings.")] = None,
    timeframe: Annotated[str, typer.Option(help="--plan: length of a bar; else that of the settings.")] = "",
    share: Annotated[float, typer.Option(help="--plan: share of bars with a decision.")] = 1.0,
    accuracy: Annotated[list[float], typer.Option(help="--plan: share of right directions; .53, .54, .55.")] = [],  # noqa: B006
    models: Models = None,
    version_of_lineage: Version = None,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Judge a shadow: the contract's four gates, vetoes, evidence, and what its vote would have done.

    Read the stream with --hours 168 or --since 2026-01-10, or files with --decisions DIR --bars FILE. The verdict is
    taken at the last complete cycle's end. --follow goes on with the stream and ends at PROMOTE, or with Ctrl-C.

    Exit codes: 0 PROMOTE, 2 REJECT, 3 HOLD, 4 INVALID, 1 any error.
    """
    from quantum_trader.cli.evidence import Source
    from quantum_trader.cli.policies import read_policy
    from quantum_trader.settings import load_settings

    chosen, settings = read_policy(policy), load_settings(config, env_file)
    if plan:
        from quantum_trader.cli.plan import show_plan

        rules = _whole(chosen, "--plan")
        cadence: dict[str, Any] = {"symbols": symbols, "timeframe": timeframe, "share": share, "accuracies": accuracy}
        show_plan(settings, rules, **cadence, version=version_of_lineage, as_json=as_json)
        return
    if follow:
        from quantum_trader.cli.follow import follow_stream

        if decisions or bars or html:
            raise _refused("--follow reads the stream; it takes neither --decisions, --bars nor --html")
        where = Source(hours, since, None, None).since_ms() if hours or since else 0
        raise Finish(
            follow_stream(settings, where, model, _whole(chosen, "--follow"), models, version_of_lineage, as_json)
        )
    judged = judge_evidence(
        Source(hours, since, decisions, bars).read(settings), model, chosen, models, version_of_lineage, settings
    )
    _tell(judged, f"Verdict on {judged.model}", as_json, html)
    raise Finish(judged.verdict.exit_code)


def report(
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    hours: Hours = None,
    since: Since = "",
    decisions: Decisions = None,
    bars: Bars = None,
    model: Model = "",
    policy: PolicyName = "default",
    models: Models = None,
    version_of_lineage: Version = None,
    config: ConfigFiles = [],  # noqa: B006
    env_file: EnvFile = None,
) -> None:
    """Draw one self-contained HTML file: the whole verdict, evidence, reliability, agreement, flips, prices."""
    from rich.console import Console

    from quantum_trader.cli.evidence import Source
    from quantum_trader.cli.policies import read_policy
    from quantum_trader.report.html import write_html
    from quantum_trader.settings import load_settings

    chosen, settings = read_policy(policy), load_settings(config, env_file)
    evidence = Source(hours, since, decisions, bars).read(settings)
    judged = judge_evidence(evidence, model, chosen, models, version_of_lineage, settings)
    title = f"{judged.model} in shadow" if decisions is None else f"{judged.model} in {decisions}"
    write_html(judged.report(title), out)
    Console(highlight=False).print(f"report in {out}")


class Judged:
    """A verdict with what it was taken from."""

    def __init__(
        self,
        model: str,
        verdict: "Verdict",
        evidence: "Evidence",
        weight: float,
        about: dict[str, Any],
        notes: list[str],
    ) -> None:
        self.model, self.verdict, self._evidence, self._weight = model, verdict, evidence, weight
        self.about, self.notes = about, notes

    def report(self, title: str) -> "ReportData":
        """The report's content."""
        from quantum_trader.report.model import build_report

        return build_report(
            *(self._evidence.table, self._evidence.bars, self.model),
            simulated=self._evidence.simulated,
            title=title,
            verdict=self.verdict,
            weight=self._weight,
            notes=self.notes,
        )


def judge_evidence(
    evidence: "Evidence",
    model: str,
    policy: "Policy | ContractPolicy",
    models: Path | None,
    version: int | None,
    settings: "Settings",
) -> Judged:
    """The verdict on a model: over all sections on a shadow, over the contract alone on a voter or by the plain rule.

    Raises:
        QuantumError: if decisions and bars do not match, or the model took no part.
    """
    from quantum_trader.archive.case import case_of, judge_case
    from quantum_trader.archive.join import roles
    from quantum_trader.cli.evidence import judged_model
    from quantum_trader.cli.policies import version_of
    from quantum_trader.cli.registered import departures
    from quantum_trader.core.predictions import DISPLAY_NAMES, Role
    from quantum_trader.gates.policy import ContractPolicy
    from quantum_trader.report.model import take_verdict

    name = judged_model(evidence.table, model)
    weight = settings.vote_policy().weights[name]
    votes = roles(evidence.table)[name] == {Role.VOTER.value}
    if votes or isinstance(policy, ContractPolicy):
        verdict = take_verdict(evidence.table, evidence.bars, name, policy, weight)
        notes = [f"{DISPLAY_NAMES[name]} votes in these decisions: only the contract is judged."] if votes else []
        return Judged(name, verdict, evidence, weight, {}, notes)
    case = case_of(evidence.table, evidence.bars, name, weight)
    number, told = version_of(name, case.artefact, version, models, settings)
    departed, said = departures(settings, evidence.table, name, case.artefact, policy)
    about = {
        "window": {"ts_first": case.ts_first, "bar_ms": case.bar_ms, "symbols": list(case.symbols)},
        "voters": dict(zip(case.voters, case.panel.electorate.weights, strict=True)),
        "min_consensus": case.panel.electorate.min_consensus,
        "weight": weight,
        "artefact": case.artefact,
    }
    verdict = judge_case(case, policy, version=number, faults=(*evidence.faults, *departed))
    return Judged(name, verdict, evidence, weight, about, [*case.notes, *told, *said])


def _tell(judged: Judged, title: str, as_json: bool, html: Path | None) -> None:
    """Print the verdict, and write the page before that: what is printed last is the end."""
    if html is not None:
        from quantum_trader.report.html import write_html

        write_html(judged.report(judged.model + " in shadow"), html)
    if as_json:
        content = {"model": judged.model, **judged.about, **judged.verdict.to_dict(), "remarks": judged.notes}
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
        return
    from rich.console import Console

    from quantum_trader.report.terminal import summary

    console = Console(highlight=False)
    console.print(summary(judged.report(title)))
    if html is not None:
        console.print(f"report in {html}")


def _whole(policy: "Policy | ContractPolicy", option: str) -> "Policy":
    from quantum_trader.gates.policy import ContractPolicy

    if isinstance(policy, ContractPolicy):
        raise _refused(f"{option} is of the whole verdict; --policy legacy is the contract's plain rule alone")
    return policy


def _refused(text: str) -> Exception:
    from quantum_trader.core.errors import ConfigError

    return ConfigError(text)
