"""The plan's memory has a bound: whatever it is, duplicates and findings are exactly the same, and no file is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from array import array
from random import Random
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import runs
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import file_system
from pki import make_pki

from batch_issuer.batch.findings import Findings, RowSet
from batch_issuer.devices import Rejection
from batch_issuer.manifest.duplicates import UniqueKeys
from batch_issuer.scratch import Scratch, memory_of_this_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMORIES = (1, 700, 6_000, 60_000, 10**9)
"""From a bound that holds a row to one that holds all."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder)
    return folder


@pytest.fixture
def scratch_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for what memory does not hold, which must be empty at the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def put_in(keys: UniqueKeys, rows: list[int], values: list[bytes], step: int) -> None:
    for start in range(0, len(rows), step):
        keys.add_digests(array("q", rows[start : start + step]).tobytes(), b"".join(values[start : start + step]))


def oracle(rows: list[int], values: list[bytes]) -> tuple[list[tuple[int, bytes, int]], dict[bytes, int]]:
    first: dict[bytes, int] = {}
    for row, value in sorted(zip(rows, values, strict=True)):
        first.setdefault(value, row)
    pairs = sorted(zip(rows, values, strict=True))
    return [(row, value, first[value]) for row, value in pairs if first[value] != row], first


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    count=st.integers(0, 120),
    different=st.sampled_from([1, 2, 40, 1 << 60]),
    memory=st.sampled_from(MEMORIES),
    in_order=st.booleans(),
)
def test_duplicates_are_those_of_a_dict(seed: int, count: int, different: int, memory: int, in_order: bool) -> None:
    random = Random(seed)
    values = [random.randrange(different).to_bytes(16, "big") for _ in range(count)]
    rows = list(range(1, count + 1))
    if not in_order:
        random.shuffle(rows)
    keys = UniqueKeys("csr", Scratch(memory))
    put_in(keys, rows, values, step=7)
    again, first = oracle(rows, values)
    assert sorted(keys.again()) == again
    tables = [table.to_pydict() for table in keys.distinct()]
    found = [pair for table in tables for pair in zip(table["value"], table["row"], strict=True)]
    assert sorted(found) == sorted(first.items())
    assert len(keys) == count


@pytest.mark.parametrize("memory", [20_000, 200_000, 10**9])
@pytest.mark.parametrize("different", [1, 100, 19_000, 1 << 100])
def test_thousands_of_rows_on_disk(memory: int, different: int, scratch_folder: Path) -> None:
    """With one value in all rows a single partition is larger than memory, and is looked at piece by piece."""
    random = Random(different)
    values = [random.randrange(different).to_bytes(16, "big") for _ in range(20_000)]
    values[-1] = values[3]
    values[1001] = values[1000]
    rows = list(range(1, len(values) + 1))
    keys = UniqueKeys("csr", Scratch(memory, scratch_folder))
    put_in(keys, rows, values, step=333)
    again, _ = oracle(rows, values)
    assert {(1002, values[1000]), (20_000, values[3])} <= {(row, value) for row, value, _ in again}
    assert sorted(keys.again()) == again
    assert (keys.spilled > 0) == (memory < 10**9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), max_size=150), st.sampled_from([1, 50_000, 10**9]))
def test_findings_are_sorted_by_row_and_source_and_keep_their_order(added: list[tuple[int, int]], memory: int) -> None:
    findings = Findings(Scratch(memory))
    for place, (row, source) in enumerate(added):
        findings.add([Rejection(row, "naïve\n", '"', f"code-{source}", str(place))], source)
    wanted = sorted(((row, source, place) for place, (row, source) in enumerate(added)), key=lambda one: one[:2])
    for _ in range(2):
        assert [(one.row, one.code, one.message) for one in findings] == [
            (row, f"code-{source}", str(place)) for row, source, place in wanted
        ]
    assert list(findings.rows()) == [row for row, _, _ in wanted]
    assert len(findings) == len(added)


def test_findings_take_no_more_memory_than_they_may(scratch_folder: Path) -> None:
    findings = Findings(Scratch(2_000_000, scratch_folder))
    tracemalloc.start()
    try:
        findings.add(Rejection(50_000 - row, "id", "x" * 60, "uuid-malformed", "y" * 100) for row in range(50_000))
        assert sum(1 for _ in findings) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@given(st.lists(st.integers(1, 3000)))
def test_a_set_of_rows_is_a_set(rows: list[int]) -> None:
    found = RowSet()
    for row in rows:
        found.add(row)
    assert len(found) == len(set(rows))
    assert [row for row in range(3100) if row in found] == sorted(set(rows))


def test_scratch_files_have_no_name_and_are_private(scratch_folder: Path) -> None:
    (scratch_folder / "spill").write_bytes(b"of a plan that was killed")
    file = Scratch(1, scratch_folder).open()
    assert list(scratch_folder.iterdir()) == []
    file.append(b"abc")
    file.append(b"defg")
    assert (file.size, file.read(2, 4)) == (7, b"cdef")
    with pytest.raises(OSError, match=r"^a temporary file ends 1 octets too early$"):
        file.read(3, 5)
    fd = next(fd for fd in os.listdir("/proc/self/fd") if deleted(fd) == str(scratch_folder / "spill"))
    assert os.stat(f"/proc/self/fd/{fd}").st_mode & 0o777 == 0o600
    del file
    assert deleted(fd) is None


def deleted(fd: str) -> str | None:
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    return target.removesuffix(" (deleted)") if target.endswith(" (deleted)") else None


def test_the_memory_of_this_process_is_not_more_than_the_machine_has() -> None:
    assert 0 < memory_of_this_process() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    code = "from batch_issuer.scratch import memory_of_this_process as m; print(m())"
    limited = f"ulimit -v 3000000 && exec {sys.executable} -c '{code}'"
    assert subprocess.run(["sh", "-c", limited], capture_output=True, check=True).stdout == b"3072000000\n"


# The whole program


def manifest_with_faults(path: Path, count: int) -> None:
    """Every kind of finding of the plan, in many rows: more than 1 MB holds."""
    random = Random(3)
    rows = [f"{random.getrandbits(128):032x}" for _ in range(count)]
    rows = [f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in rows]
    rows[count - 1], rows[700] = rows[3], rows[699]
    for place in range(5, count, 9):
        rows[place] = "nope"
    for place in range(7, count, 8):
        rows[place] = rows[1]
    path.write_text("device_uuid\n" + "\n".join(rows) + "\n")


def test_rejects_and_manifest_are_the_same_whatever_the_memory(pki: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "devices.csv"
    manifest_with_faults(manifest, 30_000)
    made = []
    for memory in ("1MB", "1GB"):
        out = tmp_path / memory
        ran = runs.run(
            runs.issue_arguments(
                manifest, pki, out, "--format", "parquet", "--skip-rejects", "--plan-memory", memory, "--json"
            )
        )
        assert ran.returncode == 3, ran.stderr
        said = "looking for duplicates on disk: the rows are more than --plan-memory holds" in ran.stderr
        assert said == (memory == "1MB")
        assert not (out / ".run").exists()
        table = pq.read_table(out / "manifest.parquet") if (out / "manifest.parquet").exists() else None
        issued = table["device_uuid"].to_pylist() if table else (out / "manifest.csv").read_text().splitlines()
        rows = [line.split(",")[:2] for line in issued]
        made.append((rows, (out / "rejects.csv").read_bytes(), (out / "run.json").read_bytes().count(b"\n")))
    assert made[0] == made[1]
    assert made[0][1].count(b"\n") > 6_000
    checked = runs.run(["sh", "-c", f"cd {tmp_path}/1MB && sha256sum --check --quiet SHA256SUMS"])
    assert (checked.returncode, checked.stderr) == (0, "")


def test_all_findings_are_listed_as_json_whatever_the_memory(pki: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "devices.csv"
    manifest_with_faults(manifest, 20_000)
    told = []
    for memory in ("1MB", "1GB"):
        arguments = runs.issue_arguments(manifest, pki, tmp_path / "out", "--plan-memory", memory, "--json")
        ran = runs.run(arguments)
        assert ran.returncode == 3
        assert not (tmp_path / "out").exists()
        told.append(ran.stdout)
    assert told[0] == told[1]
    found = json.loads(told[0])
    assert told[0] == json.dumps(found, indent=2) + "\n"
    assert len(found["rejections"]) > 4_000


def test_a_dry_run_spills_where_temporary_files_go_and_leaves_none(pki: Path, tmp_path: Path) -> None:
    manifest, temporary = tmp_path / "devices.parquet", tmp_path / "temporary"
    temporary.mkdir()
    runs.write_manifest(manifest, 30_000)
    arguments = runs.issue_arguments(manifest, pki, tmp_path / "out", "--dry-run", "--plan-memory", "1MB")
    ran = runs.run(["env", f"TMPDIR={temporary}", *arguments])
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (
        0,
        "30,000 devices of 30,000 rows would be issued by local-ca of acme",
    )
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_a_dry_run_without_room_for_temporary_files_says_so(pki: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "devices.parquet"
    runs.write_manifest(manifest, 30_000)
    arguments = runs.issue_arguments(manifest, pki, tmp_path / "out", "--dry-run", "--plan-memory")
    with file_system(tmp_path / "disk", "size=64k,mode=700") as disk:
        ran = runs.run(["env", f"TMPDIR={disk}", *arguments, "1MB"])
        assert list(disk.iterdir()) == []
        assert runs.run(["env", f"TMPDIR={disk}", *arguments, "1GB"]).returncode == 0
    assert (ran.returncode, ran.stderr) == (
        2,
        f"error: the plan's temporary files cannot be written below {disk}: No space left on device\n"
        "hint: name another folder by TMPDIR, or give the plan more --plan-memory\n",
    )


def test_a_plan_without_room_for_what_memory_does_not_hold_leaves_nothing(pki: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "devices.csv"
    # Rejected for what they are, these rows are in no plan, and take room as findings alone.
    manifest.write_text("device_uuid\n" + "nope\n" * 20_000)
    with file_system(tmp_path / "disk", "size=512k,mode=700") as disk:
        ran = runs.run(
            runs.issue_arguments(manifest, pki, disk / "out", "--skip-rejects", "--plan-memory", "1MB", "-q")
        )
        assert list(disk.iterdir()) == []
    assert (ran.returncode, ran.stderr) == (
        2,
        f"error: the plan cannot be written below {disk}/out: No space left on device\n"
        "hint: make space, or take another --out\n",
    )


def test_a_plan_killed_between_two_steps_of_its_spill_is_followed_by_a_clean_one(pki: Path, tmp_path: Path) -> None:
    manifest, work = tmp_path / "devices.parquet", tmp_path / "out/.run"
    runs.write_manifest(manifest, 30_000)
    work.parent.mkdir(mode=0o700)
    work.mkdir(mode=0o700)
    (work / "spill").write_bytes(b"half")
    arguments = runs.issue_arguments(manifest, pki, tmp_path / "out", "--plan-memory", "1MB", "--format", "parquet")
    assert runs.run(arguments).returncode == 0
    assert not work.exists()


@pytest.mark.parametrize(
    ("size", "error"),
    [
        ("12", "expected a number and kB, MB, GB or TB, such as 512MB; got '12'"),
        ("1kB", "expected at least 1MB, got '1kB'"),
        ("-1MB", "expected a number and kB, MB, GB or TB, such as 512MB; got '-1MB'"),
    ],
)
def test_a_size_that_is_none_is_refused(size: str, error: str, tmp_path: Path) -> None:
    ran = runs.run(runs.issue_arguments(tmp_path / "x", tmp_path, tmp_path / "out", f"--plan-memory={size}"))
    assert ran.returncode == 2
    assert f"Error: Invalid value for '--plan-memory': {error}" in ran.stderr


def test_a_row_group_of_any_size_is_read_page_by_page(tmp_path: Path) -> None:
    """Its 64 MB are never in memory at once: neither as they are stored nor as values."""
    octets = Random(1).randbytes(64_000_000)
    column = pa.Array.from_buffers(pa.binary(16), len(octets) // 16, [None, pa.py_buffer(octets)])
    pq.write_table(pa.table({"id": column}), tmp_path / "m.parquet", row_group_size=len(column), use_dictionary=False)
    code = """
import resource, sys
from batch_issuer.manifest.reading import Manifest
from batch_issuer.manifest.rows import RowRules
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with Manifest(open(sys.argv[1], "rb"), "m", reserved=set()) as manifest:
    rows = manifest.rows(RowRules())
    read = next(rows).read
    before = peak()
    read += sum(checked.read for checked in rows)
    print(read, peak() - before)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.parquet")], check=True, capture_output=True, text=True
    )
    read, grown = map(int, ran.stdout.split())
    assert read == 4_000_000
    assert grown < 40_000
