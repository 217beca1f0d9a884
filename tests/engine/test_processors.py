"""Shadows keep off the processor that decides, with real processes and the kernel's own word for it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from quantum_trader.engine.processors import Processors

ALL = frozenset(os.sched_getaffinity(0))

pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="this machine has one processor")


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def on(processor: int, act: Callable[[], object]) -> None:
    """Do something in a thread of its own that runs on this processor."""

    def there() -> None:
        os.sched_setaffinity(0, {processor})
        act()

    thread = threading.Thread(target=there)
    thread.start()
    thread.join()


def test_a_shadow_makes_room_wherever_the_deciding_thread_goes(sleeper: "subprocess.Popen[bytes]") -> None:
    processors = Processors()
    assert processors.add(sleeper.pid)
    assert os.sched_getaffinity(sleeper.pid) == ALL
    for processor in (*sorted(ALL), min(ALL)):
        on(processor, processors.take_this)
        assert os.sched_getaffinity(sleeper.pid) == ALL - {processor}


def test_one_that_starts_later_has_its_place_at_once(sleeper: "subprocess.Popen[bytes]") -> None:
    processors = Processors()
    on(max(ALL), processors.take_this)
    assert processors.add(sleeper.pid)
    assert os.sched_getaffinity(sleeper.pid) == ALL - {max(ALL)}


def test_one_that_was_forgotten_is_left_alone(sleeper: "subprocess.Popen[bytes]") -> None:
    processors = Processors()
    processors.add(sleeper.pid)
    processors.remove(sleeper.pid)
    on(max(ALL), processors.take_this)
    assert os.sched_getaffinity(sleeper.pid) == ALL


def test_with_one_processor_everything_stays_on_it(sleeper: "subprocess.Popen[bytes]") -> None:
    only = min(ALL)
    os.sched_setaffinity(sleeper.pid, {only})
    processors = Processors(frozenset({only}))
    assert not processors.add(sleeper.pid)
    on(only, processors.take_this)
    assert os.sched_getaffinity(sleeper.pid) == {only}


def test_a_process_that_is_gone_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    processors = Processors()
    assert not processors.add(process.pid)
    on(max(ALL), processors.take_this)
