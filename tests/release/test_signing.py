"""Keys and envelopes: made once, checked by openssl too, and no byte of an envelope can be changed unseen."""

import base64
import hashlib
import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from quantum_trader.core.errors import ProofError
from quantum_trader.release.dsse import pae, seal, unseal
from quantum_trader.release.signing import PRIVATE_FILE, PUBLIC_FILE, generate, load_private, load_public

KIND = "application/vnd.in-toto+json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    generate(folder)
    return folder


class TestKeys:
    def test_are_two_files_and_the_private_one_is_the_owners(self, folder: Path) -> None:
        private, public = folder / PRIVATE_FILE, folder / PUBLIC_FILE
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
        assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
        assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----\n")
        assert load_private(private).key_id == load_public(public).key_id

    def test_are_named_by_the_digest_of_the_raw_public_key(self, folder: Path) -> None:
        lines = (folder / PUBLIC_FILE).read_text().splitlines()
        # SubjectPublicKeyInfo of Ed25519 ends in the 32 bytes of the key (RFC 8410).
        raw = base64.b64decode("".join(lines[1:-1]))[-32:]
        assert load_public(folder / PUBLIC_FILE).key_id == hashlib.sha256(raw).hexdigest()

    @pytest.mark.parametrize("name", [PRIVATE_FILE, PUBLIC_FILE])
    def test_are_never_overwritten_and_nothing_is_left_half_made(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("mine")
        with pytest.raises(ProofError, match="exists already; keys are never overwritten"):
            generate(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert (tmp_path / name).read_text() == "mine"

    @pytest.mark.parametrize("mode", [0o604, 0o620, 0o666])
    def test_that_others_can_reach_sign_nothing(self, tmp_path: Path, mode: int) -> None:
        generate(tmp_path)
        (tmp_path / PRIVATE_FILE).chmod(mode)
        with pytest.raises(ProofError, match=f"mode {mode:04o} lets others use it"):
            load_private(tmp_path / PRIVATE_FILE)

    def test_of_another_kind_are_refused(self, tmp_path: Path) -> None:
        other = generate_private_key(65537, 2048)
        private, public = tmp_path / "rsa", tmp_path / "rsa.pub"
        private.touch(mode=0o600)
        private.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        public.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        with pytest.raises(ProofError, match="not an Ed25519 key"):
            load_private(private)
        with pytest.raises(ProofError, match="not an Ed25519 key"):
            load_public(public)

    def test_that_are_none_are_refused_in_one_line(self, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "text").touch(mode=0o600)
        (tmp_path / "text").write_text("hello\n")
        for load, path, rule in (
            (load_private, tmp_path / "text", "no unencrypted private key in PEM"),
            (load_public, tmp_path / "text", "no public key in PEM"),
            (load_private, folder / PUBLIC_FILE, "lets others use it|no unencrypted private key"),
            (load_public, folder / PRIVATE_FILE, "no public key in PEM"),
            (load_public, tmp_path / "none", "cannot be read"),
        ):
            with pytest.raises(ProofError, match=rule) as refusal:
                load(path)
            assert "\n" not in str(refusal.value)


class TestEnvelope:
    def test_signs_the_encoding_of_the_specification(self, folder: Path) -> None:
        assert pae("a/b", b"") == b"DSSEv1 3 a/b 0 "
        assert pae("é", b"\xff\x00") == b"DSSEv1 2 \xc3\xa9 2 \xff\x00"

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
    def test_is_verified_by_openssl_over_the_encoding(self, folder: Path, tmp_path: Path) -> None:
        envelope = json.loads(seal(KIND, b'{"a":1}', load_private(folder / PRIVATE_FILE)))
        body = base64.b64decode(envelope["payload"])
        encoding = f"DSSEv1 {len(KIND)} {KIND} {len(body)} ".encode() + body
        (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
        key, signature = str(folder / PUBLIC_FILE), str(tmp_path / "signature")
        for message, code in ((encoding, 0), (encoding + b" ", 1)):
            (tmp_path / "message").write_bytes(message)
            command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin"]
            command += ["-in", str(tmp_path / "message"), "-sigfile", signature]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == code, done.stderr

    @given(body=st.binary(max_size=200))
    def test_gives_back_what_it_was_given(self, folder: Path, body: bytes) -> None:
        raw = seal(KIND, body, load_private(folder / PRIVATE_FILE))
        assert unseal(raw, KIND, load_public(folder / PUBLIC_FILE), "it") == body

    @pytest.mark.parametrize("length", [7, 8, 9])
    def test_with_any_byte_changed_is_refused(self, folder: Path, length: int) -> None:
        # Three lengths: base64 that ends with none, one and two padding characters.
        raw = seal(KIND, b"x" * length, load_private(folder / PRIVATE_FILE))
        key = load_public(folder / PUBLIC_FILE)
        for at in range(len(raw)):
            for mask in (0x01, 0x04, 0x20, 0x80):
                changed = bytearray(raw)
                changed[at] ^= mask
                with pytest.raises(ProofError):
                    unseal(bytes(changed), KIND, key, "it")

    def test_spelled_differently_is_refused(self, folder: Path) -> None:
        raw = seal(KIND, b"{}", load_private(folder / PRIVATE_FILE))
        key = load_public(folder / PUBLIC_FILE)
        held = json.loads(raw)
        twice = {**held, "signatures": held["signatures"] * 2}
        backwards = dict(reversed(held.items()))
        for other in (
            raw.rstrip(b"\n"),
            raw + b"\n",
            json.dumps(held).encode() + b"\n",
            json.dumps(backwards, separators=(",", ":")).encode() + b"\n",
            json.dumps(twice, separators=(",", ":")).encode() + b"\n",
            json.dumps({**held, "note": 1}, separators=(",", ":")).encode() + b"\n",
            b"[]",
            b"",
        ):
            with pytest.raises(ProofError):
                unseal(other, KIND, key, "it")

    def test_of_another_key_or_another_kind_is_refused(self, folder: Path, tmp_path: Path) -> None:
        raw = seal(KIND, b"{}", load_private(folder / PRIVATE_FILE))
        other = generate(tmp_path)
        with pytest.raises(ProofError, match="signed by key"):
            unseal(raw, KIND, other.verify_key, "it")
        with pytest.raises(ProofError, match="expected text/plain"):
            unseal(raw, "text/plain", load_public(folder / PUBLIC_FILE), "it")
        # The other's name on this one's signature.
        renamed = raw.replace(load_public(folder / PUBLIC_FILE).key_id.encode(), other.key_id.encode())
        with pytest.raises(ProofError, match="signature does not hold"):
            unseal(renamed, KIND, other.verify_key, "it")
