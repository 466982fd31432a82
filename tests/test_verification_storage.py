"""Verification of how a run is stored: what a bundle, a part or the manifest has beside its content is seen too."""

from __future__ import annotations

import csv
import os
import re
import shutil
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from made_runs import DEVICES, PART_SIZE, UUIDS, MadeRun, Making, make_run
from made_runs import verify_sealed as verify
from mutants import Authority, make_authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.verification.run import Report

FORMATS = ("dir", "parquet", "tar", "tar.zst")
BLOCK = tarfile.BLOCKSIZE
MIB = 1 << 20


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def good_runs(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, MadeRun]:
    return {name: make_run(tmp_path_factory.mktemp("good") / "out", authority, name) for name in FORMATS}


@pytest.fixture
def dir_run(good_runs: dict[str, MadeRun], tmp_path: Path) -> MadeRun:
    return copy_of(good_runs["dir"], tmp_path)


@pytest.fixture
def parquet_run(good_runs: dict[str, MadeRun], tmp_path: Path) -> MadeRun:
    return copy_of(good_runs["parquet"], tmp_path)


@pytest.fixture
def tar_run(good_runs: dict[str, MadeRun], tmp_path: Path) -> MadeRun:
    return copy_of(good_runs["tar"], tmp_path)


def copy_of(run: MadeRun, tmp_path: Path) -> MadeRun:
    shutil.copytree(run.out, tmp_path / "out", symlinks=True)
    return replace(run, out=tmp_path / "out")


def told(report: Report) -> set[str]:
    return {finding.message for finding in report.findings}


@pytest.mark.parametrize("format_name", FORMATS)
def test_every_finding_ends_the_command_with_4(good_runs: dict[str, MadeRun], tmp_path: Path, format_name: str) -> None:
    from batch_issuer.cli.verify import verify as command_line

    run = copy_of(good_runs[format_name], tmp_path)
    assert CliRunner().invoke(command_line, [str(run.out)]).exit_code == 0
    run.out.chmod(0o770)
    result = CliRunner().invoke(command_line, [str(run.out)])
    assert result.exit_code == 4
    assert ".: the output folder's mode is 0770: others than its owner may change it [folder-mode]" in result.stderr


# A folder per device.


@pytest.mark.parametrize("name", ["pkey.pem", "client.pem", "root.crt", "sota.toml"])
def test_a_file_that_goes_on_past_what_is_read_of_it(dir_run: MadeRun, name: str) -> None:
    path = dir_run.folder.bundles / UUIDS[2] / name
    content = path.read_bytes()
    path.write_bytes(content + bytes(MIB + 1 - len(content)))
    report = verify(dir_run)
    assert report.counts == {"bundle-storage": 1, "bundle-file-missing": 1}
    assert any(message.endswith(f"{name} {UNREAD}: it is larger than any bundle's file") for message in told(report))


UNREAD = "is not a regular file that can be read"


def test_a_large_file_whose_first_mebibyte_is_right(dir_run: MadeRun) -> None:
    path = dir_run.folder.bundles / UUIDS[2] / "sota.toml"
    content = path.read_bytes()
    padded = content + b"#" * (MIB - len(content))
    path.write_bytes(padded)
    assert verify(dir_run).clean
    path.write_bytes(padded + b"\n[tls]\n")
    assert "bundle-storage" in verify(dir_run).counts


def test_a_key_that_has_another_name_elsewhere(dir_run: MadeRun, tmp_path: Path) -> None:
    os.link(dir_run.folder.bundles / UUIDS[0] / "pkey.pem", tmp_path / "kept")
    report = verify(dir_run)
    assert report.counts == {"bundle-storage": 1}
    assert told(report) == {f"{UUIDS[0]}/pkey.pem has 2 names in the file system, expected 1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_key_that_belongs_to_somebody_else(dir_run: MadeRun) -> None:
    folder = dir_run.folder.bundles / UUIDS[0]
    os.chown(folder / "pkey.pem", 12345, -1)
    report = verify(dir_run)
    assert report.counts == {"bundle-storage": 1}
    assert told(report) == {f"the owner of {UUIDS[0]}/pkey.pem is 12345, that of its folder {os.geteuid()}"}
    for place in (folder, *folder.iterdir()):
        os.chown(place, 12345, -1)
    assert verify(dir_run).clean


@pytest.mark.parametrize(("mode", "clean"), [(0o755, True), (0o750, True), (0o720, False), (0o702, False)])
def test_others_may_not_change_the_output_folder(
    good_runs: dict[str, MadeRun], tmp_path: Path, mode: int, clean: bool
) -> None:
    run = copy_of(good_runs["tar"], tmp_path)
    run.out.chmod(mode)
    assert verify(run).counts == ({} if clean else {"folder-mode": 1})


# Parquet parts.


def rewrite_part(run: MadeRun, change: Callable[[pa.Table], pa.Table], **options: Any) -> None:
    """Write the first part anew, changed; as the program writes it, but for the options."""
    path = run.folder.bundles / "part-00000.parquet"
    metadata = options.pop("metadata", {})
    with pq.ParquetFile(path) as file:
        table, root = file.read(), file.metadata.metadata
    table = change(table.replace_schema_metadata(None))
    usual: dict[str, Any] = {"compression": "none", "write_statistics": False, "store_schema": False}
    with pq.ParquetWriter(path, table.schema, **(usual | options)) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({name.decode(): text.decode() for name, text in root.items()} | metadata)


def test_a_part_written_anew_as_it_was_is_clean(parquet_run: MadeRun) -> None:
    rewrite_part(parquet_run, lambda table: table)
    assert verify(parquet_run).clean


@pytest.mark.parametrize("columns", [True, ["private_key"]])
def test_keys_in_a_parquet_footer(parquet_run: MadeRun, columns: Any) -> None:
    rewrite_part(parquet_run, lambda table: table, write_statistics=columns)
    octets = (parquet_run.folder.bundles / "part-00000.parquet").read_bytes()
    assert any(octets.count(key) > 1 for key in parquet_run.parts[0].private_keys if key)
    report = verify(parquet_run)
    assert report.counts == {"bundle-storage": PART_SIZE}
    assert all(re.search("repeats values in column statistics.*private_key", message) for message in told(report))


@pytest.mark.parametrize(
    "options", [{"metadata": {"pkey.pem": "-"}}, {"metadata": {"root.crt.old": ""}}, {"store_schema": True}]
)
def test_other_metadata_in_a_parquet_footer(parquet_run: MadeRun, options: dict[str, Any]) -> None:
    rewrite_part(parquet_run, lambda table: table, **options)
    report = verify(parquet_run)
    assert report.counts == {"bundle-storage": PART_SIZE}
    assert all("has metadata that does not belong there: '" in message for message in told(report))


SCHEMAS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "permuted": lambda table: table.select(["certificate", "private_key", "device_uuid", "sota_toml"]),
    "sota first": lambda table: table.select(["sota_toml", "device_uuid", "private_key", "certificate"]),
    "sota of numbers": lambda table: table.set_column(3, "sota_toml", pa.array([1] * len(table), pa.int64())),
    "sota of octets": lambda table: table.set_column(3, "sota_toml", table["sota_toml"].cast(pa.binary())),
    "sota twice": lambda table: table.append_column("sota_toml", table["sota_toml"]),
    "a key of text": lambda table: table.set_column(1, "private_key", table["device_uuid"]),
    "a column less": lambda table: table.drop_columns(["certificate"]),
    "a column more": lambda table: table.append_column("note", table["device_uuid"]),
}


@pytest.mark.parametrize("change", SCHEMAS.values(), ids=SCHEMAS)
def test_other_columns_in_a_parquet_part(parquet_run: MadeRun, change: Callable[[pa.Table], pa.Table]) -> None:
    rewrite_part(parquet_run, change)
    report = verify(parquet_run)
    assert report.counts == {"part-unreadable": 1}
    assert all("has another schema than a part of bundles" in message for message in told(report))


# Tar parts.


def edit_header(run: MadeRun, name: str, change: Callable[[bytearray], object]) -> None:
    """Change the second device's header of the member `name`, and its checksum with it."""
    path = run.folder.bundles / "part-00000.tar"
    octets = bytearray(path.read_bytes())
    start = octets.index(f"{UUIDS[1]}/{name}\0".encode())
    header = octets[start : start + BLOCK]
    change(header)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    octets[start : start + BLOCK] = header
    path.write_bytes(octets)


def put(place: int, octets: bytes) -> Callable[[bytearray], object]:
    return lambda header: header.__setitem__(slice(place, place + len(octets)), octets)


BASE_256 = b"\x80" + bytes(6) + b"\1\0\0\0\0\0"
HEADERS = {
    "mode": (put(100, b"0000644\0"), "the archived mode of pkey.pem is 0644, expected 0600"),
    "mode with kind": (put(100, b"0100600\0"), "the archived mode of pkey.pem is 100600, expected 0600"),
    "uid": (put(108, b"0001750\0"), "the archived owner of pkey.pem is 1000:0 with"),
    "gid": (put(116, b"0001750\0"), "the archived owner of pkey.pem is 0:1000 with"),
    "uid in base 256": (put(108, b"\xff" * 8), "the archived owner of pkey.pem is -1:0 with"),
    "mtime": (put(136, b"00000000001\0"), "the archived time of pkey.pem is 1, expected 0"),
    "mtime in base 256": (put(136, b"\xff" * 12), "the archived time of pkey.pem is -1, expected 0"),
    "uname": (put(265, b"mallory"), "the archived owner of pkey.pem is 0:0 with the names 'mallory' and ''"),
    "gname": (put(297, b"mallory"), "the archived owner of pkey.pem is 0:0 with the names '' and 'mallory'"),
    "linkname": (put(157, b"/etc/shadow"), "the archived header of pkey.pem has other octets"),
    "magic": (put(257, b"ustar  \0"), "the archived header of pkey.pem has other octets"),
    "after the name": (put(50, b"hidden"), "the archived header of pkey.pem has other octets"),
    "after the header": (put(500, b"hidden"), "the archived header of pkey.pem has other octets"),
    "size in base 256": (put(124, b"\x80" + bytes(10) + b"\xe3"), "the archived header of pkey.pem has other octets"),
    "old kind": (put(156, b"\0"), "kind"),
    "sparse": (put(156, b"S"), "kind"),
    "link": (put(156, b"1"), "kind"),
    "negative": (put(124, b"\xff" * 12), "size"),
    "huge": (put(124, BASE_256), "size"),
    "a mebibyte and one": (put(124, b"00004000001\0"), "size"),
}


@pytest.mark.parametrize(("change", "message"), HEADERS.values(), ids=HEADERS)
def test_another_header_in_a_tar(tar_run: MadeRun, change: Callable[[bytearray], object], message: str) -> None:
    edit_header(tar_run, "pkey.pem", change)
    report = verify(tar_run)
    if message in {"kind", "size"}:
        assert report.counts == {"part-unreadable": 1}
        assert all(f"of another {message}" in one or f"has another {message}" in one for one in told(report))
    else:
        assert report.counts == {"bundle-storage": 1}
        assert {finding.device_uuid for finding in report.findings} == {UUIDS[1]}
        assert all(one.startswith(message) for one in told(report))


def test_a_folder_with_content_in_a_tar(tar_run: MadeRun) -> None:
    edit_header(tar_run, "", put(124, b"00000001000\0"))
    assert verify(tar_run).counts == {"part-unreadable": 1}


def test_an_edited_header_with_its_old_values_is_clean(tar_run: MadeRun) -> None:
    edit_header(tar_run, "pkey.pem", put(100, b"0000600\0"))
    assert verify(tar_run).clean


@pytest.mark.parametrize("name", ["pkey.pem", "client.pem", "root.crt", "sota.toml"])
def test_octets_hidden_behind_a_file_in_a_tar(tar_run: MadeRun, name: str) -> None:
    path = tar_run.folder.bundles / "part-00000.tar"
    octets = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        member = archive.getmember(f"{UUIDS[1]}/{name}")
    assert member.size % BLOCK
    octets[member.offset_data + member.size - member.size % BLOCK + BLOCK - 1] = 1
    path.write_bytes(octets)
    report = verify(tar_run)
    assert report.counts == {"bundle-storage": 1}
    assert told(report) == {f"{name} is filled up to a whole block with other octets than zeros"}


def test_octets_behind_the_end_of_a_tar(tar_run: MadeRun) -> None:
    path = tar_run.folder.bundles / "part-00000.tar"
    os.truncate(path, path.stat().st_size + (1 << 40))  # a hole: what reads all of it has no memory left
    assert verify(tar_run).counts == {"part-unreadable": 1}


# The output manifest.


def rewrite_manifest(run: MadeRun, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(run.manifest)
    pq.write_table(change(table), run.manifest)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("format_name", FORMATS)
def test_certificates_that_are_not_in_the_manifest(
    authority: Authority, tmp_path: Path, format_name: str, kind: str
) -> None:
    run = make_run(
        tmp_path / "out", authority, format_name, Making({"with_certificates": True, "manifest_format": kind})
    )
    assert verify(run).clean
    without = make_run(tmp_path / "none", authority, format_name, Making({"manifest_format": kind}))
    without.folder.record.write_bytes(run.folder.record.read_bytes())
    report = verify(without)
    assert report.counts == {"row-certificate": DEVICES}
    assert told(report) == {"the row has no certificate_pem, and in this run every row has"}


@pytest.mark.parametrize("nothing", ["", None])
def test_one_certificate_that_is_not_in_the_manifest(authority: Authority, tmp_path: Path, nothing: str | None) -> None:
    run = make_run(
        tmp_path / "out", authority, "tar", Making({"with_certificates": True, "manifest_format": "parquet"})
    )

    def change(table: pa.Table) -> pa.Table:
        texts = table["certificate_pem"].to_pylist()
        texts[3] = nothing
        return table.set_column(table.column_names.index("certificate_pem"), "certificate_pem", pa.array(texts))

    rewrite_manifest(run, change)
    report = verify(run)
    assert report.counts == {"row-certificate": 1}
    assert report.findings[0].device_uuid == UUIDS[3]


def edit_csv(run: MadeRun, edit: Callable[[list[list[str]]], object]) -> None:
    with run.manifest.open(newline="") as file:
        rows = list(csv.reader(file))
    edit(rows)
    with run.manifest.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


HEADS: dict[str, Callable[[list[str], str], list[str]]] = {
    "a second device_uuid": lambda row, uuid: [*row, uuid],
    "two columns of another name": lambda row, _: [*row, "note", "note"],
    "swapped": lambda row, _: [row[1], row[0], *row[2:]],
    "one before": lambda row, _: ["note", *row],
    "one less": lambda row, _: [*row[:6], *row[7:]],
    "one between": lambda row, _: [*row[:7], "note", *row[7:]],
    "another name": lambda row, _: [row[0].replace("row", "Row"), *row[1:]],
    "a name without end": lambda row, _: [*row, "n" * (csv.field_size_limit() + 1)],
    "nothing": lambda _, __: [],
}


@pytest.mark.parametrize("edit", HEADS.values(), ids=HEADS)
def test_other_columns_in_a_csv_manifest(tar_run: MadeRun, edit: Callable[[list[str], str], list[str]]) -> None:
    def change(rows: list[list[str]]) -> None:
        uuids = ["device_uuid", *UUIDS[::-1]]
        rows[:] = [edit(row, uuid) for row, uuid in zip(rows, uuids, strict=True)]

    edit_csv(tar_run, lambda _: None)
    assert verify(tar_run).clean
    edit_csv(tar_run, change)
    assert set(verify(tar_run).counts) == {"manifest-unreadable", "manifest-count"}


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.select(table.column_names[::-1]),
        lambda table: table.append_column("device_uuid", table["device_uuid"]),
        lambda table: table.add_column(0, "note", table["device_uuid"]),
        lambda table: table.drop_columns(["bundle"]),
    ],
)
def test_other_columns_in_a_parquet_manifest(parquet_run: MadeRun, change: Callable[[pa.Table], pa.Table]) -> None:
    rewrite_manifest(parquet_run, change)
    assert set(verify(parquet_run).counts) == {"manifest-unreadable", "manifest-count"}


# Formulas.

FORMULAS = ["=x", "'=x", "''=x", "'x", "-x", "'-x", "@", "x", "'", "+1", "'+1", None]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("committed", [2, 3])
@pytest.mark.parametrize("safe", [True, False])
def test_formulas_of_rows_are_compared_as_they_were(
    authority: Authority, tmp_path: Path, safe: bool, committed: int, kind: str
) -> None:
    carried: dict[str, list[Any]] = {"hardware_id": FORMULAS, "tag": FORMULAS[::-1], "apps": FORMULAS}
    making = Making({"spreadsheet_safe": safe, "manifest_format": kind}, carried, committed=committed)
    run = make_run(tmp_path / "out", authority, "tar", making)
    assert set(verify(run).counts) == ({"run-unfinished"} if committed == 2 else set())


@pytest.mark.parametrize(
    ("wanted", "written"), [("=x", "=x"), ("=x", "''=x"), ("'=x", "'=x"), ("'=x", "'''=x"), ("'x", "x"), ("x", "'x")]
)
def test_another_text_than_that_of_a_formula(authority: Authority, tmp_path: Path, wanted: str, written: str) -> None:
    making = Making({"spreadsheet_safe": True}, {"hardware_id": [wanted] * DEVICES})
    run = make_run(tmp_path / "out", authority, "tar", making)
    assert verify(run).clean
    edit_csv(run, lambda rows: rows[3].__setitem__(rows[0].index("hardware_id"), written))
    # A formula that nobody neutralised reads as what it was; every other text is another one.
    assert verify(run).counts == ({} if (wanted, written) == ("=x", "=x") else {"bundle-sota": 1})


def test_flags_that_begin_as_formulas_do(authority: Authority, tmp_path: Path) -> None:
    making = Making({"spreadsheet_safe": True}, {"production": ["\ttrue"] * DEVICES})
    assert verify(make_run(tmp_path / "out", authority, "tar", making)).clean
