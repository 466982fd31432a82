"""The private keys that the server makes and keeps: one file each, found again by the public key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from batch_issuer.authority.layout import write_key
from batch_issuer.authority.signers import FileKey, read_key
from batch_issuer.files import make_directory, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["KeyStore", "Purpose"]

Purpose: TypeAlias = Literal["tls", "online-ca", "est"]
"""What a key was made for."""


class KeyStore:
    """A folder of keys, mode 0700, each key 0400.

    Args:
        folder: made if it is missing.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not folder.is_dir():
            make_directory(folder)
            sync_directory(folder.parent)

    def request(
        self, purpose: Purpose, subject: x509.Name, extensions: Iterable[x509.ExtensionType]
    ) -> x509.CertificateSigningRequest:
        """A new key, on the disk when this returns, and the request for its certificate.

        Raises:
            OSError: it cannot be written, and is not there.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = x509.CertificateSigningRequestBuilder(subject)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        path = self.path(purpose, key.public_key())
        try:
            write_key(path, key)
            sync_directory(self._folder)
        except BaseException:
            path.unlink(missing_ok=True)  # nobody will ever ask for it
            raise
        return builder.sign(key, hashes.SHA256())

    def path(self, purpose: Purpose, public_key: PublicKeyTypes) -> Path:
        """Where the key of `public_key` that was made for `purpose` is, if it was."""
        octets = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return self._folder / f"{purpose}-{hashlib.sha256(octets).hexdigest()[:40]}.key"

    def made(self, purpose: Purpose, certificate: x509.Certificate) -> bool:
        """Whether the key of `certificate` was made here for `purpose`."""
        return self.path(purpose, certificate.public_key()).is_file()

    def source(self, purpose: Purpose, certificate: x509.Certificate) -> FileKey | None:
        """What signs with the key of `certificate`; None if it was not made here for `purpose`.

        Raises:
            AuthorityError: its file is not a key any more.
        """
        path = self.path(purpose, certificate.public_key())
        return read_key(path, None)[0] if path.is_file() else None
