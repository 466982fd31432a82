"""How the probe's connections differ from aiohttp's own: they tell what happened, and nothing is tried again."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import AbstractResolver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import ReadableBuffer
    from aiohttp.abc import ResolveResult

__all__ = ["DeviceSockets", "EndedError", "KnownAddresses", "once"]

_NO_LINGER = struct.pack("ii", 1, 0)


class EndedError(Exception):
    """A connection ended instead of bringing an answer; the cause says how."""


async def once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware that keeps aiohttp from a second attempt: of a GET it makes one by itself, on a new connection.

    Raises:
        EndedError: the connection ended after it was established and before an answer began.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise EndedError from error


class KnownAddresses(AbstractResolver):
    """A resolver that knows the addresses already.

    Args:
        addresses: IP addresses of every host that is asked for.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """All addresses, whatever the host is."""
        return [
            {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _Socket(socket.socket):
    """A socket that reads on when it cannot write: what the gateway said before it closed is still to be read.

    A server that refuses a certificate sends its alert and closes, and what the client sends after that is answered
    by a reset. asyncio would then drop the connection, and with it the alert that says why.
    """

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            return memoryview(data).nbytes


class DeviceSockets:
    """The sockets of one device's conversation, as aiohttp asks for them."""

    def __init__(self) -> None:
        self._made: list[socket.socket] = []

    def make(self, address: tuple[Any, ...]) -> socket.socket:
        """A socket that is reset when it is closed, so that no port stays in TIME_WAIT behind a device.

        Linux has 28,232 ports for connections to one address and keeps each for a minute after its use: a probe of
        more than 470 devices per second would run out of them.

        Raises:
            OSError: as socket(2).
        """
        family, kind, protocol, *_ = address
        made = _Socket(family, kind, protocol)
        self._made.append(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        made.setblocking(False)
        return made

    def shut(self) -> None:
        """End what is still open; asyncio then closes it.

        A connection that is given up in the middle is left by aiohttp to asyncio, which asks the gateway for a proper
        end of TLS and waits for it half a minute: for each device, from a gateway that does not answer.
        """
        for made in self._made:
            with suppress(OSError):  # it is closed, or was never connected
                made.shutdown(socket.SHUT_RDWR)
