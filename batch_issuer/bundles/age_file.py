"""Writing age files: the header is pyrage's, the payload goes through OpenSSL's ChaCha20-Poly1305.

pyrage's own payload encryption takes three times as long, 6 µs a device of a tar part, which is more than a run's rate
may lose to sealing. pyrage gives away no file key; so it is asked for the header of an empty file for one recipient
more, made a moment before, whose stanza tells the key. That stanza is then taken out, and the header sealed anew.

The format: https://age-encryption.org/v1 (C2SP `age.md`), with the sections that are named below.
"""

from __future__ import annotations

import binascii
import hmac
import os
import re
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batch_issuer.files import Octets

__all__ = ["CHUNK", "MAGIC", "TAG", "age_file"]

MAGIC = b"age-encryption.org/v1\n"
"""How a file begins."""

CHUNK = 1 << 16
"""Octets of the payload that are encrypted together; the last chunk may be shorter."""

TAG = 16
"""Octets that each chunk grows by."""

_MAC = b"\n---"
# Section "The X25519 recipient type": ephemeral share and wrapped file key, base64 without padding.
_X25519 = re.compile(rb"-> X25519 ([A-Za-z0-9+/]{43})\n([A-Za-z0-9+/]{43})\n")
_X25519_INFO = b"age-encryption.org/v1/X25519"
_BECH32 = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
_IDENTITY = "AGE-SECRET-KEY-1"
_CHECKSUM = 6


def age_file(recipients: Sequence[Any], pieces: Iterable[Octets]) -> Iterator[bytes]:
    """An age file's octets, piece after piece.

    Args:
        recipients: pyrage's.
        pieces: what is sealed; none of them may change later.

    Raises:
        ValueError: pyrage's header is not as the format has it.
    """
    header, file_key = _header(recipients)
    nonce = os.urandom(16)
    yield header + nonce
    yield from _payload(_derived(file_key, nonce, b"payload"), _chunks(pieces))


def _header(recipients: Sequence[Any]) -> tuple[bytes, bytes]:
    """A new file's header, and its file key."""
    import pyrage  # noqa: PLC0415 - an extra

    own = pyrage.x25519.Identity.generate()
    octets = pyrage.encrypt(b"", [own.to_public(), *recipients])
    end = octets.index(_MAC) + len(_MAC)
    header, mac = octets[:end], octets[end + 1 :].partition(b"\n")[0]
    stanza = _X25519.search(header)  # stanzas stand in the recipients' order: the first is its own
    if stanza is None:
        raise ValueError("age's header has no stanza for an X25519 recipient")
    file_key = _unwrapped(own, *map(_decoded, stanza.groups()))
    if not hmac.compare_digest(mac, _mac(file_key, header)):
        raise ValueError("age's header has another MAC than its file key gives")
    header = header[: stanza.start()] + header[stanza.end() :]
    return b"%b %b\n" % (header, _mac(file_key, header)), file_key


def _unwrapped(identity: Any, share: bytes, wrapped: bytes) -> bytes:
    """The file key that a stanza has for an identity (section "The X25519 recipient type")."""
    number = 0
    for character in str(identity).removeprefix(_IDENTITY)[:-_CHECKSUM]:
        number = number << 5 | _BECH32.index(character)
    private = X25519PrivateKey.from_private_bytes((number >> 4).to_bytes(32))  # 52 characters: 260 bits
    salt = share + private.public_key().public_bytes_raw()
    key = _derived(private.exchange(X25519PublicKey.from_public_bytes(share)), salt, _X25519_INFO)
    return ChaCha20Poly1305(key).decrypt(bytes(12), wrapped, None)


def _mac(file_key: bytes, header: bytes) -> bytes:
    """The MAC of a header up to its `---` (section "Header MAC")."""
    code = hmac.digest(_derived(file_key, b"", b"header"), header, "sha256")
    return binascii.b2a_base64(code, newline=False).rstrip(b"=")


def _derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(secret)


def _decoded(text: bytes) -> bytes:
    return binascii.a2b_base64(text + b"=" * (-len(text) % 4))


def _payload(key: bytes, chunks: Iterator[Octets]) -> Iterator[bytes]:
    """The chunks, encrypted: the nonce counts them, and its last octet marks the last one (section "Payload")."""
    encrypt = ChaCha20Poly1305(key).encrypt
    number, held = 0, next(chunks, b"")
    for chunk in chunks:
        yield encrypt(number.to_bytes(11) + b"\0", held, None)
        number, held = number + 1, chunk
    yield encrypt(number.to_bytes(11) + b"\1", held, None)


def _chunks(pieces: Iterable[Octets]) -> Iterator[Octets]:
    """The octets of the pieces in whole chunks, and a last one that may be shorter; hardly any are copied."""
    rest: Octets = b""
    for piece in pieces:
        view, start = memoryview(piece).cast("B"), 0  # Arrow has signed octets
        if rest:
            start = CHUNK - len(rest)
            rest = b"".join((rest, view[:start]))
            if len(rest) < CHUNK:
                continue
            yield rest
        end = start + (len(view) - start) // CHUNK * CHUNK
        for at in range(start, end, CHUNK):
            yield view[at : at + CHUNK]
        rest = view[end:]
    if rest:
        yield rest
