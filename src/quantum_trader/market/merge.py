"""Several series as one stream of bars in the order in which they closed."""

from collections.abc import Iterator, Mapping

import numpy as np

from quantum_trader.core.bars import Bar, BarSeries


def in_time_order(series: Mapping[str, BarSeries], batch: int) -> Iterator[list[Bar]]:
    """Bars of all symbols by opening time and then symbol, in lists of at most `batch`."""
    own = list(series.values())
    times = np.concatenate([bars.ts_open for bars in own])
    which = np.repeat(np.arange(len(own)), [len(bars) for bars in own])
    row = np.concatenate([np.arange(len(bars)) for bars in own])
    order = np.lexsort((which, times))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        pairs = zip(which[part].tolist(), row[part].tolist(), strict=True)
        yield [own[symbol].bar(index) for symbol, index in pairs]
