"""Devices at the factory's API ahead of their first contact: `PUT /ota/devices/`, as registration-ref speaks it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from batch_issuer.errors import BatchIssuerError
from batch_issuer.factory_api.exchange import LostAnswerError, UnreachableError, exchange, json_body

if TYPE_CHECKING:
    from typing import Self

    from batch_issuer.factory_api.answers import Answer
    from batch_issuer.factory_api.endpoint import Endpoint
    from batch_issuer.factory_api.pace import Pace

__all__ = ["DeviceApi", "Outcome", "Registration"]

_PATH = "/ota/devices/"
RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""How long a device waits before it is sent again, each time."""

_LONGEST_PAUSE = 300.0
_REPEATED, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _NOT_ALLOWED, _CONFLICT = 200, 401, 403, 404, 405, 409
_BUSY = frozenset({408, 425, 429})
"""4xx statuses that ask to be tried again: Request Timeout, Too Early, Too Many Requests."""

_FIRST_SERVER_ERROR = 500
_PERHAPS_OURS = "; an earlier attempt got no answer, so this may be its doing"


class Outcome(StrEnum):
    """What became of a device.

    `EXISTED` is the answer 200, for the same device again; `CONFLICT` is 409: something else has the UUID or the name.
    The API's 409 does not tell whose device is there, so one that follows a lost answer is a conflict all the same.
    """

    CREATED = "created"
    EXISTED = "existed"
    CONFLICT = "conflict"
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def registered(self) -> bool:
        """Whether the API has the device now."""
        return self in {Outcome.CREATED, Outcome.EXISTED}


@dataclass(frozen=True, slots=True)
class Registration:
    """What the API said to a device.

    Attributes:
        outcome: what became of it.
        status: of the last answer, None if none came.
        message: what the API said, or why no answer came: one printable line; empty when the device is registered.
    """

    outcome: Outcome
    status: int | None
    message: str = ""


class DeviceApi:
    """Creates devices, each request at its turn; an async context manager.

    Args:
        endpoint: the API.
        pace: when requests may be sent, retries among them.
        connections: at most so many at a time.
    """

    def __init__(self, endpoint: Endpoint, pace: Pace, *, connections: int) -> None:
        self._endpoint = endpoint
        self._pace = pace
        self._session = endpoint.session(connections=connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def create(self, certificate: str, *, name: str | None, group: str | None) -> Registration | None:
        """Create a device, trying again when the server or the connection fails; None when the pace was stopped before.

        Args:
            certificate: the device's, PEM.
            name: its name; None leaves that to the API.
            group: its device group, if any.

        Raises:
            ApiError: what would befall every other device as well: the token is refused, no connection after all
                tries, no trust in the server, a redirect, an answer that is no API's.
            BatchIssuerError: what was to be sent holds a private key.
        """
        named = {"client.pem": certificate, "name": name, "group": group}
        body = json_body({key: value for key, value in named.items() if value is not None})
        if b"PRIVATE KEY" in body:
            raise BatchIssuerError("what was to be sent to the factory's API holds a private key; nothing was sent")
        unanswered = False
        for seconds in (*RETRY_SECONDS, None):
            if not await self._pace.turn():
                return None
            try:
                answer = await exchange(self._session, self._endpoint, "PUT", _PATH, body)
            except UnreachableError:
                if seconds is None:
                    raise
            except LostAnswerError as error:
                unanswered, failure = True, Registration(Outcome.FAILED, None, str(error))
            else:
                if answer.status < _FIRST_SERVER_ERROR and answer.status not in _BUSY:
                    return _registration(answer, unanswered=unanswered)
                failure = Registration(Outcome.FAILED, answer.status, answer.words)
                self._pace.pause(_asked_pause(answer))
            if seconds is not None and not await self._pace.rest(seconds):
                return None
        return failure


def _registration(answer: Answer, *, unanswered: bool) -> Registration:
    if answer.accepted:
        answer.check()
        return Registration(Outcome.EXISTED if answer.status == _REPEATED else Outcome.CREATED, answer.status)
    if answer.status in {_UNAUTHORIZED, _FORBIDDEN}:
        raise answer.error()
    if answer.status == _CONFLICT:
        message = answer.words + (_PERHAPS_OURS if unanswered else "")
        return Registration(Outcome.CONFLICT, answer.status, message)
    if answer.status in {_NOT_FOUND, _NOT_ALLOWED}:
        answer.json()  # a web server's page: there is no factory API at this address
    return Registration(Outcome.REFUSED, answer.status, answer.words)


def _asked_pause(answer: Answer) -> float:
    """The seconds of Retry-After (RFC 9110 section 10.2.3: a number or a date), within reason; 0 without it."""
    text = (answer.retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _LONGEST_PAUSE)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    left = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(left, 0.0), _LONGEST_PAUSE)
