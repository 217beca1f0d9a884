"""The demo's last screen: six rogues and a good model, made and judged on the spot by the plain rule and by ours."""

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from quantum_trader.core.errors import QuantumError
from quantum_trader.gates.judge import judge
from quantum_trader.gates.result import GateState
from quantum_trader.gates.rogues.gallery import BY_NAME, Model
from quantum_trader.gates.rogues.measure import NEVER, PlainLooks, outputs, scene_of
from quantum_trader.gates.rogues.scene import Scene
from quantum_trader.gates.sample import CYCLE
from quantum_trader.gates.verdict import Verdict, VerdictState

if TYPE_CHECKING:
    from rich.console import Console

ROGUES = ("copy-ensemble", "follower", "overconfident", "full-leak", "missing", "flipped")
GOOD = "good"
MARKET = "neutral"

_COLOURS = {
    VerdictState.PROMOTE: "green",
    VerdictState.REJECT: "red",
    VerdictState.HOLD: "yellow",
    VerdictState.INVALID: "red",
}


def show_gallery(console: "Console", seed: int) -> None:
    """Make one simulated market and the models on it, judge each twice, and print a row for each.

    Args:
        console: Where to.
        seed: Another seed is another market and other models.
    """
    scene = scene_of(MARKET, 0, seed)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("Model", no_wrap=True)
    table.add_column("what it is")
    table.add_column("plain 3-of-4 rule", no_wrap=True)
    table.add_column("whole verdict", no_wrap=True)
    table.add_column("why")
    for name in (*ROGUES, GOOD):
        table.add_row(*_row(scene, BY_NAME[name], seed))
    console.print(
        f"\n[bold]Would they be promoted?[/] Six rogues and a good model on {len(scene):,} simulated decisions, looked "
        "at again and again"
    )
    console.print(table)
    console.print("One repetition. How often each rule errs, over 400 of each: docs/gates-error-rates.md, make rogues")


def _row(scene: Scene, model: Model, seed: int) -> tuple[str, str, str, str, str]:
    p_up, action = outputs(scene, model, MARKET, 0, seed)
    verdict = judge(scene.sample(p_up, action), scene.panel)
    if verdict.whole is None:
        raise QuantumError("the verdict has no sections B to D")
    ready = PlainLooks.of(p_up, action, scene.ensemble).first()
    plain = "never ready" if ready == NEVER else f"[red]promotes[/] after {ready:,}"
    if model.name == GOOD and ready != NEVER:
        plain = f"promotes after {ready:,}"
    held = verdict.whole.held_at
    colour = _COLOURS[verdict.state]
    ours = f"[{colour}]{verdict.state}[/]"
    why = _why(verdict)
    if held is not None:
        seen = int((scene.bar < held).sum())
        ours = f"[{colour}]PROMOTE[/] after {seen:,}"
        why = f"everything held at the end of cycle {held // CYCLE}"
    return model.name, model.what, plain, ours, why


def _why(verdict: Verdict) -> str:
    """What failed; where nothing did, what is open."""
    checks = () if verdict.whole is None else verdict.whole.checks
    named = {"Contract": verdict.contract, **{check.name: check.state for check in checks}}
    for state in (GateState.FAIL, GateState.INSUFFICIENT):
        found = [name for name, own in named.items() if own is state]
        if found:
            return f"{', '.join(found[:3])} {'failed' if state is GateState.FAIL else 'open'}"
    return "everything holds"
