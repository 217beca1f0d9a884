"""The demo's last screen, computed on the spot."""

import io

from rich.console import Console

from quantum_trader.cli.demo_gallery import GOOD, MARKET, ROGUES, show_gallery
from quantum_trader.gates.rogues.gallery import BY_NAME
from quantum_trader.gates.rogues.measure import measure, scene_of


def shown(seed: int) -> dict[str, str]:
    """The row of each model, its lines joined."""
    console = Console(width=200, record=True, file=io.StringIO(), highlight=False)
    show_gallery(console, seed)
    lines = console.export_text().splitlines()
    return {name: next(line for line in lines if line.split()[:1] == [name]) for name in (*ROGUES, GOOD)}


def test_it_is_measured_and_not_canned() -> None:
    texts = []
    for seed in (20260101, 2):
        rows = shown(seed)
        texts.append(rows)
        scene = scene_of(MARKET, 0, seed)
        for result in measure(scene, [BY_NAME[name] for name in rows], MARKET, 0, seed):
            row = rows[result.model]
            assert f"promotes after {result.legacy_all:,}" in row
            assert (f"PROMOTE after {result.events:,}" in row) == (result.events > 0)
            if not result.events:
                assert "REJECT" in row or "HOLD" in row
                assert any(name in row for name in result.open)
    assert texts[0] != texts[1]
