"""The log lines that operators grep, word for word, and the limit on how often one of them may appear."""

import math
from collections.abc import Sequence

from quantum_trader.core.decision import Decision, ShadowVote
from quantum_trader.core.predictions import DISPLAY_NAMES

SHADOW_LINE_EVERY_MS = 30_000
"""At most one [SHADOW] line for a model and symbol in this time. Logs only: records are never limited."""


def shadow_line(model: str, symbol: str, vote: ShadowVote) -> str:
    """A shadow's answer, or why there is none.

    >>> vote = ShadowVote(action="BUY", confidence=0.615, status="ok", artefact="", p_up=0.615)
    >>> shadow_line("patchtst", "ETHUSDT", vote)
    '[SHADOW] PatchTST | ETHUSDT | action=BUY conf=0.6150 | prob=0.6150 logit=0.4684 | mode=SHADOW_ONLY'
    """
    head = f"[SHADOW] {DISPLAY_NAMES[model]} | {symbol} | action={vote.action} conf={vote.confidence:.4f}"
    if not isinstance(vote.p_up, float):
        return f"{head} | status={vote.status} | mode=SHADOW_ONLY"
    return f"{head} | prob={vote.p_up:.4f} logit={_logit(vote.p_up):.4f} | mode=SHADOW_ONLY"


def telemetry_line(decision: Decision, breakdown: Sequence[str], *, fallback_used: bool) -> str:
    """An intent that is being published."""
    return (
        f"[TELEMETRY] Publishing trade.intent: {decision.symbol} | breakdown_keys={list(breakdown)!r} | "
        f"fallback_used={fallback_used} | consensus={decision.consensus_count}/{len(breakdown)} | "
        f"action={decision.action}"
    )


def loaded_line(model: str, weight: float, *, shadow: bool = False) -> str:
    """A model whose digest, shapes and warm-up prediction were checked; a shadow's weight is what it would have.

    >>> loaded_line("patchtst", 0.2)
    '[OK] PatchTST agent loaded (weight: 20.0%)'
    >>> loaded_line("patchtst", 0.2, shadow=True)
    '[OK] PatchTST agent loaded (weight: 20.0%) | mode=SHADOW_ONLY: it does not vote'
    """
    text = f"[OK] {DISPLAY_NAMES[model]} agent loaded (weight: {weight:.1%})"
    return f"{text} | mode=SHADOW_ONLY: it does not vote" if shadow else text


def _logit(p: float) -> float:
    clipped = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(clipped / (1 - clipped))


class RateLimit:
    """Lets one line of a key through in a span of time."""

    def __init__(self, every_ms: int = SHADOW_LINE_EVERY_MS) -> None:
        self._every_ms = every_ms
        self._last: dict[tuple[str, str], int] = {}

    def allows(self, key: tuple[str, str], now_ms: int) -> bool:
        """Whether a line of this key may appear now; if so, the next waits its span."""
        last = self._last.get(key)
        if last is not None and now_ms - last < self._every_ms:
            return False
        self._last[key] = now_ms
        return True
