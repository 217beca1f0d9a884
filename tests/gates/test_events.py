from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quantum_trader.gates.events import portions
from quantum_trader.gates.sample import CYCLE

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def pair(world: Make) -> Any:
    w = world(bars=CYCLE * 4, symbols=2)
    return w.sample(), w.panel()


def test_portions_are_cut_at_bars_and_lose_nothing(pair: Any) -> None:
    sample, panel = pair
    parts = list(portions(sample, panel, 100))
    assert len(parts) == 4
    assert [part.bars for part, _ in parts] == [50, 100, 150, sample.bars]
    for name in ("bar", "symbol", "p_up"):
        joined = np.concatenate([getattr(part, name) for part, _ in parts])
        assert joined.tobytes() == getattr(sample, name).tobytes()
    assert [around.first for _, around in parts] == [0, 50, 100, 150]
    # Later prices tell whether stated outcomes are theirs.
    assert [len(around.log_price) for _, around in parts] == [63, 63, 63, sample.bars - 150]


def test_what_is_small_or_cannot_be_cut_comes_whole(pair: Any) -> None:
    sample, panel = pair
    n = len(sample)
    short = replace(panel, voter_p=panel.voter_p[:-1], voter_action=panel.voter_action[:-1])
    blind = replace(panel, log_price=panel.log_price[:-1])
    faulty = replace(sample, p_up=np.where(sample.bar == 3, 1.5, sample.p_up))
    for one, other, events in ((sample, panel, n), (sample, short, 100), (sample, blind, 100), (faulty, panel, 100)):
        assert list(portions(one, other, events)) == [(one, other)]
    assert len(list(portions(sample, panel, n - 1))) == 2
