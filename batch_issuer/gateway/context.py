"""What all of the server's parts share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batch_issuer.gateway.state import dns_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography import x509

    from batch_issuer.authority.signers import SignerSource
    from batch_issuer.gateway.keys import KeyStore
    from batch_issuer.gateway.state import Pki
    from batch_issuer.gateway.store import Store

__all__ = ["DeviceCa", "Gateway"]


@dataclass(frozen=True, slots=True)
class DeviceCa:
    """A device CA that the server can sign with.

    Attributes:
        certificate: its certificate.
        key: what signs. Not shown by repr.
    """

    certificate: x509.Certificate
    key: SignerSource = field(repr=False)


@dataclass(slots=True)
class Gateway:
    """One factory's servers.

    Attributes:
        factory: its name.
        store: what they remember.
        keys: the private keys that they made.
        now: the time, UTC.
        asked_hosts: the DNS names that were asked for, the gateway's and then ostree's; () for none.
        allow_production: whether a device may call itself one of production when it registers online.
        pki: what is in force.
        online_ca: the newest online-ca in force whose key the server has and which is not disabled; a disabled one if
            there is no other, None if there is none.
        local_ca: the factory's local-ca, for the registration server; None unless it was given a PKI directory with it.
        from_directory: whether the PKI is that of a directory, so that the API does not change it.
    """

    factory: str
    store: Store
    keys: KeyStore
    now: Callable[[], datetime]
    asked_hosts: tuple[str, ...]
    allow_production: bool
    pki: Pki
    online_ca: DeviceCa | None = None
    local_ca: DeviceCa | None = None
    from_directory: bool = False

    @property
    def hosts(self) -> tuple[str, ...]:
        """The DNS names of `tls-crt` in order, gateway first and then ostree; without one those that it will have."""
        return (dns_names(self.pki.tls) if self.pki.tls is not None else ()) or self.asked_hosts or self._own_hosts()

    @property
    def requested_hosts(self) -> tuple[str, ...]:
        """The DNS names that a request for a new `tls-crt` asks for."""
        return self.asked_hosts or self.hosts

    def can_issue(self, ca: DeviceCa | None) -> bool:
        """Whether `ca` is there, trusted, and may register new devices."""
        return ca is not None and self.pki.is_active(ca.certificate)

    def _own_hosts(self) -> tuple[str, ...]:
        # Names that never resolve (RFC 6761 section 6.4), with room for both in a common name of 64 characters.
        label = re.sub("[^a-z0-9]+", "-", self.factory.lower())[:40].strip("-") or "factory"
        return (f"{label}.gateway.example", f"{label}.ostree.example")
