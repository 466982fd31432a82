"""`gateway probe` against real TLS servers: what is right passes, and everything that can be wrong has its code."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from gateways import serving
from judges import (
    FORMATS,
    Ran,
    contents,
    csv_bytes,
    device_uuids,
    interrupted_run,
    issue,
    private_values,
    run,
    shows_a_key,
    stored_bundles,
)
from pki import CA_FALSE, CLIENTS, EXPIRED, key_pem, make_certificate, make_pki, name, p256
from runs import PROGRAM
from tls_servers import (
    PATIENCE,
    TlsServer,
    answering,
    asyncio_server,
    gateway_context,
    good_gateway,
    http,
    plain_server,
    tls_server,
)

from batch_issuer.benchmark.workload import temporary_workload
from batch_issuer.errors import RunFailedError

sys.path.append(str(Path(__file__).parents[1]))  # benchmarks is not installed

from benchmarks import goals, handshakes, tables
from benchmarks.results import Results
from benchmarks.sections import Scale, Section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tls_servers import Answerer

UUIDS = device_uuids(8)
PKI = Path("pki")
OUT = Path("issued")
HOST = "gw.example.com"
ROOT, DEVICE = "/repo/1.root.json", "/device"

MACHINE: dict[str, str | int] = dict.fromkeys(
    ("cpu", "cores", "kernel", "file_system", "python", "cryptography", "openssl", "pyarrow", "numpy", "batch_issuer"),
    "",
)

pytestmark = pytest.mark.usefixtures("work")


def probe(server: TlsServer | str, *options: str) -> Ran:
    """`gateway probe` of `issued`; whatever is wrong, nothing that it says shows a key."""
    place = server if isinstance(server, str) else server.place
    ran = run("gateway", "probe", "issued", "--gateway", place, "-q", *options)
    keys = private_values(files["pkey.pem"] for files in stored_bundles(OUT).values() if good_key(files))
    assert not shows_a_key((ran.out + ran.err).encode(), keys)
    return ran


def good_key(files: dict[str, bytes]) -> bool:
    return files.get("pkey.pem", b"").startswith(b"-----BEGIN EC PRIVATE KEY-----\nM")


def report(server: TlsServer | str, *options: str) -> dict[str, Any]:
    """What `--json` says; the exit code fits to it."""
    ran = probe(server, "--json", *options)
    assert ran.code in (0, 4), ran.err
    values: dict[str, Any] = json.loads(ran.out)
    assert (ran.code == 0) is (values["failures"] == [] and values["probed"] == values["chosen"])
    return values


def failures(server: TlsServer | str, *options: str) -> list[tuple[str, int, str]]:
    return [(one["code"], one["count"], one["detail"]) for one in report(server, *options)["failures"]]


@contextmanager
def gateway(answer: Answerer = good_gateway, *, clients: Path | None = None, ask: bool = True) -> Iterator[TlsServer]:
    with tls_server(gateway_context(PKI, clients=clients, ask=ask), answer) as server:
        yield server


KEEPER = ("",)
_KEPT: dict[tuple[str, ...], Path] = {}


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the runs that several tests want alike."""
    _KEPT[KEEPER] = tmp_path_factory.mktemp("kept")
    yield
    _KEPT.clear()


def issued(*options: str) -> None:
    """A run of the eight devices in `issued`: made for the first test that wants it so, copied for the others."""
    if options in _KEPT:
        shutil.copytree(_KEPT[options], OUT)
        return
    assert issue(csv_bytes(UUIDS), *options).code == 0
    _KEPT[options] = _KEPT[KEEPER] / str(len(_KEPT))
    shutil.copytree(OUT, _KEPT[options])


def bundle_file(device: int, file: str) -> Path:
    return OUT / "bundles" / UUIDS[device] / file


def replace(device: int, file: str, content: bytes) -> None:
    bundle_file(device, file).write_bytes(content)


# What is right -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", ["csv", "parquet"])
@pytest.mark.parametrize("stored_as", FORMATS)
def test_every_device_makes_both_requests_on_one_connection(stored_as: str, manifest: str) -> None:
    issued("--format", stored_as, "--manifest-format", manifest)
    before = contents(OUT)
    with gateway() as server:
        ran = probe(server)
    lines = ran.out.splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert lines[0].startswith(f"8 of 8 devices probed at {server.place} in ")
    assert lines[0].endswith("/s): nothing is wrong")
    assert lines[1] == f"  name       {HOST}"
    assert [line.split(" median ")[0] for line in lines[2:]] == ["  handshake ", "  in all    "]
    assert server.asked(ROOT) == server.asked(DEVICE) == UUIDS
    assert (server.connections, server.resumed, server.refusals) == (8, 0, [])
    assert set(server.per_connection.values()) == {2}
    assert contents(OUT) == before


def test_the_report_as_json() -> None:
    issued()
    with gateway() as server:
        values = report(server)
    assert 0 < values.pop("handshake")["median"] <= values["exchange"]["median"]
    assert set(values.pop("exchange")) == {"median", "p95", "p99", "longest"}
    assert values.pop("devices_per_second") == 8 / values.pop("seconds")
    assert values == {
        "gateway": server.place,
        "server_name": HOST,
        "issued": 8,
        "chosen": 8,
        "seed": None,
        "probed": 8,
        "passed": 8,
        "unconfirmed": 0,
        "failures": [],
        "complete": True,
        "gave_up": None,
        "interrupted": False,
    }


def test_requests_are_those_of_the_device() -> None:
    assert issue(csv_bytes([f"{UUIDS[0]},", f"{UUIDS[1]},stable"], "device_uuid,tag"), "--tag", "main").code == 0
    with gateway() as server:
        assert failures(server) == []
    tags = {one.subject["commonName"]: one.headers["x-ats-tags"] for one in server.requests if one.path == ROOT}
    assert tags == {UUIDS[0]: "main", UUIDS[1]: "stable"}
    assert {one.headers["host"] for one in server.requests} == {f"{HOST}:{server.port}"}
    assert {one.headers["user-agent"].split("/")[0] for one in server.requests} == {"batch-issuer"}
    assert not any("cookie" in one.headers for one in server.requests)


def test_tls_1_2_will_do() -> None:
    issued()
    context = gateway_context(PKI)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with tls_server(context) as server:
        assert failures(server) == []


@pytest.mark.parametrize("fields", ["Uuid IsProd", "uuid is_prod", "uuid is-prod", "uuid production"])
def test_the_gateways_fields_may_be_spelt_differently(fields: str) -> None:
    issued("--production")
    uuid, flag = fields.split()

    def answer(request: Any) -> bytes:
        if request.path == ROOT:
            return good_gateway(request)
        return http(200, json.dumps({uuid: request.subject["commonName"], flag: True, "Deleted": False}).encode())

    with gateway(answer) as server:
        values = report(server)
    assert (values["passed"], values["unconfirmed"]) == (8, 0)


@pytest.mark.parametrize("device", [(404, b"no such path"), {}, {"name": "fred"}, {"is_prod": False}])
def test_a_gateway_that_does_not_say_who_the_device_is(device: Any) -> None:
    issued()
    with gateway(answering(device=device)) as server:
        ran = probe(server)
        values = report(server)
    assert (values["passed"], values["unconfirmed"], values["failures"]) == (8, 8, [])
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "  note       the gateway did not say whom it took 8 devices for"


def test_the_gateway_of_the_run_is_the_default() -> None:
    with gateway() as server:
        issued("--gateway", f"localhost:{server.port}", "--ostree", "os.example.com")
        ran = run("gateway", "probe", "issued", "--server-name", HOST, "-q")
    assert (ran.code, server.asked(DEVICE)) == (0, UUIDS)
    assert ran.out.startswith(f"8 of 8 devices probed at localhost:{server.port} in ")


def test_one_after_the_other_nobody_speaks_for_another() -> None:
    issued()
    replace(2, "pkey.pem", bundle_file(3, "pkey.pem").read_bytes())
    replace(4, "root.crt", bundle_file(5, "client.pem").read_bytes())
    with gateway() as server:
        found = failures(server, "--concurrency", "1")
    assert [(code, count) for code, count, _ in found] == [("bundle-damaged", 1), ("server-untrusted", 1)]
    assert server.asked(ROOT) == server.asked(DEVICE) == [UUIDS[place] for place in (0, 1, 3, 5, 6, 7)]
    assert server.resumed == 0


# Where the gateway is ------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_gateway_that_is_not_there_is_one_sentence_and_not_a_table() -> None:
    issued()
    place = f"127.0.0.1:{free_port()}"
    ran = probe(place, "--concurrency", "3")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"error: no gateway answers at {place}: Connection refused (8 devices tried)\n"
        "hint: is it running? --gateway HOST:PORT says where it is\n"
    )


def test_a_damaged_bundle_does_not_make_a_gateway_be_there() -> None:
    issued()
    bundle_file(7, "pkey.pem").unlink()
    ran = probe(f"127.0.0.1:{free_port()}")
    assert (ran.code, ran.out) == (1, "")
    assert "Connection refused (7 devices tried)" in ran.err


def test_a_gateway_that_is_not_there_is_not_asked_a_million_times() -> None:
    assert issue(csv_bytes(device_uuids(60)), "--format", "parquet").code == 0
    ran = probe(f"127.0.0.1:{free_port()}", "--concurrency", "1")
    assert ran.code == 1
    assert "Connection refused (20 devices tried)" in ran.err


def test_a_gateway_that_goes_away_ends_the_probe_with_what_was_found() -> None:
    assert issue(csv_bytes(device_uuids(60)), "--format", "parquet").code == 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = gateway_context(PKI)

        def serve() -> None:
            plain, _ = listener.accept()
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            with context.wrap_socket(plain, server_side=True) as connection:
                connection.settimeout(PATIENCE)
                connection.recv(4096)
                connection.sendall(http(404, b"nothing here"))

        place = f"127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=serve)
        thread.start()
        ran = probe(place, "--concurrency", "1")
        thread.join(PATIENCE)
    assert ran.code == 4
    assert ran.out.startswith("21 of 60 devices probed at ")
    refused = "\n       20  connect: no TCP connection to the gateway came up\n           seen: Connection refused\n"
    assert refused in ran.out
    assert ran.err == "warning: the probe ended early: 20 devices in a row saw no gateway: Connection refused\n"


def test_a_name_that_cannot_be_resolved_is_told_at_once() -> None:
    issued()
    ran = run("gateway", "probe", "issued", "--gateway", "nowhere.invalid:8443", "-q")
    assert ran.code == 1
    assert ran.err.startswith("error: the gateway's name 'nowhere.invalid' cannot be resolved: ")
    assert ran.err.splitlines()[1].startswith("hint: --gateway HOST:PORT")


@pytest.mark.parametrize(
    "text",
    ["", "host", ":8443", "host:", "host:0", "host:65536", "host:x", "a b:1", "u@host:1", "host:1/x", "[::1:8443",
     "-x:1", "a..b:1", f"{'a' * 64}:1", f"{'a.' * 127}a:1", "höst:1", "host:1\n", "[fe80::1%lo]:1", "host:1?q"],
)  # fmt: skip
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    issued()
    ran = run("gateway", "probe", "issued", "--gateway", text)
    assert (ran.code, ran.out, ran.err) == (2, "", f"error: --gateway: expected HOST:PORT, got {text!r}\n")


@pytest.mark.parametrize("text", ["", ".", "gw.", ".gw", "a b", "*.example.com", "a" * 64, "gw:8443", "::1%lo"])
def test_what_is_no_server_name_is_refused(text: str) -> None:
    issued()
    ran = run("gateway", "probe", "issued", "--gateway", "127.0.0.1:1", "--server-name", text)
    error = f"error: --server-name: expected a DNS name or an IP address, got {text!r}\n"
    assert (ran.code, ran.out, ran.err) == (2, "", error)


def test_a_run_without_a_gateway_needs_one(factory_pki: Path) -> None:
    Path("devices.csv").write_bytes(csv_bytes(UUIDS))
    assert run("issue", "--manifest", "devices.csv", "--days", "30").code == 0  # no hardware id, no sota.toml
    ran = run("gateway", "probe", "issued")
    assert (ran.code, ran.err) == (
        2,
        "error: the run names no gateway: its bundles have no sota.toml\nhint: --gateway HOST:PORT\n",
    )
    with gateway() as server:
        assert failures(server, "--server-name", HOST) == []
        [(code, count, _)] = failures(server)
    assert (code, count) == ("server-name", 8)


# The gateway's certificate -------------------------------------------------------------------------------------------


def test_a_gateway_of_another_factory_is_not_trusted(tmp_path: Path) -> None:
    issued()
    other = make_pki(tmp_path / "other")
    with tls_server(gateway_context(other, clients=PKI / "local-ca.pem")) as server:
        [(code, count, detail)] = failures(server)
    assert (code, count) == ("server-untrusted", 8)
    assert detail in {"unable to get local issuer certificate", "certificate signature failure"}
    assert (server.connections, server.requests) == (8, [])


def test_a_gateway_of_another_name_is_not_believed() -> None:
    issued()
    with gateway() as server:
        assert failures(server, "--server-name", HOST) == []
        found = failures(server, "--server-name", "other.example.com")
        by_address = failures(server, "--server-name", "127.0.0.1")
    seen = "Hostname mismatch, certificate is not valid for 'other.example.com'"
    assert found == [("server-name", 8, seen)]
    assert [(code, count) for code, count, _ in by_address] == [("server-name", 8)]


# The device's certificate --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_device_of_a_ca_that_the_gateway_does_not_know_is_refused_by_an_alert(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    issued()
    context = gateway_context(PKI, clients=make_pki(tmp_path / "other") / "local-ca.pem")
    context.maximum_version = version
    with tls_server(context) as server:
        assert failures(server) == [("client-refused", 8, "TLS alert: unknown ca")]
    assert server.connections == 8  # each device once: nothing is tried again
    assert server.requests == []


def test_a_gateway_that_closes_without_an_alert_is_understood(tmp_path: Path) -> None:
    issued()

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("the handshake must fail before")

    context = gateway_context(PKI, clients=make_pki(tmp_path / "other") / "local-ca.pem")
    with asyncio_server(context, talk) as place:
        seen = "closed without an alert, right after the handshake"
        assert failures(place) == [("client-refused", 8, seen)]


def test_an_expired_device_is_refused_and_its_neighbours_are_not() -> None:
    issued()
    certificate, key = handmade(UUIDS[3], window=EXPIRED)
    replace(3, "client.pem", certificate)
    replace(3, "pkey.pem", key)
    with gateway() as server:
        values = report(server)
    assert [(one["code"], one["count"], one["detail"]) for one in values["failures"]] == [
        ("client-refused", 1, "TLS alert: certificate expired")
    ]
    assert values["failures"][0]["examples"] == [UUIDS[3]]
    assert (values["probed"], values["passed"]) == (8, 7)
    assert server.asked(DEVICE) == [uuid for uuid in UUIDS if uuid != UUIDS[3]]


def handmade(uuid: str, **different: Any) -> tuple[bytes, bytes]:
    """A certificate for a device, signed by the local-ca, and its key; as PEM."""
    ca = x509.load_pem_x509_certificate((PKI / "local-ca.pem").read_bytes())
    signer = load_pem_private_key((PKI / "local-ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = p256()
    values: dict[str, Any] = {"constraints": CA_FALSE, "usage": ("digital_signature",), "purposes": CLIENTS}
    leaf = make_certificate(name(uuid, ("acme",)), key, ca.subject, signer, **(values | different))
    return leaf.public_bytes(Encoding.PEM), key_pem(key)


# What the gateway answers --------------------------------------------------------------------------------------------


REFUSALS = {
    "no-certificate": (403, b"no client certificate provided"),
    "ca-disabled": (403, b"it cannot be registered: its device CA is disabled"),
    "key-changed": (502, b"Key rotation is not supported"),
    "http-status": (500, b"database is locked"),
}


@pytest.mark.parametrize("path", ["root", "device"])
@pytest.mark.parametrize("code", list(REFUSALS))
@pytest.mark.parametrize("as_json", [False, True])
def test_a_refusal_has_its_code_and_the_gateways_words(code: str, path: str, *, as_json: bool) -> None:
    issued()
    status, words = REFUSALS[code]
    body = json.dumps({"msg": words.decode()}).encode() if as_json else words + b"\n"
    with gateway(answering(**{path: (status, body)})) as server:
        [found] = failures(server)
    asked = {"root": ROOT, "device": DEVICE}[path]
    assert found == (code, 8, f"GET {asked}: {status}, {words.decode()}")
    assert server.connections == 8


def test_a_device_that_was_deleted() -> None:
    issued()

    def answer(request: Any) -> bytes:
        uuid = request.subject["commonName"]
        if uuid in UUIDS[:2]:
            return http(403, f"Device({uuid}) has been deleted".encode())
        return good_gateway(request)

    with gateway(answer) as server:
        values = report(server)
    [found] = values["failures"]
    assert (found["code"], found["count"]) == ("deleted", 2)
    assert found["detail"] == f"GET {ROOT}: 403, Device(…) has been deleted"
    assert sorted(found["examples"]) == UUIDS[:2]


def test_a_gateway_that_asks_for_no_certificate() -> None:
    issued()

    def answer(request: Any) -> bytes:
        assert request.subject == {}
        return http(403, b"no client certificate provided")

    with gateway(answer, ask=False) as server:
        assert [found[0] for found in failures(server)] == ["no-certificate"]


@pytest.mark.parametrize("status", [204, 301, 401, 404, 403, 502, 503])
def test_any_other_status_of_the_root_document_is_a_failure(status: int) -> None:
    issued()
    with gateway(answering(root=(status, b""))) as server:
        assert failures(server) == [("http-status", 8, f"GET {ROOT}: {status}")]
    assert server.asked(DEVICE) == []


def test_a_redirect_is_not_followed() -> None:
    issued()
    elsewhere = b"HTTP/1.1 302 Found\r\nLocation: /device\r\nContent-Length: 0\r\n\r\n"
    with gateway(lambda request: elsewhere if request.path == ROOT else good_gateway(request)) as server:
        assert failures(server) == [("http-status", 8, f"GET {ROOT}: 302")]
    assert server.asked(DEVICE) == []


def test_a_gateway_that_takes_devices_for_one_another() -> None:
    issued()
    with gateway(answering(device={"uuid": UUIDS[0], "is_prod": False})) as server:
        values = report(server)
    assert values["passed"] == 1
    [found] = values["failures"]
    assert (found["code"], found["count"], found["detail"]) == ("wrong-device", 7, "GET /device: another UUID")
    assert UUIDS[0] not in found["examples"]


@pytest.mark.parametrize("option", ["--production", "--no-production"])
@pytest.mark.parametrize("said", [True, False])
def test_the_production_flag_must_be_the_certificates(option: str, *, said: bool) -> None:
    issued(option)
    production = option == "--production"

    def answer(request: Any) -> bytes:
        if request.path == ROOT:
            return good_gateway(request)
        return http(200, json.dumps({"uuid": request.subject["commonName"], "is_prod": said}).encode())

    with gateway(answer) as server:
        found = failures(server)
    if said is production:
        assert found == []
    else:
        assert found == [("production-mismatch", 8, f"GET /device: {said}, the certificate: {production}")]


@pytest.mark.parametrize("path", ["root", "device"])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff\xfe", b"[" * 100_000], ids=range(5))
def test_an_answer_that_is_no_json_object(path: str, body: bytes) -> None:
    issued()
    with gateway(answering(**{path: (200, body)})) as server:
        asked = {"root": ROOT, "device": DEVICE}[path]
        assert failures(server) == [("bad-answer", 8, f"GET {asked}: not a JSON object")]


def test_an_answer_that_is_not_http() -> None:
    issued()
    with gateway(lambda _: b"220 mail.example.com ESMTP\r\n\r\n") as server:
        assert failures(server) == [("bad-answer", 8, f"GET {ROOT}: not HTTP")]
    assert server.connections == 8


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    issued()
    with gateway(lambda _: http(200, b"x" * (5 << 20), length=1 << 40)) as server:
        assert failures(server) == [("bad-answer", 8, f"GET {ROOT}: more than 4,194,304 octets")]


@pytest.mark.parametrize("answer", [lambda _: http(200, b'{"a":', length=100), lambda _: b"HTTP/1.1 200 OK\r\nX: "])
def test_an_answer_that_breaks_off(answer: Callable[[Any], bytes]) -> None:
    issued()
    calls: list[int] = []

    def once(request: Any) -> bytes | None:
        calls.append(1)
        return answer(request)

    def broken(plain: socket.socket) -> None:
        with gateway_context(PKI).wrap_socket(plain, server_side=True) as connection:
            connection.recv(4096)
            connection.sendall(once(None) or b"")

    with plain_server(broken) as server:
        [(code, count, _)] = failures(server)
    assert count == 8
    assert code in {"disconnected", "client-refused", "bad-answer"}
    assert len(calls) == server.connections == 8


def test_a_gateway_that_wants_a_connection_for_each_request() -> None:
    issued()
    closing = b"Connection: close\r\nContent-Length:"
    with gateway(lambda request: good_gateway(request).replace(b"Content-Length:", closing)) as server:
        values = report(server)
    assert (values["passed"], values["unconfirmed"], server.connections, server.resumed) == (8, 0, 16, 0)


def test_a_gateway_that_hangs_up_after_the_first_answer() -> None:
    issued()
    with gateway(lambda request: good_gateway(request) if request.path == ROOT else None) as server:
        assert failures(server) == [("disconnected", 8, "GET /device")]
    assert server.connections == 8  # no second attempt


# Time and TLS --------------------------------------------------------------------------------------------------------


@pytest.fixture
def forever() -> Iterator[threading.Event]:
    """Until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_a_gateway_that_does_not_answer_in_time(forever: threading.Event) -> None:
    issued()

    def answer(request: Any) -> bytes:
        if request.subject["commonName"] in UUIDS[:3] and request.path == DEVICE:
            forever.wait(PATIENCE)
        return good_gateway(request)

    with gateway(answer) as server:
        found = failures(server, "--timeout", "4")
        forever.set()
    assert found == [("timeout", 3, "GET /device")]


def test_a_gateway_that_accepts_and_says_nothing_is_not_there(forever: threading.Event) -> None:
    issued()
    with plain_server(lambda _: forever.wait(PATIENCE)) as server:
        ran = probe(server, "--timeout", "0.3")
        forever.set()
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"error: no gateway answers at {server.place}: no TLS connection in time (8 devices ")


@pytest.mark.parametrize(
    ("talk", "seen"),
    [
        (lambda plain: plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n") or plain.recv(4096), "wrong version number"),
        (lambda plain: plain.recv(4096), "the gateway closed the connection during the handshake"),
    ],
    ids=["http", "closes"],
)
def test_what_speaks_no_tls(talk: Callable[[socket.socket], None], seen: str) -> None:
    issued()
    with plain_server(talk) as server:
        assert failures(server) == [("tls", 8, seen)]
    assert server.connections == 8


def test_a_gateway_of_another_protocol_version() -> None:
    issued()
    context = gateway_context(PKI)
    context.set_ciphers("AES256-SHA")  # RSA key exchange alone, which the gateway's P-256 key cannot do
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with tls_server(context) as server:
        [(code, count, detail)] = failures(server)
    assert (code, count) == ("tls", 8)
    assert "handshake failure" in detail


# Bundles that are damaged --------------------------------------------------------------------------------------------


ENCRYPTED = b"""-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00000000000000000000000000000000

AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
-----END EC PRIVATE KEY-----
"""


@pytest.mark.parametrize("file", ["pkey.pem", "client.pem", "root.crt"])
def test_a_missing_file_is_named(file: str) -> None:
    issued()
    bundle_file(2, file).unlink()
    with gateway() as server:
        assert failures(server) == [("bundle-damaged", 1, f"it has no {file}")]
    assert server.connections == 7


KEY_FAULT = "pkey.pem is no key that a device can use with client.pem"
DAMAGES: dict[str, tuple[str, bytes | str, str]] = {
    "another device's key": ("pkey.pem", "pkey.pem", "pkey.pem is not the key of client.pem"),
    "another device's certificate": ("client.pem", "client.pem", "pkey.pem is not the key of client.pem"),
    "no key": ("pkey.pem", b"nothing", KEY_FAULT),
    "an empty key": ("pkey.pem", b"", KEY_FAULT),
    "an encrypted key": ("pkey.pem", ENCRYPTED, KEY_FAULT),
    "a certificate as key": ("pkey.pem", "client.pem", KEY_FAULT),
    "a key as certificate": ("client.pem", "pkey.pem", KEY_FAULT),
    "no certificate": ("client.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", KEY_FAULT),
    "no root": ("root.crt", b"nothing", "root.crt is no certificate in PEM"),
    "a root that is no text": ("root.crt", b"\xff\0", "root.crt is no certificate in PEM"),
    "another root": ("root.crt", "client.pem", ""),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_bundle_is_found_before_it_connects(damage: str) -> None:
    issued()
    file, content, seen = DAMAGES[damage]
    replace(2, file, bundle_file(5, content).read_bytes() if isinstance(content, str) else content)
    with gateway() as server:
        values = report(server)
    [found] = values["failures"]
    expected = ("bundle-damaged", seen) if seen else ("server-untrusted", "unable to get local issuer certificate")
    assert (found["code"], found["detail"]) == expected
    assert (found["count"], found["examples"]) == (1, [UUIDS[2]])
    assert server.connections == 7 + (not seen)


def test_a_bundle_of_another_device_does_not_register_that_one() -> None:
    issued()
    for file in ("client.pem", "pkey.pem"):
        replace(2, file, bundle_file(5, file).read_bytes())
    with gateway() as server:
        assert failures(server) == [("bundle-damaged", 1, "client.pem is not for this device")]
    assert server.connections == 7


@pytest.mark.parametrize("stored_as", FORMATS)
def test_a_bundle_that_is_gone(stored_as: str) -> None:
    issued("--format", stored_as)
    gone = UUIDS[0] if stored_as == "dir" else f"part-00000.{stored_as}"
    (OUT / "bundles" / gone).rename("aside")
    with gateway() as server:
        [(code, count, detail)] = failures(server)
    assert (code, count) == ("bundle-damaged", 1 if stored_as == "dir" else 3)
    assert "cannot be opened" in detail
    assert server.connections == 8 - count


def test_a_part_that_is_cut_off_costs_what_it_lost_alone() -> None:
    issued("--format", "tar")
    part = OUT / "bundles" / "part-00001.tar"
    part.write_bytes(part.read_bytes()[: 512 * 20 + 100])
    with gateway() as server:
        ran = run("gateway", "probe", "issued", "--gateway", server.place, "-q", "--json")
    assert ran.code == 4
    values = json.loads(ran.out)
    [found] = values["failures"]
    assert found["code"] == "bundle-damaged"
    assert "part-00001.tar is cut off" in found["detail"]
    assert set(found["examples"]) < set(UUIDS[3:6])
    assert values["passed"] == 8 - found["count"] == server.connections


@pytest.mark.parametrize(
    "place", ["bundles/../../victim", "/etc", "bundles/", "../bundles/x", f"bundles/{UUIDS[1]}", "bundles/part-1.tar"]
)
def test_a_manifest_that_leads_elsewhere_is_not_believed(place: str) -> None:
    issued()
    manifest = OUT / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(f"bundles/{UUIDS[0]}", place))
    ran = run("gateway", "probe", "issued", "--gateway", "127.0.0.1:1")
    error = f"error: the output manifest names a bundle that cannot be: {place!r} for {UUIDS[0]!r}\n"
    assert (ran.code, ran.out, ran.err) == (2, "", error)


# Which devices -------------------------------------------------------------------------------------------------------


def test_a_sample_is_random_and_its_seed_takes_it_again() -> None:
    issued("--format", "tar")
    with gateway() as server:
        first = report(server, "--sample", "3")
    sampled = server.asked(DEVICE)
    assert (first["chosen"], first["issued"], len(set(sampled))) == (3, 8, 3)
    with gateway() as server:
        ran = probe(server, "--sample", "3", "--seed", str(first["seed"]))
    assert server.asked(DEVICE) == sampled
    assert f"\n  sample     of 8, --seed {first['seed']}\n" in ran.out
    seen = set()
    for seed in range(12):
        with gateway() as server:
            assert report(server, "--sample", "2", "--seed", str(seed))["seed"] == seed
        seen.update(server.asked(DEVICE))
    assert seen == set(UUIDS)


def test_a_sample_larger_than_the_run_is_the_run() -> None:
    issued()
    with gateway() as server:
        values = report(server, "--sample", "9")
    assert (values["chosen"], server.asked(DEVICE)) == (8, UUIDS)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--seed", "1"), "Error: --seed is the seed of a sample; say how large by --sample"),
        (("--sample", "0"), "Error: Invalid value for '--sample': 0 is not in the range x>=1."),
        (("--concurrency", "0"), "Error: Invalid value for '--concurrency': 0 is not in the range 1<=x<=1000."),
        (("--timeout", "0"), "Error: Invalid value for '--timeout': 0.0 is not in the range 0.1<=x<=60."),
    ],
)
def test_options_that_cannot_be(options: tuple[str, ...], error: str) -> None:
    issued()
    ran = run("gateway", "probe", "issued", "--gateway", "127.0.0.1:1", *options)
    assert (ran.code, ran.out, ran.err.splitlines()[-1]) == (2, "", error)


@pytest.mark.parametrize("stored_as", FORMATS)
def test_of_an_unfinished_run_what_is_committed_is_probed(stored_as: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), "--format", stored_as)
    with gateway() as server:
        ran = probe(server)
    assert (ran.code, server.asked(DEVICE)) == (0, UUIDS[:3])
    assert ran.err == "warning: the run in issued is unfinished: only what is committed can be probed\n"
    assert ran.out.startswith("3 of 3 devices probed at ")


def test_where_nothing_is_issued() -> None:
    issued()
    (OUT / "manifest.csv").write_text((OUT / "manifest.csv").read_text().splitlines(keepends=True)[0])
    ran = run("gateway", "probe", "issued", "--gateway", "127.0.0.1:1")
    assert (ran.code, ran.err) == (2, "error: no device is issued yet\nhint: resume the run first\n")
    ran = run("gateway", "probe", "nowhere", "--gateway", "127.0.0.1:1")
    assert (ran.code, ran.err) == (2, "error: nowhere holds no run: there is no run.json\n")


# The table -----------------------------------------------------------------------------------------------------------


def test_the_table_says_what_failed_and_why() -> None:
    issued()
    bundle_file(0, "pkey.pem").unlink()

    def answer(request: Any) -> bytes:
        if request.path == DEVICE and request.subject["commonName"] in UUIDS[2:]:
            return http(403, f"Device({request.subject['commonName']}) has been deleted".encode())
        return good_gateway(request)

    with gateway(answer) as server:
        ran = probe(server, "--concurrency", "1")
    assert ran.code == 4
    head, *blocks = ran.out.rstrip("\n").split("\n\n")
    assert head.splitlines()[0].endswith("/s): 7 failed")
    assert blocks == [
        "        1  bundle-damaged: the bundle cannot be used as it is stored\n"
        "           seen: it has no pkey.pem\n"
        f"           {UUIDS[0]}",
        "        6  deleted: the gateway says that the device was deleted: it is let in when it is off the deny list\n"
        "           seen: GET /device: 403, Device(…) has been deleted\n"
        + "".join(f"           {uuid}\n" for uuid in UUIDS[2:7])
        + "           … and 1 more",
    ]


def test_a_thousand_reasons_do_not_make_a_thousand_lines() -> None:
    assert issue(csv_bytes(device_uuids(60)), "--format", "parquet").code == 0
    random = Random(1)
    with gateway(lambda _: http(500, b"%d" % random.getrandbits(64))) as server:
        found = failures(server)
    assert len(found) == 51
    assert ("http-status", 10, "other reasons") in found
    assert sum(count for _, count, _ in found) == 60


# The project's own gateway -------------------------------------------------------------------------------------------


def test_gateway_serve_lets_every_device_in_and_again(tmp_path: Path) -> None:
    issued("--production", "--format", "tar")
    with serving(tmp_path / "data", pki=PKI) as server:
        for _ in range(2):  # at first contact, and when they are known
            values = report(server.host_port)
            assert (values["passed"], values["unconfirmed"], values["failures"]) == (8, 0, [])


def test_gateway_serve_refuses_what_it_should(tmp_path: Path) -> None:
    issued()
    other = make_pki(tmp_path / "other")
    with serving(tmp_path / "data", pki=PKI) as server:
        assert failures(server.host_port) == []
        assert server.ask("DELETE", f"/ota/devices/{UUIDS[0]}/?factory=acme&by-uuid=1").status < 300
        deleted = ("deleted", 1, f"GET {ROOT}: 403, Device(…) has been deleted")
        assert failures(server.host_port) == [deleted]
        OUT.rename("first")
        assert issue(csv_bytes(UUIDS)).code == 0  # the same devices with new keys
        changed = ("key-changed", 7, f"GET {ROOT}: 502, Key rotation is not supported")
        assert failures(server.host_port) == [deleted, changed]
        OUT.rename("second")
        assert issue(csv_bytes(UUIDS), "--pki", other).code == 0
        assert [found[0] for found in failures(server.host_port)] == ["server-untrusted"]
        for uuid in UUIDS:
            (OUT / "bundles" / uuid / "root.crt").write_bytes((PKI / "factory_ca.pem").read_bytes())
        assert failures(server.host_port) == [("client-refused", 8, "TLS alert: unknown ca")]


# What is left behind -------------------------------------------------------------------------------------------------


MANY = 300


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert issue(csv_bytes(device_uuids(MANY)), "--format", "parquet").code == 0
    made = Path("made")
    made.mkdir()
    for variable in ("TMPDIR", "TEMP", "TMP", "HOME"):
        monkeypatch.setenv(variable, str(made.absolute()))
    before = contents(tmp_path)
    with gateway() as server:
        descriptors = {number: os.readlink(f"/proc/self/fd/{number}") for number in open_descriptors()}
        assert failures(server) == []
        gc.collect()
        left = {number: where for number in open_descriptors() if (where := link(number)) not in descriptors.values()}
        assert [where for where in left.values() if "memfd" in where] == []
    assert server.asked(DEVICE) == device_uuids(MANY)
    assert contents(tmp_path) == before
    assert len(open_descriptors()) <= len(descriptors)


def test_no_port_is_kept_from_the_next_device() -> None:
    issued()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http(200, b"{}"))
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http(404, b"{}"))
            await reader.read()
        writer.close()

    with asyncio_server(gateway_context(PKI), talk) as place:
        assert failures(place) == []
        assert connections(place, state="06") == 0  # TIME_WAIT (include/net/tcp_states.h)


def open_descriptors() -> list[int]:
    return [int(number) for number in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{number}")]


def link(number: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""


def connections(place: str, *, state: str) -> int:
    """How many of this machine's connections to a place are in a state."""
    port = int(place.rpartition(":")[2])
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == state for row in rows)


def test_this_machines_limits_are_not_the_devices_faults() -> None:
    assert issue(csv_bytes(device_uuids(200)), "--format", "parquet").code == 0
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60)); sys.argv[0] = 'x'; "
    code += "from batch_issuer.cli import main; main()"
    with plain_server(lambda plain: plain.recv(4096) and plain.recv(4096)) as server:
        command = [sys.executable, "-c", code, "gateway", "probe", "issued", "--gateway", server.place]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    error = "this machine cannot open so many connections: Too many open files"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {error}\nhint: lower --concurrency\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_what_was_found(number: signal.Signals, forever: threading.Event) -> None:
    issued()
    reached = threading.Semaphore(0)

    def answer(request: Any) -> bytes:
        if request.subject["commonName"] in UUIDS[:3]:
            reached.release()
            forever.wait(PATIENCE)
        return good_gateway(request)

    with gateway(answer) as server:
        command = [*PROGRAM, "gateway", "probe", "issued", "--gateway", server.place, "--concurrency", "3", "--json"]
        with subprocess.Popen(
            [*command, "--timeout", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            for _ in range(3):
                assert reached.acquire(timeout=PATIENCE)
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
        forever.set()
    assert (process.returncode, err) == (130, "error: interrupted: 0 of 8 devices probed\n")
    values = json.loads(out)
    assert (values["interrupted"], values["probed"], values["chosen"]) == (True, 0, 8)


def test_without_the_extra_it_says_what_to_install() -> None:
    issued()
    code = "import sys; sys.modules['aiohttp'] = None; from batch_issuer.cli import main; sys.argv[0] = 'x'; main()"
    command = [sys.executable, "-c", code, "gateway", "probe", "issued"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr == (
        "error: this command needs aiohttp, which is not installed\nhint: pip install 'batch-issuer[gateway]'\n"
    )


# The benchmark -------------------------------------------------------------------------------------------------------


def test_the_benchmark_measures_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "_S_TIME_SECONDS", 1)
    scale = Scale(1000, 1, (1, 2))
    with temporary_workload(tmp_path) as workload:
        before = contents(workload.folder)
        one = handshakes.handshake_round(workload, scale)
        assert set(contents(workload.folder)) - set(before) <= {
            "devices-20.parquet", "report.json", "gateway-token", "gateway-errors"
        }  # fmt: skip
    probed, timed = one["gateway probe"], one["openssl s_time"]
    assert probed["of_s_time"] == probed["handshakes_per_second"] / timed["handshakes_per_second"] > 0
    measured = Results("2026-11-23", {}, {"handshakes": Section({"workers": [1, 2]}, [one])})
    assert len(list(goals.verdicts(measured))) == 1


def test_the_benchmarks_sentence() -> None:
    one = {
        "gateway probe": {"handshakes_per_second": 450.4, "of_s_time": 0.6},
        "openssl s_time": {"handshakes_per_second": 1750.0},
    }
    measured = Results("2026-11-23", MACHINE, {"handshakes": Section({"workers": [1, 2]}, [one])})
    assert tables.markdown(measured).splitlines()[0] == (
        "`gateway probe` against `gateway serve`, both on this machine: 450 devices/s, each with its own key, a full "
        "mutual-TLS handshake and two requests; 2 processes of `openssl s_time -new`, which make handshakes alone with "
        "one key: 1,750/s (ratio 0.60)."
    )
    assert list(goals.verdicts(measured)) == [
        "met     gateway probe: handshakes per second must be at least 300.00; it is 450.40 (450.40 to 450.40)"
    ]


def test_a_benchmark_whose_server_does_not_start(tmp_path: Path) -> None:
    with temporary_workload(tmp_path) as workload:
        (workload.pki / "tls-crt").unlink()
        with pytest.raises(RunFailedError, match="`batch-issuer gateway serve` has no gateway"):
            handshakes.handshake_round(workload, Scale(100, 1, (1,)))
    assert [path.name for path in tmp_path.iterdir()] == ["pki"]
