"""Devices at the factory's API: how they register, are created ahead, listed, changed, deleted and let in again."""

from __future__ import annotations

import base64
import http.client
import json
import re
import shutil
import ssl
import tomllib
import uuid as uuids
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import fioctl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from fioctl import Owner
from gateways import serving
from hypothesis import given
from hypothesis import strategies as st
from judges import openssl_accepts
from pki import (
    CA_TRUE,
    CLIENTS,
    EXPIRED,
    NOT_YET,
    SERVERS,
    VALID,
    key_pem,
    make_ca_dir,
    make_certificate,
    make_pki,
    name,
    p256,
)

from batch_issuer.authority.revocation import DISABLED, make_crl
from batch_issuer.authority.root import load_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gateways import Answer, Serving

    Names = Sequence[tuple[x509.ObjectIdentifier, str]]

CN, OU, CATEGORY = NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.BUSINESS_CATEGORY
FILES = ["root.crt", "sota.toml", "client.pem", "client.chained"]
Key = ec.EllipticCurvePrivateKey


def new_uuid() -> str:
    return str(uuids.uuid4())


def csr(uuid: str, key: Key | None = None, *more: tuple[x509.ObjectIdentifier, str], factory: str = "acme") -> str:
    attributes = [x509.NameAttribute(oid, value) for oid, value in ((CN, uuid), (OU, factory), *more)]
    made = x509.CertificateSigningRequestBuilder(x509.Name(attributes)).sign(key or p256(), hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def body(uuid: str, key: Key | None = None, /, **more: object) -> dict[str, object]:
    """What lmp-device-register sends; a field that is None is left out."""
    said = {"csr": csr(uuid, key), "uuid": uuid, "hardware-id": "imx8mm", "sota-config-dir": "/var/sota"}
    fields = {"use-ostree-server": "true", **said, **{field.replace("_", "-"): value for field, value in more.items()}}
    return {field: value for field, value in fields.items() if value is not None}


def leaf(
    uuid: str,
    pki: Path,
    key: Key | None = None,
    *,
    ca: str = "local-ca",
    subject: x509.Name | None = None,
    window: tuple[datetime, datetime] = VALID,
    constraints: x509.BasicConstraints | None = None,
    purposes: Sequence[x509.ObjectIdentifier] = CLIENTS,
    public: Any = None,
) -> str:
    """A device's certificate by a device CA of the directory."""
    signer = load_pem_private_key((pki / f"{ca}.key").read_bytes(), None)
    assert isinstance(signer, Key)
    issuer = x509.load_pem_x509_certificate((pki / f"{ca}.pem").read_bytes()).subject
    made = make_certificate(
        subject or name(uuid, ("acme",)), public or key or p256(), issuer, signer,
        window=window, constraints=constraints, usage=("digital_signature",), purposes=purposes,
    )  # fmt: skip
    return made.public_bytes(Encoding.PEM).decode()


def everything(server: Serving) -> tuple[object, object]:
    """The devices, and those that are denied."""
    denied = server.ask("GET", "/ota/factories/acme/denied-devices/?limit=1000").json
    return server.ask("GET", "/ota/devices/?limit=1000").json, denied


def device(server: Serving, uuid: str) -> dict[str, Any]:
    shown = server.ask("GET", f"/ota/devices/{uuid}/?factory=acme&by-uuid=1")
    assert shown.status == 200
    assert isinstance(shown.json, dict)
    return shown.json


def refused(server: Serving, answer: Answer, status: int, message: str) -> None:
    assert (answer.status, answer.msg) == (status, message)
    assert "Traceback" not in server.errors


def contact(server: Serving, pki: Path, folder: Path, files: dict[str, str], key: Key) -> tuple[int, Any]:
    """A device with those files asks the device gateway who it is."""
    folder.mkdir()
    for file, text in {**files, "pkey.pem": key_pem(key).decode()}.items():
        (folder / file).write_text(text)
    context = ssl.create_default_context(cafile=folder / "root.crt")
    context.load_cert_chain(folder / "client.pem", folder / "pkey.pem")
    context.check_hostname = False  # the host of tls-crt is no name of this machine's; the chain is checked
    connection = http.client.HTTPSConnection(*server.address, context=context, timeout=30)
    try:
        connection.request("GET", "/device")
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if answer.status == 200 else said.decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pki(tmp_path_factory.mktemp("registration") / "pki", ostree_host="os.example.com")


@pytest.fixture(scope="module")
def server(pki: Path) -> Iterator[Serving]:
    with serving(pki.parent / "data", pki=pki) as running:
        yield running


@pytest.fixture
def unchanged(server: Serving) -> Iterator[Serving]:
    """The server, which must know no more and no less after the test."""
    before = everything(server)
    yield server
    assert everything(server) == before
    assert "Traceback" not in server.errors


# POST /ota/devices/


def test_a_device_registers_and_is_let_in(server: Serving, pki: Path, tmp_path: Path) -> None:
    uuid, key = new_uuid(), p256()
    overrides = {"pacman": {"tags": '"main"', "type": '"ostree+compose_apps"'}}
    asked = body(uuid, key, name="kitchen", group="homes", overrides=overrides)
    answer = server.ask("POST", "/ota/devices/", asked)
    assert (answer.status, list(answer.json)) == (201, FILES)
    files = answer.json
    assert files["root.crt"] == (pki / "factory_ca.pem").read_text()
    certificate = x509.load_pem_x509_certificate(files["client.pem"].encode())
    online = (pki / "online-crt").read_text()
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(online.encode()))
    assert files["client.chained"] == f"{files['client.pem']}\n{online}"
    assert certificate.subject == name(uuid, ("acme",))
    sota = tomllib.loads(files["sota.toml"])
    assert sota["tls"]["server"] == "https://gw.example.com:8443"
    assert sota["pacman"]["ostree_server"] == "https://os.example.com:8443/ostree"
    assert (sota["provision"]["primary_ecu_hardware_id"], sota["pacman"]["tags"]) == ("imx8mm", "main")
    shown = device(server, uuid)
    assert (shown["name"], shown["device-group"], shown["last-seen"], shown["is-prod"]) == (
        "kitchen",
        "homes",
        "",
        False,
    )
    status, seen = contact(server, pki, tmp_path / "sota", files, key)
    assert (status, seen["uuid"], seen["name"], seen["group"]) == (200, uuid, "kitchen", "homes")
    assert device(server, uuid)["last-seen"] != ""


def test_the_same_key_may_ask_again_and_no_other(server: Serving) -> None:
    uuid, key = new_uuid(), p256()
    first = server.ask("POST", "/ota/devices/", body(uuid, key))
    before = everything(server)
    again = server.ask("POST", "/ota/devices/", body(uuid, key, name=f"other-{uuid}"))
    assert (first.status, again.status) == (201, 201)
    one, two = (x509.load_pem_x509_certificate(text.json["client.pem"].encode()) for text in (first, again))
    assert one.subject.public_bytes() == two.subject.public_bytes()
    assert one.serial_number != two.serial_number
    for known in (uuid, uuid.upper()):
        message = f"there is a device with the UUID {uuid} already"
        refused(server, server.ask("POST", "/ota/devices/", body(known)), 409, message)
    assert everything(server) == before


def test_a_name_belongs_to_one_device(server: Serving) -> None:
    taken = f"name-{new_uuid()}"
    assert server.ask("POST", "/ota/devices/", body(new_uuid(), name=taken)).status == 201
    before = everything(server)
    answer = server.ask("POST", "/ota/devices/", body(new_uuid(), name=taken))
    refused(server, answer, 409, f"there is a device with the name {taken!r} already")
    assert everything(server) == before


def test_a_name_is_no_other_devices_uuid(server: Serving) -> None:
    """Who has no token could keep any device out by its own default name."""
    victim = new_uuid()
    for path in ("/sign", "/ota/devices/"):
        before = everything(server)
        answer = server.ask("POST", path, body(new_uuid(), name=victim.upper()))
        refused(server, answer, 409, "a device's name must not be another device's UUID; it is " + victim.upper())
        assert everything(server) == before
    assert server.ask("POST", "/sign", body(victim, name=victim)).status == 201


def test_a_request_of_an_unknown_version_is_refused(unchanged: Serving) -> None:
    der = base64.b64decode("".join(csr(new_uuid()).splitlines()[1:-1]))
    spoilt = der.replace(b"\x02\x01\x00", b"\x02\x01\x05", 1)
    text = base64.encodebytes(spoilt).decode()
    pem = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"
    answer = unchanged.ask("POST", "/sign", {"csr": pem, "hardware-id": "hw"})
    refused(unchanged, answer, 400, "csr must be a request as RFC 2986 has it; it is not")


def test_a_ping_is_answered(unchanged: Serving) -> None:
    """lmp-device-register asks whether the server is there before it makes a key."""
    assert unchanged.ask("HEAD", "/ota/devices/").status == 200
    assert unchanged.ask("HEAD", "/ota/devices/", token=None).status == 401
    assert unchanged.ask("HEAD", "/sign", token=None).status == 405


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_the_token_is_needed(unchanged: Serving, pki: Path, method: str) -> None:
    sent = {"POST": body(new_uuid()), "PUT": {"client.pem": leaf(new_uuid(), pki)}}.get(method)
    missing = unchanged.ask(method, "/ota/devices/", sent, token=None)
    refused(unchanged, missing, 401, "the token in the header OSF-TOKEN is missing")
    wrong = unchanged.ask(method, "/ota/devices/", sent, token=unchanged.token + "x")
    refused(unchanged, wrong, 401, "the token in the header OSF-TOKEN is wrong")


UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "csr": ({"csr": None}, "the body must have csr; it has none"),
    "csr kind": ({"csr": 1}, "csr must be a string; it is a number"),
    "hardware-id": ({"hardware_id": None}, "the body must have hardware-id; it has none"),
    "hardware-id kind": ({"hardware_id": ["x"]}, "hardware-id must be a string; it is a list"),
    "hardware-id text": (
        {"hardware_id": "a\nb"},
        "hardware-id must be text of 1 to 1024 characters without control characters; it is not",
    ),
    "uuid": ({"uuid": "b" + UUID[1:]}, f"uuid must be the common name of csr, {UUID}; it is another"),
    "name": ({"name": "a\u202eb"}, "name must have printable characters only; it has U+202E"),
    "name length": ({"name": "x" * 65}, "name must have 1 to 64 characters; it has 65"),
    "name surrogate": ({"name": "\ud800"}, "name must have printable characters only; it has U+D800"),
    "group": ({"group": "a\x00"}, "group must have printable characters only; it has U+0000"),
    "group kind": ({"group": {}}, "group must be a string; it is an object"),
    "folder": ({"sota_config_dir": "sota"}, "sota-config-dir must be an absolute path; it is 'sota'"),
    "override": (
        {"overrides": {"pacman": {"tags": '"a"\n[tls]\nserver = "x"'}}},
        """overrides.pacman.tags must be one TOML string, quotes included; it is '"a"\\n[tls]\\nserver = "x"'""",
    ),
    "text": ({"csr": "nothing"}, "csr must be one PEM CERTIFICATE REQUEST; its PEM blocks are: none"),
    "two": ({"csr": csr(UUID) * 2}, "csr must be one PEM CERTIFICATE REQUEST; its PEM blocks are: CERTIFICATE REQUEST, "
            "CERTIFICATE REQUEST"),
    "size": ({"csr": "x" * 20_000}, "csr must have at most 16384 octets; it has 20000"),
    "broken": (
        {"csr": "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"},
        "csr must be a request as RFC 2986 has it; it is not",
    ),
    "factory": (
        {"csr": csr(UUID, factory="other")},
        "csr must have the factory as its one organizational unit (OU), 'acme'; it has 'other'",
    ),
    "cn": ({"csr": csr("../etc"), "uuid": None}, "csr must have a UUID as its one common name (CN); it has '../etc'"),
    "attribute": (
        {"csr": csr(UUID, None, (NameOID.COUNTRY_NAME, "XX"))},
        "csr may have CN, OU and businessCategory=production in its subject, as UTF8String or PrintableString; "
        "it has 'C=XX'",
    ),
    "production": (
        {"csr": csr(UUID, None, (CATEGORY, "production"))},
        "csr must not have businessCategory=production: this server lets no device call itself one of production",
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", ["/ota/devices/", "/sign"])
@pytest.mark.parametrize("case", BODIES)
def test_bodies_that_are_refused(unchanged: Serving, case: str, path: str) -> None:
    fields, message = BODIES[case]
    if path == "/sign" and case == "group":
        message = "group must not be there: who is not asked for a token does not choose a device's group"
    refused(unchanged, unchanged.ask("POST", path, body(UUID, **fields)), 400, message)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256K1())])
def test_keys_that_are_refused(unchanged: Serving, key: Key) -> None:
    answer = unchanged.ask("POST", "/ota/devices/", body(UUID, key))
    refused(unchanged, answer, 400, f"csr must be for a P-256 key; it is for {key.curve.name}")


def test_a_signature_must_be_the_keys(unchanged: Serving) -> None:
    """Somebody else's public key under one's own name is no request."""
    der = x509.load_pem_x509_csr(csr(UUID).encode()).public_bytes(Encoding.DER)
    other = new_uuid().encode()
    wrong = der.replace(UUID.encode(), other)
    text = ssl.DER_cert_to_PEM_cert(wrong).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    answer = unchanged.ask("POST", "/ota/devices/", body(UUID, csr=text, uuid=None))
    refused(unchanged, answer, 400, "csr must be signed by its own key; its signature does not verify")


@pytest.mark.parametrize("path", ["/ota/devices/", "/sign"])
def test_what_is_no_json_object(unchanged: Serving, path: str) -> None:
    refused(unchanged, unchanged.ask("POST", path, b"{"), 400, "the body must be JSON; it is not")
    refused(unchanged, unchanged.ask("POST", path, b"\xff\xfe"), 400, "the body must be JSON; it is not")
    refused(unchanged, unchanged.ask("POST", path, b"[" * 100_000), 400, "the body must be JSON; it is not")
    refused(unchanged, unchanged.ask("POST", path, []), 400, "the body must be a JSON object; it is another value")
    refused(unchanged, unchanged.ask("POST", path, b""), 400, "the body must have hardware-id; it has none")
    assert unchanged.ask("POST", path, body(UUID, name="x" * (1 << 20))).status == 413


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.sampled_from([UUID, csr(UUID, factory="b"), "/x", '"x"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("csr", "uuid", "name", "group", "hardware-id", "sota-config-dir", "overrides", "client.pem", "owner")


@given(
    st.sampled_from([("POST", "/ota/devices/"), ("PUT", "/ota/devices/"), ("POST", "/sign")]),
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=9), JSON, max_size=9),
)
def test_whatever_is_sent_there_is_a_sentence(server: Serving, route: tuple[str, str], fields: dict[str, Any]) -> None:
    answer = server.ask(*route, fields)
    assert answer.status == 400
    assert answer.msg
    assert "Traceback" not in server.errors


def test_of_many_at_once_one_gets_the_name(server: Serving) -> None:
    asked = [body(new_uuid(), name="wanted by many") for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda one: server.ask("POST", "/ota/devices/", one), asked))
    assert sorted(answer.status for answer in answers) == [201, *[409] * 11]
    known = [server.ask("GET", f"/ota/devices/{one['uuid']}/?by-uuid=1").status for one in asked]
    assert known == [200 if answer.status == 201 else 404 for answer in answers]


def test_production_is_let_through_where_it_is_allowed(pki: Path, tmp_path: Path) -> None:
    with serving(tmp_path / "data", "acme", "token", pki, "--allow-production") as server:
        for path, token in (("/ota/devices/", ""), ("/sign", None)):
            uuid, key = new_uuid(), p256()
            asked = body(uuid, csr=csr(uuid, key, (CATEGORY, "production")))
            answer = server.ask("POST", path, asked, token=token)
            assert answer.status == 201
            subject = x509.load_pem_x509_certificate(answer.json["client.pem"].encode()).subject
            assert [str(one.value) for one in subject] == [uuid, "acme", "production"]
            assert device(server, uuid)["is-prod"] is True
            before = everything(server)
            again = server.ask("POST", path, body(uuid, key), token=token)
            refused(server, again, 409, f"the device {uuid} is of production, which is fixed for its life")
            assert everything(server) == before


# POST /sign


def test_a_registration_server_needs_no_token(server: Serving, pki: Path, tmp_path: Path) -> None:
    uuid, key = new_uuid(), p256()
    answer = server.ask("POST", "/sign", body(uuid, key, name=f"floor-{uuid}"), token=None)
    assert (answer.status, list(answer.json)) == (201, FILES)
    local = (pki / "local-ca.pem").read_text()
    assert answer.json["client.chained"] == f"{answer.json['client.pem']}\n{local}"
    status, seen = contact(server, pki, tmp_path / "sota", answer.json, key)
    assert (status, seen["name"], seen["group"]) == (200, f"floor-{uuid}", None)
    assert openssl_accepts(tmp_path / "sota" / "client.pem", pki, partial=True)
    assert server.ask("POST", "/sign", body(uuid, key), token=None).status == 201
    other = server.ask("POST", "/sign", body(uuid), token=None)
    refused(server, other, 409, f"there is a device with the UUID {uuid} already")


def test_without_the_key_it_signs_nothing(pki: Path, tmp_path: Path) -> None:
    bare = shutil.copytree(pki, tmp_path / "bare")
    (bare / "local-ca.key").unlink()
    shutil.rmtree(bare / "gateway")
    (bare / "tls-crt").unlink()
    with serving(tmp_path / "data", pki=bare) as server:
        for path, ca in (("/sign", "local-ca"), ("/ota/devices/", "online-ca")):
            message = f"this server has no {ca} in force whose key it has, so it signs no request"
            refused(server, server.ask("POST", path, body(new_uuid())), 503, message)
        assert everything(server)[0] == {"devices": [], "total": 0, "next": None}


def test_the_newest_online_ca_that_may_signs(tmp_path: Path) -> None:
    """Not the newest, when that is disabled; not one that was taken away; and who may not is said when none may."""
    with serving(tmp_path / "data") as server:
        owner = Owner(server)
        owner.create(local=False)
        first = owner.get()["ca-crt"]
        second = fioctl.pem(owner.signed(owner.post(ca_csr=True)["ca-csr"]))
        owner.change({"ca-crt": first + second})
        cas = [x509.load_pem_x509_certificate(text.encode()) for text in (first, second)]

        def signer() -> x509.Certificate | str:
            answer = server.ask("POST", "/ota/devices/", body(new_uuid()))
            if answer.status != 201:
                return f"{answer.status} {answer.msg}"
            chained = x509.load_pem_x509_certificates(answer.json["client.chained"].encode())
            chained[0].verify_directly_issued_by(chained[1])
            return chained[1]

        def order(reason: x509.ReasonFlags, ca: x509.Certificate) -> None:
            owner.change({"ca-revoke-crl": owner.crl({ca.serial_number: reason})})

        assert signer() == cas[1]
        order(x509.ReasonFlags.certificate_hold, cas[1])
        assert signer() == cas[0]
        order(x509.ReasonFlags.certificate_hold, cas[0])
        assert signer() == "503 online-ca is disabled or not trusted any more, so it signs for no new device"
        order(x509.ReasonFlags.remove_from_crl, cas[1])
        assert signer() == cas[1]
        order(x509.ReasonFlags.privilege_withdrawn, cas[1])
        assert signer() == "503 online-ca is disabled or not trusted any more, so it signs for no new device"
        order(x509.ReasonFlags.remove_from_crl, cas[0])
        assert signer() == cas[0]


def test_before_the_factory_is_set_up_nothing_is_signed(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        for path in ("/sign", "/ota/devices/"):
            message = "the factory's PKI is not configured, so there is nobody to sign"
            refused(server, server.ask("POST", path, body(new_uuid())), 503, message)
        certificate = leaf(new_uuid(), make_pki(tmp_path / "pki"))
        answer = server.ask("PUT", "/ota/devices/", {"client.pem": certificate})
        refused(server, answer, 400, "client.pem must be signed by a device CA of this factory; it is not")


def test_a_disabled_ca_registers_no_new_device(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki")
    now = datetime.now(UTC)
    cas = {ca: x509.load_pem_x509_certificate((pki / ca).read_bytes()) for ca in ("local-ca.pem", "online-crt")}
    reasons = {ca.serial_number: DISABLED for ca in cas.values()}
    crl = make_crl(load_root(pki, now=now), reasons, number=1, now=now, until=now + timedelta(days=1))
    (pki / "ca-crl").write_bytes(crl)
    with serving(tmp_path / "data", pki=pki) as server:
        for path, ca in (("/sign", "local-ca"), ("/ota/devices/", "online-ca")):
            message = f"{ca} is disabled or not trusted any more, so it signs for no new device"
            refused(server, server.ask("POST", path, body(new_uuid())), 503, message)
        serial = cas["local-ca.pem"].serial_number
        answer = server.ask("PUT", "/ota/devices/", {"client.pem": leaf(new_uuid(), pki)})
        message = f"client.pem is signed by the device CA with the serial number {serial}, which is disabled"
        refused(server, answer, 403, message)
        assert everything(server)[0] == {"devices": [], "total": 0, "next": None}


def test_a_ca_out_of_its_time_registers_no_new_device(tmp_path: Path) -> None:
    """Nor is a device of it created ahead: TLS would not let it in."""
    pki = make_ca_dir(tmp_path / "pki", ca_window=EXPIRED)
    with serving(tmp_path / "data", pki=pki) as server:
        answer = server.ask("POST", "/sign", body(new_uuid()))
        assert (answer.status, answer.msg[:26]) == (503, "local-ca was valid until 2")
        for window in (VALID, EXPIRED):
            answer = server.ask("PUT", "/ota/devices/", {"client.pem": leaf(new_uuid(), pki, window=window)})
            said = (
                "the device CA of client.pem was valid until 2" if window == VALID else "client.pem was valid until 2"
            )
            assert (answer.status, answer.msg[: len(said)]) == (400, said)
        assert everything(server)[0] == {"devices": [], "total": 0, "next": None}


# PUT /ota/devices/


def test_a_device_is_created_ahead(server: Serving, pki: Path, tmp_path: Path) -> None:
    uuid, key = new_uuid(), p256()
    asked = {"client.pem": leaf(uuid, pki, key), "name": f"ahead-{uuid}", "group": "line 1"}
    created = server.ask("PUT", "/ota/devices/", asked)
    assert created.status == 201
    assert created.json == device(server, uuid)
    before = everything(server)
    assert server.ask("PUT", "/ota/devices/", asked).status == 200
    renewed = server.ask("PUT", "/ota/devices/", {"client.pem": leaf(uuid, pki, key)})
    assert (renewed.status, renewed.json) == (200, created.json)
    assert everything(server) == before
    files = {"root.crt": (pki / "factory_ca.pem").read_text(), "client.pem": asked["client.pem"]}
    status, seen = contact(server, pki, tmp_path / "sota", files, key)
    assert (status, seen["name"], seen["group"]) == (200, f"ahead-{uuid}", "line 1")


def test_what_conflicts(server: Serving, pki: Path) -> None:
    uuid, key = new_uuid(), p256()
    certificate = leaf(uuid, pki, key)
    assert server.ask("PUT", "/ota/devices/", {"client.pem": certificate, "name": uuid[:8]}).status == 201
    before = everything(server)
    other = server.ask("PUT", "/ota/devices/", {"client.pem": leaf(uuid, pki)})
    refused(server, other, 409, f"there is a device with the UUID {uuid} already")
    taken = server.ask("PUT", "/ota/devices/", {"client.pem": leaf(new_uuid(), pki), "name": uuid[:8]})
    refused(server, taken, 409, f"there is a device with the name {uuid[:8]!r} already")
    for more in ({"name": "another"}, {"group": "another"}):
        answer = server.ask("PUT", "/ota/devices/", {"client.pem": certificate, **more})
        message = f"there is the device {uuid} already, with another name or group; PATCH changes them"
        refused(server, answer, 409, message)
    assert everything(server) == before


def test_a_production_certificate_is_believed(server: Serving, pki: Path) -> None:
    """Its CA has signed it: that is the factory's word, not the device's."""
    uuid, key = new_uuid(), p256()
    subject = x509.Name(
        [x509.NameAttribute(oid, value) for oid, value in ((CN, uuid), (OU, "acme"), (CATEGORY, "production"))]
    )
    assert server.ask("PUT", "/ota/devices/", {"client.pem": leaf(uuid, pki, key, subject=subject)}).status == 201
    assert device(server, uuid)["is-prod"] is True


def test_certificates_that_are_refused(unchanged: Serving, pki: Path, tmp_path: Path) -> None:
    foreign, key = make_pki(tmp_path / "foreign"), p256()
    good, root = leaf(UUID, pki), (pki / "factory_ca.pem").read_text()
    two = name(UUID, ("acme", "b"))
    p384 = ec.generate_private_key(ec.SECP384R1())
    cases: list[tuple[object, str]] = [
        (None, "the body must have client.pem; it has none"),
        (1, "client.pem must be a string; it is a number"),
        ("x", "client.pem must hold one PEM certificate; its PEM blocks are: none"),
        ("\ud800", "client.pem must hold one PEM certificate; its PEM blocks are: none"),
        (good + root, "client.pem must hold one PEM certificate; its PEM blocks are: CERTIFICATE, CERTIFICATE"),
        (
            key_pem(key).decode() + good,
            "client.pem must hold one PEM certificate; its PEM blocks are: EC PRIVATE KEY, CERTIFICATE",
        ),
        (good.replace("M", "N", 2), "client.pem must be a certificate as RFC 5280 has it; it is not"),
        (leaf(UUID, foreign), "client.pem must be signed by a device CA of this factory; it is not"),
        (root, "client.pem must have a UUID as its one common name (CN); it has 'Factory-CA'"),
        (leaf(UUID, pki, p384), "client.pem must certify a P-256 key; it certifies secp384r1"),
        (leaf(UUID, pki, constraints=CA_TRUE), "client.pem must be a device's certificate; it is a CA's"),
        (
            leaf(UUID, pki, purposes=SERVERS),
            "client.pem must be allowed for TLS clients; its extendedKeyUsage lacks clientAuth",
        ),
        (leaf("x", pki), "client.pem must have a UUID as its one common name (CN); it has 'x'"),
        (
            leaf(str(uuids.UUID(int=0)), pki),
            f"client.pem must have a UUID as its one common name (CN); it has '{uuids.UUID(int=0)}'",
        ),
        (
            leaf(UUID, pki, subject=name(UUID, ("other",))),
            "client.pem must have the factory as its one organizational unit (OU), 'acme'; it has 'other'",
        ),
        (
            leaf(UUID, pki, subject=two),
            "client.pem must have the factory as its one organizational unit (OU), 'acme'; it has 'acme', 'b'",
        ),
    ]
    for certificate, message in cases:
        answer = unchanged.ask("PUT", "/ota/devices/", {"client.pem": certificate})
        refused(unchanged, answer, 400, message)
    for window, message in ((EXPIRED, "client.pem was valid until "), (NOT_YET, "client.pem is not valid before ")):
        answer = unchanged.ask("PUT", "/ota/devices/", {"client.pem": leaf(UUID, pki, window=window)})
        assert answer.status == 400
        assert answer.msg.startswith(message)


# The list, changes, the deny list


@contextmanager
def factory_with(folder: Path, pki: Path, devices: int) -> Iterator[tuple[Serving, list[str]]]:
    """A server of its own with so many devices, `dev-000` and on, every third in the group `thirds`."""
    known = sorted(new_uuid() for _ in range(devices))
    with serving(folder / "data", pki=pki) as server:
        for place, uuid in enumerate(known):
            more = {} if place % 3 else {"group": "thirds"}
            asked = {"client.pem": leaf(uuid, pki), "name": f"dev-{place:03}", **more}
            assert server.ask("PUT", "/ota/devices/", asked).status == 201
        yield server, known


def listed(server: Serving, path: str) -> list[str]:
    """The names on all pages of a list."""
    found: list[str] = []
    following: str | None = path
    while following is not None:
        answer = server.ask("GET", following).json
        found += [one["name"] for one in answer["devices"]]
        assert len(found) <= answer["total"]
        following = answer["next"]
        if following is not None:
            assert following.startswith(f"{server.api}/ota/")
            following = re.sub(r"^http://[^/]*", "", following)
    return found


def test_the_list_its_pages_and_filters(tmp_path: Path, pki: Path) -> None:
    with factory_with(tmp_path, pki, 8) as (server, known):
        names = [f"dev-{place:03}" for place in range(8)]
        for query in ("", "?limit=3", "?limit=3&factory=acme", "?limit=1000&page=1&shared=1&match_tag=", "?limit=8"):
            assert listed(server, f"/ota/devices/{query}") == names
        assert listed(server, "/ota/devices/?limit=3&page=3") == names[6:]
        assert listed(server, "/ota/devices/?limit=3&page=4") == []
        assert server.ask("GET", "/ota/devices/?limit=4&page=2").json["next"] is None
        assert listed(server, f"/ota/devices/?uuid={known[4].upper()}") == ["dev-004"]
        assert listed(server, "/ota/devices/?group=thirds&limit=2") == ["dev-000", "dev-003", "dev-006"]
        assert listed(server, "/ota/devices/?name_ilike=DEV-00_") == names
        assert listed(server, "/ota/devices/?name_ilike=%2503") == ["dev-003"]
        path = f"/ota/devices/{known[5]}/?by-uuid=1"
        assert server.ask("PATCH", path, {"name": "Pümp STRASSE"}).status == 200
        for pattern in ("p%C3%BCmp%25", "P%C3%9CMP%20stra%C3%9Fe", "%25_STRASSE"):
            assert listed(server, f"/ota/devices/?name_ilike={pattern}") == ["Pümp STRASSE"]
        assert server.ask("PATCH", path, {"name": "dev-005"}).status == 200
        assert listed(server, "/ota/devices/?name_ilike=dev%5C_%25") == []
        assert listed(server, "/ota/devices/?name_ilike=dev*") == []
        refused(server, server.ask("GET", "/ota/devices/?factory=b"), 404, "there is no factory 'b' here")
        for query, message in {
            "limit=0": "limit must be a number from 1 to 1000; it is '0'",
            "limit=1001": "limit must be a number from 1 to 1000; it is '1001'",
            "limit=-1": "limit must be a number from 1 to 1000; it is '-1'",
            "page=x": "page must be a number from 1 to 1000000000; it is 'x'",
            "page=" + "9" * 30: "page must be a number from 1 to 1000000000; it is '99999999999999999999'",
            "page=%D9%A3": "page must be a number from 1 to 1000000000; it is '\u0663'",
        }.items():
            refused(server, server.ask("GET", f"/ota/devices/?{query}"), 400, message)


@pytest.mark.parametrize("host", ["[", "a b", "x:99999", "x:y", "[::1", "x/y", "u@x"])
def test_a_host_that_is_none_has_no_next_page(tmp_path: Path, pki: Path, host: str) -> None:
    """Clients go where `next` leads, so without a host to lead to there is no list."""
    with factory_with(tmp_path, pki, 2) as (server, _):
        answer = server.ask("GET", "/ota/devices/?limit=1", headers={"Host": host})
        refused(
            server, answer, 400, "the header Host must be a host with or without a port, for where the next page is"
        )
        assert server.ask("GET", "/ota/devices/?limit=2", headers={"Host": host}).status == 200
        for good in ("gw_1.acme.test:80", "[::1]:8080"):
            following = server.ask("GET", "/ota/devices/?limit=1", headers={"Host": good}).json["next"]
            assert following == f"http://{good.removesuffix(':80')}/ota/devices/?limit=1&page=2"
        assert "error:" not in server.errors


def test_what_a_device_is_shown_as(server: Serving, pki: Path) -> None:
    uuid, key = new_uuid(), p256()
    asked = {"client.pem": leaf(uuid, pki, key), "name": f"shown {uuid}"}
    assert server.ask("PUT", "/ota/devices/", asked).status == 201
    by_name = server.ask("GET", f"/ota/devices/shown%20{uuid}/?factory=acme").json
    assert by_name == device(server, uuid)
    created = datetime.fromisoformat(by_name.pop("change-meta")["created-at"])
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=5)
    assert by_name.pop("public-key").startswith("-----BEGIN PUBLIC KEY-----\n")
    assert by_name == {
        "uuid": uuid,
        "name": f"shown {uuid}",
        "owner": "rehearsal",
        "factory": "acme",
        "device-group": "",
        "group": None,
        "last-seen": "",
        "is-prod": False,
    }


def test_changes(server: Serving, pki: Path) -> None:
    uuid = new_uuid()
    assert server.ask("PUT", "/ota/devices/", {"client.pem": leaf(uuid, pki)}).status == 201
    path = f"/ota/devices/{uuid}/?factory=acme"
    assert server.ask("PATCH", path, {"group": "homes"}).json["device-group"] == "homes"
    assert server.ask("PATCH", path, {"name": f"a/{uuid}", "owner": "rehearsal"}).json["name"] == f"a/{uuid}"
    assert server.ask("PATCH", path, {"group": "x"}).status == 404  # that was its name, and is not any more
    changed = server.ask("PATCH", f"/ota/devices/a%2F{uuid}/?factory=acme", {"group": ""})
    assert (changed.status, changed.json["group"]) == (200, None)
    assert device(server, uuid) == changed.json


def test_changes_that_are_refused(server: Serving, pki: Path) -> None:
    one, two = new_uuid(), new_uuid()
    for uuid in (one, two):
        assert server.ask("PUT", "/ota/devices/", {"client.pem": leaf(uuid, pki), "group": "kept"}).status == 201
    before = everything(server)
    path = f"/ota/devices/{one}/?factory=acme&by-uuid=1"
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"name": two}, 409, f"a device's name must not be another device's UUID; it is {two}"),
        ({"name": ""}, 400, "name must have 1 to 64 characters; it has none"),
        ({"name": "a\nb"}, 400, "name must have printable characters only; it has U+000A"),
        ({"group": "x" * 65}, 400, "group must have 1 to 64 characters; it has 65"),
        ({"group": 1}, 400, "group must be a string; it is a number"),
        ({"owner": "x"}, 400, "owner must be a user of this factory, and there is one: rehearsal"),
        ({"uuid": two}, 400, "a change has some of name, group, owner and nothing else; this has 'uuid'"),
        ({}, 400, "a change has some of name, group, owner and nothing else; this has none"),
    ]
    for asked, status, message in cases:
        refused(server, server.ask("PATCH", path, asked), status, message)
    wrong = {
        f"/ota/devices/{one}/?factory=b": "there is no factory 'b' here",
        "/ota/devices/nobody/?factory=acme": "there is no device 'nobody'",
        "/ota/devices/%FF%00/?factory=acme": "there is no device '%FF\\x00'",
        "/ota/devices/..%2F..%2Fx/?factory=acme": "there is no device '../../x'",
        "/ota/devices/%27%20OR%201=1/?factory=acme&by-uuid=1": 'there is no device "\' OR 1=1"',
    }
    for where, message in wrong.items():
        for method in ("PATCH", "DELETE"):
            refused(server, server.ask(method, where, {"group": "x"}), 404, message)
    refused(server, server.ask("PATCH", path, b"[]"), 400, "the body must be a JSON object; it is another value")
    assert everything(server) == before


def test_a_deleted_device_is_denied_until_it_is_allowed(server: Serving, pki: Path, tmp_path: Path) -> None:
    uuid, key = new_uuid(), p256()
    asked = {"client.pem": leaf(uuid, pki, key), "name": f"gone-{uuid}"}
    assert server.ask("PUT", "/ota/devices/", asked).status == 201
    files = {"root.crt": (pki / "factory_ca.pem").read_text(), "client.pem": asked["client.pem"]}
    assert contact(server, pki, tmp_path / "1", files, key)[0] == 200
    path, denied = f"/ota/devices/gone-{uuid}/?factory=acme", "/ota/factories/acme/denied-devices/"
    assert server.ask("DELETE", path).status == 204
    assert server.ask("DELETE", path).status == 404
    for method in ("GET", "PATCH", "DELETE"):
        gone = server.ask(method, f"/ota/devices/{uuid}/?by-uuid=1", {"group": "x"})
        refused(server, gone, 404, f"there is no device '{uuid}'")
    assert f"gone-{uuid}" in listed(server, f"{denied}?limit=2&page=1")
    assert f"gone-{uuid}" not in listed(server, "/ota/devices/")
    assert contact(server, pki, tmp_path / "2", files, key) == (403, f"Device({uuid}) has been deleted")
    for method, where, sent in (("PUT", "/ota/devices/", asked), ("POST", "/sign", body(uuid, key))):
        message = f"the device {uuid} was deleted and is denied"
        refused(server, server.ask(method, where, sent), 409, message)
    refused(
        server, server.ask("DELETE", f"/ota/factories/b/denied-devices/{uuid}/"), 404, "there is no factory 'b' here"
    )
    assert server.ask("DELETE", f"{denied}{uuid}/").status == 204
    refused(server, server.ask("DELETE", f"{denied}{uuid}/"), 404, f"the deny list has no device '{uuid}'")
    assert server.ask("PUT", "/ota/devices/", asked).status == 201
    assert contact(server, pki, tmp_path / "3", files, key)[0] == 200


def test_registering_online_takes_a_device_off_the_deny_list(server: Serving) -> None:
    uuid, key = new_uuid(), p256()
    assert server.ask("POST", "/ota/devices/", body(uuid, key)).status == 201
    assert server.ask("DELETE", f"/ota/devices/{uuid}/?factory=acme&by-uuid=1").status == 204
    assert server.ask("POST", "/ota/devices/", body(uuid)).status == 201
    assert uuid not in listed(server, "/ota/factories/acme/denied-devices/")
    assert device(server, uuid)["name"] == uuid


def test_devices_outlive_the_server(tmp_path: Path, pki: Path) -> None:
    uuid, key = new_uuid(), p256()
    with serving(tmp_path / "data", pki=pki) as server:
        assert server.ask("POST", "/ota/devices/", body(uuid, key, name="kept")).status == 201
        before = everything(server)
        server.kill()
    with serving(tmp_path / "data", pki=pki) as server:
        assert everything(server) == before
        assert server.ask("POST", "/ota/devices/", body(uuid)).status == 409
        assert urlsplit(server.api).hostname == "127.0.0.1"
