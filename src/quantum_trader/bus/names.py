"""Names of the streams and of the keys beside them: guards, the tally, leases."""

from dataclasses import dataclass

BAR = "market.bar"
DECISION = "ai.decision"
INTENT = "trade.intent"
LIFECYCLE = "model.lifecycle"


@dataclass(frozen=True, slots=True)
class StreamNames:
    """Keys under one prefix; all other keys stand beside the streams, so that ``<prefix>*`` matches streams only.

    >>> StreamNames().bars
    'quantum:stream:market.bar'
    >>> StreamNames().decision_guard("BTCUSDT", "5m")
    'quantum:guard:decision:BTCUSDT:5m'
    """

    prefix: str = "quantum:stream:"

    @property
    def bars(self) -> str:
        """Closed bars, the engine's input."""
        return self.prefix + BAR

    @property
    def decisions(self) -> str:
        """Every decision with every model's full prediction."""
        return self.prefix + DECISION

    @property
    def intents(self) -> str:
        """The actionable decisions."""
        return self.prefix + INTENT

    @property
    def lifecycle(self) -> str:
        """Promotions, rollbacks and alarms."""
        return self.prefix + LIFECYCLE

    def bar_guard(self, symbol: str, timeframe: str) -> str:
        """Holds the open time of the last bar published for a symbol."""
        return self._guard(f"bar:{symbol}:{timeframe}")

    def decision_guard(self, symbol: str, timeframe: str) -> str:
        """Holds the open time of the last bar decided for a symbol, and the head of its chain of decisions."""
        return self._guard(f"decision:{symbol}:{timeframe}")

    def event_guard(self, event_id: str) -> str:
        """Remembers one lifecycle event for as long as a repeat of it could arrive."""
        return self._guard(f"event:{event_id}")

    @property
    def fence(self) -> str:
        """Written when a fresh connection must wait for everything before it to reach the disk."""
        return self._guard("fence")

    @property
    def tally(self) -> str:
        """Hash of counters that move in the transaction of every decision."""
        return self._beside("tally")

    def lease(self, group: str) -> str:
        """Holds who is the one engine of a consumer group; vanishes when that one falls silent."""
        return self._beside(f"lease:{group}")

    def lease_epoch(self, group: str) -> str:
        """Counts the takings of a lease and names the last taker; never vanishes."""
        return self._beside(f"lease-epoch:{group}")

    def _guard(self, rest: str) -> str:
        return self._beside(f"guard:{rest}")

    def _beside(self, rest: str) -> str:
        return f"{self.prefix.removesuffix('stream:')}{rest}"
