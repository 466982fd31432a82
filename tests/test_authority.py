"""`load_issuer`: what makes a device CA fit to sign, and the exact sentence for each way in which it is not."""

from __future__ import annotations

import base64
import pickle
import re
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from pki import (
    CA_FALSE,
    CA_TRUE,
    CLIENTS,
    DAY,
    EXPIRED,
    NOT_YET,
    NOW,
    SERVERS,
    VALID,
    key_pem,
    make_ca_dir,
    make_certificate,
    make_openssl_pki,
    make_pki,
    name,
    p256,
    patched_pem,
)

from batch_issuer import profiles
from batch_issuer.authority.issuer import Issuer, load_issuer
from batch_issuer.authority.signers import FileKey
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from pathlib import Path


def load(pki: Path, ca_name: str = "local-ca", *, now: datetime = NOW, **options: Any) -> Issuer:
    return load_issuer(pki, ca_name, now=now, **options)


def later() -> datetime:
    """After openssl, which takes the time from the clock, has made a certificate."""
    return datetime.now(UTC)


def fault(pki: Path, ca_name: str = "local-ca", **options: Any) -> str:
    """The sentence that refuses the CA; nothing of a key is in what a traceback would show."""
    with pytest.raises(AuthorityError) as caught:
        load(pki, ca_name, **options)
    error = caught.value
    shown = f"{error!r} {error} {error.hint}"
    if (key := pki / f"{ca_name}.key").is_file():
        lines = [line for line in key.read_text(errors="replace").splitlines() if len(line) > 20 and "-" not in line]
        assert not any(line in shown for line in lines)
    assert error.__cause__ is None
    assert error.exit_code == 2
    return str(error)


def ca_certificate(pki: Path, file: str = "local-ca.pem") -> x509.Certificate:
    return x509.load_pem_x509_certificate((pki / file).read_bytes())


# Good ones


def test_what_an_issuer_knows(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki", gateway_host="gw.example.com", ostree_host="ostree.example.com")
    issuer, certificate = load(pki), ca_certificate(pki)
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert issuer == Issuer(
        name="local-ca",
        certificate=certificate.public_bytes(Encoding.DER),
        root=ca_certificate(pki, "factory_ca.pem").public_bytes(Encoding.DER),
        factory="acme",
        subject_key_identifier=identifier,
        window=profiles.ValidityWindow(NOW, profiles.years_after(NOW, 10)),
        hosts=("gw.example.com", "ostree.example.com"),
        key=issuer.key,
        warnings=(),
    )


def test_it_is_pickled_whole_and_shows_no_key(tmp_path: Path) -> None:
    issuer = load(make_pki(tmp_path / "pki"))
    again = pickle.loads(pickle.dumps(issuer))  # noqa: S301 - its own bytes
    assert again == issuer
    assert isinstance(issuer.key, FileKey)
    shown = f"{issuer!r} {issuer} {issuer.key!r} {issuer.key}"
    assert repr(issuer.key) == "FileKey()"
    assert repr(issuer.key.der[7:39]).strip("b'\"") not in shown
    assert issuer.key.der[7:39].hex() not in shown
    signature = again.key.open()(b"data")
    public_key = ca_certificate(tmp_path / "pki").public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    public_key.verify(signature, b"data", ec.ECDSA(hashes.SHA256()))


def test_signatures_are_random_unless_asked_otherwise(tmp_path: Path) -> None:
    key = FileKey.of(p256())
    assert key.open()(b"data") != key.open()(b"data")
    assert key.open(deterministic=True)(b"data") == key.open(deterministic=True)(b"data")


def test_a_file_key_reads_both_forms_and_refuses_another_kind() -> None:
    key = p256()
    pkcs8 = FileKey(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
    assert pkcs8.open(deterministic=True)(b"data") == FileKey.of(key).open(deterministic=True)(b"data")
    other = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(AuthorityError, match="a CA's key must be on the curve P-256; it is not"):
        FileKey(other).open()


@pytest.mark.parametrize("identifier", [None, b"\x01" * 20, b"\x25" * 32])
def test_the_key_identifier_is_copied(tmp_path: Path, identifier: bytes | None) -> None:
    # Go 1.25 and later put SHA-256 there, which must not be taken for a mistake.
    assert load(make_ca_dir(tmp_path, key_identifier=identifier)).subject_key_identifier == identifier


@pytest.mark.parametrize("options", [
    {"ca_purposes": CLIENTS},
    {"ca_purposes": [x509.ObjectIdentifier("2.5.29.37.0")]},
    {"root_units": ()},
    {"ca_window": (NOW, VALID[1])},
    {"ca_window": (VALID[0], NOW)},
    {"ca_constraints": x509.BasicConstraints(ca=True, path_length=None)},
    {"factory": "x" * 64},
    {"ca_subject": x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "acme"),
        x509.NameAttribute(NameOID.COMMON_NAME, "el2go"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "nxp"),
    ])},
])  # fmt: skip
def test_what_is_unusual_and_allowed(tmp_path: Path, options: dict[str, Any]) -> None:
    assert load(make_ca_dir(tmp_path, **options)).warnings == ()


@pytest.mark.parametrize("serial", ["0x" + "f" * 40, "0x8" + "0" * 39, "1"])
def test_directories_of_the_shell_scripts_with_any_serial(tmp_path: Path, serial: str) -> None:
    pki = make_openssl_pki(tmp_path / "pki", serial=serial)
    issuer = load(pki, now=later())
    assert (pki / "local-ca.key").read_text().startswith("-----BEGIN EC PARAMETERS-----")
    assert ca_certificate(pki).serial_number == int(serial, 0)
    assert issuer.factory == "acme"
    assert issuer.hosts == ()


def test_the_subject_is_copied_in_whatever_string_type_it_has(tmp_path: Path) -> None:
    pki = make_openssl_pki(tmp_path / "pki", string_mask="default")
    assert b"\x13\x04acme" in ca_certificate(pki).subject.public_bytes()  # PrintableString
    certificate = x509.load_der_x509_certificate(load(pki, now=later()).certificate)
    assert certificate.subject.public_bytes() in certificate.tbs_certificate_bytes


def test_another_name(tmp_path: Path) -> None:
    assert load(make_ca_dir(tmp_path, ca_name="site2"), "site2").name == "site2"


def test_text_around_the_one_block_is_allowed(tmp_path: Path) -> None:
    path = make_ca_dir(tmp_path) / "local-ca.pem"
    path.write_bytes(b"Certificate:\n  Version: 3\n" + path.read_bytes() + b"\n\n")
    assert load(tmp_path).factory == "acme"


# Keys


KEY_FORMS = {
    "sec1": ["ec"],
    "pkcs8": ["pkcs8", "-topk8", "-nocrypt"],
    "encrypted sec1": ["ec", "-aes256", "-passout", "pass:secret"],
    "encrypted pkcs8": ["pkcs8", "-topk8", "-passout", "pass:secret"],
    "scrypt": ["pkcs8", "-topk8", "-scrypt", "-passout", "pass:secret"],
}


def reform(pki: Path, form: str) -> Path:
    """Write the key anew by openssl."""
    key = pki / "local-ca.key"
    done = subprocess.run(["openssl", *KEY_FORMS[form], "-in", key], check=True, capture_output=True)
    key.chmod(0o600)
    key.write_bytes(done.stdout)
    return pki


@pytest.mark.parametrize("form", KEY_FORMS)
def test_every_form_of_key_is_read_and_asks_only_when_encrypted(tmp_path: Path, form: str) -> None:
    pki, asked = reform(make_ca_dir(tmp_path), form), []

    def passphrase(file: str) -> bytes:
        asked.append(file)
        return b"secret"

    assert load(pki, passphrase=passphrase).warnings == ()
    assert asked == (["local-ca.key"] if "secret" in "".join(KEY_FORMS[form]) else [])


@pytest.mark.parametrize("form", ["encrypted sec1", "encrypted pkcs8", "scrypt"])
def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path, form: str) -> None:
    pki = reform(make_ca_dir(tmp_path), form)
    assert fault(pki) == "local-ca.key is encrypted and no passphrase was given"
    for wrong in (b"wrong", b"", b"x" * 2000, b"\xff\0"):
        assert fault(pki, passphrase=lambda _, wrong=wrong: wrong) == (
            "local-ca.key cannot be decrypted with the passphrase that was given"
        )
    with pytest.raises(AuthorityError) as caught:
        load(pki)
    assert "--ca-passphrase-file" in str(caught.value.hint)
    assert "$BATCH_ISSUER_CA_PASSPHRASE" in str(caught.value.hint)


def swapped_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A SEC1 file with the right public key beside another private one."""
    form = (Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    der, other = key.private_bytes(*form), p256().private_bytes(*form)
    mixed = der[:7] + other[7:39] + der[39:]
    pem = ["-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----"]
    return f"{pem[0]}\n{base64.encodebytes(mixed).decode()}{pem[1]}\n".encode()


GOOD_KEY = p256()
CERTIFICATE_TEXT = make_certificate(name("x", ()), GOOD_KEY, name("x", ()), GOOD_KEY).public_bytes(Encoding.PEM)
BLOCKS = "local-ca.key must hold one PEM private key; its PEM blocks are: "
BAD_KEYS = {
    "empty": (b"", BLOCKS + "none"),
    "text": (b"secret", BLOCKS + "none"),
    "certificate": (CERTIFICATE_TEXT, BLOCKS + "CERTIFICATE"),
    "two": (key_pem(GOOD_KEY) * 2, BLOCKS + "EC PRIVATE KEY, EC PRIVATE KEY"),
    "key and certificate": (key_pem(GOOD_KEY) + CERTIFICATE_TEXT, BLOCKS + "EC PRIVATE KEY, CERTIFICATE"),
    "cut": (key_pem(GOOD_KEY)[:150], "local-ca.key is not a readable private key"),
    "damaged": (key_pem(GOOD_KEY).replace(b"M", b"N", 1), "local-ca.key is not a readable private key"),
    "p384": (key_pem(ec.generate_private_key(ec.SECP384R1())), "local-ca.key must be a P-256 key; it is secp384r1"),
    "rsa": (
        key_pem(rsa.generate_private_key(65537, 2048), pkcs8=True),
        "local-ca.key must be a P-256 key; it is RSAPrivateKey",
    ),
    "another": (
        key_pem(p256()),
        "local-ca.key must be the key of local-ca.pem; its signature does not verify with that certificate",
    ),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_keys_that_are_not_its_own(tmp_path: Path, case: str) -> None:
    text, sentence = BAD_KEYS[case]
    assert fault(make_ca_dir(tmp_path, key_text=text, ca_key=GOOD_KEY)) == sentence


def test_a_damaged_key_with_the_right_public_half_is_found(tmp_path: Path) -> None:
    pki = make_ca_dir(tmp_path, key_text=swapped_key(GOOD_KEY), ca_key=GOOD_KEY)
    assert fault(pki) == "local-ca.key is not a readable private key"


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o400, False), (0o600, False), (0o440, True), (0o644, True), (0o602, True)]
)
def test_a_key_that_others_may_read_is_warned_about(tmp_path: Path, mode: int, warns: bool) -> None:
    sentence = f"local-ca.key must be its owner's alone, mode 0400; it has mode {mode:04o}"
    assert load(make_ca_dir(tmp_path, key_mode=mode)).warnings == ((sentence,) if warns else ())


# Files


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    assert fault(pki) == f"the PKI directory {pki} does not exist"
    pki.mkdir()
    assert fault(pki) == f"the PKI directory {pki} lacks factory_ca.pem, local-ca.pem, local-ca.key"
    make_ca_dir(pki)
    assert fault(pki, "site2") == f"the PKI directory {pki} lacks site2.pem, site2.key"
    (pki / "local-ca.key").unlink()
    assert fault(pki) == f"the PKI directory {pki} lacks local-ca.key"
    (pki / "local-ca.key").mkdir()
    assert fault(pki) == f"{pki}/local-ca.key cannot be read: Is a directory"


@pytest.mark.parametrize("ca_name", ["", ".", "..", ".hidden", "../other/local-ca", "a/b", "/etc/x", "a\0b"])
def test_a_name_is_no_path(tmp_path: Path, ca_name: str) -> None:
    sentence = f"a CA's name must be a plain file name without a suffix; it is {ca_name!r}"
    with pytest.raises(AuthorityError, match=re.escape(sentence)):
        load(make_ca_dir(tmp_path), ca_name)


def test_the_root_signs_no_devices(tmp_path: Path) -> None:
    assert fault(make_ca_dir(tmp_path), "factory_ca") == "devices must be signed by a device CA; factory_ca is the root"


NO_CERTIFICATES = {
    "empty": (b"", "must hold one PEM certificate; its PEM blocks are: none"),
    "two": (CERTIFICATE_TEXT * 2, "must hold one PEM certificate; its PEM blocks are: CERTIFICATE, CERTIFICATE"),
    "key": (key_pem(GOOD_KEY), "must hold one PEM certificate; its PEM blocks are: EC PRIVATE KEY"),
    "cut": (CERTIFICATE_TEXT[:200], "must be a certificate as RFC 5280 has it; it is not"),
    "damaged": (CERTIFICATE_TEXT.replace(b"\nM", b"\nA"), "must be a certificate as RFC 5280 has it; it is not"),
}


@pytest.mark.parametrize("file", ["factory_ca.pem", "local-ca.pem", "tls-crt"])
@pytest.mark.parametrize("case", NO_CERTIFICATES)
def test_files_that_are_no_certificate(tmp_path: Path, file: str, case: str) -> None:
    text, sentence = NO_CERTIFICATES[case]
    (make_ca_dir(tmp_path) / file).write_bytes(text)
    assert fault(tmp_path) == f"{file} {sentence}"


@pytest.mark.parametrize("serial", ["0", "-5"])
def test_serials_that_gateways_refuse_to_read(tmp_path: Path, serial: str) -> None:
    pki = make_openssl_pki(tmp_path / "pki", serial=serial)
    assert fault(pki, now=later()) == "local-ca.pem must be a certificate as RFC 5280 has it; it is not"


# Certificates


def when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


OTHER_KEY = p256()
BAD_CAS: dict[str, tuple[dict[str, Any], str]] = {
    "no CA": (
        {"ca_constraints": None},
        "local-ca.pem must be a CA's certificate, with basicConstraints CA:TRUE; it has no basicConstraints",
    ),
    "CA:FALSE": (
        {"ca_constraints": CA_FALSE},
        "local-ca.pem must be a CA's certificate, with basicConstraints CA:TRUE; it has CA:FALSE",
    ),
    "no keyUsage": (
        {"ca_usage": None},
        "local-ca.pem must be allowed to sign certificates; it has no keyUsage",
    ),
    "no keyCertSign": (
        {"ca_usage": ("digital_signature", "crl_sign")},
        "local-ca.pem must be allowed to sign certificates; its keyUsage lacks keyCertSign",
    ),
    "servers only": (
        {"ca_purposes": SERVERS},
        "local-ca.pem must be allowed to sign for TLS clients; its extendedKeyUsage lacks clientAuth",
    ),
    "p384": (
        {"ca_key": ec.generate_private_key(ec.SECP384R1())},
        "local-ca.pem must certify a P-256 key; it certifies secp384r1",
    ),
    "rsa": (
        {"ca_key": rsa.generate_private_key(65537, 2048)},
        "local-ca.pem must certify a P-256 key; it certifies RSAPublicKey",
    ),
    "expired": (
        {"ca_window": EXPIRED},
        f"local-ca.pem was valid until {when(EXPIRED[1])}; it is {when(NOW)}",
    ),
    "not yet valid": (
        {"ca_window": NOT_YET},
        f"local-ca.pem is not valid before {when(NOT_YET[0])}; it is {when(NOW)}",
    ),
    "another issuer": (
        {"ca_issuer": name("Other-CA", ("acme",))},
        "local-ca.pem must be issued by factory_ca.pem, OU=acme,CN=Factory-CA; its issuer is OU=acme,CN=Other-CA",
    ),
    "another signer": (
        {"ca_signer": OTHER_KEY},
        "local-ca.pem must be signed by the key of factory_ca.pem; its signature is not",
    ),
    "a signer of another kind": (
        {"ca_signer": rsa.generate_private_key(65537, 2048)},
        "local-ca.pem must be signed by the key of factory_ca.pem; its signature is not",
    ),
    "no factory": (
        {"ca_units": ()},
        "local-ca.pem must have the factory as its one organizational unit (OU); it has 0",
    ),
    "two factories": (
        {"ca_units": ("acme", "acme")},
        "local-ca.pem must have the factory as its one organizational unit (OU); it has 2",
    ),
    "another factory": (
        {"ca_units": ("other",)},
        "local-ca.pem must have the organizational unit of factory_ca.pem, 'acme'; it has 'other'",
    ),
    "a root of two factories": (
        {"root_units": ("acme", "other")},
        "local-ca.pem must have the organizational unit of factory_ca.pem, 'acme', 'other'; it has 'acme'",
    ),
    "an unfit factory": (
        {"factory": "a\u202eb"},
        "local-ca.pem's organizational unit, the factory's name, must have printable characters only; "
        "it has U+202E: 'a\\u202eb'",
    ),
    "root no CA": (
        {"root_constraints": CA_FALSE},
        "factory_ca.pem must be a CA's certificate, with basicConstraints CA:TRUE; it has CA:FALSE",
    ),
    "root without keyCertSign": (
        {"root_usage": ("crl_sign",)},
        "factory_ca.pem must be allowed to sign certificates; its keyUsage lacks keyCertSign",
    ),
    "root for servers only": (
        {"root_purposes": SERVERS},
        "factory_ca.pem must be allowed to sign for TLS clients; its extendedKeyUsage lacks clientAuth",
    ),
    "root expired": (
        {"root_window": EXPIRED},
        f"factory_ca.pem was valid until {when(EXPIRED[1])}; it is {when(NOW)}",
    ),
    "root not yet valid": (
        {"root_window": NOT_YET},
        f"factory_ca.pem is not valid before {when(NOT_YET[0])}; it is {when(NOW)}",
    ),
    "root signed by another": (
        {"root_signer": OTHER_KEY},
        "factory_ca.pem must be signed by the key of factory_ca.pem; its signature is not",
    ),
    "root without room": (
        {"root_constraints": CA_TRUE},
        "factory_ca.pem must allow a CA below it; its pathLenConstraint is 0",
    ),
}


@pytest.mark.parametrize("case", BAD_CAS)
def test_cas_that_are_not_fit(tmp_path: Path, case: str) -> None:
    options, sentence = BAD_CAS[case]
    assert fault(make_ca_dir(tmp_path, **options)) == sentence


def test_curves_that_the_library_does_not_know(tmp_path: Path) -> None:
    pki = make_openssl_pki(tmp_path / "pki", curve="secp192k1")
    assert fault(pki, now=later()) == "local-ca.pem must certify a P-256 key; its key cannot be read"
    key = (pki / "local-ca.key").read_bytes()
    assert fault(make_ca_dir(tmp_path / "other", key_text=key)) == "local-ca.key is not a readable private key"


def test_a_subject_changed_after_signing_is_found(tmp_path: Path) -> None:
    path = make_ca_dir(tmp_path) / "local-ca.pem"
    path.write_bytes(patched_pem(path.read_bytes(), b"fio-test", b"fio-evil"))
    assert fault(tmp_path) == "local-ca.pem must be signed by the key of factory_ca.pem; its signature is not"


def test_what_would_be_written_otherwise_is_refused(tmp_path: Path) -> None:
    pki = make_openssl_pki(tmp_path / "pki", point="compressed")  # which Go does not read
    assert fault(pki, now=later()) == (
        "local-ca.pem must have a subject and a key in their usual DER form; it has another"
    )


@pytest.mark.parametrize(("ca_name", "other"), [("local-ca", "site2"), ("site2", "local-ca")])
def test_the_key_of_another_ca_in_the_directory(tmp_path: Path, ca_name: str, other: str) -> None:
    make_ca_dir(tmp_path, ca_name=ca_name)
    (tmp_path / f"{other}.pem").write_bytes((tmp_path / f"{ca_name}.pem").read_bytes())
    (tmp_path / f"{other}.key").write_bytes(key_pem(p256()))
    assert fault(tmp_path, other).startswith(f"{other}.key must be the key of {other}.pem")


# What is said and allowed


def test_critical_extensions_that_nobody_checked_are_said(tmp_path: Path) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\0")
    constraint = x509.NameConstraints([x509.DNSName("example.com")], None)
    issuer = load(make_ca_dir(tmp_path, ca_extensions=[(unknown, True), (constraint, True)]))
    sentence = "local-ca.pem has a critical extension that was not checked and that gateways may refuse: "
    assert issuer.warnings == (sentence + "1.3.6.1.4.1.99999.1", sentence + "2.5.29.30")
    assert load(make_ca_dir(tmp_path / "not", ca_extensions=[(unknown, False)])).warnings == ()


def test_a_root_that_ends_first_is_said(tmp_path: Path) -> None:
    issuer = load(make_ca_dir(tmp_path, root_window=(VALID[0], NOW + DAY)))
    assert issuer.warnings == (f"factory_ca.pem ends before local-ca.pem, on {NOW + DAY:%Y-%m-%d}",)


def add_server(pki: Path, *, signer: ec.EllipticCurvePrivateKey | None = None, **options: Any) -> Path:
    root = load_pem_private_key((pki / "factory_ca.key").read_bytes(), None)
    assert isinstance(root, ec.EllipticCurvePrivateKey)
    issuer = ca_certificate(pki, "factory_ca.pem").subject
    options = {"constraints": None, "usage": None} | options
    made = make_certificate(name("gw", ("acme",)), p256(), issuer, signer or root, **options)
    (pki / "tls-crt").write_bytes(made.public_bytes(Encoding.PEM))
    return pki


@pytest.mark.parametrize("hosts", [(), ("gw",), ("gw.example.com", "ostree.example.com", "third")])
def test_hosts_are_the_names_of_the_server_in_order(tmp_path: Path, hosts: tuple[str, ...]) -> None:
    issuer = load(add_server(make_ca_dir(tmp_path), hosts=hosts))
    assert (issuer.hosts, issuer.warnings) == (hosts, ())


def test_a_host_that_is_none_makes_all_unusable(tmp_path: Path) -> None:
    issuer = load(add_server(make_ca_dir(tmp_path), hosts=('gw"\n', "ostree.example.com")))
    assert issuer.hosts == ()
    assert len(issuer.warnings) == 1
    assert issuer.warnings[0].startswith("tls-crt names no usable hosts: a host must be labels of 1 to 63 letters")
    assert "\n" not in issuer.warnings[0]


@pytest.mark.parametrize(("options", "sentence"), [
    ({"signer": OTHER_KEY}, "tls-crt must be signed by the key of factory_ca.pem; its signature is not"),
    ({"window": EXPIRED}, f"tls-crt was valid until {when(EXPIRED[1])}; it is {when(NOW)}"),
])  # fmt: skip
def test_a_server_that_devices_will_not_trust_is_said(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    issuer = load(add_server(make_ca_dir(tmp_path), hosts=("gw",), **options))
    assert issuer.hosts == ("gw",)
    assert issuer.warnings == (f"devices will not trust the gateway: {sentence}",)
