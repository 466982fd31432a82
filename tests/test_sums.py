"""SHA256SUMS: coreutils accepts it, whatever was resumed; and whatever is changed afterwards is found and named."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from faults import InlineSupervisor
from judges import (
    FORMATS,
    HARDWARE,
    SMALL,
    csv_bytes,
    device_uuids,
    finished_run,
    interrupted_run,
    issue,
    parquet_bytes,
    run,
    summed,
)

import batch_issuer.verification.run

if TYPE_CHECKING:
    from collections.abc import Callable

UUIDS = device_uuids(8)
BAD = csv_bytes([*(f"{uuid},n{place}" for place, uuid in enumerate(UUIDS)), "x,last"], "device_uuid,name")
DEVICE_FILES = ("pkey.pem", "client.pem", "root.crt", "sota.toml")


@pytest.fixture(scope="module")
def good_runs(tmp_path_factory: pytest.TempPathFactory, factory_pki: Path) -> Path:
    """A run with rejects of each format."""
    folder = tmp_path_factory.mktemp("good")
    (folder / "devices.csv").write_bytes(BAD)
    for name in FORMATS:
        options = ("--manifest", folder / "devices.csv", "--pki", factory_pki, "--format", name, "--skip-rejects")
        assert run("issue", *options, *SMALL, *HARDWARE, "--out", folder / name).code == 3
    return folder


@pytest.fixture(autouse=True)
def good(work: Path, good_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory; verification in this process, whose workers other files test."""
    assert work == Path.cwd()
    (work / "good").symlink_to(good_runs)
    monkeypatch.setattr(batch_issuer.verification.run, "Supervisor", InlineSupervisor)


@pytest.fixture(params=FORMATS)
def bundle_format(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def issued(bundle_format: str) -> Path:
    """A run with rejects, at `issued`, to be damaged."""
    shutil.copytree(f"good/{bundle_format}", "issued")
    return Path("issued")


def findings() -> set[tuple[str, str]]:
    """Place and code of everything that is found."""
    ran = run("verify", "issued", "--pki", "pki", "--workers", "1", "--json")
    found = {(finding["place"], finding["code"]) for finding in json.loads(ran.out)["findings"]}
    assert ran.code == (4 if found else 0)
    return found


def sums(out: Path) -> list[str]:
    return (out / "SHA256SUMS").read_text().splitlines(keepends=True)


def rewrite(out: Path, lines: list[str]) -> None:
    (out / "SHA256SUMS").write_text("".join(lines))


def place(bundle_format: str) -> str:
    """A file in the middle of the bundles."""
    return f"bundles/{UUIDS[4]}/client.pem" if bundle_format == "dir" else f"bundles/part-00001.{bundle_format}"


def line_of(lines: list[str], path: str) -> int:
    [found] = [index for index, line in enumerate(lines) if line.endswith(f"  {path}\n")]
    return found


# What is written


def test_coreutils_accept_every_line_and_no_file_is_without_one(bundle_format: str) -> None:
    out = issued(bundle_format)
    assert summed(out)
    assert findings() == set()


def test_the_lines_stand_in_the_manifests_order_and_then_by_name(bundle_format: str) -> None:
    """So that no list of a million names is ever sorted; for packed parts it is the order of the names."""
    named = [line[66:-1] for line in sums(issued(bundle_format))]
    if bundle_format == "dir":
        bundles = [f"bundles/{uuid}/{name}" for uuid in UUIDS for name in DEVICE_FILES]
    else:
        bundles = [f"bundles/part-0000{index}.{bundle_format}" for index in range(3)]
        assert named == sorted(named)
    assert named == [*bundles, "manifest.csv", "rejects.csv", "report.html", "run.json", "summary.json"]


def test_a_changed_octet_fails_coreutils_too(bundle_format: str) -> None:
    out = issued(bundle_format)
    path = out / place(bundle_format)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert not summed(out)


def test_manifests_as_parquet_are_hashed_as_they_are_written() -> None:
    manifest = parquet_bytes(
        {"device_uuid": pa.array(UUIDS), "sums": pa.array(range(8)), "SHA256SUMS": pa.array(UUIDS)}
    )
    Path("devices.parquet").write_bytes(manifest)
    assert (
        run("issue", "--manifest", "devices.parquet", "--pki", "pki", "--format", "tar", "--part-size", "3").code == 0
    )
    assert summed(Path("issued"))
    assert findings() == set()


def test_a_resumed_run_knows_the_digests_of_parts_that_it_does_not_read(
    bundle_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come out of the commit records: what happened to a part meanwhile is seen, and not summed up anew."""
    interrupted_run(monkeypatch, csv_bytes(UUIDS), "--format", bundle_format, parts=2)
    path = Path("issued") / place(bundle_format)
    right = path.read_bytes()
    path.write_bytes(right[:-1] + b"!")
    assert issue(csv_bytes(UUIDS), "--format", bundle_format, "--resume").code == 0
    assert (place(bundle_format), "sums-digest") in findings()
    path.write_bytes(right)
    assert findings() == set()
    finished_run(Path("issued"), Path("pki"), UUIDS)


def test_a_commit_record_without_sums_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), "--format", "tar")
    record = Path("issued/.run/commits/part-00000.arrow")
    table = pa.ipc.open_file(record.read_bytes()).read_all()
    with pa.OSFile(str(record), "wb") as file, pa.ipc.new_file(file, table.schema.remove(table.num_columns - 1)) as new:
        new.write_table(table.remove_column(table.num_columns - 1))
    ran = issue(csv_bytes(UUIDS), "--format", "tar", "--resume")
    assert ran.code == 2
    assert "error: the commit record part-00000.arrow is damaged: " in ran.err
    assert not Path("issued/summary.json").exists()


# What verify finds: files


def test_a_changed_file_of_a_bundle_or_part(bundle_format: str) -> None:
    out = issued(bundle_format)
    path = out / place(bundle_format)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert (place(bundle_format), "sums-digest") in findings()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("manifest.csv", ",n3\n", ",n4\n"),
        ("rejects.csv", "got 'x'", "got 'y'"),
        ("summary.json", '"workers": 2', '"workers": 3'),
        ("run.json", '"devices.csv"', '"another.csv"'),
    ],
)
def test_a_change_that_nothing_else_would_see(bundle_format: str, name: str, old: str, new: str) -> None:
    out = issued(bundle_format)
    text = (out / name).read_text()
    assert text.count(old) == 1
    (out / name).write_text(text.replace(old, new))
    assert findings() == {(name, "sums-digest")}


def test_a_file_that_is_not_there(bundle_format: str) -> None:
    out = issued(bundle_format)
    (out / place(bundle_format)).unlink()
    assert (place(bundle_format), "sums-no-file") in findings()


def test_the_rejects_taken_away() -> None:
    out = issued("tar")
    (out / "rejects.csv").unlink()
    assert findings() == {
        ("rejects.csv", "sums-no-file"),
        ("rejects.csv", "folder-missing"),
        ("rejects.csv", "rejects-count"),
    }


def test_a_file_more(bundle_format: str) -> None:
    """It has no line, and no run puts it there."""
    out = issued(bundle_format)
    (out / "bundles/notes").mkdir()
    (out / "manifest.csv.bak").touch()
    (out / "SHA256SUMS.sig").touch()
    assert findings() == {
        ("bundles", "bundle-unknown"),
        ("manifest.csv.bak", "folder-unknown"),
        ("SHA256SUMS.sig", "folder-unknown"),
    }


# What verify finds: lines


def other_digit(line: str) -> str:
    return ("1" if line[0] == "0" else "0") + line[1:]


@pytest.mark.parametrize("name", ["a bundle", "manifest.csv", "rejects.csv", "report.html", "run.json", "summary.json"])
def test_a_changed_line(bundle_format: str, name: str) -> None:
    out = issued(bundle_format)
    path = place(bundle_format) if name == "a bundle" else name
    lines = sums(out)
    index = line_of(lines, path)
    lines[index] = other_digit(lines[index])
    rewrite(out, lines)
    assert findings() == {(path, "sums-digest")}


@pytest.mark.parametrize("name", ["a bundle", "manifest.csv", "rejects.csv", "report.html", "run.json", "summary.json"])
def test_a_line_less(bundle_format: str, name: str) -> None:
    out = issued(bundle_format)
    path = place(bundle_format) if name == "a bundle" else name
    lines = sums(out)
    del lines[line_of(lines, path)]
    rewrite(out, lines)
    assert findings() == {(path, "sums-no-line")}


def test_all_lines_of_the_last_device_less() -> None:
    """Where the parent looks for the end of a stretch, there is nothing."""
    out = issued("dir")
    rewrite(out, [line for line in sums(out) if UUIDS[-1] not in line])
    assert findings() == {(f"bundles/{UUIDS[-1]}/{name}", "sums-no-line") for name in DEVICE_FILES}


@pytest.mark.parametrize("index", [0, 2, -1])
def test_a_line_more(bundle_format: str, index: int) -> None:
    out = issued(bundle_format)
    lines = sums(out)
    lines.insert(index, f"{'0' * 64}  bundles/more\n")
    rewrite(out, lines)
    assert findings() == {("bundles/more", "sums-no-file")}


def test_a_line_twice(bundle_format: str) -> None:
    out = issued(bundle_format)
    lines = sums(out)
    lines.insert(1, lines[0])
    rewrite(out, lines)
    assert findings() == {(lines[0][66:-1], "sums-twice")}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line.upper(),
        lambda line: line.replace("  ", " *"),
        lambda line: line.replace("\n", "\r\n"),
        lambda line: "\\" + line,
        lambda line: line[:0] + "\n",
        lambda line: line.replace("  ", " "),
    ],
    ids=["upper case", "binary mark", "carriage return", "escape", "empty", "one blank"],
)
def test_a_line_of_another_form(bundle_format: str, spoil: Callable[[str], str]) -> None:
    out = issued(bundle_format)
    lines = sums(out)
    index = line_of(lines, place(bundle_format))
    lines[index] = spoil(lines[index])
    rewrite(out, lines)
    assert findings() == {("SHA256SUMS", "sums-line"), (place(bundle_format), "sums-no-line")}


def test_lines_in_another_order(bundle_format: str) -> None:
    out = issued(bundle_format)
    lines = sums(out)
    rewrite(out, lines[::-1])
    assert {code for _, code in findings()} <= {"sums-no-line", "sums-no-file"}
    assert findings()


def test_octets_that_are_no_text_at_all(bundle_format: str) -> None:
    out = issued(bundle_format)
    (out / "SHA256SUMS").write_bytes(bytes(range(256)) * 400)
    assert {code for _, code in findings()} == {"sums-line", "sums-no-line"}
    (out / "SHA256SUMS").write_bytes(b"")
    assert {code for _, code in findings()} == {"sums-no-line"}


def test_no_sums_at_all(bundle_format: str) -> None:
    out = issued(bundle_format)
    (out / "SHA256SUMS").rename("elsewhere")
    assert findings() == {("SHA256SUMS", "folder-missing")}
    (out / "SHA256SUMS").symlink_to(Path("elsewhere").absolute())
    assert findings() == {("SHA256SUMS", "folder-kind")}


def test_the_sums_of_another_run(bundle_format: str) -> None:
    out = issued(bundle_format)
    assert issue(BAD, "--skip-rejects", "--format", bundle_format, "--out", "other").code == 3
    shutil.copy("other/SHA256SUMS", out)
    beside = ("manifest.csv", "report.html", "run.json", "summary.json")
    assert {(name, "sums-digest") for name in (place(bundle_format), *beside)} <= findings()
    assert not summed(out)


def test_the_sums_of_an_unfinished_run_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finish that was killed leaves them; the next one writes them anew."""
    interrupted_run(monkeypatch, csv_bytes(UUIDS), "--format", "tar")
    Path("issued/SHA256SUMS").write_text("left over\n")
    Path("issued/SHA256SUMS").chmod(0o644)
    assert findings() == {("run.json", "run-unfinished")}
    assert issue(csv_bytes(UUIDS), "--format", "tar", "--resume").code == 0
    assert summed(Path("issued"))


def test_a_file_that_only_coreutils_would_read(bundle_format: str) -> None:
    """The order of bundles is this program's own; whoever sorts the lines has changed it, and coreutils do not mind."""
    out = issued(bundle_format)
    lines = sums(out)
    rewrite(out, sorted(lines))
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=out, check=False)
    assert done.returncode == 0
    of_bundles = [line for line in lines if "  bundles/" in line]
    if sorted(lines)[: len(of_bundles)] != of_bundles:
        assert findings() != set()


def test_a_dry_run_counts_the_sums_into_its_size() -> None:
    sizes = []
    for count in (1, 100):
        Path("devices.csv").write_bytes(csv_bytes(device_uuids(count)))
        ran = run("issue", "--manifest", "devices.csv", "--pki", "pki", "--hardware-id", "x", "--dry-run", "--json")
        sizes.append(json.loads(ran.out)["octets"])
    assert (sizes[1] - sizes[0]) // 99 > 5 * 4096 + 2 * 330 + 2 * 4 * 110
