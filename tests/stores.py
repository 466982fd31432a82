"""A real S3 API on loopback: moto's server, and before it a proxy that is slow, fails, or loses answers on request."""

from __future__ import annotations

import http.client
import logging
import os
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from listeners import QuietServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BUCKET = "factory"
SECRET = "wJalrXUtnFEMI-a-secret-that-nobody-may-see"  # noqa: S105 - of a store that lives as long as a test
KEEP = {"PATH", "HOME", "TMPDIR", "LANG", "VIRTUAL_ENV"}


@dataclass(frozen=True)
class Request:
    """A request as the proxy sees it: the key is below the bucket."""

    number: int
    method: str
    key: str
    headers: dict[str, str] = field(repr=False)

    @property
    def is_put(self) -> bool:
        return self.method == "PUT"


Fault = str | float | None
"""What to do with a request: None passes it on; a number waits so many seconds first; a status such as "503" answers
that and does nothing; "drop" does it and loses the answer; "late-500" does it and answers 500; "cut" loses it."""


class Proxy:
    """Listens on loopback and passes requests on to the store, but for what `fault` says of each."""

    def __init__(self, port: int) -> None:
        self.fault: Callable[[Request], Fault] = lambda _: None
        self.seen: list[Request] = []
        self._port = port
        self._turn = threading.Lock()
        self._server = QuietServer(("127.0.0.1", 0), partial(_Handler, self))
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reset(self) -> None:
        self.fault = lambda _: None
        self.seen.clear()

    def note(self, method: str, path: str, headers: dict[str, str]) -> Request:
        key = path.partition("?")[0].removeprefix(f"/{BUCKET}").removeprefix("/")
        with self._turn:
            request = Request(len(self.seen), method, key, headers)
            self.seen.append(request)
        return request

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    """One connection to the proxy."""

    protocol_version = "HTTP/1.1"

    def __init__(self, proxy: Proxy, *connection: Any) -> None:
        self._proxy = proxy
        super().__init__(*connection)

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked was killed
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests say what they saw."""

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = dict(self.headers)
        fault = self._proxy.fault(self._proxy.note(self.command, self.path, headers))
        if fault == "cut":
            self.close_connection = True
        elif isinstance(fault, str) and fault.isdigit():
            self._answer(int(fault), [], b"<Error><Code>SlowDown</Code></Error>")
        else:
            time.sleep(fault if isinstance(fault, float) else 0)
            answer = self._proxy.forward(self.command, self.path, headers, body)
            if fault == "drop":
                self.close_connection = True
            elif fault == "late-500":
                self._answer(500, [], b"<Error><Code>InternalError</Code></Error>")
            else:
                self._answer(*answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815 - the names that the library calls

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@dataclass
class Stores:
    """The store, and what tests ask of it past the program."""

    proxy: Proxy
    client: Any
    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """For the program: nothing of this process's own that bears on stores."""
        kept = {name: value for name, value in os.environ.items() if name in KEEP}
        return kept | {
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT": f"http://127.0.0.1:{self.proxy.port}",
            "AWS_REGION": "us-east-1",
        }

    def prefix(self) -> str:
        """A prefix that nobody has."""
        self.proxy.reset()
        return f"runs/{uuid.uuid4().hex[:12]}"

    def keys(self, prefix: str) -> list[str]:
        """The names below a prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        return [entry["Key"].removeprefix(f"{prefix}/") for page in pages for entry in page.get("Contents", ())]

    def get(self, prefix: str, name: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["Body"].read()
        return body

    def put(self, prefix: str, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=content)

    def delete(self, prefix: str, name: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=f"{prefix}/{name}")


def client_of(endpoint: str) -> Any:
    """What speaks to the store past the program."""
    import boto3

    return boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key=SECRET
    )


def copy_prefix(client: Any, prefix: str, to: Path) -> None:
    """Everything below a prefix, as files."""
    to.mkdir()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
    for key in [entry["Key"] for page in pages for entry in page.get("Contents", ())]:
        path = to / key.removeprefix(f"{prefix}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


@contextmanager
def serving() -> Iterator[Stores]:
    """moto's server with one bucket, behind a proxy."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    client = client_of(endpoint)
    client.create_bucket(Bucket=BUCKET)
    proxy = Proxy(port)
    try:
        yield Stores(proxy, client, endpoint)
    finally:
        proxy.close()
        client.close()
        server.stop()
