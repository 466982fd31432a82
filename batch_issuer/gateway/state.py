"""The factory's PKI as its servers know it: certificates and which device CAs are disabled, never a private key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509

from batch_issuer.authority.checks import find_extension

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["USER_ID", "Pki", "dns_names"]

USER_ID = "rehearsal"
"""The one user of this factory (`polis-id`); a local CA made by fioctl gets the common name `fio-rehearsal`."""


@dataclass(frozen=True, slots=True)
class Pki:
    """What is in force.

    Attributes:
        root: the root's certificate; None before the factory was set up.
        tls: the device gateway's certificate.
        est: the EST server's, which only is kept.
        device_cas: the device CAs that the gateway trusts, in the order in which they were sent.
        disabled: serial numbers of device CAs that may register no new device; of CAs taken away, too.
        created_at: when the root came, UTC.
        updated_at: when anything changed, UTC.
    """

    root: x509.Certificate | None = None
    tls: x509.Certificate | None = None
    est: x509.Certificate | None = None
    device_cas: tuple[x509.Certificate, ...] = ()
    disabled: frozenset[int] = frozenset()
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def is_active(self, ca: x509.Certificate) -> bool:
        """Whether it is trusted and may register new devices."""
        return ca in self.device_cas and ca.serial_number not in self.disabled


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names in its subjectAltName, in order (RFC 5280 section 4.2.1.6)."""
    names = find_extension(certificate, x509.SubjectAlternativeName)
    return () if names is None else tuple(names.get_values_for_type(x509.DNSName))
