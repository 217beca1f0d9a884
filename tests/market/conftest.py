"""A real HTTP and websocket server on loopback that speaks Binance's market data, for ccxt to talk to."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from quantum_trader.core.bars import Bar, BarSeries
from quantum_trader.market.exchange import Retries

FAST = Retries(attempts=3, first_wait_s=0.01)


def kline_row(bar: Bar) -> list[Any]:
    """A bar as Binance's REST writes it."""
    return [
        bar.ts_open,
        *(f"{value:.8f}" for value in (bar.open, bar.high, bar.low, bar.close, bar.volume)),
        bar.ts_close - 1,
        "1.0",
        10,
        "0.5",
        "0.5",
        "0",
    ]


class BinanceServer:
    """Serves the series it is given; keeps what it was asked; fails when it is told to."""

    def __init__(self) -> None:
        self.rows: dict[str, list[list[Any]]] = {}
        self.asked: list[dict[str, str]] = []
        self.faults: list[int] = []
        self.fail_after: int | None = None
        self.on_klines: Callable[[], None] = lambda: None
        self.subscriptions: list[str] = []
        self._sockets: list[web.WebSocketResponse] = []
        self._subscribed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def serve(self, *series: BarSeries) -> None:
        for own in series:
            self.rows[own.symbol] = [kline_row(bar) for bar in own]

    def start(self) -> None:
        self._thread.start()
        self.port = self._call(self._start())

    def stop(self) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def config(self) -> dict[str, Any]:
        """What makes ccxt's binance talk to this server."""
        at = f"127.0.0.1:{self.port}"
        return {
            "rateLimit": 2,
            "urls": {
                "api": {
                    "public": f"http://{at}/api/v3",
                    "fapiPublic": f"http://{at}/fapi/v1",
                    "ws": {"spot": f"ws://{at}/stream", "linear": f"ws://{at}/linear"},
                }
            },
        }

    @staticmethod
    def frame(bar: Bar, closed: bool, timeframe: str = "5m") -> str:
        """A bar as Binance's websocket writes it."""
        candle = {"t": bar.ts_open, "T": bar.ts_close - 1, "s": bar.symbol, "i": timeframe, "x": closed}
        values = {"o": bar.open, "c": bar.close, "h": bar.high, "l": bar.low, "v": bar.volume}
        candle |= {name: f"{value:.8f}" for name, value in values.items()}
        return json.dumps({"e": "kline", "E": bar.ts_open + 1, "s": bar.symbol, "k": candle})

    def push(self, frame: str) -> None:
        """Send a frame to every websocket that is open."""
        self._call(self._push(frame))

    def drop(self) -> None:
        """Close every websocket, as an exchange does once a day."""
        self._call(self._drop())

    def wait_subscribed(self, count: int) -> None:
        """Wait until so many subscriptions have been made in all."""
        with self._subscribed:
            assert self._subscribed.wait_for(lambda: len(self.subscriptions) >= count, timeout=30)

    def starts(self, symbol: str) -> list[int]:
        """The start of every klines request of a symbol."""
        return [int(query["startTime"]) for query in self.asked if query["symbol"] == symbol]

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    async def _start(self) -> int:
        app = web.Application()
        for prefix in ("/api/v3", "/fapi/v1"):
            app.router.add_get(f"{prefix}/exchangeInfo", self._info)
            app.router.add_get(f"{prefix}/klines", self._klines)
        app.router.add_get("/stream/{n}", self._socket)
        app.router.add_get("/linear/{n}", self._socket)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        await self._drop()
        await self._runner.cleanup()

    async def _info(self, request: web.Request) -> web.Response:
        future = request.path.startswith("/fapi")
        return web.json_response({"serverTime": 0, "symbols": [_market(name, future) for name in self.rows]})

    async def _klines(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        self.on_klines()
        if self.fail_after is not None and len(self.asked) > self.fail_after:
            return web.json_response({"code": -1001, "msg": "Internal error"}, status=503)
        if self.faults:
            return web.json_response({"code": -1003, "msg": "Too many requests"}, status=self.faults.pop(0))
        start, limit = int(request.query["startTime"]), int(request.query["limit"])
        rows = [row for row in self.rows[request.query["symbol"]] if row[0] >= start]
        return web.json_response(rows[:limit])

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                asked = json.loads(message.data)
                await socket.send_str(json.dumps({"result": None, "id": asked["id"]}))
                with self._subscribed:
                    self.subscriptions += asked["params"]
                    self._subscribed.notify_all()
        return socket

    async def _push(self, frame: str) -> None:
        for socket in self._sockets:
            if not socket.closed:
                await socket.send_str(frame)

    async def _drop(self) -> None:
        sockets, self._sockets = self._sockets, []
        for socket in sockets:
            await socket.close()


def _market(name: str, future: bool) -> dict[str, Any]:
    base = name.removesuffix("USDT")
    market = {
        "symbol": name,
        "pair": name,
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "9000", "stepSize": "0.001"},
        ],
    }
    if future:
        return market | {
            "contractType": "PERPETUAL",
            "marginAsset": "USDT",
            "deliveryDate": 4_133_404_800_000,
            "onboardDate": 0,
        }
    return market | {"isSpotTradingAllowed": True, "permissions": ["SPOT"]}


@pytest.fixture
def binance() -> Iterator[BinanceServer]:
    server = BinanceServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def fast() -> Retries:
    """Three attempts, a hundredth of a second apart."""
    return FAST
