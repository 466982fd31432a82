"""One request and its answer, or in one sentence why there is none."""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from batch_issuer.errors import ApiError
from batch_issuer.factory_api.answers import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.factory_api.endpoint import Endpoint

__all__ = ["LostAnswerError", "UnreachableError", "exchange", "json_body"]

_LARGEST_BODY = 4 << 20
_CHUNK = 1 << 16
_REDIRECTS = range(300, 400)


class UnreachableError(ApiError):
    """There is no connection; nothing was sent."""


class LostAnswerError(ApiError):
    """The request was sent, and no whole answer came: whether it was done is not known."""


async def exchange(
    session: aiohttp.ClientSession, endpoint: Endpoint, method: str, path: str, body: bytes | None = None
) -> Answer:
    """Ask once.

    Args:
        session: the endpoint's.
        endpoint: whom.
        method: GET, POST, PUT or PATCH.
        path: below the endpoint's address, from its slash on, percent-encoded.
        body: JSON.

    Raises:
        UnreachableError: no connection.
        LostAnswerError: it broke, or 30 seconds went by.
        ApiError: the server's certificate is not trusted, or it answers with a redirect (which is not followed: the
            token would travel with it) or with more than 4 MiB.
    """
    asked = f"{method} {endpoint.url}{path}"
    headers = {} if body is None else {"Content-Type": "application/json"}

    async def once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        # After a broken connection aiohttp sends a GET or PUT again by itself, unless the error is none of its own:
        # nobody would know that the request went out twice, nor had the second one its turn.
        with _told(asked, session):
            return await send(request)

    with _told(asked, session):
        async with session.request(
            method,
            URL(endpoint.url + path, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            middlewares=(once,),
        ) as response:
            if response.status in _REDIRECTS:
                raise ApiError(
                    f"{asked} was answered {response.status}, a redirect, which is not followed: "
                    "the token would travel with it",
                    status=response.status,
                    hint="give the address that the API itself has",
                )
            content = await _read(response, asked)
            return Answer(asked, response.status, content, response.headers.get("Retry-After"), endpoint.token)


@contextmanager
def _told(asked: str, session: aiohttp.ClientSession) -> Iterator[None]:
    """The library's errors as sentences of ours."""
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        raise ApiError(
            f"{asked}: the server's TLS is not trusted: {_tls_reason(error)}",
            hint="if its CA is one of your own, name that CA's certificate by --api-ca",
        ) from None
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise UnreachableError(f"{asked}: no connection{_reason(error)}") from None
    except TimeoutError:
        raise LostAnswerError(f"{asked}: no answer within {session.timeout.total:g} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise LostAnswerError(f"{asked}: no whole answer came{_reason(error)}") from None


def json_body(value: dict[str, Any]) -> bytes:
    """A request's body."""
    return json.dumps(value).encode()


async def _read(response: aiohttp.ClientResponse, asked: str) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        content += chunk
        if len(content) > _LARGEST_BODY:
            raise ApiError(
                f"{asked} was answered with more than {_LARGEST_BODY >> 20} MiB, more than any answer needs",
                status=response.status,
            )
    return bytes(content)


def _reason(error: Exception) -> str:
    """The system's words for it, if it has any: never the library's, which may quote what the server sent."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, socket.gaierror):  # numbers of its own
        return f": {cause.strerror}"
    return f": {os.strerror(cause.errno)}" if isinstance(cause, OSError) and cause.errno else ""


def _tls_reason(error: aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError) -> str:
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    words = str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or type(cause).__name__)
    return words.rstrip(".")
