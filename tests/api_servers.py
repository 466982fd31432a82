"""A small factory API on loopback, real HTTP in a thread, which fails as a test wants it to fail."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

TOKEN = "tok-5f2c9e0b71a84d3c"  # noqa: S105 - of this server alone
DEADLINE = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def device_uuid(self) -> str:
        """The common name of the certificate that came."""
        certificate = x509.load_pem_x509_certificate(self.json()["client.pem"].encode())
        uuid = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        assert isinstance(uuid, str)
        return uuid


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer instead of the right one; the request is not processed."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        raw = (
            self.body if isinstance(self.body, bytes) else b"" if self.body is None else json.dumps(self.body).encode()
        )
        return web.Response(status=self.status, body=raw, headers=self.headers)


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is cut, before the request is processed or after it."""

    processed: bool


Fault: TypeAlias = Reply | Reset | None


@dataclass
class Device:
    """A device that the server knows."""

    public_key: bytes
    name: str | None
    group: str | None


class ApiServer:
    """The server; a context manager.

    Attributes:
        asked: every request, in the order in which they came.
        faults: what happens to the next requests, one each; None for the right answer.
        fault: what happens to a request otherwise.
        certificates: what a GET of the certificates answers.
        requests: what a POST answers.
        devices: by UUID.
        created: the UUIDs in the order in which they came.
        repeated: the status for a device that is there with the same key.
        most_at_once: the most requests that were there at the same time.
    """

    def __init__(self, *, trust: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        self.faults: deque[Fault] = deque()
        self.fault: Callable[[Asked], Fault] = lambda _: None
        self.certificates: Any = {}
        self.requests: Any = {}
        self.devices: dict[str, Device] = {}
        self.created: list[str] = []
        self.repeated = 200
        self.most_at_once = 0
        self._at_once = 0
        self._trust = trust
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve)
        self._up = threading.Event()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._trust else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(DEADLINE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def hold(self) -> None:
        """Requests are taken and not answered, until `release`."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application(client_max_size=1 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._trust)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            body = await request.read()
            asked = Asked(request.method, request.path_qs, dict(request.headers), body)
            self.asked.append(asked)
            fault = self.faults.popleft() if self.faults else self.fault(asked)
            await self._open.wait()
            if isinstance(fault, Reply):
                return fault.response()
            response = self._answer(asked) if fault is None or fault.processed else web.Response()
            if isinstance(fault, Reset) and request.transport is not None:
                request.transport.abort()
            return response
        finally:
            self._at_once -= 1

    def _answer(self, asked: Asked) -> web.Response:
        if asked.headers.get("OSF-TOKEN") != TOKEN:
            return Reply(401, {"msg": "bad token"}).response()
        if asked.path == "/ota/factories/acme/users/self/" and asked.method == "GET":
            return web.json_response({"polis-id": "5d0c", "name": "Ada"})
        if asked.path == "/ota/factories/acme/certs/":
            if asked.method == "GET":
                return web.json_response(self.certificates)
            return web.json_response(self.requests if asked.method == "POST" else {}, status=201)
        if asked.path == "/ota/devices/" and asked.method == "PUT":
            return self._put(asked)
        return Reply(404, {"message": "no such thing"}).response()

    def _put(self, asked: Asked) -> web.Response:
        body, uuid = asked.json(), asked.device_uuid
        certificate = x509.load_pem_x509_certificate(body["client.pem"].encode())
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        known = self.devices.get(uuid)
        if known is None:
            self.devices[uuid] = Device(key, body.get("name"), body.get("group"))
            self.created.append(uuid)
            return web.json_response({"uuid": uuid}, status=201)
        if known.public_key == key:
            return web.json_response({"msg": "is there already"}, status=self.repeated)
        return Reply(409, {"msg": f"device {uuid} has another key"}).response()
