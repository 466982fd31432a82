"""From options to running servers.

1. Refuse names that no certificate can bear.
2. Take the server's own folder, and the addresses.
3. Open what the folder remembers; make what it lacks.
4. Serve.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batch_issuer.authority.names import LONGEST_TEXT, host_fault, text_fault
from batch_issuer.errors import AuthorityError, RefusedError
from batch_issuer.gateway.context import Gateway
from batch_issuer.gateway.data import opened
from batch_issuer.gateway.directory import PkiFolder
from batch_issuer.gateway.keys import KeyStore
from batch_issuer.gateway.serving import Servers
from batch_issuer.gateway.sockets import bound
from batch_issuer.gateway.store import Store
from batch_issuer.gateway.tuf_root import root_document

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.authority.signers import Passphrase
    from batch_issuer.gateway.data import DataFolder
    from batch_issuer.gateway.sockets import Sockets

__all__ = ["Settings", "serve_factory"]

_FOR_REHEARSAL = (
    "this is a stand-in of a factory's servers, for REHEARSAL ONLY: one token, keys in the clear, plain HTTP; "
    "never trust it with real devices"
)
_REACHABLE = (
    "IT LISTENS BEYOND THIS MACHINE: whoever reaches {host} can read the token off the network and register devices; "
    "stop it unless that network is yours alone"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked.

    Attributes:
        data: the server's own folder.
        factory: the factory's name.
        token: the API's token. Not shown by repr.
        pki: a standalone PKI directory to follow; None for what the API is sent.
        host: the address to listen on.
        api_port: 0 for any that is free.
        gateway_port: likewise.
        gateway_host: the DNS name that a request for `tls-crt` asks for; None for the present one's, or one made up.
        ostree_host: the ostree server's; None if it is the same.
        allow_production: whether a device may call itself one of production when it registers online.
        verbose: whether every request is told.
        passphrase: asked for the passphrase of an encrypted key in `pki`.
    """

    data: Path
    factory: str
    token: str = field(repr=False)
    pki: Path | None = None
    host: str = "127.0.0.1"
    api_port: int = 8080
    gateway_port: int = 8443
    gateway_host: str | None = None
    ostree_host: str | None = None
    allow_production: bool = False
    verbose: bool = False
    passphrase: Passphrase | None = None


def serve_factory(settings: Settings, *, tell: Callable[[str], None], warn: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: what was asked.
        tell: called with a line of JSON, `{"api": URL, "gateway": URL or null}`, when the servers listen, and again
            when the device gateway comes up.
        warn: called with a sentence.

    Raises:
        RefusedError: a name, the folder, an address or the PKI directory cannot be used.
    """
    _check_names(settings)  # 1
    warn(_FOR_REHEARSAL)
    with (
        opened(settings.data) as data,  # 2
        bound(settings.host, api_port=settings.api_port, gateway_port=settings.gateway_port) as sockets,
    ):
        if not sockets.loopback:
            warn(_REACHABLE.format(host=settings.host))
        store = Store(data.database, settings.factory)  # 3
        try:
            asyncio.run(_servers(settings, data, store, sockets, tell=tell, warn=warn).run())  # 4
        finally:
            store.close()


def _servers(
    settings: Settings,
    data: DataFolder,
    store: Store,
    sockets: Sockets,
    *,
    tell: Callable[[str], None],
    warn: Callable[[str], None],
) -> Servers:
    hosts = tuple(host for host in (settings.gateway_host, settings.ostree_host) if host is not None)
    pki = settings.pki
    gateway = Gateway(
        factory=settings.factory,
        store=store,
        keys=KeyStore(data.keys),
        now=lambda: datetime.now(UTC),
        asked_hosts=hosts,
        allow_production=settings.allow_production,
        pki=store.pki(),
        from_directory=pki is not None,
    )
    folder = None if pki is None else PkiFolder(pki, settings.factory, settings.passphrase)
    if folder is not None:
        with suppress(AuthorityError):  # told when it is used
            folder.local_ca()  # asks for the passphrase now: in the loop, Ctrl-C and SIGTERM would wait for an answer
    return Servers(
        gateway,
        token=settings.token,
        root_json=root_document(data.tuf, gateway.now()),
        sockets=sockets,
        folder=folder,
        tell=tell,
        warn=warn,
        verbose=settings.verbose,
    )


def _check_names(settings: Settings) -> None:
    if fault := text_fault(settings.factory):
        raise RefusedError(f"a factory's name {fault}: {settings.factory!r}")
    gateway, ostree = settings.gateway_host, settings.ostree_host
    if gateway is None and ostree is not None:
        raise RefusedError("an ostree host goes into the gateway's certificate; --gateway-host comes first")
    for what, host in (("a gateway's host", gateway), ("an ostree host", ostree)):
        if host is not None and (fault := host_fault(host)):
            raise RefusedError(f"{what} {fault}: {host!r}")
    if gateway is not None and len(gateway) > LONGEST_TEXT:
        raise RefusedError(
            f"a gateway's host, its certificate's common name, must have at most {LONGEST_TEXT} characters; "
            f"it has {len(gateway)}: {gateway!r}"
        )
