"""Where the PKI in force comes from: what the API was sent, or a standalone directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.errors import AuthorityError
from batch_issuer.gateway.context import DeviceCa
from batch_issuer.gateway.tls import server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from datetime import datetime

    from batch_issuer.gateway.directory import PkiFolder
    from batch_issuer.gateway.keys import KeyStore
    from batch_issuer.gateway.state import Pki

__all__ = ["InForce", "of_api", "of_folder"]


@dataclass(frozen=True, slots=True)
class InForce:
    """A PKI with what the servers make of it.

    Attributes:
        pki: the certificates.
        context: what handshakes of the device gateway go by; None as long as there is no `tls-crt`.
        online_ca: the newest online-ca whose key is there that may register new devices; the newest if none may.
        local_ca: the local-ca, if its key is there.
        warnings: sentences about what is not used and why.
    """

    pki: Pki
    context: ssl.SSLContext | None
    online_ca: DeviceCa | None = None
    local_ca: DeviceCa | None = None
    warnings: tuple[str, ...] = ()


def of_api(pki: Pki, keys: KeyStore) -> InForce:
    """A PKI that the API was sent, with the keys that the server made for it.

    Raises:
        AuthorityError: a certificate or a key of it cannot be used.
    """
    context = (
        None if pki.tls is None else server_context(pki.tls, keys.path("tls", pki.tls.public_key()), pki.device_cas)
    )
    online = [DeviceCa(ca, key) for ca in pki.device_cas if (key := keys.source("online-ca", ca)) is not None]
    # fioctl adds a new one behind those before it.
    newest = online[-1] if online else None
    return InForce(pki, context, next((ca for ca in reversed(online) if pki.is_active(ca.certificate)), newest))


def of_folder(folder: PkiFolder, now: datetime) -> InForce:
    """A standalone directory's PKI, with its keys.

    Raises:
        AuthorityError: the directory is not what it should be. Of a device CA's key only a warning is made.
    """
    pki = folder.read(now)
    context = None if pki.tls is None else server_context(pki.tls, folder.tls_key(pki.tls), pki.device_cas)
    warnings: list[str] = []

    def tried(load: Callable[[], DeviceCa | None]) -> DeviceCa | None:
        try:
            return load()
        except AuthorityError as error:
            warnings.append(f"no devices are registered with it: {error}")
            return None

    return InForce(pki, context, tried(folder.online_ca), tried(folder.local_ca), tuple(warnings))
