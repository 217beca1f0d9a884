"""The shadow's own process: builds its half of the cage, then loads one artefact and answers over an inherited socket.

Run as ``python -m quantum_trader.engine.shadow_worker FD ARTEFACT``. It ends when the engine's end of the socket
closes, and when the engine dies.
"""

import sys
from pathlib import Path

from quantum_trader.engine import cage


def main() -> None:
    """Entry point of the process."""
    given_up = cage.enter()
    # Only now: threads of libraries inherit the cage, and none can be put into it afterwards.
    from quantum_trader.engine.answering import serve

    serve(int(sys.argv[1]), Path(sys.argv[2]), given_up)


if __name__ == "__main__":
    main()
