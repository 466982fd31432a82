"""What each kind of certificate looks like: the field table of the factory PKI, as data, and the one way to apply it.

Sources: RFC 5280 section 4.1 and 4.2; the profiles that fioctl and the device gateway use (CN before OU, UTF8String;
CA certificates as fioctl's; device certificates as lmp-device-register asks for them).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric import ec

__all__ = [
    "DEVICE",
    "DEVICE_CA",
    "ROOT",
    "SIGNER",
    "TLS",
    "CertificateProfile",
    "ValidityWindow",
    "build",
    "device_name",
    "factory_name",
    "key_usage",
    "years_after",
]

_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True, slots=True)
class CertificateProfile:
    """The extensions of one kind of certificate; all are X.509 v3, P-256, ecdsa-with-SHA256.

    Attributes:
        name: what the kind is called.
        is_ca: basicConstraints (critical) CA:TRUE; False leaves the extension out.
        path_length: its pathLenConstraint, None for none.
        key_usage: names of the keyUsage bits (critical).
        extended_key_usage: the purposes, none leaves the extension out.
        extended_key_usage_critical: whether that extension is critical.
        with_key_identifier: whether subjectKeyIdentifier is there (RFC 5280 section 4.2.1.2, method 1).
        with_authority_identifier: whether authorityKeyIdentifier is there, if the issuer has a key identifier.
    """

    name: str
    key_usage: tuple[str, ...]
    is_ca: bool = False
    path_length: int | None = None
    extended_key_usage: tuple[x509.ObjectIdentifier, ...] = ()
    extended_key_usage_critical: bool = False
    with_key_identifier: bool = True
    with_authority_identifier: bool = True


ROOT = CertificateProfile(
    "root",
    ("key_cert_sign", "crl_sign"),
    is_ca=True,
    extended_key_usage=(ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    with_authority_identifier=False,
)
DEVICE_CA = CertificateProfile("device-ca", ("key_cert_sign",), is_ca=True, path_length=0)
TLS = CertificateProfile(
    "tls",
    ("digital_signature",),
    extended_key_usage=(ExtendedKeyUsageOID.SERVER_AUTH,),
    with_key_identifier=False,
)
SIGNER = CertificateProfile("signer", ("digital_signature",))
DEVICE = CertificateProfile(
    "device",
    ("digital_signature",),
    extended_key_usage=(ExtendedKeyUsageOID.CLIENT_AUTH,),
    extended_key_usage_critical=True,
)


@dataclass(frozen=True, slots=True)
class ValidityWindow:
    """From when to when a certificate is valid, both ends included (RFC 5280 section 4.1.2.5).

    Attributes:
        not_before: UTC, whole seconds.
        not_after: UTC, whole seconds.
    """

    not_before: datetime
    not_after: datetime


def years_after(moment: datetime, years: int) -> datetime:
    """The same moment `years` calendar years later; 29 February becomes 28 February."""
    try:
        return moment.replace(year=moment.year + years)
    except ValueError:
        return (moment - timedelta(days=1)).replace(year=moment.year + years)


def factory_name(common_name: str, factory: str) -> x509.Name:
    """CN, OU in this order, both UTF8String: the names of a factory's CAs."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, factory),
        ]
    )


def device_name(device_uuid: str, factory: str, *, production: bool) -> x509.Name:
    """CN = UUID, OU = factory [, businessCategory = production], in this order, all UTF8String."""
    attributes = list(factory_name(device_uuid, factory))
    if production:
        attributes.append(x509.NameAttribute(NameOID.BUSINESS_CATEGORY, "production"))
    return x509.Name(attributes)


def key_usage(profile: CertificateProfile) -> x509.KeyUsage:
    """The value of its keyUsage extension (RFC 5280 section 4.2.1.3)."""
    return x509.KeyUsage(**{bit: bit in profile.key_usage for bit in _KEY_USAGES})


def build(
    profile: CertificateProfile,
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    serial_number: int,
    window: ValidityWindow,
    authority_key_identifier: bytes | None = None,
    alternative_names: Sequence[x509.GeneralName] = (),
) -> x509.CertificateBuilder:
    """A certificate of `profile`, ready to be signed.

    Args:
        profile: which kind.
        subject: its name.
        issuer: the CA's subject.
        public_key: the certified key.
        serial_number: 1 to 2**159 - 1.
        window: its validity.
        authority_key_identifier: the CA's own subjectKeyIdentifier value, copied and never recomputed: CAs made by
            Go 1.25 and later have truncated SHA-256 there. None leaves the extension out.
        alternative_names: of subjectAltName, in this order; none leaves the extension out.

    Raises:
        ValueError: a value breaks the rules of RFC 5280 that `cryptography` checks.
    """
    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=public_key,
        serial_number=serial_number,
        not_valid_before=window.not_before,
        not_valid_after=window.not_after,
    )
    if profile.is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=profile.path_length), critical=True)
    builder = builder.add_extension(key_usage(profile), critical=True)
    if profile.extended_key_usage:
        purposes = x509.ExtendedKeyUsage(profile.extended_key_usage)
        builder = builder.add_extension(purposes, critical=profile.extended_key_usage_critical)
    if alternative_names:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
    if profile.with_key_identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    if profile.with_authority_identifier and authority_key_identifier is not None:
        identifier = x509.AuthorityKeyIdentifier(authority_key_identifier, None, None)
        builder = builder.add_extension(identifier, critical=False)
    return builder
