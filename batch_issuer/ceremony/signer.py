"""Another leaf below the root: the signer of outputs, which is no CA and no gateway's business."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer import profiles
from batch_issuer.authority.hierarchy import sign_signer
from batch_issuer.authority.layout import write_certificate, write_key
from batch_issuer.authority.names import text_fault
from batch_issuer.authority.root import load_root
from batch_issuer.authority.signers import is_encrypted
from batch_issuer.ceremony.directory import locked, telling_of_disk
from batch_issuer.errors import AuthorityError
from batch_issuer.files import sync_directory

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.authority.signers import Passphrase

__all__ = ["add_signer"]


def add_signer(
    pki: PkiDirectory, *, name: str, now: datetime, passphrase: Passphrase | None = None
) -> x509.Certificate:
    """Make a signer of outputs, its key encrypted as the root's key is. No backend is told: no gateway knows it.

    Args:
        pki: the directory.
        name: of its files, without their suffix, and its common name.
        now: when its validity begins, UTC.
        passphrase: of the root's key.

    Raises:
        AuthorityError: the name is not fit or taken, or the directory is not what it should be; nothing was done.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        key_path, path = pki.signer_key(name), pki.signer_certificate(name)
        if fault := text_fault(name):
            raise AuthorityError(f"a signer's name {fault}: {name!r}")
        if os.path.lexists(path):
            raise AuthorityError(f"{pki.path} has a {path.name} already", hint="--name names another")
        if os.path.lexists(key_path):
            hint = f"it has no {path.name}: if a command was stopped here, take the key away, nobody has used it"
            raise AuthorityError(f"{pki.path} has a {key_path.name} already", hint=hint)
        root = load_root(pki.path, now=now, passphrase=passphrase)
        encrypted = passphrase is not None and pki.root_key.exists() and is_encrypted(pki.root_key)
        secret = passphrase(pki.root_key.name) if passphrase is not None and encrypted else None
        key = ec.generate_private_key(ec.SECP256R1())
        signer = sign_signer(root, profiles.factory_name(name, root.factory), key.public_key(), now=now)
        with telling_of_disk(pki, f"make room or give permission; take away {key_path.name} if it is there; again"):
            write_key(key_path, key, secret)
            write_certificate(path, signer)
            sync_directory(pki.path)
        return signer
