"""`quantum watch`: after a promotion, is the model still what it was promoted for? If not, it is demoted at once."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantum_trader.cli.finish import Finish
from quantum_trader.cli.run import ConfigFiles

if TYPE_CHECKING:
    from quantum_trader.archive.aftermath import Aftermath
    from quantum_trader.gates.watch import WatchVerdict
    from quantum_trader.gates.whole_policy import Policy
    from quantum_trader.release.influence import Deed
    from quantum_trader.release.watching import OpenWatch
    from quantum_trader.settings import Settings

EXIT_LOOK, EXIT_DEMOTED = 5, 7
INSUFFICIENT = "INSUFFICIENT"

LOOK_BACK_MS = 8 * 86_400_000
"""Decisions before the promotion that are read: as many as a stream keeps."""

SILENT_BARS = 3
"""A watch without a decision for so many bars sees nothing."""


def watch(
    once: Annotated[bool, typer.Option("--once", help="Look once and end, as a timer calls it.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Without --once: seconds between two looks.")] = 60.0,
    env_file: Annotated[Path, typer.Option("--env-file", help="The engine's env file; a demotion changes it.")] = Path(
        "ai-engine.env"
    ),
    config: ConfigFiles = [],  # noqa: B006
) -> None:
    """Look at every promoted model that is still watched; demote it at once where something broke.

    A look compares decisions and bars since the promotion with as much time before: the CUSUM of the model's blocks,
    consensus, agreement, contention, failed answers, latency. A breach sets the flag to shadow, revokes the grant,
    reloads the engine and alerts. KEEP and DEMOTE are written to the ledger. Without decisions it says INSUFFICIENT.

    Exit codes: 0 nothing is wrong, 5 a watch sees too little, 7 a model was demoted, 1 any error.
    """
    from quantum_trader.settings import load_settings

    while True:
        code = _look(load_settings(config, env_file, {}), env_file)
        if once:
            break
        time.sleep(every)
    if code:
        raise Finish(code)


def _look(settings: "Settings", env_file: Path) -> int:
    """One look at every open watch; the exit code."""
    from quantum_trader.release.ledger import read_entries
    from quantum_trader.release.watching import open_watches

    watches = open_watches(read_entries(settings.ledger))
    if not watches:
        typer.echo("nothing is watched: no promotion is open")
    codes = [_Watching(settings, env_file, each).look() for each in watches]
    return max(codes, default=0)


class _Watching:
    """One open watch."""

    def __init__(self, settings: "Settings", env_file: Path, watched: "OpenWatch") -> None:
        self._settings, self._env_file, self._watched = settings, env_file, watched

    def look(self) -> int:
        """Look once, and do what follows from it."""
        from quantum_trader.core.errors import QuantumError
        from quantum_trader.gates.watch import WatchState

        try:
            blind, verdict = self._verdict()
        except QuantumError as error:
            blind, verdict = str(error), None
        if verdict is not None and verdict.state is WatchState.DEMOTE:
            return self._demote(verdict)
        if verdict is None or blind:
            self._say(INSUFFICIENT, f"{INSUFFICIENT}: {blind}; nothing is concluded")
            return EXIT_LOOK
        if verdict.state is WatchState.KEEP:
            self._keep(verdict)
        else:
            self._say(verdict.state.value, verdict.summary)
        return 0

    def _verdict(self) -> "tuple[str, WatchVerdict | None]":
        """What stands in the way of a conclusion, and the verdict where there are decisions."""
        from quantum_trader.gates.watch import watch as judge

        policy, seen = self._policy(), self._aftermath()
        if not seen.bars:
            return "no decision has been taken with its vote: was the engine restarted?", None
        rules = policy.watch
        verdict = judge(
            *(seen.x, self._watched.block_mean, seen.before, seen.after, seen.bars, rules),
            policy.evidence.block_bars,
        )
        blind = seen.faults[0] if seen.faults else self._silence(seen)
        return blind or self._unguarded(verdict), verdict

    def _silence(self, seen: "Aftermath") -> str:
        """The stream's own newest decision is the measure, by this machine's clock."""
        from quantum_trader.clock import now_ms

        if seen.age_ms(now_ms()) <= SILENT_BARS * seen.interval_ms:
            return ""
        return f"no decision for {seen.age_ms(now_ms()) / 60_000:.1f} minutes"

    @staticmethod
    def _unguarded(verdict: "WatchVerdict") -> str:
        """A watch does not end well while a line could not be judged."""
        from quantum_trader.gates.result import GateState
        from quantum_trader.gates.watch import WatchState

        unclear = [line.reason for line in verdict.lines if line.state is GateState.INSUFFICIENT]
        return unclear[0] if unclear and verdict.state is WatchState.KEEP else ""

    def _policy(self) -> "Policy":
        """That of the promoting verdict."""
        import msgspec

        from quantum_trader.gates.whole_policy import WHOLE, Policy
        from quantum_trader.release.verdict_store import kept

        if not self._watched.verdict:
            return WHOLE
        content = msgspec.json.decode(kept(self._settings.ledger, self._watched.verdict))
        return Policy.from_mapping(content["policy"])

    def _aftermath(self) -> "Aftermath":
        from contextlib import closing

        from quantum_trader.archive.aftermath import aftermath
        from quantum_trader.archive.columns import to_table
        from quantum_trader.bus.client import connect
        from quantum_trader.bus.names import StreamNames
        from quantum_trader.bus.reader import DecisionReader
        from quantum_trader.core.bars import Bar, BarSeries

        watched, settings = self._watched, self._settings
        with closing(connect(settings.redis_url)) as client:
            reader = DecisionReader(client, StreamNames(settings.stream_prefix))
            with closing(reader):
                records = list(reader.since(watched.since_ms - LOOK_BACK_MS))
                first = min((record.decision.ts_open for record in records), default=0)
                interval = records[0].decision.ts_close - records[0].decision.ts_open if records else 0
                found: dict[str, dict[int, Bar]] = {}
                for bar in reader.bars(settings.timeframe, first - interval) if records else ():
                    found.setdefault(bar.symbol, {})[bar.ts_open] = bar
        series = {s: BarSeries.from_bars([held[ts] for ts in sorted(held)]) for s, held in found.items()}
        records.sort(key=lambda record: (record.decision.ts_open, record.decision.symbol))
        who = (watched.model, watched.artefact, watched.weight)
        return aftermath(to_table(records), series, who, watched.since_ms, self._policy())

    def _keep(self, verdict: "WatchVerdict") -> None:
        from quantum_trader.release.appending import append
        from quantum_trader.release.influence import watched_entry

        deed = self._deed(verdict.summary, self._facts(verdict))
        append(
            self._settings.ledger,
            [deed.entry(watched_entry(deed, self._watched.weight))],
            self._settings.signing_key,
        )
        self._say(verdict.state.value, verdict.summary, ends=True)

    def _demote(self, verdict: "WatchVerdict") -> int:
        """Flag, grant and reload are local; who cannot be told is not waited for."""
        from quantum_trader.cli.service_control import call
        from quantum_trader.core.errors import QuantumError
        from quantum_trader.release.influence import Place, demote, watched_entry

        deed = self._deed(verdict.summary, self._facts(verdict))
        place = Place(self._settings.ledger, self._env_file, self._settings.signing_key)
        problems = demote(place, deed, self._watched.weight, watched_entry(deed, self._watched.weight))
        try:
            call(self._settings.reload_command)
        except QuantumError as error:
            problems.append(f"not reloaded: {error}")
            try:
                call(self._settings.restart_command)
            except QuantumError as again:
                problems.append(f"not restarted: {again}; it votes until the engine is")
        self._say(verdict.state.value, "; ".join([verdict.summary, *problems]), ends=True)
        return EXIT_DEMOTED

    def _deed(self, reason: str, facts: Mapping[str, str]) -> "Deed":
        from quantum_trader.clock import now_utc
        from quantum_trader.release.influence import Deed

        at = now_utc().isoformat(timespec="milliseconds")
        watched = self._watched
        return Deed(
            model=watched.model, artefact=watched.artefact, at=at, by="quantum watch", reason=reason, facts=dict(facts)
        )

    def _facts(self, verdict: "WatchVerdict") -> dict[str, str]:
        lines = {line.name.lower(): f"{line.state.value}: {line.reason}" for line in verdict.lines}
        return {"state": verdict.state.value, "bars": str(verdict.bars), "verdict": self._watched.verdict, **lines}

    def _say(self, state: str, text: str, *, ends: bool = False) -> None:
        """On the terminal always; to people and the lifecycle stream when it is another state than at the last look."""
        from quantum_trader.cli.service_control import announce
        from quantum_trader.release.alerts import alert, is_news

        watched = self._watched
        typer.echo(f"{watched.model} {watched.artefact[:16]}: {text}")
        if not is_news(self._settings.ledger, watched.model, f"{watched.since_ms} {state}") and not ends:
            return
        detail = {"model": watched.model, "artefact": watched.artefact, "state": state, "said": text}
        problems: Sequence[str] = [announce(self._settings, "watch", detail)]
        if state != "WATCHING":
            urls = [url.get_secret_value() for url in self._settings.alert_urls]
            problems = [*problems, *alert(urls, f"{watched.model}: {state}", text)]
        for problem in problems:
            if problem:
                typer.echo(f"not told to everybody: {problem}", err=True)
