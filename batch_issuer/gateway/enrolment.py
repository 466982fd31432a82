"""What enrolment makes and reads, without a network and a memory of who is known.

A device's request in, its certificate and the files of its `/var/sota` out; or the certificate of a device that others
have issued in, and what it says of the device out.

Sources: RFC 2986 and RFC 5280; the request of lmp-device-register and fioup, and registration-ref's answer to it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from batch_issuer import profiles
from batch_issuer.authority import checks
from batch_issuer.authority.names import unit_fault
from batch_issuer.authority.requests import DeviceIdentity, check_device_request, read_request, request_key
from batch_issuer.authority.signers import SigningKey
from batch_issuer.devices import NIL_UUID, is_uuid
from batch_issuer.errors import AuthorityError, BatchIssuerError, RequestError
from batch_issuer.figures import listed

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

    from batch_issuer.gateway.context import DeviceCa

__all__ = [
    "certified_device",
    "certify",
    "check_production",
    "device_files",
    "public_key_pem",
    "read_device_request",
]

DEVICE_LIFETIME = timedelta(days=7300)
"""How long a device's certificate is valid, never beyond its CA's end: registration-ref's."""

BACKDATE = timedelta(hours=1)
"""How long before now it begins to be, never before its CA: for devices whose clock is late."""


def read_device_request(
    text: str, *, factory: str, allow_production: bool
) -> tuple[x509.CertificateSigningRequest, DeviceIdentity]:
    """A device's request, fit to be signed, and what it says of the device.

    Args:
        text: PEM.
        factory: whose device it must be.
        allow_production: whether it may call itself one of production, which no other can vouch for.

    Raises:
        RequestError: it breaks a rule.
    """
    csr = read_request(text, "csr")
    identity = check_device_request(csr, factory=factory, what="csr")
    check_production(identity, allowed=allow_production)
    return csr, identity


def check_production(identity: DeviceIdentity, *, allowed: bool) -> None:
    """Whether the device may be what it says to be: the flag is in the certificate for life, and chooses its updates.

    Raises:
        RequestError: it calls itself one of production, and that is not allowed.
    """
    if identity.production and not allowed:
        raise RequestError(
            "csr-production",
            "csr must not have businessCategory=production: this server lets no device call itself one of production",
            hint="`gateway serve --allow-production` does",
        )


def certify(csr: x509.CertificateSigningRequest, ca: DeviceCa, *, now: datetime) -> x509.Certificate:
    """The device's certificate: the request's key and, octet by octet, its subject; everything else is the profile's.

    A renewal must have the subject of the certificate before, so its encoding, too, is kept for life.

    Args:
        csr: what `read_device_request` gave.
        ca: who signs.
        now: UTC.

    Raises:
        AuthorityError: the CA is not valid now, or its subject cannot be copied.
        BatchIssuerError: the subject came out otherwise; nothing is given away.
    """
    what, issuer = "the device CA", ca.certificate
    checks.check_valid(what, issuer, now)
    checks.check_subject_bytes(what, issuer)
    start, identifier = now.replace(microsecond=0), checks.find_extension(issuer, x509.SubjectKeyIdentifier)
    key = request_key(csr)
    builder = profiles.build(
        profiles.DEVICE,
        subject=csr.subject,
        issuer=issuer.subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        window=profiles.ValidityWindow(
            max(start - BACKDATE, issuer.not_valid_before_utc),
            min(start + DEVICE_LIFETIME, issuer.not_valid_after_utc),
        ),
        authority_key_identifier=None if identifier is None else identifier.digest,
    )
    certificate = builder.sign(SigningKey(ca.key, checks.p256_key(what, issuer)), hashes.SHA256())
    # Subject and key are side by side in the request and in the certificate (RFC 2986 4.1, RFC 5280 4.1).
    kept = csr.subject.public_bytes() + key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if kept not in certificate.tbs_certificate_bytes:
        raise BatchIssuerError("the certificate's subject must have the octets of the request's; it has others")
    return certificate


def device_files(
    certificate: x509.Certificate, ca: x509.Certificate, root: x509.Certificate, sota_toml: str
) -> dict[str, str]:
    """What the device writes to its `/var/sota`: each file's text by its name.

    `client.pem` is the leaf alone, since EST servers refuse more; `client.chained` has its CA, too.
    """
    leaf, above, top = (one.public_bytes(Encoding.PEM).decode() for one in (certificate, ca, root))
    return {"root.crt": top, "sota.toml": sota_toml, "client.pem": leaf, "client.chained": f"{leaf}\n{above}"}


def public_key_pem(key: ec.EllipticCurvePublicKey) -> str:
    """SubjectPublicKeyInfo as one PEM block: how devices' keys are kept and compared."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def certified_device(
    certificate: x509.Certificate, *, factory: str, what: str, now: datetime
) -> tuple[DeviceIdentity, ec.EllipticCurvePublicKey]:
    """The device that a certificate is for, and its key; who has signed it is another question.

    Args:
        certificate: what `checks.parse_certificate` gave.
        factory: whose device it must be.
        what: how an error calls it.
        now: UTC.

    Raises:
        AuthorityError: the device gateway would not let it in: it is not valid now, not for TLS clients, a CA's,
            not on P-256, not this factory's, or its common name is no UUID.
    """
    checks.check_valid(what, certificate, now)
    key = checks.p256_key(what, certificate)
    if fault := unit_fault(checks.organizational_units(certificate), factory):
        raise AuthorityError(f"{what} {fault}")
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or not is_uuid(names[0]) or names[0] == NIL_UUID:
        found = listed(map(repr, names))
        raise AuthorityError(f"{what} must have a UUID as its one common name (CN); it has {found}")
    constraints = checks.find_extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise AuthorityError(f"{what} must be a device's certificate; it is a CA's")
    purposes = checks.find_extension(certificate, x509.ExtendedKeyUsage)
    if purposes is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise AuthorityError(f"{what} must be allowed for TLS clients; its extendedKeyUsage lacks clientAuth")
    categories = certificate.subject.get_attributes_for_oid(NameOID.BUSINESS_CATEGORY)
    return DeviceIdentity(names[0], any(category.value == "production" for category in categories)), key
