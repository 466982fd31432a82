"""How the API speaks: JSON in, JSON out, and every refusal a status with `{"msg": …}`."""

from __future__ import annotations

import errno
import json
import sys
from typing import TYPE_CHECKING, Any

from aiohttp import web

from batch_issuer.errors import BatchIssuerError
from batch_issuer.gateway.store import Conflict

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

__all__ = ["LARGEST_BODY", "Refusal", "flag", "read_object", "refusals", "text", "unexpected"]

LARGEST_BODY = 1 << 20
"""Octets of a request's body."""


class Refusal(BatchIssuerError):  # noqa: N818 - an answer and not an accident
    """What was asked is refused, and nothing was changed.

    Attributes:
        status: the HTTP status that says so.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@web.middleware
async def refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error becomes a status and a sentence."""
    try:
        return await handler(request)
    except BatchIssuerError as error:
        return _said(_status(error), str(error))
    except web.HTTPRequestEntityTooLarge:
        return _said(413, f"a body must have at most {LARGEST_BODY} octets")
    except web.HTTPException as error:
        return _said(error.status, error.reason, error)
    except (ConnectionError, web.RequestPayloadError):
        return _said(400, "the body must be what its headers say; it ended before, or has another encoding")
    except Exception as error:
        return unexpected(request, error)


def unexpected(request: web.BaseRequest, error: Exception) -> web.Response:
    """The answer to what nobody expected, and a line on stderr: 507 for a full disk, 500 and its place for the rest."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        print(f"error: no space is left for --data at {request.method} {request.path!r}", file=sys.stderr)  # noqa: T201
        return _said(507, "the server's disk is full, and nothing was changed")
    # An exception's text may hold what was sent, a key or a token too; its kind and place cannot.
    print(f"error: {_where(error)} at {request.method} {request.path!r}", file=sys.stderr)  # noqa: T201
    return _said(500, "this should not have happened; the server's standard error says where")


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in a request's body; an empty body is an empty object.

    Raises:
        Refusal: it is too large, or something else.
    """
    if (request.content_length or 0) > LARGEST_BODY:
        raise Refusal(413, f"a body must have at most {LARGEST_BODY} octets; it has {request.content_length}")
    body = await request.read()
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body must be JSON; it is not") from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body must be a JSON object; it is another value")
    return value


def text(body: dict[str, Any], name: str) -> str | None:
    """A field's text; None if it is missing, null or empty.

    Raises:
        Refusal: it is not a text.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Refusal(400, f"{name} must be a string; it is {_KINDS.get(type(value), 'something else')}")
    return value or None


def flag(body: dict[str, Any], name: str) -> bool:
    """Whether a field is true; a missing one is not.

    Raises:
        Refusal: it is neither true nor false.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refusal(400, f"{name} must be true or false; it is {_KINDS.get(type(value), 'something else')}")
    return value or False


_KINDS = {str: "a string", int: "a number", float: "a number", bool: "a boolean", list: "a list", dict: "an object"}


def _status(error: BatchIssuerError) -> int:
    if isinstance(error, Refusal):
        return error.status
    return 409 if isinstance(error, Conflict) else 400


def _said(status: int, message: str, error: web.HTTPException | None = None) -> web.Response:
    allowed = error.headers.get("Allow") if error is not None else None
    return web.json_response({"msg": message}, status=status, headers={"Allow": allowed} if allowed else None)


def _where(error: BaseException) -> str:
    """An exception's kind and the innermost place in this package where it passed."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "batch_issuer" in code.co_filename:
            place = f" in {code.co_qualname}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}{place}"
