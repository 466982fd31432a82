"""Certificate signing requests: what is signed, and the sentence for every one that is not."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from judges import run
from pki import key_usage, make_pki, p256

from batch_issuer.authority.requests import DeviceIdentity, check_device_request, read_request
from batch_issuer.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
CN, OU, CATEGORY = NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.BUSINESS_CATEGORY
UTF8, PRINTABLE, BMP = _ASN1Type.UTF8String, _ASN1Type.PrintableString, _ASN1Type.BMPString
WANTED = (key_usage("digital_signature"), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))


def named(*pairs: tuple[x509.ObjectIdentifier, str], kind: _ASN1Type = UTF8) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value, kind) for oid, value in pairs])


def builder(
    subject: x509.Name | None = None, extensions: tuple[x509.ExtensionType, ...] = ()
) -> x509.CertificateSigningRequestBuilder:
    made = x509.CertificateSigningRequestBuilder(subject or named((CN, UUID), (OU, "acme")))
    for extension in extensions:
        made = made.add_extension(extension, critical=True)
    return made


def pem(request: x509.CertificateSigningRequestBuilder) -> bytes:
    return request.sign(p256(), hashes.SHA256()).public_bytes(Encoding.PEM)


def identity(text: bytes) -> DeviceIdentity:
    return check_device_request(read_request(text, "the CSR"), factory="acme", what="the CSR")


@pytest.mark.parametrize("kind", [UTF8, PRINTABLE])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 1), (1, 0)])
@pytest.mark.parametrize("extensions", [(), WANTED[:1], WANTED])
def test_both_clients_forms_are_read(
    kind: _ASN1Type, order: tuple[int, ...], extensions: tuple[x509.ExtensionType, ...]
) -> None:
    pairs = ((CN, UUID), (OU, "acme"), (CATEGORY, "production"))
    subject = named(*(pairs[i] for i in order), kind=kind)
    text = pem(builder(subject, extensions))
    assert identity(text) == DeviceIdentity(UUID, production=2 in order)
    assert read_request(text, "it").subject.public_bytes() == subject.public_bytes()


def test_openssl_writes_one_that_is_read(tmp_path: Path) -> None:
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*command, "-keyout", "k", "-out", "c", "-subj", f"/OU=acme/CN={UUID.upper()}"],
                   cwd=tmp_path, check=True, capture_output=True)  # fmt: skip
    assert identity((tmp_path / "c").read_bytes()) == DeviceIdentity(UUID.upper(), production=False)


def other_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder().sign(key, algorithm).public_bytes(Encoding.PEM)


def forged() -> bytes:
    """A request whose signature is another request's."""
    first, second = (x509.load_pem_x509_csr(pem(builder())) for _ in range(2))
    der = first.public_bytes(Encoding.DER)
    longest = der.replace(first.signature, second.signature)
    if len(first.signature) != len(second.signature):
        return forged()
    return x509.load_der_x509_csr(longest).public_bytes(Encoding.PEM)


GOOD = named((CN, UUID), (OU, "acme"))
SAN = x509.SubjectAlternativeName([x509.DNSName("example.com")])
ATTRIBUTE = "may have CN, OU and businessCategory=production in its subject, as UTF8String or PrintableString; it has "
UNREADABLE = [
    ("nothing", lambda: b"", "csr-unreadable", "must be one PEM CERTIFICATE REQUEST; its PEM blocks are: none"),
    (
        "two",
        lambda: pem(builder()) * 2,
        "csr-unreadable",
        "its PEM blocks are: CERTIFICATE REQUEST, CERTIFICATE REQUEST",
    ),
    ("cut", lambda: pem(builder())[:200] + b"\n-----END CERTIFICATE REQUEST-----\n", "csr-unreadable", "it is not"),
    ("huge", lambda: b" " * 20_000 + pem(builder()), "csr-unreadable", "must have at most 16384 octets; it has 20"),
    ("p384", lambda: other_key(ec.generate_private_key(ec.SECP384R1())), "csr-key", "it is for secp384r1"),
    ("rsa", lambda: other_key(rsa.generate_private_key(65537, 2048)), "csr-key", "it is for RSAPublicKey"),
    ("ed25519", lambda: other_key(ed25519.Ed25519PrivateKey.generate()), "csr-key", "it is for Ed25519PublicKey"),
    ("forged", forged, "csr-signature", "must be signed by its own key; its signature does not verify"),
]
WRONG = [
    (named((CN, UUID), (OU, "other")), (), "csr-factory", "'acme'; it has 'other'"),
    (named((CN, UUID)), (), "csr-factory", "'acme'; it has none"),
    (named((CN, UUID), (OU, "acme"), (OU, "acme")), (), "csr-factory", "it has 'acme', 'acme'"),
    (named((OU, "acme")), (), "csr-uuid", "must have a UUID as its one common name (CN); it has none"),
    (named((CN, "device-1"), (OU, "acme")), (), "csr-uuid", "it has 'device-1'"),
    (named((CN, UUID + "\n"), (OU, "acme")), (), "csr-uuid", "it has"),
    (named((CN, "../../etc/passwd"), (OU, "acme")), (), "csr-uuid", "it has '../../etc/passwd'"),
    (named((CN, "0" * 8 + "-0000" * 3 + "-" + "0" * 12), (OU, "acme")), (), "csr-uuid", "it has '0000"),
    (named((CN, UUID), (CN, UUID), (OU, "acme")), (), "csr-uuid", "it has '5a1c"),
    (named((CN, UUID), (OU, "acme"), (NameOID.ORGANIZATION_NAME, "x")), (), "csr-attribute", ATTRIBUTE + "'O=x'"),
    (named((CN, UUID), (OU, "acme"), (CATEGORY, "Production")), (), "csr-attribute", "Production"),
    (named((CN, UUID), (OU, "acme"), (CATEGORY, "production"), (CATEGORY, "production")), (), "csr-attribute", "once"),
    (named((CN, UUID), (OU, "acme"), kind=BMP), (), "csr-attribute", ATTRIBUTE),
    (
        x509.Name([x509.RelativeDistinguishedName(list(GOOD))]),
        (),
        "csr-attribute",
        "must have each attribute of its subject once, on its own",
    ),
    (GOOD, (SAN,), "csr-extension", "extendedKeyUsage clientAuth only; it asks for 2.5.29.17 otherwise"),
    (GOOD, (key_usage("digital_signature", "key_cert_sign"),), "csr-extension", "it asks for 2.5.29.15 otherwise"),
    (GOOD, (x509.BasicConstraints(ca=True, path_length=None),), "csr-extension", "it asks for 2.5.29.19"),
    (GOOD, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),), "csr-extension", "it asks for 2.5.29.37"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "fault"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE])
def test_what_no_request_is(text: object, code: str, fault: str) -> None:
    assert callable(text)
    with pytest.raises(RequestError) as caught:
        read_request(text(), "the CSR")
    assert caught.value.code == code
    assert str(caught.value).startswith("the CSR must ")
    assert fault in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("subject", "extensions", "code", "fault"), WRONG)
def test_what_no_device_asks(
    subject: x509.Name, extensions: tuple[x509.ExtensionType, ...], code: str, fault: str
) -> None:
    with pytest.raises(RequestError) as caught:
        identity(pem(builder(subject, extensions)))
    assert caught.value.code == code
    assert fault in str(caught.value)


def test_a_challenge_password_is_refused() -> None:
    password = x509.oid.AttributeOID.CHALLENGE_PASSWORD
    with pytest.raises(
        RequestError, match=r"may have no attribute but requested extensions; it has 1\.2\.840\."
    ) as caught:
        identity(pem(builder().add_attribute(password, b"secret")))
    assert caught.value.code == "csr-extension"
    assert "secret" not in str(caught.value)


@given(st.binary(max_size=600))
def test_no_octets_bring_it_down(octets: bytes) -> None:
    good = pem(builder())
    for text in (octets, good[:60] + octets + good[60:], good[:-40] + octets):
        try:
            read_request(text, "the CSR")
        except RequestError as error:
            assert re.fullmatch(r"the CSR must .*", str(error), re.DOTALL)  # noqa: PT017 - either way is right


# `ca sign`


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pki(tmp_path_factory.mktemp("sign") / "pki")


SERVER_NAMES = x509.SubjectAlternativeName(
    [
        x509.DNSName("est.acme.example"),
        x509.UniformResourceIdentifier("https://est.acme.example/"),
        x509.RFC822Name("pki@acme.example"),
    ]
)


def test_sign_keeps_the_names_of_a_server(pki: Path, tmp_path: Path) -> None:
    (tmp_path / "csr").write_bytes(pem(builder(named((CN, "est"), (OU, "acme")), (SERVER_NAMES,))))
    signed = run("ca", "sign", tmp_path / "csr", "--pki-dir", pki)
    assert (signed.code, signed.err) == (0, "")
    certificate = x509.load_pem_x509_certificate(signed.out.encode())
    assert certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == SERVER_NAMES


@pytest.mark.parametrize(
    ("subject", "extensions", "fault"),
    [
        (named((CN, "est"), (OU, "acme")), (), "csr must name its server in subjectAltName; it has none"),
        (named((CN, "est"), (OU, "other")), (SERVER_NAMES,), "organizational unit (OU), 'acme'; it has 'other'"),
        (named((CN, "ca")), (x509.BasicConstraints(ca=True, path_length=0),), "(OU), 'acme'; it has none"),
        (
            named((CN, "est"), (OU, "acme")),
            (x509.SubjectAlternativeName([x509.DNSName("*.example")]),),
            "csr: a host must be labels",
        ),
        (
            named((CN, "est"), (OU, "acme")),
            (x509.SubjectAlternativeName([x509.RegisteredID(CN)]),),
            "csr may name hosts, addresses, URIs and mail addresses",
        ),
    ],
)
def test_sign_refuses_in_one_sentence(
    pki: Path, tmp_path: Path, subject: x509.Name, extensions: tuple[x509.ExtensionType, ...], fault: str
) -> None:
    (tmp_path / "csr").write_bytes(pem(builder(subject, extensions)))
    refused = run("ca", "sign", tmp_path / "csr", "--pki-dir", pki)
    assert (refused.code, refused.out) == (2, "")
    assert fault in refused.err
    assert refused.err.startswith("error: csr ") or refused.err.startswith("error: csr:")


def test_sign_makes_no_second_root(pki: Path, tmp_path: Path) -> None:
    ca = x509.BasicConstraints(ca=True, path_length=0)
    root_key = load_pem_private_key((pki / "factory_ca.key").read_bytes(), None)
    same_name = builder(named((CN, "Factory-CA"), (OU, "acme")), (ca,))
    same_key = builder(named((CN, "other"), (OU, "acme")), (ca,))
    for request in (pem(same_name), same_key.sign(root_key, hashes.SHA256()).public_bytes(Encoding.PEM)):  # type: ignore[arg-type]
        (tmp_path / "csr").write_bytes(request)
        refused = run("ca", "sign", tmp_path / "csr", "--pki-dir", pki)
        assert refused.code == 2
        assert refused.err == "error: a device CA must have another name and another key than the root\n"


def test_sign_needs_the_roots_key(pki: Path, tmp_path: Path) -> None:
    (tmp_path / "csr").write_bytes(pem(builder(named((CN, "est"), (OU, "acme")), (SERVER_NAMES,))))
    (tmp_path / "factory_ca.pem").write_bytes((pki / "factory_ca.pem").read_bytes())
    refused = run("ca", "sign", tmp_path / "csr", "--pki-dir", tmp_path)
    assert refused.code == 2
    assert "lacks factory_ca.key, and this needs the root's signature\nhint: bring the key here" in refused.err
    (tmp_path / "factory_ca.key").write_bytes((pki / "local-ca.key").read_bytes())
    refused = run("ca", "sign", tmp_path / "csr", "--pki-dir", tmp_path)
    assert refused.code == 2
    assert "factory_ca.key must be the key of factory_ca.pem" in refused.err
