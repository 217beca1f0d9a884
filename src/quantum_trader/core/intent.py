"""The trade.intent payload: keys, order and spacing that existing consumers parse with awk and strict types."""

from collections.abc import Mapping
from typing import Any

import msgspec

from quantum_trader.core.decision import SCHEMA_VERSION, Decision, ModelVote, ShadowVote
from quantum_trader.core.errors import format_ms
from quantum_trader.core.policy import IntentPolicy
from quantum_trader.core.predictions import FULL_NAMES, MODELS, cause_of

SIGNIFICANT_DIGITS = 8
"""Of stops and targets: below any venue's tick, above a float's noise."""


def iso_micros(now_us: int) -> str:
    """Microseconds since the epoch in the form the consumers know.

    >>> iso_micros(1768012593250080)
    '2026-01-10T02:36:33.250080+00:00'
    """
    seconds, micros = divmod(now_us, 1_000_000)
    return f"{format_ms(seconds * 1000)[:-1]}.{micros:06d}+00:00"


def build_intent(
    decision: Decision, shadows: Mapping[str, ShadowVote], policy: IntentPolicy, now_us: int
) -> dict[str, Any] | None:
    """The payload of an actionable decision, or None for HOLD.

    Args:
        decision: The voters' decision.
        shadows: Shadow votes by model; they appear in the breakdown and nowhere else.
        policy: Size and stops.
        now_us: When the decision was taken, microseconds since the epoch.
    """
    if decision.action == "HOLD":
        return None
    direction = 1.0 if decision.action == "BUY" else -1.0
    price, atr = decision.entry_price, decision.atr_value
    spoke = _in_order(decision.votes, shadows)
    breakdown = {name: _entry(name, vote) for name, vote in spoke}
    return {
        "symbol": decision.symbol,
        "side": decision.action,
        "action": decision.action,
        "position_size_usd": float(policy.position_size_usd),
        "leverage": policy.leverage,
        "entry_price": price,
        "stop_loss": _rounded(price * (1.0 - direction * policy.stop_atr * atr)),
        "take_profit": _rounded(price * (1.0 + direction * policy.take_atr * atr)),
        "confidence": decision.confidence,
        "timestamp": iso_micros(now_us),
        "model": "ensemble",
        "meta_strategy": "default",
        "consensus_count": decision.consensus_count,
        "total_models": len(breakdown),
        "fallback_used": fallback_used(decision.votes),
        "model_breakdown": breakdown,
        "atr_value": atr,
        "volatility_factor": 1.0,
        "exchange_divergence": 0.0,
        "funding_rate": 0.0,
        "regime": "unknown",
        "voters": decision.voters,
        "decision_id": decision.decision_id,
        "schema": SCHEMA_VERSION,
        "timeframe": decision.timeframe,
        "ts_open": decision.ts_open,
        "ts_close": decision.ts_close,
        "artefacts": {name: vote.artefact for name, vote in spoke},
    }


def encode_payload(payload: Mapping[str, Any]) -> bytes:
    """JSON with a space after every colon and comma, on one line."""
    return msgspec.json.format(msgspec.json.encode(payload), indent=0)


def fallback_used(votes: Mapping[str, ModelVote]) -> bool:
    """Whether anything but a loaded artefact spoke. Nothing in this engine can; this says so from the votes."""
    return any(vote.status == "ok" and not vote.artefact for vote in votes.values())


def _rounded(price: float) -> float:
    # A stop so far away that it would be negative is no price: the floor is a positive tick.
    return float(f"{max(price, 1e-8):.{SIGNIFICANT_DIGITS}g}")


def _in_order(
    votes: Mapping[str, ModelVote], shadows: Mapping[str, ShadowVote]
) -> list[tuple[str, ModelVote | ShadowVote]]:
    both = {**shadows, **votes}
    return [(name, both[name]) for name in MODELS if name in both]


def _entry(name: str, vote: ModelVote | ShadowVote) -> dict[str, Any]:
    shadow = isinstance(vote, ShadowVote)
    entry = {
        "action": vote.action,
        "confidence": vote.confidence,
        "model": FULL_NAMES[name] + ("_shadow" if shadow else ""),
    }
    if shadow:
        entry["shadow"] = True
    if vote.status != "ok":
        entry["status"] = vote.status
    if isinstance(vote, ShadowVote) and vote.reason:
        entry["reason"] = cause_of(vote.reason)
    return entry
