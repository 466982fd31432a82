"""The rules that a CA's certificate must meet, each with the sentence that says how it does not.

Every rule raises AuthorityError with the rule, what was expected and what was found; none returns a verdict.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from batch_issuer.authority.layout import pem_labels, read_file
from batch_issuer.authority.names import printable, text_fault, unit_fault
from batch_issuer.errors import AuthorityError
from batch_issuer.figures import listed

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path
    from typing import TypeVar

    Extension = TypeVar("Extension", bound=x509.ExtensionType)

__all__ = [
    "check_ca",
    "check_issued_by",
    "check_room_below",
    "check_subject_bytes",
    "check_valid",
    "factory_of",
    "find_extension",
    "organizational_units",
    "p256_key",
    "parse_certificate",
    "read_certificate",
    "unchecked_extensions",
]

UNREADABLE = (
    CryptographyDeprecationWarning,
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

"""What the library raises of octets that are no certificate that can be read."""

_CHECKED = (
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
)


def read_certificate(path: Path) -> x509.Certificate:
    """The one certificate of a PEM file; text around the block is allowed.

    Raises:
        AuthorityError: the file cannot be read or is not one certificate whose names and extensions can be read.
    """
    text, _ = read_file(path)
    try:
        return parse_certificate(text, path.name)
    except AuthorityError as error:
        error.hint = f"`openssl x509 -in {path} -noout -text` may show what is wrong"
        raise


def parse_certificate(text: bytes, what: str) -> x509.Certificate:
    """The one certificate of a PEM text; text around the block is allowed.

    Raises:
        AuthorityError: it is not one certificate whose names and extensions can be read.
    """
    labels = pem_labels(text)
    if labels != ["CERTIFICATE"]:
        raise AuthorityError(f"{what} must hold one PEM certificate; its PEM blocks are: {listed(labels)}")
    try:
        with warnings.catch_warnings():
            # What the library only deprecates (a serial number of zero or less, say), others refuse to read.
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            certificate = x509.load_pem_x509_certificate(text)
            _ = certificate.subject, certificate.issuer, certificate.extensions
    except UNREADABLE:
        raise AuthorityError(f"{what} must be a certificate as RFC 5280 has it; it is not") from None
    return certificate


def find_extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """The value of the extension of that kind, or None."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def check_ca(file: str, certificate: x509.Certificate) -> None:
    """It may sign certificates, and those of devices (RFC 5280 sections 4.2.1.9, 4.2.1.3 and 4.2.1.12).

    Raises:
        AuthorityError: basicConstraints, keyUsage or extendedKeyUsage say otherwise.
    """
    constraints = find_extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        found = "it has no basicConstraints" if constraints is None else "it has CA:FALSE"
        raise AuthorityError(f"{file} must be a CA's certificate, with basicConstraints CA:TRUE; {found}")
    usage = find_extension(certificate, x509.KeyUsage)
    if usage is None or not usage.key_cert_sign:
        found = "it has no keyUsage" if usage is None else "its keyUsage lacks keyCertSign"
        raise AuthorityError(f"{file} must be allowed to sign certificates; {found}")
    purposes = find_extension(certificate, x509.ExtendedKeyUsage)
    # Go and OpenSSL let a CA's purposes limit those of the certificates below it.
    allowed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if purposes is not None and allowed.isdisjoint(purposes):
        raise AuthorityError(f"{file} must be allowed to sign for TLS clients; its extendedKeyUsage lacks clientAuth")


def check_room_below(file: str, root: x509.Certificate) -> None:
    """The root allows a CA below it (RFC 5280 section 4.2.1.9).

    Raises:
        AuthorityError: its pathLenConstraint is 0.
    """
    constraints = find_extension(root, x509.BasicConstraints)
    if constraints is not None and constraints.path_length == 0:
        raise AuthorityError(f"{file} must allow a CA below it; its pathLenConstraint is 0")


def check_valid(file: str, certificate: x509.Certificate, now: datetime) -> None:
    """It is valid at `now`, UTC, both ends included.

    Raises:
        AuthorityError: it is not yet, or not any more.
    """
    if now < certificate.not_valid_before_utc:
        raise AuthorityError(
            f"{file} is not valid before {_utc(certificate.not_valid_before_utc)}; it is {_utc(now)}",
            hint="is this machine's clock right?",
        )
    if now > certificate.not_valid_after_utc:
        raise AuthorityError(
            f"{file} was valid until {_utc(certificate.not_valid_after_utc)}; it is {_utc(now)}",
            hint="a device CA's successor is signed by the root",
        )


def check_issued_by(file: str, certificate: x509.Certificate, root_file: str, root: x509.Certificate) -> None:
    """The root has signed it, and its issuer is the root's subject.

    Raises:
        AuthorityError: another has.
    """
    issuer, subject = (printable(name.rfc4514_string()) for name in (certificate.issuer, root.subject))
    if certificate.issuer != root.subject:
        raise AuthorityError(f"{file} must be issued by {root_file}, {subject}; its issuer is {issuer}")
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError):
        raise AuthorityError(f"{file} must be signed by the key of {root_file}; its signature is not") from None


def p256_key(file: str, certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """Its public key.

    Raises:
        AuthorityError: it is not a P-256 key.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise AuthorityError(f"{file} must certify a P-256 key; its key cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        kind = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        raise AuthorityError(f"{file} must certify a P-256 key; it certifies {kind}")
    return key


def check_subject_bytes(file: str, certificate: x509.Certificate) -> None:
    """Writing its subject anew gives the same octets, so that devices' issuer is a copy (RFC 5280 section 4.1.2.4).

    Raises:
        AuthorityError: it has another encoding.
    """
    # TBSCertificate has subject and subjectPublicKeyInfo side by side (RFC 5280 section 4.1).
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.subject.public_bytes() + key not in certificate.tbs_certificate_bytes:
        raise AuthorityError(f"{file} must have a subject and a key in their usual DER form; it has another")


def organizational_units(certificate: x509.Certificate) -> list[str]:
    """The organizational units in its subject."""
    return [str(unit.value) for unit in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]


def factory_of(file: str, certificate: x509.Certificate, root_file: str, root: x509.Certificate) -> str:
    """The factory: the CA's one organizational unit, which is also the root's, if the root has any.

    Raises:
        AuthorityError: there is not exactly one, the root has another, or it is not fit for a name.
    """
    units, above = organizational_units(certificate), organizational_units(root)
    if fault := unit_fault(units):
        raise AuthorityError(f"{file} {fault}")
    if fault := text_fault(units[0]):
        raise AuthorityError(f"{file}'s organizational unit, the factory's name, {fault}: {units[0]!r}")
    if above and above != units:
        expected = listed(map(repr, above))
        raise AuthorityError(
            f"{file} must have the organizational unit of {root_file}, {expected}; it has {units[0]!r}",
            hint="a factory's root and device CAs all bear the factory's name",
        )
    return units[0]


def unchecked_extensions(certificate: x509.Certificate) -> list[str]:
    """The critical extensions that no rule here looks at, dotted."""
    return [e.oid.dotted_string for e in certificate.extensions if e.critical and e.oid not in _CHECKED]


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
