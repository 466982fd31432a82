"""Changing the list of device CAs: another one, a new online-ca, or the whole list."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer import profiles
from batch_issuer.authority.checks import read_certificate
from batch_issuer.authority.device_cas import device_ca_files, read_device_cas, recorded_device_cas
from batch_issuer.authority.hierarchy import sign_device_ca
from batch_issuer.authority.layout import replace_keeping_old, write_certificate, write_key
from batch_issuer.authority.names import text_fault
from batch_issuer.authority.revocation import DISABLED, read_revocations
from batch_issuer.authority.root import load_root
from batch_issuer.authority.signers import is_encrypted
from batch_issuer.ceremony.backend import Change
from batch_issuer.ceremony.directory import (
    locked,
    record_device_cas,
    record_revocations,
    telling_of_disk,
)
from batch_issuer.ceremony.signing import sign_online_ca
from batch_issuer.errors import ApiError, AuthorityError, BatchIssuerError
from batch_issuer.files import sync_directory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.authority.root import Root
    from batch_issuer.authority.signers import Passphrase
    from batch_issuer.ceremony.backend import Backend, Known

__all__ = ["add_local_ca", "add_online_ca", "replace_device_cas", "send_all", "whole"]

_ROOM = "make room or give permission, and do it again"


def whole(backend: Backend, root: x509.Certificate) -> Known:
    """What is in force, which there must be, below this very root.

    Raises:
        AuthorityError: there is nothing, or another root.
    """
    known = backend.known()
    if known is None:
        raise AuthorityError(
            "the factory's API has no PKI yet", hint="`batch-issuer ca update DIR --api URL` sends it a directory's"
        )
    if known.root != root:
        raise AuthorityError("the factory's API has another root than this directory; nothing was done")
    return known


def add_local_ca(
    pki: PkiDirectory,
    backend: Backend,
    *,
    name: str,
    common_name: str | None,
    now: datetime,
    passphrase: Passphrase | None = None,
) -> x509.Certificate:
    """Make a device CA whose key the factory holds, encrypted as the root's key is, and add it to the list.

    Args:
        pki: the directory.
        backend: who is told.
        name: of its files, without their suffix.
        common_name: its common name; None for `fio-` and the backend's user, or `fio-` and `name`.
        now: when its validity begins, UTC.
        passphrase: of the root's key.

    Raises:
        AuthorityError: there is such a CA, or the directory is not what it should be.
        ApiError: the backend refuses; the CA is in the directory, and `send_all` tells the backend.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        key_path, path = pki.ca_key(name), pki.ca_certificate(name)
        _check_free(pki, path, key_path)
        root = load_root(pki.path, now=now, passphrase=passphrase)
        known = whole(backend, root.certificate)
        if common_name is None:
            common_name = f"fio-{backend.user_id() or name}"
        if fault := text_fault(common_name):
            raise AuthorityError(f"a CA's common name {fault}: {common_name!r}")
        secret = passphrase(pki.root_key.name) if passphrase is not None and is_encrypted(pki.root_key) else None
        key = ec.generate_private_key(ec.SECP256R1())
        ca = sign_device_ca(root, profiles.factory_name(common_name, root.factory), key.public_key(), now=now)
        with telling_of_disk(pki, f"make room or give permission; take away {key_path.name} if it is there; again"):
            write_key(key_path, key, secret)
            write_certificate(path, ca)
            sync_directory(pki.path)
        _put_in_force(pki, backend, (*known.device_cas, ca))
        return ca


def add_online_ca(
    pki: PkiDirectory, backend: Backend, *, now: datetime, passphrase: Passphrase | None = None
) -> x509.Certificate:
    """Sign a new online-ca; the one before stays in the list, so that its devices may connect.

    Raises:
        AuthorityError: the directory is not what it should be.
        RequestError: the backend's request is not fit to be signed.
        ApiError: the backend refuses.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        root = load_root(pki.path, now=now, passphrase=passphrase)
        known = whole(backend, root.certificate)
        csr = backend.request(online_ca=True).online_ca
        if csr is None:
            raise ApiError("the factory's API gave no request for an online-ca")
        ca = sign_online_ca(root, csr, now=now)
        with telling_of_disk(pki, _ROOM):
            backend.keep_keys()
            replace_keeping_old(pki.online_certificate, ca.public_bytes(Encoding.PEM))
        _put_in_force(pki, backend, (*known.device_cas, ca))
        return ca


def replace_device_cas(
    pki: PkiDirectory, backend: Backend, text: bytes, what: str, *, now: datetime, passphrase: Passphrase | None = None
) -> tuple[x509.Certificate, ...]:
    """Make a PEM text the whole list of device CAs. A revoked CA that it holds is trusted again.

    The root's key is needed only for that: the directory's list of revoked CAs is signed anew.

    Raises:
        AuthorityError: the text or the directory is not what it should be; nothing was done.
        ApiError: the backend refuses; nothing was done.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        root = _root_certificate(pki)
        whole(backend, root)
        wanted = read_device_cas(text, what, root, pki.root_certificate.name)
        back = _brought_back(pki, root, wanted)
        signer = load_root(pki.path, now=now, passphrase=passphrase) if back else None
        _put_in_force(pki, backend, wanted)
        if signer is not None:
            _forget_revocations(pki, signer, back, now)
        return wanted


def send_all(pki: PkiDirectory, backend: Backend) -> tuple[x509.Certificate, ...]:
    """Tell the backend all that the directory holds: after a ceremony whose last step failed.

    The list of device CAs becomes what was in force before and every device CA in the directory that is not revoked.

    Raises:
        AuthorityError: the directory is not what it should be, or the backend has another root; nothing was done.
        ApiError: the backend refuses.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        root = _root_certificate(pki)
        known = backend.known()
        if known is not None:
            whole(backend, root)
        revoked = {n for n, reason in read_revocations(pki.revocations, root).reasons.items() if reason != DISABLED}
        before = recorded_device_cas(pki, root) + (() if known is None else known.device_cas)
        listed = {ca.serial_number: ca for ca in (*before, *device_ca_files(pki, root).values())}
        cas = tuple(ca for serial, ca in listed.items() if serial not in revoked)
        tls = read_certificate(pki.tls_certificate) if pki.tls_certificate.exists() else None
        if known is not None and known.tls == tls:
            tls = None
        backend.change(Change(root=root if known is None else None, tls=tls, device_cas=cas or None))
        with telling_of_disk(pki, _ROOM):
            record_device_cas(pki, cas)
        return cas


def _check_free(pki: PkiDirectory, path: Path, key_path: Path) -> None:
    if os.path.lexists(path):
        raise AuthorityError(f"{pki.path} has a {path.name} already", hint="--local-ca-filename names another")
    if os.path.lexists(key_path):
        raise AuthorityError(
            f"{pki.path} has a {key_path.name} already",
            hint=f"it has no {path.name}: if a command was stopped here, take the key away, nobody has used it",
        )


def _root_certificate(pki: PkiDirectory) -> x509.Certificate:
    return read_certificate(pki.root_certificate)


def _brought_back(pki: PkiDirectory, root: x509.Certificate, wanted: Sequence[x509.Certificate]) -> set[int]:
    """Serial numbers of revoked CAs that are wanted again."""
    reasons = read_revocations(pki.revocations, root).reasons
    return {ca.serial_number for ca in wanted if reasons.get(ca.serial_number, DISABLED) != DISABLED}


def _forget_revocations(pki: PkiDirectory, root: Root, serials: set[int], now: datetime) -> None:
    before = read_revocations(pki.revocations, root.certificate)
    reasons = {serial: reason for serial, reason in before.reasons.items() if serial not in serials}
    with telling_of_disk(pki, _ROOM):
        record_revocations(pki, root, before, reasons, now=now)


def _put_in_force(pki: PkiDirectory, backend: Backend, cas: tuple[x509.Certificate, ...]) -> None:
    try:
        backend.change(Change(device_cas=cas))
    except ApiError as error:
        hint = f"when that is mended, `batch-issuer ca update {pki.path} --api URL` sends what the directory holds"
        raise ApiError(str(error), status=error.status, hint=hint) from None
    try:
        record_device_cas(pki, cas)
    except OSError as error:
        raise BatchIssuerError(f"{pki.device_cas} cannot be written: {error.strerror}", hint=_ROOM) from None
