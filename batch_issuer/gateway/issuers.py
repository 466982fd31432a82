"""Which device CAs have signed a device's certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_issuer.authority import checks
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography import x509

__all__ = ["issuers"]


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
