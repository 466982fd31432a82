"""The PKI directory during a ceremony: its lock, and its own record of what is in force."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.authority.device_cas import check_device_ca, device_ca_files, read_device_cas
from batch_issuer.authority.layout import FILE_MODE, read_file
from batch_issuer.authority.revocation import Revocations, make_crl
from batch_issuer.errors import AuthorityError, BatchIssuerError
from batch_issuer.files import replace_file, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from cryptography import x509

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.authority.root import Root

__all__ = [
    "bundle_pem",
    "locked",
    "pending_device_cas",
    "record_device_cas",
    "record_pending",
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


def bundle_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates as PEM blocks, one after another."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def record_device_cas(pki: PkiDirectory, certificates: Sequence[x509.Certificate], root: x509.Certificate) -> None:
    """Write the record of the device CAs in force.

    What a vendor's list has beside device CAs of this root, which nobody but the vendor checks, is not recorded.

    Raises:
        OSError: as `files.replace_file`.
    """
    known = [ca for ca in certificates if _is_device_ca(ca, root)]
    replace_file(pki.device_cas, [bundle_pem(known)], FILE_MODE, scratch=pki.path)
    pki.pending.unlink(missing_ok=True)
    sync_directory(pki.path)


def record_pending(pki: PkiDirectory, certificate: x509.Certificate) -> None:
    """Write down that a device CA is to be added to the list, before any of its files is there.

    Raises:
        OSError: as `files.replace_file`.
    """
    replace_file(pki.pending, [bundle_pem([certificate])], FILE_MODE, scratch=pki.path)


def pending_device_cas(pki: PkiDirectory, root: x509.Certificate) -> tuple[x509.Certificate, ...]:
    """The device CAs whose files are there and that no list has yet, because a command was interrupted or refused.

    Raises:
        AuthorityError: a certificate file is not what it should be.
    """
    if not pki.pending.exists():
        return ()
    text, _ = read_file(pki.pending)
    wanted = read_device_cas(text, pki.pending.name, root, pki.root_certificate.name)
    return tuple(ca for ca in wanted if ca in device_ca_files(pki, root).values())


def _is_device_ca(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        check_device_ca("it", certificate, root, "the root")
    except AuthorityError:
        return False
    return True


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
