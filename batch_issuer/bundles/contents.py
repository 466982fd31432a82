"""What a device gets for its `/var/sota`: the files, their modes and their text."""

from __future__ import annotations

from binascii import b2a_base64
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING

from batch_issuer.files import PRIVATE_MODE, PUBLIC_MODE

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.devices import CertificateDer, Sec1Der

__all__ = [
    "CERTIFICATE",
    "FILE_MODES",
    "PRIVATE_KEY",
    "ROOT",
    "SOTA_TOML",
    "Bundle",
    "PartBundles",
    "certificate_pem",
    "private_key_pem",
]

PRIVATE_KEY = "pkey.pem"
CERTIFICATE = "client.pem"
ROOT = "root.crt"
SOTA_TOML = "sota.toml"

FILE_MODES = {PRIVATE_KEY: PRIVATE_MODE, CERTIFICATE: PUBLIC_MODE, ROOT: PUBLIC_MODE, SOTA_TOML: PRIVATE_MODE}
"""Each file's mode, in the order in which they are written: the device's services wait for sota.toml, so it is last."""


@dataclass(frozen=True, slots=True)
class PartBundles:
    """What is stored for one part; all lists have the part's length and order.

    Attributes:
        device_uuids: 36 ASCII octets each.
        private_keys: SEC1 DER, None for a device that keeps its own. Not shown by repr.
        certificates: DER.
        root: the root certificate, DER.
        sota_toml: UTF-8 text of each device's file; None when the run makes none.
        ca: the device CA's certificate, DER; for formats that store the chain.
        passwords: each device's, printable ASCII; for formats that are opened by one. Not shown by repr.
    """

    device_uuids: list[bytes]
    private_keys: list[Sec1Der | None] = field(repr=False)
    certificates: list[CertificateDer]
    root: CertificateDer
    sota_toml: list[bytes] | None
    ca: CertificateDer | None = None
    passwords: list[bytes] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Bundle:
    """One device's bundle as it was read back.

    Attributes:
        device_uuid: whose it is, by the place where it is stored.
        files: name to content, as the device would have them. Not shown by repr.
        problems: what is wrong with how it is stored (modes, kinds, names), as sentences.
    """

    device_uuid: str
    files: dict[str, bytes] = field(repr=False)
    problems: tuple[str, ...] = ()


def private_key_pem(key: Sec1Der) -> bytes:
    """One `EC PRIVATE KEY` block (RFC 7468, RFC 5915)."""
    return b"-----BEGIN EC PRIVATE KEY-----\n%b-----END EC PRIVATE KEY-----\n" % _base64_lines(key)


def certificate_pem(certificate: CertificateDer) -> bytes:
    """One `CERTIFICATE` block (RFC 7468)."""
    return b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n" % _base64_lines(certificate)


def _base64_lines(der: bytes) -> bytes:
    text = b2a_base64(der, newline=False)
    return b"\n".join(_line_cutter(len(text))(text))


@lru_cache(maxsize=64)
def _line_cutter(length: int) -> Callable[[bytes], tuple[bytes, ...]]:
    # The empty slice at the end makes the join end the last line too.
    lines = [slice(start, start + 64) for start in range(0, length, 64)]
    return itemgetter(*lines, slice(length, length))
