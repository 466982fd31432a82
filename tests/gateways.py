"""The real `gateway serve` in a process of its own: started, listened to, asked and stopped."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "rehearsal-token"  # noqa: S105 - of servers that live as long as a test
PATIENCE = 30.0
"""Seconds after which something that should have happened has not."""


@dataclass(slots=True)
class Answer:
    """What the API said: its status, its headers and its body, which is JSON or nothing."""

    status: int
    headers: http.client.HTTPMessage
    text: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def msg(self) -> str:
        """The sentence of a refusal."""
        assert self.headers.get_content_type() == "application/json"
        message = self.json["msg"]
        assert isinstance(message, str)
        return message


@dataclass(slots=True)
class Serving:
    """A server that listens."""

    process: subprocess.Popen[str]
    token: str
    _lines: list[dict[str, str | None]] = field(default_factory=list)
    _heard: threading.Condition = field(default_factory=threading.Condition)
    _errors: list[str] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)

    @property
    def api(self) -> str:
        """The API's URL."""
        url = self._lines[-1]["api"]
        assert url is not None
        return url

    @property
    def gateway(self) -> str | None:
        """The device gateway's URL, None while there is none."""
        return self._lines[-1]["gateway"]

    @property
    def host_port(self) -> str:
        """Where the device gateway listens, as `--gateway` takes it; waits until it does."""
        return urlsplit(self.wait_gateway()).netloc

    @property
    def address(self) -> tuple[str, int]:
        """The same, as a socket takes it."""
        host, _, port = self.host_port.rpartition(":")
        return host, int(port)

    @property
    def announcements(self) -> list[dict[str, str | None]]:
        """Every line that it wrote to its standard output."""
        return list(self._lines)

    @property
    def errors(self) -> str:
        """What it wrote to its standard error; all of it once it was stopped."""
        return "".join(self._errors)

    def wait_gateway(self) -> str:
        """The device gateway's URL, as soon as there is one."""
        self._await(lambda: bool(self._lines) and self.gateway is not None)
        assert self.gateway is not None
        return self.gateway

    def wait_errors(self, part: str) -> None:
        """Until it has written this to its standard error."""
        self._await(lambda: part in self.errors)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request to the API; `body` is sent as it is if it is bytes, as JSON otherwise; `token` None for none."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {"OSF-TOKEN": token or self.token} if token is not None else {}
        if data is not None:
            sent["Content-Type"] = "application/json"
        where = urlsplit(self.api)
        assert where.hostname is not None
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=PATIENCE)
        try:
            connection.request(method, path, data, sent | (headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it; returns its exit code. For one that has ended, too."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            for reader in self._readers:
                reader.join()
            for pipe in (self.process.stdout, self.process.stderr):
                assert pipe is not None
                pipe.close()
        return code

    def kill(self) -> None:
        """SIGKILL, as a power cut."""
        self.stop(signal.SIGKILL)

    def _await(self, there: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        with self._heard:
            while not there():
                assert self.process.poll() is None, self.errors
                assert time.monotonic() < deadline, self.errors
                self._heard.wait(0.2)

    def _listen(self) -> None:
        def hear(take: Any, pipe: Any) -> None:
            for line in pipe:
                with self._heard:
                    take(line)
                    self._heard.notify_all()

        process = self.process
        for target in (
            (lambda line: self._lines.append(json.loads(line)), process.stdout),
            (self._errors.append, process.stderr),
        ):
            thread = threading.Thread(target=hear, args=target, daemon=True)
            thread.start()
            self._readers.append(thread)


def command(data: Path, factory: str, token: str, pki: Path | None = None, *extra: str) -> list[str]:
    """The command line of a server on free ports; its token file lies beside `data`."""
    token_file = data.with_name(f"{data.name}.token")
    token_file.write_text(token)
    start = [sys.executable, "-m", "batch_issuer", "gateway", "serve", "--gateway-port", "0", "--api-port", "0"]
    own = ["--data", str(data), "--factory", factory, "--token-file", str(token_file)]
    return [*start, *own, *(["--pki", str(pki)] if pki is not None else []), *extra]


def start(data: Path, factory: str = "acme", token: str = TOKEN, pki: Path | None = None, *extra: str) -> Serving:
    """Start one and wait until it listens; who starts it stops it."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command(data, factory, token, pki, *extra), stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    )
    server = Serving(process, token)
    server._listen()
    try:
        server._await(lambda: bool(server._lines))
    except BaseException:
        server.kill()
        raise
    return server


@contextmanager
def serving(
    data: Path, factory: str = "acme", token: str = TOKEN, pki: Path | None = None, *extra: str
) -> Iterator[Serving]:
    """A server while the block runs; then it must end as it should, and have written no traceback."""
    server = start(data, factory, token, pki, *extra)
    try:
        yield server
    except BaseException:
        server.kill()
        print(server.errors, file=sys.stderr)
        raise
    code = server.stop()
    assert code in (0, -signal.SIGKILL)
    assert "Traceback" not in server.errors
