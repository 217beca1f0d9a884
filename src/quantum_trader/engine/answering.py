"""What a shadow's process does once it is caged: load one artefact, answer batches, report what it predicted on."""

import os
import select
import socket
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from quantum_trader.core.errors import QuantumError
from quantum_trader.core.features import Float32Array
from quantum_trader.core.hashes import input_hashes
from quantum_trader.engine import cage
from quantum_trader.engine.frames import OUT_OF_MEMORY, Greeting, Reply, Request, Requests, one_line, send
from quantum_trader.models.artefact import Artefact, load_artefact
from quantum_trader.models.inference import OnnxModel


class Answering:
    """One artefact that answers requests.

    Raises:
        QuantumError: if its model cannot be parsed or does not predict.
    """

    def __init__(self, artefact: Artefact) -> None:
        self.model = OnnxModel(artefact, allow_unknown_schema=True)
        self.model.warm_up()

    def see(self, request: Request) -> Float32Array:
        """The inputs of a request, shape (n, ...); read-only."""
        return request.inputs

    def predict(self, inputs: Float32Array) -> NDArray[np.float64]:
        """Probabilities, shape (n,)."""
        return self.model.predict(inputs)

    def answer(self, request: Request) -> Reply:
        """The reply to a request: probabilities and what they were computed from, or an error."""
        try:
            inputs = self.see(request)
            p_up = self.predict(inputs).tolist()
            # Of exactly the array that the model was given, not of what came over the socket.
            return Reply(request.batch, tuple(p_up), input_hashes(inputs), "", self.model.digest)
        except MemoryError:
            # What is left of this process after that is anybody's guess; a new one is started.
            os._exit(OUT_OF_MEMORY)
        except Exception as error:
            return Reply(request.batch, (), (), f"{type(error).__name__}: {one_line(str(error))}", self.model.digest)


def serve(descriptor: int, folder: Path, given_up: tuple[str, ...], kind: type[Answering] = Answering) -> None:
    """Greet with the digest that was really loaded, then answer until the engine hangs up.

    Args:
        descriptor: Of the inherited socket.
        folder: Of the artefact.
        given_up: What this process gave up before it loaded anything.
        kind: What answers.
    """
    encode = msgspec.msgpack.encode
    with socket.socket(fileno=descriptor) as connection:
        try:
            artefact = load_artefact(folder)
            # The bytes are here and verified; before the runtime parses them, everything else is given up.
            given_up += cage.lock()
            answering = kind(artefact)
        except QuantumError as error:
            send(connection, encode(Greeting("", one_line(str(error)), given_up)))
            return
        send(connection, encode(Greeting(answering.model.digest, "", given_up)))
        requests = Requests(connection)
        while True:
            # Not waited for in the read: the kernel would wake this process once more, at the engine's cost, when the
            # engine takes an answer out of the socket.
            select.select([connection], [], [])
            try:
                request = requests.next()
            except EOFError:
                return
            send(connection, encode(answering.answer(request)))
