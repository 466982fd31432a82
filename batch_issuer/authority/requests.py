"""Certificate signing requests: what is read of them, and what a request must be before a CA signs for it.

A CA takes a request's public key and, where policy allows it, its subject; never its extensions (RFC 2986, RFC 5280).
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from batch_issuer import profiles
from batch_issuer.authority.layout import pem_labels
from batch_issuer.authority.names import text_fault, unit_fault
from batch_issuer.devices import LARGEST_CSR, NIL_UUID, is_uuid
from batch_issuer.errors import RequestError
from batch_issuer.figures import listed

__all__ = ["DeviceIdentity", "check_device_request", "check_factory", "read_request", "request_key"]

_LABELS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
_EXTENSION_REQUEST = x509.ObjectIdentifier("1.2.840.113549.1.9.14")
_STRINGS = (_ASN1Type.UTF8String, _ASN1Type.PrintableString)
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What a device's request says of it.

    Attributes:
        device_uuid: its common name, as it is written there.
        production: whether it calls itself a device of production.
    """

    device_uuid: str
    production: bool


def read_request(text: bytes | str, what: str) -> x509.CertificateSigningRequest:
    """The one request in a PEM text, for a P-256 key that has signed it, with a subject that can be copied.

    Args:
        text: the PEM text.
        what: how an error calls it.

    Raises:
        RequestError: it is none.
    """
    octets = text.encode(errors="replace") if isinstance(text, str) else text
    if len(octets) > LARGEST_CSR:
        raise RequestError("csr-unreadable", f"{what} must have at most {LARGEST_CSR} octets; it has {len(octets)}")
    labels = pem_labels(octets)
    if len(labels) != 1 or labels[0] not in _LABELS:
        found = listed(labels)
        raise RequestError("csr-unreadable", f"{what} must be one PEM CERTIFICATE REQUEST; its PEM blocks are: {found}")
    try:
        csr = x509.load_pem_x509_csr(octets)
        subject, _, _ = csr.subject, csr.extensions, [attribute.oid for attribute in csr.attributes]
        key, signed = csr.public_key(), csr.is_signature_valid
    except _UNREADABLE:
        raise RequestError("csr-unreadable", f"{what} must be a request as RFC 2986 has it; it is not") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        kind = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        raise RequestError("csr-key", f"{what} must be for a P-256 key; it is for {kind}")
    if not signed:
        raise RequestError("csr-signature", f"{what} must be signed by its own key; its signature does not verify")
    # CertificationRequestInfo has subject and subjectPKInfo side by side (RFC 2986 section 4.1).
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if subject.public_bytes() + spki not in csr.tbs_certrequest_bytes:
        raise RequestError("csr-subject", f"{what} must have a subject and a key in their usual DER form")
    return csr


def request_key(csr: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a request that `read_request` gave."""
    key = csr.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - what read_request has checked
    return key


def check_factory(csr: x509.CertificateSigningRequest, factory: str, what: str) -> None:
    """Its one organizational unit is the factory.

    Raises:
        RequestError: it is another, or there is not exactly one.
    """
    _check_units(csr.subject, factory, what)


def _check_units(subject: x509.Name, factory: str, what: str) -> None:
    units = [str(unit.value) for unit in subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    if fault := unit_fault(units, factory):
        raise RequestError("csr-factory", f"{what} {fault}")


def check_device_request(csr: x509.CertificateSigningRequest, *, factory: str, what: str) -> DeviceIdentity:
    """What a device's request says of it: CN = UUID, OU = factory [, businessCategory = production], nothing else.

    Any order of the attributes and UTF8String or PrintableString are right: lmp-device-register writes CN first and
    UTF8String, Go's clients OU first and PrintableString; renewal needs the subject's octets as they are.

    Args:
        csr: what `read_request` gave.
        factory: whose device it must be.
        what: how an error calls it.

    Raises:
        RequestError: it says something else, or asks for more than a device gets.
    """
    subject = csr.subject  # parsed anew each time that it is asked for
    _check_units(subject, factory, what)
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not is_uuid(uuid := str(names[0].value)) or uuid == NIL_UUID:
        found = listed(repr(str(name.value)) for name in names)
        raise RequestError("csr-uuid", f"{what} must have a UUID as its one common name (CN); it has {found}")
    _check_attributes(subject, what)
    _check_extensions(csr, what)
    return DeviceIdentity(uuid, production=bool(subject.get_attributes_for_oid(NameOID.BUSINESS_CATEGORY)))


def _check_attributes(subject: x509.Name, what: str) -> None:
    for attribute in subject:
        if attribute.oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME):
            good = text_fault(str(attribute.value)) is None
        else:
            good = attribute.oid == NameOID.BUSINESS_CATEGORY and attribute.value == "production"
        if not good or attribute._type not in _STRINGS:
            raise RequestError(
                "csr-attribute",
                f"{what} may have CN, OU and businessCategory=production in its subject, as UTF8String or "
                f"PrintableString; it has {attribute.rfc4514_string()[:100]!r}",
            )
    kinds = {attribute.oid for attribute in subject}
    if not len(subject.rdns) == len(subject) == len(kinds):
        raise RequestError("csr-attribute", f"{what} must have each attribute of its subject once, on its own")


def _check_extensions(csr: x509.CertificateSigningRequest, what: str) -> None:
    """None, or just those that a device gets anyway."""
    for attribute in csr.attributes:
        if attribute.oid != _EXTENSION_REQUEST:
            raise RequestError(
                "csr-extension",
                f"{what} may have no attribute but requested extensions; it has {attribute.oid.dotted_string}",
            )
    for extension in csr.extensions:
        if isinstance(extension.value, x509.KeyUsage):
            good = extension.value == profiles.key_usage(profiles.DEVICE)
        else:
            good = extension.value == x509.ExtendedKeyUsage(profiles.DEVICE.extended_key_usage)
        if not good:
            raise RequestError(
                "csr-extension",
                f"{what} may ask for keyUsage digitalSignature and extendedKeyUsage clientAuth only; it asks for "
                f"{extension.oid.dotted_string} otherwise",
            )
