"""The values that travel between the rooms: frozen, picklable, without crypto objects.

A part's devices travel in columns, not as objects: at a hundred thousand devices per second an object per device is
the largest single cost after the cryptography itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NewType

__all__ = [
    "LARGEST_CSR",
    "NIL_UUID",
    "UUID_LENGTH",
    "UUID_TEXT",
    "CertificateDer",
    "DeviceRequest",
    "MintedPart",
    "Rejection",
    "Sec1Der",
    "is_uuid",
]

Sec1Der = NewType("Sec1Der", bytes)
"""A P-256 private key: DER of RFC 5915 `ECPrivateKey` with named curve and public key, 121 octets."""

CertificateDer = NewType("CertificateDer", bytes)
"""A certificate: DER of RFC 5280 `Certificate`."""

UUID_LENGTH = 36
"""Characters of a UUID in its 8-4-4-4-12 text form (RFC 9562 section 4)."""

UUID_TEXT = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
"""That form in lower case, as a regular expression, of Python's and of Arrow's RE2."""

NIL_UUID = "00000000-0000-0000-0000-000000000000"
"""The UUID that means none (RFC 9562 section 5.9): no device has it."""

LARGEST_CSR = 16_384
"""Octets of a certificate signing request's PEM text; one for a device has about 500."""


_UUID = re.compile(UUID_TEXT, re.ASCII | re.IGNORECASE)


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID in its 8-4-4-4-12 form, in letters of either case."""
    return _UUID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What a device's certificate depends on, of its row in the manifest.

    Attributes:
        device_uuid: the UUID in lower case, 8-4-4-4-12.
        production: whether the subject says businessCategory=production.
    """

    device_uuid: str
    production: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """One finding about one row of the manifest.

    Attributes:
        row: 1-based data row of the manifest (a header is not counted).
        column: the column's name as the manifest has it.
        value: what stood there, shortened.
        code: the finding's short name, stable between versions.
        message: the finding as a sentence.
    """

    row: int
    column: str
    value: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class MintedPart:
    """Keys and certificates of one part, in the order of its rows; n is their number.

    Attributes:
        device_uuids: n times 36 ASCII octets.
        private_keys: n SEC1 keys, None for a device that keeps its own. Not shown by repr.
        certificates: n certificates.
        serials: the n serial numbers, 20 octets each, in one run of 20 n octets.
        certificate_digests: SHA-256 of each certificate, 32 n octets.
        public_key_digests: SHA-256 of each SubjectPublicKeyInfo, 32 n octets.
    """

    device_uuids: list[bytes]
    private_keys: list[Sec1Der | None] = field(repr=False)
    certificates: list[CertificateDer]
    serials: bytes
    certificate_digests: bytes
    public_key_digests: bytes
