"""Signed documents as DSSE envelopes, in one canonical form: a byte that could be changed unseen does not exist.

What is signed is the pre-authentication encoding (DSSE 1.0.2, https://github.com/secure-systems-lab/dsse, protocol.md):
``DSSEv1 <length of type> <type> <length of body> <body>``, lengths in decimal bytes, one space between the parts. The
envelope is compact JSON with the keys in the order of `Envelope` and one line break at its end. Base64 with padding.
Any other spelling of the same envelope (a blank, another key order, other base64 of the same bytes) is refused.
"""

import base64
import binascii

import msgspec

from quantum_trader.core.errors import ProofError
from quantum_trader.release.signing import SigningKey, VerifyKey


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature: who made it, and its 64 bytes in base64."""

    keyid: str
    sig: str


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"payload_type": "payloadType"}):
    """The envelope; `payload` is the body in base64."""

    payload: str
    payload_type: str
    signatures: tuple[Signature, ...]


def pae(payload_type: str, body: bytes) -> bytes:
    """The bytes that are signed.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def seal(payload_type: str, body: bytes, key: SigningKey) -> bytes:
    """Sign a body and give the envelope's bytes."""
    signature = Signature(key.key_id, _encode(key.sign(pae(payload_type, body))))
    return _render(Envelope(_encode(body), payload_type, (signature,)))


def unseal(raw: bytes, payload_type: str, key: VerifyKey, where: str) -> bytes:
    """The body of an envelope, after its signature was checked.

    Args:
        raw: The envelope's bytes.
        payload_type: What the body must be.
        key: Whose signature it must bear.
        where: Names the document in messages.

    Raises:
        ProofError: if it is no envelope in canonical form, of another type, signed by another key, or changed.
    """
    try:
        envelope = msgspec.json.decode(raw, type=Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProofError(f"{where}: no DSSE envelope ({error})") from error
    if _render(envelope) != raw:
        raise ProofError(f"{where}: the envelope is not written in its canonical form")
    if envelope.payload_type != payload_type:
        raise ProofError(f"{where}: holds {envelope.payload_type!r}, expected {payload_type}")
    if len(envelope.signatures) != 1:
        raise ProofError(f"{where}: {len(envelope.signatures)} signatures, expected one")
    signature = envelope.signatures[0]
    if signature.keyid != key.key_id:
        raise ProofError(f"{where}: signed by key {signature.keyid[:16]}, and this one is {key.key_id[:16]}")
    body = _decode(envelope.payload, where)
    if not key.holds(_decode(signature.sig, where), pae(payload_type, body)):
        raise ProofError(f"{where}: the signature does not hold: it was changed, or another key signed it")
    return body


def _render(envelope: Envelope) -> bytes:
    return msgspec.json.encode(envelope) + b"\n"


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decode(text: str, where: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProofError(f"{where}: no base64 ({error})") from error
    # The last character may hold bits that are thrown away: the same bytes in another spelling.
    if _encode(raw) != text:
        raise ProofError(f"{where}: base64 in another than its canonical form")
    return raw
