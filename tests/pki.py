"""PKI directories for tests: real ones, ones as openssl's scripts make them, and ones that are wrong in one respect."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from batch_issuer.authority.layout import PkiDirectory
from batch_issuer.ceremony.create import create_pki
from batch_issuer.ceremony.signer import add_signer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import rsa

    CaKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    Extensions: TypeAlias = Iterable[tuple[x509.ExtensionType, bool]]

# The same second in every process of a test run: tests are named by it, and xdist wants one list from all of them.
NOW = datetime.fromtimestamp(int(os.environ.setdefault("TESTS_BEGAN", str(int(time.time())))), UTC)
DAY = timedelta(days=1)
VALID = (NOW - DAY, NOW + 3650 * DAY)
EXPIRED = (NOW - 2 * DAY, NOW - DAY)
NOT_YET = (NOW + DAY, NOW + 2 * DAY)

KEY_CERT_SIGN = ("key_cert_sign",)
CLIENTS = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVERS = (ExtendedKeyUsageOID.SERVER_AUTH,)
CA_TRUE = x509.BasicConstraints(ca=True, path_length=0)
CA_FALSE = x509.BasicConstraints(ca=False, path_length=None)
ROOT_CA_TRUE = x509.BasicConstraints(ca=True, path_length=None)


def make_pki(
    directory: Path,
    *,
    factory: str = "acme",
    gateway_host: str | None = "gw.example.com",
    ostree_host: str | None = None,
    signer: str | None = None,
    now: datetime = NOW,
) -> Path:
    """A good PKI by the program itself; with a signer of outputs of that name."""
    create_pki(directory, factory=factory, gateway_host=gateway_host, ostree_host=ostree_host, now=now)
    if signer is not None:
        add_signer(PkiDirectory(directory), name=signer, now=now)
    return directory


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def name(common_name: str, units: Sequence[str]) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
    return x509.Name(attributes)


def key_usage(*bits: str) -> x509.KeyUsage:
    known = "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign"
    return x509.KeyUsage(**{bit: bit in bits for bit in f"{known} crl_sign encipher_only decipher_only".split()})


def make_certificate(
    subject: x509.Name,
    key: CaKey,
    issuer: x509.Name,
    signer: CaKey,
    *,
    window: tuple[datetime, datetime] = VALID,
    constraints: x509.BasicConstraints | None = CA_TRUE,
    usage: Sequence[str] | None = KEY_CERT_SIGN,
    purposes: Sequence[x509.ObjectIdentifier] = (),
    key_identifier: bytes | None = None,
    hosts: Sequence[str] = (),
    extensions: Extensions = (),
) -> x509.Certificate:
    """Any certificate, right or wrong; what is None or empty is left out."""
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), *window)
    wanted: list[tuple[x509.ExtensionType | None, bool]] = [
        (constraints, True),
        (None if usage is None else key_usage(*usage), True),
        (x509.ExtendedKeyUsage(purposes) if purposes else None, False),
        (None if key_identifier is None else x509.SubjectKeyIdentifier(key_identifier), False),
        (x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]) if hosts else None, False),
        *extensions,
    ]
    for extension, critical in wanted:
        if extension is not None:
            builder = builder.add_extension(extension, critical)
    return builder.sign(signer, hashes.SHA256())


def key_pem(key: CaKey, *, passphrase: bytes | None = None, pkcs8: bool = False) -> bytes:
    form = PrivateFormat.PKCS8 if pkcs8 else PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(passphrase) if passphrase else NoEncryption())


def make_ca_dir(
    directory: Path,
    *,
    ca_name: str = "local-ca",
    factory: str = "acme",
    root_units: Sequence[str] | None = None,
    ca_units: Sequence[str] | None = None,
    ca_subject: x509.Name | None = None,
    root_window: tuple[datetime, datetime] = VALID,
    ca_window: tuple[datetime, datetime] = VALID,
    root_constraints: x509.BasicConstraints | None = ROOT_CA_TRUE,
    ca_constraints: x509.BasicConstraints | None = CA_TRUE,
    root_usage: Sequence[str] | None = KEY_CERT_SIGN,
    ca_usage: Sequence[str] | None = KEY_CERT_SIGN,
    root_purposes: Sequence[x509.ObjectIdentifier] = (),
    ca_purposes: Sequence[x509.ObjectIdentifier] = (),
    key_identifier: bytes | None = b"\x17" * 20,
    ca_extensions: Extensions = (),
    ca_key: CaKey | None = None,
    root_signer: CaKey | None = None,
    ca_signer: CaKey | None = None,
    ca_issuer: x509.Name | None = None,
    key_text: bytes | None = None,
    key_mode: int = 0o400,
) -> Path:
    """A root and a device CA below it, good unless something is said; `key_text` is the key file's whole content."""
    root_key, ca_key = p256(), ca_key or p256()
    root_name = name("Factory-CA", (factory,) if root_units is None else root_units)
    root = make_certificate(
        root_name,
        root_key,
        root_name,
        root_signer or root_key,
        window=root_window,
        constraints=root_constraints,
        usage=root_usage,
        purposes=root_purposes,
    )
    ca = make_certificate(
        ca_subject or name("fio-test", (factory,) if ca_units is None else ca_units),
        ca_key,
        ca_issuer or root_name,
        ca_signer or root_key,
        window=ca_window,
        constraints=ca_constraints,
        usage=ca_usage,
        purposes=ca_purposes,
        key_identifier=key_identifier,
        extensions=ca_extensions,
    )
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "factory_ca.key").write_bytes(key_pem(root_key))
    (directory / "factory_ca.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (directory / f"{ca_name}.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    key_file = directory / f"{ca_name}.key"
    key_file.write_bytes(key_text if key_text is not None else key_pem(ca_key))
    key_file.chmod(key_mode)
    return directory


_OPENSSL_EXTENSIONS = """
[root]
basicConstraints = CA:TRUE
keyUsage = keyCertSign, cRLSign
extendedKeyUsage = critical, clientAuth, serverAuth
[ca]
keyUsage = critical, keyCertSign
basicConstraints = critical, CA:TRUE, pathlen:0
[req]
prompt = no
string_mask = {mask}
distinguished_name = dn
[dn]
CN = {common_name}
OU = {factory}
"""


def make_openssl_pki(
    directory: Path,
    *,
    factory: str = "acme",
    serial: str = "0x1234",
    string_mask: str = "utf8only",
    curve: str = "prime256v1",
    point: str = "uncompressed",
) -> Path:
    """A root and a device CA as the vendor's shell scripts make them: keys with an EC PARAMETERS block first."""

    def configuration(common_name: str) -> str:
        path = directory / f"{common_name}.cnf"
        path.write_text(_OPENSSL_EXTENSIONS.format(mask=string_mask, common_name=common_name, factory=factory))
        return path.name

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    directory.mkdir(parents=True)
    root, ca = configuration("Factory-CA"), configuration("fio-5e0")
    openssl("ecparam", "-genkey", "-name", "prime256v1", "-out", "factory_ca.key")
    openssl("req", "-new", "-x509", "-sha256", "-days", "7300", "-config", root, "-extensions", "root",
            "-key", "factory_ca.key", "-out", "factory_ca.pem")  # fmt: skip
    openssl("ecparam", "-genkey", "-name", curve, "-out", "local-ca.key")
    if point != "uncompressed":
        openssl("ec", "-in", "local-ca.key", "-conv_form", point, "-out", "local-ca.key")
    openssl("req", "-new", "-config", ca, "-key", "local-ca.key", "-out", "ca.csr")
    openssl("x509", "-req", "-sha256", "-days", "3650", "-in", "ca.csr", "-CA", "factory_ca.pem",
            "-CAkey", "factory_ca.key", "-set_serial", serial, "-extfile", ca, "-extensions", "ca",
            "-out", "local-ca.pem")  # fmt: skip
    return directory


def patched_pem(certificate: bytes, old: bytes, new: bytes) -> bytes:
    """A PEM certificate with octets of its DER replaced by as many others; its signature is wrong thereby."""
    der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    assert der.count(old) >= 1
    assert len(old) == len(new)
    patched = der.replace(old, new)
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(patched) + b"-----END CERTIFICATE-----\n"
