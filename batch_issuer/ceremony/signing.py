"""What a request of the backend must be before the root signs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from batch_issuer.authority.hierarchy import requested_hosts, sign_device_ca, sign_server
from batch_issuer.authority.requests import check_factory, request_key

if TYPE_CHECKING:
    from datetime import datetime

    from batch_issuer.authority.root import Root
    from batch_issuer.ceremony.backend import Requests

__all__ = ["check_requests", "sign_online_ca", "sign_tls"]

_ONLINE_CA = "the request for the online-ca"
_TLS = "the request for the gateway's certificate"


def check_requests(requests: Requests, factory: str) -> None:
    """Whether the requests will be signed, asked before a key is made for that.

    Raises:
        RequestError: one is another factory's, or the gateway's names no host.
    """
    if requests.online_ca is not None:
        check_factory(requests.online_ca, factory, _ONLINE_CA)
    if requests.tls is not None:
        check_factory(requests.tls, factory, _TLS)
        requested_hosts(requests.tls, _TLS)


def sign_online_ca(root: Root, csr: x509.CertificateSigningRequest, *, now: datetime) -> x509.Certificate:
    """The online-ca: a device CA under the name that the request has.

    Raises:
        RequestError: it is another factory's.
    """
    check_factory(csr, root.factory, _ONLINE_CA)
    return sign_device_ca(root, csr.subject, request_key(csr), now=now)


def sign_tls(root: Root, csr: x509.CertificateSigningRequest, *, now: datetime) -> x509.Certificate:
    """`tls-crt`: the gateway's certificate, for the hosts that the request names.

    Raises:
        RequestError: it is another factory's, or names no host.
    """
    check_factory(csr, root.factory, _TLS)
    hosts = requested_hosts(csr, _TLS)
    return sign_server(root, csr.subject, request_key(csr), [x509.DNSName(host) for host in hosts], now=now)
