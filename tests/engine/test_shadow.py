"""The shadow's process: it answers, and whatever it does reaches the deciding thread as data within the grace."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.artefacts import make_artefact

from quantum_trader.core.bars import WINDOW
from quantum_trader.core.predictions import Status
from quantum_trader.engine.deciding import FeatureBatch, feature_batch
from quantum_trader.engine.loading import ShadowSpec
from quantum_trader.engine.shadow import ShadowRing
from quantum_trader.market.simulator import simulate
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.inference import OnnxModel

WEIGHTS = {"patchtst": 0.2}


@pytest.fixture(scope="module")
def batch() -> FeatureBatch:
    bars = simulate(WINDOW, 1)
    return feature_batch([series.matrix() for series in bars.values()])


@pytest.fixture
def spec(tmp_path: Path) -> ShadowSpec:
    folder = make_artefact(tmp_path, "patchtst", 4)
    return ShadowSpec("patchtst", folder, load_artefact(folder).digest, "PATCHTST_SHADOW_ONLY=true", loadable=True)


def ring_of(spec: ShadowSpec, grace_ms: float = 2000.0) -> ShadowRing:
    ring = ShadowRing([spec], grace_ms, WEIGHTS)
    ring.start()
    return ring


def process_of(ring: ShadowRing) -> psutil.Process:
    children = [p for p in psutil.Process().children(recursive=True) if "shadow_worker" in " ".join(p.cmdline())]
    assert len(children) == 1
    return children[0]


def test_it_answers_what_the_model_answers(spec: ShadowSpec, batch: FeatureBatch) -> None:
    ring = ring_of(spec)
    try:
        assert ring.wait_ready(30)
        for number in range(5):
            ring.submit(number, batch)
            output = ring.collect(number, 5)["patchtst"]
            expected = OnnxModel(load_artefact(spec.path)).predict(batch.sequences)
            assert output.statuses == (Status.OK,) * 5
            assert output.p_up.tobytes() == expected.tobytes()
            assert output.artefact == spec.digest
    finally:
        ring.close()


def test_a_stopped_shadow_costs_one_grace_and_is_late(spec: ShadowSpec, batch: FeatureBatch) -> None:
    ring = ring_of(spec, grace_ms=50.0)
    try:
        assert ring.wait_ready(30)
        process_of(ring).send_signal(signal.SIGSTOP)
        for number in range(3):
            ring.submit(number, batch)
            assert ring.collect(number, 5)["patchtst"].statuses == (Status.LATE,) * 5
        # Its answers to old batches are dropped when it goes on; a new batch is answered again.
        process_of(ring).send_signal(signal.SIGCONT)
        end = time.monotonic() + 30
        while True:
            ring.submit(99, batch)
            if ring.collect(99, 5)["patchtst"].statuses == (Status.OK,) * 5:
                break
            assert time.monotonic() < end
    finally:
        ring.close()


def test_a_killed_shadow_is_missing_and_comes_back(spec: ShadowSpec, batch: FeatureBatch) -> None:
    ring = ring_of(spec)
    try:
        assert ring.wait_ready(30)
        process_of(ring).kill()
        ring.submit(1, batch)
        assert ring.collect(1, 5)["patchtst"].statuses == (Status.MISSING,) * 5
        assert ring.wait_ready(30)
        ring.submit(2, batch)
        assert ring.collect(2, 5)["patchtst"].statuses == (Status.OK,) * 5
    finally:
        ring.close()


def test_a_replaced_artefact_never_answers(spec: ShadowSpec, batch: FeatureBatch, tmp_path: Path) -> None:
    other = make_artefact(tmp_path / "other", "patchtst", 5)
    ring = ring_of(ShadowSpec("patchtst", other, spec.digest, "", loadable=True), grace_ms=50.0)
    try:
        assert not ring.wait_ready(3)
        ring.submit(1, batch)
        assert ring.collect(1, 5)["patchtst"].statuses == (Status.MISSING,) * 5
    finally:
        ring.close()


def test_an_unloadable_shadow_is_failed_with_its_reason(batch: FeatureBatch, tmp_path: Path) -> None:
    ring = ring_of(ShadowSpec("patchtst", tmp_path, "", "manifest.json is missing", loadable=False))
    try:
        ring.submit(1, batch)
        output = ring.collect(1, 5)["patchtst"]
        assert output.statuses == (Status.FAILED,) * 5
        assert output.reason == "manifest.json is missing"
    finally:
        ring.close()


def test_features_that_are_not_finite_are_refused(spec: ShadowSpec, batch: FeatureBatch) -> None:
    rows, sequences = batch.rows.copy(), batch.sequences.copy()
    rows[2], sequences[2] = np.nan, np.nan
    ring = ring_of(spec)
    try:
        assert ring.wait_ready(30)
        ring.submit(1, FeatureBatch(rows, sequences, batch.atr_fractions, batch.input_hashes, {2: "broken"}))
        statuses = ring.collect(1, 5)["patchtst"].statuses
        assert statuses == (Status.OK, Status.OK, Status.REFUSED, Status.OK, Status.OK)
    finally:
        ring.close()


def test_its_environment_holds_no_bus_address_and_its_process_ends_with_the_ring(
    spec: ShadowSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTUM_REDIS_URL", "redis://:secret@127.0.0.1:6379/0")
    ring = ring_of(spec)
    assert ring.wait_ready(30)
    process = process_of(ring)
    assert not any("secret" in value for value in process.environ().values())
    ring.close()
    assert not psutil.pid_exists(process.pid)


def test_it_ends_when_the_engine_is_killed(tmp_path: Path) -> None:
    folder = make_artefact(tmp_path, "patchtst", 4)
    import subprocess
    import sys

    script = (
        "import sys, time; from pathlib import Path\n"
        "from quantum_trader.engine.loading import ShadowSpec\n"
        "from quantum_trader.engine.shadow import ShadowRing\n"
        "from quantum_trader.models.artefact import load_artefact\n"
        "folder = Path(sys.argv[1])\n"
        "spec = ShadowSpec('patchtst', folder, load_artefact(folder).digest, '', loadable=True)\n"
        "ring = ShadowRing([spec], 20, {'patchtst': 0.2}); ring.start(); ring.wait_ready(30)\n"
        "print('up', flush=True); time.sleep(60)\n"
    )
    engine = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
    assert engine.stdout is not None
    assert engine.stdout.readline() == b"up\n"
    (child,) = psutil.Process(engine.pid).children()
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()
    engine.stdout.close()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()
