"""Reading manifests: which column is which, what a row must be, and that nothing is lost, misnumbered or made up."""

from __future__ import annotations

import csv
import io
import os
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judges import csv_bytes, device_uuids, parquet_bytes

from batch_issuer.errors import ManifestError
from batch_issuer.manifest.duplicates import UniqueDevices
from batch_issuer.manifest.reading import Manifest
from batch_issuer.manifest.rows import RowRules
from batch_issuer.scratch import Scratch

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.devices import Rejection

ONE, TWO, THREE = device_uuids(3)
NIL = "00000000-0000-0000-0000-000000000000"
ALIASES = ("device_uuid", "uuid", "device_id", "deviceid", "id")
CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
EXPECTED_UUID = "expected a UUID of 8-4-4-4-12 hexadecimal digits"
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
NO_UUID_COLUMN = (
    "the manifest has no UUID column; expected one of device_uuid, uuid, device_id, deviceid, id; its columns: "
)


@dataclass(frozen=True, slots=True)
class Read:
    """What a manifest gave."""

    kind: str
    rows: list[dict[str, Any]]
    rejections: list[Rejection]

    @property
    def devices(self) -> list[str]:
        return [row["device_uuid"] for row in self.rows]

    @property
    def messages(self) -> list[str]:
        return [rejection.message for rejection in self.rejections]

    def carried(self, column: str) -> list[Any]:
        return [row[f"carried:{column}"] for row in self.rows]


def read(content: bytes, *, name: str = "devices.csv", rules: RowRules = RowRules()) -> Read:  # noqa: B008 - frozen
    fd = os.memfd_create("manifest")
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    rows: list[dict[str, Any]] = []
    rejections: list[Rejection] = []
    with Manifest(os.fdopen(fd, "rb"), name, reserved={"row", "serial_number"}) as manifest:
        for checked in manifest.rows(rules):
            rows += checked.accepted.to_pylist()
            rejections += checked.rejections
        return Read(manifest.kind, rows, rejections)


def refused(content: bytes, *, name: str = "devices.csv") -> tuple[str, str | None]:
    with pytest.raises(ManifestError) as caught:
        read(content, name=name)
    return str(caught.value), caught.value.hint


def broken_text(values: list[bytes]) -> pa.Array:
    """A text column of any octets, as careless writers make them."""
    offsets = pa.array([sum(map(len, values[:index])) for index in range(len(values) + 1)], pa.int32())
    return pa.Array.from_buffers(pa.string(), len(values), [None, offsets.buffers()[1], pa.py_buffer(b"".join(values))])


# Which column is which


@pytest.mark.parametrize("form", ["{}", " {} ", "\t{}"])
@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_names_the_uuid_column_whatever_its_case_and_space(alias: str, form: str) -> None:
    for spelt in (alias, alias.upper(), alias.title()):
        assert read(csv_bytes([f"x,{ONE}"], f'name,"{form.format(spelt)}"')).devices == [ONE]
        assert read(parquet_bytes({form.format(spelt): pa.array([ONE])})).devices == [ONE]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_with_and_without_quotes_and_byte_order_mark(delimiter: str, mark: str, quote: str) -> None:
    lines = [["name", "device_uuid", "site"], ["a", ONE, "x"], ["b", TWO, "y"]]
    text = mark + "".join(delimiter.join(quote + cell + quote for cell in line) + "\n" for line in lines)
    found = read(text.encode())
    assert (found.devices, found.carried("name"), found.carried("site")) == ([ONE, TWO], ["a", "b"], ["x", "y"])


def test_other_delimiters_may_stand_in_cells() -> None:
    found = read(csv_bytes([f"{ONE};a,b\tc"], "device_uuid;name"))
    assert found.carried("name") == ["a,b\tc"]


@pytest.mark.parametrize(
    ("content", "error", "hint"),
    [
        (b"", "the manifest devices.csv is empty", "it needs a header line, such as: device_uuid,name"),
        (b"\n \r\n\n", "the manifest is empty", "it needs a header line, such as: device_uuid,name"),
        (b"\xef\xbb\xbf", "the manifest is empty", "it needs a header line, such as: device_uuid,name"),
        (b"device_uuid,name\n", "the manifest devices.csv has no devices: only a header", None),
        (b"device_uuid\n\n\n", "the manifest devices.csv has no devices: only a header", None),
        (
            b"serial,name\n1,2\n",
            NO_UUID_COLUMN + "'serial', 'name'",
            "the first line must be a header, such as: device_uuid,name",
        ),
        (
            f"{ONE}\n".encode(),
            NO_UUID_COLUMN + repr(ONE),
            "the first line must be a header, such as: device_uuid,name",
        ),
        (
            b"uuid,name,Device_ID\n1,2,3\n",
            "the manifest has more than one UUID column: 'uuid' and 'Device_ID'; expected exactly one",
            "rename those that are something else",
        ),
        (
            b"device_uuid,site, SITE \n1,2,3\n",
            "columns 2 and 3 of the manifest have the same name 'SITE'",
            "every column needs a name of its own, without regard to case",
        ),
        (
            b"device_uuid,input_row,row\n1,2,3\n",
            "the output manifest needs the names of the columns 'row' and 'input_row'",
            None,
        ),
        (b"device_uuid,na\xffme\n1,2\n", "the manifest's header is not UTF-8", "save it again as CSV UTF-8"),
        (b"na\xffme,site\n1,2\n", "the manifest's header is not UTF-8", "save it again as CSV UTF-8"),
        (
            "device_uuid\nx\n".encode("utf-16"),
            "the manifest is UTF-16, expected UTF-8",
            "save it again as CSV UTF-8",
        ),
        (
            "\ufeffdevice_uuid\nx\n".encode("utf-16-be"),
            "the manifest is UTF-16, expected UTF-8",
            "save it again as CSV UTF-8",
        ),
        (
            csv_bytes([f"{ONE},a", f'{TWO},"b', f"{THREE},c"], "device_uuid,name"),
            "row 2 of the manifest opens a quote that never closes",
            "look for a lone double quote in or after that row",
        ),
        (
            csv_bytes(["", f'{ONE},a"x', f'{TWO},"a"x', f'{THREE},"c'], "device_uuid,name"),
            "row 3 of the manifest opens a quote that never closes",
            "look for a lone double quote in or after that row",
        ),
        (
            b'"device_uuid,name\n',
            "the manifest's header cannot be read: unexpected end of data",
            None,
        ),
        (
            csv_bytes([f"{ONE},a", f"{TWO},{'b' * ((4 << 20) + 1)}"], "device_uuid,name"),
            "row 2 of the manifest has a cell of more than 4194304 characters",
            "perhaps a quote that opens in that row never closes",
        ),
    ],
    ids=lambda value: None if isinstance(value, bytes) else "",
)
def test_a_csv_file_that_is_no_manifest(content: bytes, error: str, hint: str | None) -> None:
    assert refused(content) == (error, hint)


def test_utf_16_without_its_mark_has_no_column_that_can_be_read() -> None:
    error, _ = refused("device_uuid\nx\n".encode("utf-16-le"))
    assert error.startswith(NO_UUID_COLUMN)
    assert error.isprintable()


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    content = csv_bytes([",".join(["a" * 4_000_000] * 5)], "device_uuid,name")
    assert refused(content) == ("the manifest has a line of more than 8388608 characters", None)


# Rows


@pytest.mark.parametrize(
    ("cell", "code", "shown"),
    [
        ("nope", "uuid-malformed", "nope"),
        ("", "uuid-missing", ""),
        (NIL, "uuid-nil", NIL),
        (f"{{{ONE}}}", "uuid-malformed", f"{{{ONE}}}"),
        (f"urn:uuid:{ONE}", "uuid-malformed", f"urn:uuid:{ONE}"),
        (ONE.replace("-", ""), "uuid-malformed", ONE.replace("-", "")),
        (f"../{ONE}", "uuid-malformed", f"../{ONE}"),
        ("../../../../../../../../../../etc/passwd"[:36], "uuid-malformed", "../../../../../../../../../../etc/pa"),
        (ONE[:-1] + "\0", "uuid-malformed", ONE[:-1] + r"\x00"),
        (ONE + "\0", "uuid-malformed", ONE + r"\x00"),
        (ONE + "\n", "uuid-malformed", ONE + r"\n"),
        (ONE + " ", "uuid-malformed", ONE + " "),
        (" " + ONE, "uuid-malformed", " " + ONE),
        (ONE[:-1] + "g", "uuid-malformed", ONE[:-1] + "g"),
        (ONE[:-1] + "\u0661", "uuid-malformed", ONE[:-1] + "\u0661"),  # a digit in another script
        (ONE[:-1] + "\uff11", "uuid-malformed", ONE[:-1] + "\uff11"),
        ("\u202e" + ONE, "uuid-malformed", r"\u202e" + ONE),
        ("a" * (1 << 20), "uuid-malformed", "a" * 60 + "… (1048576 characters)"),
    ],
)
def test_a_cell_that_is_no_uuid_is_named_with_row_and_column(cell: str, code: str, shown: str) -> None:
    message = {
        "uuid-missing": "expected a UUID, got nothing",
        "uuid-nil": "the nil UUID names no device",
        "uuid-malformed": f"{EXPECTED_UUID}, got '{shown}'",
    }[code]
    quoted = f'"{cell}"'
    for content in (
        csv_bytes([f"{ONE},a", f"{quoted},b", f"{TWO},c"], "uuid,name"),
        parquet_bytes({"uuid": pa.array([ONE, cell, TWO])}),
    ):
        found = read(content)
        assert found.devices == [ONE, TWO]
        assert [row["row"] for row in found.rows] == [1, 3]
        (finding,) = found.rejections
        assert (finding.row, finding.column, finding.value, finding.code) == (2, "uuid", shown, code)
        assert finding.message == f"row 2, column 'uuid': {message}"


def test_uuids_come_out_in_lower_case() -> None:
    assert read(csv_bytes([ONE.upper(), TWO])).devices == [ONE, TWO]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_blank_lines_and_a_last_line_without_end(end: str) -> None:
    found = read(end.join(["", "device_uuid,name", "", f"{ONE},a", "", "", f"{TWO},b"]).encode())
    assert [(row["row"], row["device_uuid"], row["carried:name"]) for row in found.rows] == [
        (1, ONE, "a"),
        (2, TWO, "b"),
    ]


def test_ten_thousands_of_blank_lines_end_nothing() -> None:
    found = read(csv_bytes([ONE, *[""] * 60_000, TWO]))
    assert [(row["row"], row["device_uuid"]) for row in found.rows] == [(1, ONE), (2, TWO)]


def test_rows_keep_their_numbers_however_many_there_are() -> None:
    uuids = device_uuids(45_000)
    for bad in (19_999, 20_000, 44_999):
        uuids[bad] = "nope"
    for content in (csv_bytes(uuids), parquet_bytes({"device_uuid": pa.array(uuids)})):
        found = read(content)
        assert [finding.row for finding in found.rejections] == [20_000, 20_001, 45_000]
        assert [row["row"] for row in found.rows] == [n for n in range(1, 45_001) if uuids[n - 1] != "nope"]
        assert found.devices == [value for value in uuids if value != "nope"]


def test_ragged_rows_are_named_with_what_they_have() -> None:
    found = read(csv_bytes([f"{ONE},a", TWO, f"{THREE},a,b", f"{TWO},b"], "device_uuid,name"))
    assert found.devices == [ONE, TWO]
    assert found.messages == [
        "row 2: expected 2 cells as in the header, got 1",
        "row 3: expected 2 cells as in the header, got 3",
    ]
    assert {finding.code for finding in found.rejections} == {"row-ragged"}


def test_bad_quotes_spoil_their_row_alone() -> None:
    found = read(csv_bytes([f"{ONE},a", f'{TWO},"a"b"', f"{THREE},c"], "device_uuid,name"))
    assert [row["row"] for row in found.rows] == [1, 3]
    assert found.messages == ["row 2: its quotes cannot be read: ',' expected after '\"'"]
    assert [finding.code for finding in found.rejections] == ["row-quotes"]


def test_broken_utf_8_spoils_its_row_alone() -> None:
    lines = [
        b"device_uuid,site",
        f"{ONE},a".encode(),
        f"{TWO},".encode() + b"\xc3\x28",
        b"\xff,b",
        THREE.encode() + b",c",
    ]
    found = read(b"\n".join(lines))
    assert [row["row"] for row in found.rows] == [1, 4]
    assert found.messages == ["row 2, column 'site': it is not UTF-8", "row 3, column 'device_uuid': it is not UTF-8"]
    assert {finding.code for finding in found.rejections} == {"row-encoding"}


@pytest.mark.parametrize("column", ["device_uuid", "site", "hardware_id", "production", "csr"])
def test_broken_utf_8_in_parquet_spoils_its_row_alone(column: str) -> None:
    columns = {"device_uuid": pa.array([ONE, TWO, THREE])}
    good = {"device_uuid": ONE.encode(), "production": b"1", "csr": b""}.get(column, b"x")
    last = THREE.encode() if column == "device_uuid" else good
    columns[column] = broken_text([good, b"\xff\xfe", last])
    found = read(parquet_bytes(columns), name="devices.parquet")
    assert found.devices == [ONE, THREE]
    assert found.messages == [f"row 2, column {column!r}: it is not UTF-8"]
    assert [finding.code for finding in found.rejections] == ["row-encoding"]


@pytest.mark.parametrize(
    ("cell", "flag"),
    [("true", True), ("TRUE", True), (" True ", True), ("1", True), ("false", False), ("0", False), ("  ", None)],
)
def test_production_is_told_by_its_words(cell: str, flag: bool | None) -> None:
    assert read(csv_bytes([f"{ONE},{cell}"], "uuid,Production")).rows[0]["production"] is flag


@pytest.mark.parametrize(
    ("column", "flags"),
    [
        (pa.array([True, False, None]), [True, False, None]),
        (pa.array([1, 0, None], pa.int8()), [True, False, None]),
        (pa.array([1, 0, None], pa.uint64()), [True, False, None]),
        (pa.array(["true", "0", None], pa.large_string()), [True, False, None]),
        (pa.array(["true", "0", ""]).dictionary_encode(), [True, False, None]),
        (pa.nulls(3), [None, None, None]),
    ],
    ids=str,
)
def test_production_in_parquet(column: pa.Array, flags: list[bool | None]) -> None:
    found = read(parquet_bytes({"uuid": pa.array([ONE, TWO, THREE]), "production": column}))
    assert [row["production"] for row in found.rows] == flags


@pytest.mark.parametrize("cell", ["yes", "2", "-1", "truefalse", "wahr", "\u00a0x"])
def test_production_in_other_words_is_rejected(cell: str) -> None:
    found = read(csv_bytes([f"{ONE},{cell}"], "uuid,production"))
    shown = cell.replace("\u00a0", r"\xa0")
    assert found.messages == [f"row 1, column 'production': expected true, false, 1, 0 or nothing, got '{shown}'"]
    assert [finding.code for finding in found.rejections] == ["production-invalid"]


@pytest.mark.parametrize("column", ["hardware_id", "tag", "apps"])
def test_text_for_sota_toml_is_one_line_of_at_most_1024_octets(column: str) -> None:
    expected = "expected text of at most 1024 octets without control characters, got "
    good = ["", "imx8mm", "ü" * 512, 'a"b\\c', "\u2028"]
    bad = {
        "a\x01": r"a\x01",
        "a\x7f": r"a\x7f",
        "a\nb": r"a\nb",
        "\t": r"\t",
        "x" * 1025: f"{'x' * 60}… (1025 characters)",
    }
    uuids = device_uuids(len(good) + len(bad))
    found = read(parquet_bytes({"uuid": pa.array(uuids), column: pa.array([*good, *bad])}))
    assert found.carried(column) == good
    assert found.messages == [
        f"row {row}, column {column!r}: {expected}'{shown}'" for row, shown in enumerate(bad.values(), len(good) + 1)
    ]
    assert {finding.code for finding in found.rejections} == {"text-invalid"}


def test_a_csr_goes_to_the_plan_as_it_is_and_is_not_carried_through() -> None:
    found = read(csv_bytes([f'{ONE},"-----BEGIN', 'x"', f"{TWO},", f"{THREE}, "], "uuid,CSR"))
    assert found.devices == [ONE, TWO, THREE]
    assert [row["csr"] for row in found.rows] == ["-----BEGIN\nx", None, " "]
    assert "carried:csr" not in found.rows[0]


def test_without_a_csr_column_the_plan_has_none() -> None:
    assert "csr" not in read(csv_bytes([ONE])).rows[0]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_a_csr_that_is_too_long_for_one_is_not_kept(kind: pa.DataType) -> None:
    column = pa.array(["x" * 16_384, "x" * 16_385, None]).cast(kind)
    found = read(parquet_bytes({"uuid": pa.array([ONE, TWO, THREE]), "csr": column}))
    assert [row["csr"] for row in found.rows] == ["x" * 16_384, None]
    assert found.messages == ["row 2, column 'csr': the CSR must have at most 16384 octets; it has more"]
    assert [finding.code for finding in found.rejections] == ["csr-unreadable"]


def test_a_csr_column_of_nulls_brings_none() -> None:
    found = read(parquet_bytes({"uuid": pa.array([ONE, TWO]), "csr": pa.nulls(2)}))
    assert [row["csr"] for row in found.rows] == [None, None]


def test_a_missing_hardware_id_is_rejected_where_it_is_needed() -> None:
    content = csv_bytes([f"{ONE},", f"{TWO},imx8"], "uuid,hardware_id")
    assert read(content).devices == [ONE, TWO]
    found = read(content, rules=RowRules(hardware_id_required=True))
    assert found.devices == [TWO]
    assert found.messages == [
        "row 1, column 'hardware_id': sota.toml needs a hardware id, and neither the row nor --hardware-id names one"
    ]


def test_every_finding_of_a_row_is_told() -> None:
    found = read(csv_bytes([f"nope,maybe,\x01,{'x' * 20_000},{ONE}"], "uuid,production,tag,csr,site"))
    assert [finding.code for finding in found.rejections] == [
        "uuid-malformed",
        "production-invalid",
        "text-invalid",
        "csr-unreadable",
    ]


# Parquet


@pytest.mark.parametrize(
    "column",
    [
        pa.array([ONE.upper(), TWO], pa.string()),
        pa.array([ONE.upper(), TWO], pa.large_string()),
        pa.array([ONE.upper(), TWO], pa.string_view()),
        pa.array([ONE.upper(), TWO]).dictionary_encode(),
        pa.array([uuid.UUID(ONE).bytes, uuid.UUID(TWO).bytes], pa.binary(16)),
        pa.array([uuid.UUID(ONE).bytes, uuid.UUID(TWO).bytes], pa.binary()),
        pa.array([uuid.UUID(ONE).bytes, uuid.UUID(TWO).bytes], pa.large_binary()),
        pa.array([uuid.UUID(ONE).bytes, uuid.UUID(TWO).bytes], pa.uuid()),
    ],
    ids=lambda column: str(column.type),
)
def test_uuids_of_every_type_that_can_hold_them(column: pa.Array) -> None:
    found = read(parquet_bytes({"id": column, "site": pa.array([7, None])}))
    assert (found.kind, found.devices, found.carried("site")) == ("parquet", [ONE, TWO], [7, None])


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([1, 2]), "int64"),
        (pa.array([1.5, 2]), "double"),
        (pa.array([b"x" * 15, b"y" * 15], pa.binary(15)), "fixed_size_binary[15]"),
        (pa.array([[ONE], [TWO]]), "list<element: string>"),
        (pa.nulls(2), "null"),
    ],
    ids=str,
)
def test_a_uuid_column_of_another_type_is_refused(column: pa.Array, kind: str) -> None:
    error, _ = refused(parquet_bytes({"id": column}))
    assert error == f"column 'id' of the manifest has type {kind}, expected text, UUID or 16-byte binary"


@pytest.mark.parametrize(
    ("name", "column", "error"),
    [
        ("production", pa.array([1.0]), "has type double, expected bool, or text or integer true/false/1/0"),
        ("hardware_id", pa.array([7]), "has type int64, expected text"),
        ("csr", pa.array([b"x"]), "has type binary, expected text"),
        ("Tag", pa.array([["x"]]), "has type list<element: string>, expected text"),
    ],
)
def test_a_column_that_means_something_has_a_type_that_can_hold_it(name: str, column: pa.Array, error: str) -> None:
    assert (
        refused(parquet_bytes({"id": pa.array([ONE]), name: column}))[0] == f"column {name!r} of the manifest {error}"
    )


def test_nulls_are_no_uuids() -> None:
    for column in (pa.array([ONE, None]), pa.array([uuid.UUID(ONE).bytes, None], pa.binary(16))):
        found = read(parquet_bytes({"id": column}))
        assert found.devices == [ONE]
        assert found.messages == ["row 2, column 'id': expected a UUID, got nothing"]


def test_octets_that_are_no_uuid_are_shown_in_hex() -> None:
    found = read(
        parquet_bytes({"id": pa.array([uuid.UUID(ONE).bytes, b"abc", b"x" * 17, b"", bytes(16)], pa.binary())})
    )
    assert found.devices == [ONE]
    assert [(finding.value, finding.code) for finding in found.rejections] == [
        ("616263", "uuid-malformed"),
        ("78" * 17, "uuid-malformed"),
        ("", "uuid-missing"),
        (NIL, "uuid-nil"),
    ]


@pytest.mark.parametrize("kind", [pa.binary(16), pa.uuid()], ids=str)
def test_the_nil_uuid_is_refused_in_octets_too(kind: pa.DataType) -> None:
    found = read(parquet_bytes({"id": pa.array([bytes(16), uuid.UUID(ONE).bytes], kind)}))
    assert found.devices == [ONE]
    assert found.messages == ["row 1, column 'id': the nil UUID names no device"]


@pytest.mark.parametrize("keep", [8, 100, -4, -9])
def test_a_truncated_parquet_file_is_refused(keep: int) -> None:
    error, hint = refused(parquet_bytes({"id": pa.array([ONE, TWO])})[:keep], name="devices.parquet")
    assert error.startswith("the manifest is not a whole Parquet file: ")
    assert "\n" not in error
    assert hint == "copy or export it again: it may be cut off"


def test_a_parquet_file_with_damaged_pages_is_refused() -> None:
    whole = parquet_bytes({"id": pa.array(device_uuids(500))})
    refusals = 0
    for start in range(4, len(whole) - 600, 400):
        damaged = whole[:start] + b"\xff" * 40 + whole[start + 40 :]
        try:
            found = read(damaged, name="devices.parquet")
        except ManifestError:
            refusals += 1
        else:
            assert len(found.rows) + len({finding.row for finding in found.rejections}) == 500
    assert refusals > 0


def test_the_kind_is_told_by_content_and_not_by_suffix() -> None:
    assert read(parquet_bytes({"id": pa.array([ONE])}), name="devices.csv").kind == "parquet"
    assert read(csv_bytes([ONE]), name="devices.txt").kind == "csv"
    for name in ("devices.parquet", "DEVICES.PQ"):
        assert refused(csv_bytes([ONE]), name=name) == (
            f"the manifest {name} is not a Parquet file: it begins with b'devi', expected b'PAR1'",
            "if it is CSV, give it the suffix .csv",
        )


def test_an_empty_parquet_file_has_no_devices() -> None:
    assert refused(parquet_bytes({"id": pa.array([], pa.string())})) == (
        "the manifest devices.csv has no devices: only a header",
        None,
    )


def test_parquet_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([ONE]), pa.array([1]), pa.array([2])], names=["id", "a", "A"])
    assert refused(parquet_bytes(table))[0] == "columns 2 and 3 of the manifest have the same name 'A'"


def test_many_row_groups_are_read_in_order() -> None:
    uuids = device_uuids(100)
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": uuids}), sink, row_group_size=7)
    assert read(sink.getvalue()).devices == uuids


def test_a_manifest_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    path.write_bytes(csv_bytes([ONE]))
    with Manifest(path.open("rb"), "devices.csv", reserved=()) as manifest:
        with path.open("ab") as file:
            file.write(f"{TWO}\n".encode())
        with pytest.raises(ManifestError, match=r"^the manifest devices\.csv changed while it was read$"):
            list(manifest.rows(RowRules()))


# Properties


@given(TEXT | st.from_regex(CANONICAL.pattern, fullmatch=True))
def test_any_text_is_rejected_or_a_uuid_under_its_own_canonical_name(text: str) -> None:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow([text])
    found = read(b"device_uuid\n" + line.getvalue().encode())
    assert len(found.rows) + len(found.rejections) == 1
    for device in found.devices:
        assert CANONICAL.fullmatch(device)
        assert device == text.lower() == str(uuid.UUID(text))
        assert device != NIL
    for finding in found.rejections:
        assert finding.value.isprintable()
        assert finding.code == "uuid-nil" or finding.value in finding.message


@given(st.lists(TEXT, min_size=1, max_size=8))
def test_any_text_of_a_carried_column_comes_through_unchanged(values: list[str]) -> None:
    uuids = device_uuids(len(values))
    text = io.StringIO()
    csv.writer(text).writerows([("device_uuid", "note"), *zip(uuids, values, strict=True)])
    found = read(text.getvalue().encode())
    assert (found.devices, found.carried("note")) == (uuids, values)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"device_uuid\n", b"id,name\r\n", b"device_uuid,", b"\xef\xbb\xbfuuid;tag\n", b"PAR1"]),
)
def test_random_octets_are_refused_or_rejected_and_never_crash(octets: bytes, start: bytes) -> None:
    error = None
    try:
        found = read(start + octets)
    except ManifestError as refusal:
        error = str(refusal)
    if error is not None:
        assert error.isprintable()
        return
    assert all(CANONICAL.fullmatch(device) for device in found.devices)
    rows = [row["row"] for row in found.rows] + sorted({finding.row for finding in found.rejections})
    assert sorted(rows) == list(range(1, len(rows) + 1))


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12), max_size=4))
def test_duplicates_are_found_exactly_and_both_rows_named(batches: list[list[tuple[int, int]]]) -> None:
    devices, seen, expected, row = UniqueDevices("id", Scratch()), dict[str, int](), list[tuple[int, str]](), 0
    for batch in batches:
        # Few values, so that many come again; halves that swap, so that different ones fold alike.
        texts = [str(uuid.UUID(int=(high << 64) | low)) for high, low in batch]
        rows = list(range(row + 1, row + 1 + len(texts)))
        row += len(texts)
        devices.add_text(pa.chunked_array([rows], pa.int64()), pa.chunked_array([texts], pa.string()))
        for number, text in zip(rows, texts, strict=True):
            if text in seen:
                expected.append((number, f"row {number}, column 'id': {text} is in row {seen[text]} already"))
            seen.setdefault(text, number)
    found = list(devices.rejections())
    assert [(finding.row, finding.message) for finding in found] == expected
    assert {finding.code for finding in found} <= {"uuid-duplicate"}
