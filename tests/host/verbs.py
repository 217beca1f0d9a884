"""Verbs as an operator calls them, in a process of their own that may be killed; how long they took, what they said."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LONGEST_S = 400.0


class Verb:
    """One call of `quantum`."""

    def __init__(self, folder: Path, *words: str) -> None:
        """Start it.

        Args:
            folder: For what it says and for temporary files, which a killed one leaves behind.
            words: Verb and options.
        """
        self.words, self._folder = words, folder
        self._out = (folder / "said").open("w+")
        argv = [sys.executable, "-m", "quantum_trader.cli.main", *words]
        environ = {**os.environ, "TMPDIR": str(folder)}
        self._began = time.monotonic()
        # A file, not a pipe: the shared connection of ssh stays for a minute and would hold a pipe open.
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._out, env=environ
        )

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def kill(self) -> None:
        """As an out-of-memory killer does it."""
        self._process.send_signal(signal.SIGKILL)

    def ended(self) -> "Ended":
        """Wait for its end."""
        try:
            code = self._process.wait(LONGEST_S)
        finally:
            self.kill()
        took = time.monotonic() - self._began
        self._out.seek(0)
        said = self._out.read()
        self._out.close()
        return Ended(self.words, code, said, took)


class Ended:
    """How a call ended.

    Attributes:
        words: Verb and options.
        code: Its exit code; negative where it was killed.
        said: All that it printed.
        took_s: From call to exit.
    """

    def __init__(self, words: tuple[str, ...], code: int, said: str, took_s: float) -> None:
        self.words, self.code, self.said, self.took_s = words, code, said, took_s

    @property
    def last(self) -> str:
        """The last line that it printed."""
        return (self.said.strip().splitlines() or [""])[-1]

    def __str__(self) -> str:
        return f"quantum {' '.join(self.words)}: exit code {self.code} after {self.took_s:.1f} s\n{self.said}"
