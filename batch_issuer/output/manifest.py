"""The output manifest as a file: written part after part, read back in pieces."""

from __future__ import annotations

import csv
import io
import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from batch_issuer.columns import is_text
from batch_issuer.devices import UUID_LENGTH, UUID_TEXT
from batch_issuer.errors import OutputError
from batch_issuer.files import PUBLIC_MODE, create_file
from batch_issuer.output.rows import CERTIFICATE_COLUMN, ISSUED_COLUMNS, KEY_ORIGIN_COLUMN, read_commit
from batch_issuer.output.spreadsheet import FORMULA, safe_text
from batch_issuer.sums import BUNDLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from _typeshed import ReadableBuffer

    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord

__all__ = ["ManifestWriter", "csv_can_hold", "issued_rows", "placed_rows"]

_ROW_GROUP = 50_000
_CSV_BLOCK = 16 << 20
_RANDOM = ("device_uuid", "serial_number", "certificate_sha256", "public_key_sha256")
"""Columns of random digits: to compress them takes this process longer than all else that it does per device."""
_REPEATED = ["not_before", "not_after", "bundle", KEY_ORIGIN_COLUMN]
_NEEDS_QUOTES = '[",\r\n]'
_SUFFIXES = r"(\.[a-z0-9]+)*"
"""What a bundle's or a part's name may end in, in any format; no slash, and no two dots beside each other."""


class ManifestWriter:
    """Writes the output manifest into a new file, and makes its content durable when it is closed.

    Args:
        path: the file, which must not exist.
        kind: `csv` or `parquet`.
        spreadsheet_safe: for CSV, put an apostrophe before text that a spreadsheet would run as a formula.

    Raises:
        OSError: from any method, as write(2) and fsync(2).
    """

    def __init__(self, path: Path, kind: str, *, spreadsheet_safe: bool = False) -> None:
        self._raw = _HashedFile(create_file(path, PUBLIC_MODE), "wb")
        self._file = io.BufferedWriter(self._raw)
        self._kind = kind
        self._safe = spreadsheet_safe
        self._waiting: list[pa.Table] = []
        self._parquet: pq.ParquetWriter | None = None
        self._has_header = False

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                self._flush()
                if self._parquet is not None:
                    self._parquet.close()
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    @property
    def digest(self) -> str:
        """SHA-256 of the file's octets, hex; of the whole file once it is closed."""
        return self._raw.digest.hexdigest()

    def write(self, rows: pa.Table) -> None:
        """Add a part's rows; all parts have one schema."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting.clear()
        if self._kind == "csv":
            self._write_csv(rows)
        else:
            self._write_parquet(rows)

    def _write_parquet(self, rows: pa.Table) -> None:
        if self._parquet is None:
            codecs = {name: "none" if name in _RANDOM else "zstd" for name in rows.column_names}
            self._parquet = pq.ParquetWriter(self._file, rows.schema, compression=codecs, use_dictionary=_REPEATED)
        self._parquet.write_table(rows)

    def _write_csv(self, rows: pa.Table) -> None:
        if not self._has_header:
            line = io.StringIO()
            names = [safe_text(name) if self._safe else name for name in rows.column_names]
            csv.writer(line, lineterminator="\n").writerow(names)
            self._file.write(line.getvalue().encode())
            self._has_header = True
        if self._safe:
            rows = _without_formulas(rows)
        # Unquoted is 25 times faster, and what a person expects to see; most batches need no quotes at all.
        quoting = "needed" if any(map(_needs_quotes, rows.columns)) else "none"
        options = pa.csv.WriteOptions(include_header=False, quoting_style=quoting)
        pa.csv.write_csv(rows, self._file, options)


class _HashedFile(io.FileIO):
    """A file that is hashed as it is written."""

    def __init__(self, fd: int, mode: str) -> None:
        super().__init__(fd, mode)
        self.digest = sha256()

    def write(self, octets: ReadableBuffer) -> int:
        written = super().write(octets)
        self.digest.update(memoryview(octets)[:written])
        return written


def csv_can_hold(kind: pa.DataType) -> bool:
    """Whether a column of this type has a text form in CSV."""
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return False
    if pa.types.is_fixed_size_binary(kind):
        return False
    try:  # whether Arrow has a text form of the others (extension types, views) depends on its version
        pa.csv.write_csv(pa.table({"": pa.nulls(1, kind)}), pa.BufferOutputStream())
    except pa.ArrowException:
        return False
    return True


def issued_rows(folder: OutputFolder, record: RunRecord, *, also: Sequence[str] = ()) -> Iterator[pa.Table]:
    """What was issued, in the manifest's order: the columns of `ISSUED_COLUMNS`, some thousands of rows at a time.

    Of a finished run these are the output manifest's rows, of an unfinished one those of its committed parts.

    Args:
        folder: the run's.
        record: what was asked.
        also: further columns, each as text where the manifest has it.

    Raises:
        OutputError: the manifest or a commit record is missing or damaged.
    """
    path = folder.manifest(record.manifest_format)
    try:
        if not folder.summary.exists():
            for index in range(record.parts):
                if folder.commit(index).exists():
                    rows = read_commit(folder.commit(index)).rows
                    schema = _read_schema(rows.column_names, also)
                    yield rows.select(schema.names).cast(schema)
        elif record.manifest_format == "parquet":
            with pq.ParquetFile(path, pre_buffer=False) as parquet:  # the default keeps all of it in memory
                schema = _read_schema(parquet.schema_arrow.names, also)
                for batch in parquet.iter_batches(columns=schema.names):
                    yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)
        else:
            yield from _csv_rows(path, also)
    except (pa.ArrowException, csv.Error, OSError, KeyError, ValueError) as error:
        raise OutputError(f"{path.name} is missing or damaged: {error}") from None


def placed_rows(folder: OutputFolder, record: RunRecord, *, also: Sequence[str] = ()) -> Iterator[pa.Table]:
    """The same, for those who go to the bundles: every UUID is one, and every bundle is in its folder.

    Args:
        folder: the run's.
        record: what was asked.
        also: further columns, each as text where the manifest has it.

    Raises:
        OutputError: the manifest or a commit record is missing, damaged, or leads out of the bundles folder.
    """
    for rows in issued_rows(folder, record, also=also):
        _check_places(rows["device_uuid"], rows["bundle"])
        yield rows


def _check_places(uuids: pa.ChunkedArray, places: pa.ChunkedArray) -> None:
    begin = len(f"{BUNDLES}/")
    own = pc.equal(pc.utf8_slice_codeunits(places, begin, begin + UUID_LENGTH), uuids)
    good = pc.and_kleene(
        pc.match_substring_regex(uuids, f"^{UUID_TEXT}$"),
        pc.or_kleene(
            pc.and_kleene(own, pc.match_substring_regex(places, f"^{BUNDLES}/{UUID_TEXT}{_SUFFIXES}$")),
            pc.match_substring_regex(places, f"^{BUNDLES}/part-[0-9]{{5,}}{_SUFFIXES}$"),
        ),
    )
    bad = pc.index(pc.fill_null(good, False), pa.scalar(False)).as_py()
    if bad >= 0:
        place, uuid = places[bad].as_py(), uuids[bad].as_py()
        raise OutputError(f"the output manifest names a bundle that cannot be: {place!r} for {uuid!r}")


def _read_schema(names: Sequence[str], also: Sequence[str]) -> pa.Schema:
    own = ISSUED_COLUMNS.names
    if list(names[: len(own)]) != own:
        raise ValueError(f"its columns do not begin with {', '.join(own)}")
    if len(set(names)) != len(names):
        raise ValueError("it has two columns of one name")
    return pa.schema([*ISSUED_COLUMNS, *(pa.field(name, pa.string()) for name in also if name in names)])


def _csv_rows(path: Path, also: Sequence[str]) -> Iterator[pa.Table]:
    with path.open(encoding="utf-8", newline="") as file:
        schema = _read_schema(next(csv.reader(file), []), also)
    with pa.csv.open_csv(
        path,
        pa.csv.ReadOptions(block_size=_CSV_BLOCK),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(include_columns=schema.names, column_types=schema),
    ) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _needs_quotes(column: pa.ChunkedArray) -> bool:
    return is_text(column.type) and bool(pc.any(pc.match_substring_regex(column, _NEEDS_QUOTES)).as_py())


def _without_formulas(rows: pa.Table) -> pa.Table:
    own = {*ISSUED_COLUMNS.names, CERTIFICATE_COLUMN, KEY_ORIGIN_COLUMN}
    for place, field in enumerate(rows.schema):
        if field.name not in own and is_text(field.type):
            safe = pc.replace_substring_regex(rows.column(place), FORMULA, "'\\1")
            rows = rows.set_column(place, field, safe)
    return rows
