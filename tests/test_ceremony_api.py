"""Ceremonies with a factory's API that fails: what is left, what is said, and that what is said is the way out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from gateways import TOKEN, serving
from judges import Ran, run
from listeners import QuietServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gateways import Serving


class Wire(QuietServer):
    """The way to the real API, on which a PATCH can be lost: before it arrives, or on the way back."""

    def __init__(self, api: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(api)
        self.fault: str | None = None
        self.held = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Wire

    def log_message(self, *_: object) -> None:
        """Nothing is said."""

    def _pass_on(self) -> None:
        fault = self.server.fault if self.command == "PATCH" else None
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault == "held":
            self.server.held.set()
            threading.Event().wait(20)
        if fault == "refused":
            self._answer(400, b'{"msg": "not today"}')
            return
        target = self.server.target
        assert target.hostname is not None
        onward = HTTPConnection(target.hostname, target.port, timeout=20)
        onward.request(self.command, self.path, body, dict(self.headers))
        answer = onward.getresponse()
        text = answer.read()
        onward.close()
        if fault == "lost":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self._answer(answer.status, text)

    def _answer(self, status: int, text: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PATCH = _pass_on  # noqa: N815 - http.server's names


class Factory:
    """A directory, and the API that it is kept in step with."""

    def __init__(self, folder: Path, server: Serving, wire: Wire) -> None:
        self.folder, self.server, self.wire = folder, server, wire
        self.pki = folder / "pki"
        (folder / "token").write_text(TOKEN)

    @property
    def options(self) -> tuple[str, ...]:
        return ("--api", self.wire.url, "--token-file", str(self.folder / "token"))

    def ca(self, command: str, *arguments: str | Path) -> Ran:
        return run("ca", command, self.pki, *arguments, *self.options)

    def failing(self, fault: str, command: str, *arguments: str | Path) -> Ran:
        self.wire.fault = fault
        try:
            ended = self.ca(command, *arguments)
        finally:
            self.wire.fault = None
        assert ended.code == 1, ended
        return ended

    def in_step(self) -> dict[str, str]:
        """Both sides have the same; the device CAs' common names and states."""
        there, here = (
            json.loads(ran.out) for ran in (self.ca("show", "--json"), run("ca", "show", self.pki, "--json"))
        )
        assert there == here
        return {ca["subject"].partition("CN=")[2]: ca["state"] for ca in here["device_cas"]}


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Factory]:
    with serving(tmp_path / "vendor") as server, Wire(server.api) as wire:
        thread = threading.Thread(target=wire.serve_forever, daemon=True)
        thread.start()
        try:
            yield Factory(tmp_path, server, wire)
        finally:
            wire.shutdown()
            thread.join()


@pytest.fixture
def made(factory: Factory) -> Factory:
    assert factory.ca("create", "--factory", "acme", "--user-id", "5e0").code == 0
    return factory


FAULTS = pytest.mark.parametrize("fault", ["refused", "lost"])
FIRST = {"online-ca": "active", "fio-5e0": "active"}


@FAULTS
def test_create_is_finished_by_update(factory: Factory, fault: str) -> None:
    failed = factory.failing(fault, "create", "--factory", "acme", "--user-id", "5e0")
    assert f"the PKI in {factory.pki} is whole, and the factory's API may not know it yet" in failed.err
    assert (
        f"`batch-issuer ca update {factory.pki} --api URL` sends it when that is mended; do not create again"
        in failed.err
    )
    again = factory.ca("create", "--factory", "acme")
    assert again.code == 2
    assert "if a `ca create --api` was interrupted here, `batch-issuer ca update DIR --api URL` sends" in again.err
    assert factory.ca("update").code == 0
    assert factory.in_step() == FIRST
    factory.server.wait_gateway()
    assert factory.ca("rotate-tls").code == 0


def test_create_that_is_interrupted_says_the_way_out(factory: Factory) -> None:
    factory.wire.fault = "held"
    command = [
        sys.executable,
        "-m",
        "batch_issuer",
        "ca",
        "create",
        str(factory.pki),
        "--factory",
        "acme",
        "--user-id",
        "5e0",
    ]
    process = subprocess.Popen([*command, *factory.options], stderr=subprocess.PIPE, text=True)
    assert factory.wire.held.wait(20)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    factory.wire.fault = None
    assert process.returncode == 130
    assert f"error: interrupted; the PKI in {factory.pki} is whole" in said
    assert "--api URL` sends it when that is mended; do not create again" in said
    assert factory.ca("update").code == 0
    assert factory.in_step() == FIRST


@FAULTS
def test_a_site_is_added_by_update(made: Factory, fault: str) -> None:
    failed = made.failing(fault, "add-device-ca", "--local-ca", "--local-ca-filename", "site2.pem")
    assert (
        f"hint: its files are in {made.pki}: `batch-issuer ca update {made.pki} --api URL` puts it in force"
        in failed.err
    )
    again = made.ca("add-device-ca", "--local-ca", "--local-ca-filename", "site2.pem")
    assert again.code == 2
    assert "hint: if a command was stopped here, `batch-issuer ca update DIR [--api URL]` puts it in force" in again.err
    assert made.ca("update").code == 0
    assert len(made.in_step()) == 3
    assert not (made.pki / "ca-crt.pending").exists()


@FAULTS
def test_an_online_ca_is_added_by_update(made: Factory, fault: str) -> None:
    made.failing(fault, "add-device-ca", "--online-ca")
    assert made.ca("update").code == 0
    made.in_step()
    listed = x509.load_pem_x509_certificates((made.pki / "ca-crt").read_bytes())
    assert len(listed) == 3
    assert x509.load_pem_x509_certificate((made.pki / "online-crt").read_bytes()) in listed


@FAULTS
def test_a_list_is_replaced_by_the_same_command(made: Factory, fault: str) -> None:
    only = made.folder / "only.pem"
    shutil.copy(made.pki / "local-ca.pem", only)
    made.failing(fault, "update", only)
    assert made.ca("update", only).code == 0
    assert made.in_step() == {"fio-5e0": "active"}
    assert made.ca("update").code == 0  # nothing is brought back that was taken away
    assert made.in_step() == {"fio-5e0": "active"}


@FAULTS
def test_disabling_and_revoking_are_done_by_the_same_command(made: Factory, fault: str) -> None:
    for command in ("disable-device-ca", "revoke-device-ca"):
        failed = made.failing(fault, command, "--ca-file", "local-ca")
        assert f"{made.pki} has it on record already, and issues by it no more" in failed.err
        assert "hint: give the same command again when that is mended" in failed.err
        assert made.ca(command, "--ca-file", "local-ca").code == 0
    assert made.in_step() == {"online-ca": "active"}


def test_a_disabling_that_was_refused_can_be_taken_back(made: Factory) -> None:
    made.failing("refused", "disable-device-ca", "--ca-file", "local-ca")
    assert made.ca("enable-device-ca", "--ca-file", "local-ca").code == 0
    assert made.in_step() == FIRST


@FAULTS
def test_a_rotation_is_done_by_the_same_command(made: Factory, fault: str) -> None:
    made.failing(fault, "rotate-tls")
    assert made.ca("rotate-tls").code == 0
    assert made.in_step() == FIRST


def test_what_is_disabled_in_a_directory_is_so_at_the_api(factory: Factory) -> None:
    """A PKI that stood alone comes to an API: it keeps its device CAs and their states, the API makes a new tls-crt."""
    create = ("ca", "create", factory.pki, "--factory", "acme", "--user-id", "5e0")
    assert run(*create, "--gateway-host", "gw.acme.example").code == 0
    assert run("ca", "disable-device-ca", factory.pki, "--ca-file", "local-ca").code == 0
    assert factory.ca("update").code == 0
    assert factory.ca("rotate-tls").code == 0
    assert factory.in_step() == {"online-ca": "active", "fio-5e0": "disabled"}


def test_a_directory_with_an_api_is_not_changed_without_it(made: Factory) -> None:
    before = {path: path.read_bytes() for path in made.pki.iterdir()}
    for arguments in (
        ("revoke-device-ca", made.pki, "--ca-file", "local-ca"),
        ("rotate-tls", made.pki),
        ("add-device-ca", made.pki, "--online-ca"),
        ("update", made.pki, made.pki / "local-ca.pem"),
    ):
        refused = run("ca", *arguments)
        assert refused.code == 2
        assert refused.err == (
            f"error: {made.pki} has tls-crt and online-crt without their keys: a factory's API holds them, and must be "
            "told\nhint: give --api URL\n"
        )
    assert {path: path.read_bytes() for path in made.pki.iterdir()} == before
    assert run("ca", "show", made.pki).code == 0


def test_another_factory_s_api_is_left_alone(made: Factory, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert run("ca", "create", other, "--factory", "acme").code == 0
    for arguments in (("update",), ("disable-device-ca", "--ca-file", "local-ca"), ("rotate-tls",)):
        refused = run("ca", arguments[0], other, *arguments[1:], *made.options)
        assert refused.code == 2
        assert "the factory's API has another root than this directory; nothing was done" in refused.err
    assert made.in_step() == FIRST


def test_no_core_dump_of_a_ceremony(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from batch_issuer.cli import cli\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))\n"
        f"cli(['ca', 'show', {str(tmp_path)!r}], standalone_mode=False)\n"
    )
    checked = script.replace("cli(", "try: cli(").rstrip() + "\nexcept BaseException: pass\n" \
        "print(resource.getrlimit(resource.RLIMIT_CORE))"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", checked], capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout == "(0, 0)\n", done.stderr
