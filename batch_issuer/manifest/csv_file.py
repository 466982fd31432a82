"""A CSV manifest, read strictly: UTF-8, comma, semicolon or tab, quotes as RFC 4180 has them."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pa_csv

from batch_issuer.columns import row_numbers
from batch_issuer.devices import Rejection
from batch_issuer.errors import ManifestError
from batch_issuer.manifest.columns import UUID_NAMES
from batch_issuer.manifest.csv_lines import Lines, cut_blocks
from batch_issuer.manifest.rows import RawRows, not_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

__all__ = ["CsvManifest"]

_DELIMITERS = ",;\t"
_CHUNK = 20_000
_LONGEST_CELL = 4 << 20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_NO_HEADER = "it needs a header line, such as: device_uuid,name"


class CsvManifest:
    """The rows of a CSV file, read once, from its begin.

    A block of lines without a quote is read by Arrow, twenty times as fast as by the csv module. All others, and those
    in which Arrow finds a fault, are read by that, which tells faults apart; where there is no quote and no fault, the
    two agree.

    Args:
        file: the file, at its begin.

    Attributes:
        kind: `csv`.
        names: the header.

    Raises:
        ManifestError: it is empty, its encoding is not UTF-8, or its header cannot be read.
    """

    kind = "csv"
    types = None

    def __init__(self, file: BufferedReader) -> None:
        start = file.read(2)
        file.seek(0)
        if start in _UTF16:
            raise ManifestError("the manifest is UTF-16, expected UTF-8", hint="save it again as CSV UTF-8")
        csv.field_size_limit(_LONGEST_CELL)
        self._blocks = cut_blocks(file)
        lines = Lines(next(self._blocks, b"").removeprefix(BOM_UTF8), self._blocks)
        header = next((line for line in lines if line.strip()), None)
        if header is None:
            raise ManifestError("the manifest is empty", hint=_NO_HEADER)
        self._delimiter, self.names = _read_header(header)
        self._blocks = chain(filter(None, [lines.rest()]), self._blocks)
        names = [str(place) for place in range(len(self.names))]
        self._read_options = pa_csv.ReadOptions(use_threads=False, block_size=1 << 30, column_names=names)
        self._parse_options = pa_csv.ParseOptions(delimiter=self._delimiter, quote_char=False)
        self._convert_options = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))

    def batches(self) -> Iterator[RawRows]:
        """The data rows, some thousands at a time.

        Raises:
            ManifestError: a quote is never closed, or a line or cell is too long to be one.
        """
        row = 0
        for block in self._blocks:
            columns = self._plain_columns(block)
            if columns is not None:
                count = len(columns[0])
                yield RawRows(row_numbers(row + 1, count), columns)
                row += count
                continue
            lines = Lines(block, self._blocks)
            reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
            while not lines.at_end:
                cells, problem = _next_rows(reader, lines, row)
                numbered = list(enumerate(filter(None, cells), start=row + 1))
                row += len(numbered)
                rejections = []
                if problem is not None:
                    row += 1
                    rejections.append(_unreadable(row, problem))
                yield self._columns(numbered, rejections)

    def _plain_columns(self, block: bytes) -> list[pa.Array] | None:
        """The columns of a block without quotes or faults; None for any other."""
        if b'"' in block or b"\0" in block or len(block) > _LONGEST_CELL or block.startswith(BOM_UTF8):
            return None
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(block),
                read_options=self._read_options,
                parse_options=self._parse_options,
                convert_options=self._convert_options,
            )
        except pa.ArrowInvalid:
            return None
        return [column.chunk(0) for column in table.combine_chunks().columns]

    def _columns(self, numbered: list[tuple[int, list[str]]], rejections: list[Rejection]) -> RawRows:
        width = len(self.names)
        if any(len(cells) != width for _, cells in numbered):
            ragged = [(row, len(cells)) for row, cells in numbered if len(cells) != width]
            rejections += [_ragged(row, found, width) for row, found in ragged]
            numbered = [(row, cells) for row, cells in numbered if len(cells) == width]
        try:
            return _to_arrow(numbered, width, rejections)
        except UnicodeEncodeError:
            broken = {row: _broken_cell(cells) for row, cells in numbered}
            rejections += [not_utf8(row, self.names[place]) for row, place in broken.items() if place is not None]
            return _to_arrow([(row, cells) for row, cells in numbered if broken[row] is None], width, rejections)


def _to_arrow(numbered: list[tuple[int, list[str]]], width: int, rejections: list[Rejection]) -> RawRows:
    rows = pa.array([row for row, _ in numbered], pa.int64())
    cells = zip(*(cells for _, cells in numbered), strict=True) if numbered else [()] * width
    return RawRows(rows, [pa.array(column, pa.string()) for column in cells], rejections)


def _read_header(line: str) -> tuple[str, list[str]]:
    """The delimiter with which the header names a UUID column, and the header's names."""
    try:
        line.encode()
    except UnicodeEncodeError:
        raise ManifestError("the manifest's header is not UTF-8", hint="save it again as CSV UTF-8") from None
    candidates, problem = [], ""
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error as error:  # a quoted header is wrong for every delimiter but its own
            problem = problem or str(error)
            continue
        if any(name.strip().casefold() in UUID_NAMES for name in names):
            return delimiter, names
        candidates.append((delimiter, names))
    if not candidates:
        raise ManifestError(f"the manifest's header cannot be read: {problem}")
    return max(candidates, key=lambda candidate: len(candidate[1]))


def _next_rows(reader: Iterator[list[str]], lines: Lines, row: int) -> tuple[list[list[str]], str | None]:
    """Rows to a block's end, or as many as make a chunk; and what ended it early: the rule that the next one breaks."""
    rows: list[list[str]] = []
    try:
        while len(rows) < _CHUNK and not lines.at_end:
            rows.append(next(reader))
    except csv.Error as error:
        number = row + sum(map(bool, rows)) + 1
        if "unexpected end of data" in str(error):
            raise ManifestError(
                f"row {number} of the manifest opens a quote that never closes",
                hint="look for a lone double quote in or after that row",
            ) from None
        if "field limit" in str(error):
            raise ManifestError(
                f"row {number} of the manifest has a cell of more than {_LONGEST_CELL} characters",
                hint="perhaps a quote that opens in that row never closes",
            ) from None
        return rows, str(error)
    return rows, None


def _unreadable(row: int, problem: str) -> Rejection:
    return Rejection(row, "", "", "row-quotes", f"row {row}: its quotes cannot be read: {problem}")


def _ragged(row: int, found: int, expected: int) -> Rejection:
    return Rejection(
        row, "", str(found), "row-ragged", f"row {row}: expected {expected} cells as in the header, got {found}"
    )


def _broken_cell(cells: list[str]) -> int | None:
    for place, cell in enumerate(cells):
        try:
            cell.encode()
        except UnicodeEncodeError:
            return place
    return None
