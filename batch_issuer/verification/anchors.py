"""The certificates that a run is checked against, and whether they may sign what they are said to have signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from batch_issuer.errors import AuthorityError, OutputError
from batch_issuer.verification.finding import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.output.record import RunRecord

__all__ = ["Anchors", "anchor_faults", "issued_by", "read_anchors", "recorded_anchors"]

_ROOT_FILE = "factory_ca.pem"


@dataclass(frozen=True, slots=True)
class Anchors:
    """The factory's certificates, DER.

    Attributes:
        ca: the device CA's.
        root: the root's.
        signer: that of whoever must have signed the run; None when it need not be signed.
    """

    ca: bytes
    root: bytes
    signer: bytes | None = None


def read_anchors(pki: Path, ca_name: str, signer: str | None = None) -> Anchors:
    """The certificates of a PKI directory; no key is opened.

    Args:
        pki: the directory.
        ca_name: the device CA's name in it.
        signer: the name in it of who must have signed the run.

    Raises:
        AuthorityError: a certificate is not there, or is none with a P-256 key.
    """
    certificates = []
    named = [f"{ca_name}.pem", _ROOT_FILE, *([] if signer is None else [f"{signer}.pem"])]
    for name in named:
        path = pki / name
        if path.parent != pki:
            raise AuthorityError(f"{name!r} is no certificate's file: it leads out of the PKI directory")
        try:
            certificates.append(_load(path.read_bytes()))
        except OSError as error:
            raise AuthorityError(
                f"{path} cannot be read: {error.strerror}", hint="name the PKI directory by --pki"
            ) from None
        except ValueError as error:
            raise AuthorityError(f"{path} is not a usable certificate: {error}") from None
    return Anchors(*certificates)


def recorded_anchors(record: RunRecord) -> Anchors:
    """The certificates that the run itself recorded.

    Raises:
        OutputError: they are none with P-256 keys.
    """
    try:
        return Anchors(_load(record.ca_certificate.encode()), _load(record.root_certificate.encode()))
    except ValueError as error:
        raise OutputError(f"run.json is damaged: it holds no usable certificate: {error}") from None


def _load(pem: bytes) -> bytes:
    certificate = x509.load_pem_x509_certificate(pem)
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("its key is not a P-256 key")  # noqa: TRY004 - a value from outside
    list(certificate.extensions)
    return certificate.public_bytes(Encoding.DER)


def anchor_faults(anchors: Anchors, record: RunRecord) -> Iterator[Fault]:
    """What is wrong with the certificates themselves, and with the run that names them."""
    ca, root = (x509.load_der_x509_certificate(der) for der in (anchors.ca, anchors.root))
    recorded = recorded_anchors(record)
    for name, used, said in (("ca", anchors.ca, recorded.ca), ("root", anchors.root, recorded.root)):
        if used != said:
            yield Fault(f"run-{name}-differs", f"run.json names another {name} certificate than the PKI directory")
    if not issued_by(ca, root):
        yield Fault("ca-not-of-root", "the device CA's certificate is not issued by the root")
    if not issued_by(root, root):
        yield Fault("root-not-self-signed", "the root's certificate is not signed by itself")
    for name, certificate in (("device CA", ca), ("root", root)):
        if not _may_sign_certificates(certificate):
            yield Fault("ca-may-not-sign", f"the {name}'s certificate does not say that it may sign certificates")
    units = [attribute.value for attribute in ca.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    if units != [record.factory]:
        yield Fault("ca-factory", f"the CA's OU is {units}, expected the run's factory {record.factory!r}")
    begins, ends = ca.not_valid_before_utc, ca.not_valid_after_utc
    if not begins <= record.starts <= record.ends <= ends:
        window = f"{record.not_before} to {record.not_after}"
        yield Fault("run-window", f"the run's window {window} is not within the CA's {begins:%FT%TZ} to {ends:%FT%TZ}")


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether one certificate is signed by another's key, and names it as its issuer."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_sign_certificates(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return False
