"""The ledger's signed head: a cut tail shows, a death before the head is healed, lowering is never hindered."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.release.test_ledger import grant, revoke

from quantum_trader.core.errors import LedgerError, ProofError
from quantum_trader.release.appending import append
from quantum_trader.release.ledger import append_entries, head, read_entries
from quantum_trader.release.sealing import State, check_seal, head_file, sealer
from quantum_trader.release.signing import PRIVATE_FILE, SigningKey, generate, load_private

DAYS = [f"2026-01-0{day}T00:00:00Z" for day in range(1, 8)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    generate(folder)
    return folder


@pytest.fixture
def key(keys: Path) -> SigningKey:
    return load_private(keys / PRIVATE_FILE)


@pytest.fixture
def ledger(tmp_path: Path, keys: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    for day in DAYS[:3]:
        append(path, [grant(at=day), grant("lgbm", at=day)], keys / PRIVATE_FILE)
    return path


def state(ledger: Path, key: SigningKey) -> tuple[State, str]:
    found = check_seal(ledger, key.verify_key)
    return found.state, found.sentence


def cut(ledger: Path, entries: int) -> None:
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:entries]))


def test_every_append_is_sealed(ledger: Path, key: SigningKey) -> None:
    assert state(ledger, key) == (State.SEALED, f"6 entries, sealed {DAYS[2]}")
    assert sorted(path.name for path in ledger.parent.iterdir()) == ["ledger.head.json", "ledger.jsonl"]
    assert head_file(ledger).stat().st_mode == ledger.stat().st_mode


def test_without_a_key_there_is_no_head(tmp_path: Path, key: SigningKey) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, [grant()], None)
    assert not head_file(path).exists()
    assert state(path, key)[0] is State.UNSEALED


@pytest.mark.parametrize("left", [5, 4, 1, 0])
def test_a_cut_tail_shows_and_nothing_is_added_to_it(ledger: Path, key: SigningKey, keys: Path, left: int) -> None:
    cut(ledger, left)
    assert state(ledger, key) == (
        State.BROKEN,
        f"the tail was cut: the head counts 6 entries, the ledger {left}",
    )
    before = ledger.read_bytes()
    with pytest.raises(LedgerError, match=r"the tail was cut.*nothing is appended to it"):
        append(ledger, [grant(at=DAYS[3])], keys / PRIVATE_FILE)
    assert ledger.read_bytes() == before


def test_an_entry_in_the_cut_ones_place_shows(ledger: Path, key: SigningKey) -> None:
    cut(ledger, 5)
    append_entries(ledger, [grant("nhits", at=DAYS[2])])
    assert state(ledger, key) == (State.BROKEN, "entry 6 is not the one that the head names")


def test_taking_influence_away_is_never_hindered_and_hides_nothing(ledger: Path, key: SigningKey, keys: Path) -> None:
    cut(ledger, 5)
    sealed = head_file(ledger).read_bytes()
    append(ledger, [revoke(at=DAYS[3])], keys / PRIVATE_FILE)
    assert read_entries(ledger)[-1].kind == "revoke"
    assert head_file(ledger).read_bytes() == sealed
    assert state(ledger, key)[0] is State.BROKEN


DYING = """
import os, sys
from pathlib import Path
from tests.release.test_ledger import grant
from quantum_trader.release.ledger import append_entries
new = [grant(at=sys.argv[2]), grant("lgbm", at=sys.argv[2])]
append_entries(Path(sys.argv[1]), new, lambda head: os._exit(9))
"""


def test_a_head_one_append_behind_is_reported_as_such_and_healed_by_the_next(
    ledger: Path, key: SigningKey, keys: Path
) -> None:
    died = subprocess.run([sys.executable, "-c", DYING, str(ledger), DAYS[3]], check=False)
    assert died.returncode == 9
    found, sentence = state(ledger, key)
    assert found is State.BEHIND
    assert sentence == "2 of 8 entries stand after the head: one append was not sealed; the next one seals it"
    append(ledger, [grant(at=DAYS[4])], keys / PRIVATE_FILE)
    assert state(ledger, key) == (State.SEALED, f"9 entries, sealed {DAYS[4]}")


def test_more_than_one_append_behind_is_a_problem(ledger: Path, key: SigningKey, keys: Path) -> None:
    append_entries(ledger, [grant(at=DAYS[3])])
    append_entries(ledger, [grant(at=DAYS[4])])
    found, sentence = state(ledger, key)
    assert found is State.BROKEN
    assert "2 entries of several times stand after the head" in sentence
    with pytest.raises(LedgerError, match="nothing is appended"):
        append(ledger, [grant(at=DAYS[5])], keys / PRIVATE_FILE)


def test_every_changed_byte_of_the_head_shows(ledger: Path, key: SigningKey) -> None:
    path = head_file(ledger)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert state(ledger, key)[0] is State.BROKEN
    path.write_bytes(whole)
    assert state(ledger, key)[0] is State.SEALED


def test_a_head_of_another_key_shows(ledger: Path, tmp_path: Path) -> None:
    assert state(ledger, generate(tmp_path / "other"))[0] is State.BROKEN


def test_a_key_that_cannot_be_used_appends_nothing(ledger: Path, tmp_path: Path) -> None:
    before = ledger.read_bytes()
    with pytest.raises(ProofError, match="cannot be read"):
        append(ledger, [grant(at=DAYS[3])], tmp_path / "none.pem")
    assert ledger.read_bytes() == before


def test_a_head_that_cannot_be_written_takes_the_append_back(ledger: Path, keys: Path) -> None:
    before = ledger.read_bytes()
    (ledger.parent / f".{head_file(ledger).name}.new").mkdir()
    with pytest.raises(LedgerError, match="cannot be written"):
        append(ledger, [grant(at=DAYS[3])], keys / PRIVATE_FILE)
    assert ledger.read_bytes() == before


APPENDER = """
import sys
from pathlib import Path
from tests.release.test_ledger import grant
from quantum_trader.release.appending import append
for _ in range(int(sys.argv[3])):
    append(Path(sys.argv[1]), [grant(), grant("lgbm")], Path(sys.argv[2]))
"""


def test_processes_that_append_at_once_leave_a_sealed_ledger(tmp_path: Path, keys: Path, key: SigningKey) -> None:
    path = tmp_path / "ledger.jsonl"
    command = [sys.executable, "-c", APPENDER, str(path), str(keys / PRIVATE_FILE), "15"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    seen: set[State] = set()
    while any(process.poll() is None for process in processes):
        if head_file(path).exists():
            seen.add(state(path, key)[0])
    assert [process.communicate()[1] for process in processes] == [b""] * 3
    assert head(path).entries == 90
    assert state(path, key)[0] is State.SEALED
    # Whoever looks meanwhile waits for the head: never a false alarm, and never "behind" without a death.
    assert seen <= {State.SEALED}


def test_nobody_appends_between_an_append_and_its_head(tmp_path: Path, key: SigningKey) -> None:
    path = tmp_path / "ledger.jsonl"
    append_entries(path, [grant()])
    seal = sealer(path, key, DAYS[0])
    assert seal is not None
    others: list[threading.Thread] = []

    def slow(new: object, seal: Callable[..., None] = seal) -> None:
        others.append(threading.Thread(target=append_entries, args=(path, [grant("lgbm")])))
        others[0].start()
        others[0].join(0.3)
        assert others[0].is_alive()
        seal(new)

    append_entries(path, [grant("nhits")], slow)
    others[0].join()
    assert [entry.detail.model for entry in read_entries(path)] == ["xgb", "nhits", "lgbm"]
