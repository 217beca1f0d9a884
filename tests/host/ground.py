"""The test host as drills use it: looked at from its far side, its verbs called, its artefacts known."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.artefacts import USES, graph_bytes, make_artefact
from tests.conftest import ROOT
from tests.host.faults import DISKS, FAR_SIDE
from tests.host.guest import ENGINE, ENV_FILE, NAME, SHADOW, Guest
from tests.host.standing import STATE, Known, Standing, Wanted, parse

from quantum_trader.core.features import SEQUENCE_LENGTH, SEQUENCE_NAMES

GAPS = "/root/gaps.jsonl"
MANNERS = {"hasty": "ready_timeout_s = 12", "reload": f'restart = ["systemctl", "reload", "{ENGINE}"]'}
"""The same host in two more manners: without patience for what never gets ready, and with a reload for a restart."""


class Ground:
    """A host that was made by `quantum host init`, its disks small enough to be filled."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        guest.prepare()
        for disk, size in zip(DISKS, ("8m", "96m"), strict=True):
            guest.run("mkdir", "-p", disk)
            guest.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", disk)
        made = guest.init()
        assert made.returncode == 0, made.stdout + made.stderr
        # It would judge promotions of a host that decides nothing, and change what a drill compares.
        guest.run("systemctl", "stop", "quantum-watch.timer")
        host = guest.connect()
        host.put(ROOT / "tests/host/far_side.py", FAR_SIDE, 0o700)
        host.close()
        options = ["--quiet", "--collect", "--unit=drill-probe", "--property=Nice=-5"]
        guest.run("systemd-run", *options, "--", "python3", "-I", str(FAR_SIDE), "probe", GAPS)
        text = guest.hosts.read_text()
        for name, setting in MANNERS.items():
            other = text.replace(f"[{NAME}]", f"[{NAME}-{name}]")
            with guest.hosts.open("a") as file:
                file.write(f"\n{other}{setting}\n")
        self.known: dict[str, Known] = {path.name: Known.of(path) for path in guest.models.iterdir()}
        self.usual = {"deploy": 4.0, "fast": 3.0, "full": 3.0, "nuclear": 3.0, "agent": 2.0}

    def make(self, seed: int, *, loads: bool = True) -> Known:
        """An artefact of the model that is deployed; one that does not load has an output of another name."""
        raw = {}
        if not loads:
            import numpy as np

            weights = np.zeros(SEQUENCE_LENGTH * len(SEQUENCE_NAMES), dtype=np.float32)
            raw = {"onnx_bytes": graph_bytes(weights, USES[SHADOW], output="other")}
        made = Known.of(make_artefact(self.guest.folder / "new", SHADOW, seed, **raw))
        self.known[made.folder.name] = made
        return made

    def words(self, *verb: str, manner: str = "") -> list[str]:
        """A verb with the host that it is for, in one of `MANNERS` or as an operator has it."""
        return [*verb, "--host", f"{NAME}-{manner}" if manner else NAME, "--hosts", str(self.guest.hosts)]

    def look(self) -> Standing:
        """How the host stands."""
        return parse(self.guest.run("python3", "-I", str(FAR_SIDE), "look", STATE))

    def idle(self, timeout_s: float = 60.0) -> Standing:
        """The same, once no transaction runs."""
        end = time.monotonic() + timeout_s
        while (now := self.look()).told["busy"] and time.monotonic() < end:
            time.sleep(0.2)
        return now

    def gaps(self) -> list[dict[str, Any]]:
        """Every gap that the prober saw."""
        # A gap is written down at its end.
        time.sleep(0.1)
        return [json.loads(line) for line in self.guest.run("cat", GAPS, check=False).splitlines()]

    def whole(self, wanted: Mapping[str, Wanted], timeout_s: float = 40.0) -> tuple[str, Standing, str]:
        """Which of some states the host is wholly in; an engine that was killed has a moment to come back.

        Returns:
            Its name, or an empty one; how it stands; and what does not hold.
        """
        end = time.monotonic() + timeout_s
        while True:
            now = self.look()
            missing = {name: state.missing(now) for name, state in wanted.items()}
            good = next((name for name, found in missing.items() if not found), "")
            if good or time.monotonic() > end:
                return good, now, "; ".join(f"not {name}: {', '.join(found)}" for name, found in missing.items())
            time.sleep(0.2)

    def promote(self) -> None:
        """A vote against the rules, on the host: nothing here decides anything that a verdict could judge."""
        words = ["promote", SHADOW, "--env-file", ENV_FILE, "--override", "a drill", "--restart"]
        self.guest.run("quantum", *words)

    def tidy(self, now: Standing) -> None:
        """Remove artefacts that nobody needs, as an operator would: every verb looks at all that lie there."""
        needed = {now.role[1], *now.granted}
        for name in now.told["models"]:
            if name.startswith(SHADOW) and self.known[name].digest not in needed:
                self.guest.run("rm", "-rf", f"/var/lib/quantum/models/{name}")

    @property
    def folder(self) -> Path:
        """For files of verbs."""
        return self.guest.folder
