"""Which device CAs a factory has: lists of them in PEM, and those of a PKI directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography import x509

from batch_issuer.authority import checks
from batch_issuer.authority.layout import backup_of, pem_labels, read_file
from batch_issuer.authority.revocation import DISABLED, read_revocations
from batch_issuer.errors import AuthorityError
from batch_issuer.figures import listed

if TYPE_CHECKING:
    from batch_issuer.authority.layout import PkiDirectory

__all__ = ["check_device_ca", "device_ca_files", "read_device_cas", "recorded_device_cas"]

_END = b"-----END CERTIFICATE-----"


def read_device_cas(
    text: bytes, what: str, root: x509.Certificate, root_file: str = "root-crt"
) -> tuple[x509.Certificate, ...]:
    """The device CAs in a PEM text, in order.

    Args:
        text: PEM certificates; blank lines and text between them are allowed.
        what: how an error calls it.
        root: the factory's root.
        root_file: how an error calls that.

    Raises:
        AuthorityError: there is none, or one is something else, not the root's or there twice.
    """
    labels = set(pem_labels(text))
    if labels != {"CERTIFICATE"}:
        found = listed(sorted(labels))
        raise AuthorityError(f"{what} must hold PEM certificates and nothing else; its PEM blocks are: {found}")
    *blocks, rest = text.split(_END)
    if pem_labels(rest):
        raise AuthorityError(f"{what} must hold whole PEM certificates; its last one has no end")
    cas = tuple(
        checks.parse_certificate(block + _END, f"certificate {place} of {what}")
        for place, block in enumerate(blocks, 1)
    )
    for place, ca in enumerate(cas, 1):
        check_device_ca(f"certificate {place} of {what}", ca, root, root_file)
    if len({ca.serial_number for ca in cas}) != len(cas):
        raise AuthorityError(f"{what} must hold every certificate once; a serial number is there twice")
    return cas


def check_device_ca(name: str, ca: x509.Certificate, root: x509.Certificate, root_file: str) -> None:
    """It is a device CA that the root has signed, of the root's factory.

    Its key may be on another curve than P-256: gateways trust such a CA, though nothing is issued by it here.

    Raises:
        AuthorityError: it is something else.
    """
    checks.check_ca(name, ca)
    checks.check_issued_by(name, ca, root_file, root)
    checks.factory_of(name, ca, root_file, root)
    if ca.public_key() == root.public_key():
        raise AuthorityError(f"{name} must be a device CA; it has the root's own key")


def device_ca_files(pki: PkiDirectory, root: x509.Certificate) -> dict[str, x509.Certificate]:
    """The device CAs that lie in the directory, by file name: the online-ca first, then the others.

    What is not one CA's certificate, such as a list of several, a device's, or a copy of the root, is passed over.

    Raises:
        AuthorityError: a certificate cannot be read, or a CA is another factory's.
    """
    online = (pki.online_certificate, backup_of(pki.online_certificate))
    others = sorted(path for path in pki.path.glob("*.pem") if path != pki.root_certificate)
    found = {}
    for path in (*filter(os.path.exists, online), *others):
        if path not in online and pem_labels(read_file(path)[0]) != ["CERTIFICATE"]:
            continue
        certificate = checks.read_certificate(path)
        constraints = checks.find_extension(certificate, x509.BasicConstraints)
        if constraints is not None and constraints.ca and certificate.public_key() != root.public_key():
            check_device_ca(path.name, certificate, root, pki.root_certificate.name)
            found[path.name] = certificate
    return found


def recorded_device_cas(pki: PkiDirectory, root: x509.Certificate) -> tuple[x509.Certificate, ...]:
    """The device CAs in force by the directory's own record; by what lies in it if there is no record.

    Raises:
        AuthorityError: the record, or without it a certificate file, is not what it should be.
    """
    if pki.device_cas.exists():
        text, _ = read_file(pki.device_cas)
        return read_device_cas(text, pki.device_cas.name, root, pki.root_certificate.name) if text.strip() else ()
    revoked = {n for n, reason in read_revocations(pki.revocations, root).reasons.items() if reason != DISABLED}
    unique = {certificate.serial_number: certificate for certificate in device_ca_files(pki, root).values()}
    return tuple(certificate for serial, certificate in unique.items() if serial not in revoked)
