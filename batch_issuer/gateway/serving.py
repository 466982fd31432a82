"""Both servers of a factory on one event loop: the API in plain HTTP, the device gateway once it has a certificate.

A change of the PKI changes what new handshakes go by, and ends the connections of devices that are not trusted any
more. Whoever is in the middle of a handshake meanwhile is asked again at the first request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web

from batch_issuer.errors import AuthorityError, BatchIssuerError
from batch_issuer.gateway import certificate_api, registration
from batch_issuer.gateway.auth import token_check
from batch_issuer.gateway.device_gateway import device_app, is_trusted
from batch_issuer.gateway.listener import Listener
from batch_issuer.gateway.replies import LARGEST_BODY, refusals
from batch_issuer.gateway.sockets import url
from batch_issuer.gateway.sources import of_api, of_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.gateway.context import Gateway
    from batch_issuer.gateway.directory import PkiFolder, Stamp
    from batch_issuer.gateway.sockets import Sockets
    from batch_issuer.gateway.sources import InForce
    from batch_issuer.gateway.state import Pki

__all__ = ["Servers"]

_POLL_SECONDS = 0.5
_REQUESTS = logging.getLogger("batch_issuer.gateway.requests")


class Servers:
    """The servers of one factory.

    Args:
        gateway: what they share.
        token: the API's.
        root_json: the TUF root document.
        sockets: where they listen.
        folder: the PKI directory that is followed; None when the API changes the PKI.
        tell: called with a JSON line whenever there is something new to say about where they are.
        warn: called with a sentence.
        verbose: whether there is a line on stderr for every request.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        token: str,
        root_json: bytes,
        sockets: Sockets,
        folder: PkiFolder | None,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
        verbose: bool = False,
    ) -> None:
        self._gateway = gateway
        self._token = token
        self._root_json = root_json
        self._sockets = sockets
        self._folder = folder
        self._tell = tell
        self._warn = warn
        log = _request_log() if verbose else None
        self._api, self._devices = Listener(sockets.api, log), Listener(sockets.gateway, log)
        self._said: list[str] = []

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; SIGHUP has a PKI directory read again at once.

        Raises:
            AuthorityError: the PKI cannot be used as it is at the start.
        """
        stop, again = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._warn(_accident(context)))
        for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, again)):
            loop.add_signal_handler(number, event.set)
        follower: asyncio.Task[None] | None = None
        devices = device_app(self._gateway, self._root_json, lambda: self._devices.context)
        try:
            await self._api.prepare(self._api_app())
            await self._devices.prepare(devices)
            if self._folder is None:
                self._use(of_api(self._gateway.store.pki(), self._gateway.keys))
            else:
                stamp = self._folder.stamp()
                self._use(of_folder(self._folder, self._gateway.now()))
                follower = asyncio.create_task(self._follow(self._folder, stamp, again))
            self._api.open()
            self._announce()
            await stop.wait()
        finally:
            if follower is not None:
                follower.cancel()
                with suppress(asyncio.CancelledError):
                    await follower
            await self._api.close()
            await self._devices.close()

    def _api_app(self) -> web.Application:
        app = web.Application(middlewares=[refusals, token_check(self._token)], client_max_size=LARGEST_BODY)
        certificate_api.add_routes(app, self._gateway, self._put_in_force)
        registration.add_routes(app, self._gateway)
        return app

    def _put_in_force(self, pki: Pki) -> None:
        """What the API was sent: tried, saved, used.

        Raises:
            AuthorityError: it cannot be used; nothing was changed.
        """
        in_force = of_api(pki, self._gateway.keys)
        self._gateway.store.save_pki(pki)
        self._use(in_force)
        self._announce()

    def _use(self, in_force: InForce) -> None:
        """Go by it from now on. Nothing is awaited here, so nobody is answered by half of it.

        Raises:
            AuthorityError: it has no certificate for the device gateway, which is open.
        """
        if in_force.context is None and self._devices.is_open:
            raise AuthorityError("the device gateway is open, and its certificate, tls-crt, is not there any more")
        before, gateway = self._gateway.pki, self._gateway
        gateway.pki, gateway.online_ca, gateway.local_ca = in_force.pki, in_force.online_ca, in_force.local_ca
        if in_force.context is None:
            pass
        elif not self._devices.is_open:
            self._devices.context = in_force.context
            self._devices.open()
        elif (before.tls, before.device_cas) != (in_force.pki.tls, in_force.pki.device_cas):
            self._devices.context = in_force.context
            for connection in self._devices.connections():
                if not is_trusted(connection.get_extra_info("ssl_object"), in_force.pki.device_cas):
                    connection.abort()
        for warning in in_force.warnings:
            self._warn(warning)

    async def _follow(self, folder: PkiFolder, stamp: Stamp, again: asyncio.Event) -> None:
        """Use what the PKI directory holds whenever it has changed; a fault in it leaves what was in force."""
        fault = ""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(again.wait(), _POLL_SECONDS)
            there = folder.stamp()
            if there == stamp and not again.is_set() and not fault:
                continue
            again.clear()
            try:
                self._use(of_folder(folder, self._gateway.now()))
            except Exception as error:  # whatever it is, the next change is looked at
                said = str(error) if isinstance(error, (BatchIssuerError, OSError)) else type(error).__name__
                if said != fault:
                    self._warn(f"the PKI directory is not as it should be, and what was in force before stays: {said}")
                fault = said
            else:
                stamp, fault = there, ""
                self._announce()

    def _announce(self) -> None:
        """Where the servers are, unless it was said."""
        gateway = url("https", self._sockets.gateway) if self._devices.is_open else None
        line = json.dumps({"api": url("http", self._sockets.api), "gateway": gateway})
        if self._said[-1:] != [line]:
            self._said.append(line)
            self._tell(line)


def _request_log() -> logging.Logger:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _REQUESTS.addHandler(handler)
    _REQUESTS.setLevel(logging.INFO)
    _REQUESTS.propagate = False
    return _REQUESTS


def _accident(context: dict[str, Any]) -> str:
    """What the event loop caught, in a line without a traceback."""
    error = context.get("exception")
    return f"{context['message']}" + (f": {type(error).__name__}" if error is not None else "")
