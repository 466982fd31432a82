"""`gateway serve` as a program: its folder, its addresses, its life and end, and a PKI directory that it follows."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import ssl
import stat
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fioctl import Owner
from gateways import PATIENCE, TOKEN, command, serving, start
from handshakes import Ca, anybody, ask, ca_of, connected, new_device
from judges import run
from pki import EXPIRED, NOT_YET, NOW, SERVERS, VALID, make_ca_dir, make_certificate, make_pki, name, p256

from batch_issuer.ceremony.create import create_pki

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CERTS = "/ota/factories/acme/certs/"
REHEARSAL = (
    "warning: this is a stand-in of a factory's servers, for REHEARSAL ONLY: one token, keys in the clear, plain HTTP; "
    "never trust it with real devices"
)


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def refusal(data: Path, *extra: str, factory: str = "acme", token: str = TOKEN, pki: Path | None = None) -> list[str]:
    """What a server says that does not start; the warning aside."""
    done = subprocess.run(
        command(data, factory, token, pki, *extra),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    return [line for line in done.stderr.splitlines() if line != REHEARSAL]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Start and end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_is_and_ends_when_told(tmp_path: Path, number: int) -> None:
    server = start(tmp_path / "data", "acme", TOKEN, make_pki(tmp_path / "pki"))
    assert server.announcements == [{"api": server.api, "gateway": server.gateway}]
    assert server.api.startswith("http://127.0.0.1:")
    assert server.wait_gateway().startswith("https://127.0.0.1:")
    with connected(server, anybody(certificate(tmp_path / "pki/factory_ca.pem"))):  # which hinders nobody
        assert server.stop(number) == 0
    assert server.errors == f"{REHEARSAL}\n"


def test_the_gateway_comes_up_with_its_certificate(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert server.announcements == [{"api": server.api, "gateway": None}]
        owner = Owner(server)
        csrs = owner.post(first_time_init=True, tls_csr=True)
        owner.change({"root-crt": owner.root.public_bytes(Encoding.PEM).decode()})
        assert len(server.announcements) == 1
        tls = owner.signed(csrs["tls-csr"])
        owner.change({"tls-crt": tls.public_bytes(Encoding.PEM).decode()})
        assert ask(server, anybody(owner.root)).both == (403, "no client certificate provided")
        assert [line["gateway"] for line in server.announcements] == [None, server.gateway]
        assert {line["api"] for line in server.announcements} == {server.api}


def test_ports_and_host_are_those_that_were_asked_for(tmp_path: Path) -> None:
    with socket.socket() as api, socket.socket() as gateway:
        for sock in (api, gateway):
            sock.bind(("127.0.0.1", 0))
        ports = [str(sock.getsockname()[1]) for sock in (api, gateway)]
    pki = make_pki(tmp_path / "pki")
    options = ("--api-port", ports[0], "--gateway-port", ports[1], "--host", "localhost")
    with serving(tmp_path / "data", "acme", TOKEN, pki, *options) as server:
        assert (server.api.split(":")[2], server.wait_gateway().split(":")[2]) == (ports[0], ports[1])
        assert server.errors.count("warning:") == 1
    # And at once again.
    with serving(tmp_path / "data", "acme", TOKEN, pki, *options) as server:
        assert server.api.split(":")[2] == ports[0]


def test_it_warns_when_others_can_reach_it(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "acme", TOKEN, None, "--host", "0.0.0.0") as server:  # noqa: S104 - that is the point
        server.wait_errors("IT LISTENS BEYOND THIS MACHINE")
    assert server.errors.splitlines() == [
        REHEARSAL,
        "warning: IT LISTENS BEYOND THIS MACHINE: whoever reaches 0.0.0.0 can read the token off the network and "
        "register devices; stop it unless that network is yours alone",
    ]


def test_a_request_log_has_no_token(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki")
    with serving(tmp_path / "data", "acme", "s3cret-t0ken", pki, "-v") as server:
        assert server.ask("GET", f"{CERTS}?token=s3cret-t0ken").status == 200
        assert server.ask("GET", "/a%0Ab", token="wr0ng").status == 401  # noqa: S106 - a wrong one
        device = new_device(ca_of(pki))
        assert device.ask(server, certificate(pki / "factory_ca.pem")).status == 200
        server.wait_errors("GET /device 200 ")
    lines = [line for line in server.errors.splitlines() if not line.startswith("warning:")]
    assert [line.rsplit(" ", 2)[0] for line in lines] == [f"GET {CERTS} 200", "GET /a%0Ab 401", "GET /device 200"]
    assert "s3cret" not in server.errors
    assert "wr0ng" not in server.errors


# The folder


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_folder_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        with serving(tmp_path / "data") as server:
            Owner(server).create()
            found = modes(tmp_path / "data")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert {name: mode for name, mode in found.items() if (tmp_path / "data" / name).is_dir()} == {
        "keys": 0o700,
        "tuf": 0o700,
    }
    assert {mode for name, mode in found.items() if name.endswith(".key")} == {0o400}
    assert {mode for name, mode in found.items() if "sqlite" in name} == {0o600}
    assert found["tuf/1.root.json"] == 0o644
    kinds = sorted(name.split("/")[1].rsplit("-", 1)[0] for name in found if name.startswith("keys/"))
    assert kinds == ["online-ca", "tls"]


def test_one_server_at_a_time_has_a_folder(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert refusal(tmp_path / "data") == [
            f"error: another server has {tmp_path}/data now",
            "hint: --data names a folder for each server",
        ]
        assert server.ask("GET", CERTS).status == 206
    with serving(tmp_path / "data") as server:
        assert server.ask("GET", CERTS).status == 206


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/thesis.txt").write_text("forty-two")
    assert refusal(tmp_path / "data") == [
        f"error: the server's folder {tmp_path}/data must be its own or empty; it holds something else",
        "hint: --data names a folder that does not exist yet",
    ]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["thesis.txt"]
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file")[-1].endswith("is a file.")


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "data/gateway.sqlite"
    path.parent.mkdir()
    path.write_bytes(
        b"not a database at all, but long enough to be read as the header of one, which has 100 octets" * 2
    )
    assert refusal(tmp_path / "data") == [
        f"error: {path} must be a database of this command; it cannot be used: file is not a database"
    ]
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs (x)")
    assert refusal(tmp_path / "data") == [f"error: {path} must be a database of this command; it is another program's"]


def test_a_database_of_another_version_is_left_alone(tmp_path: Path) -> None:
    with serving(tmp_path / "data"):
        pass
    path = tmp_path / "data/gateway.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    assert refusal(tmp_path / "data") == [f"error: {path} must have version 1; it has 99"]


def test_a_folder_is_of_one_factory(tmp_path: Path) -> None:
    with serving(tmp_path / "data"):
        pass
    assert refusal(tmp_path / "data", factory="other") == [
        f"error: {tmp_path}/data/gateway.sqlite must be of the factory 'other'; it is of 'acme'",
        "hint: --data names the folder of one factory's server",
    ]


def test_the_pki_survives_kill_9_at_any_time(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        owner = Owner(server)
        owner.create()
        owner.order(x509.ReasonFlags.certificate_hold, owner.local)
        shown = owner.get()
        server.kill()
    with serving(tmp_path / "data") as server:
        owner.server = server
        assert owner.get() == shown
        assert len(server.announcements) == 1  # the gateway is up from the first
        device = new_device(Ca(owner.local.certificate, owner.local.key))
        assert device.ask(server, owner.root).status == 403  # of a disabled CA
        owner.rotate_tls()
        server.kill()


def test_a_kill_between_the_requests_and_the_certificates_loses_no_key(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        owner = Owner(server)
        csrs = owner.post(first_time_init=True, tls_csr=True)
        server.kill()
    with serving(tmp_path / "data") as server:
        owner.server = server
        tls = owner.signed(csrs["tls-csr"]).public_bytes(Encoding.PEM).decode()
        owner.change({"root-crt": owner.root.public_bytes(Encoding.PEM).decode(), "tls-crt": tls})
        assert ask(server, anybody(owner.root)).status == 403


# What is refused at the start


def test_a_key_that_is_gone_is_said(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        Owner(server).create()
    [key] = (tmp_path / "data/keys").glob("tls-*.key")
    kept = key.read_bytes()
    replace(key, b"nothing")
    said = "error: the gateway's certificate, key or device CAs cannot be used: OpenSSL says "
    assert refusal(tmp_path / "data")[0].startswith(said)
    replace(key, None)
    assert refusal(tmp_path / "data") == [
        f"error: the key of the gateway's certificate, tls-crt, cannot be read: {key}: No such file or directory",
        "hint: put the file back, or begin anew in another --data: the key was made here and is nowhere else",
    ]
    replace(key, kept)
    with serving(tmp_path / "data") as server:
        assert server.gateway is not None


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for option in ("--api-port", "--gateway-port"):
            assert refusal(tmp_path / "data", option, port) == [
                f"error: 127.0.0.1, port {port} cannot be had: Address already in use",
                f"hint: {option} 0 is any free",
            ]


def test_a_host_that_is_not_here_is_said(tmp_path: Path) -> None:
    said = refusal(tmp_path / "data", "--host", "nowhere.invalid")
    assert said == ["error: --host must be a name or an address of this machine; 'nowhere.invalid' is none"]
    [said_first, _] = refusal(tmp_path / "data", "--host", "192.0.2.1")
    assert said_first == "error: 192.0.2.1, port 0 cannot be had: Cannot assign requested address"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gateway-host", "gw_1"), "a gateway's host must be labels of 1 to 63 letters, digits and inner hyphens"),
        (("--gateway-host", "gw", "--ostree-host", "*.x"), "an ostree host must be labels of 1 to 63 letters, digits"),
        (("--ostree-host", "x"), "an ostree host goes into the gateway's certificate; --gateway-host comes first"),
        (
            ("--gateway-host", "g" * 60 + ".test"),
            "a gateway's host, its certificate's common name, must have at most 64",
        ),
    ],
)
def test_hosts_that_are_none_are_refused(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    [line] = refusal(tmp_path / "data", *options)
    assert line.startswith(f"error: {said}")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("factory", ["", "x" * 65, "a\nb"])
def test_a_factory_that_no_certificate_can_name_is_refused(tmp_path: Path, factory: str) -> None:
    [line] = refusal(tmp_path / "data", factory=factory)
    assert line.startswith("error: a factory's name must have ")
    assert not (tmp_path / "data").exists()


def test_a_token_must_be_there(tmp_path: Path) -> None:
    said = refusal(tmp_path / "data", token="")
    assert said[0] == "error: the factory's API needs a token, and there is none"
    assert refusal(tmp_path / "data", token="two words") == [  # noqa: S106 - not one
        "error: the token for the factory's API must be printable ASCII without spaces; it is not"
    ]
    assert not (tmp_path / "data").exists()


# A PKI directory


def test_a_pki_directory_is_served_and_not_changed_by_the_api(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki")
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        shown = server.ask("GET", CERTS).json
        assert shown["root-crt"] == (pki / "factory_ca.pem").read_text()
        assert shown["tls-crt"] == (pki / "tls-crt").read_text()
        assert shown["ca-crt"] == (pki / "ca-crt").read_text()
        said = "this server's PKI is a directory's (--pki) and changes with it; `batch-issuer ca` changes that"
        for method, body in (("POST", {"tls-csr": True}), ("PATCH", {"ca-crt": shown["ca-crt"]})):
            answer = server.ask(method, CERTS, body)
            assert (answer.status, answer.msg) == (409, said)
        assert server.ask("GET", CERTS).json == shown
    assert list((tmp_path / "data/keys").iterdir()) == []


@pytest.mark.parametrize("signal_it", [False, True])
def test_a_running_server_follows_its_directory(tmp_path: Path, signal_it: bool) -> None:
    pki = make_pki(tmp_path / "pki")
    root, ca = certificate(pki / "factory_ca.pem"), ca_of(pki)
    old = new_device(ca)

    def after(*arguments: str) -> None:
        before = server.ask("GET", CERTS).text
        assert run("ca", *arguments).code == 0
        if signal_it:
            server.process.send_signal(signal.SIGHUP)
        until(lambda: server.ask("GET", CERTS).text != before)

    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        assert old.ask(server, root).status == 200
        after("disable-device-ca", str(pki), "--ca-file", "local-ca.pem")
        assert (old.ask(server, root).status, new_device(ca).ask(server, root).status) == (200, 403)
        after("enable-device-ca", str(pki), "--ca-file", "local-ca.pem")
        assert new_device(ca).ask(server, root).status == 200
        after("add-device-ca", str(pki), "--local-ca", "--local-ca-filename", "site2.pem")
        assert new_device(ca_of(pki, "site2")).ask(server, root).status == 200
        after("revoke-device-ca", str(pki), "--ca-file", "local-ca.pem")
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            old.ask(server, root)
        assert new_device(ca_of(pki, "site2")).ask(server, root).status == 200
        after("rotate-tls", str(pki))
        with connected(server, anybody(root)) as secure:
            assert secure.getpeercert(binary_form=True) == certificate(pki / "tls-crt").public_bytes(Encoding.DER)
        assert server.errors.splitlines() == [REHEARSAL]


def test_a_fault_in_the_directory_leaves_what_was_in_force(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki")
    root, ca = certificate(pki / "factory_ca.pem"), ca_of(pki)
    good = (pki / "ca-crt").read_bytes()
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        foreign = make_ca_dir(tmp_path / "foreign")
        replace(pki / "ca-crt", (foreign / "local-ca.pem").read_bytes())
        server.wait_errors("what was in force before stays")
        assert new_device(ca).ask(server, root).status == 200
        replace(pki / "tls-crt", None)
        replace(pki / "ca-crt", good)
        server.wait_errors("its certificate, tls-crt, is not there any more")
        assert new_device(ca).ask(server, root).status == 200
    lines = [line for line in server.errors.splitlines() if line != REHEARSAL]
    assert all(line.startswith("warning: the PKI directory is not as it should be, and what") for line in lines)
    assert len(lines) == len(set(lines))  # each fault is said once


def replace(path: Path, content: bytes | None) -> None:
    """Another content at once, or no file."""
    if content is None:
        path.unlink()
        return
    other = path.with_name("other")
    other.write_bytes(content)
    other.rename(path)


def test_a_directory_without_a_bundle_trusts_what_lies_in_it(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki")
    root = certificate(pki / "factory_ca.pem")
    (pki / "ca-crt").unlink()
    (pki / "device.pem").write_bytes(new_device(ca_of(pki)).certificate.public_bytes(Encoding.PEM))
    (pki / "odd.pem").write_text("nothing")
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        shown = server.ask("GET", CERTS).json
        assert shown["ca-crt"] == (pki / "online-crt").read_text() + (pki / "local-ca.pem").read_text()
        assert new_device(ca_of(pki)).ask(server, root).status == 200


def test_a_list_of_revocations_counts_beside_a_full_bundle(tmp_path: Path) -> None:
    """A directory whose `ca-crt` a kill has kept from following its `ca-crl`: who is revoked is let in by none."""
    pki = make_pki(tmp_path / "pki")
    root, full = certificate(pki / "factory_ca.pem"), (pki / "ca-crt").read_bytes()
    assert run("ca", "revoke-device-ca", pki, "--ca-file", "local-ca.pem").code == 0
    replace(pki / "ca-crt", full)
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        assert server.ask("GET", CERTS).json["ca-crt"] == (pki / "online-crt").read_text()
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            new_device(ca_of(pki)).ask(server, root)


def test_a_directory_with_another_factorys_ca_is_refused(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki")
    (pki / "ca-crt").unlink()
    (pki / "foreign.pem").write_bytes((make_ca_dir(tmp_path / "foreign") / "local-ca.pem").read_bytes())
    with pytest.raises(AssertionError, match=r"foreign\.pem must be signed by the key of factory_ca\.pem"):
        start(tmp_path / "data", "acme", TOKEN, pki)


def test_a_rotation_that_was_stopped_halfway_is_served_by_the_key_before(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki")
    old = (pki / "tls-crt").read_bytes()
    assert run("ca", "rotate-tls", pki).code == 0
    replace(pki / "tls-crt", old)  # the new key is there, the new certificate is not
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        with connected(server, anybody(certificate(pki / "factory_ca.pem"))) as secure:
            served = secure.getpeercert(binary_form=True)
    assert served == x509.load_pem_x509_certificate(old).public_bytes(Encoding.DER)


def test_a_directory_without_a_gateways_certificate_gets_one_later(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki", gateway_host=None)
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        assert server.gateway is None
        assert run("ca", "rotate-tls", pki, "--gateway-host", "gw.acme.test").code == 0
        server.wait_gateway()
        assert new_device(ca_of(pki)).ask(server, certificate(pki / "factory_ca.pem")).status == 200


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "data", pki=tmp_path / "nothing") == [
        f"error: the PKI directory {tmp_path}/nothing lacks factory_ca.pem",
        "hint: `batch-issuer ca create DIR --factory NAME` makes one",
    ]
    other = make_pki(tmp_path / "other", factory="other")
    assert refusal(tmp_path / "data", pki=other) == [
        f"error: the PKI directory {other} must be of 'acme'; it is of 'other'"
    ]
    pki = make_pki(tmp_path / "pki")
    replace(pki / "gateway/tls.key", (other / "gateway/tls.key").read_bytes())
    assert refusal(tmp_path / "data", pki=pki) == [f"error: {pki}/gateway has no tls.key that belongs to tls-crt"]
    for odd, said in odd_servers(pki, other).items():
        replace(pki / "tls-crt", odd)
        [line] = refusal(tmp_path / "data", pki=pki)[:1]
        assert line.startswith(f"error: tls-crt {said}")
    replace(pki / "ca-crl", b"nothing")
    assert refusal(tmp_path / "data", pki=pki) == ["error: ca-crl must be one PEM X509 CRL; its PEM blocks are: none"]


def odd_servers(pki: Path, other: Path) -> dict[bytes, str]:
    """Certificates of a server that is none of the directory's now, and what is said of them."""
    root, stranger = ca_of(pki, "factory_ca"), ca_of(other, "factory_ca")
    cases = {"was valid until ": (root, EXPIRED), "is not valid before ": (root, NOT_YET), "must be": (stranger, VALID)}
    return {
        make_certificate(
            name("gw", ("acme",)),
            p256(),
            by.certificate.subject,
            by.key,
            window=window,
            constraints=None,
            usage=("digital_signature",),
            purposes=SERVERS,
            hosts=("gw.example.com",),
        ).public_bytes(Encoding.PEM): said
        for said, (by, window) in cases.items()
    }


def test_a_device_ca_key_that_cannot_be_used_is_only_warned_of(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki")
    replace(pki / "local-ca.key", (pki / "factory_ca.key").read_bytes())
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        server.wait_errors("local-ca.key must be the key of local-ca.pem")
        assert server.ask("GET", CERTS).status == 200


@pytest.mark.parametrize("right", [True, False])
def test_an_encrypted_local_ca_needs_its_passphrase(tmp_path: Path, right: bool) -> None:
    pki = tmp_path / "pki"
    create_pki(pki, factory="acme", gateway_host="gw.example.com", now=NOW, passphrase=b"open sesame, again, please")
    (tmp_path / "secret").write_text("open sesame, again, please" if right else "wrong")
    options = ("--ca-passphrase-file", str(tmp_path / "secret"))
    with serving(tmp_path / "data", "acme", TOKEN, pki, *options) as server:
        assert server.ask("GET", CERTS).status == 200
    assert ("local-ca.key cannot be decrypted" in server.errors) is not right


def test_a_gateway_port_is_held_before_it_is_used(tmp_path: Path) -> None:
    """Two servers must not both wait for one port: the second would fail when its PKI comes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with serving(tmp_path / "one", "acme", TOKEN, None, "--gateway-port", port):
        with pytest.raises(AssertionError, match=f"127.0.0.1, port {port} cannot be had: Address already in use"):
            start(tmp_path / "two", "acme", TOKEN, None, "--gateway-port", port)


def test_a_body_that_is_not_what_its_headers_say_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        answer = server.ask("POST", CERTS, b"{}", headers={"Content-Encoding": "gzip"})
        assert answer.status == 400
        assert answer.msg == "the body must be what its headers say; it ended before, or has another encoding"


def test_it_says_its_lines_as_json_alone(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(tmp_path / "data", "acme", TOKEN), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.terminate()
    rest = process.stdout.read()
    process.stdout.close()
    assert (process.wait(PATIENCE), rest) == (0, "")
    assert sorted(json.loads(line)) == ["api", "gateway"]


def test_a_server_that_does_not_start_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x").touch()
    with pytest.raises(AssertionError, match="must be its own or empty"):
        start(tmp_path / "data")
