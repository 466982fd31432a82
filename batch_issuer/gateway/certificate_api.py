"""The certificate API of one factory: `/ota/factories/<factory>/certs/`, and who speaks to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer import profiles
from batch_issuer.authority.names import LONGEST_TEXT
from batch_issuer.gateway.pki import changed, ordered, shown
from batch_issuer.gateway.replies import Refusal, read_object
from batch_issuer.gateway.scripts import SCRIPTS
from batch_issuer.gateway.state import USER_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.gateway.context import Gateway
    from batch_issuer.gateway.keys import Purpose
    from batch_issuer.gateway.state import Pki

__all__ = ["add_routes", "check_factory"]

_ONLINE_NAME = "online-ca"
_SERVER_NAME = "gateway"
"""A server's common name when its DNS name is too long to be one; clients go by subjectAltName alone."""


def add_routes(app: web.Application, gateway: Gateway, put_in_force: Callable[[Pki], None]) -> None:
    """Add the API's routes to `app`.

    Args:
        app: where to.
        gateway: whose certificates they are.
        put_in_force: saves a PKI and makes the servers use it; when it has returned, they do. Raises AuthorityError if
            they cannot, and then has changed nothing.
    """

    async def get(request: web.Request) -> web.Response:
        check_factory(request, gateway)
        if gateway.pki.root is None:
            # 206 is how the vendor's API says it; clients take it for an error.
            return web.json_response({"msg": "the factory's PKI is not configured"}, status=206)
        return web.json_response(shown(gateway.pki))

    async def post(request: web.Request) -> web.Response:
        _check_change(request, gateway)
        order = ordered(gateway.pki, await read_object(request))
        answer = {name: _request(gateway, purpose) for name, purpose in order.purposes.items()}
        return web.json_response(answer | (SCRIPTS if order.scripts else {}), status=201)

    async def patch(request: web.Request) -> web.Response:
        _check_change(request, gateway)
        body = await read_object(request)
        # Nothing is awaited from here on, so no other change comes between.
        pki = changed(gateway.pki, body, factory=gateway.factory, keys=gateway.keys, now=gateway.now())
        put_in_force(pki)
        return web.json_response(shown(gateway.pki))

    async def user(request: web.Request) -> web.Response:
        check_factory(request, gateway)
        me: dict[str, Any] = {"polis-id": USER_ID, "name": USER_ID, "role": "owner"}
        return web.json_response({**me, "teams-ext": [], "effective-scopes": []})

    factory = "/ota/factories/{factory}"
    app.router.add_get(f"{factory}/certs/", get)
    app.router.add_post(f"{factory}/certs/", post)
    app.router.add_patch(f"{factory}/certs/", patch)
    app.router.add_get(f"{factory}/users/self/", user)


def check_factory(request: web.Request, gateway: Gateway) -> None:
    """The factory in the request's path is this one.

    Raises:
        Refusal: it is another.
    """
    named = request.match_info["factory"]
    if named != gateway.factory:
        raise Refusal(404, f"there is no factory {named!r} here")


def _check_change(request: web.Request, gateway: Gateway) -> None:
    check_factory(request, gateway)
    if gateway.from_directory:
        raise Refusal(
            409, "this server's PKI is a directory's (--pki) and changes with it; `batch-issuer ca` changes that"
        )


def _request(gateway: Gateway, purpose: Purpose) -> str:
    """A new key's request, one PEM block."""
    hosts = gateway.requested_hosts
    extensions: list[x509.ExtensionType]
    if purpose == "online-ca":
        name, extensions = _ONLINE_NAME, [x509.BasicConstraints(ca=True, path_length=0)]
    else:
        # An EST server has one name, or clients cannot tell its address.
        names = hosts if purpose == "tls" else hosts[:1]
        name = hosts[0] if len(hosts[0]) <= LONGEST_TEXT else _SERVER_NAME
        extensions = [x509.SubjectAlternativeName([x509.DNSName(host) for host in names])]
    csr = gateway.keys.request(purpose, profiles.factory_name(name, gateway.factory), extensions)
    return csr.public_bytes(Encoding.PEM).decode()
