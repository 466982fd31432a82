"""Sealed bundles: encrypted before they touch the disk, opened by their identities alone, and by any age."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import audit
import pyarrow.parquet as pq
import pyrage
import pytest
from judges import (
    Ran,
    contents,
    csv_bytes,
    device_bundle,
    device_uuids,
    interrupted_run,
    issue,
    modes,
    private_values,
    refusal,
    run,
    run_process,
    shows_a_key,
    summed,
)

from batch_issuer import extras
from batch_issuer.bundles.recipients import checked_recipients, read_identities
from batch_issuer.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

UUIDS = device_uuids(8)
MANIFEST = csv_bytes(UUIDS)
KINDS = ("tar", "parquet")
PRIVATE = 0o600

pytestmark = pytest.mark.usefixtures("work")


def age_identity(name: str = "identity.txt", *, mode: int = PRIVATE) -> str:
    """Make an identity file as age-keygen does; returns its recipient."""
    made = pyrage.x25519.Identity.generate()
    Path(name).write_text(f"# created: today\n# public key: {made.to_public()}\n{made}\n")
    Path(name).chmod(mode)
    return str(made.to_public())


def ssh_identity(kind: str, name: str, passphrase: str = "") -> str:
    """Make an SSH key; returns its public line."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "line 3", "-f", name], check=True)
    return Path(f"{name}.pub").read_text().strip()


def sealed_run(kind: str, *recipients: str, out: str = "issued") -> Path:
    seal = [text for recipient in recipients for text in ("--seal-to", recipient)]
    ran = issue(MANIFEST, "--format", kind, "--out", out, *seal)
    assert ran.code == 0, ran.err
    return Path(out)


def parts(out: Path) -> list[Path]:
    return sorted((out / "bundles").iterdir())


def opened(part: Path, identity: str = "identity.txt") -> bytes:
    secret = Path(identity).read_text().splitlines()[-1]
    clear: bytes = pyrage.decrypt(part.read_bytes(), [pyrage.x25519.Identity.from_str(secret)])
    return clear


def stored_as(kind: str) -> str:
    """A sealed tar is compressed."""
    return {"tar": "tar.zst"}.get(kind, kind)


def private_keys(clear: bytes, kind: str) -> list[bytes]:
    if kind == "parquet":
        keys: list[bytes] = pq.read_table(io.BytesIO(clear))["private_key"].to_pylist()
        return keys
    with tarfile.open(fileobj=io.BytesIO(audit.unpacked(clear))) as archive:
        files = [archive.extractfile(member) for member in archive if member.name.endswith("/pkey.pem")]
        return [file.read() for file in files if file is not None]


def verify(*options: str | Path) -> Ran:
    return run("verify", "issued", "--pki", "pki", *options)


def findings(ran: Ran) -> set[tuple[str, str]]:
    report = json.loads(ran.out)
    return {(finding["place"], finding["code"]) for finding in report["findings"]}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_sealed_run_is_issued_verified_and_extracted(kind: str, factory_pki: Path) -> None:
    recipient = age_identity()
    out = sealed_run(kind, recipient)
    assert [path.name for path in parts(out)] == [f"part-0000{index}.{stored_as(kind)}.age" for index in range(3)]
    assert {mode for path, mode in modes(out / "bundles").items() if path != "."} == {PRIVATE}
    assert summed(out)
    assert audit.check_no_clear_key(out) == 8
    assert json.loads((out / "run.json").read_text())["seal_to"] == [recipient]
    ran = verify("--identity", "identity.txt")
    assert ran.code == 0, ran.err
    assert "8 of 8 devices in 3 of 3 parts verified" in ran.out
    ran = run("extract", "issued", "--all", "--to", "ready", "--identity", "identity.txt")
    assert (ran.code, ran.out, ran.err) == (0, "8 bundles extracted to ready\n", "")
    for device in UUIDS:
        files = {path.name: path.read_bytes() for path in (Path("ready") / device).iterdir()}
        device_bundle(files, device, factory_pki)


def test_the_summary_says_that_it_is_sealed() -> None:
    ran = issue(MANIFEST, "--format", "tar", "--seal-to", age_identity())
    assert "  sealed    to 1 recipient; --identity FILE opens them\n" in ran.out
    assert ran.out.endswith("  next      batch-issuer verify issued --pki pki --identity FILE\n")


def test_the_mark_of_a_clear_key_is_found_in_every_unsealed_format() -> None:
    """The must-fail twin of `check_no_clear_key`."""
    for kind in ("dir", "tar.zst", *KINDS):
        assert issue(MANIFEST, "--format", kind, "--out", kind).code == 0
        with pytest.raises(AssertionError, match="has a private key in the clear"):
            audit.check_no_clear_key(Path(kind))


WRITES = """
import os, sys
from pathlib import Path
import crash_matrix, faults

folder, log = Path(sys.argv[2]), open(sys.argv[4], "wb")
faults.run_inline()
write = os.write
def recorded(fd, data):
    log.write(bytes(data))
    return write(fd, data)
os.write = recorded
crash_matrix.run(crash_matrix.request(sys.argv[1], Path(sys.argv[3]), folder, folder / "issued"))
"""


def recorded_run(kind: str, pki: Path) -> bytes:
    """Every octet that a run of one process gave to write(2), whatever became of the file."""
    Path("devices.csv").write_bytes(MANIFEST)
    arguments = [sys.executable, "-c", WRITES, kind, ".", str(pki), "writes"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run(arguments, check=True, env=environment, timeout=60)
    return Path("writes").read_bytes()


def test_no_private_key_is_ever_given_to_write(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    from pki import make_pki

    pki = make_pki(tmp_path_factory.mktemp("signed") / "pki", signer="batch-signer")
    written = recorded_run(f"{kind} sealed", pki)
    keys = [key for part in parts(Path("issued")) for key in private_keys(opened(part), kind)]
    assert len(keys) == len(UUIDS)
    assert len(written) > sum(part.stat().st_size for part in parts(Path("issued")))
    written += audit.unpacked(written)
    assert not shows_a_key(written, private_values(keys))
    assert not any(mark in written for mark in audit.CLEAR_KEY)
    shutil.rmtree("issued")
    Path("ledger").unlink()  # which knows these devices
    written = recorded_run(stored_as(kind), pki)
    assert any(mark in written + audit.unpacked(written) for mark in audit.CLEAR_KEY)


def test_age_itself_opens_it(kind: str) -> None:
    if shutil.which("age") is None:
        pytest.skip("age is not installed")
    out = sealed_run(kind, age_identity(), ssh_identity("ed25519", "ed"), ssh_identity("rsa", "rsa"))
    for identity in ("identity.txt", "ed", "rsa"):
        done = subprocess.run(["age", "-d", "-i", identity, parts(out)[0]], capture_output=True, check=True)
        assert done.stdout == opened(parts(out)[0])
    assert len(private_keys(done.stdout, kind)) == 3


def test_each_recipient_opens_it_and_nobody_else() -> None:
    recipients = [age_identity("one"), age_identity("two"), ssh_identity("ed25519", "ed"), ssh_identity("rsa", "rsa")]
    sealed_run("tar", *recipients, recipients[0])
    stanzas = parts(Path("issued"))[0].read_bytes().partition(b"\n---")[0].count(b"\n-> ")
    assert stanzas - 1 <= len(recipients) <= stanzas  # age adds one stanza of grease or none
    recorded = json.loads(Path("issued/run.json").read_text())["seal_to"]
    assert recorded == sorted(" ".join(recipient.split()[:2]) for recipient in recipients)
    for identity in ("one", "two", "ed", "rsa"):
        assert verify("--identity", identity).code == 0
    age_identity("other")
    assert verify("--identity", "other", "--identity", "two").code == 0
    assert verify("--identity", "other").code == 4


def test_no_two_parts_have_the_same_file_key_or_nonce() -> None:
    sealed_run("tar", age_identity())
    begins = [part.read_bytes()[:120] for part in parts(Path("issued"))]
    assert len(set(begins)) == 3


BAD_RECIPIENTS = ("age1abc", "", "age1", "ssh-dss AAAA", "ssh-ed25519", "github:somebody", "age1yubikey1qwt50d")


@pytest.mark.parametrize("text", BAD_RECIPIENTS)
def test_a_bad_recipient_is_refused_before_anything(text: str) -> None:
    ran = issue(MANIFEST, "--format", "tar", "--seal-to", age_identity(), "--seal-to", text)
    error = "recipient 2 must be an age recipient, age1… or an SSH key ssh-ed25519 … or ssh-rsa …; "
    refusal(ran, 2, f"{error}it is {text!r}", hint="age1… is the line `# public key:` of the file that age-keygen made")


def test_a_private_key_as_recipient_is_refused_and_not_repeated() -> None:
    age_identity()
    ssh_identity("ed25519", "ed")
    for secret in (Path("identity.txt").read_text().splitlines()[-1], Path("ed").read_text()):
        ran = issue(MANIFEST, "--format", "tar", "--seal-to", secret)
        hint = "it stood in a command line, which others can see: make a new one, and give its `# public key:`"
        refusal(ran, 2, "recipient 1 must be a public key; it is a private one", hint=hint)


def test_a_folder_per_device_is_not_sealed() -> None:
    ran = issue(MANIFEST, "--seal-to", age_identity())
    error = "bundles are sealed part by part, and format 'dir' has no file per part"
    refusal(ran, 2, error, hint="take --format tar, tar.zst or parquet with --seal-to")


def test_without_pyrage_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    recipient = age_identity()
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    ran = issue(MANIFEST, "--format", "tar", "--seal-to", recipient)
    missing = "this command needs pyrage, which is not installed"
    refusal(ran, 2, missing, hint="pip install 'batch-issuer[seal]'")


def test_a_dry_run_refuses_and_counts_the_same() -> None:
    recipient = age_identity()
    assert issue(MANIFEST, "--format", "dir", "--seal-to", recipient, "--dry-run").code == 2
    octets = [
        json.loads(issue(MANIFEST, "--format", "tar.zst", *seal, "--dry-run", "--json").out)["octets"]
        for seal in ((), ("--seal-to", recipient))
    ]
    assert octets[0] < octets[1] < octets[0] + 3 * 4096
    assert not Path("issued").exists()


def test_resume_compares_the_recipients(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipient, other = age_identity(), age_identity("other")
    interrupted_run(monkeypatch, MANIFEST, "--format", kind, "--seal-to", recipient)
    audit.check_no_clear_key(Path("issued"))
    before = contents(Path("issued"))
    for seal in ((), ("--seal-to", other), ("--seal-to", recipient, "--seal-to", other)):
        ran = issue(MANIFEST, "--format", kind, *seal, "--resume")
        told = "format was tar.zst, now tar, " if kind == "tar" and not seal else ""
        assert ran.code == 2
        assert ran.err.splitlines()[-2].startswith(f"error: the run began otherwise: {told}seal_to i")
        assert contents(Path("issued")) == before
    assert issue(MANIFEST, "--format", kind, "--seal-to", recipient, "--seal-to", recipient, "--resume").code == 0
    assert verify("--identity", "identity.txt").code == 0
    ran = issue(MANIFEST, "--format", kind, "--resume")
    assert ran.err.splitlines()[-2:] == [
        "error: the run began otherwise, and is finished: seal_to is another",
        "hint: a finished run is not sealed anew",
    ]
    assert issue(MANIFEST, "--format", kind, "--seal-to", recipient, "--resume").code == 0


NO_IDENTITY = (
    "error: this run's bundles are sealed, and need an identity of {}; there is none\n"
    "hint: give it by --identity FILE; without it, `sha256sum --check SHA256SUMS` in the output folder shows "
    "whether the sealed parts are as they were written\n"
)


def test_without_an_identity_nothing_is_opened(kind: str) -> None:
    recipient = age_identity()
    out = sealed_run(kind, recipient)
    before = contents(out)
    Path("token").write_text("t")
    for command in (
        ("verify", "issued", "--pki", "pki"),
        ("extract", "issued", "--all", "--to", "ready"),
        ("gateway", "probe", "issued", "--gateway", "127.0.0.1:9"),
        ("register", "issued", "--api", "http://127.0.0.1:9", "--token-file", "token"),
    ):
        ran = run(*command)
        assert (ran.code, ran.out, ran.err) == (2, "", NO_IDENTITY.format(recipient))
    assert contents(out) == before
    assert not Path("ready").exists()


def test_a_wrong_identity_opens_nothing(kind: str) -> None:
    recipient = age_identity()
    sealed_run(kind, recipient)
    before = contents(Path("issued"))
    age_identity("wrong")
    name = f"part-00000.{stored_as(kind)}.age"
    error = (
        f"error: {name} must be sealed to an identity that was given; it is to none of the 1\n"
        f"hint: the run was sealed to {recipient}; give that one's identity by --identity\n"
    )
    ran = run("extract", "issued", UUIDS[0], "--to", "ready", "--identity", "wrong")
    assert (ran.code, ran.err, list(Path("ready").iterdir())) == (2, error, [])
    ran = run("gateway", "probe", "issued", "--gateway", "127.0.0.1:9", "--identity", "wrong")
    assert (ran.code, ran.err) == (2, error)
    ran = verify("--identity", "wrong", "--json", "-q")
    assert ran.code == 4
    assert findings(ran) == {(f"bundles/part-0000{index}.{stored_as(kind)}.age", "part-sealed") for index in range(3)}
    assert contents(Path("issued")) == before


def no_age(path: Path) -> None:
    path.write_bytes(b"part of a tar" * 100)


def unsealed(path: Path) -> None:
    path.write_bytes(opened(path))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def cut_nonce(path: Path) -> None:
    octets = path.read_bytes()
    path.write_bytes(octets[: octets.index(b"\n---") + 50 + 10])


def cut_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def changed_payload(path: Path) -> None:
    flip(path, -100)


def changed_header(path: Path) -> None:
    flip(path, path.read_bytes().index(b"\n---") - 2)


def sealed_rubbish(path: Path) -> None:
    secret = Path("identity.txt").read_text().splitlines()[-1]
    path.write_bytes(pyrage.encrypt(b"rubbish", [pyrage.x25519.Identity.from_str(secret).to_public()]))


def flip(path: Path, place: int) -> None:
    octets = bytearray(path.read_bytes())
    octets[place] = ord("A") if octets[place] != ord("A") else ord("B")
    path.write_bytes(octets)


NOT_AGE = "must be an age file, which begins with age-encryption.org/v1; it does not"
CHANGED = "is cut off or changed since it was sealed: age says "
DAMAGES = {
    no_age: NOT_AGE,
    unsealed: NOT_AGE,
    empty: NOT_AGE,
    cut_header: CHANGED,
    cut_nonce: CHANGED,
    cut_end: CHANGED,
    longer: CHANGED,
    changed_payload: CHANGED,
    changed_header: CHANGED,
    sealed_rubbish: ", opened, is not a whole ",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_part_is_named_and_the_others_are_checked(damage: Any, kind: str) -> None:
    sealed_run(kind, age_identity())
    path = parts(Path("issued"))[1]
    damage(path)
    place = f"bundles/{path.name}"
    ran = verify("--identity", "identity.txt", "--json", "-q")
    assert (ran.code, findings(ran)) == (4, {(place, "part-unreadable"), (place, "sums-digest")})
    assert json.loads(ran.out)["devices"] == 5
    [told] = [line for line in ran.err.splitlines() if "[part-unreadable]" in line]
    assert DAMAGES[damage] in told
    ran = run("extract", "issued", UUIDS[4], "--to", "ready", "--identity", "identity.txt")
    assert (ran.code, list(Path("ready").iterdir())) == (1, [])
    assert ran.err.startswith(f"error: {path.name}")
    assert DAMAGES[damage] in ran.err
    assert run("extract", "issued", UUIDS[0], UUIDS[7], "--to", "ready", "--identity", "identity.txt").code == 0


def test_a_part_beside_its_sealed_one_is_unknown() -> None:
    sealed_run("tar", age_identity())
    part = parts(Path("issued"))[0]
    part.with_suffix("").write_bytes(opened(part))
    ran = verify("--identity", "identity.txt", "--json", "-q")
    assert (ran.code, findings(ran)) == (4, {("bundles", "bundle-unknown")})


def test_a_signed_and_sealed_run_is_proved_from_outside(tmp_path: Path) -> None:
    from pki import make_pki

    make_pki(tmp_path / "signed-pki", signer="batch-signer")
    seal = ("--seal-to", age_identity(), "--sign-with", "batch-signer", "--pki", "signed-pki")
    assert issue(MANIFEST, "--format", "tar", *seal).code == 0
    audit.check_signature(Path("issued"), Path("signed-pki"))
    assert summed(Path("issued"))
    flip(parts(Path("issued"))[2], -1)
    assert not summed(Path("issued"))


def test_an_identity_for_a_run_that_is_not_sealed_is_not_needed() -> None:
    age_identity()
    assert issue(MANIFEST, "--format", "tar").code == 0
    assert verify("--identity", "identity.txt").code == 0


def bad_identities() -> Iterator[tuple[str, bytes, str]]:
    hint = "it is the file that age-keygen made, or an ed25519 or RSA private key of SSH without passphrase"
    none = f"error: the identity file bad must have an identity; it has none\nhint: {hint}\n"
    yield "empty", b"", none
    yield "comments", b"# public key: age1abc\n\n", none
    unusable = (
        f"error: {{}} of the identity file bad must be an age identity; it is none that this program can use\n"
        f"hint: {hint}\n"
    )
    yield "rubbish", b"# one\nSECRETSECRET\n", unusable.format("line 2")
    yield "recipient", b"age1unplvrwfx0mdjvr8kqule72cl6xsy2sj23zh7a7qmv78e2frhp9sdaq4yd\n", unusable.format("line 1")
    yield "plugin", b"AGE-PLUGIN-YUBIKEY-1QWT50DSECRET\n", unusable.format("line 1")
    yield "octets", b"\xff\xfeSECRET\n", unusable.format("line 1")
    yield "pem", b"-----BEGIN SECRET-----\nSECRET\n-----END SECRET-----\n", unusable.format("its key")
    encrypted = (
        "error: the identity file bad must be in the clear; it is encrypted by age with a passphrase\n"
        "hint: decrypt it to a file in memory: age --decrypt --output /dev/shm/identity bad\n"
    )
    yield "encrypted", pyrage.passphrase.encrypt(b"SECRET", "SECRET"), encrypted
    yield "armoured", b"-----BEGIN AGE ENCRYPTED FILE-----\nSECRET\n", encrypted


@pytest.mark.parametrize(("text", "error"), [bad[1:] for bad in bad_identities()], ids=[b[0] for b in bad_identities()])
def test_a_bad_identity_file_is_refused_and_not_repeated(text: bytes, error: str) -> None:
    sealed_run("tar", age_identity())
    Path("bad").write_bytes(text)
    for command in (("verify", "issued"), ("extract", "issued", "--all", "--to", "ready")):
        ran = run(*command, "--identity", "bad")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.endswith(error)
        assert "SECRET" not in ran.err
    assert not Path("ready").exists()


def test_an_ssh_key_with_a_passphrase_and_a_missing_file_are_refused() -> None:
    sealed_run("tar", ssh_identity("ed25519", "ed", "a passphrase"))
    ran = run("extract", "issued", "--all", "--to", "ready", "--identity", "ed")
    error = "error: its key of the identity file ed must be an age identity; it is encrypted with a passphrase\n"
    assert (ran.code, ran.err.startswith(error)) == (2, True)
    ran = run("extract", "issued", "--all", "--to", "ready", "--identity", "nowhere")
    error = "error: the identity file nowhere cannot be read: No such file or directory\n"
    assert (ran.code, ran.err) == (2, error)


def test_an_identity_file_that_others_can_read_is_warned_of() -> None:
    sealed_run("tar", age_identity(mode=0o644))
    ran = run("extract", "issued", "--all", "--to", "ready", "--identity", "identity.txt")
    warning = "warning: the identity file identity.txt must be its owner's alone, mode 0600; it has mode 0644\n"
    assert (ran.code, ran.err) == (0, warning)


def test_no_identity_shows_in_a_repr_or_in_what_a_failing_command_says() -> None:
    recipient = age_identity()
    secret = Path("identity.txt").read_text().splitlines()[-1]
    identities, warnings = read_identities([Path("identity.txt")])
    assert identities is not None
    assert (identities.secrets, warnings) == ((secret.encode(),), [])
    assert secret not in repr(identities)
    sealed_run("tar", recipient)
    changed_payload(parts(Path("issued"))[0])
    ran = run_process("extract", "issued", "--all", "--to", "ready", "--identity", "identity.txt", "-v")
    assert ran.code == 1
    assert "Traceback" in ran.err
    assert secret not in ran.out + ran.err
    ran = run_process("verify", "issued", "--identity", "identity.txt", "-v")
    assert ran.code == 4
    assert secret not in ran.out + ran.err
    assert all(secret.encode() not in path.read_bytes() for path in Path("issued").rglob("*") if path.is_file())


def test_recipients_are_the_same_in_any_order_and_with_any_comment() -> None:
    age, ssh = age_identity(), ssh_identity("ed25519", "ed")
    plain = ssh.removesuffix(" line 3")
    assert checked_recipients([ssh, age, age, plain]) == (age, plain)
    assert checked_recipients([]) == ()
    with pytest.raises(RefusedError, match="recipient 1 must be"):
        checked_recipients(["ssh-rsa AAAA", age])


def test_a_record_with_recipients_that_are_none_is_damaged() -> None:
    sealed_run("tar", age_identity())
    record = json.loads(Path("issued/run.json").read_text())
    for wrong in ([1], None, 7):
        Path("issued/run.json").write_text(json.dumps(record | {"seal_to": wrong}))
        ran = verify("--identity", "identity.txt")
        assert (ran.code, ran.err.startswith("error: ")) == (2, True)
        assert "issued/run.json is damaged: " in ran.err


def test_a_full_disk_in_the_middle_of_a_sealed_part_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    from batch_issuer.bundles import packed
    from batch_issuer.bundles.contents import PartBundles
    from batch_issuer.bundles.sealed import writable_format
    from batch_issuer.devices import CertificateDer, Sec1Der

    part = PartBundles([UUIDS[0].encode()], [Sec1Der(b"key")], [CertificateDer(b"der")], CertificateDer(b"root"), None)
    part = replace(part, device_uuids=part.device_uuids * 99, private_keys=part.private_keys * 99)
    part = replace(part, certificates=part.certificates * 99)

    def full(fd: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packed, "write_all", full)
    with pytest.raises(OSError, match="No space left") as caught:
        writable_format("tar", [age_identity()]).stage(part, Path(), "part-00000")
    assert caught.value.errno == 28


def test_the_probe_and_the_registration_read_sealed_bundles(kind: str) -> None:
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import read_record
    from batch_issuer.probe.selection import select_devices
    from batch_issuer.registering.journal import RegisteredRows
    from batch_issuer.registering.registrants import Registrant, registrants

    out = sealed_run(kind, age_identity())
    identities, _ = read_identities([Path("identity.txt")])
    found = list(select_devices(out, sample=None, seed=0, identities=identities).candidates())
    assert [(one.device_uuid, one.damage) for one in found] == [(device, None) for device in UUIDS]
    assert all(b"EC PRIVATE KEY" in one.files["pkey.pem"] for one in found)
    folder = OutputFolder(out)
    record = read_record(folder.record)
    known = RegisteredRows(record.rows, "http://api")
    sent = [one for one in registrants(folder, record, known, identities) if isinstance(one, Registrant)]
    assert [(one.device_uuid, one.certificate.encode()) for one in sent] == [
        (one.device_uuid, one.files["client.pem"]) for one in found
    ]


def test_registering_with_certificates_in_the_manifest_opens_nothing() -> None:
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import read_record
    from batch_issuer.registering.journal import RegisteredRows
    from batch_issuer.registering.registrants import registrants

    assert issue(MANIFEST, "--format", "tar", "--seal-to", age_identity(), "--with-certificates").code == 0
    folder = OutputFolder(Path("issued"))
    record = read_record(folder.record)
    assert len(list(registrants(folder, record, RegisteredRows(record.rows, "http://api")))) == len(UUIDS) + 1
