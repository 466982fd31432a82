"""One listening socket, and the application that answers on it now."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

if TYPE_CHECKING:
    import ssl

__all__ = ["Listener"]

_DRAIN_SECONDS = 2.0
"""How long the answer to a request that has come whole may take when the server ends; what comes later is not read."""

_HANDSHAKE_SECONDS = 20.0
_ANSWER_SECONDS = 30.0
"""From the connection to its first answer, which takes milliseconds once the request has come."""

_IDLE_SECONDS = 75.0
_CLOSING_SECONDS = 5.0
_BREATH_SECONDS = 0.1

_BACKLOG = 1024
"""Connections that wait to be accepted: rehearsals come in crowds."""

_SERVER = logging.getLogger("batch_issuer.gateway.server")
_SERVER.addHandler(logging.NullHandler())
_SERVER.propagate = False  # what aiohttp would write of clients' nonsense: tracebacks


class _RequestLog(AbstractAccessLogger):
    """A line for every request: no header, no query and no body, where tokens could be."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        line = f"{request.method} {request.rel_url.raw_path} {response.status} {time * 1000:.1f} ms"
        self.logger.info(line)


class Listener:
    """A place where an application answers, by a TLS context that can be changed without losing a connection.

    It accepts by itself: asyncio's own servers cannot change their context, and when one is closed it forgets the
    connections that it has just accepted.

    Args:
        sock: bound to its address; whose it is closes it.
        requests: where a line for every request goes; None for nowhere.

    Attributes:
        context: what new handshakes go by; None for plain HTTP.
    """

    def __init__(self, sock: socket.socket, requests: logging.Logger | None = None) -> None:
        self.context: ssl.SSLContext | None = None
        self._socket = sock
        self._requests = requests
        self._runner: web.AppRunner | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._answered: WeakSet[asyncio.BaseTransport] = WeakSet()

    @property
    def is_open(self) -> bool:
        """Whether anybody is answered."""
        return self._accepting is not None

    def connections(self) -> list[asyncio.Transport]:
        """Those that are open; not those whose handshake is under way."""
        server = None if self._runner is None else self._runner.server
        handlers = [] if server is None else server.connections
        return [handler.transport for handler in handlers if handler.transport is not None]

    async def prepare(self, app: web.Application) -> None:
        """Be ready to answer by `app`."""
        app.on_response_prepare.append(self._note)
        self._runner = web.AppRunner(
            app,
            keepalive_timeout=_IDLE_SECONDS,
            access_log=self._requests,
            access_log_class=_RequestLog,
            logger=_SERVER,
            shutdown_timeout=_DRAIN_SECONDS,
        )
        await self._runner.setup()

    def open(self) -> None:
        """Answer from now on; once it is prepared.

        Raises:
            OSError: as listen(2).
        """
        self._socket.setblocking(False)
        # `bound` has taken it away; without it, the connections of the server before would refuse this one.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.listen(_BACKLOG)
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Answer no more."""
        tasks = [*self._handshakes, *([self._accepting] if self._accepting is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:  # no descriptor left, or a client that has gone already
                await asyncio.sleep(_BREATH_SECONDS)
                continue
            task = loop.create_task(self._welcome(connection))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _welcome(self, connection: socket.socket) -> None:
        runner, context = self._runner, self.context
        assert runner is not None  # noqa: S101 - there is one whenever anybody is accepted
        assert runner.server is not None  # noqa: S101 - likewise
        timeouts = (_HANDSHAKE_SECONDS, _CLOSING_SECONDS) if context is not None else (None, None)
        with suppress(OSError):  # TLS refuses, or the client goes away: its own affair
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(
                runner.server,
                connection,
                ssl=context,
                ssl_handshake_timeout=timeouts[0],
                ssl_shutdown_timeout=timeouts[1],
            )
            loop.call_later(_ANSWER_SECONDS, self._end_if_silent, transport)

    async def _note(self, request: web.Request, _response: web.StreamResponse) -> None:
        if request.transport is not None:
            self._answered.add(request.transport)

    def _end_if_silent(self, transport: asyncio.Transport) -> None:
        """Who connects and asks nothing, or never ends asking, must not keep a descriptor from others."""
        if transport not in self._answered:
            transport.abort()
