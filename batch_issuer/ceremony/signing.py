"""What a request of the backend must be before the root signs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from batch_issuer.authority.hierarchy import requested_hosts, sign_device_ca, sign_server
from batch_issuer.authority.requests import check_factory, request_key
from batch_issuer.errors import RequestError

if TYPE_CHECKING:
    from datetime import datetime

    from batch_issuer.authority.root import Root

__all__ = ["sign_online_ca", "sign_tls"]


def sign_online_ca(root: Root, csr: x509.CertificateSigningRequest, *, now: datetime) -> x509.Certificate:
    """The online-ca: a device CA under the name that the request has.

    Raises:
        RequestError: it is another factory's.
    """
    what = "the request for the online-ca"
    check_factory(csr, root.factory, what)
    return sign_device_ca(root, csr.subject, request_key(csr), now=now)


def sign_tls(root: Root, csr: x509.CertificateSigningRequest, *, now: datetime) -> x509.Certificate:
    """`tls-crt`: the gateway's certificate, for the hosts that the request names.

    Raises:
        RequestError: it is another factory's, or names no host.
    """
    what = "the request for the gateway's certificate"
    check_factory(csr, root.factory, what)
    hosts = requested_hosts(csr, what)
    if not hosts:
        raise RequestError("csr-names", f"{what} must name its server's host in subjectAltName; it names none")
    return sign_server(root, csr.subject, request_key(csr), [x509.DNSName(host) for host in hosts], now=now)
