"""An operator's desk for the test host: what lies here, and how commands are typed here and there."""

import hashlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tests.artefacts import make_artefact
from tests.e2e.releasing import environ, model_infos
from tests.host.guest import ENV_FILE, NAME, Guest
from tests.host.market import BAR_MS, make_knowing, market, write_market
from tests.host.transcript import Transcript

from quantum_trader.clock import now_ms
from quantum_trader.core.bars import WINDOW
from quantum_trader.models.artefact import Artefact, load_artefact

LEDGER = PurePosixPath("/var/lib/quantum/ledger.jsonl")

FIRST, TURN, BARS = WINDOW + 48, 1700, 1965
"""Bars until the first proof, until the market turns, and in all: the verdict's window must not be a day old."""

SYMBOLS = 5


class Desk:
    """A repository, two artefacts, keys, and the host."""

    def __init__(self, guest: Guest, transcript: Transcript) -> None:
        self.guest, self.transcript, self.host = guest, transcript, guest.connect()
        folder = guest.folder
        self.first: Artefact = load_artefact(make_knowing(folder / "new", 200))
        self.second: Artefact = load_artefact(make_artefact(folder / "new", "patchtst", 300))
        self.repository, self.keys, self.pack = folder / "clone", folder / "keys", folder / "proof"
        self.start_ms = now_ms() // BAR_MS * BAR_MS - BARS * BAR_MS
        self.deployed_at = ""

    def near(
        self, *words: str, code: int = 0, cwd: Path | None = None, during: Callable[[], None] | None = None
    ) -> str:
        """A verb here, as it is typed; `during` runs when it begins to wait for an intent."""
        argv = [sys.executable, "-u", "-m", "quantum_trader.cli.main", *words]
        began = time.monotonic()
        said = ""
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=cwd,
            env=environ() | {"COLUMNS": "118"},
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                said += line
                if during is not None and "waiting up to" in line:
                    during()
        self.transcript.add(f"quantum {shlex.join(words)}", said, running.returncode, time.monotonic() - began)
        assert running.returncode == code, said
        return said

    def there(self, *words: str, code: int = 0, shown: bool = True) -> str:
        """A command on the host, as it is typed there; both of its outputs."""
        began = time.monotonic()
        line = shlex.join(words)
        # A point before and the exit code after: leading blanks stay, and a command that is meant to fail is no error.
        said = self.guest.run("sh", "-c", f"echo .; COLUMNS=118 {line} 2>&1; echo $?", timeout_s=300.0)
        output, _, ended = said.removeprefix(".\n").rpartition("\n")
        if shown:
            self.transcript.add(f"ssh vps {line}", output, int(ended), time.monotonic() - began)
        assert int(ended) == code, said
        return output

    def where(self) -> list[str]:
        return ["--host", NAME, "--hosts", str(self.guest.hosts)]

    def env(self) -> bytes:
        return self.host.read(PurePosixPath(ENV_FILE))

    def digest_of_state(self) -> str:
        """Everything that a dry run must leave as it is."""
        names = [*self.host.names(PurePosixPath(ENV_FILE).parent), *self.host.names(PurePosixPath("/var/lib/quantum"))]
        content = self.env() + self.host.read(LEDGER) + json.dumps(names).encode()
        return hashlib.sha256(content).hexdigest()

    def role(self) -> str:
        """The engine's own word on the model: role and artefact."""
        program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
        metrics = self.guest.run("python3", "-c", program)
        role, artefact = next((r, a) for model, r, a in model_infos(metrics) if model == "patchtst")
        return f"{role} {artefact[:16]}"

    def decisions(self) -> int:
        return int(self.guest.status()["accounting"]["decisions"])

    def feed(self, first: int, end: int) -> None:
        """Bars of the market onto the host's stream."""
        name = f"market-{first}.parquet"
        series = market(BARS, self.start_ms, TURN)
        write_market(self.guest.folder / name, {symbol: bars.slice(first, end) for symbol, bars in series.items()})
        self.host.put(self.guest.folder / name, PurePosixPath(f"/root/{name}"), 0o644)
        self.guest.run("quantum", "feed", "--bars", f"/root/{name}", "--env-file", ENV_FILE)

    def wait_for(self, decisions: int) -> None:
        end = time.monotonic() + 300
        while self.decisions() < decisions:
            assert time.monotonic() < end, self.guest.status()
            time.sleep(1.0)

    def deploy_words(self, artefact: Artefact) -> list[str]:
        """`quantum deploy` of an artefact, in shadow."""
        words = ["deploy", "patchtst", str(artefact.folder), *self.where(), "--shadow"]
        return [*words, "--repo", str(self.repository)]
