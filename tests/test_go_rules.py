"""Directories and bundles under the rules of Go's programs: by a Go program where there is Go, by a twin everywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from gateways import serving
from handshakes import Ca, Device, ca_of, new_device
from judges import csv_bytes, issue, openssl_accepts
from pki import EXPIRED, SERVERS, key_pem, make_ca_dir, make_certificate, make_openssl_pki, make_pki, name, p256

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.gateway.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pki import Extensions

    Judge: TypeAlias = Callable[..., list[str]]

UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SOURCES = Path(__file__).parent / "go"
GO = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")


# The judges: each gives `file: rule` for every rule that is broken


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built once; nothing is fetched for it."""
    if GO is None:
        pytest.skip("there is no go here; the same rules are judged without it")
    folder = tmp_path_factory.mktemp("go")
    told = {"GOFLAGS": "-mod=mod", "GOCACHE": str(folder / "cache"), "GOPATH": str(folder), "GOPROXY": "off"}
    told |= {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    command = [GO, "build", "-o", str(folder / "judge"), "."]
    built = subprocess.run(
        command, cwd=SOURCES, env=os.environ | told, capture_output=True, text=True, check=False, timeout=540
    )
    assert built.returncode == 0, built.stderr
    return folder / "judge"


@pytest.fixture(params=["go", "python"])
def judge(request: pytest.FixtureRequest) -> Judge:
    if request.param == "python":
        return judge_by_python
    program = request.getfixturevalue("program")

    def judge_by_go(pki: Path, *bundles: Path) -> list[str]:
        command = [program, "check", pki, *bundles]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        faults = json.loads(ran.stdout)["faults"]
        assert isinstance(faults, list)
        return faults

    return judge_by_go


class Fault(Exception):  # noqa: N818 - a verdict
    """`file: rule`, after which nothing more can be said of the file."""


def judge_by_python(pki: Path, *bundles: Path) -> list[str]:
    """The same rules in Python, for machines without Go; tests run over both, so they cannot drift apart."""
    faults: list[str] = []

    def check(rule: Callable[..., Iterator[str]], *arguments: object) -> None:
        try:
            faults.extend(rule(*arguments))
        except Fault as fault:
            faults.append(str(fault))

    check(_root, pki)
    check(_key, pki / "factory_ca.key", pki / "factory_ca.pem")
    for path in sorted(path for path in pki.glob("*.pem") if path.name != "factory_ca.pem"):
        check(_device_ca, path, pki)
        check(_key, path.with_suffix(".key"), path)
    for file, rule in {"online-crt": _device_ca, "tls-crt": _server}.items():
        if (pki / file).exists():
            check(rule, pki / file, pki)
    for bundle in bundles:
        check(_bundle, bundle, pki)
    return faults


def _one_block(path: Path) -> bytes:
    text = path.read_bytes()
    if not re.fullmatch(rb"-----BEGIN ([A-Z ]+)-----\n[A-Za-z0-9+/=\n]+-----END \1-----\n?", text):
        raise Fault(f"{path.name}: one-block")
    return text


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(_one_block(path))


def _is_below(certificate: x509.Certificate, *issuers: x509.Certificate, purpose: x509.ObjectIdentifier) -> bool:
    """One of the issuers has signed it, both are valid now, and it is for that purpose or for any."""
    now = datetime.now(UTC)
    purposes = [list(e.value) for e in certificate.extensions if isinstance(e.value, x509.ExtendedKeyUsage)]
    for issuer in issuers:
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, InvalidSignature):
            continue
        in_time = all(one.not_valid_before_utc <= now <= one.not_valid_after_utc for one in (certificate, issuer))
        return in_time and all(purpose in asked for asked in purposes)
    return False


def _has_identifier(certificate: x509.Certificate) -> bool:
    return any(isinstance(extension.value, x509.SubjectKeyIdentifier) for extension in certificate.extensions)


def _root(pki: Path) -> Iterator[str]:
    root = _certificate(pki / "factory_ca.pem")
    if not _has_identifier(root):
        yield "factory_ca.pem: key-identifier"
    if not _is_below(root, root, purpose=CLIENT):
        yield "factory_ca.pem: chain"


def _key(path: Path, certificate: Path) -> Iterator[str]:
    text = _one_block(path)
    if not text.startswith(b"-----BEGIN EC PRIVATE KEY-----"):
        raise Fault(f"{path.name}: sec1")
    if load_pem_private_key(text, None).public_key() != _certificate(certificate).public_key():
        yield f"{path.name}: pair"


def _device_ca(path: Path, pki: Path) -> Iterator[str]:
    ca, root = _certificate(path), _certificate(pki / "factory_ca.pem")
    if not _is_below(ca, root, purpose=CLIENT):
        yield f"{path.name}: chain"
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage).value
    if not (constraints.ca and usage.key_cert_sign):
        yield f"{path.name}: ca"
    if not _has_identifier(root):
        yield f"{path.name}: revocation"


def _server(path: Path, pki: Path) -> Iterator[str]:
    server = _certificate(path)
    names = [e.value for e in server.extensions if isinstance(e.value, x509.SubjectAlternativeName)]
    if not any(value.get_values_for_type(x509.DNSName) for value in names):
        yield f"{path.name}: host"
    elif not _is_below(server, _certificate(pki / "factory_ca.pem"), purpose=ExtendedKeyUsageOID.SERVER_AUTH):
        yield f"{path.name}: chain"


def _bundle(bundle: Path, pki: Path) -> Iterator[str]:
    leaf = _certificate(bundle / "client.pem")
    local = pki / "local-ca.pem"
    trusted = pki / "ca-crt" if (pki / "ca-crt").exists() else local
    for rule, anchors in {"chain": local, "anchor": trusted}.items():
        if not _is_below(leaf, *x509.load_pem_x509_certificates(anchors.read_bytes()), purpose=CLIENT):
            yield f"client.pem: {rule}"
    if load_pem_private_key((bundle / "pkey.pem").read_bytes(), None).public_key() != leaf.public_key():
        yield "pkey.pem: pair"


# What passes


@pytest.fixture
def pki(tmp_path: Path, factory_pki: Path) -> Path:
    """A good directory of one's own."""
    return Path(shutil.copytree(factory_pki, tmp_path / "own"))


def by_scripts(directory: Path) -> Path:
    directory.mkdir()
    for script, arguments in {"create_ca": ("acme",), "create_device_ca": ("fio-5e0", "acme")}.items():
        command = ["sh", "-s", "--", *arguments]
        subprocess.run(command, cwd=directory, input=SCRIPTS[script], text=True, check=True, timeout=60)
    return directory


def test_what_we_make_passes(tmp_path: Path, judge: Judge) -> None:
    made = make_pki(tmp_path / "pki", ostree_host="ostree.example.com")
    assert judge(made) == []


def test_what_the_scripts_make_passes(tmp_path: Path, judge: Judge) -> None:
    assert judge(by_scripts(tmp_path / "pki")) == []


def test_the_go_program_sees_all_of_it(tmp_path: Path, program: Path) -> None:
    made = make_pki(tmp_path / "pki", ostree_host="ostree.example.com")
    ran = subprocess.run([program, "check", made], capture_output=True, text=True, check=True, timeout=60)
    hosts = ["gw.example.com", "ostree.example.com"]
    assert json.loads(ran.stdout) == {"faults": [], "device_cas": ["local-ca", "online-crt"], "hosts": hosts}


def test_bundles_pass(work: Path, judge: Judge) -> None:
    assert issue(csv_bytes([UUID])).code == 0
    assert judge(work / "pki", work / "issued" / "bundles" / UUID) == []


def test_a_pki_that_go_has_made_issues(work: Path, program: Path) -> None:
    """Key identifiers are truncated SHA-256 since Go 1.25, and serials have 160 bits: the first is copied."""
    made = work / "go"
    made.mkdir()
    subprocess.run([program, "make", made, "acme"], check=True, timeout=60)
    issuer = load_issuer(made, "local-ca", now=datetime.now(UTC))
    assert x509.load_der_x509_certificate(issuer.certificate).serial_number.bit_length() == 160
    assert issue(csv_bytes([UUID]), "--pki", made, "--gateway", "gw.example.com").code == 0
    bundle = work / "issued" / "bundles" / UUID
    assert judge_by_python(made, bundle) == []
    assert openssl_accepts(bundle / "client.pem", made, partial=False)
    assert openssl_accepts(bundle / "client.pem", made, partial=True)


# What does not


def _spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))


def _as_pkcs8(text: bytes) -> bytes:
    key = load_pem_private_key(text, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key_pem(key, pkcs8=True)


PARAMETERS = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"


@pytest.mark.parametrize(
    ("file", "change", "rule"),
    [
        ("factory_ca.key", _as_pkcs8, "sec1"),
        ("factory_ca.key", lambda text: text + b"\n", "one-block"),
        ("factory_ca.key", lambda text: PARAMETERS + text, "one-block"),
        ("factory_ca.key", lambda _: key_pem(p256()), "pair"),
        ("local-ca.key", _as_pkcs8, "sec1"),
        ("local-ca.key", lambda text: text + b"\n", "one-block"),
        ("local-ca.key", lambda text: PARAMETERS + text, "one-block"),
        ("local-ca.key", lambda _: key_pem(p256()), "pair"),
        ("online-crt", lambda text: text + b"\n", "one-block"),
        ("online-crt", lambda text: text + text, "one-block"),
        ("tls-crt", lambda text: text + b" ", "one-block"),
        ("tls-crt", lambda text: text + text, "one-block"),
    ],
)
def test_spoiled_files(pki: Path, judge: Judge, file: str, change: Callable[[bytes], bytes], rule: str) -> None:
    assert judge(pki) == []
    _spoil(pki / file, change)
    assert judge(pki) == [f"{file}: {rule}"]


@pytest.mark.parametrize("file", ["online-crt", "tls-crt"])
def test_a_foreign_certificate(tmp_path: Path, pki: Path, judge: Judge, file: str) -> None:
    other = make_pki(tmp_path / "other")
    _spoil(pki / file, lambda _: (other / file).read_bytes())
    assert judge(pki) == [f"{file}: chain"]


def test_a_root_without_a_key_identifier(tmp_path: Path, judge: Judge) -> None:
    """Go makes no revocation list then, so fioctl could disable no device CA."""
    made = make_ca_dir(tmp_path / "pki")
    assert judge(made) == ["factory_ca.pem: key-identifier", "local-ca.pem: revocation"]


def test_keys_as_openssl_writes_them(tmp_path: Path, judge: Judge) -> None:
    faults = judge(make_openssl_pki(tmp_path / "pki"))
    assert faults == ["factory_ca.key: one-block", "local-ca.key: one-block"]


def _bundle_by(directory: Path, pki: Path, *, purposes: tuple[x509.ObjectIdentifier, ...]) -> Path:
    """A bundle that the directory's local-ca has signed, for these purposes."""
    key, signer = p256(), load_pem_private_key((pki / "local-ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    subject, usage = name(UUID, ("acme",)), ("digital_signature",)
    leaf = make_certificate(subject, key, ca.subject, signer, constraints=None, usage=usage, purposes=purposes)
    directory.mkdir()
    (directory / "client.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (directory / "pkey.pem").write_bytes(key_pem(key))
    return directory


def test_bundles_that_fail(work: Path, judge: Judge) -> None:
    assert issue(csv_bytes([UUID])).code == 0
    bundle, foreign = work / "issued" / "bundles" / UUID, make_pki(work / "foreign")
    assert judge(foreign, bundle) == ["client.pem: chain", "client.pem: anchor"]
    chained = Path(shutil.copytree(bundle, work / "chained"))
    _spoil(chained / "client.pem", lambda text: text + (work / "pki" / "local-ca.pem").read_bytes())
    assert judge(work / "pki", chained) == ["client.pem: one-block"]
    rekeyed = Path(shutil.copytree(bundle, work / "rekeyed"))
    _spoil(rekeyed / "pkey.pem", lambda _: key_pem(p256()))
    assert judge(work / "pki", rekeyed) == ["pkey.pem: pair"]
    server = _bundle_by(work / "server", work / "pki", purposes=SERVERS)
    assert judge(work / "pki", server) == ["client.pem: chain", "client.pem: anchor"]


def test_an_expired_ca_takes_its_devices_along(tmp_path: Path, judge: Judge) -> None:
    """Go checks the anchor's own dates too."""
    made = make_ca_dir(tmp_path / "pki", ca_window=EXPIRED)
    bundle = _bundle_by(tmp_path / "bundle", made, purposes=(CLIENT,))
    faults = ["factory_ca.pem: key-identifier", "local-ca.pem: chain", "local-ca.pem: revocation"]
    assert judge(made, bundle) == [*faults, "client.pem: chain", "client.pem: anchor"]


# A device gateway that shares nothing with ours


@contextmanager
def gateway(program: Path, pki: Path) -> Iterator[int]:
    """The Go program's gateway; its port."""
    pipe = subprocess.PIPE
    process = subprocess.Popen([program, "serve", pki], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["port"]
    finally:
        process.communicate(timeout=60)
    assert process.returncode == 0


def ask(port: int, root: Path, bundle: Path | None, *, host: str = "gw.example.com") -> tuple[int, str]:
    """Status and text of a device's request, or what TLS says instead."""
    context = ssl.create_default_context(cafile=root)
    if bundle is not None:
        context.load_cert_chain(bundle / "client.pem", bundle / "pkey.pem")
    with socket.create_connection(("127.0.0.1", port), 60) as plain:
        with context.wrap_socket(plain, server_hostname=host) as connection:
            connection.sendall(b"GET /repo/1.root.json HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, text = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), text.decode()


def test_an_independent_gateway(work: Path, program: Path) -> None:
    assert issue(csv_bytes([UUID])).code == 0
    bundle, root = work / "issued" / "bundles" / UUID, work / "pki" / "factory_ca.pem"
    foreign = make_pki(work / "foreign")
    stranger = _bundle_by(work / "stranger", foreign, purposes=(CLIENT,))
    server = _bundle_by(work / "server", work / "pki", purposes=SERVERS)
    with gateway(program, work / "pki") as port:
        assert ask(port, root, bundle) == (200, UUID)
        assert ask(port, root, None) == (403, "no client certificate provided")
        for refused in (stranger, server):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ask(port, root, refused)
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, root, bundle, host="other.example.com")
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, foreign / "factory_ca.pem", bundle)
        assert ask(port, root, bundle) == (200, UUID)


def _identifier(**changes: object) -> Extensions:
    values = {"key_identifier": b"\x17" * 20, "authority_cert_issuer": None, "authority_cert_serial_number": None}
    return [(x509.AuthorityKeyIdentifier(**(values | changes)), False)]  # type: ignore[arg-type]


def _odd_devices(pki: Path) -> dict[str, Device]:
    """Devices of the directory, whose device CAs become more by this: what is odd, to the device."""
    root, ca = ca_of(pki, "factory_ca"), ca_of(pki)
    keys = [p256() for _ in range(2)]
    subjects = (ca.certificate.subject, name("fio-any", ("acme",)))
    purposes = ((), (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))
    twin, anybody = (
        make_certificate(
            subject, key, root.certificate.subject, root.key, key_identifier=bytes([place]) * 20, purposes=purpose
        )
        for place, (subject, key, purpose) in enumerate(zip(subjects, keys, purposes, strict=True))
    )
    for more in (twin, anybody):
        with (pki / "ca-crt").open("ab") as file:
            file.write(more.public_bytes(Encoding.PEM))
    own = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    elsewhere = {"authority_cert_issuer": [x509.DirectoryName(subjects[1])], "authority_cert_serial_number": 7}
    netscape = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.16.840.1.113730.1.1"), bytes.fromhex("03020640"))
    right = [(x509.AuthorityKeyIdentifier(own, None, None), False)]
    [common_name] = ca.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    other_case = make_certificate(
        name(str(common_name.value).upper(), ("acme",)), ca.key, subjects[0], ca.key, key_identifier=own
    )
    return {
        "another key": new_device(ca, extensions=_identifier()),
        "another issuer": new_device(ca, extensions=_identifier(key_identifier=own, **elsewhere)),
        "no identifier": new_device(Ca(twin, keys[0]), extensions=[]),
        "any purpose": new_device(ca, purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
        "a CA for any purpose": new_device(Ca(anybody, keys[1])),
        "no signatures": new_device(ca, usage=("key_encipherment",)),
        "a server by Netscape's type": new_device(ca, extensions=[*right, (netscape, False)]),
        "an issuer in other letters": new_device(Ca(other_case, ca.key)),
    }


@pytest.mark.parametrize("by", ["go", "stand-in"])
def test_where_the_stand_in_and_go_are_not_of_one_mind(tmp_path: Path, by: str, request: pytest.FixtureRequest) -> None:
    """The list in the documentation of the stand-in's TLS: it is stricter in all of them but the last."""
    pki = make_pki(tmp_path / "pki")
    devices = {"nothing": new_device(ca_of(pki))} | _odd_devices(pki)
    let_in = {"nothing"} | ({"an issuer in other letters"} if by == "stand-in" else devices.keys())
    with ExitStack() as stack:
        if by == "go":
            port = stack.enter_context(gateway(request.getfixturevalue("program"), pki))
            let_in -= {"an issuer in other letters"}
        else:
            port = stack.enter_context(serving(tmp_path / "data", pki=pki)).address[1]
        found = set()
        for odd, device in devices.items():
            bundle = tmp_path / odd
            bundle.mkdir()
            (bundle / "client.pem").write_bytes(device.certificate.public_bytes(Encoding.PEM))
            (bundle / "pkey.pem").write_bytes(key_pem(device.key))
            with suppress(ssl.SSLError, ConnectionError):
                assert ask(port, pki / "factory_ca.pem", bundle)[0] == 200
                found.add(odd)
    assert found == let_in
