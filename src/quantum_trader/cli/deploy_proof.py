"""Step C of `quantum deploy`: the first intents with the new shadow, proven on the host where the stream is.

The deployment is over by then and stands whatever is found. What is found is told; only a proof that fails is an error.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from quantum_trader.release.host import Host
    from quantum_trader.release.host_settings import HostSettings
    from quantum_trader.release.stream_proof import StreamProof

DEFAULT_WAIT_S = 310.0
"""A bar of five minutes and its decision: the first intent cannot be later unless everything says HOLD."""

_BESIDE_S = 60.0
"""What the command on the host may take besides waiting."""


def prove_there(host: "Host", settings: "HostSettings", wait_s: float, console: "Console") -> None:
    """Wait for the first intents from now on, prove them, and show the proof.

    Args:
        host: Where the shadow was deployed; it is ready.
        settings: Of that host.
        wait_s: How long to wait for an intent; 0 only says how to do it later.
        console: Where the proof is shown.

    Raises:
        ReleaseError: if there were events and they do not prove the deployment.
    """
    from quantum_trader.cli.proof_screen import show_proof
    from quantum_trader.core.errors import HostError, ReleaseError

    def say(text: str) -> None:
        console.print(text, markup=False)

    words, later = _commands(host, settings)
    unproven = f"the deployment stands and is not proven; later, on the host: {later}"
    if wait_s <= 0:
        say(f"C  once bars are decided, on the host: {later}")
        return
    try:
        say(f"C  waiting up to {wait_s:g} s for the first intent; Ctrl-C leaves the deployment as it is")
        done = host.run([*words, "--json", "--wait-s", f"{wait_s:g}"], timeout_s=wait_s + _BESIDE_S, check=False)
    except KeyboardInterrupt:
        say(f"   not waited for: {unproven}")
        return
    except HostError as error:
        say(f"   {error}: {unproven}")
        return
    look = f"the shadow is deployed and votes nowhere, look at it: {later}"
    proof = _read(done.out)
    if proof is None:
        last = (done.err.strip().splitlines() or ["no word"])[-1]
        raise ReleaseError(f"the stream could not be looked at: {last[:300]}; {look}")
    found = [problem for check in proof.checks for problem in check.problems]
    if not proof.intents and not found:
        say(f"   no intent within {wait_s:g} s: {unproven}")
        return
    show_proof(console, proof)
    if not proof.passed:
        raise ReleaseError(f"NOT PROVEN: {(found or ['there were no decisions'])[0]}; {look}")


def _commands(host: "Host", settings: "HostSettings") -> tuple[list[str], str]:
    """The command as the host runs it, and as an operator calls it there; both from now on, by the host's clock."""
    from datetime import UTC, datetime

    since = datetime.fromtimestamp(host.clock_us() / 1e6, UTC).isoformat(timespec="milliseconds")
    words = ["proof", "stream", "--env-file", str(settings.env_file), "--since", since]
    argv = [settings.engine_python, "-m", "quantum_trader.cli.main", *words]
    return argv, " ".join(["quantum", *words])


def _read(out: bytes) -> "StreamProof | None":
    import msgspec

    from quantum_trader.release.stream_proof import StreamProof

    try:
        return msgspec.json.decode(out, type=StreamProof)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
