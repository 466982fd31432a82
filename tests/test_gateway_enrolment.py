"""What a device gets that registers: its certificate, octet by octet where it counts, and a `sota.toml` of its own."""

from __future__ import annotations

import re
import subprocess
import tomllib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from pki import DAY, NOW, key_usage, make_certificate, name, p256

from batch_issuer.authority.signers import FileKey
from batch_issuer.bundles.sota import SotaSettings, sota_toml
from batch_issuer.errors import AuthorityError, RefusedError, RequestError
from batch_issuer.gateway.context import DeviceCa
from batch_issuer.gateway.enrolment import certify, device_files, read_device_request
from batch_issuer.gateway.overrides import SotaWishes, device_sota, read_wishes

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
CN, OU, CATEGORY = NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.BUSINESS_CATEGORY
UTF8, PRINTABLE = _ASN1Type.UTF8String, _ASN1Type.PrintableString


def request(*pairs: tuple[x509.ObjectIdentifier, str], kind: _ASN1Type = UTF8) -> str:
    attributes = [x509.NameAttribute(oid, value, kind) for oid, value in pairs or ((CN, UUID), (OU, "acme"))]
    csr = x509.CertificateSigningRequestBuilder(x509.Name(attributes)).sign(p256(), hashes.SHA256())
    return csr.public_bytes(Encoding.PEM).decode()


def device_ca(*, window: tuple[datetime, datetime] | None = None, identifier: bytes | None = b"\x17" * 20) -> DeviceCa:
    key, subject = p256(), name("fio-test", ("acme",))
    certificate = make_certificate(
        subject, key, subject, key, window=window or (NOW - DAY, NOW + 9000 * DAY), key_identifier=identifier
    )
    return DeviceCa(certificate, FileKey.of(key))


def issued(text: str, ca: DeviceCa | None = None, *, production: bool = False) -> x509.Certificate:
    csr, _ = read_device_request(text, factory="acme", allow_production=production)
    return certify(csr, ca or device_ca(), now=NOW)


# The certificate


@pytest.mark.parametrize("kind", [UTF8, PRINTABLE])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_the_subject_is_kept_octet_by_octet(kind: _ASN1Type, order: tuple[int, ...]) -> None:
    pairs = ((CN, UUID.upper()), (OU, "acme"), (CATEGORY, "production"))
    text = request(*(pairs[place] for place in order), kind=kind)
    certificate = issued(text, production=True)
    subject = x509.load_pem_x509_csr(text.encode()).subject.public_bytes()
    tag = b"\x0c" if kind == UTF8 else b"\x13"
    assert tag + b"\x24" + UUID.upper().encode() in subject
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert subject + key in certificate.tbs_certificate_bytes


def test_the_profile() -> None:
    ca = device_ca()
    text = request()
    certificate = issued(text, ca)
    csr = x509.load_pem_x509_csr(text.encode())
    assert [(e.critical, e.value) for e in certificate.extensions] == [
        (True, key_usage("digital_signature")),
        (True, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])),
        (False, x509.SubjectKeyIdentifier.from_public_key(csr.public_key())),
        (False, x509.AuthorityKeyIdentifier(b"\x17" * 20, None, None)),
    ]
    assert certificate.public_key() == csr.public_key()
    assert certificate.issuer == ca.certificate.subject
    certificate.verify_directly_issued_by(ca.certificate)
    assert 64 < certificate.serial_number.bit_length() <= 159
    assert certificate.not_valid_before_utc == NOW - timedelta(hours=1)
    assert certificate.not_valid_after_utc == NOW + 7300 * DAY


def test_a_certificate_is_never_valid_without_its_ca() -> None:
    start, end = NOW - timedelta(minutes=5), NOW + 30 * DAY
    certificate = issued(request(), device_ca(window=(start, end)))
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (start, end)


def test_a_ca_without_an_identifier_gives_none() -> None:
    kinds = {type(extension.value) for extension in issued(request(), device_ca(identifier=None)).extensions}
    assert x509.AuthorityKeyIdentifier not in kinds
    assert x509.SubjectKeyIdentifier in kinds


@pytest.mark.parametrize(
    ("window", "error"),
    [
        ((NOW - 2 * DAY, NOW - DAY), f"the device CA was valid until {NOW - DAY:%Y-%m-%d %H:%M:%S} UTC"),
        ((NOW + DAY, NOW + 2 * DAY), f"the device CA is not valid before {NOW + DAY:%Y-%m-%d %H:%M:%S} UTC"),
    ],
)
def test_a_ca_out_of_its_time_signs_nothing(window: tuple[datetime, datetime], error: str) -> None:
    with pytest.raises(AuthorityError, match=re.escape(error)):
        issued(request(), device_ca(window=window))


def test_two_requests_get_two_serials() -> None:
    text, ca = request(), device_ca()
    assert issued(text, ca).serial_number != issued(text, ca).serial_number


def test_production_is_a_policy() -> None:
    text = request((CN, UUID), (OU, "acme"), (CATEGORY, "production"))
    assert issued(text, production=True).subject.get_attributes_for_oid(CATEGORY)
    with pytest.raises(RequestError) as caught:
        issued(text)
    assert (caught.value.code, str(caught.value)) == (
        "csr-production",
        "csr must not have businessCategory=production: this server lets no device call itself one of production",
    )


def test_a_request_as_lmp_device_register_makes_one(tmp_path: Path) -> None:
    (tmp_path / "cnf").write_text(
        f"[req]\nprompt = no\ndistinguished_name = dn\nreq_extensions = ext\n[dn]\nCN={UUID}\nOU=acme\n"
        "[ext]\nkeyUsage=critical, digitalSignature\nextendedKeyUsage=critical, clientAuth\n"
    )
    for command in (
        "ecparam -genkey -name prime256v1 -out key",
        "req -new -config cnf -key key -out csr",
    ):
        subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    ca = device_ca()
    (tmp_path / "leaf").write_bytes(issued((tmp_path / "csr").read_text(), ca).public_bytes(Encoding.PEM))
    (tmp_path / "ca").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    command = "verify -purpose sslclient -partial_chain -trusted ca leaf"
    done = subprocess.run(["openssl", *command.split()], cwd=tmp_path, check=True, capture_output=True)
    assert done.stdout == b"leaf: OK\n"


def test_the_files() -> None:
    ca = device_ca()
    certificate, root = issued(request(), ca), device_ca().certificate
    files = device_files(certificate, ca.certificate, root, "text")
    assert list(files) == ["root.crt", "sota.toml", "client.pem", "client.chained"]
    assert x509.load_pem_x509_certificates(files["root.crt"].encode()) == [root]
    assert x509.load_pem_x509_certificates(files["client.pem"].encode()) == [certificate]
    assert x509.load_pem_x509_certificates(files["client.chained"].encode()) == [certificate, ca.certificate]
    assert files["client.chained"] == files["client.pem"] + "\n" + ca.certificate.public_bytes(Encoding.PEM).decode()
    assert files["sota.toml"] == "text"


# sota.toml


def test_without_wishes_it_is_the_factorys() -> None:
    for hosts, ostree in ((("gw", "os"), "os"), (("gw",), "gw"), (("gw", "os", "more"), "os")):
        expected = sota_toml(SotaSettings("gw:8443", f"{ostree}:8443"), hardware_id='im"x\\8')
        assert device_sota(read_wishes('im"x\\8', None, None), hosts).encode() == expected


def test_wishes_of_lmp_device_register_with_an_hsm() -> None:
    pacman = {"type": '"ostree+compose_apps"', "tags": '"main"', "compose_apps_root": '"/data/apps"'}
    source = {"pkey_source": '"pkcs11"', "cert_source": '"pkcs11"'}
    unset = {"tls_pkey_path": "", "tls_clientcert_path": ""}
    overrides = {"pacman": pacman, "tls": source, "storage": unset, "import": unset}
    text = device_sota(read_wishes("imx8mm", "/data/sota/", overrides), ("gw", "os"))
    assert text == (
        '[tls]\nserver = "https://gw:8443"\nca_source = "file"\npkey_source = "pkcs11"\ncert_source = "pkcs11"\n\n'
        '[provision]\nserver = "https://gw:8443"\nprimary_ecu_hardware_id = "imx8mm"\n\n'
        '[uptane]\nrepo_server = "https://gw:8443/repo"\nkey_source = "file"\n\n'
        '[pacman]\ntype = "ostree+compose_apps"\nostree_server = "https://os:8443/ostree"\n'
        'compose_apps_root = "/data/apps"\nreset_apps_root = "/data/sota/reset-apps"\ntags = "main"\n\n'
        '[storage]\ntype = "sqlite"\npath = "/data/sota/"\n'
        "# tls_pkey_path is not set\n# tls_clientcert_path is not set\n\n"
        '[import]\ntls_cacert_path = "/data/sota/root.crt"\n'
        "# tls_pkey_path is not set\n# tls_clientcert_path is not set\n"
    )
    tomllib.loads(text + '\n[p11]\nmodule = "/usr/lib/x.so"\n')  # the device appends this, its PIN too


@pytest.mark.parametrize(
    ("fragment", "value"),
    [
        ('"main"', "main"),
        ("'main'", "main"),
        ('""', ""),
        ('"a,b" # why', "a,b"),
        ('"\\u00e9\\"\\\\"', 'é"\\'),
        (' "main" ', "main"),
    ],
)
def test_fragments_are_read_and_written_anew(fragment: str, value: str) -> None:
    text = device_sota(read_wishes("x", None, {"pacman": {"tags": fragment}}), ("gw",))
    assert tomllib.loads(text)["pacman"]["tags"] == value
    assert "why" not in text


BAD_FRAGMENTS = [
    "main",
    "1",
    "true",
    "[1]",
    "{}",
    '"a" "b"',
    '"a"\n[tls]',
    '"a"\nb = "c"',
    '"a"\nvalue = "c"',
    '"a',
    '"a\nb"',
    '"""a\nb"""',
    '"a\\nb"',
    '"a\\u007f"',
    '"\x00"',
    '"\ud800"',
    "[" * 900,
    "9" * 1000,
    '"' + "a" * 1100 + '"',
    ".a = 1",
    "# nothing",
]


@pytest.mark.parametrize("fragment", BAD_FRAGMENTS)
def test_no_fragment_can_bring_more_than_a_string(fragment: str) -> None:
    with pytest.raises(RefusedError, match=r"^overrides\.pacman\.tags must be (one TOML string|text|a TOML string)"):
        read_wishes("x", None, {"pacman": {"tags": fragment}})


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        ([], None),
        ("", None),
        ({"pacman": None}, None),
        ({"pacman": {"tags": None}}, None),
        ([1], "overrides must be a JSON object; it is another value"),
        ("x", "overrides must be a JSON object; it is another value"),
        ({"pacman": "x"}, "overrides.pacman must be a JSON object; it is another value"),
        ({"pacman": {"tags": 1}}, "overrides.pacman.tags must be a TOML string of at most 1024 characters; it is not"),
        ({"pacman": {"tags": {}}}, "overrides.pacman.tags must be a TOML string of at most 1024 characters; it is not"),
        (
            {"a]\n[b": {}},
            "overrides must have names of 1 to 64 letters, digits, - and _; it has 'a]\\n[b'",
        ),
        (
            {"a": {'b = "c"\n#': '""'}},
            "overrides.a must have names of 1 to 64 letters, digits, - and _; it has 'b = \"c\"\\n#'",
        ),
        ({"": {}}, "overrides must have names of 1 to 64 letters, digits, - and _; it has ''"),
        ({"a" * 65: {}}, f"overrides must have names of 1 to 64 letters, digits, - and _; it has '{'a' * 65}'"),
    ],
)
def test_the_shape_of_overrides(overrides: object, error: str | None) -> None:
    if error is None:
        assert device_sota(read_wishes("x", None, overrides), ("gw",)) is not None
        return
    with pytest.raises(RefusedError) as caught:
        read_wishes("x", None, overrides)
    assert str(caught.value) == error


@pytest.mark.parametrize("text", ["", "a\nb", "a\x7f", "\ud800", "x" * 1025])
def test_other_texts_are_checked_too(text: str) -> None:
    for hardware_id, directory in ((text, None), ("x", text)):
        with pytest.raises(RefusedError, match="must be text of 1 to 1024 characters without control characters"):
            read_wishes(hardware_id, directory, None)
    with pytest.raises(RefusedError, match=r"^sota-config-dir must be an absolute path; it is 'var/sota'$"):
        read_wishes("x", "var/sota", None)


ANY = st.text() | st.sampled_from([*BAD_FRAGMENTS, '"good"', "''", "tls", "pacman", "server"])


@given(
    hardware_id=ANY,
    directory=st.none() | ANY.map("/".__add__),
    overrides=st.dictionaries(ANY, st.dictionaries(ANY, ANY | st.none(), max_size=3), max_size=3),
)
def test_whatever_comes_the_file_is_what_was_meant(
    hardware_id: str, directory: str | None, overrides: dict[str, dict[str, str | None]]
) -> None:
    try:
        wishes = read_wishes(hardware_id, directory, overrides)
    except RefusedError:
        return
    document = tomllib.loads(device_sota(wishes, ("gw",)))
    plain = tomllib.loads(device_sota(SotaWishes("x"), ("gw",)))
    assert set(document) == set(plain) | set(overrides)
    for section, values in document.items():
        assert all(isinstance(value, str) for value in values.values())
        asked = overrides.get(section, {})
        assert set(values) == (set(plain.get(section, {})) | set(asked)) - {
            key for key, text in asked.items() if not text
        }
