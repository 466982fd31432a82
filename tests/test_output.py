"""What a run leaves: the output manifest, the findings, the modes under any umask, and no key outside its bundle."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import os
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography import x509
from judges import (
    BUNDLE_MODES,
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
    private_values,
    run_process,
    shows_a_key,
    stored_bundles,
)
from pki import key_pem, p256

from batch_issuer import __version__

UUIDS = device_uuids(8)
OWN_COLUMNS = [
    "row",
    "device_uuid",
    "serial_number",
    "not_before",
    "not_after",
    "certificate_sha256",
    "public_key_sha256",
    "bundle",
]

pytestmark = pytest.mark.usefixtures("work")


# The output manifest


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_the_manifest_has_a_row_per_device_in_the_inputs_order(bundle_format: str, factory_pki: Path) -> None:
    assert issue(csv_bytes(UUIDS[::-1]), "--format", bundle_format, "--workers", "3").code == 0
    finished_run(Path("issued"), factory_pki, UUIDS[::-1])
    rows = csv_rows(Path("issued/manifest.csv"))
    assert list(rows[0]) == OWN_COLUMNS
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 9)]
    places = {
        "dir": [f"bundles/{device}" for device in UUIDS[::-1]],
        "tar": [f"bundles/part-0000{index // 3}.tar" for index in range(8)],
        "tar.zst": [f"bundles/part-0000{index // 3}.tar.zst" for index in range(8)],
        "parquet": [f"bundles/part-0000{index // 3}.parquet" for index in range(8)],
    }
    assert [row["bundle"] for row in rows] == places[bundle_format]


def test_the_parquet_manifest_has_these_types() -> None:
    assert issue(parquet_bytes({"id": pa.array(UUIDS)}), name="devices.parquet").code == 0
    time = pa.timestamp("s", "UTC")
    text = pa.string()
    expected = dict(zip(OWN_COLUMNS, [pa.int64(), text, text, time, time, text, text, text], strict=True))
    schema = pq.read_schema("issued/manifest.parquet")
    # Parquet has no unit of seconds; with Arrow's own schema in the file they are read back as such.
    found = {field.name: pa.timestamp("s", "UTC") if field.name[:4] == "not_" else field.type for field in schema}
    assert found == expected
    record = json.loads(Path("issued/run.json").read_bytes())
    for row in pq.read_table("issued/manifest.parquet").to_pylist():
        leaf = x509.load_pem_x509_certificate(stored_bundles(Path("issued"))[row["device_uuid"]]["client.pem"])
        assert (row["not_before"], row["not_after"]) == (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
        assert f"{row['not_after']:%Y-%m-%dT%H:%M:%SZ}" == record["not_after"]


def test_certificates_are_in_the_manifest_when_asked_for() -> None:
    assert issue(csv_bytes([f"{UUIDS[0]},a"], "id,name"), "--with-certificates").code == 0
    (row,) = csv_rows(Path("issued/manifest.csv"))
    assert list(row) == [*OWN_COLUMNS, "certificate_pem", "name"]
    assert row["certificate_pem"].encode() == stored_bundles(Path("issued"))[UUIDS[0]]["client.pem"]


def test_production_is_in_the_subject_by_option_and_by_row() -> None:
    manifest = csv_bytes([f"{UUIDS[0]},true", f"{UUIDS[1]},0", f"{UUIDS[2]},"], "id,PRODUCTION")
    for option, expected in (("--production", [1, 0, 1]), ("--no-production", [1, 0, 0])):
        assert issue(manifest, option, "--out", option.strip("-")).code == 0
        bundles = stored_bundles(Path(option.strip("-")))
        leaves = [x509.load_pem_x509_certificate(bundles[device]["client.pem"]) for device in UUIDS[:3]]
        found = [leaf.subject.get_attributes_for_oid(x509.NameOID.BUSINESS_CATEGORY) for leaf in leaves]
        assert [[one.value for one in some] for some in found] == [["production"] * count for count in expected]
        carried = [row["production"] for row in csv_rows(Path(option.strip("-"), "manifest.csv"))]
        assert carried == ["true", "0", ""]


def test_columns_of_csv_are_carried_as_they_stand() -> None:
    cells = ["007", " x ", "1e5", "ÄÖ😀", 'say "hi"', "a,b;c", "line 1\nline 2", ""]
    rows = [f'{device},"{cell.replace(chr(34), chr(34) * 2)}"' for device, cell in zip(UUIDS, cells, strict=True)]
    assert issue(csv_bytes(rows, "device_uuid, Batch Nr ")).code == 0
    assert [row["Batch Nr"] for row in csv_rows(Path("issued/manifest.csv"))] == cells


def test_csv_goes_into_parquet_as_text() -> None:
    assert issue(csv_bytes([f"{UUIDS[0]},007"], "device_uuid,lot"), "--manifest-format", "parquet").code == 0
    assert pq.read_table("issued/manifest.parquet")["lot"].to_pylist() == ["007"]


NOW = datetime.datetime(2027, 3, 4, 5, 6, 7, 8, datetime.UTC)
COLUMNS = {
    "text": pa.array(["007", None]),
    "large_text": pa.array(["007", None], pa.large_string()),
    "text_view": pa.array(["a,b", None], pa.string_view()),
    "dictionary": pa.array(["a,b", None]).dictionary_encode(),
    "int8": pa.array([-7, None], pa.int8()),
    "uint64": pa.array([2**64 - 1, None], pa.uint64()),
    "float": pa.array([0.1, None]),
    "half": pa.array([0.5, None], pa.float16()),
    "bool": pa.array([True, None]),
    "decimal": pa.array([decimal.Decimal("1.20"), None]),
    "date": pa.array([NOW.date(), None]),
    "time": pa.array([NOW.time(), None]),
    "moment": pa.array([NOW.replace(tzinfo=None), None], pa.timestamp("ns")),
    "moment_utc": pa.array([NOW, None], pa.timestamp("us", "UTC")),
    "duration": pa.array([datetime.timedelta(1), None]),
    "nothing": pa.nulls(2),
    "octets": pa.array([b"\xff", None]),
    "octets_view": pa.array([b"\xff", None], pa.binary_view()),
    "octets_fixed": pa.array([b"abc", None], pa.binary(3)),
    "uuid": pa.array([uuid.UUID(UUIDS[0]).bytes, None], pa.uuid()),
    "list": pa.array([[1, 2], None]),
    "struct": pa.array([{"a": 1}, None]),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_parquet_columns_keep_type_and_values(column: pa.Array) -> None:
    manifest = parquet_bytes({"device_id": pa.array(UUIDS[:2]), "test": column})
    assert issue(manifest, name="devices.parquet").code == 0
    carried = pq.read_table("issued/manifest.parquet")["test"]
    assert carried.to_pylist() == column.to_pylist()
    kind = pq.read_table("devices.parquet")["test"].type
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    assert str(carried.type).removesuffix("_view") == str(plain).removesuffix("_view")  # a view is the same in a file


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_what_csv_cannot_hold_is_refused_before_the_first_key_and_not_after_the_last(column: pa.Array) -> None:
    manifest = parquet_bytes({"device_id": pa.array(UUIDS[:2]), "test": column})
    ran = issue(manifest, "--manifest-format", "csv", name="devices.parquet")
    if ran.code == 0:
        assert ran.err == ""
        assert len(csv_rows(Path("issued/manifest.csv"))) == 2
    else:
        assert ran.err.startswith("error: column 'test' of the manifest has type ")
        assert ran.err.endswith(", which CSV cannot hold\nhint: take --manifest-format parquet\n")
        assert (ran.code, Path("issued").exists()) == (2, False)


def test_columns_with_names_of_the_outputs_own_are_renamed_with_a_warning() -> None:
    ran = issue(csv_bytes([f"{UUIDS[0]},1,2,3"], "uuid,Serial_Number,row,Name"))
    assert ran.err == (
        "warning: the manifest's column 'Serial_Number' is called 'input_Serial_Number' in the output, "
        "which has a 'serial_number' of its own\n"
        "warning: the manifest's column 'row' is called 'input_row' in the output, which has a 'row' of its own\n"
    )
    (row,) = csv_rows(Path("issued/manifest.csv"))
    assert list(row) == [*OWN_COLUMNS, "input_Serial_Number", "input_row", "name"]
    assert (row["row"], row["input_row"], row["input_Serial_Number"]) == ("1", "2", "1")


FORMULAS = ["=cmd()", "+1", "-1", "@sum", "\tx", "\rx"]


def test_formulas_are_carried_unchanged_unless_spreadsheet_safe_asks(factory_pki: Path) -> None:
    rows = [f'{device},"{cell}"' for device, cell in zip(UUIDS, [*FORMULAS, "a=b", "'q"], strict=True)]
    manifest = csv_bytes(rows, "device_uuid,note")
    unchanged = [*FORMULAS, "a=b", "'q"]
    assert issue(manifest, "--out", "csv").code == 0
    assert [row["note"] for row in csv_rows(Path("csv/manifest.csv"))] == unchanged
    assert issue(manifest, "--out", "parquet", "--manifest-format", "parquet", "--spreadsheet-safe").code == 0
    assert pq.read_table("parquet/manifest.parquet")["note"].to_pylist() == unchanged
    assert issue(manifest, "--spreadsheet-safe").code == 0
    safe = [f"'{cell}" for cell in FORMULAS] + ["a=b", "'q"]
    assert [row["note"] for row in csv_rows(Path("issued/manifest.csv"))] == safe
    finished_run(Path("issued"), factory_pki, UUIDS)


def test_spreadsheet_safe_neutralises_names_of_columns_too() -> None:
    assert issue(csv_bytes([f"{UUIDS[0]},1"], "device_uuid,=cmd()"), "--spreadsheet-safe").code == 0
    assert list(csv_rows(Path("issued/manifest.csv"))[0])[-1] == "'=cmd()"


def test_formulas_in_rejects_are_neutralised_only_when_asked() -> None:
    manifest = csv_bytes([UUIDS[0], "=cmd()", "@x"])
    for out, options, before in (("plain", (), ""), ("safe", ("--spreadsheet-safe",), "'")):
        assert issue(manifest, "--skip-rejects", "--out", out, *options).code == 3
        rows = csv_rows(Path(out, "rejects.csv"))
        assert [(row["row"], row["value"]) for row in rows] == [("2", f"{before}=cmd()"), ("3", f"{before}@x")]


def test_names_of_columns_in_rejects_are_neutralised_too() -> None:
    manifest = csv_bytes([f"{UUIDS[0]},a", UUIDS[1]], "uuid,=cmd()")[:-1] + b",\xff\n"
    assert issue(manifest, "--skip-rejects", "--spreadsheet-safe").code == 3
    assert [row["column"] for row in csv_rows(Path("issued/rejects.csv"))] == ["'=cmd()"]


def test_there_are_no_rejects_without_findings_and_a_row_for_each_finding() -> None:
    assert issue(csv_bytes(UUIDS), "--skip-rejects").code == 0
    assert not Path("issued/rejects.csv").exists()
    manifest = csv_bytes([f"{UUIDS[0]},1,", "x,maybe,\x01", f"{UUIDS[0]},,"], "uuid,production,tag")
    assert issue(manifest, "--skip-rejects", "--out", "other").code == 3
    rows = csv_rows(Path("other/rejects.csv"))
    assert [(row["row"], row["column"], row["code"]) for row in rows] == [
        ("2", "uuid", "uuid-malformed"),
        ("2", "production", "production-invalid"),
        ("2", "tag", "text-invalid"),
        ("3", "uuid", "uuid-duplicate"),
    ]


def test_record_and_summary_say_what_was_asked_and_done() -> None:
    ran = issue(csv_bytes([*UUIDS, "x"]), "--skip-rejects", "--json", "--format", "tar")
    record, summary = (json.loads(Path("issued", name).read_bytes()) for name in ("run.json", "summary.json"))
    assert json.loads(ran.out) == summary
    assert record["format_version"] == 1
    expected = {
        "version": __version__,
        "manifest": "devices.csv",
        "manifest_kind": "csv",
        "rows": 9,
        "accepted": 8,
        "format": "tar",
        "part_size": 3,
        "days": 30,
        "factory": "acme",
        "hardware_id": "imx8mm",
        "gateway": "gw.example.com:8443",
        "ostree": "gw.example.com:8443",
    }
    assert {name: record[name] for name in expected} == expected
    counts = {"devices": 8, "devices_now": 8, "rejected": 1, "parts": 3, "format": "tar", "workers": 2}
    assert {name: summary[name] for name in counts} == counts
    sizes = [path.stat().st_size for path in Path("issued/bundles").iterdir()]
    assert summary["octets"] == sum(sizes)


# Modes


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
@pytest.mark.parametrize("bundle_format", FORMATS)
def test_modes_are_the_same_under_every_umask(bundle_format: str, umask: int) -> None:
    Path("devices.csv").write_bytes(csv_bytes([*UUIDS[:4], "x"]))
    options = ("--manifest", "devices.csv", *SMALL, *HARDWARE, "--format", bundle_format, "--skip-rejects")
    assert run_process("issue", *options, "--out", "lots/issued", umask=umask).code == 3
    expected = {".": 0o700, "bundles": 0o700}
    expected |= dict.fromkeys(
        ("SHA256SUMS", "manifest.csv", "rejects.csv", "report.html", "run.json", "summary.json"), 0o644
    )
    if bundle_format == "dir":
        for device in UUIDS[:4]:
            expected[f"bundles/{device}"] = 0o700
            expected |= {f"bundles/{device}/{name}": mode for name, mode in BUNDLE_MODES.items()}
    else:
        expected |= {f"bundles/part-0000{index}.{bundle_format}": 0o600 for index in range(2)}
    assert modes(Path("lots/issued")) == expected
    assert modes(Path("lots"))["."] == 0o700


def test_an_unfinished_runs_own_folder_is_for_its_owner_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0)
    try:
        interrupted_run(monkeypatch, csv_bytes(UUIDS))
    finally:
        os.umask(before)
    found = modes(Path("issued/.run"))
    assert {mode & 0o077 for mode in found.values()} == {0}
    assert modes(Path("issued"))["."] == 0o700


def test_a_folder_that_was_there_keeps_its_mode() -> None:
    Path("issued").mkdir(mode=0o755)
    assert issue(csv_bytes(UUIDS)).code == 0
    found = modes(Path("issued"))
    assert (found["."], found["bundles"]) == (0o755, 0o700)


# Keys are nowhere but in their bundles


def test_the_judge_of_keys_sees_them_in_every_form() -> None:
    key = p256()
    (value,) = private_values([key_pem(key)])
    number = key.private_numbers().private_value
    der = base64.b64decode(b"".join(key_pem(key).splitlines()[1:-1]))
    shown = [key_pem(key), der, value, value.hex().encode(), value.hex().upper().encode(), str(number).encode()]
    shown += [base64.b64encode(bytes(before) + der) for before in range(4)]
    for form in shown:
        assert shows_a_key(b"before" + form + b"after", [value])
    assert not shows_a_key(b"nothing " * 100, [value])


def values_of_everybody(out: Path, pki: Path) -> list[bytes]:
    devices = [files["pkey.pem"] for files in stored_bundles(out).values()]
    return private_values([*devices, (pki / "local-ca.key").read_bytes(), (pki / "factory_ca.key").read_bytes()])


def keyless(out: Path) -> bytes:
    """Everything in a run's folder but bundles, published or staged."""
    homes = (out / "bundles", out / ".run" / "staging")
    paths = [path for path in out.rglob("*") if path.is_file() and not any(map(path.is_relative_to, homes))]
    assert paths
    return b"\0".join(path.read_bytes() for path in paths)


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_no_key_is_anywhere_but_in_its_bundle(
    bundle_format: str, factory_pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--format", bundle_format, "--skip-rejects", "--with-certificates", "-v")
    manifest = csv_bytes([*UUIDS, "x"])
    stopped = interrupted_run(monkeypatch, manifest, *options, parts=2)
    values = values_of_everybody(Path("issued"), factory_pki)
    assert len(values) >= 6 + 2
    assert not shows_a_key(keyless(Path("issued")), values)
    ran = issue(manifest, *options, "--resume")
    assert ran.code == 3
    values = values_of_everybody(Path("issued"), factory_pki)
    assert len(values) == 8 + 2
    assert not shows_a_key(keyless(Path("issued")), values)
    said = "".join([stopped.out, stopped.err, ran.out, ran.err])
    assert not shows_a_key(said.encode(), values)
    # The CAs' own are not even in bundles.
    everything = b"\0".join(path.read_bytes() for path in Path("issued").rglob("*") if path.is_file())
    ours = private_values((factory_pki / f"{name}.key").read_bytes() for name in ("local-ca", "factory_ca"))
    assert not shows_a_key(everything.replace(b"PRIVATE KEY", b""), ours)


@pytest.mark.parametrize("bundle_format", FORMATS)
def test_no_key_is_shown_when_a_worker_fails(
    bundle_format: str, factory_pki: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with file_system(Path("disk"), "size=4m,mode=700") as disk:
        fill_before_the_first_key(monkeypatch, disk, left=24 << 10)
        options = ("--format", bundle_format, "--out", disk / "issued", "--part-size", "1", "-v")
        ran = issue(csv_bytes(device_uuids(40)), *options)
        assert ran.code == 1
        assert "No space left on device" in ran.err
        values = values_of_everybody(disk / "issued", factory_pki)
        staged = [path.read_bytes() for path in (disk / "issued/.run/staging").rglob("pkey.pem")]
        values += private_values(pem for pem in staged if pem.endswith(b"-----END EC PRIVATE KEY-----\n"))
        assert not shows_a_key((ran.out + ran.err).encode(), values)
        assert not shows_a_key(keyless(disk / "issued"), values)


def test_a_run_that_is_refused_says_nothing_of_keys(factory_pki: Path) -> None:
    ran = issue(csv_bytes(["x"]), "-v", "--json")
    values = private_values((factory_pki / f"{name}.key").read_bytes() for name in ("local-ca", "factory_ca"))
    assert not shows_a_key((ran.out + ran.err).encode(), values)
    assert contents(Path("pki")) != {}
