"""The client of the factory's API, against a real server on loopback that fails in every way a test wants."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
import threading
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from api_servers import TOKEN, ApiServer, Asked, Fault, Reply, Reset
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pki import CA_FALSE, DAY, NOW, SERVERS, key_pem, make_certificate, name, p256

from batch_issuer import __version__
from batch_issuer.errors import ApiError, BatchIssuerError, RefusedError
from batch_issuer.factory_api import devices, endpoint
from batch_issuer.factory_api.certificates import CertificateApi, FactoryCertificates, FactoryRequests
from batch_issuer.factory_api.devices import DeviceApi, Outcome, Registration
from batch_issuer.factory_api.endpoint import Endpoint
from batch_issuer.factory_api.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CERTS = "/ota/factories/acme/certs/"
TOKEN_HINTS = {
    401: "check the token: it is wrong, or has expired",
    403: "if the API does not say why: the token may lack the scope that this needs",
}
UNSURE = "it was not sent again, as it may have been done: look with `batch-issuer ca show --api` before you try again"
UUID = "0000abcd-beef-4cab-8def-0123456789ab"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as running:
        yield running


def api(server: ApiServer, token: str = TOKEN, **options: Any) -> CertificateApi:
    return CertificateApi(server.url, "acme", token, retry_seconds=(0.01, 0.01, 0.01), **options)


CALLS: dict[str, Callable[[CertificateApi], object]] = {
    "read": lambda client: client.read(),
    "user_id": lambda client: client.user_id(),
    "request": lambda client: client.request(first_time=True, tls=True, online_ca=True),
    "change": lambda client: client.change(tls="PEM"),
}
METHODS = {"read": f"GET {CERTS}", "user_id": "GET /ota/factories/acme/users/self/"}
METHODS |= {"request": f"POST {CERTS}", "change": f"PATCH {CERTS}"}


def failure(call: str, client: CertificateApi) -> ApiError:
    with pytest.raises(ApiError) as caught:
        CALLS[call](client)
    assert TOKEN not in f"{caught.value} {caught.value.hint} {caught.value!r} {caught.value.__cause__!r}"
    return caught.value


def told(server: ApiServer, call: str) -> str:
    """How an error names what was asked."""
    method, _, path = METHODS[call].partition(" ")
    return f"{method} {server.url}{path}"


def test_certificates_are_read(server: ApiServer) -> None:
    big = str(2**159 + 1)
    server.certificates = {
        "root-crt": "ROOT",
        "ca-crt": "CAS",
        "tls-crt": "TLS",
        "est-tls-crt": "EST",
        "disabled-ca-serials": ["17", big],
        "change-meta": {"created-by": "someone"},
        "unknown": 1,
    }
    expected = FactoryCertificates("ROOT", "TLS", "EST", "CAS", frozenset({17, int(big)}))
    assert api(server).read() == expected
    server.certificates = {"root-crt": "ROOT", "ca-crt": None, "tls-crt": "", "disabled-ca-serials": None}
    assert api(server).read() == FactoryCertificates("ROOT", None, None, None, frozenset())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(206),
        Reply(206, {"msg": "x"}),
        Reply(200, dict.fromkeys(("root-crt", "ca-crt", "tls-crt"))),
        Reply(200, {}),
    ],
)
def test_a_pki_that_is_not_configured(server: ApiServer, reply: Reply) -> None:
    server.fault = lambda _: reply
    assert api(server).read() is None


def test_every_request_says_who_asks(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.requests = {"ca-csr": "ONLINE", "tls-csr": "TLS"}
    for call in CALLS.values():
        call(api(server))
    assert [f"{asked.method} {asked.path}" for asked in server.asked] == list(METHODS.values())
    for asked in server.asked:
        assert asked.headers["OSF-TOKEN"] == TOKEN
        assert asked.headers["User-Agent"] == f"batch-issuer/{__version__}"
        assert ("Content-Type" in asked.headers) == bool(asked.body)
        assert asked.headers.get("Content-Type", "application/json") == "application/json"
    monkeypatch.setenv("TOKEN_HEADER", "X-Factory-Token")
    failure("read", api(server))
    assert server.asked[-1].headers["X-Factory-Token"] == TOKEN
    assert "OSF-TOKEN" not in server.asked[-1].headers


def test_requests_are_asked_for_one_by_one(server: ApiServer) -> None:
    server.requests = {"ca-csr": "ONLINE", "tls-csr": "TLS", "est-tls-csr": "EST"}
    assert api(server).request(first_time=True, tls=True, online_ca=True) == FactoryRequests("TLS", "ONLINE", None)
    body = {"first-time-init": True, "ca-csr": True, "est-tls-csr": False, "tls-csr": True}
    assert server.asked[-1].json() == body
    found = api(server).request(first_time=False, tls=False, online_ca=False, est=True)
    assert found == FactoryRequests(None, None, "EST")
    body = {"first-time-init": False, "ca-csr": False, "est-tls-csr": True, "tls-csr": False}
    assert server.asked[-1].json() == body


def test_a_request_that_is_not_answered_is_named(server: ApiServer) -> None:
    server.requests = {"ca-csr": "ONLINE"}
    error = failure("request", api(server))
    assert str(error) == f'{told(server, "request")} was answered 201 Created, expected a tls-csr, got: ["ca-csr"]'


def test_changes_are_sent_as_fioctl_sends_them(server: ApiServer) -> None:
    meta = {"created-by": "", "created-at": "", "updated-by": "", "updated-at": ""}
    api(server).change(root="R", tls="T", device_cas="C")
    assert server.asked[-1].json() == {"root-crt": "R", "tls-crt": "T", "ca-crt": "C", "change-meta": meta}
    api(server).change(est="E", revocations="L")
    assert server.asked[-1].json() == {"est-tls-crt": "E", "ca-revoke-crl": "L", "change-meta": meta}
    server.fault = lambda _: Reply(204)
    api(server).change(tls="T")


def test_the_user(server: ApiServer) -> None:
    assert api(server).user_id() == "5d0c"
    for wrong in ({}, {"polis-id": 7}, {"polis-id": ""}):
        server.fault = lambda _, wrong=wrong: Reply(200, wrong)  # type: ignore[misc]
        got = json.dumps(wrong.get("polis-id"))
        error = failure("user_id", api(server))
        assert str(error) == f"{told(server, 'user_id')} was answered 200 OK, expected a polis-id, got: {got}"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(400, {"msg": "no OU"}), "400 Bad Request: no OU"),
        (Reply(400, {"message": "no OU", "msg": 3}), "400 Bad Request: no OU"),
        (Reply(422, {"msg": "bad", "errors": ["a", {"b": 1}]}), '422 Unprocessable Entity: bad; a; {"b": 1}'),
        (Reply(409, {"errors": {"root-crt": "is set", "n": 2}}), "409 Conflict: root-crt: is set; n: 2"),
        (Reply(404, b"<html>\n<h1>gone</h1>"), "404 Not Found: <html> <h1>gone</h1>"),
        (Reply(404), "404 Not Found"),
        (Reply(418, ["short", "stout"]), '418 I\'m a Teapot: ["short", "stout"]'),
        (Reply(400, {"msg": "\x1b[2Jred\u202etxt\n\ttab"}), "400 Bad Request: \\x1b[2Jred\\u202etxt tab"),
        (Reply(400, b'{"msg": "\\ud800"}'), "400 Bad Request: \\ud800"),
        (Reply(400, b"\xff\xfe"), "400 Bad Request: ��"),
        (Reply(400, {"msg": "x" * 5000}), f"400 Bad Request: {'x' * 300}…"),
        (Reply(400, {"msg": f"token {TOKEN} has no scope"}), "400 Bad Request: token <token> has no scope"),
        (Reply(499, {"msg": "left"}), "499: left"),
    ],
)
def test_a_refusal_is_told_in_the_servers_words_made_harmless(
    server: ApiServer, call: str, reply: Reply, said: str
) -> None:
    server.fault = lambda _: reply
    error = failure(call, api(server))
    assert (str(error), error.status, error.exit_code) == (f"{told(server, call)} was answered {said}", reply.status, 1)
    assert error.hint is None
    assert len(server.asked) == 1


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_a_hint_about_it(server: ApiServer, call: str, status: int) -> None:
    server.fault = lambda _: Reply(status, {"msg": "no"})
    assert failure(call, api(server)).hint == TOKEN_HINTS[status]
    wrong = "tok-of-somebody-else"
    server.fault = lambda _: Reply(status, {"msg": f"no {wrong}"})
    error = failure(call, api(server, wrong))
    assert (wrong in str(error), wrong in str(error.hint)) == (False, False)


@pytest.mark.parametrize("call", CALLS)
def test_a_token_of_another_is_refused_and_not_shown(server: ApiServer, call: str) -> None:
    error = failure(call, api(server, "tok-of-somebody-else"))
    assert error.status == 401
    assert "tok-of-somebody-else" not in f"{error}{error.hint}"


@pytest.mark.parametrize("call", CALLS)
def test_no_redirect_is_followed(server: ApiServer, call: str) -> None:
    with ApiServer() as other:
        for status in (301, 302, 303, 307, 308):
            server.fault = lambda _, status=status: Reply(status, None, {"Location": other.url + CERTS})  # type: ignore[misc]
            error = failure(call, api(server))
            redirect = "a redirect, which is not followed: the token would travel with it"
            assert str(error) == f"{told(server, call)} was answered {status}, {redirect}"
        assert other.asked == []


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("body", [b"<html>please log in</html>", b"{", b'{"a": 1}x', b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_no_success(server: ApiServer, call: str, body: bytes) -> None:
    server.fault = lambda _: Reply(200, body)
    error = failure(call, api(server))
    assert str(error).startswith(f"{told(server, call)} was answered 200 OK, expected JSON, got: ")
    assert len(str(error)) < 500
    assert error.hint == "is this the address of a factory's API?"


@pytest.mark.parametrize("call", ["read", "user_id", "request"])
@pytest.mark.parametrize(("body", "shown"), [([1], "[1]"), (7, "7"), (None, "nothing")])
def test_json_of_another_type(server: ApiServer, call: str, body: object, shown: str) -> None:
    server.fault = lambda _: Reply(200, body)
    expected = "JSON" if body is None else "a JSON object"
    answered = f"{told(server, call)} was answered 200 OK, expected {expected}, got: {shown}"
    assert str(failure(call, api(server))) == answered


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("root-crt", 3, "root-crt to be text"),
        ("ca-crt", ["a"], "ca-crt to be text"),
        ("disabled-ca-serials", "17", "disabled-ca-serials to be a list of numbers in text"),
        ("disabled-ca-serials", [17], "disabled-ca-serials to be a list of numbers in text"),
        ("disabled-ca-serials", ["-1"], "disabled-ca-serials to be a list of numbers in text"),
        ("disabled-ca-serials", ["1" * 61], "disabled-ca-serials to be a list of numbers in text"),
        ("disabled-ca-serials", {}, "disabled-ca-serials to be a list of numbers in text"),
    ],
)
def test_fields_of_another_type(server: ApiServer, field: str, value: object, expected: str) -> None:
    server.certificates = {"tls-crt": "T", field: value}
    error = failure("read", api(server))
    got = json.dumps(value)
    assert str(error) == f"{told(server, 'read')} was answered 200 OK, expected {expected}, got: {got}"


@pytest.mark.parametrize("call", CALLS)
def test_answers_without_end_are_not_read(server: ApiServer, call: str) -> None:
    server.fault = lambda _: Reply(200, b" " * (5 << 20))
    error = failure(call, api(server))
    assert str(error) == f"{told(server, call)} was answered with more than 4 MiB, more than any answer needs"


def test_questions_are_asked_again(server: ApiServer) -> None:
    server.certificates = {"tls-crt": "T"}
    server.faults.extend([Reply(500), Reset(processed=False), Reply(503, b"busy")])
    found = api(server).read()
    assert found is not None
    assert (found.tls, len(server.asked)) == ("T", 4)


@pytest.mark.parametrize("call", ["read", "user_id"])
def test_questions_are_not_asked_for_ever(server: ApiServer, call: str) -> None:
    server.fault = lambda _: Reply(502, {"msg": "bad gateway"})
    error = failure(call, api(server))
    assert str(error) == f"{told(server, call)} was answered 502 Bad Gateway: bad gateway"
    assert (error.status, error.hint, len(server.asked)) == (502, None, 4)


@pytest.mark.parametrize("call", ["request", "change"])
@pytest.mark.parametrize("fault", [Reply(500, {"msg": "oops"}), Reset(processed=False), Reset(processed=True)])
def test_changes_are_sent_once(server: ApiServer, call: str, fault: Fault) -> None:
    server.requests = {"ca-csr": "ONLINE", "tls-csr": "TLS"}
    server.faults.append(fault)
    error = failure(call, api(server))
    wrong = " was answered 500 Internal Server Error: oops" if isinstance(fault, Reply) else ": no whole answer came"
    assert (str(error), error.hint) == (told(server, call) + wrong, UNSURE)
    assert len(server.asked) == 1
    CALLS[call](api(server))
    assert len(server.asked) == 2


@pytest.mark.parametrize("call", CALLS)
def test_nobody_listens(call: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure(call, CertificateApi(f"http://127.0.0.1:{port}", "acme", TOKEN, retry_seconds=()))
    method, _, path = METHODS[call].partition(" ")
    assert str(error) == f"{method} http://127.0.0.1:{port}{path}: no connection: Connection refused"
    assert error.status is None


@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_says_nothing(server: ApiServer, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_REQUEST_SECONDS", 0.25)
    server.hold()
    error = failure(call, CertificateApi(server.url, "acme", TOKEN, retry_seconds=()))
    assert str(error) == f"{told(server, call)}: no answer within 0.25 s"
    assert error.hint == (UNSURE if call in {"request", "change"} else None)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b""])
def test_what_is_no_whole_http(said: bytes) -> None:
    def answer() -> None:
        connection, _ = plain.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as plain:
        url = f"http://127.0.0.1:{plain.getsockname()[1]}"
        thread = threading.Thread(target=answer)
        thread.start()
        error = failure("read", CertificateApi(url, "acme", TOKEN, retry_seconds=()))
        thread.join(30)
    assert str(error) == f"GET {url}{CERTS}: no whole answer came"


def server_trust(folder: Path, host: str = "127.0.0.1") -> tuple[ssl.SSLContext, Path]:
    """A server's certificate for an address, by a CA of its own."""
    ca_key, key = p256(), p256()
    ca_name = name("API-CA", ())
    ca = make_certificate(ca_name, ca_key, ca_name, ca_key, key_identifier=b"\x01" * 20)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    leaf = make_certificate(
        name("api", ()),
        key,
        ca_name,
        ca_key,
        window=(NOW - DAY, NOW + DAY),
        constraints=CA_FALSE,
        usage=("digital_signature",),
        purposes=SERVERS,
        extensions=[(alternative, False), (x509.AuthorityKeyIdentifier(b"\x01" * 20, None, None), False)],
    )
    (folder / "api-ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    (folder / "api.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + key_pem(key))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "api.pem")
    return context, folder / "api-ca.pem"


def test_tls_with_a_ca_of_ones_own(tmp_path: Path) -> None:
    context, ca_file = server_trust(tmp_path)
    with ApiServer(trust=context) as server:
        assert server.url.startswith("https://")
        for call in ("read", "user_id", "change"):
            CALLS[call](api(server, ca_file=ca_file))
        asked = len(server.asked)
        for call in CALLS:
            error = failure(call, api(server))
            reason = "unable to get local issuer certificate"
            assert str(error) == f"{told(server, call)}: the server's TLS is not trusted: {reason}"
            assert error.hint == "if its CA is one of your own, name that CA's certificate by --api-ca"
        assert len(server.asked) == asked


def test_a_certificate_for_another_server(tmp_path: Path) -> None:
    context, ca_file = server_trust(tmp_path, host="127.0.0.2")
    with ApiServer(trust=context) as server:
        error = failure("read", api(server, ca_file=ca_file))
        reason = "IP address mismatch, certificate is not valid for '127.0.0.1'"
        assert str(error) == f"{told(server, 'read')}: the server's TLS is not trusted: {reason}"
        assert server.asked == []


def test_a_server_without_tls_is_no_https_server(server: ApiServer) -> None:
    url = server.url.replace("http:", "https:")
    error = failure("read", CertificateApi(url, "acme", TOKEN, retry_seconds=()))
    assert "the server's TLS is not trusted" in str(error)
    assert server.asked == []


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("nothing\n")
    with pytest.raises(RefusedError, match=r"/empty holds no certificate in PEM$"):
        Endpoint.of("https://api.example.com", TOKEN, ca_file=tmp_path / "empty")
    with pytest.raises(RefusedError, match=r"/nowhere cannot be read: No such file or directory$"):
        Endpoint.of("https://api.example.com", TOKEN, ca_file=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://api.foundries.io", "https://api.foundries.io"),
        ("https://api.foundries.io/", "https://api.foundries.io"),
        ("https://api.example.com:8443/v1/", "https://api.example.com:8443/v1"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses(url: str, base: str) -> None:
    assert Endpoint.of(url, TOKEN).url == base


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("api.foundries.io", "api.foundries.io"),
        ("ftp://api.foundries.io", "ftp://api.foundries.io"),
        ("HTTPS://api.foundries.io", "HTTPS://api.foundries.io"),
        ("https://ada:secret@api.foundries.io", "https://…@api.foundries.io"),
        ("https://api.foundries.io?token=secret", "https://api.foundries.io?…"),
        ("https://api.foundries.io/#secret", "https://api.foundries.io/?…"),
        ("https://api.foundries.io:70000", "https://api.foundries.io:70000"),
        ("https://", "https://"),
        ("https://a b", "https://a b"),
        ("https://a\n", "https://a\n"),
        ("https://a\\@b", "https://…@b"),
        ("https://bücher.example", "https://bücher.example"),
        ("", ""),
    ],
)
def test_addresses_that_are_none(url: str, shown: str) -> None:
    with pytest.raises(RefusedError) as caught:
        CertificateApi(url, "acme", TOKEN)
    sentence = f"the address of the factory's API must be https://HOST[:PORT][/PATH] and no more, got {shown!r}"
    assert (str(caught.value), caught.value.hint) == (sentence, "such as https://api.foundries.io")


@pytest.mark.parametrize(
    "host",
    ["api.foundries.io", "192.168.1.2:8080", "127.0.0.1.example.com", "[::2]", "localhost.evil.com", "1270.0.0.1"],
)
def test_the_token_never_travels_in_the_clear(host: str) -> None:
    with pytest.raises(RefusedError) as caught:
        CertificateApi(f"http://{host}", "acme", TOKEN)
    assert (
        str(caught.value) == f"the address of the factory's API is 'http://{host}': the token would travel in the clear"
    )


@pytest.mark.parametrize("token", ["", " ", "a b", "tök", "a\r\nX-Evil: 1", "a\n"])
def test_tokens_that_no_header_can_carry(token: str) -> None:
    with pytest.raises(RefusedError) as caught:
        CertificateApi("https://api.foundries.io", "acme", token)
    assert str(caught.value) == "the token for the factory's API must be printable ASCII without spaces; it is not"


@pytest.mark.parametrize("header", ["X Y", "X:", "X\r\nY", "x" * 65, "ä"])
def test_a_header_name_that_is_none(header: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_HEADER", header)
    with pytest.raises(RefusedError, match=r"^\$TOKEN_HEADER must be the name of an HTTP header, got "):
        CertificateApi("https://api.foundries.io", "acme", TOKEN)


@pytest.mark.parametrize("factory", ["", ".", "..", "a\nb"])
def test_factories_that_are_none(factory: str) -> None:
    with pytest.raises(RefusedError, match=r"is no name of a factory$"):
        CertificateApi("https://api.foundries.io", factory, TOKEN)


def test_a_factorys_name_cannot_lead_elsewhere(server: ApiServer) -> None:
    error = failure("read", CertificateApi(server.url, "../a c?x#y", TOKEN))
    assert error.status == 404
    assert server.asked[0].path == "/ota/factories/..%2Fa%20c%3Fx%23y/certs/"


def test_the_token_is_not_shown() -> None:
    checked = Endpoint.of("https://api.foundries.io", TOKEN)
    assert repr(checked) == "Endpoint(url='https://api.foundries.io', header='OSF-TOKEN')"
    client = CertificateApi("https://api.foundries.io", "acme", TOKEN)
    assert TOKEN not in repr(client)


class FakePace(Pace):
    """A pace whose time goes by only when somebody rests."""

    def __init__(self, rate: float = 1000.0) -> None:
        self.time = 0.0
        self.rests: list[float] = []
        super().__init__(rate)

    def now(self) -> float:
        return self.time

    async def rest(self, seconds: float) -> bool:
        self.rests.append(seconds)
        self.time += seconds
        await asyncio.sleep(0)
        return not self.stopped


async def turns(pace: FakePace, count: int) -> list[float]:
    """When each of so many turns came, all asked for at once."""
    times = []

    async def one() -> None:
        if await pace.turn():
            times.append(pace.time)

    await asyncio.gather(*(one() for _ in range(count)))
    return times


@pytest.mark.parametrize("rate", [0.5, 20.0, 5000.0])
def test_turns_come_at_the_rate(rate: float) -> None:
    times = asyncio.run(turns(FakePace(rate), 50))
    assert times == pytest.approx([index / rate for index in range(50)])


def test_what_is_late_is_made_up_for_only_a_little() -> None:
    async def late_turns() -> list[float]:
        pace = FakePace(100.0)
        await turns(pace, 10)
        pace.time = 1000.0
        return await turns(pace, 30)

    assert asyncio.run(late_turns()) == pytest.approx([1000.0] * 11 + [1000.01 + index / 100 for index in range(19)])


def test_a_pause_holds_everybody_up() -> None:
    async def paused_turns() -> list[float]:
        pace = FakePace(10.0)
        await turns(pace, 3)
        pace.time = 100.0
        pace.pause(60)
        pace.pause(5)
        return await turns(pace, 3)

    assert asyncio.run(paused_turns()) == pytest.approx([160.0, 160.1, 160.2])


def test_after_a_stop_nobody_asks() -> None:
    pace = FakePace()
    pace.stop()
    assert asyncio.run(turns(pace, 5)) == []


def test_a_stop_wakes_who_waits() -> None:
    async def wait() -> list[bool]:
        pace = Pace(0.001)
        assert await pace.turn()
        waiting = [asyncio.create_task(pace.turn()) for _ in range(3)]
        resting = asyncio.create_task(pace.rest(1e6))
        await asyncio.sleep(0.01)
        pace.stop()
        return list(await asyncio.wait_for(asyncio.gather(*waiting, resting), 30))

    assert asyncio.run(wait()) == [False] * 4


@pytest.fixture(scope="module")
def device_certificate() -> str:
    key = p256()
    certificate = make_certificate(name(UUID, ("acme",)), key, name("fio-x", ("acme",)), p256(), constraints=None)
    return certificate.public_bytes(Encoding.PEM).decode()


def create(
    server: ApiServer,
    certificate: str,
    *,
    pace: FakePace | None = None,
    name: str | None = None,
    group: str | None = None,
) -> Registration | None:
    async def send() -> Registration | None:
        async with DeviceApi(Endpoint.of(server.url, TOKEN), pace or FakePace(), connections=2) as client:
            return await client.create(certificate, name=name, group=group)

    return asyncio.run(send())


def test_a_device_is_created_and_then_there(server: ApiServer, device_certificate: str) -> None:
    assert create(server, device_certificate, name="one", group="g") == Registration(Outcome.CREATED, 201)
    [asked] = server.asked
    assert asked.json() == {"client.pem": device_certificate, "name": "one", "group": "g"}
    assert (asked.method, asked.path, asked.headers["OSF-TOKEN"]) == ("PUT", "/ota/devices/", TOKEN)
    assert (server.devices[UUID].name, server.devices[UUID].group) == ("one", "g")
    assert create(server, device_certificate) == Registration(Outcome.EXISTED, 200)
    assert server.asked[-1].json() == {"client.pem": device_certificate}


@pytest.mark.parametrize(
    ("reply", "outcome", "message"),
    [
        (Reply(201), Outcome.CREATED, ""),
        (Reply(202, {}), Outcome.CREATED, ""),
        (Reply(204), Outcome.CREATED, ""),
        (Reply(200), Outcome.EXISTED, ""),
        (Reply(409, {"msg": "taken\n"}), Outcome.CONFLICT, "taken"),
        (Reply(400, {"message": f"no group {TOKEN}"}), Outcome.REFUSED, "no group <token>"),
        (Reply(404, {"msg": "no such group"}), Outcome.REFUSED, "no such group"),
        (Reply(413, b"<html>"), Outcome.REFUSED, "<html>"),
        (Reply(206, {"msg": "no PKI"}), Outcome.REFUSED, "no PKI"),
    ],
)
def test_outcomes(server: ApiServer, device_certificate: str, reply: Reply, outcome: Outcome, message: str) -> None:
    server.faults.append(reply)
    assert create(server, device_certificate) == Registration(outcome, reply.status, message)
    assert len(server.asked) == 1


def test_server_errors_are_tried_again(server: ApiServer, device_certificate: str) -> None:
    server.faults.extend([Reply(500), Reply(503)])
    pace = FakePace()
    assert create(server, device_certificate, pace=pace) == Registration(Outcome.CREATED, 201)
    assert [rest for rest in pace.rests if rest >= 0.5] == [0.5, 1.0]


@pytest.mark.parametrize(
    "fault", [Reply(500, {"msg": "oops"}), Reply(429, {"msg": "oops"}), Reply(408, {"msg": "oops"})]
)
def test_server_errors_are_not_tried_for_ever(server: ApiServer, device_certificate: str, fault: Reply) -> None:
    server.fault = lambda _: fault
    assert create(server, device_certificate) == Registration(Outcome.FAILED, fault.status, "oops")
    assert len(server.asked) == len(devices.RETRY_SECONDS) + 1 == 5


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("after", "seconds"),
    [("7", 7.0), ("0", 0.0), ("99999999999999", 300.0), ("soon", 0.0), ("", 0.0), ("-5", 0.0), ("7" * 5000, 300.0)],
)
def test_a_busy_server_says_when(
    server: ApiServer, device_certificate: str, status: int, after: str, seconds: float
) -> None:
    server.faults.append(Reply(status, None, {"Retry-After": after}))
    pace = FakePace()
    assert create(server, device_certificate, pace=pace) == Registration(Outcome.CREATED, 201)
    assert pace.time == pytest.approx(max(seconds, 0.5))


@pytest.mark.parametrize(("ahead", "least", "most"), [(60, 30.0, 60.0), (-60, 0.5, 0.5), (10**6, 300.0, 300.0)])
def test_a_busy_server_says_when_as_a_date(
    server: ApiServer, device_certificate: str, ahead: int, least: float, most: float
) -> None:
    date = format_datetime(NOW + ahead / 86400 * DAY, usegmt=True)
    server.faults.append(Reply(429, None, {"Retry-After": date}))
    pace = FakePace()
    assert create(server, device_certificate, pace=pace) == Registration(Outcome.CREATED, 201)
    assert ahead == 60 or least <= pace.time <= most  # NOW is when the tests began


def test_a_lost_answer_to_what_was_done(server: ApiServer, device_certificate: str) -> None:
    server.faults.append(Reset(processed=True))
    assert create(server, device_certificate) == Registration(Outcome.EXISTED, 200)
    assert server.created == [UUID]
    assert len(server.asked) == 2


def test_a_lost_answer_and_then_a_conflict_is_a_conflict_that_says_so(
    server: ApiServer, device_certificate: str
) -> None:
    server.repeated = 409
    server.faults.append(Reset(processed=True))
    message = "is there already; an earlier attempt got no answer, so this may be its doing"
    assert create(server, device_certificate) == Registration(Outcome.CONFLICT, 409, message)
    assert create(server, device_certificate) == Registration(Outcome.CONFLICT, 409, "is there already")


def test_answers_that_never_come(server: ApiServer, device_certificate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_REQUEST_SECONDS", 0.2)
    server.hold()
    message = f"PUT {server.url}/ota/devices/: no answer within 0.2 s"
    assert create(server, device_certificate) == Registration(Outcome.FAILED, None, message)
    assert len(server.asked) == 5
    server.release()
    server.fault = lambda _: Reset(processed=False)
    message = f"PUT {server.url}/ota/devices/: no whole answer came"
    found = create(server, device_certificate)
    assert found is not None
    assert found.message in {message, f"{message}: Connection reset by peer"}


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(401, {"msg": "bad token"}), " was answered 401 Unauthorized: bad token"),
        (Reply(403, {"msg": "no scope"}), " was answered 403 Forbidden: no scope"),
        (Reply(200, b"<html>log in"), " was answered 200 OK, expected JSON, got: <html>log in"),
        (Reply(404, b"<html>"), " was answered 404 Not Found, expected JSON, got: <html>"),
        (Reply(405), " was answered 405 Method Not Allowed, expected JSON, got: nothing"),
        (
            Reply(307, None, {"Location": "http://127.0.0.1:1/"}),
            " was answered 307, a redirect, which is not followed: the token would travel with it",
        ),
        (Reply(201, b" " * (5 << 20)), " was answered with more than 4 MiB, more than any answer needs"),
    ],
)
def test_what_would_befall_every_device_is_an_error(
    server: ApiServer, device_certificate: str, reply: Reply, said: str
) -> None:
    server.faults.append(reply)
    with pytest.raises(ApiError) as caught:
        create(server, device_certificate)
    assert str(caught.value) == f"PUT {server.url}/ota/devices/{said}"
    assert len(server.asked) == 1


def test_no_connection_is_an_error_after_all_tries(device_certificate: str) -> None:
    with ApiServer() as server:
        pass
    pace = FakePace()
    with pytest.raises(ApiError) as caught:
        create(server, device_certificate, pace=pace)
    assert str(caught.value) == f"PUT {server.url}/ota/devices/: no connection: Connection refused"
    assert [rest for rest in pace.rests if rest >= 0.5] == [0.5, 1.0, 2.0, 4.0]


def test_a_stop_between_two_tries(server: ApiServer, device_certificate: str) -> None:
    pace = FakePace()

    def fail_and_stop(_: Asked) -> Fault:
        pace.stop()
        return Reply(500)

    server.fault = fail_and_stop
    assert create(server, device_certificate, pace=pace) is None
    assert len(server.asked) == 1


def test_a_private_key_never_leaves(server: ApiServer, device_certificate: str) -> None:
    key = key_pem(p256()).decode()
    for certificate, named, group in (
        (device_certificate + key, None, None),
        (device_certificate, key, None),
        (device_certificate, None, key),
    ):
        with pytest.raises(BatchIssuerError) as caught:
            create(server, certificate, name=named, group=group)
        message = "what was to be sent to the factory's API holds a private key; nothing was sent"
        assert (str(caught.value), server.asked) == (message, [])
