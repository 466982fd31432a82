"""Verification of whole runs: what is right has no finding, and each damage has its own."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding
from made_runs import DEVICES, PART_SIZE, ROWS, UUIDS, MadeRun, Making, make_run
from made_runs import verify_sealed as verify
from mutants import Authority, make_authority

import batch_issuer.verification
from batch_issuer.bundles.contents import PartBundles, certificate_pem, private_key_pem
from batch_issuer.devices import CertificateDer, Sec1Der
from batch_issuer.errors import AuthorityError, OutputError
from batch_issuer.minting.keys import OpenSSLKeys
from batch_issuer.verification.anchors import Anchors, read_anchors
from batch_issuer.verification.finding import MOST_KEPT, MOST_OF_ONE, Fault, Finding, Findings

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("dir", "parquet", "tar", "tar.zst")
PACKED = ("parquet", "tar", "tar.zst")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def good_runs(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, MadeRun]:
    return {name: make_run(tmp_path_factory.mktemp("good") / "out", authority, name) for name in FORMATS}


@pytest.fixture(params=FORMATS)
def run(request: pytest.FixtureRequest, good_runs: dict[str, MadeRun], tmp_path: Path) -> MadeRun:
    """A good run of its own for each format, to be damaged."""
    return copy_of(good_runs[request.param], tmp_path)


@pytest.fixture(params=PACKED)
def packed_run(request: pytest.FixtureRequest, good_runs: dict[str, MadeRun], tmp_path: Path) -> MadeRun:
    return copy_of(good_runs[request.param], tmp_path)


def copy_of(run: MadeRun, tmp_path: Path) -> MadeRun:
    shutil.copytree(run.out, tmp_path / "out", symlinks=True)
    return replace(run, out=tmp_path / "out")


def codes(run: MadeRun, **options: Any) -> set[str]:
    return set(verify(run, **options).counts)


def rewrite(run: MadeRun, old: bytes, new: bytes) -> None:
    """Replace octets wherever they are in the bundles, packed or not; modes stay."""
    assert len(old) == len(new)
    changed, codec = 0, "zstd" if run.record.format == "tar.zst" else None
    for path in run.folder.bundles.rglob("*"):
        if path.is_file():
            with pa.input_stream(str(path), compression=codec) as stream:
                octets = stream.read()
            if old in octets:
                with pa.output_stream(str(path), compression=codec) as stream:
                    stream.write(octets.replace(old, new))
                changed += 1
    assert changed


def flipped(octets: bytes, place: int) -> bytes:
    place %= len(octets)
    return octets[:place] + bytes([octets[place] ^ 1]) + octets[place + 1 :]


def as_stored(run: MadeRun, pem: Callable[[Any], bytes], der: bytes) -> bytes:
    return der if run.record.format == "parquet" else pem(der)


def edit_manifest(run: MadeRun, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the rows of a manifest; in CSV every value is text."""
    if run.record.manifest_format == "parquet":
        table = pq.read_table(run.manifest)
        rows = table.to_pylist()
        edit(rows)
        pq.write_table(type(table).from_pylist(rows, table.schema), run.manifest)
        return
    header, *lines = run.manifest.read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    edit(rows)
    text = [header, *(",".join(map(str, row.values())) for row in rows)]
    run.manifest.write_text("\n".join(text) + "\n")


def set_value(name: str, value: Callable[[Any], Any], row: int = 2) -> Callable[[list[dict[str, Any]]], None]:
    def edit(rows: list[dict[str, Any]]) -> None:
        rows[row][name] = value(rows[row][name])

    return edit


def flip_digit(text: str) -> str:
    return text[:-1] + ("1" if text[-1] == "0" else "0")


def test_a_good_run_has_no_finding(run: MadeRun) -> None:
    done: list[int] = []
    report = verify(run, progress=done.append, workers=2)
    assert report.counts == {}
    assert report.findings == ()
    assert report.clean
    assert report.complete
    assert (report.devices, report.expected, report.parts, report.expected_parts) == (DEVICES, DEVICES, 3, 3)
    assert sum(done) == DEVICES


def test_a_good_run_may_be_checked_against_what_it_recorded_itself(run: MadeRun) -> None:
    assert codes(run, anchors=None) == set()


def per_row(count: int = DEVICES) -> dict[str, list[Any]]:
    return {
        "name": [f'device "{index}", one' for index in range(count)],
        "hardware_id": [("rpi4", "", None)[index % 3] for index in range(count)],
        "tag": [("-b", "ö", None)[index % 3] for index in range(count)],
        "apps": [("a,b", None)[index % 2] for index in range(count)],
        "production": [(True, False, None)[index % 3] for index in range(count)],
    }


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_rows_say_for_themselves_is_what_their_bundles_must_have(
    authority: Authority, tmp_path: Path, format_name: str, kind: str
) -> None:
    values = {"manifest_format": kind, "production": True, "spreadsheet_safe": True, "with_certificates": True}
    run = make_run(tmp_path / "out", authority, format_name, Making(values, per_row()))
    assert codes(run) == set()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("production", "false", "certificate-subject"),
        ("production", "yes", "row-production"),
        ("hardware_id", "rpi5", "bundle-sota"),
        ("tag", "other", "bundle-sota"),
        ("tag", "", "bundle-sota"),
    ],
)
def test_another_value_in_a_row_is_found(
    authority: Authority, tmp_path: Path, name: str, value: str, code: str
) -> None:
    carried = {"production": ["true"] * DEVICES, "hardware_id": ["rpi4"] * DEVICES, "tag": ["t"] * DEVICES}
    run = make_run(tmp_path / "out", authority, "tar", Making(carried=carried))
    edit_manifest(run, set_value(name, lambda _: value))
    report = verify(run)
    assert report.counts == {code: 1}
    assert report.findings[0].row == ROWS[2]
    assert report.findings[0].device_uuid == UUIDS[2]


def test_a_run_without_gateway_has_no_sota_toml(authority: Authority, tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", authority, "dir", Making({"gateway": None, "ostree": None}))
    assert codes(run) == set()
    place = run.folder.bundles / UUIDS[0] / "sota.toml"
    place.write_text("")
    place.chmod(0o600)
    assert codes(run) == {"bundle-file-unexpected"}


def test_another_certificate_in_the_manifest_is_found(authority: Authority, tmp_path: Path) -> None:
    values = {"with_certificates": True, "manifest_format": "parquet"}
    run = make_run(tmp_path / "out", authority, "tar", Making(values))
    other = certificate_pem(run.parts[0].certificates[0]).decode()
    edit_manifest(run, set_value("certificate_pem", lambda _: other))
    assert codes(run) == {"row-certificate"}


# Damage to bundles.


def test_two_keys_swapped(authority: Authority, tmp_path: Path) -> None:
    def swapped(part: PartBundles) -> PartBundles:
        first, second, *others = part.private_keys
        return replace(part, private_keys=[second, first, *others])

    for name in FORMATS:
        run = make_run(tmp_path / name, authority, name, Making(stored=swapped))
        assert verify(run).counts == {"bundle-key-mismatch": 6}


def test_a_serial_number_used_twice(authority: Authority, tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", authority, "tar", Making(random=lambda count: b"\x5a" * count))
    report = verify(run)
    assert report.counts == {"serial-twice": 1}
    assert report.findings[0].message == (
        "12 devices have the same serial number, in rows 1, 2, 4, 5, 6, 7, 8, 10, 11, 12"
    )


def test_a_key_used_twice(authority: Authority, tmp_path: Path) -> None:
    class OneKey(OpenSSLKeys):
        name = "one"

        def __init__(self) -> None:
            self.key = super().private_keys(1)

        def private_keys(self, count: int) -> list[Sec1Der]:
            return self.key * count

    run = make_run(tmp_path / "out", authority, "parquet", Making(engine=OneKey()))
    assert verify(run).counts == {"key-twice": 1}


def test_a_flipped_bit_in_a_certificate(run: MadeRun) -> None:
    der = run.parts[0].certificates[1]
    rewrite(run, *(as_stored(run, certificate_pem, octets) for octets in (der, flipped(der, -1))))
    report = verify(run)
    assert report.counts == {"certificate-signature": 1, "row-certificate-hash": 1}
    assert {finding.device_uuid for finding in report.findings} == {UUIDS[1]}


@pytest.mark.parametrize(("place", "code"), [(20, "bundle-key"), (-1, "bundle-key-mismatch"), (1, "bundle-key")])
def test_a_flipped_bit_in_a_key(run: MadeRun, place: int, code: str) -> None:
    der = run.parts[1].private_keys[0]
    assert der is not None
    rewrite(run, *(as_stored(run, private_key_pem, octets) for octets in (der, flipped(der, place))))
    report = verify(run)
    assert code in report.counts
    assert set(report.counts) <= {"bundle-key", "bundle-key-mismatch"}
    assert {finding.device_uuid for finding in report.findings} == {UUIDS[5]}
    told = " ".join(finding.message for finding in report.findings)
    assert not re.search("[0-9a-f]{16}", told)


def test_a_flipped_bit_in_the_root(run: MadeRun) -> None:
    der = CertificateDer(run.authority.root_der)
    rewrite(run, certificate_pem(der), certificate_pem(CertificateDer(flipped(der, -1))))
    assert verify(run).counts == {"bundle-root": DEVICES}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"https://gw.example.com", b"https://gx.example.com"),
        (b"/var/sota/root.crt", b"/var/sota/root.crx"),
        (b'key_source = "file"', b"key_source = 123456"),
        (b"[uptane]", b"[uptene]"),
        (b'tags = "main"', b'tagz = "main"'),
        (b"[storage]", b"[storage"[:9] + b" "),
    ],
)
def test_another_sota_toml(run: MadeRun, old: bytes, new: bytes) -> None:
    rewrite(run, old, new)
    report = verify(run)
    assert set(report.counts) == {"bundle-sota"}
    assert {finding.row for finding in report.findings} == set(ROWS)


def test_the_mode_of_a_private_file(run: MadeRun) -> None:
    packed = run.record.format != "dir"
    place = next(run.folder.bundles.iterdir()) if packed else run.folder.bundles / UUIDS[0] / "pkey.pem"
    place.chmod(0o644)
    assert codes(run) == {"bundle-storage"}


def test_a_bundle_that_is_not_there(run: MadeRun) -> None:
    if run.record.format == "dir":
        shutil.rmtree(run.folder.bundles / UUIDS[3])
    else:
        (run.folder.bundles / f"part-00001.{run.record.format}").unlink()
    assert verify(run).counts == {"bundle-missing": 1}


def test_a_file_that_is_not_in_its_bundle(good_runs: dict[str, MadeRun], tmp_path: Path) -> None:
    run = copy_of(good_runs["dir"], tmp_path)
    (run.folder.bundles / UUIDS[3] / "client.pem").unlink()
    (run.folder.bundles / UUIDS[4] / "client.pem").write_text("")
    (run.folder.bundles / UUIDS[5] / "sql.db").touch()
    assert verify(run).counts == {"bundle-file-missing": 1, "bundle-pem": 1, "bundle-storage": 1}


@pytest.mark.parametrize("format_name", PACKED)
def test_a_device_that_is_not_in_its_part(authority: Authority, tmp_path: Path, format_name: str) -> None:
    def shorter(part: PartBundles) -> PartBundles:
        assert part.sota_toml is not None
        return PartBundles(
            part.device_uuids[1:], part.private_keys[1:], part.certificates[1:], part.root, part.sota_toml[1:]
        )

    run = make_run(tmp_path / "out", authority, format_name, Making(stored=shorter))
    assert verify(run).counts == {"bundle-missing": 3}


@pytest.mark.parametrize("format_name", PACKED)
def test_devices_in_another_order(authority: Authority, tmp_path: Path, format_name: str) -> None:
    def backwards(part: PartBundles) -> PartBundles:
        assert part.sota_toml is not None
        lists = (part.device_uuids, part.private_keys, part.certificates)
        uuids, keys, certificates = (values[::-1] for values in lists)
        return PartBundles(uuids, keys, certificates, part.root, part.sota_toml[::-1])  # type: ignore[arg-type]

    run = make_run(tmp_path / "out", authority, format_name, Making(stored=backwards))
    assert verify(run).counts == {"part-order": 3}


def test_a_bundle_that_nobody_knows(run: MadeRun) -> None:
    bundles = run.folder.bundles
    if run.record.format == "dir":
        shutil.copytree(bundles / UUIDS[0], bundles / UUIDS[0].replace("0000", "0001"))
    else:
        shutil.copy(bundles / f"part-00000.{run.record.format}", bundles / f"part-00003.{run.record.format}")
    assert verify(run).counts == {"bundle-unknown": 1}


def test_a_cut_off_part(packed_run: MadeRun) -> None:
    part = packed_run.folder.bundles / f"part-00000.{packed_run.record.format}"
    os.truncate(part, part.stat().st_size // 2)
    assert verify(packed_run).counts == {"part-unreadable": 1}


def test_a_link_in_place_of_a_bundle(run: MadeRun, tmp_path: Path) -> None:
    place = min(run.folder.bundles.iterdir())
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert verify(run).counts == {"bundle-unreadable" if run.record.format == "dir" else "part-unreadable": 1}


def test_a_link_in_place_of_a_key(good_runs: dict[str, MadeRun], tmp_path: Path) -> None:
    run = copy_of(good_runs["dir"], tmp_path)
    key = run.folder.bundles / UUIDS[0] / "pkey.pem"
    key.rename(tmp_path / "pkey.pem")
    key.symlink_to(tmp_path / "pkey.pem")
    assert verify(run).counts == {"bundle-file-missing": 1, "bundle-storage": 1}


# Damage to the output manifest.


def test_the_last_part_dropped_from_the_manifest(run: MadeRun) -> None:
    edit_manifest(run, lambda rows: rows.__delitem__(slice(2 * PART_SIZE, None)))
    unknown = 2 if run.record.format == "dir" else 1
    assert verify(run).counts == {"manifest-count": 1, "bundle-unknown": unknown}


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("serial_number", flip_digit, "row-serial"),
        ("certificate_sha256", flip_digit, "row-certificate-hash"),
        ("public_key_sha256", flip_digit, "row-key-hash"),
        ("certificate_sha256", lambda text: text.upper(), "row-certificate-hash"),
    ],
)
def test_an_edited_value_in_the_manifest(run: MadeRun, name: str, value: Callable[[Any], Any], code: str) -> None:
    edit_manifest(run, set_value(name, value))
    report = verify(run)
    assert report.counts == {code: 1}
    assert (report.findings[0].row, report.findings[0].device_uuid) == (ROWS[2], UUIDS[2])


def test_an_edited_time_in_the_manifest(good_runs: dict[str, MadeRun], tmp_path: Path) -> None:
    run = copy_of(good_runs["tar"], tmp_path)
    edit_manifest(run, set_value("not_after", lambda text: text.replace("2045", "2044")))
    assert verify(run).counts == {"row-validity": 1}


def test_an_edited_uuid_in_the_manifest(run: MadeRun) -> None:
    edit_manifest(run, set_value("device_uuid", lambda text: text.replace("4000", "4001")))
    found = {"bundle-missing": 1, "bundle-unknown": 1}
    assert verify(run).counts == found | ({"row-bundle": 1} if run.record.format == "dir" else {})


@pytest.mark.parametrize("bad", ["../../victim", "/etc", "..", "", "bundles"])
def test_no_uuid_or_path_of_the_manifest_is_followed(run: MadeRun, bad: str) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["device_uuid"], row["bundle"] = bad, f"bundles/{bad}"

    (run.out.parent / "victim").mkdir()
    edit_manifest(run, edit)
    report = verify(run)
    if run.record.format == "dir":
        assert report.counts == {"row-uuid": DEVICES, "bundle-unknown": DEVICES}
    else:
        assert report.counts == {"row-bundle": 1, "bundle-unknown": 3}
    assert report.devices == 0


def test_one_row_that_names_another_bundle(run: MadeRun) -> None:
    edit_manifest(run, set_value("bundle", lambda _: "../bundles/x"))
    report = verify(run)
    if run.record.format == "dir":
        assert report.counts == {"row-bundle": 1}
    else:
        found = {"row-bundle", "manifest-order", "part-count", "bundle-unknown"}
        assert set(report.counts) == found


def test_rows_in_another_order(run: MadeRun) -> None:
    edit_manifest(run, lambda rows: rows.insert(0, rows.pop(1)))
    found = {"manifest-order": 1} | ({} if run.record.format == "dir" else {"part-order": 1})
    assert verify(run).counts == found


def test_a_row_twice(run: MadeRun) -> None:
    edit_manifest(run, lambda rows: rows.insert(1, rows[0]))
    found = codes(run)
    assert {"manifest-order", "manifest-count", "uuid-twice"} <= found


def test_row_numbers_that_the_input_does_not_have(good_runs: dict[str, MadeRun], tmp_path: Path) -> None:
    run = copy_of(good_runs["tar"], tmp_path)
    edit_manifest(run, set_value("row", lambda _: 15, row=11))
    assert codes(run) == {"manifest-row"}


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: os.truncate(path, 40)])
def test_a_manifest_that_cannot_be_read(run: MadeRun, damage: Callable[[Path], None]) -> None:
    damage(run.manifest)
    assert "manifest-unreadable" in codes(run)


# The folder, the rejects and the record.


def test_names_and_modes_in_the_folder(run: MadeRun) -> None:
    (run.out / "notes.txt").touch()
    run.folder.work.mkdir()
    run.folder.record.chmod(0o600)
    run.folder.bundles.chmod(0o755)
    run.folder.rejects.rename(run.out.parent / "rejects.csv")
    run.folder.rejects.symlink_to(run.out.parent / "rejects.csv")
    report = verify(run)
    assert report.counts == {"folder-kind": 1, "folder-mode": 2, "folder-unknown": 1, "run-leftover": 1}
    (run.out / "notes.txt").rename(run.out / "registered.csv")  # which `register` writes
    assert "folder-unknown" not in codes(run)


def test_rejects_that_are_not_there(run: MadeRun) -> None:
    run.folder.rejects.unlink()
    assert codes(run) == {"folder-missing", "rejects-count"}


def test_rejects_of_rows_that_were_issued(run: MadeRun) -> None:
    text = run.folder.rejects.read_text().replace("\n9,", "\n8,")
    run.folder.rejects.write_text(text)
    assert codes(run) == {"row-issued-and-rejected"}
    run.folder.rejects.write_text("no,table\n")
    assert codes(run) == {"rejects-unreadable"}


def test_a_summary_that_says_otherwise(good_runs: dict[str, MadeRun], tmp_path: Path) -> None:
    run = copy_of(good_runs["tar"], tmp_path)
    run.folder.summary.write_text(run.folder.summary.read_text().replace("12", "13"))
    assert verify(run).findings[0].message == "devices is '13', expected 12"
    run.folder.summary.write_text("[]")
    assert codes(run) == {"summary-unreadable"}


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_unfinished_run(authority: Authority, tmp_path: Path, format_name: str) -> None:
    run = make_run(tmp_path / "out", authority, format_name, Making(committed=2, published=1))
    report = verify(run)
    assert report.counts == {"run-unfinished": 1, "bundle-unpublished": PART_SIZE if format_name == "dir" else 1}
    assert not report.complete
    assert (report.devices, report.parts, report.expected_parts) == (PART_SIZE, 2, 3)
    messages = [finding.message for finding in report.findings]
    assert "2 of 3 parts are committed; --resume issues the others" in messages
    assert any("committed, not yet published: resume the run" in message for message in messages)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "{out} holds no run: there is no run.json"),
        (lambda path: path.write_text("{"), "{path} is damaged: Expecting property name enclosed in double quotes"),
        (
            lambda path: path.write_text(path.read_text().replace('"part_size": 5', '"part_size": "5"')),
            "{path} is damaged: part_size is of the wrong type",
        ),
        (
            lambda path: path.write_text(path.read_text().replace("BEGIN CERT", "BEGIN CART")),
            "run.json is damaged: it holds no usable certificate: ",
        ),
    ],
)
def test_a_damaged_record_is_an_error(
    good_runs: dict[str, MadeRun], tmp_path: Path, damage: Callable[[Path], object], told: str
) -> None:
    run = copy_of(good_runs["tar"], tmp_path)
    damage(run.folder.record)
    with pytest.raises(OutputError) as caught:
        verify(run)
    assert str(caught.value).startswith(told.format(out=run.out, path=run.folder.record))


# The factory's certificates.


def test_another_factory_did_not_issue_this_run(run: MadeRun) -> None:
    other = make_authority()
    report = verify(run, anchors=Anchors(other.ca_der, other.root_der))
    differs = {"run-ca-differs": 1, "run-root-differs": 1}
    assert report.counts == differs | {"certificate-signature": DEVICES, "bundle-root": DEVICES}


def test_a_ca_that_the_root_did_not_issue(run: MadeRun) -> None:
    other = make_authority()
    report = verify(run, anchors=Anchors(run.authority.ca_der, other.root_der))
    assert report.counts == {"ca-not-of-root": 1, "run-root-differs": 1, "bundle-root": DEVICES}


def test_a_device_is_no_ca(run: MadeRun) -> None:
    leaf = run.parts[0].certificates[0]
    found = codes(run, anchors=Anchors(leaf, run.authority.root_der))
    assert {"ca-may-not-sign", "ca-not-of-root", "run-ca-differs", "certificate-issuer"} <= found


def test_a_run_beyond_its_ca(authority: Authority, tmp_path: Path) -> None:
    run = make_run(tmp_path / "out", authority, "tar", Making({"not_after": "2046-01-01T00:00:01Z"}))
    assert codes(run) == {"run-window"}


def test_the_factory_of_the_record(good_runs: dict[str, MadeRun], tmp_path: Path) -> None:
    run = copy_of(good_runs["tar"], tmp_path)
    run.folder.record.write_text(run.folder.record.read_text().replace('"acme"', '"acne"'))
    assert verify(run).counts == {"ca-factory": 1, "certificate-subject": DEVICES}


def pki_of(authority: Authority, folder: Path, ca_name: str = "local-ca") -> Path:
    folder.mkdir()
    (folder / "factory_ca.pem").write_bytes(authority.root.public_bytes(Encoding.PEM))
    (folder / f"{ca_name}.pem").write_bytes(authority.ca.public_bytes(Encoding.PEM))
    return folder


def test_a_pki_directory(authority: Authority, tmp_path: Path) -> None:
    pki = pki_of(authority, tmp_path / "pki")
    assert read_anchors(pki, "local-ca") == Anchors(authority.ca_der, authority.root_der)
    with pytest.raises(AuthorityError, match=r"site2.pem cannot be read: No such file or directory"):
        read_anchors(pki, "site2")
    with pytest.raises(AuthorityError, match="it leads out of the PKI directory"):
        read_anchors(pki / "..", "pki/local-ca")
    (pki / "factory_ca.pem").write_text("none")
    with pytest.raises(AuthorityError, match=r"factory_ca.pem is not a usable certificate"):
        read_anchors(pki, "local-ca")


# The command, and the room's walls.


def command(*arguments: object, **environment: str) -> tuple[int, str, str]:
    from batch_issuer.cli.verify import verify as command_line

    result = CliRunner(env={"BATCH_ISSUER_PKI": None, **environment}).invoke(
        command_line, [str(one) for one in arguments]
    )
    return result.exit_code, result.stdout, result.stderr


def test_the_command_on_a_good_run(run: MadeRun, tmp_path: Path) -> None:
    pki = pki_of(run.authority, tmp_path / "pki")
    code, out, err = command(run.out, "--pki", pki, "--workers", 1)
    assert (code, err) == (0, "")
    assert re.fullmatch(r"12 of 12 devices in 3 of 3 parts verified in .* s \(.*/s\): nothing is wrong\n", out)
    assert command(run.out, "-q", BATCH_ISSUER_PKI=str(pki))[0] == 0


def test_the_command_says_when_it_trusts_the_run_itself(run: MadeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.out.parent)
    code, out, err = command(run.out, "--json")
    assert code == 0
    assert err.startswith("warning: no PKI directory: the run is checked only against the certificates")
    report = json.loads(out)
    assert (report["devices"], report["findings"], report["counts"], report["complete"]) == (DEVICES, [], {}, True)
    pki_of(run.authority, run.out.parent / "pki")
    assert command(run.out)[2] == ""


def test_the_command_on_a_damaged_run(run: MadeRun, tmp_path: Path) -> None:
    pki = pki_of(make_authority(), tmp_path / "pki", "site2")
    code, out, err = command(run.out, "--pki", pki, "--ca-name", "site2", "--json")
    assert code == 4
    lines = err.splitlines()
    assert lines[0] == ("run.json: run.json names another ca certificate than the PKI directory [run-ca-differs]")
    assert "… and 6 more; by code:" in lines
    assert "         12  certificate-signature" in lines
    assert json.loads(out)["counts"]["bundle-root"] == DEVICES
    assert command(run.out.parent)[0] == 2


def test_one_fault_of_all_devices_hides_no_other() -> None:
    worker, whole = Findings(), Findings()
    for row in range(2 * MOST_KEPT):
        worker.add([Fault("common", "x")], "place", row=row)
    worker.add([Fault("rare", "x")], "place")
    whole.merge(worker)
    whole.merge(worker)
    assert whole.counts == {"common": 4 * MOST_KEPT, "rare": 2}
    assert len(whole.kept) == MOST_OF_ONE + 2


def test_a_finding_is_one_printable_line() -> None:
    finding = Finding("code", "it is \x1b[2J", 3, "a\nb", "bundles/\u202e")
    assert str(finding) == "bundles/\\u202e, row 3, a\\nb: it is \\x1b[2J [code]"


def test_verification_shares_no_code_with_what_it_verifies() -> None:
    makers = ("minting", "batch", "authority", "profiles", "manifest", "bundles.sota", "gateway", "cli")
    folder = Path(batch_issuer.verification.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not name.startswith(tuple(f"batch_issuer.{maker}" for maker in makers)), f"{path.name}: {name}"
