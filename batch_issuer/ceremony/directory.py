"""The PKI directory during a ceremony: its lock, its device CAs, and its own record of what is in force."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.authority import checks
from batch_issuer.authority.layout import FILE_MODE, backup_of, pem_labels, read_file
from batch_issuer.authority.revocation import DISABLED, Revocations, make_crl, read_revocations
from batch_issuer.errors import AuthorityError, BatchIssuerError
from batch_issuer.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.authority.root import Root

__all__ = [
    "bundle_pem",
    "device_ca_files",
    "device_cas",
    "locked",
    "read_bundle",
    "record_device_cas",
    "record_revocations",
    "telling_of_disk",
]


@contextmanager
def locked(pki: PkiDirectory) -> Iterator[None]:
    """No other ceremony changes the directory meanwhile; what a killed one left half-written is removed.

    Raises:
        AuthorityError: one does, or there is no such directory.
    """
    try:
        fd = os.open(pki.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AuthorityError(f"the PKI directory {pki.path} cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AuthorityError(f"another command is changing {pki.path}", hint="wait for it to end") from None
        with suppress(OSError):  # a directory that cannot be written is told when it is
            for left in (*pki.path.glob(".*.new"), *pki.gateway.glob(".*.new")):
                left.unlink()
        yield
    finally:
        os.close(fd)


@contextmanager
def telling_of_disk(pki: PkiDirectory, hint: str) -> Iterator[None]:
    """An OSError while files are written becomes a sentence.

    Raises:
        AuthorityError: a file that must not be there is.
        BatchIssuerError: a file cannot be written.
    """
    try:
        yield
    except FileExistsError as error:
        raise AuthorityError(f"{error.filename} was made by somebody else in the meantime, and is left alone") from None
    except OSError as error:
        where = error.filename or pki.path
        raise BatchIssuerError(f"{where} cannot be written: {error.strerror}", hint=hint) from None


def read_bundle(text: bytes, what: str, root: x509.Certificate, root_file: str) -> tuple[x509.Certificate, ...]:
    """The device CAs in a PEM text, in order: each a CA that the root has signed.

    Args:
        text: PEM certificates; blank lines and text between them are allowed.
        what: how an error calls it.
        root: the factory's root.
        root_file: how an error calls that.

    Raises:
        AuthorityError: there is none, or one is something else or is there twice.
    """
    labels = set(pem_labels(text))
    if labels != {"CERTIFICATE"}:
        found = ", ".join(sorted(labels)) or "none"
        raise AuthorityError(f"{what} must hold PEM certificates and nothing else; its PEM blocks are: {found}")
    try:
        certificates = x509.load_pem_x509_certificates(text)
        _ = [(certificate.subject, certificate.issuer, certificate.extensions) for certificate in certificates]
    except checks.UNREADABLE:
        raise AuthorityError(f"{what} must hold certificates as RFC 5280 has them; one is not") from None
    for place, certificate in enumerate(certificates, 1):
        name = f"certificate {place} of {what}"
        checks.p256_key(name, certificate)
        checks.check_ca(name, certificate)
        checks.check_issued_by(name, certificate, root_file, root)
        checks.factory_of(name, certificate, root_file, root)
        if certificate == root:
            raise AuthorityError(f"{name} must be a device CA; it is the root")
    if len({certificate.serial_number for certificate in certificates}) != len(certificates):
        raise AuthorityError(f"{what} must hold every certificate once; one is there twice")
    return tuple(certificates)


def bundle_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates as PEM blocks, one after another."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def device_ca_files(pki: PkiDirectory, root: x509.Certificate) -> dict[str, x509.Certificate]:
    """The device CAs that lie in the directory, by file name: the online-ca first, then the others.

    Raises:
        AuthorityError: a certificate file cannot be read or is another factory's.
    """
    online = (pki.online_certificate, backup_of(pki.online_certificate))
    others = sorted(path for path in pki.path.glob("*.pem") if path != pki.root_certificate)
    found = {}
    for path in (*filter(os.path.exists, online), *others):
        certificate = checks.read_certificate(path)
        constraints = checks.find_extension(certificate, x509.BasicConstraints)
        checks.check_issued_by(path.name, certificate, pki.root_certificate.name, root)
        if constraints is not None and constraints.ca:
            found[path.name] = certificate
    return found


def device_cas(pki: PkiDirectory, root: x509.Certificate) -> tuple[x509.Certificate, ...]:
    """The device CAs in force by the directory's own record; by what lies in it if there is no record.

    Raises:
        AuthorityError: the record, or without it a certificate file, is not what it should be.
    """
    if pki.device_cas.exists():
        text, _ = read_file(pki.device_cas)
        return read_bundle(text, pki.device_cas.name, root, pki.root_certificate.name)
    revoked = {n for n, reason in read_revocations(pki.revocations, root).reasons.items() if reason != DISABLED}
    unique = {certificate.serial_number: certificate for certificate in device_ca_files(pki, root).values()}
    return tuple(certificate for serial, certificate in unique.items() if serial not in revoked)


def record_device_cas(pki: PkiDirectory, certificates: Sequence[x509.Certificate]) -> None:
    """Write the record of the device CAs in force; there is none of no device CA.

    Raises:
        OSError: as `files.replace_file`.
    """
    if certificates:
        replace_file(pki.device_cas, [bundle_pem(certificates)], FILE_MODE, scratch=pki.path)
    else:
        pki.device_cas.unlink(missing_ok=True)


def record_revocations(
    pki: PkiDirectory, root: Root, before: Revocations, reasons: Mapping[int, x509.ReasonFlags], *, now: datetime
) -> None:
    """Write the directory's own list of what is disabled and revoked now, signed by the root.

    Raises:
        OSError: as `files.replace_file`.
    """
    if reasons == before.reasons:
        return
    crl = make_crl(root, reasons, number=before.number + 1, now=now, until=root.certificate.not_valid_after_utc)
    replace_file(pki.revocations, [crl], FILE_MODE, scratch=pki.path)
