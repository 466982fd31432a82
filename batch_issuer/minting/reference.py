"""The readable definition of a device certificate; the fast path must equal it octet by octet.

There are two kinds: for a key that the run makes, with a subject that the run writes; and for a key that the device
keeps, with the subject that the device wrote into its CSR.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from cryptography.hazmat.primitives import hashes

from batch_issuer import profiles

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from batch_issuer.devices import DeviceRequest

__all__ = ["DeviceIssuance", "device_certificate", "requested_certificate"]


@dataclass(frozen=True, slots=True)
class DeviceIssuance:
    """What all device certificates of a run have in common.

    Attributes:
        issuer: the CA's subject.
        authority_key_identifier: the CA's subjectKeyIdentifier value, None if it has none.
        factory: the organizational unit of every device.
        window: the validity of every certificate.
    """

    issuer: x509.Name
    authority_key_identifier: bytes | None
    factory: str
    window: profiles.ValidityWindow


def device_certificate(
    issuance: DeviceIssuance,
    request: DeviceRequest,
    public_key: ec.EllipticCurvePublicKey,
    serial_number: int,
    signing_key: ec.EllipticCurvePrivateKey,
    *,
    deterministic: bool = False,
) -> x509.Certificate:
    """The certificate of one device whose key the run makes.

    Args:
        issuance: what the run's certificates have in common.
        request: the device.
        public_key: its P-256 key.
        serial_number: 1 to 2**159 - 1.
        signing_key: the CA's key; any P-256 key gives the same to-be-signed octets.
        deterministic: sign by RFC 6979, so that the same input gives the same certificate.

    Raises:
        ValueError: a value breaks RFC 5280.
    """
    subject = profiles.device_name(request.device_uuid, issuance.factory, production=request.production)
    return _certificate(issuance, subject, public_key, serial_number, signing_key, deterministic=deterministic)


def requested_certificate(
    issuance: DeviceIssuance,
    csr: x509.CertificateSigningRequest,
    serial_number: int,
    signing_key: ec.EllipticCurvePrivateKey,
    *,
    deterministic: bool = False,
) -> x509.Certificate:
    """The certificate of one device that keeps its key: key and subject are the CSR's, and nothing else of it counts.

    The subject keeps its octets, whatever order and string types the device chose: a renewal by EST must come with
    the same octets again (RFC 7030 section 4.2.2). The CSR's extensions and attributes are not looked at.

    Args:
        issuance: what the run's certificates have in common.
        csr: the device's, for a P-256 key; checked before, since nothing of it is checked here.
        serial_number: 1 to 2**159 - 1.
        signing_key: the CA's key; any P-256 key gives the same to-be-signed octets.
        deterministic: sign by RFC 6979, so that the same input gives the same certificate.

    Raises:
        ValueError: a value breaks RFC 5280.
    """
    public_key = cast("ec.EllipticCurvePublicKey", csr.public_key())
    return _certificate(issuance, csr.subject, public_key, serial_number, signing_key, deterministic=deterministic)


def _certificate(
    issuance: DeviceIssuance,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    serial_number: int,
    signing_key: ec.EllipticCurvePrivateKey,
    *,
    deterministic: bool,
) -> x509.Certificate:
    builder = profiles.build(
        profiles.DEVICE,
        subject=subject,
        issuer=issuance.issuer,
        public_key=public_key,
        serial_number=serial_number,
        window=issuance.window,
        authority_key_identifier=issuance.authority_key_identifier,
    )
    return builder.sign(signing_key, hashes.SHA256(), ecdsa_deterministic=deterministic or None)
