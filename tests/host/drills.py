"""Deployments with a fault each, on the test host: after every one it is wholly old or wholly new.

    python -m tests.host.drills COUNT [SEED]

Each drill deploys a shadow, injects one fault at a random moment, checks env file, artefact, drafts, engine and ledger,
and goes back where the deployment went through. Prints how each kind ended and the times of the ways back.
"""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.host.deployment import Deployment
from tests.host.guest import ENGINE, ENV_FILE, Guest, booted, script, why_not

FILLER = "/etc/quantum/filler"

Fault = Callable[[Guest, Deployment, float], None]


def nothing(guest: Guest, deployment: Deployment, delay_s: float) -> None:
    """A deployment as it should be."""


def cut(guest: Guest, deployment: Deployment, delay_s: float) -> None:
    """The network is gone for two seconds, right in it."""
    time.sleep(delay_s)
    script("cut", "2")


def lose(guest: Guest, deployment: Deployment, delay_s: float) -> None:
    """The near side is gone for good: every connection of it is killed on the host."""
    time.sleep(delay_s)
    script("ssh", "pkill", "-KILL", "-f", "sshd: root", check=False)


def kill_agent(guest: Guest, deployment: Deployment, delay_s: float) -> None:
    """The far side is killed."""
    time.sleep(delay_s)
    script("ssh", "pkill", "-KILL", "-f", f"agent.py.run.*{deployment.name}", check=False)


def kill_engine(guest: Guest, deployment: Deployment, delay_s: float) -> None:
    """The engine is killed while it is being replaced."""
    time.sleep(delay_s)
    script("ssh", "systemctl", "kill", "-s", "KILL", ENGINE, check=False)


KINDS: dict[str, Fault] = {
    "no fault": nothing,
    "connection cut": cut,
    "connection killed": lose,
    "agent killed": kill_agent,
    "engine killed": kill_engine,
    "disk full": nothing,
    "bad digest": nothing,
    "never ready": nothing,
}
MUST_COME_BACK = ("disk full", "bad digest", "never ready")


def drill(guest: Guest, deployment: Deployment, kind: str, seed: int, delay_s: float) -> str:
    """One deployment with its fault; how it ended, after everything was checked."""
    if kind == "disk full":
        guest.run("sh", "-c", f"cat /dev/zero > {FILLER} 2>/dev/null; true")
    deployment.deploy(seed, never_ready=kind == "never ready", damage=kind == "bad digest", wait=False)
    KINDS[kind](guest, deployment, delay_s)
    result = deployment.result()
    if kind == "disk full":
        guest.run("rm", FILLER)
    assert result in ("done", "restored"), f"{kind}: {result}: {deployment.journal()[-1]}"
    assert result == "restored" or kind not in MUST_COME_BACK, f"{kind}: went through"
    settled(deployment, result)
    guest.run("quantum", "audit", "verify", "--ledger", "/var/lib/quantum/ledger.jsonl")
    return result


def settled(deployment: Deployment, result: str) -> None:
    """Wholly new or wholly old; an engine that was killed has a moment to come back."""
    end = time.monotonic() + 30
    while True:
        try:
            return deployment.assert_new() if result == "done" else deployment.assert_old()
        except AssertionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def main(count: int, seed: int) -> None:
    """Run drills and print what came of them."""
    problem = why_not()
    if problem:
        sys.exit(f"drills: {problem}")
    draws = np.random.default_rng(seed)
    ended: Counter[tuple[str, str]] = Counter()
    back: list[float] = []
    gaps: list[float] = []
    with tempfile.TemporaryDirectory() as folder, booted(Path(folder)) as guest:
        guest.prepare()
        made = guest.init()
        assert made.returncode == 0, made.stderr
        # A disk that can be filled without filling this machine's.
        small = "cp -a /etc/quantum /root/etc && mount -t tmpfs -o size=256k,mode=755 tmpfs /etc/quantum"
        guest.run("sh", "-c", f"{small} && cp -a /root/etc/. /etc/quantum/")
        deployment = Deployment(guest)
        for number in range(count):
            kind = list(KINDS)[int(draws.integers(len(KINDS)))]
            result = drill(guest, deployment, kind, 1000 + number, float(draws.uniform(0, 2)))
            ended[kind, result] += 1
            print(f"{number + 1:4} {kind:18} {result}", flush=True)
            if result == "done":
                began = time.monotonic()
                assert deployment.back() == "done"
                back.append(time.monotonic() - began)
                gaps += [event["ready_s"] for event in deployment.journal() if "ready_s" in event]
                deployment.assert_old()
            guest.run("sh", "-c", f"rm -f {ENV_FILE}.bak.*")
        report(ended, back, gaps)


def report(ended: Counter[tuple[str, str]], back: list[float], gaps: list[float]) -> None:
    """Print how each kind ended, and the times."""
    print("\n| fault | went through | came back |\n|---|---|---|")
    for kind in KINDS:
        print(f"| {kind} | {ended[kind, 'done']} | {ended[kind, 'restored']} |")
    for what, values in (("way back, from call to settled", back), ("of it, the engine not ready", gaps)):
        if not values:
            continue
        low, high = np.percentile(values, [50, 99])
        print(f"{what}: {len(values)} times, p50 {low:.2f} s, p99 {high:.2f} s, longest {max(values):.2f} s")


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    except (IndexError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"drills: {error}")
