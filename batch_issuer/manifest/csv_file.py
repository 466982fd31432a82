"""A CSV manifest, read strictly: UTF-8, comma, semicolon or tab, quotes as RFC 4180 has them."""

from __future__ import annotations

import csv
import io
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_issuer.devices import Rejection
from batch_issuer.errors import ManifestError
from batch_issuer.manifest.columns import UUID_NAMES
from batch_issuer.manifest.rows import RawRows, not_utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader

__all__ = ["CsvManifest"]

_DELIMITERS = ",;\t"
_CHUNK = 20_000
_LONGEST_CELL = 4 << 20
_LONGEST_LINE = 8 << 20
_STEP = 64
"""Rows read at a time: with cells of the longest kind, what these take is all that a chunk can be too large by."""
_CHUNK_OCTETS = 64 << 20
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class CsvManifest:
    """The rows of a CSV file, read once, from its begin.

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
        # Broken octets become lone surrogates, which no valid UTF-8 gives, so that their rows can be named.
        self._text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        csv.field_size_limit(_LONGEST_CELL)
        header = self._text.readline(_LONGEST_LINE)
        while header and not header.strip():
            header = self._text.readline(_LONGEST_LINE)
        if not header:
            raise ManifestError("the manifest is empty", hint="it needs a header line, such as: device_uuid,name")
        self._delimiter, self.names = _read_header(header)

    def batches(self) -> Iterator[RawRows]:
        """The data rows, some thousands at a time.

        Raises:
            ManifestError: a quote is never closed, or a line or cell is too long to be one.
        """
        reader = csv.reader(_lines(self._text), delimiter=self._delimiter, strict=True)
        row = 0
        while True:
            cells, problem = _next_rows(reader, row, self._text.buffer.tell)
            numbered = list(enumerate(filter(None, cells), start=row + 1))
            row += len(numbered)
            rejections = []
            if problem is not None:
                row += 1
                rejections.append(_unreadable(row, problem))
            if not cells and problem is None:  # a chunk of blank lines is not the end
                return
            yield self._columns(numbered, rejections)

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


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LONGEST_LINE):
        if len(line) >= _LONGEST_LINE:
            raise ManifestError(f"the manifest has a line of more than {_LONGEST_LINE} characters")
        yield line


def _next_rows(
    reader: Iterator[list[str]], row: int, position: Callable[[], int]
) -> tuple[list[list[str]], str | None]:
    """Up to a chunk of rows, by their number and octets; and what ended it early: the rule that the next row breaks."""
    rows: list[list[str]] = []
    begin = position()
    try:
        while len(rows) < _CHUNK and position() < begin + _CHUNK_OCTETS:
            before = len(rows)
            rows.extend(islice(reader, _STEP))  # those before an error stay
            if len(rows) == before:
                break
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
