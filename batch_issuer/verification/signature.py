"""Checks `SHA256SUMS.sig`: a detached CMS signature of exactly the one form that a run writes, by the run's signer.

Sources: RFC 5652 sections 3, 5 and 11; RFC 5754 section 2.2 and 3.2; RFC 5758 section 3.2.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

from batch_issuer.verification.anchors import issued_by
from batch_issuer.verification.der import DerError, content, element, split
from batch_issuer.verification.finding import Fault
from batch_issuer.verification.profile import ECDSA_SHA256, INTEGER, SEQUENCE
from batch_issuer.verification.readable import moment, printable, shown
from batch_issuer.verification.regular import file_octets, file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord
    from batch_issuer.verification.anchors import Anchors

__all__ = ["signature_faults", "signer_faults", "signer_name"]

_LARGEST = 1 << 16
"""Octets of a signature, at most."""

_OCTET_STRING, _SET, _EXPLICIT_0 = 0x04, 0x31, 0xA0
_VERSION_1 = bytes.fromhex("020101")
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_DATA = bytes.fromhex("06092a864886f70d010701")
_SHA256 = tuple(bytes.fromhex(form) for form in ("300d06096086480165030402010500", "300b0609608648016503040201"))
"""AlgorithmIdentifier { id-sha256 }, parameters NULL or absent: readers must take both (RFC 5754 section 2)."""

# Attribute { id-contentType, SET { id-data } } (RFC 5652 section 11.1), and the types of the other two
_CONTENT_TYPE = bytes.fromhex("3018 06092a864886f70d010903 310b") + _DATA
_SIGNING_TIME = bytes.fromhex("06092a864886f70d010905")
_MESSAGE_DIGEST = bytes.fromhex("06092a864886f70d010904")


_UNREADABLE = (
    CryptographyDeprecationWarning,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises of octets that are no certificate that can be read, beside ValueError."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """What a signature says.

    Attributes:
        certificate: the signer's, DER.
        time: when it was made, as its maker says.
        digest: SHA-256 of what is signed.
        attributes: the octets that the signature is over.
        signature: DER `ECDSA-Sig-Value`.
    """

    certificate: bytes
    time: datetime
    digest: bytes
    attributes: bytes
    signature: bytes


def signer_faults(anchors: Anchors, record: RunRecord) -> Iterator[Fault]:
    """Whether the run names the signer that it is to have; whoever strips a signature strips that name too."""
    if anchors.signer is None:
        return
    if record.signer_certificate is None:
        yield Fault("signature-signer", "run.json names no signer, and the run is to be signed")
    elif _recorded(record) != anchors.signer:
        yield Fault("signature-signer", "run.json names another signer's certificate than the PKI directory")


def signer_name(record: RunRecord) -> str:
    """The subject of the certificate that the run names as its signer's, as one printable line."""
    return _subject(_recorded(record))


def signature_faults(folder: OutputFolder, record: RunRecord, root: bytes) -> Iterator[Fault]:
    """What is wrong with a run's signature, which it must have.

    Args:
        folder: the run's.
        record: what was asked.
        root: the root's certificate, DER.
    """
    octets = file_octets(folder.signature, _LARGEST)
    if octets is None and os.path.lexists(folder.signature):
        yield Fault("signature-encoding", f"it is no regular file of at most {_LARGEST} octets")
    if octets is None:
        return
    try:
        signed = _read(octets)
    except ValueError as error:
        yield Fault("signature-encoding", f"it is no detached CMS signature of the one form: {error}")
        return
    digest = file_sha256(folder.sums)
    if signed.digest.hex() != digest:
        yield Fault("signature-digest", f"it signs a file with SHA-256 {signed.digest.hex()}, SHA256SUMS has {digest}")
    if signed.certificate != _recorded(record):
        name = _subject(signed.certificate)
        yield Fault("signature-signer", f"it is by {name}, whose certificate is not the signer's that run.json names")
    yield from _certificate_faults(signed, record, root)


def _recorded(record: RunRecord) -> bytes:
    try:
        return x509.load_pem_x509_certificate((record.signer_certificate or "").encode()).public_bytes(Encoding.DER)
    except ValueError:
        return b""


def _subject(certificate: bytes) -> str:
    try:
        return printable(_load(certificate)[0].subject.rfc4514_string())
    except ValueError:
        return "a certificate that cannot be read"


def _load(der: bytes) -> tuple[x509.Certificate, ec.EllipticCurvePublicKey]:
    """A certificate whose names and extensions can be read, and its P-256 key.

    Raises:
        ValueError: it is none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            certificate = x509.load_der_x509_certificate(der)
            key = certificate.public_key()
            _ = certificate.subject, certificate.issuer, certificate.extensions
    except (*_UNREADABLE, ValueError) as error:
        raise ValueError(f"it cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("its key is not a P-256 key")  # noqa: TRY004 - a value from outside
    return certificate, key


def _read(der: bytes) -> _Signed:
    """The parts of a signature.

    Raises:
        DerError: it is of another form.
    """
    # ContentInfo { id-signedData, [0] EXPLICIT SignedData }
    kind, inner = _fields(der, SEQUENCE, 2)
    _expect("content type", kind, _SIGNED_DATA)
    # SignedData { version, digestAlgorithms SET, encapContentInfo, [0] certificates, signerInfos SET }
    version, digests, encapsulated, certificates, signers = _fields(content(inner, _EXPLICIT_0), SEQUENCE, 5)
    _expect("version", version, _VERSION_1)
    _expect("digest algorithms", digests, *(element(_SET, form) for form in _SHA256))
    _expect("signed content", encapsulated, element(SEQUENCE, _DATA))
    [certificate] = _fields(certificates, _EXPLICIT_0, 1)
    [signer] = _fields(signers, _SET, 1)
    # SignerInfo { version, issuerAndSerialNumber, digestAlgorithm, [0] signedAttrs, signatureAlgorithm, signature }
    version, identifier, digest_algorithm, attributes, algorithm, signature = _fields(signer, SEQUENCE, 6)
    _expect("signer's version", version, _VERSION_1)
    _expect("signer's identifier", identifier, _issuer_and_serial(certificate))
    _expect("signer's digest algorithm", digest_algorithm, *_SHA256)
    _expect("signature algorithm", algorithm, ECDSA_SHA256)
    # signedAttrs, a SET OF in DER and so in this order
    content_type, time, digest = _fields(attributes, _EXPLICIT_0, 3)
    _expect("content-type attribute", content_type, _CONTENT_TYPE)
    octets = content(_value(digest, _MESSAGE_DIGEST), _OCTET_STRING)
    when = moment(_value(time, _SIGNING_TIME))
    # The signature is over the attributes with the tag of their SET, not [0] (RFC 5652 section 5.4).
    return _Signed(certificate, when, octets, bytes([_SET]) + attributes[1:], content(signature, _OCTET_STRING))


def _fields(whole: bytes, tag: int, count: int) -> list[bytes]:
    fields = split(content(whole, tag))
    if len(fields) != count:
        raise DerError(f"{len(fields)} elements, expected {count}")
    return fields


def _expect(what: str, found: bytes, *allowed: bytes) -> None:
    if found not in allowed:
        raise DerError(f"the {what} is {shown(found)}, expected {shown(allowed[0])}")


def _value(attribute: bytes, kind: bytes) -> bytes:
    """The one value of an attribute that must be of this kind."""
    found, values = _fields(attribute, SEQUENCE, 2)
    _expect("signed attribute", found, kind)
    [value] = _fields(values, _SET, 1)
    return value


def _issuer_and_serial(certificate: bytes) -> bytes:
    # TBSCertificate { [0] version, serialNumber, signature, issuer, … } (RFC 5280 section 4.1)
    fields = split(content(split(content(certificate, SEQUENCE))[0], SEQUENCE))
    content(fields[1], INTEGER)
    return element(SEQUENCE, fields[3], fields[1])


def _certificate_faults(signed: _Signed, record: RunRecord, root: bytes) -> Iterator[Fault]:
    try:
        certificate, key = _load(signed.certificate)
    except ValueError as error:
        yield Fault("signature-certificate", f"the signer's certificate cannot be used: {error}")
        return
    try:
        key.verify(signed.signature, signed.attributes, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        yield Fault("signature-wrong", "the signature is not by the key of the certificate in it")
    if not issued_by(certificate, x509.load_der_x509_certificate(root)):
        yield Fault("signature-certificate", "the signer's certificate is not issued by the root")
    units = [unit.value for unit in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    if units != [record.factory]:
        wrong = f"the signer's OU is {units}, expected the run's factory {record.factory!r}"
        yield Fault("signature-certificate", wrong)
    yield from _use_faults(certificate.extensions)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= signed.time <= ends:
        window = f"{begins:%FT%TZ} to {ends:%FT%TZ}"
        yield Fault(
            "signature-time", f"it was made at {signed.time:%FT%TZ}, and its signer's certificate is for {window}"
        )
    if signed.time < record.starts:
        wrong = f"it was made at {signed.time:%FT%TZ}, before the run's certificates begin, {record.not_before}"
        yield Fault("signature-time", wrong)


def _use_faults(extensions: x509.Extensions) -> Iterator[Fault]:
    """A signer is for signatures on data alone: no CA's key, no server's and no device's signs a run."""
    values = {type(extension.value): extension.value for extension in extensions}
    constraints, usage = values.get(x509.BasicConstraints), values.get(x509.KeyUsage)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        yield Fault("signature-certificate", "the signer's certificate is a CA's, and no CA's key signs a run")
    if not isinstance(usage, x509.KeyUsage) or not usage.digital_signature or usage.key_cert_sign:
        wrong = "the signer's keyUsage must have digitalSignature and no keyCertSign; it has another"
        yield Fault("signature-certificate", wrong)
    if x509.ExtendedKeyUsage in values:
        yield Fault("signature-certificate", "the signer's certificate is for other purposes: it has extendedKeyUsage")
