"""The old name of `quantum gates`, for runbooks that still call it: same options, same exit codes."""

import sys

from quantum_trader.cli.main import main

sys.argv[1:1] = ["gates"]
main()
