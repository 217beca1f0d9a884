"""The shadow's own process: loads one artefact, answers batches over an inherited socket, knows nothing else.

Run as ``python -m quantum_trader.engine.shadow_worker FD ARTEFACT``. It has no bus address and no write access to the
voters' inputs; it ends when the engine's end of the socket closes.
"""

import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import numpy as np

from quantum_trader.core.errors import QuantumError
from quantum_trader.engine.frames import GREETING, Reply, Request, receive, send
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.inference import OnnxModel


def _answer(model: OnnxModel, request: Request) -> Reply:
    inputs = np.frombuffer(request.inputs, dtype=np.float32).reshape(request.shape)
    try:
        p_up = model.predict(inputs)
    except Exception as error:
        return Reply(request.batch, b"", f"{type(error).__name__}: {error}", model.digest)
    return Reply(request.batch, p_up.astype(np.float64).tobytes(), "", model.digest)


def serve(connection: socket.socket, folder: Path) -> None:
    """Greet with the digest that was really loaded, then answer until the engine hangs up."""
    encode = msgspec.msgpack.encode
    try:
        model = OnnxModel(load_artefact(folder), allow_unknown_schema=True)
        model.warm_up()
    except QuantumError as error:
        send(connection, encode(Reply(GREETING, b"", str(error), "")))
        return
    send(connection, encode(Reply(GREETING, b"", "", model.digest)))
    decoder = msgspec.msgpack.Decoder(Request)
    while True:
        try:
            body = receive(connection)
        except EOFError:
            return
        send(connection, encode(_answer(model, decoder.decode(body))))


def main() -> None:
    """Entry point of the process."""
    # Ctrl-C in a terminal reaches the whole group; the engine decides when its shadow ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
    descriptor, folder = int(sys.argv[1]), Path(sys.argv[2])
    with socket.socket(fileno=descriptor) as connection:
        serve(connection, folder)


if __name__ == "__main__":
    main()
