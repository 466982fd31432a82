"""The device gateway of `gateway serve`: who is let in, what becomes of a device, and what a change of the PKI does."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fioctl import Owner, pem
from gateways import TOKEN, Serving, serving
from handshakes import Ca, anybody, ask, ca_of, connected, new_device, request
from pki import CA_TRUE, CLIENTS, EXPIRED, NOT_YET, SERVERS, make_ca_dir, make_pki, p256
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISABLE, ENABLE, REVOKE = (
    x509.ReasonFlags.certificate_hold,
    x509.ReasonFlags.remove_from_crl,
    x509.ReasonFlags.privilege_withdrawn,
)
TRUSTED_NO_MORE = (403, "the client certificate's device CA is not trusted any more")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pki(tmp_path_factory.mktemp("factory") / "pki", ostree_host="ostree.example.com")


@pytest.fixture(scope="module")
def root(pki: Path) -> x509.Certificate:
    return certificate(pki / "factory_ca.pem")


@pytest.fixture(scope="module")
def ca(pki: Path) -> Ca:
    return ca_of(pki)


@pytest.fixture(scope="module")
def server(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("gateway") / "data", "acme", TOKEN, pki) as server:
        yield server


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """A factory whose PKI the API was sent."""
    with serving(tmp_path / "data") as server:
        owner = Owner(server)
        owner.create()
        yield owner


def local(owner: Owner) -> Ca:
    return Ca(owner.local.certificate, owner.local.key)


def known(server: Serving, device_uuid: str) -> bool:
    """Whether the API knows a device."""
    answer = server.ask("GET", f"/ota/devices/{device_uuid}/?by-uuid=1")
    assert answer.status in (200, 404)
    return answer.status == 200


# Who is let in, and what they get


def test_first_contact_makes_a_device_known(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    device = new_device(ca)
    assert not known(server, device.uuid)
    reply = device.ask(server, root)
    assert reply.status == 200
    shown = reply.json
    for moment in (shown.pop("created-at"), shown.pop("last-seen") or datetime.now(UTC).isoformat()):
        assert abs(datetime.now(UTC) - datetime.fromisoformat(moment)) < timedelta(minutes=10)
    key = device.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert shown == {"uuid": device.uuid, "name": device.uuid, "group": None, "is_prod": False, "pubkey": key}
    assert known(server, device.uuid)
    again = device.ask(server, root).json
    assert again["uuid"] == device.uuid
    assert again["last-seen"] is not None


def test_the_tuf_root_is_a_real_one(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    device = new_device(ca)
    reply = device.ask(server, root, "/repo/1.root.json")
    assert reply.status == 200
    metadata = Metadata[Root].from_bytes(reply.text.encode())
    metadata.verify_delegate(Root.type, metadata)
    assert (metadata.signed.version, sorted(metadata.signed.roles)) == (
        1,
        ["root", "snapshot", "targets", "timestamp"],
    )
    assert all(len(role.keyids) == 1 for role in metadata.signed.roles.values())
    assert metadata.signed.expires > datetime.now(UTC) + timedelta(days=3650)
    assert known(server, device.uuid)  # as the guide says: the first request registers it, whatever it asks for
    assert device.ask(server, root, "/repo/1.root.json").text == reply.text


@pytest.mark.parametrize("path", ["/", "/repo/2.root.json", "/device/", "/ota/devices/", "/repo/../device/x"])
def test_what_is_not_there_is_a_404_in_json(server: Serving, root: x509.Certificate, ca: Ca, path: str) -> None:
    reply = new_device(ca).ask(server, root, path)
    assert (reply.status, reply.json) == (404, {"msg": "Not Found"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_what_cannot_be_done_is_a_405(server: Serving, root: x509.Certificate, ca: Ca, method: str) -> None:
    reply = new_device(ca).ask(server, root, "/device", method)
    assert (reply.status, reply.json) == (405, {"msg": "Method Not Allowed"})


@pytest.mark.parametrize("path", ["/device", "/repo/1.root.json", "/nothing"])
def test_without_a_certificate_nothing_is_shown(server: Serving, root: x509.Certificate, path: str) -> None:
    assert ask(server, anybody(root), path).both == (403, "no client certificate provided")


@pytest.mark.parametrize("common_name", ["gateway", "../../etc/passwd", "4d1b5a2e-5a1c-4a3b-9e0f-0123456789", "x" * 64])
def test_who_is_no_device_by_name_is_refused(server: Serving, root: x509.Certificate, ca: Ca, common_name: str) -> None:
    reply = new_device(ca, common_name).ask(server, root)
    assert reply.both == (403, "the client certificate's common name must be a UUID")


def refused(server: Serving, root: x509.Certificate, device_ca: Ca, **changes: object) -> str:
    """Why TLS refuses a device, in the words of the alert."""
    device = new_device(device_ca, **changes)  # type: ignore[arg-type]
    with pytest.raises(ssl.SSLError) as caught:
        device.ask(server, root)
    assert not known(server, device.uuid)
    return caught.value.reason


def test_a_device_that_goes_by_another_ca_is_refused_by_tls(
    server: Serving, root: x509.Certificate, pki: Path, ca: Ca, tmp_path: Path
) -> None:
    foreign = ca_of(make_ca_dir(tmp_path / "foreign"))
    assert refused(server, root, foreign) == "TLSV1_ALERT_UNKNOWN_CA"
    # The same names and another key.
    assert refused(server, root, Ca(ca.certificate, p256())) in ("TLSV1_ALERT_DECRYPT_ERROR", "TLSV1_ALERT_UNKNOWN_CA")
    # The root is no anchor: it signs no devices.
    assert refused(server, root, ca_of(pki, "factory_ca")) == "TLSV1_ALERT_UNKNOWN_CA"


def test_a_certificate_that_is_not_a_clients_or_not_valid_is_refused_by_tls(
    server: Serving, root: x509.Certificate, ca: Ca
) -> None:
    assert refused(server, root, ca, window=EXPIRED) == "SSLV3_ALERT_CERTIFICATE_EXPIRED"
    assert refused(server, root, ca, window=NOT_YET) == "SSLV3_ALERT_BAD_CERTIFICATE"
    assert refused(server, root, ca, purposes=SERVERS) in (
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_UNKNOWN_CA",
    )
    assert new_device(ca, purposes=(*CLIENTS, *SERVERS)).ask(server, root).status == 200
    assert new_device(ca, purposes=()).ask(server, root).status == 200


def test_a_device_cannot_sign_for_devices(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    device = new_device(ca)
    assert refused(server, root, Ca(device.certificate, device.key)) == "TLSV1_ALERT_UNKNOWN_CA"
    # Nor if a careless issuer made it a CA: it would have to send itself along, and the path is too long.
    sub = new_device(ca, constraints=CA_TRUE, usage=("key_cert_sign",))
    assert refused(server, root, Ca(sub.certificate, sub.key)) == "TLSV1_ALERT_UNKNOWN_CA"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_tls_is_1_2_or_1_3(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    device = new_device(ca)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = device.context(root)
        context.minimum_version = context.maximum_version = version
        assert ask(server, context).status == 200
    context = device.context(root)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"TLSV1_ALERT_PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS|EOF|reset"):
        ask(server, context)


def test_no_session_outlives_its_connection(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    context = new_device(ca).context(root)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context.minimum_version = context.maximum_version = version
        with connected(server, context) as secure:
            assert request(secure)[0] == 200
            session = secure.session
            assert session is None or not session.has_ticket


def test_the_gateways_certificate_is_the_directorys(server: Serving, root: x509.Certificate, pki: Path) -> None:
    with connected(server, anybody(root)) as secure:
        assert secure.getpeercert(binary_form=True) == certificate(pki / "tls-crt").public_bytes(Encoding.DER)


# What becomes of a device


def test_production_is_fixed_when_the_device_is_created(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    production = new_device(ca, category="production")
    assert production.ask(server, root).json["is_prod"] is True
    later = new_device(ca, production.uuid, key=production.key)
    assert later.ask(server, root).json["is_prod"] is True
    development = new_device(ca, category="development")
    assert development.ask(server, root).json["is_prod"] is False
    later = new_device(ca, development.uuid, key=development.key, category="production")
    assert later.ask(server, root).json["is_prod"] is False


def test_another_key_under_a_known_uuid_is_refused(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    device = new_device(ca)
    assert device.ask(server, root).status == 200
    impostor = new_device(ca, device.uuid)
    assert impostor.ask(server, root).both == (502, "Key rotation is not supported")
    # The same UUID in other letters, too.
    assert new_device(ca, device.uuid.upper()).ask(server, root).both == (502, "Key rotation is not supported")
    again = new_device(ca, device.uuid, key=device.key)
    assert again.ask(server, root).status == 200


def test_a_deleted_device_stays_out_until_it_is_allowed(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    device = new_device(ca)
    assert device.ask(server, root).status == 200
    assert server.ask("DELETE", f"/ota/devices/{device.uuid}/?by-uuid=1").status == 204
    said = (403, f"Device({device.uuid}) has been deleted")
    assert device.ask(server, root).both == said
    assert new_device(ca, device.uuid).ask(server, root).both == said  # with a new key as well
    assert not known(server, device.uuid)
    assert server.ask("DELETE", f"/ota/factories/acme/denied-devices/{device.uuid}/").status == 204
    assert new_device(ca, device.uuid).ask(server, root).status == 200


def test_one_uuid_by_many_connections_at_once_is_one_device(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    device_uuid = str(uuid.uuid4())
    devices = [new_device(ca, device_uuid) for _ in range(4)]
    ready = threading.Barrier(8)

    def contact(place: int) -> int:
        context = devices[place % 4].context(root)
        ready.wait(20)
        return ask(server, context).status

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(contact, range(8)))
    assert statuses == [200] * 2 + [502] * 6


# What a change of the PKI does


def test_a_disabled_ca_gives_no_new_devices(owner: Owner) -> None:
    server, old, new = owner.server, new_device(local(owner)), new_device(local(owner))
    assert old.ask(server, owner.root).status == 200
    owner.order(DISABLE, owner.local)
    assert old.ask(server, owner.root).status == 200
    assert new.ask(server, owner.root).both == (
        403,
        f"Device({new.uuid}) cannot be registered: its device CA is disabled",
    )
    assert not known(server, new.uuid)
    owner.order(ENABLE, owner.local)
    assert new.ask(server, owner.root).status == 200


def test_disabling_one_ca_leaves_the_others(owner: Owner) -> None:
    second = owner.device_ca("fio-site-2")
    owner.change({"ca-crt": pem(owner.local.certificate, second.certificate)})
    owner.order(DISABLE, owner.local)
    device = new_device(Ca(second.certificate, second.key))
    assert device.ask(owner.server, owner.root).status == 200


def test_two_cas_of_one_name_are_told_apart(owner: Owner) -> None:
    """fioctl names every local CA of a user alike."""
    second = owner.device_ca("fio-rehearsal", identifier=b"second")
    assert second.certificate.subject == owner.local.certificate.subject
    owner.change({"ca-crt": pem(owner.local.certificate, second.certificate)})
    cas = [local(owner), Ca(second.certificate, second.key)]
    assert [new_device(ca).ask(owner.server, owner.root).status for ca in cas] == [200, 200]
    owner.order(DISABLE, second)
    assert [new_device(ca).ask(owner.server, owner.root).status for ca in cas] == [200, 403]
    owner.order(REVOKE, second)
    assert new_device(cas[0]).ask(owner.server, owner.root).status == 200
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        new_device(cas[1]).ask(owner.server, owner.root)


def test_a_device_whose_issuer_is_written_otherwise_has_the_ca_that_tls_found(owner: Owner) -> None:
    """OpenSSL compares names without regard to case and spaces, and whom it let in is in."""
    server, root, second = owner.server, owner.root, owner.device_ca("fio-site-2")
    written = owner.device_ca("FIO-Rehearsal", identifier=b"fio-rehearsal").certificate
    assert written.subject != owner.local.certificate.subject
    odd = Ca(written, owner.local.key)
    owner.change({"ca-crt": pem(owner.local.certificate, second.certificate)})
    owner.order(DISABLE, second)
    device, late = new_device(odd), new_device(odd)
    assert device.ask(server, root).status == 200
    with connected(server, device.context(root)) as secure, connected(server, late.context(root)) as other:
        assert request(secure)[0] == 200
        owner.change({"ca-crt": pem(owner.local.certificate)})  # ends no connection but those of the CA that went
        assert request(secure)[0] == 200
        owner.order(DISABLE, owner.local)
        assert request(other) == (403, f"Device({late.uuid}) cannot be registered: its device CA is disabled".encode())
    owner.order(ENABLE, owner.local)
    with connected(server, device.context(root)) as secure:
        owner.order(REVOKE, owner.local)
        assert request(secure) == (0, b"")


def test_a_resumed_connection_has_the_ca_of_the_one_before(owner: Owner) -> None:
    """TLS 1.2 resumes a session by its number, without the chain that was verified."""
    server, device = owner.server, new_device(local(owner))
    second = owner.device_ca("fio-site-2")
    owner.change({"ca-crt": pem(owner.local.certificate, second.certificate)})
    owner.order(DISABLE, second)
    context = device.context(owner.root)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connected(server, context) as secure:
        session = secure.session
        secure.unwrap()  # a session that does not end well is not kept
    assert session is not None
    with socket.create_connection(server.address, timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname="gateway", session=session) as secure:
            assert secure.session_reused
            assert request(secure)[0] == 200
            owner.change({"ca-crt": pem(second.certificate)})
            assert request(secure) == (0, b"")
    with socket.create_connection(server.address, timeout=20) as plain, pytest.raises(ssl.SSLError):
        with context.wrap_socket(plain, server_hostname="gateway", session=session) as secure:
            request(secure)


def test_a_revoked_ca_lets_no_device_in(owner: Owner) -> None:
    device = new_device(local(owner))
    assert device.ask(owner.server, owner.root).status == 200
    owner.order(REVOKE, owner.local)
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        device.ask(owner.server, owner.root)
    assert ask(owner.server, anybody(owner.root)).both == (403, "no client certificate provided")
    owner.change({"ca-crt": pem(owner.local.certificate)})
    assert device.ask(owner.server, owner.root).status == 200


def test_connections_end_with_the_trust_that_they_were_made_in(owner: Owner) -> None:
    context = new_device(local(owner)).context(owner.root)
    with connected(owner.server, context) as idle, connected(owner.server, context) as busy:
        assert request(busy)[0] == 200
        owner.order(REVOKE, owner.local)
        assert (request(busy), request(idle)) == ((0, b""), (0, b""))


def decrypted(client: ssl.SSLObject, incoming: ssl.MemoryBIO, plain: socket.socket) -> bytes:
    """What came next; nothing once the other side has ended the connection."""
    while True:
        try:
            return client.read(65536)
        except ssl.SSLWantReadError:
            if not (piece := plain.recv(65536)):
                return b""
            incoming.write(piece)
        except ssl.SSLError:
            return b""


@pytest.mark.parametrize("revoked", [True, False])
def test_a_handshake_that_was_under_way_is_asked_again(owner: Owner, revoked: bool) -> None:
    """It began under what was in force before and ends after; what it asks then goes by what is in force."""
    context = new_device(local(owner)).context(owner.root)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="gateway")
    with socket.create_connection(owner.server.address, timeout=20) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        plain.sendall(outgoing.read())
        incoming.write(plain.recv(65536))  # the server's half
        if revoked:
            owner.order(REVOKE, owner.local)
        else:
            owner.rotate_tls()
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(plain.recv(65536))
        client.write(b"GET /device HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.sendall(outgoing.read())
        received = b""
        while piece := decrypted(client, incoming, plain):
            received += piece
    if revoked:
        assert not received or received.startswith(b"HTTP/1.1 403 ")
        assert TRUSTED_NO_MORE[1].encode() in received or not received
    else:
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in received


def test_a_rotated_tls_certificate_loses_no_device(owner: Owner) -> None:
    server, devices = owner.server, [new_device(local(owner)) for _ in range(3)]
    contexts = [device.context(owner.root) for device in devices]
    stop, statuses = threading.Event(), []

    def keep_asking(context: ssl.SSLContext) -> None:
        while not stop.is_set():
            statuses.append(ask(server, context).status)

    before = owner.get()["tls-crt"]
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(keep_asking, context) for context in contexts]
        try:
            for _ in range(3):
                owner.rotate_tls()
        finally:
            stop.set()
        for future in asking:
            future.result(30)
    assert set(statuses) == {200}
    now = owner.get()["tls-crt"]
    assert now != before
    with connected(server, contexts[0]) as secure:
        served = secure.getpeercert(binary_form=True)
    assert served is not None
    assert x509.load_der_x509_certificate(served) == x509.load_pem_x509_certificate(now.encode())
    assert len(server.announcements) == 2  # where they are has not changed


def test_devices_and_documents_survive_kill_9(tmp_path: Path, pki: Path, root: x509.Certificate, ca: Ca) -> None:
    device, deleted = new_device(ca, category="production"), new_device(ca)
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        shown = device.ask(server, root).json
        document = deleted.ask(server, root, "/repo/1.root.json").text
        assert server.ask("DELETE", f"/ota/devices/{deleted.uuid}/?by-uuid=1").status == 204
        server.kill()
    with serving(tmp_path / "data", "acme", TOKEN, pki) as server:
        again = device.ask(server, root).json
        assert {**again, "last-seen": None} == {**shown, "last-seen": None}
        assert device.ask(server, root, "/repo/1.root.json").text == document
        assert deleted.ask(server, root).status == 403
        assert new_device(ca, device.uuid).ask(server, root).status == 502
    digest = hashlib.sha256((tmp_path / "data/tuf/1.root.json").read_bytes()).hexdigest()
    assert digest == hashlib.sha256(document.encode()).hexdigest()


def test_clients_nonsense_leaves_no_traceback(server: Serving, root: x509.Certificate, ca: Ca) -> None:
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""):
        with socket.create_connection(server.address, timeout=20) as plain:
            plain.sendall(nonsense)
    with connected(server, new_device(ca).context(root)) as secure:
        secure.sendall(b"NONSENSE\r\n\r\n")
        answer = secure.recv(65536)
    assert re.match(rb"HTTP/1\.\d 400 ", answer)
    assert b"Traceback" not in answer
    assert new_device(ca).ask(server, root).status == 200
    assert "Traceback" not in server.errors
