"""One device's conversation with the gateway: a full mutual-TLS handshake, then two requests on that connection.

aiohttp speaks HTTP, which costs a device 0.2 ms more of one core than hand-written HTTP over asyncio's streams would.
It is told to do nothing on its own: no second attempt, no redirect, no cookie, no proxy.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import aiohttp

from batch_issuer import __version__
from batch_issuer.bundles.contents import CERTIFICATE
from batch_issuer.probe.answers import check_status, confirms, parsed
from batch_issuer.probe.connection import DeviceSockets, EndedError, KnownAddresses, once
from batch_issuer.probe.credentials import DeviceContexts, is_production
from batch_issuer.probe.faults import ProbeError, broken_connection, failed_connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from types import SimpleNamespace

    from batch_issuer.probe.selection import Candidate
    from batch_issuer.probe.target import Target

__all__ = ["Exchange", "Passed"]

_ROOT_PATH = "/repo/1.root.json"
"""What the guide asks a gateway for, to see that a device is let in."""

_DEVICE_PATH = "/device"
"""Whom the gateway takes the device for (dg-satellite, server/gateway/handlers_device.go)."""

_NOT_FOUND = 404
_LARGEST_ANSWER = 4 << 20
"""Octets; more is not read."""


@dataclass(frozen=True, slots=True)
class Passed:
    """A device that a gateway let in.

    Attributes:
        handshake_seconds: from the first TCP packet to the end of the client's TLS handshake.
        seconds: until the last answer was read.
        confirmed: whether the gateway said whom it takes the device for.
    """

    handshake_seconds: float
    seconds: float
    confirmed: bool


@dataclass(slots=True)
class _Progress:
    """How far a device's conversation is.

    Attributes:
        path: what is asked for.
        connected: when the first connection was there, by `time.monotonic`; 0 before.
        answered: whether an answer began on the connection.
    """

    path: str = _ROOT_PATH
    connected: float = 0
    answered: bool = False


class Exchange:
    """Conversations of devices with one gateway; within a running event loop.

    Args:
        target: the gateway.
        addresses: its IP addresses.
        timeout: seconds that a device's whole conversation may take.
    """

    def __init__(self, target: Target, addresses: Sequence[str], timeout: float) -> None:
        self._target = target
        self._timeout = timeout
        self._contexts = DeviceContexts()
        self._resolver = KnownAddresses(addresses)
        self._base = f"https://{target.place}"
        self._trace = aiohttp.TraceConfig()
        self._trace.on_connection_create_end.append(_note_connection)
        self._headers = {
            "Host": target.authority,
            "User-Agent": f"batch-issuer/{__version__}",
            "Accept-Encoding": "identity",
        }

    async def run(self, candidate: Candidate) -> Passed:
        """Let one device talk to the gateway.

        Raises:
            ProbeError: what went wrong.
            BatchIssuerError: this machine ran out of something.
        """
        if candidate.damage is not None:
            raise ProbeError("bundle-damaged", candidate.damage)
        progress, sockets = _Progress(), DeviceSockets()
        try:
            with self._contexts.of_device(candidate.files) as context:
                production = is_production(candidate.files[CERTIFICATE], candidate.device_uuid)
                began = monotonic()
                async with asyncio.timeout(self._timeout), self._session(sockets) as session:
                    confirmed = await self._talk(session, context, candidate, progress, production=production)
        except TimeoutError:
            raise _overdue(progress) from None
        except aiohttp.ClientConnectorError as error:
            raise failed_connection(error) from None
        except (EndedError, aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise broken_connection(error, progress.path, answered=progress.answered) from None
        except aiohttp.ClientError:
            raise ProbeError("bad-answer", f"GET {progress.path}: not HTTP") from None
        except OSError as error:
            raise failed_connection(error) from None
        finally:
            sockets.shut()
        return Passed(progress.connected - began, monotonic() - began, confirmed)

    def _session(self, sockets: DeviceSockets) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, resolver=self._resolver, socket_factory=sockets.make),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            middlewares=(once,),
            trace_configs=[self._trace],
            auto_decompress=False,
        )

    async def _talk(
        self,
        session: aiohttp.ClientSession,
        context: ssl.SSLContext,
        candidate: Candidate,
        progress: _Progress,
        *,
        production: bool,
    ) -> bool:
        """Both requests; returns whether the gateway said whom it takes the device for."""
        # Devices name their tag, and dg-satellite has no root without it (server/gateway/handlers_meta.go).
        tag = {"x-ats-tags": candidate.tag} if candidate.tag and candidate.tag.isprintable() else {}
        status, body = await self._get(session, context, tag, progress)
        check_status(progress.path, status, body, candidate.device_uuid)
        parsed(progress.path, body)
        progress.path = _DEVICE_PATH
        status, body = await self._get(session, context, {}, progress)
        if status == _NOT_FOUND:
            return False
        check_status(progress.path, status, body, candidate.device_uuid)
        return confirms(parsed(progress.path, body), candidate.device_uuid, production=production)

    async def _get(
        self, session: aiohttp.ClientSession, context: ssl.SSLContext, headers: Mapping[str, str], progress: _Progress
    ) -> tuple[int, bytes]:
        async with session.get(
            self._base + progress.path,
            ssl=context,
            server_hostname=self._target.server_name,
            headers=headers,
            allow_redirects=False,
            trace_request_ctx=progress,
        ) as response:
            progress.answered = True
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _LARGEST_ANSWER:
                    raise ProbeError("bad-answer", f"GET {progress.path}: more than {_LARGEST_ANSWER:,} octets")
            return response.status, bytes(body)


async def _note_connection(
    _session: aiohttp.ClientSession, trace: SimpleNamespace, _parameters: aiohttp.TraceConnectionCreateEndParams
) -> None:
    progress: _Progress = trace.trace_request_ctx
    progress.connected = progress.connected or monotonic()
    progress.answered = False


def _overdue(progress: _Progress) -> ProbeError:
    if progress.connected:
        return ProbeError("timeout", f"GET {progress.path}")
    return ProbeError("timeout", "no TLS connection in time", absent=True)
