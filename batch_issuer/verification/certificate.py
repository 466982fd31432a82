"""Checks a device certificate: every field against its one right encoding, then the CA's signature."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer.verification.der import content, split
from batch_issuer.verification.finding import Fault
from batch_issuer.verification.profile import (
    BIT_STRING,
    ECDSA_SHA256,
    EXPLICIT_EXTENSIONS,
    EXTENSIONS,
    FIELD_TAGS,
    INTEGER,
    POINT_LENGTH,
    SEQUENCE,
    SPKI_HEAD,
    VERSION_3,
    DeviceProfile,
)
from batch_issuer.verification.readable import moment, shown, shown_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["CertificateChecker", "CheckedCertificate"]

_LONGEST_SERIAL = 20
_FEWEST_SERIAL_BITS = 64
_UNCOMPRESSED = 4
_NO_UNUSED_BITS = b"\0"


@dataclass(frozen=True, slots=True)
class CheckedCertificate:
    """What a certificate says of itself, and what is wrong with it.

    Attributes:
        serial: the content octets of its serial number, empty if it could not be read.
        point: its uncompressed public point, 65 octets, empty if it could not be read.
        public_key_digest: SHA-256 of its SubjectPublicKeyInfo, empty if it could not be read.
        faults: none when it is exactly as it must be.
    """

    serial: bytes = b""
    point: bytes = b""
    public_key_digest: bytes = b""
    faults: list[Fault] = field(default_factory=list)


class CertificateChecker:
    """Checks the device certificates of one run.

    Args:
        ca_certificate: the issuing CA's certificate, DER.
        factory: the organizational unit that every device has.
        not_before: the run's notBefore, UTC.
        not_after: the run's notAfter, UTC.

    Raises:
        ValueError: the CA's certificate cannot be read, or its key is no elliptic curve key.
    """

    def __init__(self, ca_certificate: bytes, *, factory: str, not_before: datetime, not_after: datetime) -> None:
        ca = x509.load_der_x509_certificate(ca_certificate)
        ca_key = ca.public_key()
        if not isinstance(ca_key, ec.EllipticCurvePublicKey):
            raise ValueError("the CA's key is no elliptic curve key")  # noqa: TRY004 - a value from outside
        self._ca_key = ca_key
        self._ca_window = (ca.not_valid_before_utc, ca.not_valid_after_utc)
        self._window = (not_before, not_after)
        self._profile = DeviceProfile(ca_certificate, factory=factory, not_before=not_before, not_after=not_after)
        self._algorithm = ec.ECDSA(hashes.SHA256())
        self._curve = ec.SECP256R1()

    def check(
        self, der: bytes, device_uuid: str, *, production: bool | None, own_subject: bool = False
    ) -> CheckedCertificate:
        """Check one certificate.

        Args:
            der: its octets.
            device_uuid: the device's UUID as the certificate must have it.
            production: whether the subject must say businessCategory=production; None for either.
            own_subject: whether the device wrote its subject itself, in a CSR: then the order of its attributes and
                which of two string types they have are the device's choice.
        """
        try:
            tbs, algorithm, signature = split(content(der, SEQUENCE))
            fields = split(content(tbs, SEQUENCE))
            if bytes([one[0] for one in fields]) != FIELD_TAGS:
                return CheckedCertificate(faults=[_structure_fault(fields)])
            version, serial, inner, issuer, validity, subject, spki, extensions = fields
            point = spki[len(SPKI_HEAD) :]
            number = content(serial, INTEGER)
            faults = [*_constant_faults(version, inner, algorithm), *_serial_faults(number)]
            if issuer != self._profile.issuer:
                faults.append(_name_fault("issuer", issuer, self._profile.issuer))
            if validity != self._profile.validity:
                faults += self._validity_faults(validity)
            faults += self._subject_faults(subject, device_uuid, production, own=own_subject)
            faults += self._key_faults(spki, point)
            faults += self._extension_faults(extensions, point)
            faults += self._signature_faults(tbs, signature)
        except ValueError as error:
            return CheckedCertificate(faults=[Fault("certificate-encoding", f"the certificate is not DER: {error}")])
        return CheckedCertificate(number, point, sha256(spki).digest(), faults)

    def _subject_faults(self, subject: bytes, device_uuid: str, production: bool | None, *, own: bool) -> list[Fault]:
        flags = (False, True) if production is None else (production,)
        wanted = [self._profile.subject(device_uuid, production=flag) for flag in flags]
        if subject in wanted:
            return []
        if own and any(self._profile.is_own_subject(subject, device_uuid, production=flag) for flag in flags):
            return []
        return [_name_fault("subject", subject, wanted[0])]

    def _validity_faults(self, validity: bytes) -> Iterator[Fault]:
        begins, ends = self._ca_window
        for name, time, wanted in zip(
            ("notBefore", "notAfter"), split(content(validity, SEQUENCE)), self._window, strict=True
        ):
            try:
                found = moment(time)
            except ValueError as error:
                yield Fault("certificate-time-encoding", f"{name} breaks RFC 5280 section 4.1.2.5: {error}")
                continue
            if found != wanted:
                yield Fault("certificate-validity", f"{name} is {found:%FT%TZ}, expected the run's {wanted:%FT%TZ}")
            if not begins <= found <= ends:
                window = f"{begins:%FT%TZ} to {ends:%FT%TZ}"
                yield Fault("certificate-outside-ca", f"{name} is {found:%FT%TZ}, outside the CA's {window}")

    def _key_faults(self, spki: bytes, point: bytes) -> list[Fault]:
        if not spki.startswith(SPKI_HEAD) or len(point) != POINT_LENGTH or point[0] != _UNCOMPRESSED:
            wrong = f"the public key is {shown(spki)}, expected an uncompressed point on the named curve P-256"
            return [Fault("certificate-public-key", wrong)]
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(self._curve, point)
        except ValueError:
            return [Fault("certificate-public-key", "the public point is not on the curve P-256")]
        return []

    def _extension_faults(self, extensions: bytes, point: bytes) -> list[Fault]:
        found = split(content(content(extensions, EXPLICIT_EXTENSIONS), SEQUENCE))
        wanted = self._profile.extensions(point)
        # As many as wanted and, as a set, the wanted: each of them exactly once.
        if len(found) == len(wanted) and wanted.issuperset(found) and len(set(found)) == len(found):
            return []
        return list(_named_extension_faults(found, wanted))

    def _signature_faults(self, tbs: bytes, signature: bytes) -> list[Fault]:
        octets = content(signature, BIT_STRING)
        if octets[:1] != _NO_UNUSED_BITS:
            return [Fault("certificate-signature", "the signature is not of whole octets")]
        try:
            self._ca_key.verify(octets[1:], tbs, self._algorithm)
        except InvalidSignature:
            return [Fault("certificate-signature", "the signature is not the CA's over this certificate")]
        return []


def _structure_fault(fields: list[bytes]) -> Fault:
    if not fields or fields[0][0] != FIELD_TAGS[0]:
        return Fault("certificate-version", "the certificate has no version field, so it is v1, expected v3")
    tags = bytes([one[0] for one in fields])
    wrong = f"the fields have the tags {tags.hex(' ')}, expected {FIELD_TAGS.hex(' ')} (no unique identifiers)"
    return Fault("certificate-structure", wrong)


def _constant_faults(version: bytes, inner: bytes, outer: bytes) -> Iterator[Fault]:
    if version != VERSION_3:
        yield Fault("certificate-version", f"the version is {shown(version)}, expected v3: {shown(VERSION_3)}")
    for where, algorithm in (("in the signed part", inner), ("beside the signature", outer)):
        if algorithm != ECDSA_SHA256:
            wrong = f"the algorithm {where} is {shown(algorithm)}, expected ecdsa-with-SHA256: {shown(ECDSA_SHA256)}"
            yield Fault("certificate-signature-algorithm", wrong)


def _serial_faults(serial: bytes) -> list[Fault]:
    rules = (
        (0 < len(serial) <= _LONGEST_SERIAL, f"more than {_LONGEST_SERIAL} octets, or none"),
        (serial[:1] < b"\x80", "negative"),
        (serial[:1] != b"\0" or serial[1:2] >= b"\x80", "not in its shortest form, or zero"),
        (int.from_bytes(serial).bit_length() >= _FEWEST_SERIAL_BITS, f"of less than {_FEWEST_SERIAL_BITS} bits"),
    )
    wrong = [what for kept, what in rules if not kept]
    return [Fault("certificate-serial", f"the serial number {shown(serial)} is {'; '.join(wrong)}")] if wrong else []


def _name_fault(what: str, found: bytes, wanted: bytes) -> Fault:
    if shown_name(found) == shown_name(wanted):
        return Fault(f"certificate-{what}", f"the {what} is encoded as {shown(found)}, expected {shown(wanted)}")
    return Fault(f"certificate-{what}", f"the {what} is {shown_name(found)}, expected {shown_name(wanted)}")


def _named_extension_faults(found: list[bytes], wanted: frozenset[bytes]) -> Iterator[Fault]:
    kinds = [split(content(one, SEQUENCE))[0] for one in found]
    expected = {split(content(one, SEQUENCE))[0]: one for one in wanted}
    for kind in dict.fromkeys(kinds):
        if kind not in expected:
            code, name = EXTENSIONS.get(kind, ("certificate-extension", f"the extension {shown(kind)}"))
            yield Fault(code, f"{name} must not be there")
    for kind, extension in expected.items():
        code, name = EXTENSIONS[kind]
        values = [one for one, its_kind in zip(found, kinds, strict=True) if its_kind == kind]
        if len(values) != 1:
            yield Fault(code, f"{name} is there {len(values)} times, expected once")
        elif values != [extension]:
            yield Fault(code, f"{name} is {shown(values[0])}, expected {shown(extension)}")
