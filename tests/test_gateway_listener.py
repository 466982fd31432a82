"""The stand-in's sockets and what it follows, in this process: clients that hang, an end with requests under way."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from aiohttp import web
from cryptography import x509
from gateways import PATIENCE, TOKEN, serving
from handshakes import anybody, ask
from pki import make_pki

from batch_issuer.errors import AuthorityError
from batch_issuer.gateway import listener
from batch_issuer.gateway import serving as servers
from batch_issuer.gateway.context import Gateway
from batch_issuer.gateway.keys import KeyStore
from batch_issuer.gateway.listener import Listener
from batch_issuer.gateway.sockets import bound
from batch_issuer.gateway.state import Pki
from batch_issuer.gateway.store import Store
from batch_issuer.gateway.tls import server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

    from batch_issuer.gateway.directory import PkiFolder

HALF = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab"


@dataclass
class Place:
    """Where a listener is, and events: a request has come, the application ends, answers may be given."""

    listener: Listener
    address: tuple[str, int]
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def listening(context: ssl.SSLContext | None = None) -> AsyncIterator[Place]:
    """A listener whose application answers with the body, when it may."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        place = Place(Listener(sock), sock.getsockname())

        async def echo(request: web.Request) -> web.Response:
            place.begun.set()
            body = await request.read()
            await place.answers.wait()
            return web.Response(body=body)

        async def note(_: web.Application) -> None:
            place.ends.set()

        app = web.Application()
        app.on_shutdown.append(note)
        app.router.add_post("/", echo)
        place.listener.context = context
        await place.listener.prepare(app)
        place.listener.open()
        try:
            yield place
        finally:
            await place.listener.close()


def test_who_does_not_shake_hands_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_HANDSHAKE_SECONDS", 0.05)
    pki = make_pki(tmp_path / "pki")
    tls = x509.load_pem_x509_certificate((pki / "tls-crt").read_bytes())

    async def silent() -> bytes:
        async with listening(server_context(tls, pki / "gateway/tls.key", ())) as place:
            reader, writer = await asyncio.open_connection(*place.address)
            try:
                return await asyncio.wait_for(reader.read(), PATIENCE)
            finally:
                writer.close()

    assert asyncio.run(silent()) == b""


def test_who_does_not_end_a_request_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_ANSWER_SECONDS", 0.05)

    async def endless() -> bytes:
        async with listening() as place:
            reader, writer = await asyncio.open_connection(*place.address)
            writer.write(HALF)
            try:
                return await asyncio.wait_for(reader.read(), PATIENCE)
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    assert asyncio.run(endless()) == b""


def test_a_request_that_has_come_is_answered_though_the_server_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_DRAIN_SECONDS", PATIENCE)

    async def answered() -> bytes:
        async with listening() as place:
            reader, writer = await asyncio.open_connection(*place.address)
            writer.write(HALF + b"cd")
            await place.begun.wait()
            ending = asyncio.create_task(place.listener.close())
            await place.ends.wait()
            await asyncio.sleep(0.05)  # what ends requests comes next
            place.answers.set()
            text = await asyncio.wait_for(reader.read(), PATIENCE)
            await ending
            writer.close()
            return text

    text = asyncio.run(answered())
    assert text.startswith(b"HTTP/1.1 200 ")
    assert text.endswith(b"\r\n\r\nabcd")


def test_a_request_that_does_not_end_does_not_keep_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_DRAIN_SECONDS", 0.05)

    async def ended() -> None:
        async with listening() as place:
            _, writer = await asyncio.open_connection(*place.address)
            writer.write(HALF)
            await place.begun.wait()
            await asyncio.wait_for(place.listener.close(), PATIENCE)
            writer.close()

    asyncio.run(ended())


def test_without_a_descriptor_left_clients_wait(tmp_path: Path) -> None:
    """accept(2) fails then; whoever waits is answered as soon as there is one."""
    pki = make_pki(tmp_path / "pki")
    root = x509.load_pem_x509_certificate((pki / "factory_ca.pem").read_bytes())
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        number, used = server.process.pid, set(map(int, os.listdir(f"/proc/{server.process.pid}/fd")))
        limits = resource.prlimit(number, resource.RLIMIT_NOFILE)
        free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(number, resource.RLIMIT_NOFILE, (free, limits[1]))
        with socket.create_connection(server.address, timeout=PATIENCE):
            time.sleep(0.3)  # it tries some times
            resource.prlimit(number, resource.RLIMIT_NOFILE, limits)
            assert server.ask("GET", "/ota/factories/acme/certs/").status == 200
            assert ask(server, anybody(root)).status == 403


class Faulty:
    """A PKI directory that never changes, and says one thing after the other: errors, and then an empty PKI."""

    def __init__(self, *faults: str) -> None:
        self.faults = list(faults)
        self.reads = 0
        self.stamps = 0

    def stamp(self) -> tuple[()]:
        self.stamps += 1
        return ()

    def read(self, _now: datetime) -> Pki:
        self.reads += 1
        if self.faults:
            raise AuthorityError(self.faults.pop(0))
        return Pki()

    def online_ca(self) -> None:
        return None

    local_ca = online_ca


def test_a_fault_is_said_once_and_looked_at_until_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is not valid yet becomes so without any change of a file."""
    monkeypatch.setattr(servers, "_POLL_SECONDS", 0.001)
    folder = Faulty("one", "one", "one", "other", "one")
    said: list[str] = []
    told: list[str] = []

    async def follow(place: servers.Servers) -> None:
        again = asyncio.Event()
        again.set()
        task = asyncio.create_task(place._follow(cast("PkiFolder", folder), (), again))
        while folder.stamps < 50:
            await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    store = Store(tmp_path / "gateway.sqlite", "acme")
    with bound("127.0.0.1", api_port=0, gateway_port=0) as sockets:
        gateway = Gateway(
            "acme", store, KeyStore(tmp_path / "keys"), lambda: datetime.now(UTC), (), allow_production=False, pki=Pki()
        )
        place = servers.Servers(
            gateway, token=TOKEN, root_json=b"", sockets=sockets, folder=None, tell=told.append, warn=said.append
        )
        asyncio.run(follow(place))
    store.close()
    assert [sentence.rpartition(": ")[2] for sentence in said] == ["one", "other", "one"]
    assert (folder.reads, len(told)) == (6, 1)
