"""The signer of outputs and its signature: made by a key for nothing else, and each wrong one found by name."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder
from faults import InlineSupervisor
from judges import (
    FORMATS,
    HARDWARE,
    SMALL,
    Ran,
    contents,
    csv_bytes,
    device_uuids,
    interrupted_run,
    issue,
    private_values,
    refusal,
    run,
    shows_a_key,
    summed,
)
from pki import CA_TRUE, DAY, EXPIRED, NOW, SERVERS, VALID, make_certificate, make_pki, name, p256

import batch_issuer.verification.run
from batch_issuer.authority.batch_signer import load_batch_signer
from batch_issuer.verification.der import content, element, split

if TYPE_CHECKING:
    from collections.abc import Callable

UUIDS = device_uuids(4)
MANIFEST = csv_bytes(UUIDS)
DETACHED = (PKCS7Options.DetachedSignature, PKCS7Options.Binary, PKCS7Options.NoCapabilities)
VERIFY = "openssl cms -verify -binary -inform DER -in SHA256SUMS.sig -content SHA256SUMS -CAfile"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PKI with a signer, and a run that it has signed."""
    folder = tmp_path_factory.mktemp("signed")
    make_pki(folder / "pki", signer="batch-signer", now=NOW - DAY)
    (folder / "devices.csv").write_bytes(MANIFEST)
    options = ("--manifest", folder / "devices.csv", "--pki", folder / "pki", "--format", "tar", *SMALL, *HARDWARE)
    assert run("issue", *options, "--out", folder / "issued", "--sign-with", "batch-signer").code == 0
    return folder


@pytest.fixture(autouse=True)
def work(signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a copy of them; verification in this process, whose workers other files test."""
    for variable in ("BATCH_ISSUER_PKI", "BATCH_ISSUER_CA_PASSPHRASE"):
        monkeypatch.delenv(variable, raising=False)
    shutil.copytree(signed / "pki", tmp_path / "pki")
    shutil.copytree(signed / "issued", tmp_path / "signed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_issuer.verification.run, "Supervisor", InlineSupervisor)
    return tmp_path


def verify(*options: str) -> Ran:
    return run("verify", "signed", "--pki", "pki", "--workers", "1", *options)


def findings(*options: str) -> list[tuple[str, str]]:
    """Code and message of everything that is found, which all is about the signature."""
    ran = verify("--json", *options)
    report = json.loads(ran.out)
    found = [(finding["code"], finding["message"]) for finding in report["findings"]]
    assert {finding["place"] for finding in report["findings"]} <= {"SHA256SUMS.sig"}
    assert ran.code == (4 if found else 0)
    assert (report["signer"] is None) == bool(found)
    return found


def codes(*options: str) -> list[str]:
    return [code for code, _ in findings(*options)]


def openssl_verifies(out: Path, *options: str) -> str:
    """What OpenSSL says of the signature: nothing, or its error."""
    command = [*VERIFY.split(), str(Path("pki/factory_ca.pem").absolute()), *options]
    done = subprocess.run(command, cwd=out, capture_output=True, check=False)
    if done.returncode:
        return done.stderr.decode()
    assert done.stdout == (out / "SHA256SUMS").read_bytes()
    return ""


def key_of(file: str, folder: str = "pki") -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(Path(folder, f"{file}.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def certificate_of(file: str, folder: str = "pki") -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(folder, f"{file}.pem").read_bytes())


def sign(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, data: bytes | None = None) -> None:
    """Sign the run's SHA256SUMS, or other data, as this program does."""
    octets = Path("signed/SHA256SUMS").read_bytes() if data is None else data
    builder = PKCS7SignatureBuilder().set_data(octets).add_signer(certificate, key, hashes.SHA256())
    Path("signed/SHA256SUMS.sig").write_bytes(builder.sign(Encoding.DER, DETACHED))


def name_in_record(certificate: x509.Certificate | None, signer: str | None = "batch-signer") -> None:
    """Make run.json name another signer, and SHA256SUMS agree with that: all that a forger with a key can do."""
    record = json.loads(Path("signed/run.json").read_bytes())
    pem = None if certificate is None else certificate.public_bytes(Encoding.PEM).decode()
    text = json.dumps(record | {"signer": signer, "signer_certificate": pem}, indent=2) + "\n"
    old, new = (hashlib.sha256(octets).hexdigest() for octets in (Path("signed/run.json").read_bytes(), text.encode()))
    Path("signed/run.json").write_text(text)
    sums = Path("signed/SHA256SUMS")
    assert old in sums.read_text()
    sums.write_text(sums.read_text().replace(old, new))


def leaf(key: ec.EllipticCurvePrivateKey, **options: Any) -> x509.Certificate:
    """A certificate below the root, good for a signer unless something is said."""
    values: dict[str, Any] = {
        "subject": name("batch-signer", ["acme"]),
        "issuer": certificate_of("factory_ca").subject,
        "signer": key_of("factory_ca"),
        "window": VALID,
        "constraints": None,
        "usage": ("digital_signature",),
    }
    values |= options
    return make_certificate(values.pop("subject"), key, values.pop("issuer"), values.pop("signer"), **values)


# What is made


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_a_signed_run(bundle_format: str) -> None:
    ran = issue(MANIFEST, "--format", bundle_format, "--sign-with", "batch-signer")
    assert ran.code == 0
    assert "  signed    issued/SHA256SUMS.sig, by batch-signer\n" in ran.out
    assert summed(Path("issued"))
    assert openssl_verifies(Path("issued"), "-purpose", "any") == ""
    ran = run("verify", "issued", "--pki", "pki", "--signed-by", "batch-signer")
    assert ran.code == 0
    assert ran.out.endswith(": nothing is wrong, signed by OU=acme,CN=batch-signer\n")


def test_openssl_needs_the_purpose_named_because_of_the_root() -> None:
    """The root's extendedKeyUsage, as fioctl makes it, has no e-mail, which is what OpenSSL asks of it unless told."""
    assert "unsuitable certificate purpose" in openssl_verifies(Path("signed"))
    assert openssl_verifies(Path("signed"), "-purpose", "any") == ""
    Path("signed/SHA256SUMS").write_bytes(b"other\n")
    assert "content verify error" in openssl_verifies(Path("signed"), "-purpose", "any")


def test_the_record_names_the_signer_and_holds_no_key() -> None:
    record = json.loads(Path("signed/run.json").read_bytes())
    assert record["signer"] == "batch-signer"
    assert record["signer_certificate"] == Path("pki/batch-signer.pem").read_text()
    summary = json.loads(Path("signed/summary.json").read_bytes())
    assert summary["signer"] == "batch-signer"
    key = Path("pki/batch-signer.key").read_bytes()
    for path in Path("signed").iterdir():
        if path.is_file():
            assert not shows_a_key(path.read_bytes(), private_values([key])), path
    signer = load_batch_signer(Path("pki"), "batch-signer", now=datetime.now(UTC))
    assert not shows_a_key(repr(signer).encode(), private_values([key]))


def test_an_unsigned_run_has_no_signature() -> None:
    assert issue(MANIFEST).code == 0
    assert not Path("issued/SHA256SUMS.sig").exists()
    assert json.loads(Path("issued/run.json").read_bytes())["signer"] is None
    ran = run("verify", "issued", "--pki", "pki", "--signed-by", "batch-signer")
    assert ran.code == 4
    assert ran.err == ("SHA256SUMS.sig: run.json names no signer, and the run is to be signed [signature-signer]\n")


def test_a_signer_with_an_encrypted_key(tmp_path: Path) -> None:
    secret = "three words and more"  # noqa: S105 - of this test
    (tmp_path / "secret").write_text(secret)
    create = ("ca", "create", "closed", "--factory", "acme", "--encrypt-keys", "--ca-passphrase-file", "secret")
    assert run(*create).code == 0
    assert run("ca", "add-signer", "closed", "--ca-passphrase-file", "secret").code == 0
    assert b"ENCRYPTED" in Path("closed/batch-signer.key").read_bytes()
    options = ("--pki", "closed", "--ca-passphrase-file", "secret", "--sign-with", "batch-signer")
    ran = issue(MANIFEST, *options)
    assert ran.code == 0
    assert secret not in ran.out + ran.err + Path("issued/run.json").read_text()
    assert run("verify", "issued", "--pki", "closed").out.endswith("signed by OU=acme,CN=batch-signer\n")
    shutil.rmtree("issued")
    (tmp_path / "secret").write_text("three other words")
    error = "local-ca.key cannot be decrypted with the passphrase that was given"
    hint = "give its passphrase by --ca-passphrase-file or $BATCH_ISSUER_CA_PASSPHRASE"
    refusal(issue(MANIFEST, *options), 2, error, hint=hint)


# What is refused before the first key


def put_signer(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, file: str = "other") -> None:
    from pki import key_pem

    Path(f"pki/{file}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    Path(f"pki/{file}.key").write_bytes(key_pem(key))
    Path(f"pki/{file}.key").chmod(0o400)


NOTHING_ELSE = "`batch-issuer ca add-signer` makes a signer that is for nothing else"


@pytest.mark.parametrize(
    ("options", "error", "hint"),
    [
        (
            {"constraints": CA_TRUE},
            "other.pem must be a signer's certificate; it is a CA's, whose key signs no output",
            NOTHING_ELSE,
        ),
        ({"usage": None}, "other.pem must be allowed to sign data; it has no keyUsage", NOTHING_ELSE),
        (
            {"usage": ("key_agreement",)},
            "other.pem must be allowed to sign data; its keyUsage lacks digitalSignature",
            NOTHING_ELSE,
        ),
        (
            {"purposes": SERVERS},
            "other.pem must be for signing outputs alone; it is for other purposes (extendedKeyUsage)",
            NOTHING_ELSE,
        ),
        (
            {"window": EXPIRED},
            f"other.pem was valid until {EXPIRED[1]:%Y-%m-%d %H:%M:%S} UTC; it is ",
            "a device CA's successor is signed by the root",
        ),
        (
            {"subject": name("x", ["globex"])},
            "other.pem must have the organizational unit of factory_ca.pem, 'acme'; it has 'globex'",
            "a factory's root and device CAs all bear the factory's name",
        ),
    ],
)
def test_a_certificate_that_is_no_signers(options: dict[str, Any], error: str, hint: str) -> None:
    key = p256()
    put_signer(leaf(key, **options), key)
    ran = issue(MANIFEST, "--sign-with", "other")
    assert ran.err.startswith(f"error: {error}")
    assert ran.err.endswith(f"hint: {hint}\n")
    assert ran.code == 2
    assert not Path("issued").exists()
    assert issue(MANIFEST, "--sign-with", "other", "--dry-run").err == ran.err or "it is " in error


def test_a_signer_of_another_root() -> None:
    key, root_key = p256(), p256()
    put_signer(leaf(key, signer=root_key), key)
    error = "other.pem must be signed by the key of factory_ca.pem; its signature is not"
    refusal(issue(MANIFEST, "--sign-with", "other"), 2, error)


def test_a_key_that_is_not_the_signers() -> None:
    put_signer(leaf(p256()), p256())
    error = "other.key must be the key of other.pem; its signature does not verify with that certificate"
    refusal(issue(MANIFEST, "--sign-with", "other"), 2, error)


@pytest.mark.parametrize("signer", ["local-ca", "batch-signer.pem", "nobody"])
def test_a_signer_that_is_none(signer: str) -> None:
    ran = issue(MANIFEST, "--sign-with", signer)
    assert ran.code == 2
    assert not Path("issued").exists()
    expected = {
        "local-ca": "error: local-ca.pem must be a signer's certificate; it is a CA's, whose key signs no output\n",
        "nobody": "error: the PKI directory pki lacks nobody.pem, nobody.key\n",
        "batch-signer.pem": "error: the PKI directory pki lacks batch-signer.pem.pem, batch-signer.pem.key\n",
    }
    assert ran.err.startswith(expected[signer])


@pytest.mark.parametrize("signer", ["", "../pki/batch-signer", ".hidden", "factory_ca", "a\0b"])
def test_a_signers_name_that_is_none(signer: str) -> None:
    error = f"a signer's name must be a plain file name without a suffix, and not the root's; it is {signer!r}"
    hint = "NAME stands for NAME.pem and NAME.key in the PKI directory, as in --sign-with batch-signer"
    refusal(issue(MANIFEST, "--sign-with", signer), 2, error, hint=hint)
    ran = run("ca", "add-signer", "pki", "--name", signer)
    assert (ran.code, ran.err) == (2, f"error: {error}\nhint: {hint}\n")


def test_a_key_that_others_can_read_is_told() -> None:
    Path("pki/batch-signer.key").chmod(0o440)
    ran = issue(MANIFEST, "--sign-with", "batch-signer")
    assert ran.code == 0
    assert "warning: batch-signer.key must be its owner's alone, mode 0400; it has mode 0440\n" in ran.err


# Resume


def test_a_resume_signs_as_the_run_began(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, MANIFEST, "--sign-with", "batch-signer")
    assert issue(MANIFEST, "--sign-with", "batch-signer", "--resume").code == 0
    assert openssl_verifies(Path("issued"), "-purpose", "any") == ""


def test_a_resume_with_another_signer_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("ca", "add-signer", "pki", "--name", "other").code == 0
    interrupted_run(monkeypatch, MANIFEST, "--sign-with", "batch-signer")
    before = contents(Path("issued"))
    asked = (
        ((), "signer was batch-signer, now none, signer_certificate is another"),
        (("--sign-with", "other"), "signer was batch-signer, now other, signer_certificate is another"),
    )
    for options, told in asked:
        ran = issue(MANIFEST, "--resume", *options)
        hint = "hint: resume with the options it began with; run.json has them all"
        assert (ran.code, ran.err) == (2, f"error: the run began otherwise: {told}\n{hint}\n")
    assert {path: contents(Path("issued"))[path] for path in before if "plan" not in path} == {
        path: digest for path, digest in before.items() if "plan" not in path
    }


def test_a_resume_with_another_key_under_the_signers_name(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, MANIFEST, "--sign-with", "batch-signer")
    for suffix in ("key", "pem"):
        Path(f"pki/batch-signer.{suffix}").unlink()
    assert run("ca", "add-signer", "pki").code == 0
    ran = issue(MANIFEST, "--resume", "--sign-with", "batch-signer")
    assert ran.code == 2
    assert ran.err.startswith("error: the run began otherwise: signer_certificate is another\n")


def test_a_finished_run_is_not_signed_anew() -> None:
    assert issue(MANIFEST, "--sign-with", "batch-signer").code == 0
    before = contents(Path("issued"))
    assert issue(MANIFEST, "--sign-with", "batch-signer", "--resume").code == 0
    ran = issue(MANIFEST, "--resume")
    error = "error: the run began otherwise, and is finished: signer was batch-signer, now none\n"
    assert (ran.code, ran.err) == (2, f"{error}hint: a finished run is not signed anew\n")
    assert contents(Path("issued")) == before


# What verify finds


def test_a_good_signature() -> None:
    assert findings() == findings("--signed-by", "batch-signer") == []


def test_a_good_signature_made_anew() -> None:
    """The judge's own twin: what the tests below make is good where nothing is wrong."""
    key = p256()
    certificate = leaf(key)
    name_in_record(certificate)
    sign(certificate, key)
    assert findings() == []
    assert codes("--signed-by", "batch-signer") == ["signature-signer"]


def test_no_signature_where_the_run_names_a_signer() -> None:
    Path("signed/SHA256SUMS.sig").unlink()
    assert findings() == [("folder-missing", "SHA256SUMS.sig is not there")]


def test_a_signature_that_is_no_file() -> None:
    Path("signed/SHA256SUMS.sig").rename("elsewhere")
    Path("signed/SHA256SUMS.sig").symlink_to(Path("elsewhere").absolute())
    assert sorted(codes()) == ["folder-kind", "signature-encoding"]


def test_a_signature_stripped_with_its_name() -> None:
    """Without --signed-by a run that says it is unsigned is one; with it, it is not what was to be."""
    Path("signed/SHA256SUMS.sig").unlink()
    name_in_record(None, signer=None)
    assert verify().code == 0
    assert "signed by" not in verify().out
    assert codes("--signed-by", "batch-signer") == ["signature-signer"]


def test_a_signature_over_other_sums() -> None:
    sign(certificate_of("batch-signer"), key_of("batch-signer"), b"of another run\n")
    [(code, message)] = findings()
    assert code == "signature-digest"
    digests = [hashlib.sha256(octets).hexdigest() for octets in (b"of another run\n", sums())]
    assert message == f"it signs a file with SHA-256 {digests[0]}, SHA256SUMS has {digests[1]}"


def sums() -> bytes:
    return Path("signed/SHA256SUMS").read_bytes()


def test_a_signature_by_another_signer() -> None:
    assert run("ca", "add-signer", "pki", "--name", "other").code == 0
    sign(certificate_of("other"), key_of("other"))
    told = "it is by OU=acme,CN=other, whose certificate is not the signer's that run.json names"
    assert findings() == [("signature-signer", told)]


def test_a_signature_by_another_key_with_the_signers_certificate() -> None:
    octets = Path("signed/SHA256SUMS.sig").read_bytes()
    good = certificate_of("batch-signer")
    twin = leaf(p256(), subject=good.subject)
    assert twin.issuer == good.issuer
    sign(good, p256())
    assert findings() == [("signature-wrong", "the signature is not by the key of the certificate in it")]
    Path("signed/SHA256SUMS.sig").write_bytes(octets)
    assert findings() == []


@pytest.mark.parametrize("signer", ["local-ca", "factory_ca"])
def test_a_signature_by_a_cas_own_key(signer: str) -> None:
    sign(certificate_of(signer), key_of(signer))
    assert set(codes()) == {"signature-signer", "signature-certificate"}
    name_in_record(certificate_of(signer), signer)
    sign(certificate_of(signer), key_of(signer))
    found = findings()
    assert found[:2] == [
        ("signature-certificate", "the signer's certificate is a CA's, and no CA's key signs a run"),
        (
            "signature-certificate",
            "the signer's keyUsage must have digitalSignature and no keyCertSign; it has another",
        ),
    ]
    assert {code for code, _ in found} == {"signature-certificate"}


def test_a_signature_by_a_device() -> None:
    """Its certificate is the device CA's and not the root's, and it is for connections."""
    assert issue(MANIFEST).code == 0
    folder = Path("issued/bundles") / UUIDS[0]
    for source, target in (("client.pem", "device.pem"), ("pkey.pem", "device.key")):
        shutil.copy(folder / source, Path("pki") / target)
    name_in_record(certificate_of("device"), "device")
    sign(certificate_of("device"), key_of("device"))
    assert findings() == [
        ("signature-certificate", "the signer's certificate is not issued by the root"),
        ("signature-certificate", "the signer's certificate is for other purposes: it has extendedKeyUsage"),
    ]


WRONG_SIGNERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "another root": (
        {"signer": p256()},
        "signature-certificate",
        "the signer's certificate is not issued by the root",
    ),
    "another issuer": (
        {"issuer": name("Factory-CA", ["globex"])},
        "signature-certificate",
        "the signer's certificate is not issued by the root",
    ),
    "another factory": (
        {"subject": name("batch-signer", ["globex"])},
        "signature-certificate",
        "the signer's OU is ['globex'], expected the run's factory 'acme'",
    ),
    "a server": (
        {"purposes": SERVERS},
        "signature-certificate",
        "the signer's certificate is for other purposes: it has extendedKeyUsage",
    ),
    "no key usage": (
        {"usage": None},
        "signature-certificate",
        "the signer's keyUsage must have digitalSignature and no keyCertSign; it has another",
    ),
    "a key usage too many": (
        {"usage": ("digital_signature", "key_cert_sign")},
        "signature-certificate",
        "the signer's keyUsage must have digitalSignature and no keyCertSign; it has another",
    ),
    "expired": ({"window": EXPIRED}, "signature-time", "it was made at "),
    "not yet valid": ({"window": (NOW + DAY, NOW + 2 * DAY)}, "signature-time", "it was made at "),
}


@pytest.mark.parametrize("wrong", WRONG_SIGNERS)
def test_a_signer_that_is_not_fit(wrong: str) -> None:
    options, code, message = WRONG_SIGNERS[wrong]
    key = p256()
    certificate = leaf(key, **options)
    name_in_record(certificate)
    sign(certificate, key)
    [(found, told)] = findings()
    assert found == code
    assert told.startswith(message)


def test_a_signer_on_another_curve() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = leaf(key)
    name_in_record(certificate)
    sign(certificate, key)
    assert findings() == [
        ("signature-certificate", "the signer's certificate cannot be used: its key is not a P-256 key")
    ]


def test_a_signature_older_than_its_run() -> None:
    """Of the time it says only its own key knows; it may at least not lie before the run."""
    record = json.loads(Path("signed/run.json").read_bytes())
    later = datetime.now(UTC) + timedelta(hours=1)
    text = f"{later:%Y-%m-%dT%H:%M:%SZ}"
    Path("signed/run.json").write_text(json.dumps(record | {"not_before": text}))
    sign(certificate_of("batch-signer"), key_of("batch-signer"))
    report = json.loads(verify("--json").out)
    messages = [finding["message"] for finding in report["findings"] if finding["code"] == "signature-time"]
    assert len(messages) == 1
    assert messages[0].endswith(f"before the run's certificates begin, {text}")


# The one form


def rebuilt(change: Callable[[list[bytes]], None], *path: int) -> None:
    """Change the elements of the signature at a place in its tree: indices from the outermost element inwards."""

    def change_at(octets: bytes, path: tuple[int, ...]) -> bytes:
        inner = split(content(octets, octets[0]))
        if path:
            inner[path[0]] = change_at(inner[path[0]], path[1:])
        else:
            change(inner)
        return element(octets[0], *inner)

    file = Path("signed/SHA256SUMS.sig")
    file.write_bytes(change_at(file.read_bytes(), path))


SIGNED_DATA, SIGNER = (1, 0), (1, 0, 4, 0)


@pytest.mark.parametrize(
    ("change", "path", "told"),
    [
        (lambda e: e.__setitem__(0, bytes.fromhex("06092a864886f70d010701")), (), "the content type is "),
        (lambda e: e.append(b"\x05\x00"), (), "3 elements, expected 2"),
        (lambda e: e.__setitem__(0, b"\x02\x01\x03"), SIGNED_DATA, "the version is 020103"),
        (lambda e: e.append(element(0xA1)), SIGNED_DATA, "6 elements, expected 5"),
        (lambda e: e.clear(), (1, 0, 1), "the digest algorithms is 3100"),
        (lambda e: e.append(element(0xA0, b"\x04\x00")), (1, 0, 2), "the signed content is "),
        (lambda e: e.append(e[0]), (1, 0, 3), "2 elements, expected 1"),
        (lambda e: e.append(e[0]), (1, 0, 4), "2 elements, expected 1"),
        (lambda e: e.__setitem__(0, b"\x02\x01\x03"), SIGNER, "the signer's version is 020103"),
        (lambda e: e.__setitem__(1, e[1][:-1] + b"\x00"), (*SIGNER, 1), "the signer's identifier is "),
        (lambda e: e.__setitem__(2, bytes.fromhex("300706052b0e03021a")), SIGNER, "the signer's digest algorithm is "),
        (lambda e: e.pop(3), SIGNER, "5 elements, expected 6"),
        (lambda e: e.reverse(), (*SIGNER, 3), "the content-type attribute is "),
        (lambda e: e.pop(1), (*SIGNER, 3), "2 elements, expected 3"),
        (lambda e: e.append(e[0]), (*SIGNER, 3, 1, 1), "2 elements, expected 1"),
        (lambda e: e.__setitem__(0, b"\x17\x0b2611232036Z"), (*SIGNER, 3, 1, 1), "the time '2611232036Z' is not"),
        (lambda e: e.append(b"\x05\x00"), (*SIGNER, 4), "the signature algorithm is "),
        (lambda e: e.append(element(0xA1)), SIGNER, "7 elements, expected 6"),
    ],
)
def test_another_form(change: Callable[[list[bytes]], None], path: tuple[int, ...], told: str) -> None:
    rebuilt(change, *path)
    [(code, message)] = findings()
    assert code == "signature-encoding"
    assert message.startswith(f"it is no detached CMS signature of the one form: {told}")


def test_a_digest_algorithm_without_parameters_is_the_same() -> None:
    """Other versions of the library leave NULL out; RFC 5754 has readers take both."""
    bare = bytes.fromhex("300b0609608648016503040201")
    rebuilt(lambda e: e.__setitem__(0, bare), 1, 0, 1)
    rebuilt(lambda e: e.__setitem__(2, bare), *SIGNER)
    assert findings() == []
    assert openssl_verifies(Path("signed"), "-purpose", "any") == ""


@pytest.mark.parametrize("octets", [b"", b"\x30\x80\x00\x00", b"-----BEGIN CMS-----\n", bytes(600)])
def test_octets_that_are_no_signature(octets: bytes) -> None:
    Path("signed/SHA256SUMS.sig").write_bytes(octets)
    assert codes() == ["signature-encoding"]


@pytest.mark.parametrize("step", range(0, 700, 7))
def test_a_flipped_bit_anywhere(step: int) -> None:
    file = Path("signed/SHA256SUMS.sig")
    octets = bytearray(file.read_bytes())
    octets[step] ^= 1
    file.write_bytes(octets)
    assert codes() != []


def test_what_openssl_signs_in_its_own_form_is_another_form() -> None:
    """Its list of ciphers for answers by mail is not what a run writes."""
    form = "-sign -binary -outform DER -in SHA256SUMS -out SHA256SUMS.sig"
    command = ["openssl", "cms", *form.split(), "-signer"]
    signer = Path("pki/batch-signer.pem").absolute()
    subprocess.run([*command, signer, "-inkey", signer.with_suffix(".key")], cwd="signed", check=True)
    assert codes() == ["signature-encoding"]


def test_a_record_that_names_no_certificate() -> None:
    record = Path("signed/run.json")
    values = json.loads(record.read_bytes())
    record.write_text(json.dumps(values | {"signer_certificate": "none"}))
    assert "signature-signer" in {finding["code"] for finding in json.loads(verify("--json").out)["findings"]}


# The command


def test_add_signer() -> None:
    ran = run("ca", "add-signer", "pki", "--name", "line-2")
    assert (ran.code, ran.err) == (
        0,
        "pki/line-2.pem and its key are made; issue --sign-with line-2 signs with it\n",
    )
    assert [Path(f"pki/line-2.{suffix}").stat().st_mode & 0o777 for suffix in ("key", "pem")] == [0o400, 0o400]
    assert certificate_of("line-2").public_key() == key_of("line-2").public_key()


def test_add_signer_writes_over_nothing() -> None:
    before = contents(Path("pki"))
    ran = run("ca", "add-signer", "pki")
    assert (ran.code, ran.err) == (2, "error: pki has a batch-signer.pem already\nhint: --name names another\n")
    ran = run("ca", "add-signer", "pki", "--name", "local-ca")
    assert (ran.code, ran.err) == (2, "error: pki has a local-ca.pem already\nhint: --name names another\n")
    assert contents(Path("pki")) == before
    Path("pki/half.key").touch()
    ran = run("ca", "add-signer", "pki", "--name", "half")
    hint = "it has no half.pem: if a command was stopped here, take the key away, nobody has used it"
    assert (ran.code, ran.err) == (2, f"error: pki has a half.key already\nhint: {hint}\n")


def test_add_signer_needs_the_root() -> None:
    Path("pki/factory_ca.key").unlink()
    ran = run("ca", "add-signer", "pki", "--name", "late")
    assert ran.code == 2
    assert ran.err.startswith(
        "error: the PKI directory pki lacks factory_ca.key, and this needs the root's signature\n"
    )
    assert not list(Path("pki").glob("late.*"))


def test_a_name_that_is_fit_for_a_file_and_not_for_a_certificate() -> None:
    ran = run("ca", "add-signer", "pki", "--name", "x" * 65)
    assert (ran.code, ran.err) == (2, f"error: a signer's name must have 1 to 64 characters; it has 65: {'x' * 65!r}\n")


def test_a_signer_is_no_device_ca_anywhere() -> None:
    before = run("ca", "show", "pki", "--just-device-cas").out
    error = "batch-signer.pem must be a CA's certificate, with basicConstraints CA:TRUE; it has no basicConstraints"
    refusal(issue(MANIFEST, "--ca-name", "batch-signer"), 2, error)
    Path("pki/ca-crt").unlink()  # now the files in the directory say what is in force
    shown = run("ca", "show", "pki", "--just-device-cas").out
    assert Path("pki/batch-signer.pem").read_text() not in shown
    assert sorted(shown.split("-----BEGIN")) == sorted(before.split("-----BEGIN"))
    assert run("ca", "update", "pki", "pki/batch-signer.pem").code == 2
    assert run("ca", "disable-device-ca", "pki", "--ca-file", "batch-signer").code == 2
    assert run("ca", "add-device-ca", "pki", "--local-ca", "--local-ca-filename", "batch-signer.pem").code == 2
    assert run("verify", "signed", "--pki", "pki", "--ca-name", "batch-signer").code == 4
