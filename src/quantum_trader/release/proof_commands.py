"""The fixed list of commands that a proof pack holds: what ran, in which state, and what it said and did."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantum_trader.release.proof_run import Command

LEDGER = "ledger"
DECISIONS, INTENTS, BARS, LIFECYCLE = "decisions", "intents", "bars", "lifecycle"
MODELS = "models"
STREAM = "stream"
UNIT = "unit"

_STATES = (
    *("Id", "LoadState", "ActiveState", "SubState", "Result", "MainPID", "NRestarts", "ExecMainStartTimestamp"),
    *("ActiveEnterTimestamp", "FragmentPath", "UnitFileState", "User", "Type", "WatchdogUSec", "MemoryCurrent"),
)


@dataclass(frozen=True)
class Scene:
    """What the commands are about.

    Attributes:
        quantum: Words that call our command line there.
        settings: Its options that name env and config files.
        unit: The engine's unit.
        since_ms: Excerpts begin here, milliseconds since the epoch.
        until_ms: And end here, exclusive.
        count: How many of the newest intents the proof on the stream judges.
    """

    quantum: Sequence[str]
    settings: Sequence[str]
    unit: str
    since_ms: int
    until_ms: int
    count: int = 20


def commands(scene: Scene) -> list[Command]:
    """The list, in the order in which it runs; the ledger comes last, so that it is the newest."""
    quantum, settings = tuple(scene.quantum), tuple(scene.settings)
    window = ("--since-ms", str(scene.since_ms), "--until-ms", str(scene.until_ms))

    def excerpt(what: str, title: str, suffix: str, *options: str) -> Command:
        return Command(what, title, (*quantum, "proof", "excerpt", what, *options, *settings), suffix)

    return [
        Command("version", "Version of the program", (*quantum, "--version")),
        excerpt("program", "Version, code digest, commit, machine and libraries", "json"),
        Command("system", "Kernel of the host", ("uname", "-srvm")),
        Command("clock", "Clock of the host", ("date", "--utc", "--iso-8601=ns")),
        Command(UNIT, "State of the unit", _unit(scene.unit)),
        Command("journal", "Journal of the unit", _journal(scene)),
        Command("settings", "Resolved settings, secrets hidden", (*quantum, "show-config", *settings), "json"),
        excerpt(MODELS, "Models with roles, digests and manifests", "jsonl"),
        Command("status", "Engine and exact accounting", (*quantum, "status", "--json", *settings), "json"),
        Command(
            STREAM,
            "Proof on the newest events",
            (*quantum, "proof", "stream", "--json", "--count", str(scene.count), *settings),
            "json",
        ),
        excerpt(DECISIONS, "Decisions, as the stream holds them", "jsonl", *window),
        excerpt(INTENTS, "Intents, as the stream holds them", "jsonl", *window),
        excerpt(BARS, "Bars, as the stream holds them", "jsonl", *window),
        excerpt(LIFECYCLE, "Lifecycle events, as the stream holds them", "jsonl", *window),
        Command("audit", "The audit ledger's chain", (*quantum, "audit", "verify", *settings)),
        excerpt(LEDGER, "The audit ledger, whole", "jsonl"),
    ]


def _unit(unit: str) -> tuple[str, ...]:
    return ("systemctl", "show", "--no-pager", f"--property={','.join(_STATES)}", "--", unit)


def _journal(scene: Scene) -> tuple[str, ...]:
    span = (f"--since=@{scene.since_ms // 1000}", f"--until=@{-(-scene.until_ms // 1000)}")
    return ("journalctl", "--no-pager", "--utc", "--output=short-iso-precise", "--lines=2000", *span, "-u", scene.unit)
