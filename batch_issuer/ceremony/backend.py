"""The other side of a ceremony: who holds the keys of the gateway and of the online-ca, and what it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["Backend", "Change", "Known", "Requests"]


@dataclass(frozen=True, slots=True)
class Requests:
    """The signing requests of one ceremony; None for what was not asked or does not exist.

    Attributes:
        tls: for the device gateway's certificate.
        online_ca: for the device CA whose key the backend holds.
    """

    tls: x509.CertificateSigningRequest | None = None
    online_ca: x509.CertificateSigningRequest | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What a ceremony changes; None for what stays.

    Attributes:
        root: the root's certificate.
        tls: the device gateway's.
        device_cas: the whole list of device CAs.
        revocations: a list of `revocation.make_crl` with what is to be disabled, revoked or enabled.
    """

    root: x509.Certificate | None = None
    tls: x509.Certificate | None = None
    device_cas: tuple[x509.Certificate, ...] | None = None
    revocations: bytes | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is in force.

    Attributes:
        root: the root's certificate.
        tls: the device gateway's, None if there is none.
        device_cas: the device CAs that the gateway trusts.
        disabled: serial numbers of those that may register no new device.
    """

    root: x509.Certificate
    tls: x509.Certificate | None
    device_cas: tuple[x509.Certificate, ...]
    disabled: frozenset[int]


class Backend(Protocol):
    """The vendor's API, or the directory's own `gateway` folder when the factory stands alone."""

    def user_id(self) -> str | None:
        """Who owns the devices that a new device CA registers; None if the backend knows no users."""

    def known(self) -> Known | None:
        """What is in force; None before the first ceremony."""

    def request(self, *, first_time: bool = False, tls: bool = False, online_ca: bool = False) -> Requests:
        """Make keys, and requests for them.

        Args:
            first_time: whether this begins the PKI, which is refused if there is one.
            tls: whether the gateway needs a certificate.
            online_ca: whether the backend needs a device CA.
        """

    def keep_keys(self) -> None:
        """Make the keys of the last `request` durable, if they are not yet."""

    def change(self, change: Change) -> None:
        """Put a change in force."""
