"""What the root signs: itself, device CAs, and certificates of servers and of signers of outputs.

Sources: the profiles of `profiles`; fioctl's lifetimes, in calendar years.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from batch_issuer import profiles
from batch_issuer.authority.checks import find_extension
from batch_issuer.authority.names import host_fault, text_fault
from batch_issuer.authority.requests import check_factory, request_key
from batch_issuer.authority.root import Root
from batch_issuer.authority.signers import SigningKey
from batch_issuer.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

    from batch_issuer.authority.signers import SignerSource

__all__ = [
    "CA_YEARS",
    "ROOT_YEARS",
    "asks_for_ca",
    "requested_hosts",
    "requested_names",
    "sign_device_ca",
    "sign_request",
    "sign_root",
    "sign_server",
    "sign_signer",
]

ROOT_YEARS = 20
"""Calendar years that a root is valid."""

CA_YEARS = 10
"""Calendar years that what it signs is valid, never beyond its own end."""

_ROOT_COMMON_NAME = "Factory-CA"
_NAME_KINDS = (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier, x509.RFC822Name)


def sign_root(factory: str, key: SignerSource, public_key: ec.EllipticCurvePublicKey, *, now: datetime) -> Root:
    """A new root, signed by itself.

    Args:
        factory: the organizational unit.
        key: its key, new, in memory or in a token.
        public_key: what verifies it.
        now: when its validity begins, UTC.

    Raises:
        RunFailedError: the token fails.
    """
    name = profiles.factory_name(_ROOT_COMMON_NAME, factory)
    start = now.replace(microsecond=0)
    builder = profiles.build(
        profiles.ROOT,
        subject=name,
        issuer=name,
        public_key=public_key,
        serial_number=x509.random_serial_number(),
        window=profiles.ValidityWindow(start, profiles.years_after(start, ROOT_YEARS)),
    )
    return Root(builder.sign(SigningKey(key, public_key), hashes.SHA256()), factory, key)


def sign_device_ca(
    root: Root, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, now: datetime
) -> x509.Certificate:
    """The certificate of a device CA below the root: local-ca, online-ca.

    Raises:
        RequestError: it would have the root's own name or key, and no chain could tell the two apart.
    """
    if subject == root.certificate.subject or public_key == root.certificate.public_key():
        raise RequestError("csr-subject", "a device CA must have another name and another key than the root")
    return _signed(root, profiles.DEVICE_CA, subject, public_key, names=(), now=now)


def sign_signer(
    root: Root, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, now: datetime
) -> x509.Certificate:
    """The certificate of a signer of outputs: no CA's, and for no connection."""
    return _signed(root, profiles.SIGNER, subject, public_key, names=(), now=now)


def sign_server(
    root: Root,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    names: Sequence[x509.GeneralName],
    *,
    now: datetime,
) -> x509.Certificate:
    """A server's certificate: the device gateway's, `tls-crt`, or an EST server's.

    Args:
        root: who signs.
        subject: the server's name.
        public_key: its key.
        names: its subjectAltName, in this order; of `tls-crt` the gateway's host and then the ostree server's.
        now: when its validity begins, UTC.
    """
    return _signed(root, profiles.TLS, subject, public_key, names=names, now=now)


def sign_request(root: Root, csr: x509.CertificateSigningRequest, what: str, *, now: datetime) -> x509.Certificate:
    """A device CA's certificate if the request asks for CA:TRUE, a server's otherwise, as `fioctl keys ca sign`.

    Args:
        root: who signs.
        csr: what `requests.read_request` gave.
        what: how an error calls it.
        now: when its validity begins, UTC.

    Raises:
        RequestError: it is another factory's, or a server's without a name.
    """
    check_factory(csr, root.factory, what)
    for attribute in csr.subject:
        if fault := text_fault(str(attribute.value)):
            raise RequestError("csr-attribute", f"{what}: {attribute.rfc4514_attribute_name} {fault}")
    if asks_for_ca(csr):
        return sign_device_ca(root, csr.subject, request_key(csr), now=now)
    return sign_server(root, csr.subject, request_key(csr), requested_names(csr, what), now=now)


def asks_for_ca(csr: x509.CertificateSigningRequest) -> bool:
    """Whether it asks for a CA's certificate."""
    return any(isinstance(e.value, x509.BasicConstraints) and e.value.ca for e in csr.extensions)


def requested_names(csr: x509.CertificateSigningRequest, what: str) -> list[x509.GeneralName]:
    """The alternative names that it asks for: hosts, addresses, URIs and mail addresses.

    Raises:
        RequestError: there is none, one is of another kind, or a host is none.
    """
    asked = [e.value for e in csr.extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    names = [name for value in asked for name in value]
    if not names:
        raise RequestError("csr-names", f"{what} must name its server in subjectAltName; it has none")
    for name in names:
        if not isinstance(name, _NAME_KINDS):
            raise RequestError("csr-names", f"{what} may name hosts, addresses, URIs and mail addresses; it has {name}")
        if isinstance(name, x509.DNSName) and (fault := host_fault(name.value)):
            raise RequestError("csr-names", f"{what}: a host {fault}: {name.value!r}")
    return names


def requested_hosts(csr: x509.CertificateSigningRequest, what: str) -> tuple[str, ...]:
    """The DNS names that it asks for, in order.

    Raises:
        RequestError: there is none, or as `requested_names`.
    """
    hosts = tuple(name.value for name in requested_names(csr, what) if isinstance(name, x509.DNSName))
    if not hosts:
        raise RequestError("csr-names", f"{what} must name its server's host in subjectAltName; it names none")
    return hosts


def _signed(
    root: Root,
    profile: profiles.CertificateProfile,
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    names: Sequence[x509.GeneralName],
    now: datetime,
) -> x509.Certificate:
    start = now.replace(microsecond=0)
    identifier = find_extension(root.certificate, x509.SubjectKeyIdentifier)
    builder = profiles.build(
        profile,
        subject=subject,
        issuer=root.certificate.subject,
        public_key=public_key,
        serial_number=x509.random_serial_number(),
        window=profiles.ValidityWindow(
            start, min(profiles.years_after(start, CA_YEARS), root.certificate.not_valid_after_utc)
        ),
        authority_key_identifier=None if identifier is None else identifier.digest,
        alternative_names=names,
    )
    return builder.sign(root.signing_key(), hashes.SHA256())
