"""Everything that is read, with octets changed at random: a sentence of this program's own, or a good end.

A short walk by fixed seeds here; `make fuzz` walks `FUZZ_SECONDS` per target from a new seed, which a failure shows.
"""

from __future__ import annotations

import io
import json
import os
import time
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from chaos import tell
from csrs import asking_csr
from judges import issue

from batch_issuer.authority.requests import check_device_request, read_request
from batch_issuer.bundles.parquet import ParquetFormat
from batch_issuer.bundles.tar import TarFormat
from batch_issuer.errors import BatchIssuerError
from batch_issuer.factory_api.answers import Answer
from batch_issuer.manifest.reading import Manifest
from batch_issuer.manifest.rows import RowRules
from batch_issuer.output.record import read_record
from batch_issuer.output.rows import encode_commit, read_commit
from batch_issuer.verification.pem import PemError, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.bundles.packed import PackedFormat

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
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


def exhaust(stored: PackedFormat) -> Callable[[bytes, Path], None]:
    def read(octets: bytes, _: Path) -> None:
        for _bundle in stored.bundles_in(io.BytesIO(octets), "part", ()):
            pass

    return read


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "csv": read_manifest,
    "parquet": read_manifest,
    "csr": read_csr,
    "pem": read_pem,
    "record": read_as(read_record),
    "commit": read_as(read_commit),
    "tar": exhaust(TarFormat()),
    "bundles": exhaust(ParquetFormat()),
    "answer": read_answer,
}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, factory_pki: Path) -> dict[str, bytes]:
    """A good one of each."""
    folder = tmp_path_factory.mktemp("seeds")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        manifest = f'device_uuid,name,production\n{UUID},a,0\n{UUID[:-1]}c,"b, c",1\n'.encode()
        for name in ("dir", "tar", "parquet"):
            assert issue(manifest, "--pki", factory_pki, "--out", name, "--format", name).code == 0
    table = pa.table({"device_uuid": [UUID, UUID[:-1] + "c"], "name": ["a", None]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    rows = pa_csv.read_csv(folder / "parquet/manifest.csv")
    return {
        "csv": manifest,
        "parquet": sink.getvalue(),
        "csr": asking_csr(UUID),
        "pem": (folder / "dir/bundles" / UUID / "pkey.pem").read_bytes(),
        "record": (folder / "tar/run.json").read_bytes(),
        "commit": bytes(encode_commit(rows, [b"x"] * len(rows), "0" * 8)),
        "tar": (folder / "tar/bundles/part-00000.tar").read_bytes(),
        "bundles": (folder / "parquet/bundles/part-00000.parquet").read_bytes(),
        "answer": json.dumps({"msg": "no", "errors": {"a": ["hunter2-token", 1]}}).encode(),
    }


@pytest.mark.parametrize("target", TARGETS)
def test_no_octets_bring_a_reader_down(target: str, seeds: dict[str, bytes], tmp_path: Path) -> None:
    begin = time.time_ns() if SECONDS else 1
    deadline, count = time.monotonic() + SECONDS, 0
    while count < 300 or time.monotonic() < deadline:
        octets = mutated(seeds[target], Random(begin + count))
        count += 1
        print(f"seed {begin + count - 1}")
        said = "good"
        try:
            TARGETS[target](octets, tmp_path)
        except BatchIssuerError as error:
            said = str(error)
        assert said.isprintable()
    if SECONDS:
        tell(f"fuzz, {target}", count, 0)
