"""Ed25519 keys on disk: made once, never overwritten, named by the SHA-256 of the raw public key.

The private key is unencrypted PKCS #8 in PEM, mode 0600; whoever can read it can sign. The public key is
SubjectPublicKeyInfo in PEM. Both are what openssl reads and writes.
"""

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from quantum_trader.core.errors import ProofError

PRIVATE_FILE = "signing-key.pem"
PUBLIC_FILE = "signing-key.pub.pem"

_LIMIT = 65_536
_OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IRWXO


@dataclass(frozen=True)
class VerifyKey:
    """A public key and its name."""

    public: Ed25519PublicKey = field(repr=False)

    @property
    def key_id(self) -> str:
        """SHA-256 of the 32 raw bytes, as 64 hexadecimal characters."""
        return hashlib.sha256(self.public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()

    def holds(self, signature: bytes, message: bytes) -> bool:
        """Whether this key made the signature of exactly these bytes."""
        try:
            self.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def pem(self) -> bytes:
        """The key as its file holds it."""
        return self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class SigningKey:
    """A private key; nothing of it is ever shown."""

    private: Ed25519PrivateKey = field(repr=False)

    @property
    def verify_key(self) -> VerifyKey:
        """Its public half."""
        return VerifyKey(self.private.public_key())

    @property
    def key_id(self) -> str:
        """Name of its public half."""
        return self.verify_key.key_id

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature; the same message always gives the same (RFC 8032)."""
        return self.private.sign(message)


def generate(folder: Path) -> SigningKey:
    """Make a pair of keys and write both files; a folder that holds either of them is left as it is.

    Raises:
        ProofError: if a file of that name exists or cannot be written.
    """
    key = SigningKey(Ed25519PrivateKey.generate())
    private = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content, mode in ((PRIVATE_FILE, private, 0o600), (PUBLIC_FILE, key.verify_key.pem(), 0o644)):
            _write_new(folder / name, content, mode, written)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        reason = "exists already; keys are never overwritten" if isinstance(error, FileExistsError) else error.strerror
        raise ProofError(f"key {error.filename or folder}: {reason}") from error
    return key


def _write_new(path: Path, content: bytes, mode: int, written: list[Path]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    written.append(path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def load_private(path: Path) -> SigningKey:
    """Read a private key that nobody but its owner (and a group that may read it) can reach.

    Raises:
        ProofError: if it is missing, open to others, or no unencrypted Ed25519 key.
    """
    raw, mode = _read(path)
    if mode & _OPEN_TO_OTHERS:
        raise ProofError(f"key {path}: mode {stat.S_IMODE(mode):04o} lets others use it; make it 0600")
    try:
        key = load_pem_private_key(raw, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ProofError(f"key {path}: no unencrypted private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ProofError(f"key {path}: not an Ed25519 key")
    return SigningKey(key)


def load_public(path: Path) -> VerifyKey:
    """Read a public key.

    Raises:
        ProofError: if it is missing or no Ed25519 public key.
    """
    raw, _ = _read(path)
    try:
        key = load_pem_public_key(raw)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ProofError(f"key {path}: no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ProofError(f"key {path}: not an Ed25519 key")
    return VerifyKey(key)


def _read(path: Path) -> tuple[bytes, int]:
    try:
        # O_NONBLOCK: a pipe in the key's place would otherwise hang the open.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return file.read(_LIMIT), os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ProofError(f"key {path}: cannot be read ({error.strerror})") from error
