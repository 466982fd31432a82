"""Who may speak to the API: whoever has its one token."""

from __future__ import annotations

import base64
import hmac
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler, Middleware

__all__ = ["token_check"]

_OPEN = ("/sign",)
"""What needs no token: a registration server, which takes what devices send, who have none."""


def token_check(token: str) -> Middleware:
    """A middleware that answers 401 to whoever has not sent `token`, before a body is read.

    It comes in the header `OSF-TOKEN`, or as `Authorization: Bearer` with its base64 form, as fioctl and
    lmp-device-register send it.
    """
    right = token.encode()
    bearer = base64.b64encode(right)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _OPEN and not _is_sent(request, right, bearer):
            there = "OSF-TOKEN" in request.headers or "Authorization" in request.headers
            message = f"the token in the header OSF-TOKEN is {'wrong' if there else 'missing'}"
            return web.json_response({"msg": message}, status=401, headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    return check


def _is_sent(request: web.Request, right: bytes, bearer: bytes) -> bool:
    own = request.headers.get("OSF-TOKEN", "").encode(errors="surrogateescape")
    kind, _, value = request.headers.get("Authorization", "").encode(errors="surrogateescape").partition(b" ")
    # Both are compared whatever the first says, each in a time that does not tell how much of it was right.
    by_header, by_bearer = hmac.compare_digest(own, right), hmac.compare_digest(value.strip(), bearer)
    return by_header or (by_bearer and kind.lower() == b"bearer")
