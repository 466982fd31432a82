"""The certificate API of `gateway serve`: what fioctl asks and sends; what is refused changes nothing."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import sqlite3
import stat
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID
from fioctl import FIRST, MINUTES, Owner, pem
from gateways import PATIENCE, TOKEN, Serving, serving
from pki import (
    CA_FALSE,
    CLIENTS,
    EXPIRED,
    KEY_CERT_SIGN,
    NOT_YET,
    ROOT_CA_TRUE,
    SERVERS,
    make_certificate,
    name,
    p256,
)

from batch_issuer.gateway.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CERTS = "/ota/factories/acme/certs/"
HOLD, REMOVE, OTHER = (
    x509.ReasonFlags.certificate_hold,
    x509.ReasonFlags.remove_from_crl,
    x509.ReasonFlags.privilege_withdrawn,
)
MIB = 1 << 20


def state(server: Serving) -> Any:
    """Everything that the server keeps: its database in words, and its keys' names."""
    folder = data(server)
    with closing(sqlite3.connect(f"file:{folder / 'gateway.sqlite'}?mode=ro", uri=True)) as database:
        return list(database.iterdump()), sorted(path.name for path in (folder / "keys").iterdir())


def data(server: Serving) -> Path:
    arguments = list(map(str, server.process.args))  # type: ignore[arg-type]
    return Path(arguments[arguments.index("--data") + 1])


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Serving]:
    """A server before its PKI."""
    with serving(tmp_path / "data") as server:
        yield server


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    """A factory that is set up; for tests that change nothing."""
    with serving(tmp_path_factory.mktemp("api") / "data") as server:
        owner = Owner(server)
        owner.create()
        yield owner


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[Owner]:
    """A factory that is set up, for one test."""
    with serving(tmp_path / "data") as server:
        owner = Owner(server)
        owner.create()
        yield owner


# Before there is a PKI


def test_before_set_up_the_answer_is_206(empty: Serving) -> None:
    answer = empty.ask("GET", CERTS)
    assert (answer.status, answer.msg) == (206, "the factory's PKI is not configured")
    assert (empty.gateway, empty.announcements) == (None, [{"api": empty.api, "gateway": None}])


def test_nothing_comes_before_the_root(empty: Serving) -> None:
    owner, before = Owner(empty), state(empty)
    answer = owner.patch({"ca-crt": pem(owner.local.certificate)})
    said = "the factory has no root yet, and everything else is signed by it; root-crt comes first"
    assert (answer.status, answer.msg) == (409, said)
    assert state(empty) == before


def test_a_post_gives_what_it_asks_for_and_keeps_the_keys(empty: Serving) -> None:
    for asked in (["tls-csr"], ["ca-csr", "est-tls-csr"], [], ["ca-csr", "est-tls-csr", "tls-csr"]):
        body = {field: field in asked for field in FIRST} | {"first-time-init": True, "unknown": 3}
        answer = empty.ask("POST", CERTS, body)
        assert (answer.status, sorted(answer.json)) == (201, sorted(asked))
        assert all(re.fullmatch(ONE_REQUEST, text) for text in answer.json.values())
    keys = list((data(empty) / "keys").iterdir())
    assert len(keys) == 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o400}
    known = [load_pem_private_key(path.read_bytes(), None).public_key() for path in keys]
    requests = {field: x509.load_pem_x509_csr(text.encode()) for field, text in answer.json.items()}
    for csr in requests.values():
        assert csr.is_signature_valid
        assert known.count(csr.public_key()) == 1


ONE_REQUEST = r"-----BEGIN CERTIFICATE REQUEST-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END CERTIFICATE REQUEST-----\n"


def described(text: str) -> tuple[str, list[str] | bool]:
    """A request's subject, and its DNS names or whether it asks for a CA."""
    csr = x509.load_pem_x509_csr(text.encode())
    [extension] = csr.extensions
    if isinstance(extension.value, x509.SubjectAlternativeName):
        return csr.subject.rfc4514_string(), extension.value.get_values_for_type(x509.DNSName)
    assert isinstance(extension.value, x509.BasicConstraints)
    return csr.subject.rfc4514_string(), extension.value.ca


@pytest.mark.parametrize(
    ("factory", "options", "hosts"),
    [
        ("acme", (), ["acme.gateway.example", "acme.ostree.example"]),
        ("ACME Pumps & Söhne", (), ["acme-pumps-s-hne.gateway.example", "acme-pumps-s-hne.ostree.example"]),
        ("工場", (), ["factory.gateway.example", "factory.ostree.example"]),
        ("acme", ("--gateway-host", "gw.acme.test"), ["gw.acme.test"]),
        ("acme", ("--gateway-host", "gw.acme.test", "--ostree-host", "os.acme.test"), ["gw.acme.test", "os.acme.test"]),
    ],
)
def test_requests_name_the_factory_and_the_hosts(
    tmp_path: Path, factory: str, options: tuple[str, ...], hosts: list[str]
) -> None:
    with serving(tmp_path / "data", factory, TOKEN, None, *options) as server:
        answer = server.ask("POST", http_path(factory), dict.fromkeys(FIRST, True))
        assert {field: described(text) for field, text in answer.json.items()} == {
            "tls-csr": (unit(hosts[0], factory), hosts),
            "est-tls-csr": (unit(hosts[0], factory), hosts[:1]),
            "ca-csr": (unit("online-ca", factory), True),
        }


def http_path(factory: str) -> str:
    from urllib.parse import quote

    return f"/ota/factories/{quote(factory)}/certs/"


def unit(common_name: str, factory: str) -> str:
    return name(common_name, [factory]).rfc4514_string()


@pytest.mark.parametrize("body", [b"", b"{}", b" \n"], ids=["empty", "object", "space"])
def test_the_old_form_gives_two_requests_and_the_scripts(empty: Serving, body: bytes) -> None:
    answer = empty.ask("POST", CERTS, body)
    assert answer.status == 201
    assert {field: answer.json[field] for field in SCRIPTS} == SCRIPTS
    assert sorted(answer.json) == ["ca-csr", "create_ca", "create_device_ca", "sign_ca_csr", "sign_tls_csr", "tls-csr"]


# Set-up and after


def test_what_was_sent_is_shown(changing: Owner) -> None:
    shown = changing.get()
    assert shown["root-crt"] == pem(changing.root)
    online, local = x509.load_pem_x509_certificates(shown["ca-crt"].encode())
    assert local == changing.local.certificate
    assert online.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "online-ca"
    tls = x509.load_pem_x509_certificate(shown["tls-crt"].encode())
    assert tls.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "acme.gateway.example"
    assert (shown["est-tls-crt"], shown["disabled-ca-serials"]) == (None, [])
    meta = shown["change-meta"]
    assert (meta["created-by"], meta["updated-by"]) == ("rehearsal", "rehearsal")
    for moment in (meta["created-at"], meta["updated-at"]):
        assert abs(datetime.now(UTC) - datetime.fromisoformat(moment)) < 60 * MINUTES
    assert changing.server.wait_gateway() == changing.server.announcements[1]["gateway"]
    assert [line["gateway"] is None for line in changing.server.announcements] == [True, False]


def test_the_user_is_one_whom_a_device_ca_can_be_named_after(owner: Owner) -> None:
    answer = owner.server.ask("GET", "/ota/factories/acme/users/self/")
    assert answer.json == {
        "polis-id": "rehearsal",
        "name": "rehearsal",
        "role": "owner",
        "teams-ext": [],
        "effective-scopes": [],
    }


@pytest.mark.parametrize("body", [FIRST, {"first-time-init": True}, {}, b""], ids=["all", "only", "old", "empty"])
def test_a_pki_is_initialized_once(owner: Owner, body: Any) -> None:
    before = state(owner.server)
    answer = owner.server.ask("POST", CERTS, body)
    assert (answer.status, answer.msg) == (
        409,
        "the factory's PKI is initialized already, and a root is made once",
    )
    assert state(owner.server) == before


def test_the_root_is_set_once_and_sending_it_again_is_no_change(changing: Owner) -> None:
    changing.change({"root-crt": pem(changing.root)})
    other, before = Owner(changing.server), state(changing.server)
    answer = changing.patch({"root-crt": pem(other.root)})
    assert (answer.status, answer.msg) == (409, "root-crt is set once; the factory has another root already")
    assert state(changing.server) == before


def test_a_list_of_device_cas_replaces_the_one_before(changing: Owner) -> None:
    second, third = changing.device_ca("fio-2"), changing.device_ca("fio-3", serial=2**160 - 1)
    text = "\n\n" + pem(third.certificate) + "\n\n\n" + pem(second.certificate) + "\n"
    changing.change({"ca-crt": text})
    assert changing.get()["ca-crt"] == pem(third.certificate, second.certificate)
    changing.change({"ca-crt": pem(changing.local.certificate)})
    assert changing.get()["ca-crt"] == pem(changing.local.certificate)


def test_an_est_certificate_is_kept(changing: Owner) -> None:
    certificate = changing.signed(changing.post(est_tls_csr=True)["est-tls-csr"])
    changing.change({"est-tls-crt": pem(certificate)})
    assert changing.get()["est-tls-crt"] == pem(certificate)


def test_device_cas_are_disabled_enabled_and_revoked(changing: Owner) -> None:
    local, wide = changing.local, changing.device_ca("fio-2", serial=2**160 - 1)
    changing.change({"ca-crt": pem(local.certificate, wide.certificate)})
    changing.order(HOLD, local, wide)
    shown = changing.get()
    assert shown["disabled-ca-serials"] == [str(local.certificate.serial_number), str(2**160 - 1)]
    assert shown["ca-crt"] == pem(local.certificate, wide.certificate)
    changing.order(REMOVE, local)
    assert changing.get()["disabled-ca-serials"] == [str(2**160 - 1)]
    changing.order(OTHER, wide)
    shown = changing.get()
    assert (shown["ca-crt"], shown["disabled-ca-serials"]) == (pem(local.certificate), [])
    changing.change({"ca-crt": pem(local.certificate, wide.certificate)})
    assert changing.get()["disabled-ca-serials"] == []
    changing.order(OTHER, local, wide)
    assert changing.get()["ca-crt"] is None


def test_a_disabled_device_ca_stays_so_when_it_comes_back(changing: Owner) -> None:
    local, other = changing.local, changing.device_ca("fio-2")
    changing.order(HOLD, local)
    changing.change({"ca-crt": pem(other.certificate)})
    assert changing.get()["disabled-ca-serials"] == []
    changing.change({"ca-crt": pem(other.certificate, local.certificate)})
    assert changing.get()["disabled-ca-serials"] == [str(local.certificate.serial_number)]


def test_a_list_of_device_cas_and_a_revocation_in_one_change(changing: Owner) -> None:
    second = changing.device_ca("fio-2")
    crl = changing.crl({second.certificate.serial_number: HOLD})
    changing.change({"ca-revoke-crl": crl, "ca-crt": pem(second.certificate)})
    assert changing.get()["disabled-ca-serials"] == [str(second.certificate.serial_number)]


def test_a_rotated_tls_certificate_has_the_hosts_of_the_one_before(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "acme", TOKEN, None, "--gateway-host", "gw.acme.test") as server:
        owner = Owner(server)
        owner.create()
    with serving(tmp_path / "data") as server:
        owner.server = server
        assert described(owner.post(tls_csr=True)["tls-csr"])[1] == ["gw.acme.test"]
        owner.rotate_tls()


def test_a_name_that_is_too_long_for_a_common_name_is_asked_for_all_the_same(tmp_path: Path) -> None:
    """A certificate may bear what a request here would not have asked for; the next request goes by it."""
    hosts = ["g" * 60 + ".acme.test", "gw.acme.test"]
    with serving(tmp_path / "data") as server:
        owner = Owner(server)
        owner.create()
        tls = owner.signed(owner.post(tls_csr=True)["tls-csr"], hosts=hosts)
        owner.change({"tls-crt": pem(tls)})
        csrs = owner.post(tls_csr=True, est_tls_csr=True)
        assert described(csrs["tls-csr"]) == (unit("gateway", "acme"), hosts)
        assert described(csrs["est-tls-csr"]) == (unit("gateway", "acme"), hosts[:1])
        owner.rotate_tls()


# What is refused


def certificate(owner: Owner, **changes: Any) -> str:
    """A root's certificate with something else in it."""
    key, subject = p256(), changes.pop("subject", name("Factory-CA", ["acme"]))
    values: dict[str, Any] = {"constraints": ROOT_CA_TRUE, "usage": (*KEY_CERT_SIGN, "crl_sign")} | changes
    return pem(make_certificate(subject, key, changes.pop("issuer", subject), values.pop("signer", key), **values))


REFUSED_ROOTS: dict[str, tuple[Callable[[Owner], object], str]] = {
    "number": (lambda _: 7, "root-crt must be a string; it is a number"),
    "object": (lambda _: {}, "root-crt must be a string; it is an object"),
    "text": (lambda _: "hello", "root-crt must hold one PEM certificate; its PEM blocks are: none"),
    "two": (
        lambda o: pem(o.root) * 2,
        "root-crt must hold one PEM certificate; its PEM blocks are: CERTIFICATE, CERTIFICATE",
    ),
    "seven": (
        lambda o: pem(o.root) * 7,
        f"root-crt must hold one PEM certificate; its PEM blocks are: {'CERTIFICATE, ' * 4}CERTIFICATE and 2 more",
    ),
    "base64": (
        lambda _: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "root-crt must be a certificate as RFC 5280 has it; it is not",
    ),
    "factory": (
        lambda o: pem(Owner(o.server, "other").root),
        "root-crt must have the factory as its one organizational unit (OU), 'acme'; it has 'other'",
    ),
    "no factory": (
        lambda o: certificate(o, subject=name("Factory-CA", [])),
        "root-crt must have the factory as its one organizational unit (OU), 'acme'; it has none",
    ),
    "leaf": (
        lambda o: certificate(o, constraints=CA_FALSE),
        "root-crt must be a CA's certificate, with basicConstraints CA:TRUE; it has CA:FALSE",
    ),
    "signed by another": (
        lambda o: certificate(o, signer=p256()),
        "root-crt must be signed by the key of root-crt; its signature is not",
    ),
    "device CA": (
        lambda o: pem(o.local.certificate),
        "root-crt must be issued by root-crt, OU=acme,CN=fio-rehearsal; its issuer is OU=acme,CN=Factory-CA",
    ),
    "no room": (
        lambda o: certificate(o, constraints=x509.BasicConstraints(ca=True, path_length=0)),
        "root-crt must allow a CA below it; its pathLenConstraint is 0",
    ),
}


def test_a_root_that_is_none_is_refused(empty: Serving) -> None:
    owner = Owner(empty)
    csrs, before = owner.post(tls_csr=True), None
    before = state(empty)
    for case, (value, said) in REFUSED_ROOTS.items():
        # What comes with it is right, and is not taken either.
        answer = owner.patch({"root-crt": value(owner), "tls-crt": pem(owner.signed(csrs["tls-csr"]))})
        assert (case, answer.status, answer.msg) == (case, 400, said)
        assert state(empty) == before
    for window in (EXPIRED, NOT_YET):
        answer = owner.patch({"root-crt": certificate(owner, window=window)})
        assert answer.status == 400
        assert re.fullmatch(r"root-crt (was valid until|is not valid before) .* UTC; it is .* UTC", answer.msg)
    assert state(empty) == before
    assert empty.gateway is None


def tls(owner: Owner, **changes: Any) -> str:
    """A server's certificate for a key that the server made, with something else in it."""
    field = "est-tls-csr" if changes.pop("est", False) else "tls-csr"
    csr = x509.load_pem_x509_csr(owner.post(**{field.replace("-", "_"): True})[field].encode())
    values: dict[str, Any] = {
        "constraints": None,
        "usage": ("digital_signature",),
        "purposes": SERVERS,
        "hosts": ["gw.test"],
    } | changes
    signer = values.pop("signer", owner.key)

    class Key:
        """As a key, it has a public one, and no other is needed."""

        @staticmethod
        def public_key() -> Any:
            return csr.public_key()

    return pem(make_certificate(csr.subject, Key(), owner.root.subject, signer, **values))  # type: ignore[arg-type]


REFUSED_CHANGES: dict[str, tuple[Callable[[Owner], dict[str, object]], str]] = {
    "nothing": (
        lambda _: {"unknown": "x", "tls-crt": "", "ca-crt": None},
        "a change has at least one of root-crt, ca-crt, est-tls-crt, tls-crt, ca-revoke-crl; this has none",
    ),
    "list": (lambda _: {"ca-crt": ["x"]}, "ca-crt must be a string; it is a list"),
    "true": (lambda _: {"tls-crt": True}, "tls-crt must be a string; it is a boolean"),
    "tls of another root": (
        lambda o: {"tls-crt": tls(o, signer=p256())},
        "tls-crt must be signed by the key of root-crt; its signature is not",
    ),
    "tls of another key": (
        lambda o: {
            "tls-crt": pem(make_certificate(name("gw", ["acme"]), p256(), o.root.subject, o.key, hosts=["gw.test"]))
        },
        "tls-crt must certify the key of a request for it by this server; it certifies another key",
    ),
    "tls on another curve": (
        lambda o: {
            "tls-crt": pem(
                make_certificate(
                    name("gw", ["acme"]),
                    ec.generate_private_key(ec.SECP384R1()),
                    o.root.subject,
                    o.key,
                    hosts=["gw.test"],
                )
            )
        },
        "tls-crt must certify a P-256 key; it certifies secp384r1",
    ),
    "tls of the est key": (
        lambda o: {"tls-crt": tls(o, est=True)},
        "tls-crt must certify the key of a request for it by this server; it certifies another key",
    ),
    "est of the tls key": (
        lambda o: {"est-tls-crt": tls(o)},
        "est-tls-crt must certify the key of a request for it by this server; it certifies another key",
    ),
    "est of two names": (
        lambda o: {"est-tls-crt": tls(o, est=True, hosts=["a.test", "b.test"])},
        "est-tls-crt must have one DNS name; it has 2",
    ),
    "tls a CA": (
        lambda o: {"tls-crt": tls(o, constraints=ROOT_CA_TRUE)},
        "tls-crt must be a server's certificate; it is a CA's",
    ),
    "tls for clients": (
        lambda o: {"tls-crt": tls(o, purposes=CLIENTS)},
        "tls-crt must be allowed for TLS servers; its extendedKeyUsage lacks serverAuth",
    ),
    "tls without names": (
        lambda o: {"tls-crt": tls(o, hosts=[])},
        "tls-crt must have the server's DNS name in its subjectAltName; it has none",
    ),
    "tls with an odd name": (
        lambda o: {"tls-crt": tls(o, hosts=["gw_1.test"])},
        "tls-crt: a host must be labels of 1 to 63 letters, digits and inner hyphens with dots between them; "
        "it is not: 'gw_1.test'",
    ),
    "cas: text": (
        lambda _: {"ca-crt": "nothing"},
        "ca-crt must hold PEM certificates and nothing else; its PEM blocks are: none",
    ),
    "cas: a key": (
        lambda o: {"ca-crt": pem(o.local.certificate) + "-----BEGIN EC PRIVATE KEY-----\nAAAA\n"},
        "ca-crt must hold PEM certificates and nothing else; its PEM blocks are: CERTIFICATE, EC PRIVATE KEY",
    ),
    "cas: cut off": (
        lambda o: {"ca-crt": pem(o.local.certificate) + pem(o.local.certificate)[:200]},
        "ca-crt must hold whole PEM certificates; its last one has no end",
    ),
    "cas: the root": (
        lambda o: {"ca-crt": pem(o.local.certificate, o.root)},
        "certificate 2 of ca-crt must be a device CA; it has the root's own key",
    ),
    "cas: twice": (
        lambda o: {"ca-crt": pem(o.local.certificate) * 2},
        "ca-crt must hold every certificate once; a serial number is there twice",
    ),
    "cas: another root's": (
        lambda o: {"ca-crt": pem(Owner(o.server).local.certificate)},
        "certificate 1 of ca-crt must be signed by the key of root-crt; its signature is not",
    ),
    "cas: another factory's": (
        lambda o: {"ca-crt": pem(make_certificate(name("x", ["other"]), p256(), o.root.subject, o.key))},
        "certificate 1 of ca-crt must have the organizational unit of root-crt, 'acme'; it has 'other'",
    ),
    "cas: a device": (
        lambda o: {
            "ca-crt": pem(make_certificate(name("x", ["acme"]), p256(), o.root.subject, o.key, constraints=None))
        },
        "certificate 1 of ca-crt must be a CA's certificate, with basicConstraints CA:TRUE; it has no basicConstraints",
    ),
    "one good, one bad": (
        lambda o: {"tls-crt": tls(o), "ca-crt": pem(Owner(o.server).local.certificate)},
        "certificate 1 of ca-crt must be signed by the key of root-crt; its signature is not",
    ),
    "crl: text": (
        lambda _: {"ca-revoke-crl": "no"},
        "ca-revoke-crl must be one PEM X509 CRL; its PEM blocks are: none",
    ),
    "crl: another's": (
        lambda o: {"ca-revoke-crl": o.crl({o.local.certificate.serial_number: HOLD}, key=p256())},
        "ca-revoke-crl must be signed by the factory's root; it is not",
    ),
    "crl: empty": (lambda o: {"ca-revoke-crl": o.crl({})}, "ca-revoke-crl must list a device CA; it lists none"),
    "crl: unknown serial": (
        lambda o: {"ca-revoke-crl": o.crl({o.local.certificate.serial_number: HOLD, 4711: OTHER})},
        "ca-revoke-crl must list device CAs of ca-crt; none there has the serial number 4711",
    ),
    "crl: enabling an unknown serial": (
        lambda o: {"ca-revoke-crl": o.crl({4711: REMOVE})},
        "ca-revoke-crl must list device CAs of ca-crt; none there has the serial number 4711",
    ),
}


@pytest.mark.parametrize("case", REFUSED_CHANGES)
def test_a_change_that_breaks_a_rule_changes_nothing(owner: Owner, case: str) -> None:
    body, said = REFUSED_CHANGES[case]
    sent = body(owner)
    before, shown = state(owner.server), owner.get()
    answer = owner.patch(sent)
    assert (answer.status, answer.msg) == (400, said)
    assert (state(owner.server), owner.get()) == (before, shown)


def test_a_list_of_revocations_does_not_live_for_ever(owner: Owner) -> None:
    before = state(owner.server)
    crl = owner.crl({owner.local.certificate.serial_number: OTHER}, until=datetime.now(UTC) - MINUTES)
    answer = owner.patch({"ca-revoke-crl": crl})
    assert answer.status == 400
    assert re.fullmatch(r"ca-revoke-crl must be valid now, \S+; it was until \S+", answer.msg)
    assert state(owner.server) == before


@pytest.mark.parametrize("window", [EXPIRED, NOT_YET], ids=["expired", "not yet"])
def test_a_tls_certificate_must_be_valid_now(owner: Owner, window: Any) -> None:
    sent = {"tls-crt": tls(owner, window=window)}
    before = state(owner.server)
    answer = owner.patch(sent)
    assert answer.status == 400
    assert re.fullmatch(r"tls-crt (was valid until|is not valid before) .* UTC; it is .* UTC", answer.msg)
    assert state(owner.server) == before


BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "text": (b"hello", "the body must be JSON; it is not"),
    "cut off": (b'{"root-crt": "', "the body must be JSON; it is not"),
    "octets": (b"\xff\xfe\x00{", "the body must be JSON; it is not"),
    "deep": (b"[" * 200_000, "the body must be JSON; it is not"),
    "list": (b"[]", "the body must be a JSON object; it is another value"),
    "number": (b"1", "the body must be a JSON object; it is another value"),
    "null": (b"null", "the body must be a JSON object; it is another value"),
}


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_body_that_is_no_object_is_refused(owner: Owner, method: str, case: str) -> None:
    body, said = BAD_BODIES[case]
    before = state(owner.server)
    answer = owner.server.ask(method, CERTS, body)
    assert (answer.status, answer.msg) == (400, said)
    assert state(owner.server) == before


@pytest.mark.parametrize("field", FIRST)
@pytest.mark.parametrize(("value", "kind"), [("true", "a string"), (1, "a number"), ([], "a list")])
def test_what_is_asked_for_is_asked_by_true_or_false(owner: Owner, field: str, value: object, kind: str) -> None:
    before = state(owner.server)
    answer = owner.server.ask("POST", CERTS, {"tls-csr": True, field: value})
    assert (answer.status, answer.msg) == (400, f"{field} must be true or false; it is {kind}")
    assert state(owner.server) == before


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "missing"),
        ({"OSF-TOKEN": "another"}, "wrong"),
        ({"OSF-TOKEN": ""}, "wrong"),
        ({"OSF-TOKEN": TOKEN[:-1]}, "wrong"),
        ({"OSF-TOKEN": TOKEN + "x"}, "wrong"),
        ({"OSF-TOKEN": "x" * 7000}, "wrong"),
        ({"OSF-TOKEN": "t\xf6ken"}, "wrong"),
        ({"Authorization": f"Bearer {TOKEN}"}, "wrong"),
        ({"Authorization": "Bearer"}, "wrong"),
        ({"Authorization": f"Basic {base64.b64encode(TOKEN.encode()).decode()}"}, "wrong"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", CERTS),
        ("POST", CERTS),
        ("PATCH", CERTS),
        ("GET", "/ota/factories/acme/users/self/"),
        ("GET", "/ota/devices/"),
        ("GET", "/elsewhere"),
    ],
)
def test_who_has_not_the_token_gets_401(
    owner: Owner, method: str, path: str, headers: dict[str, str], said: str
) -> None:
    before = state(owner.server)
    answer = owner.server.ask(method, path, b"{}" if method != "GET" else None, token=None, headers=headers)
    assert (answer.status, answer.msg) == (401, f"the token in the header OSF-TOKEN is {said}")
    assert state(owner.server) == before


@pytest.mark.parametrize("kind", ["Bearer", "bearer"])
def test_the_token_may_come_as_a_bearer(owner: Owner, kind: str) -> None:
    headers = {"Authorization": f"{kind} {base64.b64encode(TOKEN.encode()).decode()}"}
    assert owner.server.ask("GET", CERTS, token=None, headers=headers).status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_another_factory_is_not_here(owner: Owner, method: str) -> None:
    before = state(owner.server)
    answer = owner.server.ask(method, "/ota/factories/other/certs/", {"tls-csr": True} if method != "GET" else None)
    assert (answer.status, answer.msg) == (404, "there is no factory 'other' here")
    assert owner.server.ask("GET", "/ota/factories/other/users/self/").status == 404
    assert state(owner.server) == before


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/", 404, "Not Found"),
        ("GET", "/ota/factories/acme/certs", 404, "Not Found"),
        ("GET", "/ota/factories/acme/../acme/certs/x", 404, "Not Found"),
        ("DELETE", CERTS, 405, "Method Not Allowed"),
        ("PUT", CERTS, 405, "Method Not Allowed"),
    ],
)
def test_what_is_not_there_is_said_in_json(owner: Owner, method: str, path: str, status: int, said: str) -> None:
    answer = owner.server.ask(method, path)
    assert (answer.status, answer.msg) == (status, said)
    if status == 405:
        assert {"GET", "PATCH", "POST"} <= set(answer.headers["Allow"].split(","))


# Large bodies


def memory(server: Serving) -> int:
    """Octets of memory that the server has had at most."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_a_body_of_more_than_a_mebibyte_is_refused(owner: Owner) -> None:
    before = state(owner.server)
    answer = owner.server.ask("PATCH", CERTS, b'{"root-crt": "' + b"x" * MIB + b'"}')
    assert (answer.status, answer.msg) == (413, f"a body must have at most {MIB} octets; it has {MIB + 16}")
    exactly = b'{"unknown": "' + b"x" * (MIB - 15) + b'"}'
    assert owner.server.ask("PATCH", CERTS, exactly).status == 400
    assert state(owner.server) == before


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_of_100_megabytes_is_not_kept_in_memory(owner: Owner, chunked: bool) -> None:
    before, used = state(owner.server), memory(owner.server)
    where = urlsplit(owner.server.api)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=PATIENCE)
    headers = {"OSF-TOKEN": TOKEN} | ({} if chunked else {"Content-Length": str(100 * MIB)})
    with closing(connection):
        # It does not have to listen to the end; what it had to say is there all the same.
        with suppress(OSError):
            connection.request("POST", CERTS, (bytes(MIB) for _ in range(100)), headers, encode_chunked=chunked)
        with suppress(OSError):
            answer = connection.getresponse()
            assert answer.status == 413
            assert json.loads(answer.read())["msg"].startswith(f"a body must have at most {MIB} octets")
    assert memory(owner.server) - used < 30 * MIB
    assert state(owner.server) == before


@pytest.mark.parametrize(
    "text", [b"\x16\x03\x01\x00\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"]
)
def test_what_is_no_http_is_survived(owner: Owner, text: bytes) -> None:
    where = urlsplit(owner.server.api)
    with socket.create_connection((where.hostname, where.port or 0), timeout=PATIENCE) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert not answer or answer.startswith(b"HTTP/1.")
    assert b"Traceback" not in answer
    assert owner.server.ask("GET", CERTS).status == 200


def test_an_accident_is_a_500_and_a_line_without_what_was_sent(changing: Owner) -> None:
    keys = data(changing.server) / "keys"
    keys.rename(keys.with_name("moved"))
    answer = changing.server.ask("POST", CERTS, {"tls-csr": True, "unknown": "s3cret"})
    assert (answer.status, answer.msg) == (500, "this should not have happened; the server's standard error says where")
    changing.server.wait_errors("FileNotFoundError")
    [line] = [line for line in changing.server.errors.splitlines() if line.startswith("error:")]
    assert re.fullmatch(rf"error: FileNotFoundError in \w+, line \d+ at POST '{CERTS}'", line)
    keys.with_name("moved").rename(keys)
    assert changing.post(tls_csr=True)["tls-csr"]
