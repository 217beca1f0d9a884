"""One fault at a random moment of a verb: what it is, where it strikes, and what it must lead to."""

import json
import threading
import time
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from tests.host.far_side import FILLER, flip
from tests.host.guest import ENV_FILE, Guest, script
from tests.host.standing import MODELS_FOLDER, STATE, Known
from tests.host.verbs import Verb

FAR_SIDE = PurePosixPath("/root/far_side.py")
DISKS = ("/etc/quantum", "/var/lib/quantum")
"""Small file systems of their own on the test host: filling them fills nothing of this machine."""

KINDS = (
    "no fault",
    "network cut",
    "sessions killed",
    "near side killed",
    "agent killed",
    "engine killed",
    "disk full",
    "bad digest",
    "never ready",
)
PHASES = ("deploy", "rollback")
ANYWHERE = KINDS[1:7]
"""These strike a deployment or a rollback."""

DAMAGED = {"fast": (), "full": ("baseline", "copy too"), "nuclear": ("baseline", "copy too", "backup")}
"""What a rollback may find damaged: where there is no whole copy left it must fail, in shadow."""

MUST_COME_BACK = ("never ready",)


@dataclass(frozen=True)
class Fault:
    """A fault that was drawn.

    Attributes:
        kind: One of `KINDS`.
        phase: What it strikes, deploy or rollback.
        anchor: ``now`` counts from the verb's call, ``agent`` from when the host carries it out.
        share: When, as a share of the verb's usual time, or of the agent's.
        place: Which disk is full, or which copy of the artefact is damaged.
    """

    kind: str
    phase: str
    anchor: str
    share: float
    place: str


def draw(draws: np.random.Generator, kind: str, way: str) -> Fault:
    """A fault of a kind, as far as the way back knows it."""
    either = kind in ANYWHERE or (kind == "bad digest" and way != "fast")
    phase = str(draws.choice(PHASES, p=(0.4, 0.6))) if either else "deploy"
    anchor = "agent" if kind == "agent killed" else str(draws.choice(["now", "agent"]))
    if kind in ("network cut", "near side killed"):
        anchor = "now"
    places = {"disk full": DISKS, "bad digest": ("near", "sent") if phase == "deploy" else DAMAGED[way]}
    place = str(draws.choice(places.get(kind, ("",))))
    return Fault(kind, phase, anchor, float(draws.uniform()), place)


class Striking:
    """A fault while it lasts: begun before a verb is called, asked afterwards whether it struck."""

    def __init__(self, guest: Guest, fault: Fault, usual_s: float, victim: Known | None) -> None:
        """Prepare it.

        Args:
            guest: The host.
            fault: What.
            usual_s: What a share of 1 means for its anchor.
            victim: The artefact that is deployed or gone back to.
        """
        self._guest, self.fault, self._victim = guest, fault, victim
        self.delay_s = fault.share * usual_s
        self._thread: threading.Thread | None = None
        self._far = False
        self.hit: bool | None = None

    def before(self) -> None:
        """What has to be there before the verb begins."""
        match self.fault.kind:
            case "sessions killed":
                self._order("sessions")
            case "agent killed":
                self._order("agent")
            case "engine killed":
                self._order("engine")
            case "disk full":
                self._order("fill", self.fault.place)
            case "bad digest" if self.fault.place == "sent" and self._victim is not None:
                self._order("flip", f"{MODELS_FOLDER}/.{self._victim.folder.name}.*.sent/model.onnx", at_once=True)
            case "bad digest" if self.fault.place in self._lying:
                self.hit = self._damage()
            case "never ready":
                self.hit = True

    def beside(self, verb: Verb) -> None:
        """What strikes from here while the verb runs."""
        kind, place = self.fault.kind, self.fault.place
        if kind in ("network cut", "near side killed") or (kind, place) == ("bad digest", "near"):
            self._thread = threading.Thread(target=self._strike, args=(verb,))
            self._thread.start()

    def after(self) -> None:
        """Wait until it is over, and clear away what it left: the operator does that too."""
        if self._thread is not None:
            self._thread.join()
        if self._far:
            told = self._guest.run("cat", "/root/fault.json", check=False)
            self.hit = bool(told) and bool(json.loads(told)["hit"])
            # One that found nothing would wait on, and strike somebody else.
            self._guest.run("systemctl", "stop", "drill-fault", check=False)
        if self.fault.place in ("copy too", "backup"):
            self._damage()
        if self.fault.kind == "disk full":
            self._guest.run("rm", "-f", f"{self.fault.place}/{FILLER}")

    @property
    def _lying(self) -> dict[str, tuple[str, ...]]:
        """Files on the host that a way back stands on."""
        if self._victim is None:
            return {}
        there, kept = f"{self._victim.path}/model.onnx", f"{STATE}/kept/{self._victim.digest}/model.onnx"
        return {"baseline": (there,), "copy too": (there, kept), "backup": (f"{ENV_FILE}.bak.*",)}

    def _damage(self) -> bool:
        """Flip a bit of each; a second time mends them."""
        words = ["at", "now", "0", "flip", *self._lying[self.fault.place]]
        return bool(json.loads(self._guest.run("python3", "-I", str(FAR_SIDE), *words))["hit"])

    def _order(self, *words: str, at_once: bool = False) -> None:
        self._far = True
        anchor, delay_s = ("now", 0.0) if at_once else (self.fault.anchor, self.delay_s)
        argv = ["python3", "-I", str(FAR_SIDE), "at", anchor, f"{delay_s:.3f}", *words]
        self._guest.run("rm", "-f", "/root/fault.json")
        options = ["--quiet", "--collect", "--unit=drill-fault", "--property=StandardOutput=file:/root/fault.json"]
        self._guest.run("systemd-run", *options, "--", *argv)

    def _strike(self, verb: Verb) -> None:
        time.sleep(self.delay_s)
        self.hit = verb.running
        if self.fault.kind == "network cut":
            script("cut", "2")
        elif self.fault.kind == "near side killed":
            verb.kill()
        else:
            flip_near(self._victim)


def flip_near(artefact: Known | None) -> None:
    """The artefact here has another bit; a second time mends it."""
    if artefact is not None:
        flip(artefact.folder / "model.onnx")
