"""How a proof on the stream looks on a screen: of this machine, or of the host that a deployment went to."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from quantum_trader.release.stream_proof import StreamProof

_PROBLEMS = 5
"""Of each check; the number of all stands in the table."""


def show_proof(console: "Console", proof: "StreamProof") -> None:
    """Print every check, what the shadow adds to a payload, what did not hold, and the word."""
    console.print(_table(proof))
    for overhead in proof.overhead:
        console.print(
            f"{overhead.model}: its entry has {overhead.smallest_bytes} to {overhead.largest_bytes} bytes, at most "
            f"{overhead.largest_percent:.1f} % of a payload; name and digest included it adds "
            f"{overhead.with_digest_bytes}",
            soft_wrap=True,
        )
    for check in proof.checks:
        for problem in check.problems[:_PROBLEMS]:
            console.print(f"✗ {problem}", style="red", markup=False, soft_wrap=True)
    console.print("PROVEN" if proof.passed else "NOT PROVEN", style="green" if proof.passed else "bold red")


def _table(proof: "StreamProof") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption=f"newest entry {proof.newest or 'none'}")
    for name in ("Check", "Events", "Held"):
        table.add_column(name, justify="left" if name == "Check" else "right")
    for check in proof.checks:
        held = "✓" if check.passed else "no event" if not check.looked_at else f"✗ {len(check.problems)}"
        table.add_row(check.name, str(check.looked_at), held, style=None if check.passed else "red")
    return table
