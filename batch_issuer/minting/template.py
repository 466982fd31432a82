"""The fast path: a certificate of the readable definition, cut where devices differ, filled in per device.

Nothing here spells out a certificate. The template is cut from a certificate that `reference` built, so the two can
only differ by where the cuts are, and `mint` compares them for the first device of each part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING, cast

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from batch_issuer.devices import UUID_LENGTH, CertificateDer, DeviceRequest
from batch_issuer.minting.keys import POINT_OFFSET, SEC1_LENGTH
from batch_issuer.minting.reference import device_certificate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_issuer.devices import Sec1Der
    from batch_issuer.minting.keys import Signature
    from batch_issuer.minting.reference import DeviceIssuance

__all__ = [
    "MARKER",
    "MARKER_SERIAL",
    "SERIAL_LENGTH",
    "SPKI_PREFIX",
    "CertificateTemplate",
    "certificates",
    "cut",
    "cut_template",
    "sequence_header",
    "serial_numbers",
    "signature_tails",
]

SERIAL_LENGTH = 20
"""Octets of every serial number: RFC 5280 section 4.1.2.2 allows no more."""

SPKI_PREFIX = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
"""DER of SubjectPublicKeyInfo for P-256 up to the point: SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 },
BIT STRING (66 octets, 0 unused) } (RFC 5480 section 2)."""

_ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""AlgorithmIdentifier ::= SEQUENCE { ecdsa-with-SHA256 }, no parameters (RFC 5758 section 3.2)."""

_LONGEST_SIGNATURE = 72
"""Octets of the longest ECDSA-Sig-Value of P-256: SEQUENCE of two INTEGERs of 33 octets."""

_KEY_IDENTIFIER_LENGTH = 20

MARKER = DeviceRequest("0f1e2d3c-4b5a-4978-8697-a5b4c3d2e1f0")
"""The device of certificates that templates are cut from."""

MARKER_SERIAL = bytes.fromhex("7e6d5c4b3a2918071625344352617081900fabcd")


@dataclass(frozen=True, slots=True)
class CertificateTemplate:
    """The fixed octets of a device certificate, in the order in which the device's own stand between them.

    Attributes:
        pieces: what stands before the serial, between serial and UUID, UUID and point, point and key identifier, and
            after the key identifier: the to-be-signed certificate.
        heads: the outer SEQUENCE's header, by the length of the signature.
        tails: signatureAlgorithm and the signature BIT STRING's header, by the length of the signature.
    """

    pieces: tuple[bytes, bytes, bytes, bytes, bytes]
    heads: tuple[bytes, ...]
    tails: tuple[bytes, ...]

    @property
    def longest(self) -> int:
        """Octets of the longest certificate."""
        own = SERIAL_LENGTH + UUID_LENGTH + SEC1_LENGTH - POINT_OFFSET + _KEY_IDENTIFIER_LENGTH
        return len(self.heads[-1]) + sum(map(len, self.pieces)) + own + len(self.tails[-1]) + _LONGEST_SIGNATURE


def serial_numbers(octets: bytes) -> bytes:
    """Serial numbers of exactly 20 octets each, positive, 158 random bits, out of random `octets` (20 for each).

    The first octet is 0x40 to 0x7f: not negative in DER, at most 159 bits, and of one length so that every
    certificate has the same layout (RFC 5280 section 4.1.2.2).
    """
    serials = bytearray(octets)
    serials[::SERIAL_LENGTH] = serials[::SERIAL_LENGTH].translate(_FIRST_OCTET)
    return bytes(serials)


_FIRST_OCTET = bytes((octet & 0x3F) | 0x40 for octet in range(256))


def cut_template(issuance: DeviceIssuance, *, production: bool) -> CertificateTemplate:
    """The template of a run's certificates, cut from a marked certificate of the readable definition.

    Raises:
        ValueError: the issuance gives no valid certificate, or a marker stands in it more than once.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    marked = DeviceRequest(MARKER.device_uuid, production)
    public_key = key.public_key()
    reference = device_certificate(issuance, marked, public_key, int.from_bytes(MARKER_SERIAL), key)
    pieces = cut(reference.tbs_certificate_bytes, marked.device_uuid.encode(), public_key)
    tbs_length = len(reference.tbs_certificate_bytes)
    tails = signature_tails()
    heads = tuple(sequence_header(tbs_length + len(tail) + length) for length, tail in enumerate(tails))
    return CertificateTemplate(pieces, heads, tails)


def cut(tbs: bytes, name: bytes, public_key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """What stands before, between and after the serial number, `name`, the public point and the key identifier.

    Args:
        tbs: octets of a to-be-signed certificate with `MARKER_SERIAL`.
        name: what stands in it where devices differ by their name.
        public_key: the certified key.

    Raises:
        ValueError: one of them is not there exactly once, after the one before it.
    """
    point = public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    rest, pieces = tbs, []
    for marker in (MARKER_SERIAL, name, point, sha1(point, usedforsecurity=False).digest()):
        if rest.count(marker) != 1:
            raise ValueError("the certificate's fields are not where the template expects them")
        piece, rest = rest.split(marker)
        pieces.append(piece)
    return pieces[0], pieces[1], pieces[2], pieces[3], rest


def signature_tails() -> tuple[bytes, ...]:
    """What stands between a to-be-signed certificate and its signature, by the length of the signature."""
    # signatureAlgorithm, then BIT STRING { unused bits 0, signature }
    return tuple(_ECDSA_WITH_SHA256 + bytes((0x03, length + 1, 0)) for length in range(_LONGEST_SIGNATURE + 1))


def certificates(
    templates: Iterable[CertificateTemplate],
    device_uuids: Sequence[bytes],
    serials: bytes,
    private_keys: Sequence[Sec1Der],
    sign: Signature,
) -> list[CertificateDer]:
    """The certificates of a part's devices.

    Args:
        templates: each device's template.
        device_uuids: 36 ASCII octets each.
        serials: 20 octets each, in one run.
        private_keys: the devices' keys, whose last 65 octets are the public points.
        sign: the CA.
    """
    # The hot loop: local names, bytes and one join per certificate; each step is the cheapest that was measured.
    issued: list[bytes] = []
    add, join = issued.append, b"".join
    offsets = range(0, len(serials), SERIAL_LENGTH)
    for template, device_uuid, offset, private_key in zip(templates, device_uuids, offsets, private_keys, strict=False):
        to_serial, to_uuid, to_point, to_identifier, rest = template.pieces
        point = private_key[POINT_OFFSET:]
        identifier = sha1(point, usedforsecurity=False).digest()
        serial = serials[offset : offset + SERIAL_LENGTH]
        tbs = join((to_serial, serial, to_uuid, device_uuid, to_point, point, to_identifier, identifier, rest))
        signature = sign(tbs)
        length = len(signature)
        add(join((template.heads[length], tbs, template.tails[length], signature)))
    return cast("list[CertificateDer]", issued)


@lru_cache(maxsize=4096)
def sequence_header(length: int) -> bytes:
    """SEQUENCE tag and DER length (X.690 section 8.1.3) of `length` content octets."""
    if length < 0x80:  # noqa: PLR2004 - the short form
        return bytes((0x30, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((0x30, 0x80 | len(octets))) + octets
