"""CA keys in a PKCS#11 token: making them there, using them, and everything that is refused. SoftHSM, for real."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from api_servers import TOKEN, ApiServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from judges import Ran, contents, csv_bytes, device_uuids, finished_run, openssl_accepts, run, run_process
from pki import make_pki, name, p256
from softhsm import LABEL, MODULE, PIN, SoftHsm, need_softhsm

from batch_issuer.authority.tokens import Token, TokenKey

if TYPE_CHECKING:
    from collections.abc import Iterator

UUIDS = device_uuids(7)
HOST = ("--gateway-host", "gw.example.com")
ROOT, LOCAL, SITE = "root-ca", "local-ca", "site2"
PIN_HINT = "give it by --hsm-pin-file or $BATCH_ISSUER_HSM_PIN"
NO_FILE = (
    "the PKI directory pki lacks factory_ca.key, and this needs the root's signature",
    "bring the key here from where it is kept offline, and take it away afterwards; of a key in a token, "
    "--hsm-module and --hsm-token-label say where it is",
)


@pytest.fixture(autouse=True)
def _softhsm() -> None:
    need_softhsm()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """A token without keys; the working directory is empty but for its folder."""
    monkeypatch.delenv("BATCH_ISSUER_HSM_PIN", raising=False)
    monkeypatch.delenv("BATCH_ISSUER_CA_PASSPHRASE", raising=False)
    monkeypatch.chdir(tmp_path)
    return SoftHsm.make(tmp_path / "hsm", monkeypatch)


@pytest.fixture
def hsm(empty: SoftHsm) -> SoftHsm:
    """A token that holds the root's key and local-ca's of the directory `pki`."""
    done = run_process("ca", "create", "pki", "--factory", "acme", *HOST, "--hsm-local-ca", *empty.options)
    assert done.code == 0, done.err
    return empty


@pytest.fixture
def imported(empty: SoftHsm) -> SoftHsm:
    """A directory with all its keys in files, and the same keys in a token, under fioctl's CKA_ID."""
    make_pki(Path("pki"))
    for file, label in (("factory_ca.key", ROOT), ("local-ca.key", LOCAL)):
        empty.import_key(Path("pki") / file, label)
    return empty


def refused(ran: Ran, error: str, hint: str | None = None) -> None:
    lines = [f"error: {error}", *([f"hint: {hint}"] if hint else [])]
    assert (ran.code, ran.out, ran.err.splitlines()) == (2, "", lines)
    assert not Path("issued").exists()


def issue(*options: str | Path, pki: str = "pki") -> Ran:
    Path("devices.csv").write_bytes(csv_bytes(UUIDS))
    arguments = ("--manifest", "devices.csv", "--pki", pki, "--hardware-id", "hw", "--days", "30", "--part-size", "3")
    return run_process("issue", *arguments, *options)


def certificate(file: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path("pki", file).read_bytes())


def request_pem() -> Path:
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=est.example.com/OU=acme", "-addext", "subjectAltName=DNS:est.example.com"]
    subprocess.run([*command, "-keyout", "est.key", "-out", "est.csr", *names], check=True, capture_output=True)
    return Path("est.csr")


# Making keys in the token -------------------------------------------------------------------------------------------


def test_create_makes_the_roots_key_in_the_token(empty: SoftHsm) -> None:
    done = run_process("ca", "create", "pki", "--factory", "acme", *HOST, *empty.options)
    assert (done.code, done.out) == (0, "")
    assert f"The token {LABEL} has the root's key, root-ca. Back up both: the directory, and the token.\n" in done.err
    assert not Path("pki/factory_ca.key").exists()
    assert Path("pki/local-ca.key").exists()
    assert empty.labels() == [ROOT]
    for file in ("factory_ca.pem", "local-ca.pem"):
        command = ["openssl", "verify", "-x509_strict", "-CAfile", "pki/factory_ca.pem", f"pki/{file}"]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert issue().code == 0
    finished_run(Path("issued"), Path("pki"), UUIDS)


def test_a_key_that_is_made_signs_and_never_leaves(hsm: SoftHsm) -> None:
    code = """
wanted = ("SENSITIVE", "ALWAYS_SENSITIVE", "EXTRACTABLE", "NEVER_EXTRACTABLE", "PRIVATE", "TOKEN",
          "SIGN", "DECRYPT", "UNWRAP", "DERIVE")
result = {}
for label in ("root-ca", "local-ca"):
    [key], [public] = keys(ObjectClass.PRIVATE_KEY, label), keys(ObjectClass.PUBLIC_KEY, label)
    assert key[A.ID] == public[A.ID] and len(key[A.ID]) == 8
    try:
        key[A.VALUE]
        raise SystemExit("the private value can be read")
    except pkcs11.AttributeSensitive:
        pass
    result[label] = {name: key[getattr(A, name)] for name in wanted}
    result[label]["curve"] = key[A.EC_PARAMS].hex()
    result[label]["point"] = public[A.EC_POINT][-65:].hex()
"""
    found = hsm.inside(code)
    yes = dict.fromkeys(("SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "PRIVATE", "TOKEN", "SIGN"), True)
    no = dict.fromkeys(("EXTRACTABLE", "DECRYPT", "UNWRAP", "DERIVE"), False)
    for label, file in ((ROOT, "factory_ca.pem"), (LOCAL, "local-ca.pem")):
        point = found[label].pop("point")
        assert found[label] == yes | no | {"curve": "06082a8648ce3d030107"}
        assert bytes.fromhex(point) in certificate(file).public_bytes(Encoding.DER)


def test_a_root_is_made_once_in_a_token_too(hsm: SoftHsm) -> None:
    before = contents(Path("pki"))
    hint = (
        "name another token; or, only if a command was stopped before it wrote a certificate for this key, take it "
        f"away: `pkcs11-tool --module {MODULE} --token-label '{LABEL}' --login --delete-object --label root-ca "
        "--type privkey`, and the same with --type pubkey"
    )
    ran = run_process("ca", "create", "other", "--factory", "acme", *hsm.options)
    refused(ran, f"the token '{LABEL}' has a key labelled 'root-ca' already, and no key is made over another", hint)
    assert not Path("other").exists()
    assert contents(Path("pki")) == before
    assert hsm.labels() == [LOCAL, ROOT]


def test_create_refuses_a_label_in_use_before_the_api_hears_of_it(hsm: SoftHsm) -> None:
    hsm.remove(ROOT)
    Path("token").write_text(TOKEN)
    with ApiServer() as api:
        options = ("--api", api.url, "--token-file", "token", *hsm.options, "--hsm-local-ca")
        ran = run_process("ca", "create", "other", "--factory", "acme", *options)
        assert {asked.method for asked in api.asked} == {"GET"}
    assert ran.code == 2
    assert ran.err.startswith(f"error: the token '{LABEL}' has a key labelled 'local-ca' already")
    assert hsm.labels() == [LOCAL]
    assert not Path("other").exists()


def test_a_ceremony_that_dies_after_the_key_was_made_says_how_to_begin_again(empty: SoftHsm) -> None:
    code = (
        "import os, signal\n"
        "from batch_issuer.ceremony import create\n"
        "from batch_issuer.cli import main\n"
        "create.write_certificate = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main()\n"
    )
    arguments = ("ca", "create", "pki", "--factory", "acme", "--hsm-local-ca", *empty.options)
    assert subprocess.run([sys.executable, "-c", code, *arguments], check=False).returncode == -9
    assert not Path("pki/factory_ca.pem").exists()
    assert empty.labels() == [LOCAL, ROOT]
    ran = run_process(*arguments)
    refused(ran, ran.err.splitlines()[0].removeprefix("error: "), ran.err.splitlines()[1].removeprefix("hint: "))
    assert "only if a command was stopped before it wrote a certificate for this key, take it away" in ran.err
    empty.remove(ROOT)
    empty.remove(LOCAL)
    assert run_process(*arguments).code == 0
    assert issue(*empty.options).code == 0


def test_a_full_disk_in_a_ceremony_says_that_the_token_has_keys_of_no_use(empty: SoftHsm) -> None:
    code = (
        "import errno, os\n"
        "from batch_issuer.ceremony import create\n"
        "from batch_issuer.cli import main\n"
        "def full(*_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'pki/local-ca.pem')\n"
        "create.write_certificate = full\n"
        "main()\n"
    )
    arguments = ("ca", "create", "pki", "--factory", "acme", "--hsm-local-ca", *empty.options)
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: pki/local-ca.pem cannot be written: No space left on device",
        "hint: when there is room or permission, take away what was just made in pki, and root-ca and local-ca in the "
        f"token '{LABEL}', and create again",
    ]


def vendor_requests(factory: str) -> dict[str, str]:
    def csr(common_name: str, *hosts: str) -> str:
        builder = x509.CertificateSigningRequestBuilder(name(common_name, [factory]))
        if hosts:
            names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(p256(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    return {"tls-csr": csr("gw.example.com", "gw.example.com"), "ca-csr": csr("gw.example.com")}


def test_with_the_api_no_key_is_made_before_its_requests_are_fit(empty: SoftHsm) -> None:
    Path("token").write_text(TOKEN)
    with ApiServer() as api:
        create = ("ca", "create", "pki", "--factory", "acme", "--api", api.url, "--token-file", "token", *empty.options)
        api.requests = vendor_requests("other")
        ran = run_process(*create)
        assert (ran.code, empty.labels(), Path("pki").exists()) == (2, [], False)
        assert "(OU), 'acme'; it has 'other'" in ran.err
        api.requests = vendor_requests("acme")
        ran = run_process(*create)
        assert (ran.code, empty.labels()) == (0, [ROOT])
        sent = x509.load_pem_x509_certificate(api.asked[-1].json()["root-crt"].encode())
    assert sent == certificate("factory_ca.pem")
    certificate("online-crt").verify_directly_issued_by(sent)


# Using them ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["dir", "tar", "parquet"])
def test_issue_signs_with_the_token(hsm: SoftHsm, form: str) -> None:
    ran = issue(*hsm.options, "--format", form, "--workers", "2")
    assert (ran.code, ran.err) == (0, "")
    bundles = finished_run(Path("issued"), Path("pki"), UUIDS)
    leaf = Path("leaf.pem")
    leaf.write_bytes(bundles[UUIDS[0]]["client.pem"])
    assert openssl_accepts(leaf, Path("pki"), partial=False)
    assert openssl_accepts(leaf, Path("pki"), partial=True)
    assert run_process("verify", "issued", "--pki", "pki").code == 0
    assert hsm.labels() == [LOCAL, ROOT]


def test_a_dry_run_asks_the_token_and_writes_nothing(hsm: SoftHsm) -> None:
    ran = issue(*hsm.options, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert "7 devices of 7 rows would be issued by local-ca of acme" in ran.out
    assert not Path("issued").exists()


def test_without_the_options_the_key_is_missed_and_they_are_named(hsm: SoftHsm) -> None:
    hint = (
        "--pki names another directory, --ca-name another device CA in it; of a key in a token, --hsm-module and "
        "--hsm-token-label say where it is"
    )
    refused(issue(), "the PKI directory pki lacks local-ca.key", hint)
    csr = request_pem()
    for arguments in (
        ("sign", csr, "--pki-dir", "pki"),
        ("rotate-tls", "pki"),
        ("add-device-ca", "pki", "--local-ca", "--local-ca-filename", "site2.pem"),
        ("add-device-ca", "pki", "--online-ca"),
        ("disable-device-ca", "pki", "--ca-file", LOCAL),
    ):
        refused(run_process("ca", *arguments), *NO_FILE)


def test_every_command_of_the_root_signs_with_the_token(hsm: SoftHsm) -> None:
    root, csr = certificate("factory_ca.pem"), request_pem()
    signed = run_process("ca", "sign", csr, "--pki-dir", "pki", *hsm.options)
    assert (signed.code, signed.err) == (0, "")
    x509.load_pem_x509_certificate(signed.out.encode()).verify_directly_issued_by(root)

    def ceremony(*arguments: str) -> None:
        ran = run_process("ca", *arguments, *hsm.options)
        assert ran.code == 0, ran.err

    ceremony("rotate-tls", "pki")
    ceremony("add-device-ca", "pki", "--online-ca")
    for file in ("tls-crt", "tls-crt.bak", "online-crt", "online-crt.bak"):
        certificate(file).verify_directly_issued_by(root)
    ceremony("disable-device-ca", "pki", "--ca-file", LOCAL)
    assert "local-ca.pem is disabled" in issue(*hsm.options).err
    ceremony("enable-device-ca", "pki", "--ca-file", LOCAL)
    Path("cas.pem").write_bytes(Path("pki/ca-crt").read_bytes())
    ceremony("revoke-device-ca", "pki", "--ca-file", LOCAL)
    assert "local-ca.pem is revoked" in issue(*hsm.options).err
    ceremony("update", "pki", "cas.pem")
    crl = x509.load_pem_x509_crl(Path("pki/ca-crl").read_bytes())
    assert crl.is_signature_valid(root.public_key())  # type: ignore[arg-type]
    assert len(crl) == 0
    assert issue(*hsm.options).code == 0


def test_device_cas_in_the_token_and_in_files(hsm: SoftHsm) -> None:
    assert run_process("ca", "add-device-ca", "pki", "--hsm-local-ca", "--local-ca-filename", "site2.pem",
                       *hsm.options).code == 0  # fmt: skip
    assert run_process("ca", "add-device-ca", "pki", "--local-ca", "--local-ca-filename", "site3.pem",
                       *hsm.options).code == 0  # fmt: skip
    assert hsm.labels() == [LOCAL, ROOT, SITE]
    assert not Path("pki/site2.key").exists()
    assert Path("pki/site3.key").stat().st_mode & 0o777 == 0o400
    assert issue("--ca-name", SITE, "--out", "two", *hsm.options).code == 0
    assert issue("--ca-name", "site3", "--out", "three").code == 0
    assert run_process("verify", "two", "--pki", "pki").code == 0
    before = contents(Path("pki"))
    again = run_process("ca", "add-device-ca", "pki", "--hsm-local-ca", "--local-ca-filename", "site2.pem",
                        *hsm.options)  # fmt: skip
    assert again.code == 2
    assert again.err.startswith("error: pki has a site2.pem already\nhint: if a command was stopped here, `batch-")
    Path("pki/site2.pem").unlink()
    again = run_process("ca", "add-device-ca", "pki", "--hsm-local-ca", "--local-ca-filename", "site2.pem",
                        *hsm.options)  # fmt: skip
    assert again.err.startswith(f"error: the token '{LABEL}' has a key labelled 'site2' already, and no key is made")
    named = run_process("ca", "add-device-ca", "pki", "--hsm-local-ca", "--local-ca-filename", "root-ca.pem",
                        *hsm.options)  # fmt: skip
    refused(
        named,
        "a device CA whose key is in a token cannot be called root-ca: there it is the root's label",
        "--local-ca-filename names another",
    )
    assert contents(Path("pki")) == {name: text for name, text in before.items() if name != "site2.pem"}
    assert hsm.labels() == [LOCAL, ROOT, SITE]


def test_a_root_in_a_file_goes_with_a_device_ca_in_a_token(empty: SoftHsm) -> None:
    make_pki(Path("pki"))
    arguments = ("add-device-ca", "pki", "--hsm-local-ca", "--local-ca-filename", "site2.pem")
    assert run_process("ca", *arguments, *empty.options).code == 0
    assert empty.labels() == [SITE]
    Path("pki/factory_ca.key").rename("kept-offline.key")
    assert issue("--ca-name", SITE, *empty.options).code == 0


def test_a_key_file_is_used_before_the_token_is_asked(imported: SoftHsm) -> None:
    imported.pin.chmod(0o600)
    imported.pin.write_text("a wrong PIN that nobody tries")
    ran = issue(*imported.options)
    said = f"warning: local-ca.key is in the directory, so it signs, and the token '{LABEL}' was not asked\n"
    assert (ran.code, ran.err) == (0, said)
    assert run_process("ca", "rotate-tls", "pki", *imported.options).code == 0


def test_keys_that_fioctl_made_are_found_by_their_labels(imported: SoftHsm) -> None:
    """Two keys with one CKA_ID, as `fioctl keys ca create` of the one build or the other leaves the root's."""
    for file in ("factory_ca.key", "local-ca.key"):
        Path("pki", file).unlink()
    assert run_process("ca", "rotate-tls", "pki", *imported.options).code == 0
    ran = issue(*imported.options)
    assert (ran.code, ran.err) == (0, "")
    finished_run(Path("issued"), Path("pki"), UUIDS)


def test_device_cas_beside_a_root_in_a_token_are_encrypted_alike(empty: SoftHsm) -> None:
    Path("phrase").write_text("correct horse battery")
    phrase = ("--ca-passphrase-file", "phrase")
    create = ("ca", "create", "pki", "--factory", "acme", "--encrypt-keys", *phrase, *empty.options)
    assert run_process(*create).code == 0
    add = ("ca", "add-device-ca", "pki", "--local-ca", "--local-ca-filename", "site2.pem", *empty.options)
    assert run_process(*add, *phrase).code == 0
    for file in ("local-ca.key", "site2.key"):
        assert load_pem_private_key(Path("pki", file).read_bytes(), b"correct horse battery")
    Path("wrong").write_text("incorrect horse battery")
    site3 = ("ca", "add-device-ca", "pki", "--local-ca", "--local-ca-filename", "site3.pem", *empty.options)
    for options in (("--ca-passphrase-file", "wrong"), ()):
        ran = run_process(*site3, *options)
        assert ran.code == 2
        assert "local-ca.key " in ran.err
        assert not list(Path("pki").glob("site3*"))


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--hsm-module", str(MODULE)), "--hsm-module and --hsm-token-label go together"),
        (("--hsm-token-label", LABEL), "--hsm-module and --hsm-token-label go together"),
        (("--hsm-pin-file", "pin"), "--hsm-pin-file is for --hsm-module and --hsm-token-label"),
    ],
)
def test_half_of_the_options_are_refused(empty: SoftHsm, options: tuple[str, ...], error: str) -> None:
    for command in (
        ("issue", "--manifest", "devices.csv"),
        ("ca", "create", "pki", "--factory", "acme"),
        ("ca", "sign", "x.csr", "--pki-dir", "pki"),
        ("ca", "revoke-device-ca", "pki", "--ca-serial", "1"),
        ("ca", "update", "pki"),
    ):
        ran = run(*command, *options)
        assert ran.code == 2
        assert ran.err.splitlines()[-1] == f"Error: {error}"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("create", "pki", "--factory", "a", "--hsm-local-ca"), "--hsm-local-ca is for a local-ca, with --hsm-module"),
        (("add-device-ca", "pki", "--hsm-local-ca"), "--hsm-local-ca is for a token: --hsm-module and"),
    ],
)
def test_a_key_in_no_token_is_refused(empty: SoftHsm, arguments: tuple[str, ...], error: str) -> None:
    ran = run("ca", *arguments)
    assert ran.code == 2
    assert f"Error: {error}" in ran.err
    assert not Path("pki").exists()


@pytest.mark.parametrize("which", ["--hsm-local-ca", "--no-local-ca"])
def test_nothing_to_encrypt_is_refused(empty: SoftHsm, which: str) -> None:
    ran = run("ca", "create", "pki", "--factory", "acme", "--encrypt-keys", which, *empty.options)
    assert ran.code == 2
    assert "Error: --encrypt-keys is for keys in files; all of these are in the token" in ran.err
    assert not Path("pki").exists()


def test_without_the_package_the_extra_is_named(empty: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_issuer.extras.find_spec", lambda _: None)
    ran = run("ca", "create", "pki", "--factory", "acme", *empty.options)
    error = "this command needs pkcs11, which is not installed"
    refused(ran, error, "pip install 'batch-issuer[hsm]'")


def _no_module(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    return ("--hsm-module", "nowhere.so"), f"the PKCS#11 module {Path('nowhere.so').absolute()} is not there", None


def _no_library(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    path = Path("text.so").absolute()
    path.write_text("not a library")
    error = f"{path} must be a PKCS#11 module; it cannot be loaded: file too short"
    return ("--hsm-module", str(path)), error, None


def _other_library(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    import _ctypes

    path = _ctypes.__file__
    error = f"{path} must be a PKCS#11 module; it cannot be loaded: undefined symbol: C_GetFunctionList"
    return ("--hsm-module", path), error, None


def _not_configured(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    (hsm.folder / "conf").unlink()
    hint = "its own configuration may be missing, such as the file that $SOFTHSM2_CONF names"
    return (), f"the PKCS#11 module {MODULE} cannot be started (GeneralError)", hint


def _no_token(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    error = f"the PKCS#11 module {MODULE} has no token labelled 'acme'; it has: '{LABEL}'"
    return ("--hsm-token-label", "acme"), error, None


def _two_tokens(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    hsm.add_token(LABEL)
    error = f"one token must be labelled '{LABEL}'; the PKCS#11 module {MODULE} has 2 of them"
    return (), error, "take the others away, or give them other labels"


def _no_key(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    hsm.remove(LOCAL)
    error = f"the token '{LABEL}' has no private key labelled 'local-ca'; it has: 'root-ca'"
    return (), error, "the root's key is labelled root-ca, a device CA's as the CA is named"


def _two_keys(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    hsm.inside("make('secp256r1', 'local-ca')")
    error = f"one private key in the token '{LABEL}' must be labelled 'local-ca'; 2 are"
    return (), error, "keys are told apart by their labels: give other labels to those that are not meant"


def _other_curve(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    hsm.remove(LOCAL)
    hsm.inside("make('secp384r1', 'local-ca')")
    return (), f"the key 'local-ca' in the token '{LABEL}' must be a P-256 key that may sign; it is on P-384", None


def _rsa_key(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    hsm.remove(LOCAL)
    hsm.inside("session.generate_keypair(KeyType.RSA, 2048, label='local-ca', store=True)")
    return (), f"the key 'local-ca' in the token '{LABEL}' must be a P-256 key that may sign; it is of type RSA", None


def _no_signatures(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    hsm.remove(LOCAL)
    hsm.inside("make('secp256r1', 'local-ca', SIGN=False)")
    return (), f"the key 'local-ca' in the token '{LABEL}' must be a P-256 key that may sign; it may not sign", None


def _other_key(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    hsm.remove(LOCAL)
    hsm.inside("make('secp256r1', 'local-ca')")
    error = f"the key 'local-ca' in the token '{LABEL}' must be the key of local-ca.pem; its signature does not verify"
    return (), f"{error} with that certificate", None


def _wrong_pin(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    Path("wrong").write_text("0000")
    hint = "it was tried once, and wrong PINs lock a token: make sure of it before you try again"
    error = f"the token '{LABEL}' refused the PIN; the token counts wrong PINs"
    return ("--hsm-pin-file", "wrong"), error, hint


def _short_pin(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    options, error, hint = _wrong_pin(hsm)
    Path("wrong").write_text("0")
    return options, error, hint


def _last_try(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    hsm.raise_flags(0x20000)
    options, error, hint = _wrong_pin(hsm)
    return options, error.replace("the token counts wrong PINs", "one more wrong PIN locks the token"), hint


def _locked(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    hsm.raise_flags(0x40000)
    hint = "its security officer can unlock it, with the tools of the token's maker"
    return (), f"the PIN of the token '{LABEL}' is locked", hint


def _no_pin_file(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    return ("--hsm-pin-file", "nowhere"), "the PIN file nowhere cannot be read: No such file or directory", None


def _empty_pin(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    Path("wrong").write_text("\n")
    error = f"the PIN of the token '{LABEL}' must be one line of UTF-8, and not empty; it is not"
    return ("--hsm-pin-file", "wrong"), error, None


def _binary_pin(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    options, error, hint = _empty_pin(hsm)
    Path("wrong").write_bytes(b"\xff\xfe\n")
    return options, error, hint


def _two_lines(hsm: SoftHsm) -> tuple[tuple[str, ...], str, str | None]:
    options, error, hint = _empty_pin(hsm)
    Path("wrong").write_text(f"{PIN}\n{PIN}\n")
    return options, error, hint


FAULTS = (
    _no_module, _no_library, _other_library, _not_configured, _no_token, _two_tokens, _no_key, _two_keys, _other_curve,
    _rsa_key, _no_signatures, _other_key, _wrong_pin, _short_pin, _last_try, _locked, _no_pin_file, _empty_pin,
    _binary_pin, _two_lines,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_token_that_cannot_be_used_is_a_sentence(hsm: SoftHsm, fault: object) -> None:
    assert callable(fault)
    more, error, hint = fault(hsm)
    refused(issue(*hsm.options, *more), error, hint)


def test_a_create_that_cannot_use_the_token_makes_nothing(empty: SoftHsm) -> None:
    Path("wrong").write_text("0000")
    ran = run_process("ca", "create", "pki", "--factory", "acme", *empty.place, "--hsm-pin-file", "wrong")
    assert ran.code == 2
    assert ran.err.startswith(f"error: the token '{LABEL}' refused the PIN")
    assert not Path("pki").exists()
    assert run_process("ca", "create", "pki", "--factory", "acme", *empty.options).code == 0


def test_a_pin_is_tried_once(hsm: SoftHsm) -> None:
    code = (
        "import sys\n"
        "from batch_issuer.authority import token_session\n"
        "from batch_issuer.cli import main\n"
        "log_in = token_session._log_in\n"
        "def counted(token, pin):\n"
        "    print('tried', file=sys.stderr)\n"
        "    return log_in(token, pin)\n"
        "token_session._log_in = counted\n"
        "main()\n"
    )
    Path("wrong").write_text("0000")
    Path("devices.csv").write_bytes(csv_bytes(UUIDS))
    command = [sys.executable, "-c", code, "issue", "--manifest", "devices.csv", "--workers", "2", *hsm.place]
    done = subprocess.run([*command, "--hsm-pin-file", "wrong"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("tried\n")) == (2, 1)
    done = subprocess.run([*command, "--hsm-pin-file", str(hsm.pin)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("tried\n")) == (0, 1)  # here; each worker has a session of its own
    csr = request_pem()
    command = [sys.executable, "-c", code, "ca", "sign", str(csr), "--pki-dir", "pki", *hsm.options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("tried\n")) == (0, 1)


# Where the PIN comes from -------------------------------------------------------------------------------------------


def test_the_pin_comes_from_the_environment(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(issue(*hsm.place), f"the token '{LABEL}' needs a PIN, and there is none", PIN_HINT)
    monkeypatch.setenv("BATCH_ISSUER_HSM_PIN", "0000")
    assert issue(*hsm.place).code == 2
    assert issue(*hsm.options, "--out", "file").code == 0  # the file goes before the environment
    monkeypatch.setenv("BATCH_ISSUER_HSM_PIN", PIN)
    assert issue(*hsm.place).code == 0


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = os.openpty()
    yield ours, theirs
    os.close(ours)
    with suppress(OSError):
        os.close(theirs)


def test_the_pin_is_asked_for_on_a_terminal(hsm: SoftHsm, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    Path("devices.csv").write_bytes(csv_bytes(UUIDS))
    program = [sys.executable, "-m", "batch_issuer", "issue", "--manifest", "devices.csv", "--days", "30", *hsm.place]
    process = subprocess.Popen(
        ["timeout", "60", *program, "--hardware-id", "hw"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stderr is not None
        wanted = f"PIN of the token {LABEL}: ".encode()
        prompt = process.stderr.read(len(wanted))
        os.write(ours, PIN.encode() + b"\n")
        out, err = process.communicate()
    assert (process.returncode, prompt, err.strip()) == (0, wanted, b"")
    assert PIN.encode() not in out
    finished_run(Path("issued"), Path("pki"), UUIDS)


def test_a_token_key_travels_and_does_not_show_its_pin() -> None:
    token = Token(MODULE, LABEL, lambda _: PIN)
    key = token.key(LOCAL)
    assert key == TokenKey(MODULE, LABEL, LOCAL, PIN) == pickle.loads(pickle.dumps(key))  # noqa: S301 - our own
    for text in (repr(key), str(key), repr(token), repr([key])):
        assert PIN not in text
        assert LABEL in text
