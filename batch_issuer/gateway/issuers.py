"""Which device CA a device goes by: the one that TLS found, or those that have signed its certificate."""

from __future__ import annotations

import _ssl
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.authority import checks
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from cryptography import x509

__all__ = ["device_cas_of", "issuers"]


def device_cas_of(
    connection: ssl.SSLObject, leaf: x509.Certificate, cas: Iterable[x509.Certificate]
) -> list[x509.Certificate]:
    """Those of `cas` that the device at the other end goes by: what the handshake's verification ended at.

    Asked for an issuer of its own, this package could come to another answer: OpenSSL compares names without regard
    to case and spaces. Only a session of TLS 1.2 that was resumed has no chain; it was made under the same context.

    Args:
        connection: after its handshake.
        leaf: the device's certificate.
        cas: the device CAs in question.
    """
    # Public from Python 3.13 on; this is what that calls.
    chain = connection._sslobj.get_verified_chain()  # type: ignore[attr-defined]
    if not chain:
        return issuers(leaf, cas)
    anchor = chain[-1].public_bytes(_ssl.ENCODING_DER)
    return [ca for ca in cas if ca.public_bytes(Encoding.DER) == anchor]


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
