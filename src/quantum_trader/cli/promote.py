"""`quantum promote` and `quantum weight`: a vote, and more or less of it, by a verdict that holds."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.finish import Finish
from quantum_trader.cli.run import ConfigFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from quantum_trader.release.influence import Deed, Ground
    from quantum_trader.release.verdict_report import Report
    from quantum_trader.settings import Settings

EXIT_REFUSED = 6

Model = Annotated[str, typer.Argument(help="xgb, lgbm, nhits or patchtst.")]
EnvFile = Annotated[Path, typer.Option("--env-file", help="The engine's env file; it is changed.")]
VerdictFile = Annotated[Path | None, typer.Option("--verdict", help="Output of `quantum gates --json`.")]
Override = Annotated[
    str, typer.Option("--override", metavar="REASON", help="Do it against the rules; recorded and shown for ever.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Restart the engine at once, with the setting's command.")]


def promote(
    model: Model,
    env_file: EnvFile = Path("ai-engine.env"),
    weight: Annotated[float | None, typer.Option(help="Weight to begin with; the ramp's first step.")] = None,
    verdict: VerdictFile = None,
    override: Override = "",
    restart: Restart = False,
    config: ConfigFiles = [],  # noqa: B006
) -> None:
    """Give a shadow its vote, if a PROMOTE verdict of the registered policy says so; else say what speaks against it.

    The verdict has to be whole (sections A to D), about the artefact that runs, and fresh. The grant and the promotion
    go to the ledger, the flag and the weight to the env file. The vote counts from the engine's next restart on.

    Exit codes: 0 promoted, 6 refused by the rules, 1 any error; nothing is changed then.
    """
    from quantum_trader.core.roles import asks_for_vote
    from quantum_trader.release import influence, promotion

    case = _Case(model, env_file, config, verdict, override)
    start = case.settings.weight_ramp[0] if weight is None else weight
    if asks_for_vote(case.settings.models[model].shadow_only):
        raise _refused(f"{model.upper()}_SHADOW_ONLY is false already; `quantum weight` changes a voter's weight")
    against = case.objections()
    against += promotion.first_weight(start, case.settings.weight_ramp)
    deed = case.deed(against, f"verdict {case.report.digest[:16]}" if case.report else "")
    checked = case.check_of("false", start)
    influence.promote(case.place, deed, start, case.ground(override=bool(against)), check=checked)
    case.keep_report()
    case.finish("promote", deed, f"{model} {case.running[:16]} is promoted with weight {start:g}", restart)


def weight(
    model: Model,
    value: Annotated[float, typer.Argument(metavar="WEIGHT", help="New nominal weight.")],
    env_file: EnvFile = Path("ai-engine.env"),
    verdict: VerdictFile = None,
    override: Override = "",
    restart: Restart = False,
    config: ConfigFiles = [],  # noqa: B006
) -> None:
    """Change a voter's weight: down at any time, up by one step of the ramp and with a verdict.

    A step up needs a fresh PROMOTE verdict, or the watch's KEEP at the present weight. Never above the ramp's end, not
    even with --override.

    Exit codes: 0 changed, 6 refused by the rules, 1 any error; nothing is changed then.
    """
    from quantum_trader.core.roles import asks_for_vote
    from quantum_trader.release import influence, promotion

    case = _Case(model, env_file, config, verdict, override)
    if not asks_for_vote(case.settings.models[model].shadow_only):
        raise _refused(f"{model} does not vote: its weight counts from its promotion on")
    now, ramp = case.settings.vote_policy().weights[model], case.settings.weight_ramp
    never = [] if 0 < value <= max(ramp[-1], now) and value != now else promotion.next_weight(now, value, ramp)
    if never:
        raise _refused(never[0])
    against = promotion.next_weight(now, value, ramp)
    if value > now and not promotion.kept(model, case.running, now, case.entries, case.candidate):
        against += case.objections()
    by_what = (
        f"verdict {case.report.digest[:16]}" if case.report else "the watch's KEEP" if value > now else "downwards"
    )
    deed = case.deed(against, by_what)
    influence.change_weight(case.place, deed, now, value, check=case.check_of("false", value))
    case.keep_report()
    case.finish("weight", deed, f"the weight of {model} goes from {now:g} to {value:g}", restart)


class _Case:
    """What both verbs read, check and leave behind."""

    def __init__(self, model: str, env_file: Path, config: list[Path], verdict: Path | None, override: str) -> None:
        from quantum_trader.clock import now_ms
        from quantum_trader.core.errors import ConfigError
        from quantum_trader.core.predictions import MODELS
        from quantum_trader.models.artefact import load_artefact
        from quantum_trader.release.influence import Place
        from quantum_trader.release.ledger import read_entries
        from quantum_trader.release.promotion import Candidate
        from quantum_trader.release.verdict_report import read_report

        if model not in MODELS:
            raise ConfigError(f"model {model!r}: unknown, expected one of {', '.join(MODELS)}")
        self._config = config
        self.place = Place(Path(), env_file)
        self.settings: Settings = self._load()
        self.model, self._override = model, override.strip()
        folder = self.settings.models[model].model_path
        if folder is None:
            raise ConfigError(f"{model.upper()}_MODEL_PATH is not set in {env_file}: there is no artefact to speak of")
        artefact = load_artefact(folder)
        if not artefact.manifest.schema_known:
            raise ConfigError(f"artefact {folder}: imported, its feature schema is unknown; shadow only")
        self.running: str = artefact.digest
        self.place = Place(self.settings.ledger, env_file, self.settings.signing_key)
        self.entries = read_entries(self.settings.ledger)
        read = None if verdict is None else read_report(verdict)
        self.report: Report | None = None if read is None else read[0]
        self._raw = b"" if read is None else read[1]
        max_age = int(self.settings.verdict_max_age_hours * 3_600_000)
        self.candidate = Candidate(model, self.running, now_ms(), max_age)
        self._console = _console()

    def _load(self) -> "Settings":
        """As the engine's service reads them: what stands in this shell says nothing of the engine."""
        from quantum_trader.settings import load_settings

        return load_settings(self._config, self.place.env_file, {})

    def objections(self) -> list[str]:
        """What speaks against it, by the verdict and by what really runs."""
        from quantum_trader.release.promotion import objections

        found = self._of_what_runs()
        if self.report is None:
            return [*found, "there is no verdict: give --verdict FILE, the output of `quantum gates --json`"]
        return [*found, *objections(self.report, self.candidate, self.entries)]

    def deed(self, against: list[str], ground: str) -> "Deed":
        """What is to be done, with who, when and why; ends here where the rules do not allow it."""
        from quantum_trader.clock import now_utc
        from quantum_trader.release.influence import Deed

        if against and not self._override:
            for phrase in against:
                self._console.print(f"  - {phrase}", markup=False)
            raise _refused(f"{self.model} is not changed: {against[0]}")
        content = self.report.content if self.report else None
        facts = {"objections": "; ".join(against)} if against else {}
        if self.report is not None and content is not None:
            facts |= {"verdict": self.report.digest, "policy": content.policy_digest}
            facts |= {"block_mean": repr(content.block_mean), "window_end_ms": str(self.report.window_end)}
        reason = f"override: {self._override}" if against else ground
        at = now_utc().isoformat(timespec="milliseconds")
        return Deed(model=self.model, artefact=self.running, at=at, by=getpass.getuser(), reason=reason, facts=facts)

    def ground(self, *, override: bool) -> "Ground":
        """What a vote is granted for, with the verdict's own entry where it holds and the ledger does not have it."""
        from quantum_trader.release.influence import Ground
        from quantum_trader.release.ledger_entries import Verdict

        report = self.report
        if report is None:
            return Ground("", None, override)
        known = {entry.detail.report for entry in self.entries if isinstance(entry.detail, Verdict)}
        if override or report.digest in known:
            return Ground(report.digest, None, override)
        content = report.content
        entry = Verdict(
            model=content.model,
            artefact=content.artefact,
            state=content.state,
            policy=content.policy_digest,
            window_start=report.window_start,
            window_end=report.window_end,
            report=report.digest,
        )
        return Ground(report.digest, entry, override)

    def check_of(self, flag: str, weight: float) -> "Callable[[], None]":
        """Says whether settings read again have a flag and a weight; a TOML file may have another word."""

        def check() -> None:
            from quantum_trader.core.errors import ConfigError

            now = self._load()
            if (now.models[self.model].shadow_only, now.vote_policy().weights[self.model]) != (flag, weight):
                raise ConfigError(f"env file {self.place.env_file}: flag or weight of {self.model} has no effect there")

        return check

    def keep_report(self) -> None:
        """Keep the verdict beside the ledger, named by its digest: the watch reads what it promised."""
        from quantum_trader.release.verdict_store import keep

        if self._raw:
            keep(self.place.ledger, self._raw)

    def finish(self, kind: str, deed: "Deed", said: str, restart: bool) -> None:
        """Say what was done, on the lifecycle stream too, and restart the engine if that was asked for."""
        from quantum_trader.cli.service_control import announce, call

        self._console.print(said, markup=False)
        if "objections" in deed.facts:
            self._console.print(f"OVERRIDE, recorded for ever: {deed.facts['objections']}", markup=False)
        detail = {"model": self.model, "artefact": self.running, "by": deed.by, "reason": deed.reason, "said": said}
        problem = announce(self.settings, kind, detail)
        if problem:
            self._console.print(f"not published on model.lifecycle: {problem}", markup=False)
        if restart:
            call(self.settings.restart_command)
            self._console.print("the engine was restarted", markup=False)
        else:
            self._console.print("it takes effect at the engine's next restart (--restart does that)", markup=False)

    def _of_what_runs(self) -> list[str]:
        """The newest decision in the stream names another artefact; a stream that is away says nothing."""
        from contextlib import closing

        from quantum_trader.bus.client import connect
        from quantum_trader.bus.names import StreamNames
        from quantum_trader.bus.overview import read_overview
        from quantum_trader.core.errors import QuantumError

        settings = self.settings
        try:
            with closing(connect(settings.redis_url)) as client:
                names = StreamNames(settings.stream_prefix)
                overview = read_overview(client, names, settings.group, settings.symbols)
        except QuantumError as error:
            self._console.print(f"not compared with what runs: {error}", markup=False)
            return []
        said = next((answer.artefact for answer in overview.answers if answer.model == self.model), None)
        if said is None:
            return [f"{self.model} took no part in the newest decision: it does not run"]
        if said != self.running:
            return [f"the engine runs {said[:16] or 'no artefact'}, the env file names {self.running[:16]}"]
        return []


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _refused(text: str) -> Finish:
    _console().print(f"refused: {text}", markup=False)
    return Finish(EXIT_REFUSED)
