"""From raw rows to accepted rows and rejections: every rule about a row stands here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.columns import is_text
from batch_issuer.devices import LARGEST_CSR, NIL_UUID, UUID_TEXT, Rejection
from batch_issuer.manifest.columns import CSR_COLUMN, PRODUCTION_COLUMN, UUID_COLUMN, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.manifest.columns import ColumnLayout

__all__ = ["CARRIED_PREFIX", "LONGEST_SOTA_TEXT", "CheckedRows", "RawRows", "RowRules", "check_rows", "not_utf8"]

CARRIED_PREFIX = "carried:"
"""Before the names of carried columns in the plan, which has columns of its own."""

_UUID_PATTERN = f"^{UUID_TEXT}$"
_UUID_OCTETS = 16
_NOT_PRINTABLE = r"[\x00-\x1f\x7f]"
_TRUE, _FALSE = ("true", "1"), ("false", "0")
_SOTA_COLUMNS = ("hardware_id", "tag", "apps")
LONGEST_SOTA_TEXT = 1024


@dataclass(frozen=True, slots=True)
class RowRules:
    """What of a run bears on its rows.

    Attributes:
        hardware_id_required: every row must name its hardware id, since the run names none for all.
    """

    hardware_id_required: bool = False


@dataclass(frozen=True, slots=True)
class RawRows:
    """Some rows as they were read.

    Attributes:
        rows: their data row numbers, int64.
        columns: a column per name of the layout.
        rejections: rows between them that could not be read as rows at all.
    """

    rows: pa.Array
    columns: list[pa.Array]
    rejections: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Some rows after every rule but uniqueness and those for CSRs.

    Attributes:
        accepted: columns `row`, `device_uuid` (lower case), `production` (bool; null: the run's), the carried ones,
            and, if the manifest has it, `csr` (null: the row brings none), of which only the length was looked at.
        rejections: in the order of rows.
        read: how many data rows these were.
    """

    accepted: pa.Table
    rejections: list[Rejection]
    read: int


def not_utf8(row: int, name: str) -> Rejection:
    """The finding about a row whose cell `name` is not UTF-8; such a row is not read any further."""
    return Rejection(row, name, "", "row-encoding", f"row {row}, column {name!r}: it is not UTF-8")


def check_rows(raw: RawRows, layout: ColumnLayout, rules: RowRules) -> CheckedRows:
    """Apply every rule that one row alone can break."""
    unread = len({rejection.row for rejection in raw.rejections})
    checker = _Checker(raw, layout)
    uuids = checker.uuids()
    production = checker.production()
    for name in _SOTA_COLUMNS:
        checker.text(name)
    csrs = checker.csrs()
    if rules.hardware_id_required:
        checker.hardware_id()
    columns = {"row": raw.rows, UUID_COLUMN: uuids, PRODUCTION_COLUMN: production}
    if csrs is not None:
        columns[CSR_COLUMN] = csrs
    columns |= {CARRIED_PREFIX + name: raw.columns[place] for place, name in layout.carried}
    accepted = pa.table(columns)
    if checker.rejections:
        bad = pa.array(sorted({rejection.row for rejection in checker.rejections}), pa.int64())
        accepted = accepted.filter(pc.invert(pc.is_in(raw.rows, bad)))
    rejections = sorted(raw.rejections + checker.rejections, key=lambda rejection: rejection.row)
    return CheckedRows(accepted, rejections, len(raw.rows) + unread)


class _Checker:
    """Collects what is wrong with some rows, column by column."""

    def __init__(self, raw: RawRows, layout: ColumnLayout) -> None:
        self.rejections: list[Rejection] = []
        self._raw = raw
        self._layout = layout

    def uuids(self) -> pa.Array:
        """The UUIDs in lower case; text that is none is rejected, and null here."""
        place = self._layout.uuid
        column = self._raw.columns[place]
        if not is_text(column.type):
            column = _uuid_text(column)
        shown = column
        column = pc.ascii_lower(column.cast(pa.string()))
        fits = pc.match_substring_regex(column, _UUID_PATTERN)
        fits = pc.and_(pc.fill_null(fits, False), pc.fill_null(pc.not_equal(column, NIL_UUID), False))
        if not pc.all(fits).as_py():
            self._reject(fits, place, _uuid_fault, shown)
            column = pc.if_else(fits, column, None)
        return column

    def production(self) -> pa.Array:
        """The production flags; null where a row says nothing."""
        place = self._layout.roles.get(PRODUCTION_COLUMN)
        if place is None:
            return pa.nulls(len(self._raw.rows), pa.bool_())
        column = self._raw.columns[place]
        if pa.types.is_boolean(column.type):
            return column
        text = pc.ascii_lower(pc.utf8_trim_whitespace(column.cast(pa.string())))
        yes, no = (pc.is_in(text, pa.array(words)) for words in (_TRUE, _FALSE))
        silent = pc.fill_null(pc.equal(text, ""), True)
        self._reject(
            pc.or_(pc.or_(yes, no), silent),
            place,
            lambda value: ("production-invalid", f"expected true, false, 1, 0 or nothing, got '{value}'"),
        )
        return pc.if_else(pc.or_(yes, no), yes, None)

    def text(self, name: str) -> None:
        """Text for `sota.toml`: one line of printable text, not too long."""
        place = self._layout.roles.get(name)
        if place is None:
            return
        column = self._raw.columns[place].cast(pa.string())
        plain = pc.invert(pc.match_substring_regex(column, _NOT_PRINTABLE))
        short = pc.less_equal(pc.binary_length(column), LONGEST_SOTA_TEXT)
        self._reject(
            pc.fill_null(pc.and_(plain, short), True),
            place,
            lambda value: (
                "text-invalid",
                f"expected text of at most {LONGEST_SOTA_TEXT} octets without control characters, got '{value}'",
            ),
        )

    def hardware_id(self) -> None:
        """Rows that must name their hardware id and do not."""
        place = self._layout.roles["hardware_id"]
        there = pc.fill_null(pc.not_equal(self._raw.columns[place].cast(pa.string()), ""), False)
        message = "sota.toml needs a hardware id, and neither the row nor --hardware-id names one"
        self._reject(there, place, lambda _: ("hardware-id-missing", message))

    def csrs(self) -> pa.Array | None:
        """The CSRs' texts, null where a row brings none or one that is too long; None without such a column.

        Blanks are no CSR and not nothing either: they are kept, and refused where CSRs are read.
        """
        place = self._layout.roles.get(CSR_COLUMN)
        if place is None:
            return None
        column = self._raw.columns[place]
        if pa.types.is_null(column.type):
            return column.cast(pa.string())
        length = pc.fill_null(pc.binary_length(column), 0)
        short = pc.less_equal(length, LARGEST_CSR)
        message = f"the CSR must have at most {LARGEST_CSR} octets; it has more"
        self._reject(short, place, lambda _: ("csr-unreadable", message))
        # Before the cast: what is left of some thousands of rows fits into one array of text.
        return pc.if_else(pc.and_(short, pc.greater(length, 0)), column, None).cast(pa.string())

    def _reject(
        self, good: pa.Array, place: int, fault: Callable[[str], tuple[str, str]], values: pa.Array | None = None
    ) -> None:
        values = self._raw.columns[place] if values is None else values
        bad = pc.indices_nonzero(pc.invert(good)).to_pylist()
        name = self._layout.names[place]
        for index in bad:
            value = values[index].as_py()
            shown = shorten("" if value is None else value)
            code, message = fault(shown)
            row = self._raw.rows[index].as_py()
            self.rejections.append(Rejection(row, name, shown, code, f"row {row}, column {name!r}: {message}"))


def _uuid_fault(value: str) -> tuple[str, str]:
    if not value:
        return "uuid-missing", "expected a UUID, got nothing"
    if value.lower() == NIL_UUID:
        return "uuid-nil", "the nil UUID names no device"
    return "uuid-malformed", f"expected a UUID of 8-4-4-4-12 hexadecimal digits, got '{value}'"


def _uuid_text(column: pa.Array) -> pa.Array:
    """The text form of UUIDs in octets; what has not 16 of them is shown in hex, to be rejected."""
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    texts: list[str | None] = []
    for octets in storage.to_pylist():
        if octets is None:
            texts.append(None)
        else:
            h = octets.hex()
            whole = len(octets) == _UUID_OCTETS
            texts.append(f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" if whole else h)
    return pa.array(texts, pa.string())
