"""Where the verbs print tables."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 110


def table_console() -> "Console":
    """A console without colours of its own; in a pipe rich assumes 80 columns, too few for the tables."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
