"""The fast path for devices that keep their keys: key and subject out of a CSR, filled into a template.

As in `template`, nothing here spells out a certificate: the template is cut from one of the readable definition. Its
subject is variable in content and length, so the two outermost lengths are computed for each certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer import profiles
from batch_issuer.devices import CertificateDer
from batch_issuer.minting.keys import POINT_OFFSET, SEC1_LENGTH
from batch_issuer.minting.reference import device_certificate
from batch_issuer.minting.template import (
    MARKER,
    MARKER_SERIAL,
    SERIAL_LENGTH,
    SPKI_PREFIX,
    cut,
    sequence_header,
    signature_tails,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_issuer.minting.keys import Signature
    from batch_issuer.minting.reference import DeviceIssuance

__all__ = ["Requested", "RequestedTemplate", "cut_requested_template", "read_requested", "requested_certificates"]

_POINT_LENGTH = SEC1_LENGTH - POINT_OFFSET
_VERSION_LENGTH = 3
_LONG_FORM = 0x80


class Requested(NamedTuple):
    """What of a CSR goes into its certificate.

    Attributes:
        subject: DER of its Name, as the device wrote it.
        point: the public key, an uncompressed point of 65 octets.
    """

    subject: bytes
    point: bytes


@dataclass(frozen=True, slots=True)
class RequestedTemplate:
    """The fixed octets of a certificate for a CSR.

    Attributes:
        pieces: what stands before the serial (behind the header of the to-be-signed certificate), between serial and
            subject, subject and point, point and key identifier, and after the key identifier.
        tails: signatureAlgorithm and the signature BIT STRING's header, by the length of the signature.
    """

    pieces: tuple[bytes, bytes, bytes, bytes, bytes]
    tails: tuple[bytes, ...]


def read_requested(pem: bytes) -> Requested:
    """What goes into the certificate, of a CSR that was checked to be for a P-256 key in its usual DER form.

    Raises:
        ValueError: it is no such CSR.
    """
    # CertificationRequestInfo ::= SEQUENCE { version INTEGER v1(0), subject Name, subjectPKInfo, … } (RFC 2986 section
    # 4.1). The prefix holds octets that no text of a checked subject has, so where it first stands is the key.
    info = x509.load_pem_x509_csr(pem).tbs_certrequest_bytes
    begin = _header_length(info) + _VERSION_LENGTH
    end = info.index(SPKI_PREFIX, begin)
    start = end + len(SPKI_PREFIX)
    return Requested(info[begin:end], info[start : start + _POINT_LENGTH])


def cut_requested_template(issuance: DeviceIssuance) -> RequestedTemplate:
    """The template of a run's certificates for CSRs.

    Raises:
        ValueError: the issuance gives no valid certificate, or a marker stands in it more than once.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    marked = device_certificate(issuance, MARKER, key.public_key(), int.from_bytes(MARKER_SERIAL), key)
    subject = profiles.device_name(MARKER.device_uuid, issuance.factory, production=MARKER.production)
    tbs = marked.tbs_certificate_bytes
    to_serial, *others = cut(tbs, subject.public_bytes(), key.public_key())
    to_subject, to_point, to_identifier, rest = others
    pieces = (to_serial[_header_length(tbs) :], to_subject, to_point, to_identifier, rest)
    return RequestedTemplate(pieces, signature_tails())


def requested_certificates(
    template: RequestedTemplate, requested: Sequence[Requested], serials: bytes, sign: Signature
) -> list[CertificateDer]:
    """The certificates for a part's CSRs.

    Args:
        template: the run's.
        requested: what each CSR asks for.
        serials: 20 octets each, in one run.
        sign: the CA.
    """
    issued: list[CertificateDer] = []
    add, join, header = issued.append, b"".join, sequence_header
    to_serial, to_subject, to_point, to_identifier, rest = template.pieces
    fixed = sum(map(len, template.pieces)) + SERIAL_LENGTH + _POINT_LENGTH + sha1(usedforsecurity=False).digest_size
    offsets = range(0, len(serials), SERIAL_LENGTH)
    for (subject, point), offset in zip(requested, offsets, strict=True):
        identifier = sha1(point, usedforsecurity=False).digest()
        serial = serials[offset : offset + SERIAL_LENGTH]
        head = header(fixed + len(subject))
        tbs = join((head, to_serial, serial, to_subject, subject, to_point, point, to_identifier, identifier, rest))
        signature = sign(tbs)
        tail = template.tails[len(signature)]
        add(CertificateDer(join((header(len(tbs) + len(tail) + len(signature)), tbs, tail, signature))))
    return issued


def _header_length(element: bytes) -> int:
    """Octets of a DER element's tag and length."""
    return 2 if element[1] < _LONG_FORM else 2 + element[1] - _LONG_FORM
