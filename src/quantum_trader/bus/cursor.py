"""Reading the decision and bar streams from a place on, again and again, as a spectator without a group."""

from typing import Any

import redis

from quantum_trader.bus.entries import BarEntry, bar_entry
from quantum_trader.bus.names import StreamNames
from quantum_trader.bus.session import Session
from quantum_trader.bus.wire import decode_record, pair_up
from quantum_trader.core.bars import Bar
from quantum_trader.core.decision import DecisionRecord
from quantum_trader.core.errors import WireError

_PAGE = 1000


class Cursor:
    """A place in both streams that moves on with every reading. Not for use by two threads at once.

    Decisions come before bars: a bar is always in the stream when its decision is, so whoever reads a decision and
    then the bars has its bar.

    Args:
        client: From `client.connect`.
        names: Keys.
        since_ms: Decisions written from then on, by the server's clock; 0 for all that are there.
        page: Entries of one request.
    """

    def __init__(self, client: redis.Redis, names: StreamNames, since_ms: int = 0, page: int = _PAGE) -> None:
        self._session, self._names, self._page = Session(client), names, page
        self._since_ms = max(since_ms, 0)
        self._decision = self._bar = ""
        self.rewind()

    def rewind(self) -> None:
        """Go back to the beginning: everything is read again."""
        self._decision, self._bar = f"{self._since_ms}-0", "-"

    def decisions(self) -> list[DecisionRecord]:
        """The next page of decisions, oldest first; empty when all were read.

        Raises:
            WireError: at an entry that is no decision, naming its id.
            BusError: if the server stays away or refuses.
        """
        page = self._range(self._names.decisions, self._decision)
        records = []
        for entry_id, flat in page:
            try:
                records.append(decode_record(pair_up(flat)))
            except WireError as error:
                raise WireError(f"entry {entry_id.decode()}: {error}") from error
        if page:
            self._decision = f"({page[-1][0].decode()}"
        return records

    def bars(self, timeframe: str) -> list[Bar]:
        """All bars of a timeframe since the last call; entries that are no bar are passed over.

        Raises:
            BusError: if the server stays away or refuses.
        """
        found: list[Bar] = []
        while True:
            page = self._range(self._names.bars, self._bar)
            entries = (bar_entry(entry_id.decode(), flat) for entry_id, flat in page)
            found += [e.bar for e in entries if isinstance(e, BarEntry) and e.timeframe == timeframe]
            if page:
                self._bar = f"({page[-1][0].decode()}"
            if len(page) < self._page:
                return found

    def close(self) -> None:
        """Give the connection back."""
        self._session.close(broken=True)

    def _range(self, key: str, start: str) -> list[Any]:
        page: list[Any] = self._session.persist(
            f"reading {key}", lambda: self._session.one("XRANGE", key, start, "+", "COUNT", self._page)
        )
        return page
