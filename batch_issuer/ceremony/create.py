"""A factory's PKI from nothing: the root, a device CA, the online-ca and the device gateway's certificate.

The steps of `create_pki`:

1. Refuse what cannot be made, and a directory or token in which any of it exists: the root is made once.
2. Ask the backend for its requests, which must be fit to be signed; a factory's API refuses here if it has a root
   already.
3. Make keys and certificates: in memory, or the keys in a token, which are the first things to last.
4. Write everything but the root's certificate, each file durable and none over another, the root's key first if it is
   a file: it also is the lock against a second run.
5. Write the root's certificate. Without it no command takes the directory for a PKI, so a run that was killed
   before left nothing that could be used by mistake.
6. Tell the backend. If that fails, the directory is whole, and `update` tells it again.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer import profiles
from batch_issuer.authority.checks import read_certificate
from batch_issuer.authority.hierarchy import sign_device_ca, sign_root
from batch_issuer.authority.layout import LOCAL_CA_NAME, PkiDirectory, write_certificate
from batch_issuer.authority.names import text_fault
from batch_issuer.authority.signers import check_new_passphrase
from batch_issuer.authority.tokens import ROOT_LABEL
from batch_issuer.ceremony.backend import Change
from batch_issuer.ceremony.directory import record_device_cas, telling_of_disk
from batch_issuer.ceremony.local import LocalBackend, checked_hosts
from batch_issuer.ceremony.new_keys import free_label, new_key
from batch_issuer.ceremony.signing import check_requests, sign_online_ca, sign_tls
from batch_issuer.errors import ApiError, AuthorityError, Interrupted
from batch_issuer.files import make_directory, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from cryptography import x509

    from batch_issuer.authority.root import Root
    from batch_issuer.authority.tokens import Token, TokenKey
    from batch_issuer.ceremony.backend import Backend, Requests
    from batch_issuer.ceremony.new_keys import NewKey

__all__ = ["create_pki"]

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class _Made:
    """What step 3 makes; None for what was not asked."""

    root_key: NewKey
    root: Root
    local_key: NewKey | None
    local: x509.Certificate | None
    online: x509.Certificate | None
    tls: x509.Certificate | None

    @property
    def device_cas(self) -> tuple[x509.Certificate, ...]:
        return tuple(certificate for certificate in (self.online, self.local) if certificate is not None)


def create_pki(
    directory: Path,
    *,
    factory: str,
    backend: Backend | None = None,
    gateway_host: str | None = None,
    ostree_host: str | None = None,
    local_ca: bool = True,
    online_ca: bool = True,
    ca_common_name: str | None = None,
    passphrase: bytes | None = None,
    token: Token | None = None,
    token_local_ca: bool = False,
    now: datetime,
) -> tuple[Path, ...]:
    """Make a factory's PKI in `directory`, which may exist but hold nothing of one.

    Args:
        directory: made with mode 0700 if it is missing; its parent must be there.
        factory: the organizational unit of every name, 1 to 64 characters.
        backend: who holds the gateway's keys; None for the directory itself.
        gateway_host: DNS name of the device gateway, without a backend; with it there is a server certificate.
        ostree_host: DNS name of the gateway's ostree server, if it is another one.
        local_ca: whether to make the device CA `local-ca`.
        online_ca: whether the backend gets a device CA.
        ca_common_name: local-ca's common name; `fio-<user>` makes that user the owner of the devices it registers.
            None: the backend's user, `fio-local` if it knows none.
        passphrase: under which the root's and local-ca's keys are encrypted; None for keys in the clear, which fioctl
            needs. The keys in `gateway` are the server's, which starts unattended, and stay in the clear.
        token: where the root's key is made and stays, labelled `root-ca`; None for a file.
        token_local_ca: whether local-ca's key is made there too, labelled `local-ca`.
        now: when every certificate's validity begins, UTC.

    Returns:
        The files made, in the order in which they were written.

    Raises:
        AuthorityError: a name is not fit for a certificate, the passphrase is short, the directory holds some of the
            files or the token one of the keys, or the token cannot be used; nothing was done.
        RequestError: a request of the backend is not fit to be signed; nothing was done.
        ApiError: the backend refuses. After step 5, which the hint says, the directory is whole.
        RunFailedError: the token fails.
        BatchIssuerError: a file could not be written.
    """
    pki = PkiDirectory(directory)
    hosts = checked_hosts(gateway_host, ostree_host)  # 1
    _check_text("a factory's name", factory)
    _check_place(pki)
    backend = backend or LocalBackend(pki, factory, hosts)
    if passphrase is not None:
        check_new_passphrase(passphrase)
    name = _local_name(ca_common_name, backend) if local_ca else None
    keys = _TokenKeys.of(token, local_ca=local_ca and token_local_ca)
    requests = backend.request(first_time=True, tls=True, online_ca=online_ca)  # 2
    check_requests(requests, factory)
    made = _make(factory, name, requests, keys, now)  # 3
    places = f"{pki.path}{keys.told}"
    hint = f"when there is room or permission, take away what was just made in {places} and create again"
    with telling_of_disk(pki, hint):
        files = tuple(_write(pki, made, backend, passphrase))  # 4, 5
    _tell(backend, made, directory)  # 6
    return files


def _local_name(asked: str | None, backend: Backend) -> str:
    name = f"fio-{backend.user_id() or 'local'}" if asked is None else asked
    _check_text("a CA's common name", name)
    return name


def _check_text(what: str, text: str) -> None:
    if fault := text_fault(text):
        raise AuthorityError(f"{what} {fault}: {text!r}")


def _check_place(pki: PkiDirectory) -> None:
    place = pki.path if os.path.lexists(pki.path) else pki.path.absolute().parent
    if not place.is_dir():
        raise AuthorityError(f"a PKI is a directory in a directory that exists; {place} is none")
    if pki.path.is_dir() and (mode := pki.path.stat().st_mode) & _OTHERS_WRITE:
        raise AuthorityError(
            f"a PKI directory must be its owner's alone to change; {pki.path} has mode {mode & 0o7777:04o}",
            hint=f"chmod 700 {pki.path}",
        )
    paths = (
        pki.root_key,
        pki.root_certificate,
        pki.tls_certificate,
        pki.online_certificate,
        pki.device_cas,
        pki.revocations,
        pki.gateway,
        pki.ca_key(LOCAL_CA_NAME),
        pki.ca_certificate(LOCAL_CA_NAME),
    )
    if not (found := ", ".join(path.name for path in paths if os.path.lexists(path))):
        return
    try:
        read_certificate(pki.root_certificate)
    except AuthorityError:
        raise AuthorityError(
            f"{pki.path} holds {found}, but no whole {pki.root_certificate.name}, which `ca create` writes last",
            hint="if a `ca create` was stopped here, nothing was issued yet: move these files away and create again; "
            "if not, the root's certificate was lost: bring it back from a backup",
        ) from None
    raise AuthorityError(
        f"{pki.path} holds a PKI already ({found}), and a root is made once",
        hint="if a `ca create --api` was interrupted here, `batch-issuer ca update DIR --api URL` sends what it made; "
        "for another factory name another directory",
    )


@dataclass(frozen=True, slots=True)
class _TokenKeys:
    """The keys that a token is to hold; None for a key in a file."""

    root: TokenKey | None
    local: TokenKey | None

    @classmethod
    def of(cls, token: Token | None, *, local_ca: bool) -> _TokenKeys:
        """The keys, whose labels are still free in the token."""
        if token is None:
            return cls(None, None)
        root = token.key(ROOT_LABEL)
        root.check_free()
        return cls(root, free_label(token, LOCAL_CA_NAME) if local_ca else None)

    @property
    def told(self) -> str:
        """Where they are, for a hint: nothing without a token."""
        labels = " and ".join(key.label for key in (self.root, self.local) if key is not None)
        return "" if self.root is None else f", and {labels} in the token {self.root.token!r},"


def _make(factory: str, local_name: str | None, requests: Requests, keys: _TokenKeys, now: datetime) -> _Made:
    root_key = new_key(keys.root)
    root = sign_root(factory, root_key.source, root_key.public, now=now)
    local_key = local = None
    if local_name is not None:
        local_key = new_key(keys.local)
        local = sign_device_ca(root, profiles.factory_name(local_name, factory), local_key.public, now=now)
    online = None if requests.online_ca is None else sign_online_ca(root, requests.online_ca, now=now)
    tls = None if requests.tls is None else sign_tls(root, requests.tls, now=now)
    return _Made(root_key, root, local_key, local, online, tls)


def _write(pki: PkiDirectory, made: _Made, backend: Backend, passphrase: bytes | None) -> Iterator[Path]:
    """Steps 4 and 5; gives each file when it is written."""
    if not pki.path.is_dir():
        make_directory(pki.path)
        sync_directory(pki.path.parent)
    for key_path, key in ((pki.root_key, made.root_key), (pki.ca_key(LOCAL_CA_NAME), made.local_key)):
        if key is not None and key.write(key_path, passphrase):
            yield key_path
    if made.local is not None:
        write_certificate(pki.ca_certificate(LOCAL_CA_NAME), made.local)
        yield pki.ca_certificate(LOCAL_CA_NAME)
    backend.keep_keys()
    if pki.gateway.is_dir():
        yield from sorted(pki.gateway.iterdir())
    for path, certificate in ((pki.tls_certificate, made.tls), (pki.online_certificate, made.online)):
        if certificate is not None:
            write_certificate(path, certificate)
            yield path
    if made.device_cas:
        record_device_cas(pki, made.device_cas, made.root.certificate)
        yield pki.device_cas
    sync_directory(pki.path)  # the names above are there before the last one is
    write_certificate(pki.root_certificate, made.root.certificate)
    sync_directory(pki.path)
    yield pki.root_certificate


def _tell(backend: Backend, made: _Made, directory: Path) -> None:
    change = Change(root=made.root.certificate, tls=made.tls, device_cas=made.device_cas or None)
    whole = f"the PKI in {directory} is whole, and the factory's API may not know it yet"
    hint = f"`batch-issuer ca update {directory} --api URL` sends it when that is mended; do not create again"
    try:
        backend.change(change)
    except ApiError as error:
        raise ApiError(f"{error}; {whole}", status=error.status, hint=hint) from None
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted(f"interrupted; {whole}", hint=hint) from None
