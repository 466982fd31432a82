"""Files that somebody made to bring the program down: refused in a sentence, within a bound of memory, nothing left."""

from __future__ import annotations

import json
import resource
import struct
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from judges import issue, run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable
    from pathlib import Path

UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
PEAK = 2_000_000_000
"""Octets: the bound of one call, what a plan may take beside it, and this program itself."""

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12
MOST, HUGE = (1 << 31) - 1, 1 << 62


def number(value: int) -> bytes:
    octets = b""
    while value > 127:
        octets += bytes([value & 127 | 128])
        value >>= 7
    return octets + bytes([value])


def struct_of(*fields: tuple[int, int, Any]) -> bytes:
    """A struct of Thrift's compact protocol, in which Parquet's metadata are."""
    octets, last = b"", 0
    for place, kind, value in fields:
        octets += bytes([place - last << 4 | kind])
        if kind in (I32, I64):
            octets += number(value << 1)
        else:
            octets += number(len(value)) + value if kind == BINARY else value
        last = place
    return octets + b"\0"


def list_of(kind: int, items: Iterable[bytes], claimed: int | None = None) -> bytes:
    items = list(items)
    return bytes([0xF0 | kind]) + number(len(items) if claimed is None else claimed) + b"".join(items)


def element(name: bytes, *, children: int | None = None) -> bytes:
    if children is not None:
        return struct_of((3, I32, 0), (4, BINARY, name), (5, I32, children))
    return struct_of((1, I32, 6), (3, I32, 0), (4, BINARY, name), (6, I32, 0))


SCHEMA = (element(b"schema", children=1), element(b"device_uuid"))


def parquet(body: bytes = b"", rows: int = 1, schema: bytes = list_of(STRUCT, SCHEMA), codec: int = 0) -> bytes:
    """A Parquet file of one column chunk, whose metadata say what they like."""
    paths = list_of(BINARY, [number(11) + b"device_uuid"])
    sizes = ((4, I32, codec), (5, I64, rows), (6, I64, rows), (7, I64, len(body)), (9, I64, 4))
    column = struct_of((1, I32, 6), (2, LIST, list_of(I32, [b"\0"])), (3, LIST, paths), *sizes)
    chunk = struct_of((2, I64, 4), (3, STRUCT, column))
    group = struct_of((1, LIST, list_of(STRUCT, [chunk])), (2, I64, rows), (3, I64, rows))
    footer = struct_of((1, I32, 1), (2, LIST, schema), (3, I64, rows), (4, LIST, list_of(STRUCT, [group])))
    return b"PAR1" + body + footer + struct.pack("<I", len(footer)) + b"PAR1"


def page(octets: int, stored: int, values: int, body: bytes) -> bytes:
    header = struct_of((1, I32, values), (2, I32, 0), (3, I32, 3), (4, I32, 3))
    return struct_of((1, I32, 0), (2, I32, octets), (3, I32, stored), (5, STRUCT, header)) + body


def long_value(path: Path) -> None:
    value = pa.array([bytes(1 << 27)], pa.binary())
    pq.write_table(pa.table({"device_uuid": [UUID], "x": value}), path, compression="zstd", use_dictionary=False)


def short_value(path: Path) -> None:
    pq.write_table(pa.table({"device_uuid": [UUID], "x": ["x" * (5 << 20)]}), path, compression="zstd")


def one_value_in_all_rows(path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * (4 << 20)]))
    uuids = [f"00000000-0000-4000-8000-{row:012d}" for row in range(20_000)]
    table = pa.table({"device_uuid": uuids, "x": column})
    pq.write_table(table, path, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 30)


def octets(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def deep(levels: int) -> bytes:
    schema = (element(b"schema", children=1), *[element(b"g", children=1)] * levels, element(b"device_uuid"))
    return parquet(schema=list_of(STRUCT, schema))


def wide(columns: int) -> bytes:
    names = ",".join(f"{place:x}" for place in range(columns))
    return f"device_uuid,{names}\n{UUID}\n".encode()


ASKS = "asks for more than 1.5 GB, or half of this machine's memory, at once"
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a page of 2 GB in 150 octets": (octets(parquet(page(MOST, MOST, MOST, bytes(10)), MOST)), ASKS),
    "a compressed page of 2 GB": (octets(parquet(page(MOST, 10, MOST, bytes(10)), MOST, codec=6)), ASKS),
    "rows without end": (octets(parquet(rows=HUGE)), "has no devices"),
    "a schema of 2^31 columns": (octets(parquet(schema=list_of(STRUCT, SCHEMA, MOST))), "Exceeded size limit"),
    "a root of 2^31 children": (octets(parquet(schema=list_of(STRUCT, [element(b"s", children=MOST)]))), "schema"),
    "a text of 2 GB": (octets(parquet(page(20, 20, 1, struct.pack("<I", MOST) + bytes(16)))), "BYTE_ARRAY"),
    "100,000 levels": (octets(deep(100_000)), "too deeply nested"),
    "128 MiB in 5 kB": (long_value, f"has 134217728 octets, expected at most {4 << 20}"),
    "a long cell": (short_value, f"row 1, column 'x' of the manifest has {5 << 20} octets, expected at most {4 << 20}"),
    "80 GB in 20,000 rows": (one_value_in_all_rows, ASKS),
    "a million columns": (octets(wide(1_000_000)), "has 1000001 columns, expected at most 1000"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_refused_within_a_bound(name: str, factory_pki: Path, tmp_path: Path) -> None:
    make, told = HOSTILE[name]
    manifest, out = tmp_path / "manifest", tmp_path / "out"
    make(manifest)
    ended, peak = measured(runs.issue_arguments(manifest, factory_pki, out, "-q"))
    assert ended.returncode == 2, ended.stderr
    assert told in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) <= 2
    assert not out.exists()
    assert peak < PEAK


def measured(arguments: list[str]) -> tuple[subprocess.CompletedProcess[str], int]:
    """How a command ended, and its peak of memory; without the bound it has 10 GB, and no more."""
    limit = (10 << 30, 10 << 30)
    code = "import resource, subprocess, sys\n"
    code += f"resource.setrlimit(resource.RLIMIT_AS, {limit})\n"
    code += "done = subprocess.run(sys.argv[1:])\n"
    code += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, end='')\nsys.exit(done.returncode)"
    ended = runs.run([arguments[0], "-c", code, *arguments])
    return ended, int(ended.stdout.splitlines()[-1]) * 1024


def test_without_its_bound_a_manifest_of_150_octets_takes_gigabytes(factory_pki: Path, tmp_path: Path) -> None:
    make, _ = HOSTILE["a page of 2 GB in 150 octets"]
    make(tmp_path / "manifest")
    unbounded = (
        "import batch_issuer.memory as m, sys; m.MOST_PER_CALL = 1 << 40; from batch_issuer.cli import main; main()"
    )
    arguments = runs.issue_arguments(tmp_path / "manifest", factory_pki, tmp_path / "out", "-q")
    ended, peak = measured([arguments[0], "-c", unbounded, *arguments[3:]])
    assert ended.returncode == 2
    assert peak > PEAK


def test_the_bound_is_gone_afterwards(work: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    pq.write_table(pa.table({"device_uuid": [UUID]}), "good.parquet")
    ran = run("issue", "--manifest", "good.parquet", "--pki", "pki", "--out", "issued", "--hardware-id", "hw", "-q")
    assert ran.code == 0
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_record_that_claims_parts_without_end_is_not_believed(work: Path) -> None:
    """Neither a list of their names nor a look for each of them."""
    assert issue(f"device_uuid\n{UUID}\n".encode(), "--out", "issued", "--pki", "pki").code == 0
    record = json.loads((work / "issued/run.json").read_bytes())
    record |= {"rows": HUGE, "accepted": HUGE, "part_size": 1}
    (work / "issued/run.json").write_text(json.dumps(record))
    assert run("verify", "issued", "--pki", "pki").code == 4
    (work / "issued/summary.json").unlink()
    assert run("verify", "issued", "--pki", "pki").code == 4
    assert run("extract", "issued", "--all", "--to", "to").code == 2
    assert not (work / "to").exists()


def test_a_part_that_unpacks_to_bundles_without_end_is_read_to_a_bound(work: Path) -> None:
    """Of 100 kB, which unpack to a gigabyte: two million folders."""
    options = ("--out", "issued", "--pki", "pki", "--format", "tar.zst")
    assert issue(f"device_uuid\n{UUID}\n".encode(), *options).code == 0
    folder = tarfile.TarInfo(f"{UUID}/")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o700
    part = work / "issued/bundles/part-00000.tar.zst"
    frame = pa.Codec("zstd").compress(folder.tobuf(tarfile.USTAR_FORMAT) * 2048, asbytes=True)
    part.write_bytes(frame * 1000)
    assert len(part.read_bytes()) < 200_000
    ended, peak = measured([sys.executable, "-m", "batch_issuer", "verify", "issued", "--pki", "pki", "--json"])
    assert ended.returncode == 4
    report, _ = json.JSONDecoder().raw_decode(ended.stdout)
    assert report["counts"]["bundle-unknown"] == 10_000
    told = "part-00000.tar.zst has more than 10,000 bundles without a row; 0 of its 1 devices were not reached"
    assert [finding["message"] for finding in report["findings"] if finding["code"] == "part-unreadable"] == [told]
    assert peak < PEAK / 4


@pytest.mark.parametrize(
    "content", [b"[" * 200_000, b'{"a":' * 200_000, b"\xff", b"[]", b"1" * 5000, b'{"format_version":"\\ud800"}']
)
def test_a_record_that_is_none_is_refused_by_all(content: bytes, work: Path) -> None:
    assert issue(f"device_uuid\n{UUID}\n".encode(), "--out", "issued", "--pki", "pki").code == 0
    (work / "issued/run.json").write_bytes(content)
    for command in (("verify", "issued", "--pki", "pki"), ("extract", "issued", "--all", "--to", "to")):
        ran = run(*command)
        assert ran.code == 2
        assert ran.err.startswith("error: issued/run.json ")
        assert "should not have happened" not in ran.err


def test_a_key_cut_off_after_its_second_line_is_a_finding(work: Path) -> None:
    """It once ended the worker that looked at it."""
    assert issue(f"device_uuid\n{UUID}\n".encode(), "--out", "issued", "--pki", "pki", "--format", "dir").code == 0
    key = work / "issued/bundles" / UUID / "pkey.pem"
    lines = key.read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        key.write_bytes(b"".join(lines[:kept]))
        ran = run("verify", "issued", "--pki", "pki")
        assert (ran.code, "[bundle-pem]" in ran.out + ran.err) == (4, True)
