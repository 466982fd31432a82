"""The device CA bundle: PEM certificates, one after another, each a device CA that the root has signed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_issuer.authority import checks
from batch_issuer.authority.layout import pem_labels
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

__all__ = ["issuers", "read_device_cas"]

_END = b"-----END CERTIFICATE-----"


def read_device_cas(
    text: bytes, what: str, root: x509.Certificate, root_file: str = "root-crt"
) -> tuple[x509.Certificate, ...]:
    """The device CAs in a PEM text, in order.

    Args:
        text: PEM certificates; blank lines and text between them are allowed.
        what: how an error calls it.
        root: the factory's root.
        root_file: how an error calls that.

    Raises:
        AuthorityError: there is none, or one is something else, not the root's or there twice.
    """
    labels = set(pem_labels(text))
    if labels != {"CERTIFICATE"}:
        found = ", ".join(sorted(labels)) or "none"
        raise AuthorityError(f"{what} must hold PEM certificates and nothing else; its PEM blocks are: {found}")
    *blocks, rest = text.split(_END)
    if pem_labels(rest):
        raise AuthorityError(f"{what} must hold whole PEM certificates; its last one has no end")
    cas = tuple(
        checks.parse_certificate(block + _END, f"certificate {place} of {what}")
        for place, block in enumerate(blocks, 1)
    )
    for place, ca in enumerate(cas, 1):
        name = f"certificate {place} of {what}"
        checks.p256_key(name, ca)
        checks.check_ca(name, ca)
        checks.check_issued_by(name, ca, root_file, root)
        checks.factory_of(name, ca, root_file, root)
        if ca.public_key() == root.public_key():
            raise AuthorityError(f"{name} must be a device CA; it has the root's own key")
    if len({ca.serial_number for ca in cas}) != len(cas):
        raise AuthorityError(f"{what} must hold every certificate once; a serial number is there twice")
    return cas


def issuers(leaf: x509.Certificate, cas: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """Those of `cas` that have signed `leaf`."""
    found = []
    for ca in cas:
        try:
            checks.check_issued_by("client", leaf, "ca", ca)
        except AuthorityError:
            continue
        found.append(ca)
    return found
