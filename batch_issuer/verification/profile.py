"""What a device certificate of a run must look like: each field's one right encoding.

Written down by hand from the clauses, octet by octet, and not by the objects that make certificates.
Sources: RFC 5280 section 4.1 and 4.2, RFC 5480, RFC 5758 section 3.2; the factory PKI's device profile.
"""

from __future__ import annotations

import re
from hashlib import sha1
from typing import TYPE_CHECKING

from cryptography import x509

from batch_issuer.verification.der import content, element, split

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "BIT_STRING",
    "ECDSA_SHA256",
    "EXPLICIT_EXTENSIONS",
    "EXTENSIONS",
    "FIELD_TAGS",
    "INTEGER",
    "POINT_LENGTH",
    "SEQUENCE",
    "SPKI_HEAD",
    "VERSION_3",
    "DeviceProfile",
]

INTEGER, BIT_STRING, SEQUENCE = 0x02, 0x03, 0x30
EXPLICIT_EXTENSIONS = 0xA3
_OCTET_STRING, _UTF8_STRING, _PRINTABLE_STRING, _SET = 0x04, 0x0C, 0x13, 0x31
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18

FIELD_TAGS = bytes([0xA0, INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, EXPLICIT_EXTENSIONS])
"""TBSCertificate: version, serial, signature, issuer, validity, subject, subjectPublicKeyInfo, extensions."""

_SUBJECT = 5

VERSION_3 = bytes.fromhex("a003020102")
"""version [0] EXPLICIT INTEGER v3(2)."""

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
"""AlgorithmIdentifier { ecdsa-with-SHA256 }, parameters absent (RFC 5758 section 3.2)."""

SPKI_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
"""SubjectPublicKeyInfo { { id-ecPublicKey, secp256r1 }, BIT STRING of 66 octets } up to the point (RFC 5480)."""

POINT_LENGTH = 65

# Extension { keyUsage, critical TRUE, OCTET STRING { BIT STRING digitalSignature(0) } }
_KEY_USAGE = bytes.fromhex("300e 0603551d0f 0101ff 0404 03020780")
# Extension { extKeyUsage, critical TRUE, OCTET STRING { SEQUENCE { id-kp-clientAuth } } }
_EXTENDED_KEY_USAGE = bytes.fromhex("3016 0603551d25 0101ff 040c 300a06082b06010505070302")
# Extension { subjectKeyIdentifier, OCTET STRING { OCTET STRING of 20 octets } } up to the identifier
_KEY_IDENTIFIER_HEAD = bytes.fromhex("301d 0603551d0e 0416 0414")
_AUTHORITY_IDENTIFIER = bytes.fromhex("0603551d23")

EXTENSIONS = {
    _KEY_USAGE[2:7]: ("certificate-key-usage", "keyUsage"),
    _EXTENDED_KEY_USAGE[2:7]: ("certificate-extended-key-usage", "extendedKeyUsage"),
    _KEY_IDENTIFIER_HEAD[2:7]: ("certificate-key-identifier", "subjectKeyIdentifier"),
    _AUTHORITY_IDENTIFIER: ("certificate-authority-identifier", "authorityKeyIdentifier"),
}
"""Object identifier of each extension to its finding's code and its name."""

_COMMON_NAME = bytes.fromhex("0603550403")
_ORGANIZATIONAL_UNIT = bytes.fromhex("060355040b")
_BUSINESS_CATEGORY = bytes.fromhex("060355040f")
_LAST_UTC_TIME_YEAR = 2049
_PRINTABLE = re.compile("[A-Za-z0-9 '()+,./:=?-]*")
"""Text of a PrintableString (X.680 section 41.4)."""


class DeviceProfile:
    """The fields of a run's device certificates.

    Args:
        ca_certificate: the issuing CA's certificate, DER.
        factory: the organizational unit.
        not_before: UTC, whole seconds.
        not_after: UTC, whole seconds.

    Attributes:
        issuer: a byte copy of the CA's subject.
        validity: both times.
    """

    def __init__(self, ca_certificate: bytes, *, factory: str, not_before: datetime, not_after: datetime) -> None:
        ca_tbs = split(content(ca_certificate, SEQUENCE))[0]
        self.issuer = split(content(ca_tbs, SEQUENCE))[_SUBJECT]
        self.validity = element(SEQUENCE, _time(not_before), _time(not_after))
        self._unit = _attribute(_ORGANIZATIONAL_UNIT, factory)
        self._production = _attribute(_BUSINESS_CATEGORY, "production")
        self._own_unit = _own_attribute(_ORGANIZATIONAL_UNIT, factory)
        self._own_production = _own_attribute(_BUSINESS_CATEGORY, "production")
        self._constant = frozenset((_KEY_USAGE, _EXTENDED_KEY_USAGE, *_authority_identifier(ca_certificate)))

    def subject(self, device_uuid: str, *, production: bool) -> bytes:
        """CN = UUID, OU = factory [, businessCategory = production]: UTF8String, in this order."""
        attributes = [_attribute(_COMMON_NAME, device_uuid), self._unit]
        if production:
            attributes.append(self._production)
        return element(SEQUENCE, *attributes)

    def is_own_subject(self, subject: bytes, device_uuid: str, *, production: bool) -> bool:
        """Whether it says just what `subject` says, in any order, each attribute as UTF8String or PrintableString.

        These are what devices' own software writes: some CN first and UTF8String, Go's OU first and PrintableString.
        """
        wanted = [_own_attribute(_COMMON_NAME, device_uuid), self._own_unit]
        if production:
            wanted.append(self._own_production)
        found = split(content(subject, SEQUENCE))
        # As many as wanted, and each of the wanted in one of its forms: so each is there exactly once.
        return len(found) == len(wanted) and all(forms.intersection(found) for forms in wanted)

    def extensions(self, point: bytes) -> frozenset[bytes]:
        """All of them; subjectKeyIdentifier is the SHA-1 of the public point (RFC 5280 section 4.2.1.2, method 1)."""
        identifier = sha1(point, usedforsecurity=False).digest()
        return self._constant | {_KEY_IDENTIFIER_HEAD + identifier}


def _attribute(kind: bytes, text: str, string: int = _UTF8_STRING) -> bytes:
    # RelativeDistinguishedName SET { AttributeTypeAndValue { type, UTF8String } }
    return element(_SET, element(SEQUENCE, kind, element(string, text.encode())))


def _own_attribute(kind: bytes, text: str) -> frozenset[bytes]:
    """Its encodings that a device may choose: PrintableString too, if the text has its characters only."""
    strings = (_UTF8_STRING, _PRINTABLE_STRING) if _PRINTABLE.fullmatch(text) else (_UTF8_STRING,)
    return frozenset(_attribute(kind, text, string) for string in strings)


def _time(moment: datetime) -> bytes:
    # RFC 5280 section 4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050
    if moment.year <= _LAST_UTC_TIME_YEAR:
        return element(_UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return element(_GENERALIZED_TIME, f"{moment.year:04d}{moment:%m%d%H%M%S}Z".encode())


def _authority_identifier(ca_certificate: bytes) -> list[bytes]:
    """The extension with the CA's own key identifier, copied and never computed; none if the CA has none."""
    extensions = x509.load_der_x509_certificate(ca_certificate).extensions
    try:
        identifier = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return []
    # Extension { authorityKeyIdentifier, OCTET STRING { SEQUENCE { keyIdentifier [0] } } }
    value = element(SEQUENCE, element(0x80, identifier))
    return [element(SEQUENCE, _AUTHORITY_IDENTIFIER, element(_OCTET_STRING, value))]
