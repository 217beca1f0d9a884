"""The shadow's process: it answers, and whatever becomes of it reaches the deciding thread as data within the grace."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.artefacts import make_artefact
from tests.engine.said import Said

from quantum_trader.core.bars import WINDOW
from quantum_trader.core.hashes import input_hashes
from quantum_trader.core.predictions import Cause, Status, cause_of
from quantum_trader.engine import landlock
from quantum_trader.engine.deciding import FeatureBatch, feature_batch
from quantum_trader.engine.faults import Fault, program_of
from quantum_trader.engine.loading import ShadowSpec
from quantum_trader.engine.shadow import WORKER, ShadowRing
from quantum_trader.market.simulator import simulate
from quantum_trader.models.artefact import load_artefact
from quantum_trader.models.inference import OnnxModel

WEIGHTS = {"patchtst": 0.2, "nhits": 0.3, "lgbm": 0.25}


@pytest.fixture(scope="module")
def batch() -> FeatureBatch:
    bars = simulate(WINDOW, 1)
    return feature_batch([series.matrix() for series in bars.values()])


def spec_of(folder: Path, model: str = "patchtst", seed: int = 4) -> ShadowSpec:
    path = make_artefact(folder, model, seed)
    return ShadowSpec(model, path, load_artefact(path).digest, f"{model.upper()}_SHADOW_ONLY=true", loadable=True)


@pytest.fixture
def spec(tmp_path: Path) -> ShadowSpec:
    return spec_of(tmp_path)


def ask(ring: ShadowRing, number: int, batch: FeatureBatch) -> None:
    ring.submit(number, "sequence", batch.sequences)
    ring.submit(number, "row", batch.rows)


def answers(ring: ShadowRing, number: int, batch: FeatureBatch) -> dict[str, Said]:
    return {model: Said.of(votes) for model, votes in ring.collect(number, batch, time.monotonic()).items()}


class Rings:
    """Starts rings, and ends them with the test."""

    def __init__(self) -> None:
        self.rings: list[ShadowRing] = []

    def __call__(
        self, specs: Sequence[ShadowSpec], grace_ms: float = 2000.0, *, program: Sequence[str] = WORKER
    ) -> ShadowRing:
        ring = ShadowRing(specs, grace_ms, WEIGHTS, program=program)
        self.rings.append(ring)
        ring.start()
        return ring

    def close(self) -> None:
        for ring in self.rings:
            ring.close()


@pytest.fixture
def rings() -> Iterator[Rings]:
    rings = Rings()
    yield rings
    rings.close()


def processes() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "shadow_worker" in command_of(p)]


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # gone, or ended and not waited for yet
        return ""


def process_of(_: ShadowRing) -> psutil.Process:
    (child,) = processes()
    return child


def wait_down(ring: ShadowRing, model: str = "patchtst") -> None:
    end = time.monotonic() + 30
    while ring.states()[model].up:
        assert time.monotonic() < end
        time.sleep(0.005)


def settled_switches(process: psutil.Process) -> int:
    """How often a process has gone to sleep, once it has slept for a while."""
    end, seen, since = time.monotonic() + 30, -1, time.monotonic()
    while time.monotonic() - since < 0.2:
        assert time.monotonic() < end
        now = process.num_ctx_switches().voluntary
        if now != seen or process.status() != psutil.STATUS_SLEEPING:
            seen, since = now, time.monotonic()
        time.sleep(0.01)
    return seen


class TestAShadow:
    def test_answers_what_the_model_answers_and_says_what_it_saw(
        self, spec: ShadowSpec, batch: FeatureBatch, rings: Rings
    ) -> None:
        ring = rings([spec])
        assert ring.wait_ready(30)
        expected = OnnxModel(load_artefact(spec.path)).predict(batch.sequences)
        for number in range(5):
            ask(ring, number, batch)
            output = answers(ring, number, batch)["patchtst"]
            assert output.statuses == (Status.OK,) * 5
            assert output.p_up == tuple(expected.tolist())
            assert output.artefact == spec.digest
            assert output.input_hashes == input_hashes(batch.sequences)
        state = ring.states()["patchtst"]
        assert (state.up, state.restarts, state.breaker_open, state.misses) == (True, 0, False, 0)
        assert state.latency_ms is not None
        assert state.latency_ms > 0.0

    def test_is_not_woken_when_its_answer_is_taken(self, spec: ShadowSpec, batch: FeatureBatch, rings: Rings) -> None:
        # The engine would pay for that at every bar: the kernel wakes whoever waits in a read, also for room to write.
        ring = rings([spec])
        assert ring.wait_ready(30)
        process = process_of(ring)
        for number in range(5):
            ask(ring, number, batch)
            before = settled_switches(process)
            assert answers(ring, number, batch)["patchtst"].statuses == (Status.OK,) * 5
            assert settled_switches(process) == before

    def test_is_missing_while_it_loads(self, spec: ShadowSpec, batch: FeatureBatch, rings: Rings) -> None:
        ring = rings([spec], grace_ms=60_000.0)
        began = time.monotonic()
        ask(ring, 1, batch)
        output = answers(ring, 1, batch)["patchtst"]
        assert time.monotonic() - began < 30.0
        assert output.statuses == (Status.MISSING,) * 5
        assert cause_of(output.reasons[0]) == Cause.STARTING

    def test_that_is_stopped_costs_one_grace_is_late_and_answers_when_it_goes_on(
        self, spec: ShadowSpec, batch: FeatureBatch, rings: Rings
    ) -> None:
        ring = rings([spec], grace_ms=50.0)
        assert ring.wait_ready(30)
        process_of(ring).send_signal(signal.SIGSTOP)
        for number in range(3):
            ask(ring, number, batch)
            assert answers(ring, number, batch)["patchtst"].statuses == (Status.LATE,) * 5
        assert ring.states()["patchtst"].breaker_open
        # Its answers to old batches are dropped when it goes on; a new batch closes the breaker and is waited for.
        process_of(ring).send_signal(signal.SIGCONT)
        end, number = time.monotonic() + 30, 99
        while True:
            number += 1
            ask(ring, number, batch)
            time.sleep(0.02)
            if answers(ring, number, batch)["patchtst"].statuses == (Status.OK,) * 5:
                break
            assert time.monotonic() < end
        assert not ring.states()["patchtst"].breaker_open

    def test_that_is_killed_between_two_bars_is_noticed_at_once_missing_and_comes_back(
        self, spec: ShadowSpec, batch: FeatureBatch, rings: Rings
    ) -> None:
        ring = rings([spec])
        assert ring.wait_ready(30)
        process_of(ring).kill()
        wait_down(ring)
        ask(ring, 1, batch)
        output = answers(ring, 1, batch)["patchtst"]
        assert output.statuses == (Status.MISSING,) * 5
        assert output.reasons[0] == "stopped: its process ended between two batches (killed by SIGKILL)"
        assert ring.wait_ready(30)
        assert ring.states()["patchtst"].restarts == 1
        ask(ring, 2, batch)
        assert answers(ring, 2, batch)["patchtst"].statuses == (Status.OK,) * 5

    def test_that_is_another_artefact_than_configured_never_answers(
        self, spec: ShadowSpec, batch: FeatureBatch, tmp_path: Path, rings: Rings
    ) -> None:
        other = make_artefact(tmp_path / "other", "patchtst", 5)
        ring = rings([ShadowSpec("patchtst", other, spec.digest, "", loadable=True)])
        end = time.monotonic() + 30
        number, seen = 0, Status.MISSING
        while seen is Status.MISSING and time.monotonic() < end:
            number += 1
            ask(ring, number, batch)
            output = answers(ring, number, batch)["patchtst"]
            seen = output.statuses[0]
        assert output.statuses == (Status.REFUSED,) * 5
        assert output.reasons[0] == f"digest: it loaded artefact {load_artefact(other).digest[:16]}"
        assert not ring.states()["patchtst"].up

    def test_whose_model_file_the_runtime_refuses_is_failed_with_its_reason(
        self, batch: FeatureBatch, tmp_path: Path, rings: Rings
    ) -> None:
        path = make_artefact(tmp_path, "patchtst", 4, onnx_bytes=b"\x08\x0a\x3a\x00")
        ring = rings([ShadowSpec("patchtst", path, load_artefact(path).digest, "", loadable=True)])
        end = time.monotonic() + 30
        number, seen = 0, Status.MISSING
        while seen is Status.MISSING and time.monotonic() < end:
            number += 1
            ask(ring, number, batch)
            output = answers(ring, number, batch)["patchtst"]
            seen = output.statuses[0]
        assert output.statuses == (Status.FAILED,) * 5
        assert output.reasons[0].startswith("load: artefact ")

    def test_that_cannot_be_loaded_is_failed_with_its_reason_and_has_no_process(
        self, batch: FeatureBatch, tmp_path: Path, rings: Rings
    ) -> None:
        ring = rings([ShadowSpec("patchtst", tmp_path, "", "manifest.json is missing", loadable=False)])
        assert ring.wait_ready(0.0)
        ask(ring, 1, batch)
        output = answers(ring, 1, batch)["patchtst"]
        assert output.statuses == (Status.FAILED,) * 5
        assert output.reasons == ("load: manifest.json is missing",) * 5
        assert output.artefact == ""
        assert processes() == []
        assert not ring.states()["patchtst"].up

    def test_refuses_rows_whose_features_are_not_finite(
        self, spec: ShadowSpec, batch: FeatureBatch, rings: Rings
    ) -> None:
        rows, sequences = batch.rows.copy(), batch.sequences.copy()
        rows[2], sequences[2] = np.nan, np.nan
        ring = rings([spec])
        assert ring.wait_ready(30)
        broken = FeatureBatch(rows, sequences, batch.atr_fractions, batch.input_hashes, {2: "broken"})
        ask(ring, 1, broken)
        statuses = answers(ring, 1, broken)["patchtst"].statuses
        assert statuses == (Status.OK, Status.OK, Status.REFUSED, Status.OK, Status.OK)

    def test_takes_a_large_batch(self, spec: ShadowSpec, batch: FeatureBatch, rings: Rings) -> None:
        many = FeatureBatch(
            np.tile(batch.rows, (100, 1)), np.tile(batch.sequences, (100, 1, 1)), [0.0] * 500, [""] * 500
        )
        ring = rings([spec], grace_ms=20_000.0)
        assert ring.wait_ready(30)
        ask(ring, 1, many)
        assert answers(ring, 1, many)["patchtst"].statuses == (Status.OK,) * 500

    def test_with_a_grace_of_zero_is_never_waited_for(
        self, spec: ShadowSpec, batch: FeatureBatch, rings: Rings
    ) -> None:
        ring = rings([spec], grace_ms=0.0)
        assert ring.wait_ready(30)
        process_of(ring).send_signal(signal.SIGSTOP)
        began = time.monotonic()
        for number in range(200):
            ask(ring, number, batch)
            assert answers(ring, number, batch)["patchtst"].statuses == (Status.LATE,) * 5
        assert time.monotonic() - began < 5.0


class TestSeveralShadows:
    def test_are_waited_for_together_and_one_that_is_silent_takes_nothing_from_the_others(
        self, batch: FeatureBatch, tmp_path: Path, rings: Rings
    ) -> None:
        specs = [spec_of(tmp_path, model) for model in ("lgbm", "nhits", "patchtst")]
        ring = rings(specs, grace_ms=1500.0)
        assert ring.wait_ready(60)
        silent, *_ = [p for p in processes() if "lgbm" in " ".join(p.cmdline())]
        silent.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        ask(ring, 1, batch)
        outputs = answers(ring, 1, batch)
        assert 1.4 < time.monotonic() - began < 2.9
        assert {model: output.statuses[0] for model, output in outputs.items()} == {
            "lgbm": Status.LATE,
            "nhits": Status.OK,
            "patchtst": Status.OK,
        }

    def test_that_are_all_silent_cost_one_grace_in_all(self, batch: FeatureBatch, tmp_path: Path, rings: Rings) -> None:
        specs = [spec_of(tmp_path, model) for model in ("lgbm", "nhits", "patchtst")]
        ring = rings(specs, grace_ms=1500.0, program=program_of(Fault.SLEEPING))
        assert ring.wait_ready(60)
        ask(ring, 0, batch)
        answers(ring, 0, batch)
        for child in psutil.Process().children():
            if "faulty_worker" in " ".join(child.cmdline()):
                child.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        ask(ring, 1, batch)
        outputs = answers(ring, 1, batch)
        assert time.monotonic() - began < 2.9
        assert {output.statuses[0] for output in outputs.values()} == {Status.LATE}


class TestTheProcess:
    @pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one processor")
    def test_keeps_off_the_processor_that_decides(self, spec: ShadowSpec, batch: FeatureBatch, rings: Rings) -> None:
        ring = rings([spec])
        assert ring.wait_ready(30)
        everywhere = os.sched_getaffinity(0)
        try:
            for number, processor in enumerate(sorted(everywhere)):
                os.sched_setaffinity(0, {processor})
                ask(ring, number, batch)
                assert set(process_of(ring).cpu_affinity()) == everywhere - {processor}
                assert answers(ring, number, batch)["patchtst"].statuses == (Status.OK,) * 5
        finally:
            os.sched_setaffinity(0, everywhere)

    def test_has_nothing_of_the_engines_but_its_socket(
        self, spec: ShadowSpec, rings: Rings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUANTUM_REDIS_URL", "redis://:secret@127.0.0.1:6379/0")
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.set_inheritable(True)
            ring = rings([spec])
            assert ring.wait_ready(30)
            process = process_of(ring)
            assert set(process.environ()) == {
                "PATH",
                "OMP_NUM_THREADS",
                "ORT_DISABLE_TELEMETRY",
                "PYTHONDONTWRITEBYTECODE",
            } | ({"LC_CTYPE"} & set(process.environ()))
            links = {str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()}
            assert {link.partition(":")[0] for link in links} <= {"/dev/null", "socket", "pipe"}
            sockets = [link for link in links if link.startswith("socket:")]
            assert len(sockets) == 1
            assert process.nice() == 10
            assert process.rlimit(psutil.RLIMIT_AS) == (2048 * 2**20,) * 2
            for kind in (psutil.RLIMIT_FSIZE, psutil.RLIMIT_CORE, psutil.RLIMIT_NOFILE, psutil.RLIMIT_NPROC):
                assert process.rlimit(kind) == (0, 0)
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "NoNewPrivs:\t1" in status
            assert "CapEff:\t0000000000000000" in status
            assert "CapPrm:\t0000000000000000" in status

    def test_says_in_one_line_what_holds(
        self, spec: ShadowSpec, rings: Rings, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        assert rings([spec]).wait_ready(30)
        (line,) = [record.message for record in caplog.records if record.message.startswith("cage of shadow")]
        assert line.startswith("cage of shadow patchtst: 2048 MiB of memory, no byte into files, no core dump, nice 10")
        assert ("not on the deciding processor" in line) == (len(os.sched_getaffinity(0)) > 1)
        assert ("no Landlock" in line) == (landlock.abi() == 0)

    def test_ends_with_the_ring(self, spec: ShadowSpec) -> None:
        ring = ShadowRing([spec], 20.0, WEIGHTS)
        ring.start()
        assert ring.wait_ready(30)
        process = process_of(ring)
        ring.close()
        ring.close()
        assert not psutil.pid_exists(process.pid)

    def test_ends_with_a_ring_that_is_closed_while_it_starts(self, spec: ShadowSpec) -> None:
        for pause_s in (0.0, 0.01, 0.1, 0.3):
            ring = ShadowRing([spec], 20.0, WEIGHTS)
            ring.start()
            time.sleep(pause_s)
            ring.close()
            assert processes() == []

    def test_a_ring_that_was_never_started_closes(self, spec: ShadowSpec) -> None:
        ShadowRing([spec], 20.0, WEIGHTS).close()

    @pytest.mark.parametrize("stopped", [False, True])
    def test_ends_when_the_engine_is_killed_even_while_it_is_stopped(self, tmp_path: Path, stopped: bool) -> None:
        folder = make_artefact(tmp_path, "patchtst", 4)
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
        if stopped:
            child.send_signal(signal.SIGSTOP)
        os.kill(engine.pid, signal.SIGKILL)
        engine.wait()
        engine.stdout.close()
        psutil.wait_procs([child], timeout=10)
        assert not child.is_running()


LIAR = """
import socket, sys
from quantum_trader.engine import frames
import msgspec
connection = socket.socket(fileno=int(sys.argv[1]))
frames.send(connection, msgspec.msgpack.encode(frames.Greeting(sys.argv[3], "", ())))
{then}
"""


@pytest.fixture
def liar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of our own making in place of a worker: the greeting is right, the rest is up to the test."""
    from quantum_trader.engine import child

    folder = tmp_path / "lib"
    folder.mkdir()
    clean = child._environment()
    monkeypatch.setattr(child, "_environment", lambda: clean | {"PYTHONPATH": str(folder)})
    return folder / "liar.py"


class TestAProcessThatDoesNotKeepToTheProtocol:
    @pytest.mark.parametrize(
        ("then", "reason"),
        [
            ("frames.Requests(connection).next(); frames.send(connection, b'\\xc1 junk')", "shape: its 6 bytes"),
            (
                "frames.Requests(connection).next(); "
                "frames.send(connection, msgspec.msgpack.encode(frames.Reply(77, (), (), '', '')))",
                "shape: it answered batch 77, asked was 1",
            ),
            (
                "frames.Requests(connection).next(); connection.sendall(b'\\xff' * 100_000)",
                "too-large: a frame of 4294967295 bytes",
            ),
            ("frames.Requests(connection).next(); connection.sendall(b'\\x00')", "crashed: its process ended over"),
        ],
    )
    def test_is_refused_and_ended(
        self, liar: Path, spec: ShadowSpec, batch: FeatureBatch, rings: Rings, then: str, reason: str
    ) -> None:
        liar.write_text(LIAR.format(then=then))
        ring = rings([spec], grace_ms=20_000.0, program=("liar", spec.digest))
        assert ring.wait_ready(30)
        ask(ring, 1, batch)
        output = answers(ring, 1, batch)["patchtst"]
        assert output.reasons[0].startswith(reason)
        wait_down(ring)
        assert ring.wait_ready(30)
        assert ring.states()["patchtst"].restarts == 1

    def test_by_speaking_unasked_is_ended(self, liar: Path, spec: ShadowSpec, rings: Rings) -> None:
        liar.write_text(LIAR.format(then="connection.sendall(b'hello'); connection.recv(1)"))
        ring = rings([spec], program=("liar", spec.digest))
        end = time.monotonic() + 30
        while ring.states()["patchtst"].restarts < 1:
            assert time.monotonic() < end
            ring.look()
            time.sleep(0.01)

    @pytest.mark.parametrize("greeting", ["b'\\xc1'", "b'x' * 5000", "msgspec.msgpack.encode(['only one'])"])
    def test_in_its_greeting_never_gets_a_batch(
        self, liar: Path, spec: ShadowSpec, batch: FeatureBatch, rings: Rings, greeting: str
    ) -> None:
        liar.write_text(
            "import socket, sys, msgspec\nfrom quantum_trader.engine import frames\n"
            f"frames.send(socket.socket(fileno=int(sys.argv[1])), {greeting})\n"
        )
        ring = rings([spec], program=("liar", spec.digest))
        end = time.monotonic() + 30
        while ring.states()["patchtst"].restarts < 1:
            assert time.monotonic() < end
            time.sleep(0.01)
        ask(ring, 1, batch)
        assert answers(ring, 1, batch)["patchtst"].statuses == (Status.MISSING,) * 5


class TestASuccessor:
    def test_follows_when_it_has_greeted_and_no_batch_is_without_an_answer(
        self, tmp_path: Path, spec: ShadowSpec, batch: FeatureBatch, rings: Rings
    ) -> None:
        ring = rings([spec])
        assert ring.wait_ready(30)
        (first,) = processes()
        later = spec_of(tmp_path, seed=5)
        ring.admit(ring.prepare(later))
        said: list[str] = []
        number, followed = 0, list[ShadowSpec]()
        while not followed:
            number += 1
            followed = ring.turn()
            ask(ring, number, batch)
            output = answers(ring, number, batch)["patchtst"]
            assert output.statuses == (Status.OK,) * 5, output.reasons
            said.append(output.artefact)
        assert [spec.model for spec in followed] == ["patchtst"]
        assert said == [spec.digest] * (number - 1) + [later.digest]
        assert ring.states()["patchtst"].restarts == 0
        first.wait(30)
        assert len(processes()) == 1

    def test_of_one_that_answers_no_more_follows_at_once(
        self, tmp_path: Path, batch: FeatureBatch, rings: Rings
    ) -> None:
        gone = ShadowSpec("patchtst", tmp_path / "gone", "", "model.onnx is missing", loadable=False)
        ring = rings([gone])
        later = spec_of(tmp_path, seed=5)
        ring.admit(ring.prepare(later))
        assert ring.turn() == [later]
        ask(ring, 1, batch)
        output = answers(ring, 1, batch)["patchtst"]
        assert output.statuses == (Status.MISSING,) * 5
        assert cause_of(output.reasons[0]) == Cause.STARTING
        assert output.artefact == later.digest
        assert ring.wait_ready(30)

    def test_that_is_followed_before_it_came_leaves_no_process(
        self, tmp_path: Path, spec: ShadowSpec, rings: Rings
    ) -> None:
        ring = rings([spec])
        assert ring.wait_ready(30)
        specs = [spec_of(tmp_path, seed=seed) for seed in range(5, 8)]
        for later in specs:
            ring.admit(ring.prepare(later))
        end = time.monotonic() + 30
        followed: list[ShadowSpec] = []
        while not followed or len(processes()) > 1:
            assert time.monotonic() < end
            followed += ring.turn()
            time.sleep(0.005)
        assert followed == specs[-1:]
        ring.dismiss("patchtst")
        while processes():
            assert time.monotonic() < end
            time.sleep(0.005)
        assert ring.states() == {}
