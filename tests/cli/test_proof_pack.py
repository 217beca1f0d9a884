"""`quantum proof keygen|build|verify` as an operator runs them, against a real server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.release.events import Deployment, publish

from quantum_trader.bus.embedded import EmbeddedServer
from quantum_trader.release.ledger import head, read_entries
from quantum_trader.release.proof_verify import verify_pack
from quantum_trader.release.signing import load_public

PROOF = (sys.executable, "-m", "quantum_trader.cli.main", "proof")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return Deployment(tmp_path_factory.mktemp("deployed"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, deployment: Deployment) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server") / "valkey") as running:
        publish(running.url, deployment.records(20), extra_bars=20)
        yield running


def environ(url: str = "redis://127.0.0.1:1/0") -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QUANTUM_")}
    return {**clean, "QUANTUM_REDIS_URL": url, "COLUMNS": "160"}


def proof(*words: object, url: str = "redis://127.0.0.1:1/0") -> subprocess.CompletedProcess[str]:
    command = [*PROOF, *map(str, words)]
    return subprocess.run(command, env=environ(url), capture_output=True, text=True, timeout=240, check=False)


def keys(folder: Path) -> tuple[Path, Path]:
    assert proof("keygen", "--out", folder).returncode == 0
    return folder / "signing-key.pem", folder / "signing-key.pub.pem"


@pytest.mark.slow
def test_a_pack_is_made_entered_and_checked(server: EmbeddedServer, deployment: Deployment, tmp_path: Path) -> None:
    private, public = keys(tmp_path / "keys")
    before = head(deployment.ledger)
    pack = tmp_path / "packs" / "first"
    options = ("--key", private, "--env-file", deployment.env_file, "--hours", 1)
    made = proof("build", "--out", pack, *options, url=server.url)
    assert made.returncode == 0, made.stderr
    assert [path.name for path in pack.parent.iterdir()] == ["first"]
    entry = read_entries(deployment.ledger)[-1]
    assert (entry.kind, entry.seq) == ("proof", before.entries)
    assert entry.detail.entries == before.entries
    assert entry.detail.head == before.digest
    # Offline: there is no server at this address, and no other file is named.
    checked = proof("verify", pack, "--key", public)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "HOLDS" in checked.stdout
    counted = {one.name: (one.count, one.left_out) for one in verify_pack(pack, load_public(public)).computed}
    assert counted["chain of predictions"] == (20, "")
    assert counted["decisions from their votes"] == (20, "")
    assert counted["verdict on patchtst"] == (0, "not judged again here")
    assert [line.split()[-1] for line in checked.stdout.splitlines() if "verdict on patchtst" in line] == ["✓"]
    again = proof("build", "--out", pack, *options, url=server.url)
    assert again.returncode == 1
    assert "exists already; a pack is never overwritten" in again.stderr
    path = pack / "outputs" / "stream.json"
    assert json.loads(path.read_text())["passed"] is True
    path.write_bytes(path.read_bytes().replace(b"true", b"True", 1))
    refused = proof("verify", pack, "--key", public)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("quantum: outputs/stream.json: was changed")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.slow
def test_of_a_host_every_command_runs_there_and_its_own_ledger_is_told(
    server: EmbeddedServer, deployment: Deployment, tmp_path: Path
) -> None:
    private, public = keys(tmp_path / "keys")
    hosts = tmp_path / "hosts.toml"
    hosts.write_text(f'[vps]\nengine_python = "{sys.executable}"\nenv_file = "{deployment.env_file}"\n')
    before = head(deployment.ledger)
    # No --env-file: only the host knows where its ledger is.
    options = ("--key", private, "--host", "vps", "--hosts", hosts, "--hours", 1)
    made = proof("build", "--out", tmp_path / "pack", *options, url=server.url)
    assert made.returncode == 0, made.stderr
    assert read_entries(deployment.ledger)[-1].detail.head == before.digest
    assert proof("verify", tmp_path / "pack", "--key", public).returncode == 0
    unknown = proof("build", "--out", tmp_path / "other", "--key", private, "--host", "nowhere", "--hosts", hosts)
    assert (unknown.returncode, len(unknown.stderr.splitlines())) == (1, 1)
    assert "host 'nowhere'" in unknown.stderr


@pytest.mark.slow
def test_without_a_server_the_failures_are_the_evidence(deployment: Deployment, tmp_path: Path) -> None:
    private, public = keys(tmp_path / "keys")
    # An address that is none fails at once; one where nobody listens is tried for seconds by every command.
    options = ("--key", private, "--env-file", deployment.env_file)
    made = proof("build", "--out", tmp_path / "pack", *options, url="nowhere")
    assert made.returncode == 0, made.stderr
    checked = proof("verify", tmp_path / "pack", "--key", public)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "could not be read when the pack was made" in checked.stdout
    assert "did not hold" in (tmp_path / "pack" / "PROOF_PACK.md").read_text()


def test_ctrl_c_leaves_nothing(server: EmbeddedServer, deployment: Deployment, tmp_path: Path) -> None:
    private, _ = keys(tmp_path / "keys")
    before = head(deployment.ledger)
    out = tmp_path / "packs" / "pack"
    command = [*PROOF, "build", "--out", str(out), "--key", str(private), "--env-file", str(deployment.env_file)]
    process = subprocess.Popen(
        command, env=environ(server.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    while process.poll() is None and not list(out.parent.glob(".pack.*/outputs/program.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert list(out.parent.iterdir()) == []
    assert head(deployment.ledger) == before


FULL_DISK = """
import resource, sys
from quantum_trader.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
main()
"""


def test_a_full_disk_leaves_nothing(deployment: Deployment, tmp_path: Path) -> None:
    private, _ = keys(tmp_path / "keys")
    before = head(deployment.ledger)
    words = ["proof", "build", "--out", tmp_path / "packs" / "pack", "--key", private]
    command = [sys.executable, "-c", FULL_DISK, *words, "--env-file", deployment.env_file]
    done = subprocess.run(
        [str(word) for word in command],
        env=environ("nowhere"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert list((tmp_path / "packs").iterdir()) == []
    assert head(deployment.ledger) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--since", "2200-01-01"), "the excerpts would end before they begin"),
        (("--key", "none.pem"), "key none.pem: cannot be read"),
    ],
)
def test_a_wrong_order_is_one_line_and_makes_nothing(
    deployment: Deployment, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    private, _ = keys(tmp_path / "keys")
    options = ("--key", private, "--env-file", deployment.env_file, *words)
    done = proof("build", "--out", tmp_path / "pack", *options)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert sentence in done.stderr
    assert not (tmp_path / "pack").exists()


def test_without_a_key_or_a_ledger_there_is_no_pack(deployment: Deployment, tmp_path: Path) -> None:
    done = proof("build", "--out", tmp_path / "pack", "--env-file", deployment.env_file)
    assert done.returncode == 1
    assert "no key to sign with" in done.stderr
