"""A standalone PKI directory as the servers' PKI, read again whenever a file of it changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from batch_issuer.authority import checks
from batch_issuer.authority.device_cas import recorded_device_cas
from batch_issuer.authority.layout import LOCAL_CA_NAME, PkiDirectory, backup_of
from batch_issuer.authority.revocation import DISABLED, read_revocations
from batch_issuer.authority.root import read_root, root_factory
from batch_issuer.authority.signers import check_pair, read_key
from batch_issuer.errors import AuthorityError
from batch_issuer.gateway.context import DeviceCa
from batch_issuer.gateway.state import Pki

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from batch_issuer.authority.signers import Passphrase

__all__ = ["PkiFolder", "Stamp"]

Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of the last change (ns) of every file that counts."""


class PkiFolder:
    """The directory.

    Args:
        path: DIR of `batch-issuer ca create`.
        factory: whose it must be.
        passphrase: asked with the file name of a device CA's key that is encrypted.
    """

    def __init__(self, path: Path, factory: str, passphrase: Passphrase | None = None) -> None:
        self._pki = PkiDirectory(path)
        self._factory = factory
        self._passphrase = passphrase

    def stamp(self) -> Stamp:
        """Equal as long as no file was changed."""
        found = []
        for folder in (self._pki.path, self._pki.gateway):
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError:
                continue
            for entry in entries:
                try:
                    status = entry.stat()
                except OSError:
                    continue
                found.append((entry.name, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def read(self, now: datetime) -> Pki:
        """What is in force by the directory.

        Raises:
            AuthorityError: it is not there, another factory's or not what it should be.
        """
        pki = self._pki
        if not pki.root_certificate.exists():
            raise AuthorityError(
                f"the PKI directory {pki.path} lacks {pki.root_certificate.name}",
                hint="`batch-issuer ca create DIR --factory NAME` makes one",
            )
        root = read_root(pki.root_certificate, now)
        if (factory := root_factory(pki.root_certificate.name, root)) != self._factory:
            raise AuthorityError(f"the PKI directory {pki.path} must be of {self._factory!r}; it is of {factory!r}")
        reasons = read_revocations(pki.revocations, root).reasons
        revoked = {serial for serial, reason in reasons.items() if reason != DISABLED}
        return Pki(
            root=root,
            tls=self._server(root, now) if pki.tls_certificate.exists() else None,
            device_cas=tuple(ca for ca in recorded_device_cas(pki, root) if ca.serial_number not in revoked),
            disabled=frozenset(reasons.keys() - revoked),
            created_at=root.not_valid_before_utc,
            updated_at=now,
        )

    def tls_key(self, tls: x509.Certificate) -> Path:
        """The file with the key of `tls`: the present one, or while a rotation is under way the one before it.

        Raises:
            AuthorityError: there is none.
        """
        public_key = checks.p256_key(self._pki.tls_certificate.name, tls)
        for path in (self._pki.tls_key, backup_of(self._pki.tls_key)):
            if path.exists():
                try:
                    check_pair(path.name, read_key(path, None)[0], self._pki.tls_certificate.name, public_key)
                except AuthorityError:
                    continue
                return path
        raise AuthorityError(f"{self._pki.gateway} has no {self._pki.tls_key.name} that belongs to tls-crt")

    def online_ca(self) -> DeviceCa | None:
        """The online-ca with its key; None if it is not there.

        Raises:
            AuthorityError: the key is another's or cannot be read.
        """
        return self._signing(self._pki.online_certificate, self._pki.online_key)

    def local_ca(self) -> DeviceCa | None:
        """The local-ca with its key; None if it is not there.

        Raises:
            AuthorityError: the key is another's, encrypted or cannot be read.
        """
        return self._signing(self._pki.ca_certificate(LOCAL_CA_NAME), self._pki.ca_key(LOCAL_CA_NAME))

    def _server(self, root: x509.Certificate, now: datetime) -> x509.Certificate:
        path = self._pki.tls_certificate
        certificate = checks.read_certificate(path)
        checks.check_issued_by(path.name, certificate, self._pki.root_certificate.name, root)
        checks.check_valid(path.name, certificate, now)
        return certificate

    def _signing(self, certificate_path: Path, key_path: Path) -> DeviceCa | None:
        if not certificate_path.exists() or not key_path.exists():
            return None
        certificate = checks.read_certificate(certificate_path)
        key, _ = read_key(key_path, self._passphrase)
        check_pair(key_path.name, key, certificate_path.name, checks.p256_key(certificate_path.name, certificate))
        return DeviceCa(certificate, key)
