"""Disabling, revoking and enabling device CAs, by lists that the root signs.

The directory's own record is written before the backend is told to disable or revoke, and after it was told to enable:
whatever is interrupted, this directory never issues by a CA that the gateway refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_issuer.authority.checks import read_certificate
from batch_issuer.authority.revocation import (
    DISABLED,
    ENABLED,
    ORDER_LIFETIME,
    REVOKED,
    make_crl,
    read_revocations,
)
from batch_issuer.authority.root import load_root
from batch_issuer.ceremony.backend import Change
from batch_issuer.ceremony.device_cas import whole
from batch_issuer.ceremony.directory import locked, record_device_cas, record_revocations, telling_of_disk
from batch_issuer.errors import ApiError, AuthorityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from cryptography import x509

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.authority.root import Root
    from batch_issuer.authority.signers import Passphrase
    from batch_issuer.authority.tokens import Token
    from batch_issuer.ceremony.backend import Backend, Known

__all__ = ["change_state", "serials_of"]


def serials_of(pki: PkiDirectory, files: Iterable[str], serials: Iterable[int]) -> tuple[int, ...]:
    """The serial numbers of certificate files of the directory, and those given.

    Raises:
        AuthorityError: a file is not there, or none of either was given.
    """
    named = [read_certificate(pki.locate(file)).serial_number for file in files]
    found = tuple(dict.fromkeys((*named, *serials)))
    if not found:
        raise AuthorityError("no device CA was named", hint="give --ca-file NAME or --ca-serial N")
    return found


def change_state(
    pki: PkiDirectory,
    backend: Backend,
    serials: Sequence[int],
    reason: x509.ReasonFlags,
    *,
    now: datetime,
    dry_run: bool = False,
    passphrase: Passphrase | None = None,
    token: Token | None = None,
) -> bytes:
    """Disable, revoke or enable device CAs; returns the list that says so, PEM.

    Args:
        pki: the directory.
        backend: who is told.
        serials: of the CAs.
        reason: DISABLED, REVOKED or ENABLED.
        now: UTC.
        dry_run: only make the list.
        passphrase: of the root's key.
        token: where the root's key is, if it is no file.

    Raises:
        AuthorityError: a serial number is not one of a CA in force, or for ENABLED of a disabled one; nothing was done.
        ApiError: the backend refuses.
        BatchIssuerError: a file could not be written.
    """
    with locked(pki):
        root = load_root(pki.path, now=now, passphrase=passphrase, token=token)
        known = whole(backend, root.certificate)
        recorded = read_revocations(pki.revocations, root.certificate).reasons
        _check_listed(known, recorded, serials, reason)
        order = make_crl(root, dict.fromkeys(serials, reason), number=1, now=now, until=now + ORDER_LIFETIME)
        if dry_run:
            return order
        untold = _untold(known, serials, reason)
        if reason != ENABLED:
            _record(pki, root, known, serials, reason, now=now)
        if untold:
            order = make_crl(root, dict.fromkeys(untold, reason), number=1, now=now, until=now + ORDER_LIFETIME)
            _tell(pki, backend, order, reason)
        if reason == ENABLED:
            _record(pki, root, known, serials, reason, now=now)
        return order


def _untold(known: Known, serials: Sequence[int], reason: x509.ReasonFlags) -> list[int]:
    """Those that the backend has to be told of: after an interruption it may know already, or never have known."""
    there = known.disabled if reason == ENABLED else {ca.serial_number for ca in known.device_cas}
    return [serial for serial in serials if serial in there]


def _tell(pki: PkiDirectory, backend: Backend, order: bytes, reason: x509.ReasonFlags) -> None:
    try:
        backend.change(Change(revocations=order))
    except ApiError as error:
        if reason == ENABLED:
            raise
        raise ApiError(
            f"{error}; {pki.path} has it on record already, and issues by it no more",
            status=error.status,
            hint="give the same command again when that is mended",
        ) from None


def _check_listed(
    known: Known, recorded: Mapping[int, x509.ReasonFlags], serials: Sequence[int], reason: x509.ReasonFlags
) -> None:
    listed = {ca.serial_number for ca in known.device_cas}
    if reason == ENABLED:
        listed &= known.disabled | {serial for serial, why in recorded.items() if why == DISABLED}
    elif reason == REVOKED:
        listed |= {serial for serial, why in recorded.items() if why == REVOKED}
    for serial in serials:
        if serial not in listed:
            what = "disabled device CA" if reason == ENABLED else "device CA in force"
            raise AuthorityError(
                f"there is no {what} with the serial number {serial}", hint="`batch-issuer ca show` lists them"
            )


def _record(
    pki: PkiDirectory, root: Root, known: Known, serials: Sequence[int], reason: x509.ReasonFlags, *, now: datetime
) -> None:
    """The directory's own record after the change."""
    before = read_revocations(pki.revocations, root.certificate)
    reasons = dict.fromkeys(known.disabled, DISABLED) | dict(before.reasons)  # the backend may know of more
    for serial in serials:
        if reason == ENABLED:
            reasons.pop(serial, None)
        else:
            reasons[serial] = reason
    in_force = tuple(ca for ca in known.device_cas if reason != REVOKED or ca.serial_number not in serials)
    with telling_of_disk(pki, "make room or give permission, and do it again"):
        record_revocations(pki, root, before, reasons, now=now)
        record_device_cas(pki, in_force, root.certificate)
