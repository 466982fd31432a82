"""The scripts of the factory's API: a PKI with nothing but sh and openssl, and what they refuse."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from judges import contents, modes
from pki import CA_TRUE, CLIENTS, DAY, EXPIRED, ROOT_CA_TRUE, SERVERS, key_pem, key_usage, make_ca_dir, name, p256

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.gateway.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Sequence

SHELLS = [pytest.param([shell], id=shell) for shell in ("sh", "dash") if shutil.which(shell)]
SHELLS += [
    pytest.param(shell, id=shell[0]) for shell in (["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])
]
HOSTS = ("gw.example.com", "ostree.example.com")
HARD_NAMES = [
    "acme",
    'it\'s "acme" & sons',
    "$HOME ${ENV::HOME} `id` $(id) \\ \\n # ; %s",
    "  spaces  ",
    "Fäbrik 工場",
    "-days",
    "/C=XX",
]


def run(script: str, *arguments: str, cwd: Path, by: Sequence[str] = ("sh",)) -> subprocess.CompletedProcess[str]:
    """A script as fioctl runs one: on the shell's standard input."""
    command = [*by, "-s", "--", *arguments]
    return subprocess.run(
        command, cwd=cwd, input=SCRIPTS[script], text=True, capture_output=True, check=False, timeout=60
    )


def done(script: str, *arguments: str, cwd: Path, by: Sequence[str] = ("sh",), said: str = "") -> str:
    """What a script that succeeds prints."""
    ran = run(script, *arguments, cwd=cwd, by=by)
    assert (ran.returncode, ran.stderr) == (0, said)
    return ran.stdout


def refused(script: str, *arguments: str, cwd: Path, error: str, code: int = 1) -> None:
    """A script says this last, prints nothing, and leaves the directory as it was."""
    before = contents(cwd), modes(cwd)
    ran = run(script, *arguments, cwd=cwd)
    assert ran.stderr.splitlines()[-1:] == [error]
    assert (ran.returncode, ran.stdout) == (code, "")
    assert (contents(cwd), modes(cwd)) == before


def request(
    path: Path,
    *,
    common_name: str = "gw.example.com",
    units: Sequence[str] = ("acme",),
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    names: Sequence[x509.GeneralName] = (),
    spoil: bool = False,
) -> str:
    """A request in a file beside the PKI; returns the file's path."""
    builder = x509.CertificateSigningRequestBuilder(name(common_name, units))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    csr = builder.sign(key or p256(), hashes.SHA256())
    text = csr.public_bytes(Encoding.PEM)
    if spoil:
        der = bytearray(csr.public_bytes(Encoding.DER))
        der[der.index(common_name.encode())] ^= 1
        text = _pem(bytes(der))
    path.write_bytes(text)
    return str(path)


def _pem(der: bytes) -> bytes:
    done = subprocess.run(
        ["openssl", "base64", "-e"], input=der, capture_output=True, check=True
    )  # the library writes no request whose signature is wrong
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + done.stdout + b"-----END CERTIFICATE REQUEST-----\n"


def dns(*hosts: str) -> list[x509.GeneralName]:
    return [x509.DNSName(host) for host in hosts]


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    directory = tmp_path / "pki"
    directory.mkdir()
    done("create_ca", "acme", cwd=directory)
    return directory


def utf8_name(common_name: str, unit: str) -> bytes:
    """CN and OU in this order, as UTF8String."""
    attributes = (x509.NameAttribute(oid, text) for oid, text in zip(
        (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME), (common_name, unit), strict=True
    ))  # fmt: skip
    return x509.Name(attributes).public_bytes()


def profile(certificate: x509.Certificate) -> dict[str, tuple[bool, object]]:
    return {e.oid._name: (e.critical, e.value) for e in certificate.extensions}


def lifetime(certificate: x509.Certificate) -> timedelta:
    assert abs(datetime.now(UTC) - certificate.not_valid_before_utc) < timedelta(minutes=5)
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(leaf: Path, pki: Path, *options: str) -> bool:
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(pki / "factory_ca.pem"), *options, str(leaf)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


# What they make


@pytest.mark.parametrize("by", SHELLS)
@pytest.mark.parametrize("factory", HARD_NAMES)
def test_a_whole_pki(tmp_path: Path, factory: str, by: Sequence[str]) -> None:
    pki = tmp_path / "a folder"
    pki.mkdir()
    assert done("create_ca", factory, cwd=pki, by=by) == ""
    assert done("create_device_ca", "fio-5e0", factory, cwd=pki, by=by) == ""
    assert done("create_device_ca", "fio-5e0", factory, "site 2", cwd=pki, by=by) == ""
    files = [f"{ca}.{kind}" for ca in ("factory_ca", "local-ca", "site 2") for kind in ("key", "pem")]
    assert modes(pki) == {".": pki.stat().st_mode & 0o7777} | dict.fromkeys(files, 0o400)
    for ca in ("local-ca", "site 2"):
        issuer = load_issuer(pki, ca, now=datetime.now(UTC))
        assert (issuer.factory, issuer.warnings) == (factory, ())
        assert load(pki / f"{ca}.pem").subject.public_bytes() == utf8_name("fio-5e0", factory)
        assert verify(pki / f"{ca}.pem", pki)
    assert load(pki / "factory_ca.pem").subject.public_bytes() == utf8_name("Factory-CA", factory)


@pytest.mark.parametrize("file", ["factory_ca.key", "factory_ca.pem", "local-ca.key", "local-ca.pem"])
def test_a_file_is_one_pem_block_and_no_octet_more(pki: Path, file: str) -> None:
    done("create_device_ca", "fio-5e0", "acme", cwd=pki)
    text = (pki / file).read_bytes()
    label = b"EC PRIVATE KEY" if file.endswith(".key") else b"CERTIFICATE"
    assert text.startswith(b"-----BEGIN %b-----\n" % label)
    assert text.endswith(b"\n-----END %b-----\n" % label)
    assert text.count(b"-----BEGIN") == 1


def test_the_profiles(pki: Path, tmp_path: Path) -> None:
    done("create_device_ca", "fio-5e0", "acme", cwd=pki)
    key = p256()
    csr = request(tmp_path / "tls-csr", key=key, names=dns(*HOSTS))
    tls = x509.load_pem_x509_certificate(
        done("sign_tls_csr", csr, cwd=pki, said="signing for DNS:gw.example.com,DNS:ostree.example.com\n").encode()
    )
    online = x509.load_pem_x509_certificate(
        done("sign_ca_csr", request(tmp_path / "ca-csr", key=key), cwd=pki).encode()
    )
    root, local = load(pki / "factory_ca.pem"), load(pki / "local-ca.pem")
    identifier = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    assert profile(root) == {
        "basicConstraints": (True, ROOT_CA_TRUE),
        "keyUsage": (True, key_usage("key_cert_sign", "crl_sign")),
        "extendedKeyUsage": (False, x509.ExtendedKeyUsage([*SERVERS, *CLIENTS])),
        "subjectKeyIdentifier": (False, identifier),
    }
    for ca in (local, online):
        assert profile(ca) == {
            "basicConstraints": (True, CA_TRUE),
            "keyUsage": (True, key_usage("key_cert_sign")),
            "subjectKeyIdentifier": (False, x509.SubjectKeyIdentifier.from_public_key(ca.public_key())),
            "authorityKeyIdentifier": (False, x509.AuthorityKeyIdentifier(identifier.digest, None, None)),
        }
    assert profile(tls) == {
        "keyUsage": (True, key_usage("digital_signature")),
        "extendedKeyUsage": (False, x509.ExtendedKeyUsage(SERVERS)),
        "subjectAltName": (False, x509.SubjectAlternativeName(dns(*HOSTS))),
        "authorityKeyIdentifier": (False, x509.AuthorityKeyIdentifier(identifier.digest, None, None)),
    }
    assert [lifetime(certificate).days for certificate in (root, local, online, tls)] == [7300, 3650, 3650, 3650]
    for certificate in (root, local, online, tls):
        assert certificate.version == x509.Version.v3
        assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
        assert 64 <= certificate.serial_number.bit_length() <= 152
    assert len({certificate.serial_number for certificate in (root, local, online, tls)}) == 4
    assert tls.public_key() == online.public_key() == key.public_key()
    assert tls.subject == online.subject == name("gw.example.com", ["acme"])


def test_what_is_signed_verifies_and_nothing_is_left(pki: Path, tmp_path: Path) -> None:
    before = contents(pki)
    (tmp_path / "tls").write_text(
        done(
            "sign_tls_csr",
            request(tmp_path / "tls-csr", names=dns(*HOSTS)),
            cwd=pki,
            said="signing for DNS:gw.example.com,DNS:ostree.example.com\n",
        )
    )
    (tmp_path / "online").write_text(done("sign_ca_csr", request(tmp_path / "ca-csr"), cwd=pki))
    assert contents(pki) == before
    assert verify(tmp_path / "tls", pki, "-purpose", "sslserver", "-verify_hostname", HOSTS[1])
    assert not verify(tmp_path / "tls", pki, "-purpose", "sslserver", "-verify_hostname", "other.example.com")
    assert not verify(tmp_path / "tls", pki, "-purpose", "sslclient")
    assert verify(tmp_path / "online", pki)
    other = tmp_path / "other"
    other.mkdir()
    done("create_ca", "acme", cwd=other)
    assert not verify(tmp_path / "online", other)


def test_the_subject_is_copied_and_only_dns_names_are(pki: Path, tmp_path: Path) -> None:
    names = [*dns(HOSTS[0]), x509.UniformResourceIdentifier("https://x"), *dns(HOSTS[1])]
    csr = request(tmp_path / "csr", names=names)
    text = done("sign_tls_csr", csr, cwd=pki, said=f"signing for DNS:{HOSTS[0]},DNS:{HOSTS[1]}\n")
    tls = x509.load_pem_x509_certificate(text.encode())
    assert profile(tls)["subjectAltName"] == (False, x509.SubjectAlternativeName(dns(*HOSTS)))
    assert tls.subject.public_bytes() == x509.load_pem_x509_csr(Path(csr).read_bytes()).subject.public_bytes()


def test_a_root_that_ends_first_is_said(tmp_path: Path) -> None:
    end = datetime.now(UTC) + 100 * DAY
    pki = make_ca_dir(tmp_path / "pki", root_window=(end - 200 * DAY, end))
    identified = subprocess.run(
        ["openssl", "x509", "-in", "factory_ca.pem", "-signkey", "factory_ca.key", "-days", "100", "-out", "new"],
        cwd=pki, capture_output=True, check=True,
    )  # fmt: skip
    assert identified.returncode == 0
    (pki / "new").replace(pki / "factory_ca.pem")
    warning = "warning: factory_ca.pem ends before the 3650 days of what it signs\n"
    done("create_device_ca", "fio-5e0", "acme", "site2", cwd=pki, said=warning)


def test_openssl_of_before_3_0_is_not_told_what_it_does_not_know(pki: Path, tmp_path: Path) -> None:
    """1.1.1 fails on `subjectKeyIdentifier = none`; this one is told that it is 1.1.1 and writes one, then."""
    shim = tmp_path / "bin"
    shim.mkdir()
    real = shutil.which("openssl")
    (shim / "openssl").write_text(f'#!/bin/sh\n[ "$1" = version ] && exec echo "OpenSSL 1.1.1w"\nexec {real} "$@"\n')
    (shim / "openssl").chmod(0o755)
    csr = request(tmp_path / "csr", names=dns(*HOSTS))
    by = ("env", f"PATH={shim}:/usr/local/bin:/usr/bin:/bin", "sh")
    text = done("sign_tls_csr", csr, cwd=pki, by=by, said=f"signing for DNS:{HOSTS[0]},DNS:{HOSTS[1]}\n")
    assert "subjectAltName" in profile(x509.load_pem_x509_certificate(text.encode()))


# What they refuse


@pytest.mark.parametrize(
    ("script", "arguments", "usage"),
    [
        ("create_ca", (), "create_ca FACTORY"),
        ("create_ca", ("acme", "more"), "create_ca FACTORY"),
        ("create_device_ca", ("fio-5e0",), "create_device_ca COMMON_NAME FACTORY [NAME]"),
        ("create_device_ca", ("a", "b", "c", "d"), "create_device_ca COMMON_NAME FACTORY [NAME]"),
        ("sign_tls_csr", (), "sign_tls_csr CSR"),
        ("sign_ca_csr", (), "sign_ca_csr CSR"),
    ],
)
def test_a_missing_argument(tmp_path: Path, script: str, arguments: tuple[str, ...], usage: str) -> None:
    refused(script, *arguments, cwd=tmp_path, error=f"usage: {usage}", code=2)


@pytest.mark.parametrize("file", ["factory_ca.key", "factory_ca.pem"])
@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_the_root_is_made_once(tmp_path: Path, file: str, kind: str) -> None:
    path = tmp_path / file
    if kind == "file":
        path.write_bytes(b"")
    elif kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
    error = f"error: {file} is there already, and nothing of a PKI is overwritten"
    refused("create_ca", "acme", cwd=tmp_path, error=error)


@pytest.mark.parametrize("file", ["local-ca.key", "local-ca.pem"])
def test_a_device_ca_is_made_once(pki: Path, file: str) -> None:
    (pki / file).write_bytes(b"ours")
    error = f"error: {file} is there already, and nothing of a PKI is overwritten"
    refused("create_device_ca", "fio-5e0", "acme", cwd=pki, error=error)


@pytest.mark.parametrize("file", ["factory_ca.key", "factory_ca.pem"])
@pytest.mark.parametrize("script", ["create_device_ca", "sign_ca_csr", "sign_tls_csr"])
def test_there_must_be_a_root(pki: Path, tmp_path: Path, script: str, file: str) -> None:
    (pki / file).unlink()
    csr = request(tmp_path / "csr", names=dns(*HOSTS))
    arguments = ("fio-5e0", "acme") if script == "create_device_ca" else (csr,)
    refused(script, *arguments, cwd=pki, error=f"error: {file} is not in this directory; create_ca makes it")


def test_the_root_must_be_valid(tmp_path: Path) -> None:
    pki = make_ca_dir(tmp_path / "pki", root_window=EXPIRED)
    error = "error: factory_ca.pem is not valid any more"
    refused("create_device_ca", "fio-5e0", "acme", "site2", cwd=pki, error=error)


def test_the_root_key_must_be_the_certificates(pki: Path) -> None:
    (pki / "factory_ca.key").chmod(0o600)
    (pki / "factory_ca.key").write_bytes(key_pem(p256()))
    error = "error: openssl x509 refused; what it said is above"
    refused("create_device_ca", "fio-5e0", "acme", cwd=pki, error=error)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", "acme"), "the common name must not be empty"),
        (("a\nb", "acme"), "the common name must have no control characters"),
        (("fio", ""), "the factory's name must not be empty"),
        (("fio", "ac\x1bme"), "the factory's name must have no control characters"),
        (("fio", "other"), "a device CA must have the root's organizational unit (OU), acme; it has other"),
        (("fio", "Acme"), "a device CA must have the root's organizational unit (OU), acme; it has Acme"),
        (("x" * 65, "acme"), "openssl req refused; what it said is above"),
        (("fio", "acme", ""), "the file name must not be empty"),
        (("fio", "acme", "../x"), "NAME must be a plain file name without a suffix; it is ../x"),
        (("fio", "acme", ".x"), "NAME must be a plain file name without a suffix; it is .x"),
        (("fio", "acme", "-x"), "NAME must be a plain file name without a suffix; it is -x"),
        (("fio", "acme", "factory_ca"), "NAME must be a plain file name without a suffix; it is factory_ca"),
    ],
)
def test_what_a_device_ca_may_not_be_called(pki: Path, arguments: tuple[str, ...], error: str) -> None:
    refused("create_device_ca", *arguments, cwd=pki, error=f"error: {error}")


@pytest.mark.parametrize("factory", ["", "a\tb", "x" * 65])
def test_what_a_factory_may_not_be_called(tmp_path: Path, factory: str) -> None:
    ran = run("create_ca", factory, cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines()[-1].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", ["sign_ca_csr", "sign_tls_csr"])
def test_requests_that_are_refused(pki: Path, tmp_path: Path, script: str) -> None:
    csr, hosts = tmp_path / "csr", dns(*HOSTS)
    refused(script, str(csr), cwd=pki, error=f"error: {csr} cannot be read")
    csr.write_bytes(b"")
    refused(script, str(csr), cwd=pki, error=f"error: {csr} must be one PEM certificate request")
    two = Path(request(csr, names=hosts)).read_bytes() * 2
    csr.write_bytes(two)
    refused(script, str(csr), cwd=pki, error=f"error: {csr} must be one PEM certificate request")
    csr.write_bytes(b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n")
    refused(script, str(csr), cwd=pki, error="error: openssl req refused; what it said is above")
    request(csr, names=hosts, spoil=True)
    refused(script, str(csr), cwd=pki, error="error: openssl x509 refused; what it said is above")
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        request(csr, names=hosts, key=key)
        refused(script, str(csr), cwd=pki, error=f"error: {csr} must be for a P-256 key")
    for units, found in {(): "none", ("other",): "other", ("acme", "b"): "acme\nb", ("acme\nx",): "acme\\0Ax"}.items():
        request(csr, names=hosts, units=units)
        error = f"{csr} must have the root's organizational unit (OU), acme; it has {found}"
        refused(script, str(csr), cwd=pki, error=f"error: {error}".splitlines()[-1])


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ((), "must name its server in subjectAltName; it has no DNS name"),
        ((x509.UniformResourceIdentifier("https://gw"),), "must name its server in subjectAltName; it has no DNS name"),
        ((x509.DNSName("a b"),), "must name servers by their DNS names; it has a b"),
        ((x509.DNSName("a\\$b"),), "must name servers by their DNS names; it has a\\$b"),
        ((x509.DNSName("*.example.com"),), "must name servers by their DNS names; it has *.example.com"),
    ],
)
def test_server_names_that_are_refused(
    pki: Path, tmp_path: Path, names: Sequence[x509.GeneralName], error: str
) -> None:
    csr = request(tmp_path / "csr", names=names)
    refused("sign_tls_csr", csr, cwd=pki, error=f"error: {csr} {error}")


def test_a_failure_after_the_key_takes_the_key_away(tmp_path: Path) -> None:
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "ln").write_text('#!/bin/sh\ncase $2 in *.pem) exit 1 ;; esac\nexec /bin/ln "$@"\n')
    (shim / "ln").chmod(0o755)
    pki = tmp_path / "pki"
    pki.mkdir()
    ran = run("create_ca", "acme", cwd=pki, by=("env", f"PATH={shim}:/usr/local/bin:/usr/bin:/bin", "sh"))
    error = "error: factory_ca.pem cannot be made: it is there already, or this file system has no links\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", error)
    assert list(pki.iterdir()) == []


def test_half_a_script_does_nothing(tmp_path: Path) -> None:
    text = SCRIPTS["create_ca"].rpartition("main")[0]
    ran = subprocess.run(
        ["sh", "-s", "acme"], cwd=tmp_path, input=text, text=True, capture_output=True, check=False, timeout=60
    )
    assert ran.stdout == ran.stderr == ""
    assert list(tmp_path.iterdir()) == []
