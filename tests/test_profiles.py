"""The field table of the factory PKI, attribute by attribute, over every kind of certificate that there is."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from judges import run
from pki import key_usage, p256

from batch_issuer.profiles import years_after

if TYPE_CHECKING:
    from pathlib import Path

Attributes: TypeAlias = "tuple[tuple[bytes, str], ...]"

UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
OTHER = "6b2d7c0f-9a4e-4a1b-8b66-1d2e3f4a5b6c"
CN, OU, O, CATEGORY = b"\x55\x04\x03", b"\x55\x04\x0b", b"\x55\x04\x0a", b"\x55\x04\x0f"  # noqa: E741 - RFC 4519's name
ROOT_NAME = ((CN, "Factory-CA"), (OU, "acme"))
CA_TRUE, CA_ZERO = x509.BasicConstraints(ca=True, path_length=None), x509.BasicConstraints(ca=True, path_length=0)
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
BOTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


@dataclass(frozen=True)
class Row:
    """What a certificate must have; an identifier says only that the extension is there, its value is checked below.

    Without `years` it is valid as long as its issuer, to the second.
    """

    subject: Attributes
    years: int | None
    usage: tuple[str, ...]
    constraints: x509.BasicConstraints | None = None
    purposes: x509.ExtendedKeyUsage | None = None
    purposes_critical: bool = False
    names: tuple[str, ...] = ()
    own_identifier: bool = True
    authority_identifier: bool = True
    issuer: Attributes = ROOT_NAME


def ca_row(*subject: tuple[bytes, str]) -> Row:
    return Row(subject, 10, ("key_cert_sign",), CA_ZERO)


def server_row(*names: str) -> Row:
    subject = ((CN, names[0]), (OU, "acme"))
    return Row(subject, 10, ("digital_signature",), purposes=SERVER, names=names, own_identifier=False)


def device_row(*subject: tuple[bytes, str]) -> Row:
    issuer = ((CN, "fio-7f3a"), (OU, "acme"))
    return Row(subject, None, ("digital_signature",), purposes=CLIENT, purposes_critical=True, issuer=issuer)


TABLE = {
    "factory_ca.pem": Row(ROOT_NAME, 20, ("key_cert_sign", "crl_sign"), CA_TRUE, BOTH, authority_identifier=False),
    "local-ca.pem": ca_row((CN, "fio-7f3a"), (OU, "acme")),
    "site2.pem": ca_row((CN, "fio-site2"), (OU, "acme")),
    "online-crt": ca_row((CN, "online-ca"), (OU, "acme")),
    "el2go.pem": ca_row((O, "nxp"), (OU, "acme"), (CN, "el2go")),
    "tls-crt": server_row("gw.acme.example", "os.acme.example"),
    "est.pem": server_row("est.acme.example"),
    "batch-signer.pem": Row(((CN, "batch-signer"), (OU, "acme")), 10, ("digital_signature",)),
    UUID: device_row((CN, UUID), (OU, "acme")),
    OTHER: device_row((CN, OTHER), (OU, "acme"), (CATEGORY, "production")),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a certificate of every kind, all by the program's commands."""
    folder = tmp_path_factory.mktemp("profiles")
    pki = folder / "pki"
    hosts = ("--gateway-host", "gw.acme.example", "--ostree-host", "os.acme.example")
    assert run("ca", "create", pki, "--factory", "acme", "--user-id", "7f3a", *hosts).code == 0
    assert run("ca", "add-device-ca", pki, "--local-ca", "--local-ca-filename", "site2.pem").code == 0
    assert run("ca", "add-signer", pki).code == 0
    el2go = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "nxp"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "acme"),
            x509.NameAttribute(NameOID.COMMON_NAME, "el2go"),
        ]
    )
    est = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "est.acme.example"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "acme"),
        ]
    )
    server = x509.SubjectAlternativeName([x509.DNSName("est.acme.example")])
    for file, name, extension in (("el2go", el2go, CA_TRUE), ("est", est, server)):
        csr = x509.CertificateSigningRequestBuilder(name).add_extension(extension, critical=False)
        (folder / f"{file}.csr").write_bytes(csr.sign(p256(), hashes.SHA256()).public_bytes(Encoding.PEM))
        signed = run("ca", "sign", folder / f"{file}.csr", "--pki-dir", pki)
        assert signed.code == 0
        (pki / f"{file}.pem").write_text(signed.out)
    (folder / "devices.csv").write_text(f"device_uuid,production\n{UUID},0\n{OTHER},1\n")
    issued = run("issue", "--manifest", folder / "devices.csv", "--pki", pki, "--out", folder / "out", "--days", "3700")
    assert issued.code == 0
    return folder


def load(folder: Path, file: str) -> x509.Certificate:
    place = folder / "out/bundles" / file / "client.pem" if file in (UUID, OTHER) else folder / "pki" / file
    return x509.load_pem_x509_certificate(place.read_bytes())


def utf8_name(attributes: Attributes) -> bytes:
    """Name ::= SEQUENCE OF SET { SEQUENCE { type OBJECT IDENTIFIER, value UTF8String } }, one attribute in each SET."""

    def tlv(tag: int, content: bytes) -> bytes:
        return bytes((tag, len(content))) + content

    sets = [tlv(0x31, tlv(0x30, tlv(6, oid) + tlv(12, value.encode()))) for oid, value in attributes]
    encoded = b"".join(sets)
    return (b"\x30\x81" + bytes([len(encoded)]) + encoded) if len(encoded) > 127 else tlv(0x30, encoded)


@pytest.mark.parametrize("file", TABLE)
def test_every_field(made: Path, file: str) -> None:
    row, certificate, root = TABLE[file], load(made, file), load(made, "factory_ca.pem")
    signer = load(made, "local-ca.pem") if row.issuer != ROOT_NAME else root
    assert certificate.version is x509.Version.v3
    assert certificate.signature_algorithm_oid == x509.SignatureAlgorithmOID.ECDSA_WITH_SHA256
    assert 2**63 < certificate.serial_number < 2**159
    assert certificate.subject.public_bytes() == utf8_name(row.subject)
    assert certificate.issuer.public_bytes() == signer.subject.public_bytes() == utf8_name(row.issuer)
    certificate.verify_directly_issued_by(signer)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if row.years is not None:
        assert end == years_after(start, row.years)
        assert timedelta(0) <= datetime.now(UTC) - start < timedelta(minutes=5)
    else:
        assert (start, end) == (signer.not_valid_before_utc, signer.not_valid_after_utc)
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert (len(spki), certificate.public_key_algorithm_oid.dotted_string) == (91, "1.2.840.10045.2.1")
    assert extensions(certificate) == expected(row, certificate, signer)


def extensions(certificate: x509.Certificate) -> dict[str, tuple[bool, x509.ExtensionType]]:
    return {e.oid.dotted_string: (e.critical, e.value) for e in certificate.extensions}


def expected(row: Row, own: x509.Certificate, signer: x509.Certificate) -> dict[str, tuple[bool, x509.ExtensionType]]:
    identifier = x509.SubjectKeyIdentifier.from_public_key
    values: dict[str, tuple[bool, x509.ExtensionType]] = {"2.5.29.15": (True, key_usage(*row.usage))}
    if row.constraints is not None:
        values["2.5.29.19"] = (True, row.constraints)
    if row.purposes is not None:
        values["2.5.29.37"] = (row.purposes_critical, row.purposes)
    if row.names:
        values["2.5.29.17"] = (False, x509.SubjectAlternativeName([x509.DNSName(name) for name in row.names]))
    if row.own_identifier:
        values["2.5.29.14"] = (False, identifier(own.public_key()))
    if row.authority_identifier:
        authority = x509.AuthorityKeyIdentifier(identifier(signer.public_key()).digest, None, None)
        values["2.5.29.35"] = (False, authority)
    return values


def test_a_different_profile_is_seen(made: Path) -> None:
    """The judge's own must-fail twin: no certificate passes for another kind."""
    for row in TABLE.values():
        signer = load(made, "factory_ca.pem" if row.issuer == ROOT_NAME else "local-ca.pem")
        for file, other in TABLE.items():
            certificate = load(made, file)
            same = expected(row, certificate, signer) == extensions(certificate)
            assert same == (kind(other) == kind(row)), (row, file)


def kind(row: Row) -> tuple[object, ...]:
    return row.usage, row.constraints, row.purposes, row.purposes_critical, row.names, row.issuer


@pytest.mark.parametrize("file", [file for file in TABLE if file != "factory_ca.pem"])
def test_openssl_accepts_it_strictly(made: Path, file: str) -> None:
    row = TABLE[file]
    purpose = "sslclient" if row.purposes == CLIENT else "sslserver" if row.purposes == SERVER else "any"
    place = made / "out/bundles" / file / "client.pem" if file in (UUID, OTHER) else made / "pki" / file
    below = ["-untrusted", f"{made}/pki/local-ca.pem"] if row.issuer != ROOT_NAME else []
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", f"{made}/pki/factory_ca.pem"]
    done = subprocess.run([*command, *below, str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
