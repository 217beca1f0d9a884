"""Every fault as a real process in the real cage: what is recorded of it, what it costs, and that it starts again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.artefacts import make_artefact
from tests.engine.said import Said

from quantum_trader.core.bars import WINDOW
from quantum_trader.core.hashes import input_hashes
from quantum_trader.core.predictions import Cause, Status, cause_of
from quantum_trader.engine.deciding import FeatureBatch, feature_batch
from quantum_trader.engine.escapes import escaped
from quantum_trader.engine.faults import CERTIFIED, CRASH_AT, Fault, program_of
from quantum_trader.engine.loading import ShadowSpec
from quantum_trader.engine.shadow import ShadowRing
from quantum_trader.engine.supervisor import PATIENCE, Patience
from quantum_trader.market.simulator import simulate
from quantum_trader.models.artefact import load_artefact

N = 5
GRACE_MS = 400.0
SLACK_S = 2.0
"""What a busy machine may add to a grace; a fault that reached the deciding thread would add seconds, or for ever."""

LONG_S = 60.0


@pytest.fixture(scope="module")
def batch() -> FeatureBatch:
    return feature_batch([series.matrix() for series in simulate(WINDOW, 1).values()])


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ShadowSpec:
    folder = make_artefact(tmp_path_factory.mktemp("models"), "patchtst", 4)
    return ShadowSpec("patchtst", folder, load_artefact(folder).digest, "", loadable=True)


class Run:
    """A ring with one faulty shadow."""

    def __init__(self, ring: ShadowRing, batch: FeatureBatch) -> None:
        self.ring, self.batch, self.number = ring, batch, 0

    def decide(self) -> Said:
        """One batch, timed: whatever the shadow does, the deciding thread waits at most the grace."""
        self.number += 1
        began = time.monotonic()
        self.ring.submit(self.number, "sequence", self.batch.sequences)
        output = Said.of(self.ring.collect(self.number, self.batch, time.monotonic())["patchtst"])
        assert time.monotonic() - began < GRACE_MS / 1000.0 + SLACK_S
        return output

    def ended(self) -> tuple[Status, str]:
        """Status and cause of one batch, the same for all rows."""
        output = self.decide()
        (said,) = {(status, cause_of(reason)) for status, reason in zip(output.statuses, output.reasons, strict=True)}
        return said

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + LONG_S
        while not condition():
            assert time.monotonic() < end, self.ring.states()
            time.sleep(0.01)

    def up(self) -> bool:
        return self.ring.states()["patchtst"].up

    def restarts(self) -> int:
        return self.ring.states()["patchtst"].restarts


@contextmanager
def running(
    spec: ShadowSpec,
    batch: FeatureBatch,
    fault: Fault,
    patience: Patience = PATIENCE,
    *,
    grace_ms: float = GRACE_MS,
) -> Iterator[Run]:
    ring = ShadowRing(
        [spec], grace_ms, {"patchtst": 0.2}, memory_mb=700, program=program_of(fault), patience=patience, misses=3
    )
    ring.start()
    try:
        if fault is not Fault.EXIT_IN_IMPORT:
            assert ring.wait_ready(LONG_S)
        yield Run(ring, batch)
    finally:
        ring.close()
    assert not [child for child in psutil.Process().children() if "faulty_worker" in " ".join(child.cmdline())]


ANSWERING = {
    Fault.HEALTHY: (Status.OK, ""),
    Fault.ESCAPING: (Status.OK, ""),
    Fault.NAN: (Status.REFUSED, Cause.NAN),
    Fault.INFINITE: (Status.REFUSED, Cause.INFINITE),
    Fault.WRONG_SHAPE: (Status.REFUSED, Cause.SHAPE),
    Fault.MUTATING: (Status.REFUSED, Cause.INPUT),
}


@pytest.mark.parametrize("fault", ANSWERING)
def test_a_fault_in_the_answer_is_refused_bar_by_bar_and_nothing_is_restarted(
    spec: ShadowSpec, batch: FeatureBatch, fault: Fault
) -> None:
    before = {path.name: path.read_bytes() for path in spec.path.iterdir()}
    with running(spec, batch, fault) as run:
        assert [run.ended() for _ in range(5)] == [ANSWERING[fault]] * 5
        assert run.restarts() == 0
        assert not run.ring.states()["patchtst"].breaker_open
    assert {path.name: path.read_bytes() for path in spec.path.iterdir()} == before


SILENT = {
    Fault.HUNG: (Patience(hang_s=1.5), "hung: no answer in 1.5 s, its process was ended"),
    Fault.STDOUT: (Patience(hang_s=LONG_S), "hung: no answer after 1 s of computing, its process was ended"),
}


@pytest.mark.parametrize("fault", SILENT)
def test_a_silent_fault_costs_three_graces_then_nothing_and_is_ended_and_started_again(
    spec: ShadowSpec, batch: FeatureBatch, fault: Fault
) -> None:
    patience, why = SILENT[fault]
    with running(spec, batch, fault, patience) as run:
        said = run.decide()
        assert said.statuses == (Status.LATE,) * N
        assert cause_of(said.reasons[0]) == Cause.GRACE
        run.until(lambda: not run.up())
        missing = run.decide()
        assert missing.statuses == (Status.MISSING,) * N
        assert missing.reasons[0] == why
        run.until(lambda: run.restarts() >= 1 and run.up())
        assert run.ended()[0] is Status.LATE
        assert run.ring.states()["patchtst"].breaker_open
        began = time.monotonic()
        assert run.ended() == (Status.LATE, Cause.BREAKER)
        assert time.monotonic() - began < GRACE_MS / 1000.0


def test_one_that_takes_all_memory_meets_its_limit_and_is_started_again(spec: ShadowSpec, batch: FeatureBatch) -> None:
    # How soon it has filled its memory is the machine's matter: a virtual one may have to fetch every page first.
    with running(spec, batch, Fault.MEMORY, Patience(LONG_S, LONG_S)) as run:
        assert run.ended() in {(Status.LATE, Cause.GRACE), (Status.FAILED, Cause.CRASHED)}
        run.until(lambda: not run.up())
        assert run.decide().reasons[0] == "stopped: its process ended over a batch (out of memory)"
        run.until(lambda: run.restarts() == 1 and run.up())


def test_a_sleeping_one_is_late_and_costs_no_more_than_its_first_graces(spec: ShadowSpec, batch: FeatureBatch) -> None:
    with running(spec, batch, Fault.SLEEPING) as run:
        assert [run.ended() for _ in range(3)] == [(Status.LATE, Cause.GRACE)] * 3
        began = time.monotonic()
        assert [run.ended() for _ in range(20)] == [(Status.LATE, Cause.BREAKER)] * 20
        assert time.monotonic() - began < GRACE_MS / 1000.0
        assert run.restarts() == 0
        # Nobody waits, and its answers still come and are measured.
        run.until(lambda: (run.ring.states()["patchtst"].latency_ms or 0.0) >= 1000.0)


def test_what_it_has_computed_before_is_not_held_against_one_that_is_late(
    spec: ShadowSpec, batch: FeatureBatch
) -> None:
    with running(spec, batch, Fault.SLEEPING, Patience(LONG_S, 0.1), grace_ms=20.0) as run:
        (child,) = (child for child in psutil.Process().children() if "faulty_worker" in " ".join(child.cmdline()))
        assert sum(child.cpu_times()[:2]) > 0.1, "loading has to take more than one batch may"
        assert [run.ended()[0] for _ in range(3)] == [Status.LATE] * 3
        run.until(lambda: (run.ring.states()["patchtst"].latency_ms or 0.0) >= 1000.0)
        assert run.restarts() == 0


@given(patience=st.builds(Patience, st.floats(0, 100), st.floats(0, 100)), grace_s=st.floats(0, 60))
def test_nobody_is_ended_while_it_is_waited_for(patience: Patience, grace_s: float) -> None:
    longer = patience.at_least(grace_s)
    assert longer.hang_s >= max(patience.hang_s, 2.0 * grace_s)
    assert longer.computing_s >= max(patience.computing_s, 2.0 * grace_s)


def test_a_crash_is_failed_then_missing_then_it_answers_again_until_the_seventh(
    spec: ShadowSpec, batch: FeatureBatch
) -> None:
    with running(spec, batch, Fault.CRASH_ON_7TH) as run:
        for life in range(2):
            assert [run.ended() for _ in range(CRASH_AT - 1)] == [(Status.OK, "")] * (CRASH_AT - 1)
            crashed = run.decide()
            assert crashed.statuses == (Status.FAILED,) * N
            assert crashed.reasons[0] == "crashed: its process ended over this batch (killed by SIGABRT)"
            assert run.ended() == (Status.MISSING, Cause.STOPPED)
            run.until(lambda life=life: run.restarts() == life + 1 and run.up())


def test_a_crash_at_every_batch_backs_off(spec: ShadowSpec, batch: FeatureBatch) -> None:
    with running(spec, batch, Fault.CRASH_ON_EVERY) as run:
        downs = []
        for life in range(3):
            assert run.ended() == (Status.FAILED, Cause.CRASHED)
            began = time.monotonic()
            run.until(lambda life=life: run.restarts() == life + 1)
            downs.append(time.monotonic() - began)
            run.until(run.up)
        assert downs[0] >= 0.5
        assert downs[1] >= 1.0
        assert downs[2] >= 2.0


def test_ten_megabytes_are_refused_unread_and_end_the_process(spec: ShadowSpec, batch: FeatureBatch) -> None:
    with running(spec, batch, Fault.OUTPUT_10MB) as run:
        output = run.decide()
        assert output.statuses == (Status.REFUSED,) * N
        assert output.reasons[0] == "too-large: a frame of 10485916 bytes, the limit is 4416"
        assert run.ended() == (Status.MISSING, Cause.STOPPED)
        run.until(lambda: run.restarts() == 1 and run.up())
        assert run.ended() == (Status.REFUSED, Cause.TOO_LARGE)


def test_one_that_exits_in_import_is_missing_and_tried_again(spec: ShadowSpec, batch: FeatureBatch) -> None:
    with running(spec, batch, Fault.EXIT_IN_IMPORT) as run:
        run.until(lambda: "exit status 3" in run.decide().reasons[0])
        assert run.ended() == (Status.MISSING, Cause.STOPPED) or run.restarts() > 0
        run.until(lambda: run.restarts() >= 2)


def test_a_constant_input_shows_in_the_hashes_and_is_refused(spec: ShadowSpec, batch: FeatureBatch) -> None:
    with running(spec, batch, Fault.CONSTANT_INPUT) as run:
        output = run.decide()
        first = input_hashes(batch.sequences)[0]
        assert output.input_hashes == (first,) * N
        assert output.statuses == (Status.OK, *(Status.REFUSED,) * (N - 1))
        assert {cause_of(reason) for reason in output.reasons[1:]} == {Cause.INPUT}
        moved = np.roll(batch.sequences, 1, axis=0)
        run.batch = FeatureBatch(batch.rows, moved, batch.atr_fractions, batch.input_hashes)
        assert run.decide().input_hashes == (first,) * N


def test_the_voters_inputs_are_not_touched(spec: ShadowSpec, batch: FeatureBatch) -> None:
    before = batch.sequences.tobytes(), batch.rows.tobytes()
    with running(spec, batch, Fault.MUTATING) as run:
        run.decide()
    assert (batch.sequences.tobytes(), batch.rows.tobytes()) == before


def test_the_escapes_are_ones_that_work_where_there_is_no_cage(tmp_path: Path) -> None:
    folder = make_artefact(tmp_path, "patchtst", 4)
    worked = set(escaped(folder))
    assert worked >= {
        "opened its artefact for writing",
        "made a file beside its artefact",
        "made a temporary file",
        "read its artefact again",
        "sent the engine a signal",
        "made a socket",
        "connected to a port",
        "started a program",
    }


def test_every_fault_is_tested_here() -> None:
    others = {
        Fault.MEMORY,
        Fault.SLEEPING,
        Fault.CRASH_ON_7TH,
        Fault.CRASH_ON_EVERY,
        Fault.OUTPUT_10MB,
        Fault.EXIT_IN_IMPORT,
        Fault.CONSTANT_INPUT,
    }
    assert {*ANSWERING, *SILENT, *others} == set(Fault)
    assert len(CERTIFIED) == 13
