"""Everything that is read, with octets changed at random: a sentence of this program's own, or a good end.

A short walk by fixed seeds here; `make fuzz` walks `FUZZ_SECONDS` per target from a new seed, which a failure shows.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from audit import IDENTITY
from chaos import tell
from crash_matrix import new_recipient
from csrs import asking_csr
from fioctl import FIRST, Owner, pem
from gateways import serving
from judges import issue

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.authority.requests import check_device_request, read_request
from batch_issuer.bundles.compressed import CompressedTarFormat
from batch_issuer.bundles.packed import PackedFormat
from batch_issuer.bundles.parquet import ParquetFormat
from batch_issuer.bundles.recipients import read_identities
from batch_issuer.bundles.sealed import readable_format
from batch_issuer.bundles.tar import TarFormat
from batch_issuer.errors import BatchIssuerError
from batch_issuer.factory_api.answers import Answer
from batch_issuer.manifest.reading import Manifest
from batch_issuer.manifest.rows import RowRules
from batch_issuer.output.record import read_record
from batch_issuer.output.rows import encode_commit, read_commit
from batch_issuer.verification.p12 import P12Error, opened_p12
from batch_issuer.verification.pem import PemError, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.bundles.format import BundleFormat

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
PASSWORD = b"abcdefghijklmn"
P12 = ("--format", "p12", "--p12-password-file", "password")
TOKENS = (b"\0", b"\xff" * 8, b'"', b",", b"\n", b"-----", b"PAR1", b"\x80" * 4, b"[" * 2000, b"\\ud800", b"../")


def mutated(octets: bytes, random: Random) -> bytes:
    """Octets changed in one to four ways."""
    changed = bytearray(octets)
    for _ in range(random.randint(1, 4)):
        start = random.randrange(len(changed) + 1)
        end = min(len(changed), start + random.choice((1, 4, 60)))
        kind = random.randrange(5)
        if kind == 0 and start < len(changed):
            changed[start] ^= 1 << random.randrange(8)
        elif kind == 1:
            del changed[start:end]
        elif kind == 2:
            changed[start:start] = changed[start:end]
        elif kind == 3:
            changed[start:start] = random.choice(TOKENS)
        elif random.random() < 0.3:
            del changed[start:]
    return bytes(changed)


def read_manifest(octets: bytes, folder: Path) -> None:
    path = folder / "m"
    path.write_bytes(octets)
    with Manifest(path.open("rb"), "m", reserved=set()) as manifest:
        for _ in manifest.rows(RowRules()):
            pass


def read_as(read: Callable[[Path], object]) -> Callable[[bytes, Path], None]:
    def written(octets: bytes, folder: Path) -> None:
        path = folder / "part-00000.arrow"
        path.write_bytes(octets)
        read(path)

    return written


def read_answer(octets: bytes, _: Path) -> None:
    answer = Answer("GET /x", 500, octets, None, "hunter2-token")
    assert "hunter2-token" not in answer.words
    assert answer.words.isprintable()
    answer.json_object()


def read_csr(octets: bytes, _: Path) -> None:
    check_device_request(read_request(octets, "the CSR"), factory="acme", what="the CSR")


def read_pem(octets: bytes, _: Path) -> None:
    with suppress(PemError):
        unwrap(octets, b"EC PRIVATE KEY")


def read_identity(octets: bytes, folder: Path) -> None:
    path = folder / "identity.txt"
    path.touch(0o600)
    path.write_bytes(octets)
    read_identities([path])


def read_ca(pki: Path, name: str) -> Callable[[bytes, Path], None]:
    """A PKI directory whose file of this name was changed."""

    def read(octets: bytes, folder: Path) -> None:
        changed = folder / "pki" / name
        if not changed.parent.exists():
            shutil.copytree(pki, changed.parent)
        changed.unlink()
        changed.write_bytes(octets)
        changed.chmod(0o400)
        load_issuer(changed.parent, "local-ca", now=datetime.now(UTC))

    return read


def read_p12(octets: bytes, _: Path) -> None:
    with suppress(P12Error):
        opened_p12(octets, PASSWORD, UUID, SimpleNamespace(ca=b"", root=b""))  # type: ignore[arg-type]


def exhaust(stored: BundleFormat) -> Callable[[bytes, Path], None]:
    assert isinstance(stored, PackedFormat)  # a sealed one is, too

    def read(octets: bytes, _: Path) -> None:
        for _bundle in stored.bundles_in(io.BytesIO(octets), "part", ()):
            pass

    return read


TARGETS = (
    *("csv", "parquet", "csr", "pem", "record", "commit", "tar", "tar.zst", "bundles", "answer"),
    *("sealed", "identity", "p12", "ca", "ca key", "root"),
)


@pytest.fixture(scope="module")
def readers(
    tmp_path_factory: pytest.TempPathFactory, factory_pki: Path
) -> dict[str, tuple[bytes, Callable[[bytes, Path], None]]]:
    """A good one of each, and what reads it."""
    folder = tmp_path_factory.mktemp("seeds")
    recipient = new_recipient(folder)
    identity = folder / IDENTITY
    identity.chmod(0o600)
    (folder / "password").touch(0o600)
    (folder / "password").write_bytes(PASSWORD)
    options = {"sealed": ("--format", "tar", "--seal-to", recipient), "p12": P12}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        manifest = f'device_uuid,name,production\n{UUID},a,0\n{UUID[:-1]}c,"b, c",1\n'.encode()
        for name in ("dir", "tar", "tar.zst", "parquet", *options):
            more = options.get(name, ("--format", name))
            assert issue(manifest, "--pki", factory_pki, "--out", name, *more).code == 0
    table = pa.table({"device_uuid": [UUID, UUID[:-1] + "c"], "name": ["a", None]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    rows = pa_csv.read_csv(folder / "parquet/manifest.csv")
    sealed = readable_format("tar.zst", [recipient], read_identities([identity])[0])
    return {
        "csv": (manifest, read_manifest),
        "parquet": (sink.getvalue(), read_manifest),
        "csr": (asking_csr(UUID), read_csr),
        "pem": ((folder / "dir/bundles" / UUID / "pkey.pem").read_bytes(), read_pem),
        "record": ((folder / "tar/run.json").read_bytes(), read_as(read_record)),
        "commit": (bytes(encode_commit(rows, [b"x"] * len(rows), "0" * 8)), read_as(read_commit)),
        "tar": ((folder / "tar/bundles/part-00000.tar").read_bytes(), exhaust(TarFormat())),
        "tar.zst": (
            (folder / "tar.zst/bundles/part-00000.tar.zst").read_bytes(),
            exhaust(CompressedTarFormat()),
        ),
        "bundles": ((folder / "parquet/bundles/part-00000.parquet").read_bytes(), exhaust(ParquetFormat())),
        "answer": (json.dumps({"msg": "no", "errors": {"a": ["hunter2-token", 1]}}).encode(), read_answer),
        "sealed": ((folder / "sealed/bundles/part-00000.tar.zst.age").read_bytes(), exhaust(sealed)),
        "identity": (identity.read_bytes(), read_identity),
        "p12": ((folder / f"p12/bundles/{UUID}.p12").read_bytes(), read_p12),
        "ca": ((factory_pki / "local-ca.pem").read_bytes(), read_ca(factory_pki, "local-ca.pem")),
        "ca key": ((factory_pki / "local-ca.key").read_bytes(), read_ca(factory_pki, "local-ca.key")),
        "root": ((factory_pki / "factory_ca.pem").read_bytes(), read_ca(factory_pki, "factory_ca.pem")),
    }


@pytest.mark.parametrize("target", TARGETS)
def test_no_octets_bring_a_reader_down(
    target: str, readers: dict[str, tuple[bytes, Callable[[bytes, Path], None]]], tmp_path: Path
) -> None:
    seed, read = readers[target]
    read(seed, tmp_path)
    begin = time.time_ns() if SECONDS else 1
    deadline, count = time.monotonic() + SECONDS, 0
    while count < 300 or time.monotonic() < deadline:
        octets = mutated(seed, Random(begin + count))
        count += 1
        print(f"seed {begin + count - 1}")
        said = "good"
        try:
            read(octets, tmp_path)
        except BatchIssuerError as error:
            said = str(error)
        assert said.isprintable()
    if SECONDS:
        tell(f"fuzz, {target}", count, 0)


UNFORESEEN = 500
"""What the gateway answers when it did not expect what happened."""

BODIES: list[tuple[str, str, Callable[[Owner], dict[str, Any]]]] = [
    ("POST", "/ota/factories/acme/certs/", lambda _: dict(FIRST)),
    ("PATCH", "/ota/factories/acme/certs/", lambda owner: {"ca-crt": pem(owner.local.certificate)}),
    ("POST", "/ota/devices/", lambda _: {"csr": asking_csr(UUID).decode(), "uuid": UUID, "hardware-id": "hw"}),
    ("PUT", "/ota/devices/", lambda owner: {"client.pem": pem(owner.local.certificate), "name": "a"}),
    ("POST", "/sign", lambda _: {"csr": asking_csr(UUID).decode(), "hardware-id": "hw"}),
]


@pytest.mark.parametrize(("method", "path", "body"), BODIES, ids=[f"{method} {path}" for method, path, _ in BODIES])
def test_no_body_brings_the_gateway_down(
    method: str, path: str, body: Callable[[Owner], dict[str, Any]], tmp_path: Path
) -> None:
    begin = time.time_ns() if SECONDS else 1
    with serving(tmp_path / "data") as server:
        owner = Owner(server)
        owner.create()
        seed = json.dumps(body(owner)).encode()
        assert server.ask(method, path, seed).status != UNFORESEEN
        deadline, count = time.monotonic() + SECONDS, 0
        while count < 300 or time.monotonic() < deadline:
            print(f"seed {begin + count}")
            answer = server.ask(method, path, mutated(seed, Random(begin + count)))
            count += 1
            assert answer.status != UNFORESEEN, answer.text
            assert answer.status < 400 or answer.msg.isprintable()
        assert server.stop() == 0
    if SECONDS:
        tell(f"fuzz, {method} {path}", count, 0)
