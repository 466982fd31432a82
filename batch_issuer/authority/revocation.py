"""Which device CAs are disabled or revoked: lists that the root signs (RFC 5280 section 5).

The factory's API takes such a list as an order: an entry with certificateHold disables a CA (no new devices), one
with removeFromCRL enables it again, any other revokes it (no devices at all). The PKI directory keeps one of its own,
`ca-crl`, of all that are disabled or revoked now.

Serial numbers may have 160 bits: fioctl draws them from [0, 2**160).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.authority.checks import UNREADABLE, find_extension, p256_key
from batch_issuer.authority.layout import pem_labels, read_file
from batch_issuer.errors import AuthorityError
from batch_issuer.figures import listed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from batch_issuer.authority.root import Root

__all__ = [
    "DISABLED",
    "ENABLED",
    "ORDER_LIFETIME",
    "REVOKED",
    "Revocations",
    "make_crl",
    "parse_crl",
    "read_revocations",
]

DISABLED = x509.ReasonFlags.certificate_hold
ENABLED = x509.ReasonFlags.remove_from_crl
REVOKED = x509.ReasonFlags.privilege_withdrawn

ORDER_LIFETIME = timedelta(minutes=15)
"""How long a list that is sent to the factory's API is valid, as fioctl has it."""


@dataclass(frozen=True, slots=True)
class Revocations:
    """What a list says.

    Attributes:
        number: its CRLNumber, 0 when there is none.
        reasons: the CAs' serial numbers, each with its reason.
        next_update: until when it is valid, UTC; None when there is none.
    """

    number: int = 0
    reasons: Mapping[int, x509.ReasonFlags] = field(default_factory=dict)
    next_update: datetime | None = None


def make_crl(
    root: Root, reasons: Mapping[int, x509.ReasonFlags], *, number: int, now: datetime, until: datetime
) -> bytes:
    """A list that the root signs, as one PEM block.

    Args:
        root: who signs.
        reasons: the CAs' serial numbers, each with its reason.
        number: its CRLNumber (RFC 5280 section 5.2.3).
        now: its thisUpdate and every entry's revocationDate, UTC.
        until: its nextUpdate, UTC.
    """
    start = now.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    builder = x509.CertificateRevocationListBuilder(root.certificate.subject, start, until.replace(tzinfo=None))
    for serial, reason in reasons.items():
        # By the constructor, whose values are not held to 159 bits as those of the builder's methods are.
        extension = x509.Extension(x509.CRLReason.oid, critical=False, value=x509.CRLReason(reason))
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, start, [extension]).build())
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if (identifier := find_extension(root.certificate, x509.SubjectKeyIdentifier)) is not None:
        authority = x509.AuthorityKeyIdentifier(identifier.digest, None, None)
        builder = builder.add_extension(authority, critical=False)
    return builder.sign(root.signing_key(), hashes.SHA256()).public_bytes(Encoding.PEM)


def parse_crl(text: bytes, root: x509.Certificate, what: str) -> Revocations:
    """What a PEM list says that the root must have signed.

    Raises:
        AuthorityError: it is none, another has signed it, or an entry has no serial number or reason that can be read.
    """
    labels = pem_labels(text)
    if labels != ["X509 CRL"]:
        found = listed(labels)
        raise AuthorityError(f"{what} must be one PEM X509 CRL; its PEM blocks are: {found}")
    try:
        crl = x509.load_pem_x509_crl(text)
        signed = crl.issuer == root.subject and crl.is_signature_valid(p256_key("the root", root))
        reasons = {entry.serial_number: _reason(entry) for entry in crl}
        numbers = [e.value.crl_number for e in crl.extensions if isinstance(e.value, x509.CRLNumber)]
    except (*UNREADABLE, TypeError, UnsupportedAlgorithm):
        raise AuthorityError(f"{what} must be a list as RFC 5280 has it; it is not") from None
    if not signed:
        raise AuthorityError(f"{what} must be signed by the factory's root; it is not")
    return Revocations(next(iter(numbers), 0), reasons, crl.next_update_utc)


def read_revocations(path: Path, root: x509.Certificate) -> Revocations:
    """What the directory's own list says; nothing if there is none.

    Raises:
        AuthorityError: as `parse_crl`.
    """
    if not path.exists():
        return Revocations()
    text, _ = read_file(path)
    return parse_crl(text, root, path.name)


def _reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags:
    for extension in entry.extensions:
        if isinstance(extension.value, x509.CRLReason):
            return extension.value.reason
    return x509.ReasonFlags.unspecified
