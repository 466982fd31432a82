"""A new key and certificate for the device gateway; devices trust the root, so none of them notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.authority.layout import replace_keeping_old
from batch_issuer.authority.root import load_root
from batch_issuer.ceremony.backend import Change
from batch_issuer.ceremony.device_cas import whole
from batch_issuer.ceremony.directory import locked, telling_of_disk
from batch_issuer.ceremony.signing import sign_tls
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.authority.signers import Passphrase
    from batch_issuer.authority.tokens import Token
    from batch_issuer.ceremony.backend import Backend

__all__ = ["rotate_tls"]


def rotate_tls(
    pki: PkiDirectory,
    backend: Backend,
    *,
    now: datetime,
    passphrase: Passphrase | None = None,
    token: Token | None = None,
) -> x509.Certificate:
    """Sign a new `tls-crt` for a new key of the backend; the one before becomes `tls-crt.bak`.

    The new key is written before its certificate, and the old key stays as a backup: whatever is interrupted, the
    certificate in force has its key.

    Raises:
        AuthorityError: the directory is not what it should be, or no host of the gateway is known.
        RequestError: the backend's request is not fit to be signed.
        ApiError: the backend refuses.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        root = load_root(pki.path, now=now, passphrase=passphrase, token=token)
        whole(backend, root.certificate)
        csr = backend.request(tls=True).tls
        if csr is None:
            raise AuthorityError(
                f"{pki.path} has no {pki.tls_certificate.name}, so no host of the gateway is known",
                hint="give --gateway-host",
            )
        certificate = sign_tls(root, csr, now=now)
        with telling_of_disk(pki, "make room or give permission, and do it again"):
            backend.keep_keys()
            replace_keeping_old(pki.tls_certificate, certificate.public_bytes(Encoding.PEM))
        backend.change(Change(tls=certificate))
        return certificate
