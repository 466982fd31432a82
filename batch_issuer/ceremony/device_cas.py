"""Changing the list of device CAs: another one, a new online-ca, or the whole list."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer import profiles
from batch_issuer.authority.checks import read_certificate
from batch_issuer.authority.device_cas import read_device_cas, recorded_device_cas
from batch_issuer.authority.hierarchy import sign_device_ca
from batch_issuer.authority.layout import replace_keeping_old, write_certificate
from batch_issuer.authority.names import text_fault
from batch_issuer.authority.revocation import DISABLED, ORDER_LIFETIME, make_crl, read_revocations
from batch_issuer.authority.root import load_root
from batch_issuer.ceremony.backend import Change
from batch_issuer.ceremony.directory import (
    locked,
    pending_device_cas,
    record_device_cas,
    record_pending,
    record_revocations,
    telling_of_disk,
)
from batch_issuer.ceremony.new_keys import free_label, new_key, passphrase_of_keys
from batch_issuer.ceremony.signing import sign_online_ca
from batch_issuer.errors import ApiError, AuthorityError
from batch_issuer.files import sync_directory

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.authority.root import Root
    from batch_issuer.authority.signers import Passphrase
    from batch_issuer.authority.tokens import Token
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
            "the factory's API has no PKI yet",
            hint="`batch-issuer ca update DIR --api URL` sends it a directory's, if that was not sent yet",
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
    token: Token | None = None,
    in_token: bool = False,
) -> x509.Certificate:
    """Make a device CA whose key the factory holds, encrypted as the directory's keys are, and add it to the list.

    Args:
        pki: the directory.
        backend: who is told.
        name: of its files, without their suffix.
        common_name: its common name; None for `fio-` and the backend's user, or `fio-` and `name`.
        now: when its validity begins, UTC.
        passphrase: of the directory's encrypted keys.
        token: where the root's key is, if it is no file.
        in_token: whether the new key is made in the token and stays there, labelled `name`.

    Raises:
        AuthorityError: there is such a CA, or the directory or the token is not what it should be.
        RunFailedError: the token fails.
        ApiError: the backend refuses; the CA is in the directory, and `send_all` tells the backend.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        key_path, path = pki.ca_key(name), pki.ca_certificate(name)
        _check_free(pki, path, key_path)
        root = load_root(pki.path, now=now, passphrase=passphrase, token=token)
        place = free_label(token, name) if in_token else None
        known = whole(backend, root.certificate)
        subject = profiles.factory_name(_common_name(common_name, backend, name), root.factory)
        secret = None if in_token else passphrase_of_keys(pki, passphrase)
        key = new_key(place)
        ca = sign_device_ca(root, subject, key.public, now=now)
        left = f"the key {name!r} in the token" if in_token else key_path.name
        with telling_of_disk(pki, f"make room or give permission; take away {left} if it is there; again"):
            record_pending(pki, ca)
            key.write(key_path, secret)
            write_certificate(path, ca)
            sync_directory(pki.path)
        _add(pki, backend, known, ca, root)
        return ca


def add_online_ca(
    pki: PkiDirectory,
    backend: Backend,
    *,
    now: datetime,
    passphrase: Passphrase | None = None,
    token: Token | None = None,
) -> x509.Certificate:
    """Sign a new online-ca; the one before stays in the list, so that its devices may connect.

    Raises:
        AuthorityError: the directory is not what it should be.
        RequestError: the backend's request is not fit to be signed.
        ApiError: the backend refuses.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        root = load_root(pki.path, now=now, passphrase=passphrase, token=token)
        known = whole(backend, root.certificate)
        csr = backend.request(online_ca=True).online_ca
        if csr is None:
            raise ApiError("the factory's API gave no request for an online-ca")
        ca = sign_online_ca(root, csr, now=now)
        with telling_of_disk(pki, _ROOM):
            record_pending(pki, ca)
            backend.keep_keys()
            replace_keeping_old(pki.online_certificate, ca.public_bytes(Encoding.PEM))
        _add(pki, backend, known, ca, root)
        return ca


def replace_device_cas(
    pki: PkiDirectory,
    backend: Backend,
    text: bytes,
    what: str,
    *,
    now: datetime,
    passphrase: Passphrase | None = None,
    token: Token | None = None,
) -> tuple[x509.Certificate, ...]:
    """Make a PEM text the whole list of device CAs. A revoked CA that it holds is trusted again.

    The root's key is needed only for that: the directory's list of revoked CAs is signed anew.

    Raises:
        AuthorityError: the text or the directory is not what it should be; nothing was done.
        ApiError: the backend refuses; nothing was done.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        root = read_certificate(pki.root_certificate)
        whole(backend, root)
        wanted = read_device_cas(text, what, root, pki.root_certificate.name)
        before = read_revocations(pki.revocations, root)
        listed = {ca.serial_number for ca in wanted}
        reasons = {n: why for n, why in before.reasons.items() if n not in listed or why == DISABLED}
        changes = reasons != before.reasons
        signer = load_root(pki.path, now=now, passphrase=passphrase, token=token) if changes else None
        backend.change(Change(device_cas=wanted))
        with telling_of_disk(pki, _ROOM):
            record_device_cas(pki, wanted, root)
            if signer is not None:
                record_revocations(pki, signer, before, reasons, now=now)
        return wanted


def send_all(
    pki: PkiDirectory,
    backend: Backend,
    *,
    now: datetime,
    passphrase: Passphrase | None = None,
    token: Token | None = None,
) -> tuple[x509.Certificate, ...]:
    """Finish a ceremony whose last step failed: tell the backend what it does not know yet.

    A backend without a PKI gets all of the directory's. One that has it gets the device CAs that were to be added. The
    root's key is needed only when the backend must be told of disabled CAs as well.

    Raises:
        AuthorityError: the directory is not what it should be, or the backend has another root; nothing was done.
        ApiError: the backend refuses.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        root = read_certificate(pki.root_certificate)
        reasons = read_revocations(pki.revocations, root).reasons
        known = backend.known()
        before = recorded_device_cas(pki, root) if known is None else whole(backend, root).device_cas
        listed = {ca.serial_number: ca for ca in (*before, *pending_device_cas(pki, root))}
        cas = tuple(ca for serial, ca in listed.items() if reasons.get(serial, DISABLED) == DISABLED)
        there = {ca.serial_number for ca in cas} - (frozenset() if known is None else known.disabled)
        disabled = there & {serial for serial, reason in reasons.items() if reason == DISABLED}
        order = None
        if disabled:
            signer = load_root(pki.path, now=now, passphrase=passphrase, token=token)
            order = make_crl(signer, dict.fromkeys(disabled, DISABLED), number=1, now=now, until=now + ORDER_LIFETIME)
        tls = _tls_to_send(pki, known)
        # The list in one message, the order about it in the next: what is ordered must be in force.
        backend.change(Change(root=root if known is None else None, tls=tls, device_cas=cas or None))
        if order is not None:
            backend.change(Change(revocations=order))
        with telling_of_disk(pki, _ROOM):
            record_device_cas(pki, cas, root)
        return cas


def _tls_to_send(pki: PkiDirectory, known: Known | None) -> x509.Certificate | None:
    """The gateway's certificate, if the backend has none and its key is not the directory's own.

    For such a key, and for one that is older than the backend's, `rotate_tls` makes a new certificate.
    """
    certificate = read_certificate(pki.tls_certificate) if pki.tls_certificate.exists() else None
    return None if pki.tls_key.exists() or (known is not None and known.tls is not None) else certificate


def _check_free(pki: PkiDirectory, path: Path, key_path: Path) -> None:
    if os.path.lexists(path):
        raise AuthorityError(
            f"{pki.path} has a {path.name} already",
            hint="if a command was stopped here, `batch-issuer ca update DIR [--api URL]` puts it in force; "
            "if not, --local-ca-filename names another",
        )
    if os.path.lexists(key_path):
        raise AuthorityError(
            f"{pki.path} has a {key_path.name} already",
            hint=f"it has no {path.name}: if a command was stopped here, take the key away, nobody has used it",
        )


def _common_name(asked: str | None, backend: Backend, name: str) -> str:
    common_name = f"fio-{backend.user_id() or name}" if asked is None else asked
    if fault := text_fault(common_name):
        raise AuthorityError(f"a CA's common name {fault}: {common_name!r}")
    return common_name


def _add(pki: PkiDirectory, backend: Backend, known: Known, ca: x509.Certificate, root: Root) -> None:
    cas = (*known.device_cas, ca)
    whole_hint = f"its files are in {pki.path}: `batch-issuer ca update {pki.path} --api URL` puts it in force"
    try:
        backend.change(Change(device_cas=cas))
    except ApiError as error:
        raise ApiError(str(error), status=error.status, hint=whole_hint) from None
    with telling_of_disk(pki, whole_hint):
        record_device_cas(pki, cas, root.certificate)
