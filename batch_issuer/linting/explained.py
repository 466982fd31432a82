"""Findings that are right and that nothing is to be done about: they come from profiles that other software fixed.

The profiles are those that fioctl and the device gateway use (`profiles`), and a root as the vendor's shell scripts
make it with openssl. An explanation holds for one code, in certificates that are of such a kind in every extension.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from batch_issuer import profiles

if TYPE_CHECKING:
    from typing import TypeAlias

    from batch_issuer.profiles import CertificateProfile

    _Found: TypeAlias = dict[x509.ObjectIdentifier, x509.Extension[x509.ExtensionType]]
    _Fixed: TypeAlias = dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]]
    """The value of each extension that a profile fixes, and whether it is critical."""

__all__ = ["EXPLAINED", "Explained", "Subject", "explanation", "names_of", "subject_of"]

_SCRIPTED_ROOT = "root by openssl"
_LONGEST_SERIAL = 160
_FREE = (
    ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
)
"""Extensions whose values a profile leaves open."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a finding stands.

    Attributes:
        code: the finding's.
        kinds: of certificates that it is explained for.
        why: in a sentence.
        source: who fixed it so.
    """

    code: str
    kinds: tuple[str, ...]
    why: str
    source: str


@dataclass(frozen=True, slots=True)
class Subject:
    """What an explanation asks of a certificate.

    Attributes:
        kind: the profile that its extensions are of; None for none.
        serial_bits: of its serial number; 0 if that is not positive.
        issuer_lacks_identifier: whether its issuer is known, and has no subjectKeyIdentifier.
    """

    kind: str | None
    serial_bits: int
    issuer_lacks_identifier: bool


EXPLAINED = (
    Explained(
        "pkix.certificate_skid_end_entity_missing",
        (profiles.TLS.name,),
        "the gateway's certificate has no subjectKeyIdentifier; RFC 5280 section 4.2.1.2 says SHOULD",
        "fioctl x509/golang.go, genTlsCert",
    ),
    Explained(
        "pkix.authority_key_identifier_extension_absent",
        (profiles.DEVICE.name, profiles.DEVICE_CA.name),
        "its CA has no subjectKeyIdentifier that could be copied, and none is ever computed",
        "RFC 5280 section 4.2.1.1; OpenSSL refuses an identifier that is not the CA's own",
    ),
    Explained(
        "pkix.certificate_serial_number_out_of_range",
        (profiles.ROOT.name, profiles.DEVICE_CA.name, profiles.TLS.name),
        "its serial number has 160 bits, and takes 21 octets",
        "fioctl x509/golang.go: serial numbers are uniform below 2**160",
    ),
    Explained(
        "pkix.basic_constraints_extension_not_critical",
        (_SCRIPTED_ROOT,),
        "basicConstraints is not critical in the root",
        "fioctl x509/bash.go, create_ca",
    ),
    Explained(
        "pkix.key_usage_extension_not_critical",
        (_SCRIPTED_ROOT,),
        "keyUsage is not critical in the root",
        "fioctl x509/bash.go, create_ca",
    ),
)


def explanation(code: str, subject: Subject) -> Explained | None:
    """What explains a finding in a certificate; None if nothing does."""
    for explained in EXPLAINED:
        if explained.code == code and subject.kind in explained.kinds and _holds(code, subject):
            return explained
    return None


def _holds(code: str, subject: Subject) -> bool:
    if code == "pkix.authority_key_identifier_extension_absent":
        return subject.issuer_lacks_identifier
    if code == "pkix.certificate_serial_number_out_of_range":
        return subject.serial_bits == _LONGEST_SERIAL
    return True


def subject_of(der: bytes, issuer: bytes | None) -> Subject:
    """What explanations ask of a certificate.

    Args:
        der: the certificate.
        issuer: its CA's certificate, DER, if that is known.
    """
    certificate = _loaded(der)
    if certificate is None:
        return Subject(None, 0, issuer_lacks_identifier=False)
    above = None if issuer is None else _loaded(issuer)
    lacks = above is not None and ExtensionOID.SUBJECT_KEY_IDENTIFIER not in _extensions(above)
    kind = _kind(_extensions(certificate))
    return Subject(kind, _serial_bits(certificate), issuer_lacks_identifier=lacks)


def _serial_bits(certificate: x509.Certificate) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # of those that are not positive
        return max(certificate.serial_number, 0).bit_length()


def names_of(der: bytes) -> tuple[bytes, bytes]:
    """The DER of a certificate's subject and issuer; nothing of one that cannot be read."""
    certificate = _loaded(der)
    if certificate is None:
        return b"", b""
    return certificate.subject.public_bytes(), certificate.issuer.public_bytes()


def _loaded(der: bytes) -> x509.Certificate | None:
    """A certificate whose extensions can be read; None otherwise. What is strange in it is for the judge to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # some versions say it here
        try:
            certificate = x509.load_der_x509_certificate(der)
            certificate.extensions  # noqa: B018 - parsed here, or an error
        except (ValueError, x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType):
            return None
        return certificate


def _extensions(certificate: x509.Certificate) -> _Found:
    return {extension.oid: extension for extension in certificate.extensions}


def _kind(found: _Found) -> str | None:
    for profile in (profiles.ROOT, profiles.DEVICE_CA, profiles.TLS, profiles.SIGNER, profiles.DEVICE):
        if _fixed(found) == _wanted(profile) and _may(found, profile):
            return profile.name
    return _SCRIPTED_ROOT if _fixed(found) == _SCRIPTED else None


def _fixed(found: _Found) -> _Fixed:
    return {oid: (one.value, one.critical) for oid, one in found.items() if oid not in _FREE}


def _wanted(profile: CertificateProfile) -> _Fixed:
    wanted: _Fixed = {
        ExtensionOID.KEY_USAGE: (profiles.key_usage(profile), True),
    }
    if profile.is_ca:
        constraints = x509.BasicConstraints(ca=True, path_length=profile.path_length)
        wanted[ExtensionOID.BASIC_CONSTRAINTS] = (constraints, True)
    if profile.extended_key_usage:
        purposes = x509.ExtendedKeyUsage(profile.extended_key_usage)
        wanted[ExtensionOID.EXTENDED_KEY_USAGE] = (purposes, profile.extended_key_usage_critical)
    return wanted


def _may(found: _Found, profile: CertificateProfile) -> bool:
    """Whether the identifiers and names are those of the profile; an authority's may lack."""
    named = ExtensionOID.SUBJECT_ALTERNATIVE_NAME in found
    own = ExtensionOID.SUBJECT_KEY_IDENTIFIER in found
    above = ExtensionOID.AUTHORITY_KEY_IDENTIFIER in found
    return (
        named == (profile is profiles.TLS)
        and own == profile.with_key_identifier
        and (profile.with_authority_identifier or not above)
        and not any(found[oid].critical for oid in found if oid in _FREE)
    )


_SCRIPTED: _Fixed = {
    ExtensionOID.BASIC_CONSTRAINTS: (x509.BasicConstraints(ca=True, path_length=None), False),
    ExtensionOID.KEY_USAGE: (profiles.key_usage(profiles.ROOT), False),
    ExtensionOID.EXTENDED_KEY_USAGE: (
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
        True,
    ),
}
