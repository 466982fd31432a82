"""The factory's certificate API, `/ota/factories/<factory>/certs/`, as fioctl speaks it; one plain call at a time."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from batch_issuer.errors import ApiError, RefusedError
from batch_issuer.factory_api.endpoint import Endpoint
from batch_issuer.factory_api.exchange import LostAnswerError, UnreachableError, exchange, json_body

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batch_issuer.factory_api.answers import Answer

__all__ = ["CertificateApi", "FactoryCertificates", "FactoryRequests"]

_NOT_CONFIGURED = 206
_FIRST_SERVER_ERROR = 500
_RETRY_SECONDS = (0.5, 1.0, 2.0)
_UNSURE = "it was not sent again, as it may have been done: look with `batch-issuer ca show --api` before you try again"
_CHANGE_META = dict.fromkeys(("created-by", "created-at", "updated-by", "updated-at"), "")
"""fioctl always sends it, empty; servers ignore it."""
_SERIAL = re.compile(r"[0-9]{1,60}")
"""A CA's serial number in base 10: fioctl's have up to 160 bits, 49 digits."""


@dataclass(frozen=True, slots=True)
class FactoryCertificates:
    """What the API holds of a factory's PKI; PEM texts as they came, None for what is not there.

    Attributes:
        root: `root-crt`.
        tls: `tls-crt`, the device gateway's.
        est: `est-tls-crt`.
        device_cas: `ca-crt`, one or more certificates.
        disabled_serials: of device CAs that register no new devices.
    """

    root: str | None
    tls: str | None
    est: str | None
    device_cas: str | None
    disabled_serials: frozenset[int]


@dataclass(frozen=True, slots=True)
class FactoryRequests:
    """The certificate requests that the API makes, PEM; it keeps their keys. None for what was not asked.

    Attributes:
        tls: `tls-csr`, the device gateway's.
        online_ca: `ca-csr`, the vendor's own device CA's.
        est: `est-tls-csr`.
    """

    tls: str | None
    online_ca: str | None
    est: str | None


class CertificateApi:
    """A factory's certificates at its API. Every call opens a connection and closes it.

    Questions are asked again when the connection or the server fails. What changes something (`request`, `change`)
    is sent once and never again: an answer that was lost does not say whether it was done.

    Args:
        url: the API's base address, such as `https://api.foundries.io`.
        factory: the factory's name.
        token: the secret that goes with every request.
        ca_file: PEM certificates to trust instead of the system's.
        retry_seconds: how long to wait before a question is asked again, each time.

    Raises:
        RefusedError: an argument is not fit, or `ca_file` cannot be read.
    """

    def __init__(
        self,
        url: str,
        factory: str,
        token: str,
        *,
        ca_file: Path | None = None,
        retry_seconds: Sequence[float] = _RETRY_SECONDS,
    ) -> None:
        if factory in {"", ".", ".."} or not factory.isprintable():
            raise RefusedError(f"{factory!r} is no name of a factory")
        self._endpoint = Endpoint.of(url, token, ca_file=ca_file)
        self._factory = f"/ota/factories/{quote(factory, safe='')}"
        self._retry_seconds = tuple(retry_seconds)

    def read(self) -> FactoryCertificates | None:
        """What the API holds (GET); None when the PKI is not configured: status 206, or 200 with nothing in it.

        Raises:
            ApiError: it cannot be reached, refuses, or answers with what no certificate API answers.
        """
        answer = self._ask(f"{self._factory}/certs/")
        if answer.status == _NOT_CONFIGURED:
            return None
        answer.check()
        values = answer.json_object()
        found = {name: _text(answer, values, name) for name in ("root-crt", "tls-crt", "est-tls-crt", "ca-crt")}
        if not any(found.values()):
            return None
        return FactoryCertificates(
            root=found["root-crt"],
            tls=found["tls-crt"],
            est=found["est-tls-crt"],
            device_cas=found["ca-crt"],
            disabled_serials=_serials(answer, values.get("disabled-ca-serials")),
        )

    def request(self, *, first_time: bool, tls: bool, online_ca: bool, est: bool = False) -> FactoryRequests:
        """Have the API make keys and certificate requests (POST).

        Args:
            first_time: the PKI is to be new; the API refuses this when it is not.
            tls: for the device gateway.
            online_ca: for the vendor's own device CA.
            est: for the EST server.

        Raises:
            ApiError: it cannot be reached, refuses, or does not send what was asked for.
        """
        wanted = {"ca-csr": online_ca, "est-tls-csr": est, "tls-csr": tls}
        answer = self._change("POST", {"first-time-init": first_time, **wanted})
        values = answer.json_object() if any(wanted.values()) else {}
        requests = {name: _text(answer, values, name) if asked else None for name, asked in wanted.items()}
        for name, asked in wanted.items():
            if asked and requests[name] is None:
                raise answer.wrong(f"a {name}", sorted(values))
        return FactoryRequests(requests["tls-csr"], requests["ca-csr"], requests["est-tls-csr"])

    def change(
        self,
        *,
        root: str | None = None,
        tls: str | None = None,
        device_cas: str | None = None,
        est: str | None = None,
        revocations: str | None = None,
    ) -> None:
        """Hand certificates over (PATCH); None leaves what is there.

        Args:
            root: `root-crt`; the API takes it once.
            tls: `tls-crt`.
            device_cas: `ca-crt`: replaces the whole list.
            est: `est-tls-crt`.
            revocations: `ca-revoke-crl`, by the root: disables, enables or revokes device CAs.

        Raises:
            ApiError: it cannot be reached, or refuses.
        """
        named = {
            "root-crt": root,
            "ca-crt": device_cas,
            "est-tls-crt": est,
            "tls-crt": tls,
            "ca-revoke-crl": revocations,
        }
        given = {name: text for name, text in named.items() if text is not None}
        self._change("PATCH", {**given, "change-meta": _CHANGE_META})

    def user_id(self) -> str:
        """Whose token it is, by the `polis-id`: the owner of what a local-ca with `CN=fio-<id>` registers.

        Raises:
            ApiError: it cannot be reached, refuses, or does not say.
        """
        answer = self._ask(f"{self._factory}/users/self/")
        answer.check()
        found = answer.json_object().get("polis-id")
        if not isinstance(found, str) or not found:
            raise answer.wrong("a polis-id", found)
        return found

    def _ask(self, path: str) -> Answer:
        return asyncio.run(self._ask_again(path))

    async def _ask_again(self, path: str) -> Answer:
        async with self._endpoint.session() as session:
            for seconds in self._retry_seconds:
                try:
                    answer = await exchange(session, self._endpoint, "GET", path)
                except (UnreachableError, LostAnswerError):
                    pass
                else:
                    if answer.status < _FIRST_SERVER_ERROR:
                        return answer
                await asyncio.sleep(seconds)
            return await exchange(session, self._endpoint, "GET", path)

    def _change(self, method: str, values: dict[str, object]) -> Answer:
        try:
            answer = asyncio.run(self._send(method, json_body(values)))
        except LostAnswerError as error:
            raise ApiError(str(error), hint=_UNSURE) from None
        if answer.status >= _FIRST_SERVER_ERROR:
            raise ApiError(str(answer.error()), status=answer.status, hint=_UNSURE)
        answer.check()
        return answer

    async def _send(self, method: str, body: bytes) -> Answer:
        async with self._endpoint.session() as session:
            return await exchange(session, self._endpoint, method, f"{self._factory}/certs/", body)


def _text(answer: Answer, values: dict[str, object], name: str) -> str | None:
    """A text of the answer; null, absent and empty are the same (Go's `omitempty`)."""
    value = values.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise answer.wrong(f"{name} to be text", value)
    return value


def _serials(answer: Answer, value: object) -> frozenset[int]:
    texts = value if isinstance(value, list) else [] if value is None else [value]
    if not isinstance(value, list | None) or not all(isinstance(one, str) and _SERIAL.fullmatch(one) for one in texts):
        raise answer.wrong("disabled-ca-serials to be a list of numbers in text", value)
    return frozenset(map(int, texts))
