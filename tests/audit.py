"""What must hold of an output folder after any crash, checked without any of the program's own code."""

from __future__ import annotations

import io
import json
import sqlite3
import subprocess
import tarfile
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

IDENTITY = "identity.txt"
"""What opens sealed runs; beside the run's folder, or one above."""

CLEAR_KEY = (b"PRIVATE KEY-----", b"\x30\x77\x02\x01\x01\x04\x20", b"\x30\x6b\x02\x01\x01\x04\x20")
"""How a P-256 private key shows: in PEM, in DER as SEC1 (RFC 5915 section 3), and as that within PKCS#8."""

_FRAME = bytes.fromhex("28b52ffd")
"""How a zstd frame begins."""

MEMBERS = {"pkey.pem", "client.pem", "root.crt", "sota.toml"}


@dataclass
class Stored:
    """One visible bundle: its certificate and what belongs to it."""

    certificate: x509.Certificate
    place: str


Brought: TypeAlias = "Mapping[str, bytes]"
"""Devices that brought a CSR, each with its SubjectPublicKeyInfo: these, and only these, have no private key here."""


PASSWORD = b"correct horse battery"
"""Of runs of format p12 that have one for all devices."""


def listed_passwords(out: Path) -> dict[str, bytes] | None:
    """The passwords that a run made, of the list or of the commit records; None if it makes none."""
    record = out / "run.json"
    if not record.exists() or json.loads(record.read_bytes())["p12_passwords"] != "device":
        return None
    if (out / "summary.json").exists():
        assert (out / "p12-passwords.csv").stat().st_mode & 0o777 == 0o600
        text = (out / "p12-passwords.csv").read_bytes()
    else:
        text = b"device_uuid,password\n"
        for path in sorted((out / ".run/commits").glob("*.arrow")):
            table = pa.ipc.open_file(path.read_bytes()).read_all()
            text += b"".join(table.column(table.num_columns - 2).to_pylist())
    header, *lines = text.splitlines()
    assert header == b"device_uuid,password"
    passwords = dict(line.split(b",") for line in lines)
    assert len(passwords) == len(lines) == len(set(passwords.values())), "a device or a password is listed twice"
    return {uuid.decode(): password for uuid, password in passwords.items()}


def committed(out: Path) -> dict[str, str]:
    """The devices that are issued, and each one's certificate's SHA-256: of the manifest or of the commit records."""
    manifest = out / "manifest.parquet"
    if (out / "summary.json").exists():
        tables = [pq.read_table(manifest)]
    else:
        tables = [
            pa.ipc.open_file(path.read_bytes()).read_all() for path in sorted((out / ".run/commits").glob("*.arrow"))
        ]
    rows: dict[str, str] = {}
    for table in tables:
        for uuid, digest in zip(table["device_uuid"].to_pylist(), table["certificate_sha256"].to_pylist(), strict=True):
            assert uuid not in rows, f"{uuid} is committed twice"
            rows[uuid] = digest
    return rows


def visible(out: Path, brought: Brought) -> dict[str, Stored]:
    """Every bundle below bundles/, each of which must be whole and of one key."""
    bundles = out / "bundles"
    found: dict[str, Stored] = {}
    passwords = listed_passwords(out)
    for path in sorted(bundles.iterdir()) if bundles.is_dir() else []:
        for uuid, key, certificate in _stored(path, passwords):
            assert uuid not in found, f"{uuid} is stored twice"
            assert (key is None) == (uuid in brought), f"{uuid} has a private key or none, and should not"
            ours = brought.get(uuid) or key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            theirs = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            assert ours == theirs, f"the key of {uuid} is not its certificate's"
            names = [a.value for a in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
            assert names == [uuid], f"the certificate of {uuid} names {names}"
            found[uuid] = Stored(certificate, path.name)
    return found


def _opened(path: Path) -> bytes:
    """A sealed part's content."""
    import pyrage

    above = next(folder for folder in path.parents if (folder / IDENTITY).exists())
    identity = pyrage.x25519.Identity.from_str((above / IDENTITY).read_text())
    opened: bytes = pyrage.decrypt(path.read_bytes(), [identity])
    return opened


def check_no_clear_key(out: Path) -> int:
    """No file of a sealed run, finished or not, has a private key in the clear, compressed or not; returns how many
    were looked at.
    """
    files = [path for path in out.rglob("*") if path.is_file()]
    for path in files:
        octets = path.read_bytes()
        shown = [mark for mark in CLEAR_KEY if mark in octets + unpacked(octets)]
        assert not shown, f"{path} has a private key in the clear: {shown}"
    return len(files)


def unpacked(octets: bytes) -> bytes:
    """What zstd frames (RFC 8878) unpack to that begin anywhere in these octets, whole or cut off."""
    found = []
    place = octets.find(_FRAME)
    while place >= 0:
        stream = pa.CompressedInputStream(pa.py_buffer(octets[place:]), "zstd")
        with suppress(OSError):
            while piece := stream.read(4096):
                found.append(piece)
        place = octets.find(_FRAME, place + 1)
    return b"".join(found)


def _stored(path: Path, passwords: dict[str, bytes] | None):  # type: ignore[no-untyped-def]
    if path.suffix == ".p12":
        assert passwords is None or path.stem in passwords, f"{path.name} is visible, and its password is not listed"
        assert path.stat().st_mode & 0o777 == 0o600
        unlocked = pkcs12.load_pkcs12(path.read_bytes(), PASSWORD if passwords is None else passwords[path.stem])
        assert unlocked.cert is not None
        yield path.stem, unlocked.key, unlocked.cert.certificate
        return
    sealed = path.suffix == ".age"
    octets = _opened(path) if sealed else None
    path = path.with_suffix("") if sealed else path
    if path.suffix in (".tar", ".zst"):
        packed = pa.py_buffer(octets or path.read_bytes())
        codec = "zstd" if path.suffix == ".zst" else None
        yield from _tar_bundles(pa.input_stream(packed, compression=codec).read())
    elif path.suffix == ".parquet":
        table = pq.read_table(io.BytesIO(octets) if octets else path)
        for row in table.to_pylist():
            key = None if row["private_key"] is None else load_der_private_key(row["private_key"], None)
            yield row["device_uuid"], key, x509.load_der_x509_certificate(row["certificate"])
    elif path.name.startswith("part-"):  # a folder of the attempt that made them, as a store has it
        for folder in path.iterdir():
            yield from _stored(folder, passwords)
    else:
        yield _pem_bundle(path.name, {file.name: file.read_bytes() for file in path.iterdir()})


def _tar_bundles(octets: bytes):  # type: ignore[no-untyped-def]
    files: dict[str, dict[str, bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(octets)) as archive:
        for member in archive:
            uuid, _, name = member.name.partition("/")
            entry = files.setdefault(uuid, {})
            if member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                entry[name] = content.read()
    for uuid, entry in files.items():
        yield _pem_bundle(uuid, entry)


def _pem_bundle(uuid: str, files: dict[str, bytes]):  # type: ignore[no-untyped-def]
    assert set(files) | {"pkey.pem"} == MEMBERS, f"the bundle of {uuid} holds {sorted(files)}"
    key = load_pem_private_key(files["pkey.pem"], None) if "pkey.pem" in files else None
    return uuid, key, x509.load_pem_x509_certificate(files["client.pem"])


NOBODY: dict[str, bytes] = {}


def check_interrupted(out: Path, brought: Brought = NOBODY) -> dict[str, str]:
    """I2, I3, I5: what is visible is committed, whole and unique; returns the committed devices."""
    rows = committed(out)
    for uuid, stored in visible(out, brought).items():
        assert uuid in rows, f"{uuid} is visible and not committed"
        assert stored.certificate.fingerprint(HASH).hex() == rows[uuid], f"{uuid} is visible with another certificate"
    return rows


def check_finished(
    out: Path, wanted: list[str], ca: x509.Certificate, before: dict[str, str], brought: Brought = NOBODY
) -> None:
    """I1, I3-I8: every device exactly once, what was issued before the crash unchanged, nothing left over."""
    rows = committed(out)
    assert list(rows) == wanted, "the manifest is not the input's devices in the input's order"
    changed = [uuid for uuid, digest in before.items() if rows[uuid] != digest]
    assert not changed, f"issued again with another certificate: {changed}"
    stored = check_all(out, rows, ca, brought)
    keys = Counter(
        s.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for s in stored
    )
    serials = Counter(s.certificate.serial_number for s in stored)
    assert max(keys.values()) == max(serials.values()) == 1, "a key or a serial number occurs twice"
    passwords = listed_passwords(out)
    assert passwords is None or list(passwords) == wanted, "the passwords are not the devices' in their order"
    known = {"run.json", "manifest.parquet", "report.html", "summary.json", "bundles", "SHA256SUMS", "SHA256SUMS.sig"}
    known |= set() if passwords is None else {"p12-passwords.csv"}
    left = {path.name for path in out.iterdir()} - known
    assert not left, f"left over: {left}"
    check_sums(out)


UNLISTED = {"SHA256SUMS", "SHA256SUMS.sig", "p12-passwords.csv"}


def check_staging(out: Path) -> None:
    """What is staged was committed, by the attempt that staged it: nothing of killed attempts is left."""
    commits = out / ".run/commits"
    attempts = {
        f"{path.stem}.{pa.ipc.open_file(path.read_bytes()).schema.metadata[b'batch_issuer.attempt'].decode()}"
        for path in commits.glob("*.arrow")
    }
    left = {path.name for path in (out / ".run/staging").iterdir()} - attempts
    assert not left, f"left in staging: {left}"


def check_sums(out: Path) -> None:
    """SHA256SUMS has the digest of every file of the run, once, and of no other."""
    lines = [line.split("  ") for line in (out / "SHA256SUMS").read_text().splitlines()]
    files = {str(path.relative_to(out)): path for path in out.rglob("*") if path.is_file()}
    wanted = {name: sha256(path.read_bytes()).hexdigest() for name, path in files.items() if name not in UNLISTED}
    assert len(lines) == len(wanted), "SHA256SUMS has more or fewer lines than there are files"
    assert {name: digest for digest, name in lines} == wanted, "SHA256SUMS says otherwise than the files"


def check_ledger(out: Path, ledger: Path) -> None:
    """Every device of the run is in the ledger as issued, once, as its certificate has it; and no other is held."""
    with closing(sqlite3.connect(ledger)) as connection:
        rows = connection.execute("SELECT device_uuid, serial_number, public_key_sha256 FROM issued").fetchall()
        [held] = connection.execute("SELECT count(*) FROM parts WHERE issued IS NULL").fetchone()
    assert held == 0, f"{held} parts are held and not issued"
    table = pq.read_table(out / "manifest.parquet").to_pylist()
    wanted = sorted((row["device_uuid"], row["serial_number"], row["public_key_sha256"]) for row in table)
    assert sorted(rows) == wanted, "the ledger says otherwise than the manifest"


def check_report(out: Path) -> None:
    """The report is whole, and shows the figures of the summary."""
    page = (out / "report.html").read_bytes()
    assert page.endswith(b"</html>\n")
    devices = json.loads((out / "summary.json").read_bytes())["devices"]
    assert f"{devices:,} device certificate".encode() in page


def check_signature(out: Path, pki: Path) -> None:
    """OpenSSL says that somebody below the root has signed SHA256SUMS."""
    command = "openssl cms -verify -binary -inform DER -in SHA256SUMS.sig -content SHA256SUMS -purpose any -CAfile"
    done = subprocess.run(
        [*command.split(), str((pki / "factory_ca.pem").absolute())], cwd=out, capture_output=True, check=False
    )
    assert done.returncode == 0, f"the signature does not verify: {done.stderr.decode()}"
    assert done.stdout == (out / "SHA256SUMS").read_bytes()


def check_all(out: Path, rows: dict[str, str], ca: x509.Certificate, brought: Brought = NOBODY) -> list[Stored]:
    """Every committed device's bundle is there, whole, as its row says, signed by the CA."""
    found = visible(out, brought)
    assert set(found) == set(rows), "bundles and manifest are not of the same devices"
    for uuid, stored in found.items():
        assert stored.certificate.fingerprint(HASH).hex() == rows[uuid]
        stored.certificate.verify_directly_issued_by(ca)
    return list(found.values())


from cryptography.hazmat.primitives.hashes import SHA256  # noqa: E402

HASH = SHA256()
