"""`quantum rollback`: three ways back, none of which gives anybody more influence than a standing grant allows."""

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantum_trader.cli.deploy import HostName, HostsFile, report_end, show_plan

if TYPE_CHECKING:
    from quantum_trader.release.host import Host
    from quantum_trader.release.host_settings import HostSettings
    from quantum_trader.release.plans import Order, Planned


def rollback(
    model: Annotated[str, typer.Argument(help="xgb, lgbm, nhits or patchtst.")],
    fast: Annotated[bool, typer.Option("--fast", help="To shadow, at once. Never to a vote.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="The artefact that held the last grant before votes again.")
    ] = False,
    nuclear: Annotated[
        bool,
        typer.Option("--nuclear", help="Env file and artefacts as backed up before the deployment, byte for byte."),
    ] = False,
    host: HostName = "local",
    hosts: HostsFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and the diff; change nothing.")] = False,
    reason: Annotated[str, typer.Option(help="Why; stands in the ledger.")] = "rolled back",
) -> None:
    """Go back, in one of three ways; what ran loses its grant in each of them.

    No rollback gives a vote: at most a baseline votes again whose grant still stands. One that fails ends in shadow.
    Nothing of it needs the stream server, the analysis or, on the host itself, a network.

    Exit codes: 0 done and verified, 1 anything else.
    """
    from rich.console import Console

    from quantum_trader.core.errors import ReleaseError
    from quantum_trader.core.predictions import MODELS
    from quantum_trader.release.host_settings import load_host
    from quantum_trader.release.rollout import Rollout

    if model not in MODELS:
        raise ReleaseError(f"model {model!r}: unknown, expected one of {', '.join(MODELS)}")
    ways = [name for name, said in (("fast", fast), ("full", full), ("nuclear", nuclear)) if said]
    if len(ways) != 1:
        raise ReleaseError("say one of --fast, --full and --nuclear")
    settings = load_host(host, hosts)
    console = Console(highlight=False, soft_wrap=True)
    place = settings.connect()

    def say(text: str) -> None:
        console.print(text, markup=False)

    try:
        rollout = Rollout(place, settings, say)
        if not dry_run:
            rollout.install()
            found = rollout.finish_interrupted()
            if found is not None and _is_this(found, ways[0], model):
                # Once more would go one deployment further back than was asked for.
                say(f"transaction {found['id']} is this way back, and it is done")
                return
        planned = _plan(ways[0], model, place, settings, rollout.transactions()[1], reason)
        show_plan(planned, settings.env_file, say)
        if dry_run:
            return
        rollout.submit(planned.plan)
        end = rollout.follow(planned.plan["id"])
        votes = end["result"] == "restored" and _votes(place, settings, model)
    finally:
        place.close()
    _report(end, model, votes=votes)
    after = planned.after
    stands = f"{after.role} {after.artefact[:16]}".rstrip()
    say(f"{model} stands as {stands} on {place.name}; the engine is ready and says so")


def _is_this(found: dict[str, Any], way: str, model: str) -> bool:
    """Whether what was finished first is the very rollback that was asked for, and went through."""
    return (found["kind"], found["model"], found["result"]) == (f"rollback-{way}", model, "done")


def _plan(
    way: str, model: str, host: "Host", settings: "HostSettings", transactions: list[dict[str, Any]], reason: str
) -> "Planned":
    from quantum_trader.core.errors import ConfigError, ReleaseError
    from quantum_trader.release import rollback as ways
    from quantum_trader.release.snapshot import take_snapshot

    order = _order(host, reason)
    known = ways.deployments(transactions, model)
    if way != "nuclear":
        snapshot = take_snapshot(host, settings)
        if way == "fast":
            return ways.plan_fast(snapshot, model, settings, order)
        return ways.plan_full(snapshot, model, settings, order, known)
    if not known:
        raise ReleaseError(f"{model}: {host.name} remembers no deployment of it that stands")
    backup = host.read(known[-1].backup)
    try:
        snapshot = take_snapshot(host, settings)
    except ConfigError:
        # The env file of now is past reading; what it said before the deployment names the same ledger.
        snapshot = take_snapshot(host, settings, instead=backup)
    return ways.plan_nuclear(snapshot, model, settings, order, known[-1], backup)


def _order(host: "Host", reason: str) -> "Order":
    from quantum_trader.clock import now_utc
    from quantum_trader.release.plans import Order
    from quantum_trader.release.rollout import new_transaction

    return Order(new_transaction(now_utc()), getpass.getuser(), reason, {"host": host.name})


def _votes(host: "Host", settings: "HostSettings", model: str) -> bool:
    """Whether a model votes by env file and ledger: where the very first step failed, nothing was taken from it."""
    from quantum_trader.release.snapshot import take_snapshot

    return take_snapshot(host, settings).state_of(model).role == "voter"


def _report(end: dict[str, Any], model: str, *, votes: bool) -> None:
    """A way back that failed has ended in shadow: another sentence than for a deployment.

    Raises:
        ReleaseError: with what failed and how the host stands.
    """
    from quantum_trader.core.errors import ReleaseError

    if votes:
        raise ReleaseError(f"{end['problem']}; nothing was changed, and {model} STILL VOTES")
    if end["result"] == "restored":
        raise ReleaseError(f"{end['problem']}; {model} is in shadow, and nothing else was changed")
    if end["result"] == "stuck":
        raise ReleaseError(
            f"{end['problem']}; the engine could not be restarted and {model} may still vote in it: stop it. "
            "Its next start goes by env file and ledger"
        )
    report_end(end)
