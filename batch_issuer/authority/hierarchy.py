"""A factory's PKI from nothing: the root, a device CA below it, and the device gateway's server certificate.

The steps of `create_pki`:

1. Refuse what cannot be made, and a directory in which any of it exists: the root is made once.
2. Make keys and certificates in memory.
3. Write everything but the root's certificate, each file durable and none over another, the root's key first: it
   also is the lock against a second run.
4. Write the root's certificate. Without it no command takes the directory for a PKI, so a run that was killed
   before left nothing that could be used by mistake.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer import profiles
from batch_issuer.authority.checks import read_certificate
from batch_issuer.authority.layout import LOCAL_CA_NAME, PkiDirectory, write_certificate, write_key
from batch_issuer.authority.names import LONGEST_TEXT, host_fault, text_fault
from batch_issuer.errors import AuthorityError, BatchIssuerError
from batch_issuer.files import make_directory, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

__all__ = ["CA_YEARS", "ROOT_YEARS", "create_pki"]

ROOT_YEARS = 20
"""Calendar years that a root is valid."""

CA_YEARS = 10
"""Calendar years that a device CA and the gateway's certificate are valid."""

_ROOT_COMMON_NAME = "Factory-CA"


@dataclass(frozen=True, slots=True)
class _Entity:
    """A certificate with its key, before both are files."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def create_pki(
    directory: Path,
    *,
    factory: str,
    gateway_host: str | None = None,
    ostree_host: str | None = None,
    local_ca: bool = True,
    ca_common_name: str = "fio-local",
    now: datetime,
) -> tuple[Path, ...]:
    """Make a factory's PKI in `directory`, which may exist but hold nothing of one.

    Args:
        directory: made with mode 0700 if it is missing; its parent must be there.
        factory: the organizational unit of every name, 1 to 64 characters.
        gateway_host: DNS name of the device gateway; with it there is a server certificate and its key.
        ostree_host: DNS name of the gateway's ostree server, if it is another one.
        local_ca: whether to make the device CA `local-ca`.
        ca_common_name: its common name; `fio-<user>` makes that user the owner of the devices it registers.
        now: when every certificate's validity begins, UTC.

    Returns:
        The files made, in the order in which they were written.

    Raises:
        AuthorityError: a name is not fit for a certificate, or the directory holds some of the files; nothing was done.
        BatchIssuerError: a file could not be written.
    """
    pki = PkiDirectory(directory)
    hosts = _checked_hosts(gateway_host, ostree_host)  # 1
    _check_text("a factory's name", factory)
    _check_text("a CA's common name", ca_common_name)
    _check_place(pki, local_ca=local_ca)
    start = now.replace(microsecond=0)
    root = _root(factory, start)  # 2
    below = partial(_below, root, factory=factory, start=start)
    ca = below(profiles.LOCAL_CA, common_name=ca_common_name) if local_ca else None
    server = below(profiles.TLS, common_name=hosts[0], hosts=hosts) if hosts else None
    return _written(pki, root, ca, server)  # 3, 4


def _check_text(what: str, text: str) -> None:
    if fault := text_fault(text):
        raise AuthorityError(f"{what} {fault}: {text!r}")


def _checked_hosts(gateway: str | None, ostree: str | None) -> tuple[str, ...]:
    if gateway is None:
        if ostree is not None:
            raise AuthorityError(
                "an ostree host goes into the gateway's certificate, and no gateway host was given",
                hint="give --gateway-host too",
            )
        return ()
    if len(gateway) > LONGEST_TEXT:
        raise AuthorityError(
            f"a gateway's host, its certificate's common name, must have at most {LONGEST_TEXT} characters; "
            f"it has {len(gateway)}: {gateway!r}"
        )
    hosts = (gateway,) if ostree is None else (gateway, ostree)
    for what, host in zip(("a gateway's host", "an ostree host"), hosts, strict=False):
        if fault := host_fault(host):
            raise AuthorityError(f"{what} {fault}: {host!r}")
    return hosts


def _check_place(pki: PkiDirectory, *, local_ca: bool) -> None:
    place = pki.path if os.path.lexists(pki.path) else pki.path.absolute().parent
    if not place.is_dir():
        raise AuthorityError(f"a PKI is a directory in a directory that exists; {place} is none")
    paths = [pki.root_key, pki.root_certificate, pki.tls_certificate, pki.gateway]
    if local_ca:
        paths += [pki.ca_key(LOCAL_CA_NAME), pki.ca_certificate(LOCAL_CA_NAME)]
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
        f"{pki.path} holds a PKI already ({found}), and a root is made once", hint="name another directory"
    )


def _root(factory: str, start: datetime) -> _Entity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = profiles.factory_name(_ROOT_COMMON_NAME, factory)
    builder = profiles.build(
        profiles.ROOT,
        subject=name,
        issuer=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        window=profiles.ValidityWindow(start, profiles.years_after(start, ROOT_YEARS)),
    )
    return _Entity(key, builder.sign(key, hashes.SHA256()))


def _below(
    root: _Entity,
    profile: profiles.CertificateProfile,
    *,
    common_name: str,
    factory: str,
    start: datetime,
    hosts: tuple[str, ...] = (),
) -> _Entity:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    builder = profiles.build(
        profile,
        subject=profiles.factory_name(common_name, factory),
        issuer=root.certificate.subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        window=profiles.ValidityWindow(start, profiles.years_after(start, CA_YEARS)),
        authority_key_identifier=identifier.value.digest,
        dns_names=hosts,
    )
    return _Entity(key, builder.sign(root.key, hashes.SHA256()))


def _written(pki: PkiDirectory, root: _Entity, ca: _Entity | None, server: _Entity | None) -> tuple[Path, ...]:
    try:
        return tuple(_write(pki, root, ca, server))
    except FileExistsError as error:
        raise AuthorityError(f"{error.filename} was made by somebody else in the meantime, and is left alone") from None
    except OSError as error:
        raise BatchIssuerError(
            f"{error.filename or pki.path} cannot be written: {error.strerror}",
            hint=f"when there is room or permission, take away what was just made in {pki.path} and create again",
        ) from None


def _write(pki: PkiDirectory, root: _Entity, ca: _Entity | None, server: _Entity | None) -> Iterator[Path]:
    """Steps 3 and 4; gives each file when it is written."""
    if not pki.path.is_dir():
        make_directory(pki.path)
        sync_directory(pki.path.parent)
    write_key(pki.root_key, root.key)
    yield pki.root_key
    if ca is not None:
        write_key(pki.ca_key(LOCAL_CA_NAME), ca.key)
        yield pki.ca_key(LOCAL_CA_NAME)
        write_certificate(pki.ca_certificate(LOCAL_CA_NAME), ca.certificate)
        yield pki.ca_certificate(LOCAL_CA_NAME)
    if server is not None:
        make_directory(pki.gateway)
        write_key(pki.tls_key, server.key)
        yield pki.tls_key
        sync_directory(pki.gateway)
        write_certificate(pki.tls_certificate, server.certificate)
        yield pki.tls_certificate
    sync_directory(pki.path)  # the names above are there before the last one is
    write_certificate(pki.root_certificate, root.certificate)
    sync_directory(pki.path)
    yield pki.root_certificate
