"""Running the program, and judging what it said and left: what more than one test file asks, in one place."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, load_pem_private_key

from batch_issuer.cli import cli
from batch_issuer.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FORMATS = ("dir", "tar", "tar.zst", "parquet")
BUNDLE_MODES = {"client.pem": 0o644, "pkey.pem": 0o600, "root.crt": 0o644, "sota.toml": 0o600}
HARDWARE = ("--hardware-id", "imx8mm")
SMALL = ("--part-size", "3", "--workers", "2", "--days", "30")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def run(*arguments: str | Path, stdin: bytes = b"") -> Ran:
    """A command of the program, in this process."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin, catch_exceptions=False)
    return Ran(result.exit_code, result.stdout, result.stderr)


def run_process(*arguments: str | Path, stdin: bytes = b"", umask: int = -1) -> Ran:
    """A command of the program, in a process of its own."""
    command = [sys.executable, "-m", "batch_issuer", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, umask=umask, check=False, timeout=60)
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def issue(manifest: bytes, *options: str | Path, name: str = "devices.csv") -> Ran:
    """`issue` of a small manifest in the working directory, which has a `pki`; to `issued`, unless told otherwise."""
    Path(name).write_bytes(manifest)
    return run("issue", "--manifest", name, *SMALL, *HARDWARE, *options)


def interrupted_run(monkeypatch: pytest.MonkeyPatch, manifest: bytes, *options: str, parts: int = 1) -> Ran:
    """`issue` to `issued`, stopped when so many parts are published."""
    seen: list[int] = []

    def stop(_progress: Progress, devices: int, *, minted: bool = True) -> None:
        seen.append(devices)
        if len(seen) == parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", stop)
        ran = issue(manifest, *options, "--workers", "1")
    assert ran.code == 130
    assert Path("issued/run.json").exists()
    assert not Path("issued/summary.json").exists()
    return ran


def refusal(ran: Ran, code: int, error: str, *, hint: str | None = None, findings: Sequence[str] = ()) -> None:
    """The command ended with this code and said just this, and left nothing at `issued`."""
    lines = [*findings, f"error: {error}", *([f"hint: {hint}"] if hint else [])]
    assert ran.err.splitlines() == lines
    assert (ran.code, ran.out) == (code, "")
    assert not Path("issued").is_symlink()
    assert not Path("issued").exists()


def device_uuids(count: int) -> list[str]:
    return [f"{index:08x}-beef-4cab-8def-{index * 7919:012x}" for index in range(1, count + 1)]


def csv_bytes(rows: Iterable[str], header: str = "device_uuid") -> bytes:
    return "".join(f"{line}\n" for line in (header, *rows)).encode()


def parquet_bytes(columns: dict[str, pa.Array] | pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink)
    return sink.getvalue()


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def modes(folder: Path) -> dict[str, int]:
    """Every path from `folder` down with its mode; links are not followed."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in paths}


def contents(folder: Path) -> dict[str, str]:
    """Every path below `folder`: a file's digest, a link's target, or nothing for a folder."""

    def content(path: Path) -> str:
        if path.is_symlink():
            return f"-> {path.readlink()}"
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    return {str(path.relative_to(folder)): content(path) for path in sorted(folder.rglob("*"))}


def stored_bundles(out: Path) -> dict[str, dict[str, bytes]]:
    """Every bundle of a run as a device has it, read by nothing of the program."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted((out / "bundles").iterdir()):
        if path.is_dir():
            found[path.name] = {file.name: file.read_bytes() for file in path.iterdir()}
        elif path.suffix in (".tar", ".zst"):
            with pa.input_stream(str(path)) as unpacked:  # by its suffix
                octets = unpacked.read()
            with tarfile.open(fileobj=io.BytesIO(octets)) as archive:
                for member in archive.getmembers():
                    if member.isfile() and (file := archive.extractfile(member)) is not None:
                        uuid, _, name = member.name.partition("/")
                        found.setdefault(uuid, {})[name] = file.read()
        else:
            table = pq.read_table(path)
            root = pq.read_schema(path).metadata[b"root.crt"]
            for row in table.to_pylist():
                files = {"root.crt": root}
                if row["private_key"] is not None:
                    files["pkey.pem"] = _pem("EC PRIVATE KEY", row["private_key"])
                files["client.pem"] = _pem("CERTIFICATE", row["certificate"])
                if "sota_toml" in row:
                    files["sota.toml"] = row["sota_toml"].encode()
                found[row["device_uuid"]] = files
    return found


def _pem(label: str, der: bytes) -> bytes:
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode()


def device_bundle(files: dict[str, bytes], uuid: str, pki: Path) -> x509.Certificate:
    """The bundle is `uuid`'s: one SEC1 key, the leaf alone, of one key, signed by the local-ca; the root as it is."""
    leaf = x509.load_pem_x509_certificate(files["client.pem"])
    key = load_pem_private_key(files["pkey.pem"], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert files["pkey.pem"].startswith(b"-----BEGIN EC PRIVATE KEY-----\n")
    assert files["pkey.pem"].count(b"-----BEGIN") == files["client.pem"].count(b"-----BEGIN") == 1
    assert key.public_key() == leaf.public_key()
    assert leaf.subject.rfc4514_string().split(",")[-1] == f"CN={uuid}"
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes()))
    assert files["root.crt"] == (pki / "factory_ca.pem").read_bytes()
    return leaf


def finished_run(out: Path, pki: Path, uuids: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """A run that is all there: these devices once each, in manifest and bundles, and nothing besides."""
    rows = csv_rows(out / "manifest.csv")
    assert [row["device_uuid"] for row in rows] == list(uuids)
    bundles = stored_bundles(out)
    assert sorted(bundles) == sorted(uuids)
    leaves = {row["device_uuid"]: device_bundle(bundles[row["device_uuid"]], row["device_uuid"], pki) for row in rows}
    for row in rows:
        der = leaves[row["device_uuid"]].public_bytes(Encoding.DER)
        assert row["certificate_sha256"] == hashlib.sha256(der).hexdigest()
        assert row["serial_number"] == f"{leaves[row['device_uuid']].serial_number:040x}"
        assert (out / row["bundle"]).exists()
    assert len({leaf.serial_number for leaf in leaves.values()}) == len(uuids)
    assert len({files["pkey.pem"] for files in bundles.values()}) == len(uuids)
    expected = {"SHA256SUMS", "bundles", "manifest.csv", "report.html", "run.json", "summary.json"}
    assert {path.name for path in out.iterdir()} - {"rejects.csv"} == expected
    assert summed(out)
    return bundles


def summed(out: Path) -> bool:
    """Whether coreutils accepts every line of SHA256SUMS, and there is one for every file but itself."""
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    done = subprocess.run(command, cwd=out, capture_output=True, check=False, text=True)
    lines = (out / "SHA256SUMS").read_text().splitlines()
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    named = [line.partition("  ")[2] for line in lines]
    return done.returncode == 0 and sorted(named) == sorted(files - {"SHA256SUMS", "SHA256SUMS.sig"})


def private_values(keys: Iterable[bytes]) -> list[bytes]:
    """The private values, 32 octets each, of keys in PEM or DER."""
    values = []
    for text in keys:
        loaded = load_pem_private_key(text, None) if text.startswith(b"-----") else load_der_private_key(text, None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        values.append(loaded.private_numbers().private_value.to_bytes(32))
    return values


def shows_a_key(data: bytes, values: Iterable[bytes]) -> bool:
    """Whether `data` has a private key's PEM, or one of `values` as octets (so in any DER), hex, base64 or decimal."""
    if b"PRIVATE KEY" in data:
        return True
    lowered, unfolded = data.lower(), b"".join(data.split())
    for value in values:
        forms = [value in data, value.hex().encode() in lowered, str(int.from_bytes(value)).encode() in data]
        # Base64 of a text that holds the value somewhere: the characters that depend on the value alone.
        for before in range(3):
            code = base64.b64encode(bytes(before) + value)
            forms.append(code[(0, 2, 3)[before] : (42, 41, 43)[before]] in unfolded)
        if any(forms):
            return True
    return False


@contextmanager
def file_system(path: Path, options: str) -> Iterator[Path]:
    """A tmpfs of its own at `path`, made for it; the test is skipped where one cannot be mounted."""
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", path], capture_output=True, check=False, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.splitlines()[0]}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def fill_before_the_first_key(monkeypatch: pytest.MonkeyPatch, disk: Path, *, left: int) -> None:
    """Between a run's plan and its first key, somebody else takes the space of `disk` but `left` octets."""
    begin = Progress.begin

    def fill(progress: Progress, devices: int) -> None:
        status = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(status.f_bavail * status.f_frsize - left))
        begin(progress, devices)

    monkeypatch.setattr(Progress, "begin", fill)


def openssl_accepts(leaf: Path, pki: Path, *, partial: bool) -> bool:
    """What `openssl verify` says of a client certificate, below the root or with the local-ca as the only anchor."""
    if partial:
        trust = ["-partial_chain", "-trusted", str(pki / "local-ca.pem")]
    else:
        trust = ["-CAfile", str(pki / "factory_ca.pem"), "-untrusted", str(pki / "local-ca.pem")]
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", *trust, str(leaf)]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    return done.returncode == 0 and done.stdout == f"{leaf}: OK\n"
