"""What the factory's API answers, read with suspicion: bounded, typed, and harmless on a terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from batch_issuer.errors import ApiError

__all__ = ["Answer", "NotJsonError"]

_ACCEPTED = frozenset({200, 201, 202, 204})
"""The statuses that fioctl takes for success; everything else is an error, 206 too."""

_SHOWN = 300
_HINTS = {
    401: "check the token: it is wrong, or has expired",
    403: "if the API does not say why: the token may lack the scope that this needs",
}


class NotJsonError(ApiError):
    """An answer that should be JSON is not: who answered may be no factory API at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer.

    Attributes:
        asked: the request's method and address.
        status: the HTTP status.
        body: its octets.
        retry_after: the header of that name, None if there was none.
        secret: the token, which a server may repeat and no message shall.
    """

    asked: str
    status: int
    body: bytes
    retry_after: str | None
    secret: str

    def __repr__(self) -> str:
        return f"Answer({self.asked!r}, {self.status})"

    @property
    def accepted(self) -> bool:
        """Whether its status is a success."""
        return self.status in _ACCEPTED

    def check(self) -> None:
        """Whether it is a success of an API: a portal in between answers 200 as well, with a page for people.

        Raises:
            ApiError: the status is another, or there is a body that is not JSON.
        """
        if not self.accepted:
            raise self.error()
        if self.body.strip():
            self.json()

    def json(self) -> object:
        """The body as JSON.

        Raises:
            NotJsonError: it is something else.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            shown = self._harmless(self.body.decode("utf-8", "replace")) or "nothing"
            raise NotJsonError(
                f"{self.asked} was answered {self.title}, expected JSON, got: {shown}",
                status=self.status,
                hint="is this the address of a factory's API?",
            ) from None

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            NotJsonError: it is not JSON.
            ApiError: it is JSON of another type.
        """
        value = self.json()
        if not isinstance(value, dict):
            raise self.wrong("a JSON object", value)
        return value

    def wrong(self, expected: str, got: object) -> ApiError:
        """The error that says what was expected and what stood there."""
        shown = self._harmless(json.dumps(got))
        return ApiError(
            f"{self.asked} was answered {self.title}, expected {expected}, got: {shown}", status=self.status
        )

    @property
    def title(self) -> str:
        """The status with its name in the standards, never the server's own words for it."""
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)

    @property
    def words(self) -> str:
        """What the server says, harmless and shortened: `msg` or `message`, then `errors`; else the body."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return self._harmless(self.body.decode("utf-8", "replace"))
        if not isinstance(value, dict):
            return self._harmless(json.dumps(value))
        said = [value[name] for name in ("msg", "message") if isinstance(value.get(name), str)][:1]
        return self._harmless("; ".join([*said, *_errors(value.get("errors"))]) or json.dumps(value))

    def error(self) -> ApiError:
        """The error that a refusal is."""
        words = f": {self.words}" if self.words else ""
        sentence = f"{self.asked} was answered {self.title}{words}"
        return ApiError(sentence, status=self.status, hint=_HINTS.get(self.status))

    def _harmless(self, text: str) -> str:
        """One printable line without the token: a server's text goes to terminals and files."""
        for secret in (self.secret, json.dumps(self.secret)[1:-1]):
            text = text.replace(secret, "<token>")
        line = " ".join(text.split())
        shown = line[:_SHOWN]
        if not shown.isprintable():
            shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in shown)
        return shown if len(line) <= _SHOWN else f"{shown}…"


def _errors(errors: object) -> list[str]:
    """The API's `errors`: a list, or an object of fields with what is wrong in each."""
    if isinstance(errors, dict):
        return [f"{name}: {_text(said)}" for name, said in errors.items()]
    return [_text(said) for said in errors] if isinstance(errors, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
