"""`quantum deploy`: an artefact to a host, in shadow, with a way back that is taken by itself."""

import getpass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantum_trader.cli.deploy_proof import DEFAULT_WAIT_S, prove_there

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.release.host import Host
    from quantum_trader.release.host_settings import HostSettings
    from quantum_trader.release.plans import Planned
    from quantum_trader.release.snapshot import Snapshot

HostName = Annotated[str, typer.Option("--host", help="local, a name of the hosts file, or USER@ADDRESS.")]
HostsFile = Annotated[Path | None, typer.Option("--hosts", help="TOML file of hosts.")]


def deploy(
    model: Annotated[str, typer.Argument(help="xgb, lgbm, nhits or patchtst.")],
    artefact: Annotated[Path, typer.Argument(help="Folder of the artefact here.")],
    host: HostName = "local",
    shadow: Annotated[bool, typer.Option("--shadow", help="Has to be said: a deployment never gives a vote.")] = False,
    hosts: HostsFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and the diff; change nothing.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only finish a transaction that was interrupted on the host.")
    ] = False,
    repo: Annotated[Path, typer.Option(help="Git repository that is released from.")] = Path(),
    remote: Annotated[str, typer.Option(help="Remote that has to have the commit.")] = "origin",
    branch: Annotated[str, typer.Option(help="Its branch.")] = "main",
    no_git: Annotated[str, typer.Option("--no-git", metavar="REASON", help="Skip git; stands in the ledger.")] = "",
    reason: Annotated[str, typer.Option(help="Why; stands in the ledger.")] = "deployed in shadow",
    stream_proof_s: Annotated[
        float,
        typer.Option("--stream-proof-s", min=0, max=86_400, help="Wait so long for an intent to prove; 0: do not."),
    ] = DEFAULT_WAIT_S,
) -> None:
    """Bring an artefact to a host as a shadow; whatever fails, the host is then as it was.

    The commit has to be pushed and the host to run this very program. The env file is backed up before it is changed.
    The change, the restart and the way back run on the host and go on where the connection breaks: run the same
    command again, or with --resume, to see how it ended.

    Once it is deployed, the first intents are waited for and proven as `quantum proof stream` does, on the host. None
    in that time, or Ctrl-C, leaves the deployment standing and says what to run later.

    Exit codes: 0 deployed, 1 anything else; the host is then in its old state, or the message says what is not. Where
    the message says NOT PROVEN the deployment stands.
    """
    from rich.console import Console

    from quantum_trader.core.errors import ReleaseError
    from quantum_trader.core.predictions import MODELS
    from quantum_trader.release.host_settings import load_host

    if model not in MODELS:
        raise ReleaseError(f"model {model!r}: unknown, expected one of {', '.join(MODELS)}")
    if not shadow and not resume:
        raise ReleaseError("say --shadow: a deployed model has no vote; it earns one in shadow (quantum promote)")
    settings = load_host(host, hosts)
    console = Console(highlight=False, soft_wrap=True)
    with _Deployment(settings, console, stream_proof_s) as run:
        if resume:
            run.resume()
            return
        run.prepare(model, artefact, (repo, remote, branch), no_git, reason)
        if dry_run or run.is_there():
            run.show()
            return
        run.carry_out()


class _Deployment:
    """One run of the command."""

    def __init__(self, settings: "HostSettings", console: "Console", stream_proof_s: float) -> None:
        from quantum_trader.release.rollout import Rollout

        self._settings, self._console, self._stream_proof_s = settings, console, stream_proof_s
        self._host: Host = settings.connect()
        self._rollout: Rollout = Rollout(self._host, settings, self.say)

    def __enter__(self) -> "_Deployment":
        return self

    def __exit__(self, *_: object) -> None:
        self._host.close()

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False)

    def resume(self) -> None:
        """Finish what was interrupted."""
        self._rollout.install()
        found = self._rollout.finish_interrupted()
        self._rollout.sweep()
        if found is None:
            self.say(f"{self._host.name}: no transaction is unfinished")
        else:
            report_end(found)
            self.say(f"{self._host.name}: transaction {found['id']} is done")

    def prepare(self, model: str, folder: Path, git: tuple[Path, str, str], no_git: str, reason: str) -> None:
        """Check everything that can be checked before anything is changed, and make the plan."""
        from quantum_trader.clock import now_us, now_utc
        from quantum_trader.core.errors import ReleaseError
        from quantum_trader.models.artefact import load_artefact
        from quantum_trader.models.manifest import render
        from quantum_trader.release.host import check_clock
        from quantum_trader.release.plans import Order, plan_deploy
        from quantum_trader.release.rollout import new_transaction
        from quantum_trader.release.sanity import check_program, check_repository
        from quantum_trader.release.snapshot import Held, take_snapshot

        loaded = load_artefact(folder)
        if loaded.manifest.model != model:
            raise ReleaseError(f"artefact {folder}: it is a {loaded.manifest.model} model, not {model}")
        commit = "" if no_git else check_repository(*git)
        check_clock(self._host, now_us)
        program = check_program(self._host, self._settings, commit)
        self.say(
            f"A  {f'commit {commit[:12]} is pushed' if commit else f'git skipped: {no_git}'}; the host runs it too"
        )
        target = self._settings.models / loaded.manifest.name
        self._artefact: Held = Held.of(target, loaded.manifest, render(loaded.manifest))
        self._folder, self._model = folder, model
        self._snapshot: Snapshot = take_snapshot(self._host, self._settings)
        facts = {"host": self._host.name, "program": program, **({"commit": commit} if commit else {"no_git": no_git})}
        self._order: Order = Order(new_transaction(now_utc()), getpass.getuser(), reason, facts)
        self._planned: Planned = plan_deploy(self._snapshot, self._artefact, self._settings, self._order)

    def is_there(self) -> bool:
        """Whether the host names this very artefact, in shadow, already."""
        there = self._artefact.digest in self._snapshot.held
        return there and not self._planned.env.changes and not self._interrupted()

    def show(self) -> None:
        """The plan and the difference that it makes."""
        show_plan(self._planned, self._settings.env_file, self.say)

    def carry_out(self) -> None:
        """Finish what somebody left unfinished, then send, start, listen, and say what comes next."""
        self._rollout.install()
        found = self._rollout.finish_interrupted()
        if found is not None:
            self.say(f"   it ended: {found['result']}")
            if found["result"] == "done" and found["facts"].get("artefact") == self._artefact.digest:
                self._say_next()
                return
            self._plan_again()
        self.show()
        try:
            self._rollout.send(self._folder, self._artefact, self._order.transaction)
            self.say(f"B  sent {len(self._artefact.files)} files, {self._artefact.size:,} bytes")
        except BaseException:
            self._rollout.forget(self._artefact, self._order.transaction)
            raise
        self._rollout.submit(self._planned.plan)
        report_end(self._rollout.follow(self._order.transaction))
        self.say(f"{self._model} {self._artefact.digest[:16]} is deployed in shadow on {self._host.name}")
        self._say_next()

    def _interrupted(self) -> bool:
        return any(one["begun"] and one["result"] is None for one in self._rollout.transactions()[1])

    def _plan_again(self) -> None:
        from quantum_trader.release.plans import plan_deploy
        from quantum_trader.release.snapshot import take_snapshot

        self._snapshot = take_snapshot(self._host, self._settings)
        self._planned = plan_deploy(self._snapshot, self._artefact, self._settings, self._order)

    def _say_next(self) -> None:
        """When a verdict can be expected at the cadence of the host's env file, and the proof on the stream."""
        from quantum_trader.cli.plan import show_plan as show_forecast
        from quantum_trader.gates.whole_policy import WHOLE
        from quantum_trader.settings import load_settings

        environ = {name: value for name, value in self._snapshot.values.items() if name.startswith("QUANTUM_")}
        engine = load_settings((), None, environ)
        plain: dict[str, Any] = {"symbols": None, "timeframe": "", "share": 1.0, "accuracies": (), "version": None}
        show_forecast(engine, WHOLE, **plain, as_json=False)
        prove_there(self._host, self._settings, self._stream_proof_s, self._console)


def show_plan(planned: "Planned", env_file: PurePosixPath, say: Any) -> None:
    """Print steps, notes and the diff of the env file."""
    before, after = planned.before, planned.after
    say(f"   {before.role} {before.artefact[:16]} -> {after.role} {after.artefact[:16]}".rstrip())
    for number, name in enumerate(planned.names, start=1):
        say(f"   {number}. {name}")
    for note in planned.env.notes:
        say(f"   {note}")
    say(planned.env.diff(str(env_file)) or "   the env file stays as it is")


def report_end(end: dict[str, Any]) -> None:
    """Raise where a transaction did not end well.

    Raises:
        ReleaseError: with what failed and how the host stands.
    """
    from quantum_trader.core.errors import ReleaseError

    words = {
        "restored": "the old state is back",
        "refused": "nothing was changed",
        "stuck": "the way back did not work out whole; look at the host",
    }
    if end["result"] != "done":
        raise ReleaseError(f"{end['problem']}; {words[end['result']]}")
