"""`--format p12`: a PKCS#12 file per device, judged by OpenSSL and `cryptography`; no text shows a password."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from hashlib import pbkdf2_hmac
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from api_servers import TOKEN, ApiServer
from audit import PASSWORD
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from csrs import csr_manifest, forms_of
from judges import (
    BUNDLE_MODES,
    csv_bytes,
    csv_rows,
    device_bundle,
    device_uuids,
    interrupted_run,
    issue,
    modes,
    refusal,
    run,
    run_process,
)
from tls_servers import gateway_context, tls_server

from batch_issuer.bundles.passwords import random_passwords

if TYPE_CHECKING:
    from collections.abc import Callable

UUIDS = device_uuids(8)
HOST = "gw.example.com"
MANIFEST = csv_bytes(UUIDS)
STRANGER = "00000009-beef-4cab-8def-000000000000"
OTHER = b"another long password"
FILE = ("--p12-password-file", "password")
ONE = ("--format", "p12", *FILE)
EACH = ("--format", "p12", "--p12-random-passwords")
NO_SOTA = "warning: a PKCS#12 file is for import into other software: bundles get no sota.toml"
SUMS_HINT = "hint: `sha256sum --check SHA256SUMS` in the output folder tells whether they are as they were made"

pytestmark = pytest.mark.usefixtures("work", "password")


@pytest.fixture
def password(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATCH_ISSUER_P12_PASSWORD", raising=False)
    Path("password").write_bytes(PASSWORD + b"\n")
    Path("other").write_bytes(OTHER + b"\n")
    Path("token").write_text("a-token")


def listed(path: str = "issued/p12-passwords.csv") -> dict[str, bytes]:
    header, *lines = Path(path).read_bytes().splitlines()
    assert header == b"device_uuid,password"
    return {line.split(b",")[0].decode(): line.split(b",")[1] for line in lines}


def p12(device: str) -> Path:
    return Path(f"issued/bundles/{device}.p12")


def openssl(device: str, password: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = ["openssl", "pkcs12", "-in", str(p12(device)), "-passin", "stdin", *options]
    return subprocess.run(command, input=password + b"\n", capture_output=True, check=False)


def staged_part() -> Path:
    """Where the first part was staged, made again, as a kill would leave it that comes before it is published."""
    metadata = pa.ipc.open_file(Path("issued/.run/commits/part-00000.arrow").read_bytes()).schema.metadata
    folder = Path(f"issued/.run/staging/part-00000.{metadata[b'batch_issuer.attempt'].decode()}/part-00000")
    folder.mkdir(mode=0o700, parents=True)
    return folder


def verified(*options: str) -> Any:
    ran = run("verify", "issued", "--pki", "pki", "--workers", "1", "--json", "-q", *options)
    assert ran.code in (0, 4), ran.err
    return json.loads(ran.out)["counts"]


# What is made


@pytest.mark.parametrize("options", [ONE, EACH], ids=["one", "each"])
def test_both_judges_open_every_file(options: tuple[str, ...], factory_pki: Path) -> None:
    ran = issue(MANIFEST, *options)
    assert (ran.code, ran.err.count(NO_SOTA)) == (0, 1)
    passwords = listed() if options is EACH else dict.fromkeys(UUIDS, PASSWORD)
    chain = [
        x509.load_pem_x509_certificate((factory_pki / f"{n}.pem").read_bytes()) for n in ("local-ca", "factory_ca")
    ]
    keys = set()
    for device in UUIDS:
        found = pkcs12.load_pkcs12(p12(device).read_bytes(), passwords[device])
        assert found.cert is not None
        assert isinstance(found.key, ec.EllipticCurvePrivateKey)
        leaf = found.cert.certificate
        assert found.cert.friendly_name == device.encode()
        assert leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == device
        assert leaf.public_key() == found.key.public_key()
        assert [above.certificate for above in found.additional_certs] == chain
        leaf.verify_directly_issued_by(chain[0])
        keys.add(found.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        told = openssl(device, passwords[device], "-info", "-noout").stderr.decode()
        assert "MAC: sha256, Iteration 2048" in told
        pbes2 = "PBES2, PBKDF2, AES-256-CBC, Iteration 2048, PRF hmacWithSHA256"
        assert [line.partition(": ")[2] for line in told.splitlines() if "PBES2" in line] == [pbes2, pbes2]
        text = openssl(device, passwords[device], "-nodes").stdout.decode()
        assert text.count(f"friendlyName: {device}") == 2
        assert text.count("BEGIN CERTIFICATE") == 3
        refused = openssl(device, OTHER, "-noout")
        assert refused.returncode != 0
        assert b"invalid password" in refused.stderr
    assert len(keys) == len(UUIDS)
    assert verified(*(() if options is EACH else FILE)) == {}


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_modes_and_places(umask: int) -> None:
    Path("devices.csv").write_bytes(MANIFEST)
    assert run_process("issue", "--manifest", "devices.csv", *EACH, "--part-size", "3", umask=umask).code == 0
    expected = dict.fromkeys(("manifest.csv", "report.html", "run.json", "summary.json", "SHA256SUMS"), 0o644)
    expected |= {".": 0o700, "bundles": 0o700, "p12-passwords.csv": 0o600}
    expected |= {f"bundles/{device}.p12": 0o600 for device in UUIDS}
    assert modes(Path("issued")) == expected
    rows = csv_rows(Path("issued/manifest.csv"))
    assert [row["bundle"] for row in rows] == [f"bundles/{device}.p12" for device in UUIDS]


def test_the_list_can_be_moved_away_and_the_sums_hold_all_the_same() -> None:
    assert issue(MANIFEST, *EACH).code == 0
    assert list(listed()) == UUIDS
    Path("issued/p12-passwords.csv").rename("elsewhere.csv")
    assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd="issued", check=False).returncode == 0
    assert b"p12-passwords" not in Path("issued/SHA256SUMS").read_bytes()
    assert verified("--p12-passwords", "elsewhere.csv") == {}


def test_passwords_that_are_made_are_long_all_different_and_of_letters_that_are_told_apart() -> None:
    made = random_passwords(2000)
    assert len(set(made)) == 2000
    assert all(re.fullmatch(rb"[0-9a-hjkmnp-tv-z]{26}", one) for one in made)
    assert len(set(b"".join(made))) == 32  # 26 of 32 letters: 130 bits


def test_run_json_says_which_kind_and_nothing_more() -> None:
    for options, kind in ((ONE, "run"), (EACH, "device"), (("--format", "tar"), None)):
        assert issue(MANIFEST, *options, "--out", f"as-{kind}").code == 0
        text = Path(f"as-{kind}/run.json").read_bytes()
        assert json.loads(text)["p12_passwords"] == kind
        assert PASSWORD not in text


def test_a_dry_run_takes_the_password_too_and_its_estimate_knows_of_the_derived_keys() -> None:
    assert issue(MANIFEST, *ONE, "--dry-run").code == 0
    manifest = csv_bytes(device_uuids(20_000))
    estimates = [json.loads(issue(manifest, *options, "--dry-run", "--json").out) for options in (ONE, ())]
    assert estimates[0]["seconds"] > 3 * estimates[1]["seconds"]


# The password that is given


def test_it_comes_from_the_environment_and_not_from_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_ISSUER_P12_PASSWORD", PASSWORD.decode())
    assert issue(MANIFEST, "--format", "p12").code == 0
    assert pkcs12.load_pkcs12(p12(UUIDS[0]).read_bytes(), PASSWORD).key is not None
    assert verified() == {}


def test_without_one_it_is_refused() -> None:
    hint = (
        "give it by --p12-password-file or $BATCH_ISSUER_P12_PASSWORD, "
        "or have one made for each device by --p12-random-passwords"
    )
    refusal(issue(MANIFEST, "--format", "p12"), 2, "PKCS#12 bundles need a password, and there is none", hint=hint)


GUESSED = "who has a bundle tries passwords by the million; --p12-random-passwords makes strong ones"
ENCODED = "other characters are encoded differently from one importing software to the next"
ASCII_ONLY = "a password for PKCS#12 bundles must be one line of printable ASCII; it is not"


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        (b"elevenchars", "a password for PKCS#12 bundles must have 12 to 1023 characters; it has 11", GUESSED),
        (b"x" * 1024, "a password for PKCS#12 bundles must have 12 to 1023 characters; it has 1024", GUESSED),
        ("größer als zwölf".encode(), ASCII_ONLY, ENCODED),
        (b"a tab\tand a long text", ASCII_ONLY, ENCODED),
        (b"two lines\nof something\n", ASCII_ONLY, ENCODED),
    ],
)
def test_one_that_is_not_fit_is_refused(text: bytes, error: str, hint: str) -> None:
    Path("password").write_bytes(text)
    refusal(issue(MANIFEST, *ONE), 2, error, hint=hint)


@pytest.mark.parametrize("text", [b"twelve chars", b"x" * 1023, b" !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"])
def test_any_other_opens_its_bundles(text: bytes) -> None:
    Path("password").write_bytes(text + b"\r\n")
    assert issue(MANIFEST, *ONE).code == 0
    assert pkcs12.load_pkcs12(p12(UUIDS[0]).read_bytes(), text).key is not None
    assert verified(*FILE) == {}


def test_options_that_contradict_each_other_are_refused() -> None:
    wrong = issue(MANIFEST, *EACH, *FILE)
    assert (wrong.code, wrong.err.splitlines()[-1]) == (
        2,
        "Error: --p12-random-passwords makes passwords; --p12-password-file gives one: take either",
    )
    for options in (FILE, ("--p12-random-passwords",)):
        wrong = issue(MANIFEST, "--format", "tar", *options)
        said = "Error: --p12-password-file and --p12-random-passwords are for --format p12"
        assert (wrong.code, wrong.err.splitlines()[-1]) == (2, said)
    Path("password").unlink()
    refusal(issue(MANIFEST, *ONE), 2, "the password file password cannot be read: No such file or directory")


def test_rows_that_bring_csrs_are_refused() -> None:
    ran = issue(csr_manifest(UUIDS, forms_of(UUIDS, 2)), *EACH)
    refusal(
        ran,
        2,
        "--format p12 stores each device's key beside its certificate: 4 of 8 rows bring a CSR, and their keys are not "
        "here",
        hint="issue these devices by a run of another format",
    )


def test_no_text_and_no_other_file_has_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted, resumed, verified, extracted, refused: the passwords are in the list alone."""
    for options, words in ((ONE, [PASSWORD]), (EACH, [])):
        said = [interrupted_run(monkeypatch, MANIFEST, *options, "-v", parts=2)]
        said.append(issue(MANIFEST, *options, "--resume", "-v"))
        assert said[-1].code == 0
        given = () if options is EACH else FILE
        said.append(run("verify", "issued", "--pki", "pki", "-v", *given))
        said.append(run("extract", "issued", "--all", "--to", "ready", *given))
        assert [ran.code for ran in said[2:]] == [0, 0]
        p12(UUIDS[0]).write_bytes(p12(UUIDS[0]).read_bytes()[:-1])
        said.append(run("verify", "issued", "--pki", "pki", "-v", *given))
        said.append(run("extract", "issued", UUIDS[0], "--to", "again", "-v", *given))
        assert [ran.code for ran in said[4:]] == [4, 1]
        secrets = words or list(listed().values())
        texts = [text.encode() for ran in said for text in (ran.out, ran.err)]
        texts += [
            path.read_bytes() for path in Path("issued").rglob("*") if path.is_file() and "passw" not in path.name
        ]
        assert not [secret for secret in secrets for text in texts if secret in text]
        shutil.rmtree("issued")
        shutil.rmtree("ready")


# Resumed


@pytest.mark.parametrize("published", [True, False])
def test_another_password_is_refused_when_a_run_is_resumed(published: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundles themselves tell, wherever the kill left them; nothing is kept that a password could be guessed by."""
    interrupted_run(monkeypatch, MANIFEST, *ONE)
    if not published:
        staged = staged_part()
        for path in Path("issued/bundles").iterdir():
            path.rename(staged / path.name)
    before = {path: path.read_bytes() for path in Path("issued").rglob("*.p12")}
    assert len(before) == 3
    for dry in ((), ("--dry-run",)):
        ran = issue(MANIFEST, "--format", "p12", "--p12-password-file", "other", "--resume", *dry)
        assert (ran.code, ran.err) == (
            2,
            "error: the password is not the one that the run began with: it opens none of the first bundles\n"
            "hint: resume with the password it began with; a run has one\n",
        )
    assert {path: path.read_bytes() for path in Path("issued").rglob("*.p12")} == before
    assert issue(MANIFEST, *ONE, "--resume").code == 0
    assert verified(*FILE) == {}


def test_the_other_kind_of_passwords_is_refused_when_a_run_is_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, MANIFEST, *EACH)
    ran = issue(MANIFEST, *ONE, "--resume")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        "error: the run began otherwise: p12_passwords was device, now run",
    )
    assert issue(MANIFEST, *EACH, "--resume").code == 0
    assert list(listed()) == UUIDS
    assert verified() == {}


def test_a_finished_run_resumed_asks_for_no_password() -> None:
    assert issue(MANIFEST, *ONE).code == 0
    assert issue(MANIFEST, "--format", "p12", "--resume").code == 0


def test_an_unfinished_run_is_opened_by_the_passwords_of_its_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, MANIFEST, *EACH)
    assert verified() == {"run-unfinished": 1}
    assert run("extract", "issued", "--all", "--to", "ready").code == 0
    assert sorted(path.name for path in Path("ready").iterdir()) == UUIDS[:3]


def test_a_file_that_somebody_put_in_the_place_of_a_bundle_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, MANIFEST, *ONE)
    staged = staged_part()
    p12(UUIDS[0]).rename(staged / f"{UUIDS[0]}.p12")
    p12(UUIDS[0]).write_bytes(b"somebody's")
    ran = issue(MANIFEST, *ONE, "--resume")
    said = f"bundles/{UUIDS[0]}.p12 is taken by something that this run did not put there: File exists"
    assert (ran.code, said in ran.err) == (1, True)
    assert p12(UUIDS[0]).read_bytes() == b"somebody's"
    p12(UUIDS[0]).unlink()
    assert issue(MANIFEST, *ONE, "--resume").code == 0
    assert verified(*FILE) == {}


# Opened


@pytest.mark.parametrize("options", [ONE, EACH], ids=["one", "each"])
def test_extract_makes_folders_for_devices(options: tuple[str, ...], factory_pki: Path) -> None:
    assert issue(MANIFEST, *options).code == 0
    given = () if options is EACH else FILE
    assert run("extract", "issued", UUIDS[1], UUIDS[6], "--to", "ready", *given).code == 0
    wanted = {name: mode for name, mode in BUNDLE_MODES.items() if name != "sota.toml"}
    for device in (UUIDS[1], UUIDS[6]):
        assert modes(Path("ready") / device) == {".": 0o700} | wanted
        files = {path.name: path.read_bytes() for path in (Path("ready") / device).iterdir()}
        assert files["client.pem"].count(b"BEGIN") == 1
        assert files["root.crt"] == (factory_pki / "factory_ca.pem").read_bytes()
        checked = subprocess.run(
            ["openssl", "pkey", "-in", f"ready/{device}/pkey.pem", "-pubout"], capture_output=True, check=True
        )
        leaf = x509.load_pem_x509_certificate(files["client.pem"]).public_key()
        assert checked.stdout == leaf.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


COMMANDS = [
    ("verify", "issued", "--pki", "pki", "--workers", "1", "-q"),
    ("extract", "issued", "--all", "--to", "ready"),
    ("gateway", "probe", "issued", "--gateway", "127.0.0.1:9", "-q"),
    ("register", "issued", "--api", "http://127.0.0.1:9", "--token-file", "token", "-q"),
]
commands = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])


@commands
def test_a_password_that_is_not_there_is_refused(command: tuple[str, ...]) -> None:
    assert issue(MANIFEST, *ONE).code == 0
    ran = run(*command)
    assert (ran.code, ran.out) == (2, "")
    assert "error: PKCS#12 bundles need a password, and there is none\n" in ran.err
    assert "hint: give it by --p12-password-file or $BATCH_ISSUER_P12_PASSWORD\n" in ran.err


@commands
def test_a_wrong_password_is_refused(command: tuple[str, ...]) -> None:
    assert issue(MANIFEST, *ONE).code == 0
    ran = run(*command, "--p12-password-file", "other")
    said = "error: the password opens none of the 3 bundles that were tried: it is another run's, or they are damaged"
    assert (ran.code, ran.out, f"{said}\n{SUMS_HINT}\n" in ran.err) == (2, "", True)


@commands
def test_the_list_of_another_run_is_refused(command: tuple[str, ...]) -> None:
    assert issue(MANIFEST, *EACH, "--out", "another").code == 0
    assert issue(MANIFEST, *EACH).code == 0
    ran = run(*command, "--p12-passwords", "another/p12-passwords.csv")
    said = (
        "error: the list of passwords opens none of the 3 bundles that were tried: it is another run's, "
        "or they are damaged"
    )
    assert (ran.code, ran.out, f"{said}\n{SUMS_HINT}\n" in ran.err) == (2, "", True)


@commands
def test_a_list_that_was_moved_away_is_asked_for(command: tuple[str, ...]) -> None:
    assert issue(MANIFEST, *EACH).code == 0
    Path("issued/p12-passwords.csv").unlink()
    ran = run(*command)
    assert (ran.code, ran.out) == (2, "")
    assert (
        "error: the list of passwords issued/p12-passwords.csv cannot be read: No such file or directory\n"
        "hint: --p12-passwords FILE says where it is now\n"
    ) in ran.err


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (
            lambda text: text[1:],
            "issued/p12-passwords.csv is no list of passwords: its first line must be 'device_uuid,password'",
        ),
        (
            lambda text: text + b"x,\n",
            "issued/p12-passwords.csv is damaged: line 10 is not a UUID in lower case, a comma and a password",
        ),
        (
            lambda text: text + text.splitlines(keepends=True)[1],
            f"issued/p12-passwords.csv is damaged: line 10 has {UUIDS[0]} again",
        ),
    ],
    ids=["header", "line", "twice"],
)
def test_a_damaged_list_is_refused(spoil: Callable[[bytes], bytes], error: str) -> None:
    assert issue(MANIFEST, *EACH).code == 0
    path = Path("issued/p12-passwords.csv")
    path.write_bytes(spoil(path.read_bytes()))
    ran = run(*COMMANDS[0])
    assert (ran.code, ran.err) == (2, f"error: {error}\n")


def test_options_for_passwords_are_refused_where_there_are_none() -> None:
    for options, needs in ((("--format", "tar"), "needs no password"), (EACH, "needs --p12-passwords")):
        assert issue(MANIFEST, *options).code == 0
        ran = run(*COMMANDS[0], *FILE)
        assert ran.code == 2
        assert ran.err.splitlines()[-1] == f"Error: --p12-password-file is not for the run in issued, which {needs}"
        shutil.rmtree("issued")


def test_register_takes_certificates_from_the_manifest_without_a_password() -> None:
    assert issue(MANIFEST, *ONE, "--with-certificates").code == 0
    ran = run(*COMMANDS[3])
    assert (ran.code, "password" in ran.err) == (1, False), ran.err  # nobody listens there


@pytest.mark.parametrize("options", [ONE, EACH], ids=["one", "each"])
def test_the_probe_and_register_open_what_is_there(options: tuple[str, ...]) -> None:
    assert issue(MANIFEST, *options).code == 0
    given = () if options is EACH else FILE
    with tls_server(gateway_context(Path("pki"))) as gateway:
        ran = run("gateway", "probe", "issued", "--gateway", gateway.place, "--server-name", HOST, "-q", *given)
        assert (ran.code, ran.out.splitlines()[0].endswith(": nothing is wrong")) == (0, True), ran.out + ran.err
        p12(UUIDS[3]).write_bytes(b"x")
        ran = run("gateway", "probe", "issued", "--gateway", gateway.place, "--server-name", HOST, "--json", *given)
    [failed] = json.loads(ran.out)["failures"]
    assert (ran.code, failed["code"], failed["count"]) == (4, "bundle-damaged", 1)
    assert failed["detail"] == f"{UUIDS[3]}.p12 does not open: its password is another, or the file is damaged"
    shutil.rmtree("issued")
    assert issue(MANIFEST, *options).code == 0
    with ApiServer() as server:
        Path("token").write_text(TOKEN)
        ran = run("register", "issued", "--api", server.url, "--token-file", "token", "--rate", "9000/s", *given)
    assert (ran.code, ran.out.startswith("8 of 8 devices registered")) == (0, True), ran.err


# Verified


def made(device: str, **changed: Any) -> bytes:
    """A device's file made anew by `cryptography`, otherwise where the test says so."""
    found = pkcs12.load_pkcs12(p12(device).read_bytes(), PASSWORD)
    assert found.cert is not None
    assert isinstance(found.key, ec.EllipticCurvePrivateKey)
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(changed.get("rounds", 2048))
    builder = builder.key_cert_algorithm(changed.get("algorithm", pkcs12.PBES.PBESv2SHA256AndAES256CBC))
    encryption: Any = builder.hmac_hash(changed.get("mac", SHA256())).build(changed.get("password", PASSWORD))
    return pkcs12.serialize_key_and_certificates(
        changed.get("name", device.encode()),
        found.key if changed.get("with_key", True) else None,
        found.cert.certificate,
        changed.get("chain", lambda above: above)([one.certificate for one in found.additional_certs]),
        encryption,
    )


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "rounds": ({"rounds": 1}, "p12-algorithm"),
    "many rounds": ({"rounds": 100_000}, "p12-algorithm"),
    "3DES": ({"algorithm": pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC}, "p12-algorithm"),
    "MAC": ({"mac": SHA1()}, "p12-algorithm"),  # noqa: S303 - a file that is to be refused
    "password": ({"password": OTHER}, "p12-password"),
    "name": ({"name": UUIDS[5].encode()}, "p12-name"),
    "no name": ({"name": None}, "p12-name"),
    "no chain": ({"chain": lambda _: []}, "p12-chain"),
    "chain's order": ({"chain": lambda above: above[::-1]}, "p12-chain"),
    "a certificate twice": ({"chain": lambda above: [*above, above[0]]}, "p12-chain"),
    "no key": ({"with_key": False}, "p12-form"),
}


@pytest.mark.parametrize("what", WRONG)
def test_verify_finds_a_file_that_is_made_otherwise(what: str) -> None:
    assert issue(MANIFEST, *ONE).code == 0
    assert verified(*FILE) == {}
    p12(UUIDS[2]).write_bytes(made(UUIDS[2]))
    assert verified(*FILE) == {"sums-digest": 1}  # made the same way, and only the digest is another
    changed, code = WRONG[what]
    p12(UUIDS[2]).write_bytes(made(UUIDS[2], **changed))
    assert code in verified(*FILE)


def test_verify_finds_two_files_that_were_exchanged() -> None:
    assert issue(MANIFEST, *ONE).code == 0
    p12(UUIDS[2]).rename("aside")
    p12(UUIDS[3]).rename(p12(UUIDS[2]))
    Path("aside").rename(p12(UUIDS[3]))
    found = verified(*FILE)
    assert (found["p12-name"], found["row-certificate-hash"], found["sums-digest"]) == (2, 2, 2)


def test_verify_finds_every_octet_that_is_changed_and_every_end_that_is_cut_off() -> None:
    """By the reader itself, octet after octet; by the command, for some."""
    from types import SimpleNamespace

    from batch_issuer.verification.p12 import P12Error, opened_p12

    assert issue(MANIFEST, *ONE).code == 0
    octets = p12(UUIDS[0]).read_bytes()
    facts: Any = SimpleNamespace(ca=b"", root=b"")
    assert [fault.code for fault in opened_p12(octets, PASSWORD, UUIDS[0], facts).faults] == ["p12-chain"]
    for at in range(0, len(octets), 3):
        for spoilt in (octets[:at], octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]):
            with pytest.raises(P12Error):
                opened_p12(spoilt, PASSWORD, UUIDS[0], facts)
    for at in (0, 900, len(octets) - 1):
        p12(UUIDS[0]).write_bytes(octets[:at])
        found = verified(*FILE)
        assert found.pop("sums-digest") == 1
        assert found == {"p12-form": 1}


def test_nothing_is_derived_for_a_key_that_hides_among_the_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows the password could ask the library for years of PBKDF2."""
    from types import SimpleNamespace

    from batch_issuer.verification import p12 as module

    assert issue(MANIFEST, *ONE).code == 0
    octets = p12(UUIDS[0]).read_bytes()
    sealed, _ = module._contents(octets)
    certificate, key = bytes.fromhex("2a864886f70d010c0a0103"), bytes.fromhex("2a864886f70d010c0a0102")
    clear = module._decrypted(sealed, PASSWORD).replace(certificate, key, 1)
    encryptor = Cipher(AES256(pbkdf2_hmac("sha256", PASSWORD, sealed.salt, 2048, 32)), CBC(sealed.iv)).encryptor()
    padding = PKCS7(128).padder()
    hidden = encryptor.update(padding.update(clear) + padding.finalize()) + encryptor.finalize()
    assert len(hidden) == len(sealed.octets)

    def load(*_: object) -> None:
        raise AssertionError("it was given to the library")

    monkeypatch.setattr(module, "load_pkcs12", load)
    facts: Any = SimpleNamespace(ca=b"", root=b"")
    with pytest.raises(module.P12Error, match="it does not open to certificates") as caught:
        module.opened_p12(octets.replace(sealed.octets, hidden), PASSWORD, UUIDS[0], facts)
    assert caught.value.fault.code == "p12-password"


def test_a_damaged_file_is_a_sentence_for_who_extracts_it() -> None:
    assert issue(MANIFEST, *ONE).code == 0
    p12(UUIDS[0]).write_bytes(p12(UUIDS[0]).read_bytes()[:900])
    ran = run("extract", "issued", UUIDS[0], "--to", "ready", *FILE)
    assert (ran.code, ran.err) == (
        1,
        f"error: {UUIDS[0]}.p12 does not open: its password is another, or the file is damaged\n"
        "hint: `batch-issuer verify` tells which bundles are damaged\n",
    )
    assert run("extract", "issued", UUIDS[1], "--to", "ready", *FILE).code == 0


def wider(path: Path) -> None:
    path.chmod(0o644)


def linked(path: Path) -> None:
    os.link(path, "link")


def symbolic(path: Path) -> None:
    path.rename("aside")
    path.symlink_to(Path("aside").absolute())


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (wider, "bundle-storage"),
        (linked, "bundle-storage"),
        (symbolic, "bundle-unreadable"),
        (pipe, "bundle-unreadable"),
        (Path.unlink, "bundle-missing"),
    ],
)
def test_verify_finds_a_file_that_is_stored_otherwise(spoil: Callable[[Path], None], code: str) -> None:
    assert issue(MANIFEST, *ONE).code == 0
    spoil(p12(UUIDS[4]))
    assert code in verified(*FILE)


def test_verify_finds_what_is_wrong_with_the_list() -> None:
    assert issue(MANIFEST, *EACH).code == 0
    path = Path("issued/p12-passwords.csv")
    text = path.read_bytes()
    path.write_bytes(text + f"{STRANGER},abcdefghjkmnpq\n".encode())
    assert verified() == {"passwords-count": 1}
    path.write_bytes(text.replace(UUIDS[3].encode(), STRANGER.encode()))
    assert verified() == {"p12-password": 1}
    path.write_bytes(text)
    path.chmod(0o644)
    assert verified() == {"folder-mode": 1}


def test_verify_finds_a_bundle_that_nobody_knows() -> None:
    assert issue(MANIFEST, *ONE).code == 0
    shutil.copy(p12(UUIDS[0]), "issued/bundles/stranger.p12")
    assert verified(*FILE) == {"bundle-unknown": 1}
    Path("issued/bundles/stranger.p12").unlink()
    Path("issued/p12-passwords.csv").write_text("device_uuid,password\n")
    assert verified(*FILE) == {"folder-unknown": 1}


def test_commit_records_hold_passwords_only_of_runs_that_make_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, names in ((ONE, ["bundle", "sums"]), (EACH, ["bundle", "passwords", "sums"])):
        interrupted_run(monkeypatch, MANIFEST, *options)
        path = Path("issued/.run/commits/part-00000.arrow")
        table = pa.ipc.open_file(path.read_bytes()).read_all()
        assert table.column_names[-len(names) :] == names
        assert path.stat().st_mode & 0o777 == 0o600
        shutil.rmtree("issued")


def test_device_bundles_of_other_formats_are_as_they_were(factory_pki: Path) -> None:
    assert issue(MANIFEST, "--format", "dir").code == 0
    for device in UUIDS:
        files = {path.name: path.read_bytes() for path in Path(f"issued/bundles/{device}").iterdir()}
        device_bundle(files, device, factory_pki)
