"""A stop that a signal handler asks for, in the very thread that waits for it."""

import subprocess
import sys
import threading
import time

from quantum_trader.stopping import Stop

STORM = """
import signal, time
from quantum_trader.stopping import Stop

stop, rounds = Stop(), 0

def asked(*_):
    stop.set()

signal.signal(signal.SIGALRM, asked)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
end = time.monotonic() + 3
while time.monotonic() < end:
    stop = Stop()
    while not stop.wait(0.0):
        pass
    rounds += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(rounds)
"""


def test_a_handler_may_ask_at_any_instant_of_the_wait() -> None:
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 100


def test_a_wait_ends_when_another_thread_asks_and_stays_ended() -> None:
    stop = Stop()
    assert not stop.wait(0.01)
    assert not stop.is_set()
    threading.Timer(0.05, stop.set).start()
    assert stop.wait(30)
    began = time.monotonic()
    assert all(stop.wait(30) for _ in range(3))
    assert stop.wait()
    assert stop.is_set()
    assert time.monotonic() - began < 10
