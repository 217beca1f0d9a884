"""The engine with a planted fault in its shadows' processes, for the certificate and the demo.

Run as ``python -m quantum_trader.cli.planted FAULT ENV_FILE``. It is no verb of `quantum`, and nothing in the settings
of `quantum run` can choose what runs a shadow.
"""

import sys
from pathlib import Path

from quantum_trader.bootstrap import run_engine
from quantum_trader.engine.faults import Fault, program_of
from quantum_trader.settings_source import SettingsSource


def main() -> None:
    """Entry point of the process."""
    fault, env_file = Fault(sys.argv[1]), Path(sys.argv[2])
    sys.exit(not run_engine(SettingsSource((), env_file), program_of(fault)))


if __name__ == "__main__":
    main()
