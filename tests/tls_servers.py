"""Small TLS servers for the probe to meet: each does one thing, right or wrong, over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    Answerer: TypeAlias = Callable[["Request"], bytes | None]

PATIENCE = 20.0
ROOT_DOCUMENT = {"signed": {"_type": "Root", "version": 1}, "signatures": []}
MISSING = (404, b"404: Not Found")


@dataclass(frozen=True, slots=True)
class Request:
    """What a server was asked: the path, the headers by lower-case name, the certificate's subject ({} for none)."""

    path: str
    headers: dict[str, str]
    subject: dict[str, str]


@dataclass(slots=True)
class TlsServer:
    """A server that listens on a free port of loopback, and what it saw."""

    port: int
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    per_connection: Counter[int] = field(default_factory=Counter)
    resumed: int = 0
    refusals: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def asked(self, path: str) -> list[str]:
        """The devices that asked for a path."""
        return sorted(request.subject["commonName"] for request in self.requests if request.path == path)


def gateway_context(pki: Path, *, clients: Path | None = None, ask: bool = True) -> ssl.SSLContext:
    """TLS as the device gateway speaks it: device CAs as direct anchors, the client's certificate optional.

    Args:
        pki: whose server certificate and key.
        clients: the PEM file of CAs whose devices are let in; the PKI's local-ca unless given.
        ask: whether clients are asked for a certificate at all.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "tls-crt", pki / "gateway" / "tls.key")
    if ask:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(clients or pki / "local-ca.pem")
    return context


def http(status: int, body: bytes, *, length: int | None = None) -> bytes:
    """An HTTP/1.1 response; `length` says another length than the body has."""
    size = len(body) if length is None else length
    return b"HTTP/1.1 %d Because\r\nContent-Length: %d\r\n\r\n%b" % (status, size, body)


def good_gateway(request: Request) -> bytes:
    """What a right gateway answers."""
    if request.path == "/repo/1.root.json":
        return http(200, json.dumps(ROOT_DOCUMENT).encode())
    if request.path == "/device":
        production = request.subject.get("businessCategory") == "production"
        return http(200, json.dumps({"uuid": request.subject["commonName"], "is_prod": production}).encode())
    return http(*MISSING)


def answering(**answers: tuple[int, bytes] | dict[str, Any]) -> Answerer:
    """A right gateway, but for `root` or `device`: a status with a body, or fields that replace those of the answer."""
    paths = {"root": "/repo/1.root.json", "device": "/device"}
    by_path = {paths[name]: answer for name, answer in answers.items()}

    def answer(request: Request) -> bytes:
        different = by_path.get(request.path)
        if different is None:
            return good_gateway(request)
        return http(200, json.dumps(different).encode()) if isinstance(different, dict) else http(*different)

    return answer


@contextmanager
def tls_server(context: ssl.SSLContext, answer: Answerer = good_gateway) -> Iterator[TlsServer]:
    """A server with a thread per connection; `answer` gives a response's octets, or None to hang up."""

    def talk(server: TlsServer, plain: socket.socket, number: int) -> None:
        try:
            connection = context.wrap_socket(plain, server_side=True)
        except OSError as error:  # the alert is sent
            server.refusals.append(getattr(error, "reason", None) or type(error).__name__)
            return
        with connection, suppress(OSError):
            server.resumed += bool(connection.session_reused)
            while (request := _read_request(connection)) is not None:
                server.requests.append(request)
                server.per_connection[number] += 1
                response = answer(request)
                if response is None:
                    return
                connection.sendall(response)

    with _listening(talk) as server:
        yield server


@contextmanager
def asyncio_server(
    context: ssl.SSLContext, talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> Iterator[str]:
    """A server of Python's asyncio, which sends no alert when it refuses a handshake; gives HOST:PORT."""
    loop, ended, bound = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        async with await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context) as server:
            ports.append(server.sockets[0].getsockname()[1])
            bound.set()
            await ended.wait()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    loop.set_exception_handler(lambda *_: None)
    thread.start()
    try:
        assert bound.wait(PATIENCE)
        yield f"127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENCE)
        loop.close()


@contextmanager
def plain_server(talk: Callable[[socket.socket], object]) -> Iterator[TlsServer]:
    """A server that speaks no TLS: `talk` does what is done with each connection."""
    with _listening(lambda _server, plain, _number: talk(plain)) as server:
        yield server


@contextmanager
def _listening(talk: Callable[[TlsServer, socket.socket, int], object]) -> Iterator[TlsServer]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        server = TlsServer(listener.getsockname()[1])
        threads: list[threading.Thread] = []
        open_sockets: set[socket.socket] = set()

        def serve(plain: socket.socket, number: int) -> None:
            try:
                with plain, suppress(OSError):  # the device may be gone
                    talk(server, plain, number)
            finally:
                open_sockets.discard(plain)

        def accept() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:  # it is shut down
                    return
                plain.settimeout(PATIENCE)
                server.connections += 1
                open_sockets.add(plain)
                threads.append(threading.Thread(target=serve, args=(plain, server.connections), daemon=True))
                threads[-1].start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for plain in list(open_sockets):
                with suppress(OSError):
                    plain.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(PATIENCE)


def _read_request(connection: ssl.SSLSocket) -> Request | None:
    octets = b""
    while b"\r\n\r\n" not in octets:
        more = connection.recv(4096)
        if not more:
            return None
        octets += more
    first, *lines = octets.decode().split("\r\n\r\n")[0].split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    certificate: dict[str, Any] = connection.getpeercert() or {}
    subject = {name: value for ((name, value),) in certificate.get("subject", ())}
    return Request(first.split(" ")[1], headers, subject)
