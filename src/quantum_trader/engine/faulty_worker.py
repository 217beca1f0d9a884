"""The real worker with one fault planted, in the real cage.

Run as ``python -m quantum_trader.engine.faulty_worker FD ARTEFACT FAULT`` by the certificate, the demo and the tests;
`quantum run` cannot be told to start it.
"""

import sys
from pathlib import Path

from quantum_trader.engine import cage


def main() -> None:
    """Entry point of the process."""
    given_up = cage.enter()
    descriptor, folder, name = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    if name == "exit-in-import":
        sys.exit(3)
    from quantum_trader.engine.answering import serve
    from quantum_trader.engine.faults import Fault, faulty

    serve(descriptor, folder, given_up, faulty(Fault(name)))


if __name__ == "__main__":
    main()
