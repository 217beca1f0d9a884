"""Carrying a plan out on a host: the agent is put there, given the plan, started, and listened to.

What is done is done by the agent, on the host. Whoever stands here may lose the connection or be killed: nothing is
left between two states for longer than until the agent, or the next run, has finished it.
"""

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from quantum_trader.core.errors import HostError, ReleaseError
from quantum_trader.release import agent
from quantum_trader.release.host import Host
from quantum_trader.release.host_settings import HostSettings
from quantum_trader.release.plans import staged
from quantum_trader.release.snapshot import Held

SPARE_BYTES = 16 * 2**20
"""What a host must have free beside what is sent and kept."""

_WAIT_S = 5.0
_PATIENCE_S = 120.0
_STARTS = 3

Tell = Callable[[str], None]


def new_transaction(now: datetime) -> str:
    """A name for a transaction: its time in UTC, then what tells two of one second apart."""
    return f"{now:%Y%m%d_%H%M%S}-{secrets.token_hex(4)}"


class Rollout:
    """The agent of one host."""

    def __init__(self, host: Host, settings: HostSettings, tell: Tell) -> None:
        self._host, self._settings, self._tell = host, settings, tell
        self._program = Path(agent.__file__).read_bytes()
        digest = hashlib.sha256(self._program).hexdigest()
        self._agent = settings.state / f"agent-{digest[:16]}.py"
        self._digest = digest

    def install(self) -> None:
        """Put the agent there, unless this very one is.

        Raises:
            HostError: if that is not possible.
        """
        host, state = self._host, self._settings.state
        host.run(["mkdir", "-p", "-m", "700", str(state), str(state / "transactions"), str(state / "kept")])
        there = host.exists(self._agent) and hashlib.sha256(host.read(self._agent)).hexdigest() == self._digest
        if not there:
            host.put(self._program, self._agent, 0o700)

    def transactions(self) -> tuple[bool, list[dict[str, Any]]]:
        """Whether one runs now, and every one that the host remembers, oldest first."""
        # The program by standard input: looking needs nothing installed.
        words = [self._settings.python, "-I", "-", "status", str(self._settings.state)]
        told = json.loads(self._host.run(words, self._program, timeout_s=60.0).out)
        return bool(told["busy"]), list(told["transactions"])

    def send(self, folder: Path, artefact: Held, transaction: str) -> None:
        """Bring an artefact's files to where the agent finds them.

        Raises:
            HostError: if there is no space, or the connection breaks; what was sent is then worth nothing.
        """
        host, models = self._host, self._settings.models
        free = min(host.free_bytes(models), host.free_bytes(self._settings.state))
        if free < 3 * artefact.size + SPARE_BYTES:
            raise HostError(f"host {host.name}: {free:,} bytes free; {3 * artefact.size + SPARE_BYTES:,} are needed")
        self.sweep()
        target = staged(self._settings, artefact, transaction)
        host.run(["mkdir", "-m", "700", str(target)])
        for name in artefact.files:
            host.put(folder / name, target / name, 0o600)

    def forget(self, artefact: Held, transaction: str) -> None:
        """Take away what was sent, where it came to nothing; a host that is away keeps it until the next time."""
        with contextlib.suppress(HostError):
            self._host.run(["rm", "-rf", "--", str(staged(self._settings, artefact, transaction))], check=False)

    def submit(self, plan: dict[str, Any]) -> None:
        """Give the agent a plan and start it.

        Raises:
            HostError: if it could not be given; nothing is changed then.
        """
        folder = self._folder(plan["id"])
        self._host.run(["mkdir", "-m", "700", str(folder)])
        self._host.put(json.dumps(plan).encode(), folder / "plan.json", 0o600)
        self.start(plan["id"])

    def start(self, transaction: str) -> None:
        """Start the agent, or start it again where it was killed."""
        self._call("start", str(self._settings.state), transaction)

    def follow(self, transaction: str, patience_s: float = _PATIENCE_S) -> dict[str, Any]:
        """Tell what the agent does until it has ended.

        Args:
            transaction: Its name.
            patience_s: How long a lost connection is tried again.

        Returns:
            The last event: `result` is done, restored, refused or stuck; `problem` says why.

        Raises:
            ReleaseError: if the connection stays away, or the agent does not stay alive.
        """
        seen, starts = 0, 0
        lost_since: float | None = None
        while True:
            try:
                events = self._events(transaction, seen)
                if not events and not self.transactions()[0]:
                    # It was killed, and no service manager started it again.
                    events = self._events(transaction, seen)
                    starts += not events
                    if starts > _STARTS:
                        raise ReleaseError(f"transaction {transaction}: the agent does not stay alive; see its log")
                    if not events:
                        self.start(transaction)
                lost_since = None
            except HostError as error:
                lost_since = time.monotonic() if lost_since is None else lost_since
                if time.monotonic() - lost_since > patience_s:
                    told = f"transaction {transaction} goes on by itself; run the command again to see how it ended"
                    raise ReleaseError(f"{error}; {told}") from error
                time.sleep(min(1.0, patience_s))
                continue
            seen += len(events)
            for event in events:
                self._told(event)
            if events and events[-1]["event"] == "end":
                return dict(events[-1])

    def finish_interrupted(self) -> dict[str, Any] | None:
        """Bring a transaction to its end that began and did not end; the last such one's description, with its end."""
        found = None
        busy, transactions = self.transactions()
        for one in transactions:
            if one["begun"] and one["result"] is None:
                self._tell(
                    f"transaction {one['id']} ({one['kind']} {one['model']}) had not ended; it is finished first"
                )
                if not busy:
                    self.start(one["id"])
                found = {**one, **self.follow(one["id"])}
        return found

    def sweep(self) -> None:
        """Remove what was sent by a run that died before it gave the agent a plan."""
        for name in self._host.names(self._settings.models):
            if name.startswith(".") and name.endswith(".sent"):
                self._host.run(["rm", "-rf", "--", str(self._settings.models / name)])

    def _events(self, transaction: str, seen: int) -> list[dict[str, Any]]:
        arguments = ["journal", str(self._settings.state), transaction, str(seen), str(_WAIT_S)]
        return [json.loads(line) for line in self._call(*arguments).splitlines()]

    def _told(self, event: dict[str, Any]) -> None:
        name = event.get("name", "")
        match event["event"]:
            case "done":
                extra = f" ({event['ready_s']:.1f} s)" if "ready_s" in event else ""
                extra += f" ({event['said']})" if event.get("said") else ""
                extra += f": NOT DONE: {event['failed']}" if event.get("failed") else ""
                self._tell(f"  done      {name}{extra}")
            case "turn":
                self._tell(f"  failed    {event['problem']}")
            case "undone":
                self._tell(f"  undone    {name}")

    def _call(self, *arguments: str) -> str:
        return self._host.run([self._settings.python, "-I", str(self._agent), *arguments], timeout_s=60.0).out.decode()

    def _folder(self, transaction: str) -> PurePosixPath:
        return self._settings.state / "transactions" / transaction
