"""The backend of a factory whose gateway a vendor runs: its API for certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.authority.checks import parse_certificate
from batch_issuer.authority.requests import read_request
from batch_issuer.ceremony.backend import Known, Requests
from batch_issuer.ceremony.directory import bundle_pem
from batch_issuer.errors import ApiError, AuthorityError

if TYPE_CHECKING:
    from batch_issuer.ceremony.backend import Change
    from batch_issuer.factory_api.certificates import CertificateApi

__all__ = ["VendorBackend"]


class VendorBackend:
    """The factory's API.

    Args:
        api: its client.
    """

    def __init__(self, api: CertificateApi) -> None:
        self._api = api

    def user_id(self) -> str | None:
        """The id of the user whose token it is.

        Raises:
            ApiError: the API cannot be reached or refuses.
        """
        return self._api.user_id()

    def known(self) -> Known | None:
        """What the API has; None before the first ceremony.

        Raises:
            ApiError: the API cannot be reached, refuses, or has what cannot be read.
        """
        found = self._api.read()
        if found is None:
            return None
        if found.root is None:
            raise ApiError("the factory's API has certificates and no root")
        try:
            root = parse_certificate(found.root.encode(), "the root-crt of the factory's API")
            tls = found.tls and parse_certificate(found.tls.encode(), "the tls-crt of the factory's API")
        except AuthorityError as error:
            raise ApiError(str(error)) from None
        return Known(root, tls or None, _device_cas(found.device_cas), found.disabled_serials)

    def request(self, *, first_time: bool = False, tls: bool = False, online_ca: bool = False) -> Requests:
        """Have the API make keys, which it keeps, and requests for them.

        Raises:
            ApiError: the API cannot be reached or refuses; for `first_time`, if it has a root.
            RequestError: a request is not fit to be signed.
        """
        found = self._api.request(first_time=first_time, tls=tls, online_ca=online_ca)
        return Requests(
            _read(found.tls, asked=tls, what="the tls-csr of the factory's API"),
            _read(found.online_ca, asked=online_ca, what="the ca-csr of the factory's API"),
        )

    def keep_keys(self) -> None:
        """Nothing: the API keeps its keys since it made them."""

    def change(self, change: Change) -> None:
        """Send the change.

        Raises:
            ApiError: the API cannot be reached or refuses.
        """
        self._api.change(
            root=_text(change.root),
            tls=_text(change.tls),
            device_cas=None if change.device_cas is None else bundle_pem(change.device_cas).decode(),
            revocations=None if change.revocations is None else change.revocations.decode(),
        )


def _device_cas(text: str | None) -> tuple[x509.Certificate, ...]:
    """The list as it is, each certificate once: what is in it is for the API to judge, and it must be repairable."""
    if not text:
        return ()
    try:
        return tuple(dict.fromkeys(x509.load_pem_x509_certificates(text.encode())))
    except ValueError:
        raise ApiError("the ca-crt of the factory's API must be PEM certificates; it is not") from None


def _read(text: str | None, *, asked: bool, what: str) -> x509.CertificateSigningRequest | None:
    if not asked:
        return None
    if text is None:
        raise ApiError(f"{what} was asked for, and is not in its answer")
    return read_request(text, what)


def _text(certificate: x509.Certificate | None) -> str | None:
    return None if certificate is None else certificate.public_bytes(Encoding.PEM).decode()
