"""What bad input gets: a clear sentence, a row and column, an exit code, and nothing lost or half-made."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from judges import (
    FORMATS,
    HARDWARE,
    SMALL,
    contents,
    csv_bytes,
    csv_rows,
    device_uuids,
    file_system,
    fill_before_the_first_key,
    finished_run,
    interrupted_run,
    issue,
    modes,
    parquet_bytes,
    refusal,
    run,
    run_process,
)
from pki import CA_FALSE, DAY, EXPIRED, NOW, key_pem, make_ca_dir, p256

if TYPE_CHECKING:
    from collections.abc import Callable

UUIDS = device_uuids(8)
GOOD = csv_bytes(UUIDS)
MEND = "mend them, or issue the others with --skip-rejects"
EXPECTED_UUID = "expected a UUID of 8-4-4-4-12 hexadecimal digits"
NO_UUID_COLUMN = (
    "the manifest has no UUID column; expected one of device_uuid, uuid, device_id, deviceid, id; its columns: "
)
HEADER_HINT = "the first line must be a header, such as: device_uuid,name"

pytestmark = pytest.mark.usefixtures("work")


# Manifests that are none


@pytest.mark.parametrize(
    ("content", "error", "hint"),
    [
        (b"", "the manifest devices.csv is empty", "it needs a header line, such as: device_uuid,name"),
        (b"device_uuid\n", "the manifest devices.csv has no devices: only a header", None),
        (b"name\nx\n", NO_UUID_COLUMN + "'name'", HEADER_HINT),
        (
            b"uuid,id\nx,y\n",
            "the manifest has more than one UUID column: 'uuid' and 'id'; expected exactly one",
            "rename those that are something else",
        ),
        (
            b"uuid,Name,name\nx,y,z\n",
            "columns 2 and 3 of the manifest have the same name 'name'",
            "every column needs a name of its own, without regard to case",
        ),
        (b"uuid,na\xffme\nx,y\n", "the manifest's header is not UTF-8", "save it again as CSV UTF-8"),
        ("uuid\nx\n".encode("utf-16"), "the manifest is UTF-16, expected UTF-8", "save it again as CSV UTF-8"),
        (
            csv_bytes([UUIDS[0], f'"{UUIDS[1]}', UUIDS[2]]),
            "row 2 of the manifest opens a quote that never closes",
            "look for a lone double quote in or after that row",
        ),
        (
            parquet_bytes({"uuid": pa.array([1, 2])}),
            "column 'uuid' of the manifest has type int64, expected text, UUID or 16-byte binary",
            None,
        ),
        (
            parquet_bytes({"uuid": pa.array(UUIDS)})[:-4],
            "the manifest is not a whole Parquet file: Parquet magic bytes not found in footer. "
            "Either the file is corrupted or this is not a parquet file",
            "copy or export it again: it may be cut off",
        ),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("options", [(), ("--skip-rejects",), ("--dry-run",)], ids=str)
def test_a_file_that_is_no_manifest(content: bytes, error: str, hint: str | None, options: tuple[str, ...]) -> None:
    refusal(issue(content, *options), 2, error, hint=hint)


def test_text_that_is_called_parquet() -> None:
    error = "the manifest devices.parquet is not a Parquet file: it begins with b'devi', expected b'PAR1'"
    refusal(issue(GOOD, name="devices.parquet"), 2, error, hint="if it is CSV, give it the suffix .csv")


def test_a_manifest_that_is_not_there() -> None:
    ran = run("issue", "--manifest", "nowhere.csv", *SMALL)
    refusal(ran, 2, "the manifest nowhere.csv cannot be opened: No such file or directory")


def test_a_manifest_that_is_a_pipe_is_refused_with_what_to_do() -> None:
    read, write = os.pipe()
    os.write(write, GOOD)
    os.close(write)
    ran = run("issue", "--manifest", f"/dev/fd/{read}", *SMALL)
    os.close(read)
    error = f"the manifest /dev/fd/{read} is not a regular file"
    refusal(ran, 2, error, hint="a pipe's content goes in by standard input: --manifest -")


def test_an_empty_standard_input() -> None:
    ran = run("issue", "--manifest", "-", *SMALL)
    refusal(ran, 2, "the manifest - is empty", hint="it needs a header line, such as: device_uuid,name")


def test_a_list_column_cannot_go_into_csv() -> None:
    columns = {"uuid": pa.array(UUIDS[:2]), "tests": pa.array([[1], [2, 3]])}
    ran = issue(parquet_bytes(columns), "--manifest-format", "csv")
    error = "column 'tests' of the manifest has type list<element: int64>, which CSV cannot hold"
    refusal(ran, 2, error, hint="take --manifest-format parquet")


# Rows that are rejected


@dataclass(frozen=True, slots=True)
class Bad:
    """A manifest of one bad row, the second of three, and what is said of it."""

    row: str
    code: str
    column: str
    value: str
    message: str
    header: str = "device_uuid,name"

    def manifest(self) -> bytes:
        tail = ",x" * self.header.count(",")
        return csv_bytes([UUIDS[0] + tail, self.row, UUIDS[2] + tail], self.header)

    @property
    def sentence(self) -> str:
        where = f"row 2, column {self.column!r}" if self.column else "row 2"
        return f"{where}: {self.message}"


def _malformed(cell: str, shown: str) -> Bad:
    return Bad(f'"{cell}",x', "uuid-malformed", "device_uuid", shown, f"{EXPECTED_UUID}, got '{shown}'")


BAD_ROWS = [
    _malformed("nope", "nope"),
    _malformed(f"{{{UUIDS[1]}}}", f"{{{UUIDS[1]}}}"),
    _malformed(f"urn:uuid:{UUIDS[1]}", f"urn:uuid:{UUIDS[1]}"),
    _malformed("../../../../../../../../etc/cron.d/x", "../../../../../../../../etc/cron.d/x"),
    _malformed(UUIDS[1] + "\0", UUIDS[1] + r"\x00"),
    _malformed(UUIDS[1] + "\n", UUIDS[1] + r"\n"),
    _malformed(UUIDS[1] + " ", UUIDS[1] + " "),
    _malformed("a" * 1_000_000, "a" * 60 + "… (1000000 characters)"),
    Bad(",x", "uuid-missing", "device_uuid", "", "expected a UUID, got nothing"),
    Bad(
        "00000000-0000-0000-0000-000000000000,x",
        "uuid-nil",
        "device_uuid",
        "00000000-0000-0000-0000-000000000000",
        "the nil UUID names no device",
    ),
    Bad(UUIDS[0] + ",x", "uuid-duplicate", "device_uuid", UUIDS[0], f"{UUIDS[0]} is in row 1 already"),
    Bad(UUIDS[0].upper() + ",x", "uuid-duplicate", "device_uuid", UUIDS[0], f"{UUIDS[0]} is in row 1 already"),
    Bad(UUIDS[1], "row-ragged", "", "1", "expected 2 cells as in the header, got 1"),
    Bad(UUIDS[1] + ",x,y", "row-ragged", "", "3", "expected 2 cells as in the header, got 3"),
    Bad(UUIDS[1] + ',"a"b"', "row-quotes", "", "", "its quotes cannot be read: ',' expected after '\"'"),
    Bad(
        UUIDS[1] + ",a\x01",
        "text-invalid",
        "hardware_id",
        r"a\x01",
        r"expected text of at most 1024 octets without control characters, got 'a\x01'",
        "device_uuid,hardware_id",
    ),
]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=lambda bad: f"{bad.code}-{bad.row[:20]!r}")
def test_one_bad_row_stops_the_run_before_the_first_key(bad: Bad) -> None:
    ran = issue(bad.manifest())
    finding = f"{bad.code}: {bad.sentence}"
    refusal(ran, 3, "1 of the manifest's 3 rows are rejected; nothing was issued", hint=MEND, findings=[finding])


@pytest.mark.parametrize("bad", BAD_ROWS, ids=lambda bad: f"{bad.code}-{bad.row[:20]!r}")
def test_skip_rejects_issues_the_others_and_writes_the_findings(bad: Bad, factory_pki: Path) -> None:
    ran = issue(bad.manifest(), "--skip-rejects")
    assert (ran.code, ran.err) == (3, "")
    finished_run(Path("issued"), factory_pki, [UUIDS[0], UUIDS[2]])
    assert csv_rows(Path("issued/rejects.csv")) == [
        {"row": "2", "column": bad.column, "value": bad.value, "code": bad.code, "message": bad.sentence}
    ]
    assert [row["row"] for row in csv_rows(Path("issued/manifest.csv"))] == ["1", "3"]
    assert ran.out.splitlines()[1].endswith(" rejected: issued/rejects.csv says why")


def test_broken_utf_8_in_a_cell(factory_pki: Path) -> None:
    manifest = b"\n".join([b"uuid,site", UUIDS[0].encode() + b",a", UUIDS[1].encode() + b",\xe4", b""])
    finding = "row-encoding: row 2, column 'site': it is not UTF-8"
    error = "1 of the manifest's 2 rows are rejected; nothing was issued"
    refusal(issue(manifest), 3, error, hint=MEND, findings=[finding])
    assert issue(manifest, "--skip-rejects").code == 3
    finished_run(Path("issued"), factory_pki, UUIDS[:1])


def test_nulls_in_parquet_and_values_that_are_no_uuid() -> None:
    manifest = parquet_bytes({"id": pa.array([UUIDS[0], None, "x"]), "production": pa.array([True, None, False])})
    findings = [
        "uuid-missing: row 2, column 'id': expected a UUID, got nothing",
        f"uuid-malformed: row 3, column 'id': {EXPECTED_UUID}, got 'x'",
    ]
    error = "2 of the manifest's 3 rows are rejected; nothing was issued"
    refusal(issue(manifest, name="devices.parquet"), 3, error, hint=MEND, findings=findings)


@pytest.mark.parametrize("column", ["uuid", "site", "hardware_id"])
def test_broken_utf_8_in_parquet(column: str) -> None:
    offsets, octets = pa.array([0, 36, 38], pa.int32()), UUIDS[0].encode() + b"\xff\xfe"
    broken = pa.Array.from_buffers(pa.string(), 2, [None, offsets.buffers()[1], pa.py_buffer(octets)])
    columns = {"uuid": pa.array(UUIDS[:2])} | {column: broken}
    ran = issue(parquet_bytes(columns), "--skip-rejects", name="devices.parquet")
    assert (ran.code, ran.err) == (3, "")
    (finding,) = csv_rows(Path("issued/rejects.csv"))
    assert finding["message"] == f"row 2, column {column!r}: it is not UTF-8"


def test_when_all_rows_are_rejected_skip_rejects_makes_nothing() -> None:
    findings = [f"uuid-malformed: row {row}, column 'device_uuid': {EXPECTED_UUID}, got 'x'" for row in (1, 2)]
    ran = issue(csv_bytes(["x", "x"]), "--skip-rejects")
    refusal(ran, 3, "all 2 rows of the manifest are rejected", findings=findings)


def test_twenty_findings_are_shown_and_json_lists_all() -> None:
    manifest = csv_bytes([*UUIDS, *["x"] * 30])
    findings = [f"uuid-malformed: row {row}, column 'device_uuid': {EXPECTED_UUID}, got 'x'" for row in range(9, 39)]
    error = "30 of the manifest's 38 rows are rejected; nothing was issued"
    shown = [*findings[:20], "… and 10 more; --json lists them all"]
    refusal(issue(manifest), 3, error, hint=MEND, findings=shown)
    told = json.loads(issue(manifest, "--json").out)
    assert (told["error"], told["hint"], told["exit_code"]) == (error, MEND, 3)
    assert [f"{one['code']}: {one['message']}" for one in told["rejections"]] == findings
    assert told["rejections"][0] | {"message": ""} == {
        "row": 9,
        "column": "device_uuid",
        "value": "x",
        "code": "uuid-malformed",
        "message": "",
    }


# The output folder


OTHER_OUT = "take another --out"


def test_a_folder_of_an_earlier_run_is_refused_and_left_alone() -> None:
    assert issue(GOOD).code == 0
    before = contents(Path("issued"))
    ran = issue(GOOD)
    assert ran.err == (
        "error: the output folder issued holds a finished run\nhint: --resume goes on with it, or take another --out\n"
    )
    assert ran.code == 2
    assert contents(Path("issued")) == before


def test_a_folder_that_is_not_empty_is_refused_and_left_alone() -> None:
    Path("issued").mkdir()
    Path("issued/notes.txt").write_text("mine")
    for options in ((), ("--resume",), ("--dry-run",)):
        ran = issue(GOOD, *options)
        assert ran.err == (
            "error: the output folder issued is not empty: it holds 'notes.txt'\n"
            "hint: take a new or empty folder for --out\n"
        )
        assert ran.code == 2
        assert list(contents(Path("issued"))) == ["notes.txt"]


def test_an_empty_folder_is_taken_and_left_empty_when_the_run_is_refused() -> None:
    Path("issued").mkdir()
    assert issue(b"").code == 2
    assert issue(csv_bytes(["x"])).code == 3
    assert contents(Path("issued")) == {}
    assert issue(GOOD).code == 0


def test_folders_above_are_made_and_gone_again_when_the_run_is_refused() -> None:
    assert issue(b"", "--out", "a/b/c").code == 2
    assert not Path("a").exists()
    assert issue(GOOD, "--out", "a/b/c").code == 0
    assert {Path(path).stat().st_mode & 0o777 for path in ("a", "a/b", "a/b/c")} == {0o700}


def test_a_folder_that_others_can_write_is_refused() -> None:
    Path("issued").mkdir()
    Path("issued").chmod(0o777)
    ran = issue(GOOD)
    assert ran.err == (
        f"error: the output folder issued can be written by others: its owner is {os.geteuid()}, its mode 0777\n"
        "hint: keys go there: take a folder of your own that nobody else can write\n"
    )
    assert ran.code == 2
    assert contents(Path("issued")) == {}


def test_a_folder_of_somebody_else_is_refused() -> None:
    Path("issued").mkdir()
    try:
        os.chown("issued", 12345, 12345)
    except PermissionError:
        pytest.skip("only root can give a folder away")
    ran = issue(GOOD)
    assert ran.err.startswith("error: the output folder issued can be written by others: its owner is 12345, its mode ")
    assert (ran.code, contents(Path("issued"))) == (2, {})


def test_a_file_in_the_place_of_the_folder() -> None:
    Path("issued").write_text("mine")
    ran = issue(GOOD)
    assert ran.code == 2
    assert "'issued' is a file" in ran.err
    refused = issue(GOOD, "--out", "issued/below")
    assert refused.err == "error: the output folder issued/below cannot be used: Not a directory\n"
    assert refused.code == 2
    assert Path("issued").read_text() == "mine"


def test_a_dangling_link_in_the_place_of_the_folder_is_not_followed() -> None:
    Path("issued").symlink_to("elsewhere")
    ran = issue(GOOD)
    assert (ran.code, ran.err) == (2, "error: the output folder issued cannot be made: File exists\n")
    assert not Path("elsewhere").exists()


def test_a_read_only_file_system() -> None:
    with file_system(Path("disk"), "size=4m,mode=700") as disk:
        (disk / "made").mkdir(mode=0o700)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        new = issue(GOOD, "--out", disk / "new")
        made = issue(GOOD, "--out", disk / "made")
        assert contents(disk) == {"made": ""}
    assert (new.code, new.err) == (2, "error: the output folder disk/new cannot be made: Read-only file system\n")
    assert (made.code, made.err) == (
        2,
        "error: the output folder disk/made cannot be written: Read-only file system\n",
    )


def test_a_path_for_temporary_files_that_is_too_long_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    Path("devices.csv").write_bytes(GOOD)
    ran = run_process("issue", "--manifest", "devices.csv", "--hardware-id", "imx8mm", "--out", "issued")
    assert (ran.code, ran.err) == (
        2,
        f"error: the folder of temporary files has too long a path for a socket in it: {long}\n"
        "hint: name a shorter one by TMPDIR\n",
    )
    assert not Path("issued").exists()
    assert list(long.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_without_the_right_to_write() -> None:
    Path("issued").mkdir(mode=0o500)
    ran = issue(GOOD)
    assert (ran.code, ran.err) == (2, "error: the output folder issued cannot be written: Permission denied\n")


def test_a_folder_in_use() -> None:
    Path("issued/.run").mkdir(parents=True)
    fd = os.open("issued/.run/run.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        before = contents(Path("issued"))
        for options in ((), ("--resume",)):
            ran = issue(GOOD, *options)
            assert ran.err == (
                "error: the output folder issued is in use by another run\n"
                "hint: wait for it to end, or take another --out\n"
            )
            assert (ran.code, contents(Path("issued"))) == (2, before)
    finally:
        os.close(fd)
    assert issue(GOOD).code == 0


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_a_file_system_that_is_too_small_is_refused_before_the_first_key(bundle_format: str) -> None:
    with file_system(Path("disk"), "size=256k,mode=700") as disk:
        ran = issue(csv_bytes(device_uuids(400)), "--out", disk / "issued", "--format", bundle_format)
        assert contents(disk) == {}
    pattern = (
        r"error: the output folder's file system has \d+\.\d kB free, and the run needs about \d+\.\d [kM]B\n"
        r"hint: make space, or take another --out\n"
    )
    assert re.fullmatch(pattern, ran.err), ran.err
    assert ran.code == 2


def test_a_file_system_with_too_few_inodes_is_refused_before_the_first_key() -> None:
    with file_system(Path("disk"), "size=64m,nr_inodes=60,mode=700") as disk:
        ran = issue(csv_bytes(device_uuids(40)), "--out", disk / "issued")
        assert contents(disk) == {}
        packed = issue(csv_bytes(device_uuids(40)), "--out", disk / "issued", "--format", "tar", "--part-size", "10")
    pattern = (
        r"error: the output folder's file system has \d+ inodes free, and the run needs \d+\n"
        r"hint: take --format tar or parquet, which need one per part\n"
    )
    assert re.fullmatch(pattern, ran.err), ran.err
    assert (ran.code, packed.code) == (2, 0)


def test_a_disk_that_is_full_while_the_plan_is_written() -> None:
    manifest = csv_bytes([f"{uuid},{'x' * 4000}" for uuid in device_uuids(100)], "device_uuid,note")
    with file_system(Path("disk"), "size=128k,mode=700") as disk:
        ran = issue(manifest, "--out", disk / "issued", "--format", "parquet")
        assert contents(disk) == {}
    assert ran.err == (
        "error: the plan cannot be written below disk/issued: No space left on device\n"
        "hint: make space, or take another --out\n"
    )
    assert ran.code == 2


@pytest.mark.parametrize("left", [0, 8, 40], ids=lambda left: f"{left}-kB-left")
@pytest.mark.parametrize("bundle_format", FORMATS)
def test_a_disk_that_fills_up_ends_resumable_and_loses_nothing(
    bundle_format: str, left: int, factory_pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuids = device_uuids(30)
    with file_system(Path("disk"), "size=4m,mode=700") as disk:
        options = ("--out", disk / "issued", "--format", bundle_format)
        with monkeypatch.context() as patch:
            fill_before_the_first_key(patch, disk, left=left << 10)
            full = issue(csv_bytes(uuids), *options)
        hint = "when that is mended, the same command with --resume goes on from here"
        assert re.fullmatch(rf"error: No space left on device(: .*)?\nhint: {hint}\n", full.err), full.err
        assert full.code == 1
        assert not (disk / "issued/manifest.csv").exists()
        before = contents(disk / "issued/bundles")
        again = issue(csv_bytes(uuids), *options, "--resume")
        (disk / "filler").unlink()
        resumed = issue(csv_bytes(uuids), *options, "--resume")
        assert (resumed.code, resumed.err) == (0, "")
        assert again.code in {0, 1}
        finished_run(disk / "issued", factory_pki, uuids)
        after = contents(disk / "issued/bundles")
        assert {path: after[path] for path in before} == before


# Links, and what else was planted, in an unfinished run


def test_an_unfinished_run_is_refused_without_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    before = contents(Path("issued"))
    ran = issue(GOOD)
    assert (ran.code, ran.err) == (
        2,
        "error: the output folder issued holds an unfinished run\n"
        "hint: --resume goes on with it, or take another --out\n",
    )
    assert contents(Path("issued")) == before


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_resume_issues_the_rest_and_touches_nothing_that_is_there(
    bundle_format: str, factory_pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_run(monkeypatch, GOOD, "--format", bundle_format)
    before = contents(Path("issued/bundles"))
    assert before
    ran = issue(GOOD, "--format", bundle_format, "--resume")
    assert (ran.code, ran.err) == (0, "")
    finished_run(Path("issued"), factory_pki, UUIDS)
    after = contents(Path("issued/bundles"))
    assert {path: after[path] for path in before} == before


def plant(path: Path, target: Path) -> dict[str, str]:
    target.mkdir()
    (target / "precious").write_text("mine")
    path.symlink_to(target.absolute())
    return contents(target)


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_a_link_planted_where_a_bundle_goes_is_never_followed(
    bundle_format: str, factory_pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_run(monkeypatch, GOOD, "--format", bundle_format)
    name = UUIDS[-1] if bundle_format == "dir" else f"part-00002.{bundle_format}"
    place, victim = Path("issued/bundles") / name, Path("victim")
    before = plant(place, victim)
    ran = issue(GOOD, "--format", bundle_format, "--resume")
    assert contents(victim) == before
    if ran.code:
        assert ran.err == (
            f"error: bundles/{name} is in place, and there is no commit record of its part: it is not issued again\n"
            "hint: restore the commit records in .run/commits, or move the bundles away\n"
        )
        assert (ran.code, place.is_symlink()) == (1, True)
        place.unlink()
        assert issue(GOOD, "--format", bundle_format, "--resume").code == 0
    finished_run(Path("issued"), factory_pki, UUIDS)
    assert contents(victim) == before


@pytest.mark.parametrize("bundle_format", FORMATS)
@pytest.mark.parametrize("name", ["bundles", ".run/staging", ".run/commits"])
def test_a_link_planted_where_a_folder_was_is_never_followed(
    name: str, bundle_format: str, factory_pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_run(monkeypatch, GOOD, "--format", bundle_format)
    place, victim = Path("issued") / name, Path("victim")
    place.rename("aside")
    before = plant(place, victim)
    ran = issue(GOOD, "--format", bundle_format, "--resume")
    assert (ran.code, ran.err) == (
        1,
        f"error: issued/{name} is not a folder of this run\nhint: move it away, then resume\n",
    )
    assert contents(victim) == before
    place.unlink()
    Path("aside").rename(place)
    assert issue(GOOD, "--format", bundle_format, "--resume").code == 0
    finished_run(Path("issued"), factory_pki, UUIDS)


def test_a_link_planted_as_the_runs_own_folder_is_never_followed() -> None:
    Path("issued").mkdir(mode=0o700)
    before = plant(Path("issued/.run"), Path("victim"))
    ran = issue(GOOD)
    assert contents(Path("victim")) == before
    assert (ran.code, ran.err) == (2, "error: the output folder issued cannot be written: Not a directory\n")


def test_links_planted_as_files_of_the_run_are_never_followed(
    factory_pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_run(monkeypatch, GOOD)
    Path("victim").write_text("precious")
    names = ["manifest", "manifest.new", f".summary.json.{os.getpid()}.new", "plan.again"]
    for path in [Path("issued/.run") / name for name in names]:
        path.unlink(missing_ok=True)
        path.symlink_to(Path("victim").absolute())
    for name in ("manifest.csv", "summary.json.link"):
        Path("issued", name).symlink_to(Path("victim").absolute())
    ran = run("issue", "--manifest", "-", *SMALL, *HARDWARE, "--resume", stdin=GOOD)
    assert Path("victim").read_text() == "precious"
    assert (ran.code, ran.err) == (0, "")
    Path("issued/summary.json.link").unlink()
    finished_run(Path("issued"), factory_pki, UUIDS)


def test_a_plan_that_was_killed_half_way_leaves_nothing_in_the_way(factory_pki: Path) -> None:
    Path("issued/.run").mkdir(parents=True, mode=0o700)
    for name in ("plan.arrow", "plan.again", "manifest", f".run.json.{os.getpid()}.new"):
        Path("issued/.run", name).write_bytes(b"left")
    ran = issue(csv_bytes([*UUIDS, UUIDS[0]]), "--skip-rejects")
    assert (ran.code, ran.err) == (3, "")
    finished_run(Path("issued"), factory_pki, UUIDS)


# What changed between run and resume


def test_another_manifest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    before = contents(Path("issued/bundles"))
    ran = issue(GOOD.replace(b"0000", b"1000", 1), "--resume")
    digest = "[0-9a-f]{64}"
    assert re.fullmatch(
        rf"error: the manifest is not the one that the run began with: SHA-256 {digest}, expected {digest}\n"
        r"hint: give it the manifest it began with, or issue the new one into another folder\n",
        ran.err,
    ), ran.err
    assert (ran.code, contents(Path("issued/bundles"))) == (2, before)
    assert issue(GOOD, "--resume").code == 0


def test_the_same_manifest_under_another_name_is_the_same(factory_pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    assert issue(GOOD, "--resume", name="copy.csv").code == 0
    finished_run(Path("issued"), factory_pki, UUIDS)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--format", "tar"), "format was dir, now tar"),
        (("--part-size", "4"), "part_size was 3, now 4"),
        (("--days", "31"), "days was 30, now 31"),
        (("--backdate", "2h"), "backdate was 3600, now 7200"),
        (("--production",), "production was False, now True"),
        (("--hardware-id", "other"), "hardware_id was imx8mm, now other"),
        (("--tag", "main"), "tag was none, now main"),
        (("--gateway", "g.example"), "gateway was gw.example.com:8443, now g.example:8443"),
        (("--ostree", "o.example:1"), "ostree was gw.example.com:8443, now o.example:1"),
        (("--skip-rejects",), "skip_rejects was False, now True"),
        (("--manifest-format", "parquet"), "manifest_format was csv, now parquet"),
        (("--with-certificates",), "with_certificates was False, now True"),
        (("--spreadsheet-safe",), "spreadsheet_safe was False, now True"),
        (("--tag", "a", "--days", "29"), "days was 30, now 29, tag was none, now a"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_another_option_is_refused_by_name(option: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    before = contents(Path("issued/bundles"))
    ran = issue(GOOD, "--resume", *option)
    if "gateway" in told:  # the ostree host follows the gateway
        told += ", ostree was gw.example.com:8443, now g.example:8443"
    assert ran.err == (
        f"error: the run began otherwise: {told}\nhint: resume with the options it began with; run.json has them all\n"
    )
    assert (ran.code, contents(Path("issued/bundles"))) == (2, before)


def test_another_ca_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    ran = issue(GOOD, "--resume", "--gateway", "gw.example.com", "--pki", make_ca_dir(tmp_path / "other"))
    assert ran.code == 2
    assert ran.err == (
        "error: the run began otherwise: ca_certificate is another, root_certificate is another\n"
        "hint: resume with the options it began with; run.json has them all\n"
    )


def test_workers_may_change(factory_pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    assert issue(GOOD, "--resume", "--workers", "3").code == 0
    finished_run(Path("issued"), factory_pki, UUIDS)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda text: text[:40], "error: issued/run.json is damaged: "),
        (lambda _: "[]", "error: issued/run.json is damaged: "),
        (lambda _: "{}", "error: issued/run.json is damaged: "),
        (lambda text: text.replace('"days": 30', '"days": "30"'), "error: issued/run.json is damaged: days is of the"),
        (
            lambda text: text.replace('"part_size": 3', '"part_size": 0'),
            "error: issued/run.json is damaged: its counts",
        ),
        (
            lambda text: text.replace('"format_version": 1', '"format_version": 2'),
            "error: issued/run.json has format version 2, expected 1\n"
            "hint: use the version of batch-issuer that began this run\n",
        ),
    ],
)
def test_a_damaged_record_is_refused(damage: Callable[[str], str], error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    record = Path("issued/run.json")
    record.write_text(damage(record.read_text()))
    ran = issue(GOOD, "--resume")
    assert ran.err.startswith(error)
    assert ran.code == 2


def test_a_damaged_commit_record_is_named_and_no_device_is_issued_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, GOOD)
    Path("issued/.run/commits/part-00000.arrow").write_bytes(b"ARROW1 and then nothing")
    before = contents(Path("issued/bundles"))
    ran = issue(GOOD, "--resume")
    assert re.fullmatch(
        r"error: the commit record part-00000\.arrow is damaged: [^\n]*\nhint: restore it from a backup\n", ran.err
    ), ran.err
    assert ran.code != 0
    after = contents(Path("issued/bundles"))
    assert {path: after[path] for path in before} == before


# The CA


def test_a_directory_that_is_no_pki() -> None:
    hint = "--pki names another one; `batch-issuer ca create DIR --factory NAME` makes one"
    refusal(issue(GOOD, "--pki", "nowhere"), 2, "the PKI directory nowhere does not exist", hint=hint)
    Path("bare").mkdir()
    refusal(
        issue(GOOD, "--pki", "bare"),
        2,
        "the PKI directory bare lacks factory_ca.pem, local-ca.pem, local-ca.key",
        hint="--pki names another directory, --ca-name another device CA in it",
    )


def test_a_key_that_does_not_match(tmp_path: Path) -> None:
    make_ca_dir(tmp_path / "other", key_text=key_pem(p256()))
    error = "local-ca.key must be the key of local-ca.pem; its signature does not verify with that certificate"
    refusal(issue(GOOD, "--pki", "other"), 2, error)


def test_a_ca_that_has_expired(tmp_path: Path) -> None:
    make_ca_dir(tmp_path / "other", ca_window=EXPIRED)
    ran = issue(GOOD, "--pki", "other")
    until = f"{EXPIRED[1]:%Y-%m-%d %H:%M:%S} UTC"
    error, hint = ran.err.splitlines()
    assert re.fullmatch(rf"error: local-ca\.pem was valid until {until}; it is [-0-9 :]+ UTC", error)
    refusal(ran, 2, error.removeprefix("error: "), hint=hint.removeprefix("hint: "))


def test_certificates_that_are_no_cas(tmp_path: Path) -> None:
    make_ca_dir(tmp_path / "leaf", ca_constraints=CA_FALSE)
    error = "local-ca.pem must be a CA's certificate, with basicConstraints CA:TRUE; it has CA:FALSE"
    refusal(issue(GOOD, "--pki", "leaf"), 2, error)
    make_ca_dir(tmp_path / "signs", ca_usage=("digital_signature",))
    error = "local-ca.pem must be allowed to sign certificates; its keyUsage lacks keyCertSign"
    refusal(issue(GOOD, "--pki", "signs"), 2, error)
    make_ca_dir(tmp_path / "stranger", ca_signer=p256())
    error = "local-ca.pem must be signed by the key of factory_ca.pem; its signature is not"
    refusal(issue(GOOD, "--pki", "stranger"), 2, error)


def test_a_key_that_others_can_read_is_warned_about(tmp_path: Path) -> None:
    pki = make_ca_dir(tmp_path / "other", key_mode=0o644)
    ran = issue(GOOD, "--pki", "other", "--gateway", "g.example")
    assert (ran.code, ran.err) == (
        0,
        "warning: local-ca.key must be its owner's alone, mode 0400; it has mode 0644\n",
    )
    finished_run(Path("issued"), pki, UUIDS)


ENCRYPTED_HINT = "give its passphrase by --ca-passphrase-file or $BATCH_ISSUER_CA_PASSPHRASE"


@pytest.fixture
def locked_pki(tmp_path: Path) -> Path:
    key = p256()
    text = key_pem(key, passphrase=b"open sesame", pkcs8=True)
    return make_ca_dir(tmp_path / "locked", ca_key=key, key_text=text)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_an_encrypted_key_is_opened_by_the_passphrase_in_a_file(end: str, locked_pki: Path) -> None:
    Path("passphrase").write_bytes(b"open sesame" + end.encode())
    ran = issue(GOOD, "--pki", locked_pki, "--gateway", "g.example", "--ca-passphrase-file", "passphrase")
    assert (ran.code, ran.err) == (0, "")
    finished_run(Path("issued"), locked_pki, UUIDS)


def test_an_encrypted_key_is_opened_by_the_passphrase_in_the_environment(
    locked_pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_ISSUER_CA_PASSPHRASE", "open sesame")
    ran = issue(GOOD, "--pki", locked_pki, "--gateway", "g.example")
    assert (ran.code, ran.err) == (0, "")
    finished_run(Path("issued"), locked_pki, UUIDS)


def test_an_encrypted_key_without_its_passphrase(locked_pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = "the CA's key local-ca.key is encrypted, and there is no passphrase"
    hint = "give it by --ca-passphrase-file or $BATCH_ISSUER_CA_PASSPHRASE"
    refusal(issue(GOOD, "--pki", locked_pki), 2, error, hint=hint)
    Path("passphrase").write_text("open says me")
    wrong = "local-ca.key cannot be decrypted with the passphrase that was given"
    ran = issue(GOOD, "--pki", locked_pki, "--ca-passphrase-file", "passphrase")
    refusal(ran, 2, wrong, hint=ENCRYPTED_HINT)
    monkeypatch.setenv("BATCH_ISSUER_CA_PASSPHRASE", "")
    refusal(issue(GOOD, "--pki", locked_pki), 2, wrong, hint=ENCRYPTED_HINT)
    ran = issue(GOOD, "--pki", locked_pki, "--ca-passphrase-file", "nowhere")
    refusal(ran, 2, "the passphrase file nowhere cannot be read: No such file or directory")


def test_an_encrypted_key_asks_for_its_passphrase_on_a_terminal(locked_pki: Path) -> None:
    Path("devices.csv").write_bytes(GOOD)
    ours, theirs = os.openpty()
    program = [sys.executable, "-m", "batch_issuer", "issue", "--manifest", "devices.csv", "--pki", str(locked_pki)]
    process = subprocess.Popen(
        ["timeout", "60", *program, *SMALL, *HARDWARE, "--gateway", "g.example"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        assert process.stderr is not None
        prompt = process.stderr.read(len("Passphrase of local-ca.key: "))
        os.write(ours, b"open sesame\n")
        out, err = process.communicate()
    os.close(theirs)
    os.set_blocking(ours, False)
    shown = b""
    with suppress(BlockingIOError, OSError):
        shown = os.read(ours, 1000)
    os.close(ours)
    assert (process.returncode, prompt, err.strip()) == (0, b"Passphrase of local-ca.key: ", b"")
    assert b"sesame" not in shown + out
    finished_run(Path("issued"), locked_pki, UUIDS)


def test_days_beyond_the_ca_are_clamped_with_a_warning(tmp_path: Path) -> None:
    pki = make_ca_dir(tmp_path / "other", ca_window=(NOW - DAY, NOW + 10 * DAY))
    ran = issue(GOOD, "--pki", "other", "--gateway", "g.example", "--days", "3650")
    end = f"{NOW + 10 * DAY:%Y-%m-%d}"
    assert re.fullmatch(
        rf"warning: --days 3650 would end on \d{{4}}-\d\d-\d\d, after local-ca itself: "
        rf"certificates end with it, on {end}\n",
        ran.err,
    ), ran.err
    assert ran.code == 0
    leaves = finished_run(Path("issued"), pki, UUIDS)
    assert len(leaves) == len(UUIDS)
    assert {row["not_after"] for row in csv_rows(Path("issued/manifest.csv"))} == {
        f"{NOW + 10 * DAY:%Y-%m-%d %H:%M:%SZ}"
    }


def test_backdating_stops_at_the_begin_of_the_ca(tmp_path: Path) -> None:
    make_ca_dir(tmp_path / "other", ca_window=(NOW - DAY, NOW + 100 * DAY))
    assert issue(GOOD, "--pki", "other", "--gateway", "g.example", "--backdate", "30d").code == 0
    rows = csv_rows(Path("issued/manifest.csv"))
    assert {row["not_before"] for row in rows} == {f"{NOW - DAY:%Y-%m-%d %H:%M:%SZ}"}


def test_refused_runs_leave_modes_and_times_of_the_working_directory_alone(work: Path) -> None:
    Path("devices.csv").write_bytes(b"")
    before = modes(work)
    for content in (b"", csv_bytes(["x"]), b"uuid,id\n"):
        issue(content)
        assert modes(work) == before
